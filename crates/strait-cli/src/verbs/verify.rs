//! `strait verify --policy P (--pid N | --container ID | --cgroup PATH) [--step STEP] [--supervised]
//! [--watch]`.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use rustix::process::Pid;
use serde_json::json;
use strait_runtime::containers::{Member, Origin};
use strait_runtime::inspect::{Depth, InspectError, Inspector, Status};
use strait_runtime::rendering::{Because, Original, Rendering};
use strait_runtime::scope::Scope;
use strait_runtime::steps::Steps;
use strait_runtime::supervise::{Answering, notifying};
use strait_runtime::verdict::{Call, Differences, Gate, Intent, Span, Verdict};
use strait_runtime::verify::{Judgement, Outcome, Verification, verify_rendered};
use strait_runtime::watch::{Event, Watch};

use crate::args::Verify;
use crate::containers::{self, Chosen};
use crate::documents;
use crate::failure::{Failure, REFUSED};
use crate::input;
use crate::output::{self, printable};
use crate::verbs::inspect;
use crate::witness;

/// Judges what the kernel enforces on processes against a policy.
pub fn run(args: &Verify) -> Result<ExitCode, Failure> {
    let chosen = args.container.as_deref();
    let chosen = chosen.map(|name| containers::choose(name, &args.engines)).transpose()?;
    let profile = match &chosen {
        Some(chosen) => chosen.resolve(&args.profile)?,
        None => args.profile.clone(),
    };
    let document = documents::document(&args.policy, &profile)?;
    let name = input::name(&args.policy);
    let step = args.step.as_deref();
    let rules = match step {
        Some(step) => document.policy.lower_at(step).map_err(|error| anyhow!(error)),
        None => document.policy.lower().map_err(|error| anyhow!(error)),
    };
    let rules = rules.map_err(|error| Failure::bad_input(error.context(name)))?;
    let mut intent = Intent::new(&rules).map_err(Failure::bad_input)?;
    // `run` has a supervisor asked about what a later step denies, where it can.
    match Steps::of(&document.policy, step) {
        Ok(steps) if args.supervised => {
            let asked = notifying(steps.loaded(), Answering::Enforce);
            intent = intent.or_moving(&asked).map_err(Failure::bad_input)?;
        }
        Ok(steps) if steps.can_move() => {
            intent = intent.or_moving(steps.loaded()).map_err(Failure::bad_input)?;
        }
        _ => {}
    }
    let target = documents::target(&profile)?;
    let mut original = Original::new(document.policy.clone(), document.oci_text(), target);
    if args.supervised {
        original = original.supervised();
    }
    let container = chosen.as_ref().and_then(|chosen| chosen.container.as_ref());
    if let Some(runtime) = container.and_then(|container| container.runtime) {
        original = original.rendered_by(runtime);
    }
    let scope = match (&args.pid, &chosen, &args.cgroup, &args.unit) {
        (Some(pid), ..) if args.watch => Scope::Tree(*pid),
        (Some(pid), ..) => Scope::Process(*pid),
        (_, Some(chosen), ..) => chosen.scope.clone(),
        (_, _, Some(folder), _) => Scope::Cgroup(folder.clone()),
        (.., Some(unit)) => Scope::Unit(unit.clone()),
        _ => return Err(Failure::bad_input(anyhow!("name a process, container, cgroup or unit"))),
    };
    if args.watch {
        return watch(args, scope, &intent, &original);
    }
    let pids = scope.processes().map_err(Failure::refused)?;
    let mut inspector = Inspector::new(Depth::Filters);
    let mut all: Vec<Verification> = Vec::new();
    for &pid in &pids {
        let original = (!args.strict && is_apart(pid)).then_some(&original);
        match verify_rendered(&mut inspector, pid, &intent, original) {
            // One of several that has ended, and nobody has waited for, calls nothing any more.
            Ok(found) if args.pid.is_none() && found.process.status == Status::Zombie => {}
            Ok(verification) => all.push(verification),
            // Of several, those that end meanwhile are no longer among them.
            Err(InspectError::Gone { .. } | InspectError::Reused { .. }) if args.pid.is_none() => {}
            Err(error) => return Err(inspect::failure(error)),
        }
    }
    let Some(outcome) = all.iter().map(|verification| verification.outcome).max() else {
        return Err(match container {
            Some(container) => containers::ended(container),
            None => Failure::bad_input(anyhow!("there is no process in it")),
        });
    };
    let members = chosen.as_ref().map_or(Ok(Vec::new()), Chosen::members)?;
    let text = match (&all[..], args.json) {
        ([one], true) if args.pid.is_some() => format!("{:#}\n", json!(one)),
        (all, true) => {
            let mut data = json!({ "outcome": outcome, "processes": all });
            if let Some(container) = container {
                data["container"] = json!(container);
                data["members"] = json!(members);
            }
            format!("{data:#}\n")
        }
        (all, false) => {
            let head = container.map(|one| containers::line(one) + "\n").unwrap_or_default();
            head + &all.iter().map(|one| of_member(one, &members)).collect::<String>()
        }
    };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::from(exit_status(outcome)))
}

/// What was found of a process, and how it came into the container, if later.
fn of_member(verification: &Verification, members: &[Member]) -> String {
    let process = &verification.process;
    let mut out = text(verification);
    let member = members.iter().find(|member| member.pid == process.pid);
    if let Some(member) = member.filter(|member| member.origin != Origin::Started) {
        let bare = if process.status == Status::Unconfined { ", and is not confined" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "  it {}{bare}", member.origin.text());
    }
    out
}

fn exit_status(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Holds | Outcome::Tighter => 0,
        Outcome::Drift => 1,
        Outcome::Unknown => REFUSED,
    }
}

/// Whether a process sees other files than we do, as those of a container: then a runtime may have
/// rendered the policy.
fn is_apart(pid: Pid) -> bool {
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
    namespace(&pid.to_string()) != namespace("self")
}

/// Says what changes until no process is left; the status is that of the worst that was seen.
fn watch(
    args: &Verify,
    scope: Scope,
    intent: &Intent,
    original: &Original,
) -> Result<ExitCode, Failure> {
    let apart = match &scope {
        Scope::Process(pid) | Scope::Tree(pid) => is_apart(*pid),
        Scope::Cgroup(_) | Scope::Unit(_) | Scope::Container(_) | Scope::Members(_) => true,
    };
    let mut watch = Watch::new(scope, intent, (!args.strict && apart).then_some(original));
    let mut worst = None;
    loop {
        let events = watch.look().map_err(Failure::refused)?;
        for event in &events {
            let line = if args.json { format!("{}\n", json!(event)) } else { told(event) };
            output::print(line.as_bytes()).map_err(Failure::refused)?;
        }
        let unknown = events.iter().any(|event| matches!(event, Event::Unknown { .. }));
        let unknown = unknown.then_some(Outcome::Unknown);
        worst = worst.max(watch.outcome()).max(unknown);
        if watch.outcome().is_none() {
            break;
        }
        std::thread::sleep(args.interval.max(Duration::from_millis(10)));
    }
    match worst {
        Some(outcome) => Ok(ExitCode::from(exit_status(outcome))),
        None => Err(Failure::bad_input(anyhow!("there is no process to watch"))),
    }
}

/// An event for a person.
fn told(event: &Event) -> String {
    match event {
        Event::Started { verification } => format!("started: {}", text(verification)),
        Event::Changed { new_threads, lost_filters, verification, .. } => {
            let mut out = format!("changed: {}", text(verification));
            for (threads, what) in [(new_threads, "new"), (lost_filters, "filters taken off")] {
                if !threads.is_empty() {
                    let ids: Vec<String> = threads.iter().map(ToString::to_string).collect();
                    // Writing to a string does not fail.
                    let _ = writeln!(out, "  {what}: {}", ids.join(" "));
                }
            }
            out
        }
        Event::Unknown { pid, reason } => format!("unknown: process {pid}: {reason}\n"),
        Event::Ended { pid } => format!("ended: process {pid}\n"),
    }
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
    let mut out = format!("process {} ({}): {said}\n", process.pid, printable(&process.name));
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
        if let Some(rendering) = &judged.rendering {
            out.push_str(&explained(rendering));
        }
    }
    out
}

/// How a runtime's rendering differs from the policy: each reason, with how often and an example.
fn explained(rendering: &Rendering) -> String {
    let Rendering { runtime, library, explained } = rendering;
    let library = match library {
        Some(version) => format!("a libseccomp that knows the calls of Linux {version}"),
        None => "a libseccomp that knows every call".to_owned(),
    };
    let mut out = format!("    as {runtime} renders the policy, with {library}:\n");
    let reasons = [
        Because::EnosysStub,
        Because::SkippedName,
        Because::OtherArch,
        Because::TracerSkip,
        Because::Supervised,
        Because::NotExpressible,
    ];
    for reason in reasons {
        let mut spans = explained.iter().filter(|one| one.because == reason);
        if let Some(first) = spans.next() {
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "    explained, {}, {} in all, such as\n{}",
                reason.text(),
                1 + spans.count(),
                line(&first.span)
            );
        }
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
