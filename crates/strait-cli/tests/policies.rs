//! The verbs on policies: findings with their places, sets, the schema.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
}

#[test]
fn findings_have_a_code_and_a_place() {
    let dir = TempDir::new().unwrap();
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: errno(EPERM)
  rules:
    - {syscalls: [read, mount], action: allow}
";
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    let output = strait(&dir, &["check", "p.yaml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mount = text.lines().find(|line| line.contains("mount")).unwrap();
    assert!(mount.starts_with("p.yaml:7:") && mount.contains(" S0"), "{text}");
    let output = strait(&dir, &["check", "--json", "p.yaml"]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings.as_array().unwrap().len(), text.lines().count());
}

#[test]
fn a_set_shows_why_each_call_is_in_it() {
    let dir = TempDir::new().unwrap();
    let all = String::from_utf8(strait(&dir, &["sets"]).stdout).unwrap();
    assert!(all.contains("set:io"), "{all}");
    let one = String::from_utf8(strait(&dir, &["sets", "set:io"]).stdout).unwrap();
    assert!(one.contains("read"), "{one}");
    assert_eq!(strait(&dir, &["sets", "set:none"]).status.code(), Some(2));
}

#[test]
fn the_schema_is_json() {
    let dir = TempDir::new().unwrap();
    let schema: Value = serde_json::from_slice(&strait(&dir, &["schema"]).stdout).unwrap();
    assert!(schema["properties"]["spec"].is_object(), "{schema}");
}
