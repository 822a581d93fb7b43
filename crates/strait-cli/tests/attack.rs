//! `strait attack`: the exit status tells whether anything is open, and each opening how to close it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const HEADER: &str =
    "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n";

fn attack(spec: &str, more: &[&str]) -> Output {
    let dir = TempDir::new().unwrap();
    let policy = dir.path().join("policy.yaml");
    fs::write(&policy, format!("{HEADER}{spec}")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["attack", "--policy"])
        .arg(&policy)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn a_policy_that_allows_nothing_leaves_nothing_open() {
    let output = attack("  default: kill-process\n", &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let attacks = report["attacks"].as_array().unwrap();
    assert!(attacks.iter().any(|attack| attack["outcome"] == "blocked"), "{report}");
    assert!(attacks.iter().all(|attack| attack["outcome"] != "open"), "{report}");
}

#[test]
fn what_is_open_comes_with_the_reason_and_the_line_that_closes_it() {
    let spec = "  default: allow\n  rules:\n    - {syscalls: [openat], action: errno(EACCES)}\n";
    let output = attack(spec, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let attacks = report["attacks"].as_array().unwrap();
    let openat2 = attacks.iter().find(|attack| attack["class"] == "openat2").unwrap();
    assert_eq!(openat2["outcome"], "open", "{report}");
    assert!(!openat2["why"].as_str().unwrap().is_empty());
    assert!(openat2["close"].as_str().unwrap().contains("openat2"));

    let text = String::from_utf8(attack(spec, &[]).stdout).unwrap();
    let counts = text.lines().last().unwrap();
    let open = attacks.iter().filter(|attack| attack["outcome"] == "open").count();
    assert!(counts.starts_with(&format!("{open} open, ")), "{counts}");
    assert!(!text.contains('\u{1b}'), "colour where no terminal is: {text}");
}

#[test]
fn a_policy_that_is_none_is_bad_input() {
    assert_eq!(attack("  default: perhaps\n", &[]).status.code(), Some(2));
}
