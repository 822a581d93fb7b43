//! Steps: named phases of a workload that only ever tighten.
//!
//! A step's rules say what is taken away; a call that none of them decides stays as it was. To be at
//! a step is to have its rules and those of all steps before it, on top of the policy's own: of all
//! that say something the most restrictive wins, as with filters that are stacked. So a step cannot
//! open anything, however its rules are written.

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
        let mut rules = self.lower_step(&Step { name: String::new(), rules: Vec::new() })?;
        for step in self.up_to(to)?.iter().skip(passed) {
            rules = restricted(&rules, &self.lower_step(step)?);
        }
        Ok(rules)
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
    let mut rules = Rules::new(stricter(older.foreign(), newer.foreign()));
    let arches = older.tables().chain(newer.tables()).map(|(arch, _)| arch);
    for arch in arches {
        let table = |rules: &Rules| match rules.table(arch) {
            Some(table) => table.clone(),
            None => Table::new(rules.foreign()),
        };
        let (one, two) = (table(older), table(newer));
        let mut both = Table::new(Action::Allow);
        let mut starts: Vec<u32> =
            one.spans().chain(two.spans()).map(|(first, _, _)| first).collect();
        starts.sort_unstable();
        for first in starts {
            both.set(first, u32::MAX, chains(one.chain(first), two.chain(first)));
        }
        rules = rules.with_table(arch, both);
    }
    rules
}

/// For each arm of the newer chain all of the older one, restricted by what it says.
fn chains(older: &Chain, newer: &Chain) -> Chain {
    let mut arms = Vec::new();
    for arm in &newer.arms {
        let by = |action| stricter(action, arm.action);
        let outcome = |arm: &Arm| by(arm.action);
        if older.arms.iter().any(|older_arm| outcome(older_arm) != by(older.otherwise)) {
            for older_arm in &older.arms {
                let when = Condition::All(vec![arm.when.clone(), older_arm.when.clone()]);
                arms.push(Arm { when, action: outcome(older_arm) });
            }
        }
        arms.push(Arm { when: arm.when.clone(), action: by(older.otherwise) });
    }
    let by = |action| stricter(action, newer.otherwise);
    let rest = older.arms.iter().map(|arm| Arm { when: arm.when.clone(), action: by(arm.action) });
    arms.extend(rest);
    Chain { arms, otherwise: by(older.otherwise) }
}

fn stricter(older: Action, newer: Action) -> Action {
    if older.restriction_cmp(newer).is_lt() { older } else { newer }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy);
        let error = policy.lower_at("sevre").unwrap_err();
        assert_eq!(error.to_string(), "the policy has no step `sevre`; did you mean `serve`?");
    }
}
