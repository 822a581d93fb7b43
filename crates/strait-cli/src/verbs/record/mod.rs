//! `strait record`.

mod several;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use rustix::process::Pid;
use strait_kernel::child::ExecError;
use strait_kernel::command::{Command, CommandError, Stream};
use strait_kernel::ebpf::EbpfError;
use strait_kernel::signal;
use strait_policy::Recording;
use strait_policy::recording::Exit;
use strait_runtime::launch::StartError;
use strait_runtime::record::{self, Choice, RecordError, Request, Target};

use self::several::Workload;
use crate::args::{Engine, Record};
use crate::containers::{self, Chosen};
use crate::failure::Failure;
use crate::output;

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM (signal(7)).
const INTERRUPTS: [i32; 4] = [1, 2, 3, 15];

/// Records, writes the recording, and passes on how the command ended.
pub fn run(args: &Record) -> Result<ExitCode, Failure> {
    recorded(args).map_err(Failure::of_launcher)
}

fn recorded(args: &Record) -> Result<ExitCode, Failure> {
    let running = running(args)?;
    if running.len() > 1 {
        return several::record(args, &running);
    }
    let mut file = args.output.clone();
    if let (Some(file), [one]) = (&mut file, running.as_slice())
        && file.is_dir()
    {
        file.push(one.file());
    }
    output::check(file.as_deref().unwrap_or(Path::new("-"))).map_err(Failure::bad_input)?;
    let command;
    let mut runs = None;
    let target = match running.into_iter().next() {
        Some(one) => {
            runs = Some(one.said());
            one.target
        }
        None => {
            let ours = file.as_deref().is_none_or(|path| path == Path::new("-"));
            command = apart(self::command(&args.command)?, ours)?;
            Target::Command { command: &command, enforcement: None }
        }
    };
    let request = Request {
        target,
        engine: choice(args.engine),
        duration: args.duration,
        ready: args.ready.clone().unwrap_or_default(),
    };
    let recording = record::start(&request).map_err(failure)?;
    if let Some(one) = runs.filter(|_| !args.quiet) {
        // What is done from now on is recorded: who waits for that may go on.
        output::say(&format!("strait: recording {one} has begun"));
    }
    let recording = recording.wait().map_err(failure)?;
    output::write(file.as_deref(), recording.to_json().as_bytes()).map_err(Failure::refused)?;
    if !args.quiet {
        say(&recording, args.engine, "strait: ");
    }
    end_as(recording.exit())
}

/// The workloads that run already, of those that are to be recorded.
fn running(args: &Record) -> Result<Vec<Workload>, Failure> {
    let mut running = Vec::new();
    for &pid in &args.pid {
        running.push(Workload::new(Target::Process(pid), "pid", pid.to_string()));
    }
    for cgroup in &args.cgroup {
        let path = cgroup.canonicalize().unwrap_or_else(|_| cgroup.clone());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        running.push(Workload::new(Target::Cgroup(cgroup.clone()), "cgroup", name));
    }
    let chosen = containers::choose_all(&args.container, &args.engines)?;
    for (name, chosen) in args.container.iter().zip(chosen) {
        if !args.quiet
            && let Some(container) = &chosen.container
        {
            output::say(&format!("strait: recording {}", containers::line(container)));
        }
        running.push(Workload::new(Target::Namespaces(first(&chosen)?), "container", name));
    }
    for &pid in &args.namespaces_of {
        running.push(Workload::new(Target::Namespaces(pid), "namespaces-of", pid.to_string()));
    }
    Ok(running)
}

/// Says what a recording has, and what it has not.
fn say(recording: &Recording, asked: Engine, before: &str) {
    let mut lines = vec![said(recording)];
    if asked == Engine::Auto && recording.engine().name != "ebpf" {
        lines.push(recording.engine().reason.clone());
    }
    lines.extend(recording.completeness().gaps());
    lines.extend(late(recording));
    for line in lines {
        output::say(&format!("{before}{line}"));
    }
}

/// The first process of a container.
fn first(chosen: &Chosen) -> Result<Pid, Failure> {
    let first = match &chosen.container {
        Some(container) => Some(container.pid),
        None => chosen.scope.processes().map_err(Failure::refused)?.first().copied(),
    };
    first.context("the container has ended meanwhile").map_err(Failure::bad_input)
}

/// The command of a command line.
pub fn command(words: &[OsString]) -> Result<Command, Failure> {
    let (program, arguments) =
        words.split_first().context("no command is given").map_err(Failure::bad_input)?;
    Command::new(program, arguments.to_vec()).map_err(|error: CommandError| {
        let status = error.exit_status();
        Failure::with_status(status, error)
    })
}

/// The command, with its standard output sent to standard error where standard output is for data
/// of ours, so that nobody has to tell the two apart. On a terminal both are shown anyway.
pub fn apart(command: Command, ours: bool) -> Result<Command, Failure> {
    if !ours || io::stdout().is_terminal() {
        return Ok(command);
    }
    let stderr = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .context("standard error cannot be shared with the command")
        .map_err(Failure::refused)?;
    Ok(command.redirect(Stream::Stdout, stderr))
}

/// Who is to observe.
fn choice(engine: Engine) -> Choice {
    match engine {
        Engine::Auto => Choice::Auto,
        Engine::Ebpf => Choice::Ebpf,
        Engine::Notify => Choice::Notify,
        Engine::Ptrace => Choice::Ptrace,
        Engine::Audit => Choice::Audit,
    }
}

/// Why nothing was recorded, with the status that tells it.
///
/// Where a signal has ended the command before its program started, it is what ends us too.
pub fn failure(error: RecordError) -> Failure {
    match &error {
        RecordError::Exec(ExecError::Died { status })
        | RecordError::Start(StartError::Exec(ExecError::Died { status }))
            if status.signal().is_some_and(|signal| INTERRUPTS.contains(&signal)) =>
        {
            output::say("strait: interrupted before the command was started");
            signal::end_as(*status)
        }
        RecordError::NoProcess { .. }
        | RecordError::Namespaces { .. }
        | RecordError::Target { .. }
        | RecordError::OneAtATime { .. }
        | RecordError::Overlap { .. }
        | RecordError::Ebpf(EbpfError::Workloads { .. }) => Failure::bad_input(error),
        RecordError::Exec(_) | RecordError::Start(_) => {
            Failure::with_status(error.exit_status(), error)
        }
        _ => Failure::refused(error),
    }
}

/// The recording in one line.
pub fn said(recording: &Recording) -> String {
    let calls: u64 = recording.calls().iter().map(|call| call.outcomes.count).sum();
    let mut distinct: Vec<_> = recording.calls().iter().map(|call| (call.arch, call.nr)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let complete = if recording.completeness().is_complete() { "complete" } else { "incomplete" };
    format!(
        "{} different calls, {calls} in all, by {}; {} ({complete})",
        distinct.len(),
        counted(recording.images().len(), "program"),
        recording.engine().name,
    )
}

/// How many calls came late, where that says that others would have followed: not of a run that was
/// over by itself.
fn late(recording: &Recording) -> Option<String> {
    let new = recording.completeness().coverage.new_in_last_tenth.filter(|&new| new > 0)?;
    let over = recording.exit().is_some() && !recording.completeness().interrupted;
    (!over).then(|| {
        format!(
            "{new} of the different calls were first made in the last tenth of the time: longer \
             would show more"
        )
    })
}

/// A number of things, in words.
pub fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Ends this process as the command ended.
pub fn end_as(exit: Option<Exit>) -> Result<ExitCode, Failure> {
    // The wait status of wait(2): the exit status in the second byte, a signal in the first.
    let raw = match exit {
        None => return Ok(ExitCode::SUCCESS),
        Some(Exit::Status(status)) => (status & 0xff) << 8,
        Some(Exit::Signal(signal)) => signal & 0x7f,
    };
    signal::end_as(ExitStatus::from_raw(raw))
}
