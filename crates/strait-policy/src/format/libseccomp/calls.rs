//! Which numbers libseccomp has for a name on an ABI: its own, and those of `socketcall` and `ipc`.

use strait_abi::{Arch, KernelVersion, Syscall};

/// The call's number on an ABI, to a library that knows the calls of this kernel.
pub(in crate::format) fn number(
    call: Syscall,
    arch: Arch,
    library: Option<KernelVersion>,
) -> Option<u32> {
    let late = arch == Arch::X32 && LATE_ON_X32.contains(&call.name());
    let knows = !late || library.is_none_or(|library| library >= KernelVersion::new(6, 10));
    call.number(arch).filter(|_| knows)
}

/// Calls that x32 got later than x86_64 did (`arch/x86/entry/syscalls/syscall_64.tbl`).
const LATE_ON_X32: &[&str] = &["map_shadow_stack", "uretprobe"];

/// Whether calls of the ABI can be made by `socketcall` and `ipc` too.
pub(super) fn has_multiplexers(arch: Arch) -> bool {
    matches!(arch, Arch::I386 | Arch::Ppc64le | Arch::S390x)
}

/// The number of `socketcall` or `ipc`, and the operation, by which a call can be made too.
pub(super) fn multiplexed(name: &str, arch: Arch) -> Option<(u32, u64)> {
    if !has_multiplexers(arch) {
        return None;
    }
    let find = |gate: &str, table: &[(&str, u64)]| {
        let (_, operation) = table.iter().find(|(call, _)| *call == name)?;
        Some((Syscall::from_name(gate)?.number(arch)?, *operation))
    };
    find("socketcall", SOCKETCALL).or_else(|| find("ipc", IPC))
}

/// `include/uapi/linux/net.h`, `SYS_*`.
const SOCKETCALL: &[(&str, u64)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// `include/uapi/linux/ipc.h`.
const IPC: &[(&str, u64)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
