//! `strait generate --for ENGINE`: the profile starts a container on its first try, with each engine and
//! runtime, and the workload does there what it did when it was recorded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strait_testkit::engine::{Engine, Kind, Profile};
use tempfile::TempDir;

/// A busybox that does twenty things.
const SCRIPT: &str = "set -e; cd /tmp; mkdir -p strait-made/a; cd strait-made; echo one > a/b; cat a/b; \
                      cp a/b a/c; mv a/c a/d; ln -s b a/l; ls a; head -c 3 a/d; echo; touch a/t; \
                      chmod 600 a/t; id -u; uname -s; echo two | cat | cat; (sleep 0; echo sub); \
                      kill -0 $$; rm -r a; cd ..; rmdir strait-made; test ! -e strait-made; true; echo done";

fn strait(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The recording of the script on this machine.
fn recording(dir: &Path) -> Option<String> {
    let file = dir.join("recording.json").display().to_string();
    let output = strait(&["record", "-o", &file, "--", "/bin/busybox", "sh", "-c", SCRIPT]);
    output.status.success().then_some(file)
}

fn check(kind: Kind, test: &str) {
    let Some(engine) = Engine::start(kind, test) else { return };
    let dir = TempDir::new().unwrap();
    let recording = recording(dir.path()).unwrap();
    let profile = dir.path().join("profile.json");
    let generate = ["generate", &recording, "--for", kind.name(), "-o", profile.to_str().unwrap()];
    let output = strait(&generate);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let confined = Profile::File(&profile);
    let mut variants: Vec<&[&str]> = vec![&["--rm"]];
    if kind != Kind::Containerd {
        variants.push(&["--rm", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp"]);
        variants.push(&[
            "--rm",
            "--security-opt",
            "no-new-privileges",
            "--user",
            "65534",
            "--tmpfs",
            "/tmp",
        ]);
    }
    let script = ["/bin/sh", "-c", SCRIPT];
    for (number, options) in variants.iter().enumerate() {
        let output = engine
            .run_command(&format!("generated-{number}"), confined, options, &script)
            .output()
            .unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{kind:?} {options:?}: {said}{errors}");
        assert!(said.ends_with("done\n"), "{kind:?} {options:?}: {said}{errors}");
    }
    // An exec comes in by the same door.
    engine.run("generated", confined, &[], &["/bin/sh", "-c", "sleep 1000 & wait"]).unwrap();
    assert_eq!(engine.exec("generated", &["/bin/echo", "hello"]).unwrap().trim(), "hello");

    // And it is no open door: what was not recorded fails.
    let output = engine
        .run_command(
            "denied",
            confined,
            &["--rm"],
            &["/bin/sh", "-c", "ln /bin/busybox /bin/linked && echo linked"],
        )
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("linked"), "{kind:?}: {output:?}");
}

#[test]
fn a_profile_for_docker_starts_a_container_on_its_first_try() {
    check(Kind::Docker, "a_profile_for_docker_starts_a_container_on_its_first_try");
}

#[test]
fn a_profile_for_containerd_starts_a_container_on_its_first_try() {
    check(Kind::Containerd, "a_profile_for_containerd_starts_a_container_on_its_first_try");
}

#[test]
fn a_profile_for_podman_starts_a_container_with_crun_on_its_first_try() {
    check(Kind::PodmanCrun, "a_profile_for_podman_starts_a_container_with_crun_on_its_first_try");
}

#[test]
fn a_profile_for_podman_starts_a_container_with_runc_on_its_first_try() {
    check(Kind::PodmanRunc, "a_profile_for_podman_starts_a_container_with_runc_on_its_first_try");
}

#[test]
fn every_engine_has_its_profile_and_is_told_how_it_is_given() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("recording.json").display().to_string();
    let recorded = strait(&["record", "-o", &file, "--engine", "ptrace", "--", "true"]);
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    for (engine, usage) in [
        ("docker", "--security-opt"),
        ("podman", "--security-opt"),
        ("containerd", "--seccomp-profile"),
        ("cri-o", "seccomp_profile"),
        ("kubernetes", "localhostProfile"),
    ] {
        let output = strait(&["generate", &file, "--for", engine]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{engine}: {said}");
        assert!(said.contains(usage), "{engine}: {said}");
        let profile: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "{engine}");
        assert_eq!(profile["architectures"], Value::from(vec!["SCMP_ARCH_X86_64"]), "{engine}");
        // Nothing is left for the engine to resolve.
        for rule in profile["syscalls"].as_array().unwrap() {
            assert!(rule["includes"].is_null() && rule["excludes"].is_null(), "{engine}: {rule}");
        }
    }
    let wrong = strait(&["generate", &file, "--for", "beer"]);
    assert_eq!(wrong.status.code(), Some(2));
    fs::remove_file(&file).unwrap();
}
