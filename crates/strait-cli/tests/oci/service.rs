//! An engine that serves others, and lives on where it cannot make a container: Podman's service.

use std::fs;
use std::process::{Child, Output, Stdio};

use strait_testkit::engine::{Engine, IMAGE, Kind};

use crate::hook::with_hook;
use crate::notify::supervisors;
use crate::recorded::{is_whole, recorders, recording, wait};
use crate::setup::{Setup, text};

struct Service<'a> {
    engine: &'a Engine,
    process: Child,
    url: String,
}

impl Service<'_> {
    fn run(&self, name: &str, annotations: &[&str], command: &[&str]) -> Output {
        let mut podman = self.engine.client();
        podman.args(["--remote", "--url", &self.url, "run", "--detach", "--network", "none"]);
        // What the client asks for by itself is more than a machine may have.
        podman.args(["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]);
        podman.args(["--name", name]);
        podman.args(annotations.iter().flat_map(|annotation| ["--annotation", annotation]));
        podman.arg(IMAGE).args(command).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn whoever_waits_for_a_container_that_does_not_come_ends_though_the_engine_lives_on() {
    for kind in [Kind::PodmanCrun, Kind::PodmanRunc] {
        let setup = Setup::new();
        let test = "a service's container does not come";
        let Some(engine) = with_hook(&setup, kind, &[], test) else { continue };
        let socket = setup.path("podman.sock");
        let url = format!("unix://{}", socket.display());
        let said = fs::File::create(setup.path("said")).unwrap();
        let process = engine
            .client()
            .args(["system", "service", "--time", "0", &url])
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        let service = Service { engine: &engine, process, url };
        wait("it listens", || socket.exists());
        let asks =
            ["io.strait.record=web.json", "io.strait.policy=no-mkdir", "io.strait.mode=notify"];
        let failed = service.run("failed", &asks, &["/no/such/program"]);
        assert!(!failed.status.success(), "{kind:?}");
        assert!(text(&failed).contains("/no/such/program"), "{kind:?}: {}", text(&failed));
        // Long before the minute has passed that they wait for where they cannot tell.
        wait("they end", || recorders(&setup).is_empty() && supervisors(&setup).is_empty());

        let started = service.run("web", &asks, &["/bin/sleep", "1000"]);
        assert!(started.status.success(), "{kind:?}: {}", text(&started));
        assert_eq!((recorders(&setup).len(), supervisors(&setup).len()), (1, 1), "{kind:?}");
        assert!(engine.exec("web", &["/bin/mkdir", "/tmp/new"]).is_err(), "{kind:?}");
        engine.remove("web");
        is_whole(&recording(&setup, &setup.path("recordings/web.json")));
        wait("it ends", || supervisors(&setup).is_empty());
    }
}
