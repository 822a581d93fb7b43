//! The verbs, one file each.

pub mod attack;
pub mod check;
pub mod compile;
pub mod completions;
pub mod convert;
pub mod disasm;
pub mod generate;
pub mod inspect;
pub mod man;
pub mod prove;
pub mod record;
pub mod run;
pub mod sets;
pub mod tighten;
pub mod verify;
