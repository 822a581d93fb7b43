//! What a recording could not see or lost, and how much it covers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a recording could not see, or lost. No loss, false and empty is a complete recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completeness {
    /// What was lost, by map or queue: calls, tasks, images. A place with 0 was looked at and lost
    /// nothing.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    /// The recording was ended before the workload did.
    #[serde(default)]
    pub interrupted: bool,
    /// A filter was active on the workload already: calls that it denied are invisible.
    #[serde(default)]
    pub filter_active: bool,
    /// io_uring was set up: what was done by it never shows as a call.
    #[serde(default)]
    pub io_uring: bool,
    /// The operations that io_uring was seen to do and how often, by the name of the kernel's
    /// `IORING_OP_…`, where the engine can see that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub io_uring_operations: BTreeMap<String, u64>,
    /// Anything else that could not be seen, a sentence each.
    #[serde(default)]
    pub blind_spots: Vec<String>,
    /// How much was covered.
    #[serde(default)]
    pub coverage: Coverage,
}

/// How much a recording covers. It is no gap, but says how likely there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// How long the workload was observed, in microseconds; of several runs, in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
    /// How many different calls were first made in the last tenth of that time: the more, the more
    /// others would have followed. Of several runs, the most in any. Follows from the calls' times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_in_last_tenth: Option<u64>,
    /// How many calls came in by another ABI than that of the program file, such as `int $0x80`
    /// from a 64-bit program. Follows from the calls.
    #[serde(default)]
    pub foreign_calls: u64,
}

impl Completeness {
    /// Whether observations were lost that the engine should have made.
    pub fn is_lossy(&self) -> bool {
        self.lost.values().any(|&count| count > 0)
    }

    /// Whether nothing is known that the recording could have missed.
    pub fn is_complete(&self) -> bool {
        self.gaps().is_empty()
    }

    /// Everything that was lost or could not be seen, a sentence each, in one line whoever wrote the
    /// recording.
    pub fn gaps(&self) -> Vec<String> {
        let lost = self.lost.iter().filter(|&(_, &count)| count > 0);
        let mut gaps: Vec<String> =
            lost.map(|(place, count)| format!("lost in {place}: {count}")).collect();
        if self.interrupted {
            gaps.push("the recording ended before the workload did".into());
        }
        if self.filter_active {
            gaps.push("a filter was active already: calls that it denied were not seen".into());
        }
        if self.io_uring {
            gaps.push(if self.io_uring_operations.is_empty() {
                "io_uring was set up: what was done by it was not seen".into()
            } else {
                let operations: Vec<&str> =
                    self.io_uring_operations.keys().map(String::as_str).collect();
                format!(
                    "io_uring was set up: no filter decides what it does ({})",
                    operations.join(", ")
                )
            });
        }
        gaps.extend(self.blind_spots.iter().cloned());
        gaps.iter().map(|gap| in_one_line(gap)).collect()
    }

    /// Adds what another recording of the workload lost or could not see. What follows from calls
    /// is not added up here.
    pub(super) fn add(&mut self, other: &Completeness) {
        for (place, &count) in &other.lost {
            let sum = self.lost.entry(place.clone()).or_default();
            *sum = sum.saturating_add(count);
        }
        self.interrupted |= other.interrupted;
        self.filter_active |= other.filter_active;
        self.io_uring |= other.io_uring;
        for (operation, &count) in &other.io_uring_operations {
            let sum = self.io_uring_operations.entry(operation.clone()).or_default();
            *sum = sum.saturating_add(count);
        }
        self.blind_spots.extend(other.blind_spots.iter().cloned());
    }
}

/// A sentence that looks like no other line and does not move a terminal.
fn in_one_line(sentence: &str) -> String {
    let shown = |char: char| match char.is_control() {
        true => char.escape_default().to_string(),
        false => char.to_string(),
    };
    sentence.chars().map(shown).collect()
}
