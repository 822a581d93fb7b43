//! `strait check POLICY`.

mod sarif;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::json;
use strait_policy::check::{Located, Severity, check_document};
use strait_policy::policy::Date;

use crate::args::{Check, Deny, FindingFormat};
use crate::diagnostics;
use crate::documents::{self, File};
use crate::failure::{BAD_INPUT, Failure, UNFULFILLED};
use crate::output;

/// Says what a policy allows that its author may not have meant, and what else is wrong with it.
pub fn run(args: &Check) -> Result<ExitCode, Failure> {
    let file = documents::file(&args.policy, &args.profile)?;
    let File { name, bytes, format, target, imported } = &file;
    let report = check_document(bytes, *format, imported, target.arch, today())
        .with_context(|| name.clone())
        .map_err(Failure::bad_input)?;
    let form = if args.json { FindingFormat::Json } else { args.format };
    match form {
        FindingFormat::Text => {
            let text = diagnostics::render(name, file.text(), &report.findings);
            if report.readable {
                let text = text + &diagnostics::summary(name, &report.findings);
                output::print_styled(&text).map_err(Failure::refused)?;
            } else {
                output::say(text.trim_end());
            }
        }
        FindingFormat::Json => {
            output::print(data(name, &report.findings).as_bytes()).map_err(Failure::refused)?;
        }
        FindingFormat::Sarif => {
            let log = sarif::log(name, file.text(), &report);
            output::print(format!("{log:#}\n").as_bytes()).map_err(Failure::refused)?;
        }
    }
    if !report.readable {
        return Ok(ExitCode::from(BAD_INPUT));
    }
    let limit = match args.deny {
        Deny::Note => Severity::Note,
        Deny::Warning => Severity::Warning,
        Deny::Error => Severity::Error,
    };
    let failed = report.worst().is_some_and(|worst| worst >= limit);
    Ok(if failed { ExitCode::from(UNFULFILLED) } else { ExitCode::SUCCESS })
}

fn data(name: &str, findings: &[Located]) -> String {
    let findings: Vec<_> = findings
        .iter()
        .map(|Located { finding, place }| {
            json!({
                "code": finding.code.name(),
                "title": finding.code.title(),
                "severity": finding.severity.name(),
                "message": finding.message,
                "help": finding.help,
                "syscall": finding.call.map(|call| call.name()),
                "cves": finding.cves,
                "file": name,
                "line": place.map(|place| place.line),
                "column": place.map(|place| place.column),
            })
        })
        .collect();
    format!("{:#}\n", json!(findings))
}

/// The day in UTC, by which reasons expire; `None` if the clock stands before 1970.
fn today() -> Option<Date> {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() / 86_400;
    civil(days).parse().ok()
}

/// A day, counted from 1970-01-01, in the Gregorian calendar.
fn civil(mut days: u64) -> String {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(59), "1970-03-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(20_781), "2026-11-24");
        assert!(today().is_some());
    }
}
