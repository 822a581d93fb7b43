//! `strait tighten -- CMD`: record, generate, compile, prove, run again confined, verify, and say in
//! ten seconds what came of it.

mod report;

use std::fs::File;
use std::io::{self, IsTerminal, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_kernel::command::Command;
use strait_kernel::seccomp::LoadOptions;
use strait_policy::baseline;
use strait_policy::recording::{Call, Exit};
use strait_policy::{GenerateOptions, Policy, Recording, Rules, Summary, generate};
use strait_runtime::launch::{Enforcement, Verified};
use strait_runtime::record::{Choice, Ready, Recorder, Request, Target};

use super::record as recorder;
use crate::args::{Tighten, TightenEngine};
use crate::failure::Failure;
use crate::output;

/// What the whole of it showed.
struct Tightened<'a> {
    command: Vec<String>,
    recording: &'a Recording,
    policy: &'a Policy,
    file: Option<&'a Path>,
    /// What is allowed on each ABI of the policy, the machine's own first.
    summaries: Vec<Summary>,
    baseline: &'static str,
    /// How many instructions the program has that was loaded, or would be.
    instructions: usize,
    confined: Confined,
    stdin: Stdin,
}

/// What came of the second run.
enum Confined {
    /// It was not asked for.
    NotAskedFor,
    /// A recording was ended by a signal to Strait: the command was not run again.
    Interrupted {
        /// A policy that was there already was left as it was.
        kept: bool,
    },
    /// It ran.
    Ran {
        exit: Option<Exit>,
        denials: Vec<Denial>,
        verified: Verified,
        gaps: Vec<String>,
        /// Whether it was ended by a signal to Strait.
        interrupted: bool,
    },
}

/// A call that the filter did not let pass in the confined run.
struct Denial {
    arch: Arch,
    nr: u32,
    syscall: Option<Syscall>,
    image: String,
    count: u64,
    action: String,
}

/// Does all of it. The exit status says whether the confined run behaved as the first.
pub fn run(args: &Tighten) -> Result<ExitCode, Failure> {
    for path in args.output.iter().chain(&args.recording) {
        output::check(path).map_err(Failure::bad_input)?;
    }
    if args.output.is_some() && args.output == args.recording {
        let error = anyhow!("the policy and the recording cannot be the same file");
        return Err(Failure::bad_input(error));
    }
    let stdin = Stdin::of_this_process();
    let first = recorder::command(&args.command)?;
    let second = recorder::command(&args.command)?;

    let mut recorder = Recorder::new();
    let mut recordings = vec![record(args, &mut recorder, first, None)?.0];
    while recordings.len() < usize::from(args.runs) && !interrupted(&recordings) {
        stdin.rewind();
        let again = recorder::command(&args.command)?;
        recordings.push(record(args, &mut recorder, again, None)?.0);
    }
    let recording = &recordings[0];
    if let Some(path) = &args.recording {
        let text = recording.to_json();
        output::write(Some(path), text.as_bytes()).map_err(Failure::refused)?;
    }
    let policy = policy(args, &recordings)?;
    let rules = policy.lower().context("the generated policy").map_err(Failure::bad_input)?;
    let enforcement = Enforcement::new(&rules, &Default::default(), LoadOptions::default())
        .map_err(Failure::bad_input)?;
    // Kept whatever comes of the second run: it is what that run will be about.
    let to_file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let kept = to_file.is_some_and(Path::exists) && interrupted(&recordings) && !args.accept_loss;
    if let Some(path) = to_file.filter(|_| !kept) {
        output::write(Some(path), policy.to_string().as_bytes()).map_err(Failure::refused)?;
    }

    let confined = if interrupted(&recordings) {
        Confined::Interrupted { kept }
    } else if args.once {
        Confined::NotAskedFor
    } else {
        stdin.rewind();
        confined(args, &mut recorder, second, &enforcement, &rules, &recordings)?
    };
    let tightened = Tightened {
        command: recording.command().to_vec(),
        recording,
        stdin,
        summaries: summaries(&policy, &rules),
        policy: &policy,
        file: to_file,
        baseline: "Docker",
        instructions: enforcement.program().insns().len(),
        confined,
    };
    if args.json {
        output::print(format!("{:#}\n", tightened.json()).as_bytes()).map_err(Failure::refused)?;
    } else {
        if to_file.is_none() {
            output::print(policy.to_string().as_bytes()).map_err(Failure::refused)?;
        }
        output::say(tightened.text().trim_end());
    }
    Ok(ExitCode::from(tightened.status()))
}

/// Runs the command and records it, confined if there is an enforcement.
fn record(
    args: &Tighten,
    recorder: &mut Recorder,
    command: Command,
    enforcement: Option<&Enforcement>,
) -> Result<(Recording, Option<Verified>), Failure> {
    let command = recorder::apart(command, takes_stdout(args))?;
    let request = Request {
        target: Target::Command { command: &command, enforcement },
        engine: choice(args.engine),
        duration: None,
        ready: Ready::default(),
    };
    let running = recorder.start(&request).map_err(recorder::failure)?;
    let verified = running.verified().cloned();
    let recording = recorder.wait(running).map_err(recorder::failure)?;
    Ok((recording, verified))
}

fn choice(engine: TightenEngine) -> Choice {
    match engine {
        // Both runs by the same engine, so that they can be compared.
        TightenEngine::Auto => Choice::AutoWithResults,
        TightenEngine::Ebpf => Choice::Ebpf,
        TightenEngine::Ptrace => Choice::Ptrace,
    }
}

/// Whether standard output is ours, for the policy or the JSON. The command's output then goes to
/// standard error, so that nobody has to tell the two apart.
fn takes_stdout(args: &Tighten) -> bool {
    args.json || args.output.as_deref().is_none_or(|path| path == Path::new("-"))
}

fn interrupted(recordings: &[Recording]) -> bool {
    recordings.iter().any(|recording| recording.completeness().interrupted)
}

/// What every run of the command reads from.
enum Stdin {
    /// A file: each run reads it from where the first began.
    File(File, u64),
    /// A terminal or the null device, which every run can read.
    Shared,
    /// A pipe or socket: what one run has read, the next does not get.
    ReadOnce,
}

impl Stdin {
    fn of_this_process() -> Stdin {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Stdin::Shared;
        }
        let Ok(mut file) = stdin.as_fd().try_clone_to_owned().map(File::from) else {
            return Stdin::Shared; // closed: there is nothing to read
        };
        use std::os::unix::fs::FileTypeExt;
        match file.metadata().map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_file() => match file.stream_position() {
                Ok(start) => Stdin::File(file, start),
                Err(_) => Stdin::ReadOnce,
            },
            Ok(kind) if kind.is_char_device() => Stdin::Shared,
            _ => Stdin::ReadOnce,
        }
    }

    /// Gives the next run what the first had, where that can be done.
    fn rewind(&self) {
        if let Stdin::File(file, start) = self {
            let mut file = file;
            // A file that told its position can be set back to it.
            let _ = file.seek(io::SeekFrom::Start(*start));
        }
    }
}

fn policy(args: &Tighten, recordings: &[Recording]) -> Result<Policy, Failure> {
    let options = GenerateOptions {
        name: recordings.first().and_then(super::generate::name_of),
        accept_loss: args.accept_loss,
        ..GenerateOptions::default()
    };
    generate(recordings, &options).map_err(Failure::bad_input)
}

fn confined(
    args: &Tighten,
    recorder: &mut Recorder,
    command: Command,
    enforcement: &Enforcement,
    rules: &Rules,
    before: &[Recording],
) -> Result<Confined, Failure> {
    output::say("strait: running it again, confined");
    let (recording, verified) = record(args, recorder, command, Some(enforcement))?;
    let verified =
        verified.context("the confined run was not confined").map_err(Failure::refused)?;
    Ok(Confined::Ran {
        exit: recording.exit(),
        denials: denials(&recording, rules, before),
        interrupted: recording.completeness().interrupted,
        verified,
        gaps: recording
            .completeness()
            .lost
            .iter()
            .filter(|&(_, &n)| n > 0)
            .map(|(what, n)| format!("{what}: {n}"))
            .collect(),
    })
}

/// The calls of the confined run that the filter answered itself, except those that got the errno
/// which was all that the kernel had for them in the first run: probes that fail as before.
fn denials(recording: &Recording, rules: &Rules, before: &[Recording]) -> Vec<Denial> {
    let mut denials = Vec::new();
    for call in recording.calls().iter().filter(|call| call.outcomes.denied > 0) {
        let chain = rules.table(call.arch.audit_arch()).map(|table| table.chain(call.nr));
        let action = chain.map_or(rules.foreign(), |chain| chain.otherwise);
        if !as_before(call, action, before) {
            denials.push(Denial {
                arch: call.arch,
                nr: call.nr,
                syscall: call.syscall(),
                image: recording.images()[call.image].path.clone(),
                count: call.outcomes.denied,
                action: strait_policy::action_text(action),
            });
        }
    }
    denials
}

fn as_before(call: &Call, action: Action, before: &[Recording]) -> bool {
    let Action::Errno(errno) = action else { return false };
    let mut before = before
        .iter()
        .flat_map(Recording::calls)
        .filter(|seen| (seen.arch, seen.nr) == (call.arch, call.nr));
    let mut seen = false;
    let same = before.all(|before| {
        seen = true;
        before.outcomes.succeeded == 0 && before.outcomes.errnos.keys().eq([&errno])
    });
    seen && same
}

fn summaries(policy: &Policy, rules: &Rules) -> Vec<Summary> {
    let baseline = baseline::docker_default();
    policy.architectures.iter().map(|arch| Summary::new(rules, arch, &baseline)).collect()
}
