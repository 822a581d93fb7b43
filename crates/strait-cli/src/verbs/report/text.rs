//! The report as a table that fits a terminal.

use std::fmt::Write as _;

use strait_runtime::report::baseline::Change;
use strait_runtime::report::controls::{Outcome, catalogue};
use strait_runtime::report::{ExcessState, Report, Workload};

use super::{rfc3339, some};
use crate::output::{self, printable};

/// The workloads, what changed, and which checks fail how often.
pub(super) fn text(report: &Report, changes: Option<&[Change]>) -> String {
    let headings = [
        "RISK",
        "WORKLOAD",
        "KIND",
        "PROCESSES",
        "ACTS AS",
        "SECRETS",
        "CONFINED",
        "CALLS",
        "SCORE",
        "EXCESS",
        "DRIFT",
        "OWNER",
    ];
    let rows = report.workloads.iter().map(row);
    let mut out = format!("{}\n\n", output::table(&headings, rows));
    if let Some(changes) = changes {
        out.push_str("since the baseline:");
        out.push_str(if changes.is_empty() { " nothing changed\n" } else { "\n" });
        for Change { name, what, details, .. } in changes {
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "  {}: {}: {}",
                what.name(),
                printable(name),
                printable(&details.join("; "))
            );
        }
        out.push('\n');
    }
    for check in &catalogue().checks {
        let found = report.workloads.iter().filter_map(|workload| {
            let found = workload.checks.iter().find(|one| one.id == check.id)?;
            Some((found.outcome, workload.name.as_str()))
        });
        let found: Vec<(Outcome, &str)> = found.collect();
        let count = |outcome| found.iter().filter(|(one, _)| *one == outcome).count();
        let _ = writeln!(
            out,
            "{}: satisfied {}, not satisfied {}, unknown {} ({})",
            check.title,
            count(Outcome::Satisfied),
            count(Outcome::NotSatisfied),
            count(Outcome::Unknown),
            check.controls.join(", ")
        );
    }
    let _ = writeln!(
        out,
        "\n{} workloads on {} (Linux {}) at {}; {} threads were stopped, {} µs at the median, {} µs at most",
        report.workloads.len(),
        report.machine.host,
        report.machine.kernel,
        rfc3339(report.time),
        report.stops.threads,
        report.stops.median_microseconds,
        report.stops.longest_microseconds
    );
    for (why, count) in &report.missed {
        let _ = writeln!(out, "not in the report: {count} processes {why}");
    }
    out
}

fn row(workload: &Workload) -> Vec<String> {
    let Workload { identity, confinement, exposure, excess, drift, .. } = workload;
    let kinds = identity.evidence.iter().map(|evidence| evidence.kind.name());
    let mut kinds: Vec<&str> = kinds.collect();
    kinds.dedup();
    let secrets = match kinds.len() {
        0 => String::new(),
        _ => format!("{}: {}", identity.evidence.len(), some(&kinds)),
    };
    let users: Vec<&str> = identity.users.iter().map(String::as_str).collect();
    let known: Vec<&str> =
        confinement.filters.iter().filter_map(|filter| filter.known.as_deref()).collect();
    let confined = match known.as_slice() {
        [] => confinement.status.clone(),
        known => format!("{} ({})", confinement.status, some(known)),
    };
    vec![
        workload.risk.to_string(),
        workload.name.clone(),
        workload.kind.name().to_owned(),
        workload.processes.len().to_string(),
        identity.account.clone().unwrap_or_else(|| some(&users)),
        secrets,
        confined,
        format!("{} of {}", exposure.allowed, exposure.calls),
        exposure.score.to_string(),
        match excess.state {
            ExcessState::Known => excess.calls.len().to_string(),
            ExcessState::NeverRecorded => "never recorded".to_owned(),
            ExcessState::Unknown => "unknown".to_owned(),
        },
        drift.state.name().to_owned(),
        workload.owner.clone().unwrap_or_default(),
    ]
}
