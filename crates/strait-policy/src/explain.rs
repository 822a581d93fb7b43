//! Explaining: what a policy does with one call, by which of its rules, and why the call is in it.

use std::collections::BTreeSet;

use strait_bpf::Action;

use crate::closing::closings;
use crate::lower::{Because, LowerError, Step};
use crate::policy::{Necessity, Policy};
use crate::query::{Query, known};
use crate::rules::Condition;
use crate::satisfy::{Claim, satisfy};

/// What a policy does with a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What can come of it, in the order in which the policy tries; one, where all that matters of
    /// the arguments is known. The last holds where none before it does. What no arguments lead to
    /// is not among them.
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
    /// A call of which it comes.
    pub example: Query,
}

impl Policy {
    /// What comes of a call, and why.
    ///
    /// # Errors
    /// If the policy has no meaning.
    pub fn explain(&self, query: &Query) -> Result<Explanation, LowerError> {
        let nr = query.syscall.number(query.arch).unwrap_or(u32::MAX);
        let known = known(&query.args);
        let mut outcomes = Vec::new();
        let mut passed: Vec<Condition> = Vec::new();
        let closings = closings(self);
        for Step { when, action, because } in
            self.steps(query.arch.audit_arch(), [nr])?.into_iter().flatten()
        {
            let mut claims = vec![Claim::Holds(&known)];
            claims.extend(passed.iter().map(Claim::Fails));
            // Where that is too intricate to be known, it is possible.
            let possible = |claims: &[Claim<'_>]| satisfy(claims).unwrap_or(Some([0; 6]));
            let (here, elsewhere) = match &when {
                None => (possible(&claims), None),
                Some(when) => {
                    claims.push(Claim::Fails(when));
                    let elsewhere = possible(&claims);
                    claims.pop();
                    claims.push(Claim::Holds(when));
                    (possible(&claims), elsewhere)
                }
            };
            if let Some(args) = here {
                let text = match because {
                    _ if elsewhere.is_none() => None,
                    Because::Rule(index) => self.rules[index].when.as_ref(),
                    _ => closings.iter().find_map(|(other, rule)| {
                        let named = rule.syscalls.contains(&query.syscall);
                        let of = |text: &&crate::When| {
                            text.condition(query.syscall, query.arch).ok() == when
                        };
                        rule.when.as_ref().filter(|_| named && *other == because).filter(of)
                    }),
                };
                let text = text.map(ToString::to_string);
                let holds = |args: &[u64; 6]| {
                    known.holds(args)
                        && when.as_ref().is_none_or(|when| when.holds(args))
                        && !passed.iter().any(|earlier| earlier.holds(args))
                };
                let example = Query { args: args.map(Some), ..query.clone() }.as_c_passes(holds);
                outcomes.push(Outcome { action, because, when: text, example });
            }
            if elsewhere.is_none() {
                break;
            }
            passed.extend(when);
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
        let example = explain("openat", Arch::X86_64).outcomes[1].example.to_string();
        assert_eq!(example, "openat(AT_FDCWD, NULL, O_RDONLY|O_CREAT, 0)");
        assert_eq!(outcomes("setxattrat"), [(Action::Errno(38), Because::Unknown, None)]);
        let foreign = explain("read", Arch::I386);
        assert_eq!(foreign.outcomes[0].because, Because::Foreign);
        assert_eq!(foreign.actions(), [Action::KillProcess].into());
        assert_eq!(explain("openat", Arch::X86_64).necessity.len(), 1);
    }
}
