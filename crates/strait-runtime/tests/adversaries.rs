//! Recorders against programs that make it hard for them: each prints what it did, and every engine
//! has to say exactly that.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

mod caller;

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use strait_policy::Recording;
use strait_policy::recording::Exit;
use strait_runtime::record::Choice;
use strait_testkit::{effort, skip, victim};

use caller::*;

/// The most that a recorder may need, in KiB, however much happens.
const MEMORY: u64 = 256 << 10;

#[test]
fn a_fork_bomb() {
    exact("a_fork_bomb", "bomb 10 3");
}

#[test]
fn a_child_of_somebody_else() {
    exact("a_child_of_somebody_else", "table 2 sibling 7");
}

#[test]
fn children_stopped_and_continued() {
    exact("children_stopped_and_continued", "stopped 5 3");
}

#[test]
fn everything_at_once() {
    exact(
        "everything_at_once",
        "table 2 threads 8 50 bomb 4 2 odd 2 daemon 3 spawn bomb,3,2,threads,4,9,exec,bomb,3,1",
    );
}

/// Both CPUs as fast as they go: more than 200,000 calls a second where nobody waits for an answer.
#[test]
fn calls_as_fast_as_they_go() {
    for engine in engines("calls_as_fast_as_they_go") {
        let calls = if engine == Choice::Ebpf { "1000000" } else { "10000" };
        let (recording, said) = record(&format!("threads 2 {calls}"), engine);
        assert_eq!(recorded(&recording, &said), said, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
    }
}

#[test]
fn a_child_born_in_another_cgroup() {
    let test = "a_child_born_in_another_cgroup";
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let root = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| fields[1].to_owned())
    });
    let Some(root) = root else { return skip(test, "no version 2 cgroup hierarchy is mounted") };
    let cgroup = Path::new(&root).join(format!("strait-test-born-{}", process::id()));
    if let Err(error) = fs::create_dir(&cgroup) {
        return skip(test, &format!("{} cannot be made: {error}", cgroup.display()));
    }
    exact(test, &format!("table 1 into-cgroup {} 5", cgroup.display()));
    fs::remove_dir(&cgroup).unwrap();
}

/// A filter kills one thread of several; what the engine can see of that is said above each.
#[test]
fn a_thread_that_a_filter_kills() {
    for engine in engines("a_thread_that_a_filter_kills") {
        let (running, output) = begin(&victim::caller(), &["kill-thread", "6"], engine, None);
        let recording = running.unwrap().wait().unwrap();
        let seen = recorded(&recording, &said(output));
        let calls = |nr: u32| seen.get(&("x86_64".to_owned(), nr)).cloned().unwrap_or_default();
        assert_eq!(calls(110).count, 6, "{engine:?}");
        let (made, denied) = match engine {
            // They see that the task has died of it, or a record of that.
            Choice::Ebpf | Choice::Audit => (0, 1),
            // It stops before the filter decides.
            Choice::Ptrace => (1, 0),
            // The filter's answer outranks the notification.
            _ => (0, 0),
        };
        assert_eq!((calls(111).count, calls(111).denied), (made, denied), "{engine:?}");
        assert!(recording.completeness().filter_active, "{engine:?}");
        assert_eq!(recording.exit(), Some(Exit::Status(0)), "{engine:?}");
    }
}

/// Only one filter of a stack can have a listener: with notify it is the recorder's.
#[test]
fn a_workload_that_wants_a_listener() {
    for engine in engines("a_workload_that_wants_a_listener") {
        let (running, output) = begin(&victim::caller(), &["listener"], engine, None);
        let recording = running.unwrap().wait().unwrap();
        let did = said(output);
        let asked = &did[&("x86_64".to_owned(), 317)];
        let refused = asked.errnos.contains_key(&16);
        assert_eq!(refused, engine == Choice::Notify, "{engine:?}");
        let said = &recording.completeness().blind_spots;
        assert_eq!(said.iter().any(|spot| spot.contains("EBUSY")), refused, "{engine:?}: {said:?}");
    }
}

/// What finds no room is counted, call for call.
#[test]
fn more_kinds_of_call_than_there_is_room_for() {
    for engine in engines("more_kinds_of_call_than_there_is_room_for") {
        let (recording, _) = record("numbers 2000 22000", engine);
        let calls = recording.calls().iter().filter(|call| (2000..22000).contains(&call.nr));
        let counted: u64 = calls.map(|call| call.outcomes.count).sum();
        let lost = recording.completeness().lost["calls"];
        assert!(counted > 10_000 && lost > 0, "{engine:?}: {counted} and {lost}");
        assert!(recording.completeness().is_lossy());
        // A few of the program's own calls may be lost too, as they come when the table is full.
        assert!((20_000..20_050).contains(&(counted + lost)), "{engine:?}: {counted} + {lost}");
    }
}

/// The name of what was executed is in the workload's memory. Who asks for the file would wait for a writer.
#[test]
fn a_workload_that_says_it_is_a_pipe() {
    let test = "a_workload_that_says_it_is_a_pipe";
    let folder = tempfile::Builder::new().prefix("p").rand_bytes(3).tempdir().unwrap();
    let pipe = folder.path().join("p");
    if !process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|made| made.success()) {
        return skip(test, "there is no mkfifo");
    }
    let pipe = pipe.to_str().unwrap().to_owned();
    for engine in engines(test) {
        let words = format!("called {pipe} child call,111,0,0,0,0,0,0 call 108 0 0 0 0 0 0");
        let (done, is_done) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let words: Vec<&str> = words.split(' ').collect();
            let (running, _output) = begin(&victim::stages(), &words, engine, None);
            let _ = done.send(running.unwrap().wait().unwrap());
        });
        let recording = is_done.recv_timeout(Duration::from_secs(60)).unwrap();
        let made = |nr| recording.calls().iter().any(|call| call.nr == nr);
        assert!(made(111) && made(108), "{engine:?}");
        assert_eq!(recording.images().len(), 1, "{engine:?}: {:?}", recording.images());
    }
}

/// A program that runs as somebody else than who started it.
#[test]
fn a_set_user_id_program() {
    let test = "a_set_user_id_program";
    if !geteuid().is_root() {
        return skip(test, "it takes root to give a program another user");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("as-nobody");
    fs::copy(victim::caller(), &copy).unwrap();
    chown(&copy, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    for engine in engines(test) {
        let words =
            ["table", "1", "exec-file", copy.to_str().unwrap(), "table", "4", "user", "65534"];
        let (running, output) = begin(&victim::caller(), &words, engine, None);
        let recording = running.unwrap().wait().unwrap();
        assert_eq!(recording.exit(), Some(Exit::Status(0)), "{engine:?}: it ran as nobody");
        let said = seen_by(engine, &said(output));
        assert_eq!(recorded(&recording, &said), said, "{engine:?}");
        assert_eq!(recording.images().len(), 2, "{engine:?}: {:?}", recording.images());
    }
}

/// Recorded by somebody who may not let it have its privilege, it has none, and the recording says so.
#[test]
fn a_set_user_id_program_of_an_unprivileged_user() {
    let test = "a_set_user_id_program_of_an_unprivileged_user";
    if !geteuid().is_root() {
        return skip(test, "it takes root to be somebody else, and to give a program its user");
    }
    const NOBODY: u32 = 65534;
    // Nobody may enter the folder that the programs are in.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = |program: &Path, name: &str, mode| {
        let copy = folder.path().join(name);
        fs::copy(program, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
        copy
    };
    let recorder = copy(&example(), "record", 0o755);
    let caller = copy(&victim::caller(), "caller", 0o755);
    let as_root = copy(&victim::caller(), "as-root", 0o4755);
    for engine in [Choice::Notify, Choice::Ptrace] {
        let file = folder.path().join(name(engine));
        let mut recorder = process::Command::new(&recorder)
            .arg(name(engine))
            .args([&file, &caller])
            .args(["table", "1", "exec-file"])
            .arg(&as_root)
            .args(["table", "4", "user", &NOBODY.to_string()])
            .stdout(Stdio::piped())
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()
            .unwrap();
        let output = recorder.stdout.take().unwrap();
        let did = seen_by(engine, &said(std::os::fd::OwnedFd::from(output).into()));
        assert!(recorder.wait().unwrap().success(), "{engine:?}");
        let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(recording.exit(), Some(Exit::Status(0)), "{engine:?}: it ran as nobody");
        assert_eq!(recorded(&recording, &did), did, "{engine:?}");
        assert_eq!(recording.images().len(), 2, "{engine:?}: {:?}", recording.images());
        let spots = &recording.completeness().blind_spots;
        let is_said = spots.iter().any(|spot| spot.contains("run without its privilege"));
        assert!(is_said, "{engine:?}: {spots:?}");
    }
}

/// The recorder in a process that is waited for, as it would be on a command line.
fn record_in_a_process(command: &mut process::Command) -> (Calls, u64) {
    let mut recorder = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", recorder.id()));
    let output = recorder.stdout.take().unwrap();
    let reader = thread::spawn(move || said(std::os::fd::OwnedFd::from(output).into()));
    let mut most = 0;
    while recorder.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or(0));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(recorder.wait().unwrap().success());
    (reader.join().unwrap(), most)
}

/// 50,000 with STRAIT_EFFORT=25.
#[test]
fn many_processes_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    let count = effort(2_000).min(50_000).to_string();
    for engine in engines("many_processes_in_bounded_memory") {
        let mut command = process::Command::new(example());
        command.arg(name(engine)).arg(&file).arg(victim::caller()).args(["children", &count, "2"]);
        let (did, most) = record_in_a_process(&mut command);
        let said = seen_by(engine, &did);
        let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(recorded(&recording, &said), said, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
        assert!(most > 0 && most < MEMORY, "{engine:?}: {most} KiB");
        eprintln!("{engine:?}: {count} processes, {most} KiB");
    }
}

/// A recorder in a pid namespace with room for 300 ids: each is used again and again.
#[test]
fn process_ids_that_are_used_again() {
    let test = "process_ids_that_are_used_again";
    let own = "test $(cat /proc/sys/kernel/pid_max) -gt 400 && echo 400 > /proc/sys/kernel/pid_max";
    let unshare = || {
        let mut unshare = process::Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "sh", "-c"]);
        unshare
    };
    let before = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    if !geteuid().is_root() {
        return skip(test, "pid namespaces take root");
    }
    if before.trim() == "400" || !kernel_has_pid_max_of_namespaces() {
        return skip(test, "pid_max is not of a namespace before Linux 6.14");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    for engine in engines(test) {
        let script = format!("{own}; exec \"$@\"");
        let mut command = unshare();
        command.arg(script).arg("sh").arg(example()).arg(name(engine)).arg(&file);
        command.arg(victim::caller()).args(["children", "1200", "2", "exec", "children,300,1"]);
        let (did, _) = record_in_a_process(&mut command);
        let said = seen_by(engine, &did);
        let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(recorded(&recording, &said), said, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/pid_max").unwrap(), before);
}

fn kernel_has_pid_max_of_namespaces() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

/// Who does not read has the kernel's buffer run over: each record that was not read is counted.
#[test]
fn what_the_audit_engine_loses_is_counted() {
    const CALLS: u64 = 60_000;
    let test = "what_the_audit_engine_loses_is_counted";
    if !engines(test).contains(&Choice::Audit) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    let mut recorder = process::Command::new(example())
        .args([name(Choice::Audit)])
        .args([&file, &victim::caller()])
        .args(["crew", "0", "1", &CALLS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(recorder.stdout.take().unwrap());
    line_with(&mut output, "ready");
    let pid = Pid::from_child(&recorder);
    kill_process(pid, Signal::STOP).unwrap();
    drop(recorder.stdin.take());
    line_with(&mut output, &format!("x86_64 110 {CALLS} {CALLS} 0"));
    kill_process(pid, Signal::CONT).unwrap();
    assert!(recorder.wait().unwrap().success());
    let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
    let completeness = recording.completeness();
    let calls = recording.calls().iter().filter(|call| call.nr == 110);
    let count: u64 = calls.map(|call| call.outcomes.count).sum();
    // Records of others may be lost with them.
    assert!(
        count < CALLS && count + completeness.lost["audit events"] >= CALLS,
        "{completeness:?}"
    );
    assert!(completeness.lost["audit socket overruns"] > 0, "{completeness:?}");
}

/// A command that does not end when it is asked to is killed after ten seconds; every engine with
/// STRAIT_EFFORT.
#[test]
fn a_command_that_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    for engine in engines("a_command_that_does_not_end").into_iter().rev().take(effort(1)) {
        let mut recorder = Recorder::of(engine, &file, &["stubborn"]);
        kill_process(recorder.pid(), Signal::INT).unwrap();
        let status = recorder.process.wait().unwrap();
        assert!(status.success(), "{engine:?}: {status}");
        let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(recording.exit(), Some(Exit::Signal(9)), "{engine:?}");
        assert!(recording.completeness().interrupted, "{engine:?}");
    }
}

/// Recorders of all engines at once, two of each, do not see each other's workloads.
#[test]
fn all_engines_at_once() {
    let engines = engines("all_engines_at_once");
    let both: Vec<_> = engines
        .iter()
        .flat_map(|&engine| [(engine, ["children", "40", "5"]), (engine, ["threads", "4", "90"])])
        .map(|(engine, words)| {
            let (running, output) = begin(&victim::caller(), &words, engine, None);
            (engine, running.unwrap(), output)
        })
        .collect();
    for (engine, running, output) in both {
        let recording = running.wait().unwrap();
        let said = seen_by(engine, &said(output));
        assert_eq!(recorded(&recording, &said), said, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
    }
}
