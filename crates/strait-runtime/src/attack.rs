//! The bypass suite: which ways around a policy are open on this kernel, tried for real.
//!
//! Each class of attack is tried twice by throw-away children ([`strait_kernel::attack`]): without a
//! filter, to see that it works on this machine at all, and under the policy's program. A class that
//! aims at nothing that the policy forbids is not tried, and one that this machine refuses by itself
//! shows nothing; both are not applicable, and the reason is told.
//!
//! What a policy has decided by others than its filter is there too: the supervisor of `network`, which
//! answers as it does for a workload, and who looks at what is executed for `exec.strict`.

mod classes;

use std::any::Any;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use rustix::process::Pid;
use serde::Serialize;
use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Action, Decision, SeccompData, Undecided};
use strait_compiler::{CompileError, Options};
use strait_kernel::attack::{Attack, Attempt, AttemptError, Confinement, Supervise, attempt};
use strait_kernel::seccomp::Listener;
use strait_policy::{LowerError, Policy, Rules, StepError, errno_name};

use crate::domain::{ContainError, contain};
use crate::exec_check::ExecCheck;
use crate::network::Service;
use crate::steps::Steps;
use crate::supervise::{Answering, Supervisor};

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
    let network = policy.network.as_ref();
    let service = network.map(|network| {
        let rules = rules.clone();
        move |listener: Listener, workload: Pid| -> io::Result<Box<dyn Any>> {
            let steps = Steps::only(rules.clone());
            let answering = Answering::Enforce;
            let supervisor = Supervisor::new(listener, workload, policy.clone(), steps, answering);
            let service = Service::start(supervisor, network.clone(), Box::new(|_| {}))?;
            Ok(Box::new(service))
        }
    });
    attack_by(policy, &rules, service.as_ref().map(|service| service as &Supervise<'_>))
}

/// Tries every class under these rules, whose notified calls are answered so.
fn attack_by(
    policy: &Policy,
    rules: &Rules,
    supervise: Option<&Supervise<'_>>,
) -> Result<Vec<Finding>, AttackError> {
    let domain = contain(policy)?.domain;
    let strict = policy.exec.as_ref().filter(|exec| exec.strict);
    let check = strict.map(ExecCheck::new).transpose()?.map(RefCell::new);
    let check = check.as_ref();
    let may_run = check.map(|check| move |process| check.borrow_mut().check(process).is_ok());
    let decision = rules.decision()?;
    let program = strait_compiler::compile(rules, &Options::default())?.program;
    let arch = Arch::NATIVE.ok_or(AttackError::UnknownArch)?;
    let view = View { decision: &decision, arch, policy };
    let confinement = Confinement {
        filter: Some(&program),
        domain: domain.as_ref(),
        supervise,
        may_run: may_run.as_ref().map(|may_run| may_run as _),
    };
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
    // Whose calls are not to be answered.
    let confinement = match attack {
        Attack::Unanswered(_) => Confinement { supervise: None, ..confinement },
        _ => confinement,
    };
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
        // SIGKILL: who looks at what is executed does so.
        Attempt::Killed { call, signal: 9 } => {
            format!("the process is killed before its first instruction after {call}")
        }
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

    /// Whether it is, or somebody is asked.
    fn may_pass(&self, name: &str, args: [u64; 6]) -> bool {
        self.call(name).is_some_and(|(arch, nr)| {
            let action = self.decision.decide(&SeccompData::new(arch, nr).with_args(args));
            action.lets_pass() || action == Action::Notify
        })
    }

    /// Whether every call of this name is made so.
    fn always(&self, name: &str) -> bool {
        self.call(name).is_some_and(|(arch, nr)| {
            self.decision.answer(arch, nr).actions().iter().all(|action| action.lets_pass())
        })
    }

    /// An address of this machine that `network` does not permit, by whatever port is chosen to listen;
    /// any, where there are no such lists.
    fn out_of_reach(&self) -> Result<Ipv4Addr, &'static str> {
        let Some(network) = &self.policy.network else { return Ok(Ipv4Addr::LOCALHOST) };
        let loopback = [1, 2, 77].map(|last| Ipv4Addr::new(127, 0, 0, last));
        let (first, last) = chosen_ports();
        let is_out_of_reach = |&address: &Ipv4Addr| {
            (first..=last).all(|port| {
                let address = SocketAddr::from((address, port));
                !network.connect.iter().any(|endpoint| endpoint.permits(address))
            })
        };
        let found = loopback.into_iter().find(is_out_of_reach);
        found.ok_or("`network` permits what listens on this machine, and no other is tried")
    }

    /// An address that `network` permits to connect to.
    fn permitted(&self) -> Option<SocketAddrV4> {
        let network = self.policy.network.as_ref()?;
        network.connect.iter().find_map(|endpoint| match endpoint.first() {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        })
    }

    fn call(&self, name: &str) -> Option<(AuditArch, u32)> {
        let nr = Syscall::from_name(name)?.number(self.arch)?;
        Some((self.arch.audit_arch(), nr))
    }
}

/// The ports of which the kernel chooses one (ip(7), `ip_local_port_range`).
fn chosen_ports() -> (u16, u16) {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = range.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => (first, last),
        _ => (1024, u16::MAX),
    }
}

fn name_of<S: serde::Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::thread;

    use strait_kernel::supervision::is_over;
    use strait_policy::call;
    use strait_testkit::skip;

    use super::*;

    /// The classes that come to what a supervisor of addresses decides.
    const ADDRESSES: [&str; 6] = [
        "argument-rewrite",
        "connect-outside",
        "fast-open",
        "inherited-datagram",
        "inherited-socket",
        "mptcp",
    ];

    /// Answers each notified call by this.
    fn answered(
        listener: Listener,
        passes: impl Fn(u32, &SeccompData) -> bool + Send + 'static,
    ) -> io::Result<Box<dyn Any>> {
        thread::spawn(move || {
            loop {
                match listener.receive() {
                    Ok(notification) => {
                        let id = notification.id;
                        let _ = match passes(notification.tid, &notification.data) {
                            true => listener.continue_call(id),
                            false => listener.fail_call(id, 13),
                        };
                    }
                    Err(_) if is_over(&listener) => break,
                    Err(_) => {}
                }
            }
        });
        Ok(Box::new(()))
    }

    fn policy(more: &str) -> Policy {
        let text = format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {{architectures: [x86_64], \
             default: allow{more}}}\n"
        );
        Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// What is open and what is blocked of these classes.
    fn found(findings: &[Finding], open: bool) -> BTreeSet<&'static str> {
        let is = |outcome: &Outcome| match outcome {
            Outcome::Open { .. } => open,
            Outcome::Blocked { .. } => !open,
            Outcome::NotApplicable { .. } => false,
        };
        let found = findings.iter().filter(|finding| is(&finding.outcome));
        found.map(|finding| finding.class.name).filter(|name| ADDRESSES.contains(name)).collect()
    }

    /// Without MPTCP where this machine has none.
    fn tried(names: &[&'static str]) -> BTreeSet<&'static str> {
        let has_mptcp = std::path::Path::new("/proc/sys/net/mptcp/enabled").exists();
        names.iter().copied().filter(|name| has_mptcp || *name != "mptcp").collect()
    }

    #[test]
    fn a_list_of_addresses_holds_against_every_class() {
        let findings = attack(&policy(", network: {connect: ['localhost:*']}"), None).unwrap();
        assert_eq!(found(&findings, true), BTreeSet::new(), "{findings:#?}");
        assert_eq!(found(&findings, false), tried(&ADDRESSES), "{findings:#?}");
    }

    /// What reads an address and has the kernel go on is not what connects.
    #[test]
    fn a_supervisor_that_lets_calls_go_on_is_deceived_by_the_address() {
        let policy = policy(", network: {connect: ['localhost:*']}");
        let naive = |listener: Listener, _: Pid| {
            answered(listener, |tid, data| {
                if call::name(data).is_none_or(|name| name.name() != "connect") {
                    return false;
                }
                let mut address = [0; 16];
                let memory = File::open(format!("/proc/{tid}/mem"));
                let read =
                    memory.and_then(|memory| memory.read_exact_at(&mut address, data.args[1]));
                read.is_ok() && address[4..8] == [127, 0, 0, 1]
            })
        };
        let findings = attack_by(&policy, &policy.lower().unwrap(), Some(&naive)).unwrap();
        assert_eq!(found(&findings, true), ["argument-rewrite"].into(), "{findings:#?}");
    }

    #[test]
    fn a_supervisor_that_lets_everything_go_on_is_found_open() {
        let policy = policy(", network: {connect: ['localhost:*']}");
        let lenient = |listener: Listener, _: Pid| answered(listener, |_, _| true);
        let findings = attack_by(&policy, &policy.lower().unwrap(), Some(&lenient)).unwrap();
        let open = found(&findings, true);
        let expected = ["argument-rewrite", "fast-open", "inherited-datagram"].into();
        assert!(open.is_superset(&expected), "{findings:#?}");
        // The filter knows MPTCP by its number and asks nobody.
        assert_eq!(found(&findings, false).contains("mptcp"), tried(&["mptcp"]).contains("mptcp"));
        // Landlock knows ports of TCP, where it does.
        let by_landlock = strait_kernel::landlock::abi() >= 4;
        assert_eq!(open.contains("connect-outside"), !by_landlock, "{findings:#?}");
    }

    /// The rules of Landlock are on TCP: what they do not hold is found.
    #[test]
    fn what_landlock_alone_does_not_hold_is_found_open() {
        if strait_kernel::landlock::abi() < 4 {
            return skip("what Landlock alone does not hold", "it has ports since ABI 4");
        }
        let listed = policy(", network: {connect: ['localhost:443']}");
        let findings = attack_by(&listed, &policy("").lower().unwrap(), None).unwrap();
        let blocked = found(&findings, false);
        assert!(
            blocked.is_superset(&["connect-outside", "inherited-socket"].into()),
            "{findings:#?}"
        );
        let open = found(&findings, true);
        let beside = tried(&["argument-rewrite", "inherited-datagram", "mptcp"]);
        assert!(open.is_superset(&beside), "{findings:#?}");
    }
}
