//! What the default profile of Docker allows: what every tighter policy is compared with.
//!
//! The names are those that the profile allows on x86_64 with Docker's default capabilities
//! (CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, NET_RAW, SETGID, SETUID, SETFCAP, SETPCAP,
//! NET_BIND_SERVICE, SYS_CHROOT, KILL, AUDIT_WRITE) on a kernel of 4.8 or newer. Podman and
//! containerd ship profiles that differ from it in few names.

use std::collections::BTreeSet;

use strait_abi::Syscall;

/// What a profile allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// Where it is from.
    pub source: &'static str,
    /// Calls that it allows whatever their arguments.
    pub allowed: BTreeSet<Syscall>,
    /// Calls that it allows with some arguments.
    pub conditional: BTreeSet<Syscall>,
    /// Calls that x86_64 does not have, and that it allows on the other ABIs of such a machine.
    pub elsewhere: BTreeSet<Syscall>,
}

impl Baseline {
    /// Whether it allows the call on any ABI, with some arguments at least.
    pub fn allows(&self, call: Syscall) -> bool {
        [&self.allowed, &self.conditional, &self.elsewhere].iter().any(|set| set.contains(&call))
    }
}

/// The default profile of Docker, for x86_64.
pub fn docker_default() -> Baseline {
    let calls = |names: &str| names.split_whitespace().filter_map(Syscall::from_name).collect();
    Baseline {
        source: SOURCE,
        allowed: calls(ALLOWED),
        conditional: calls(CONDITIONAL),
        elsewhere: calls(ELSEWHERE),
    }
}

/// The file that [`ALLOWED`] and [`CONDITIONAL`] were read from, and its sha256.
const SOURCE: &str = "moby/profiles seccomp/default.json \
    (sha256 536529b665dd0972…)";

/// Allowed on i386 or x32, and no call of x86_64.
const ELSEWHERE: &str = "
    _llseek _newselect chown32 clock_adjtime64 clock_getres_time64 clock_gettime64
    clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64 fstat64 fstatat64 fstatfs64
    ftruncate64 futex_time64 getegid32 geteuid32 getgid32 getgroups32 getresgid32
    getresuid32 getuid32 io_pgetevents_time64 ipc lchown32 lstat64 mmap2
    mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64 pselect6_time64 recvmmsg_time64
    rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 sendfile64
    setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32 setreuid32
    setuid32 sigprocmask sigreturn socketcall stat64 statfs64 timer_gettime64
    timer_settime64 timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit
    utimensat_time64 waitpid
";

/// Allowed with some arguments: `clone` without namespaces, `personality` with harmless values,
/// `socket` of every domain but AF_ALG (38) and AF_VSOCK (40).
const CONDITIONAL: &str = "clone personality socket";

/// Allowed whatever the arguments.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod
    chown chroot clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range
    connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat
    fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr
    fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid
    getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
    io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set
    kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link
    linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat
    madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod
    mknodat mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64
    preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select
    semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice
    stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
    time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
    timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat uretprobe
    utime utimensat utimes vfork vmsplice wait4 waitid write writev
";

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use super::*;

    #[test]
    fn every_name_is_a_call_of_x86_64_and_stands_once() {
        let names: Vec<&str> = ALLOWED.split_whitespace().collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        for name in names.into_iter().chain(CONDITIONAL.split_whitespace()) {
            let call = Syscall::from_name(name).unwrap_or_else(|| panic!("{name} is no call"));
            assert!(call.number(Arch::X86_64).is_some(), "{name} is no call of x86_64");
        }
        let baseline = docker_default();
        assert_eq!(baseline.elsewhere.len(), ELSEWHERE.split_whitespace().count());
        for call in &baseline.elsewhere {
            let is_elsewhere =
                [Arch::I386, Arch::X32].iter().any(|arch| call.number(*arch).is_some());
            assert!(is_elsewhere && call.number(Arch::X86_64).is_none(), "{call}");
        }
        assert!(baseline.allowed.is_disjoint(&baseline.conditional));
    }
}
