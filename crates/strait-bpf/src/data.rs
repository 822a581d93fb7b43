//! What a filter sees of a call.

use strait_abi::AuditArch;

/// `struct seccomp_data` (`include/uapi/linux/seccomp.h`): all that a filter sees of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeccompData {
    /// The number of the call; the kernel has it as `int`, a filter compares it unsigned.
    pub nr: u32,
    /// The ABI that the call came in by.
    pub arch: AuditArch,
    /// Where the call was made, as the kernel read it from the registers.
    pub instruction_pointer: u64,
    /// The six arguments as full registers; many calls use only the low half.
    pub args: [u64; 6],
}

impl SeccompData {
    /// `sizeof(struct seccomp_data)` in bytes.
    pub const SIZE: u32 = 64;
}
