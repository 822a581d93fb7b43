//! Verifying processes of a cgroup, once and while they change. Needs root and no filter of our own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use strait_testkit::{skip, victim};

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [mount, umount2], action: errno(EPERM)}
";

/// A cgroup that is removed with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(test: &str) -> Option<Cgroup> {
        Cgroup::called(test, &format!("strait-{test}-{}", std::process::id()))
    }

    fn called(test: &str, name: &str) -> Option<Cgroup> {
        let parents = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"];
        let made = parents.iter().find_map(|parent| {
            let path = Path::new(parent).join(name);
            let fits = Path::new(parent).join("cgroup.procs").exists();
            (fits && fs::create_dir(&path).is_ok()).then_some(path)
        });
        if made.is_none() {
            skip(test, "no cgroup can be made");
        }
        made.map(Cgroup)
    }

    fn add(&self, pid: &str) {
        fs::write(self.0.join("cgroup.procs"), pid).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Empty by now, or a moment later.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn can_inspect(test: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let can = status.contains("Uid:\t0\t0\t") && status.contains("Seccomp:\t0\n");
    if !can {
        skip(test, "needs root and no filter of its own");
    }
    can
}

fn strait() -> Command {
    Command::new(env!("CARGO_BIN_EXE_strait"))
}

#[test]
fn what_changes_in_a_cgroup_is_told_as_it_happens() {
    let test = "what_changes_in_a_cgroup";
    if !can_inspect(test) {
        return;
    }
    let Some(cgroup) = Cgroup::new("watch") else { return };
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("p.yaml");
    fs::write(&policy, POLICY).unwrap();
    let words = ["pid", "threads", "2", "ready", "line", "thread-filter", "ready", "wait"];
    let mut confined = Ends(
        strait()
            .args(["run", "--policy"])
            .arg(&policy)
            .arg("--")
            .arg(victim::program())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut input = confined.0.stdin.take().unwrap();
    let mut said = BufReader::new(confined.0.stdout.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    let pid = first.strip_prefix("pid ").unwrap().to_owned();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    cgroup.add(&pid);

    // Once, for all that are in it.
    let mut once = strait();
    once.args(["verify", "--json", "--policy"]).arg(&policy);
    let once = once.arg("--cgroup").arg(&cgroup.0).output().unwrap();
    let json: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!((once.status.code(), &json["outcome"]), (Some(0), &"holds".into()), "{json:#}");
    assert_eq!(json["processes"][0]["process"]["pid"].to_string(), pid);

    let mut watch = Ends(
        strait()
            .args(["verify", "--watch", "--interval", "20ms", "--json", "--policy"])
            .arg(&policy)
            .arg("--cgroup")
            .arg(&cgroup.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut events = BufReader::new(watch.0.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let event = events.next().unwrap();
    assert_eq!(
        (&event["event"], &event["verification"]["outcome"]),
        (&"started".into(), &"holds".into())
    );

    // Somebody else's process joins, without the filter.
    let mut other = Ends(Command::new("sleep").arg("1000").spawn().unwrap());
    let sleep = other.0.id();
    cgroup.add(&sleep.to_string());
    let event = events.next().unwrap();
    assert_eq!(event["event"], "started");
    let verification = &event["verification"];
    assert_eq!(
        (&verification["outcome"], &verification["process"]["pid"]),
        (&"drift".into(), &sleep.into())
    );
    let judged = &verification["judged"][0];
    assert_eq!(judged["permitsMore"], true);
    let witnesses = judged["differences"]["spans"].as_array().unwrap();
    assert!(witnesses.iter().any(|span| span["witness"]["name"] == "mount"), "{judged:#}");
    other.0.kill().unwrap();
    other.0.wait().unwrap();
    let event = events.next().unwrap();
    assert_eq!((&event["event"], &event["pid"]), (&"ended".into(), &sleep.into()));

    // A thread more, which confines itself further: that is tighter.
    input.write_all(b"go\n").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let event = events.next().unwrap();
    assert_eq!(event["event"], "changed");
    assert_eq!(
        (&event["from"], &event["verification"]["outcome"]),
        (&"holds".into(), &"tighter".into())
    );
    assert_eq!(event["newThreads"].as_array().unwrap().len(), 1);
    assert_eq!(event["lostFilters"].as_array().unwrap().len(), 0);

    // The end of the last is the end of watching; the worst decides.
    drop(input);
    assert_eq!(events.next().unwrap()["event"], "ended");
    assert!(events.next().is_none());
    assert_eq!(watch.0.wait().unwrap().code(), Some(1));
}

#[test]
fn whom_to_verify_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("p.yaml");
    fs::write(&policy, POLICY).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = strait();
        command.arg("verify").arg("--policy").arg(&policy).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&[]).0, Some(2));
    assert_eq!(run(&["--pid", "1", "--container", "x"]).0, Some(2));
    assert_eq!(run(&["--pid", "1", "--interval", "1s"]).0, Some(2));
    let (status, said) = run(&["--container", "no-container-is-called-so"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("no engine has a container"), "{said}");
    assert_eq!(run(&["--cgroup", "/sys/fs/cgroup/no-such-group"]).0, Some(3));
}

/// A unit of systemd is told by the name of its cgroup alone, in whichever hierarchy.
#[test]
fn a_unit_is_found_by_its_name() {
    let test = "a_unit_is_found_by_its_name";
    if !can_inspect(test) {
        return;
    }
    let unit = format!("strait-{}", std::process::id());
    let Some(cgroup) = Cgroup::called(test, &format!("{unit}.service")) else { return };
    let none = strait().args(["inspect", "--unit", &unit]).output().unwrap();
    assert_eq!(none.status.code(), Some(2), "{none:?}");
    let mut sleep = Ends(Command::new("sleep").arg("1000").spawn().unwrap());
    let pid = sleep.0.id();
    cgroup.add(&pid.to_string());
    for name in [unit.clone(), format!("{unit}.service")] {
        let output = strait().args(["inspect", "--json", "--unit", &name]).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["processes"].as_array().unwrap().len(), 1);
        assert_eq!(found["processes"][0]["pid"], pid);
    }
    let dir = tempfile::TempDir::new().unwrap();
    let policy = dir.path().join("policy.yaml");
    fs::write(&policy, POLICY).unwrap();
    let verify =
        strait().args(["verify", "--unit", &unit, "--policy"]).arg(&policy).output().unwrap();
    assert_eq!(verify.status.code(), Some(1), "not confined: {verify:?}");
    let wrong = strait().args(["inspect", "--unit", "ssh.socket"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("write NAME.service"), "{wrong:?}");
    sleep.0.kill().unwrap();
    sleep.0.wait().unwrap();
}
