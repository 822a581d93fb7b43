//! One classic BPF instruction.

/// `struct sock_filter` (`include/uapi/linux/filter.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Insn {
    /// Class, size and mode, operation and source.
    pub code: u16,
    /// How many instructions to skip when the condition holds.
    pub jt: u8,
    /// How many instructions to skip when it does not.
    pub jf: u8,
    /// The constant operand.
    pub k: u32,
}
