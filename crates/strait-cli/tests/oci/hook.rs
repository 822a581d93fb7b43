//! The hook on its own, as `strait install podman-hook` makes it known.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use strait_testkit::engine::{Engine, IMAGE, Kind, Profile};

use crate::recorded::{is_ahead, is_whole, recorders, recording};
use crate::setup::{STRAIT, Setup, strait, text};

/// Runs the hook with this on its standard input.
fn hook(setup: &Setup, input: &str) -> Output {
    let path = |name: &str| setup.path(name).display().to_string();
    let mut hook = Command::new(STRAIT)
        .args(["oci-hook", "--policies", &path("policies"), "--recordings", &path("recordings")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What is too long is not read to its end.
    let _ = hook.stdin.take().unwrap().write_all(input.as_bytes());
    hook.wait_with_output().unwrap()
}

#[test]
fn what_no_hook_is_given_is_told() {
    let setup = Setup::new();
    let annotations = json!({"io.strait.record": "x.json"});
    let huge = "x".repeat(33 << 20);
    for (input, said) in [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1]", "not JSON"),
        (&json!({"process": {"args": [huge]}}).to_string(), "larger than 32 MiB"),
        (&json!({"process": {}, "annotations": annotations}).to_string(), "`linux` is missing"),
        (&json!({"id": "x", "bundle": "/b", "annotations": annotations}).to_string(), "no process"),
        (
            // The kernel gives no process this id (PID_MAX_LIMIT).
            &json!({"id": "x", "bundle": "/b", "pid": 0x7fff_ffff, "annotations": annotations})
                .to_string(),
            "there is no process",
        ),
        (
            &json!({"id": "x", "bundle": "/b", "pid": 1,
                    "annotations": {"io.strait.record": "../x"}})
            .to_string(),
            "is no file in",
        ),
    ] {
        let output = hook(&setup, input);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{said}: {:?}", output.status);
        assert!(output.stdout.is_empty(), "{said}");
        assert!(text(&output).contains(said), "{said}: {}", text(&output));
    }
    assert_eq!(fs::read_dir(setup.path("recordings")).unwrap().count(), 0);
}

#[test]
fn a_configuration_that_asks_for_nothing_is_printed_as_it_is() {
    let setup = Setup::new();
    let spec = json!({"linux": {"x": 1}, "process": {"args": ["y"]}, "z": [null]});
    let output = hook(&setup, &spec.to_string());
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), spec);
    // The state of a container that is not to be recorded.
    let state = json!({"id": "x", "bundle": "/b", "pid": 1});
    let output = hook(&setup, &state.to_string());
    assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));
}

#[test]
fn podman_binds_by_the_hook_and_stops_what_cannot_be_bound() {
    for kind in [Kind::PodmanCrun, Kind::PodmanRunc] {
        let setup = Setup::new();
        let path = |name: &str| setup.path(name).display().to_string();
        let (hooks, policies, recordings) = (path("hooks"), path("policies"), path("recordings"));
        let install = ["install", "podman-hook", "--hooks-dir", &hooks, "--policies", &policies];
        let install = [&install[..], &["--recordings", &recordings]].concat();
        strait(&install);
        let more = format!("hooks_dir = [{hooks:?}]\n");
        let engine = match Engine::try_start(kind, &[&more]) {
            Ok(engine) => engine,
            Err(reason) => {
                strait_testkit::skip("podman binds by the hook", &format!("{kind:?}: {reason}"));
                continue;
            }
        };
        let start = |name: &str, annotation: &str| {
            let options = ["--annotation", annotation];
            engine.run(name, Profile::Unconfined, &options, &["/bin/sleep", "1000"])
        };
        let can_mkdir = |name: &str| engine.exec(name, &["/bin/mkdir", "/tmp/new"]).is_ok();
        start("other", "other=1").unwrap();
        assert!(can_mkdir("other"), "{kind:?}");
        start("bound", "io.strait.policy=no-mkdir").unwrap();
        assert!(!can_mkdir("bound"), "{kind:?}");
        for (annotation, said) in [
            ("io.strait.policy=none", "there is no policy `none`"),
            ("io.strait.policy=../x", "is no name of a policy"),
            ("io.strait.policy=broken", "broken.yaml"),
            ("io.strait.mode=log", "there is none"),
            ("io.strait.record=/etc/x", "is no file in"),
        ] {
            let error = start("stopped", annotation).expect_err(said);
            assert!(error.contains(said), "{kind:?} {annotation}: {error}");
            engine.remove("stopped");
        }
        // What others may write is nobody's word.
        for (path, mode) in [("policies", 0o777), ("policies/no-mkdir.yaml", 0o666)] {
            let _safe = setup.with_mode(path, mode);
            let error = start("stopped", "io.strait.policy=no-mkdir").unwrap_err();
            let said = format!("{} may be written by everybody", setup.path(path).display());
            assert!(error.contains(&said), "{kind:?}: {error}");
            engine.remove("stopped");
        }
        // What is bound to every image it knows too.
        fs::write(setup.path("policies/bindings"), "* no-mkdir\n").unwrap();
        let error = start("stopped", "io.strait.policy=looser").unwrap_err();
        assert!(error.contains("mkdir would pass by `looser`"), "{kind:?}: {error}");
        engine.remove("stopped");
        strait(&[&install[..], &["--remove"]].concat());
        assert_eq!(fs::read_dir(&hooks).unwrap().count(), 0);
        start("removed", "io.strait.policy=no-mkdir").unwrap();
        assert!(can_mkdir("removed"), "{kind:?}");
    }
}

/// Installs the hook with these options, and has Podman know it.
pub fn with_hook(setup: &Setup, kind: Kind, options: &[&str], test: &str) -> Option<Engine> {
    let path = |name: &str| setup.path(name).display().to_string();
    let (hooks, policies, recordings) = (path("hooks"), path("policies"), path("recordings"));
    let install = ["install", "podman-hook", "--hooks-dir", &hooks, "--policies", &policies];
    strait(&[&install[..], &["--recordings", &recordings], options].concat());
    match Engine::try_start(kind, &[&format!("hooks_dir = [{hooks:?}]\n")]) {
        Ok(engine) => Some(engine),
        Err(reason) => {
            strait_testkit::skip(test, &format!("{kind:?}: {reason}"));
            None
        }
    }
}

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

#[test]
fn podman_binds_by_image_by_the_hook() {
    for kind in [Kind::PodmanCrun, Kind::PodmanRunc] {
        let setup = Setup::new();
        let test = "podman binds by image";
        let Some(engine) = with_hook(&setup, kind, &["--always"], test) else { continue };
        let bindings = setup.path("policies/bindings");
        let start =
            |name: &str, options: &[&str]| engine.run(name, Profile::Unconfined, options, &SLEEP);
        let can_mkdir = |name: &str| engine.exec(name, &["/bin/mkdir", "/tmp/new"]).is_ok();
        start("free", &[]).unwrap();
        assert!(can_mkdir("free"), "{kind:?}: nothing is bound");

        let format = ["image", "inspect", "--format", "sha256:{{.Id}}", IMAGE];
        let digest = engine.client().args(format).output().unwrap();
        let digest = String::from_utf8(digest.stdout).unwrap();
        let digest = digest.trim();
        for (line, denied) in [
            (format!("{IMAGE} no-mkdir\nlocalhost/* looser\n"), true),
            (format!("{digest} no-mkdir\n{IMAGE} looser\n"), true),
            ("localhost/strait-test/* no-mkdir\n* looser\n".to_owned(), true),
            (format!("{IMAGE}x no-mkdir\nlocalhost/other* no-mkdir\n"), false),
        ] {
            fs::write(&bindings, &line).unwrap();
            start("bound", &[]).unwrap_or_else(|error| panic!("{kind:?} {line}: {error}"));
            assert_eq!(!can_mkdir("bound"), denied, "{kind:?}: {line}");
            engine.remove("bound");
        }
        // An annotation only tightens.
        fs::write(&bindings, format!("{IMAGE} no-mkdir\n")).unwrap();
        let error = start("stopped", &["--annotation", "io.strait.policy=looser"]).unwrap_err();
        assert!(error.contains("mkdir would pass by `looser`"), "{kind:?}: {error}");
        engine.remove("stopped");
        start("tighter", &["--annotation", "io.strait.policy=tighter"]).unwrap();
        assert!(engine.exec("tighter", &["/bin/chmod", "700", "/tmp"]).is_err(), "{kind:?}");

        // What has no image.
        let rootfs = engine.rootfs().display().to_string();
        let run_rootfs = |name: &str| {
            let run = ["run", "--detach", "--name", name, "--network", "none", "--rootfs", &rootfs];
            engine.client().args(run).args(SLEEP).output().unwrap()
        };
        let output = run_rootfs("imageless");
        assert!(!output.status.success(), "{kind:?}");
        let said = text(&output);
        assert!(
            said.contains("which image the container is of cannot be told"),
            "{kind:?}: {said}"
        );
        engine.remove("imageless");
        fs::write(&bindings, format!("{IMAGE} -\n* no-mkdir\n")).unwrap();
        let output = run_rootfs("imageless");
        assert!(output.status.success(), "{kind:?}: {}", text(&output));
        assert!(!can_mkdir("imageless"), "{kind:?}");

        // And recorded, into a file that is named by the id.
        fs::write(&bindings, format!("{IMAGE} - record\n")).unwrap();
        start("recorded", &[]).unwrap();
        assert!(recorders(&setup).len() == 1 && is_ahead(&setup), "{kind:?}");
        let file = setup.path(&format!("recordings/{}.json", engine.id("recorded").unwrap()));
        engine.remove("recorded");
        is_whole(&recording(&setup, &file));
    }
}

/// Podman goes on where a hook fails at `precreate`, so the next one looks what has become of it.
#[test]
fn a_container_is_not_made_that_was_passed_over_at_precreate() {
    let setup = Setup::new();
    let test = "precreate is passed over";
    let Some(engine) = with_hook(&setup, Kind::PodmanRunc, &[], test) else { return };
    let file = setup.path("hooks/strait.json");
    let mut hook: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    hook["stages"] = json!(["createRuntime"]);
    fs::write(&file, hook.to_string()).unwrap();
    let start = |profile: Profile<'_>, annotation: &str| {
        engine.run("stopped", profile, &["--annotation", annotation], &SLEEP)
    };
    for profile in [Profile::Default, Profile::Unconfined] {
        start(profile, "io.strait.policy=no-mkdir").unwrap_err();
        engine.remove("stopped");
    }
    start(Profile::Unconfined, "io.strait.record=x.json").unwrap_err();
    engine.remove("stopped");
    start(Profile::Default, "io.strait.record=x.json").unwrap();
}

#[test]
fn who_installs_the_hook_is_told_what_it_is_not_run_for() {
    let setup = Setup::new();
    let path = |name: &str| setup.path(name).display().to_string();
    let (hooks, policies, recordings) = (path("hooks"), path("policies"), path("recordings"));
    fs::write(setup.path("policies/bindings"), "* -\n").unwrap();
    let install = ["install", "podman-hook", "--hooks-dir", &hooks, "--policies", &policies];
    let install = [&install[..], &["--recordings", &recordings]].concat();
    assert!(strait(&install).contains("with --always"));
    assert!(!strait(&[&install[..], &["--always"]].concat()).contains("with --always"));
}
