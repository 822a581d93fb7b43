//! Verification: whether what the kernel enforces on every thread of a process is what a policy
//! intends.

use rustix::process::Pid;
use serde::Serialize;

use crate::inspect::{InspectError, Inspector, Process, Reading, as_numbers};
use crate::launch::reason;
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
    let process = inspector.inspect(pid)?;
    let mut judged = Vec::new();
    for (index, stack) in process.stacks.iter().enumerate() {
        let has_it =
            |reading: &Reading| matches!(reading, Reading::Read { stack, .. } if *stack == index);
        let threads = process.threads.iter().filter(|thread| has_it(&thread.reading));
        let threads = threads.map(|thread| thread.tid).collect();
        let judgement = match &stack.decision {
            Some(decision) => match intent.judge(decision, || inspector.listeners().clone()) {
                Ok(verdict) => Judgement::Verdict(verdict),
                Err(undecided) => Judgement::Unknown { unknown: reason(&undecided) },
            },
            None => Judgement::Unknown { unknown: stack.undecided.clone().unwrap_or_default() },
        };
        judged.push(Judged { threads, judgement });
    }
    for thread in &process.threads {
        let Some(unknown) = thread.reading.unknown() else { continue };
        judged
            .push(Judged { threads: vec![thread.tid], judgement: Judgement::Unknown { unknown } });
    }
    let outcomes = judged.iter().map(|judged| Outcome::of(&judged.judgement));
    let outcome = outcomes.max().unwrap_or(Outcome::Unknown);
    Ok(Verification { outcome, judged, process })
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
