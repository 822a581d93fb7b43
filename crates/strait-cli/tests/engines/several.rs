//! Several containers in one `strait record`: each has a recording of its own, of what it has done.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use strait_testkit::effort;
use strait_testkit::engine::{Engine, Kind, Profile};
use tempfile::TempDir;

use super::{said, strait};

/// A container that waits, then makes this many folders, each by a call, and ends.
fn start(engine: &Engine, name: &str, folders: usize) -> i32 {
    let folders: String = (0..folders).map(|number| format!(" /tmp/made-{number}")).collect();
    let script = format!("while ! test -e /tmp/go; do sleep 0.02; done; mkdir{folders}");
    engine.run(name, Profile::Default, &[], &["/bin/sh", "-c", &script]).unwrap()
}

/// Lets the container go on whose first process this is.
fn go(pid: i32) {
    fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
}

/// `strait record` of containers by these names, once it says that it records; its recordings go into
/// a folder of this one.
struct Recorder(Child, PathBuf);

impl Recorder {
    fn start(engines: &[&Engine], folder: &Path, names: &[&str]) -> Recorder {
        let recordings = folder.join("recordings");
        let mut strait = Command::new(env!("CARGO_BIN_EXE_strait"));
        strait.arg("record").args(["--engine", "ebpf", "--output"]).arg(&recordings);
        strait.args(names.iter().flat_map(|name| ["--container", name]));
        for engine in engines {
            strait.envs(engine.environment());
        }
        let mut strait = strait.stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(strait.stderr.take().unwrap());
        let (mut text, mut line) = (String::new(), String::new());
        while !line.contains(" has begun") {
            line.clear();
            assert!(told.read_line(&mut line).unwrap() > 0, "it has ended: {text}");
            text += &line;
        }
        strait.stderr = Some(told.into_inner());
        Recorder(strait, recordings)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.1.join(format!("container-{name}.json"))
    }

    /// How many folders were made of which the recording of a container tells, once that is there.
    /// Nothing was lost, and no other container is in it.
    fn folders_made(&self, name: &str) -> u64 {
        let file = self.file(name);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !file.exists() {
            assert!(Instant::now() < deadline, "{} is not written", file.display());
            sleep(Duration::from_millis(5));
        }
        let recording: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let lost = recording["completeness"]["lost"].as_object().unwrap();
        assert!(!lost.is_empty() && lost.values().all(|count| count == 0), "{name}: {lost:?}");
        assert_eq!(recording["completeness"]["interrupted"], false, "{name}");
        let calls = recording["calls"].as_array().unwrap().iter();
        let made = calls.filter(|call| call["name"] == "mkdir");
        made.map(|call| call["outcomes"]["succeeded"].as_u64().unwrap()).sum()
    }

    fn finish(mut self) {
        let status = self.0.wait().unwrap();
        let mut told = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert!(status.success(), "{told}");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ten with STRAIT_EFFORT=3. One ends early, and one is started again while it is recorded.
fn together(kind: Kind, test: &str) {
    let Some(engine) = Engine::start(kind, test) else { return };
    let folder = TempDir::new().unwrap();
    let more: Vec<String> =
        (3..=effort(3).clamp(3, 9)).map(|number| format!("c{number}")).collect();
    let names: Vec<&str> =
        ["early", "again", "last"].into_iter().chain(more.iter().map(String::as_str)).collect();
    let pids: Vec<i32> =
        names.iter().zip(1..).map(|(name, folders)| start(&engine, name, folders)).collect();
    let recorder = Recorder::start(&[&engine], folder.path(), &names);

    go(pids[0]);
    assert_eq!(recorder.folders_made("early"), 1);
    assert!(!recorder.file("again").exists() && !recorder.file("last").exists());

    // What it does after it was started again is of another life of it.
    engine.restart("again").unwrap();
    assert_eq!(recorder.folders_made("again"), 0);
    go(engine.pid("again").unwrap());
    assert!(!recorder.file("last").exists());

    pids[2..].iter().copied().for_each(go);
    for (name, folders) in names.iter().zip(1..).skip(2) {
        assert_eq!(recorder.folders_made(name), folders, "{name}");
    }
    recorder.finish();
}

#[test]
fn several_of_docker() {
    together(Kind::Docker, "several_of_docker");
}

#[test]
fn several_of_podman_with_crun() {
    together(Kind::PodmanCrun, "several_of_podman_with_crun");
}

#[test]
fn one_of_each_engine_with_the_same_name() {
    let test = "one_of_each_engine_with_the_same_name";
    let Some(docker) = Engine::start(Kind::Docker, test) else { return };
    let Some(podman) = Engine::start(Kind::PodmanRunc, test) else { return };
    let folder = TempDir::new().unwrap();
    let (one, other) = (start(&docker, "web", 2), start(&podman, "web", 3));

    let into = folder.path().join("none");
    let ambiguous = ["record", "--container", "docker:web", "--container", "web", "--output"];
    let output = strait(&[&docker, &podman], &[&ambiguous[..], &[into.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(
        said(&output).contains("podman:web") && said(&output).contains("docker:web"),
        "{}",
        said(&output)
    );
    assert!(!into.exists());

    let names = ["docker:web", "podman:web"];
    let recorder = Recorder::start(&[&docker, &podman], folder.path(), &names);
    go(other);
    assert_eq!(recorder.folders_made("podman_web"), 3);
    assert!(!recorder.file("docker_web").exists());
    go(one);
    assert_eq!(recorder.folders_made("docker_web"), 2);
    recorder.finish();
}
