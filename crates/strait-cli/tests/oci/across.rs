//! Policies that come of one runtime's recording, or of none, on another.

use std::fs;
use std::path::Path;
use std::process::Command;

use strait_testkit::engine::{Engine, Kind, Profile};

use crate::recorded::{recording, start_recorded, wait};
use crate::setup::{STRAIT, Setup, on, on_each, strait, text};

const WORK: [&str; 3] = ["/bin/sh", "-c", "mkdir /tmp/made; chmod 700 /tmp/made; exec sleep 1000"];

fn works(engine: &Engine, name: &str, pid: i32) {
    let comm = format!("/proc/{pid}/comm");
    wait("the work is done", || fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n"));
    assert!(engine.exec(name, &["/bin/ls", "/tmp/made"]).is_ok(), "{:?}", engine.kind());
}

/// A container of the one, recorded; then of the other by the profile that comes of that, and by the
/// policy that Strait binds to it.
fn from_one_to_the_other(one: Kind, other: Kind) {
    let test = "a profile of one runtime on another";
    let setup = Setup::new();
    let file = match setup.engine(one, test) {
        None => return,
        Some(engine) => {
            let file = start_recorded(&setup, &engine, "one", Profile::Default, &[], &WORK);
            works(&engine, "one", engine.pid("one").unwrap());
            engine.remove("one");
            recording(&setup, &file);
            file.display().to_string()
        }
    };
    let path = |name: &str| setup.path(name).display().to_string();
    let (policy, profile) = (path("policies/one.yaml"), path("one.json"));
    strait(&["generate", &file, "-o", &policy]);
    strait(&["generate", &file, "--for", "podman", "-o", &profile]);
    // What the recorded runtime needs is what it was seen to need; the other may need its set.
    let ledger = fs::read_to_string(&policy).unwrap();
    assert!(ledger.contains(&format!("neededBy: {{runtime: \"{} ", one.runtime())), "{ledger}");
    let told = fs::read_to_string(&profile).unwrap();
    for call in ["mount", "unshare", "setns", "pivot_root", "mknodat"] {
        assert!(!told.contains(&format!("\"{call}\"")), "{one:?}: {call}");
    }
    on(other, test, |theirs, engine| {
        let name = "policies/one.yaml";
        fs::copy(setup.path(name), theirs.path(name)).unwrap();
        let annotation = ["--annotation", "io.strait.policy=one"];
        let by_file = Profile::File(Path::new(&profile));
        for (name, profile, options) in
            [("by-file", by_file, &[][..]), ("bound", Profile::Default, &annotation)]
        {
            let pid = engine
                .run(name, profile, options, &WORK)
                .unwrap_or_else(|error| panic!("{one:?}, {other:?} {name}: {error}"));
            works(engine, name, pid);
            let denied = engine.exec(name, &["/bin/ln", "/bin/busybox", "/tmp/linked"]);
            assert!(denied.is_err(), "{one:?}, {other:?} {name}: what was not recorded fails");
        }
    });
}

#[test]
fn what_crun_was_recorded_with_starts_on_runc() {
    from_one_to_the_other(Kind::PodmanCrun, Kind::PodmanRunc);
}

#[test]
fn what_runc_was_recorded_with_starts_on_crun() {
    from_one_to_the_other(Kind::PodmanRunc, Kind::PodmanCrun);
}

/// A policy that knows of no runtime gets the runtime's set, and is in the kernel with it.
#[test]
fn a_policy_with_the_set_of_its_runtime_is_what_verify_finds() {
    on_each("a policy with its runtime's set", |setup, engine| {
        let kind = engine.kind();
        let path = |name: &str| setup.path(name).display().to_string();
        let (recording, policy) = (path("host.json"), path("policies/host.yaml"));
        let script =
            "mkdir /tmp/strait-$$; chmod 700 /tmp/strait-$$; rmdir /tmp/strait-$$; exec sleep 0";
        strait(&["record", "-o", &recording, "--", "/bin/busybox", "sh", "-c", script]);
        strait(&["generate", &recording, "-o", &policy]);
        let text_of = fs::read_to_string(&policy).unwrap();
        assert!(!text_of.contains("neededBy") && !text_of.contains("include"), "{text_of}");
        let binary = setup.program(kind.runtime());
        let annotation = ["--annotation", "io.strait.policy=host"];
        let options = match kind {
            Kind::Docker => {
                fs::write(setup.path("policies/bindings"), "* host\n").unwrap();
                vec![]
            }
            Kind::Containerd => [&annotation[..], &["--runc-binary", &binary]].concat(),
            _ => annotation.to_vec(),
        };
        let pid = engine.run("bound", Profile::Default, &options, &["/bin/sleep", "1000"]).unwrap();
        let verify = |policy: &str| {
            let args = ["verify", "--pid", &pid.to_string(), "--runtime", kind.runtime()];
            Command::new(STRAIT).args(args).args(["--policy", policy]).output().unwrap()
        };
        let with_set = path("with-set.yaml");
        let include = format!("spec:\n  include: ['set:runtime-{}']\n", kind.runtime());
        fs::write(&with_set, text_of.replacen("spec:\n", &include, 1)).unwrap();
        let holds = verify(&with_set);
        assert!(holds.status.success(), "{kind:?}: {}", text(&holds));
        // Without it, more passes than it says.
        let drifts = verify(&policy);
        assert_eq!(drifts.status.code(), Some(1), "{kind:?}: {}", text(&drifts));
    });
}
