//! Inspecting and verifying real processes. Needs CAP_SYS_ADMIN and no filter of our own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_compiler::Options;
use strait_kernel::child::{Child, PendingChild};
use strait_kernel::command::{Command, Stream};
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::task::{CAP_SYS_ADMIN, Mode, Task};
use strait_policy::Rules;
use strait_policy::rules::Table;
use strait_runtime::inspect::{Alarm, Depth, Held, InspectError, Inspector, Reading, Status};
use strait_runtime::launch::Enforcement;
use strait_runtime::listeners::Listeners;
use strait_runtime::verdict::{Intent, Verdict};
use strait_runtime::verify::{Judgement, Outcome, verify};
use strait_testkit::victim;

/// A victim that has said what it has to say and waits for the end of its input.
struct Victim {
    child: Child,
    _input: io::PipeWriter,
    lines: Vec<String>,
}

impl Victim {
    fn start(words: &str, rules: Option<&Rules>) -> Victim {
        let (stdin, input) = io::pipe().unwrap();
        let (output, stdout) = io::pipe().unwrap();
        let words = words.split(' ').chain(["ready", "wait"]).map(OsString::from);
        let command = Command::new(victim::program().as_os_str(), words)
            .unwrap()
            .redirect(Stream::Stdin, OwnedFd::from(stdin))
            .redirect(Stream::Stdout, OwnedFd::from(stdout));
        let pending = PendingChild::fork(&command).unwrap();
        drop(command);
        let child = match rules {
            None => pending.exec(None).unwrap(),
            Some(rules) => {
                let load = LoadOptions::default();
                let enforcement = Enforcement::new(rules, &Options::default(), load).unwrap();
                enforcement.start(pending).unwrap().child
            }
        };
        let lines = BufReader::new(output).lines().map(Result::unwrap);
        let lines = lines.take_while(|line| line != "ready").collect();
        Victim { child, _input: input, lines }
    }

    fn pid(&self) -> Pid {
        self.child.pid()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn can_inspect(test: &str) -> bool {
    let own = rustix::process::getpid();
    let task = Task::read(own, own).unwrap();
    let can = task.capabilities.has_effective(CAP_SYS_ADMIN) && task.mode == Mode::Disabled;
    if !can {
        eprintln!("SKIP {test}: needs CAP_SYS_ADMIN and no filter of its own");
    }
    can
}

fn number(name: &str) -> u32 {
    Syscall::from_name(name).unwrap().number(Arch::NATIVE.unwrap()).unwrap()
}

/// Rules that deny these calls and execve, and allow all others of this machine's ABI.
fn all_but(denied: &[&str]) -> Rules {
    let mut table = Table::new(Action::Allow);
    for name in denied.iter().chain(&["execve"]) {
        table.set(number(name), number(name), Action::Errno(1));
    }
    Rules::new(Action::KillProcess).with_table(Arch::NATIVE.unwrap().audit_arch(), table)
}

fn outcome(victim: &Victim, rules: &Rules) -> (Outcome, Vec<Judgement>) {
    let intent = Intent::new(rules).unwrap();
    let verification = verify(&mut Inspector::default(), victim.pid(), &intent).unwrap();
    (verification.outcome, verification.judged.into_iter().map(|j| j.judgement).collect())
}

#[test]
fn a_process_of_the_launcher_holds_and_says_so_in_json() {
    if !can_inspect("a_process_of_the_launcher_holds") {
        return;
    }
    let rules = all_but(&["mount"]);
    let victim = Victim::start("threads 4", Some(&rules));
    let intent = Intent::new(&rules).unwrap();
    let verification = verify(&mut Inspector::default(), victim.pid(), &intent).unwrap();
    assert_eq!(verification.outcome, Outcome::Holds, "{verification:?}");
    assert_eq!(verification.process.alarms, []);
    let json = serde_json::to_value(&verification).unwrap();
    assert_eq!(json["outcome"], "holds");
    assert_eq!(json["judged"][0]["verdict"], "holds");
    assert_eq!(json["judged"][0]["threads"].as_array().unwrap().len(), 5);
    assert!(json["judged"][0]["gate"]["state"].is_string(), "{json:#}");
    let thread = &json["process"]["threads"][0];
    assert_eq!((&thread["mode"], &thread["reading"]), (&"filter".into(), &"read".into()));
    assert_eq!(thread["noNewPrivs"], true);
    assert!(
        thread["stoppedMicroseconds"].is_u64() && thread["capabilities"]["effective"].is_string()
    );
    let summary = &json["process"]["stacks"][0]["summary"][0];
    assert_eq!(summary["denied"], 2, "mount and execve: {summary}");
    assert_eq!(summary["conditional"], 0, "{summary}");
    assert_eq!(json["process"]["stacks"][0]["filters"][0]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn what_more_filters_deny_is_tighter_and_what_fewer_allow_is_drift() {
    if !can_inspect("what_more_filters_deny") {
        return;
    }
    let rules = all_but(&["mount"]);
    let victim = Victim::start("filters 1", Some(&rules));
    let (tighter, judgements) = outcome(&victim, &rules);
    assert_eq!(tighter, Outcome::Tighter);
    let [Judgement::Verdict(Verdict::Tighter { differences, gate: Some(_) })] = &judgements[..]
    else {
        panic!("{judgements:?}");
    };
    assert!(differences.spans.iter().any(|span| span.numbers == [1000, 1000]), "{differences:?}");

    let (drift, judgements) = outcome(&victim, &all_but(&["mount", "umount2"]));
    assert_eq!(drift, Outcome::Drift);
    let [Judgement::Verdict(Verdict::Drift { permits_more: true, differences })] = &judgements[..]
    else {
        panic!("{judgements:?}");
    };
    let more: Vec<_> = differences.spans.iter().filter(|span| span.installed == "allow").collect();
    assert_eq!(more.len(), 1);
    assert_eq!(more[0].witness.name.as_deref(), Some("umount2"));
    assert_eq!(more[0].intended, "errno(1)");

    let unconfined = Victim::start("threads 1", None);
    assert_eq!(outcome(&unconfined, &rules).0, Outcome::Drift);
}

#[test]
fn threads_that_differ_are_an_alarm_and_the_worst_decides() {
    if !can_inspect("threads_that_differ") {
        return;
    }
    let victim = Victim::start("threads 5 thread-filter", Some(&all_but(&["mount"])));
    let process = Inspector::default().inspect(victim.pid()).unwrap();
    let [Alarm::ThreadsDiffer { groups }] = &process.alarms[..] else {
        panic!("{:?}", process.alarms);
    };
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [6, 1]);
    assert_eq!(process.stacks.len(), 2);
    assert_eq!(outcome(&victim, &all_but(&["mount"])).0, Outcome::Tighter);

    let json: Value = serde_json::to_value(&process).unwrap();
    assert_eq!(json["alarms"][0]["alarm"], "threads-differ");
    assert_eq!(json["alarms"][0]["groups"][0].as_array().unwrap().len(), 6);

    // Without stopping anybody the numbers of filters tell.
    let process = Inspector::new(Depth::Status).inspect(victim.pid()).unwrap();
    assert_eq!(process.alarms.len(), 1);
    assert!(process.threads.iter().all(|thread| thread.reading == Reading::NotAsked));
}

#[test]
fn who_holds_a_listener_is_found() {
    let holder = Victim::start("hold-listener", None);
    let other = Victim::start("drop-listener", None);
    let listeners = Listeners::look();
    let holds = |victim: &Victim| {
        let pid = u32::try_from(victim.pid().as_raw_pid()).unwrap();
        listeners.holders.iter().any(|holder| holder.pid == pid)
    };
    assert!(holds(&holder));
    assert!(!holds(&other));
    assert!(!listeners.none_is_open());
}

#[test]
fn threads_that_come_and_go_are_no_alarm() {
    if !can_inspect("threads_that_come_and_go") {
        return;
    }
    let victim = Victim::start("churn", Some(&all_but(&["mount"])));
    let mut inspector = Inspector::default();
    for _ in 0..100 {
        let process = inspector.inspect(victim.pid()).unwrap();
        assert_eq!(process.alarms, [], "{process:?}");
        assert_eq!(process.stacks.len(), 1);
    }
}

#[test]
fn who_has_the_id_of_a_process_that_ended_is_not_taken_for_it() {
    let sleep = || std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut first = sleep();
    let pid = Pid::from_child(&first);
    let held = Held::new(pid).unwrap();
    assert_eq!(held.pid(), pid);
    held.check().unwrap();
    let end = |mut child: std::process::Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(matches!(held.check(), Err(InspectError::Gone { .. } | InspectError::Reused { .. })));

    // The next process gets the id after this one, if nobody else is faster.
    let last = std::path::Path::new("/proc/sys/kernel/ns_last_pid");
    let again = (0..500).find_map(|_| {
        std::fs::write(last, (pid.as_raw_pid() - 1).to_string()).ok()?;
        let child = sleep();
        if Pid::from_child(&child) == pid {
            return Some(child);
        }
        end(child);
        None
    });
    let Some(again) = again else {
        let reason = "no process could be given an id of choice";
        return strait_testkit::skip("who_has_the_id_of_a_process_that_ended", reason);
    };
    let inspected = Inspector::default().inspect_held(&held);
    assert!(matches!(inspected, Err(InspectError::Reused { .. })), "{inspected:?}");
    let other = Inspector::new(Depth::Status).inspect(pid).unwrap();
    assert_eq!((other.name.as_str(), other.status), ("sleep", Status::Unconfined));
    end(again);
}

#[test]
fn what_is_no_living_process_is_told() {
    let pid = |raw| Pid::from_raw(raw).unwrap();
    let mut inspector = Inspector::default();
    assert!(matches!(inspector.inspect(pid(i32::MAX)), Err(InspectError::Gone { .. })));

    let victim = Victim::start("fork-zombie threads 1", None);
    let zombie: i32 = victim.lines[0].strip_prefix("zombie ").unwrap().parse().unwrap();
    // The victim has forked it, and it ends in its own time.
    let ended = (0..1000).any(|_| {
        let process = inspector.inspect(pid(zombie)).unwrap();
        let ended = process.threads[0].reading == Reading::Ended;
        if !ended {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        ended
    });
    assert!(ended);
    let intent = Intent::new(&all_but(&[])).unwrap();
    let verification = verify(&mut inspector, pid(zombie), &intent).unwrap();
    assert_eq!(verification.outcome, Outcome::Unknown);

    let thread = strait_kernel::task::threads(victim.pid()).unwrap()[1];
    assert!(matches!(inspector.inspect(thread), Err(InspectError::Thread { .. })));

    match Task::read(pid(2), pid(2)) {
        Ok(task) if task.kernel => {
            let process = inspector.inspect(pid(2)).unwrap();
            assert_eq!(process.status, Status::Kernel);
            assert_eq!(process.threads[0].reading, Reading::Kernel);
        }
        _ => eprintln!("SKIP a kernel thread: this pid namespace shows none"),
    }
}
