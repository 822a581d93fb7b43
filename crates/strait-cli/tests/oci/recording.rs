//! Containers that are recorded from their first instruction to their end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strait_testkit::engine::{Engine, IMAGE, Kind, Profile};

use crate::recorded::{calls, is_ahead, is_whole, recorders, recording, start_recorded, wait};
use crate::setup::{Setup, strait};

const WORK: [&str; 3] = ["/bin/sh", "-c", "mkdir /tmp/$$; id; sleep 1000"];

/// Has the container do a little more, and ends it.
fn finish(engine: &Engine, name: &str) {
    engine.exec(name, &["/bin/chmod", "755", "/tmp"]).unwrap();
    engine.remove(name);
}

fn parent(process: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn cgroups(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap()
}

fn whole_life(kind: Kind, by_hook: bool) {
    let test = "containers are recorded";
    let setup = Setup::new();
    // With the hook known to the engine as well, there is still one recorder.
    let Some(engine) = setup.engine(kind, test) else { return };
    let runtime = kind.runtime();
    if by_hook {
        let path = |name: &str| setup.path(name).display().to_string();
        let (hooks, policies, recordings) = (path("hooks"), path("policies"), path("recordings"));
        let install = ["install", "podman-hook", "--runtime", runtime, "--hooks-dir", &hooks];
        strait(&[&install[..], &["--policies", &policies, "--recordings", &recordings]].concat());
    }

    // What asks for nothing is not recorded, and has no recorder.
    engine.run("plain", Profile::Default, &[], &["/bin/sleep", "1000"]).unwrap();
    assert_eq!(recorders(&setup).len(), 0);

    for (name, profile) in [("default", Profile::Default), ("open", Profile::Unconfined)] {
        let file = start_recorded(&setup, &engine, name, profile, &[], &WORK);
        assert_eq!(recorders(&setup).len(), 1, "{kind:?}");
        assert!(is_ahead(&setup), "{kind:?}");
        if by_hook {
            // Whoever ends what an engine's command has left does not end the recorder.
            let monitor = engine.pid(name).map(parent).unwrap();
            wait("it is where the monitor is", || {
                cgroups(recorders(&setup)[0]) == cgroups(monitor)
            });
        }
        assert!(!file.exists(), "{kind:?}: nothing half-written");
        finish(&engine, name);
        let recording = recording(&setup, &file);
        let told = || format!("{kind:?} {name}: {}", recording["completeness"]);
        assert_eq!(recording["command"][2], WORK[2], "{kind:?}");
        let completeness = &recording["completeness"];
        is_whole(&recording);
        // Where everything passes, nothing is kept from being seen.
        assert_eq!(completeness["filterActive"], Value::from(name == "default"), "{}", told());

        // The runtime's own, before the filter and after it; then the workload, then what is exec'd.
        let before = calls(&recording, "before-filter", runtime);
        assert!(before.contains("pivot_root"), "{kind:?}: {before:?}");
        let after = calls(&recording, "runtime", runtime);
        assert!(after.contains("execve") && !after.contains("pivot_root"), "{kind:?}: {after:?}");
        assert_eq!(calls(&recording, "runtime", "busybox"), BTreeSet::new(), "{kind:?}");
        assert_eq!(calls(&recording, "start-up", runtime), BTreeSet::new(), "{kind:?}");
        let work = calls(&recording, "start-up", "busybox");
        assert!(
            work.is_superset(&BTreeSet::from(["mkdir", "getuid", "brk"])),
            "{kind:?}: {work:?}"
        );
        assert!(!work.contains("chmod") && !work.contains("mount"), "{kind:?}: {work:?}");
        let exec = calls(&recording, "outside", "busybox");
        assert!(exec.contains("chmod"), "{kind:?}: {exec:?}");
        generated_starts(&setup, &engine, &file, name);
    }
    let left: Vec<_> = fs::read_dir(setup.path("recordings")).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "{kind:?}: nothing else is written: {left:?}");
}

/// The profile that is generated of the recording starts the same container, as it is and as a policy
/// that is bound to it, with no_new_privs and without.
fn generated_starts(setup: &Setup, engine: &Engine, recording: &Path, name: &str) {
    let kind = engine.kind();
    let path = |name: &str| setup.path(name).display().to_string();
    let (policy, profile) = (path(&format!("policies/{name}.yaml")), path("profile.json"));
    strait(&["generate", recording.to_str().unwrap(), "-o", &policy]);
    let ledger = fs::read_to_string(&policy).unwrap();
    let needed = format!("neededBy: {{runtime: \"{} ", kind.runtime());
    assert!(ledger.contains(&needed), "{kind:?}: {ledger}");
    let runtime = ["--runtime", kind.runtime(), "--library", "installed"];
    let convert = ["convert", &policy, "--to", "oci", "--lossy", "-o", &profile];
    strait(&[&convert[..], &runtime].concat());

    let policies = format!("io.strait.policy={name}");
    let binary = setup.program(kind.runtime());
    let (bound, again): (Vec<&str>, Vec<&str>) = match kind {
        Kind::Docker => {
            fs::write(setup.path("policies/bindings"), format!("{IMAGE} {name}\n")).unwrap();
            (vec![], vec!["--security-opt", "no-new-privileges"])
        }
        Kind::Containerd => (vec!["--runc-binary", &binary, "--annotation", &policies], vec![]),
        _ => (vec!["--annotation", &policies], vec!["--security-opt", "no-new-privileges"]),
    };
    let file = Profile::File(Path::new(&profile));
    for (options, profile) in [(&bound, Profile::Default), (&again, file), (&vec![], file)] {
        let pid = engine
            .run("again", profile, options, &WORK)
            .unwrap_or_else(|error| panic!("{kind:?} {name} {options:?}: {error}\n{ledger}"));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Seccomp:\t2\n"), "{kind:?}");
        // It comes to the workload's last program.
        wait("the workload runs", || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "sleep")
        });
        engine.remove("again");
    }
    let _ = fs::remove_file(setup.path("policies/bindings"));
}

/// A container outlives its recorder, whose end by request is a recording too.
#[test]
fn a_container_goes_on_without_its_recorder() {
    let setup = Setup::new();
    let Some(engine) = setup.engine(Kind::PodmanRunc, "a recorder is killed") else { return };
    for signal in ["KILL", "TERM"] {
        let file = start_recorded(&setup, &engine, signal, Profile::Default, &[], &WORK);
        let [recorder] = recorders(&setup)[..] else { panic!("{signal}: there is one recorder") };
        engine.exec(signal, &["/bin/true"]).unwrap();
        let killed = Command::new("kill").args(["-s", signal, &recorder.to_string()]).status();
        assert!(killed.unwrap().success());
        wait("the recorder ends", || recorders(&setup).is_empty());
        engine.exec(signal, &["/bin/mkdir", "/tmp/more"]).unwrap();
        engine.remove(signal);
        if signal == "KILL" {
            let left = fs::read_dir(setup.path("recordings")).unwrap().count();
            assert_eq!(left, 0, "nothing half-written is left");
        } else {
            let recording = recording(&setup, &file);
            assert_eq!(recording["completeness"]["interrupted"], true);
            assert!(calls(&recording, "start-up", "busybox").contains("mkdir"));
        }
    }
}

#[test]
fn podman_with_crun_records_by_the_hook() {
    whole_life(Kind::PodmanCrun, true);
}

#[test]
fn podman_with_runc_records_by_the_hook() {
    whole_life(Kind::PodmanRunc, true);
}

#[test]
fn docker_records_by_the_runtime() {
    whole_life(Kind::Docker, false);
}

#[test]
fn containerd_records_by_the_runtime() {
    whole_life(Kind::Containerd, false);
}
