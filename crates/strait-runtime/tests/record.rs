//! Recordings against what the recorded program itself counted, on the running kernel.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_compiler::Options;
use strait_kernel::command::Command;
use strait_kernel::ebpf::loaded_programs;
use strait_kernel::seccomp::LoadOptions;
use strait_policy::recording::{Call, Exit};
use strait_policy::rules::Table;
use strait_policy::{Recording, Rules};
use strait_runtime::launch::Enforcement;
use strait_runtime::record::{Choice, Ready, Request, Target, start};
use strait_testkit::{skip, victim};

mod caller;

use caller::*;

#[test]
fn results_and_errnos() {
    exact("results_and_errnos", "table 7");
}

#[test]
fn numbers_that_no_table_has() {
    exact("numbers_that_no_table_has", "odd 3");
}

#[test]
fn calls_of_another_abi() {
    if Arch::NATIVE != Some(Arch::X86_64) {
        return skip("calls_of_another_abi", "int $0x80 is of x86_64");
    }
    exact("calls_of_another_abi", "compat 11 table 2");
}

#[test]
fn threads() {
    exact("threads", "threads 16 50");
}

#[test]
fn vfork_and_exec() {
    exact("vfork_and_exec", "table 3 spawn table,2,threads,2,2");
}

#[test]
fn exec_in_place() {
    exact("exec_in_place", "table 3 exec table,2");
}

#[test]
fn exec_by_a_thread() {
    exact("exec_by_a_thread", "table 3 thread-exec table,2,threads,3,3");
}

#[test]
fn a_daemon_is_waited_for() {
    exact("a_daemon_is_waited_for", "table 1 daemon 9");
}

#[test]
fn a_call_that_never_returns() {
    exact("a_call_that_never_returns", "killed killed");
}

#[test]
fn two_thousand_short_children() {
    exact("two_thousand_short_children", "children 2000 3");
}

#[test]
fn engines_agree_on_everything_of_a_program() {
    let test = "engines_agree_on_everything_of_a_program";
    let counts = |recording: &Recording| -> BTreeMap<_, _> {
        let mut counts = BTreeMap::<_, u64>::new();
        for call in recording.calls() {
            let image = recording.images()[call.image].clone();
            *counts.entry((image, call.arch, call.nr)).or_default() += call.outcomes.count;
        }
        counts
    };
    let by = |engine| {
        let (running, _output) = begin(Path::new("/bin/ls"), &["-la", "/"], engine, None);
        running.unwrap().wait().unwrap()
    };
    let traced = by(Choice::Ptrace);
    assert!(counts(&traced).len() > 15);
    for engine in engines(test) {
        let recording = by(engine);
        assert_eq!(recording.images(), traced.images(), "{engine:?}");
        assert_eq!(counts(&recording), counts(&traced), "{engine:?}");
    }
}

/// What the program does but for the calls is the same if it makes none.
#[test]
fn every_call_that_does_no_harm() {
    if Arch::NATIVE != Some(Arch::X86_64) {
        return skip("every_call_that_does_no_harm", "the numbers are those of x86_64");
    }
    for engine in engines("every_call_that_does_no_harm") {
        let (without, _) = record("every 0", engine);
        let (recording, said) = record("every 1", engine);
        assert!(said.len() > 300, "{}", said.len());
        let without = recorded(&without, &said);
        let mut seen = recorded(&recording, &said);
        for (call, also) in &without {
            let outcomes = seen.get_mut(call).unwrap();
            outcomes.count -= also.count;
            outcomes.succeeded -= also.succeeded;
            for (errno, count) in &also.errnos {
                *outcomes.errnos.get_mut(errno).unwrap() -= count;
            }
            outcomes.errnos.retain(|_, count| *count > 0);
        }
        for (call, outcomes) in &said {
            assert_eq!(seen.get(call), Some(outcomes), "{engine:?}: {call:?}");
        }
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
    }
}

/// One recorder makes several recordings, of which each is as if it were the only one.
#[test]
fn a_recorder_forgets_what_it_has_recorded() {
    let test = "a_recorder_forgets_what_it_has_recorded";
    for engine in engines_with_results(test) {
        let mut recorder = strait_runtime::record::Recorder::new();
        let mut loaded = Vec::new();
        for (program, arguments) in [
            (victim::caller(), &["table", "7", "threads", "8", "20", "odd", "2"][..]),
            ("/bin/ls".into(), &["-la", "/"]),
            ("/bin/sh".into(), &["-c", "ls /nonexistent; kill -9 $$"]),
        ] {
            let (output, theirs) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
            let words = arguments.iter().map(OsString::from);
            let command = Command::new(program.as_os_str(), words)
                .unwrap()
                .redirect(strait_kernel::command::Stream::Stdout, theirs);
            let target = Target::Command { command: &command, enforcement: None };
            let running = recorder
                .start(&Request { target, engine, duration: None, ready: Ready::default() })
                .unwrap();
            let again = recorder.wait(running).unwrap();
            drop(output);
            loaded.push(programs_of(Pid::from_raw(process::id().cast_signed()).unwrap()));
            let (running, _output) = begin(&program, arguments, engine, None);
            let alone = running.unwrap().wait().unwrap();
            assert_eq!(again.images(), alone.images(), "{engine:?} {program:?}");
            // What threads call by timing alone: madvise and exit, if the process has not ended
            // before them, and futex, if they have to wait.
            let timing = [28, 60, 202];
            let names = |recording: &Recording| -> Vec<_> {
                let calls = recording.calls().iter();
                let calls = calls.filter(|call| !timing.contains(&call.nr));
                calls.map(|call| (call.image, call.arch, call.nr)).collect()
            };
            assert_eq!(names(&again), names(&alone), "{engine:?} {program:?}");
            assert_eq!(again.exit(), alone.exit());
            // Neither waits, so that even the counts are the same.
            if program == Path::new("/bin/ls") {
                let counted = |recording: &Recording| -> Vec<_> {
                    let calls = recording.calls().iter().cloned();
                    calls.map(|call| Call { times: None, ..call }).collect()
                };
                assert_eq!(counted(&again), counted(&alone), "{engine:?}");
            }
        }
        assert!(loaded.iter().all(|programs| *programs == loaded[0]), "{engine:?}: {loaded:?}");
        assert_eq!(loaded[0].is_empty(), engine != Choice::Ebpf);
    }
}

#[test]
fn denials_of_a_filter_that_the_program_loads() {
    let test = "denials_of_a_filter_that_the_program_loads";
    for engine in engines(test) {
        let (recording, said) = record("filter 5", engine);
        assert!(recording.completeness().filter_active, "{engine:?}");
        match engine {
            Choice::Ebpf => assert_eq!(recorded(&recording, &said), said),
            // ptrace sees calls before a filter does; notify does not see what one denies. Both
            // say so.
            _ => {
                let said = &recording.completeness().blind_spots;
                assert!(said.iter().any(|spot| spot.contains("filter")), "{engine:?}: {said:?}");
            }
        }
    }
}

/// The denials of a confined run are counted by either engine, for every way to deny that lets the
/// program go on.
#[test]
fn denials_of_a_confined_run() {
    let Some(native) = Arch::NATIVE else {
        return skip("denials_of_a_confined_run", "this machine's calls are not known here");
    };
    let getpgrp = 111;
    let mut table = Table::new(Action::Allow);
    table.set(getpgrp, getpgrp, Action::Errno(1));
    let rules = Rules::new(Action::KillProcess).with_table(native.audit_arch(), table);
    let enforcement =
        Enforcement::new(&rules, &Options::default(), LoadOptions::default()).unwrap();
    for engine in engines_with_results("denials_of_a_confined_run") {
        let (running, _output) =
            begin(&victim::program(), &["call", "111", "call", "111"], engine, Some(&enforcement));
        let recording = running.unwrap().wait().unwrap();
        let denied: Vec<_> =
            recording.calls().iter().filter(|call| call.outcomes.denied > 0).collect();
        assert_eq!(denied.len(), 1, "{engine:?}");
        assert_eq!((denied[0].nr, denied[0].outcomes.denied), (getpgrp, 2), "{engine:?}");
        assert_eq!(denied[0].outcomes.count, 0, "{engine:?}");
    }
}

#[test]
fn a_program_that_dies_by_its_first_call() {
    let test = "a_program_that_dies_by_its_first_call";
    let folder = tempfile::tempdir().unwrap();
    let source = ".globl _start\n_start: mov $231, %eax\nmov $7, %edi\nsyscall\n";
    let Some(program) = assemble(folder.path(), "exits", source, &[]) else {
        return skip(test, "gcc is not there");
    };
    for engine in engines(test) {
        let (running, _output) = begin(&program, &[], engine, None);
        let recording = running.unwrap().wait().unwrap();
        assert_eq!(recording.exit(), Some(Exit::Status(7)));
        let [call] = recording.calls() else { panic!("{:?}", recording.calls()) };
        assert_eq!((call.arch, call.nr, call.outcomes.count), (Arch::X86_64, 231, 1));
    }
}

#[test]
fn a_32_bit_program() {
    let test = "a_32_bit_program";
    let folder = tempfile::tempdir().unwrap();
    // Ten times getppid, then exit.
    let source = ".globl _start\n_start: mov $10, %esi\n1: mov $64, %eax\nint $0x80\n\
                  dec %esi\njnz 1b\nmov $1, %eax\nmov $3, %ebx\nint $0x80\n";
    let Some(program) = assemble(folder.path(), "small", source, &["-m32"]) else {
        return skip(test, "gcc -m32 does not work (gcc-multilib)");
    };
    for engine in engines(test) {
        let (running, _output) = begin(&program, &[], engine, None);
        let recording = running.unwrap().wait().unwrap();
        assert_eq!(recording.exit(), Some(Exit::Status(3)), "{engine:?}");
        let calls: Vec<_> = recording
            .calls()
            .iter()
            .map(|call| (call.arch, call.nr, call.outcomes.count))
            .collect();
        assert_eq!(calls, [(Arch::I386, 1, 1), (Arch::I386, 64, 10)], "{engine:?}");
    }
}

#[test]
fn scripts_and_strange_names() {
    let folder = tempfile::tempdir().unwrap();
    let name = OsString::from_vec(b"new\nline \xff".to_vec());
    let program = folder.path().join(&name);
    fs::copy(victim::caller(), &program).unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\nexit 4\n").unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    for engine in engines("scripts_and_strange_names") {
        let (running, _output) = begin(&program, &["table", "1"], engine, None);
        let recording = running.unwrap().wait().unwrap();
        let [image] = recording.images() else { panic!("{:?}", recording.images()) };
        assert!(image.path.ends_with(r"/new\x0aline \xff"), "{engine:?}: {}", image.path);

        let (running, _output) = begin(&script, &[], engine, None);
        let recording = running.unwrap().wait().unwrap();
        let [image] = recording.images() else { panic!("{:?}", recording.images()) };
        assert!(image.path.ends_with("sh"), "{engine:?}: {}", image.path);
        // The records of audit have the file that runs, which is the interpreter.
        let seen = script.to_str().filter(|_| engine != Choice::Audit);
        assert_eq!(image.script.as_deref(), seen, "{engine:?}");
    }
}

/// When calls were first and last made, and how long was recorded, whoever tells it. Of the sleep
/// only the least is known, and of that a tick or two may be missing.
#[test]
fn times_are_those_of_the_calls() {
    for engine in engines("times_are_those_of_the_calls") {
        let (running, _output) = begin(Path::new("/bin/sleep"), &["0.3"], engine, None);
        let recording = running.unwrap().wait().unwrap();
        let covered = recording.completeness().coverage.time_us.unwrap();
        let times = |name: &str| {
            let nr = Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
            let call = recording.calls().iter().find(|call| call.nr == nr);
            call.and_then(|call| call.times).unwrap_or_else(|| panic!("{engine:?}: {name}"))
        };
        let (sleep, end) = (times("clock_nanosleep"), times("exit_group"));
        assert!(end.first_us >= sleep.last_us + 250_000, "{engine:?}: {sleep:?} {end:?}");
        assert!(covered >= end.last_us, "{engine:?}: {covered} {end:?}");
        for call in recording.calls().iter().filter(|call| call.outcomes.count > 0) {
            let times = call.times.unwrap();
            assert!(times.first_us <= times.last_us && times.last_us <= covered, "{call:?}");
        }
    }
}

#[test]
fn two_recorders_at_once() {
    for engine in engines("two_recorders_at_once") {
        let (left, left_output) = begin(&victim::caller(), &["table", "20"], engine, None);
        let (right, right_output) = begin(&victim::caller(), &["threads", "4", "30"], engine, None);
        let (left, right) = (left.unwrap(), right.unwrap());
        let (left, right) = (left.wait().unwrap(), right.wait().unwrap());
        let left_said = seen_by(engine, &said(left_output));
        let right_said = seen_by(engine, &said(right_output));
        assert_eq!(recorded(&left, &left_said), left_said, "{engine:?}");
        assert_eq!(recorded(&right, &right_said), right_said, "{engine:?}");
    }
}

#[test]
fn what_cannot_be_run_is_said() {
    for engine in engines("what_cannot_be_run_is_said") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty");
        fs::write(&file, "no program").unwrap();
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(&file, mode).unwrap();
        let (running, _output) = begin(&file, &[], engine, None);
        assert_eq!(running.unwrap_err().exit_status(), 126, "{engine:?}");
    }
}

/// A process that runs already is recorded with all its threads, and left alone afterwards.
#[test]
fn a_running_process() {
    for engine in engines_with_results("a_running_process") {
        let mut caller = process::Command::new(victim::caller())
            .arg("loop")
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(caller.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let pid = Pid::from_child(&caller);
        let request = Request {
            target: Target::Process(pid),
            engine,
            duration: Some(Duration::from_millis(300)),
            ready: Ready::default(),
        };
        let recording = start(&request).unwrap().wait().unwrap();
        assert!(recording.completeness().interrupted);
        assert!(caller.try_wait().unwrap().is_none(), "{engine:?}: it goes on");
        kill_process(pid, Signal::TERM).unwrap();
        line.clear();
        output.read_line(&mut line).unwrap();
        assert!(caller.wait().unwrap().success());
        let made: u64 = line.split(' ').nth(2).unwrap().parse().unwrap();
        let seen = recording.calls().iter().find(|call| call.nr == 110).unwrap();
        assert!(seen.outcomes.count > 0 && seen.outcomes.count < made, "{engine:?}");
        // The hook at the end of a call is taken away before the one at its start: calls in between
        // have no result, and none is taken for a denied one.
        assert!(seen.outcomes.succeeded > 0, "{engine:?}");
        assert!(seen.outcomes.succeeded <= seen.outcomes.count, "{engine:?}");
        assert_eq!(seen.outcomes.denied, 0, "{engine:?}");
        assert!(seen.outcomes.errnos.is_empty(), "{engine:?}");
    }
}

/// All that a process has when the recording begins is recorded: its threads and its descendants.
#[test]
fn all_tasks_of_a_running_process() {
    for engine in engines_with_results("all_tasks_of_a_running_process") {
        let mut crew = process::Command::new(victim::caller())
            .args(["crew", "9", "7", "11"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(crew.stdout.take().unwrap());
        line_with(&mut output, "ready");
        let target = Target::Process(Pid::from_child(&crew));
        let request = Request { target, engine, duration: None, ready: Ready::default() };
        let running = start(&request).unwrap();
        drop(crew.stdin.take());
        let recording = running.wait().unwrap();
        line_with(&mut output, "x86_64 110 176 176 0");
        // A tracer of this process has waited for it already.
        let _ = crew.wait();
        let calls = recording.calls().iter().filter(|call| call.nr == 110);
        let count: u64 = calls.map(|call| call.outcomes.count).sum();
        assert_eq!(count, (9 + 7) * 11, "{engine:?}");
        assert!(!recording.completeness().is_lossy(), "{:?}", recording.completeness());
    }
}

#[test]
fn an_interrupted_recording_is_whole_up_to_then() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    for engine in engines("an_interrupted_recording_is_whole_up_to_then") {
        let mut recorder = Recorder::new(engine, &file);
        kill_process(recorder.pid(), Signal::INT).unwrap();
        let caller = line_with(&mut recorder.output, "x86_64 110 ");
        let status = recorder.process.wait().unwrap();
        assert!(status.success(), "{engine:?}: {status}");
        let recording = Recording::from_json(&fs::read_to_string(&file).unwrap()).unwrap();
        // A call that was begun just before the signal may be made in the phase that it begins.
        let seen = recording.calls().iter().filter(|call| call.nr == 110);
        let count: u64 = seen.map(|call| call.outcomes.count).sum();
        if recording.completeness().is_lossy() {
            // An endless loop may be too fast for audit's queue; then it says so, and is short.
            assert_eq!(engine, Choice::Audit);
            let said: u64 = caller.split(' ').nth(2).unwrap().parse().unwrap();
            assert!(0 < count && count < said, "{count} of {said}");
        } else {
            assert_eq!(caller, format!("x86_64 110 {count} {count} 0"), "{engine:?}");
        }
        assert!(recording.completeness().interrupted);
        assert_eq!(recording.exit(), Some(Exit::Status(0)));
    }
}

#[test]
fn a_killed_recorder_leaves_the_workload_running() {
    let test = "a_killed_recorder_leaves_the_workload_running";
    let folder = tempfile::tempdir().unwrap();
    for engine in engines(test) {
        let mut recorder = Recorder::new(engine, &folder.path().join("recording"));
        let caller = children_of(recorder.pid())["strait-caller"];
        while engine == Choice::Notify && !children_of(recorder.pid()).contains_key("strait-keeper")
        {
            thread::sleep(Duration::from_millis(5));
        }
        let programs = programs_of(recorder.pid());
        assert_eq!(programs.is_empty(), engine != Choice::Ebpf);
        recorder.process.kill().unwrap();
        recorder.process.wait().unwrap();
        let status = format!("/proc/{}/status", caller.as_raw_nonzero());
        let status = fs::read_to_string(status).unwrap();
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
        };
        assert_eq!(field("TracerPid:"), "0", "{engine:?}");
        assert!(!field("State:").starts_with(['t', 'T']), "{engine:?}: {}", field("State:"));
        // It runs, or it would not say this.
        kill_process(caller, Signal::TERM).unwrap();
        line_with(&mut recorder.output, "x86_64 110 ");
        // The kernel frees programs a moment after the last descriptor has gone.
        while programs.iter().any(|id| loaded_programs().contains(id)) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The ids of the eBPF programs that a process has descriptors of.
fn programs_of(pid: Pid) -> Vec<u32> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", pid.as_raw_nonzero())).unwrap() {
        // One that is closed meanwhile is none of a program.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        programs.extend(id.map(|id| id.trim().parse::<u32>().unwrap()));
    }
    programs
}

#[test]
fn an_unprivileged_user_gets_notify_and_the_reason() {
    let test = "an_unprivileged_user_gets_notify_and_the_reason";
    if std::env::var_os("STRAIT_TEST_RECORDS").is_some() {
        let command = Command::new(OsStr::new("/bin/true"), []).unwrap();
        let target = Target::Command { command: &command, enforcement: None };
        let request =
            Request { target, engine: Choice::Auto, duration: None, ready: Ready::default() };
        let recording = start(&request).unwrap().wait().unwrap();
        println!("engine {} {}", recording.engine().name, recording.calls().len());
        println!("reason {}", recording.engine().reason);
        // Whom notify cannot record, as it runs already.
        let mut running = process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let target = Target::Process(Pid::from_child(&running));
        let duration = Some(Duration::from_millis(10));
        let request = Request { target, engine: Choice::Auto, duration, ready: Ready::default() };
        let recording = start(&request).unwrap().wait().unwrap();
        println!("running {}: {}", recording.engine().name, recording.engine().reason);
        running.kill().unwrap();
        running.wait().unwrap();
        return;
    }
    if !geteuid().is_root() {
        return skip(test, "it takes root to be somebody else");
    }
    // Nobody may enter the folder that the test is in.
    let folder = tempfile::Builder::new()
        .permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut recorder = process::Command::new(copy)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env("STRAIT_TEST_RECORDS", "")
        .current_dir("/")
        .stdout(Stdio::piped())
        .uid(65534)
        .gid(65534)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(recorder.stdout.take().unwrap());
    let engine = line_with(&mut output, "engine ");
    assert!(engine.starts_with("engine notify "), "{engine}");
    assert!(!engine.ends_with(" 0"), "{engine}");
    let reason = line_with(&mut output, "reason ");
    assert!(reason.contains("CAP_BPF"), "{reason}");
    let running = line_with(&mut output, "running ");
    assert!(running.starts_with("running ptrace: "), "{running}");
    assert!(running.contains("CAP_BPF"), "{running}");
    recorder.wait().unwrap();
    // Auto takes eBPF where it is to be had.
    let (running, _output) = begin(&victim::caller(), &["table", "1"], Choice::Auto, None);
    let recording = running.unwrap().wait().unwrap();
    assert_eq!(recording.engine().name, "ebpf");
}

/// A cgroup is recorded from outside, until it is empty.
#[test]
fn a_cgroup() {
    let test = "a_cgroup";
    if !ebpf(test) {
        return;
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let Some(root) = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup2")
        .map(|fields| fields[1].to_owned())
    else {
        return skip(test, "no version 2 cgroup hierarchy is mounted");
    };
    let cgroup = Path::new(&root).join(format!("strait-test-{}", process::id()));
    if let Err(error) = fs::create_dir(&cgroup) {
        return skip(test, &format!("{} cannot be made: {error}", cgroup.display()));
    }
    let target = Target::Cgroup(cgroup.clone());
    let running =
        start(&Request { target, engine: Choice::Ebpf, duration: None, ready: Ready::default() })
            .unwrap();
    let procs = cgroup.join("cgroup.procs");
    let inside = thread::spawn(move || {
        // A shell that enters the cgroup before it becomes the caller.
        let script = format!("echo $$ > {} && exec \"$0\" table 5 threads 3 4", procs.display());
        let caller = process::Command::new("/bin/sh")
            .args(["-c", &script])
            .arg(victim::caller())
            .output()
            .unwrap();
        assert!(caller.status.success());
    });
    let recording = running.wait().unwrap();
    inside.join().unwrap();
    fs::remove_dir(&cgroup).unwrap();
    let count = |nr| -> u64 {
        let calls = recording.calls().iter().filter(|call| call.nr == nr);
        calls.map(|call| call.outcomes.count).sum()
    };
    // The shell asks for its parent too; getpgrp and the errors are the caller's alone.
    assert_eq!(count(111), 5);
    assert_eq!(count(81), 5);
    assert!(count(110) >= 5 + 3 * 4);
    assert!(!recording.completeness().interrupted);
}

/// What no filter and no other engine sees: asked for by the program, and by the kernel's thread.
#[test]
fn operations_of_io_uring() {
    let test = "operations_of_io_uring";
    if !caller::ebpf(test) {
        return;
    }
    if fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text != "0\n") {
        return skip(test, "io_uring is disabled here (kernel.io_uring_disabled)");
    }
    // IORING_OP_NOP, IORING_OP_FSYNC and IORING_OP_CLOSE.
    let words = ["uring", "0", "7", "uring", "3", "5", "uring-polled", "19", "3"];
    let (running, _output) = caller::begin(&victim::caller(), &words, Choice::Ebpf, None);
    let recording = running.unwrap().wait().unwrap();
    assert_eq!(recording.exit(), Some(Exit::Status(0)));
    let completeness = recording.completeness();
    let operations: Vec<(&str, u64)> =
        completeness.io_uring_operations.iter().map(|(name, &count)| (&**name, count)).collect();
    assert_eq!(operations, [("CLOSE", 3), ("FSYNC", 5), ("NOP", 7)], "{completeness:?}");
    assert!(completeness.io_uring);
    // Others cannot say more than that there was some.
    let (running, _output) = caller::begin(&victim::caller(), &words, Choice::Ptrace, None);
    let recording = running.unwrap().wait().unwrap();
    let gaps = recording.completeness().gaps();
    assert!(gaps.iter().any(|gap| gap.contains("io_uring was set up")), "{gaps:?}");
}
