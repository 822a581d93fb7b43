//! Explaining: what a policy does with one call, by which of its rules, and why the call is in it.

use std::collections::BTreeSet;

use strait_bpf::Action;

use crate::lower::{Because, LowerError, Step};
use crate::policy::{Necessity, Policy};
use crate::query::Query;
use crate::rules::Condition;

/// What a policy does with a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What can come of it, in the order in which the policy tries; one, where all that matters of
    /// the arguments is known. The last holds where none before it does.
    pub outcomes: Vec<Outcome>,
    /// Why the call is in the policy.
    pub necessity: Vec<Necessity>,
}

/// One thing that can come of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What is done.
    pub action: Action,
    /// Which part of the policy says so.
    pub because: Because,
    /// What must hold of the arguments that are not known, in the policy's words.
    pub when: Option<String>,
}

impl Policy {
    /// What comes of a call, and why.
    ///
    /// # Errors
    /// If the policy has no meaning.
    pub fn explain(&self, query: &Query) -> Result<Explanation, LowerError> {
        let nr = query.syscall.number(query.arch).unwrap_or(u32::MAX);
        let mut outcomes = Vec::new();
        for Step { when, action, because } in
            self.steps(query.arch.audit_arch(), [nr])?.into_iter().flatten()
        {
            let Some(condition) = when else {
                outcomes.push(Outcome { action, because, when: None });
                break;
            };
            match holds(&condition, &query.args) {
                Some(false) => {}
                Some(true) => {
                    outcomes.push(Outcome { action, because, when: None });
                    break;
                }
                None => {
                    let Because::Rule(index) = because else { continue };
                    let text = self.rules[index].when.as_ref().map(ToString::to_string);
                    outcomes.push(Outcome { action, because, when: text });
                }
            }
        }
        let necessity = self.necessity.get(&query.syscall).cloned().unwrap_or_default();
        Ok(Explanation { outcomes, necessity })
    }
}

impl Explanation {
    /// Every action that can come of the call.
    pub fn actions(&self) -> BTreeSet<Action> {
        self.outcomes.iter().map(|outcome| outcome.action).collect()
    }
}

/// Whether a condition holds, as far as the arguments are known.
pub(crate) fn holds(condition: &Condition, args: &[Option<u64>; 6]) -> Option<bool> {
    match condition {
        Condition::Test(test) => {
            let mut all = [0; 6];
            all[usize::from(test.arg())] = args[usize::from(test.arg())]?;
            Some(test.holds(&all))
        }
        Condition::Not(inner) => holds(inner, args).map(|holds| !holds),
        Condition::All(parts) => all_hold(parts, args, true),
        Condition::Any(parts) => all_hold(parts, args, false).map(|none| !none),
    }
}

/// Whether all parts are `expected`: unknown only if none is known to be otherwise.
fn all_hold(parts: &[Condition], args: &[Option<u64>; 6], expected: bool) -> Option<bool> {
    let mut known = true;
    for part in parts {
        match holds(part, args) {
            Some(holds) if holds != expected => return Some(false),
            Some(_) => {}
            None => known = false,
        }
    }
    known.then_some(true)
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use super::*;

    const POLICY: &str = "
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: errno(EPERM)
  unknown: {after: \"6.11\", action: errno(ENOSYS)}
  rules:
    - {syscalls: [openat], when: \"flags & O_CREAT == 0\", action: allow}
    - {syscalls: [openat], when: dirfd == -100, action: log}
  necessity:
    openat: [{declared: {by: me, reason: it reads}}]
";

    fn explain(call: &str, arch: Arch) -> Explanation {
        let policy = Policy::parse(POLICY).unwrap();
        policy.explain(&Query::parse(call, arch).unwrap()).unwrap()
    }

    #[test]
    fn a_call_has_the_outcomes_that_its_arguments_leave_open() {
        let outcomes = |call: &str| {
            let all = explain(call, Arch::X86_64).outcomes;
            all.into_iter().map(|one| (one.action, one.because, one.when)).collect::<Vec<_>>()
        };
        let (allow, log, errno) = (Action::Allow, Action::Log, Action::Errno(1));
        let creates = Some("flags & O_CREAT == 0".to_owned());
        assert_eq!(
            outcomes("openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY)"),
            [(allow, Because::Rule(0), None)]
        );
        assert_eq!(outcomes("openat(AT_FDCWD, \"/x\", O_CREAT)"), [(log, Because::Rule(1), None)]);
        assert_eq!(
            outcomes("openat(3, \"/x\", _)"),
            [(allow, Because::Rule(0), creates.clone()), (errno, Because::Default, None)]
        );
        assert_eq!(outcomes("openat").len(), 3);
        assert_eq!(outcomes("setxattrat"), [(Action::Errno(38), Because::Unknown, None)]);
        let foreign = explain("read", Arch::I386);
        assert_eq!(foreign.outcomes[0].because, Because::Foreign);
        assert_eq!(foreign.actions(), [Action::KillProcess].into());
        assert_eq!(explain("openat", Arch::X86_64).necessity.len(), 1);
    }
}
