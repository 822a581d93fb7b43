//! Many containers that start at the same time, each with a recorder: nothing is lost, nothing is taken
//! for another's, and nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use strait_testkit::engine::{Engine, Kind, Profile};

use crate::recorded::{RECORD_ALL, calls, is_whole, recorders, recording, start_recorded, wait};
use crate::setup::{Setup, on, strait};

const MANY: usize = 50;
const EVEN: &str = "mkdir /tmp/x; exec sleep 1000";
const ODD: &str = "chmod 755 /tmp; exec sleep 1000";

fn start_together(kind: Kind) {
    on(kind, "many containers start together", |setup, engine| {
        if kind == Kind::PodmanRunc {
            // Their recorders are started by the hook then, before there is a runtime.
            let path = |name: &str| setup.path(name).display().to_string();
            let (hooks, policies, recordings) =
                (path("hooks"), path("policies"), path("recordings"));
            let install =
                ["install", "podman-hook", "--hooks-dir", &hooks, "--policies", &policies];
            strait(&[&install[..], &["--recordings", &recordings]].concat());
        }
        // What an engine cleans up when a container has ended it does in the background.
        let is_clean = || engine.remains().is_empty();
        wait("the engine has come up", is_clean);
        let before = There::now(setup, engine);
        let names: [String; MANY] = std::array::from_fn(|index| format!("many-{index}"));
        let names = &names;
        let work = |index: usize| if index.is_multiple_of(2) { EVEN } else { ODD };
        if kind == Kind::Docker {
            fs::write(setup.path("policies/bindings"), RECORD_ALL).unwrap();
        }
        let files: Vec<_> = std::thread::scope(|scope| {
            let start = |index| {
                let command = ["/bin/sh", "-c", work(index)];
                scope.spawn(move || {
                    start_recorded(setup, engine, &names[index], Profile::Default, &[], &command)
                })
            };
            let started: Vec<_> = (0..MANY).map(start).collect();
            started.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(recorders(setup).len(), MANY, "{kind:?}");
        for name in names {
            let name_of =
                || fs::read_to_string(format!("/proc/{}/comm", engine.pid(name).unwrap()));
            wait("the work is done", || name_of().is_ok_and(|name| name == "sleep\n"));
            engine.remove(name);
        }
        wait("all recorders end", || recorders(setup).is_empty());
        for (index, file) in files.iter().enumerate() {
            let recording = recording(setup, file);
            is_whole(&recording);
            let (mine, other) =
                if index.is_multiple_of(2) { ("mkdir", "chmod") } else { ("chmod", "mkdir") };
            let work = calls(&recording, "start-up", "busybox");
            assert!(work.contains(mine) && !work.contains(other), "{kind:?} {index}: {work:?}");
            let runtime = calls(&recording, "runtime", kind.runtime());
            assert!(runtime.contains("execve"), "{kind:?} {index}: {runtime:?}");
            fs::remove_file(file).unwrap();
        }
        wait("the engine has cleaned up", is_clean);
        let after = There::now(setup, engine);
        assert_eq!(before, after, "{kind:?}");
    });
}

/// What may be left of containers.
#[derive(Debug, PartialEq, Eq)]
struct There {
    /// Processes and mounts of the engine.
    remains: Vec<String>,
    /// Maps and programs that are pinned.
    pinned: BTreeSet<String>,
    /// Files of the administrator's, recordings, policies and hooks among them.
    files: BTreeSet<String>,
    /// The bundles of containers.
    bundles: BTreeSet<String>,
}

impl There {
    fn now(setup: &Setup, engine: &Engine) -> There {
        let mut files = below(&setup.path(""));
        // By which Docker is told to record.
        files.retain(|file| !file.ends_with("policies/bindings"));
        let mut bundles = below(engine.folder());
        bundles.retain(|file| file.ends_with("config.json"));
        let pinned = below(Path::new("/sys/fs/bpf"));
        There { remains: engine.remains(), pinned, files, bundles }
    }
}

/// All files below a folder.
fn below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.insert(entry.path().display().to_string());
    }
    found
}

#[test]
fn fifty_of_pods() {
    crate::pods::start_together();
}

#[test]
fn fifty_of_docker() {
    start_together(Kind::Docker);
}

#[test]
fn fifty_of_containerd() {
    start_together(Kind::Containerd);
}

#[test]
fn fifty_of_podman_with_crun() {
    start_together(Kind::PodmanCrun);
}

#[test]
fn fifty_of_podman_with_runc() {
    start_together(Kind::PodmanRunc);
}
