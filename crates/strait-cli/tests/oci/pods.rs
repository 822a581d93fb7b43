//! Recording pods of a real containerd: under crun, by annotations that the engine passes on, when a
//! container is made again, and many at the same time.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use strait_testkit::cri::{Cri, IMAGE};
use strait_testkit::skip;

use crate::plugin::Plugin;
use crate::recorded::{calls, is_whole, observes, recorders, recording, wait};
use crate::setup::{STRAIT, Setup, strait as generate};

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];
const MKDIR: [&str; 2] = ["/bin/mkdir", "/tmp/new"];
const EVEN: [&str; 3] = ["/bin/sh", "-c", "mkdir /tmp/x; exec sleep 1000"];
const ODD: [&str; 3] = ["/bin/sh", "-c", "chmod 755 /tmp; exec sleep 1000"];

fn start(setup: &Setup, test: &str) -> Option<Cri> {
    Cri::start(test, |runtime| setup.program(runtime))
}

/// The names of the recordings.
fn recordings(setup: &Setup) -> Vec<String> {
    let files = fs::read_dir(setup.path("recordings")).unwrap().flatten();
    let mut names: Vec<String> =
        files.map(|file| file.file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The command that a container was to come to.
fn runs(cri: &Cri, container: &str, command: &str) -> bool {
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    cri.pid(container).is_ok_and(|pid| name(pid).trim() == command)
}

#[test]
fn pods_of_crun_are_recorded_and_bound() {
    let setup = Setup::new();
    let test = "pods of crun";
    let strait = |runtime: &str| setup.program(runtime);
    let (mut releases, mut engines) = (BTreeSet::new(), 0);
    for cri in [Cri::start(test, strait), Cri::start_installed(test, strait)] {
        let Some(cri) = cri else { continue };
        let what = format!("crun on containerd {}", cri.release());
        let asks = [("io.strait.record", "x.json")];
        let pod = match cri.pod("web", &asks, "strait-crun") {
            Err(error) if Command::new("crun").arg("--version").output().is_err() => {
                skip(test, &format!("crun is not installed: {error}"));
                continue;
            }
            pod => pod.unwrap_or_else(|error| panic!("{what}: {error}")),
        };
        engines += 1;
        let app = cri.run(&pod, "app", true, &EVEN).unwrap();
        wait("it has done its work", || runs(&cri, &app, "sleep"));
        cri.remove(&pod);
        let file = setup.path("recordings/shop_web_app.x.json");
        let recorded = recording(&setup, &file);
        is_whole(&recorded);
        assert!(calls(&recorded, "before-filter", "crun").contains("pivot_root"), "{what}");
        assert!(calls(&recorded, "runtime", "crun").contains("execve"), "{what}");
        assert!(calls(&recorded, "start-up", "busybox").contains("mkdir"), "{what}");

        // The policy that comes of it starts the container on its first try.
        let policy = setup.path("policies/web.yaml").display().to_string();
        generate(&["generate", file.to_str().unwrap(), "-o", &policy]);
        fs::remove_file(file).unwrap();
        let ledger = fs::read_to_string(&policy).unwrap();
        let needed = ledger.split("runtime: \"crun ").nth(1).unwrap_or_else(|| panic!("{ledger}"));
        releases.insert(needed.split('"').next().unwrap().to_owned());
        fs::write(setup.path("policies/bindings"), format!("{IMAGE} web\n* -\n")).unwrap();
        let pod = cri.pod("bound", &[], "strait-crun").unwrap();
        let app = cri.run(&pod, "app", true, &EVEN).unwrap();
        wait("it has done its work", || runs(&cri, &app, "sleep"));
        assert_ne!(cri.exec(&app, &["/bin/chmod", "700", "/tmp"]), Ok(0), "{what}");
        fs::write(setup.path("policies/bindings"), format!("{IMAGE} no-mkdir\n* -\n")).unwrap();
        let app = cri.run(&pod, "other", true, &SLEEP).unwrap();
        assert_ne!(cri.exec(&app, &MKDIR), Ok(0), "{what}");
        assert_eq!(cri.exec(&app, &["/bin/true"]), Ok(0), "{what}");
        fs::remove_file(setup.path("policies/bindings")).unwrap();
    }
    assert_eq!(releases.len(), engines, "each has its own crun: {releases:?}");
}

/// containerd passes on what it is told to: the same to each container of the pod, and to the pod's own.
#[test]
fn annotations_that_the_engine_passes_on_are_each_containers() {
    let setup = Setup::new();
    let Some(cri) = start(&setup, "annotations of pods are passed on") else { return };
    let asks = [("io.strait.record", "x.json")];
    let pods = ["one", "two"].map(|name| cri.pod(name, &asks, "annotated").unwrap());
    for pod in &pods {
        for (name, command) in [("even", EVEN), ("odd", ODD)] {
            let app = cri.run(pod, name, true, &command).unwrap();
            wait("it has done its work", || runs(&cri, &app, "sleep"));
        }
    }
    pods.iter().for_each(|pod| cri.remove(pod));
    wait("the recorders end with their containers", || recorders(&setup).is_empty());
    let expected = [
        "shop_one.x.json",
        "shop_one_even.x.json",
        "shop_one_odd.x.json",
        "shop_two.x.json",
        "shop_two_even.x.json",
        "shop_two_odd.x.json",
    ];
    assert_eq!(recordings(&setup), expected);
    for name in expected {
        let recording = recording(&setup, &setup.path("recordings").join(name));
        is_whole(&recording);
        let work = calls(&recording, "start-up", "busybox");
        assert_eq!(work.contains("mkdir"), name.contains("even"), "{name}: {work:?}");
        assert_eq!(work.contains("chmod"), name.contains("odd"), "{name}: {work:?}");
    }

    // What they say of the image is the engine's to say.
    let bindings = format!("{IMAGE} no-mkdir\nlocalhost/loose - overridable\n* -\n");
    fs::write(setup.path("policies/bindings"), bindings).unwrap();
    let loose = ("io.kubernetes.cri.image-name", "localhost/loose");
    let pod = cri.pod("forged", &[loose], "annotated").unwrap();
    let app = cri.run(&pod, "app", true, &SLEEP).unwrap();
    assert_ne!(cri.exec(&app, &MKDIR), Ok(0), "the image is what containerd says");
    let loose = ("io.kubernetes.cri-o.ImageName", "localhost/loose");
    let error = match cri.pod("other", &[loose], "annotated") {
        Ok(pod) => cri.run(&pod, "app", true, &SLEEP).unwrap_err(),
        Err(error) => error,
    };
    assert!(error.contains("annotations of containerd and those of CRI-O"), "{error}");
}

/// A kubelet has another container made where one has ended, by the same name.
#[test]
fn a_container_that_is_made_again_adds_to_its_recording() {
    let setup = Setup::new();
    let Some(cri) = start(&setup, "a container is made again") else { return };
    let _plugin = Plugin::start(&setup, &cri);
    let pod = cri.pod("web", &[("io.strait.record", "x.json")], "").unwrap();
    for command in [EVEN, ODD] {
        let app = cri.run(&pod, "app", true, &command).unwrap();
        wait("it has done its work", || runs(&cri, &app, "sleep"));
        cri.remove_container(&app).unwrap();
        wait("its recorder ends", || recorders(&setup).is_empty());
    }
    assert_eq!(recordings(&setup), ["shop_web_app.x.json"]);
    let both = recording(&setup, &setup.path("recordings/shop_web_app.x.json"));
    is_whole(&both);
    assert_eq!(both["runs"].as_array().map(Vec::len), Some(2));
    let work = calls(&both, "start-up", "busybox");
    assert!(work.is_superset(&BTreeSet::from(["mkdir", "chmod"])), "{work:?}");
}

/// What a container of a pod does is counted to the last call.
#[test]
fn what_a_pod_does_is_counted() {
    const TIMES: usize = 500;
    let setup = Setup::new();
    let Some(cri) = start(&setup, "a pod is recorded while it runs") else { return };
    let pod = cri.pod("web", &[], "").unwrap();
    let work = format!(
        "while ! test -e /tmp/go; do sleep 0.05; done; n=0; while test $n -lt {TIMES}; do \
         chmod 755 /tmp && n=$((n+1)); done; echo $n > /tmp/done; exec sleep 1000"
    );
    let app = cri.run(&pod, "app", true, &["/bin/sh", "-c", &work]).unwrap();
    let file = setup.path("app.json");
    let engine = format!("containerd={}", cri.state().display());
    let mut recorder = Command::new(STRAIT)
        .args(["record", "--container", "app", "--container-engine", &engine, "--output"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait("it observes", || observes(recorder.id()));
    let root = format!("/proc/{}/root", cri.pid(&app).unwrap());
    fs::write(format!("{root}/tmp/go"), "").unwrap();
    wait("it has done its work", || runs(&cri, &app, "sleep"));
    let done = fs::read_to_string(format!("{root}/tmp/done")).unwrap();
    let pid = recorder.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(recorder.wait().unwrap().code().is_some());
    let recording: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let lost = recording["completeness"]["lost"].as_object().unwrap();
    assert!(lost.values().all(|lost| lost == 0), "{lost:?}");
    let made = recording["calls"].as_array().unwrap().iter().filter(|call| call["name"] == "chmod");
    let made: u64 = made.map(|call| call["outcomes"]["succeeded"].as_u64().unwrap()).sum();
    assert_eq!(done.trim(), TIMES.to_string());
    assert_eq!(made.to_string(), done.trim());
}

/// Ten pods with five containers each.
pub fn start_together() {
    const PODS: usize = 10;
    const EACH: usize = 5;
    let setup = Setup::new();
    let Some(cri) = start(&setup, "many pods start together") else { return };
    wait("the engine has come up", || cri.remains().is_empty());
    let plugin = Plugin::start(&setup, &cri);
    let asks = [("io.strait.record", "x.json")];
    let pods: Vec<_> = std::thread::scope(|scope| {
        let (cri, asks) = (&cri, &asks);
        let start = |index: usize| {
            scope.spawn(move || {
                let pod = cri.pod(&format!("many-{index}"), asks, "").unwrap();
                for each in 0..EACH {
                    let command = if (index + each).is_multiple_of(2) { EVEN } else { ODD };
                    let app = cri.run(&pod, &format!("app-{each}"), true, &command).unwrap();
                    wait("it has done its work", || runs(cri, &app, "sleep"));
                }
                pod
            })
        };
        let started: Vec<_> = (0..PODS).map(start).collect();
        started.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(recorders(&setup).len(), PODS * EACH, "{}", plugin.said());
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| cri.remove(pod));
        }
    });
    wait("all recorders end", || recorders(&setup).is_empty());
    assert_eq!(recordings(&setup).len(), PODS * EACH, "{:?}", recordings(&setup));
    for (index, each) in (0..PODS).flat_map(|index| (0..EACH).map(move |each| (index, each))) {
        let name = format!("recordings/shop_many-{index}_app-{each}.x.json");
        let recording = recording(&setup, &setup.path(&name));
        is_whole(&recording);
        let is_even = (index + each).is_multiple_of(2);
        let work = calls(&recording, "start-up", "busybox");
        assert_eq!((work.contains("mkdir"), work.contains("chmod")), (is_even, !is_even), "{name}");
        assert!(calls(&recording, "runtime", "runc").contains("execve"), "{name}");
        assert_eq!(recording["container"]["pod"], format!("shop/many-{index}"), "{name}");
    }
    drop(plugin);
    wait("the engine has cleaned up", || cri.remains().is_empty());
}
