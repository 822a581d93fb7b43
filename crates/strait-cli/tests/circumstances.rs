//! Other circumstances than root's on a terminal: no privileges, interrupts, programs that are too
//! long.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use strait_testkit::skip;
use tempfile::TempDir;

/// A folder that everybody may use, with a copy of the binary that everybody may execute.
fn open_folder() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let strait = dir.path().join("strait");
    fs::copy(env!("CARGO_BIN_EXE_strait"), &strait).unwrap();
    (dir, strait)
}

/// Runs strait as a user without any privilege; `None`, said, where that cannot be done.
fn as_nobody(name: &str, dir: &TempDir, strait: &Path, args: &[&str]) -> Option<Output> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !root || !Path::new("/usr/bin/setpriv").exists() {
        skip(name, "becoming another user needs root and setpriv");
        return None;
    }
    let output = Command::new("/usr/bin/setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(strait)
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Some(output)
}

#[test]
fn without_privileges_ptrace_takes_over_and_says_so() {
    let (dir, strait) = open_folder();
    let args = ["tighten", "--json", "-o", "policy.yaml", "--", "sh", "-c", "ls / | wc -l"];
    let name = "without_privileges_ptrace_takes_over_and_says_so";
    let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout).expect(&stderr);
    assert_eq!(output.status.code(), Some(0), "{json:#}\n{stderr}");
    assert_eq!(json["recording"]["engine"]["name"], "ptrace");
    let reason = json["recording"]["engine"]["reason"].as_str().unwrap();
    assert!(reason.contains("eBPF is not available"), "{reason}");
    assert_eq!(json["behavedAsFirst"], true, "{json:#}");
    // Nobody may read a filter back without CAP_SYS_ADMIN: that is said, not passed over.
    assert_eq!(json["confined"]["verification"]["verified"], "no", "{json:#}");
    assert!(json["confined"]["verification"]["reason"].is_string());
    assert!(dir.path().join("policy.yaml").exists());
}

#[test]
fn without_privileges_ebpf_is_refused_by_name() {
    let (dir, strait) = open_folder();
    let args = ["record", "--engine", "ebpf", "-o", "r.json", "--", "touch", "ran"];
    let name = "without_privileges_ebpf_is_refused_by_name";
    let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("CAP_BPF"), "{stderr}");
    assert!(!dir.path().join("ran").exists() && !dir.path().join("r.json").exists());
}

#[test]
fn without_privileges_commands_run_confined() {
    let (dir, strait) = open_folder();
    let name = "without_privileges_commands_run_confined";
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: no-folders}
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [mkdir, mkdirat], action: errno(EXDEV)}
";
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    let args = ["run", "--policy", "policy.yaml", "--", "mkdir", "made"];
    let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cross-device"), "the errno is the policy's: {stderr}");
    assert!(!dir.path().join("made").exists());
}

#[test]
fn an_interrupted_recording_is_written_and_says_so() {
    let dir = TempDir::new().unwrap();
    let script = "trap 'exit 7' INT; echo started > mark; while :; do sleep 0.05; done";
    let child = start(&dir, &["record", "-o", "r.json", "--", "sh", "-c", script]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The command ended by itself when it was asked to, and its status is passed on.
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    let recording = fs::read_to_string(dir.path().join("r.json")).unwrap();
    let recording: Value = serde_json::from_str(&recording).unwrap();
    assert_eq!(recording["completeness"]["interrupted"], true);
    assert_eq!(recording["exit"]["status"], 7);
}

#[test]
fn an_interrupted_tighten_keeps_the_policy_and_does_not_run_again() {
    let dir = TempDir::new().unwrap();
    let script = "echo started >> mark; while :; do sleep 0.05; done";
    let child = start(&dir, &["tighten", "-o", "p.yaml", "--", "sh", "-c", script]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert!(dir.path().join("p.yaml").exists());
    assert_eq!(fs::read_to_string(dir.path().join("mark")).unwrap(), "started\n");
}

/// Starts strait and waits until the command has written `mark`.
fn start(dir: &TempDir, args: &[&str]) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Bounded, so that a failure ends the test; how long it takes says nothing.
    let end = Instant::now() + Duration::from_secs(60);
    while !dir.path().join("mark").exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(dir.path().join("mark").exists(), "the command did not start");
    child
}

/// What kill(1) sends to strait alone, not what a terminal sends to the whole group.
fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_that_ends_the_command_ends_strait() {
    let dir = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["record", "-q", "-o", "/dev/null", "--", "sh", "-c", "kill -KILL $$"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9));
}

#[test]
fn a_policy_that_fits_no_program_is_refused_and_runs_nothing() {
    let dir = TempDir::new().unwrap();
    let mut policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: too-long}
spec:
  architectures: [x86_64]
  default: errno(EPERM)
  rules:
"
    .to_owned();
    // Values without a pattern, each of which takes an instruction or more.
    let mut value = 1_u64;
    for call in ["lseek", "mmap", "munmap"] {
        let mut values = Vec::new();
        for _ in 0..1000 {
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            values.push((value >> 1).to_string());
        }
        let (argument, list) = (if call == "lseek" { "offset" } else { "len" }, values.join(", "));
        let _ = writeln!(
            policy,
            "    - {{syscalls: [{call}], when: \"{argument} in {{{list}}}\", action: allow}}"
        );
    }
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    for (args, status) in
        [(&["compile", "p.yaml"][..], 2), (&["run", "-p", "p.yaml", "--", "touch", "ran"], 125)]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains("4096") && stderr.contains("p.yaml"), "{stderr}");
    }
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn every_run_reads_standard_input_from_its_beginning() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("in"), "line\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["tighten", "-o", "p.yaml", "--runs", "2", "--", "sh", "-c", "cat >> out"])
        .current_dir(dir.path())
        .stdin(fs::File::open(dir.path().join("in")).unwrap())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), "line\nline\nline\n");
}

#[test]
fn input_that_can_be_read_once_only_is_told() {
    let dir = TempDir::new().unwrap();
    let mut strait = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["tighten", "-o", "p.yaml", "--", "cat"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut strait.stdin.take().unwrap(), b"line\n").unwrap();
    let output = strait.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("standard input"), "{stderr}");
}

#[test]
fn data_is_written_though_nothing_can_be_said() {
    let dir = TempDir::new().unwrap();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |args: &[&str]| {
        let mut strait = Command::new(env!("CARGO_BIN_EXE_strait"));
        strait.args(args).current_dir(dir.path()).stderr(full()).stdout(Stdio::null());
        strait.status().unwrap().code()
    };
    assert_eq!(run(&["record", "-o", "r.json", "--", "true"]), Some(0));
    assert!(dir.path().join("r.json").exists());
    assert_eq!(run(&["tighten", "-o", "p.yaml", "--", "true"]), Some(0));
    assert_eq!(run(&["run", "-p", "none.yaml", "--", "true"]), Some(125));
}

#[test]
fn an_interrupted_tighten_leaves_a_policy_that_is_there() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.yaml"), "precious").unwrap();
    let script = "echo started >> mark; while :; do sleep 0.05; done";
    let child = start(&dir, &["tighten", "-o", "p.yaml", "--", "sh", "-c", script]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(dir.path().join("p.yaml")).unwrap(), "precious");
}

#[test]
fn a_recording_on_standard_output_is_nothing_else() {
    let dir = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["record", "--", "echo", "words"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let recording: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(recording["kind"], "SyscallRecording");
    assert!(String::from_utf8_lossy(&output.stderr).contains("words"));
}

#[test]
fn a_policy_for_another_machine_runs_nothing() {
    let dir = TempDir::new().unwrap();
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec: {architectures: [s390x], default: allow}
";
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["run", "-p", "p.yaml", "--", "touch", "ran"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("s390x"), "{stderr}");
    assert!(!dir.path().join("ran").exists());
}
