//! Filters that were loaded one after the other, as one set of rules: the most restrictive answer
//! is the kernel's, and of equally restrictive ones the newest filter's
//! (`seccomp_run_filters` in `kernel/seccomp.c`).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use strait_bpf::Action;

use crate::rules::{Arm, Chain, Condition, Rules, Table};

/// What a thread with both filters gets.
pub(crate) fn stacked(older: &Rules, newer: &Rules) -> Rules {
    let mut rules = Rules::new(stricter(older.foreign(), newer.foreign()));
    let arches: BTreeSet<_> = older.tables().chain(newer.tables()).map(|(arch, _)| arch).collect();
    for arch in arches {
        let table = |rules: &Rules| {
            rules.table(arch).cloned().unwrap_or_else(|| Table::new(rules.foreign()))
        };
        rules = rules.with_table(arch, tables(&table(older), &table(newer)));
    }
    rules
}

/// The answer of two filters, the newer one second.
fn stricter(older: Action, newer: Action) -> Action {
    match older.restriction_cmp(newer) {
        Ordering::Less => older,
        Ordering::Equal | Ordering::Greater => newer,
    }
}

fn tables(older: &Table, newer: &Table) -> Table {
    let starts: BTreeSet<u32> =
        older.spans().chain(newer.spans()).map(|(first, _, _)| first).collect();
    let ends: Vec<u32> = starts.iter().skip(1).map(|next| next - 1).chain([u32::MAX]).collect();
    let mut table = Table::new(Action::Allow);
    for (first, last) in starts.into_iter().zip(ends) {
        table.set(first, last, chains(older.chain(first), newer.chain(first)));
    }
    table
}

fn chains(older: &Chain, newer: &Chain) -> Chain {
    let otherwise = stricter(older.otherwise, newer.otherwise);
    let one = |arms: &[Arm], action: &dyn Fn(Action) -> Action| -> Vec<Arm> {
        arms.iter().map(|arm| Arm { when: arm.when.clone(), action: action(arm.action) }).collect()
    };
    let arms = if newer.arms.is_empty() {
        one(&older.arms, &|action| stricter(action, newer.otherwise))
    } else if older.arms.is_empty() {
        one(&newer.arms, &|action| stricter(older.otherwise, action))
    } else {
        let always = || Condition::All(Vec::new());
        let every = |chain: &Chain| -> Vec<(Condition, Action)> {
            let arms = chain.arms.iter().map(|arm| (arm.when.clone(), arm.action));
            arms.chain([(always(), chain.otherwise)]).collect()
        };
        let mut arms = Vec::new();
        for (first, older) in every(older) {
            for (second, newer) in every(newer) {
                let action = stricter(older, newer);
                let when = match (first == always(), second == always()) {
                    (true, true) => continue,
                    (true, false) => second,
                    (false, true) => first.clone(),
                    (false, false) => Condition::All(vec![first.clone(), second]),
                };
                arms.push(Arm { when, action });
            }
        }
        arms
    };
    if arms.iter().all(|arm| arm.action == otherwise) {
        return Chain::from(otherwise);
    }
    Chain { arms, otherwise }
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use super::*;
    use crate::rules::{Op, Test, Width};

    fn rules(foreign: Action, default: Action, arms: &[(u64, Action)]) -> Rules {
        let mut table = Table::new(default);
        let arm = |&(value, action): &(u64, Action)| {
            let test = Test::new(0, Width::W64, u64::MAX, Op::Le, value).unwrap();
            Arm { when: Condition::Test(test), action }
        };
        table.set(5, 7, Chain { arms: arms.iter().map(arm).collect(), otherwise: default });
        Rules::new(foreign).with_table(Arch::X86_64.audit_arch(), table)
    }

    #[test]
    fn a_stack_decides_as_its_filters_together() {
        let errno = Action::Errno;
        let filters = [
            rules(Action::Allow, errno(1), &[(3, Action::Allow), (9, errno(2))]),
            rules(Action::KillThread, Action::Allow, &[(1, errno(3)), (4, Action::Log)]),
            rules(Action::Allow, Action::Allow, &[]),
            rules(Action::Log, errno(4), &[(7, Action::Trap(1))]),
        ];
        for older in &filters {
            for newer in &filters {
                let together = stacked(older, newer).decision().unwrap();
                let apart = older.decision().unwrap().under(&newer.decision().unwrap()).unwrap();
                assert_eq!(together, apart, "{older:?} {newer:?}");
            }
        }
    }
}
