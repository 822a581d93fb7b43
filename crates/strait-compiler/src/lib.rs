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
mod room;
mod runs;
mod search;
mod split;
mod tree;

use std::collections::BTreeMap;
use std::fmt;

use strait_abi::AuditArch;
use strait_bpf::{Action, Cost, Decision, Insn, Program, ProgramError, SeccompData, Undecided};
use strait_policy::Rules;
use strait_policy::recording::{Phase, Recording};

pub use room::Room;

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
    /// As much as can help: some seconds for a container's policy.
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

    /// Counts the calls of a recording on which a filter of the workload has to decide: also those
    /// that another filter denied then, not those made before a filter was loaded.
    pub fn add_recording(&mut self, recording: &Recording) {
        let calls = recording.calls().iter();
        for call in calls.filter(|call| call.phase != Some(Phase::BeforeFilter)) {
            let times = call.outcomes.count.saturating_add(call.outcomes.denied);
            self.add(call.arch.audit_arch(), call.nr, times);
        }
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
    /// Numbers, below 1024, that the kernel allows from its cache without running the program:
    /// all those whose calls are allowed whatever their arguments. Proved.
    pub const_allowed: usize,
    /// What program and rules both decide. Proved.
    pub decision: Decision,
}

impl Compiled {
    /// What the calls of `frequencies` cost, in executed instructions; a call that can pass is
    /// taken to be made with the least arguments with which it does.
    pub fn cost(&self, frequencies: &Frequencies) -> Cost {
        let calls = frequencies.calls.iter().map(|(&(arch, nr), &count)| {
            let passing = self.facts.decision.passing(arch, nr..=nr).next();
            (passing.unwrap_or(SeccompData::new(arch, nr)), count)
        });
        self.program.cost(calls)
    }
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
    #[error(
        "the program has {length} instructions, the kernel takes {max}; most room is taken by {}; \
         use fewer values and ranges there, or let it be split into a stack of filters",
        room.iter().map(Room::to_string).collect::<Vec<_>>().join(", "),
        max = Program::MAX_LEN
    )]
    TooLong {
        /// How long it would be.
        length: usize,
        /// What takes the most room, the largest first.
        room: Vec<Room>,
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
/// If the program would not fit the kernel's limit; [`compile_stack`] may do then. The other
/// errors are mistakes of this compiler that it noticed; no program is handed out then.
pub fn compile(rules: &Rules, options: &Options) -> Result<Compiled, CompileError> {
    let program = translate(rules, options)?;
    let proof = prove::prove(rules, std::slice::from_ref(&program))?;
    let facts = Facts {
        length: program.insns().len(),
        const_allowed: proof.const_allowed,
        decision: proof.decision,
    };
    Ok(Compiled { program, facts })
}

/// Compiles rules to as few programs as need be, and proves that as a stack they decide as the
/// rules do. The order in which they are installed does not matter.
///
/// # Errors
/// As for [`compile`], if what one number gets does not fit.
pub fn compile_stack(rules: &Rules, options: &Options) -> Result<Vec<Program>, CompileError> {
    let programs = split::translate(rules, options)?;
    prove::prove(rules, &programs)?;
    Ok(programs)
}

/// A program for rules, not yet proved.
fn translate(rules: &Rules, options: &Options) -> Result<Program, CompileError> {
    let order = data::byte_order(rules);
    let insns = instructions(rules, options);
    if insns.len() > Program::MAX_LEN {
        let room = room::largest(rules, options);
        return Err(CompileError::TooLong { length: insns.len(), room });
    }
    Ok(Program::with_byte_order(insns, order)?)
}

/// The instructions for rules, however many.
fn instructions(rules: &Rules, options: &Options) -> Vec<Insn> {
    let words = Words::of(data::byte_order(rules));
    let mut graph = Graph::default();
    let root = match options.level {
        Level::None => plain::rules(&mut graph, rules, words),
        Level::Speed | Level::Size => {
            let size = options.level == Level::Size;
            let aim = Aim { size, thorough: options.effort == Effort::Thorough };
            numbers::rules(&mut graph, rules, words, aim, options)
        }
    };
    layout::lay_out(&graph, root)
}
