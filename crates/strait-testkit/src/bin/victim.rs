//! A program to confine, inspect and end. It does what its arguments say, one after the other:
//!
//! - `filters N`: loads N filters; filter i (from 0) answers the number 1000 + i with errno i + 1
//! - `thread-filter`: a new thread loads one such filter for itself alone, and stays
//! - `threads N`: starts N threads that stay
//! - `churn`: starts a thread that starts threads that end at once, for ever
//! - `spin`: a thread that never sleeps
//! - `fork-zombie`: a child that ends and is not waited for; prints `zombie PID`
//! - `fork N`: starts N children with one thread each that stay as long as this process
//! - `vfork`: prints `vfork` and waits, uninterruptibly (state D), for a child that never execs
//! - `exec PATH`: execs it; on failure prints `exec: ERRNO` and goes on
//! - `exec-with A B PATH`: the same, with these words in the fifth and sixth argument registers
//! - `approve-exec`: loads a filter that notifies every execve, and lets those calls pass
//! - `call NR`: makes that call with no arguments; prints `call NR: RESULT`
//! - `kill SIGNAL`: sends it to itself
//! - `hold-listener`: loads a filter that notifies number 1500, and keeps the listener
//! - `drop-listener`: the same, and closes the listener
//! - `note-mode FILE`: appends the `Seccomp:` line of `/proc/self/status` to the file
//! - `race-connect ALLOWED DENIED N`: connects a UDP socket N times to a port of 127.0.0.1, while another
//!   thread goes on writing one port and the other into the address; prints how often it came to
//!   which: `connected ALLOWED DENIED FAILED`
//! - `race-send ALLOWED DENIED N`: the same with sendmsg, whose header and parts are changed too; prints
//!   `sent PASSED FAILED`
//! - `pid`: prints `pid PID`
//! - `line`: waits until standard input has a line more
//! - `ready`: prints `ready`
//! - `wait`: waits until standard input ends
//! - `exit STATUS`
#![allow(clippy::unwrap_used, reason = "a victim has nobody to report to")]

use std::cell::UnsafeCell;
use std::ffi::CString;
use std::io::{Read, Write};
use std::time::Duration;
use std::{env, io, ptr, thread};

fn main() {
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut argument = || words.next().unwrap();
        match word.as_str() {
            "filters" => (0..argument().parse().unwrap()).for_each(|i| {
                load(&errno(i), 0);
            }),
            "thread-filter" => {
                let (loaded, wait) = std::sync::mpsc::channel();
                thread::spawn(move || {
                    load(&errno(0), 0);
                    loaded.send(()).unwrap();
                    stay()
                });
                wait.recv().unwrap();
            }
            "threads" => {
                for _ in 0..argument().parse().unwrap() {
                    thread::spawn(|| stay());
                }
            }
            "churn" => {
                thread::spawn(|| {
                    loop {
                        thread::spawn(|| {}).join().unwrap();
                    }
                });
            }
            "spin" => {
                thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            "fork-zombie" => {
                // SAFETY: the child ends at once, without touching anything.
                match unsafe { libc::fork() } {
                    // SAFETY: ends the child.
                    0 => unsafe { libc::_exit(0) },
                    pid => say(&format!("zombie {pid}")),
                }
            }
            "fork" => (0..argument().parse().unwrap()).for_each(|_| fork()),
            "vfork" => {
                say("vfork");
                vfork();
            }
            "exec" => say(&format!("exec: {}", exec(&argument(), [0, 0]))),
            "exec-with" => {
                let words = [argument().parse().unwrap(), argument().parse().unwrap()];
                say(&format!("exec: {}", exec(&argument(), words)));
            }
            "approve-exec" => {
                let execve = u32::try_from(libc::SYS_execve).unwrap();
                let notify = answer(execve, libc::SECCOMP_RET_USER_NOTIF);
                let listener = load(&notify, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
                thread::spawn(move || approve(listener));
            }
            "call" => {
                let nr: libc::c_long = argument().parse().unwrap();
                // SAFETY: the tests give numbers of calls that harm nobody without arguments.
                let done = unsafe { libc::syscall(nr, 0, 0, 0, 0, 0, 0) };
                let done = if done < 0 { -i64::from(last_errno()) } else { done };
                say(&format!("call {nr}: {done}"));
            }
            "kill" => {
                // SAFETY: a signal to this process.
                unsafe { libc::raise(argument().parse().unwrap()) };
            }
            "hold-listener" => {
                load(&notify(), libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
            }
            "drop-listener" => {
                let listener = load(&notify(), libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
                // SAFETY: the descriptor is of this function alone.
                unsafe { libc::close(listener) };
            }
            "note-mode" => {
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let mode = status.lines().find(|line| line.starts_with("Seccomp:")).unwrap();
                let mut file = std::fs::File::options().append(true).open(argument()).unwrap();
                file.write_all(format!("{mode}\n").as_bytes()).unwrap();
            }
            "race-connect" | "race-send" => {
                let ports = [argument().parse().unwrap(), argument().parse().unwrap()];
                let times = argument().parse().unwrap();
                match word.as_str() {
                    "race-connect" => race_connect(ports, times),
                    _ => race_send(ports, times),
                }
            }
            "pid" => say(&format!("pid {}", std::process::id())),
            "line" => drop(io::stdin().read_line(&mut String::new())),
            "ready" => say("ready"),
            "wait" => drop(io::stdin().read_to_end(&mut Vec::new())),
            "exit" => std::process::exit(argument().parse().unwrap()),
            other => panic!("the victim knows no `{other}`"),
        }
    }
}

/// Memory that a thread changes while the kernel reads it.
#[repr(C)]
struct Raced {
    address: UnsafeCell<[libc::sockaddr_in; 2]>,
    header: UnsafeCell<libc::msghdr>,
}

// SAFETY: the threads write whole values with volatile stores, and nobody but the kernel reads.
unsafe impl Sync for Raced {}

impl Raced {
    /// Two addresses, of the two ports, and a header that has the first and sends one byte.
    fn new(ports: [u16; 2]) -> &'static Raced {
        let address = |port: u16| {
            // SAFETY: integers, for which zero is a value.
            let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
            address.sin_port = port.to_be();
            address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
            address
        };
        // SAFETY: integers and pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = 16;
        header.msg_iov = Box::leak(Box::new(libc::iovec {
            iov_base: Box::leak(Box::new(b'x')) as *mut u8 as *mut libc::c_void,
            iov_len: 1,
        }));
        header.msg_iovlen = 1;
        let raced = Box::leak(Box::new(Raced {
            address: UnsafeCell::new(ports.map(address)),
            header: UnsafeCell::new(header),
        }));
        raced.name(0);
        raced
    }

    fn port(&self, port: u16) {
        // SAFETY: in bounds: the cell holds two addresses, which live for ever.
        let slot = unsafe { &raw mut (*self.address.get())[0].sin_port };
        // SAFETY: aligned, and nobody but the kernel reads it.
        unsafe { slot.write_volatile(port.to_be()) };
    }

    fn name(&self, which: usize) {
        // SAFETY: in bounds of the two addresses.
        let name = unsafe { self.address.get().cast::<libc::sockaddr_in>().add(which) };
        // SAFETY: in bounds: the cell holds a header, which lives for ever.
        let slot = unsafe { &raw mut (*self.header.get()).msg_name };
        // SAFETY: aligned, and nobody but the kernel reads it.
        unsafe { slot.write_volatile(name.cast()) };
    }
}

fn udp_socket() -> i32 {
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    socket
}

fn race_connect(ports: [u16; 2], times: u32) {
    let raced = Raced::new(ports);
    thread::spawn(move || {
        loop {
            ports.into_iter().for_each(|port| raced.port(port));
        }
    });
    let socket = udp_socket();
    let mut came = [0_u32; 3];
    for _ in 0..times {
        // SAFETY: an address of 16 bytes that lives for ever.
        let done = unsafe { libc::connect(socket, raced.address.get().cast(), 16) };
        let mut peer = raced_peer(socket);
        if done != 0 {
            // It is connected to what it was before, which is counted already.
            peer = None;
        }
        let which = peer.and_then(|peer| ports.iter().position(|port| *port == peer));
        came[which.unwrap_or(2)] += 1;
    }
    say(&format!("connected {} {} {}", came[0], came[1], came[2]));
}

/// The port that a socket is connected to.
fn raced_peer(socket: i32) -> Option<u16> {
    // SAFETY: integers, for which zero is a value.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut length = 16;
    // SAFETY: the kernel writes as much of the address as the length says.
    let done = unsafe { libc::getpeername(socket, (&raw mut address).cast(), &mut length) };
    (done == 0).then(|| u16::from_be(address.sin_port))
}

fn race_send(ports: [u16; 2], times: u32) {
    let raced = Raced::new(ports);
    thread::spawn(move || {
        loop {
            raced.name(1);
            raced.name(0);
        }
    });
    let socket = udp_socket();
    let mut came = [0_u32; 2];
    for _ in 0..times {
        // SAFETY: a header that lives for ever, as all that it points to does.
        let sent = unsafe { libc::sendmsg(socket, raced.header.get(), 0) };
        came[usize::from(sent != 1)] += 1;
    }
    say(&format!("sent {} {}", came[0], came[1]));
}

fn say(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn stay() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// A child that stays until this process ends.
fn fork() {
    // SAFETY: the child makes calls without pointers alone.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: no pointers.
            unsafe { libc::pause() };
        }
    }
}

/// Waits for a child that shares the memory, runs nothing and dies with this process.
fn vfork() {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut stack = vec![0_u64; 4096];
    extern "C" fn child(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: no pointers.
            unsafe { libc::pause() };
        }
    }
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the child has a stack of its own, which grows down from its end and is not used by
    // anybody else, and calls only what may be called without a thread of its own.
    unsafe { libc::clone(child, top.cast(), flags, ptr::null_mut()) };
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

fn exec(path: &str, words: [u64; 2]) -> i32 {
    let path = CString::new(path).unwrap();
    let arguments = [path.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
    let nr = libc::SYS_execve;
    // SAFETY: a path, and arrays of strings closed by a null pointer, alive during the call.
    unsafe { libc::syscall(nr, path.as_ptr(), arguments, environment, 0, words[0], words[1]) };
    last_errno()
}

/// Lets every notified call pass.
fn approve(listener: i32) -> ! {
    loop {
        let mut call = std::mem::MaybeUninit::<libc::seccomp_notif>::zeroed();
        // SAFETY: the kernel writes a whole structure to the pointer; all of it is zero.
        if unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, call.as_mut_ptr()) } != 0
        {
            continue;
        }
        // SAFETY: zeroed, then written by the kernel.
        let id = unsafe { call.assume_init() }.id;
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap();
        let response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
        // SAFETY: the kernel reads a whole structure from the pointer.
        unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    }
}

/// Answers the number 1000 + `i` with errno `i` + 1.
fn errno(i: u32) -> [libc::sock_filter; 4] {
    answer(1000 + i, libc::SECCOMP_RET_ERRNO | (i + 1))
}

/// Notifies number 1500.
fn notify() -> [libc::sock_filter; 4] {
    answer(1500, libc::SECCOMP_RET_USER_NOTIF)
}

fn answer(nr: u32, action: u32) -> [libc::sock_filter; 4] {
    let insn = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        insn(0x20, 0, 0, 0),
        insn(0x15, 0, 1, nr),
        insn(0x06, 0, 0, action),
        insn(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Loads a filter onto this thread; returns what seccomp(2) does.
fn load(filter: &[libc::sock_filter; 4], flags: libc::c_ulong) -> i32 {
    let fprog = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
    // SAFETY: no pointer.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program points to four instructions, as it says, which the kernel copies.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog)
    };
    assert!(done >= 0, "{}", io::Error::last_os_error());
    i32::try_from(done).unwrap()
}
