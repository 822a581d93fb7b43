//! A program that makes harmless calls a known number of times, and prints how often: one line
//! `ARCH NR ENTERED SUCCEEDED DENIED ERRNO=COUNT…` for each kind of call. It does what its
//! arguments say, one after the other; the calls are such that nothing else here makes them.
//!
//! - `table N`: calls that succeed, that fail with one errno, and one with six of them, N times
//! - `every N`: each call that does no harm, N to 7 N times, with arguments that it refuses
//! - `odd N`: numbers that no table has: above 1023, of x32, -1
//! - `compat N`: i386 calls, by `int $0x80` (x86_64 only)
//! - `threads T N`: T threads that make N calls each
//! - `crew T C N`: T threads and C children that wait until standard input ends, and make N calls each
//! - `children C N`: C children one after the other, made by clone3, that make N calls each
//! - `spawn WORD`: vforks and execs this program, with the one word (words by `,`)
//! - `exec WORD`: execs this program
//! - `thread-exec WORD`: the same by another thread than the first
//! - `daemon N`: a grandchild that goes on when this program has ended, and makes N calls
//! - `filter N`: loads a filter that denies a call, and makes it N times
//! - `killed`: a child that is killed in a call
//! - `sleep MS`
//! - `time N`: 5,000 calls, N times; prints the nanoseconds that one took in the quickest
//! - `bomb D N`: a tree of processes, D levels deep, that make N calls each
//! - `sibling N`: a child's child by clone3 with CLONE_PARENT, that makes N calls
//! - `into-cgroup PATH N`: a child by clone3 with CLONE_INTO_CGROUP, that makes N calls
//! - `kill-thread N`: a thread that makes N calls, and one for which a filter kills it alone
//! - `listener`: asks for a filter with a listener
//! - `numbers A B`: a call of each number from A to below B
//! - `stopped K N`: a child that is stopped and continued K times, and makes N calls each time
//! - `stubborn`: does not end by SIGTERM and the like
//! - `exec-file PATH WORD`: execs another program
//! - `user N`: ends unless this is the effective user
//! - `uring OP N`, `uring-polled OP N`: asks io_uring for an operation N times, itself or by the
//!   kernel's thread
//! - `loop`: one call again and again until it is ended by SIGTERM or SIGINT; prints how often
#![allow(clippy::unwrap_used, reason = "a victim has nobody to report to")]

mod adversity;
mod crew;
mod every;
mod uring;

use std::ffi::c_long;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, ptr, thread};

/// The call that threads and children make.
const CALL: c_long = libc::SYS_getppid;

fn main() {
    // The program's own name may be anything.
    let words = env::args_os().skip(1).map(|word| word.into_string().unwrap());
    let words: Vec<Vec<String>> =
        words.map(|word| word.split(',').map(str::to_owned).collect()).collect();
    let mut words = words.into_iter().flatten();
    while let Some(word) = words.next() {
        let mut text = || words.next().unwrap();
        match word.as_str() {
            "table" => table(text().parse().unwrap()),
            "every" => every::every(text().parse().unwrap()),
            "crew" => {
                let [threads, children, calls] = [(); 3].map(|()| text().parse().unwrap());
                crew::crew(threads, children, calls);
            }
            "odd" => odd(text().parse().unwrap()),
            "compat" => compat(text().parse().unwrap()),
            "threads" => {
                let (threads, calls): (u64, u64) =
                    (text().parse().unwrap(), text().parse().unwrap());
                thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| make(calls));
                    }
                });
                print("x86_64", CALL, threads * calls, threads * calls, 0, &[]);
            }
            "children" => children(text().parse().unwrap(), text().parse().unwrap()),
            "spawn" => {
                let status = Command::new(program()).args(rest(&mut words)).status().unwrap();
                assert!(status.success());
            }
            "exec" => panic!("{}", Command::new(program()).args(rest(&mut words)).exec()),
            "thread-exec" => {
                let rest = rest(&mut words);
                // Others that have to end for it.
                (0..4).for_each(|_| drop(thread::spawn(|| thread::sleep(Duration::MAX))));
                let exec = move || panic!("{}", Command::new(program()).args(rest).exec());
                thread::spawn(exec).join().unwrap();
            }
            "daemon" => daemon(text().parse().unwrap()),
            "filter" => filter(text().parse().unwrap()),
            "killed" => killed(),
            "bomb" => adversity::bomb(text().parse().unwrap(), text().parse().unwrap()),
            "sibling" => adversity::sibling(text().parse().unwrap()),
            "into-cgroup" => {
                let folder = text();
                adversity::into_cgroup(&folder, text().parse().unwrap());
            }
            "kill-thread" => adversity::kill_thread(text().parse().unwrap()),
            "listener" => adversity::listener(),
            "numbers" => adversity::numbers(text().parse().unwrap(), text().parse().unwrap()),
            "stopped" => adversity::stopped(text().parse().unwrap(), text().parse().unwrap()),
            "stubborn" => adversity::stubborn(),
            "exec-file" => {
                let path = text();
                adversity::become_program(&path, rest(&mut words));
            }
            "user" => {
                // SAFETY: the call takes nothing.
                assert_eq!(unsafe { libc::geteuid() }, text().parse::<libc::uid_t>().unwrap());
            }
            "uring" | "uring-polled" => {
                let (opcode, times) = (text().parse().unwrap(), text().parse().unwrap());
                uring::submit(opcode, times, word == "uring-polled");
            }
            "sleep" => thread::sleep(Duration::from_millis(text().parse().unwrap())),
            "time" => time(text().parse().unwrap()),
            "loop" => endless(),
            other => panic!("{other}"),
        }
    }
}

/// All words that are left: they are for the program that is execed.
fn rest(words: &mut impl Iterator<Item = String>) -> Vec<String> {
    words.collect()
}

fn program() -> &'static str {
    "/proc/self/exe"
}

fn table(times: u64) {
    for _ in 0..times {
        call(CALL, [0; 6]).unwrap();
        call(libc::SYS_getpgrp, [0; 6]).unwrap();
        call(libc::SYS_fchdir, [-1, 0, 0, 0, 0, 0]).unwrap_err();
    }
    print("x86_64", CALL, times, times, 0, &[]);
    print("x86_64", libc::SYS_getpgrp, times, times, 0, &[]);
    print("x86_64", libc::SYS_fchdir, times, 0, 0, &[(libc::EBADF, times)]);
    let here = c_long::from(libc::AT_FDCWD);
    let path = |path: &'static [u8]| c_long::try_from(path.as_ptr().expose_provenance()).unwrap();
    static LONG: [u8; 301] = {
        let mut long = [b'x'; 301];
        long[300] = 0;
        long
    };
    let faults = [
        (libc::EFAULT, [here, 1, 0, 0, 0, 0]),
        (libc::EINVAL, [here, path(b"/\0"), 1 << 20, 0, 0, 0]),
        (libc::ENOENT, [here, path(b"/no/such\0"), 0, 0, 0, 0]),
        (libc::ENOTDIR, [here, path(b"/dev/null/x\0"), 0, 0, 0, 0]),
        (libc::EBADF, [-1, path(b"x\0"), 0, 0, 0, 0]),
        (libc::ENAMETOOLONG, [here, path(&LONG), 0, 0, 0, 0]),
    ];
    for (errno, args) in faults {
        for _ in 0..times {
            assert_eq!(call(libc::SYS_faccessat2, args), Err(errno));
        }
    }
    let errnos = faults.map(|(errno, _)| (errno, times));
    print("x86_64", libc::SYS_faccessat2, times * 6, 0, 0, &errnos);
}

fn odd(times: u64) {
    let x32_getppid = 0x4000_0000 | libc::SYS_getppid;
    for (arch, nr) in [
        ("x86_64", 1023),
        ("x86_64", 1024),
        ("x86_64", 1500),
        ("x86_64", 0x3fff_ffff),
        ("x86_64", 0x8000_0000),
        ("x32", x32_getppid),
        ("x32", 0xffff_ffff),
    ] {
        let mut errnos = Vec::new();
        for _ in 0..times {
            match call(nr, [0; 6]) {
                Ok(_) => errnos.push(0),
                Err(errno) => errnos.push(errno),
            }
        }
        let failed: Vec<i32> = errnos.iter().copied().filter(|&errno| errno != 0).collect();
        let succeeded = times - u64::try_from(failed.len()).unwrap();
        let counts: Vec<(i32, u64)> =
            failed.first().map(|&errno| (errno, times - succeeded)).into_iter().collect();
        print(arch, nr, times, succeeded, 0, &counts);
    }
}

#[cfg(target_arch = "x86_64")]
fn compat(times: u64) {
    // arch/x86/entry/syscalls/syscall_32.tbl: getppid, and mkdir, whose number is getpid's on
    // x86_64. There is nothing at address 0.
    for _ in 0..times {
        assert!(int80(64) > 0);
        assert_eq!(int80(39), -libc::EFAULT);
    }
    print("i386", 64, times, times, 0, &[]);
    print("i386", 39, times, 0, 0, &[(libc::EFAULT, times)]);
}

#[cfg(target_arch = "x86_64")]
fn int80(nr: i32) -> i32 {
    let result;
    // SAFETY: the calls that this is used for take no pointers and change nothing; the kernel
    // keeps all registers but eax on this path and clears r8 to r11, which are given up. rbx is
    // LLVM's, so it is put back.
    unsafe {
        std::arch::asm!(
            "xchg {saved:r}, rbx",
            "int 0x80",
            "xchg {saved:r}, rbx",
            saved = inout(reg) 0_i64 => _,
            inout("eax") nr => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
fn compat(_times: u64) {}

fn children(count: u64, calls: u64) {
    for _ in 0..count {
        // struct clone_args: all zero but exit_signal, as fork(2) has it.
        let mut arguments = [0_u64; 8];
        arguments[4] = u64::try_from(libc::SIGCHLD).unwrap();
        let address = c_long::try_from(arguments.as_mut_ptr().expose_provenance()).unwrap();
        let size = c_long::try_from(size_of_val(&arguments)).unwrap();
        let child = call(libc::SYS_clone3, [address, size, 0, 0, 0, 0]).unwrap();
        if child == 0 {
            make(calls);
            // SAFETY: ends the process without running anything of it.
            unsafe { libc::_exit(0) };
        }
        reap(child);
    }
    print("x86_64", CALL, count * calls, count * calls, 0, &[]);
    print("x86_64", libc::SYS_clone3, count, count, 0, &[]);
}

fn reap(child: c_long) {
    let child = libc::pid_t::try_from(child).unwrap();
    // SAFETY: no status is asked for.
    assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
}

fn fork() -> libc::pid_t {
    // SAFETY: this program has one thread here, so the child may do anything.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    child
}

fn daemon(calls: u64) {
    let child = fork();
    if child == 0 {
        if fork() == 0 {
            rest_in_a_session(calls);
        }
        std::process::exit(0);
    }
    reap(child.into());
}

fn rest_in_a_session(calls: u64) {
    // SAFETY: the call takes nothing.
    assert!(unsafe { libc::setsid() } > 0);
    // The program that was recorded is gone by then, most likely; it does not matter if not.
    thread::sleep(Duration::from_millis(200));
    make(calls);
    print("x86_64", CALL, calls, calls, 0, &[]);
}

fn filter(times: u64) {
    let insn = |code: u16, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let nr = u32::try_from(libc::SYS_getpgrp).unwrap();
    let deny = 0x0005_0000 | u32::try_from(libc::EPERM).unwrap();
    // ld [0]; jeq nr, deny; ret allow; ret deny
    let mut program = [
        insn(0x20, 0, 0, 0),
        insn(0x15, 1, 0, nr),
        insn(0x06, 0, 0, 0x7fff_0000),
        insn(0x06, 0, 0, deny),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    let address = c_long::try_from((&raw const program).expose_provenance()).unwrap();
    call(libc::SYS_prctl, [38, 1, 0, 0, 0, 0]).unwrap();
    call(libc::SYS_seccomp, [1, 0, address, 0, 0, 0]).unwrap();
    for _ in 0..times {
        assert_eq!(call(libc::SYS_getpgrp, [0; 6]), Err(libc::EPERM));
    }
    print("x86_64", libc::SYS_getpgrp, 0, 0, times, &[]);
}

fn killed() {
    let child = fork();
    if child == 0 {
        let _ = call(libc::SYS_pause, [0; 6]);
    }
    while !std::fs::read_to_string(format!("/proc/{child}/syscall"))
        .unwrap_or_default()
        .starts_with(&format!("{} ", libc::SYS_pause))
    {
        thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: the call takes numbers only.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    reap(child.into());
    print("x86_64", libc::SYS_pause, 1, 0, 0, &[]);
}

fn endless() {
    static ENDED: AtomicBool = AtomicBool::new(false);
    extern "C" fn end(_: libc::c_int) {
        ENDED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let handler = end as *const () as usize;
        // SAFETY: the handler stores to an atomic, which is safe at any point.
        unsafe { libc::signal(signal, handler) };
    }
    println!("ready");
    let mut count = 0;
    loop {
        call(CALL, [0; 6]).unwrap();
        count += 1;
        if ENDED.load(Ordering::Relaxed) {
            break;
        }
    }
    print("x86_64", CALL, count, count, 0, &[]);
}

fn make(calls: u64) {
    for _ in 0..calls {
        call(CALL, [0; 6]).unwrap();
    }
}

fn time(repetitions: u32) {
    const CALLS: u32 = 5_000;
    let quickest = (0..repetitions).map(|_| {
        let begin = Instant::now();
        make(CALLS.into());
        begin.elapsed()
    });
    println!("{}", quickest.min().unwrap().as_secs_f64() * 1e9 / f64::from(CALLS));
}

/// Makes a call; an errno where it failed.
fn call(nr: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Result<c_long, i32> {
    // SAFETY: the callers in this program pass numbers, or addresses of what is valid for the call.
    match unsafe { libc::syscall(nr, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error().raw_os_error().unwrap()),
        result => Ok(result),
    }
}

fn print(arch: &str, nr: c_long, entered: u64, succeeded: u64, denied: u64, errnos: &[(i32, u64)]) {
    let mut line = format!("{arch} {nr} {entered} {succeeded} {denied}");
    for (errno, count) in errnos {
        line += &format!(" {errno}={count}");
    }
    // One write, so that lines of processes that print at the same time do not mix.
    io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}
