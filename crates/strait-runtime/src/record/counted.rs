//! What either engine comes back with.

use std::process::ExitStatus;

use strait_kernel::ebpf::Counts;

/// What was counted, and how it ended.
#[derive(Debug)]
pub(super) struct Counted {
    /// The calls.
    pub(super) counts: Counts,
    /// How the command ended, where there was one.
    pub(super) status: Option<ExitStatus>,
    /// The recording was ended before the workload did.
    pub(super) interrupted: bool,
    /// There were filters on the workload from the start.
    pub(super) filtered: bool,
    /// Whether the results of calls were seen.
    pub(super) sees_results: bool,
    /// What was lost besides, by place.
    pub(super) lost: Vec<(&'static str, u64)>,
    /// What could not be seen, a sentence each.
    pub(super) blind_spots: Vec<String>,
}
