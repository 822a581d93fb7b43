//! Rules, the plain program and the optimised ones decide alike.
//!
//! Checked by running the interpreter where decisions can change: at every constant, one beside it,
//! and with any single bit turned over.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use strait_abi::{Arch, AuditArch};
use strait_bpf::{Action, SeccompData};
use strait_compiler::{Effort, Frequencies, Level, Options, compile};
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Allow),
        2 => Just(Action::Errno(1)),
        1 => Just(Action::Errno(38)),
        1 => Just(Action::KillProcess),
        1 => Just(Action::KillThread),
        1 => Just(Action::Log),
        1 => Just(Action::Notify),
        1 => any::<u16>().prop_map(Action::Trap),
        1 => any::<u16>().prop_map(Action::Trace),
    ]
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20_u64,
        2 => prop::sample::select(vec![
            0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX - 1, u64::MAX, 0x2_0008,
        ]),
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
        1 => any::<u64>(),
    ]
}

fn test() -> impl Strategy<Value = Condition> {
    let op = prop::sample::select(vec![Op::Eq, Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    let width = prop::sample::select(vec![Width::W32, Width::W64]);
    let mask = prop_oneof![3 => Just(u64::MAX), 1 => word(), 1 => word().prop_map(|mask| !mask)];
    (0..3_u8, width, mask, op, word()).prop_map(|(arg, width, mask, op, value)| {
        let bits = width.mask();
        Condition::Test(Test::new(arg, width, mask & bits, op, value & bits).unwrap())
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    test().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Condition::All),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Condition::Any),
            inner.prop_map(|one| Condition::Not(Box::new(one))),
        ]
    })
}

fn chain() -> impl Strategy<Value = Chain> {
    let arm = (condition(), action()).prop_map(|(when, action)| Arm { when, action });
    prop_oneof![
        3 => action().prop_map(Chain::from),
        1 => (prop::collection::vec(arm, 0..4), action())
            .prop_map(|(arms, otherwise)| Chain { arms, otherwise }),
    ]
}

fn table() -> impl Strategy<Value = Table> {
    let number = prop_oneof![6 => 0..40_u32, 1 => Just(0x4000_0000), 1 => any::<u32>()];
    let span = (number, 0..4_u32, chain());
    (chain(), prop::collection::vec(span, 0..24)).prop_map(|(rest, spans)| {
        let mut table = Table::new(rest);
        for (first, more, chain) in spans {
            table.set(first, first.saturating_add(more), chain);
        }
        table
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let arches = vec![Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::S390x];
    let tables = prop::collection::vec((prop::sample::select(arches), table()), 0..3);
    (action(), tables).prop_map(|(foreign, tables)| {
        tables.into_iter().fold(Rules::new(foreign), |rules, (arch, table)| {
            rules.with_table(arch.audit_arch(), table)
        })
    })
}

/// Values at which a test of `arg` can change its mind.
fn edges(condition: &Condition, arg: u8, values: &mut Vec<u64>) {
    match condition {
        Condition::All(all) | Condition::Any(all) => {
            all.iter().for_each(|one| edges(one, arg, values));
        }
        Condition::Not(one) => edges(one, arg, values),
        Condition::Test(test) if test.arg() == arg => {
            let value = test.value();
            values.extend([value, value.wrapping_add(1), value.wrapping_sub(1)]);
            values.extend([value | !test.mask(), test.mask(), !test.mask()]);
            values.extend((0..64).map(|bit| value ^ 1 << bit));
        }
        Condition::Test(_) => {}
    }
}

/// Calls around everything that the rules mention, `tries` of them for each span of numbers.
fn calls(rules: &Rules, tries: usize, seed: u64) -> Vec<SeccompData> {
    let mut state = seed | 1;
    let mut pick = move |from: &[u64]| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from[usize::try_from(state >> 33).unwrap() % from.len()]
    };
    let mut calls = Vec::new();
    for (arch, table) in rules.tables() {
        for bit in 0..32 {
            calls.push(SeccompData::new(AuditArch::from_raw(arch.raw() ^ 1 << bit), 0));
        }
        for (first, last, chain) in table.spans() {
            let mut values: [Vec<u64>; 6] = std::array::from_fn(|_| vec![0, u64::MAX]);
            for arm in &chain.arms {
                for arg in 0..6 {
                    edges(&arm.when, arg, &mut values[usize::from(arg)]);
                }
            }
            for _ in 0..tries {
                let args = std::array::from_fn(|arg| pick(&values[arg]));
                for nr in [first, first.midpoint(last), last] {
                    calls.push(SeccompData::new(arch, nr).with_args(args));
                }
            }
        }
    }
    calls
}

fn options(level: Level) -> Options {
    Options { level, ..Options::default() }
}

fn profiled(rules: &Rules, seed: u64) -> Options {
    let mut frequencies = Frequencies::new();
    for (index, call) in calls(rules, 1, seed).iter().enumerate() {
        if index % 3 == 0 {
            frequencies.add(
                call.arch,
                call.nr,
                seed.rotate_left(u32::try_from(index & 63).unwrap()) & 0xffff,
            );
        }
    }
    Options { frequencies: Some(frequencies), ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_level_decides_as_the_rules(rules in rules(), seed in any::<u64>()) {
        let all = [
            options(Level::None),
            options(Level::Speed),
            options(Level::Size),
            profiled(&rules, seed),
        ];
        let programs: Vec<_> =
            all.iter().map(|options| compile(&rules, options).unwrap().program).collect();
        for call in calls(&rules, 24, seed) {
            let intended = rules.decide(&call);
            for (program, options) in programs.iter().zip(&all) {
                prop_assert_eq!(program.run(&call), intended, "{:?} {:?}", options.level, call);
            }
        }
    }

    #[test]
    fn compiling_is_deterministic(rules in rules()) {
        for level in [Level::None, Level::Speed, Level::Size] {
            let first = compile(&rules, &options(level)).unwrap();
            prop_assert_eq!(first, compile(&rules, &options(level)).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn thorough_programs_decide_as_the_rules(rules in rules(), seed in any::<u64>()) {
        let thorough = Options { effort: Effort::Thorough, ..options(Level::Speed) };
        let program = compile(&rules, &thorough).unwrap().program;
        for call in calls(&rules, 24, seed) {
            prop_assert_eq!(program.run(&call), rules.decide(&call), "{:?}", call);
        }
    }
}
