//! What seccomp-BPF programs mean.
//!
//! A [`Program`] is a list of classic BPF instructions that the kernel would accept as a filter;
//! nothing else can be one. Running it over a [`SeccompData`] gives an [`Action`].
//!
//! The crate does no I/O and shares no code with the compiler whose output it judges.
#![forbid(unsafe_code)]

mod action;
mod assembler;
mod const_allow;
mod cost;
mod data;
mod decision;
mod file;
mod insn;
mod listing;
mod program;

pub use action::{Action, UnknownAction};
pub use assembler::AssembleError;
pub use cost::Cost;
pub use data::{ByteOrder, SeccompData};
pub use decision::{
    Answer, ArchSpan, ArchSpans, Arguments, Budget, Builder, CallSpan, CallSpans, Cmp, Comparison,
    Constraint, Decision, Difference, Exhausted, Field, Outcome, Predicate, Region, Relation,
    Undecided, Values,
};
pub use file::FileError;
pub use insn::{Alu, Cell, Insn, InsnError, Jump, Op, Operand};
pub use listing::{Line, Listing, Token};
pub use program::{Program, ProgramError, Run};
