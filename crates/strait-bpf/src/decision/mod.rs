//! Decisions: what a filter, a stack of them or rules mean, for all inputs.

mod builder;
mod compare;
mod diagram;
mod pfc;
mod regions;
mod spans;
mod store;
mod symbolic;
mod terms;

use std::collections::BTreeSet;

use strait_abi::AuditArch;

pub use builder::{Builder, Cmp, Field, Outcome, Predicate};
pub use compare::{Comparison, Difference, Relation};
pub use regions::{Constraint, Region, Values};
pub use spans::{Answer, ArchSpan, ArchSpans, Arguments, CallSpan, CallSpans};

use self::diagram::Diagram;
use self::store::Store;
use crate::{Action, Program, SeccompData};

/// A total function from [`SeccompData`] to [`Action`], in canonical form: two decisions are equal
/// exactly if they decide every call alike.
///
/// It is a decision diagram over the bits of `seccomp_data`. For the filters that people write it
/// is small, a node or two for each bit that matters; functions that multiply or compare arguments
/// with each other can be too large to be made, which is then reported as [`Undecided`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The verdicts are [`Action::raw`].
    diagram: Diagram,
}

/// How much work a decision may take before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many diagram nodes may be made; each takes some 40 bytes with its indexes.
    pub nodes: usize,
    /// How many steps may be done; each takes some 10 to 100 nanoseconds.
    pub steps: u64,
}

impl Budget {
    /// Some 40 times what the largest filter known in the field needs, under a second of work and
    /// 100 MB at worst.
    pub const DEFAULT: Budget = Budget { nodes: 1 << 20, steps: 1 << 23 };
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::DEFAULT
    }
}

/// What was asked for could not be decided within the budget. Nothing is known then: not that two
/// things are equal, nor that they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("undecided: {exhausted}{}", at(*instruction))]
pub struct Undecided {
    /// What ran out.
    pub exhausted: Exhausted,
    /// The instruction, counted from 0, that the work was about, if it was about one.
    pub instruction: Option<usize>,
}

fn at(instruction: Option<usize>) -> String {
    instruction.map_or(String::new(), |index| format!(" at instruction {index}"))
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Exhausted {
    /// [`Budget::nodes`]: the partition of the inputs is too intricate.
    #[error("more than {0} diagram nodes are needed")]
    Nodes(usize),
    /// [`Budget::steps`]: there are too many ways through.
    #[error("more than {0} steps are needed")]
    Steps(u64),
    /// What can be written down: a person would not read so many conditions.
    #[error("more than {0} conditions would have to be written")]
    Conditions(usize),
}

impl Exhausted {
    fn at(self, instruction: usize) -> Undecided {
        Undecided { exhausted: self, instruction: Some(instruction) }
    }
}

impl From<Exhausted> for Undecided {
    fn from(exhausted: Exhausted) -> Undecided {
        Undecided { exhausted, instruction: None }
    }
}

impl Decision {
    /// The decision that gives every call this action.
    pub fn constant(action: Action) -> Decision {
        Decision { diagram: Diagram::constant(action.raw()) }
    }

    /// What a program decides as the only filter.
    ///
    /// # Errors
    /// If that is too much for [`Budget::DEFAULT`].
    pub fn of(program: &Program) -> Result<Decision, Undecided> {
        Self::of_stack(std::slice::from_ref(program))
    }

    /// What a stack of filters decides, the oldest first, as `PTRACE_SECCOMP_GET_FILTER` counts
    /// them: the most restrictive action wins, and among filters that agree on it the newest gives
    /// its data. A stack of none allows everything.
    ///
    /// # Errors
    /// If that is too much for [`Budget::DEFAULT`].
    pub fn of_stack(programs: &[Program]) -> Result<Decision, Undecided> {
        Self::of_stack_within(programs, Budget::DEFAULT)
    }

    /// [`Decision::of_stack`] with another budget.
    ///
    /// # Errors
    /// If that is too much for the budget.
    pub fn of_stack_within(programs: &[Program], budget: Budget) -> Result<Decision, Undecided> {
        let mut store = Store::new(budget);
        let mut stack = store.verdict(Action::Allow.raw());
        for program in programs {
            let newer = symbolic::execute(program, &mut store)?;
            stack = store.combine(stack, newer, None, &mut symbolic::most_restrictive)?;
        }
        let root = store.map(stack, &mut |verdict| Action::from_raw(verdict).raw())?;
        Ok(Decision { diagram: Diagram::export(&store, root) })
    }

    /// The decision of a stack with `newer` installed on top of what decides as `self`.
    ///
    /// # Errors
    /// If that is too much for [`Budget::DEFAULT`].
    pub fn under(&self, newer: &Decision) -> Result<Decision, Undecided> {
        let mut store = Store::new(Budget::DEFAULT);
        let older = self.diagram.import(&mut store)?;
        let newer = newer.diagram.import(&mut store)?;
        let root = store.combine(older, newer, None, &mut symbolic::most_restrictive)?;
        Ok(Decision { diagram: Diagram::export(&store, root) })
    }

    /// The decision that is this one for calls of `arch` and `elsewhere` for all others.
    ///
    /// # Errors
    /// If that is too much for [`Budget::DEFAULT`].
    pub fn only(&self, arch: AuditArch, elsewhere: Action) -> Result<Decision, Undecided> {
        let mut builder = Builder::new();
        let here = builder.decision(self)?;
        let elsewhere = builder.action(elsewhere);
        let is_arch = builder.test(Field::Arch, Cmp::Eq, u64::from(arch.raw()))?;
        let outcome = builder.select(is_arch, here, elsewhere)?;
        Ok(builder.build(outcome))
    }

    /// What is done with this call.
    pub fn decide(&self, data: &SeccompData) -> Action {
        Action::from_raw(self.diagram.decide(data))
    }

    /// The decision with each action replaced: what becomes of an answer that nobody takes up, for
    /// one.
    ///
    /// # Errors
    /// If that is too much for [`Budget::DEFAULT`].
    pub fn map(&self, mut action: impl FnMut(Action) -> Action) -> Result<Decision, Undecided> {
        let mut store = Store::new(Budget::DEFAULT);
        let root = self.diagram.import(&mut store)?;
        let root = store.map(root, &mut |verdict| action(Action::from_raw(verdict)).raw())?;
        Ok(Decision { diagram: Diagram::export(&store, root) })
    }

    /// Every action that some call gets.
    pub fn actions(&self) -> BTreeSet<Action> {
        self.diagram.verdicts().iter().map(|&raw| Action::from_raw(raw)).collect()
    }

    /// The decision as bytes, for a digest that names it: two decisions have the same bytes exactly
    /// if they decide every call alike. The form is fixed; what is digested today is found tomorrow.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.diagram.to_bytes()
    }

    /// How many nodes the diagram has: a measure of how intricate the decision is.
    pub fn size(&self) -> usize {
        self.diagram.size()
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use super::*;
    use crate::insn::{Alu, Insn, Jump, Op, Operand};

    const ALLOW: u32 = 0x7fff_0000;

    fn program(ops: &[Op]) -> Program {
        Program::new(ops.iter().copied().map(Insn::from).collect()).unwrap()
    }

    fn jump(test: Jump, k: u32, jt: u8, jf: u8) -> Op {
        Op::Branch { test, operand: Operand::K(k), jt, jf }
    }

    fn call(nr: u32, arg0: u64) -> SeccompData {
        SeccompData::new(Arch::X86_64.audit_arch(), nr).with_args([arg0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn spelling_does_not_matter() {
        let linear = program(&[
            Op::Load(0),
            jump(Jump::Eq, 3, 2, 0),
            jump(Jump::Eq, 4, 1, 0),
            Op::Ret(0x0005_0001),
            Op::Ret(ALLOW),
        ]);
        // (nr - 3) < 2, by way of scratch memory.
        let range = program(&[
            Op::Load(0),
            Op::Alu(Alu::Sub, Operand::K(3)),
            Op::Store(crate::Cell::new(5).unwrap()),
            Op::LoadImm(2),
            Op::LoadXMem(crate::Cell::new(5).unwrap()),
            Op::Branch { test: Jump::Gt, operand: Operand::X, jt: 0, jf: 1 },
            Op::Ret(0x7fff_1234),
            Op::Ret(0x0005_0001),
        ]);
        let decision = Decision::of(&linear).unwrap();
        assert_eq!(decision, Decision::of(&range).unwrap());
        assert_eq!(decision.decide(&call(3, 9)), Action::Allow);
        assert_eq!(decision.decide(&call(5, 9)), Action::Errno(1));
        let spans: Vec<_> = decision
            .calls(Arch::X86_64.audit_arch())
            .map(|span| (span.first, span.last, span.answer.always()))
            .collect();
        let (errno, allow) = (Some(Action::Errno(1)), Some(Action::Allow));
        assert_eq!(spans, [(0, 2, errno), (3, 4, allow), (5, u32::MAX, errno)]);
        assert_eq!(decision.arches().count(), 1);
    }

    #[test]
    fn the_bytes_are_the_decision_and_stay_what_they_are() {
        let denied = |nr| {
            let errno = Op::Ret(Action::Errno(1).raw());
            Decision::of(&program(&[Op::Load(0), jump(Jump::Eq, nr, 0, 1), errno, Op::Ret(ALLOW)]))
                .unwrap()
        };
        assert_eq!(denied(3).to_bytes(), denied(3).to_bytes());
        assert_ne!(denied(3).to_bytes(), denied(4).to_bytes());
        // Known decisions are kept by the digests of these bytes: a change here orphans them.
        let allow = b"strait decision 1\n\x01\0\0\0\0\0\xff\x7f\0\0\0\0\0\0\0\x80";
        assert_eq!(Decision::constant(Action::Allow).to_bytes(), allow);
    }

    #[test]
    fn actions_are_replaced_and_calls_that_become_alike_are_joined() {
        let notified = program(&[
            Op::Load(0),
            jump(Jump::Eq, 3, 0, 1),
            Op::Ret(Action::Notify.raw()),
            Op::Ret(Action::Errno(38).raw()),
        ]);
        let unanswered = Decision::of(&notified).unwrap().map(|action| match action {
            Action::Notify => Action::Errno(38),
            other => other,
        });
        assert_eq!(unanswered.unwrap(), Decision::constant(Action::Errno(38)));
    }

    #[test]
    fn a_returned_register_is_split_by_its_values() {
        // errno(arg0 & 3)
        let program = program(&[
            Op::Load(16),
            Op::Alu(Alu::And, Operand::K(3)),
            Op::Alu(Alu::Or, Operand::K(0x0005_0000)),
            Op::RetA,
        ]);
        let decision = Decision::of(&program).unwrap();
        assert_eq!(decision.actions(), (0..4).map(Action::Errno).collect());
        assert_eq!(decision.decide(&call(0, 6)), Action::Errno(2));
    }

    #[test]
    fn the_stack_is_as_strict_as_its_strictest_and_the_newest_gives_the_data() {
        let ret = |raw| program(&[Op::Ret(raw)]);
        let of = |raws: &[u32]| {
            let stack: Vec<Program> = raws.iter().copied().map(ret).collect();
            Decision::of_stack(&stack).unwrap()
        };
        assert_eq!(of(&[]), Decision::constant(Action::Allow));
        assert_eq!(of(&[0x0005_0001, ALLOW]), Decision::constant(Action::Errno(1)));
        assert_eq!(of(&[0x0005_0001, 0x0005_0002]), Decision::constant(Action::Errno(2)));
        assert_eq!(of(&[0x0003_0001, 0x0005_0002]), Decision::constant(Action::Trap(1)));
        // Alone, an unknown value kills the process; but here a lesser one comes before it.
        assert_eq!(of(&[0x0006_0000]), Decision::constant(Action::KillProcess));
        assert_eq!(of(&[0x0006_0000, 0x0005_0002]), Decision::constant(Action::Errno(2)));
        assert_eq!(of(&[0x0001_0000, 0]), Decision::constant(Action::KillThread));
        assert_eq!(of(&[0x9000_0000, 0]), Decision::constant(Action::KillProcess));
    }

    #[test]
    fn an_inequality_has_a_witness_and_a_direction() {
        // arg0 (64 bits) > 0x1_0000_0005 is denied; and the same with >=.
        let limit = |test| {
            program(&[
                Op::Load(20),
                jump(Jump::Gt, 1, 4, 0),
                jump(Jump::Eq, 1, 0, 2),
                Op::Load(16),
                jump(test, 5, 1, 0),
                Op::Ret(ALLOW),
                Op::Ret(0x0005_0001),
            ])
        };
        let greater = Decision::of(&limit(Jump::Gt)).unwrap();
        let not_less = Decision::of(&limit(Jump::Ge)).unwrap();
        let comparison = not_less.compare(&greater).unwrap();
        assert_eq!(comparison.order, Relation::Tighter);
        assert_eq!(comparison.allowed, Relation::Tighter);
        assert!(comparison.complete);
        for difference in &comparison.differences {
            assert_eq!(difference.witness.args, [0x1_0000_0005, 0, 0, 0, 0, 0]);
            assert_eq!((difference.first, difference.second), (Action::Errno(1), Action::Allow));
        }
        let back = greater.compare(&not_less).unwrap();
        assert_eq!(back.order, Relation::Looser);
        assert_eq!(greater.compare(&greater).unwrap().order, Relation::Equal);

        let Answer::Depends(arguments) = greater.answer(Arch::X86_64.audit_arch(), 0) else {
            panic!("it depends on an argument");
        };
        let regions = arguments.regions(10).unwrap();
        let shown: Vec<String> =
            regions.iter().map(|r| format!("{}: {}", r.when[0], r.action)).collect();
        assert_eq!(shown, ["arg0 <= 0x100000005: allow", "arg0 >= 0x100000006: errno(1)"]);
    }

    #[test]
    fn what_is_too_much_is_undecided() {
        // arg0 * arg1 == arg2
        let program = program(&[
            Op::Load(16),
            Op::Tax,
            Op::Load(24),
            Op::Alu(Alu::Mul, Operand::X),
            Op::Tax,
            Op::Load(32),
            Op::Branch { test: Jump::Eq, operand: Operand::X, jt: 0, jf: 1 },
            Op::Ret(ALLOW),
            Op::Ret(0),
        ]);
        let undecided = Decision::of(&program).unwrap_err();
        assert_eq!(undecided.instruction, Some(6));
    }

    #[test]
    fn restriction_and_composition() {
        let allow = Decision::constant(Action::Allow);
        let here = allow.only(Arch::X86_64.audit_arch(), Action::KillProcess).unwrap();
        assert_eq!(here.decide(&call(1, 1)), Action::Allow);
        let foreign = SeccompData::new(Arch::I386.audit_arch(), 1);
        assert_eq!(here.decide(&foreign), Action::KillProcess);
        assert_eq!(allow.under(&here).unwrap(), here);
        assert_eq!(here.under(&allow).unwrap(), here);
        assert_eq!(here.arches().count(), 3);
        assert_eq!(here.compare(&allow).unwrap().order, Relation::Tighter);
    }
}
