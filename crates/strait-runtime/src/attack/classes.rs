//! The classes of attack: what each is, when it aims at something that a policy forbids, why it
//! matters, and what closes it.

use std::net::Ipv4Addr;

use strait_abi::Arch;
use strait_bpf::Action;
use strait_kernel::attack::{Attack, Harmless};

use super::View;

/// A way around a policy.
#[derive(Debug)]
pub struct Class {
    /// Its name, stable.
    pub name: &'static str,
    /// What is tried, in one line.
    pub tries: &'static str,
    /// Why it matters that it comes through.
    pub why: &'static str,
    /// What to write into a policy against it.
    pub close: &'static str,
    /// The attack, or why it aims at nothing that the policy forbids.
    pub(super) aim: fn(&View<'_>) -> Result<Attack, &'static str>,
}

impl PartialEq for Class {
    fn eq(&self, other: &Class) -> bool {
        self.name == other.name
    }
}

impl Eq for Class {}

/// `AT_FDCWD`.
const AT_CWD: u64 = (-100_i64).cast_unsigned();
/// Some address of a path.
const PATH: u64 = 0x7000_0000_0000;
/// `O_WRONLY | O_CREAT`.
const WRITE: u64 = 0o101;
/// `CLONE_NEWUSER`.
const NEW_USER: u64 = 0x1000_0000;
/// Types of sockets.
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;
/// `TIOCSTI`.
const TIOCSTI: u64 = 0x5412;

/// Domains and types of sockets that a policy may forbid: AF_NETLINK raw, AF_INET datagram,
/// AF_INET6 datagram, AF_VSOCK stream, AF_ALG sequenced packets, AF_UNIX stream.
const SOCKETS: [(u32, u32); 6] = [(16, 3), (2, 2), (10, 2), (40, 1), (38, 5), (1, 1)];

impl Class {
    /// All of them.
    pub const ALL: &[Class] = &[
        Class {
            name: "io-uring-open",
            tries: "open a file by an operation of io_uring",
            why: "what a ring does never reaches a filter: every rule on opening files is void",
            close: "{syscalls: [io_uring_setup, io_uring_enter, io_uring_register], action: errno(ENOSYS)}",
            aim: |view| {
                if view.always("openat") {
                    return Err("every openat is allowed anyway");
                }
                Ok(Attack::IoUringOpen)
            },
        },
        Class {
            name: "io-uring-socket",
            tries: "make a socket by an operation of io_uring",
            why: "what a ring does never reaches a filter: every rule on sockets is void",
            close: "{syscalls: [io_uring_setup, io_uring_enter, io_uring_register], action: errno(ENOSYS)}",
            aim: |view| {
                if view.passes("socket", [2, 2, 0, 0, 0, 0]) {
                    return Err("internet sockets are allowed anyway");
                }
                Ok(Attack::IoUringSocket)
            },
        },
        Class {
            name: "i386-entry",
            tries: "make a call by int $0x80, with i386's number",
            why: "the other ABI's calls have other numbers, so none of the rules is about them",
            close: "leave i386 out of `architectures`, and `foreign: kill-process`",
            aim: |view| {
                if view.policy.architectures.contains(Arch::I386) {
                    return Err("i386 is among the policy's architectures");
                }
                Ok(Attack::I386Entry)
            },
        },
        Class {
            name: "x32-numbers",
            tries: "make a call by its x32 number",
            why: "x32's calls have numbers of their own, so none of the rules is about them",
            close: "leave x32 out of `architectures`, and `foreign: kill-process`",
            aim: |view| {
                if view.policy.architectures.contains(Arch::X32) {
                    return Err("x32 is among the policy's architectures");
                }
                Ok(Attack::X32Entry)
            },
        },
        Class {
            name: "high-bits-socket",
            tries: "make a forbidden socket with bit 32 of its domain set",
            why: "the kernel looks at 32 bits only: what the filter takes for another domain is the forbidden one",
            close: "compare `domain`, which has 32 bits, and not `arg0`, which has 64",
            aim: |view| {
                let denied = |&&(domain, kind): &&(u32, u32)| {
                    !view.passes("socket", [domain.into(), kind.into(), 0, 0, 0, 0])
                };
                match SOCKETS.iter().find(denied) {
                    Some(&(domain, kind)) => Ok(Attack::HighBitsSocket { domain, kind }),
                    None => Err("every kind of socket is allowed anyway"),
                }
            },
        },
        Class {
            name: "high-bits-ioctl",
            tries: "put a byte into the terminal's input, with bit 32 of the command set",
            why: "the kernel looks at 32 bits only: what the filter takes for another command is the forbidden one",
            close: "compare `cmd`, which has 32 bits, and not `arg1`, which has 64",
            aim: |view| {
                if view.passes("ioctl", [0, TIOCSTI, PATH, 0, 0, 0]) {
                    return Err("TIOCSTI is allowed anyway");
                }
                Ok(Attack::HighBitsIoctl)
            },
        },
        Class {
            name: "tiocsti",
            tries: "put a byte into the terminal's input, as if it had been typed there",
            why: "the shell that started the workload runs what the workload types",
            close: "{syscalls: [ioctl], when: \"cmd in {TIOCSTI, TIOCLINUX}\", action: errno(EPERM)}",
            aim: |_| Ok(Attack::Tiocsti),
        },
        Class {
            name: "clone3-namespace",
            tries: "make a user namespace by clone3, whose flags are in memory",
            why: "in a user namespace of its own a process has all capabilities, and reaches kernel code that only root reached before",
            close: "{syscalls: [clone3], action: errno(ENOSYS)}",
            aim: |view| {
                if view.passes("unshare", [NEW_USER, 0, 0, 0, 0, 0]) {
                    return Err("unshare may make user namespaces anyway");
                }
                Ok(Attack::Clone3Namespace)
            },
        },
        Class {
            name: "clone-namespace",
            tries: "make a user namespace by clone",
            why: "in a user namespace of its own a process has all capabilities, and reaches kernel code that only root reached before",
            close: "{syscalls: [clone], when: \"flags & (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) != 0\", action: errno(EPERM)}",
            aim: |view| {
                if view.passes("unshare", [NEW_USER, 0, 0, 0, 0, 0]) {
                    return Err("unshare may make user namespaces anyway");
                }
                Ok(Attack::CloneNamespace)
            },
        },
        Class {
            name: "openat2",
            tries: "open a file by openat2, whose flags are in memory, where openat may not",
            why: "the rules on openat are void",
            close: "{syscalls: [openat2], action: errno(ENOSYS)}",
            aim: |view| Ok(Attack::Openat2 { write: denied_open(view)? }),
        },
        Class {
            name: "open-twin",
            tries: "open a file by open, where openat may not",
            why: "the rules on openat are void",
            close: "give open and creat the rules that openat has",
            aim: |view| Ok(Attack::OpenTwin { write: denied_open(view)? }),
        },
        Class {
            name: "create-read-only",
            tries: "make a file by openat with O_RDONLY | O_CREAT, where it may not open to write",
            why: "what is not to change files fills folders, and takes names that others look for",
            close: "{syscalls: [openat, open], when: \"flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) != 0\", action: errno(EACCES)}",
            aim: |view| writing_is_denied(view, Attack::CreateReadOnly),
        },
        Class {
            name: "empty-read-only",
            tries: "empty a file by openat with O_RDONLY | O_TRUNC, where it may not open to write",
            why: "what is not to change files destroys what is in them",
            close: "{syscalls: [openat, open], when: \"flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) != 0\", action: errno(EACCES)}",
            aim: |view| writing_is_denied(view, Attack::EmptyReadOnly),
        },
        Class {
            name: "open-by-handle",
            tries: "open a directory by its handle",
            why: "a handle leads out of every mount namespace and past every rule on paths",
            close: "{syscalls: [open_by_handle_at], action: errno(EPERM)}",
            aim: |_| Ok(Attack::OpenByHandle),
        },
        Class {
            name: "execveat",
            tries: "execute a program by execveat, where execve may not",
            why: "the rules on execve are void",
            close: "{syscalls: [execveat], action: errno(EPERM)}",
            aim: |view| exec_is_denied(view, Attack::Execveat),
        },
        Class {
            name: "memfd-exec",
            tries: "write a program into a file without a path, and execute it",
            why: "a program that was never in a file system runs, and no control on files sees it",
            close: "{syscalls: [memfd_create], action: errno(EPERM)}, or deny execve",
            aim: |view| exec_is_denied(view, Attack::MemfdExec),
        },
        Class {
            name: "map-executable",
            tries: "run code from memory that is writable and executable",
            why: "an attacker brings any code, without a file and without execve",
            close: "{syscalls: [mmap], when: \"prot & PROT_EXEC != 0 and flags & MAP_ANONYMOUS != 0\", action: errno(EPERM)}",
            aim: |view| exec_is_denied(view, Attack::MapExecutable),
        },
        Class {
            name: "protect-executable",
            tries: "run code from memory that was made executable after it was written",
            why: "an attacker brings any code, without a file and without execve",
            close: "{syscalls: [mprotect, pkey_mprotect], when: \"prot & PROT_EXEC != 0\", action: errno(EPERM)}",
            aim: |view| exec_is_denied(view, Attack::ProtectExecutable),
        },
        Class {
            name: "map-file-executable",
            tries: "run code that was written into a new file, by mapping the file",
            why: "an attacker brings any code, without execve",
            close: "{syscalls: [mmap], when: \"prot & PROT_EXEC != 0\", action: errno(EPERM)}, in a step after the libraries are loaded; or forbid new files",
            aim: |view| exec_is_denied(view, Attack::MapFileExecutable),
        },
        Class {
            name: "proc-self-mem",
            tries: "write over its own code through /proc/self/mem",
            why: "that file heeds no protection of memory: an attacker brings any code, without execve",
            close: "{syscalls: [openat], when: \"flags & (O_WRONLY | O_RDWR) != 0\", action: errno(EACCES)}, with openat2 and open alike; or forbid writing to /proc",
            aim: |view| exec_is_denied(view, Attack::ProcSelfMem),
        },
        Class {
            name: "ptrace",
            tries: "trace another process of the same user",
            why: "whoever traces a process is that process, with its secrets and without this policy",
            close: "{syscalls: [ptrace], action: errno(EPERM)}",
            aim: |_| Ok(Attack::Ptrace),
        },
        Class {
            name: "process-vm-readv",
            tries: "read another process's memory",
            why: "the secrets of every process of the same user are in reach",
            close: "{syscalls: [process_vm_readv, process_vm_writev], action: errno(EPERM)}",
            aim: |_| Ok(Attack::ProcessVmRead),
        },
        Class {
            name: "proc-mem",
            tries: "read another process's memory through /proc/PID/mem",
            why: "the secrets of every process of the same user are in reach",
            close: CLOSE_PROC,
            aim: |_| Ok(Attack::ProcMem),
        },
        Class {
            name: "proc-environ",
            tries: "read another process's environment",
            why: "tokens and keys are in environments",
            close: CLOSE_PROC,
            aim: |_| Ok(Attack::ProcEnviron),
        },
        Class {
            name: "proc-root",
            tries: "go through another process's root directory",
            why: "it leads into other containers' files",
            close: CLOSE_PROC,
            aim: |_| Ok(Attack::ProcRoot),
        },
        Class {
            name: "setns",
            tries: "enter another process's namespace",
            why: "it leads into other containers, or out of this one",
            close: "{syscalls: [setns], action: errno(EPERM)}",
            aim: |_| Ok(Attack::Setns),
        },
        Class {
            name: "pidfd-getfd",
            tries: "take another process's open file",
            why: "connections, files and listeners of every process of the same user are in reach",
            close: "{syscalls: [pidfd_getfd], action: errno(EPERM)}",
            aim: |_| Ok(Attack::PidfdGetfd),
        },
        Class {
            name: "kcmp",
            tries: "compare what other processes share",
            why: "it tells the order of kernel addresses, which exploits need",
            close: "{syscalls: [kcmp], action: errno(EPERM)}",
            aim: |_| Ok(Attack::Kcmp),
        },
        Class {
            name: "signal-outside",
            tries: "send another process of the same user a signal",
            why: "whoever can signal a process can stop or end it",
            close: "isolation: {other-processes: deny}",
            aim: |view| others_are_denied(view, Attack::SignalOutside),
        },
        Class {
            name: "abstract-socket",
            tries: "connect to an abstract socket of another process",
            why: "such sockets have no file whose permissions would guard them",
            close: "isolation: {other-processes: deny}",
            aim: |view| others_are_denied(view, Attack::AbstractSocket),
        },
        Class {
            name: "exec-outside",
            tries: "execute a program that is not on the list",
            why: "an attacker brings any program",
            close: "leave the folder out of `exec.allow`",
            aim: |view| listed(view, Attack::ExecOutside),
        },
        Class {
            name: "loader",
            tries: "have the dynamic loader run a program that is not on the list",
            why: "the loader maps what it can read: the list does not hold for it",
            close: "{syscalls: [execve], action: errno(EACCES)}, or list statically linked programs only",
            aim: |view| listed(view, Attack::Loader),
        },
        Class {
            name: "connect-outside",
            tries: "connect to an address that is on no list",
            why: "an attacker reaches whatever this machine reaches, and takes along what it found",
            close: "leave the address out of `network.connect`",
            aim: |view| addresses_are_decided(view).map(Attack::Connect),
        },
        Class {
            name: "argument-rewrite",
            tries: "connect to a permitted address that another thread exchanges while it is decided about",
            why: "what was looked at is not what the kernel connects to: the list does not hold",
            close: "nothing: Strait's supervisor connects to what it has read itself",
            aim: |view| {
                let to = addresses_are_decided(view)?;
                if !view.passes("getpeername", [3, PATH, PATH, 0, 0, 0]) {
                    return Err("without getpeername it would not be seen");
                }
                let shown = view.permitted().ok_or("`network` permits no address of IPv4")?;
                Ok(Attack::RewriteAddress { to, shown })
            },
        },
        Class {
            name: "mptcp",
            tries: "connect to an address that is on no list by MPTCP",
            why: "rules on TCP say nothing about it, and the other side names further addresses",
            close: "{syscalls: [socket], when: \"protocol == IPPROTO_MPTCP\", action: errno(EPROTONOSUPPORT)}",
            aim: |view| addresses_are_decided(view).map(Attack::ConnectMultipath),
        },
        Class {
            name: "inherited-socket",
            tries: "connect a socket that was there before the filter",
            why: "a socket that a workload was given leads to every address: that it may make none does not matter",
            close: "{syscalls: [connect], action: errno(EACCES)}, or `network`",
            aim: |view| sockets_are_confined(view, SOCK_STREAM).map(Attack::ConnectInherited),
        },
        Class {
            name: "inherited-datagram",
            tries: "send from a datagram socket that was there before the filter to an address of its own choice",
            why: "a socket that a workload was given leads to every address: that it may connect to none does not matter",
            close: "{syscalls: [sendto], when: \"addr != 0\", action: errno(EACCES)}, {syscalls: [sendmsg, sendmmsg], action: errno(EACCES)}, or `network`",
            aim: |view| {
                let to = sockets_are_confined(view, SOCK_DGRAM)?;
                // Where the first is closed the other may not be.
                let by_sendto = view.may_pass("sendto", [3, PATH, 1, 0, PATH, 16]);
                let by_sendmsg = view.may_pass("sendmsg", [3, PATH, 0, 0, 0, 0]);
                Ok(Attack::SendInherited { to, message: by_sendmsg && !by_sendto })
            },
        },
        Class {
            name: "fast-open",
            tries: "connect by sendto with MSG_FASTOPEN, where connect may not",
            why: "the rules on connect are void",
            close: "{syscalls: [sendto, sendmsg, sendmmsg], when: \"flags & MSG_FASTOPEN != 0\", action: errno(EOPNOTSUPP)}",
            aim: |view| {
                let to = view.out_of_reach()?;
                connect_is_denied(view, Attack::FastOpen(to))
            },
        },
        Class {
            name: "unix-datagram",
            tries: "send a datagram to a socket file, where connect may not",
            why: "daemons that listen to datagrams (logging, service managers) are in reach without connect",
            close: "{syscalls: [socket, socketpair], when: \"domain == AF_UNIX and type & 0xf == SOCK_DGRAM\", action: errno(EPERM)}",
            aim: |view| connect_is_denied(view, Attack::UnixDatagram),
        },
        Class {
            name: "nested-listener",
            tries: "load a filter with a listener of its own, and let a notified call pass itself",
            why: "of filters that agree the newest one's listener is asked: the supervisor never hears of it",
            close: "{syscalls: [seccomp], action: errno(EPERM)}, or at least `flags & SECCOMP_FILTER_FLAG_NEW_LISTENER`",
            aim: |view| notified(view).map(Attack::NestedListener),
        },
        Class {
            name: "dead-supervisor",
            tries: "make a notified call while nobody answers",
            why: "whoever ends the supervisor is free",
            close: "nothing: the kernel answers ENOSYS",
            aim: |view| notified(view).map(Attack::Unanswered),
        },
        Class {
            name: "early-thread",
            tries: "make a forbidden call on a thread that was there before the filter",
            why: "a filter is on threads: one that has none does everything",
            close: "nothing: Strait loads filters onto all threads",
            aim: |view| {
                let denied = |call: &Harmless| {
                    let action = call.data().map(|data| view.decision.decide(&data));
                    matches!(
                        action,
                        Some(Action::Errno(_) | Action::KillProcess | Action::KillThread)
                    )
                };
                let call = Harmless::ALL.into_iter().find(denied);
                call.map(Attack::EarlyThread).ok_or("none of the calls that are tried is forbidden")
            },
        },
    ];
}

const CLOSE_PROC: &str = "isolation: {other-processes: deny}";

/// Whether it is opening to write that is denied, or else to read.
fn denied_open(view: &View<'_>) -> Result<bool, &'static str> {
    if !view.passes("openat", [AT_CWD, PATH, WRITE, 0o600, 0, 0]) {
        Ok(true)
    } else if !view.passes("openat", [AT_CWD, PATH, 0, 0, 0, 0]) {
        Ok(false)
    } else {
        Err("openat may read and write anyway")
    }
}

fn writing_is_denied(view: &View<'_>, attack: Attack) -> Result<Attack, &'static str> {
    match denied_open(view)? {
        true => Ok(attack),
        false => Err("openat may write anyway"),
    }
}

/// An address that a supervisor is to keep from.
fn addresses_are_decided(view: &View<'_>) -> Result<Ipv4Addr, &'static str> {
    match view.policy.network {
        Some(_) => view.out_of_reach(),
        None => Err("the policy has no list of addresses"),
    }
}

/// An address that is to be out of reach for want of an internet socket of this type or of a connection.
fn sockets_are_confined(view: &View<'_>, kind: u64) -> Result<Ipv4Addr, &'static str> {
    let made = view.passes("socket", [2, kind, 0, 0, 0, 0]);
    if view.policy.network.is_none() && made && view.always("connect") {
        return Err("such sockets may be made and connected anyway");
    }
    view.out_of_reach()
}

fn others_are_denied(view: &View<'_>, attack: Attack) -> Result<Attack, &'static str> {
    if view.policy.isolation.other_processes {
        Ok(attack)
    } else {
        Err("the policy does not ask to be kept away from other processes")
    }
}

fn listed(view: &View<'_>, attack: Attack) -> Result<Attack, &'static str> {
    match view.policy.exec {
        Some(_) => Ok(attack),
        None => Err("the policy has no list of what may be executed"),
    }
}

fn exec_is_denied(view: &View<'_>, attack: Attack) -> Result<Attack, &'static str> {
    if view.always("execve") && view.policy.exec.is_none() {
        Err("programs may be executed anyway")
    } else {
        Ok(attack)
    }
}

fn connect_is_denied(view: &View<'_>, attack: Attack) -> Result<Attack, &'static str> {
    if view.always("connect") { Err("every connect is allowed anyway") } else { Ok(attack) }
}

/// A call that the policy notifies.
fn notified(view: &View<'_>) -> Result<Harmless, &'static str> {
    let is_notified = |call: &Harmless| {
        call.data().is_some_and(|data| view.decision.decide(&data) == Action::Notify)
    };
    let call = Harmless::ALL.into_iter().find(is_notified);
    call.ok_or("none of the calls that are tried is notified")
}
