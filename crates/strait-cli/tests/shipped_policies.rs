//! The policies that come with Strait: each is sound, has a reason for what it allows, runs what it is
//! for, and leaves open nothing that it claims to close.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use strait_policy::Policy;
use strait_testkit::skip;

/// Each policy, with the step at which nothing is open, and a program that it is for.
const SHIPPED: &[(&str, Option<&str>, &[&str])] = &[
    (
        "agent",
        Some("work"),
        &["/usr/bin/python3", "-c", "import json, socket, ssl, threading; print('done')"],
    ),
    (
        "batch-job",
        None,
        &["/bin/sh", "-c", "ls / | sort | tail -1 > /dev/null; (sleep 0.01 & wait); echo done"],
    ),
    (
        "ci-build",
        None,
        &[
            "/bin/sh",
            "-c",
            "echo 'int main(void){return 0;}' > $D/a.c && make -s -C $D CC=gcc a && $D/a && echo done",
        ],
    ),
    ("ci-release", Some("release"), &["/usr/bin/python3", "-c", "import os, sys; print('done')"]),
    (
        "microservice",
        None,
        &[
            "/usr/bin/python3",
            "-c",
            "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print('done')",
        ],
    ),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(format!("{name}.yaml"))
}

fn strait(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).output().unwrap()
}

#[test]
fn every_policy_of_the_folder_is_in_the_list() {
    let folder = path("x").parent().unwrap().read_dir().unwrap();
    let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), SHIPPED.len(), "{files:?}");
    assert!(SHIPPED.iter().all(|(name, _, _)| path(name).exists()));
}

#[test]
fn each_is_checked_without_a_finding_worse_than_a_note() {
    for (name, _, _) in SHIPPED {
        let output = strait(&["check", "--json", path(name).to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report.as_array().or_else(|| report["findings"].as_array()).unwrap();
        let bad: Vec<_> = findings
            .iter()
            .filter(|finding| finding["severity"] == "error" || finding["severity"] == "warning")
            .collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
    }
}

#[test]
fn each_allow_of_a_rule_has_a_reason() {
    for (name, _, _) in SHIPPED {
        let policy = Policy::parse(&std::fs::read_to_string(path(name)).unwrap()).unwrap();
        let allows = policy.rules.iter().filter(|rule| rule.action.lets_pass());
        for call in allows.flat_map(|rule| &rule.syscalls) {
            assert!(policy.necessity.contains_key(call), "{name}: {}", call.name());
        }
    }
}

#[test]
fn nothing_is_open_under_them() {
    if strait_kernel::landlock::abi() < 6 {
        return skip("nothing_is_open_under_them", "isolation needs Landlock ABI 6 for all of it");
    }
    for (name, step, _) in SHIPPED {
        let file = path(name);
        let mut args = vec!["attack", "--json", "--policy", file.to_str().unwrap()];
        args.extend(step.iter().flat_map(|step| ["--step", step]));
        let output = strait(&args);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let blocked = report["attacks"].as_array().unwrap().iter();
        assert!(blocked.filter(|attack| attack["outcome"] == "blocked").count() >= 15, "{report}");
    }
}

#[test]
fn each_runs_what_it_is_for() {
    if strait_kernel::landlock::abi() < 2 {
        return skip("each_runs_what_it_is_for", "isolation needs Landlock ABI 2");
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, _, command) in SHIPPED {
        if !Path::new(command[0]).exists() {
            skip("each_runs_what_it_is_for", &format!("{name}: there is no {}", command[0]));
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(["run", "--mode", "notify", "--policy"])
            .arg(path(name))
            .arg("--")
            .args(*command)
            .env("D", dir.path())
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "done", "{name}: {output:?}");
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
    }
}

#[test]
fn those_that_only_read_files_leave_them_as_they_are() {
    let test = "those_that_only_read_files_leave_them_as_they_are";
    if strait_kernel::landlock::abi() < 2 {
        return skip(test, "isolation needs Landlock ABI 2");
    }
    if !Path::new("/usr/bin/python3").exists() {
        return skip(test, "there is no /usr/bin/python3");
    }
    let dir = tempfile::tempdir().unwrap();
    let (there, made) = (dir.path().join("there"), dir.path().join("made"));
    std::fs::write(&there, "kept").unwrap();
    // Linux empties and makes files that are opened to be read, too.
    let script = "import os, sys\nfor access in os.O_RDONLY, os.O_WRONLY, os.O_RDWR:\n  \
                  for path, more in (sys.argv[1], os.O_TRUNC), (sys.argv[2], os.O_CREAT):\n    \
                  try: os.open(path, access | more); print('open', path, access | more)\n    \
                  except PermissionError: print('refused')\n\
                  print(os.read(os.open(sys.argv[1], os.O_RDONLY), 9))";
    for name in ["ci-release", "microservice"] {
        let output = Command::new(env!("CARGO_BIN_EXE_strait"))
            .arg("run")
            .arg("--policy")
            .arg(path(name))
            .args(["--", "/usr/bin/python3", "-c", script])
            .args([&there, &made])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, format!("{}b'kept'\n", "refused\n".repeat(6)), "{name}: {output:?}");
        assert!(!made.exists(), "{name}");
    }
}
