//! The generated tables, and what their rows are made of.

pub(crate) mod constants;
mod numbers;
mod signatures;

pub(crate) use numbers::{AS_OF, ELSEWHERE, NUMBERS};
pub(crate) use signatures::{OTHERS, USUAL};

use crate::{Arch, KernelVersion};

/// A name, the release in which the call appeared, and its number on each arch in the order of
/// [`Arch::ALL`], or [`NONE`].
pub(crate) type NumberRow = (&'static str, Option<KernelVersion>, [u32; Arch::ALL.len()]);

/// The second cell of a row.
pub(crate) const fn since(major: u8, minor: u8) -> Option<KernelVersion> {
    Some(KernelVersion::new(major, minor))
}

/// No such call on that arch.
pub(crate) const NONE: u32 = u32::MAX;
