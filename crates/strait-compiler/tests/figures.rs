//! What programs cost, in counted instructions: so that nothing gets worse unnoticed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use strait_abi::Arch;
use strait_bpf::{Action, Program, SeccompData};
use strait_compiler::{CompileError, Effort, Frequencies, Level, Options, compile, compile_stack};
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

const DENY: Action = Action::Errno(1);

fn native(table: Table) -> Rules {
    Rules::new(Action::KillProcess).with_table(Arch::X86_64.audit_arch(), table)
}

fn options(level: Level, effort: Effort) -> Options {
    Options { level, effort, ..Options::default() }
}

fn call(nr: u32, args: [u64; 6]) -> SeccompData {
    SeccompData::new(Arch::X86_64.audit_arch(), nr).with_args(args)
}

fn executed(program: &Program, nr: u32, args: [u64; 6]) -> u32 {
    program.run_counting(&call(nr, args)).executed
}

fn equals(arg: u8, value: u64) -> Condition {
    Condition::Test(Test::new(arg, Width::W64, u64::MAX, Op::Eq, value).unwrap())
}

fn allow_if(when: Condition) -> Chain {
    Chain { arms: vec![Arm { when, action: Action::Allow }], otherwise: DENY }
}

/// A server's policy in shape: some sixty calls, alone and in groups, nothing else.
fn server() -> Table {
    let mut table = Table::new(DENY);
    let calls = [
        (0, 1),
        (3, 3),
        (5, 5),
        (8, 20),
        (39, 42),
        (44, 50),
        (53, 54),
        (56, 56),
        (59, 61),
        (72, 72),
        (87, 87),
        (95, 95),
        (105, 107),
        (110, 110),
        (112, 112),
        (130, 130),
        (157, 158),
        (202, 202),
        (218, 218),
        (231, 233),
        (257, 257),
        (262, 262),
        (288, 288),
        (290, 291),
        (302, 302),
        (318, 318),
        (334, 334),
        (435, 435),
    ];
    for (first, last) in calls {
        table.set(first, last, Action::Allow);
    }
    table.set(Arch::X32_BIT, u32::MAX, Action::KillProcess);
    table
}

/// Mean executed instructions over the calls that pass whatever their arguments.
fn uniform(program: &Program, table: &Table) -> f64 {
    let allowed: Vec<u32> =
        (0..512).filter(|&nr| table.chain(nr) == &Chain::from(Action::Allow)).collect();
    let total: u32 = allowed.iter().map(|&nr| executed(program, nr, [0; 6])).sum();
    f64::from(total) / f64::from(u32::try_from(allowed.len()).unwrap())
}

#[test]
fn a_servers_policy() {
    let table = server();
    let rules = native(table.clone());
    let figures = |level, effort| {
        let program = compile(&rules, &options(level, effort)).unwrap().program;
        (program.insns().len(), (uniform(&program, &table) * 100.0).round() / 100.0)
    };
    let plain = figures(Level::None, Effort::Quick);
    let speed = figures(Level::Speed, Effort::Quick);
    let thorough = figures(Level::Speed, Effort::Thorough);
    let size = figures(Level::Size, Effort::Quick);
    let all = [plain, speed, thorough, size];
    let limits = [(62, 41.4), (46, 8.7), (46, 8.7), (43, 8.8)];
    for ((length, mean), (most, slowest)) in all.into_iter().zip(limits) {
        assert!(length <= most && mean <= slowest, "{all:?} is beyond {limits:?}");
    }
}

#[test]
fn calls_that_are_made_often_come_first() {
    let mut frequencies = Frequencies::new();
    frequencies.add(Arch::X86_64.audit_arch(), 262, 900);
    frequencies.add(Arch::X86_64.audit_arch(), 3, 100);
    let options = Options { frequencies: Some(frequencies), ..Options::default() };
    let program = compile(&native(server()), &options).unwrap().program;
    // Load and test the arch, load and test the number, answer.
    assert_eq!(executed(&program, 262, [0; 6]), 5);
    assert!(executed(&program, 3, [0; 6]) <= 7);
}

#[test]
fn equal_argument_checks_are_one_block() {
    for (apart, level) in [(1, Level::Speed), (2, Level::Size)] {
        let mut table = Table::new(DENY);
        for index in 0..165_u32 {
            let value = u64::from(index % 4);
            let when = Condition::All(vec![equals(0, value + 1), equals(2, 7 * value)]);
            table.set(apart * index, apart * index, allow_if(when));
        }
        let program = compile(&native(table), &options(level, Effort::Quick)).unwrap().program;
        let length = program.insns().len();
        assert!(length <= 200, "{length} instructions, numbers {apart} apart");
    }
}

#[test]
fn many_values_are_a_tree() {
    let values = |index: u64| index * 977 + index % 5;
    let any = Condition::Any((0..2500).map(|index| equals(1, values(index))).collect());
    let mut table = Table::new(DENY);
    table.set(16, 16, allow_if(any));
    let program = compile(&native(table), &Options::default()).unwrap().program;
    let worst = (0..2500).map(|index| executed(&program, 16, [0, values(index), 0, 0, 0, 0]));
    let worst = worst.max().unwrap();
    assert!(worst <= 40, "{worst} executed");
    assert_eq!(program.run(&call(16, [0, 3, 0, 0, 0, 0])), DENY);
    assert_eq!(program.run(&call(16, [0, 1 << 32, 0, 0, 0, 0])), DENY);
}

#[test]
fn values_that_follow_each_other_are_one_range() {
    let any = Condition::Any((100..1100).map(|value| equals(0, value)).collect());
    let mut table = Table::new(DENY);
    table.set(1, 1, allow_if(any));
    let program = compile(&native(table), &Options::default()).unwrap().program;
    assert!(program.insns().len() <= 14, "{} instructions", program.insns().len());
}

#[test]
fn a_word_is_loaded_once() {
    let flags = [1, 34, 50, 16385, 16401, 16418, 32769];
    let any = Condition::Any(
        flags.map(|flag| Condition::All(vec![equals(3, flag), equals(2, 1)])).to_vec(),
    );
    let mut table = Table::new(DENY);
    table.set(9, 9, allow_if(any));
    let program = compile(&native(table), &Options::default()).unwrap().program;
    // The arch, the number, and four halves of arguments.
    let loads = program.insns().iter().filter(|insn| insn.code == 0x20).count();
    assert_eq!(loads, 6);
}

#[test]
fn jumps_reach_any_distance() {
    // Every second number is alone: far more than the 255 that a conditional jump reaches.
    let mut table = Table::new(DENY);
    for index in 0..1200_u32 {
        let chain = match index % 3 {
            0 => Action::Allow.into(),
            1 => Action::Errno(38).into(),
            _ => allow_if(equals(u8::try_from(index % 6).unwrap(), u64::from(index))),
        };
        table.set(3 * index, 3 * index, chain);
    }
    let rules = native(table);
    for level in [Level::Speed, Level::Size] {
        let program = compile(&rules, &options(level, Effort::Quick)).unwrap().program;
        assert!(program.insns().len() > 2000);
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let mut table = Table::new(DENY);
    for index in 0..5000_u32 {
        table.set(2 * index, 2 * index, Action::Allow);
    }
    let error = compile(&native(table), &Options::default()).unwrap_err();
    assert!(matches!(error, CompileError::TooLong { length, .. } if length > 4096), "{error}");
    assert!(error.to_string().contains("telling the calls of x86_64 apart"), "{error}");
}

#[test]
fn no_foreign_number_passes_as_a_native_call() {
    let mut table = server();
    table.set(Arch::X32_BIT, u32::MAX, Action::KillProcess);
    for level in [Level::None, Level::Speed, Level::Size] {
        let program = compile(&native(table.clone()), &options(level, Effort::Quick)).unwrap();
        for nr in (0..512).map(|nr| nr | Arch::X32_BIT).chain([u32::MAX, 1 << 31]) {
            assert_eq!(program.program.run(&call(nr, [0; 6])), Action::KillProcess);
        }
    }
}

#[test]
fn what_does_not_fit_can_be_split() {
    let mut table = Table::new(DENY);
    for index in 0..5000_u32 {
        table.set(2 * index, 2 * index, Action::Errno(2));
    }
    table.set(20_001, 20_001, Action::Allow);
    let programs = compile_stack(&native(table), &Options::default()).unwrap();
    assert!(programs.len() > 1);
    let decide = |nr| programs.iter().map(|program| program.run(&call(nr, [0; 6]))).min();
    assert_eq!(decide(4), Some(Action::Errno(2)));
    assert_eq!(decide(5), Some(DENY));
    assert_eq!(decide(20_001), Some(Action::Allow));
}

#[test]
fn facts_are_counted() {
    let compiled = compile(&native(server()), &Options::default()).unwrap();
    assert_eq!(compiled.facts.const_allowed, 59);
    let mut frequencies = Frequencies::new();
    frequencies.add(Arch::X86_64.audit_arch(), 0, 3);
    frequencies.add(Arch::X86_64.audit_arch(), 4, 1);
    let cost = compiled.cost(&frequencies);
    let (read, stat) =
        (executed(&compiled.program, 0, [0; 6]), executed(&compiled.program, 4, [0; 6]));
    assert_eq!(cost.executed, u128::from(3 * read + stat));
}
