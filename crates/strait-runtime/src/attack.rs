//! The bypass suite: which ways around a policy are open on this kernel, tried for real.
//!
//! Each class of attack is tried twice by throw-away children ([`strait_kernel::attack`]): without a
//! filter, to see that it works on this machine at all, and under the policy's program. A class that
//! aims at nothing that the policy forbids is not tried, and one that this machine refuses by itself
//! shows nothing; both are not applicable, and the reason is told.

mod classes;

use serde::Serialize;
use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Decision, SeccompData, Undecided};
use strait_compiler::{CompileError, Options};
use strait_kernel::attack::{Attempt, AttemptError, Confinement, attempt};
use strait_policy::{LowerError, Policy, StepError, errno_name};

use crate::domain::{ContainError, contain};

pub use self::classes::Class;

/// What became of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The class.
    #[serde(serialize_with = "name_of")]
    pub class: &'static Class,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It did not come through.
    Blocked {
        /// By what, for a person to read.
        by: String,
    },
    /// It came through.
    Open {
        /// Why that matters.
        why: &'static str,
        /// What to write into the policy.
        close: &'static str,
    },
    /// It shows nothing here.
    NotApplicable {
        /// Why.
        reason: String,
    },
}

/// Why the suite could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// The policy has no meaning.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The policy has no such step.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The Landlock domain that it asks for cannot be had.
    #[error(transparent)]
    Contain(#[from] ContainError),
    /// The compiler made no program of the rules.
    #[error("the policy cannot be compiled")]
    Compile(#[from] CompileError),
    /// What the rules decide cannot be worked out.
    #[error("the policy is too intricate to be attacked")]
    Undecided(#[from] Undecided),
    /// An attack could not be tried.
    #[error("the attack `{class}` could not be tried")]
    Attempt {
        /// The class.
        class: &'static str,
        /// Why.
        source: AttemptError,
    },
    /// Strait does not know this machine's system calls.
    #[error("Strait knows no system calls of this machine's architecture")]
    UnknownArch,
}

/// Tries every class under a policy, at one of its steps if there is one, in the order of
/// [`Class::ALL`].
///
/// # Errors
/// If the suite could not be run.
pub fn attack(policy: &Policy, step: Option<&str>) -> Result<Vec<Finding>, AttackError> {
    let rules = match step {
        Some(step) => policy.lower_at(step)?,
        None => policy.lower()?,
    };
    let domain = contain(policy)?.domain;
    let decision = rules.decision()?;
    let program = strait_compiler::compile(&rules, &Options::default())?.program;
    let arch = Arch::NATIVE.ok_or(AttackError::UnknownArch)?;
    let view = View { decision: &decision, arch, policy };
    let confinement = Confinement { filter: Some(&program), domain: domain.as_ref() };
    let findings = Class::ALL.iter().map(|class| {
        let outcome = outcome(class, &view, confinement)
            .map_err(|source| AttackError::Attempt { class: class.name, source })?;
        Ok(Finding { class, outcome })
    });
    findings.collect()
}

fn outcome(
    class: &Class,
    view: &View<'_>,
    confinement: Confinement<'_>,
) -> Result<Outcome, AttemptError> {
    let attack = match (class.aim)(view) {
        Ok(attack) => attack,
        Err(reason) => return Ok(Outcome::NotApplicable { reason: reason.to_owned() }),
    };
    let without = attempt(attack, Confinement::default())?;
    if without != Attempt::Succeeded {
        let reason = format!("this machine refuses it by itself: {}", said(without));
        return Ok(Outcome::NotApplicable { reason });
    }
    Ok(match attempt(attack, confinement)? {
        Attempt::Succeeded => Outcome::Open { why: class.why, close: class.close },
        blocked => Outcome::Blocked { by: said(blocked) },
    })
}

/// What stood in the way.
fn said(attempt: Attempt) -> String {
    match attempt {
        Attempt::Succeeded => "nothing".to_owned(),
        Attempt::Refused { call, errno } => {
            let errno = u16::try_from(errno).unwrap_or(0);
            match errno_name(errno) {
                Some(name) => format!("{name} from {call}"),
                None => format!("{call} came to nothing"),
            }
        }
        // SIGSYS of signal(7): what a filter ends a process by.
        Attempt::Killed { call, signal: 31 } => format!("the process is killed at {call}"),
        Attempt::Killed { call, signal } => format!("signal {signal} at {call}"),
        Attempt::Stuck { call } => format!("{call} does not return"),
    }
}

/// What the classes ask about a policy.
struct View<'a> {
    decision: &'a Decision,
    arch: Arch,
    policy: &'a Policy,
}

impl View<'_> {
    /// Whether a call with these arguments is made without anybody being asked.
    fn passes(&self, name: &str, args: [u64; 6]) -> bool {
        self.call(name).is_some_and(|(arch, nr)| {
            self.decision.decide(&SeccompData::new(arch, nr).with_args(args)).lets_pass()
        })
    }

    /// Whether every call of this name is.
    fn always(&self, name: &str) -> bool {
        self.call(name).is_some_and(|(arch, nr)| {
            self.decision.answer(arch, nr).actions().iter().all(|action| action.lets_pass())
        })
    }

    fn call(&self, name: &str) -> Option<(AuditArch, u32)> {
        let nr = Syscall::from_name(name)?.number(self.arch)?;
        Some((self.arch.audit_arch(), nr))
    }
}

fn name_of<S: serde::Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name)
}
