//! `strait check POLICY`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use strait_policy::check::{Finding, Places, Severity, check};
use strait_policy::policy::Date;

use crate::args::Check;
use crate::documents;
use crate::failure::Failure;
use crate::input;
use crate::output;

/// Says what a policy allows that its author may not have meant; errors are a failed check.
pub fn run(args: &Check) -> Result<ExitCode, Failure> {
    let document = documents::document(&args.policy, &args.profile)?;
    let findings = check(&document.policy, today()).map_err(Failure::bad_input)?;
    let places = document.places();
    let name = input::name(&args.policy);
    let text =
        if args.json { data(&name, &findings, &places) } else { lines(&name, &findings, &places) };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    let failed = findings.iter().any(|finding| finding.severity() == Severity::Error);
    Ok(ExitCode::from(u8::from(failed)))
}

fn lines(name: &str, findings: &[Finding], places: &Places) -> String {
    let mut text = String::new();
    for finding in findings {
        let place = places
            .get(finding.subject)
            .map_or_else(String::new, |place| format!(":{}:{}", place.line, place.column));
        let (severity, code) = (finding.severity().name(), finding.code);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}{place}: {severity} {code}: {}", finding.message);
    }
    text
}

fn data(name: &str, findings: &[Finding], places: &Places) -> String {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            let place = places.get(finding.subject);
            json!({
                "code": finding.code.to_string(),
                "severity": finding.severity().name(),
                "message": finding.message,
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
