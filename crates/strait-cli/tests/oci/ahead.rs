//! Recorders that are started ahead: they wait for the container, and somebody has to tell them, or not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use strait_testkit::skip;

use crate::recorded::{is_ahead, is_whole, recorders, recording, wait};
use crate::setup::{STRAIT, Setup, text};

const ID: &str = "some-container";

/// What an engine has asked for: a runtime that is Strait, before one that makes nothing until it is told
/// to fail.
struct Asked {
    setup: Setup,
    runtime: Child,
}

impl Asked {
    /// It, when its recorder waits; none where this machine has no recorders.
    fn new(test: &str) -> Option<Asked> {
        if !is_root() {
            skip(test, "needs root");
            return None;
        }
        let setup = Setup::new();
        let real = setup.path("runtime");
        let fail = setup.path("fail");
        let script =
            format!("#!/bin/sh\nuntil [ -e {} ]; do sleep 0.05; done\nexit 7\n", fail.display());
        fs::write(&real, script).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        let spec = json!({
            "ociVersion": "1.0.2", "linux": {}, "process": {"args": ["/bin/work"]},
            "annotations": {"io.strait.record": "some.json"},
        });
        fs::write(setup.path("config.json"), spec.to_string()).unwrap();
        let runtime = Command::new(STRAIT)
            .args(setup.arguments(real.to_str().unwrap()))
            .args(["create", "--bundle", setup.path("").to_str().unwrap(), ID])
            .spawn()
            .unwrap();
        let asked = Asked { setup, runtime };
        wait("its programs are loaded", || {
            recorders(&asked.setup).iter().any(|pid| {
                let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
                let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
                links.filter(|link| link.to_string_lossy().contains("bpf-prog")).count() >= 6
            })
        });
        assert!(is_ahead(&asked.setup));
        // It was started first, and the hook is told of it when the rest is done.
        let config = asked.setup.path("config.json");
        wait("the hook is told", || fs::read_to_string(&config).unwrap().contains("--recorder"));
        Some(asked)
    }

    /// The name of the recorder's socket, as the hook is told it.
    fn name(&self) -> String {
        let text = fs::read_to_string(self.setup.path("config.json")).unwrap();
        let spec: Value = serde_json::from_str(&text).unwrap();
        let args = spec["hooks"]["createRuntime"][0]["args"].as_array().unwrap();
        let at = args.iter().position(|word| word == "--recorder").unwrap();
        args[at + 1].as_str().unwrap().to_owned()
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from("/run/strait").join(self.name())
    }

    /// The runtime fails.
    fn fail(&mut self) {
        fs::write(self.setup.path("fail"), "").unwrap();
        assert_eq!(self.runtime.wait().unwrap().code(), Some(7));
    }

    /// Runs the hook, for this process.
    fn hook(&self, pid: u32) -> std::process::Output {
        let recordings = self.setup.path("recordings");
        let state = json!({
            "ociVersion": "1.0.2", "id": ID, "status": "created", "pid": pid,
            "bundle": self.setup.path(""), "annotations": {"io.strait.record": "some.json"},
        });
        let mut hook = Command::new(STRAIT)
            .args(["oci-hook", "--recordings", recordings.to_str().unwrap()])
            .args(["--recorder", &self.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        hook.stdin.take().unwrap().write_all(state.to_string().as_bytes()).unwrap();
        hook.wait_with_output().unwrap()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.runtime.kill();
        let _ = self.runtime.wait();
    }
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t0\t")
}

/// The first process of namespaces of its own, until it is dropped.
struct Contained {
    maker: Child,
    first: u32,
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.maker.kill();
        let _ = self.maker.wait();
    }
}

fn contained() -> Contained {
    let args = ["--mount", "--pid", "--fork", "--kill-child", "sleep", "1000"];
    let maker = Command::new("unshare").args(args).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", maker.id());
    let first = || fs::read_to_string(&children).ok()?.trim().parse::<u32>().ok();
    let runs =
        |pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "sleep\n");
    wait("there is one", || first().is_some_and(runs));
    Contained { first: first().unwrap(), maker }
}

#[test]
fn one_whose_container_does_not_come_ends() {
    let Some(mut asked) = Asked::new("a container does not come") else { return };
    let socket = asked.socket();
    assert!(socket.exists());
    let folder = fs::metadata("/run/strait").unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    asked.fail();
    wait("it ends", || recorders(&asked.setup).is_empty());
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(asked.setup.path("recordings")).unwrap().count(), 0);
}

/// What happens to a recorder that waits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Told,
    Killed,
    ToldNonsense,
}

#[test]
fn the_hook_takes_the_one_that_waits_and_else_starts_one() {
    for fate in [Fate::Told, Fate::Killed, Fate::ToldNonsense] {
        let Some(mut asked) = Asked::new("a recorder waits") else { return };
        let [waiting] = recorders(&asked.setup)[..] else { panic!("one waits") };
        let socket = asked.socket();
        match fate {
            Fate::Told => {}
            Fate::Killed => {
                let killed = Command::new("kill").args(["-KILL", &waiting.to_string()]).status();
                assert!(killed.unwrap().success());
                wait("it is gone", || !recorders(&asked.setup).contains(&waiting));
            }
            Fate::ToldNonsense => {
                UnixStream::connect(&socket).unwrap().write_all(b"{\"pid\": 1").unwrap();
                wait("it gives up", || !recorders(&asked.setup).contains(&waiting));
            }
        }
        let contained = contained();
        let output = asked.hook(contained.first);
        assert!(output.status.success(), "{fate:?}: {}", text(&output));
        assert!(!socket.exists(), "{fate:?}");
        let [recorder] = recorders(&asked.setup)[..] else { panic!("{fate:?}: one records") };
        assert_eq!(recorder == waiting, fate == Fate::Told, "{fate:?}");
        // Whoever was to make the container may go.
        asked.fail();
        assert_eq!(recorders(&asked.setup), [recorder], "{fate:?}");
        drop(contained);
        let recording = recording(&asked.setup, &asked.setup.path("recordings/some.json"));
        is_whole(&recording);
        assert_eq!(
            (&recording["name"], &recording["command"][0]),
            (&ID.into(), &"/bin/work".into())
        );
    }
}

/// What it cannot do it says to the hook, and the container does not start.
#[test]
fn one_that_waits_says_why_it_cannot_record() {
    let Some(asked) = Asked::new("a recorder waits for what there is not") else { return };
    // The kernel gives no process this id (PID_MAX_LIMIT).
    let output = asked.hook(0x7fff_ffff);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains("there is no process 2147483647"), "{}", text(&output));
    wait("it ends", || recorders(&asked.setup).is_empty());
    assert_eq!(fs::read_dir(asked.setup.path("recordings")).unwrap().count(), 0);
}

/// A name that is none reaches no file.
#[test]
fn a_socket_is_named_by_its_digits_alone() {
    let long = "a".repeat(33);
    for name in ["", "../../tmp/x", "x", &long, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let output = Command::new(STRAIT).args(["oci-hook", "--recorder", name]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output).contains("is no name of a socket of Strait's"), "{}", text(&output));
    }
}
