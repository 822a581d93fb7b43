//! Where the words of `struct seccomp_data` are (`include/uapi/linux/seccomp.h`).

use strait_abi::AuditArch;

/// The byte at which the number is.
pub(crate) const NR: u32 = 0;
/// The byte at which the audit arch is.
pub(crate) const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Where the halves of an argument are, which is a matter of byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Words {
    low: u32,
}

impl Words {
    /// The byte order of an audit arch is bit 30 of its value (`__AUDIT_ARCH_LE` in
    /// `include/uapi/linux/audit.h`).
    pub(crate) fn of(arch: AuditArch) -> Words {
        Words { low: if arch.raw() & 0x4000_0000 != 0 { 0 } else { 4 } }
    }

    /// The byte at which the low half of argument `arg` is.
    pub(crate) fn low(self, arg: u8) -> u32 {
        ARGS + 8 * u32::from(arg) + self.low
    }

    /// The byte at which the high half of argument `arg` is.
    pub(crate) fn high(self, arg: u8) -> u32 {
        ARGS + 8 * u32::from(arg) + 4 - self.low
    }
}
