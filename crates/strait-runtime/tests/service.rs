//! The supervisor that makes calls on the network, as a library: what is left of it when its workload has
//! ended.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::command::Command;
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::signal::Relay;
use strait_policy::Policy;
use strait_runtime::launch::Enforcement;
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

#[test]
fn its_threads_end_with_the_workload() {
    if !has_python("its_threads_end_with_the_workload") {
        return;
    }
    let policy = Policy::parse(POLICY).unwrap();
    let network = policy.network.clone().unwrap();
    let steps = Steps::of(&policy, None).unwrap();
    let load = LoadOptions::default();
    let enforcement = Enforcement::supervised(steps.loaded(), &Options::default(), load).unwrap();
    // It connects, so that the watch has had something to look after.
    let script =
        "import socket\ntry: socket.create_connection(('127.0.0.1', 1))\nexcept OSError: pass";
    let words = ["-c", script].map(Into::into);
    let command = Command::new(PYTHON.as_ref(), words).unwrap();
    let mut started = enforcement.start(PendingChild::fork(&command).unwrap()).unwrap();
    let listener = started.child.take_listener().unwrap();
    let child = started.child.pid();
    let supervisor = Supervisor::new(listener, child, policy, steps, Answering::Enforce);
    let service = Service::start(supervisor, network, Box::new(|_| ())).unwrap();
    assert_eq!(left().1, 1);
    wait::until_end(&started.child, &Relay::install().unwrap()).unwrap();
    let begin = Instant::now();
    while !left().0.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?} are left", left());
        thread::sleep(Duration::from_millis(5));
    }
    // What was counted can still be asked for.
    assert_eq!(service.counted().1, 0);
    drop(service);
    assert_eq!(left().1, 0);
}
