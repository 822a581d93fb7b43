//! Named sets of calls, which a policy includes by name.
//!
//! A set says what a kind of program needs and nothing more. Sets are part of the binary: the same
//! version of Strait gives the same policy the same meaning. A name that an ABI has not is no
//! matter there.

mod systemd;

use strait_abi::Syscall;

/// A named set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    name: &'static str,
    purpose: &'static str,
    groups: &'static [Group],
}

/// Members that are in a set for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    reason: &'static str,
    calls: &'static str,
}

/// Why calls are in a set that no release of the runtime was seen to make.
const BASE_PROFILE: &str =
    "the base profile of the Security Profiles Operator for runc 1.4 has more";

impl Set {
    /// Every set, by name.
    pub const ALL: &[Set] =
        &joined::<{ SETS.len() + systemd::SETS.len() }, _, _>(SETS, systemd::SETS);

    /// The set of that name, such as `set:io` or `systemd:@file-system`.
    pub fn from_name(name: &str) -> Option<&'static Set> {
        Set::ALL.iter().find(|set| set.name == name)
    }

    /// The groups of calls that systemd knows.
    pub(crate) fn of_systemd() -> impl Iterator<Item = &'static Set> {
        Set::ALL.iter().filter(|set| set.systemd_name().is_some())
    }

    /// What systemd calls it, such as `@file-system`, if it does.
    pub(crate) fn systemd_name(&self) -> Option<&'static str> {
        self.name.strip_prefix("systemd:")
    }

    /// The names of its members, of which some may be no calls that are known here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.groups.iter().flat_map(|group| group.calls.split_whitespace())
    }

    /// The calls that a container runtime (`runc 1.1.5`) was seen to make for its own sake, in one
    /// circumstance or another. That is less than its set, which has what other releases need too.
    pub(crate) fn seen_of_runtime(release: &str) -> impl Iterator<Item = &'static str> {
        let name = release.split(' ').next().unwrap_or(release);
        let set = Set::ALL.iter().find(|set| set.name.strip_prefix("set:runtime-") == Some(name));
        let groups = set.into_iter().flat_map(|set| set.groups);
        let seen = groups.filter(|group| group.reason != BASE_PROFILE);
        seen.flat_map(|group| group.calls.split_whitespace())
    }

    /// Its name, as policies write it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it is for.
    pub const fn purpose(&self) -> &'static str {
        self.purpose
    }

    /// Its members, by the reason for which they are in it.
    pub const fn groups(&self) -> &'static [Group] {
        self.groups
    }

    /// Whether the call is in it.
    pub fn contains(&self, call: Syscall) -> bool {
        self.groups.iter().any(|group| group.calls().any(|member| member == call))
    }
}

impl Group {
    /// Why its members are in the set.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// The members.
    pub fn calls(&self) -> impl Iterator<Item = Syscall> {
        self.calls.split_whitespace().filter_map(Syscall::from_name)
    }
}

/// All of the sets.
const fn joined<const ALL: usize, const OWN: usize, const THEIRS: usize>(
    own: [Set; OWN],
    theirs: [Set; THEIRS],
) -> [Set; ALL] {
    assert!(ALL == OWN + THEIRS);
    let mut all = [own[0]; ALL];
    let mut index = 0;
    while index < ALL {
        all[index] = if index < OWN { own[index] } else { theirs[index - OWN] };
        index += 1;
    }
    all
}

const fn group(reason: &'static str, calls: &'static str) -> Group {
    Group { reason, calls }
}

const MEMORY: Group = group(
    "memory: libc and the dynamic linker map, protect and grow it",
    "brk mmap mmap2 mprotect munmap mremap madvise",
);
const ENDING: Group = group("a task must be able to end", "exit exit_group");
const SIGNAL_RETURN: Group =
    group("returning from signals, and restarting calls", "rt_sigreturn sigreturn restart_syscall");
const LIBRARIES: Group = group(
    "the dynamic linker opens, reads and maps libraries",
    "access openat open read pread64 readv close fstat fstat64 newfstatat fstatat64 stat stat64 \
     statx lseek _llseek fcntl fcntl64",
);
const EXEC: Group = group("the program is started by it", "execve");

/// By name. The runtimes' sets have what strace saw of Debian 12's runc and crun from loading the
/// filter on, as root and not, with and without `no_new_privs`; and what the base profiles of the
/// Security Profiles Operator (`examples/baseprofile-*.yaml`) have for newer ones.
const SETS: [Set; 10] = [
    Set {
        name: "set:glibc-startup",
        purpose: "what a program linked with glibc calls before main and after it",
        groups: &[
            EXEC,
            LIBRARIES,
            MEMORY,
            group(
                "thread-local storage and what glibc registers for each thread",
                "arch_prctl set_thread_area set_tls set_tid_address set_robust_list rseq",
            ),
            group(
                "limits of the stack, and random numbers for the heap",
                "prlimit64 ugetrlimit getrandom",
            ),
            group("locks that libraries take while they start", "futex futex_time64"),
            group("a statically linked program asks where its file is", "readlink readlinkat"),
            ENDING,
            SIGNAL_RETURN,
        ],
    },
    Set {
        name: "set:io",
        purpose: "reading and writing what is open already, and waiting for it",
        groups: &[
            group(
                "reading, writing and seeking",
                "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek",
            ),
            group(
                "closing, copying and describing descriptors",
                "close close_range dup dup2 dup3 fcntl fcntl64 fstat fstat64",
            ),
            group("flushing", "fsync fdatasync sync_file_range sync_file_range2"),
            group(
                "waiting for readiness",
                "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create \
                 epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2",
            ),
            group("pipes and events within a process", "pipe pipe2 eventfd eventfd2"),
            group("copying within the kernel", "sendfile sendfile64 splice tee copy_file_range"),
        ],
    },
    Set {
        name: "set:listener-crun",
        purpose: "what crun calls besides to hand over the listener of a filter that notifies",
        groups: &[group(
            "crun 1.8.1 to 1.28 wait for the process by which they hand it over",
            "munmap wait4",
        )],
    },
    Set {
        name: "set:listener-runc",
        purpose: "what runc calls besides to hand over the listener of a filter that notifies",
        groups: &[group(
            "runc 1.1.5 and 1.3 tell their parent of it, and wait for its answer",
            "close read recvfrom write",
        )],
    },
    Set {
        name: "set:musl-startup",
        purpose: "what a program linked with musl calls before main and after it",
        groups: &[
            EXEC,
            LIBRARIES,
            MEMORY,
            group(
                "thread-local storage and the thread's id",
                "arch_prctl set_thread_area set_tls set_tid_address",
            ),
            group("checking that the standard descriptors are open", "poll ppoll"),
            ENDING,
            SIGNAL_RETURN,
        ],
    },
    Set {
        name: "set:network-client",
        purpose: "connecting to servers and talking to them; which kinds of sockets is for rules to say",
        groups: &[
            group("making and connecting sockets", "socket connect bind socketcall"),
            group(
                "who is on either end, and options",
                "getsockname getpeername getsockopt setsockopt",
            ),
            group(
                "sending and receiving",
                "sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg recvmmsg_time64 send recv shutdown",
            ),
        ],
    },
    Set {
        name: "set:network-server",
        purpose: "accepting connections, besides set:network-client",
        groups: &[group("listening and accepting", "listen accept accept4")],
    },
    Set {
        name: "set:process",
        purpose: "starting programs and threads, waiting for them and signalling one's own",
        groups: &[
            group(
                "starting tasks",
                "clone clone3 fork vfork execve set_robust_list set_tid_address rseq",
            ),
            group("waiting for them", "wait4 waitid waitpid pidfd_open"),
            group(
                "signals",
                "kill tgkill rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait \
                 rt_sigtimedwait_time64 rt_sigreturn sigreturn sigaltstack restart_syscall",
            ),
            group("who one is", "getpid getppid gettid getpgid getpgrp getsid setpgid setsid"),
            group("locks and turns", "futex futex_time64 sched_yield"),
            ENDING,
        ],
    },
    Set {
        name: "set:runtime-crun",
        purpose: "what crun calls between loading the filter and the workload's exec",
        groups: &[
            group(
                "crun 1.8.1, 1.21 and 1.28 load the filter last, with no_new_privs",
                "close close_range execve",
            ),
            group(
                "without no_new_privs they load it before they give up their privileges and are started",
                "capset prctl pselect6 read rt_sigaction rt_sigprocmask setresgid setresuid write",
            ),
            group(
                "crun exec, which has more to do after that",
                "fchown fstat ioctl openat setgroups statx umask",
            ),
            group("a start that fails ends, and is told", "exit_group"),
        ],
    },
    Set {
        name: "set:runtime-runc",
        purpose: "what runc calls between loading the filter and the workload's exec",
        groups: &[
            group(
                "runc 1.1.5 closes what it has open, and tells its parent that it is ready",
                "close epoll_ctl execve fstatfs futex getdents64 getpid openat write",
            ),
            group(
                "runc 1.1.5 without no_new_privs loads the filter before it gives up its privileges",
                "capget capset chdir faccessat2 fchown fcntl fstat getcwd getppid newfstatat prctl read \
                 setgid setgroups setuid",
            ),
            group(
                "Go's runtime, by timing: signals between its threads, memory, waiting",
                "epoll_pwait madvise mmap munmap nanosleep rt_sigaction rt_sigprocmask rt_sigreturn \
                 sched_yield sigaltstack tgkill",
            ),
            group("runc 1.3.6 in addition", "close_range openat2 statx"),
            group(
                BASE_PROFILE,
                "arch_prctl brk exit_group getuid mprotect recvfrom set_tid_address",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_stand_in_order_and_name_calls() {
        assert!(Set::ALL.is_sorted_by(|one, other| one.name < other.name));
        for set in SETS {
            for group in set.groups {
                for name in group.calls.split_whitespace() {
                    assert!(Syscall::from_name(name).is_some(), "{}: {name}", set.name);
                }
            }
        }
        for set in Set::ALL {
            assert!(set.groups.iter().any(|group| group.calls().next().is_some()), "{}", set.name);
        }
        let service = Set::from_name("systemd:@system-service").unwrap();
        assert!(service.contains(Syscall::from_name("openat").unwrap()));
        assert!(!service.contains(Syscall::from_name("mount").unwrap()));
        for runtime in ["runc", "crun"] {
            let set = Set::from_name(&format!("set:runtime-{runtime}")).unwrap();
            let seen: Vec<&str> = Set::seen_of_runtime(&format!("{runtime} 1.2")).collect();
            assert!(seen.contains(&"execve") && !seen.contains(&"brk"), "{seen:?}");
            // What a runtime makes a container by it has done before the filter is there.
            for name in [
                "mount",
                "umount2",
                "pivot_root",
                "unshare",
                "setns",
                "clone",
                "clone3",
                "mknodat",
                "mkdirat",
                "symlinkat",
                "sethostname",
                "chroot",
                "bpf",
                "seccomp",
                "ptrace",
            ] {
                assert!(!set.contains(Syscall::from_name(name).unwrap()), "{runtime}: {name}");
            }
        }
        assert_eq!(Set::seen_of_runtime("other 1").count(), 0);
        let io = Set::from_name("set:io").unwrap();
        assert!(io.contains(Syscall::from_name("read").unwrap()));
        assert!(!io.contains(Syscall::from_name("openat").unwrap()));
    }
}
