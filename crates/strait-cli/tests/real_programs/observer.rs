//! An independent observer in the same run: what `strace -f` saw of a workload, the recording has, as
//! often, and nothing else.

use std::collections::BTreeMap;

use serde_json::Value;
use strait_abi::Arch;

use crate::bench::{Bench, have, is_root, show};
use crate::servers;

#[test]
fn python_is_recorded_as_strace_sees_it() {
    let script = "
import subprocess, threading, json, socket, tempfile
threads = [threading.Thread(target=lambda: json.dumps(list(range(999)))) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
subprocess.run(['ls', '/'], capture_output=True)
socket.create_server(('127.0.0.1', 0)).close()
with tempfile.TemporaryFile() as f: f.write(b'x')";
    same_as_strace("python_is_recorded_as_strace_sees_it", &["python3"], |_| {
        vec!["python3".to_owned(), "-c".to_owned(), script.to_owned()]
    });
}

#[test]
fn programs_that_take_one_path_are_recorded_as_strace_sees_them() {
    let name = "programs_that_take_one_path_are_recorded_as_strace_sees_them";
    for command in [
        &["ls", "-la", "/usr/bin"][..],
        &["sh", "-c", "ls /nonexistent; for i in 1 2 3; do ls / | wc -l; done"],
        &["sqlite3", ":memory:", "create table t(a); insert into t values(1); select * from t"],
    ] {
        same_as_strace(name, &command[..1], |_| {
            command.iter().map(|&word| word.to_owned()).collect()
        });
    }
}

#[test]
fn nginx_is_recorded_as_strace_sees_it() {
    let name = "nginx_is_recorded_as_strace_sees_it";
    same_as_strace(name, &["nginx", "curl"], |bench| vec!["sh".into(), servers::nginx(bench)]);
}

#[test]
fn redis_is_recorded_as_strace_sees_it() {
    let name = "redis_is_recorded_as_strace_sees_it";
    same_as_strace(name, &["redis-server", "redis-cli", "redis-benchmark"], |bench| {
        vec!["sh".into(), servers::redis(bench)]
    });
}

fn same_as_strace(name: &str, programs: &[&str], command: impl Fn(&Bench) -> Vec<String>) {
    if !have(name, &[programs, &["strace"]].concat()) {
        return;
    }
    if !is_root() {
        // ptrace, which is left without privileges, cannot share a process with strace.
        return strait_testkit::skip(name, "recording beside strace needs eBPF, so root");
    }
    let bench = Bench::new();
    let (trace, recording) = (bench.path("trace"), bench.path("recording.json"));
    let output = bench
        .strait(&["record", "--engine", "ebpf", "-o", &recording, "--"])
        .args(["strace", "-f", "-o", &trace])
        .args(command(&bench))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", show(&output));

    let seen = counts_in(&std::fs::read_to_string(trace).unwrap());
    let recording: Value =
        serde_json::from_str(&std::fs::read_to_string(recording).unwrap()).unwrap();
    let recorded = counts_of_all_but_strace(&recording);
    let names = |counts: &BTreeMap<String, u64>| counts.keys().cloned().collect::<Vec<_>>();
    assert!(seen.len() > 15, "strace saw too little to compare: {seen:?}");
    assert_eq!(names(&recorded), names(&seen), "recorded, and seen by strace");
    assert_eq!(recorded, seen, "recorded, and seen by strace");
}

/// How often each call stands in the output of `strace -f`, but for the exec of the command itself,
/// which is strace's child's.
fn counts_in(trace: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in trace.lines().skip(1) {
        // `PID name(…`, or `PID <... name resumed>`, or `PID --- SIG…` and `PID +++ exited…`.
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let name = rest.split('(').next().unwrap();
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn counts_of_all_but_strace(recording: &Value) -> BTreeMap<String, u64> {
    let images = recording["images"].as_array().unwrap();
    let mut counts = BTreeMap::new();
    for call in recording["calls"].as_array().unwrap() {
        let image = &images[usize::try_from(call["image"].as_u64().unwrap()).unwrap()];
        if image["path"].as_str().unwrap().ends_with("/strace") {
            continue;
        }
        let nr = u32::try_from(call["nr"].as_u64().unwrap()).unwrap();
        let name = Arch::X86_64.syscall(nr).unwrap().name().to_owned();
        *counts.entry(name).or_default() += call["outcomes"]["count"].as_u64().unwrap();
    }
    counts
}
