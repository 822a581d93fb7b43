//! Reading a decision: by arch, by number, then what is left to the arguments.

use std::collections::BTreeSet;

use strait_abi::AuditArch;

use super::Decision;
use super::diagram::{Diagram, Intervals};
use super::store::{Ref, Var};
use crate::{Action, SeccompData};

impl Decision {
    /// Consecutive spans of audit arches that together cover all of them, neighbours with
    /// different decisions.
    ///
    /// There are few for all filters that people write, but a program that looks at single bits of
    /// the arch can have up to 2³¹; the iterator makes them one by one.
    pub fn arches(&self) -> ArchSpans<'_> {
        let diagram = &self.diagram;
        ArchSpans { diagram, intervals: diagram.intervals(diagram.root(), Var::ARCH, 32) }
    }

    /// Consecutive spans of the numbers of one arch that together cover all of them, neighbours
    /// with different answers. As lazy as [`Decision::arches`], for the same reason.
    pub fn calls(&self, arch: AuditArch) -> CallSpans<'_> {
        let diagram = &self.diagram;
        CallSpans::below(diagram, diagram.with_word(diagram.root(), Var::ARCH, arch.raw()))
    }

    /// What one call gets.
    pub fn answer(&self, arch: AuditArch, nr: u32) -> Answer<'_> {
        let diagram = &self.diagram;
        let calls = diagram.with_word(diagram.root(), Var::ARCH, arch.raw());
        Answer::at(diagram, diagram.with_word(calls, Var::NR, nr))
    }
}

/// The iterator of [`Decision::arches`].
#[derive(Clone, Debug)]
pub struct ArchSpans<'d> {
    diagram: &'d Diagram,
    intervals: Intervals<'d>,
}

/// Audit arches next to each other that are decided alike.
#[derive(Clone, Debug)]
pub struct ArchSpan<'d> {
    /// The first.
    pub first: AuditArch,
    /// The last.
    pub last: AuditArch,
    diagram: &'d Diagram,
    at: Ref,
}

impl<'d> Iterator for ArchSpans<'d> {
    type Item = ArchSpan<'d>;

    fn next(&mut self) -> Option<ArchSpan<'d>> {
        let (first, last, at) = self.intervals.next()?;
        let (first, last) = (AuditArch::from_raw(low(first)), AuditArch::from_raw(low(last)));
        Some(ArchSpan { first, last, diagram: self.diagram, at })
    }
}

impl<'d> ArchSpan<'d> {
    /// The calls of each of these arches, as [`Decision::calls`].
    pub fn calls(&self) -> CallSpans<'d> {
        CallSpans::below(self.diagram, self.at)
    }
}

/// The iterator of [`Decision::calls`].
#[derive(Clone, Debug)]
pub struct CallSpans<'d> {
    diagram: &'d Diagram,
    intervals: Intervals<'d>,
}

/// Numbers next to each other that are answered alike.
#[derive(Clone, Debug)]
pub struct CallSpan<'d> {
    /// The first number.
    pub first: u32,
    /// The last number.
    pub last: u32,
    /// What they get.
    pub answer: Answer<'d>,
}

impl<'d> CallSpans<'d> {
    fn below(diagram: &'d Diagram, at: Ref) -> Self {
        CallSpans { diagram, intervals: diagram.intervals(at, Var::NR, 32) }
    }
}

impl<'d> Iterator for CallSpans<'d> {
    type Item = CallSpan<'d>;

    fn next(&mut self) -> Option<CallSpan<'d>> {
        let (first, last, at) = self.intervals.next()?;
        let answer = Answer::at(self.diagram, at);
        Some(CallSpan { first: low(first), last: low(last), answer })
    }
}

/// What a call of a known arch and number gets.
#[derive(Clone, Debug)]
pub enum Answer<'d> {
    /// Always this action.
    Always(Action),
    /// That depends on the arguments, or on the instruction pointer.
    Depends(Arguments<'d>),
}

impl<'d> Answer<'d> {
    fn at(diagram: &'d Diagram, at: Ref) -> Self {
        match diagram.verdict(at) {
            Some(raw) => Answer::Always(Action::from_raw(raw)),
            None => Answer::Depends(Arguments { diagram, at }),
        }
    }

    /// Equal for two answers of one decision exactly if they say the same.
    pub(super) fn place(&self) -> Result<Action, Ref> {
        match self {
            Answer::Always(action) => Ok(*action),
            Answer::Depends(arguments) => Err(arguments.at),
        }
    }

    /// The action, if there is only one.
    pub fn always(&self) -> Option<Action> {
        match self {
            Answer::Always(action) => Some(*action),
            Answer::Depends(_) => None,
        }
    }

    /// Every action that the call can get.
    pub fn actions(&self) -> BTreeSet<Action> {
        match self {
            Answer::Always(action) => BTreeSet::from([*action]),
            Answer::Depends(arguments) => arguments.actions(),
        }
    }
}

/// How an answer depends on the arguments.
#[derive(Clone, Debug)]
pub struct Arguments<'d> {
    pub(super) diagram: &'d Diagram,
    pub(super) at: Ref,
}

impl Arguments<'_> {
    /// Every action that the call can get; at least two.
    pub fn actions(&self) -> BTreeSet<Action> {
        let base = SeccompData::new(AuditArch::from_raw(0), 0);
        let all = self.diagram.witnesses(self.at, base, usize::MAX);
        all.into_iter().map(|(raw, _)| Action::from_raw(raw)).collect()
    }

    /// A call with the arch and number of `call` that gets an action which `wanted` accepts, if any
    /// does: the least arguments of one such action.
    pub fn witness(
        &self,
        call: SeccompData,
        mut wanted: impl FnMut(Action) -> bool,
    ) -> Option<SeccompData> {
        let base = SeccompData::new(call.arch, call.nr);
        let all = self.diagram.witnesses(self.at, base, usize::MAX);
        all.into_iter().find(|&(raw, _)| wanted(Action::from_raw(raw))).map(|(_, call)| call)
    }
}

/// The value of a 32-bit interval's end.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
