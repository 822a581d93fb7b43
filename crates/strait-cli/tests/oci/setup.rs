//! What an administrator has set up: policies, a folder for recordings, and Strait as the runtime or as
//! the hook of a real engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use strait_testkit::engine::{Engine, Kind};
use strait_testkit::policies::all_but;
use tempfile::TempDir;

pub const STRAIT: &str = env!("CARGO_BIN_EXE_strait");

/// What denied calls get, which nothing else gives a container whose root can be written.
const EROFS: u16 = 30;

/// What an administrator has set up: policies, recordings, and a runtime for engines to call.
pub struct Setup {
    folder: TempDir,
}

impl Setup {
    pub fn new() -> Setup {
        let setup = Setup { folder: TempDir::new().unwrap() };
        for folder in ["policies", "recordings", "hooks"] {
            fs::create_dir(setup.path(folder)).unwrap();
        }
        // What busybox makes folders by, and changes modes by.
        let policies: [(&str, &[&str]); 3] =
            [("no-mkdir", &["mkdir"]), ("tighter", &["mkdir", "chmod"]), ("looser", &["chmod"])];
        for (name, denied) in policies {
            let file = setup.path(&format!("policies/{name}.yaml"));
            fs::write(file, all_but(denied, EROFS).to_string()).unwrap();
        }
        fs::write(setup.path("policies/broken.yaml"), "kind: SyscallPolicy\n").unwrap();
        setup
    }

    /// Gives a file or a folder this mode, until what this returns is dropped.
    pub fn with_mode(&self, name: &str, mode: u32) -> impl Drop {
        struct Before(PathBuf, fs::Permissions);
        impl Drop for Before {
            fn drop(&mut self) {
                let _ = fs::set_permissions(&self.0, self.1.clone());
            }
        }
        let path = self.path(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Before(path, before)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments that come before the engine's.
    pub fn arguments(&self, runtime: &str) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let (policies, recordings) = (path("policies"), path("recordings"));
        let words = ["oci-runtime", "--runtime", runtime, "--policies", &policies];
        let more = ["--recordings", &recordings, "--"];
        words.iter().chain(&more).map(|&word| word.to_owned()).collect()
    }

    /// A program that is the runtime, for engines that take nothing but a path.
    pub fn program(&self, runtime: &str) -> String {
        let path = self.path(&format!("strait-oci-{runtime}"));
        // What is written to cannot be run at the time.
        if !path.exists() {
            let words = self.arguments(runtime).join(" ");
            fs::write(&path, format!("#!/bin/sh\nexec {STRAIT} {words} \"$@\"\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        path.display().to_string()
    }

    /// The engine, with that program as its runtime.
    pub fn engine(&self, kind: Kind, test: &str) -> Option<Engine> {
        let runtime = kind.runtime();
        let program = self.program(runtime);
        let hooks = self.path("hooks");
        let podman =
            format!("hooks_dir = [{hooks:?}]\n[engine.runtimes]\n{runtime} = [{program:?}]\n");
        let docker = format!("strait={program}");
        let more: &[&str] = match kind {
            Kind::Docker => &["--add-runtime", &docker, "--default-runtime", "strait"],
            Kind::Containerd => &[],
            Kind::PodmanCrun | Kind::PodmanRunc => &[&podman],
        };
        match Engine::try_start(kind, more) {
            Ok(engine) => Some(engine),
            Err(reason) => {
                let name = kind.name();
                strait_testkit::skip(test, &format!("{name} with {runtime}: {reason}"));
                None
            }
        }
    }
}

/// Each engine that there is, with Strait as its runtime.
pub fn on_each(test: &str, check: impl Fn(&Setup, &Engine)) {
    for kind in Kind::ALL {
        on(kind, test, &check);
    }
}

/// The same of one.
pub fn on(kind: Kind, test: &str, check: impl Fn(&Setup, &Engine)) {
    let setup = Setup::new();
    if let Some(engine) = setup.engine(kind, test) {
        check(&setup, &engine);
    }
}

/// Runs Strait, which is to succeed.
#[track_caller]
pub fn strait(arguments: &[&str]) -> String {
    let output = Command::new(STRAIT).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// What a program has said.
pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}
