//! Rules: a policy resolved to numbers, per audit arch.
//!
//! ```text
//! Rules   = audit arch -> Table, and one action for every other audit arch
//! Table   = every number from 0 to 2^32-1, in spans -> Chain
//! Chain   = ordered arms (condition -> action), then an action: the first arm that holds decides
//! ```
//!
//! Rules are total by construction: for every `seccomp_data` there is exactly one action. They
//! know nothing of names; what an x32 number or -1 should get is a span like any other.

use std::collections::BTreeMap;

use strait_abi::AuditArch;
use strait_bpf::{Action, SeccompData};

/// A policy resolved to numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    tables: BTreeMap<AuditArch, Table>,
    foreign: Action,
}

impl Rules {
    /// Rules that answer every call of an audit arch without a table with `foreign`.
    pub fn new(foreign: Action) -> Rules {
        Rules { tables: BTreeMap::new(), foreign }
    }

    /// Sets the table of `arch`, in place of one it may have.
    #[must_use]
    pub fn with_table(mut self, arch: AuditArch, table: Table) -> Rules {
        self.tables.insert(arch, table);
        self
    }

    /// The tables, by audit arch.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = (AuditArch, &Table)> {
        self.tables.iter().map(|(&arch, table)| (arch, table))
    }

    /// The table of `arch`, unless it is foreign.
    pub fn table(&self, arch: AuditArch) -> Option<&Table> {
        self.tables.get(&arch)
    }

    /// The action for every call of an audit arch that has no table.
    pub fn foreign(&self) -> Action {
        self.foreign
    }

    /// The reference evaluator: what the rules say of one call, read off directly.
    pub fn decide(&self, data: &SeccompData) -> Action {
        match self.tables.get(&data.arch) {
            None => self.foreign,
            Some(table) => table.chain(data.nr).decide(&data.args),
        }
    }
}

/// What one audit arch's calls get: consecutive spans of numbers that together cover all of
/// them, neighbours with different chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// First number of each span to its chain; the first key is 0.
    spans: BTreeMap<u32, Chain>,
}

impl Table {
    /// A table in which every number has `chain`.
    pub fn new(chain: impl Into<Chain>) -> Table {
        Table { spans: BTreeMap::from([(0, chain.into())]) }
    }

    /// A table of chains by the first number that has each, in ascending order from 0.
    pub(crate) fn from_ascending(chains: impl IntoIterator<Item = (u32, Chain)>) -> Table {
        let mut spans: Vec<(u32, Chain)> = Vec::new();
        for (first, chain) in chains {
            if spans.last().is_none_or(|(_, before)| *before != chain) {
                spans.push((first, chain));
            }
        }
        if let Some((first, _)) = spans.first_mut() {
            *first = 0;
        }
        let none = || BTreeMap::from([(0, Chain::from(Action::KillProcess))]);
        let spans: BTreeMap<u32, Chain> = spans.into_iter().collect();
        Table { spans: if spans.is_empty() { none() } else { spans } }
    }

    /// Gives the numbers `first..=last` this chain, in place of what they had.
    ///
    /// Does nothing if `first > last`: the range is empty.
    pub fn set(&mut self, first: u32, last: u32, chain: impl Into<Chain>) {
        if first > last {
            return;
        }
        let chain = chain.into();
        let after = last.checked_add(1).map(|next| (next, self.chain(next).clone()));
        let covered: Vec<u32> = self.spans.range(first..=last).map(|(&start, _)| start).collect();
        for start in covered {
            self.spans.remove(&start);
        }
        self.spans.insert(first, chain);
        if let Some((next, chain)) = after {
            self.spans.insert(next, chain);
            self.join(next);
        }
        self.join(first);
    }

    /// The same, in which each of these numbers has its own chain: one pass over both.
    pub(crate) fn with_each(&self, own: impl IntoIterator<Item = (u32, Chain)>) -> Table {
        let own: BTreeMap<u32, Chain> = own.into_iter().collect();
        let mut chains = Vec::with_capacity(2 * own.len() + self.spans.len());
        let mut own = own.into_iter().peekable();
        for (first, last, chain) in self.spans() {
            // The first number of the span that has no chain so far, if any is left.
            let mut next = Some(first);
            while let Some((nr, own)) = own.next_if(|(nr, _)| *nr <= last) {
                if let Some(start) = next.filter(|start| *start < nr) {
                    chains.push((start, chain.clone()));
                }
                chains.push((nr, own));
                next = nr.checked_add(1).filter(|next| *next <= last);
            }
            if let Some(start) = next {
                chains.push((start, chain.clone()));
            }
        }
        Table::from_ascending(chains)
    }

    /// The chain of one number.
    pub fn chain(&self, nr: u32) -> &Chain {
        match self.spans.range(..=nr).next_back() {
            Some((_, chain)) => chain,
            None => unreachable!("the first span starts at 0"),
        }
    }

    /// The spans in order: first number, last number, chain.
    pub fn spans(&self) -> impl Iterator<Item = (u32, u32, &Chain)> {
        let ends = self.spans.keys().skip(1).map(|&next| next - 1).chain(std::iter::once(u32::MAX));
        self.spans.iter().zip(ends).map(|((&first, chain), last)| (first, last, chain))
    }

    /// Removes the span that starts at `start` if it says the same as the one before it.
    fn join(&mut self, start: u32) {
        let before = self.spans.range(..start).next_back().map(|(_, chain)| chain);
        if before.is_some() && before == self.spans.get(&start) {
            self.spans.remove(&start);
        }
    }
}

/// Ordered arms; the first whose condition holds decides, else [`Chain::otherwise`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The arms, in order.
    pub arms: Vec<Arm>,
    /// The action where no arm holds.
    pub otherwise: Action,
}

impl Chain {
    /// What the chain says of these arguments.
    pub fn decide(&self, args: &[u64; 6]) -> Action {
        self.arms.iter().find(|arm| arm.when.holds(args)).map_or(self.otherwise, |arm| arm.action)
    }
}

impl From<Action> for Chain {
    /// The chain that gives every call this action.
    fn from(action: Action) -> Chain {
        Chain { arms: Vec::new(), otherwise: action }
    }
}

/// One condition and what is done where it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arm {
    /// When.
    pub when: Condition,
    /// What.
    pub action: Action,
}

/// A condition on the arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// One comparison.
    Test(Test),
    /// Every one holds; with none, always.
    All(Vec<Condition>),
    /// At least one holds; with none, never.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
}

impl Condition {
    /// Whether it holds for these arguments.
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        match self {
            Condition::Test(test) => test.holds(args),
            Condition::All(all) => all.iter().all(|condition| condition.holds(args)),
            Condition::Any(any) => any.iter().any(|condition| condition.holds(args)),
            Condition::Not(condition) => !condition.holds(args),
        }
    }
}

impl Condition {
    /// Every comparison in it, in order.
    pub fn tests(&self) -> Vec<&Test> {
        match self {
            Condition::Test(test) => vec![test],
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().flat_map(Condition::tests).collect()
            }
            Condition::Not(inner) => inner.tests(),
        }
    }
}

/// `(arg & mask) OP value`, unsigned, over the low 32 bits of the argument or all 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Test {
    arg: u8,
    width: Width,
    mask: u64,
    op: Op,
    value: u64,
}

/// How much of an argument a test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// The low 32 bits, as the kernel takes an `int` or `unsigned`.
    W32,
    /// All 64.
    W64,
}

impl Width {
    /// The bits that are looked at.
    pub const fn mask(self) -> u64 {
        match self {
            Width::W32 => 0xffff_ffff,
            Width::W64 => u64::MAX,
        }
    }
}

/// An unsigned comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
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

/// Why a test cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// A call has six arguments.
    #[error("there is no argument {arg}: a call has arguments 0 to 5")]
    Argument {
        /// The index.
        arg: u8,
    },
    /// A value or mask that does not fit the width that is compared.
    #[error("{value:#x} does not fit the 32 bits that are compared")]
    Width {
        /// The value or mask.
        value: u64,
    },
}

impl Test {
    /// A comparison of argument `arg` (0 to 5).
    ///
    /// # Errors
    /// If there is no such argument, or the value or mask is wider than what is compared. (A mask
    /// of all ones means no mask at either width: pass [`Width::mask`].)
    pub fn new(arg: u8, width: Width, mask: u64, op: Op, value: u64) -> Result<Test, TestError> {
        if arg > 5 {
            return Err(TestError::Argument { arg });
        }
        match [mask, value].into_iter().find(|&word| word & !width.mask() != 0) {
            Some(value) => Err(TestError::Width { value }),
            None => Ok(Test { arg, width, mask, op, value }),
        }
    }

    /// Which argument, 0 to 5.
    pub const fn arg(&self) -> u8 {
        self.arg
    }

    /// How much of it.
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Which of its bits; never more than the width.
    pub const fn mask(&self) -> u64 {
        self.mask
    }

    /// How it is compared.
    pub const fn op(&self) -> Op {
        self.op
    }

    /// What it is compared with; never more than the width.
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// Whether it holds for these arguments.
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let word = args[usize::from(self.arg)] & self.mask;
        match self.op {
            Op::Eq => word == self.value,
            Op::Ne => word != self.value,
            Op::Lt => word < self.value,
            Op::Le => word <= self.value,
            Op::Gt => word > self.value,
            Op::Ge => word >= self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_many_numbers_are_what_setting_each_would_give() {
        let mut base = Table::new(Action::Errno(1));
        base.set(5, 9, Action::Allow);
        base.set(u32::MAX, u32::MAX, Action::KillProcess);
        for numbers in [
            &[][..],
            &[0],
            &[4, 5, 6, 9, 10],
            &[9, 5],
            &[u32::MAX],
            &[0, 1, 7, u32::MAX - 1, u32::MAX],
        ] {
            for action in [Action::Log, Action::Allow] {
                let mut expected = base.clone();
                for &nr in numbers {
                    expected.set(nr, nr, action);
                }
                let chains = numbers.iter().map(|nr| (*nr, Chain::from(action)));
                assert_eq!(base.with_each(chains), expected, "{numbers:?}");
            }
        }
    }

    #[test]
    fn setting_spans_keeps_the_table_total_and_joined() {
        let mut table = Table::new(Action::Errno(1));
        table.set(5, 9, Action::Allow);
        table.set(7, 7, Action::Log);
        table.set(10, 12, Action::Allow);
        table.set(u32::MAX, u32::MAX, Action::KillProcess);
        let spans: Vec<_> =
            table.spans().map(|(first, last, chain)| (first, last, chain.otherwise)).collect();
        assert_eq!(
            spans,
            [
                (0, 4, Action::Errno(1)),
                (5, 6, Action::Allow),
                (7, 7, Action::Log),
                (8, 12, Action::Allow),
                (13, u32::MAX - 1, Action::Errno(1)),
                (u32::MAX, u32::MAX, Action::KillProcess),
            ]
        );
        let firsts = table.spans().map(|(first, _, chain)| (first, chain.clone()));
        assert_eq!(Table::from_ascending(firsts), table);
        let doubled = [0, 1, 7].map(|first| (first, Chain::from(Action::Log)));
        assert_eq!(Table::from_ascending(doubled), Table::new(Action::Log));
        table.set(7, 7, Action::Allow);
        assert_eq!(table.spans().count(), 4);
        table.set(0, u32::MAX, Action::Allow);
        assert_eq!(table.spans().count(), 1);
    }

    #[test]
    fn a_test_sees_its_width_and_no_more() {
        let test = Test::new(0, Width::W32, 0xffff_ffff, Op::Eq, 1).unwrap();
        assert!(test.holds(&[1 | 1 << 32, 0, 0, 0, 0, 0]));
        assert!(Test::new(6, Width::W32, 1, Op::Eq, 1).is_err());
        assert!(Test::new(0, Width::W32, 0xffff_ffff, Op::Eq, 1 << 32).is_err());
    }
}
