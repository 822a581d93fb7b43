//! Containers of pods, as containerd's CRI makes them: found, inspected, verified and recorded by name,
//! and bound by Strait as the runtime of a handler.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strait_testkit::cri::{Cri, IMAGE};

use crate::recorded::{observes, wait};
use crate::setup::{STRAIT, Setup, text};

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

fn strait(cri: &Cri, arguments: &[&str]) -> Output {
    let engine = format!("containerd={}", cri.state().display());
    let mut command = Command::new(STRAIT);
    command.args(arguments).args(["--container-engine", &engine]);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn pods_are_found_verified_and_recorded() {
    let setup = Setup::new();
    let cri = Cri::start("pods are found", |runtime| setup.program(runtime));
    cri.iter().for_each(|cri| are_found(&setup, cri));
}

/// What distributions have is older, and knows nothing of plugins.
#[test]
fn pods_of_the_installed_containerd_are_found_verified_and_recorded() {
    let setup = Setup::new();
    let cri = Cri::start_installed("pods are found", |runtime| setup.program(runtime));
    cri.iter().for_each(|cri| are_found(&setup, cri));
}

fn are_found(setup: &Setup, cri: &Cri) {
    fs::write(setup.path("policies/bindings"), format!("{IMAGE} no-mkdir\n* -\n")).unwrap();
    let pod = cri.pod("web", &[], "").unwrap();
    let default = cri.run(&pod, "app", true, &SLEEP).unwrap();
    let open = cri.run(&pod, "open", false, &SLEEP).unwrap();
    let bound = cri.pod("bound", &[], "strait").unwrap();
    let bound = cri.run(&bound, "bound", true, &SLEEP).unwrap();

    let output = strait(cri, &["containers", "--json"]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", text(&output));
    });
    for (id, name, pod, confined) in [
        (&default, "app", "shop/web", "default"),
        (&open, "open", "shop/web", "unconfined"),
        (&bound, "bound", "shop/bound", "custom"),
    ] {
        let mut all = list["containers"].as_array().unwrap().iter();
        let one = all.find(|one| one["id"] == id.as_str()).unwrap();
        assert_eq!(one["engine"], "containerd", "{one:#}");
        assert_eq!(one["namespace"], "k8s.io", "{one:#}");
        assert_eq!(one["names"][0], name, "{one:#}");
        assert_eq!(one["pod"], pod, "{one:#}");
        assert_eq!(one["image"], IMAGE, "{one:#}");
        assert_eq!(one["runtime"], "runc", "{one:#}");
        assert_eq!(one["pid"], cri.pid(id).unwrap(), "{one:#}");
        // The release moves on, and with it its profile.
        if name != "app" || cri.release() == "2.1.9" {
            assert_eq!(one["confined"], confined, "{one:#}");
        }
    }

    let output = strait(cri, &["inspect", "--container", "app"]);
    assert!(output.status.success() && text(&output).contains("sleep"), "{}", text(&output));

    let policy = setup.path("policies/no-mkdir.yaml").display().to_string();
    for (container, holds) in [("bound", 0), ("app", 1), ("open", 1)] {
        let output = strait(cri, &["verify", "--container", container, "--policy", &policy]);
        assert_eq!(output.status.code(), Some(holds), "{container}: {}", text(&output));
    }

    let file = setup.path("app.json").display().to_string();
    let engine = format!("containerd={}", cri.state().display());
    let recorder = Command::new(STRAIT)
        .args(["record", "--container", "app", "--container-engine", &engine, "-o", &file])
        .stdin(Stdio::null())
        .spawn();
    let mut recorder = recorder.unwrap();
    wait("it observes", || observes(recorder.id()));
    assert_eq!(cri.exec(&default, &["/bin/mkdir", "-p", "/tmp/new"]), Ok(0));
    let pid = recorder.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let _ = recorder.wait().unwrap();
    wait("the recording is there", || fs::metadata(&file).is_ok());
    let recording = fs::read_to_string(&file).unwrap();
    assert!(recording.contains("\"mkdir\""), "{recording}");
}
