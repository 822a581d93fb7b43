//! The kernel, asked: would it accept these programs, and what does it do with these calls? The
//! library's `kernel` module starts this program, in which filters can do no harm to the tests.
//!
//! - `accept`: reads lists of instructions, prints `1` or `0` for each
//! - `run`: reads stacks of programs and calls, makes each call under its stack in a traced child and
//!   prints what happened to it
//! - `notify`, `log`, `kill-thread ACTION`: see there
#![allow(clippy::unwrap_used, reason = "an oracle has nobody to report to")]

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    panic!("the oracle knows how to make calls on x86_64 only");
}

#[cfg(target_arch = "x86_64")]
fn main() {
    use std::io::Read;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["accept"] => x86::accept(&input),
        ["run"] => x86::run(&input),
        ["notify"] => x86::notify(),
        ["log"] => x86::log(),
        ["kill-thread", action] => x86::kill_thread(action.parse().unwrap()),
        other => panic!("the oracle knows no `{other:?}`"),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::ffi::c_void;
    use std::io::{self, Write};
    use std::ptr;
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

    const MAX_CALLS: usize = 1024;

    std::arch::global_asm!(
        // i64 native_call(const u64 nr_and_args[7]); the number and arguments as they are.
        ".globl strait_native_call",
        "strait_native_call:",
        "mov rax, [rdi]",
        "mov rsi, [rdi + 16]",
        "mov rdx, [rdi + 24]",
        "mov r10, [rdi + 32]",
        "mov r8, [rdi + 40]",
        "mov r9, [rdi + 48]",
        "mov rdi, [rdi + 8]",
        "syscall",
        ".globl strait_native_ip",
        "strait_native_ip:",
        "ret",
        // The same by `int $0x80`, with the low halves.
        ".globl strait_compat_call",
        "strait_compat_call:",
        "push rbx",
        "push rbp",
        "mov eax, [rdi]",
        "mov ebx, [rdi + 8]",
        "mov ecx, [rdi + 16]",
        "mov edx, [rdi + 24]",
        "mov esi, [rdi + 32]",
        "mov ebp, [rdi + 48]",
        "mov edi, [rdi + 40]",
        "int 0x80",
        ".globl strait_compat_ip",
        "strait_compat_ip:",
        "movsxd rax, eax",
        "pop rbp",
        "pop rbx",
        "ret",
    );

    unsafe extern "C" {
        fn strait_native_call(call: *const u64) -> i64;
        fn strait_compat_call(call: *const u64) -> i64;
        fn strait_native_ip();
        fn strait_compat_ip();
    }

    /// One call: whether it is made by `int $0x80`, its number and arguments.
    struct Call {
        compat: bool,
        registers: [u64; 7],
    }

    impl Call {
        fn make(&self) -> i64 {
            let call = self.registers.as_ptr();
            if self.compat {
                // SAFETY: seven words are read; the registers that the ABI preserves are restored.
                unsafe { strait_compat_call(call) }
            } else {
                // SAFETY: seven words are read; only registers that the ABI gives away change.
                unsafe { strait_native_call(call) }
            }
        }
    }

    struct Input<'a>(&'a [u8]);

    impl<'a> Input<'a> {
        fn take(&mut self, len: usize) -> &'a [u8] {
            let (taken, rest) = self.0.split_at(len);
            self.0 = rest;
            taken
        }

        fn u16(&mut self) -> u16 {
            u16::from_le_bytes(self.take(2).try_into().unwrap())
        }

        fn u64(&mut self) -> u64 {
            u64::from_le_bytes(self.take(8).try_into().unwrap())
        }

        fn filter(&mut self) -> Vec<libc::sock_filter> {
            let len = usize::from(self.u16());
            let insn = |b: &[u8]| libc::sock_filter {
                code: u16::from_le_bytes([b[0], b[1]]),
                jt: b[2],
                jf: b[3],
                k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            };
            self.take(len * 8).chunks(8).map(insn).collect()
        }
    }

    /// seccomp(SECCOMP_SET_MODE_FILTER): what it returns, or minus the errno.
    fn load(filter: &[libc::sock_filter], flags: libc::c_ulong) -> i64 {
        let len = u16::try_from(filter.len()).unwrap();
        let fprog = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: `fprog` names `len` instructions that live during the call.
        let done = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const fprog) };
        if done < 0 { -i64::from(io::Error::last_os_error().raw_os_error().unwrap()) } else { done }
    }

    fn no_new_privs() {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    }

    const fn ret(k: u32) -> libc::sock_filter {
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k }
    }

    /// Answers getppid(2) with this, and allows everything else.
    const fn getppid(action: u32) -> [libc::sock_filter; 4] {
        let load = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
        let test = libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: 110 };
        [load, test, ret(action), ret(libc::SECCOMP_RET_ALLOW)]
    }

    /// Offers each list to the kernel without ever having it loaded: another thread holds a filter
    /// of its own, so that a synchronisation of threads, which comes after the check of the
    /// program, always fails, with ESRCH.
    pub(crate) fn accept(input: &[u8]) {
        no_new_privs();
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            assert_eq!(load(&[ret(libc::SECCOMP_RET_ALLOW)], 0), 0);
            ready.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
        wait.recv().unwrap();
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        let mut input = Input(input);
        let mut answers = Vec::new();
        while !input.0.is_empty() {
            let filter = input.filter();
            let done = load(&filter, flags);
            answers.push(match done {
                _ if done == -i64::from(libc::ESRCH) => b'1',
                _ if done == -i64::from(libc::EINVAL) => b'0',
                other => panic!("seccomp(2) came to {other}"),
            });
        }
        io::stdout().write_all(&answers).unwrap();
    }

    /// What the child shares with its tracer.
    #[repr(C)]
    struct Shared {
        /// The call that is being made.
        current: AtomicUsize,
        /// What loading the filter came to.
        loaded: AtomicI64,
        results: [AtomicI64; MAX_CALLS],
    }

    /// For each stack of programs: makes its calls, each seen by a tracer, and prints a line for each.
    pub(crate) fn run(input: &[u8]) {
        let size = size_of::<Shared>();
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, at no given address.
        let shared = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
        assert_ne!(shared, libc::MAP_FAILED);
        // SAFETY: the memory is aligned to a page, as large as `Shared`, never unmapped, and all
        // zeros, which is a value of it; whoever else has it mapped changes it by atomics alone.
        let shared: &'static Shared = unsafe { &*shared.cast() };
        let address = |symbol: unsafe extern "C" fn()| symbol as usize;
        println!("ip {} {}", address(strait_native_ip), address(strait_compat_ip));
        let mut input = Input(input);
        while !input.0.is_empty() {
            let stack: Vec<_> = (0..input.u16()).map(|_| input.filter()).collect();
            let calls: Vec<Call> = (0..input.u16())
                .map(|_| Call {
                    compat: input.u16() == 1,
                    registers: std::array::from_fn(|_| input.u64()),
                })
                .collect();
            assert!(calls.len() <= MAX_CALLS);
            let mut next = 0;
            while next < calls.len() {
                next = traced(&stack, &calls, next, shared);
            }
        }
    }

    fn fork() -> i32 {
        // SAFETY: this process has one thread where it forks, so the child may do anything.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        pid
    }

    /// Makes the calls from `first` on in a child, as far as it lives; the first one not made.
    fn traced(
        stack: &[Vec<libc::sock_filter>],
        calls: &[Call],
        first: usize,
        shared: &Shared,
    ) -> usize {
        io::stdout().flush().unwrap();
        let pid = fork();
        if pid == 0 {
            child(stack, calls, first, shared);
        }
        let none = ptr::null_mut::<c_void>();
        let request = |request, address: *mut c_void, data: *mut c_void| {
            // SAFETY: the requests below take no address; data is a number, or points to what the
            // kernel fills.
            assert_eq!(unsafe { libc::ptrace(request, pid, address, data) }, 0);
        };
        let mut started = false;
        let mut printed = first;
        let mut line = String::new();
        loop {
            let mut status = 0;
            // SAFETY: the status is filled.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            // Calls that returned since the last stop.
            let upto = if started { shared.current.load(SeqCst) } else { first };
            while printed < upto {
                println!("{line}ret {}", shared.results[printed].load(SeqCst));
                line.clear();
                printed += 1;
            }
            if libc::WIFSIGNALED(status) {
                println!("{line}killed {}", libc::WTERMSIG(status));
                return printed + 1;
            }
            assert!(libc::WIFSTOPPED(status), "the child ended by itself: {status:#x}");
            let signal = libc::WSTOPSIG(status);
            if !started {
                assert_eq!(signal, libc::SIGSTOP);
                started = true;
                let options = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;
                request(
                    libc::PTRACE_SETOPTIONS,
                    none,
                    ptr::without_provenance_mut(usize::try_from(options).unwrap()),
                );
            } else if status >> 8 == libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8 {
                let mut message: libc::c_ulong = 0;
                request(libc::PTRACE_GETEVENTMSG, none, (&raw mut message).cast());
                line += &format!("traced {message} ");
            } else if signal == libc::SIGSYS {
                // SAFETY: all zeros is a siginfo.
                let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
                request(libc::PTRACE_GETSIGINFO, none, (&raw mut info).cast());
                line += &format!("trapped {} ", info.si_errno);
            } else {
                assert_eq!(shared.loaded.load(SeqCst), 0, "seccomp(2) refused the program");
                assert_eq!(printed, calls.len(), "signal {signal} during a call");
                // SAFETY: no pointers.
                assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
                // SAFETY: the status is filled.
                assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
                return printed;
            }
            request(libc::PTRACE_CONT, none, none);
        }
    }

    /// Loads the filters, which must let seccomp(2) pass if there are several, and makes the calls,
    /// with no other call in between and none after them.
    fn child(stack: &[Vec<libc::sock_filter>], calls: &[Call], first: usize, shared: &Shared) -> ! {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: no core files; the limits are read.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
        no_new_privs();
        // SAFETY: no pointers are used.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME) }, 0);
        // SAFETY: the tracer is told that the child is ready.
        unsafe { libc::raise(libc::SIGSTOP) };
        shared.current.store(first, SeqCst);
        let loaded = stack.iter().map(|filter| load(filter, 0)).find(|&done| done != 0);
        let loaded = loaded.unwrap_or(0);
        shared.loaded.store(loaded, SeqCst);
        if loaded == 0 {
            for (index, call) in calls.iter().enumerate().skip(first) {
                shared.results[index].store(call.make(), SeqCst);
                shared.current.store(index + 1, SeqCst);
            }
        }
        loop {
            // SAFETY: an illegal instruction stops the child without a call that the filter sees.
            unsafe { std::arch::asm!("ud2") };
        }
    }

    /// A call is notified; another thread reads what the kernel says of it and answers 7777.
    /// Prints number, arch and arguments as seen there, then the result.
    pub(crate) fn notify() {
        no_new_privs();
        let (give, take) = std::sync::mpsc::channel();
        let supervisor = std::thread::spawn(move || {
            let listener: i32 = take.recv().unwrap();
            // SAFETY: all zeros is a notification, as the kernel asks for.
            let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            let receive = 0xc050_2100u64; // SECCOMP_IOCTL_NOTIF_RECV
            // SAFETY: the listener is open and the notification is filled.
            let done = unsafe { libc::ioctl(listener, receive, &raw mut notification) };
            assert_eq!(done, 0);
            let answer =
                libc::seccomp_notif_resp { id: notification.id, val: 7777, error: 0, flags: 0 };
            let send = 0xc018_2101u64; // SECCOMP_IOCTL_NOTIF_SEND
            // SAFETY: the listener is open and the answer is read.
            let done = unsafe { libc::ioctl(listener, send, &raw const answer) };
            assert_eq!(done, 0);
            let data = notification.data;
            format!("{} {} {:?}", data.nr, data.arch, data.args)
        });
        let filter = getppid(libc::SECCOMP_RET_USER_NOTIF);
        let listener = load(&filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        give.send(i32::try_from(listener).unwrap()).unwrap();
        let result = Call { compat: false, registers: [110, 1, 2, 3, 4, 5, 6] }.make();
        println!("{} {result}", supervisor.join().unwrap());
    }

    /// Makes a call that is allowed and then one that is logged, with numbers 102 and 110; prints
    /// the records of this process in the kernel's log up to the second one's, or nothing where
    /// none comes.
    pub(crate) fn log() {
        use std::io::{Read, Seek, SeekFrom};
        use std::os::fd::AsRawFd;

        let Ok(mut kmsg) = std::fs::File::open("/dev/kmsg") else { return };
        kmsg.seek(SeekFrom::End(0)).unwrap();
        no_new_privs();
        let filter = getppid(libc::SECCOMP_RET_LOG);
        assert_eq!(load(&filter, 0), 0);
        for nr in [102, 110] {
            assert!(Call { compat: false, registers: [nr, 0, 0, 0, 0, 0, 0] }.make() >= 0);
        }
        let mine = format!(" pid={} ", std::process::id());
        let mut record = vec![0; 8192];
        loop {
            let mut ready = libc::pollfd { fd: kmsg.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, which is open.
            if unsafe { libc::poll(&raw mut ready, 1, 5000) } != 1 {
                return;
            }
            // Each read is one record.
            let len = kmsg.read(&mut record).unwrap();
            let text = String::from_utf8_lossy(&record[..len]).into_owned();
            if text.contains("type=1326") && text.contains(&mine) {
                println!("{}", text.trim());
                if text.contains(" syscall=110 ") {
                    return;
                }
            }
        }
    }

    /// One of two threads loads a filter that answers getppid(2) with this action, and calls it.
    /// Prints `survived` if the other one lives on.
    pub(crate) fn kill_thread(action: u32) {
        extern "C" fn thread(action: *mut c_void) -> *mut c_void {
            let action = u32::try_from(action.addr()).unwrap();
            assert_eq!(load(&getppid(action), 0), 0);
            Call { compat: false, registers: [110, 0, 0, 0, 0, 0, 0] }.make();
            ptr::null_mut()
        }
        no_new_privs();
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: no core files; the limits are read.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
        let mut id: libc::pthread_t = 0;
        let argument = ptr::without_provenance_mut(usize::try_from(action).unwrap());
        // SAFETY: the id is filled; the argument is a number.
        let done = unsafe { libc::pthread_create(&raw mut id, ptr::null(), thread, argument) };
        assert_eq!(done, 0);
        // SAFETY: the thread was made and is not detached; the kernel tells of its end however it
        // ended.
        assert_eq!(unsafe { libc::pthread_join(id, ptr::null_mut()) }, 0);
        println!("survived");
    }
}
