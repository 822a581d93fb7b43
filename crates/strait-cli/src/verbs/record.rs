//! `strait record`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use strait_kernel::command::{Command, CommandError};
use strait_kernel::signal;
use strait_policy::Recording;
use strait_policy::recording::Exit;
use strait_runtime::record::{self, Choice, RecordError, Request, Target};

use crate::args::{Engine, Record};
use crate::failure::Failure;
use crate::output;

/// Records, writes the recording, and passes on how the command ended.
pub fn run(args: &Record) -> Result<ExitCode, Failure> {
    recorded(args).map_err(Failure::of_launcher)
}

fn recorded(args: &Record) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.output {
        output::check(path).map_err(Failure::bad_input)?;
    }
    let command;
    let target = if let Some(pid) = args.pid {
        Target::Process(pid)
    } else if let Some(cgroup) = &args.cgroup {
        Target::Cgroup(cgroup.clone())
    } else {
        command = self::command(&args.command)?;
        Target::Command { command: &command, enforcement: None }
    };
    let request = Request { target, engine: choice(args.engine), duration: args.duration };
    let recording = record::start(&request).and_then(record::Running::wait).map_err(failure)?;
    if !args.quiet {
        anstream::eprintln!("strait: {}", said(&recording));
        for gap in recording.completeness().gaps() {
            anstream::eprintln!("strait: {gap}");
        }
    }
    output::write(args.output.as_deref(), recording.to_json().as_bytes())
        .map_err(Failure::refused)?;
    end_as(recording.exit())
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

/// Who is to observe.
pub fn choice(engine: Engine) -> Choice {
    match engine {
        Engine::Auto => Choice::Auto,
        Engine::Ebpf => Choice::Ebpf,
        Engine::Ptrace => Choice::Ptrace,
    }
}

/// Why nothing was recorded, with the status that tells it.
pub fn failure(error: RecordError) -> Failure {
    match &error {
        RecordError::NoProcess { .. } => Failure::bad_input(error),
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
        "{} different calls, {calls} in all, by {} programs; {} ({complete})",
        distinct.len(),
        recording.images().len(),
        recording.engine().name,
    )
}

/// Ends this process as the command ended.
fn end_as(exit: Option<Exit>) -> Result<ExitCode, Failure> {
    // The wait status of wait(2): the exit status in the second byte, a signal in the first.
    let raw = match exit {
        None => return Ok(ExitCode::SUCCESS),
        Some(Exit::Status(status)) => (status & 0xff) << 8,
        Some(Exit::Signal(signal)) => signal & 0x7f,
    };
    signal::end_as(ExitStatus::from_raw(raw))
}
