//! What the kernel enforces on a workload, what that leaves open, and how it compares to what is known
//! for it. The least confined thread counts: what one may do, it does for all.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Decision};
use strait_kernel::task::CAP_SYS_ADMIN;
use strait_policy::Rules;
use strait_policy::score::Score;

use super::known_policies::Known;
use crate::inspect::{CAPABILITIES, Inspector, Process, Reading, Status, Thread, capability_names};
use crate::verdict::Verdict;
use crate::verify::{Judgement, judge};

/// What the kernel enforces on a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// The worst status of its processes: `unconfined` before `threads-differ` before `unknown`.
    pub status: String,
    /// How many threads it has.
    pub threads: usize,
    /// How many of them have filters.
    pub filtered: usize,
    /// The digests of the filters of all of its threads, and as what they are known.
    pub filters: Vec<Installed>,
    /// Whether no exec can give any of its threads privileges.
    pub no_new_privs: bool,
    /// The capabilities that any of its threads has in effect.
    pub capabilities: Vec<String>,
    /// Whether those are all that there are.
    pub all_capabilities: bool,
    /// Whether CAP_SYS_ADMIN is among them.
    pub administers: bool,
    /// The effective ids of its users.
    pub users: Vec<u32>,
}

/// A filter that some thread of a workload has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    /// The SHA-256 of its instructions, in hexadecimal.
    pub sha256: String,
    /// How many instructions it has.
    pub instructions: usize,
    /// As what it is known.
    pub known: Option<String>,
}

/// What the least confined thread of a workload may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// How many calls of this machine's ABI there are.
    pub calls: usize,
    /// How many of them pass, with some arguments at least.
    pub allowed: usize,
    /// Those that are dangerous, the worst first.
    pub dangerous: Vec<Dangerous>,
    /// The weights of those together.
    pub danger: u32,
    /// The weights of all dangerous calls that there are.
    pub danger_of_all: u32,
    /// How much attack surface is left ([`strait_policy::score`]), rounded: 0 is nothing, 100 what
    /// Docker's default profile leaves. Of the thread for which it is most.
    pub score: u32,
}

/// A dangerous call that passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dangerous {
    /// The call.
    pub call: String,
    /// What the danger is of.
    pub class: String,
    /// How much it weighs, from 1 to 10.
    pub weight: u8,
}

/// What a workload may call and was never seen or meant to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Excess {
    /// Whether that is known.
    pub state: ExcessState,
    /// The calls.
    pub calls: Vec<String>,
    /// What they were compared with.
    pub against: Vec<String>,
}

/// Whether the excess of a workload is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExcessState {
    /// There is no recording and no policy for it.
    NeverRecorded,
    /// It is known.
    Known,
    /// What it may call is not known.
    Unknown,
}

/// Whether the kernel decides as the policy that is known for a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// Whether it does.
    pub state: DriftState,
    /// The policy.
    pub policy: Option<String>,
    /// A call that is decided otherwise, where there is any.
    pub witness: Option<String>,
}

/// The worst verdict on the processes of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftState {
    /// No policy is known for it.
    NoPolicy,
    /// Every thread is confined as the policy says.
    Holds,
    /// Or more strictly.
    Tighter,
    /// Not every thread could be judged.
    Unknown,
    /// Calls fail otherwise than the policy says.
    FailsOtherwise,
    /// Calls pass that the policy denies.
    PermitsMore,
}

impl DriftState {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            DriftState::NoPolicy => "no policy",
            DriftState::Holds => "holds",
            DriftState::Tighter => "tighter",
            DriftState::Unknown => "unknown",
            DriftState::FailsOtherwise => "fails otherwise",
            DriftState::PermitsMore => "permits more",
        }
    }

    /// Whether it is drift.
    pub const fn is_drift(self) -> bool {
        matches!(self, DriftState::FailsOtherwise | DriftState::PermitsMore)
    }
}

impl Confinement {
    /// The worst status.
    pub(super) fn status_value(&self) -> Status {
        let all = [Status::Unconfined, Status::ThreadsDiffer, Status::Filtered, Status::Strict];
        all.into_iter().find(|status| status.name() == self.status).unwrap_or(Status::Unknown)
    }
}

/// How bad a status is.
fn badness(status: Status) -> u8 {
    match status {
        Status::Strict => 0,
        Status::Filtered => 1,
        Status::ThreadsDiffer => 3,
        Status::Unconfined => 4,
        _ => 2,
    }
}

fn running(processes: &[Process]) -> impl Iterator<Item = (&Process, &Thread)> {
    processes
        .iter()
        .flat_map(|process| process.threads.iter().map(move |thread| (process, thread)))
        .filter(|(_, thread)| thread.reading != Reading::Ended)
}

pub(crate) fn confinement(processes: &[Process]) -> Confinement {
    let worst = processes.iter().map(|process| process.status).max_by_key(|one| badness(*one));
    let threads: Vec<(&Process, &Thread)> = running(processes).collect();
    let filtered = threads.iter().filter(|(process, thread)| {
        process.stack_of(thread).is_some_and(|stack| !stack.filters.is_empty())
    });
    let filters: BTreeSet<Installed> = processes
        .iter()
        .flat_map(|process| process.stacks.iter().flat_map(|stack| &stack.filters))
        .map(|filter| Installed {
            sha256: filter.sha256.clone(),
            instructions: filter.instructions,
            known: filter.known.as_ref().map(|known| known.name.clone()),
        })
        .collect();
    let effective = threads.iter().fold(0, |all, (_, thread)| all | thread.capabilities.effective);
    let users: BTreeSet<u32> = processes.iter().map(|process| process.user).collect();
    let capabilities: Vec<String> = capability_names(effective).map(str::to_owned).collect();
    Confinement {
        status: worst.unwrap_or(Status::Unknown).name().to_owned(),
        threads: threads.len(),
        filtered: filtered.count(),
        filters: filters.into_iter().collect(),
        no_new_privs: threads.iter().all(|(_, thread)| thread.no_new_privs),
        all_capabilities: capabilities.len() == CAPABILITIES.len(),
        administers: effective >> CAP_SYS_ADMIN & 1 == 1,
        capabilities,
        users: users.into_iter().collect(),
    }
}

/// The scores of decisions, each found out once.
#[derive(Default)]
pub(crate) struct Scores {
    /// By the decision's address; the decision is held, so that nothing else gets that.
    known: BTreeMap<usize, (Arc<Decision>, u32)>,
    /// Of no filter at all.
    open: OnceCell<u32>,
}

impl Scores {
    /// Of a decision; what is not known or cannot be said by rules counts as open.
    fn of(&mut self, decision: Option<&Arc<Decision>>) -> u32 {
        let Some(decision) = decision else { return self.open() };
        let address = Arc::as_ptr(decision).addr();
        if let Some((_, score)) = self.known.get(&address) {
            return *score;
        }
        let score = match Score::of_decision(decision) {
            Ok(score) => rounded(&score),
            Err(_) => self.open(),
        };
        self.known.insert(address, (Arc::clone(decision), score));
        score
    }

    fn open(&self) -> u32 {
        *self.open.get_or_init(|| {
            Score::new(&Rules::new(Action::Allow)).as_ref().map_or(u32::MAX, rounded)
        })
    }
}

/// The whole number next to it.
fn rounded(score: &Score) -> u32 {
    format!("{:.0}", score.score()).parse().unwrap_or(u32::MAX)
}

/// The distinct decisions of the threads that run; `None` where one is not known.
fn decisions(processes: &[Process]) -> Vec<Option<&Arc<Decision>>> {
    let mut distinct: Vec<Option<&Arc<Decision>>> = Vec::new();
    for (process, thread) in running(processes) {
        let decision = process.stack_of(thread).and_then(|stack| stack.decision.as_ref());
        let same = |known: &&Option<&Arc<Decision>>| match (known, decision) {
            (Some(known), Some(decision)) => Arc::ptr_eq(known, decision),
            (known, decision) => known.is_none() && decision.is_none(),
        };
        if !distinct.iter().any(|known| same(&known)) {
            distinct.push(decision);
        }
    }
    distinct
}

/// The calls of this machine's ABI that pass for some thread, with some arguments. What is not known
/// is taken to pass.
pub(super) fn allowed(processes: &[Process]) -> BTreeSet<Syscall> {
    let Some(arch) = Arch::NATIVE else { return BTreeSet::new() };
    let distinct = decisions(processes);
    let passes = |call: &Syscall| {
        call.number(arch).is_some_and(|nr| {
            distinct.iter().any(|decision| {
                decision.is_none_or(|decision| {
                    let actions = decision.answer(arch.audit_arch(), nr).actions();
                    actions.into_iter().any(|action| action.lets_pass())
                })
            })
        })
    };
    Syscall::all().filter(passes).collect()
}

pub(crate) fn exposure(scores: &mut Scores, processes: &[Process]) -> Exposure {
    let Some(arch) = Arch::NATIVE else { return Exposure::default() };
    let allowed = allowed(processes);
    let weigh = |call: Syscall| call.danger().map_or(0, |danger| u32::from(danger.weight()));
    let existing: Vec<Syscall> =
        Syscall::all().filter(|call| call.number(arch).is_some()).collect();
    let danger_of_all: u32 = existing.iter().map(|call| weigh(*call)).sum();
    let danger: u32 = allowed.iter().map(|call| weigh(*call)).sum();
    let mut dangerous: Vec<Dangerous> = allowed
        .iter()
        .filter_map(|call| {
            let danger = call.danger()?;
            Some(Dangerous {
                call: call.name().to_owned(),
                class: danger.class().name().to_owned(),
                weight: danger.weight(),
            })
        })
        .collect();
    dangerous.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.call.cmp(&b.call)));
    Exposure {
        calls: existing.len(),
        allowed: allowed.len(),
        dangerous,
        danger,
        danger_of_all,
        score: decisions(processes).into_iter().map(|one| scores.of(one)).max().unwrap_or(0),
    }
}

pub(super) fn excess(processes: &[Process], known: &Known<'_>) -> Excess {
    let sources = known.policies.iter().map(|known| known.source.clone());
    let against: Vec<String> =
        sources.chain(known.recordings.iter().map(|(source, _)| source.clone())).collect();
    let needed = Arch::NATIVE.and_then(|arch| known.needed(arch));
    let Some(needed) = needed else {
        return Excess { state: ExcessState::NeverRecorded, calls: Vec::new(), against };
    };
    if running(processes).any(|(_, thread)| thread.reading.unknown().is_some()) {
        return Excess { state: ExcessState::Unknown, calls: Vec::new(), against };
    }
    let more = allowed(processes).into_iter().filter(|call| !needed.contains(call));
    let calls = more.map(|call| call.name().to_owned()).collect();
    Excess { state: ExcessState::Known, calls, against }
}

pub(super) fn drift(inspector: &mut Inspector, processes: &[Process], known: &Known<'_>) -> Drift {
    // Of several policies the one that fits best is the one in force.
    let mut best: Option<Drift> = None;
    for policy in &known.policies {
        let mut found =
            Drift { state: DriftState::Holds, policy: Some(policy.source.clone()), witness: None };
        for process in processes {
            let original = Some(&policy.original);
            let verification = judge(inspector, process.clone(), &policy.intent, original);
            for judged in &verification.judged {
                let (state, witness) = of(&judged.judgement);
                if state > found.state {
                    (found.state, found.witness) = (state, witness);
                }
            }
        }
        if best.as_ref().is_none_or(|best| found.state < best.state) {
            best = Some(found);
        }
    }
    best.unwrap_or(Drift { state: DriftState::NoPolicy, policy: None, witness: None })
}

/// A verdict, with the first witness.
fn of(judgement: &Judgement) -> (DriftState, Option<String>) {
    match judgement {
        Judgement::Verdict(Verdict::Holds { .. }) => (DriftState::Holds, None),
        Judgement::Verdict(Verdict::Tighter { .. }) => (DriftState::Tighter, None),
        Judgement::Verdict(Verdict::Drift { permits_more, differences }) => {
            let state = match permits_more {
                true => DriftState::PermitsMore,
                false => DriftState::FailsOtherwise,
            };
            let passes = |action: &str| matches!(action, "allow" | "log");
            let native = Arch::NATIVE.map(|arch| arch.audit_arch().to_string());
            // The most telling: a call that passes and should not, of this machine's ABI, by name.
            let span = differences.spans.iter().max_by_key(|span| {
                let call = &span.witness;
                let more = passes(&span.installed) && !passes(&span.intended);
                let ours = Some(&call.arch) == native.as_ref() && call.number & Arch::X32_BIT == 0;
                (more, ours, call.name.is_some())
            });
            let witness = span.map(|span| {
                let call = &span.witness;
                let name = call.name.clone().unwrap_or_else(|| format!("number {}", call.number));
                let (policy, kernel) = (&span.intended, &span.installed);
                format!("{name} on {}: policy {policy}, kernel {kernel}", call.arch)
            });
            (state, witness)
        }
        Judgement::Unknown { .. } => (DriftState::Unknown, None),
    }
}
