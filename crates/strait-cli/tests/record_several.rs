//! Several workloads in one `strait record`: each its own recording, and what cannot be recorded
//! together is refused.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use strait_testkit::{skip, victim};
use tempfile::TempDir;

fn ebpf(test: &str) -> bool {
    let available = geteuid().is_root() && cfg!(target_arch = "x86_64");
    if !available {
        skip(test, "eBPF takes root, and x86_64");
    }
    available
}

/// A workload that waits until its input ends and then does what the words say.
struct Waiting(Child);

impl Waiting {
    fn start(before: &[&str], words: &str) -> Waiting {
        let mut argv: Vec<String> = before.iter().map(|&word| word.to_owned()).collect();
        argv.push(victim::stages().to_str().unwrap().to_owned());
        argv.extend("ready wait".split(' ').chain(words.split_whitespace()).map(str::to_owned));
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Waiting(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Lets it go on, to its end.
    fn finish(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `strait record` with these words, once it says that it records.
fn recording(dir: &TempDir, words: &[&str]) -> Child {
    recording_in(dir, Path::new("/dev/null"), words)
}

/// The same in a cgroup, by its list of processes.
fn recording_in(dir: &TempDir, processes: &Path, words: &[&str]) -> Child {
    let mut strait = Command::new("sh")
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(processes)
        .args([env!("CARGO_BIN_EXE_strait"), "record"])
        .args(words)
        .current_dir(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(strait.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" has begun") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    strait.stderr = Some(said.into_inner());
    strait
}

/// What a recording has of getpgrp, getegid and sync: how often each was made.
fn made(file: &Path) -> ([u64; 3], Value) {
    let document: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let count = |nr: u64| {
        let calls = document["calls"].as_array().unwrap().iter();
        calls
            .filter(|call| call["nr"] == nr)
            .map(|call| call["outcomes"]["count"].as_u64().unwrap())
            .sum()
    };
    ([111, 108, 162].map(count), document)
}

fn is_lossless(document: &Value) {
    let lost = document["completeness"]["lost"].as_object().unwrap();
    assert!(!lost.is_empty() && lost.values().all(|count| count == 0), "{lost:?}");
}

/// The eBPF programs that a process holds.
fn programs(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids = texts.flat_map(|text| {
        let id = |line: &str| Some(line.strip_prefix("prog_id:")?.trim().to_owned());
        text.lines().filter_map(id).collect::<Vec<_>>()
    });
    ids.collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A version 2 cgroup of this test, if one can be made.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = fields.into_iter().find(|fields| fields[2] == "cgroup2")?[1].to_owned();
        let path = Path::new(&root).join(format!("strait-several-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Cgroup(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        until("the cgroup is empty", || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn each_has_its_own_recording_as_soon_as_it_has_ended() {
    if !ebpf("each_has_its_own_recording_as_soon_as_it_has_ended") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let (getpgrp, getegid, sync) =
        ("call 111 0 0 0 0 0 0", "call 108 0 0 0 0 0 0", "call 162 0 0 0 0 0 0");
    let child = "child call,108,0,0,0,0,0,0";
    let cgroup = Cgroup::new();
    let mut inside = Waiting::start(&[], &format!("{getpgrp} {getpgrp} {getpgrp} {child} {child}"));
    let mut one = Waiting::start(&[], &format!("{getpgrp} {child} {getegid}"));
    let mut other = Waiting::start(&[], &format!("{sync} {getpgrp} {getpgrp}"));
    let mut apart = Waiting::start(&["unshare", "-m", "-n"], &format!("{getegid} {sync} {sync}"));
    let (pid, second, third) = (one.pid(), other.pid(), apart.pid());
    let mut words =
        vec!["--pid", &pid, "--namespaces-of", &third, "-o", "recordings", "--pid", &second];
    if let Some(Cgroup(path)) = &cgroup {
        fs::write(path.join("cgroup.procs"), inside.pid()).unwrap();
        words.extend(["--cgroup", path.to_str().unwrap()]);
    } else {
        skip("each_has_its_own_recording_as_soon_as_it_has_ended, its cgroup", "none can be made");
    }
    let mut strait = recording(&dir, &words);
    let programs = programs(strait.id()).len();
    assert!((6..=7).contains(&programs), "one set of programs for all: {programs}");
    let file = |name: String| dir.path().join("recordings").join(name);

    one.finish();
    let first = file(format!("pid-{pid}.json"));
    until("the first to end is written at once", || first.exists());
    assert!(strait.try_wait().unwrap().is_none() && other.runs() && apart.runs());
    let (counts, document) = made(&first);
    assert_eq!(counts, [1, 2, 0]);
    is_lossless(&document);
    assert!(!document["completeness"]["interrupted"].as_bool().unwrap());

    inside.finish();
    other.finish();
    apart.finish();
    assert!(strait.wait().unwrap().success());
    let mut expected = vec![
        (format!("pid-{second}.json"), [2, 0, 1]),
        (format!("namespaces-of-{third}.json"), [0, 1, 2]),
    ];
    if let Some(Cgroup(path)) = &cgroup {
        let name = path.file_name().unwrap().to_str().unwrap();
        expected.push((format!("cgroup-{name}.json"), [3, 2, 0]));
    }
    for (name, calls) in &expected {
        let (counts, document) = made(&file(name.clone()));
        assert_eq!(counts, *calls, "{name}");
        is_lossless(&document);
    }
    let written = fs::read_dir(dir.path().join("recordings")).unwrap().count();
    assert_eq!(written, expected.len() + 1);
}

/// A cgroup of this test with a limit on memory, if one can be made, of either version.
struct Memory {
    path: PathBuf,
    usage: &'static str,
    limit: &'static str,
    none: &'static str,
}

impl Memory {
    fn new() -> Option<Memory> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let places = fields.into_iter().filter_map(|fields| match fields[2] {
            "cgroup" if fields[3].split(',').any(|option| option == "memory") => {
                Some((fields[1], "memory.usage_in_bytes", "memory.limit_in_bytes", "-1"))
            }
            "cgroup2" => Some((fields[1], "memory.current", "memory.max", "max")),
            _ => None,
        });
        for (root, usage, limit, none) in places {
            let path = Path::new(root).join(format!("strait-memory-{}", std::process::id()));
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let memory = Memory { path, usage, limit, none };
            if memory.path.join(limit).exists() {
                // Where it can be said: who gets no memory waits for it.
                let _ = fs::write(memory.path.join("memory.oom_control"), "1");
                return Some(memory);
            }
        }
        None
    }

    /// No more than there is in use.
    fn freeze(&self) {
        until("the limit is what is in use", || {
            let used = fs::read_to_string(self.path.join(self.usage)).unwrap();
            fs::write(self.path.join(self.limit), used.trim()).is_ok()
        });
    }

    fn thaw(&self) {
        fs::write(self.path.join(self.limit), self.none).unwrap();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.thaw();
        until("the cgroup is empty", || fs::remove_dir(&self.path).is_ok());
    }
}

/// Where the kernel refuses memory for what is kept of a task, some are followed without, and of the
/// others each is counted as lost.
#[test]
fn tasks_that_cannot_be_followed_are_counted() {
    let test = "tasks_that_cannot_be_followed_are_counted";
    if !ebpf(test) {
        return;
    }
    let Some(memory) = Memory::new() else {
        return skip(test, "no cgroup with a limit on memory can be made");
    };
    const FORKED: u64 = 4_000;
    let dir = TempDir::new().unwrap();
    let crowd = format!("catch 15 crowd {FORKED} 108");
    let mut crowd = Waiting::start(&[], &crowd);
    let mut other = Waiting::start(&[], "call 111 0 0 0 0 0 0");
    let (pid, second) = (crowd.pid(), other.pid());
    let processes = memory.path.join("cgroup.procs");
    let words = ["-o", ".", "--pid", &pid, "--pid", &second];
    let mut strait = recording_in(&dir, &processes, &words);
    memory.freeze();
    drop(crowd.0.stdin.take());
    let mut line = String::new();
    BufReader::new(crowd.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    memory.thaw();
    assert_eq!(line, "forked\n");
    kill_process(Pid::from_child(&crowd.0), Signal::TERM).unwrap();
    crowd.finish();
    other.finish();
    assert!(strait.wait().unwrap().success());
    let (counts, document) = made(&dir.path().join(format!("pid-{pid}.json")));
    let lost = document["completeness"]["lost"]["tasks"].as_u64().unwrap();
    assert_eq!(counts[1] + lost, FORKED, "each child makes one call");
    if lost == 0 {
        skip(test, "this kernel does not charge the memory to the recorder's cgroup");
    }
}

#[test]
fn a_signal_ends_all_recordings_and_no_workload() {
    if !ebpf("a_signal_ends_all_recordings_and_no_workload") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let mut waiting = [(); 2].map(|()| Waiting::start(&[], "call 111 0 0 0 0 0 0"));
    let pids = [waiting[0].pid(), waiting[1].pid()];
    let mut strait = recording(&dir, &["-o", ".", "--pid", &pids[0], "--pid", &pids[1]]);
    kill_process(Pid::from_child(&strait), Signal::INT).unwrap();
    assert!(strait.wait().unwrap().success());
    for pid in &pids {
        let (counts, document) = made(&dir.path().join(format!("pid-{pid}.json")));
        assert_eq!(counts, [0, 0, 0]);
        assert!(document["completeness"]["interrupted"].as_bool().unwrap());
    }
    for workload in &mut waiting {
        assert!(workload.runs());
        workload.finish();
    }
}

/// Who waits for what it says loses nothing, of one workload too.
#[test]
fn that_a_recording_of_one_has_begun_is_said() {
    for engine in ["ebpf", "ptrace"] {
        if engine == "ebpf" && !ebpf("that_a_recording_of_one_has_begun_is_said") {
            continue;
        }
        let dir = TempDir::new().unwrap();
        let mut waiting = Waiting::start(&[], "call 111 0 0 0 0 0 0 call 162 0 0 0 0 0 0");
        let words = ["--engine", engine, "-o", "one.json", "--pid", &waiting.pid()];
        let mut strait = recording(&dir, &words);
        waiting.finish();
        assert!(strait.wait().unwrap().success());
        assert_eq!(made(&dir.path().join("one.json")).0, [1, 0, 1], "{engine}");
    }
}

/// Of two workloads each is recorded by two recorders and traced by a third. One of each is killed: what it
/// attached goes with it, and the others and the workloads go on.
#[test]
fn recorders_of_the_same_workloads_do_not_disturb_one_another() {
    if !ebpf("recorders_of_the_same_workloads_do_not_disturb_one_another") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let words =
        "call 111 0 0 0 0 0 0 call 111 0 0 0 0 0 0 child call,108,0,0,0,0,0,0 call 162 0 0 0 0 0 0";
    let mut waiting = [(); 2].map(|()| Waiting::start(&[], words));
    let [one, other] = [waiting[0].pid(), waiting[1].pid()];
    let mut stays = recording(&dir, &["-o", "stays", "--pid", &one, "--pid", &other]);
    let mut killed = recording(&dir, &["-o", "killed", "--pid", &one, "--pid", &other]);
    let traced = |pid: &str, file: &str| {
        let child = Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(["record", "-q", "--engine", "ptrace", "--pid", pid, "-o", file])
            .current_dir(dir.path())
            .spawn()
            .unwrap();
        until("it is traced", || status(pid, "TracerPid") != "0");
        child
    };
    let mut tracer = traced(&one, "traced.json");
    let mut killed_tracer = traced(&other, "none.json");

    let programs = programs(killed.id());
    assert!(!programs.is_empty());
    for recorder in [&mut killed, &mut killed_tracer] {
        recorder.kill().unwrap();
        recorder.wait().unwrap();
    }
    assert_eq!(status(&other, "TracerPid"), "0");
    until("the killed one's programs are gone", || {
        let loaded: BTreeSet<String> =
            strait_kernel::ebpf::loaded_programs().iter().map(u32::to_string).collect();
        programs.is_disjoint(&loaded)
    });
    assert!(status(&other, "State").starts_with('S'), "it still waits");

    waiting.iter_mut().for_each(Waiting::finish);
    assert!(stays.wait().unwrap().success() && tracer.wait().unwrap().success());
    let files =
        [format!("stays/pid-{one}.json"), format!("stays/pid-{other}.json"), "traced.json".into()];
    for file in files {
        let (counts, document) = made(&dir.path().join(&file));
        assert_eq!(counts, [2, 1, 1], "{file}");
        is_lossless(&document);
    }
    assert!(!dir.path().join("none.json").exists());
}

/// What `/proc/PID/status` has under this name.
fn status(pid: &str, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap().trim().to_owned()
}

#[test]
fn what_cannot_be_recorded_together_is_refused() {
    if !ebpf("what_cannot_be_recorded_together_is_refused") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = victim::stages();
    let waits = format!("\"{}\" ready wait; true", program.display());
    // A shell that waits for the program, which is part of what is recorded of the shell.
    let mut shell = Command::new("sh")
        .args(["-c", &waits])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let outer = shell.id().to_string();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let inner = children.trim();
    let apart = Waiting::start(&["unshare", "-m", "-n"], "");
    let apart = apart.pid();
    // Above the largest pid that Linux gives (PID_MAX_LIMIT, 4 Mi).
    let none = "4194305";
    fs::write(dir.path().join("file"), "").unwrap();
    let many: Vec<String> = (0..65).map(|number| format!("--cgroup=/nowhere/{number}")).collect();
    let mut too_many: Vec<&str> = vec!["-o", "d"];
    too_many.extend(many.iter().map(String::as_str));

    let cases: &[(&[&str], &[&str])] = &[
        (&["-o", "d", "--pid", &outer, "--pid", none], &[none, "no process"]),
        (&["-o", "d", "--pid", none, "--namespaces-of", &apart], &[none, "no process"]),
        (&["-o", "d", "--pid", &outer, "--pid", &outer], &["in common", &outer]),
        (&["-o", "d", "--pid", inner, "--pid", &outer], &["in common", inner, &outer]),
        (
            &["-o", "d", "--namespaces-of", &apart, "--namespaces-of", &apart],
            &["in common", &apart],
        ),
        (&["-o", "d", "--pid", &apart, "--namespaces-of", &apart], &["in common", &apart]),
        (
            &["-o", "d", "--cgroup", "/nowhere", "--cgroup", "/nowhere/below"],
            &["in common", "/nowhere/below"],
        ),
        (&["-o", "d", "--cgroup", "/nowhere", "--pid", &outer], &["/nowhere"]),
        (&["-o", "d", "--namespaces-of", &outer, "--pid", &apart], &["no namespaces", &outer]),
        (&too_many, &["65", "64"]),
        (&["--pid", &outer, "--pid", &apart], &["-o FOLDER"]),
        (&["-o", "-", "--pid", &outer, "--pid", &apart], &["-o FOLDER"]),
        (&["-o", "file", "--pid", &outer, "--pid", &apart], &["folder", "file"]),
        (&["-o", "no/folder", "--pid", &outer, "--pid", &apart], &["no/folder"]),
        (&["-o", "d", "--engine", "ptrace", "--pid", &outer, "--pid", &apart], &["ptrace", "ebpf"]),
        (&["-o", "d", "--pid", &outer, "--", "true"], &["cannot be used with"]),
    ];
    for (words, expected) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_strait"))
            // What should be refused and is not ends all the same.
            .args(["record", "--duration", "1s"])
            .args(*words)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{words:?}\n{stderr}");
        for text in *expected {
            assert!(stderr.contains(text), "{words:?}: {text}\n{stderr}");
        }
        let written = fs::read_dir(dir.path().join("d")).map_or(0, Iterator::count);
        assert_eq!(written, 0, "{words:?}");
    }
    drop(shell.stdin.take());
    shell.wait().unwrap();
}

#[test]
fn a_folder_is_for_one_too() {
    if !ebpf("a_folder_is_for_one_too") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let waiting = Waiting::start(&[], "");
    let pid = waiting.pid();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["record", "-q", "--duration", "10ms", "-o", ".", "--pid", &pid])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(dir.path().join(format!("pid-{pid}.json")).exists());
}
