//! Confined programs on the real kernel: what they may do, and how they are waited for.
//!
//! Filters are loaded in forked children only. A test that needs a process of its own runs this
//! test program again with `STRAIT_TEST_ROLE` set.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Insn, Op, Program};
use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::command::{Command, Stream};
use strait_kernel::seccomp::{LoadOptions, Privileges};
use strait_kernel::signal::{self, Relay};
use strait_kernel::task::{CAP_SYS_ADMIN, Mode, Task};
use strait_policy::Rules;
use strait_policy::rules::Table;
use strait_runtime::confine::{Threads, confine};
use strait_runtime::launch::{Enforcement, StartError, Started, Verified};
use strait_runtime::listeners::Listeners;
use strait_runtime::mode;
use strait_runtime::record::{self, Choice, Ready, Request, Target};
use strait_runtime::verdict::{Gate, Verdict};
use strait_runtime::wait;
use strait_testkit::victim;

fn number(name: &str) -> u32 {
    Syscall::from_name(name).unwrap().number(Arch::NATIVE.unwrap()).unwrap()
}

/// Rules that allow all calls of this machine's ABI but some.
fn all_but(denied: &[(&str, Action)]) -> Rules {
    let mut table = Table::new(Action::Allow);
    for &(name, action) in denied {
        table.set(number(name), number(name), action);
    }
    Rules::new(Action::KillProcess).with_table(Arch::NATIVE.unwrap().audit_arch(), table)
}

fn enforcement(rules: &Rules) -> Enforcement {
    Enforcement::new(rules, &Options::default(), LoadOptions::default()).unwrap()
}

fn command(program: &OsStr, words: &str) -> Command {
    let words = words.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
    Command::new(program, words).unwrap()
}

fn start(command: &Command, rules: &Rules) -> Result<Started, StartError> {
    enforcement(rules).start(PendingChild::fork(command).unwrap())
}

/// Whether filters can be read back here.
fn can_verify() -> bool {
    let own = rustix::process::getpid();
    let task = Task::read(own, own).unwrap();
    task.capabilities.has_effective(CAP_SYS_ADMIN) && task.mode == Mode::Disabled
}

/// Runs the victim confined; its status, its output, and whether it was verified.
fn victim(words: &str, rules: &Rules) -> (ExitStatus, String, Verified) {
    let (mut reader, writer) = io::pipe().unwrap();
    let command = command(victim::program().as_os_str(), words)
        .redirect(Stream::Stdout, OwnedFd::from(writer));
    let started = start(&command, rules).unwrap();
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    (started.child.wait().unwrap(), text, started.verified)
}

/// This test program again, doing what `role` says.
fn again(role: &str) -> std::process::Command {
    let mut command = std::process::Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env("STRAIT_TEST_ROLE", role)
        .stdin(Stdio::null());
    command
}

fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not come to hold");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_policy_of_nothing_but_what_true_calls_runs_true() {
    let truth = command(OsStr::new("true"), "");
    let request = Request {
        target: Target::Command { command: &truth, enforcement: None },
        engine: Choice::Auto,
        duration: None,
        ready: Ready::default(),
    };
    let recording = match record::start(&request).and_then(record::Running::wait) {
        Ok(recording) => recording,
        Err(error) => {
            eprintln!("SKIP a_policy_of_nothing_but_what_true_calls: no recording: {error}");
            return;
        }
    };
    let mut table = Table::new(Action::KillProcess);
    for call in recording.calls() {
        table.set(call.nr, call.nr, Action::Allow);
    }
    table.set(number("execve"), number("execve"), Action::KillProcess);
    let arch = Arch::NATIVE.unwrap().audit_arch();
    let rules = Rules::new(Action::KillProcess).with_table(arch, table);
    // What the launcher itself calls is no part of it.
    for name in ["seccomp", "prctl", "rt_sigprocmask", "dup2"] {
        assert!(!recording.calls().iter().any(|call| call.nr == number(name)), "{name}");
    }
    let started = start(&truth, &rules).unwrap();
    assert_eq!(started.child.wait().unwrap().code(), Some(0));
    if can_verify() {
        let verdict = Verdict::Holds { gate: Some(Gate::Closed) };
        assert_eq!(started.verified, Verified::Yes { verdict });
    }
}

#[test]
fn a_later_exec_gets_what_the_policy_says() {
    let rules = all_but(&[("execve", Action::Errno(13)), ("execveat", Action::Errno(13))]);
    let (status, text, _) = victim("exec /bin/true exit 3", &rules);
    assert_eq!((status.code(), text.as_str()), (Some(3), "exec: 13\n"));

    let kill = all_but(&[("execve", Action::KillProcess)]);
    assert_eq!(victim("exec /bin/true exit 3", &kill).0.signal(), Some(31));

    // Without a gate an allowed exec is an exec.
    let (status, text, verified) = victim("exec /bin/true exit 3", &all_but(&[]));
    assert_eq!((status.code(), text.as_str()), (Some(0), ""));
    if can_verify() {
        assert_eq!(verified, Verified::Yes { verdict: Verdict::Holds { gate: None } });
    }
}

#[test]
fn a_listener_of_the_workloads_own_does_not_open_the_gate() {
    let rules = all_but(&[("execve", Action::Errno(13))]);
    let words = "approve-exec exec /bin/true exec-with 0 8319381555716456448 /bin/true exit 3";
    let (status, text, _) = victim(words, &rules);
    assert_eq!((status.code(), text.as_str()), (Some(3), "exec: 13\nexec: 13\n"));
}

#[test]
fn each_enforcement_has_a_token_of_its_own() {
    let rules = all_but(&[("execve", Action::Errno(13))]);
    assert_ne!(enforcement(&rules).program(), enforcement(&rules).program());
    let open = all_but(&[]);
    assert_eq!(enforcement(&open).program(), enforcement(&open).program());
}

#[test]
fn a_program_that_may_not_exit_is_started_all_the_same() {
    let deny = ["exit_group", "exit", "execve"].map(|name| (name, Action::Errno(1)));
    let (status, text, _) = victim("ready exit 0", &all_but(&deny));
    assert_eq!(text, "ready\n");
    // The C library ends with an instruction that faults when nothing else helps.
    assert!(status.signal().is_some(), "{status:?}");
}

#[test]
fn a_denied_call_is_denied_beside_64_threads() {
    let rules = all_but(&[("getpid", Action::Errno(99)), ("execve", Action::Errno(1))]);
    let (status, text, _) = victim(&format!("threads 64 call {} exit 0", number("getpid")), &rules);
    assert_eq!(text, format!("call {}: -99\n", number("getpid")));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn in_log_mode_everything_passes_and_that_is_verified() {
    let denied = [("getppid", Action::KillProcess), ("execve", Action::Errno(1))];
    let rules = mode::log(&all_but(&denied));
    let words = format!("call {} exec /bin/true exit 3", number("getppid"));
    let (status, text, verified) = victim(&words, &rules);
    assert!(text.starts_with(&format!("call {}: ", number("getppid"))), "{text}");
    assert_eq!(status.code(), Some(0), "{text}");
    if can_verify() {
        assert_eq!(verified, Verified::Yes { verdict: Verdict::Holds { gate: None } });
    }
}

#[test]
fn what_is_installed_otherwise_is_drift() {
    let enforcement = enforcement(&all_but(&[("mount", Action::Errno(1))]));
    let allow = Program::new(vec![Insn::from(Op::Ret(Action::Allow.raw()))]).unwrap();
    for stack in [vec![], vec![allow.clone()]] {
        match enforcement.verify(Ok(stack), Listeners::default) {
            Err(StartError::Drift { verdict: Verdict::Drift { permits_more, differences } }) => {
                assert!(permits_more);
                let native = Arch::NATIVE.unwrap().name();
                let found = differences.spans.iter().any(|span| {
                    let call = &span.witness;
                    call.arch == native && call.name.as_deref() == Some("mount")
                });
                assert!(found, "{differences:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    // A filter that was there before ours and allows everything changes nothing.
    let both = vec![allow, enforcement.program().clone()];
    assert!(matches!(enforcement.verify(Ok(both), Listeners::default), Ok(Verified::Yes { .. })));
}

#[test]
fn a_process_confines_itself_with_all_its_threads() {
    let output = again("confine").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("this thread: 99, the other: 99"), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_ordinary_user_is_confined_too_and_told_that_it_is_not_verified() {
    let Some(text) = as_nobody("unprivileged") else {
        return;
    };
    assert!(text.contains("exec: 1\n"), "{text}");
    assert!(text.contains("status: Some(3)"), "{text}");
    assert!(text.contains("CAP_SYS_ADMIN"), "why it is not verified: {text}");
}

#[test]
fn when_the_filter_cannot_be_loaded_the_program_does_not_run() {
    let Some(text) = as_nobody("keep-privileges") else {
        return;
    };
    assert!(text.contains("refused: 125"), "{text}");
    assert!(!text.contains("the program ran"), "{text}");
}

/// The output of a role played by an unprivileged user, if this can be made one.
fn as_nobody(role: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {role}: only root can become another user");
        return None;
    }
    let inner = again(role);
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(inner.get_program()).args(inner.get_args());
    // Built by the one who may.
    command.env("STRAIT_TEST_ROLE", role).env("STRAIT_TEST_VICTIM", victim::program());
    match command.output() {
        Ok(output) => {
            Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        }
        Err(error) => {
            eprintln!("SKIP {role}: no setpriv: {error}");
            None
        }
    }
}

#[test]
fn a_signal_to_the_launcher_alone_reaches_the_program() {
    let mut launcher = again("wait").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(launcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("ready")));
    kill_process(Pid::from_child(&launcher), Signal::TERM).unwrap();
    assert!(lines.any(|line| line.contains("ended: Some(42) interrupted: Some(15)")));
    assert_eq!(launcher.wait().unwrap().code(), Some(42));
}

#[test]
fn a_program_ended_by_a_signal_ends_the_launcher_by_it() {
    assert_eq!(again("killed").status().unwrap().signal(), Some(10));
}

#[test]
fn a_stopped_program_stops_the_launcher_until_it_is_continued() {
    let mut launcher = again("stop").stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&launcher);
    until(|| Task::read(pid, pid).unwrap().state == 'T');
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(launcher.wait().unwrap().code(), Some(7));
}

#[test]
fn ctrl_c_reaches_the_program_once_and_the_launcher_waits_for_it() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap();
    let path = OsStr::new(path.to_str().unwrap()).to_owned();
    let side = || File::options().read(true).write(true).open(&path).unwrap();
    let inner = again("terminal");
    // setsid(1) makes the terminal that of a session of its own, with the launcher in front.
    let launcher = std::process::Command::new("setsid")
        .args(["--ctty", "--wait"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("STRAIT_TEST_ROLE", "terminal")
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn();
    let mut launcher = match launcher {
        Ok(launcher) => launcher,
        Err(error) => {
            eprintln!("SKIP ctrl_c_reaches_the_program_once: no setsid: {error}");
            return;
        }
    };
    let mut text = String::new();
    let mut lines = BufReader::new(File::from(terminal.try_clone().unwrap())).lines();
    for line in &mut lines {
        text.push_str(&line.unwrap());
        if text.contains("ready") {
            break;
        }
    }
    rustix::io::write(&terminal, b"\x03").unwrap();
    // The other side is closed when the last process of the session ends: EIO.
    lines.map_while(Result::ok).for_each(|line| text.push_str(&format!("{line}\n")));
    assert_eq!(text.matches("interrupted!").count(), 1, "{text}");
    assert!(text.contains("ended: Some(42) interrupted: Some(2)"), "{text}");
    launcher.wait().unwrap();
}

#[test]
fn a_launcher_killed_at_any_moment_leaves_nothing_unconfined_waiting_or_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("modes");
    File::create(&file).unwrap();
    // What the launcher starts carries this in its environment.
    let mark = format!("STRAIT_TEST_FILE={}", file.display());
    for i in 0..60 {
        let mut launcher = again("launch-for-ever")
            .env("STRAIT_TEST_FILE", &file)
            .env("STRAIT_TEST_VICTIM", victim::program())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not a clock to rely on: each round ends it at another moment, in a loop of starts.
        thread::sleep(Duration::from_micros(8_000 + 211 * i));
        launcher.kill().unwrap();
        launcher.wait().unwrap();
    }
    until(|| with_environment(&mark).is_empty());
    let modes = std::fs::read_to_string(&file).unwrap();
    assert!(modes.lines().count() > 0, "some programs ran");
    assert!(modes.lines().all(|line| line == "Seccomp:\t2"), "{modes}");
}

/// The processes that have this variable in their environment.
fn with_environment(variable: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let has_it = processes.filter(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
    });
    has_it.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

/// Not a test: what the tests above run as processes of their own.
#[test]
fn role() {
    let Some(role) = env::var_os("STRAIT_TEST_ROLE") else {
        return;
    };
    let deny_exec = all_but(&[("execve", Action::Errno(1))]);
    match role.to_str().unwrap() {
        "unprivileged" => {
            let victim = env::var_os("STRAIT_TEST_VICTIM").unwrap();
            let started = start(&command(&victim, "exec /bin/true exit 3"), &deny_exec).unwrap();
            let status = started.child.wait().unwrap();
            println!("status: {:?} verified: {:?}", status.code(), started.verified);
        }
        "keep-privileges" => {
            let load = LoadOptions { privileges: Privileges::Keep, ..LoadOptions::default() };
            let enforcement = Enforcement::new(&deny_exec, &Options::default(), load).unwrap();
            let command = Command::new(OsStr::new("echo"), ["the program ran".into()]).unwrap();
            let error = enforcement.start(PendingChild::fork(&command).unwrap()).unwrap_err();
            println!("refused: {}", error.exit_status());
        }
        "launch-for-ever" => {
            let [victim, file] =
                ["STRAIT_TEST_VICTIM", "STRAIT_TEST_FILE"].map(|name| env::var_os(name).unwrap());
            let words = format!("note-mode {} exit 0", file.to_str().unwrap());
            loop {
                let started = start(&command(&victim, &words), &deny_exec).unwrap();
                started.child.wait().unwrap();
            }
        }
        "confine" => {
            let (begin, wait) = std::sync::mpsc::channel::<()>();
            let other = thread::spawn(move || {
                wait.recv().unwrap();
                umount_errno()
            });
            confine(&all_but(&[("umount2", Action::Errno(99))]), Threads::All).unwrap();
            let here = umount_errno();
            begin.send(()).unwrap();
            println!("this thread: {here}, the other: {}", other.join().unwrap());
        }
        "wait" => run("trap 'exit 42' TERM; echo ready; while :; do :; done"),
        "terminal" => run("trap 'echo interrupted!' INT; echo ready; \
             for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; done; exit 42"),
        "killed" => run("kill -USR1 $$"),
        "stop" => run("kill -STOP $$; exit 7"),
        other => panic!("no role {other}"),
    }
}

/// What umount2(2) of nothing fails with.
fn umount_errno() -> i32 {
    let done = rustix::mount::unmount("", rustix::mount::UnmountFlags::empty());
    done.unwrap_err().raw_os_error()
}

/// Runs a script as `strait run` does, and ends as it ended.
fn run(script: &str) -> ! {
    let command = Command::new(OsStr::new("sh"), ["-c".into(), script.into()]).unwrap();
    let pending = PendingChild::fork(&command).unwrap();
    let relay = Relay::install().unwrap();
    let started = enforcement(&all_but(&[])).start(pending).unwrap();
    let ended = wait::until_end(&started.child, &relay).unwrap();
    println!("ended: {:?} interrupted: {:?}", ended.status.code(), ended.interrupted_by);
    signal::end_as(ended.status)
}
