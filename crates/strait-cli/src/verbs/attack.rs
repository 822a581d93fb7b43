//! `strait attack --policy P`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde_json::json;
use strait_runtime::attack::{AttackError, Class, Finding, Outcome, attack};
use strait_runtime::domain::ContainError;

use crate::args::Attack;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{documents, input, output};

/// Tries the ways around a policy; any that is open is a failed check.
pub fn run(args: &Attack) -> Result<ExitCode, Failure> {
    let (policy, _) = documents::policy(&args.policy, &args.profile)?;
    let progress = Progress::of("trying the ways around the policy");
    let findings = attack(&policy, args.step.as_deref()).map_err(failure)?;
    drop(progress);
    if args.json {
        let attacks: Vec<_> = findings.iter().map(data).collect();
        let value = json!({"policy": input::name(&args.policy), "attacks": attacks});
        output::print(format!("{value:#}\n").as_bytes())
    } else {
        output::print_styled(&text(&findings))
    }
    .map_err(Failure::refused)?;
    let open = findings.iter().any(|finding| matches!(finding.outcome, Outcome::Open { .. }));
    Ok(ExitCode::from(u8::from(open)))
}

fn failure(error: AttackError) -> Failure {
    match &error {
        AttackError::Compile(_)
        | AttackError::Undecided(_)
        | AttackError::Lower(_)
        | AttackError::Step(_)
        | AttackError::Contain(ContainError::Path { .. }) => Failure::bad_input(error),
        _ => Failure::refused(error),
    }
}

fn data(finding: &Finding) -> serde_json::Value {
    let mut value = json!(finding);
    value["tries"] = finding.class.tries.into();
    value
}

fn text(findings: &[Finding]) -> String {
    let (red, green) = (colour(AnsiColor::Red).bold(), colour(AnsiColor::Green));
    let dim = Style::new().dimmed();
    let mut text = String::new();
    let mut counts = [0_usize; 3];
    for Finding { class, outcome } in findings {
        let Class { name, tries, .. } = class;
        // Writing to a string does not fail.
        let _ = match outcome {
            Outcome::Open { why, close } => {
                counts[0] += 1;
                writeln!(
                    text,
                    "{red}open{red:#}     {name}: {tries}\n           {why}\n           close it: {close}"
                )
            }
            Outcome::Blocked { by } => {
                counts[1] += 1;
                writeln!(text, "{green}blocked{green:#}  {name}: {by}")
            }
            Outcome::NotApplicable { reason } => {
                counts[2] += 1;
                writeln!(text, "{dim}n/a{dim:#}      {name}: {reason}")
            }
        };
    }
    let [open, blocked, not_applicable] = counts;
    let _ = writeln!(text, "{open} open, {blocked} blocked, {not_applicable} not applicable");
    text
}

fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(colour.into()))
}
