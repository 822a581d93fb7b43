//! The generated tables, and what their rows are made of.

pub(crate) mod constants;
mod numbers;
mod signatures;

pub(crate) use numbers::{AS_OF, NUMBERS};
pub(crate) use signatures::{OTHERS, USUAL};

use crate::Arch;

/// A name, and its number on each arch in the order of [`Arch::ALL`], or [`NONE`].
pub(crate) type NumberRow = (&'static str, [u32; Arch::ALL.len()]);

/// No such call on that arch.
pub(crate) const NONE: u32 = u32::MAX;
