//! Starting containers that are recorded, and reading what was recorded of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use strait_testkit::engine::{Engine, Kind, Profile};

use crate::setup::Setup;

/// The processes that record into the folder of this set-up.
pub fn recorders(setup: &Setup) -> Vec<u32> {
    let folder = setup.path("recordings").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("oci-recorder") && line.contains(&folder)
    };
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect()
}

/// Whether this process observes: its programs are attached.
pub fn observes(process: u32) -> bool {
    let links = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let mut links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link.to_string_lossy().contains("bpf_link"))
}

/// Whether these were all started before the container was there.
pub fn is_ahead(setup: &Setup) -> bool {
    recorders(setup).iter().all(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|word| word == b"--socket")
    })
}

/// Waits until this is so.
#[track_caller]
pub fn wait(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: it does not come to that");
}

/// The recording in this file, when its recorder has ended.
#[track_caller]
pub fn recording(setup: &Setup, file: &Path) -> Value {
    wait("the recorder ends with the container", || recorders(setup).is_empty());
    serde_json::from_slice(&fs::read(file).unwrap_or_else(|error| panic!("{file:?}: {error}")))
        .unwrap()
}

/// The names of the calls of a phase and of images with this in their names.
pub fn calls<'a>(recording: &'a Value, phase: &str, image: &str) -> BTreeSet<&'a str> {
    let path = |call: &Value| {
        let index = usize::try_from(call["image"].as_u64().unwrap()).unwrap();
        recording["images"][index]["path"].as_str().unwrap().to_owned()
    };
    let calls = recording["calls"].as_array().unwrap().iter();
    calls
        .filter(|call| call["phase"] == phase && path(call).contains(image))
        .filter_map(|call| call["name"].as_str())
        .collect()
}

/// The bindings by which every container is recorded.
pub const RECORD_ALL: &str = "* - record\n";

/// Has the engine start a container with these options, recorded into a file that it gives.
pub fn start_recorded(
    setup: &Setup,
    engine: &Engine,
    name: &str,
    profile: Profile<'_>,
    more: &[&str],
    command: &[&str],
) -> PathBuf {
    let bindings = setup.path("policies/bindings");
    let binds = !bindings.exists();
    let binary = setup.program(engine.kind().runtime());
    let annotation = format!("io.strait.record={name}.json");
    let mut options = vec!["--annotation", &annotation];
    let mut file = setup.path(&format!("recordings/{name}.json"));
    match engine.kind() {
        // Its client knows no annotations.
        Kind::Docker => {
            options.clear();
            if binds {
                fs::write(&bindings, RECORD_ALL).unwrap();
            }
        }
        Kind::Containerd => options.extend(["--runc-binary", &binary]),
        Kind::PodmanCrun | Kind::PodmanRunc => {}
    }
    options.extend(more);
    let started = engine.run(name, profile, &options, command);
    started.unwrap_or_else(|error| panic!("{:?} {name} {options:?}: {error}", engine.kind()));
    if engine.kind() == Kind::Docker {
        file.set_file_name(format!("{}.json", engine.id(name).unwrap()));
        if binds {
            fs::remove_file(&bindings).unwrap();
        }
    }
    file
}

/// Demands that the recording is of everything.
#[track_caller]
pub fn is_whole(recording: &Value) {
    let completeness = &recording["completeness"];
    let lost = completeness["lost"].as_object().unwrap();
    assert!(lost.values().all(|lost| lost == 0), "{completeness}");
    assert_eq!(completeness["interrupted"], false, "{completeness}");
    assert_eq!(completeness["blindSpots"], serde_json::json!([]), "{completeness}");
}
