//! The peers' programs decide as their rules, by our evaluator: where all agree what rules mean, which
//! is one rule a call and one comparison a rule, and for numbers of native calls.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_policy::rules::{Op, Width};
use strait_testkit::generate::Rng;
use strait_testkit::{effort, rules, skip};

use super::peers;
use super::workload::{Compare, Rule, Workload};

/// Constants at which comparisons of two words go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

fn value(rng: &mut Rng) -> u64 {
    match rng.below(3) {
        0 => rng.bits() >> rng.below(64),
        _ => rng.pick(&EDGES),
    }
}

fn compare(rng: &mut Rng) -> Compare {
    let op = rng.pick(&[Op::Eq, Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    let mask = (op == Op::Eq && rng.one_in(2)).then(|| value(rng) | 1);
    let arg = u8::try_from(rng.below(6)).unwrap();
    Compare { arg, op, value: value(rng) & mask.unwrap_or(u64::MAX), mask, width: Width::W64 }
}

fn workload(rng: &mut Rng) -> Workload {
    let known: BTreeMap<&str, u32> =
        Syscall::all().filter_map(|call| Some((call.name(), call.number(Arch::X86_64)?))).collect();
    let known: Vec<(&str, u32)> = known.into_iter().collect();
    let mut rules = BTreeMap::new();
    for _ in 0..1 + rng.below(40) {
        let (call, nr) = rng.pick(&known);
        let conditions = if rng.one_in(2) { vec![compare(rng)] } else { Vec::new() };
        let rule = Rule { action: Action::Allow, call: call.to_owned(), nr: Some(nr), conditions };
        rules.insert(nr, rule);
    }
    Workload {
        name: "random".to_owned(),
        arches: vec![Arch::X86_64],
        default: rng.pick(&[Action::Errno(1), Action::Errno(38), Action::KillProcess]),
        rules: rules.into_values().collect(),
    }
}

#[test]
fn peers_decide_as_their_rules_where_all_agree_what_these_mean() {
    let peers = peers::build();
    if peers.is_empty() {
        return skip("peers_decide_as_their_rules_where_all_agree_what_these_mean", "no peer");
    }
    let mut compared = 0;
    for seed in 0..effort(12) {
        let mut rng = Rng::new(u64::try_from(seed).unwrap());
        let workload = workload(&mut rng);
        let resolved = workload.resolve().unwrap();
        let native = Arch::X86_64.audit_arch();
        let mut calls = rules::calls(&resolved, 2000, &mut rng);
        calls.retain(|call| call.arch == native && call.nr < Arch::X32_BIT);
        for peer in &peers {
            let program = peer.build(&workload).unwrap();
            for call in &calls {
                let (does, says) = (program.run(call), resolved.decide(call));
                assert_eq!(does, says, "{} (seed {seed}): {call:x?}", peer.name());
                compared += 1;
            }
        }
    }
    println!("{compared} decisions of {} peers compared", peers.len());
    assert!(compared > 1000);
}
