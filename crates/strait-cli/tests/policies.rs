//! What policies can name, and their form: sets and the schema.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
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
