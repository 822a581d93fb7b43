//! `strait run --policy P -- CMD…`.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use rustix::process::{DumpableBehavior, Pid, Signal, set_dumpable_behavior};
use strait_abi::Arch;
use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::command::{Command, inherited};
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::signal::{self, Relay};
use strait_policy::{Attempt, Policy, Rules, action_text, replay};
use strait_runtime::domain::{ContainError, contain};
use strait_runtime::exec_check::{ExecCheck, NotAllowed};
use strait_runtime::launch::{Enforcement, Started};
use strait_runtime::network::Service;
use strait_runtime::record::{self, Choice, Ready, Request, Target};
use strait_runtime::steps::Steps;
use strait_runtime::supervise::{Answering, Supervisor, Telling, notifying};
use strait_runtime::wait::Held;
use strait_runtime::{mode, wait};

use crate::args::{Run, RunMode};
use crate::denials::Teller;
use crate::failure::Failure;
use crate::verbs::record as recorder;
use crate::{documents, input, output, supervisor};

/// Confines and executes a command, and passes on how it ended.
pub fn run(args: &Run) -> Result<ExitCode, Failure> {
    confined(args).map_err(Failure::of_launcher)
}

fn confined(args: &Run) -> Result<ExitCode, Failure> {
    let (policy, mut rules) = documents::policy(&args.policy, &args.profile)?;
    if let Some(step) = &args.step {
        rules = policy
            .lower_at(step)
            .with_context(|| input::name(&args.policy))
            .map_err(Failure::bad_input)?;
    }
    // Every call of any program here would end it.
    if !policy.architectures.iter().any(runs_here) {
        let arches: Vec<&str> = policy.architectures.iter().map(Arch::name).collect();
        let error = anyhow!(
            "{} is for {}, and no program of this machine runs by that",
            input::name(&args.policy),
            arches.join(", ")
        );
        return Err(Failure::bad_input(error));
    }
    let mut command = command(args)?;
    // What enforces nothing keeps from nothing.
    let mut check = None;
    if matches!(args.mode, RunMode::Enforce | RunMode::Notify) {
        let failure = |error| match error {
            ContainError::Path { .. } => Failure::bad_input(error),
            _ => Failure::refused(error),
        };
        let strict = policy.exec.as_ref().filter(|exec| exec.strict);
        check = strict.map(ExecCheck::new).transpose().map_err(failure)?;
        let contained = contain(&policy).map_err(failure)?;
        for gap in &contained.gaps {
            output::say(&format!("strait: not held: {gap}"));
        }
        if let Some(domain) = contained.domain {
            command = command.landlock(domain);
        }
    }
    let steps = match args.stay || args.mode == RunMode::Log || policy.steps.is_empty() {
        true => Steps::only(rules.clone()),
        false => Steps::of(&policy, args.step.as_deref())
            .with_context(|| input::name(&args.policy))
            .map_err(Failure::bad_input)?,
    };
    match args.mode {
        RunMode::Enforce if policy.network.is_some() || steps.can_move() => {
            supervised(args, &command, check, policy, steps, Answering::Enforce)
        }
        RunMode::Enforce => enforced(args, &command, &policy, &rules, check),
        RunMode::Notify => supervised(args, &command, check, policy, steps, Answering::Enforce),
        RunMode::Canary => supervised(args, &command, None, policy, steps, Answering::Observe),
        RunMode::Log if policy.network.is_some() => {
            let error = anyhow!(
                "{} has `network`, and the kernel's log sees no addresses: use `--mode canary`",
                input::name(&args.policy)
            );
            Err(Failure::bad_input(error))
        }
        RunMode::Log => logged(args, &command, &rules),
    }
}

/// The command with what is asked for it.
fn command(args: &Run) -> Result<Command, Failure> {
    let mut command = recorder::command(&args.command)?;
    command = command.keep_only(&args.keep_fd).map_err(Failure::bad_input)?;
    for limit in &args.limit {
        command = command.limit(limit.resource, limit.soft, limit.hard);
    }
    if args.die_with_parent {
        command = command.signal_on_parent_death(Signal::KILL);
    }
    Ok(command)
}

/// The kernel alone answers.
fn enforced(
    args: &Run,
    command: &Command,
    policy: &Policy,
    rules: &Rules,
    check: Option<ExecCheck>,
) -> Result<ExitCode, Failure> {
    let watches = check.is_some();
    let mut teller = watches.then(|| teller(args, policy, Answering::Enforce)).transpose()?;
    let enforcement = Enforcement::new(rules, &Options::default(), LoadOptions::default())
        .with_context(|| input::name(&args.policy))
        .map_err(Failure::bad_input)?;
    let child = PendingChild::fork(command).map_err(Failure::refused)?;
    let relay = Relay::install().map_err(Failure::refused)?;
    let mut tell = |process, refused: &NotAllowed| {
        if let Some(teller) = &mut teller {
            teller.killed(process, refused);
        }
    };
    let (started, held) = start(&enforcement, child, check, &mut tell)?;
    keep_secrets();
    if watches {
        confine_self(watches, &started)?;
    }
    let ended = wait::until_end_attending(&started.child, &relay, None, held);
    let ended = ended.map_err(Failure::refused)?;
    drop(relay);
    if let Some(teller) = &mut teller {
        teller.sum_up(&[], 0);
    }
    say_if_killed(ended.status.signal());
    signal::end_as(ended.status)
}

/// A supervisor answers what the policy has it decide, and in the modes for that whatever is denied; or
/// looks on.
fn supervised(
    args: &Run,
    command: &Command,
    check: Option<ExecCheck>,
    policy: Policy,
    steps: Steps,
    answering: Answering,
) -> Result<ExitCode, Failure> {
    let teller = Arc::new(Mutex::new(teller(args, &policy, answering)?));
    let watches = check.is_some();
    let loaded = match args.mode {
        // What is denied by registers the kernel answers by itself.
        RunMode::Enforce => steps.loaded().clone(),
        _ => notifying(steps.loaded(), answering),
    };
    let enforcement = Enforcement::supervised(&loaded, &Options::default(), LoadOptions::default())
        .with_context(|| input::name(&args.policy))
        .map_err(Failure::bad_input)?;
    let child = PendingChild::fork(command).map_err(Failure::refused)?;
    let relay = Relay::install().map_err(Failure::refused)?;
    let telling = Arc::clone(&teller);
    let mut tell_killed = move |process, refused: &NotAllowed| {
        telling.lock().unwrap_or_else(PoisonError::into_inner).killed(process, refused);
    };
    let (mut started, held) = start(&enforcement, child, check, &mut tell_killed)?;
    keep_secrets();
    confine_self(watches, &started)?;
    let listener = started.child.take_listener();
    let listener = listener.context("there is no listener").map_err(Failure::refused)?;
    let network = policy.network.clone();
    let telling = Arc::clone(&teller);
    let steps = steps.telling(Box::new(move |moved| {
        telling.lock().unwrap_or_else(PoisonError::into_inner).moved(moved);
    }));
    let workload = started.child.pid();
    let mut supervisor = Supervisor::new(listener, workload, policy, steps, answering);
    let telling = Arc::clone(&teller);
    let mut tell = move |denial: &_| {
        telling.lock().unwrap_or_else(PoisonError::into_inner).tell(denial);
    };
    let (ended, (counted, others)) = if let Some(network) = network {
        let service = Service::start(supervisor, network, Box::new(tell)).map_err(|error| {
            // It could do nothing on the network, but it would run.
            let _ = started.child.signal(Signal::KILL);
            Failure::refused(anyhow!(error).context("there are no threads for a supervisor"))
        })?;
        let ended = wait::until_end_attending(&started.child, &relay, None, held);
        (ended.map_err(Failure::refused)?, service.counted())
    } else {
        let mut telling = Telling { supervisor: &mut supervisor, tell: &mut tell };
        let ended = wait::until_end_attending(&started.child, &relay, Some(&mut telling), held);
        (ended.map_err(Failure::refused)?, supervisor.counted())
    };
    drop(relay);
    let mut teller = teller.lock().unwrap_or_else(PoisonError::into_inner);
    teller.sum_up(&counted, others);
    say_if_killed(ended.status.signal());
    signal::end_as(ended.status)
}

/// Who tells of denials, as it was asked for.
fn teller(args: &Run, policy: &Policy, answering: Answering) -> Result<Teller, Failure> {
    let file = args.denials_fd.map(inherited).transpose();
    let file = file.context("--denials-fd").map_err(Failure::bad_input)?.map(File::from);
    Teller::new(args.denials, file, answering, policy)
        .context("denials cannot be told to the journal")
        .map_err(Failure::refused)
}

/// Starts the child, and holds what is executed to a list if there is one.
fn start<'a>(
    enforcement: &Enforcement,
    child: PendingChild,
    check: Option<ExecCheck>,
    tell: &'a mut dyn FnMut(Pid, &NotAllowed),
) -> Result<(Started, Option<Held<'a>>), Failure> {
    let started = match check {
        None => enforcement.start(child).map(|started| (started, None)),
        Some(mut check) => enforcement
            .start_watched(child, &mut check)
            .map(|(started, watch)| (started, Some(Held { watch, check, tell }))),
    };
    started.map_err(|error| {
        let status = error.exit_status();
        Failure::with_status(status, error)
    })
}

/// The kernel lets everything pass and logs it; the run is recorded, for the kernel's log is no
/// account of what comes fast.
fn logged(args: &Run, command: &Command, rules: &Rules) -> Result<ExitCode, Failure> {
    let logged = mode::log(rules);
    let enforcement = Enforcement::new(&logged, &Options::default(), LoadOptions::default())
        .with_context(|| input::name(&args.policy))
        .map_err(Failure::bad_input)?;
    let target = Target::Command { command, enforcement: Some(&enforcement) };
    let request = Request { target, engine: Choice::Auto, duration: None, ready: Ready::default() };
    let running = record::start(&request).map_err(recorder::failure)?;
    let recording = running.wait().map_err(recorder::failure)?;
    for denial in replay(rules, recording.attempts()) {
        let Attempt { image, arch, nr, outcomes, .. } = &denial.first;
        let name = match arch.syscall(*nr) {
            Some(name) => name.name().to_owned(),
            None => format!("call {nr} of {arch}"),
        };
        let some = if denial.certain { "" } else { " at most, by its arguments" };
        output::say(&format!(
            "strait: would be denied: {name} -> {}: {} times{some} ({})",
            action_text(denial.action),
            outcomes.count,
            output::printable(image),
        ));
    }
    // The filter that was active is ours, and denies nothing.
    let mut completeness = recording.completeness().clone();
    completeness.filter_active = false;
    for gap in completeness.gaps() {
        output::say(&format!("strait: {gap}"));
    }
    recorder::end_as(recording.exit())
}

/// What stands in this process's memory (the token of the gate, the policy's decisions) is no
/// business of other processes of the user, the command among them.
fn keep_secrets() {
    // It fails on no kernel that takes a filter.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Confines this process, whose command runs already: it is ended if that fails.
fn confine_self(watches: bool, started: &Started) -> Result<(), Failure> {
    supervisor::confine(watches).inspect_err(|_| {
        let _ = started.child.signal(Signal::KILL);
    })
}

/// Says what a SIGSYS was: the shell's own words for it help nobody.
fn say_if_killed(signal: Option<i32>) {
    if signal == Some(SIGSYS) {
        output::say(
            "strait: a call whose answer is to kill or to trap ended the command; \
             `--mode canary` lets it pass and tells which it was",
        );
    }
}

/// signal(7).
const SIGSYS: i32 = 31;

/// Whether programs of this ABI run on this machine.
fn runs_here(arch: Arch) -> bool {
    match Arch::NATIVE {
        Some(Arch::X86_64) => matches!(arch, Arch::X86_64 | Arch::X32 | Arch::I386),
        Some(Arch::Aarch64) => matches!(arch, Arch::Aarch64 | Arch::Arm),
        native => native == Some(arch),
    }
}
