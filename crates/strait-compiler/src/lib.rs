//! Rules to the best seccomp-BPF program there is.
//!
//! [`compile`] turns [`Rules`] into a [`Program`] that decides as they do for every input, and
//! proves it before it hands it out: an unproved program cannot leave this crate.
//!
//! What "best" means, in this order: every call that is allowed whatever its arguments is
//! *const-allow*, so that the kernel answers it from its bitmap cache; the fewest executed
//! instructions, by how often calls are made; the shortest program.
//!
//! The crate does no I/O.
#![forbid(unsafe_code)]

mod bits;
mod blocks;
mod data;
mod function;
mod graph;
mod hash;
mod layout;
mod numbers;
mod plain;
mod prove;
mod tree;

use std::collections::BTreeMap;
use std::fmt;

use strait_abi::AuditArch;
use strait_bpf::{Action, Program, ProgramError, SeccompData, Undecided};
use strait_policy::Rules;

use data::Words;
use graph::Graph;
use tree::Aim;

/// What to optimise for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Nothing: the program that is plainly right, for comparison.
    None,
    /// Fewest executed instructions, then fewest instructions.
    #[default]
    Speed,
    /// Fewest instructions, then fewest executed.
    Size,
}

/// How much work to put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Effort {
    /// A millisecond or so for a container's policy.
    #[default]
    Quick,
    /// As much as can help; some hundred times that.
    Thorough,
}

/// How often each call is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frequencies {
    calls: BTreeMap<(AuditArch, u32), u64>,
}

impl Frequencies {
    /// No call at all.
    pub fn new() -> Frequencies {
        Frequencies::default()
    }

    /// Counts `times` more calls of this number.
    pub fn add(&mut self, arch: AuditArch, nr: u32, times: u64) {
        let count = self.calls.entry((arch, nr)).or_default();
        *count = count.saturating_add(times);
    }
}

/// How to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What to optimise for.
    pub level: Level,
    /// How much work to put in.
    pub effort: Effort,
    /// How often each call is made; without it, every known call that may pass is made equally
    /// often.
    pub frequencies: Option<Frequencies>,
}

/// A proved program and facts about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The program; it decides as the rules do.
    pub program: Program,
    /// What is known about it.
    pub facts: Facts,
}

/// Facts about a compiled program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// Instructions.
    pub length: usize,
}

/// A call on which a program decides otherwise than its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The call.
    pub data: SeccompData,
    /// What the rules say.
    pub intended: Action,
    /// What the program does.
    pub actual: Action,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SeccompData { nr, arch, args, .. } = &self.data;
        write!(
            f,
            "call {nr:#x} of {arch} with arguments {args:#x?} gets {} and should get {}",
            self.actual, self.intended
        )
    }
}

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The program would be longer than the kernel takes.
    #[error("the program has {length} instructions, the kernel takes {max}", max = Program::MAX_LEN)]
    TooLong {
        /// How long it would be.
        length: usize,
    },
    /// The kernel would refuse the program: a mistake in this compiler.
    #[error("the compiler made a program that the kernel would refuse (please report this)")]
    Refused(#[from] ProgramError),
    /// The program decides otherwise than the rules: a mistake in this compiler.
    #[error("the compiler made a wrong program (please report this): {witness}")]
    Unproved {
        /// A call that shows it.
        witness: Witness,
    },
    /// The kernel would run the program for a call that it could answer from its cache: a mistake
    /// in this compiler.
    #[error(
        "the compiler made a program that runs for call {nr} of {arch}, which is always allowed \
         (please report this)"
    )]
    Uncached {
        /// The audit arch of the call.
        arch: AuditArch,
        /// Its number.
        nr: u32,
    },
    /// Whether the program decides as the rules do could not be found out within the budget.
    #[error("the program cannot be proved: its conditions are too intricate; use simpler ones")]
    Undecided(#[from] Undecided),
}

/// Compiles rules to a program and proves it.
///
/// # Errors
/// If the program would not fit the kernel's limit. The other errors are mistakes of this compiler
/// that it noticed; no program is handed out then.
pub fn compile(rules: &Rules, options: &Options) -> Result<Compiled, CompileError> {
    let order = data::byte_order(rules);
    let words = Words::of(order);
    let mut graph = Graph::default();
    let root = match options.level {
        Level::None => plain::rules(&mut graph, rules, words),
        Level::Speed | Level::Size => {
            let size = options.level == Level::Size;
            let thorough = options.effort == Effort::Thorough;
            // Frequencies make more of the places for a split worth a look.
            let window = if options.frequencies.is_some() { 8 } else { 2 };
            let aim = Aim { size, thorough, window: if thorough { 4 } else { window } };
            numbers::rules(&mut graph, rules, words, aim, options)
        }
    };
    let insns = layout::lay_out(&graph, root);
    if insns.len() > Program::MAX_LEN {
        return Err(CompileError::TooLong { length: insns.len() });
    }
    let program = Program::with_byte_order(insns, order)?;
    prove::prove(rules, std::slice::from_ref(&program))?;
    let facts = Facts { length: program.insns().len() };
    Ok(Compiled { program, facts })
}
