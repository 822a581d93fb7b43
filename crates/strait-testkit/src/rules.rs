//! Rules that bytes choose: every sequence of bytes is rules, and small changes of the bytes are
//! small changes of the rules, which is what a fuzzer needs.

use strait_abi::{Arch, AuditArch};
use strait_bpf::{Action, SeccompData};
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

use crate::generate::Rng;

/// Bytes that choose one thing after the other; when there are none left, each is 0.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// From these.
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes)
    }

    /// The next one.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound.max(1)
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::from(self.byte()) % items.len()]
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn wide(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// The next rules.
pub fn rules(bytes: &mut Bytes<'_>) -> Rules {
    let arches = [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::S390x];
    let tables = bytes.below(3);
    let rules = Rules::new(action(bytes));
    (0..tables).fold(rules, |rules, _| {
        let arch = bytes.pick(&arches);
        rules.with_table(arch.audit_arch(), table(bytes))
    })
}

/// Calls on which what rules decide can change: their numbers and the constants of their
/// conditions, give or take a little, in any argument.
pub fn calls(rules: &Rules, count: usize, rng: &mut Rng) -> Vec<SeccompData> {
    let mut arches = vec![AuditArch::from_raw(0), Arch::X86_64.audit_arch()];
    let (mut numbers, mut values) = (vec![0, Arch::X32_BIT, u32::MAX], vec![0, u64::MAX, 1 << 32]);
    for (arch, table) in rules.tables() {
        arches.extend([arch; 4]);
        for (first, last, chain) in table.spans() {
            numbers.extend([first, last, first.midpoint(last)]);
            chain.arms.iter().for_each(|arm| constants(&arm.when, &mut values));
        }
    }
    let value = |rng: &mut Rng| {
        let value = rng.pick(&values);
        match rng.below(8) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value ^ 1 << rng.below(64),
            3 => value.rotate_left(32),
            _ => value,
        }
    };
    (0..count)
        .map(|_| {
            let args = std::array::from_fn(|_| value(rng));
            SeccompData::new(rng.pick(&arches), rng.pick(&numbers)).with_args(args)
        })
        .collect()
}

fn constants(condition: &Condition, values: &mut Vec<u64>) {
    match condition {
        Condition::All(all) | Condition::Any(all) => {
            all.iter().for_each(|one| constants(one, values));
        }
        Condition::Not(one) => constants(one, values),
        Condition::Test(test) => {
            values.extend([test.value(), test.value() | !test.mask(), test.mask()]);
        }
    }
}

fn action(bytes: &mut Bytes<'_>) -> Action {
    match bytes.below(10) {
        0..4 => Action::Allow,
        4 => Action::Errno(1),
        5 => Action::Errno(38),
        6 => Action::KillProcess,
        7 => Action::Notify,
        8 => bytes.pick(&[Action::Log, Action::KillThread, Action::Errno(4095)]),
        _ => bytes.pick(&[Action::Trap(0), Action::Trap(7), Action::Trace(0), Action::Trace(9)]),
    }
}

fn table(bytes: &mut Bytes<'_>) -> Table {
    let mut table = Table::new(chain(bytes));
    for _ in 0..bytes.below(24) {
        let first = match bytes.below(8) {
            0 => Arch::X32_BIT | u32::from(bytes.byte()),
            1 => bytes.number(),
            2 => u32::from(bytes.byte()) * 2,
            _ => u32::from(bytes.below(64)),
        };
        let last = first.saturating_add(bytes.below(4).into());
        table.set(first, last, chain(bytes));
    }
    table
}

fn chain(bytes: &mut Bytes<'_>) -> Chain {
    let arms = bytes.below(8).saturating_sub(4);
    let arms = (0..arms).map(|_| Arm { when: condition(bytes, 3), action: action(bytes) });
    Chain { arms: arms.collect(), otherwise: action(bytes) }
}

fn condition(bytes: &mut Bytes<'_>, depth: u8) -> Condition {
    let several =
        |bytes: &mut Bytes<'_>| (0..bytes.below(5)).map(|_| condition(bytes, depth - 1)).collect();
    match bytes.below(8) {
        0 if depth > 0 => Condition::All(several(bytes)),
        1 | 2 if depth > 0 => Condition::Any(several(bytes)),
        3 if depth > 0 => Condition::Not(Box::new(condition(bytes, depth - 1))),
        _ => Condition::Test(test(bytes)),
    }
}

fn test(bytes: &mut Bytes<'_>) -> Test {
    let width = bytes.pick(&[Width::W32, Width::W64]);
    let mask = match bytes.below(8) {
        0 => bytes.byte().into(),
        1 => !u64::from(bytes.byte()),
        2 => bytes.wide(),
        _ => u64::MAX,
    };
    let op = bytes.pick(&[Op::Eq, Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    let value = match bytes.below(8) {
        0 => bytes.wide(),
        1 => 1 << bytes.below(64),
        2 => bytes.pick(&[0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, u64::MAX]),
        _ => bytes.byte().into(),
    };
    match Test::new(bytes.below(4), width, mask & width.mask(), op, value & width.mask()) {
        Ok(test) => test,
        Err(error) => unreachable!("the argument exists and all is cut to the width: {error}"),
    }
}
