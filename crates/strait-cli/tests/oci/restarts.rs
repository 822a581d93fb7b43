//! Containers that are started again while they are recorded.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use strait_testkit::engine::{Engine, Kind, Profile};

use crate::recorded::{
    RECORD_ALL, calls, is_whole, observes, recorders, recording, start_recorded, wait,
};
use crate::setup::{STRAIT, on_each, text};

/// Makes a folder in its first run, and changes its mode in the second.
const SCRIPT: &str = "if mkdir /var/made; then touch /tmp/one; else chmod 700 /var/made; touch /tmp/two; fi 2>/dev/null; \
                      sleep 1000";

fn run_is_over(engine: &Engine, name: &str, run: &str) {
    let file = format!("/tmp/{run}");
    wait(run, || engine.exec(name, &["/bin/ls", &file]).is_ok());
}

#[test]
fn the_recording_of_a_container_has_all_its_runs() {
    on_each("a container is started again", |setup, engine| {
        let kind = engine.kind();
        let command = ["/bin/sh", "-c", SCRIPT];
        if kind == Kind::Docker {
            fs::write(setup.path("policies/bindings"), RECORD_ALL).unwrap();
        }
        let file = start_recorded(setup, engine, "again", Profile::Default, &[], &command);
        run_is_over(engine, "again", "one");
        engine.restart("again").unwrap();
        run_is_over(engine, "again", "two");
        wait("the first recorder ends", || recorders(setup).len() == 1);
        let first: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let work = calls(&first, "start-up", "busybox");
        assert!(work.contains("mkdir") && !work.contains("chmod"), "{kind:?}: {work:?}");
        engine.remove("again");

        let both = recording(setup, &file);
        is_whole(&both);
        assert_eq!(both["runs"].as_array().map(Vec::len), Some(2), "{kind:?}");
        let work = calls(&both, "start-up", "busybox");
        assert!(work.contains("mkdir") && work.contains("chmod"), "{kind:?}: {work:?}");
        assert_eq!(both["command"][2], SCRIPT, "{kind:?}");
        let left = fs::read_dir(setup.path("recordings")).unwrap().count();
        assert_eq!(left, 1, "{kind:?}: nothing else is written");
    });
}

#[test]
fn a_recording_of_a_running_container_ends_with_that_run() {
    on_each("a recorded container is started again", |setup, engine| {
        let kind = engine.kind();
        let command = ["/bin/sh", "-c", SCRIPT];
        engine.run("again", Profile::Default, &[], &command).unwrap();
        run_is_over(engine, "again", "one");
        let file = setup.path("recording.json");
        let record = Command::new(STRAIT)
            .args(["record", "--container", "again", "--output"])
            .arg(&file)
            .envs(engine.environment())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait("it observes", || observes(record.id()));
        engine.exec("again", &["/bin/touch", "/tmp/more"]).unwrap();
        engine.restart("again").unwrap();
        let output = record.wait_with_output().unwrap();
        assert!(output.status.success(), "{kind:?}: {}", text(&output));
        run_is_over(engine, "again", "two");
        let recording: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let outside = calls(&recording, "outside", "busybox");
        assert!(outside.contains("execve") || !outside.is_empty(), "{kind:?}: {recording:#}");
        for phase in ["start-up", "steady", "outside"] {
            let made = calls(&recording, phase, "busybox");
            assert!(!made.contains("chmod"), "{kind:?}: the next run is another recording's");
        }
        engine.remove("again");
    });
}
