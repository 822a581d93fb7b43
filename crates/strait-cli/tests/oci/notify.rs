//! Containers that are bound in the mode `notify`: a supervisor answers what their policy denies, and tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strait_testkit::engine::{Engine, IMAGE, Kind, Profile};

use crate::hook::with_hook;
use crate::recorded::{is_whole, recording, start_recorded, wait};
use crate::setup::{STRAIT, Setup, strait, text};

/// The supervisors of this set-up that answer.
pub fn supervisors(setup: &Setup) -> Vec<u32> {
    let recordings = setup.path("recordings").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        words.contains(&b"oci-supervisor".as_slice())
            && words.contains(&b"--answer".as_slice())
            && words.contains(&recordings.as_bytes())
    };
    ids.filter(is_one).collect()
}

/// The socket of a supervisor.
fn socket(pid: u32) -> PathBuf {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    let at = words.iter().position(|word| *word == b"--socket").unwrap();
    Path::new("/run/strait").join(std::str::from_utf8(words[at + 1]).unwrap())
}

/// What has been told of denied calls in containers.
fn denials(setup: &Setup) -> Vec<Value> {
    let files = fs::read_dir(setup.path("recordings")).unwrap().flatten();
    let texts = files.map(|file| fs::read_to_string(file.path()).unwrap());
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    texts.flat_map(lines).map(|line| serde_json::from_str(&line).unwrap()).collect()
}

fn how_often(setup: &Setup, event: &str) -> usize {
    denials(setup).iter().filter(|denial| denial["event"] == event).count()
}

/// What making a folder in the container comes to.
fn mkdir(engine: &Engine, name: &str) -> Result<String, String> {
    engine.exec(name, &["/bin/mkdir", "/tmp/new"])
}

fn supervised(kind: Kind) {
    let setup = Setup::new();
    let Some(engine) = setup.engine(kind, "containers are supervised") else { return };
    let binary = setup.program(kind.runtime());
    let binary = ["--runc-binary", &binary];
    let options = if kind == Kind::Containerd { &binary[..] } else { &[] };
    fs::write(setup.path("policies/bindings"), "* no-mkdir notify\n").unwrap();

    for privileges in [&[][..], &["no-new-privileges"]] {
        let mut options = options.to_vec();
        match kind {
            // It sets no_new_privs unless told otherwise.
            Kind::Containerd if privileges.is_empty() => options.push("--allow-new-privs"),
            Kind::Containerd => {}
            _ => options.extend(privileges.iter().flat_map(|it| ["--security-opt", it])),
        }
        let script = "mkdir /tmp/new; echo $? > /tmp/status; sleep 1000";
        let work = ["/bin/sh", "-c", script];
        let pid = engine.run("web", Profile::Default, &options, &work).unwrap().to_string();
        let status = || engine.exec("web", &["/bin/cat", "/tmp/status"]);
        wait("it was denied", || status().is_ok_and(|status| status.trim() == "1"));
        wait("it is told", || how_often(&setup, "denied") == 1);
        let error = mkdir(&engine, "web").unwrap_err();
        assert!(error.contains("Read-only file system"), "{kind:?}: {error}");
        // Another process, by a listener of its own, is counted with the first: it is told of again at the tenth.
        let denial = &denials(&setup)[0];
        assert!(denial["call"].as_str().unwrap().starts_with("mkdir("), "{kind:?}: {denial}");
        assert_eq!(denial["action"], "errno(EROFS)", "{kind:?}");
        assert_eq!(denial["name"], "mkdir", "{kind:?}");

        let policy = setup.path("policies/no-mkdir.yaml").display().to_string();
        let verify = ["verify", "--pid", &pid, "--policy", &policy];
        let verified = strait(&[&verify[..], &["--supervised"]].concat());
        assert!(verified.contains("holds: every thread"), "{kind:?}: {verified}");
        let verified = Command::new(STRAIT).args(verify).output().unwrap();
        assert_eq!(verified.status.code(), Some(1), "{kind:?}: {}", text(&verified));

        let [supervisor] = supervisors(&setup)[..] else { panic!("{kind:?}: one supervises") };
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/supervisor/container.yaml");
        let mut verify = Command::new(STRAIT);
        verify.args(["verify", "--pid", &supervisor.to_string(), "--policy"]).arg(own);
        let verified = verify.output().unwrap();
        assert!(verified.status.success(), "{kind:?}: {}", text(&verified));
        let socket = socket(supervisor);
        assert!(socket.exists(), "{kind:?}");

        engine.remove("web");
        wait("it ends", || supervisors(&setup).is_empty());
        wait("nothing is left", || !socket.exists());
        assert_eq!(how_often(&setup, "summary"), 1, "{kind:?}");
        let summary = denials(&setup).pop().unwrap();
        assert_eq!(summary["count"], 2, "{kind:?}: {summary}");
        for file in fs::read_dir(setup.path("recordings")).unwrap().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
    }
}

/// kill(2) on x86_64.
const KILL: u32 = 62;

/// The container's loop: it does something again and again, and says what came of it.
fn script(again: &str) -> String {
    format!("mkdir /tmp/$$; id; while sleep 0.2; do {again} 2>/tmp/said; echo $? >>/tmp/done; done")
}

/// What a policy that was generated lets pass starts the container, by which runtimes need more than else: they hand
/// the listener over. And where the supervisor is killed, nothing passes that it was asked about.
fn least_privilege(kind: Kind) {
    let setup = Setup::new();
    let Some(engine) = setup.engine(kind, "a generated policy is supervised") else { return };
    let recorded = script("chmod 755 /tmp");
    let work = ["/bin/sh", "-c", &recorded];
    let file = start_recorded(&setup, &engine, "web", Profile::Default, &[], &work);
    wait("it works", || engine.exec("web", &["/bin/test", "-s", "/tmp/done"]).is_ok());
    engine.remove("web");
    recording(&setup, &file);
    let policy = setup.path("policies/web.yaml").display().to_string();
    strait(&["generate", file.to_str().unwrap(), "-o", &policy]);
    fs::remove_file(file).unwrap();

    fs::write(setup.path("policies/bindings"), "* web notify\n").unwrap();
    let binary = setup.program(kind.runtime());
    let binary = ["--runc-binary", &binary];
    for is_last in [false, true] {
        let options: &[&str] = match kind {
            // It sets no_new_privs unless told otherwise, as it has for the recording.
            Kind::Containerd if is_last => &[binary[0], binary[1], "--allow-new-privs"],
            Kind::Containerd => &binary,
            _ if is_last => &[],
            _ => &["--security-opt", "no-new-privileges"],
        };
        let denied = script("mknod /tmp/pipe p");
        let pid = engine.run("web", Profile::Default, options, &["/bin/sh", "-c", &denied]);
        let pid = pid.unwrap_or_else(|error| panic!("{kind:?} {options:?}: {error}"));
        let said = || fs::read_to_string(format!("/proc/{pid}/root/tmp/said")).unwrap_or_default();
        wait("it is denied", || said().contains("Operation not permitted"));
        wait("it is told", || how_often(&setup, "denied") > 0);
        for denial in denials(&setup) {
            // It makes sure of the end of the process by which it has handed over, which has ended.
            let is_cruns = denial["name"] == "crun" && denial["nr"] == KILL;
            assert!(denial["name"] == "mknod" || is_cruns, "{kind:?}: {denial}");
        }
        engine.exec("web", &["/bin/chmod", "700", "/tmp"]).unwrap();

        if is_last {
            let [supervisor] = supervisors(&setup)[..] else { panic!("{kind:?}: one supervises") };
            let killed = Command::new("kill").args(["-KILL", &supervisor.to_string()]).status();
            assert!(killed.unwrap().success());
            wait("what is asked fails", || said().contains("Function not implemented"));
            engine.exec("web", &["/bin/true"]).unwrap_err();
        }
        engine.remove("web");
        wait("it ends", || supervisors(&setup).is_empty());
        for file in fs::read_dir(setup.path("recordings")).unwrap().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
    }
}

/// By the hook at `precreate`, and beside a recorder.
#[test]
fn podman_supervises_by_the_hook() {
    for kind in [Kind::PodmanCrun, Kind::PodmanRunc] {
        let setup = Setup::new();
        let test = "podman supervises by the hook";
        let Some(engine) = with_hook(&setup, kind, &[], test) else { continue };
        let (policy, mode) = ("io.strait.policy=no-mkdir", "io.strait.mode=notify");
        let options =
            ["--annotation", policy, "--annotation", mode, "--annotation", "io.strait.record=web"];
        let sleep = ["/bin/sleep", "1000"];
        engine.run("web", Profile::Default, &options, &sleep).unwrap();
        let error = mkdir(&engine, "web").unwrap_err();
        assert!(error.contains("Read-only file system"), "{kind:?}: {error}");
        let file = format!("recordings/{}.denials.json", engine.id("web").unwrap());
        wait("it is told", || {
            let told = fs::read_to_string(setup.path(&file)).unwrap_or_default();
            told.lines().any(|line| line.contains("mkdir("))
        });
        engine.remove("web");
        wait("it ends", || supervisors(&setup).is_empty());
        is_whole(&recording(&setup, &setup.path("recordings/web")));

        // Started again it has another.
        engine.run("again", Profile::Default, &options[..4], &sleep).unwrap();
        let before = supervisors(&setup);
        for verb in [&["stop", "--time", "0", "again"][..], &["start", "again"]] {
            let done = engine.client().args(verb).output().unwrap();
            assert!(done.status.success(), "{kind:?} {verb:?}: {}", text(&done));
        }
        wait("another one supervises", || {
            let after = supervisors(&setup);
            after.len() == 1 && after != before
        });
        assert!(mkdir(&engine, "again").unwrap_err().contains("Read-only"), "{kind:?}");
        engine.remove("again");
        wait("it ends", || supervisors(&setup).is_empty());

        // Nobody could be told.
        let _shared = setup.with_mode("recordings", 0o777);
        let error = engine.run("stopped", Profile::Default, &options[..4], &sleep).unwrap_err();
        assert!(
            error.contains("the folder for recordings is not root's alone"),
            "{kind:?}: {error}"
        );
        assert!(supervisors(&setup).is_empty(), "{kind:?}");
    }
}

/// A container that is not made leaves no supervisor.
#[test]
fn a_supervisor_whose_container_does_not_come_ends() {
    for kind in [Kind::PodmanRunc, Kind::PodmanCrun, Kind::Containerd] {
        let setup = Setup::new();
        let Some(engine) = setup.engine(kind, "a supervised container fails") else { continue };
        fs::write(setup.path("policies/bindings"), "* no-mkdir notify\n").unwrap();
        let binary = setup.program(kind.runtime());
        let binary = ["--runc-binary", &binary];
        let options = if kind == Kind::Containerd { &binary[..] } else { &[] };
        // Before the runtime has connected, or after it.
        let missing = ["/no/such/program"];
        engine.run("failed", Profile::Default, options, &missing).unwrap_err();
        wait("it ends", || supervisors(&setup).is_empty());
        engine.remove("failed");
        // Made and never started.
        if kind != Kind::Containerd {
            let create = ["create", "--name", "waits", "--network", "none", IMAGE, "/bin/true"];
            for verb in [&create[..], &["init", "waits"]] {
                let done = engine.client().args(verb).output().unwrap();
                assert!(done.status.success(), "{kind:?} {verb:?}: {}", text(&done));
            }
            assert_eq!(supervisors(&setup).len(), 1, "{kind:?}");
            engine.remove("waits");
            wait("it ends", || supervisors(&setup).is_empty());
        }
    }
}

/// Many at a time: each is answered and told of, and nothing is left.
#[test]
fn many_are_supervised_together() {
    const CONTAINERS: usize = 20;
    const EXECS: usize = 5;
    let setup = Setup::new();
    let test = "many are supervised together";
    let Some(engine) = setup.engine(Kind::Containerd, test) else { return };
    fs::write(setup.path("policies/bindings"), "* no-mkdir notify\n").unwrap();
    let binary = setup.program("runc");
    std::thread::scope(|scope| {
        for index in 0..CONTAINERS {
            let (engine, binary) = (&engine, &binary);
            scope.spawn(move || {
                let name = format!("many-{index}");
                let (options, sleep) = (["--runc-binary", binary], ["/bin/sleep", "1000"]);
                engine.run(&name, Profile::Default, &options, &sleep).unwrap();
                for _ in 0..EXECS {
                    let error = mkdir(engine, &name).unwrap_err();
                    assert!(error.contains("Read-only file system"), "{error}");
                }
            });
        }
    });
    let supervising = supervisors(&setup);
    assert_eq!(supervising.len(), CONTAINERS);
    let sockets: Vec<PathBuf> = supervising.into_iter().map(socket).collect();
    std::thread::scope(|scope| {
        for index in 0..CONTAINERS {
            let engine = &engine;
            scope.spawn(move || engine.remove(&format!("many-{index}")));
        }
    });
    wait("they end", || supervisors(&setup).is_empty());
    wait("nothing is left", || !sockets.iter().any(|socket| socket.exists()));
    let told = denials(&setup);
    let sums = told.iter().filter(|denial| denial["event"] == "summary");
    let counts: Vec<u64> = sums.map(|sum| sum["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [EXECS as u64; CONTAINERS]);
    // What is denied at each exec is told of once, and with the sum.
    assert_eq!(told.len(), 2 * CONTAINERS);
}

/// What hands a listener over calls what a workload of a single process does not.
#[test]
fn a_policy_of_next_to_nothing_is_supervised() {
    for kind in [Kind::PodmanCrun, Kind::PodmanRunc] {
        let setup = Setup::new();
        let Some(engine) = setup.engine(kind, "a policy of next to nothing") else { continue };
        let sleep = ["/bin/sleep", "1000"];
        let file = start_recorded(&setup, &engine, "web", Profile::Default, &[], &sleep);
        engine.remove("web");
        recording(&setup, &file);
        let policy = setup.path("policies/web.yaml").display().to_string();
        strait(&["generate", file.to_str().unwrap(), "-o", &policy]);
        let bindings = setup.path("policies/bindings");
        for mode in ["", "notify"] {
            fs::write(&bindings, format!("* web {mode}\n")).unwrap();
            let started = engine.run("web", Profile::Default, &[], &sleep);
            let pid = started.unwrap_or_else(|error| panic!("{kind:?} {mode}: {error}"));
            wait("it runs", || {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
            });
            engine.remove("web");
        }
        wait("it ends", || supervisors(&setup).is_empty());
    }
}

#[test]
fn least_privilege_in_podman_with_crun() {
    least_privilege(Kind::PodmanCrun);
}

#[test]
fn least_privilege_in_podman_with_runc() {
    least_privilege(Kind::PodmanRunc);
}

#[test]
fn least_privilege_in_docker() {
    least_privilege(Kind::Docker);
}

#[test]
fn least_privilege_in_containerd() {
    least_privilege(Kind::Containerd);
}

#[test]
fn in_podman_with_crun() {
    supervised(Kind::PodmanCrun);
}

#[test]
fn in_podman_with_runc() {
    supervised(Kind::PodmanRunc);
}

#[test]
fn in_docker() {
    supervised(Kind::Docker);
}

#[test]
fn in_containerd() {
    supervised(Kind::Containerd);
}
