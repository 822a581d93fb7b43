//! The risk of a workload: what it holds, times how little stands in the way. docs/report.md says the
//! same to its readers.

use super::{Confinement, Drift, DriftState, Exposure, Identity};
use crate::inspect::Status;

/// From 0 to 100.
pub(super) fn risk(
    identity: &Identity,
    confinement: &Confinement,
    exposure: &Exposure,
    drift: &Drift,
) -> u8 {
    // What it holds: up to 50, with 5 for whoever holds nothing.
    let held: u32 = identity.evidence.iter().map(|evidence| evidence.kind.weight()).sum();
    let held = (5 + held).min(50);
    // What stands in the way: up to 40 for nothing at all.
    let open: u32 = match confinement.status_value() {
        Status::Unconfined => 40,
        Status::ThreadsDiffer => 35,
        Status::Filtered | Status::Strict => {
            // What passes and is dangerous, against what there is.
            let dangerous = exposure.danger.min(exposure.danger_of_all);
            (35 * dangerous).checked_div(exposure.danger_of_all).unwrap_or(0)
        }
        _ => 30,
    };
    let privileges = 5 * u32::from(confinement.all_capabilities || confinement.administers)
        + 2 * u32::from(!confinement.no_new_privs);
    let drifted = match drift.state {
        DriftState::PermitsMore => 10,
        DriftState::FailsOtherwise | DriftState::Unknown => 3,
        DriftState::Holds | DriftState::Tighter | DriftState::NoPolicy => 0,
    };
    // Half by what it holds, half by how open it is: an identity with many secrets and nothing around
    // it stands first, one with secrets in a tight filter far below.
    let risk = held * (open + privileges + drifted + 3) / 30;
    u8::try_from(risk.min(100)).unwrap_or(100)
}
