//! `strait tighten -- CMD`: record, generate, compile, prove, run again confined, verify, and say in
//! ten seconds what came of it.

mod report;
mod stdin;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use rustix::process::Signal;
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_kernel::seccomp::LoadOptions;
use strait_policy::baseline;
use strait_policy::recording::{Call, Exit};
use strait_policy::{GenerateOptions, Policy, Recording, Rules, Summary, generate};
use strait_runtime::launch::{Enforcement, Verified};
use strait_runtime::record::{Choice, Ready, Recorder, Request, Target};

use self::stdin::{Feed, Stdin};
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
    /// The command line that records more runs than this one did.
    more_runs: String,
    /// What the confined run was not given of standard input.
    stdin_gap: Option<String>,
    /// The signal that has ended the last run early.
    interrupted_by: Option<Signal>,
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
    let stdout = takes_stdout(args).then_some(Path::new("-"));
    let files = args.output.iter().chain(&args.recording).map(PathBuf::as_path);
    for path in files.chain(stdout) {
        output::check(path).map_err(Failure::bad_input)?;
    }
    if args.output.is_some() && args.output == args.recording {
        let error = anyhow!("the policy and the recording cannot be the same file");
        return Err(Failure::bad_input(error));
    }
    let runs = u16::from(args.runs) + u16::from(!args.once);
    let mut runner =
        Runner { args, recorder: Recorder::new(), stdin: Stdin::of_this_process(runs) };
    let mut recordings = vec![runner.record(None)?.0];
    while recordings.len() < usize::from(args.runs) && !interrupted(&recordings) {
        recordings.push(runner.record(None)?.0);
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
        confined(&mut runner, &enforcement, &rules, &recordings)?
    };
    let tightened = Tightened {
        command: recording.command().to_vec(),
        recording,
        more_runs: more_runs(args),
        stdin_gap: runner.stdin.gap(),
        interrupted_by: runner.recorder.interrupted_by(),
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

/// What runs the command, again and again.
struct Runner<'a> {
    args: &'a Tighten,
    recorder: Recorder,
    stdin: Stdin,
}

impl Runner<'_> {
    /// Runs the command and records it, confined if there is an enforcement.
    fn record(
        &mut self,
        enforcement: Option<&Enforcement>,
    ) -> Result<(Recording, Option<Verified>), Failure> {
        let command = recorder::command(&self.args.command)?;
        let command = recorder::apart(command, takes_stdout(self.args))?;
        let no_input = "standard input cannot be given to the command";
        let (command, feed) =
            self.stdin.connect(command).context(no_input).map_err(Failure::refused)?;
        let request = Request {
            target: Target::Command { command: &command, enforcement },
            engine: choice(self.args.engine),
            duration: None,
            ready: Ready::default(),
        };
        let running = self.recorder.start(&request).map_err(recorder::failure)?;
        // Our copy of its end of the pipe: with it, nobody would see that the command has closed it.
        drop(command);
        let feeding =
            feed.map(Feed::start).transpose().context(no_input).map_err(Failure::refused)?;
        let verified = running.verified().cloned();
        let recording = self.recorder.wait(running).map_err(recorder::failure)?;
        self.stdin.take_back(feeding);
        Ok((recording, verified))
    }
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

/// The command line that records the command more often than these arguments do, for a shell.
fn more_runs(args: &Tighten) -> String {
    let runs = args.runs.saturating_mul(2).saturating_add(1);
    let mut words = vec!["strait".to_owned(), "tighten".to_owned(), format!("--runs {runs}")];
    for (option, path) in [("-o", &args.output), ("--recording", &args.recording)] {
        if let Some(path) = path {
            words.extend([option.to_owned(), quoted(path.as_os_str())]);
        }
    }
    words.push("--".to_owned());
    words.extend(args.command.iter().map(|word| quoted(word)));
    words.join(" ")
}

/// A word as a shell takes it for one.
fn quoted(word: &OsStr) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(byte);
    let bytes = word.as_bytes();
    match word.to_str() {
        Some(word) if !bytes.is_empty() && bytes.iter().all(plain) => word.to_owned(),
        Some(word) if !word.contains(char::is_control) => {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
        // $'…' of bash, zsh and POSIX since 2024.
        _ => {
            let escaped = bytes.iter().map(|&byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
    }
}

fn interrupted(recordings: &[Recording]) -> bool {
    recordings.iter().any(|recording| recording.completeness().interrupted)
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
    runner: &mut Runner<'_>,
    enforcement: &Enforcement,
    rules: &Rules,
    before: &[Recording],
) -> Result<Confined, Failure> {
    output::say("strait: running it again, confined");
    let (recording, verified) = runner.record(Some(enforcement))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, text) in [
            ("python3", "python3"),
            ("", "''"),
            ("a b; c", "'a b; c'"),
            ("it's", r"'it'\''s'"),
            ("a\nb'", r"$'a\x0ab\''"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), text);
        }
        assert_eq!(quoted(OsStr::from_bytes(b"caf\xe9")), r"$'caf\xe9'");
    }
}
