//! The caller of strait-testkit under a recorder, and what it says of itself.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use strait_kernel::command::{Command, Stream};
use strait_policy::Recording;
use strait_policy::recording::{Exit, Outcomes};
use strait_runtime::launch::Enforcement;
use strait_runtime::record::{Choice, Ready, RecordError, Request, Running, Target, start};
use strait_testkit::{skip, victim};

/// By arch name and number.
pub type Calls = BTreeMap<(String, u32), Outcomes>;

/// Whether eBPF is to be had here; says so if not.
pub fn ebpf(test: &str) -> bool {
    if geteuid().is_root() {
        return true;
    }
    skip(test, "eBPF takes root");
    false
}

/// The engines that this machine has.
pub fn engines(test: &str) -> Vec<Choice> {
    let mut engines = engines_with_results(test);
    engines.push(Choice::Notify);
    match strait_kernel::audit::Log::open() {
        Ok(_) => engines.push(Choice::Audit),
        Err(error) => skip(test, &format!("the audit engine: {error}")),
    }
    engines
}

/// Those that see what comes of a call, who can also record what runs already and what is confined.
pub fn engines_with_results(test: &str) -> Vec<Choice> {
    if ebpf(test) { vec![Choice::Ebpf, Choice::Ptrace] } else { vec![Choice::Ptrace] }
}

/// Its name.
pub fn name(engine: Choice) -> &'static str {
    match engine {
        Choice::Ebpf => "ebpf",
        Choice::Notify => "notify",
        Choice::Ptrace => "ptrace",
        Choice::Audit => "audit",
        _ => "auto",
    }
}

/// What an engine sees of what a program did: some do not see what comes of a call.
pub fn seen_by(engine: Choice, did: &Calls) -> Calls {
    let mut calls = did.clone();
    if matches!(engine, Choice::Notify | Choice::Audit) {
        calls.retain(|_, outcomes| outcomes.count > 0);
        for outcomes in calls.values_mut() {
            *outcomes = Outcomes { count: outcomes.count, ..Outcomes::default() };
        }
    }
    calls
}

pub fn begin(
    program: &Path,
    arguments: &[&str],
    engine: Choice,
    enforcement: Option<&Enforcement>,
) -> (Result<Running, RecordError>, File) {
    let (output, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let arguments = arguments.iter().map(OsString::from);
    let command =
        Command::new(program.as_os_str(), arguments).unwrap().redirect(Stream::Stdout, theirs);
    let target = Target::Command { command: &command, enforcement };
    let running = start(&Request { target, engine, duration: None, ready: Ready::default() });
    (running, File::from(output))
}

/// Records the caller; what was recorded, and what it says, as far as this engine sees that.
pub fn record(arguments: &str, engine: Choice) -> (Recording, Calls) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let (running, output) = begin(&victim::caller(), &arguments, engine, None);
    let recording = running.unwrap().wait().unwrap();
    (recording, seen_by(engine, &said(output)))
}

/// What callers printed, added up.
pub fn said(mut output: File) -> Calls {
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let mut calls = Calls::new();
    for line in text.lines().filter(|&line| line != "ready") {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let errnos = words[5..].iter().map(|word| {
            let (errno, count) = word.split_once('=').unwrap();
            (errno.parse().unwrap(), count.parse().unwrap())
        });
        let outcomes = Outcomes {
            count: number(2),
            succeeded: number(3),
            denied: number(4),
            errnos: errnos.collect(),
        };
        calls
            .entry((words[0].to_owned(), u32::try_from(number(1)).unwrap()))
            .or_default()
            .add(&outcomes);
    }
    assert!(!calls.is_empty());
    calls
}

/// What was recorded of the calls that `said` has, of all images.
pub fn recorded(recording: &Recording, said: &Calls) -> Calls {
    let mut calls = Calls::new();
    for call in recording.calls() {
        let key = (call.arch.name().to_owned(), call.nr);
        if said.contains_key(&key) {
            calls.entry(key).or_default().add(&call.outcomes);
        }
    }
    calls
}

/// Every engine says exactly what the program says.
pub fn exact(test: &str, arguments: &str) {
    for engine in engines(test) {
        let (recording, said) = record(arguments, engine);
        assert_eq!(recorded(&recording, &said), said, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
        assert_eq!(recording.exit(), Some(Exit::Status(0)));
    }
}

/// A process that records the caller in its endless loop, in a process group of its own. Recorder
/// and caller end with it.
pub struct Recorder {
    pub process: process::Child,
    pub output: BufReader<process::ChildStdout>,
}

impl Recorder {
    pub fn new(engine: Choice, file: &Path) -> Recorder {
        Recorder::of(engine, file, &["loop"])
    }

    /// The same of what the caller does by these words, the first of which says `ready`.
    pub fn of(engine: Choice, file: &Path, words: &[&str]) -> Recorder {
        Recorder::of_program(engine, file, &victim::caller(), words)
    }

    /// The same of another program, which says `ready` too.
    pub fn of_program(engine: Choice, file: &Path, program: &Path, words: &[&str]) -> Recorder {
        let mut process = process::Command::new(example())
            .arg(name(engine))
            .arg(file)
            .arg(program)
            .args(words)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        line_with(&mut output, "ready");
        Recorder { process, output }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// The example that records into a file, built like the victims.
pub fn example() -> PathBuf {
    let status = process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", "strait-runtime", "--example", "record"])
        .args(if cfg!(debug_assertions) { None } else { Some("--release") })
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.unwrap().success());
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().map(|folder| folder.join("examples/record"));
    built.into_iter().find(|example| example.exists()).unwrap()
}

/// Reads until a line has what is asked for, and gives it.
pub fn line_with(output: &mut impl BufRead, what: &str) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some(at) = line.find(what) {
            return line[at..].trim().to_owned();
        }
        line.clear();
    }
    panic!("no line with {what}");
}

/// The processes that another has started and that still run, with their names.
pub fn children_of(pid: Pid) -> BTreeMap<String, Pid> {
    let mut children = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (before, after) = stat.rsplit_once(") ").unwrap();
        if after.split(' ').nth(1) == Some(&pid.as_raw_nonzero().to_string()) {
            let (id, name) = before.split_once(" (").unwrap();
            children.insert(name.to_owned(), Pid::from_raw(id.parse().unwrap()).unwrap());
        }
    }
    children
}

/// A program of one instruction or two, without any library.
pub fn assemble(folder: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    let (file, program) = (folder.join(format!("{name}.s")), folder.join(name));
    fs::write(&file, source).unwrap();
    let status = process::Command::new("gcc")
        .args(["-nostdlib", "-static", "-o"])
        .args([&program, &file])
        .args(flags)
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success()).then_some(program)
}
