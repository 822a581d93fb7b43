//! The verbs, one file each.

pub mod attack;
pub mod check;
pub mod compile;
pub mod completions;
pub mod containers;
pub mod convert;
pub mod diff;
pub mod disasm;
pub mod explain;
pub mod explain_code;
pub mod generate;
pub mod inspect;
pub mod man;
pub mod merge;
pub mod prove;
pub mod record;
pub mod replay;
pub mod report;
pub mod run;
pub mod score;
pub mod sets;
pub mod tighten;
pub mod verify;
