//! Foreign profiles where a policy is taken, and `convert`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
  "syscalls": [
    {"names": ["read", "write", "exit_group", "initgroups"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;

const FILTERS: &str = r#"{
  "api": {"mismatch_action": "trap", "match_action": "allow", "filter": [{"syscall": "read"}]},
  "vmm": {"mismatch_action": "trap", "match_action": "allow", "filter": [{"syscall": "write"}]}}"#;

#[test]
fn a_profile_is_a_policy_to_every_verb() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.json"), PROFILE).unwrap();
    let compiled = strait(&dir, &["compile", "p.json", "-o", "p.bpf"]);
    assert_eq!(compiled.status.code(), Some(0), "{}", stderr(&compiled));
    assert!(stderr(&compiled).contains("p.json:3:47: `initgroups`"), "{}", stderr(&compiled));
    for (args, status) in [
        (&["prove", "p.json", "p.bpf"][..], 0),
        (&["prove", "p.json", "p.bpf", "--cap", "SYS_ADMIN"], 1),
        (&["prove", "p.json", "p.bpf", "--runtime", "crun"], 1),
        (&["prove", "p.bpf", "p.bpf"], 0),
        (&["compile", "p.json", "--arch", "aarch64", "-o", "a.bpf"], 0),
        (&["prove", "p.json", "p.bpf", "--cap", "SYS_ADMN"], 2),
        (&["prove", "p.json", "p.bpf", "--from", "strait"], 2),
        (&["check", "p.json"], 1),
    ] {
        let output = strait(&dir, args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn one_thread_of_a_file_with_several_is_chosen() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("f.json"), FILTERS).unwrap();
    let output = strait(&dir, &["convert", "f.json", "--to", "strait"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`api`, `vmm`"), "{}", stderr(&output));
    let output = strait(&dir, &["convert", "f.json", "--to", "strait", "--thread", "vmm"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("syscalls: [write]"));
    let output = strait(&dir, &["convert", "f.json", "--to", "strait", "--thread", "vcpu"]);
    assert!(stderr(&output).contains("there is no thread `vcpu`"), "{}", stderr(&output));
}

#[test]
fn what_a_format_cannot_say_is_listed_and_not_written_unawares() {
    let dir = TempDir::new().unwrap();
    let policy = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
        architectures: [x86_64]\n  default: errno(EPERM)\n  rules:\n    \
        - {syscalls: [read], action: allow}\n    - {syscalls: [write], action: log}\n  \
        necessity: {read: [{declared: {by: me, reason: it reads}}]}\n";
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    let convert = ["convert", "p.yaml", "--to", "seccompiler", "-o", "out.json"];
    let output = strait(&dir, &convert);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!dir.path().join("out.json").exists());
    for said in ["write on x86_64: policy log, seccompiler errno(EPERM)", "the ledger", "--lossy"] {
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let output = strait(&dir, &[&convert[..], &["--lossy", "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["losses"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["written"], true);
    assert!(dir.path().join("out.json").exists());
    let output = strait(&dir, &["convert", "p.yaml", "--to", "bpf", "-o", "p.bpf"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(strait(&dir, &["prove", "p.yaml", "p.bpf"]).status.code(), Some(0));
}
