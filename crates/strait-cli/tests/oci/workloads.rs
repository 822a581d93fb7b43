//! What people run in containers, recorded from the first instruction: the profile that is generated of it
//! starts the same container on its first try, and it does there what it did before.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strait_policy::format::Target;
use strait_testkit::engine::{Engine, Kind, Profile};
use strait_testkit::skip;

use crate::recorded::{calls, is_whole, recording, start_recorded, wait};
use crate::setup::{STRAIT, Setup, on, on_each, strait, text};

/// A container, and what it is made to do.
struct Workload<'a> {
    options: &'a [&'a str],
    command: &'a [&'a str],
    /// What its programs have in their paths.
    image: &'a str,
    /// Has it do its work; panics if it does not.
    work: &'a dyn Fn(&Engine, &str),
}

/// Records it, and has it run again under the profile that comes of the recording.
fn comes_again(setup: &Setup, engine: &Engine, workload: &Workload<'_>) -> Value {
    let kind = engine.kind();
    let &Workload { options, command, image, work } = workload;
    let file = start_recorded(setup, engine, "first", Profile::Unconfined, options, command);
    work(engine, "first");
    engine.remove("first");
    let recording = recording(setup, &file);
    is_whole(&recording);
    let of_runtime = calls(&recording, "runtime", kind.runtime());
    assert!(of_runtime.contains("execve"), "{kind:?}: {of_runtime:?}");
    assert!(!calls(&recording, "start-up", image).is_empty(), "{kind:?}");

    let profile = setup.path("generated.json").display().to_string();
    strait(&["generate", file.to_str().unwrap(), "--for", kind.name(), "-o", &profile]);
    let confined = Profile::File(Path::new(&profile));
    let pid = engine
        .run("again", confined, options, command)
        .unwrap_or_else(|error| panic!("{kind:?} {options:?}: {error}"));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "{kind:?}: {status}");
    work(engine, "again");
    // It is the profile's filter, on every process.
    let verified = Command::new(STRAIT)
        .args(["verify", "--container", "again", "--policy", &profile])
        .envs(engine.environment())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{kind:?}: {}", text(&verified));
    engine.remove("again");
    recording
}

/// A Redis in a container, asked by many clients at once from outside.
fn redis_under_load(kind: Kind) {
    let test = "a server under load";
    for program in ["redis-cli", "redis-benchmark"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip(test, &format!("{program} is not installed"));
        }
    }
    on(kind, test, |setup, engine| {
        if let Err(reason) = engine.add(&["/usr/bin/redis-server"]) {
            return skip(test, &reason);
        }
        let work = |engine: &Engine, name: &str| {
            let pid = engine.pid(name).unwrap().to_string();
            // In its network alone: the clients are no part of the container.
            let client = |program: &str, arguments: &[&str]| {
                let mut client = Command::new("nsenter");
                client.args(["--net", "--target", &pid, program]).args(arguments);
                text(&client.output().unwrap())
            };
            wait("the server answers", || client("redis-cli", &["ping"]) == "PONG\n");
            let tests = "set,get,incr,lpush,lrange_100,mset";
            let load = ["-n", "4000", "-c", "40", "-P", "4", "-q", "-t", tests];
            let said = client("redis-benchmark", &load);
            assert_eq!(said.matches("requests per second").count(), 7, "{said}");
            assert_eq!(client("redis-cli", &["bgsave"]), "Background saving started\n");
            let saved = || client("redis-cli", &["info", "persistence"]);
            wait("it is saved", || saved().contains("rdb_bgsave_in_progress:0"));
            assert!(saved().contains("rdb_last_bgsave_status:ok"), "{}", saved());
            assert_eq!(client("redis-cli", &["get", "key:__rand_int__"]).trim().len(), 3);
        };
        let server = "redis-server --save '' --dir /tmp --io-threads 2 --protected-mode no";
        let command = ["/bin/sh", "-c", &format!("exec /usr/bin/{server}")];
        let workload = Workload { options: &[], command: &command, image: "redis", work: &work };
        let recording = comes_again(setup, engine, &workload);
        let calls = |phase| calls(&recording, phase, "redis-server").contains("accept4");
        assert!(calls("start-up") || calls("steady"), "{kind:?}: it has taken clients");
    });
}

#[test]
fn a_redis_under_load_in_docker() {
    redis_under_load(Kind::Docker);
}

#[test]
fn a_redis_under_load_in_containerd() {
    redis_under_load(Kind::Containerd);
}

#[test]
fn a_redis_under_load_in_podman_with_crun() {
    redis_under_load(Kind::PodmanCrun);
}

#[test]
fn a_redis_under_load_in_podman_with_runc() {
    redis_under_load(Kind::PodmanRunc);
}

/// What a shell does where it is; its last line says that it has come so far.
const SCRIPT: &str = "cd /tmp && mkdir made && echo one > made/a && cat made/a && ln -s a made/b && \
                      chmod 600 made/a && (id; uname -s) > made/c && rm -r made; touch ready; sleep 1000";

/// Waits until a container's script has come to its end, and execs into it.
fn script_runs(engine: &Engine, name: &str) {
    wait("the script runs to its end", || engine.exec(name, &["/bin/ls", "/tmp/ready"]).is_ok());
    assert!(engine.exec(name, &["/bin/id"]).unwrap().starts_with("uid=0"));
}

fn scripted(setup: &Setup, engine: &Engine, options: &[&str]) -> Value {
    let command = ["/bin/sh", "-c", SCRIPT];
    let workload = Workload { options, command: &command, image: "busybox", work: &script_runs };
    comes_again(setup, engine, &workload)
}

#[test]
fn containers_in_a_user_namespace() {
    let test = "containers in a user namespace";
    on_each(test, |setup, engine| {
        let kind = engine.kind();
        let options: &[&str] = match kind {
            Kind::Docker => {
                let reason = "it is the daemon's option, which wants a user with subordinate ids";
                return skip(test, &format!("docker: {reason}"));
            }
            Kind::Containerd => {
                return skip(test, "containerd: ctr maps the users of images, not of a root");
            }
            Kind::PodmanCrun | Kind::PodmanRunc => &["--uidmap", "0:100000:65536"],
        };
        let mapped = |engine: &Engine, name: &str| {
            script_runs(engine, name);
            let status = format!("/proc/{}/status", engine.pid(name).unwrap());
            let status = fs::read_to_string(status).unwrap();
            assert!(status.contains("Uid:\t100000\t"), "{kind:?}: {status}");
        };
        let command = ["/bin/sh", "-c", SCRIPT];
        let workload = Workload { options, command: &command, image: "busybox", work: &mapped };
        comes_again(setup, engine, &workload);
    });
}

const TINI: &str = "/usr/bin/tini-static";

#[test]
fn containers_with_an_init() {
    let test = "containers with an init";
    on_each(test, |setup, engine| {
        let kind = engine.kind();
        let (program, options): (&str, &[&str]) = match kind {
            Kind::Docker => ("/usr/bin/docker-init", &["--init"]),
            Kind::Containerd => return skip(test, "containerd: ctr has no such option"),
            // Its own is catatonit, which is a program like this one.
            _ => (TINI, &["--init", "--init-path", TINI]),
        };
        if !Path::new(program).exists() {
            return skip(test, &format!("{kind:?}: {program} is not installed"));
        }
        let recording = scripted(setup, engine, options);
        let init = calls(&recording, "start-up", "init");
        // It waits for signals on behalf of the program.
        assert!(init.contains("rt_sigtimedwait"), "{kind:?}: {init:?}");
    });
}

#[test]
fn containers_that_are_read_only_and_have_no_capabilities() {
    on_each("read-only containers without capabilities", |setup, engine| {
        let kind = engine.kind();
        let mut options = vec!["--read-only"];
        let dropped: Vec<String> =
            Target::DOCKER_CAPABILITIES.iter().map(|&it| it.to_owned()).collect();
        match kind {
            Kind::Containerd => {
                options.extend(dropped.iter().flat_map(|one| ["--cap-drop", one]));
                options.extend(["--mount", "type=tmpfs,src=tmpfs,dst=/tmp,options=mode=1777"]);
            }
            _ => options.extend(["--cap-drop", "ALL", "--tmpfs", "/tmp"]),
        }
        let held = |engine: &Engine, name: &str| {
            script_runs(engine, name);
            assert!(engine.exec(name, &["/bin/touch", "/etc/new"]).is_err(), "{kind:?}");
            let status = format!("/proc/{}/status", engine.pid(name).unwrap());
            let status = fs::read_to_string(status).unwrap();
            assert!(status.contains("CapBnd:\t0000000000000000"), "{kind:?}: {status}");
        };
        let command = ["/bin/sh", "-c", SCRIPT];
        let workload =
            Workload { options: &options, command: &command, image: "busybox", work: &held };
        comes_again(setup, engine, &workload);
    });
}
