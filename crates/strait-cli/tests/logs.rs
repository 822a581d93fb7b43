//! Logs of other tools where a recording is taken, as these tools write them here and now.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use strait_policy::{Policy, Recording};
use strait_testkit::{skip, victim};
use tempfile::TempDir;

fn strait(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir).output().unwrap()
}

/// What is observed: two programs, a file that is there and one that is not.
const SCRIPT: &str = "cat /etc/passwd /none; exit 0";

/// Runs the tool on the script, its output into `log`.
fn observe(dir: &Path, tool: &[&str]) -> bool {
    let mut command = Command::new(tool[0]);
    command.args(&tool[1..]).args(["sh", "-c", SCRIPT]).current_dir(dir);
    command.output().is_ok_and(|output| output.status.success()) && dir.join("log").exists()
}

/// The names of the calls that the policy allows which is generated from the log.
fn generated(dir: &Path) -> BTreeSet<String> {
    let output = strait(dir, &["generate", "log", "--name", "x"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}\n{log}");
    let policy = Policy::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let rules = policy.rules.iter().filter(|rule| rule.action == strait_bpf::Action::Allow);
    rules.flat_map(|rule| &rule.syscalls).map(|call| call.name().to_owned()).collect()
}

#[test]
fn what_strace_writes_is_a_recording() {
    for tool in [
        &["strace", "-f", "-o", "log"][..],
        &["strace", "-f", "-tt", "-o", "log"],
        &["strace", "-f", "-c", "-o", "log"],
    ] {
        let dir = TempDir::new().unwrap();
        if !observe(dir.path(), tool) {
            return skip("strace as a recording", "strace is not installed, or may not trace");
        }
        let calls = generated(dir.path());
        for call in ["execve", "openat", "read", "exit_group", "wait4"] {
            assert!(calls.contains(call), "{tool:?}: {calls:?}");
        }
    }
}

#[test]
fn every_line_of_strace_is_a_call_that_is_counted() {
    let dir = TempDir::new().unwrap();
    if !observe(dir.path(), &["strace", "-o", "log"]) {
        return skip("strace line by line", "strace is not installed, or may not trace");
    }
    let text = fs::read_to_string(dir.path().join("log")).unwrap();
    let recording: Recording =
        strait_policy::log::strace::import(&text, strait_abi::Arch::NATIVE.unwrap(), "6.18");
    let lines = text.lines().filter(|line| !line.starts_with(['+', '-'])).count();
    let counted: u64 = recording.calls().iter().map(|call| call.outcomes.count).sum();
    assert_eq!(usize::try_from(counted).unwrap(), lines, "{text}");
}

/// The caller does what makes it hard for a recorder, and says how often.
#[test]
fn strace_of_a_hard_program_is_what_the_program_says() {
    let test = "strace_of_a_hard_program_is_what_the_program_says";
    let dir = TempDir::new().unwrap();
    let program = dir.path().join(OsStr::from_bytes(b"a\nb\") = \xff"));
    fs::copy(victim::caller(), &program).unwrap();
    for options in [&["-f"][..], &["-f", "-y"], &["-f", "-ttt"]] {
        let output = Command::new("strace")
            .args(options)
            .args(["-o", "log"])
            .arg(&program)
            .args("table 2 children 9 3 bomb 3 2 stopped 2 2 killed threads 4 9".split(' '))
            .args(["thread-exec", "table,2,threads,3,3,daemon,4"])
            .current_dir(dir.path())
            .output();
        let Ok(output) = output else { return skip(test, "strace is not installed") };
        let mut said: BTreeMap<(String, u32), u64> = BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let call = (words[0].to_owned(), words[1].parse().unwrap());
            *said.entry(call).or_default() += words[2].parse::<u64>().unwrap();
        }
        // Threads are made by it too.
        said.remove(&("x86_64".to_owned(), 435));
        if said.is_empty() {
            return skip(test, "strace may not trace");
        }
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        let recording =
            strait_policy::log::strace::import(&text, strait_abi::Arch::NATIVE.unwrap(), "6.18");
        let completeness = recording.completeness();
        assert!(!completeness.is_lossy() && !completeness.interrupted, "{completeness:?}");
        let mut seen = BTreeMap::new();
        for call in recording.calls() {
            let key = (call.arch.name().to_owned(), call.nr);
            if said.contains_key(&key) {
                *seen.entry(key).or_default() += call.outcomes.count;
            }
        }
        assert_eq!(seen, said, "{options:?}");
        let images: Vec<&str> = recording.images().iter().map(|image| &*image.path).collect();
        assert!(images.iter().any(|path| path.ends_with(r#"/a\x0ab") = \xff"#)), "{images:?}");
    }
}

#[test]
fn what_perf_trace_writes_is_a_recording() {
    for tool in
        [&["perf", "trace", "-o", "log", "--"][..], &["perf", "trace", "-s", "-o", "log", "--"]]
    {
        let dir = TempDir::new().unwrap();
        if !observe(dir.path(), tool) {
            return skip("perf trace as a recording", "perf is not installed, or may not trace");
        }
        if fs::read_to_string(dir.path().join("log")).unwrap().contains("LOST") {
            return skip("perf trace as a recording", "perf lost events");
        }
        let calls = generated(dir.path());
        for call in ["execve", "openat", "read", "wait4"] {
            assert!(calls.contains(call), "{tool:?}: {calls:?}");
        }
    }
}

#[test]
fn what_the_kernel_logs_of_a_filter_is_a_recording() {
    let dir = TempDir::new().unwrap();
    let policy = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
        architectures: [x86_64, aarch64, riscv64]\n  default: allow\n  rules:\n    \
        - {syscalls: [uname], action: log}\n";
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    // A name of its own, by which its records are found among all others.
    let program = dir.path().join("audited");
    fs::copy("/bin/uname", &program).unwrap();
    let program = program.to_str().unwrap();
    let ran = strait(dir.path(), &["run", "--policy", "policy.yaml", "--", program, "-s"]);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let log = Command::new("dmesg").output().unwrap();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let records: Vec<&str> = log.lines().filter(|line| line.contains(program)).collect();
    if records.is_empty() {
        return skip("audit as a recording", "the kernel's log has no record, or may not be read");
    }
    fs::write(dir.path().join("log"), records.join("\n")).unwrap();
    assert!(generated(dir.path()).contains("uname"), "{records:?}");
}

#[test]
fn what_is_no_log_is_no_recording() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), "hello (world) = 1\n").unwrap();
    let output = strait(dir.path(), &["generate", "log"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
