//! `strait report`.

mod html;
mod oscal;
mod prometheus;
mod sarif;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde_json::json;
use strait_policy::Recording;
use strait_runtime::report::baseline::{self, Change};
use strait_runtime::report::controls::catalogue;
use strait_runtime::report::{API_VERSION, KnownPolicy, Library, Report, report};

use crate::args::{Report as Args, ReportFormat};
use crate::documents;
use crate::failure::Failure;
use crate::input;
use crate::output;
use crate::progress::Progress;

/// Makes the report of this machine.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let library = match &args.policies {
        Some(folder) => library(folder, args)?,
        None => Library::default(),
    };
    let before = args.baseline.as_deref().map(read_baseline).transpose()?;
    if let Some(output) = &args.output {
        output::check(output).map_err(Failure::refused)?;
    }
    let now = Timestamp::now().as_second();
    let progress = Progress::of("looking at every workload");
    let found = report(&library, &args.engines.sources(), now, env!("CARGO_PKG_VERSION"))
        .map_err(Failure::refused)?;
    drop(progress);
    for engine in &found.not_asked {
        output::say(&format!("strait: not asked: {engine}"));
    }
    let changes = before.map(|before| baseline::changes(&before, &found));
    let format = if args.json { ReportFormat::Json } else { args.format };
    let rendered = match format {
        ReportFormat::Text => text::text(&found, changes.as_deref()),
        ReportFormat::Json => data(&found, changes.as_deref()).map_err(Failure::refused)?,
        ReportFormat::Html => html::page(&found, changes.as_deref()),
        ReportFormat::Sarif => format!("{:#}\n", sarif::log(&found)),
        ReportFormat::Oscal => format!("{:#}\n", oscal::results(&found)),
        ReportFormat::Prometheus => prometheus::exposition(&found),
    };
    output::write(args.output.as_deref(), rendered.as_bytes()).map_err(Failure::refused)?;
    let mut failed = false;
    for gate in &args.fail_on {
        let who = gate.fails(&found);
        if !who.is_empty() {
            failed = true;
            output::say(&format!("strait: {gate}: {}", some(&who)));
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// The report as data: [`Report`], with what changed and the mapping to frameworks.
fn data(report: &Report, changes: Option<&[Change]>) -> Result<String, serde_json::Error> {
    #[derive(serde::Serialize)]
    struct Data<'r> {
        #[serde(flatten)]
        report: &'r Report,
        #[serde(skip_serializing_if = "Option::is_none")]
        changes: Option<&'r [Change]>,
        controls: serde_json::Value,
    }
    let data = Data { report, changes, controls: json!(catalogue()) };
    Ok(serde_json::to_string_pretty(&data)? + "\n")
}

/// At what a report fails, for use as a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// A workload that the kernel does not confine as its policy says.
    Drift,
    /// A workload without filters.
    Unconfined,
    /// A workload with a score above this.
    Score(u32),
}

impl FailOn {
    /// The workloads at which it fails.
    fn fails(self, report: &Report) -> Vec<&str> {
        let fails = report.workloads.iter().filter(|workload| match self {
            FailOn::Drift => workload.drift.state.is_drift(),
            FailOn::Unconfined => workload.confinement.status == "unconfined",
            FailOn::Score(limit) => workload.exposure.score > limit,
        });
        fails.map(|workload| workload.name.as_str()).collect()
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<FailOn, String> {
        match text {
            "drift" => return Ok(FailOn::Drift),
            "unconfined" => return Ok(FailOn::Unconfined),
            _ => {}
        }
        let limit = text.strip_prefix("score>").and_then(|limit| limit.trim().parse().ok());
        limit.map(FailOn::Score).ok_or_else(|| {
            "write drift, unconfined or score>N; 100 is what Docker's default profile leaves"
                .to_owned()
        })
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailOn::Drift => f.write_str("drift"),
            FailOn::Unconfined => f.write_str("unconfined"),
            FailOn::Score(limit) => write!(f, "score>{limit}"),
        }
    }
}

/// A few of many names.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

/// The policies, profiles and recordings of a folder, by name.
fn library(folder: &Path, args: &Args) -> Result<Library, Failure> {
    let failed = || format!("cannot read the folder {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(failed).map_err(Failure::bad_input)?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let target = documents::target(&args.profile)?;
    let mut library = Library::default();
    for file in files {
        let extension = file.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("yaml" | "yml" | "json")) {
            continue;
        }
        let source = input::name(&file);
        let bytes = input::read(&file)?;
        let recording =
            std::str::from_utf8(&bytes).ok().and_then(|text| Recording::from_json(text).ok());
        if let Some(recording) = recording {
            library.recordings.push((source, recording));
            continue;
        }
        let document = documents::document(&file, &args.profile)?;
        let rules = document.policy.lower().with_context(|| source.clone());
        let rules = rules.map_err(Failure::bad_input)?;
        let mut policy = document.policy.clone();
        // A foreign profile has no name but the file's.
        if policy.metadata.name.is_none() {
            policy.metadata.name =
                file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        }
        let profile = document.oci_text();
        let known = KnownPolicy::new(source.clone(), policy, rules, profile, target.clone());
        library.policies.push(known.context(source).map_err(Failure::bad_input)?);
    }
    Ok(library)
}

fn read_baseline(path: &Path) -> Result<Report, Failure> {
    let bytes = input::read(path)?;
    let name = input::name(path);
    let report: Report = serde_json::from_slice(&bytes)
        .with_context(|| format!("{name} is no report that `strait report --json` wrote"))
        .map_err(Failure::bad_input)?;
    if report.api_version != API_VERSION || report.kind != "Report" {
        let found = (report.kind, report.api_version);
        return Err(Failure::bad_input(anyhow!(
            "{name} is a {} of {}, and this version of Strait compares a Report of {API_VERSION}",
            found.0,
            found.1
        )));
    }
    Ok(report)
}

/// A time as RFC 3339 has it.
fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_with_their_limits() {
        assert_eq!("drift".parse(), Ok(FailOn::Drift));
        assert_eq!("score>20".parse(), Ok(FailOn::Score(20)));
        for wrong in ["score", "score>", "score>1.5", "score>-1", "risk>3", ""] {
            assert!(wrong.parse::<FailOn>().is_err(), "{wrong}");
        }
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }
}
