//! The report as assessment results of OSCAL 1.1.2 (NIST): an observation for each check of each
//! workload, with what the kernel showed, and a finding for each row of a framework.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strait_runtime::inspect::sha256;
use strait_runtime::report::controls::{Outcome, catalogue};
use strait_runtime::report::{Report, Workload};

use super::rfc3339;

/// The assessment results. All identifiers follow from the content: the same report has the same ones.
pub(super) fn results(report: &Report) -> Value {
    let time = rfc3339(report.time);
    let machine = format!("{}/{}", report.machine.host, report.time);
    let components: Vec<Value> = report
        .workloads
        .iter()
        .map(|workload| {
            json!({
                "uuid": component(&machine, workload),
                "type": "software",
                "title": workload.name,
                "description": format!("{} {}", workload.kind.name(), workload.key),
                "status": {"state": "operational"},
            })
        })
        .collect();
    let mut observations: Vec<Value> = Vec::new();
    // Of each row, which observations are about it, and the worst of their outcomes.
    let mut rows: BTreeMap<&str, (Outcome, Vec<String>)> = BTreeMap::new();
    for workload in &report.workloads {
        for check in &workload.checks {
            let Some(kind) = catalogue().check(&check.id) else { continue };
            let id = uuid(&format!("{machine}/observation/{}/{}", workload.key, check.id));
            observations.push(json!({
                "uuid": id,
                "title": kind.title,
                "description": format!("{}: {}", workload.name, outcome(check.outcome)),
                "methods": ["TEST"],
                "types": ["finding"],
                "subjects": [{"subject-uuid": component(&machine, workload), "type": "component"}],
                "relevant-evidence": [{"description": check.evidence}],
                "collected": time,
            }));
            for control in &kind.controls {
                let row = rows.entry(control).or_insert((Outcome::Satisfied, Vec::new()));
                row.0 = row.0.max(check.outcome);
                row.1.push(id.clone());
            }
        }
    }
    let findings: Vec<Value> = catalogue()
        .controls
        .iter()
        .filter_map(|control| {
            let (outcome, ids) = rows.get(control.id.as_str())?;
            let related: Vec<Value> =
                ids.iter().map(|id| json!({ "observation-uuid": id })).collect();
            let note = control.note.as_ref().map(|note| format!(" {note}")).unwrap_or_default();
            let state = match outcome {
                Outcome::Satisfied => "satisfied",
                // OSCAL knows no third; what is not known is not satisfied, and says so.
                Outcome::Unknown | Outcome::NotSatisfied => "not-satisfied",
            };
            Some(json!({
                "uuid": uuid(&format!("{machine}/finding/{}", control.id)),
                "title": control.id,
                "description": format!("{}.{note}", control.title),
                "target": {
                    "type": "objective-id",
                    "target-id": token(&control.id),
                    "title": control.title,
                    "status": {"state": state, "reason": reason(*outcome)},
                },
                "related-observations": related,
            }))
        })
        .collect();
    let includes: Vec<Value> = catalogue()
        .controls
        .iter()
        .map(|control| json!({ "control-id": token(&control.id) }))
        .collect();
    let plan = json!({
        "uuid": uuid("plan"),
        "title": "The checks of strait report",
        "description": "Every workload of the machine is checked with every check of the catalogue; \
                        see docs/report.md of Strait.",
    });
    let sources = catalogue().sources.iter().map(|(name, source)| {
        json!({
            "uuid": uuid(&format!("source/{name}")),
            "title": source.title,
            "rlinks": [{ "href": source.href }],
        })
    });
    let resources: Vec<Value> = std::iter::once(plan).chain(sources).collect();
    let mut result = json!({
        "uuid": uuid(&format!("{machine}/result")),
        "title": format!("Workloads of {}", report.machine.host),
        "description": "What the kernel enforces on every workload, read from the kernel.",
        "start": time,
        "end": time,
        "reviewed-controls": {"control-selections": [{ "include-controls": includes }]},
    });
    // Lists of nothing are not valid.
    if !components.is_empty() {
        result["local-definitions"] = json!({ "components": components });
        result["observations"] = json!(observations);
        result["findings"] = json!(findings);
    }
    json!({
        "assessment-results": {
            "uuid": uuid(&machine),
            "metadata": {
                "title": format!("Strait report of {}", report.machine.host),
                "last-modified": time,
                "version": catalogue().version,
                "oscal-version": "1.1.2",
                "props": [{"name": "strait-version", "value": report.machine.strait,
                           "ns": env!("CARGO_PKG_REPOSITORY")}],
            },
            "import-ap": {"href": format!("#{}", uuid("plan"))},
            "results": [result],
            "back-matter": {"resources": resources},
        }
    })
}

fn component(machine: &str, workload: &Workload) -> String {
    uuid(&format!("{machine}/component/{}", workload.key))
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Satisfied => "satisfied",
        Outcome::NotSatisfied => "not satisfied",
        Outcome::Unknown => "unknown",
    }
}

/// `reason` of an objective's status: `pass`, `fail` or `other`.
fn reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Satisfied => "pass",
        Outcome::NotSatisfied => "fail",
        Outcome::Unknown => "other",
    }
}

/// An id as OSCAL's tokens are: letters, digits, `.`, `-` and `_`, and a letter first.
fn token(id: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let token: String = id.chars().map(kept).collect::<String>().to_ascii_lowercase();
    token.replace("--", "-")
}

/// A name-based identifier: the first half of the SHA-256 of the name, marked as of version 5, which is
/// the version of names by hash that OSCAL takes.
fn uuid(name: &str) -> String {
    let digest = sha256(name.as_bytes());
    let variant = match digest.as_bytes()[16] {
        b'0' | b'4' | b'8' | b'c' => '8',
        b'1' | b'5' | b'9' | b'd' => '9',
        b'2' | b'6' | b'a' | b'e' => 'a',
        _ => 'b',
    };
    format!(
        "{}-{}-5{}-{variant}{}-{}",
        &digest[..8],
        &digest[8..12],
        &digest[13..16],
        &digest[17..20],
        &digest[20..32]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_form_that_oscal_takes() {
        let id = uuid("x");
        let parts: Vec<&str> = id.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('5') && "89ab".contains(&parts[3][..1]), "{id}");
        assert_eq!(id, uuid("x"));
        assert_eq!(token("NIST CSF PR.AC-4"), "nist-csf-pr.ac-4");
        assert_eq!(token("Pod Security restricted: Seccomp"), "pod-security-restricted-seccomp");
    }
}
