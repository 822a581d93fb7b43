//! `strait diff A B`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use rustix::process::Pid;
use serde_json::{Value, json};
use strait_bpf::{Decision, Difference, Relation};
use strait_kernel::child::ExecToken;
use strait_policy::action_text;
use strait_policy::diff::{CallDifference, Diff, number_text};
use strait_policy::format::Format;
use strait_runtime::gate;
use strait_runtime::inspect::{Depth, Inspector, Reading};

use crate::args::{self, Profile, Subject};
use crate::documents;
use crate::failure::{Failure, UNFULFILLED};
use crate::output;
use crate::verbs::inspect;

/// Says how one decision stands to another, with a witness for each call that differs.
pub fn run(args: &args::Diff) -> Result<ExitCode, Failure> {
    let mut first = Side::read(&args.first, &args.profile)?;
    let mut second = Side::read(&args.second, &args.profile)?;
    // The launcher's gate is an execve that nobody can make: no difference between policies.
    for (side, other) in [(&first, &second), (&second, &first)] {
        if side.gate.is_some() && other.gate.is_none() {
            output::say(&format!(
                "strait: {} has Strait's exec gate, which is left out",
                side.name
            ));
        }
    }
    let gates = (first.gate, second.gate);
    first.add(gates.1)?;
    second.add(gates.0)?;
    let diff = Diff::new(&first.decision, &second.decision)
        .context("the two cannot be compared")
        .map_err(Failure::refused)?;
    if args.json {
        output::print(format!("{:#}\n", data(&first.name, &second.name, &diff)).as_bytes())
    } else {
        output::print_styled(&text(&first.name, &second.name, &diff))
    }
    .map_err(Failure::refused)?;
    let equal = diff.order == Relation::Equal;
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::from(UNFULFILLED) })
}

/// One of the two.
struct Side {
    name: String,
    decision: Decision,
    gate: Option<ExecToken>,
}

impl Side {
    fn read(subject: &Subject, profile: &Profile) -> Result<Side, Failure> {
        let path = match subject {
            Subject::Pid(pid) => return Side::of_process(*pid),
            Subject::File(path) => path,
        };
        let file = documents::file(path, profile)?;
        let name = file.name.clone();
        // A program may say what no policy can.
        let decision = if file.format == Format::Bpf {
            let program = documents::program_in(&file)?;
            Decision::of(&program).with_context(|| name.clone()).map_err(Failure::refused)?
        } else {
            let policy = documents::policy_in(file)?.policy;
            let rules = policy.lower().with_context(|| name.clone()).map_err(Failure::bad_input)?;
            rules.decision().with_context(|| name.clone()).map_err(Failure::refused)?
        };
        Ok(Side { name, decision, gate: None })
    }

    /// What the kernel holds for every thread of a process alike.
    fn of_process(pid: Pid) -> Result<Side, Failure> {
        let name = format!("pid:{pid}");
        let refused = |what: String| Failure::refused(anyhow!("{name}: {what}"));
        let process = Inspector::new(Depth::Filters).inspect(pid).map_err(inspect::failure)?;
        for thread in &process.threads {
            if let Reading::Failed { reason } = &thread.reading {
                return Err(refused(format!(
                    "the filters of thread {} are not known: {reason}",
                    thread.tid
                )));
            }
        }
        let [stack] = process.stacks.as_slice() else {
            let what = "its threads are confined differently: see `strait inspect`".to_owned();
            return Err(refused(what));
        };
        let Some(decision) = stack.decision.as_deref() else {
            let why = stack.undecided.clone().unwrap_or_default();
            return Err(refused(format!("what its filters decide is not known: {why}")));
        };
        let gate = gate::find(decision).map_err(Failure::refused)?;
        Ok(Side { name, decision: decision.clone(), gate })
    }

    /// Adds the gate that the other side has.
    fn add(&mut self, gate: Option<ExecToken>) -> Result<(), Failure> {
        if let (None, Some(token)) = (self.gate, gate) {
            self.decision = gate::add(&self.decision, token).map_err(Failure::refused)?;
        }
        Ok(())
    }
}

fn relation(relation: Relation) -> &'static str {
    match relation {
        Relation::Equal => "equal",
        Relation::Tighter => "tighter",
        Relation::Looser => "looser",
        Relation::Incomparable => "incomparable",
    }
}

fn text(first: &str, second: &str, diff: &Diff) -> String {
    let bold = anstyle::Style::new().bold();
    let said = match (diff.order, diff.allowed) {
        (Relation::Equal, _) => "A and B decide alike on every call".to_owned(),
        (Relation::Tighter, Relation::Equal) => {
            "the same passes, and A answers the rest more strictly than B".to_owned()
        }
        (Relation::Tighter, _) => "A lets nothing pass that B does not, and less".to_owned(),
        (Relation::Looser, Relation::Equal) => {
            "the same passes, and A answers the rest less strictly than B".to_owned()
        }
        (Relation::Looser, _) => "A lets everything pass that B does, and more".to_owned(),
        (_, Relation::Equal) => {
            "the same passes, and A and B answer the rest differently".to_owned()
        }
        (_, Relation::Incomparable) => "A and B each let pass what the other does not".to_owned(),
        (_, passes) => format!(
            "A is {} than B by what passes, and answers some of the rest otherwise",
            relation(passes)
        ),
    };
    let mut out =
        format!("A {first}\nB {second}\n{bold}{}{bold:#}: {said}\n", relation(diff.order));
    let passes = |call: &CallDifference| (call.first.lets_pass(), call.second.lets_pass());
    let numbers = |one: &Difference| (one.first.lets_pass(), one.second.lets_pass());
    for (kind, title) in [
        ((true, false), "passes by A alone"),
        ((false, true), "passes by B alone"),
        ((true, true), "passes by both, not alike"),
        ((false, false), "passes by neither, and is answered differently"),
    ] {
        let calls =
            diff.calls.iter().filter(|call| passes(call) == kind).map(|call| {
                (format!("{} {}", call.query.arch, call.query), call.first, call.second)
            });
        let spans = diff.numbers.iter().filter(|one| numbers(one) == kind);
        let spans = spans.map(|span| (numbers_text(span), span.first, span.second));
        for (index, (what, one, other)) in calls.chain(spans).enumerate() {
            // Writing to a string does not fail.
            if index == 0 {
                let _ = writeln!(out, "\n{bold}{title}{bold:#}");
            }
            let (one, other) = (action_text(one), action_text(other));
            let _ = writeln!(out, "  {what:<44} A {one}, B {other}");
        }
    }
    if !diff.complete {
        out.push_str("\nThere is more than can be listed.\n");
    }
    out
}

/// A span of numbers that have no names, or not all of them.
fn numbers_text(span: &Difference) -> String {
    let arch = if span.arches.0 == span.arches.1 {
        span.arches.0.to_string()
    } else {
        format!("audit arches {} to {}", span.arches.0, span.arches.1)
    };
    match span.calls {
        (0, u32::MAX) => format!("{arch} any number"),
        (first, last) if first == last => number_text(span.witness.arch, first),
        (first, last) => format!("{arch} numbers {first:#x} to {last:#x}"),
    }
}

fn data(first: &str, second: &str, diff: &Diff) -> Value {
    let calls: Vec<Value> = diff
        .calls
        .iter()
        .map(|call| {
            json!({
                "arch": call.query.arch.name(),
                "syscall": call.query.syscall.name(),
                "number": call.witness.nr,
                "witness": call.query.to_string(),
                "args": call.witness.args,
                "first": action_text(call.first),
                "second": action_text(call.second),
            })
        })
        .collect();
    let numbers: Vec<Value> = diff
        .numbers
        .iter()
        .map(|span| {
            json!({
                "arches": [span.arches.0.to_string(), span.arches.1.to_string()],
                "numbers": [span.calls.0, span.calls.1],
                "args": span.witness.args,
                "first": action_text(span.first),
                "second": action_text(span.second),
            })
        })
        .collect();
    json!({
        "first": first,
        "second": second,
        "relation": relation(diff.order),
        "passes": relation(diff.allowed),
        "calls": calls,
        "numbers": numbers,
        "complete": diff.complete,
    })
}
