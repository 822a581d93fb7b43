//! No program leaves the compiler unproved.

use std::collections::BTreeSet;

use strait_abi::AuditArch;
use strait_bpf::{Action, Program, SeccompData};
use strait_policy::Rules;
use strait_policy::rules::{Chain, Condition};

use crate::{CompileError, Witness};

/// Compares program and rules on every combination of boundary values of their constants.
pub(crate) fn prove(rules: &Rules, program: &Program) -> Result<(), CompileError> {
    let mut arches: Vec<AuditArch> = rules.tables().map(|(arch, _)| arch).collect();
    let foreign: Vec<AuditArch> = arches
        .iter()
        .flat_map(|arch| (0..32).map(|bit| AuditArch::from_raw(arch.raw() ^ 1 << bit)))
        .chain([0, 1, u32::MAX].map(AuditArch::from_raw))
        .filter(|&arch| rules.table(arch).is_none())
        .collect();
    arches.extend(foreign);
    let plain = Chain::from(rules.foreign());
    for arch in arches {
        let spans: Vec<(u32, u32, &Chain)> = match rules.table(arch) {
            Some(table) => table.spans().collect(),
            None => vec![(0, u32::MAX, &plain)],
        };
        for (first, last, chain) in spans {
            for nr in [first, first.midpoint(last), last] {
                check_chain(rules, program, arch, nr, chain)?;
            }
        }
    }
    Ok(())
}

fn check_chain(
    rules: &Rules,
    program: &Program,
    arch: AuditArch,
    nr: u32,
    chain: &Chain,
) -> Result<(), CompileError> {
    let mut values: [BTreeSet<u64>; 6] = std::array::from_fn(|_| BTreeSet::from([0]));
    for arm in &chain.arms {
        collect(&arm.when, &mut values);
    }
    let mut calls = vec![[0_u64; 6]];
    for (arg, values) in values.iter().enumerate() {
        let limit = 20_000 / calls.len().max(1);
        calls = values
            .iter()
            .take(limit.max(2))
            .flat_map(|&value| {
                calls.iter().map(move |args| {
                    let mut args = *args;
                    args[arg] = value;
                    args
                })
            })
            .collect();
    }
    for args in calls {
        let data = SeccompData { nr, arch, instruction_pointer: 0, args };
        let (intended, actual) = (rules.decide(&data), program.run(&data));
        if intended != actual {
            return Err(CompileError::Unproved { witness: Witness { data, intended, actual } });
        }
    }
    if chain.arms.is_empty() && chain.otherwise == Action::Allow {
        // The bitmap cache holds numbers from 0 up; larger ones are never answered from it.
        let data = SeccompData { nr, arch, instruction_pointer: 0, args: [0; 6] };
        let (intended, actual) = (Action::Allow, program.run(&data));
        if intended != actual {
            return Err(CompileError::Unproved { witness: Witness { data, intended, actual } });
        }
    }
    Ok(())
}

fn collect(condition: &Condition, values: &mut [BTreeSet<u64>; 6]) {
    match condition {
        Condition::All(all) | Condition::Any(all) => {
            all.iter().for_each(|one| collect(one, values));
        }
        Condition::Not(one) => collect(one, values),
        Condition::Test(test) => {
            let set = &mut values[usize::from(test.arg())];
            let value = test.value();
            set.extend([value, value.wrapping_add(1), value.wrapping_sub(1), !test.mask() | value]);
            set.extend([value ^ 1 << 32, value ^ 1 << 63, u64::MAX]);
        }
    }
}
