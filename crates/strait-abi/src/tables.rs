//! The generated tables, and what their rows are made of.

mod numbers;

pub(crate) use numbers::{AS_OF, NUMBERS};

use crate::Arch;

/// A name, and its number on each arch in the order of [`Arch::ALL`], or [`NONE`].
pub(crate) type NumberRow = (&'static str, [u32; Arch::ALL.len()]);

/// No such call on that arch.
pub(crate) const NONE: u32 = u32::MAX;
