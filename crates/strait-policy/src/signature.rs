//! What conditions need to know of a call's arguments: which they are, how wide the kernel takes
//! them, and which constants they take.

use strait_abi::{Arch, ConstantSet, Syscall};

use crate::rules::Width;
use crate::text::nearest;

/// An argument of a call on one ABI, as a condition means it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    /// Its index, 0 to 5.
    pub(crate) index: u8,
    /// The bits that are compared: those that the kernel takes, or the whole register.
    pub(crate) bits: u64,
    /// The names of its values.
    pub(crate) constants: Option<&'static ConstantSet>,
}

impl Argument {
    /// How much of the register is compared.
    pub(crate) fn width(&self) -> Width {
        if self.bits >> 32 == 0 { Width::W32 } else { Width::W64 }
    }
}

/// The argument that a condition names: by its name, or as a register.
pub(crate) fn argument(call: Option<Syscall>, arch: Arch, name: &str) -> Option<Argument> {
    if let Some(index) = register(name) {
        let args = call.and_then(|call| call.args(arch)).unwrap_or_default();
        let constants = args.get(usize::from(index)).and_then(|arg| arg.constants());
        return Some(Argument { index, bits: register_width(arch).mask(), constants });
    }
    let (index, arg) = call?.arg(arch, name)?;
    let index = u8::try_from(index).ok()?;
    Some(Argument { index, bits: arg.width(arch).mask(), constants: arg.constants() })
}

/// The names of the call's arguments, in order.
pub(crate) fn argument_names(call: Option<Syscall>, arch: Arch) -> Vec<&'static str> {
    let args = call.and_then(|call| call.args(arch)).unwrap_or_default();
    args.iter().map(|arg| arg.name()).collect()
}

/// A constant that an unknown one may be meant to be.
pub(crate) fn nearest_constant(argument: &Argument, arch: Arch, name: &str) -> Option<String> {
    nearest(name, argument.constants?.iter(arch).map(|(known, _)| known))
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
    if arch.is_64_bit() { Width::W64 } else { Width::W32 }
}
