//! Reading filters back on the real kernel. Needs CAP_SYS_ADMIN and no filter of our own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::Pid;
use strait_bpf::{Action, SeccompData};
use strait_kernel::child::PendingChild;
use strait_kernel::dump::{self, DumpError};
use strait_kernel::task::{self, CAP_SYS_ADMIN, Mode, Task};
use strait_testkit::victim;

/// A victim that has said `ready`, or a line that starts with it, and waits.
struct Victim {
    child: Child,
    _input: ChildStdin,
    lines: Vec<String>,
}

impl Victim {
    fn start(words: &str) -> Victim {
        let mut child = Command::new(victim::program())
            .args(words.split(' '))
            .args(["ready", "wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = output.lines().map(Result::unwrap).take_while(|line| line != "ready").collect();
        Victim { child, _input: input, lines }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn task(&self) -> Task {
        Task::read(self.pid(), self.pid()).unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether filters can be read here; if not, says so.
fn can_dump(test: &str) -> bool {
    let own = rustix::process::getpid();
    let task = Task::read(own, own).unwrap();
    let can = task.capabilities.has_effective(CAP_SYS_ADMIN) && task.mode == Mode::Disabled;
    if !can {
        eprintln!("SKIP {test}: needs CAP_SYS_ADMIN and no filter of its own");
    }
    can
}

fn answer(filter: &strait_bpf::Program, nr: u32) -> Action {
    filter.run(&SeccompData::new(strait_abi::Arch::X86_64.audit_arch(), nr))
}

/// Whether nobody traces the thread and it is not stopped.
fn untouched(task: &Task) -> bool {
    task.tracer.is_none() && !matches!(task.state, 't' | 'T')
}

#[test]
fn ten_filters_come_back_in_the_order_they_were_loaded() {
    if !can_dump("ten_filters_come_back") {
        return;
    }
    let victim = Victim::start("filters 10");
    let dump = dump::filters(victim.pid()).unwrap();
    assert_eq!(dump.filters.len(), 10);
    for (filter, i) in dump.filters.iter().zip(0..) {
        assert_eq!(answer(filter, 1000 + i), Action::Errno(u16::try_from(i).unwrap() + 1));
        assert_eq!(answer(filter, 999), Action::Allow);
    }
    assert!(untouched(&victim.task()));
    assert_eq!(victim.task().filters, Some(10));
}

#[test]
fn a_process_without_filters_has_none() {
    if !can_dump("a_process_without_filters") {
        return;
    }
    let victim = Victim::start("threads 3");
    assert_eq!(dump::filters(victim.pid()).unwrap().filters, []);
}

#[test]
fn threads_are_read_one_by_one_and_may_differ() {
    if !can_dump("threads_are_read_one_by_one") {
        return;
    }
    let victim = Victim::start("filters 2 threads 5 thread-filter spin");
    let threads = task::threads(victim.pid()).unwrap();
    assert_eq!(threads.len(), 8);
    let mut counts: Vec<usize> = dump::filters_of(&threads, dump::PATIENCE)
        .into_iter()
        .map(|dump| dump.unwrap().filters.len())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 2, 2, 2, 2, 2, 3]);
    for thread in threads {
        assert!(untouched(&Task::read(victim.pid(), thread).unwrap()));
    }
}

#[test]
fn a_stopped_process_stays_stopped_and_a_waiting_signal_is_delivered() {
    if !can_dump("a_stopped_process_stays_stopped") {
        return;
    }
    let mut victim = Victim::start("filters 1");
    let pid = victim.pid();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    until(|| victim.task().state == 'T');
    assert_eq!(dump::filters(pid).unwrap().filters.len(), 1);
    until(|| victim.task().state == 'T');
    assert_eq!(victim.task().tracer, None);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    until(|| victim.task().state == 'S');
    // A storm of dumps and one signal that must get through.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let _ = dump::filters(pid);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&victim.child.wait().unwrap()),
        Some(15)
    );
}

#[test]
fn threads_that_vanish_are_gone_and_the_rest_is_read() {
    if !can_dump("threads_that_vanish") {
        return;
    }
    let victim = Victim::start("filters 1 churn");
    let mut read = 0;
    for _ in 0..200 {
        for dump in dump::filters_of(&task::threads(victim.pid()).unwrap(), dump::PATIENCE) {
            match dump {
                Ok(dump) => {
                    read += 1;
                    assert_eq!(dump.filters.len(), 1);
                }
                Err(DumpError::Gone { .. } | DumpError::Zombie { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(read >= 400, "the threads that stay were read each time: {read}");
    assert!(untouched(&victim.task()));
}

#[test]
fn a_thread_that_does_not_stop_is_let_go_and_the_others_are_read() {
    if !can_dump("a_thread_that_does_not_stop") {
        return;
    }
    let mut child = Command::new(victim::program())
        .args(["filters", "1", "threads", "2", "vfork"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = Pid::from_child(&child);
    until(|| Task::read(pid, pid).unwrap().state == 'D');
    let threads = task::threads(pid).unwrap();
    let dumps = dump::filters_of(&threads, dump::PATIENCE);
    assert!(matches!(dumps[0], Err(DumpError::NotStopping { .. })), "{dumps:?}");
    for dump in &dumps[1..] {
        assert_eq!(dump.as_ref().unwrap().filters.len(), 1);
    }
    for thread in threads {
        assert!(untouched(&Task::read(pid, thread).unwrap()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_has_no_filters_to_read_is_told_by_type() {
    if !can_dump("what_has_no_filters_to_read") {
        return;
    }
    let victim = Victim::start("fork-zombie");
    let zombie: i32 = victim.lines[0].strip_prefix("zombie ").unwrap().parse().unwrap();
    let error = |pid: i32| dump::filters(Pid::from_raw(pid).unwrap()).unwrap_err();
    until(|| {
        let read = dump::filters(Pid::from_raw(zombie).unwrap());
        matches!(read, Err(DumpError::Zombie { .. }))
    });
    assert!(matches!(error(i32::MAX), DumpError::Gone { .. }));
    assert!(matches!(error(rustix::process::getpid().as_raw_pid()), DumpError::Caller));
    match Task::read(Pid::from_raw(2).unwrap(), Pid::from_raw(2).unwrap()) {
        Ok(task) if task.kernel => assert!(matches!(error(2), DumpError::KernelThread { .. })),
        _ => eprintln!("SKIP a kernel thread: this pid namespace shows none"),
    }
}

#[test]
fn a_thread_that_is_traced_already_names_its_tracer() {
    if !can_dump("a_thread_that_is_traced_already") {
        return;
    }
    let command = strait_kernel::command::Command::new(OsStr::new("true"), []).unwrap();
    let child = PendingChild::fork(&command).unwrap();
    let pid = child.pid();
    let seized = child.seize().unwrap();
    match dump::filters(pid) {
        Err(DumpError::Traced { tracer, .. }) => {
            assert!(task::threads(rustix::process::getpid()).unwrap().contains(&tracer));
        }
        other => panic!("{other:?}"),
    }
    drop(seized);
    assert!(matches!(dump::filters(pid), Err(DumpError::Gone { .. })));
}

/// Not a test: what the next one runs and kills in the middle.
#[test]
fn dump_for_ever() {
    let Some(pid) = env::var_os("STRAIT_TEST_DUMP_FOR_EVER") else {
        return;
    };
    let pid = Pid::from_raw(pid.into_string().unwrap().parse().unwrap()).unwrap();
    loop {
        let threads = task::threads(pid).unwrap();
        drop(dump::filters_of(&threads, dump::PATIENCE));
    }
}

#[test]
fn killing_the_tracer_in_the_middle_leaves_nothing_stopped() {
    if !can_dump("killing_the_tracer_in_the_middle") {
        return;
    }
    let victim = Victim::start("filters 30 threads 20 spin");
    let threads = task::threads(victim.pid()).unwrap();
    for i in 0..40 {
        let mut tracer = Command::new(env::current_exe().unwrap())
            .args(["--exact", "dump_for_ever", "--nocapture"])
            .env("STRAIT_TEST_DUMP_FOR_EVER", victim.pid().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not a clock to rely on: each round ends it at another moment, in a loop of dumps.
        thread::sleep(Duration::from_micros(5_000 + 137 * i));
        tracer.kill().unwrap();
        tracer.wait().unwrap();
        for &thread in &threads {
            until(|| untouched(&Task::read(victim.pid(), thread).unwrap()));
        }
    }
}

#[test]
fn a_child_stops_at_exec_shows_its_filters_and_runs_on() {
    let arguments = ["exit".to_owned(), "9".to_owned()].map(OsString::from);
    let command =
        strait_kernel::command::Command::new(victim::program().as_os_str(), arguments).unwrap();
    let child = PendingChild::fork(&command).unwrap();
    let pid = child.pid();
    let stopped = child.seize().unwrap().exec(None).unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), victim::program());
    assert_eq!(Task::read(pid, pid).unwrap().state, 't');
    if can_dump("a_child_stops_at_exec") {
        assert_eq!(stopped.filters().unwrap(), []);
    }
    assert_eq!(stopped.release().unwrap().wait().unwrap().code(), Some(9));
}

#[test]
fn without_privilege_that_is_what_is_told() {
    if !can_dump("without_privilege") {
        return;
    }
    let setpriv = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "dump_without_privilege", "--nocapture"])
        .env("STRAIT_TEST_UNPRIVILEGED", "1")
        .output();
    let Ok(output) = setpriv else {
        eprintln!("SKIP without_privilege: no setpriv");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("told: Privilege"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test: what the one before runs as nobody.
#[test]
fn dump_without_privilege() {
    if env::var_os("STRAIT_TEST_UNPRIVILEGED").is_none() {
        return;
    }
    let command = strait_kernel::command::Command::new(OsStr::new("true"), []).unwrap();
    let child = PendingChild::fork(&command).unwrap();
    match dump::filters(child.pid()) {
        Err(DumpError::Privilege { .. }) => println!("told: Privilege"),
        other => println!("told: {other:?}"),
    }
}

/// Waits until it holds; fails after ten seconds, which is no measure but an end.
fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it does not come to hold");
        thread::sleep(Duration::from_millis(1));
    }
}
