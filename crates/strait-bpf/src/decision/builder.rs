//! Decisions made from predicates: how rules, or anything else that is not a program, get one.

use super::diagram::Diagram;
use super::store::{Ref, Store, Var};
use super::{Budget, Decision, Undecided};
use crate::Action;

/// Makes decisions out of actions and predicates.
///
/// ```
/// use strait_abi::Arch;
/// use strait_bpf::{Action, Builder, Cmp, Field, SeccompData};
///
/// // read(2) of standard input on x86_64, and nothing else.
/// let mut builder = Builder::new();
/// let arch = Arch::X86_64.audit_arch();
/// let here = builder.test(Field::Arch, Cmp::Eq, u64::from(arch.raw()))?;
/// let read = builder.test(Field::Nr, Cmp::Eq, 0)?;
/// let stdin = builder.test(Field::ArgLow(0), Cmp::Eq, 0)?;
/// let passes = builder.all([here, read, stdin])?;
/// let (allow, kill) = (builder.action(Action::Allow), builder.action(Action::KillProcess));
/// let outcome = builder.select(passes, allow, kill)?;
/// let decision = builder.build(outcome);
///
/// assert_eq!(decision.decide(&SeccompData::new(arch, 0)), Action::Allow);
/// assert_eq!(decision.decide(&SeccompData::new(arch, 1)), Action::KillProcess);
/// # Ok::<(), strait_bpf::Undecided>(())
/// ```
///
/// Predicates and outcomes belong to the builder that made them. Given to another one they mean
/// something else or cause a panic.
pub struct Builder {
    store: Store,
}

/// A set of calls. Cheap to copy; belongs to one [`Builder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predicate(Ref);

/// What is done with every call. Cheap to copy; belongs to one [`Builder`]. Two outcomes of one
/// builder are equal exactly if they decide alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(Ref);

/// A part of `seccomp_data` that a predicate looks at, as one unsigned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `arch`, 32 bits.
    Arch,
    /// `nr`, 32 bits, unsigned as filters see it.
    Nr,
    /// Argument 0 to 5, 64 bits.
    Arg(u8),
    /// The low half of argument 0 to 5: what the kernel takes of an `int`.
    ArgLow(u8),
    /// The high half of argument 0 to 5.
    ArgHigh(u8),
    /// The instruction pointer, 64 bits.
    InstructionPointer,
}

impl Field {
    /// Its width.
    pub const fn bits(self) -> u16 {
        match self {
            Field::Arg(_) | Field::InstructionPointer => 64,
            Field::Arch | Field::Nr | Field::ArgLow(_) | Field::ArgHigh(_) => 32,
        }
    }

    fn first(self) -> Var {
        let arg = |index: u8| Var::ARGS.plus(64 * u16::from(index.min(5)));
        match self {
            Field::Arch => Var::ARCH,
            Field::Nr => Var::NR,
            Field::Arg(index) | Field::ArgHigh(index) => arg(index),
            Field::ArgLow(index) => arg(index).plus(32),
            Field::InstructionPointer => Var::ARGS.plus(64 * 6),
        }
    }

    /// Whether there is such a field: a call has six arguments.
    const fn exists(self) -> bool {
        match self {
            Field::Arg(index) | Field::ArgLow(index) | Field::ArgHigh(index) => index < 6,
            Field::Arch | Field::Nr | Field::InstructionPointer => true,
        }
    }
}

/// An unsigned comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cmp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Cmp {
    /// Whether it holds for a number that is less, equal or greater.
    const fn cases(self) -> [bool; 3] {
        match self {
            Cmp::Eq => [false, true, false],
            Cmp::Ne => [true, false, true],
            Cmp::Lt => [true, false, false],
            Cmp::Le => [true, true, false],
            Cmp::Gt => [false, false, true],
            Cmp::Ge => [false, true, true],
        }
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// A builder with [`Budget::DEFAULT`] for all that it makes.
    pub fn new() -> Builder {
        Builder::within(Budget::DEFAULT)
    }

    /// A builder with another budget.
    pub fn within(budget: Budget) -> Builder {
        Builder { store: Store::new(budget) }
    }

    /// Every call, or none.
    pub fn always(&self, value: bool) -> Predicate {
        Predicate(Ref::truth(value))
    }

    /// The calls for which `field` compares so with `value`. A value wider than the field is
    /// greater than all that the field can be. A field that no call has holds 0.
    ///
    /// # Errors
    /// If the budget is exhausted, as for everything below.
    pub fn test(&mut self, field: Field, cmp: Cmp, value: u64) -> Result<Predicate, Undecided> {
        self.masked(field, u64::MAX, cmp, value)
    }

    /// The calls for which `field & mask` compares so with `value`.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn masked(
        &mut self,
        field: Field,
        mask: u64,
        cmp: Cmp,
        value: u64,
    ) -> Result<Predicate, Undecided> {
        let [less, ..] = cmp.cases();
        if value >> (field.bits() - 1) > 1 {
            return Ok(self.always(less));
        }
        let mask = if field.exists() { mask } else { 0 };
        let (first, bits) = (field.first(), field.bits());
        Ok(Predicate(self.store.against(first, bits, mask, value, cmp.cases())?))
    }

    /// The calls for which `field` is in `first..=last`; none if `first > last`.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn range(&mut self, field: Field, first: u64, last: u64) -> Result<Predicate, Undecided> {
        let not_below = self.test(field, Cmp::Ge, first)?;
        let not_above = self.test(field, Cmp::Le, last)?;
        self.and(not_below, not_above)
    }

    /// The calls in both.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn and(&mut self, a: Predicate, b: Predicate) -> Result<Predicate, Undecided> {
        Ok(Predicate(self.store.and(a.0, b.0)?))
    }

    /// The calls in one or both.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn or(&mut self, a: Predicate, b: Predicate) -> Result<Predicate, Undecided> {
        Ok(Predicate(self.store.or(a.0, b.0)?))
    }

    /// The calls that are not in it.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn not(&mut self, a: Predicate) -> Result<Predicate, Undecided> {
        Ok(Predicate(self.store.not(a.0)?))
    }

    /// The calls in every one; with none, all.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn all(
        &mut self,
        predicates: impl IntoIterator<Item = Predicate>,
    ) -> Result<Predicate, Undecided> {
        let always = self.always(true);
        predicates.into_iter().try_fold(always, |all, one| self.and(all, one))
    }

    /// The calls in at least one; with none, none.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn any(
        &mut self,
        predicates: impl IntoIterator<Item = Predicate>,
    ) -> Result<Predicate, Undecided> {
        let never = self.always(false);
        predicates.into_iter().try_fold(never, |any, one| self.or(any, one))
    }

    /// Every call gets this action.
    pub fn action(&mut self, action: Action) -> Outcome {
        Outcome(self.store.verdict(action.raw()))
    }

    /// Every call gets what a finished decision says.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn decision(&mut self, decision: &Decision) -> Result<Outcome, Undecided> {
        Ok(Outcome(decision.diagram.import(&mut self.store)?))
    }

    /// The calls in `when` get `then`, the others `otherwise`.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn select(
        &mut self,
        when: Predicate,
        then: Outcome,
        otherwise: Outcome,
    ) -> Result<Outcome, Undecided> {
        Ok(Outcome(self.store.ite(when.0, then.0, otherwise.0)?))
    }

    /// A table over one field: `before`, but from the first value of each entry on what that entry
    /// says. With entries in ascending order, each is a span up to the next; and where the
    /// outcomes look at nothing above the end of the field (for numbers: not at the arch), that is
    /// much quicker than as many selects.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn table(
        &mut self,
        field: Field,
        before: Outcome,
        spans: &[(u64, Outcome)],
    ) -> Result<Outcome, Undecided> {
        let (first, bits) = (field.first(), field.bits());
        let last = u64::MAX >> (64 - bits);
        let ordered = spans.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let inside = spans.last().is_none_or(|&(start, _)| start <= last);
        let mut outcomes = spans.iter().map(|&(_, outcome)| outcome).chain([before]);
        let below = outcomes.all(|outcome| self.store.var(outcome.0) >= first.plus(bits));
        if field.exists() && ordered && inside && below {
            return Ok(Outcome(self.split(first, bits, 0, before, spans)?));
        }
        spans.iter().try_fold(before, |so_far, &(start, outcome)| {
            let from_here = self.test(field, Cmp::Ge, start)?;
            self.select(from_here, outcome, so_far)
        })
    }

    /// The part of a table where the values start with those bits of `start` that are above the
    /// lowest `bits`; `var` is the highest of those. All spans given start inside.
    fn split(
        &mut self,
        var: Var,
        bits: u16,
        start: u64,
        before: Outcome,
        spans: &[(u64, Outcome)],
    ) -> Result<Ref, Undecided> {
        // A span that starts here leaves nothing to what is before it.
        let (before, spans) = match spans.split_first() {
            Some((&(first, outcome), rest)) if first == start => (outcome, rest),
            _ => (before, spans),
        };
        let Some(rest) = bits.checked_sub(1).filter(|_| !spans.is_empty()) else {
            return Ok(before.0);
        };
        self.store.step(1)?;
        let middle = start | 1 << rest;
        let at = spans.partition_point(|&(first, _)| first < middle);
        let (low, high) = spans.split_at(at);
        let carried = low.last().map_or(before, |&(_, outcome)| outcome);
        let low = self.split(var.plus(1), rest, start, before, low)?;
        let high = self.split(var.plus(1), rest, middle, carried, high)?;
        Ok(self.store.node(var, low, high)?)
    }

    /// The decision that an outcome is.
    pub fn build(&self, outcome: Outcome) -> Decision {
        Decision { diagram: Diagram::export(&self.store, outcome.0) }
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::AuditArch;

    use super::*;
    use crate::SeccompData;

    #[test]
    fn a_table_is_as_many_selects() {
        let spans = [(0, 1), (1, 2), (7, 3), (8, 1), (0x8000_0000, 4), (u32::MAX, 2)];
        for spans in [&spans[..], &spans[1..], &spans[..1], &[]] {
            for (field, top) in [(Field::Nr, 0), (Field::ArgHigh(3), 0), (Field::Nr, 1)] {
                let mut builder = Builder::new();
                let spans: Vec<(u64, Outcome)> = spans
                    .iter()
                    .map(|&(start, errno)| (u64::from(start), builder.action(Action::Errno(errno))))
                    .collect();
                let allow = builder.action(Action::Allow);
                let foreign = builder.test(Field::Arch, Cmp::Ge, top).unwrap();
                let kill = builder.action(Action::KillProcess);
                // With `top` 1 this looks at the arch, which is above the number.
                let before = builder.select(foreign, allow, kill).unwrap();
                let table = builder.table(field, before, &spans).unwrap();
                let selects = spans.iter().fold(before, |so_far, &(start, outcome)| {
                    let from_here = builder.test(field, Cmp::Ge, start).unwrap();
                    builder.select(from_here, outcome, so_far).unwrap()
                });
                assert_eq!(table, selects);
            }
        }
    }

    #[test]
    fn what_does_not_exist_or_fit_is_compared_all_the_same() {
        let mut builder = Builder::new();
        let cases = [
            (Field::ArgLow(0), Cmp::Lt, 1 << 32, true),
            (Field::Nr, Cmp::Eq, u64::MAX, false),
            (Field::Arg(6), Cmp::Eq, 0, true),
            (Field::Arg(200), Cmp::Gt, 0, false),
        ];
        for (field, cmp, value, always) in cases {
            assert_eq!(builder.test(field, cmp, value).unwrap(), builder.always(always));
        }
        let nothing = builder.range(Field::Nr, 5, 4).unwrap();
        assert_eq!(nothing, builder.always(false));
        let (allow, log) = (builder.action(Action::Allow), builder.action(Action::Log));
        let some = builder.range(Field::Nr, 5, 6).unwrap();
        let some = builder.select(some, allow, log).unwrap();
        let decision = builder.build(some);
        let arch = AuditArch::from_raw(0);
        let decided = [4, 5, 6, 7].map(|nr| decision.decide(&SeccompData::new(arch, nr)));
        assert_eq!(decided, [Action::Log, Action::Allow, Action::Allow, Action::Log]);
    }
}
