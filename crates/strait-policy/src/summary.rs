//! A policy in numbers: how much it allows of what there is, and of what Docker would allow.

use std::collections::BTreeSet;

use strait_abi::{Arch, Syscall};

use crate::baseline::Baseline;
use crate::policy::Policy;
use crate::rules::{Chain, Rules};
use crate::sets::Set;

/// What rules allow on one ABI, beside what a baseline does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The ABI.
    pub arch: Arch,
    /// How many calls there are.
    pub existing: usize,
    /// Calls that pass whatever their arguments.
    pub allowed: BTreeSet<Syscall>,
    /// Calls that pass with some arguments.
    pub conditional: BTreeSet<Syscall>,
    /// Calls that the baseline lets pass with some arguments, and these rules with none.
    pub only_baseline: BTreeSet<Syscall>,
    /// Calls that these rules let pass with some arguments, and the baseline with none.
    pub beyond_baseline: BTreeSet<Syscall>,
}

impl Summary {
    /// Reads the rules of `arch`.
    pub fn new(rules: &Rules, arch: Arch, baseline: &Baseline) -> Summary {
        let mut summary = Summary {
            arch,
            existing: 0,
            allowed: BTreeSet::new(),
            conditional: BTreeSet::new(),
            only_baseline: BTreeSet::new(),
            beyond_baseline: BTreeSet::new(),
        };
        for call in Syscall::all() {
            let Some(nr) = call.number(arch) else { continue };
            summary.existing += 1;
            let passes = rules
                .table(arch.audit_arch())
                .map_or(Passes::Never, |table| passes(table.chain(nr)));
            match passes {
                Passes::Always => drop(summary.allowed.insert(call)),
                Passes::Sometimes => drop(summary.conditional.insert(call)),
                Passes::Never => {}
            }
            match (passes != Passes::Never, baseline.allows(call)) {
                (true, false) => drop(summary.beyond_baseline.insert(call)),
                (false, true) => drop(summary.only_baseline.insert(call)),
                _ => {}
            }
        }
        summary
    }
}

impl Policy {
    /// The calls that `rules`, which are this policy's, let pass on some ABI, and that have no
    /// necessity in the ledger; what a set of `include` has is there for the set's reason.
    pub fn excess(&self, rules: &Rules) -> BTreeSet<Syscall> {
        let passes_somewhere = |call: Syscall| {
            self.architectures.iter().any(|arch| {
                let chain = call
                    .number(arch)
                    .and_then(|nr| Some(rules.table(arch.audit_arch())?.chain(nr)));
                chain.is_some_and(|chain| passes(chain) != Passes::Never)
            })
        };
        let included = |call: Syscall| {
            self.include
                .iter()
                .filter_map(|name| Set::from_name(name))
                .any(|set| set.contains(call))
        };
        let without_reason = |call: &Syscall| {
            self.necessity.get(call).is_none_or(|reasons| reasons.is_empty()) && !included(*call)
        };
        Syscall::all().filter(without_reason).filter(|&call| passes_somewhere(call)).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    Always,
    Sometimes,
    Never,
}

/// By the actions alone: arms are taken to be reachable.
fn passes(chain: &Chain) -> Passes {
    let mut actions = chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise]);
    let some = actions.clone().any(|action| action.lets_pass());
    match (some, actions.all(|action| action.lets_pass())) {
        (_, true) => Passes::Always,
        (true, false) => Passes::Sometimes,
        (false, false) => Passes::Never,
    }
}

#[cfg(test)]
mod tests {
    use strait_bpf::Action;

    use super::*;
    use crate::baseline::docker_default;
    use crate::policy::{Declared, Necessity, Rule};

    #[test]
    fn what_is_allowed_is_counted_against_what_there_is() {
        let calls = ["read", "mount"].map(|name| Syscall::from_name(name).unwrap());
        let mut policy = Policy::new(Arch::X86_64.into(), Action::Errno(1));
        policy.rules.push(Rule::new(calls, Action::Allow));
        let declared = Declared { by: "me".into(), reason: "it reads".into(), expires: None };
        policy.necessity.insert(calls[0], vec![Necessity::Declared(declared)]);
        let rules = policy.lower().unwrap();
        let baseline = docker_default();
        let summary = Summary::new(&rules, Arch::X86_64, &baseline);
        assert_eq!(summary.allowed, BTreeSet::from(calls));
        assert_eq!(summary.beyond_baseline, BTreeSet::from([calls[1]]));
        let baseline_calls = baseline.allowed.len() + baseline.conditional.len();
        assert_eq!(summary.only_baseline.len(), baseline_calls - 1);
        assert!(summary.existing > 300);
        assert_eq!(policy.excess(&rules), BTreeSet::from([calls[1]]));
    }
}
