//! What a policy needs beyond what was seen: three tables of principle.
//!
//! Everything that is allowed by them is declared in the ledger, with the reason given here.

/// When a call of [`UNSEEN`] is allowed though it was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// For every workload.
    Always,
    /// For workloads that start tasks.
    Tasks,
    /// For workloads with Go's runtime in them (sources: `src/runtime/os_linux.go`,
    /// `netpoll_epoll.go` and `signal_unix.go` of the Go project).
    Go,
    /// For workloads with CPython in them that wait for processes (sources: `Lib/subprocess.py`,
    /// `Lib/multiprocessing/pool.py`, `popen_fork.py` and `resource_tracker.py` of CPython).
    PythonChildren,
}

/// Calls that a second run may need though the first did not show them, because the kernel, the
/// machine or timing decides whether they are made, and not the program. Each acts on the caller
/// alone and opens nothing: allowing them costs no confinement.
pub(crate) const UNSEEN: &[(&str, When, &str)] = &[
    ("exit", When::Always, "a task must be able to end"),
    ("exit_group", When::Always, "a process must be able to end"),
    ("rt_sigreturn", When::Always, "a signal that arrives in another moment must be returned from"),
    ("sigreturn", When::Always, "a signal that arrives in another moment must be returned from"),
    ("restart_syscall", When::Always, "the kernel makes it after a stop or signal in a timed wait"),
    ("clock_gettime", When::Always, "a vDSO call on machines with another clock source"),
    ("clock_gettime64", When::Always, "a vDSO call on machines with another clock source"),
    ("gettimeofday", When::Always, "a vDSO call on machines with another clock source"),
    ("time", When::Always, "a vDSO call on machines with another clock source"),
    ("getcpu", When::Always, "a vDSO call where the CPU number cannot be read without it"),
    ("futex", When::Tasks, "a lock that is contended in another moment must be waited for"),
    ("futex_time64", When::Tasks, "a lock that is contended in another moment must be waited for"),
    ("sched_yield", When::Tasks, "a spinning lock yields when it is contended"),
    (
        "madvise",
        When::Tasks,
        "allocators and thread stacks give memory back when timing asks for it",
    ),
    ("mmap", When::Tasks, "allocators make an arena when a lock is contended"),
    ("mmap2", When::Tasks, "allocators make an arena when a lock is contended"),
    ("mprotect", When::Tasks, "allocators make an arena when a lock is contended"),
    ("epoll_create1", When::Go, "the network poller starts with the first timer or descriptor"),
    ("epoll_ctl", When::Go, "the network poller starts with the first timer or descriptor"),
    ("epoll_pwait", When::Go, "an idle thread waits in the network poller"),
    ("epoll_wait", When::Go, "an idle thread waits in the network poller"),
    ("eventfd2", When::Go, "the network poller is woken by it"),
    ("pipe2", When::Go, "the network poller is woken by it"),
    ("getpid", When::Go, "a goroutine that runs for long is preempted by a signal to its thread"),
    ("gettid", When::Go, "a new thread asks for its id"),
    ("tgkill", When::Go, "a goroutine that runs for long is preempted by a signal to its thread"),
    ("nanosleep", When::Go, "the scheduler's monitor sleeps in between"),
    ("mincore", When::Go, "the size of a page is looked for at start-up"),
    ("sigaltstack", When::Go, "a new thread sets up its signal stack"),
    ("rt_sigprocmask", When::Go, "a new thread sets up its signal mask"),
    ("munmap", When::Tasks, "thread stacks are unmapped when their cache is full"),
    (
        "kill",
        When::PythonChildren,
        "a pool's worker, or a child out of time, is ended if it has not ended by itself",
    ),
    ("clock_nanosleep", When::PythonChildren, "a child that has not ended yet is waited for"),
    ("select", When::PythonChildren, "a child that has not ended yet is waited for"),
    ("pselect6", When::PythonChildren, "a child that has not ended yet is waited for"),
];

/// Calls that wait for a process.
pub(crate) const WAITS: &[&str] = &["wait4", "waitid", "waitpid"];

/// Calls that start a task.
pub(crate) const STARTS_TASKS: &[&str] = &["clone", "clone3", "fork", "vfork"];

/// What libraries do without a call, if they can.
pub(crate) fn fallback(name: &str) -> Option<&'static str> {
    PROBED.iter().find(|(probed, _)| *probed == name).map(|(_, what)| *what)
}

/// Calls that libraries try and do without if the kernel has none: ENOSYS, which they expect,
/// where EPERM, which they do not, would break the program.
pub(crate) const PROBED: &[(&str, &str)] = &[
    ("clone3", "glibc falls back to clone"),
    ("close_range", "libraries fall back to closing one by one"),
    ("copy_file_range", "libraries fall back to read and write"),
    ("epoll_pwait2", "libraries fall back to epoll_pwait"),
    ("faccessat2", "libc falls back to faccessat"),
    ("fchmodat2", "libc falls back to fchmodat"),
    ("io_uring_setup", "libraries fall back to epoll, read and write"),
    ("membarrier", "libraries fall back to ordinary barriers"),
    ("openat2", "libraries fall back to openat"),
    ("pidfd_open", "libraries fall back to process ids"),
    ("preadv2", "libc falls back to preadv"),
    ("pwritev2", "libc falls back to pwritev"),
    ("renameat2", "libc falls back to renameat"),
    ("rseq", "glibc goes without"),
    ("statx", "libc falls back to fstatat"),
    // The 64-bit time calls of 32-bit ABIs.
    ("clock_getres_time64", "libc falls back to clock_getres"),
    ("clock_nanosleep_time64", "libc falls back to clock_nanosleep"),
    ("mq_timedreceive_time64", "libc falls back to mq_timedreceive"),
    ("mq_timedsend_time64", "libc falls back to mq_timedsend"),
    ("ppoll_time64", "libc falls back to ppoll"),
    ("pselect6_time64", "libc falls back to pselect6"),
    ("recvmmsg_time64", "libc falls back to recvmmsg"),
    ("rt_sigtimedwait_time64", "libc falls back to rt_sigtimedwait"),
    ("sched_rr_get_interval_time64", "libc falls back to sched_rr_get_interval"),
    ("semtimedop_time64", "libc falls back to semtimedop"),
    ("timer_gettime64", "libc falls back to timer_gettime"),
    ("timer_settime64", "libc falls back to timer_settime"),
    ("timerfd_gettime64", "libc falls back to timerfd_gettime"),
    ("timerfd_settime64", "libc falls back to timerfd_settime"),
    ("utimensat_time64", "libc falls back to utimensat"),
];

/// Calls that releases of libc and of language runtimes put in each other's place: where one of a
/// group was seen, the others of it are allowed, as they give the workload nothing that it has not.
/// The newest of a group, from which libraries fall back, are in [`PROBED`] instead.
///
/// Sources: the release notes and sysdeps/unix/sysv/linux of the GNU C Library, of which ABIs that
/// are newer than the `at` calls have no others.
pub(crate) const SWAPPED: &[&[&str]] = &[
    &["open", "openat", "creat"],
    &["stat", "lstat", "fstat", "newfstatat"],
    &["stat64", "lstat64", "fstat64", "fstatat64"],
    &["access", "faccessat"],
    &["mkdir", "mkdirat"],
    &["mknod", "mknodat"],
    &["unlink", "rmdir", "unlinkat"],
    &["rename", "renameat"],
    &["link", "linkat"],
    &["symlink", "symlinkat"],
    &["readlink", "readlinkat"],
    &["chmod", "fchmodat"],
    &["chown", "lchown", "fchownat"],
    &["chown32", "lchown32"],
    &["utime", "utimes", "futimesat", "utimensat"],
    &["getdents", "getdents64"],
    &["pipe", "pipe2"],
    &["dup2", "dup3"],
    &["accept", "accept4"],
    &["eventfd", "eventfd2"],
    &["signalfd", "signalfd4"],
    &["inotify_init", "inotify_init1"],
    &["epoll_create", "epoll_create1"],
    &["epoll_wait", "epoll_pwait"],
    &["poll", "ppoll"],
    &["select", "_newselect", "pselect6"],
    &["fork", "vfork", "clone", "clone3"],
    &["getrlimit", "ugetrlimit", "setrlimit", "prlimit64"],
    &["nanosleep", "clock_nanosleep"],
    &["tkill", "tgkill"],
    &["wait4", "waitpid", "waitid"],
    &["mmap", "mmap2"],
    &["fcntl", "fcntl64"],
    &["lseek", "_llseek"],
    &["sigaction", "rt_sigaction"],
    &["sigprocmask", "rt_sigprocmask"],
];
