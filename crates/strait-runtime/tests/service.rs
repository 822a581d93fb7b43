//! The supervisor that makes calls on the network, as a library: how many workloads one process has it
//! for, and what is left when they have ended.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::command::Command;
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::signal::Relay;
use strait_policy::Policy;
use strait_runtime::launch::{Enforcement, Started};
use strait_runtime::network::Service;
use strait_runtime::steps::Steps;
use strait_runtime::supervise::{Answering, Supervisor};
use strait_runtime::wait;
use strait_testkit::script::{PYTHON, has_python};

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  network: {connect: ['127.0.0.1:*']}
";

/// The threads of this process that are a supervisor's, and the listeners that it holds.
fn left() -> (Vec<String>, usize) {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let name = fs::read_to_string(task.unwrap().path().join("comm")).ok()?;
        name.starts_with("strait-").then(|| name.trim().to_owned())
    });
    let listeners = fs::read_dir("/proc/self/fd").unwrap().filter(|fd| {
        let target = fs::read_link(fd.as_ref().unwrap().path());
        target.is_ok_and(|target| target.to_string_lossy().contains("seccomp notify"))
    });
    (names.collect(), listeners.count())
}

/// Tests count this process's threads, which are those of all of them.
static ALONE: Mutex<()> = Mutex::new(());

/// A workload under a supervisor of its own.
struct Supervised {
    started: Started,
    service: Service,
}

/// Runs a script of Python with `network`.
fn supervised(script: &str) -> Supervised {
    let policy = Policy::parse(POLICY).unwrap();
    let network = policy.network.clone().unwrap();
    let steps = Steps::of(&policy, None).unwrap();
    let load = LoadOptions::default();
    let enforcement = Enforcement::supervised(steps.loaded(), &Options::default(), load).unwrap();
    let command = Command::new(PYTHON.as_ref(), ["-S", "-c", script].map(Into::into)).unwrap();
    let mut started = enforcement.start(PendingChild::fork(&command).unwrap()).unwrap();
    let listener = started.child.take_listener().unwrap();
    let child = started.child.pid();
    let supervisor = Supervisor::new(listener, child, policy, steps, Answering::Enforce);
    let service = Service::start(supervisor, network, Box::new(|_| ())).unwrap();
    Supervised { started, service }
}

fn until_no_thread_is_left() {
    let begin = Instant::now();
    while !left().0.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?} are left", left());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn its_threads_end_with_the_workload() {
    if !has_python("its_threads_end_with_the_workload") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // It connects, so that the watch has had something to look after.
    let supervised = supervised(
        "import socket\ntry: socket.create_connection(('127.0.0.1', 1))\nexcept OSError: pass",
    );
    assert_eq!(left().1, 1);
    wait::until_end(&supervised.started.child, &Relay::install().unwrap()).unwrap();
    until_no_thread_is_left();
    // What was counted can still be asked for.
    assert_eq!(supervised.service.counted().1, 0);
    drop(supervised);
    assert_eq!(left().1, 0);
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn one_process_supervises_a_hundred_workloads() {
    if !has_python("one_process_supervises_a_hundred_workloads") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // All connect to here until each has been taken thirty times, and to where they may not.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "import socket, errno\nok = 0\nfor i in range(30):\n  s = socket.create_connection(('127.0.0.1', {port}))\n  \
         ok += s.recv(1) == b'x'; s.close()\n  \
         try: socket.socket().connect(('127.0.0.2', {port})); ok = -99\n  \
         except OSError as e: ok += e.errno == errno.EACCES\nraise SystemExit(0 if ok == 60 else 1)"
    );
    let before = peak();
    let workloads: Vec<Supervised> = (0..100).map(|_| supervised(&script)).collect();
    for _ in 0..100 * 30 {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"x").unwrap();
    }
    let relay = Relay::install().unwrap();
    for Supervised { started, service } in &workloads {
        let ended = wait::until_end(&started.child, &relay).unwrap();
        assert_eq!(ended.status.code(), Some(0));
        let denied: u64 = service.counted().0.iter().map(|counted| counted.count).sum();
        assert_eq!(denied, 30);
    }
    let grown = peak() - before;
    assert!(grown < 64 << 10, "{grown} KiB for 100 workloads");
    until_no_thread_is_left();
    drop(workloads);
    assert_eq!(left().1, 0);
}
