//! `strait prove POLICY (F… | pid:N)`.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use rustix::process::Pid;
use serde_json::json;
use strait_bpf::{Comparison, Decision, Relation};
use strait_policy::Rules;
use strait_runtime::inspect::{Depth, Inspector};
use strait_runtime::verdict::Intent;
use strait_runtime::verify::{Outcome, verify};

use crate::args::{Prove, Subject};
use crate::documents;
use crate::failure::{Failure, REFUSED};
use crate::input;
use crate::output;
use crate::verbs::inspect;
use crate::witness;

/// Proves that a program, or what the kernel holds for a process, decides as the policy.
pub fn run(args: &Prove) -> Result<ExitCode, Failure> {
    let (policy, rules) = documents::policy(&args.policy, &args.profile)?;
    if let [Subject::Pid(pid)] = args.subjects[..] {
        return installed(args, &rules, pid);
    }
    let paths = args.subjects.iter().map(|subject| match subject {
        Subject::File(path) => Ok(path),
        Subject::Pid(pid) => {
            let pid = pid.as_raw_nonzero();
            Err(Failure::bad_input(anyhow!("pid:{pid} is proved alone, without other programs")))
        }
    });
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = paths.iter().map(|path| input::name(path)).collect();
    let subject = names.join(", ");
    let programs = paths.into_iter().map(|path| documents::program_for(&policy, path));
    let programs = programs.collect::<Result<Vec<_>, _>>()?;
    let decision = Decision::of_stack(&programs).map_err(Failure::refused)?;
    let intended = rules.decision().context("the policy").map_err(Failure::bad_input)?;
    let comparison = intended.compare(&decision).map_err(Failure::refused)?;
    let holds = comparison.order == Relation::Equal;
    let text = if args.json {
        let differences: Vec<_> = comparison.differences.iter().map(witness::json).collect();
        let value = json!({
            "holds": holds,
            "subject": subject,
            "relation": relation(&comparison),
            "differences": differences,
        });
        format!("{value:#}\n")
    } else {
        text(&subject, &comparison)
    };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::from(u8::from(!holds)))
}

/// Proves it for every thread of a process: here being tighter is not enough.
fn installed(args: &Prove, rules: &Rules, pid: Pid) -> Result<ExitCode, Failure> {
    let intent = Intent::new(rules).map_err(Failure::bad_input)?;
    let inspector = &mut Inspector::new(Depth::Filters);
    let verification = verify(inspector, pid, &intent).map_err(inspect::failure)?;
    let text = if args.json {
        format!("{:#}\n", json!(verification))
    } else {
        super::verify::text(&verification)
    };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::from(match verification.outcome {
        Outcome::Holds => 0,
        Outcome::Unknown => REFUSED,
        _ => 1,
    }))
}

/// How the subject stands to the policy, in a word.
pub fn relation(comparison: &Comparison) -> &'static str {
    match comparison.order {
        Relation::Equal => "equal",
        // The comparison is of the policy with the subject: what is said is of the subject.
        Relation::Tighter => "looser",
        Relation::Looser => "tighter",
        _ => "incomparable",
    }
}

fn text(subject: &str, comparison: &Comparison) -> String {
    if comparison.order == Relation::Equal {
        return format!("{subject} decides as the policy does, for all inputs\n");
    }
    let mut text =
        format!("{subject} does not decide as the policy does: it is {}\n", relation(comparison));
    for difference in comparison.differences.iter().take(witness::SHOWN) {
        text.push_str(&format!("  {}\n", witness::text(difference, "policy", "program")));
    }
    if let Some(more) = comparison.differences.len().checked_sub(witness::SHOWN + 1) {
        text.push_str(&format!("  and {} more (--json lists them)\n", more + 1));
    }
    text
}
