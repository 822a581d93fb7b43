//! What the engines say of arguments and phases, against what the recorded program was told to
//! do, on the running kernel.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

mod caller;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use strait_abi::Arch;
use strait_kernel::command::{Command, Stream};
use strait_policy::Recording;
use strait_policy::recording::{Phase, Values};
use strait_runtime::record::{Choice, Ready, Request, Target, start};
use strait_testkit::{skip, victim};

use caller::Recorder;

fn ebpf(test: &str) -> bool {
    if geteuid().is_root() && Arch::NATIVE == Some(Arch::X86_64) {
        return true;
    }
    skip(test, "eBPF takes root, and x86_64");
    false
}

/// The engines that see arguments, and phases by what a task does, and can be had here.
fn engines(test: &str) -> Vec<Choice> {
    let mut engines = vec![Choice::Notify, Choice::Ptrace];
    if ebpf(test) {
        engines.push(Choice::Ebpf);
    }
    engines
}

/// Records the program that goes through stages; what was recorded, and what it said.
fn record_by(engine: Choice, words: &str, ready: Ready) -> (Recording, String) {
    let (output, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let command = Command::new(victim::stages().as_os_str(), words.split(' ').map(Into::into))
        .unwrap()
        .redirect(Stream::Stdout, theirs);
    let target = Target::Command { command: &command, enforcement: None };
    let request = Request { target, engine, duration: None, ready };
    let recording = start(&request).unwrap().wait().unwrap();
    drop(command);
    let mut said = String::new();
    File::from(output).read_to_string(&mut said).unwrap();
    assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
    (recording, said)
}

/// The values of an argument of a call, of all images and phases.
fn values(recording: &Recording, arch: Arch, nr: u32, name: &str) -> Values {
    let mut all = strait_policy::recording::Observation::default();
    for call in recording.calls().iter().filter(|call| (call.arch, call.nr) == (arch, nr)) {
        all.add(&call.observation());
    }
    all.arguments.remove(name).unwrap_or_default()
}

/// The phases in which each of the marks was called, which nothing else calls.
fn phases(recording: &Recording, marks: &[u32]) -> BTreeMap<u32, Vec<Phase>> {
    let mut phases: BTreeMap<u32, Vec<Phase>> = BTreeMap::new();
    for call in recording.calls().iter().filter(|call| marks.contains(&call.nr)) {
        phases.entry(call.nr).or_default().push(call.phase.unwrap());
    }
    phases
}

const IOCTL: u32 = 16;
const SOCKET: u32 = 41;
const PRCTL: u32 = 157;
const EXECVE: u32 = 59;
/// Calls that the program makes when it is told to, and at no other time.
const GETPGRP: u32 = 111;
const GETEGID: u32 = 108;
const GETPPID: u32 = 110;
const SYNC: u32 = 162;

#[test]
fn values_are_those_that_the_kernel_looks_at() {
    for engine in engines("values_are_those_that_the_kernel_looks_at") {
        let (recording, _) = record_by(
            engine,
            "call 16 -1 0x100005401 0 0 0 0 call 16 -1 0x5401 0 0 0 0 call 16 -1 0xffffffff00005413 0 0 0 0 \
         call 41 0x100000001 0x80801 0 0 0 0 call 41 2 0x7fffffff00000002 17 0 0 0 \
         call 157 0x100000026 9 9 9 9 0 call 157 39 0 0 0 0 0 int80 54 -1 0x5405 0 \
         call 10 0 0 0x8000000000000001 0 0 0 call 10 0 0 -1 0 0 0 call 135 -1 0 0 0 0 0",
            Ready::default(),
        );
        let of =
            |arch, nr, name| values(&recording, arch, nr, name).iter().collect::<BTreeSet<u64>>();
        assert_eq!(of(Arch::X86_64, IOCTL, "cmd"), [0x5401, 0x5413].into());
        assert_eq!(of(Arch::I386, 54, "cmd"), [0x5405].into());
        assert_eq!(of(Arch::X86_64, SOCKET, "domain"), [1, 2].into());
        assert_eq!(of(Arch::X86_64, SOCKET, "type"), [0x80801, 2].into());
        assert_eq!(of(Arch::X86_64, SOCKET, "protocol"), [0, 17].into());
        // prctl of the program's own start is the standard library's, if there is any.
        assert!(of(Arch::X86_64, PRCTL, "option").is_superset(&[38, 39].into()));
        // mprotect takes all 64 bits, and all of them set are a value too; personality takes 32.
        assert!(of(Arch::X86_64, 10, "prot").is_superset(&[1 << 63 | 1, u64::MAX].into()));
        assert_eq!(of(Arch::X86_64, 135, "persona"), [0xffff_ffff].into());
        assert_eq!(recording.completeness().coverage.foreign_calls, 1);
        assert_eq!(recording.images()[0].arch, Some(Arch::X86_64));
    }
}

/// The victim's own list of what it gave, as random as it was.
#[test]
fn the_set_of_values_is_exact() {
    for (engine, seed) in engines("the_set_of_values_is_exact")
        .into_iter()
        .flat_map(|engine| ["1", "77", "123456789"].map(|seed| (engine, seed)))
    {
        let (recording, said) = record_by(engine, &format!("random 3000 {seed}"), Ready::default());
        let seen = values(&recording, Arch::X86_64, IOCTL, "cmd");
        let seen: Vec<String> = seen.iter().map(|value| value.to_string()).collect();
        assert_eq!(seen.join(" "), said.trim());
    }
}

#[test]
fn too_many_values_are_marked() {
    for (engine, (to, overflowed)) in engines("too_many_values_are_marked")
        .into_iter()
        .flat_map(|engine| [("64", false), ("65", true), ("500", true)].map(|case| (engine, case)))
    {
        let (recording, _) = record_by(engine, &format!("range 16 0 {to}"), Ready::default());
        let cmd = values(&recording, Arch::X86_64, IOCTL, "cmd");
        assert_eq!((cmd.len(), cmd.overflowed()), (64, overflowed), "{to}");
        let count: u64 = recording
            .calls()
            .iter()
            .filter(|call| call.nr == IOCTL)
            .map(|call| call.outcomes.count)
            .sum();
        assert_eq!(count.to_string(), to);
    }
}

/// What a filter of the workload's own refuses never gets as far as to be seen with its arguments,
/// but by ptrace, which stops before it and takes it for made.
#[test]
fn arguments_of_denied_calls() {
    for engine in engines("arguments_of_denied_calls") {
        let words = "call 16 -1 0x5401 0 0 0 0 deny 16 call 16 -1 0x5405 0 0 0 0 \
                     call 16 -1 0x5406 0 0 0 0";
        let (recording, _) = record_by(engine, words, Ready::default());
        let calls = recording.calls().iter().filter(|call| call.nr == IOCTL);
        let (made, denied) = calls.fold((0, 0), |(made, denied), call| {
            (made + call.outcomes.count, denied + call.outcomes.denied)
        });
        let seen: Vec<u64> = values(&recording, Arch::X86_64, IOCTL, "cmd").iter().collect();
        let expected = match engine {
            Choice::Ebpf => (1, 2, vec![0x5401]),
            Choice::Notify => (1, 0, vec![0x5401]),
            _ => (3, 0, vec![0x5401, 0x5405, 0x5406]),
        };
        assert_eq!((made, denied, seen), expected, "{engine:?}");
        assert!(recording.completeness().filter_active, "{engine:?}: it is said");
    }
}

#[test]
fn a_life_from_start_to_shutdown() {
    for engine in engines("a_life_from_start_to_shutdown") {
        let (recording, _) = record_by(
            engine,
            "catch 15 catch 1 call 111 0 0 0 0 0 0 listen call 108 0 0 0 0 0 0 raise 1 \
             call 162 0 0 0 0 0 0 raise 15 call 110 0 0 0 0 0 0",
            Ready::default(),
        );
        // A signal that is not the recorder's is not seen by notification.
        let end = if engine == Choice::Notify { Phase::Steady } else { Phase::Shutdown };
        let expected = BTreeMap::from([
            (GETPGRP, vec![Phase::StartUp]),
            (GETEGID, vec![Phase::Steady]),
            (SYNC, vec![Phase::Steady]), // SIGHUP with a handler ends nothing
            (GETPPID, vec![end]),
        ]);
        let phases = phases(&recording, &[GETPGRP, GETEGID, SYNC, GETPPID]);
        assert_eq!(phases, expected, "{engine:?}");
    }
}

/// The recorder is told to end, and passes that on.
#[test]
fn all_engines_agree_on_when_each_call_was_made() {
    let words = "catch 15 call 111 0 0 0 0 0 0 call 111 0 0 0 0 0 0 call 108 0 0 0 0 0 0 \
                 child call,162,0,0,0,0,0,0 listen call 111 0 0 0 0 0 0 call 111 0 0 0 0 0 0 \
                 call 111 0 0 0 0 0 0 child call,108,0,0,0,0,0,0 ready caught \
                 call 111 0 0 0 0 0 0 child call,110,0,0,0,0,0,0";
    let expected = BTreeMap::from([
        ((GETPGRP, Phase::StartUp), 2),
        ((GETEGID, Phase::StartUp), 1),
        ((SYNC, Phase::StartUp), 1),
        ((GETPGRP, Phase::Steady), 3),
        ((GETEGID, Phase::Steady), 1),
        ((GETPGRP, Phase::Shutdown), 1),
        ((GETPPID, Phase::Shutdown), 1),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    let words: Vec<&str> = words.split_whitespace().collect();
    for engine in caller::engines("all_engines_agree_on_when_each_call_was_made") {
        let mut recorder = Recorder::of_program(engine, &file, &victim::stages(), &words);
        kill_process(recorder.pid(), Signal::TERM).unwrap();
        let status = recorder.process.wait().unwrap();
        assert!(status.success(), "{engine:?}: {status}");
        let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut seen: BTreeMap<(u32, Phase), u64> = BTreeMap::new();
        for call in recording.calls() {
            if [GETPGRP, GETEGID, SYNC, GETPPID].contains(&call.nr) {
                *seen.entry((call.nr, call.phase.unwrap())).or_default() += call.outcomes.count;
            }
        }
        assert_eq!(seen, expected, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{engine:?}");
    }
}

/// A signal that is ignored ends nothing.
#[test]
fn an_ignored_signal_is_no_end() {
    for engine in engines("an_ignored_signal_is_no_end") {
        let (recording, _) =
            record_by(engine, "ignore 15 raise 15 call 111 0 0 0 0 0 0", Ready::default());
        let expected = [(GETPGRP, vec![Phase::StartUp])].into();
        assert_eq!(phases(&recording, &[GETPGRP]), expected, "{engine:?}");
    }
}

/// A child that is ended by its parent is no end of the workload.
#[test]
fn only_the_first_process_ends_the_workload() {
    for engine in engines("only_the_first_process_ends_the_workload") {
        let (recording, _) =
            record_by(engine, "child catch,15,raise,15 call 111 0 0 0 0 0 0", Ready::default());
        let expected = [(GETPGRP, vec![Phase::StartUp])].into();
        assert_eq!(phases(&recording, &[GETPGRP]), expected, "{engine:?}");
    }
}

/// So it is where both were there before the recording, however the workload was named.
#[test]
fn of_processes_that_run_already_only_the_first_ends_the_workload() {
    let test = "of_processes_that_run_already_only_the_first_ends_the_workload";
    if !ebpf(test) {
        return;
    }
    let cgroup = cgroups().map(|root| root.join(format!("strait-first-{}", process::id())));
    let cgroup = cgroup.filter(|cgroup| fs::create_dir(cgroup).is_ok());
    if cgroup.is_none() {
        skip(test, "no version 2 cgroup can be made: the workload is not named by one");
    }
    let words = "catch 15 child catch,15,ready,caught call 111 0 0 0 0 0 0 ready caught \
                 call 108 0 0 0 0 0 0";
    let entered =
        cgroup.as_ref().map(|cgroup| format!("echo $$ > {}/cgroup.procs", cgroup.display()));
    let named = [("process", "true"), ("namespaces", "true")];
    let named = named.into_iter().chain(entered.as_deref().map(|entered| ("cgroup", entered)));
    for (named, entered) in named {
        let unshare = if named == "namespaces" { "unshare --mount" } else { "" };
        let script = format!("{entered} && exec {unshare} \"$0\" \"$@\"");
        let mut first = process::Command::new("/bin/sh")
            .args(["-c", &script])
            .arg(victim::stages())
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(first.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        let pid = Pid::from_child(&first);
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let child = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        let target = match (named, &cgroup) {
            ("cgroup", Some(cgroup)) => Target::Cgroup(cgroup.clone()),
            ("namespaces", _) => Target::Namespaces(pid),
            _ => Target::Process(pid),
        };
        let request =
            Request { target, engine: Choice::Ebpf, duration: None, ready: Ready::default() };
        let running = start(&request).unwrap();
        kill_process(Pid::from_raw(child).unwrap(), Signal::TERM).unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        kill_process(pid, Signal::TERM).unwrap();
        assert!(first.wait().unwrap().success());
        let recording = running.wait().unwrap();
        let expected =
            BTreeMap::from([(GETPGRP, vec![Phase::Steady]), (GETEGID, vec![Phase::Shutdown])]);
        assert_eq!(phases(&recording, &[GETPGRP, GETEGID]), expected, "{named}");
    }
    if let Some(cgroup) = cgroup {
        fs::remove_dir(cgroup).unwrap();
    }
}

#[test]
fn what_a_runtime_does_before_and_under_the_filter() {
    for engine in engines("what_a_runtime_does_before_and_under_the_filter") {
        // The filter is loaded by the thread itself, by another one for all, and by a child.
        for filter in ["filter", "filter-all"] {
            let words = format!(
                "call 111 0 0 0 0 0 0 {filter} call 108 0 0 0 0 0 0 exec call 110 0 0 0 0 0 0 listen \
                 call 162 0 0 0 0 0 0"
            );
            let (recording, _) = record_by(engine, &words, Ready::default());
            let expected = BTreeMap::from([
                (GETPGRP, vec![Phase::BeforeFilter]),
                (GETEGID, vec![Phase::Runtime]),
                (GETPPID, vec![Phase::StartUp]),
                (SYNC, vec![Phase::Steady]),
            ]);
            let seen = phases(&recording, &[GETPGRP, GETEGID, GETPPID, SYNC]);
            assert_eq!(seen, expected, "{engine:?} {filter}");
            // The exec that began it all is not seen, this one is the runtime's.
            let execs = phases(&recording, &[EXECVE]);
            assert_eq!(execs, [(EXECVE, vec![Phase::Runtime])].into(), "{engine:?}");
        }
        let (recording, _) = record_by(
            engine,
            "call 111 0 0 0 0 0 0 child filter,call,108,0,0,0,0,0,0,exec,call,110,0,0,0,0,0,0",
            Ready::default(),
        );
        let expected = BTreeMap::from([
            (GETPGRP, vec![Phase::BeforeFilter]),
            (GETEGID, vec![Phase::Runtime]),
            (GETPPID, vec![Phase::StartUp]),
        ]);
        let seen = phases(&recording, &[GETPGRP, GETEGID, GETPPID]);
        assert_eq!(seen, expected, "{engine:?}");
    }
}

/// What comes of a filtered task and has not exec'd is as it; what comes of one that has, too.
#[test]
fn children_are_in_the_phase_of_who_has_started_them() {
    for engine in engines("children_are_in_the_phase_of_who_has_started_them") {
        let words = "child call,162,0,0,0,0,0,0 filter child call,108,0,0,0,0,0,0 exec \
                     child call,110,0,0,0,0,0,0 listen child call,111,0,0,0,0,0,0";
        let (recording, _) = record_by(engine, words, Ready::default());
        let expected = BTreeMap::from([
            (SYNC, vec![Phase::BeforeFilter]),
            (GETEGID, vec![Phase::Runtime]),
            (GETPPID, vec![Phase::StartUp]),
            (GETPGRP, vec![Phase::Steady]),
        ]);
        let seen = phases(&recording, &[SYNC, GETEGID, GETPPID, GETPGRP]);
        assert_eq!(seen, expected, "{engine:?}");
    }
}

/// A thread that execs takes the place and the id of its process's first, and what it comes of with
/// them: not what the first came of, whether that lives, is filtered itself, or has ended.
#[test]
fn a_thread_that_execs_takes_its_phase_along() {
    // Getpgrp is called at the begin, getegid before the exec and getppid after it.
    let (begin, before) = ("call 111 0 0 0 0 0 0", "call 108 0 0 0 0 0 0");
    let [on, exec] = ["call+108+0+0+0+0+0+0", "exec+call+110+0+0+0+0+0+0"];
    let runtime =
        [(GETPGRP, Phase::BeforeFilter), (GETEGID, Phase::Runtime), (GETPPID, Phase::StartUp)];
    let none = [GETPGRP, GETEGID, GETPPID].map(|mark| (mark, Phase::StartUp));
    let cases = [
        // The filter is the thread's alone, or the first one's too.
        (format!("{begin} thread filter+{on}+{exec}"), runtime),
        (format!("{begin} filter thread {on}+{exec}"), runtime),
        (format!("{begin} filter-all thread {on}+{exec}"), runtime),
        (format!("{begin} last-thread filter+{on}+{exec}"), runtime),
        // What is exec'd does not have the filter, or there was none.
        (format!("{begin} thread filter+exec-nothing {before} exec call 110 0 0 0 0 0 0"), none),
        (format!("{begin} {before} thread {exec}"), none),
        (format!("{begin} {before} last-thread {exec}"), none),
    ];
    // The same in a child, whose parent is known and has no filter.
    let in_a_child = |words: &str| format!("child {}", words.replace(' ', ","));
    for engine in engines("a_thread_that_execs_takes_its_phase_along") {
        for (words, expected) in &cases {
            for words in [words.clone(), in_a_child(words)] {
                let (recording, _) = record_by(engine, &words, Ready::default());
                let expected = expected.map(|(mark, phase)| (mark, vec![phase]));
                let seen = phases(&recording, &[GETPGRP, GETEGID, GETPPID]);
                assert_eq!(seen, BTreeMap::from(expected), "{engine:?} {words}");
                let made = |mark: u32| -> u64 {
                    let calls = recording.calls().iter().filter(|call| call.nr == mark);
                    calls.map(|call| call.outcomes.count).sum()
                };
                assert_eq!([GETPGRP, GETEGID, GETPPID].map(made), [1; 3], "{engine:?} {words}");
            }
        }
    }
}

/// What it execs is the workload's first process as before, of which the end is the workload's.
#[test]
fn a_thread_that_execs_stays_the_first_process() {
    for engine in engines("a_thread_that_execs_stays_the_first_process") {
        for by in ["thread exec", "thread filter+exec", "last-thread exec"] {
            let words = format!("{by}+catch+15+raise+15+call+110+0+0+0+0+0+0");
            let (recording, _) = record_by(engine, &words, Ready::default());
            // A signal that is not the recorder's is not seen by notification.
            let end = if engine == Choice::Notify { Phase::StartUp } else { Phase::Shutdown };
            let expected = BTreeMap::from([(GETPPID, vec![end])]);
            assert_eq!(phases(&recording, &[GETPPID]), expected, "{engine:?} {words}");
        }
    }
}

/// A program that confines itself is no runtime: it does not exec, or cannot.
#[test]
fn a_filter_of_the_workloads_own_is_no_runtimes() {
    for (engine, words) in
        engines("a_filter_of_the_workloads_own_is_no_runtimes").into_iter().flat_map(|engine| {
            [
                "call 111 0 0 0 0 0 0 filter call 108 0 0 0 0 0 0",
                "call 111 0 0 0 0 0 0 filter exec-nothing call 108 0 0 0 0 0 0",
            ]
            .map(|words| (engine, words))
        })
    {
        let (recording, _) = record_by(engine, words, Ready::default());
        let expected =
            BTreeMap::from([(GETPGRP, vec![Phase::StartUp]), (GETEGID, vec![Phase::StartUp])]);
        assert_eq!(phases(&recording, &[GETPGRP, GETEGID]), expected, "{engine:?} {words}");
    }
}

#[test]
fn readiness_is_what_it_is_said_to_be() {
    for engine in engines("readiness_is_what_it_is_said_to_be") {
        let by_call = Ready::Calls(vec![strait_abi::Syscall::from_name("sync").unwrap()]);
        let words = "listen call 111 0 0 0 0 0 0 call 162 0 0 0 0 0 0 call 108 0 0 0 0 0 0";
        let (recording, _) = record_by(engine, words, by_call);
        let expected =
            BTreeMap::from([(GETPGRP, vec![Phase::StartUp]), (GETEGID, vec![Phase::Steady])]);
        assert_eq!(phases(&recording, &[GETPGRP, GETEGID]), expected, "{engine:?}");

        let by_time = Ready::After(Duration::from_millis(50));
        let words = "call 111 0 0 0 0 0 0 sleep 400 call 108 0 0 0 0 0 0";
        let (recording, _) = record_by(engine, words, by_time);
        let expected = [(GETEGID, vec![Phase::Steady])].into();
        assert_eq!(phases(&recording, &[GETEGID]), expected, "{engine:?}");
    }
}

/// The version 2 hierarchy, wherever it is mounted.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

/// Starts the program in a cgroup, and waits until it is ready.
fn in_cgroup(cgroup: &Path, words: &str) -> (process::Child, process::ChildStdin) {
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", cgroup.display());
    let mut child = process::Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(victim::stages())
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    ready(&mut child);
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

fn ready(child: &mut process::Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

#[test]
fn who_enters_a_cgroup_from_outside() {
    let test = "who_enters_a_cgroup_from_outside";
    if !ebpf(test) {
        return;
    }
    let Some(root) = cgroups() else {
        return skip(test, "no version 2 cgroup hierarchy is mounted");
    };
    let cgroup = root.join(format!("strait-phases-{}", process::id()));
    if fs::create_dir(&cgroup).is_err() {
        return skip(test, "no cgroup can be made");
    }
    let recorded = thread::scope(|scope| {
        let recorder = scope.spawn(|| {
            let request = Request {
                target: Target::Cgroup(cgroup.clone()),
                engine: Choice::Ebpf,
                duration: None,
                ready: Ready::default(),
            };
            start(&request).unwrap()
        });
        let running = recorder.join().unwrap();
        // The first is the workload, though it has come in as well; its child is too.
        let (mut first, stdin) =
            in_cgroup(&cgroup, "call 111 0 0 0 0 0 0 child call,108,0,0,0,0,0,0 ready wait");
        let (mut second, its_stdin) = in_cgroup(&cgroup, "call 162 0 0 0 0 0 0 ready wait");
        drop(its_stdin);
        second.wait().unwrap();
        drop(stdin);
        first.wait().unwrap();
        running.wait()
    });
    fs::remove_dir(&cgroup).unwrap();
    let recording = recorded.unwrap();
    let expected = BTreeMap::from([
        (GETPGRP, vec![Phase::StartUp]),
        (GETEGID, vec![Phase::StartUp]),
        (SYNC, vec![Phase::Outside]),
    ]);
    assert_eq!(phases(&recording, &[GETPGRP, GETEGID, SYNC]), expected);
}

#[test]
fn a_set_of_namespaces_and_who_enters_it() {
    let test = "a_set_of_namespaces_and_who_enters_it";
    if !ebpf(test) {
        return;
    }
    let stages = victim::stages();
    let unshared = process::Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount", "--net"])
        .arg(&stages)
        .args("ready wait call 111 0 0 0 0 0 0 child call,108,0,0,0,0,0,0".split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut unshared) = unshared else { return skip(test, "there is no unshare") };
    ready(&mut unshared);
    let stdin = unshared.stdin.take().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", unshared.id());
    let inner = fs::read_to_string(children).unwrap();
    let inner = Pid::from_raw(inner.trim().parse().unwrap()).unwrap();
    let request = Request {
        target: Target::Namespaces(inner),
        engine: Choice::Ebpf,
        duration: None,
        ready: Ready::default(),
    };
    let running = start(&request).unwrap();
    // Somebody else's calls are not recorded, somebody's who enters are.
    let run = |program: &mut process::Command| {
        assert!(program.status().unwrap().success());
    };
    run(process::Command::new(&stages).args("call 110 0 0 0 0 0 0".split(' ')));
    let pid = inner.as_raw_nonzero().to_string();
    run(process::Command::new("nsenter")
        .args(["--target", &pid, "--pid", "--mount", "--net"])
        .arg(&stages)
        .args("call 162 0 0 0 0 0 0".split(' ')));
    drop(stdin);
    unshared.wait().unwrap();
    let recording = running.wait().unwrap();
    let expected = BTreeMap::from([
        (GETPGRP, vec![Phase::Steady]), // it ran when the recording began
        (GETEGID, vec![Phase::Steady]),
        (SYNC, vec![Phase::Outside]),
    ]);
    assert_eq!(phases(&recording, &[GETPGRP, GETEGID, SYNC, GETPPID]), expected);
}
