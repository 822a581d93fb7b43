//! Steps: named phases of a workload that only ever tighten.
//!
//! A step's rules say what is taken away; a call that none of them decides stays as it was. To be at
//! a step is to have its rules and those of all steps before it, on top of the policy's own: of all
//! that say something the most restrictive wins, as with filters that are stacked. So a step cannot
//! open anything, however its rules are written.

use std::collections::BTreeSet;

use strait_bpf::Action;

use crate::lower::LowerError;
use crate::policy::{Policy, Step};
use crate::rules::{Arm, Chain, Condition, Rules, Table};
use crate::text::nearest;

/// Why a policy has no rules at a step.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// There is no such step.
    #[error("the policy has no step `{name}`{}", hint(nearest.as_deref()))]
    Unknown {
        /// The name.
        name: String,
        /// One that it may be meant to be.
        nearest: Option<String>,
    },
    /// The policy has no meaning.
    #[error(transparent)]
    Lower(#[from] LowerError),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

impl Policy {
    /// What holds at a step: the policy's rules and those of the steps up to this one.
    ///
    /// # Errors
    /// If there is no such step, or the policy has no meaning.
    pub fn lower_at(&self, step: &str) -> Result<Rules, StepError> {
        let mut rules = self.lower()?;
        for step in self.up_to(step)? {
            rules = restricted(&rules, &self.lower_step(step)?);
        }
        Ok(rules)
    }

    /// What moving on to a step adds: the rules of the steps after `from`, or of all if that is
    /// none, up to `to`. Calls of other ABIs than the policy's pass, as something else denies them.
    ///
    /// # Errors
    /// If there is no such step, or the policy has no meaning.
    pub fn lower_between(&self, from: Option<&str>, to: &str) -> Result<Rules, StepError> {
        let passed = from.map_or(Ok(0), |from| self.up_to(from).map(<[Step]>::len))?;
        let mut rules = self.lower_step(&Step {
            name: String::new(),
            ready: BTreeSet::new(),
            rules: Vec::new(),
        })?;
        for step in self.up_to(to)?.iter().skip(passed) {
            rules = restricted(&rules, &self.lower_step(step)?);
        }
        Ok(rules)
    }

    /// What a workload has that moves on while it runs, from a step (or from none) to those after it: the
    /// rules that hold at the first, with every call notified that a later step decides otherwise. Who
    /// is asked then answers by [`Policy::lower_at`] of the step that the workload is at.
    ///
    /// # Errors
    /// If there is no such step, or the policy has no meaning.
    pub fn lower_moving(&self, from: Option<&str>) -> Result<Rules, StepError> {
        let (mut rules, passed) = match from {
            Some(from) => (self.lower_at(from)?, self.up_to(from)?.len()),
            None => (self.lower()?, 0),
        };
        for step in self.steps.iter().skip(passed) {
            let step = self.lower_step(step)?;
            rules = combined(&rules, &step, |older, newer| match stricter(older, newer) {
                same if same == older => same,
                _ => Action::Notify,
            });
        }
        Ok(rules)
    }

    /// The steps after this one, or all of them, in order.
    ///
    /// # Errors
    /// If there is no such step.
    pub fn steps_after(&self, from: Option<&str>) -> Result<&[Step], StepError> {
        let passed = from.map_or(Ok(0), |from| self.up_to(from).map(<[Step]>::len))?;
        Ok(&self.steps[passed..])
    }

    /// The steps up to this one, with it.
    fn up_to(&self, name: &str) -> Result<&[Step], StepError> {
        match self.steps.iter().position(|step| step.name == name) {
            Some(index) => Ok(&self.steps[..=index]),
            None => Err(StepError::Unknown {
                name: name.to_owned(),
                nearest: nearest(name, self.steps.iter().map(|step| step.name.as_str())),
            }),
        }
    }

    /// A step's rules alone, where everything else passes.
    fn lower_step(&self, step: &Step) -> Result<Rules, LowerError> {
        let mut alone = Policy::new(self.architectures.clone(), Action::Allow);
        alone.foreign = Action::Allow;
        alone.rules = step.rules.clone();
        alone.lower()
    }
}

/// The more restrictive of what both say; where they are alike but for a value, the newer's, as the
/// kernel decides of stacked filters.
fn restricted(older: &Rules, newer: &Rules) -> Rules {
    combined(older, newer, stricter)
}

/// For each call what `both` makes of what the two say.
fn combined(older: &Rules, newer: &Rules, both: fn(Action, Action) -> Action) -> Rules {
    let mut rules = Rules::new(both(older.foreign(), newer.foreign()));
    let arches = older.tables().chain(newer.tables()).map(|(arch, _)| arch);
    for arch in arches {
        let of = |rules: &Rules| match rules.table(arch) {
            Some(table) => table.clone(),
            None => Table::new(rules.foreign()),
        };
        let (one, two) = (of(older), of(newer));
        let mut table = Table::new(Action::Allow);
        let mut starts: Vec<u32> =
            one.spans().chain(two.spans()).map(|(first, _, _)| first).collect();
        starts.sort_unstable();
        for first in starts {
            table.set(first, u32::MAX, chains(one.chain(first), two.chain(first), both));
        }
        rules = rules.with_table(arch, table);
    }
    rules
}

/// For each arm of the newer chain all of the older one, combined with what it says.
fn chains(older: &Chain, newer: &Chain, both: fn(Action, Action) -> Action) -> Chain {
    let mut arms = Vec::new();
    for arm in &newer.arms {
        let by = |action| both(action, arm.action);
        let outcome = |arm: &Arm| by(arm.action);
        if older.arms.iter().any(|older_arm| outcome(older_arm) != by(older.otherwise)) {
            for older_arm in &older.arms {
                let when = Condition::All(vec![arm.when.clone(), older_arm.when.clone()]);
                arms.push(Arm { when, action: outcome(older_arm) });
            }
        }
        arms.push(Arm { when: arm.when.clone(), action: by(older.otherwise) });
    }
    let by = |action| both(action, newer.otherwise);
    let rest = older.arms.iter().map(|arm| Arm { when: arm.when.clone(), action: by(arm.action) });
    arms.extend(rest);
    Chain { arms, otherwise: by(older.otherwise) }
}

fn stricter(older: Action, newer: Action) -> Action {
    if older.restriction_cmp(newer).is_lt() { older } else { newer }
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;
    use strait_bpf::{Decision, SeccompData};

    use super::*;

    fn policy(steps: &str) -> Policy {
        let text = format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64, i386]\n  \
             default: errno(EPERM)\n  rules:\n    - {{syscalls: [socket], when: \"domain == AF_UNIX\", action: log}}\n    \
             - {{syscalls: [socket], when: \"domain in {{AF_INET, AF_INET6}}\", action: allow}}\n    \
             - {{syscalls: [read, write, execve, clone3], action: allow}}\n    \
             - {{syscalls: [mount], action: kill-process}}\n{steps}"
        );
        Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    const STEPS: &str = "  steps:
    serve:
      rules:
        - {syscalls: [execve], action: errno(EACCES)}
        - {syscalls: [socket], when: \"type & 0xf == SOCK_STREAM\", action: allow}
        - {syscalls: [socket], action: errno(EPROTO)}
        - {syscalls: [mount, ptrace], action: allow}
    drain:
      after: serve
      ready: [accept4, shutdown]
      rules:
        - {syscalls: [socket], when: \"domain == AF_INET\", action: trap(3)}
        - {syscalls: [write], when: \"fd > 2\", arch: [x86_64], action: kill-thread}
";

    #[test]
    fn a_step_decides_as_its_filters_would_on_top_of_the_policys() {
        let policy = policy(STEPS);
        let base = policy.lower().unwrap().decision().unwrap();
        let serve = policy.lower_between(None, "serve").unwrap().decision().unwrap();
        let drain = policy.lower_between(Some("serve"), "drain").unwrap().decision().unwrap();
        let both = policy.lower_between(None, "drain").unwrap().decision().unwrap();
        let at = |step: &str| policy.lower_at(step).unwrap().decision().unwrap();
        assert_eq!(at("serve"), base.under(&serve).unwrap());
        assert_eq!(at("drain"), base.under(&serve).unwrap().under(&drain).unwrap());
        assert_eq!(at("drain"), base.under(&both).unwrap());
        assert_ne!(at("serve"), base);
        assert_ne!(at("serve"), at("drain"));
    }

    #[test]
    fn what_a_later_step_decides_otherwise_is_asked_about_and_nothing_else() {
        let policy = policy(STEPS);
        for from in [None, Some("serve"), Some("drain")] {
            let after = policy.steps_after(from).unwrap();
            let steps = std::iter::once(from).chain(after.iter().map(|s| Some(s.name.as_str())));
            let steps: Vec<Decision> = steps
                .map(|step| match step {
                    Some(step) => policy.lower_at(step).unwrap().decision().unwrap(),
                    None => policy.lower().unwrap().decision().unwrap(),
                })
                .collect();
            let moving = policy.lower_moving(from).unwrap().decision().unwrap();
            assert_eq!(moving.actions().contains(&Action::Notify), steps.len() > 1);
            let marked = |mark| moving.map(|a| if a == Action::Notify { mark } else { a }).unwrap();
            let (low, high) = (marked(Action::Allow), marked(Action::KillProcess));
            for at in &steps {
                // What it does not ask about it decides as every step does.
                assert_eq!(low.under(at).unwrap(), *at);
                assert_eq!(at.under(&high).unwrap(), high);
            }
            for nr in 0..500 {
                for args in [[0; 6], [1, 1, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0], [16, 3, 0, 0, 0, 0]] {
                    let call = SeccompData::new(Arch::X86_64.audit_arch(), nr).with_args(args);
                    let differ = steps.iter().any(|at| at.decide(&call) != steps[0].decide(&call));
                    assert_eq!(moving.decide(&call) == Action::Notify, differ, "{nr} {args:?}");
                }
            }
        }
    }

    #[test]
    fn a_step_opens_nothing() {
        let policy = policy(STEPS);
        let base = policy.lower().unwrap().decision().unwrap();
        for step in ["serve", "drain"] {
            let at = policy.lower_at(step).unwrap().decision().unwrap();
            let order = at.compare(&base).unwrap().order;
            assert!(
                matches!(order, strait_bpf::Relation::Tighter | strait_bpf::Relation::Equal),
                "{step}: {order:?}"
            );
        }
    }

    #[test]
    fn steps_are_read_in_order_and_printed_back() {
        let policy = policy(STEPS);
        let names: Vec<&str> = policy.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["serve", "drain"]);
        let ready: Vec<&str> = policy.steps[1].ready.iter().map(|call| call.name()).collect();
        assert_eq!(ready, ["accept4", "shutdown"]);
        assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy);
        let error = policy.lower_at("sevre").unwrap_err();
        assert_eq!(error.to_string(), "the policy has no step `sevre`; did you mean `serve`?");
    }
}
