//! From recordings to policies, as their user does it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use rustix::process::geteuid;
use serde_json::Value;
use strait_testkit::{skip, victim};
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
}

/// Its standard output and error; it has to succeed.
fn said(dir: &TempDir, args: &[&str]) -> (String, String) {
    let output = strait(dir, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{args:?}\n{stderr}");
    (stdout, stderr)
}

/// Records the program that goes through stages.
fn record(dir: &TempDir, file: &str, options: &[&str], words: &str) {
    let program = victim::stages();
    let mut args = vec!["record", "--engine", "ebpf", "-o", file];
    args.extend(options);
    args.extend(["--", program.to_str().unwrap()]);
    args.extend(words.split(' '));
    said(dir, &args);
}

/// A fake runtime: it does something, loads a filter, does something for its own sake, and execs.
const RUNTIME: &str = "call 162 0 0 0 0 0 0 filter call 111 0 0 0 0 0 0 exec call 41 1 1 0 0 0 0 \
                       call 108 0 0 0 0 0 0";

#[test]
fn a_profile_is_of_what_the_filter_decides() {
    let test = "a_profile_is_of_what_the_filter_decides";
    if !geteuid().is_root() || !cfg!(target_arch = "x86_64") {
        return skip(test, "eBPF takes root, and x86_64");
    }
    let dir = TempDir::new().unwrap();
    record(&dir, "rec.json", &[], RUNTIME);
    let (policy, stderr) = said(&dir, &["generate", "rec.json"]);
    // sync was before the filter, getpgrp under it, socket and getegid are the workload's.
    assert!(stderr.contains("sync") && stderr.contains("--phases"), "{stderr}");
    assert!(!policy.contains("sync"), "{policy}");
    for call in ["getpgrp", "getegid", "execve"] {
        assert!(policy.contains(call), "{call}\n{policy}");
    }
    assert!(
        policy.contains(r#"when: "domain == AF_UNIX""#) || policy.contains("domain == AF_UNIX")
    );
    assert!(policy.contains("args: {domain: [AF_UNIX]}"), "{policy}");
    let (policy, _) = said(&dir, &["generate", "--phases", "before-filter,runtime", "rec.json"]);
    assert!(policy.contains("sync") && !policy.contains("getegid"), "{policy}");
    let (policy, _) = said(&dir, &["generate", "--arguments", "off", "rec.json"]);
    assert!(!policy.contains("when:"), "{policy}");
    let (policy, _) = said(&dir, &["generate", "--arguments", "all", "rec.json"]);
    assert!(policy.contains("SOCK_STREAM"), "{policy}");
    let (policy, _) = said(&dir, &["generate", "--exact", "rec.json"]);
    assert!(!policy.contains("clone3") && !policy.contains("creat,"), "{policy}");
    let refused = strait(&dir, &["generate", "--phases", "afterlife", "rec.json"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn several_runs_say_how_much_is_unseen_and_losses_are_refused() {
    let test = "several_runs_say_how_much_is_unseen_and_losses_are_refused";
    if !geteuid().is_root() || !cfg!(target_arch = "x86_64") {
        return skip(test, "eBPF takes root, and x86_64");
    }
    let dir = TempDir::new().unwrap();
    record(&dir, "1.json", &["--ready", "sync"], "call 162 0 0 0 0 0 0 call 111 0 0 0 0 0 0");
    record(&dir, "2.json", &["--ready", "1h"], "call 108 0 0 0 0 0 0");
    let (_, stderr) = said(&dir, &["generate", "1.json", "2.json"]);
    assert!(stderr.contains("2 runs showed") && stderr.contains("Chao2"), "{stderr}");
    let (_, stderr) = said(&dir, &["generate", "1.json", "1.json"]);
    assert!(!stderr.contains("Chao2"), "the same recording twice is one: {stderr}");

    let text = std::fs::read_to_string(dir.path().join("1.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let phase = |nr: u64| {
        let calls = document["calls"].as_array().unwrap();
        calls.iter().find(|call| call["nr"] == nr).unwrap()["phase"].clone()
    };
    assert_eq!((phase(162), phase(111)), (Value::from("start-up"), Value::from("steady")));
    let lossy = text.replace("\"calls\": 0,", "\"calls\": 7,");
    assert_ne!(lossy, text);
    std::fs::write(dir.path().join("lossy.json"), lossy).unwrap();
    assert_eq!(strait(&dir, &["generate", "lossy.json"]).status.code(), Some(2));
    let (policy, _) = said(&dir, &["generate", "--accept-loss", "lossy.json"]);
    assert!(policy.contains("lost in calls: 7"), "{policy}");
    // Verbs that run a command keep its statuses free: their own failure is 125.
    let refused = strait(&dir, &["record", "--ready", "nothing", "--", "true"]);
    assert_eq!(refused.status.code(), Some(125));
}
