//! Wrong input: a clear message, the exit status that was promised, and no file harmed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Demands the status and, on standard error, each of the texts; standard output stays empty.
#[track_caller]
fn fails(output: &Output, status: i32, texts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    for text in texts {
        assert!(stderr.contains(text), "`{text}` is not in:\n{stderr}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: test}
spec:
  architectures: [x86_64]
  default: errno(EPERM)
  rules:
    - {syscalls: [read, write, close, exit_group], action: allow}
";

#[test]
fn usage() {
    let dir = TempDir::new().unwrap();
    fails(&strait(&dir, &["frobnicate"]), 2, &["frobnicate"]);
    fails(&strait(&dir, &["inspect", "--bogus"]), 2, &["--bogus"]);
    fails(&strait(&dir, &["tighten"]), 2, &["CMD"]);
    fails(&strait(&dir, &["inspect", "--pid", "x"]), 2, &["invalid value"]);
    fails(&strait(&dir, &["run", "--policy", "p"]), 125, &["CMD"]);
    fails(&strait(&dir, &["record", "--engine", "magic", "--", "true"]), 125, &["magic", "ebpf"]);
    let help = strait(&dir, &["help", "tighten"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--once"));
}

#[test]
fn commands_that_cannot_run() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("plain"), "text").unwrap();
    fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    for verb in [&["record"][..], &["tighten"], &["run", "--policy", "policy.yaml"]] {
        let run = |command: &str| strait(&dir, &[verb, &["--", command]].concat());
        fails(&run("no-such-program-anywhere"), 127, &["no-such-program-anywhere", "not found"]);
        fails(&run("./no-such-file"), 127, &["./no-such-file"]);
        fails(&run("./plain"), 126, &["./plain"]);
        fails(&run("/etc"), 126, &["/etc"]);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing was written");
}

#[test]
fn policies_that_are_none() {
    let dir = TempDir::new().unwrap();
    let compile = |text: &str| {
        fs::write(dir.path().join("p.yaml"), text).unwrap();
        strait(&dir, &["compile", "p.yaml"])
    };
    let mutated = |from: &str, to: &str| {
        assert!(POLICY.contains(from));
        compile(&POLICY.replace(from, to))
    };
    fails(&mutated("[read,", "[raed,"), 2, &["p.yaml:8", "raed", "read"]);
    fails(&mutated("x86_64", "x86_46"), 2, &["p.yaml:5", "x86_46", "x86_64"]);
    fails(&mutated("action: allow", "action: alow"), 2, &["p.yaml:8", "alow", "allow"]);
    fails(&mutated("EPERM", "EPREM"), 2, &["p.yaml:6", "EPREM", "EPERM"]);
    fails(&mutated("[x86_64]", "7"), 2, &["p.yaml:5"]);
    fails(&mutated("default:", "defualt:"), 2, &["p.yaml:6", "defualt", "default"]);
    fails(&mutated("SyscallPolicy", "Pod"), 2, &["p.yaml:2", "Pod", "SyscallPolicy"]);
    fails(&compile(""), 2, &["p.yaml", "empty"]);
    fails(&compile("a: [b"), 2, &["p.yaml"]);
    fails(&compile("\u{0}\u{1}"), 2, &["p.yaml"]);
    fails(&strait(&dir, &["compile", "missing.yaml"]), 2, &["missing.yaml", "No such file"]);
    fails(&strait(&dir, &["compile", "."]), 2, &["directory"]);
    // The same policy, with the launcher's status.
    fs::write(dir.path().join("p.yaml"), POLICY.replace("[read,", "[raed,")).unwrap();
    fails(&strait(&dir, &["run", "-p", "p.yaml", "--", "touch", "ran"]), 125, &["raed"]);
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn programs_that_are_none() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("p.yaml", POLICY.as_bytes());
    write("empty.bpf", b"");
    write("odd.bpf", &[6, 0, 0, 0, 0, 0, 0xff, 0x7f, 1]);
    write("long.bpf", &[6, 0, 0, 0, 0, 0, 0xff, 0x7f].repeat(4097));
    write("garbage.bpf", &[0xaa; 64]);
    write("big-endian.bpf", &[0, 6, 0, 0, 0x7f, 0xff, 0, 0]);
    for (file, text) in [
        ("empty.bpf", "instruction"),
        ("odd.bpf", "8"),
        ("long.bpf", "4096"),
        ("garbage.bpf", "instruction 0"),
    ] {
        fails(&strait(&dir, &["disasm", file]), 2, &[file, text]);
        fails(&strait(&dir, &["prove", "p.yaml", file]), 2, &[file, text]);
    }
    // Another machine's program can be looked at, but says nothing about a policy for this one.
    let shown = strait(&dir, &["disasm", "big-endian.bpf"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "; a big-endian program\n    ret allow\n");
    fails(&strait(&dir, &["prove", "p.yaml", "big-endian.bpf"]), 2, &["big-endian"]);
}

#[test]
fn recordings_that_are_none() {
    let dir = TempDir::new().unwrap();
    for (name, text) in [("empty", ""), ("array", "[]"), ("other", "{\"kind\": \"Pod\"}")] {
        fs::write(dir.path().join(name), text).unwrap();
        fails(&strait(&dir, &["generate", name]), 2, &[name]);
    }
}

#[test]
fn processes_that_are_none() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.yaml"), POLICY).unwrap();
    // Above the largest pid that Linux gives (PID_MAX_LIMIT, 4 Mi).
    let pid = "4194305";
    fails(&strait(&dir, &["inspect", "--pid", pid]), 2, &[pid]);
    fails(&strait(&dir, &["verify", "-p", "p.yaml", "--pid", pid]), 2, &[pid]);
    fails(&strait(&dir, &["prove", "p.yaml", &format!("pid:{pid}")]), 2, &[pid]);
    fails(&strait(&dir, &["record", "--pid", pid]), 125, &[pid]);
}

#[test]
fn a_good_file_outlives_a_failure() {
    let dir = TempDir::new().unwrap();
    let policy = dir.path().join("policy.yaml");
    fs::write(&policy, "precious").unwrap();
    let output = strait(&dir, &["tighten", "-o", "policy.yaml", "--", "no-such-program-anywhere"]);
    fails(&output, 127, &[]);
    assert_eq!(fs::read_to_string(&policy).unwrap(), "precious");
    // Where the result cannot be written, that is known before the command runs.
    let output = strait(&dir, &["tighten", "-o", "no/such/dir/p.yaml", "--", "touch", "ran"]);
    fails(&output, 2, &["no/such/dir"]);
    assert!(!dir.path().join("ran").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = TempDir::new().unwrap();
    let mut completions = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    drop(completions.stdout.take());
    let output = completions.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn pages_and_completions_come_from_the_command_line() {
    let dir = TempDir::new().unwrap();
    let output = strait(&dir, &["man", "pages"]);
    assert_eq!(output.status.code(), Some(0));
    let page = fs::read_to_string(dir.path().join("pages/strait-tighten.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("once"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(Path::new(&dir.path().join(format!("pages/strait.{shell}"))).exists());
        let script = strait(&dir, &["completions", shell]);
        assert!(String::from_utf8_lossy(&script.stdout).contains("tighten"));
    }
}
