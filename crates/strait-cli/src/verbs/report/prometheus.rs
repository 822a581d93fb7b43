//! The report for node_exporter's textfile collector, in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use strait_runtime::report::controls::Outcome;
use strait_runtime::report::{ExcessState, Report, Workload};

/// A gauge: its name, what it is, and its value for a workload with more labels, if it has one.
type Gauge = (&'static str, &'static str, fn(&Workload) -> Vec<(String, String)>);

const GAUGES: &[Gauge] = &[
    ("strait_workload_info", "What a workload is; always 1.", |workload| {
        let labels = [
            ("kind", workload.kind.name()),
            ("name", workload.name.as_str()),
            ("status", workload.confinement.status.as_str()),
            ("drift", workload.drift.state.name()),
            ("owner", workload.owner.as_deref().unwrap_or_default()),
        ];
        let labels: Vec<String> = labels.iter().map(|(name, value)| label(name, value)).collect();
        vec![(labels.join(","), "1".to_owned())]
    }),
    ("strait_workload_risk", "Risk from 0 to 100.", |workload| plain(workload.risk)),
    (
        "strait_workload_score",
        "Attack surface that is left: 0 nothing, 100 as much as Docker's default profile leaves.",
        |workload| plain(workload.exposure.score),
    ),
    ("strait_workload_allowed_calls", "System calls that pass.", |workload| {
        plain(workload.exposure.allowed)
    }),
    ("strait_workload_dangerous_calls", "Dangerous system calls that pass.", |workload| {
        plain(workload.exposure.dangerous.len())
    }),
    ("strait_workload_excess_calls", "Calls that pass and that nothing known needs.", |workload| {
        match workload.excess.state {
            ExcessState::Known => plain(workload.excess.calls.len()),
            ExcessState::NeverRecorded | ExcessState::Unknown => Vec::new(),
        }
    }),
    ("strait_workload_drift", "1 if the kernel decides otherwise than the policy.", |workload| {
        plain(u8::from(workload.drift.state.is_drift()))
    }),
    ("strait_workload_threads", "Threads.", |workload| plain(workload.confinement.threads)),
    ("strait_workload_filtered_threads", "Threads with filters.", |workload| {
        plain(workload.confinement.filtered)
    }),
    ("strait_workload_secrets", "Secrets within reach, by kind.", |workload| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for evidence in &workload.identity.evidence {
            *counts.entry(evidence.kind.name()).or_default() += 1;
        }
        counts.iter().map(|(kind, count)| (label("secret", kind), count.to_string())).collect()
    }),
    (
        "strait_workload_check",
        "1 if a check is satisfied, 0 if not; unknown ones are absent.",
        |workload| {
            let checks = workload.checks.iter().filter_map(|check| {
                let value = match check.outcome {
                    Outcome::Satisfied => "1",
                    Outcome::NotSatisfied => "0",
                    Outcome::Unknown => return None,
                };
                Some((label("check", &check.id), value.to_owned()))
            });
            checks.collect()
        },
    ),
];

/// Every gauge for every workload.
pub(super) fn exposition(report: &Report) -> String {
    let mut out = String::new();
    let head = |out: &mut String, name: &str, help: &str| {
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    };
    head(&mut out, "strait_report_timestamp_seconds", "When the report was made.");
    let _ = writeln!(out, "strait_report_timestamp_seconds {}", report.time);
    head(&mut out, "strait_report_workloads", "Workloads in the report.");
    let _ = writeln!(out, "strait_report_workloads {}", report.workloads.len());
    for (name, help, values) in GAUGES {
        head(&mut out, name, help);
        for workload in &report.workloads {
            for (labels, value) in values(workload) {
                let comma = if labels.is_empty() { "" } else { "," };
                let key = label("workload", &workload.key);
                let _ = writeln!(out, "{name}{{{key}{comma}{labels}}} {value}");
            }
        }
    }
    out
}

fn plain(value: impl ToString) -> Vec<(String, String)> {
    vec![(String::new(), value.to_string())]
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(label("a", "x\"y\\z\n"), "a=\"x\\\"y\\\\z\\n\"");
    }
}
