//! What seccomp-BPF programs mean.
//!
//! A [`Program`] is a list of classic BPF instructions that the kernel would accept as a filter;
//! nothing else can be one. Running it over a [`SeccompData`] gives an [`Action`]; [`run_stack`]
//! runs several as the kernel does. A [`Decision`] is what a program, a stack, or anything that
//! makes one with a [`Builder`], decides for all inputs: two of them are equal exactly if they
//! decide alike, and if not, there is a call that shows it.
//!
//! ```
//! use strait_bpf::{Decision, Program, Relation};
//!
//! let chain = Program::assemble("ld [nr]
//!                                jeq #1, yes, next
//!                                jeq #2, yes, next
//!                                ret errno(1)
//!                           yes: ret allow")?;
//! let range = Program::assemble("ld [nr]
//!                                sub #1
//!                                jgt #2, next, yes   ; one too many
//!                                ret errno(1)
//!                           yes: ret allow")?;
//! let comparison = Decision::of(&chain)?.compare(&Decision::of(&range)?)?;
//! assert_eq!(comparison.order, Relation::Tighter);
//! let witness = comparison.differences[0].witness;
//! assert_eq!(witness.nr, 3);
//! assert_ne!(chain.run(&witness), range.run(&witness));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Programs are read from and written to raw files of either byte order ([`Program::from_bytes`]),
//! hexadecimal, C and Rust arrays, and the text of a disassembler and assembler
//! ([`Program::listing`], [`Program::assemble`]).
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
mod stack;

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
pub use stack::{Answered, run_stack};
