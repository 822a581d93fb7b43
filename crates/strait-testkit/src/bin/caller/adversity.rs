//! What a recorder has to stand: many processes at once, children that are nobody's, threads that a
//! filter kills, stops, and more kinds of call than there is room for.

use std::ffi::c_long;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, mem, thread};

use crate::{CALL, call, fork, make, print, reap};

/// A tree of processes, each of which starts two, `depth` levels deep, and makes `calls` calls.
pub(crate) fn bomb(depth: u32, calls: u64) {
    let processes = (1 << (depth + 1)) - 1_u64;
    explode(depth, calls);
    print("x86_64", CALL, processes * calls, processes * calls, 0, &[]);
}

fn explode(depth: u32, calls: u64) {
    let children: Vec<libc::pid_t> = (0..if depth == 0 { 0 } else { 2 })
        .map(|_| {
            let child = fork();
            if child == 0 {
                explode(depth - 1, calls);
                // SAFETY: ends the process without running anything of it.
                unsafe { libc::_exit(0) };
            }
            child
        })
        .collect();
    make(calls);
    children.into_iter().for_each(|child| reap(child.into()));
}

/// A child by clone3 with these flags and arguments, that makes `calls` calls and ends.
fn clone3(flags: i32, exit_signal: i32, cgroup: i32, calls: u64) -> c_long {
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, set_tid_size, cgroup.
    let mut arguments = [0_u64; 11];
    // CLONE_INTO_CGROUP is a bit above these, and asked for by having a cgroup.
    arguments[0] = u64::from(flags.cast_unsigned()) | if cgroup < 0 { 0 } else { 1 << 33 };
    arguments[4] = u64::try_from(exit_signal).unwrap();
    arguments[10] = u64::try_from(cgroup.max(0)).unwrap();
    let address = c_long::try_from(arguments.as_mut_ptr().expose_provenance()).unwrap();
    let size = c_long::try_from(mem::size_of_val(&arguments)).unwrap();
    let child = call(libc::SYS_clone3, [address, size, 0, 0, 0, 0]).unwrap();
    if child == 0 {
        make(calls);
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(0) };
    }
    child
}

/// A child that is born in another cgroup.
pub(crate) fn into_cgroup(folder: &str, calls: u64) {
    let cgroup = fs::File::open(Path::new(folder)).unwrap();
    reap(clone3(0, libc::SIGCHLD, cgroup.as_raw_fd(), calls));
    print("x86_64", CALL, calls, calls, 0, &[]);
}

/// A child of a child, that is born as a child of this process.
pub(crate) fn sibling(calls: u64) {
    let (read, write) = io::pipe().unwrap();
    let child = fork();
    if child == 0 {
        let sibling = clone3(libc::CLONE_PARENT, 0, -1, calls);
        io::Write::write_all(&mut &write, &sibling.to_ne_bytes()).unwrap();
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(0) };
    }
    let mut sibling = [0; size_of::<c_long>()];
    io::Read::read_exact(&mut &read, &mut sibling).unwrap();
    reap(child.into());
    reap(c_long::from_ne_bytes(sibling));
    print("x86_64", CALL, calls, calls, 0, &[]);
}

/// A thread that makes calls until its own filter kills it, alone, for one more.
pub(crate) fn kill_thread(calls: u64) {
    let (tell, told) = mpsc::channel();
    let victim = thread::spawn(move || {
        // SAFETY: the call takes nothing.
        tell.send(unsafe { libc::gettid() }).unwrap();
        load(libc::SYS_getpgrp, libc::SECCOMP_RET_KILL_THREAD, 0).unwrap();
        make(calls);
        let _ = call(libc::SYS_getpgrp, [0; 6]);
    });
    let task = format!("/proc/self/task/{}", told.recv().unwrap());
    // It has no result that could be joined.
    mem::forget(victim);
    while Path::new(&task).exists() {
        thread::sleep(Duration::from_millis(1));
    }
    print("x86_64", CALL, calls, calls, 0, &[]);
    print("x86_64", libc::SYS_getpgrp, 0, 0, 1, &[]);
}

/// Asks for a listener of its own.
pub(crate) fn listener() {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let errnos = match load(libc::SYS_getpgrp, libc::SECCOMP_RET_ALLOW, flags) {
        Ok(_) => Vec::new(),
        Err(errno) => vec![(errno, 1)],
    };
    let succeeded = u64::from(errnos.is_empty());
    print("x86_64", libc::SYS_seccomp, 1, succeeded, 0, &errnos);
}

/// A filter on this thread that answers one call so.
fn load(nr: c_long, answer: u32, flags: libc::c_ulong) -> Result<c_long, i32> {
    let insn = |code: u16, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let nr = u32::try_from(nr).unwrap();
    // ld [0]; jeq nr; ret allow; ret answer
    let mut program = [
        insn(0x20, 0, 0, 0),
        insn(0x15, 1, 0, nr),
        insn(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        insn(0x06, 0, 0, answer),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    let address = c_long::try_from((&raw const program).expose_provenance()).unwrap();
    call(libc::SYS_prctl, [c_long::from(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0, 0]).unwrap();
    call(libc::SYS_seccomp, [1, c_long::try_from(flags).unwrap(), address, 0, 0, 0])
}

/// One call of each of these numbers, which are none of the kernel's.
pub(crate) fn numbers(from: c_long, to: c_long) {
    for nr in from..to {
        assert_eq!(call(nr, [0; 6]), Err(libc::ENOSYS));
    }
    // Of the first one only, as there may be too many to be printed.
    print("x86_64", from, 1, 0, 0, &[(libc::ENOSYS, 1)]);
}

/// A child that stops itself and is continued, several times, and makes calls in between.
pub(crate) fn stopped(times: u64, calls: u64) {
    let child = fork();
    if child == 0 {
        for _ in 0..times {
            // SAFETY: stops this process.
            unsafe { libc::raise(libc::SIGSTOP) };
            make(calls);
        }
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(0) };
    }
    for _ in 0..times {
        let mut status = 0;
        // SAFETY: the status is written to a local.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, libc::WUNTRACED) }, child);
        assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGSTOP);
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::kill(child, libc::SIGCONT) }, 0);
    }
    reap(child.into());
    print("x86_64", CALL, times * calls, times * calls, 0, &[]);
}

/// Does not end when it is asked to.
pub(crate) fn stubborn() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: no handler is given.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    println!("ready");
    thread::sleep(Duration::MAX);
}

/// Becomes another program.
pub(crate) fn become_program(path: &str, words: Vec<String>) {
    panic!("{}", Command::new(path).args(words).exec());
}
