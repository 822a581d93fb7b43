//! What conditions need to know of a call's arguments: which they are, how wide the kernel takes
//! them, and which constants they take.

use strait_abi::{Arch, Syscall};

use crate::rules::Width;

/// An argument of a call on one ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    /// Its index, 0 to 5.
    pub(crate) index: u8,
    /// How much of it is compared.
    pub(crate) width: Width,
}

/// The argument that a condition names: by its name, or as a register.
pub(crate) fn argument(_call: Option<Syscall>, arch: Arch, name: &str) -> Option<Argument> {
    register(name).map(|index| Argument { index, width: register_width(arch) })
}

/// The names of the call's arguments, in order.
pub(crate) fn argument_names(_call: Option<Syscall>) -> Vec<&'static str> {
    Vec::new()
}

/// The constant of that name that the argument takes.
pub(crate) fn constant(
    _call: Option<Syscall>,
    _argument: &Argument,
    _arch: Arch,
    _name: &str,
) -> Option<u64> {
    None
}

/// A constant that an unknown one may be meant to be.
pub(crate) fn nearest_constant(
    _call: Option<Syscall>,
    _argument: &Argument,
    _name: &str,
) -> Option<String> {
    None
}

/// `arg0` to `arg5`.
pub(crate) fn register(name: &str) -> Option<u8> {
    match name.strip_prefix("arg")?.as_bytes() {
        [digit @ b'0'..=b'5'] => Some(digit - b'0'),
        _ => None,
    }
}

/// The registers of 32-bit ABIs have 32 bits; `seccomp_data` has the upper half 0.
pub(crate) fn register_width(arch: Arch) -> Width {
    match arch {
        Arch::I386 | Arch::Arm => Width::W32,
        _ => Width::W64,
    }
}
