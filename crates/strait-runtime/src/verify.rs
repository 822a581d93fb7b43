//! Verification: whether what the kernel enforces on every thread of a process is what a policy
//! intends.

use rustix::process::Pid;
use serde::Serialize;
use strait_bpf::Decision;

use crate::inspect::{InspectError, Inspector, Process, Reading, as_numbers};
use crate::launch::reason;
use crate::rendering::{Original, Rendering};
use crate::verdict::{Intent, Verdict};

/// A process judged against a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// All threads together: the worst of theirs.
    pub outcome: Outcome,
    /// The verdict for each stack of filters, and who has it.
    pub judged: Vec<Judged>,
    /// What the kernel enforces.
    pub process: Process,
}

/// All threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every thread is confined as intended.
    Holds,
    /// Every thread is confined as intended or more strictly.
    Tighter,
    /// Some thread's filters could not be read or decided; nobody was seen to drift.
    Unknown,
    /// Some thread is confined otherwise than intended.
    Drift,
}

/// Threads that are confined alike, and the verdict on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// The threads, by id.
    #[serde(serialize_with = "as_numbers")]
    pub threads: Vec<Pid>,
    /// The verdict on them.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// The runtime's rendering of the policy that the verdict is about, where it is not the policy
    /// itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendering: Option<Rendering>,
}

/// A verdict, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Judgement {
    /// Judged.
    Verdict(Verdict),
    /// Not known.
    Unknown {
        /// Why, for a person to read.
        unknown: String,
    },
}

/// Judges every thread of a process.
///
/// # Errors
/// If the process cannot be inspected.
pub fn verify(
    inspector: &mut Inspector,
    pid: Pid,
    intent: &Intent,
) -> Result<Verification, InspectError> {
    verify_rendered(inspector, pid, intent, None)
}

/// The same, where a container runtime may have rendered the policy: what drifts from the policy is
/// judged against that.
///
/// # Errors
/// If the process cannot be inspected.
pub fn verify_rendered(
    inspector: &mut Inspector,
    pid: Pid,
    intent: &Intent,
    original: Option<&Original>,
) -> Result<Verification, InspectError> {
    let process = inspector.inspect(pid)?;
    Ok(judge(inspector, process, intent, original))
}

/// Judges every thread of a process that was inspected.
pub fn judge(
    inspector: &mut Inspector,
    process: Process,
    intent: &Intent,
    original: Option<&Original>,
) -> Verification {
    let mut judged = Vec::new();
    for (index, stack) in process.stacks.iter().enumerate() {
        let has_it =
            |reading: &Reading| matches!(reading, Reading::Read { stack, .. } if *stack == index);
        let threads = process.threads.iter().filter(|thread| has_it(&thread.reading));
        let threads = threads.map(|thread| thread.tid).collect();
        let (judgement, rendering) = match &stack.decision {
            Some(decision) => judge_stack(inspector, decision, intent, original),
            None => {
                let unknown = stack.undecided.clone().unwrap_or_default();
                (Judgement::Unknown { unknown }, None)
            }
        };
        judged.push(Judged { threads, judgement, rendering });
    }
    for thread in &process.threads {
        let Some(unknown) = thread.reading.unknown() else { continue };
        let judgement = Judgement::Unknown { unknown };
        judged.push(Judged { threads: vec![thread.tid], judgement, rendering: None });
    }
    let outcomes = judged.iter().map(|judged| Outcome::of(&judged.judgement));
    let outcome = outcomes.max().unwrap_or(Outcome::Unknown);
    Verification { outcome, judged, process }
}

/// The verdict on a stack: against the policy, and where that does not hold, against what a runtime
/// may have made of it.
fn judge_stack(
    inspector: &mut Inspector,
    decision: &Decision,
    intent: &Intent,
    original: Option<&Original>,
) -> (Judgement, Option<Rendering>) {
    let unknown = |undecided| (Judgement::Unknown { unknown: reason(&undecided) }, None);
    let verdict = match intent.judge(decision, || inspector.listeners().clone()) {
        Ok(verdict) => verdict,
        Err(undecided) => return unknown(undecided),
    };
    let is_tighter = matches!(verdict, Verdict::Tighter { .. });
    let original = original.filter(|_| !matches!(verdict, Verdict::Holds { .. }));
    let Some(original) = original else { return (Judgement::Verdict(verdict), None) };
    let listeners = inspector.listeners().clone();
    match original.judge(intent, decision, || listeners.clone()) {
        // What is tighter than the policy itself needs no excuse.
        Ok(Some((Verdict::Tighter { .. }, _))) if is_tighter => (Judgement::Verdict(verdict), None),
        Ok(Some((rendered, rendering))) => (Judgement::Verdict(rendered), Some(rendering)),
        Ok(None) => (Judgement::Verdict(verdict), None),
        Err(undecided) => unknown(undecided),
    }
}

impl Outcome {
    fn of(judgement: &Judgement) -> Outcome {
        match judgement {
            Judgement::Verdict(Verdict::Holds { .. }) => Outcome::Holds,
            Judgement::Verdict(Verdict::Tighter { .. }) => Outcome::Tighter,
            Judgement::Verdict(Verdict::Drift { .. }) => Outcome::Drift,
            Judgement::Unknown { .. } => Outcome::Unknown,
        }
    }
}
