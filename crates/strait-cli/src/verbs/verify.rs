//! `strait verify --policy P --pid N`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;
use strait_runtime::inspect::{Depth, Inspector};
use strait_runtime::verdict::{Call, Differences, Gate, Intent, Span, Verdict};
use strait_runtime::verify::{Judgement, Outcome, Verification, verify};

use crate::args::Verify;
use crate::documents;
use crate::failure::{Failure, REFUSED};
use crate::output;
use crate::verbs::inspect;
use crate::witness;

/// Judges what the kernel enforces on a process against a policy.
pub fn run(args: &Verify) -> Result<ExitCode, Failure> {
    let (_, rules) = documents::policy(&args.policy, &args.profile)?;
    let intent = Intent::new(&rules).map_err(Failure::bad_input)?;
    let verification =
        verify(&mut Inspector::new(Depth::Filters), args.pid, &intent).map_err(inspect::failure)?;
    let text = if args.json { format!("{:#}\n", json!(verification)) } else { text(&verification) };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::from(match verification.outcome {
        Outcome::Holds | Outcome::Tighter => 0,
        Outcome::Drift => 1,
        Outcome::Unknown => REFUSED,
    }))
}

/// What was found, with a witness for each difference.
pub fn text(verification: &Verification) -> String {
    let Verification { outcome, judged, process } = verification;
    let said = match outcome {
        Outcome::Holds => "holds: every thread is confined as the policy says",
        Outcome::Tighter => {
            "tighter: nothing passes that the policy denies, and less than it allows"
        }
        Outcome::Drift => "drift: the kernel decides otherwise than the policy",
        Outcome::Unknown => "unknown: not every thread's filters could be read",
    };
    let mut out = format!("process {} ({}): {said}\n", process.pid, process.name);
    for judged in judged {
        let who = match judged.threads.as_slice() {
            [one] => format!("thread {one}"),
            threads => format!("{} threads", threads.len()),
        };
        // Writing to a string does not fail.
        let _ = match &judged.judgement {
            Judgement::Verdict(Verdict::Holds { gate }) => {
                writeln!(out, "  {who}: holds{}", self::gate(gate.as_ref()))
            }
            Judgement::Verdict(Verdict::Tighter { gate, differences }) => {
                let said = self::gate(gate.as_ref());
                writeln!(out, "  {who}: tighter{said}\n{}", lines(differences))
            }
            Judgement::Verdict(Verdict::Drift { permits_more, differences }) => {
                let what = if *permits_more { "lets more pass" } else { "fails calls otherwise" };
                writeln!(out, "  {who}: drift, {what}\n{}", lines(differences))
            }
            Judgement::Unknown { unknown } => writeln!(out, "  {who}: unknown: {unknown}"),
        };
    }
    out
}

fn gate(gate: Option<&Gate>) -> &'static str {
    match gate {
        None => "",
        Some(Gate::Closed) => " (the launcher's exec gate is closed)",
        Some(Gate::Unknown { .. }) => " (whether the launcher's exec gate is closed is not known)",
    }
}

fn lines(differences: &Differences) -> String {
    let mut lines: Vec<String> = differences.spans.iter().take(witness::SHOWN).map(line).collect();
    if let Some(more) = differences.spans.len().checked_sub(witness::SHOWN).filter(|&n| n > 0) {
        lines.push(format!("    and {more} more (--json lists them)"));
    }
    lines.join("\n")
}

fn line(span: &Span) -> String {
    let Call { data, .. } = &span.witness;
    format!("    {}: policy {}, kernel {}", witness::call(data), span.intended, span.installed)
}
