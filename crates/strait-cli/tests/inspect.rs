//! Inspecting every process, in a pid namespace of the test's own, so that nobody else's processes
//! are stopped and no other test's are seen. Needs root and no filter of our own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod namespace;

use std::fs;

use namespace::Namespace;
use serde_json::Value;
use strait_testkit::script::{PYTHON, Talk, has_python};

fn by_pid<'v>(machine: &'v Value, pid: &str) -> &'v Value {
    let pid: i64 = pid.parse().unwrap();
    let mut processes = machine["processes"].as_array().unwrap().iter();
    processes.find(|process| process["pid"] == pid).unwrap_or_else(|| panic!("{pid}: {machine:#}"))
}

#[test]
fn every_kind_of_process_has_a_status_of_its_own() {
    let Some(namespace) = Namespace::new("every_kind_of_process") else { return };
    let confined = namespace.victim(&[], "filters 10 threads 3");
    let plain = namespace.victim(&[], "threads 1");
    let differing = namespace.victim(&[], "threads 2 thread-filter");
    let zombie = namespace.victim(&[], "fork-zombie");
    let zombie = zombie.lines[0].strip_prefix("zombie ").unwrap().to_owned();
    let sleeping = namespace.victim(&[], "filters 1 vfork");
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let other_user = namespace.victim(&user, "filters 2");
    let traced = namespace.victim(&["strace", "-o", "/dev/null"], "filters 1");
    let nested = namespace.victim(&["unshare", "--pid", "--fork", "--kill-child"], "filters 3");
    // Processes that begin and end all the while.
    let _churn = namespace.start(&["sh", "-c", "while :; do /bin/true; done"]);

    let output = namespace.strait(&["inspect", "--all", "--json"]);
    let machine: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Some could not be read.
    assert_eq!(output.status.code(), Some(3), "{machine:#}");
    let status = |pid: &str| by_pid(&machine, pid)["status"].as_str().unwrap().to_owned();
    let first = |pid: &str| by_pid(&machine, pid)["threads"][0].clone();

    assert_eq!(status(&confined.pid), "filtered");
    let threads = by_pid(&machine, &confined.pid)["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 4);
    assert!(threads.iter().all(|thread| thread["filters"] == 10 && thread["reading"] == "read"));
    let stack = by_pid(&machine, &confined.pid)["stacks"][0].as_str().unwrap();
    let stack = &machine["stacks"][stack];
    assert_eq!(stack["filters"].as_array().unwrap().len(), 10);
    let x86_64 = stack["summary"].as_array().unwrap().iter().find(|one| one["arch"] == "x86_64");
    assert!(x86_64.is_none_or(|one| one["denied"] == 0), "the numbers 1000… are no calls");

    assert_eq!(status(&plain.pid), "unconfined");
    assert_eq!(first(&plain.pid)["stoppedMicroseconds"], 0);
    assert_eq!(status(&differing.pid), "threads-differ");
    assert_eq!(by_pid(&machine, &differing.pid)["alarms"][0]["alarm"], "threads-differ");
    assert_eq!(status(&zombie), "zombie");
    assert_eq!(status(&sleeping.pid), "unknown");
    assert_eq!(first(&sleeping.pid)["reading"], "not-stopping");
    assert_eq!(status(&other_user.pid), "filtered");
    assert_eq!(by_pid(&machine, &other_user.pid)["user"], 65534);
    assert_eq!(status(&traced.pid), "unknown");
    assert_eq!(first(&traced.pid)["reading"], "traced");
    assert!(first(&traced.pid)["tracer"].as_i64().unwrap() > 0);
    assert_eq!(status(&nested.pid), "filtered");
    assert_eq!(by_pid(&machine, &nested.pid)["innerPid"], 1);
    for missed in machine["missed"].as_array().unwrap() {
        assert!(missed["status"] == "vanished" || missed["status"] == "reused", "{missed}");
    }
    assert!(machine["stops"]["threads"].as_u64().unwrap() > 6);

    let text = String::from_utf8(namespace.strait(&["inspect", "--all"]).stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{} ", confined.pid))).unwrap();
    assert!(line.contains("filtered") && line.contains("10"), "{line}");
    assert!(text.contains("threads to read their filters"), "{text}");

    // Nothing is stopped, and nobody is asked, with --no-stop.
    let output = namespace.strait(&["inspect", "--all", "--no-stop", "--json"]);
    let machine: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(machine["stops"]["threads"], 0);
    assert_eq!(by_pid(&machine, &confined.pid)["threads"][0]["reading"], "not-asked");
    assert_eq!(output.status.code(), Some(1), "threads that differ are seen by their counts");
}

#[test]
fn inspecting_that_is_killed_in_the_middle_leaves_nobody_stopped() {
    let Some(namespace) = Namespace::new("inspecting_that_is_killed") else { return };
    let victim = namespace.victim(&[], "filters 20 fork 100 threads 10");
    for i in 0..12_u64 {
        let strait = namespace.start(&[env!("CARGO_BIN_EXE_strait"), "inspect", "--all"]);
        // Not a clock to rely on: each round ends it at another moment.
        std::thread::sleep(std::time::Duration::from_millis(2 + 3 * i));
        drop(strait);
    }
    let stopped = |pid: i32| -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let traced = !status.contains("TracerPid:\t0\n") || status.contains("State:\tt");
        traced.then_some(status)
    };
    let pids = namespace.processes();
    assert!(pids.len() > 100, "{pids:?}");
    // The kernel detaches while the killed tracer ends.
    let mut left: Vec<String> = Vec::new();
    for _ in 0..500 {
        left = pids.iter().filter_map(|&pid| stopped(pid)).collect();
        if left.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(left, Vec::<String>::new());
    drop(victim);
}

#[test]
fn two_thousand_confined_processes_are_decided_once_in_little_memory() {
    let Some(namespace) = Namespace::new("two_thousand_confined_processes") else { return };
    let _victim = namespace.victim(&[], "filters 3 fork 2000");
    // Prints the peak of the resident memory of what it ran, in KiB.
    let measure = "import resource, subprocess, sys\n\
                   done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n\
                   print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.returncode)";
    let strait = env!("CARGO_BIN_EXE_strait");
    for arguments in [&["--all"][..], &["--all", "--json"]] {
        let command = [&["python3", "-c", measure, strait, "inspect"][..], arguments].concat();
        let output = namespace.run(&command);
        let text = String::from_utf8(output.stdout).unwrap();
        let (memory, status) = text.trim().split_once(' ').unwrap();
        assert_eq!(status, "0");
        assert!(memory.parse::<u64>().unwrap() < 100 * 1024, "{memory} KiB");
    }
    let output = namespace.strait(&["inspect", "--all", "--json"]);
    let machine: Value = serde_json::from_slice(&output.stdout).unwrap();
    let filtered = machine["processes"].as_array().unwrap().iter();
    assert_eq!(filtered.filter(|process| process["status"] == "filtered").count(), 2001);
    let stacks = machine["stacks"].as_object().unwrap().values();
    assert_eq!(stacks.filter(|stack| !stack["filters"].as_array().unwrap().is_empty()).count(), 1);
}

/// A process may call itself anything, and no line that it makes up is taken for one of ours.
#[test]
fn a_name_with_a_line_break_forges_no_line() {
    if !has_python("a_name_with_a_line_break_forges_no_line") {
        return;
    }
    let script =
        "open('/proc/self/comm', 'w').write('x\\nALARM\\x1b[2J'); print('up', flush=True); input()";
    let mut talk = Talk::start(std::process::Command::new(PYTHON).args(["-c", script]));
    assert_eq!(talk.line(), "up");
    let strait = std::process::Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["inspect", "--pid", &talk.id().to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(strait.stdout).unwrap();
    assert!(text.contains(r"x\nALARM\u{1b}[2J"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("ALARM")), "{text}");
}
