//! The containers that ran before the plugin was there: those that are not confined as they are to be are
//! named. What the kernel enforces counts, and not how they were made.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::process::Pid;
use strait_abi::Arch;
use strait_kernel::task::Task;

use super::admission::Admission;
use super::message::{Container, PodSandbox};
use super::session::shortened;
use super::{Event, Tell};
use crate::containers::{Member, processes_of};
use crate::inspect::{Depth, InspectError, Inspector, Status};
use crate::launch::reason;
use crate::oci::bind::{Bound, Mode};
use crate::verdict::{Differences, Span, Verdict};
use crate::verify::{Judgement, Outcome, Verification, verify_rendered};

/// Looks at each, and tells what there is to tell.
pub(super) fn look(
    admission: &Arc<Admission>,
    pods: &BTreeMap<String, PodSandbox>,
    containers: &[Container],
    tell: &Tell,
) {
    const CREATED: i32 = 1;
    const STOPPED: i32 = 4;
    // One that is made and not started is looked at when it is to be.
    let is_there = |container: &&Container| ![CREATED, STOPPED].contains(&container.state);
    let there: Vec<_> =
        containers.iter().filter(is_there).map(|one| (one, first_process(one))).collect();
    let running = there.len();
    let first: Vec<Pid> = there.iter().filter_map(|&(_, pid)| pid).collect();
    let mut members = match processes_of(&first) {
        Ok(members) => members.into_iter(),
        Err(error) => {
            let why = format!("the processes of this machine cannot be listed: {error}");
            return tell(Event::NotLooked { why });
        }
    };
    let mut inspector = Inspector::new(Depth::Filters);
    let (mut bound, mut unconfined) = (0_usize, 0_usize);
    for (container, pid) in there {
        let members = pid.and_then(|_| members.next());
        let task = pid.map(|pid| Task::read(pid, pid));
        let capabilities = match &task {
            Some(Ok(task)) => task.capabilities.bounding,
            _ => 0,
        };
        let pod = pods.get(&container.pod_sandbox_id);
        let name = || shortened(&container.id);
        let is_to_have = match admission.bound(pod, container, capabilities) {
            Ok(None) => continue,
            Ok(Some(is_to_have)) => is_to_have,
            Err(error) => {
                let why = shortened(&reason(&error));
                tell(Event::Unknown { container: name(), policy: None, why });
                continue;
            }
        };
        bound += 1;
        let policy = is_to_have.name.to_string();
        let found = match (task, members) {
            // It has ended meanwhile.
            (Some(Err(_)), _) => continue,
            (Some(Ok(_)), Some(members)) => processes(&mut inspector, &members, &is_to_have),
            _ => Found::Unknown("the runtime does not tell its first process".to_owned()),
        };
        match found {
            Found::Confined => {}
            Found::Otherwise(why) => {
                unconfined += 1;
                tell(Event::Unconfined { container: name(), policy, why: shortened(&why) });
            }
            Found::Unknown(why) => {
                let why = shortened(&why);
                tell(Event::Unknown { container: name(), policy: Some(policy), why });
            }
        }
    }
    tell(Event::Looked { running, bound, unconfined });
}

/// Whether a container that is made and not started is confined as it is to be, whoever has seen to that: a runtime
/// that loads the filter before it waits for the start, as it does without no_new_privs. What loads it later
/// cannot be told of yet.
pub(super) fn is_confined_by_now(
    admission: &Admission,
    pod: Option<&PodSandbox>,
    container: &Container,
) -> bool {
    let Some(pid) = first_process(container) else { return false };
    let Ok(task) = Task::read(pid, pid) else { return false };
    let bound = admission.bound(pod, container, task.capabilities.bounding);
    let Ok(Some(bound)) = bound else { return false };
    let mut inspector = Inspector::new(Depth::Filters);
    let verified = verify_rendered(&mut inspector, pid, &bound.intent, Some(&bound.original));
    // It is the first thread that becomes the workload: a runtime's others end with that.
    verified.is_ok_and(|verification| {
        let its = verification.judged.iter().find(|judged| judged.threads.contains(&pid));
        its.is_some_and(|its| permits_no_more(&its.judgement, bound.mode))
    })
}

/// Whether nothing passes that is not to.
fn permits_no_more(judgement: &Judgement, mode: Mode) -> bool {
    match judgement {
        Judgement::Verdict(Verdict::Holds { .. } | Verdict::Tighter { .. }) => true,
        // That calls fail otherwise does not let more pass.
        Judgement::Verdict(Verdict::Drift { permits_more: false, .. }) => mode != Mode::Log,
        _ => false,
    }
}

fn first_process(container: &Container) -> Option<Pid> {
    i32::try_from(container.pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw)
}

/// What is found of a container.
enum Found {
    /// Nothing passes that its policy denies; in the mode `log`, unless it is logged.
    Confined,
    /// That is not so.
    Otherwise(String),
    /// Whether it is so cannot be told.
    Unknown(String),
}

/// The worst of all processes.
fn processes(inspector: &mut Inspector, members: &[Member], bound: &Bound) -> Found {
    let mut unknown = None;
    for &Member { pid, .. } in members {
        match verify_rendered(inspector, pid, &bound.intent, Some(&bound.original)) {
            Ok(verification) => match process(&verification, bound.mode) {
                Found::Confined => {}
                Found::Otherwise(why) => {
                    return Found::Otherwise(format!("{}: {why}", called(&verification)));
                }
                Found::Unknown(why) => {
                    unknown.get_or_insert(format!("{}: {why}", called(&verification)));
                }
            },
            // It has ended meanwhile.
            Err(InspectError::Gone { .. } | InspectError::Reused { .. }) => {}
            Err(error) => drop(unknown.get_or_insert(reason(&error))),
        }
    }
    unknown.map_or(Found::Confined, Found::Unknown)
}

fn called(verification: &Verification) -> String {
    format!("process {} ({})", verification.process.pid, verification.process.name)
}

fn process(verification: &Verification, mode: Mode) -> Found {
    match (verification.outcome, verification.process.status) {
        (_, Status::Zombie | Status::Vanished | Status::Reused) => return Found::Confined,
        (_, Status::Unconfined) => return Found::Otherwise("it is not confined at all".to_owned()),
        (Outcome::Holds | Outcome::Tighter, _) => return Found::Confined,
        _ => {}
    }
    let mut unknown = None;
    for judged in &verification.judged {
        match &judged.judgement {
            // That calls fail otherwise does not let more pass.
            Judgement::Verdict(Verdict::Drift { permits_more: false, .. }) if mode != Mode::Log => {
            }
            Judgement::Verdict(Verdict::Drift { differences, .. }) => {
                return Found::Otherwise(different(differences));
            }
            Judgement::Verdict(Verdict::Holds { .. } | Verdict::Tighter { .. }) => {}
            Judgement::Unknown { unknown: why } => drop(unknown.get_or_insert(why.clone())),
        }
    }
    unknown.map_or(Found::Confined, Found::Unknown)
}

/// One call that is decided otherwise: of what passes, if anything does, and of this machine's own calls.
fn different(differences: &Differences) -> String {
    let passes = |text: &str| text == "allow" || text == "log";
    let native = Arch::NATIVE.map(Arch::name);
    let rank = |span: &&Span| {
        let is_more = passes(&span.installed) && !passes(&span.intended);
        (is_more, Some(span.witness.arch.as_str()) == native)
    };
    // The first of those that are alike.
    let Some(span) = differences.spans.iter().rev().max_by_key(rank) else {
        return "it is confined otherwise".to_owned();
    };
    let call = span.witness.name.clone().unwrap_or_else(|| format!("call {}", span.witness.number));
    format!("{call} gets {} and not {}", span.installed, span.intended)
}
