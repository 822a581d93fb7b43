//! The report as SARIF 2.1.0 (OASIS), for dashboards of code scanning: a rule for each check, a result
//! for each workload that does not satisfy it, and the rows of frameworks as taxonomies.

use serde_json::{Value, json};
use strait_runtime::report::controls::{CheckKind, Outcome, catalogue};
use strait_runtime::report::{Check, Report, Workload};

/// The log.
pub(super) fn log(report: &Report) -> Value {
    let catalogue = catalogue();
    let rules: Vec<Value> = catalogue.checks.iter().map(rule).collect();
    let taxonomies: Vec<Value> = catalogue
        .sources
        .iter()
        .map(|(name, source)| {
            let taxa: Vec<Value> = catalogue
                .controls
                .iter()
                .filter(|control| control.source == *name)
                .map(|control| {
                    let mut taxon =
                        json!({"id": control.id, "shortDescription": {"text": control.title}});
                    if let Some(note) = &control.note {
                        taxon["fullDescription"] = json!({ "text": note });
                    }
                    taxon
                })
                .collect();
            json!({
                "name": name,
                "informationUri": source.href,
                "shortDescription": {"text": source.title},
                "isComprehensive": false,
                "taxa": taxa,
            })
        })
        .collect();
    let results: Vec<Value> = report
        .workloads
        .iter()
        .flat_map(|workload| {
            let failed = workload.checks.iter();
            let failed = failed.filter(|check| check.outcome == Outcome::NotSatisfied);
            failed.map(move |check| result(workload, check))
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "strait",
                "version": report.machine.strait,
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "automationDetails": {"id": format!("strait-report/{}", report.machine.host)},
            "invocations": [{
                "executionSuccessful": true,
                "endTimeUtc": super::rfc3339(report.time),
            }],
            "taxonomies": taxonomies,
            "results": results,
        }],
    })
}

fn rule(check: &CheckKind) -> Value {
    let source = |id: &String| {
        let control = catalogue().controls.iter().find(|control| control.id == *id);
        control.map(|control| control.source.clone()).unwrap_or_default()
    };
    let relationships: Vec<Value> = check
        .controls
        .iter()
        .map(|id| {
            json!({
                "target": {"id": id, "toolComponent": {"name": source(id)}},
                "kinds": ["relevant"],
            })
        })
        .collect();
    let mut rule = json!({
        "id": check.id,
        "shortDescription": {"text": check.title},
        "defaultConfiguration": {"level": level(&check.id)},
        "relationships": relationships,
    });
    if let Some(note) = &check.note {
        rule["help"] = json!({ "text": note });
    }
    rule
}

/// How bad it is if a check is not satisfied.
fn level(check: &str) -> &'static str {
    match check {
        "as-intended" | "secrets-behind-a-filter" => "error",
        "filtered" | "least-privilege" | "no-secrets-in-environment" => "warning",
        _ => "note",
    }
}

fn result(workload: &Workload, check: &Check) -> Value {
    // Dashboards want a file: the program, relative to the root of the machine.
    let program = workload.program.as_deref().unwrap_or("/proc");
    let index = catalogue().checks.iter().position(|kind| kind.id == check.id);
    let title = catalogue().check(&check.id).map_or(check.id.as_str(), |kind| &kind.title);
    json!({
        "ruleId": check.id,
        "ruleIndex": index,
        "level": level(&check.id),
        "message": {"text": format!("{}: not so: {title}. {}", workload.name, check.evidence)},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(program), "uriBaseId": "ROOT"},
                "region": {"startLine": 1},
            },
            "logicalLocations": [{
                "name": workload.name,
                "fullyQualifiedName": workload.key,
                "kind": "resource",
            }],
        }],
        "partialFingerprints": {"strait/v1": format!("{}/{}", workload.key, check.id)},
        "rank": f64::from(workload.risk),
    })
}

/// A path as a relative reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' => {
                uri.push(char::from(byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_references() {
        assert_eq!(uri("/usr/sbin/nginx"), "usr/sbin/nginx");
        assert_eq!(uri("/a b:c"), "a%20b%3Ac");
    }
}
