//! Findings as SARIF, the format of code scanning services: "Static Analysis Results Interchange
//! Format (SARIF) Version 2.1.0", OASIS, 2020.

use serde_json::{Value, json};
use strait_policy::Place;
use strait_policy::check::{Code, Located, Report, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// One run of the check over one document.
pub fn log(name: &str, text: &str, report: &Report) -> Value {
    let results: Vec<Value> =
        report.findings.iter().map(|located| result(name, text, located)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "strait check",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": Code::ALL.iter().map(|code| rule(*code)).collect::<Value>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": report.readable}],
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.name(),
        "name": format!("{code:?}"),
        "shortDescription": {"text": code.title()},
        "fullDescription": {"text": code.page()},
        "defaultConfiguration": {"level": level(code.severity())},
    })
}

fn result(name: &str, text: &str, Located { finding, place }: &Located) -> Value {
    let message = match &finding.help {
        Some(help) => format!("{}. Help: {help}", finding.message),
        None => finding.message.clone(),
    };
    let mut location = json!({"artifactLocation": {"uri": uri(name)}});
    if let Some(place) = place {
        location["region"] = region(text, *place);
    }
    json!({
        "ruleId": finding.code.name(),
        "ruleIndex": Code::ALL.iter().position(|code| *code == finding.code),
        "level": level(finding.severity),
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
        "properties": {
            "syscall": finding.call.map(|call| call.name()),
            "cves": finding.cves,
        },
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// Columns are counted in characters; the end is the one after the last.
fn region(text: &str, place: Place) -> Value {
    let marked = text.get(place.start..place.end).unwrap_or_default();
    let end_line = place.line + marked.matches('\n').count();
    let end_column = match marked.rsplit_once('\n') {
        Some((_, last)) => last.chars().count() + 1,
        None => place.column + marked.chars().count(),
    };
    json!({
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": end_line,
        "endColumn": end_column,
    })
}

/// A path as a reference by RFC 3986.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}
