//! The running kernel does under compiled programs what the rules say.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use strait_abi::Arch;
use strait_bpf::{Action, SeccompData};
use strait_compiler::{Level, Options, compile};
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};
use strait_testkit::kernel::{self, Job};
use strait_testkit::skip;

#[test]
fn compiled_rules_in_the_kernel() {
    if let Some(reason) = kernel::unavailable() {
        return skip("compiled_rules_in_the_kernel", &reason);
    }
    // getppid: harmless, and it takes no notice of the arguments that decide here.
    let getppid = 110;
    let arm = |width: Width, op, value, action| Arm {
        when: Condition::Test(Test::new(1, width, width.mask(), op, value).unwrap()),
        action,
    };
    let chain = Chain {
        arms: vec![
            arm(Width::W32, Op::Eq, 7, Action::Errno(7)),
            arm(Width::W64, Op::Lt, 10, Action::Allow),
            arm(Width::W64, Op::Gt, 1 << 32, Action::Trap(3)),
            arm(Width::W64, Op::Eq, 20, Action::KillProcess),
        ],
        otherwise: Action::Errno(1),
    };
    let mut table = Table::new(Action::Allow);
    table.set(getppid, getppid, chain);
    let rules = Rules::new(Action::KillProcess).with_table(Arch::X86_64.audit_arch(), table);
    let values = [0, 6, 7, 8, 9, 10, 20, 7 | 1 << 32, 1 << 32, 1 + (1 << 32), u64::MAX];
    let calls: Vec<SeccompData> = values
        .iter()
        .map(|&value| {
            let args = [0, value, 0, 0, 0, 0];
            SeccompData::new(Arch::X86_64.audit_arch(), getppid).with_args(args)
        })
        .collect();
    let jobs: Vec<Job> = [Level::None, Level::Speed, Level::Size]
        .into_iter()
        .map(|level| {
            let options = Options { level, ..Options::default() };
            let program = compile(&rules, &options).unwrap().program;
            Job { stack: vec![program], calls: calls.clone() }
        })
        .collect();
    for outcomes in kernel::outcomes(&jobs) {
        assert_eq!(outcomes.len(), calls.len());
        for (call, outcome) in outcomes {
            let intended = rules.decide(&call);
            assert!(outcome.is_of(intended), "{call:?}: {outcome:?}, not {intended}");
        }
    }
}
