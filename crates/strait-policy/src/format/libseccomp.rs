//! What libseccomp makes of rules, for each ABI that a filter is for.
//!
//! - of the rules of a call the first without conditions decides, whatever stands around it;
//! - arguments are compared as whole registers, on x32 as on ABIs of 32 bits;
//! - on ABIs with `socketcall` and `ipc`, a rule for a call that can be made by them is a rule for
//!   them too;
//! - x86_64 and x32 share an audit arch: each has the numbers with or without the bit, and both
//!   have the number by which a tracer skips a call.

use std::collections::BTreeMap;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

pub(super) use super::oci::{Arg, CompareOp};
use super::oci::{compare_test, multiplexed, register};
use crate::rules::{Arm, Chain, Condition, Rules, Table, Test};

/// The number that a tracer leaves to skip a call.
const SKIPPED: u32 = u32::MAX;

/// Calls that x32 has too and libseccomp 2.5 takes for calls of x86_64 alone.
const NOT_ON_X32: &[&str] = &["map_shadow_stack", "uretprobe"];

/// A rule for one call.
#[derive(Clone, Debug)]
pub(super) struct FilterRule {
    /// A name that is known here, or not.
    pub(super) name: String,
    pub(super) action: Action,
    /// All of these hold together; no two are on one argument.
    pub(super) args: Vec<Arg>,
}

/// A filter that is being made.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    default: Action,
    /// What other audit arches and ABIs get.
    bad_arch: Action,
    arches: BTreeMap<Arch, BTreeMap<u32, Chain>>,
}

impl Filter {
    /// A filter for no ABI so far.
    pub(super) fn new(default: Action, bad_arch: Action) -> Filter {
        Filter { default, bad_arch, arches: BTreeMap::new() }
    }

    /// The same, for one more ABI with these rules.
    pub(super) fn with_arch(mut self, arch: Arch, rules: &[FilterRule]) -> Filter {
        let mut by_number: BTreeMap<u32, Vec<(Vec<Test>, Action)>> = BTreeMap::new();
        let is_here = |name: &str| arch != Arch::X32 || !NOT_ON_X32.contains(&name);
        let says = |rule: &&FilterRule| rule.action != self.default && is_here(&rule.name);
        for rule in rules.iter().filter(says) {
            let tests = |args: &[Arg]| -> Vec<Test> {
                args.iter().map(|arg| compare_test(arg, register(arch))).collect()
            };
            if let Some((gate, operation)) = multiplexed(&rule.name, arch)
                && rule.args.is_empty()
            {
                let operation = Arg { index: 0, op: CompareOp::Eq, value: operation, value_two: 0 };
                by_number.entry(gate).or_default().push((tests(&[operation]), rule.action));
            }
            if let Some(nr) = Syscall::from_name(&rule.name).and_then(|call| call.number(arch)) {
                by_number.entry(nr).or_default().push((tests(&rule.args), rule.action));
            }
        }
        let chain = |rules: Vec<(Vec<Test>, Action)>| {
            if let Some((_, action)) = rules.iter().find(|(tests, _)| tests.is_empty()) {
                return Chain::from(*action);
            }
            let arms = rules.into_iter().map(|(tests, action)| {
                let mut tests: Vec<Condition> = tests.into_iter().map(Condition::Test).collect();
                let when = if tests.len() == 1 { tests.remove(0) } else { Condition::All(tests) };
                Arm { when, action }
            });
            Chain { arms: arms.collect(), otherwise: self.default }
        };
        let numbers = by_number.into_iter().map(|(nr, rules)| (nr, chain(rules))).collect();
        self.arches.insert(arch, numbers);
        self
    }

    /// What it means.
    pub(super) fn rules(&self) -> Rules {
        let mut rules = Rules::new(self.bad_arch);
        for (&arch, numbers) in &self.arches {
            let table = rules.table(arch.audit_arch()).cloned();
            let mut table = table.unwrap_or_else(|| match arch {
                Arch::X86_64 | Arch::X32 => {
                    let mut table = Table::new(self.bad_arch);
                    table.set(SKIPPED, SKIPPED, self.default);
                    table
                }
                _ => Table::new(self.default),
            });
            match arch {
                Arch::X86_64 => table.set(0, Arch::X32_BIT - 1, self.default),
                Arch::X32 => table.set(Arch::X32_BIT, u32::MAX, self.default),
                _ => {}
            }
            for (&nr, chain) in numbers {
                table.set(nr, nr, chain.clone());
            }
            rules = rules.with_table(arch.audit_arch(), table);
        }
        rules
    }
}
