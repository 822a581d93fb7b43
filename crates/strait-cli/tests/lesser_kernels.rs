//! A kernel that lacks a call, played by a filter that answers ENOSYS: what can be done without it is
//! done and said, and what cannot is an error before anything runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const STRAIT: &str = env!("CARGO_BIN_EXE_strait");

/// Runs strait where these calls are not there.
fn without(calls: &str, dir: &TempDir, words: &[&str]) -> (Output, String) {
    let lacking = format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nmetadata: {{name: lacking}}\n\
         spec:\n  architectures: [x86_64]\n  default: allow\n  rules:\n    \
         - {{syscalls: [{calls}], action: errno(ENOSYS)}}\n"
    );
    fs::write(dir.path().join("lacking.yaml"), lacking).unwrap();
    let mut command = Command::new(STRAIT);
    command.args(["run", "-p", "lacking.yaml", "--", STRAIT]).args(words);
    let output = command.current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    (output, text)
}

const TIGHTEN: [&str; 6] = ["tighten", "-o", "p.yaml", "--", "touch", "ran"];

#[test]
fn no_bpf_no_ebpf_recorder() {
    let dir = TempDir::new().unwrap();
    let (output, text) = without("bpf", &dir, &TIGHTEN);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("ptrace (incomplete)"), "{text}");
    assert!(text.contains("eBPF is not available: "), "{text}");
    assert!(dir.path().join("p.yaml").exists());
}

#[test]
fn no_bpf_and_no_ptrace_no_recording() {
    let dir = TempDir::new().unwrap();
    let (output, text) = without("bpf, ptrace", &dir, &TIGHTEN);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("cannot record by ptrace: "), "{text}");
    assert!(!dir.path().join("ran").exists() && !dir.path().join("p.yaml").exists());
}

#[test]
fn no_filters_no_confined_run() {
    let dir = TempDir::new().unwrap();
    // What was recorded is kept; that it could not be tried is the failure.
    let (output, text) = without("seccomp", &dir, &TIGHTEN);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("the filter could not be loaded, so the program was not started"));
    assert!(dir.path().join("p.yaml").exists());
    fs::remove_file(dir.path().join("ran")).unwrap();
    let (output, text) = without("seccomp", &dir, &["run", "-p", "p.yaml", "--", "touch", "ran"]);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("CONFIG_SECCOMP_FILTER"), "{text}");
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn no_pidfd_no_child() {
    let dir = TempDir::new().unwrap();
    let (output, text) = without("pidfd_open", &dir, &TIGHTEN);
    assert!(!output.status.success());
    assert!(text.contains("this needs Linux 5.3"), "{text}");
    assert!(!dir.path().join("ran").exists() && !dir.path().join("p.yaml").exists());
}
