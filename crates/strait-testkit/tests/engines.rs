//! The engines for tests: each runs a container, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use strait_testkit::engine::{Engine, Kind, Profile};

#[test]
fn an_engine_runs_containers_and_leaves_nothing_behind() {
    for kind in Kind::ALL {
        let test = "an_engine_runs_containers_and_leaves_nothing_behind";
        let Some(engine) = Engine::start(kind, test) else { continue };
        let folder = engine.folder().to_owned();
        let pid = engine.run("one", Profile::Default, &[], &["/bin/sleep", "1000"]).unwrap();
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2\n"), "{kind:?}: {status}");
        assert_eq!(engine.exec("one", &["/bin/echo", "hello"]).unwrap().trim(), "hello");
        assert!(engine.run("two", Profile::Default, &[], &["/no/such/file"]).is_err());
        drop(engine);
        assert!(!process.exists() && !folder.exists(), "{kind:?}");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(folder.to_str().unwrap()), "{kind:?}: {mounts}");
    }
}
