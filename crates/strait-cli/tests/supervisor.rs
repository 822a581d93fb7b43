//! The supervisor's own confinement: the policy that it ships with is what is on it, whatever it
//! supervises, and leaves open what supervising takes and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use strait_testkit::script::Talk;
use strait_testkit::skip;

const STRAIT: &str = env!("CARGO_BIN_EXE_strait");

/// What is supervised, the arguments that ask for it, and the step of the supervisor's own policy.
const SUPERVISED: &[(&str, &[&str], Option<&str>)] = &[
    ("network: {connect: ['127.0.0.1:*']}", &[], Some("unwatched")),
    (
        "rules: [{syscalls: [mkdir], action: errno(EPERM)}]",
        &["--mode", "notify"],
        Some("unwatched"),
    ),
    (
        "rules: [{syscalls: [mkdir], action: errno(EPERM)}]",
        &["--mode", "canary"],
        Some("unwatched"),
    ),
    (
        "steps: {later: {rules: [{syscalls: [mkdir], action: errno(EPERM)}]}}",
        &[],
        Some("unwatched"),
    ),
    ("exec: {allow: [/bin, /usr/bin], strict: true}", &[], None),
    ("exec: {allow: [/bin, /usr/bin], strict: true}", &["--mode", "notify"], None),
];

fn own_policy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/supervisor.yaml")
}

fn strait(args: &[&str]) -> Output {
    Command::new(STRAIT).args(args).output().unwrap()
}

#[test]
fn a_supervisor_is_confined_by_its_own_policy_whatever_it_supervises() {
    let test = "a_supervisor_is_confined_by_its_own_policy_whatever_it_supervises";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only who has CAP_SYS_ADMIN is shown a filter");
    }
    if strait_kernel::landlock::abi() < 2 {
        return skip(test, "a list of executables takes Landlock ABI 2");
    }
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let own = own_policy();
    for &(spec, args, step) in SUPERVISED {
        let text = format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
             architectures: [x86_64]\n  default: allow\n  {spec}\n"
        );
        std::fs::write(&policy, text).unwrap();
        let mut command = Command::new(STRAIT);
        command.arg("run").args(args).arg("--policy").arg(&policy);
        let mut run =
            Talk::start(command.args(["--", "/bin/sh", "-c", "echo up; read x; echo $x"]));
        assert_eq!(run.line(), "up");
        let pid = run.id().to_string();
        let mut verify = vec!["verify", "--pid", &pid, "--policy", own.to_str().unwrap()];
        verify.extend(step.iter().flat_map(|step| ["--step", step]));
        // The command may be quicker than its supervisor, which has answered nothing yet then.
        let is_confined = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.contains("Seccomp:\t2")
        };
        let waited = (0..3000).find(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_confined()
        });
        assert!(waited.is_some(), "{spec} {args:?}: not confined after half a minute");
        let verified = strait(&verify);
        assert_eq!(verified.status.code(), Some(0), "{spec} {args:?}: {verified:?}");
        assert!(
            String::from_utf8_lossy(&verified.stdout).contains("holds: every thread"),
            "{verified:?}"
        );
        // And it does its work.
        run.say("done");
        assert_eq!(run.line(), "done");
        run.wait();
    }
}

#[test]
fn what_is_open_to_a_supervisor_is_what_supervising_takes() {
    let own = own_policy();
    let args = ["attack", "--json", "--policy", own.to_str().unwrap(), "--step", "unwatched"];
    let output = strait(&args);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let attacks = report["attacks"].as_array().unwrap();
    let open: BTreeSet<&str> = attacks
        .iter()
        .filter(|attack| attack["outcome"] == "open")
        .map(|attack| attack["class"].as_str().unwrap())
        .collect();
    // It reads what calls point to, looks processes up in /proc, has copies of their descriptors, and
    // connects and sends by these.
    let takes = [
        "inherited-datagram",
        "inherited-socket",
        "pidfd-getfd",
        "proc-environ",
        "proc-root",
        "process-vm-readv",
    ];
    assert!(open.is_subset(&takes.into()), "{open:?}");
    assert!(open.contains("pidfd-getfd"), "{report}");
}

#[test]
fn every_allow_of_a_supervisor_has_its_reason() {
    let own = own_policy();
    let output = strait(&["check", "--json", own.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report.as_array().or_else(|| report["findings"].as_array()).unwrap();
    // S001: what takes a supervisor is dangerous; S015: a supervisor's recording begins with its workload
    // confined. Whatever else there is to say of it is a mistake.
    let codes: BTreeSet<&str> =
        findings.iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["S001", "S015"].into());
}

/// That of a container's supervisor reads what is in /proc, and is left nothing else.
#[test]
fn what_is_open_to_a_containers_supervisor_is_less() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/supervisor/container.yaml");
    let output = strait(&["attack", "--json", "--policy", own.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let attacks = report["attacks"].as_array().unwrap();
    let open: BTreeSet<&str> = attacks
        .iter()
        .filter(|attack| attack["outcome"] == "open")
        .map(|attack| attack["class"].as_str().unwrap())
        .collect();
    assert!(open.is_subset(&["proc-environ", "proc-root"].into()), "{open:?}");
}
