//! The arguments and constants that conditions name: each means the value that the kernel's headers give
//! it, and is printed back by its name.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use strait_abi::Arch;
use strait_bpf::{Action, SeccompData};
use strait_policy::Policy;

/// A call, a condition, arguments with which it holds, and others with which it does not.
type Case = (&'static str, &'static str, [u64; 6], [u64; 6]);

const CASES: &[Case] = &[
    ("socket", "domain in {AF_UNIX, AF_INET, AF_INET6}", [10, 1, 0, 0, 0, 0], [16, 3, 0, 0, 0, 0]),
    // SOCK_NONBLOCK and SOCK_CLOEXEC are no part of the type.
    ("socket", "type & 0xf == SOCK_STREAM", [2, 0x80801, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0]),
    ("socket", "protocol == IPPROTO_TCP", [2, 1, 6, 0, 0, 0], [2, 1, 262, 0, 0, 0]),
    (
        "socketpair",
        "family == AF_UNIX and type == SOCK_SEQPACKET",
        [1, 5, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
    ),
    (
        "clone",
        "clone_flags & CLONE_NEWUSER == 0",
        [0x11, 0, 0, 0, 0, 0],
        [0x1000_0011, 0, 0, 0, 0, 0],
    ),
    ("unshare", "unshare_flags == CLONE_FS", [0x200, 0, 0, 0, 0, 0], [0x2_0000, 0, 0, 0, 0, 0]),
    ("setns", "flags == CLONE_NEWNET", [3, 0x4000_0000, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]),
    ("prctl", "option in {PR_SET_NAME, PR_GET_DUMPABLE}", [15, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0]),
    (
        "ioctl",
        "cmd in {TCGETS, TIOCGWINSZ, FIONBIO}",
        [0, 0x5401, 0, 0, 0, 0],
        [0, 0x5412, 0, 0, 0, 0],
    ),
    ("fcntl", "cmd in {F_GETFL, F_DUPFD_CLOEXEC}", [0, 1030, 0, 0, 0, 0], [0, 1024, 0, 0, 0, 0]),
    ("mmap", "prot & PROT_EXEC == 0", [0, 4096, 3, 0x22, 0, 0], [0, 4096, 7, 0x22, 0, 0]),
    ("mmap", "flags & MAP_SHARED == 0", [0, 4096, 3, 0x22, 0, 0], [0, 4096, 3, 0x21, 0, 0]),
    ("mprotect", "prot == PROT_READ|PROT_WRITE", [0, 0, 3, 0, 0, 0], [0, 0, 5, 0, 0, 0]),
    ("open", "flags & O_TRUNC == 0", [0, 0, 0, 0, 0, 0], [0, 0o1000, 0, 0, 0, 0]),
    // An int: the high half of the register is the caller's own.
    ("openat", "dfd == AT_FDCWD", [0xffff_ff9c, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]),
    ("openat", "flags & O_CREAT == 0", [3, 0, 0o2000, 0, 0, 0], [3, 0, 0o100, 0, 0, 0]),
    (
        "memfd_create",
        "flags == MFD_CLOEXEC|MFD_NOEXEC_SEAL",
        [0, 9, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
    ),
    ("personality", "personality == PER_LINUX", [0; 6], [8, 0, 0, 0, 0, 0]),
    ("madvise", "behavior == MADV_DONTNEED", [0, 0, 4, 0, 0, 0], [0, 0, 12, 0, 0, 0]),
    (
        "futex",
        "op & FUTEX_CMD_MASK in {FUTEX_WAIT, FUTEX_WAKE}",
        [0, 129, 0, 0, 0, 0],
        [0, 3, 0, 0, 0, 0],
    ),
    ("keyctl", "option == KEYCTL_READ", [11, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]),
    ("bpf", "cmd == BPF_MAP_CREATE", [0; 6], [5, 0, 0, 0, 0, 0]),
    ("ptrace", "request == PTRACE_TRACEME", [0; 6], [16, 0, 0, 0, 0, 0]),
    ("seccomp", "op == SECCOMP_GET_ACTION_AVAIL", [2, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
    ("arch_prctl", "option == ARCH_SET_FS", [0x1002, 0, 0, 0, 0, 0], [0x1001, 0, 0, 0, 0, 0]),
    (
        "setsockopt",
        "level == SOL_SOCKET and optname == SO_KEEPALIVE",
        [3, 1, 9, 0, 0, 0],
        [3, 6, 9, 0, 0, 0],
    ),
    ("kill", "sig in {SIGTERM, 0}", [1, 15, 0, 0, 0, 0], [1, 9, 0, 0, 0, 0]),
    ("mount", "flags & MS_BIND != 0", [0, 0, 0, 4096, 0, 0], [0, 0, 0, 0, 0, 0]),
];

#[test]
fn names_mean_what_the_kernel_takes_them_for() {
    let arch = Arch::X86_64;
    for &(name, when, holds, fails) in CASES {
        let text = format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
             default: errno(EPERM)\n  rules:\n    - {{syscalls: [{name}], when: \"{when}\", action: allow}}\n"
        );
        let policy = Policy::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let decision = policy.lower().unwrap().decision().unwrap();
        let number = strait_abi::Syscall::from_name(name).unwrap().number(arch).unwrap();
        let decided =
            |args| decision.decide(&SeccompData::new(arch.audit_arch(), number).with_args(args));
        assert_eq!(decided(holds), Action::Allow, "{name}: {when}");
        assert_eq!(decided(fails), Action::Errno(1), "{name}: {when}");
        // What is printed reads back as the same, with the names in it.
        let printed = policy.to_string();
        assert_eq!(Policy::parse(&printed).unwrap(), policy, "{printed}");
        for constant in when.split(|c: char| !(c.is_ascii_uppercase() || "_0123456789".contains(c)))
        {
            let is_name = constant.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(!is_name || printed.contains(constant), "{constant}: {printed}");
        }
    }
}

/// What a filter cannot see is said, with what to write instead.
#[test]
fn flags_in_memory_are_told_as_such() {
    let text = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
                default: errno(EPERM)\n  rules:\n    - {syscalls: [clone3], when: flags == 0, action: allow}\n";
    let error = Policy::parse(text).unwrap_err().to_string();
    assert!(error.contains("its flags stand in memory, which no filter can read"), "{error}");
    assert!(error.contains("errno(ENOSYS)"), "{error}");
}
