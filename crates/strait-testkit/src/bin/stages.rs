//! A program that goes through the stages of a workload's life, and makes calls with arguments that
//! the test knows. It does what its arguments say, one after the other:
//!
//! - `call NR A B C D E F`: makes that call; what comes of it does not matter
//! - `int80 NR B C D`: the same by `int $0x80` (x86_64 only)
//! - `range NR FROM TO`: makes the call with -1 and each of these values in its second argument
//! - `random N SEED`: ioctl on no descriptor, N times with a command of few, with random high bits;
//!   prints the commands that the kernel was given, each once, on a line
//! - `filter`: loads a filter that allows everything
//! - `deny NR`: loads one that answers that call with EPERM (x86_64 only)
//! - `filter-all`: the same by another thread, for all threads
//! - `listen`: on a socket without a name
//! - `catch SIGNAL`: installs a handler
//! - `ignore SIGNAL`
//! - `caught`: waits until a handler has run
//! - `raise SIGNAL`: sends it to itself
//! - `child WORD`: forks a child that does the one word (words by `,`), and waits for it
//! - `crowd N NR`: forks N children that each make the call and live until this process has caught a
//!   signal; prints `forked` when all are there
//! - `thread WORD`: another thread does the one word (words by `+`), and is waited for
//! - `last-thread WORD`: the same, once this thread has ended
//! - `called PATH`: overwrites the name by which it was executed, which is longer than this one
//! - `exec`: execs this program with the words that are left
//! - `exec-nothing`: execs a file that is not there
//! - `ready`: prints `ready`
//! - `wait`: waits until standard input ends
//! - `sleep MS`
//! - `time N NR A B C`: makes the call 5,000 times, N times; prints the nanoseconds that one took in
//!   the quickest
#![allow(clippy::unwrap_used, reason = "a victim has nobody to report to")]

use std::collections::BTreeSet;
use std::ffi::{c_int, c_long};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, ptr, thread};

/// A handler has run.
static CAUGHT: AtomicBool = AtomicBool::new(false);

fn main() {
    act(env::args().skip(1).collect());
}

fn act(words: Vec<String>) {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut number = || number(&words.next().unwrap());
        match word.as_str() {
            "call" => {
                let nr = number();
                let arguments = [(); 6].map(|()| number());
                call(nr, arguments);
            }
            "int80" => {
                let nr = number();
                let arguments = [(); 3].map(|()| number());
                int80(nr, arguments);
            }
            "range" => {
                let (nr, from, to) = (number(), number(), number());
                (from..to).for_each(|value| call(nr, [-1, value, 0, 0, 0, 0]));
            }
            "random" => random(number(), number()),
            "filter" => filter(0),
            "deny" => deny(number()),
            "filter-all" => {
                const SECCOMP_FILTER_FLAG_TSYNC: c_long = 1;
                thread::spawn(|| filter(SECCOMP_FILTER_FLAG_TSYNC)).join().unwrap();
            }
            "listen" => drop(std::os::unix::net::UnixListener::bind_addr(&unnamed()).unwrap()),
            "catch" => {
                extern "C" fn note(_: c_int) {
                    CAUGHT.store(true, Ordering::Relaxed);
                }
                let signal = c_int::try_from(number()).unwrap();
                // SAFETY: the handler writes to an atomic and does nothing else.
                unsafe { libc::signal(signal, note as *const () as usize) };
            }
            "ignore" => {
                let signal = c_int::try_from(number()).unwrap();
                // SAFETY: no handler of this program is replaced that something relies on.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            "caught" => {
                while !CAUGHT.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            "raise" => {
                let signal = c_int::try_from(number()).unwrap();
                // SAFETY: the call takes a number only.
                assert_eq!(unsafe { libc::raise(signal) }, 0);
            }
            "child" => child(&words.next().unwrap()),
            "crowd" => crowd(number(), number()),
            "thread" => {
                let words = together(&words.next().unwrap());
                thread::spawn(move || act(words)).join().unwrap();
            }
            "last-thread" => {
                let words = together(&words.next().unwrap());
                thread::spawn(move || {
                    until_first_has_ended();
                    act(words);
                    // Nobody is left who would end the process with this thread.
                    std::process::exit(0);
                });
                // SAFETY: nothing of this thread is used by another.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
                unreachable!("exit does not return");
            }
            "called" => called(&words.next().unwrap()),
            "exec" => {
                // That of the process itself has no program once its first thread has ended.
                let error = Command::new("/proc/thread-self/exe").args(words).exec();
                panic!("{error}");
            }
            "exec-nothing" => drop(Command::new("/nowhere/nothing").exec()),
            "ready" => println!("ready"),
            "wait" => drop(io::stdin().read_to_end(&mut Vec::new())),
            "sleep" => thread::sleep(Duration::from_millis(number().cast_unsigned())),
            "time" => {
                let (times, nr) = (number(), number());
                time(times, nr, [(); 3].map(|()| number()));
            }
            other => panic!("{other}"),
        }
    }
}

/// A decimal or hexadecimal number, as the bits of a register.
fn number(text: &str) -> c_long {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap().cast_signed(),
        None => text.parse().unwrap(),
    }
}

/// The autobind address: the kernel chooses a name (unix(7)).
fn unnamed() -> std::os::unix::net::SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("strait-stages-{}", std::process::id());
    std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap()
}

fn random(times: c_long, seed: c_long) {
    let mut state = seed.cast_unsigned() | 1;
    let mut commands = BTreeSet::new();
    for _ in 0..times {
        // xorshift64 (G. Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // 40 commands, of which the kernel looks at 32 bits, below bits that it does not look at.
        let command = 0xffff_ff00 | (state % 40);
        call(libc::SYS_ioctl, [-1, (state & !0xffff_ffff | command).cast_signed(), 0, 0, 0, 0]);
        commands.insert(command);
    }
    let commands: Vec<String> = commands.iter().map(u64::to_string).collect();
    println!("{}", commands.join(" "));
}

/// The number is compared alone: this program calls by one ABI.
fn deny(nr: c_long) {
    let nr = u32::try_from(nr).unwrap();
    load(
        0,
        &mut [
            libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
            libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: nr },
            libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0001 },
            libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
        ],
    );
}

fn filter(flags: c_long) {
    load(flags, &mut [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }]);
}

fn load(flags: c_long, program: &mut [libc::sock_filter]) {
    let len = u16::try_from(program.len()).unwrap();
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the call takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let (operation, program) = (libc::SECCOMP_SET_MODE_FILTER, &raw const program);
    // SAFETY: the program and its instructions live until the call has returned.
    let loaded = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, program) };
    assert_eq!(loaded, 0);
}

fn time(times: c_long, nr: c_long, [a, b, c]: [c_long; 3]) {
    const CALLS: u32 = 5_000;
    let quickest = (0..times).map(|_| {
        let begin = Instant::now();
        (0..CALLS).for_each(|_| call(nr, [a, b, c, 0, 0, 0]));
        begin.elapsed()
    });
    println!("{}", quickest.min().unwrap().as_secs_f64() * 1e9 / f64::from(CALLS));
}

fn child(words: &str) {
    // SAFETY: this program has one thread here, so the child may do anything.
    let child = unsafe { libc::fork() };
    if child == 0 {
        act(words.split(',').map(str::to_owned).collect());
        std::process::exit(0);
    }
    // SAFETY: no status is asked for.
    assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
}

/// The name is on the stack, where whoever asks finds it by the auxiliary vector.
fn called(path: &str) {
    // SAFETY: the call takes a number only.
    let at = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let name = ptr::with_exposed_provenance_mut::<u8>(usize::try_from(at).unwrap());
    // SAFETY: the kernel has put a text there that ends with a zero, and no reference is held to it.
    let length = unsafe { libc::strlen(name.cast()) };
    assert!(path.len() < length, "the name is too short for that");
    let path = std::ffi::CString::new(path).unwrap();
    // SAFETY: the stack is writable, and the name with its zero is no longer than the text; they do not
    // overlap.
    unsafe { libc::strcpy(name.cast(), path.as_ptr()) };
}

fn together(words: &str) -> Vec<String> {
    words.split('+').map(str::to_owned).collect()
}

/// A first thread that has ended stays as a zombie until the process ends or another execs.
fn until_first_has_ended() {
    let stat = format!("/proc/self/task/{}/stat", std::process::id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        thread::sleep(Duration::from_millis(1));
    }
}

fn crowd(count: c_long, nr: c_long) {
    let (mut until, end) = io::pipe().unwrap();
    let mut children = Vec::new();
    for _ in 0..count {
        // SAFETY: this program has one thread here, so the child may do anything.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "{}", io::Error::last_os_error());
        if child == 0 {
            drop(end);
            call(nr, [0; 6]);
            let _ = until.read(&mut [0]);
            std::process::exit(0);
        }
        children.push(child);
    }
    println!("forked");
    while !CAUGHT.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
    drop(end);
    for child in children {
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
    }
}

fn call(nr: c_long, [a, b, c, d, e, f]: [c_long; 6]) {
    // SAFETY: the tests give numbers, and no addresses.
    unsafe { libc::syscall(nr, a, b, c, d, e, f) };
}

#[cfg(target_arch = "x86_64")]
fn int80(nr: c_long, [b, c, d]: [c_long; 3]) {
    // SAFETY: the tests give numbers, and no addresses; the kernel keeps all registers but eax on
    // this path and clears r8 to r11, which are given up. rbx is LLVM's, so it is put back.
    unsafe {
        std::arch::asm!(
            "xchg {b}, rbx",
            "int 0x80",
            "xchg {b}, rbx",
            b = inout(reg) b => _,
            inout("rax") nr => _,
            in("rcx") c, in("rdx") d,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_nr: c_long, _arguments: [c_long; 3]) {}
