//! Containers of Docker, Podman and containerd: found, inspected, verified and recorded by name. Each
//! engine is the real one, started for the test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod several;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use strait_abi::{Arch, KernelVersion};
use strait_policy::Policy;
use strait_policy::format::{Runtime, Target, oci};
use strait_testkit::engine::{Engine, Kind, Profile};
use strait_testkit::policies::all_but;
use strait_testkit::skip;

/// Podman's default profile, as Debian ships it.
const PODMANS: &str = "/usr/share/containers/seccomp.json";

fn strait(engines: &[&Engine], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    for engine in engines {
        command.envs(engine.environment());
    }
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process of the host in a container's mount and pid namespaces, as nsenter(1) makes it.
struct Entered(Child);

impl Entered {
    fn new(pid: i32) -> Entered {
        let target = pid.to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &target, "--mount", "--pid", "/bin/sleep", "1000"]);
        let child = nsenter.stdin(Stdio::null()).spawn().unwrap();
        // nsenter forks, and the child executes the program in the container.
        for _ in 0..500 {
            if entered(&child).is_some() {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        Entered(child)
    }

    fn pid(&self) -> Option<i32> {
        entered(&self.0)
    }
}

/// The process that nsenter has started, once it is what it is to be.
fn entered(nsenter: &Child) -> Option<i32> {
    let id = nsenter.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let child: i32 = children.split_whitespace().next()?.parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "sleep").then_some(child)
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one container of a list that is called so.
#[track_caller]
fn called<'v>(list: &'v Value, kind: Kind, name: &str) -> &'v Value {
    let containers = list["containers"].as_array().unwrap();
    let mut found = containers.iter().filter(|one| {
        one["engine"] == kind.name()
            && (one["id"] == name || one["names"].as_array().unwrap().contains(&name.into()))
    });
    let one = found.next().unwrap_or_else(|| panic!("{name} is not in {list:#}"));
    assert!(found.next().is_none(), "{name} is twice in {list:#}");
    one
}

fn runtime(kind: Kind) -> Runtime {
    kind.runtime().parse().unwrap()
}

fn check(kind: Kind, test: &str) {
    let Some(engine) = Engine::start(kind, test) else { return };
    let here = [&engine];
    let forever = ["/bin/sleep", "1000"];
    let policy = all_but(&["mount", "kexec_load", "bpf"], 1);
    let policy_file = engine.folder().join("policy.yaml");
    fs::write(&policy_file, policy.to_string()).unwrap();
    let policy_file = policy_file.to_str().unwrap();
    let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    target.runtime = runtime(kind);
    let profile = engine.folder().join("profile.json");
    fs::write(&profile, oci::export(&policy, &target).unwrap().text).unwrap();

    let web = engine.run("web", Profile::Default, &[], &forever).unwrap();
    let bare = engine.run("bare", Profile::Unconfined, &[], &forever).unwrap();
    let tight = engine.run("tight", Profile::File(&profile), &[], &forever).unwrap();

    listed(kind, &engine, web, bare, tight);
    inspected(kind, &engine, web);
    verified(&engine, tight, policy_file);
    recorded(&engine);
    default_profiles(kind, &engine);
    reported(&engine, &policy);

    if matches!(kind, Kind::Docker | Kind::PodmanRunc) {
        restarted(&engine, web);
    }

    // Of one that is not there, or no longer, it is said.
    let none = strait(&here, &["inspect", "--container", "no-such-one"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("no engine has a container `no-such-one`"), "{}", said(&none));
    if kind != Kind::Containerd {
        engine.exec("bare", &["/bin/true"]).unwrap();
        assert!(engine.client().args(["kill", "bare"]).output().unwrap().status.success());
        for _ in 0..500 {
            if engine.pid("bare").is_err() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        for verb in [&["inspect"][..], &["verify", "--policy", policy_file], &["record"]] {
            let output = strait(&here, &[verb, &["--container", "bare"]].concat());
            assert_eq!(output.status.code(), Some(if verb == ["record"] { 125 } else { 2 }));
            assert!(said(&output).contains("does not run: it is "), "{}", said(&output));
        }
    }
}

fn listed(kind: Kind, engine: &Engine, web: i32, bare: i32, tight: i32) {
    let output = strait(&[engine], &["containers", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let list = json(&output);
    for (name, pid, confined) in
        [("web", web, "default"), ("bare", bare, "unconfined"), ("tight", tight, "custom")]
    {
        let one = called(&list, kind, name);
        assert_eq!(one["pid"], pid, "{name}");
        assert_eq!(one["confined"], confined, "{kind:?} {name}: {:#}", one["confinement"]);
        assert_eq!(one["runtime"], kind.runtime(), "{name}");
        assert_eq!(one["processes"].as_array().unwrap().len(), 1, "{name}: {one:#}");
        assert_eq!(one["processes"][0]["origin"], "started", "{name}");
        assert_eq!(one["identity"]["users"], Value::from(vec!["root"]), "{name}");
        assert!(!one["confinement"]["capabilities"].as_array().unwrap().is_empty(), "{name}");
    }
    let calls = |name: &str| called(&list, kind, name)["exposure"]["allowed"].as_u64().unwrap();
    assert!(calls("web") < calls("tight") && calls("tight") < calls("bare"));
    let table = strait(&[engine], &["containers"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains(&format!("{}:", kind.name())), "{table}");
}

fn inspected(kind: Kind, engine: &Engine, web: i32) {
    let id = engine.id("web").unwrap();
    let beginning = id.get(..12).unwrap_or(&id).to_owned();
    for name in ["web", &id, &beginning, &format!("{}:web", kind.name())] {
        let output = strait(&[engine], &["inspect", "--json", "--container", name]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
        let found = json(&output);
        assert_eq!(found["container"]["pid"], web, "{name}");
        let processes = found["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 1, "{name}: {processes:#?}");
        assert_eq!((&processes[0]["pid"], &processes[0]["innerPid"]), (&web.into(), &1.into()));
        assert_eq!(processes[0]["status"], "filtered");
    }
}

/// The report calls containers as their engine does, and finds the policies that are called so.
fn reported(engine: &Engine, policy: &Policy) {
    let folder = engine.folder().join("policies");
    fs::create_dir(&folder).unwrap();
    let mut policy = policy.clone();
    policy.metadata.name = Some("tight".to_owned());
    fs::write(folder.join("tight.yaml"), policy.to_string()).unwrap();
    let output = strait(&[engine], &["report", "--json", "--policies", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = json(&output);
    let workloads = report["workloads"].as_array().unwrap();
    let workload = |name: &str| {
        let id = engine.id(name).unwrap();
        let is_it = |one: &&Value| one["key"].as_str().unwrap().ends_with(&id);
        let one =
            workloads.iter().find(is_it).unwrap_or_else(|| panic!("{name}: {id}: {report:#}"));
        assert_eq!((&one["name"], &one["kind"]), (&name.into(), &"container".into()));
        one
    };
    assert_eq!(workload("bare")["confinement"]["status"], "unconfined");
    assert_eq!(workload("tight")["drift"]["state"], "holds", "{:#}", workload("tight")["drift"]);
    assert_eq!(workload("web")["drift"]["state"], "no-policy");
}

/// The default profile as it is installed, resolved for the capabilities of a container, is what the
/// kernel has there: for all inputs, whatever the capabilities are.
fn default_profiles(kind: Kind, engine: &Engine) {
    let verify = |name: &str, profile: &Path| {
        let policy = profile.to_str().unwrap();
        let output =
            strait(&[engine], &["verify", "--json", "--policy", policy, "--container", name]);
        let found = json(&output);
        let judged = &found["processes"][0]["judged"];
        assert_eq!(found["outcome"], "holds", "{name}, {policy}: {}{judged:#}", said(&output));
    };
    let sets: [(&str, &[&str]); 3] = [
        ("usual", &[]),
        ("more", &["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"]),
        ("none", &["--cap-drop", "ALL"]),
    ];
    let forever = ["/bin/sleep", "1000"];
    let podmans = Path::new(PODMANS);
    for (name, options) in sets {
        if kind == Kind::Containerd && name != "usual" {
            continue;
        }
        engine.run(name, Profile::Default, options, &forever).unwrap();
        match kind {
            Kind::PodmanCrun | Kind::PodmanRunc => verify(name, podmans),
            // It is built in: what the engine makes of it stands in the bundle.
            Kind::Docker | Kind::Containerd => {
                let (state, namespace) = match kind {
                    Kind::Docker => ("exec/containerd/daemon", "moby".to_owned()),
                    _ => ("state", engine.namespace()),
                };
                let tasks = engine.folder().join(state).join("io.containerd.runtime.v2.task");
                let bundle = tasks.join(namespace).join(engine.id(name).unwrap());
                let config = fs::read(bundle.join("config.json")).unwrap();
                let config: Value = serde_json::from_slice(&config).unwrap();
                let file = engine.folder().join("resolved.json");
                fs::write(&file, config["linux"]["seccomp"].to_string()).unwrap();
                verify(name, &file);
            }
        }
        engine.remove(name);
        // Docker resolves a profile in the same words, but up to 20.10 without the errno of the default.
        if kind == Kind::Docker && name == "more" && podmans.exists() {
            let mut profile: Value = serde_json::from_slice(&fs::read(podmans).unwrap()).unwrap();
            profile.as_object_mut().unwrap().remove("defaultErrnoRet");
            let file = engine.folder().join("podmans.json");
            fs::write(&file, profile.to_string()).unwrap();
            engine.run(name, Profile::File(&file), options, &forever).unwrap();
            verify(name, &file);
            engine.remove(name);
        }
    }
}

/// What an engine execs is confined and what enters is not: both are found, and the latter is named.
fn verified(engine: &Engine, tight: i32, policy: &str) {
    let verify = |more: &[&str]| {
        let args = [&["verify", "--policy", policy, "--container", "tight"], more].concat();
        strait(&[engine], &args)
    };
    let mut exec = engine.exec_command("tight", &[]);
    let mut exec = exec.args(["/bin/sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap();
    let origins = |list: &Value| -> Vec<(i64, String)> {
        let members = list["members"].as_array().unwrap();
        let origin = |member: &Value| {
            (member["pid"].as_i64().unwrap(), member["origin"].as_str().unwrap().to_owned())
        };
        members.iter().map(origin).collect()
    };
    // The exec takes a moment, in which the runtime's own process is there too, and the program's may be
    // listed before it is in the cgroup and judged after.
    let mut held = Value::Null;
    for _ in 0..200 {
        let output = verify(&["--json"]);
        held = json(&output);
        let found = origins(&held);
        let is_there = found.len() == 2 && found.iter().any(|(_, origin)| origin == "exec");
        if output.status.code() == Some(0) && is_there {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    assert_eq!(held["outcome"], "holds", "{held:#}");
    let found = origins(&held);
    assert!(found.contains(&(tight.into(), "started".to_owned())), "{found:?}");
    assert!(found.iter().any(|(_, origin)| origin == "exec"), "{found:?}");

    let entered = Entered::new(tight);
    let pid = entered.pid().unwrap();
    let output = verify(&["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let list = json(&output);
    assert!(origins(&list).contains(&(pid.into(), "entered".to_owned())), "{list:#}");
    // nsenter itself is in the mount namespace, and waits.
    let outside: Vec<i64> =
        origins(&list).into_iter().filter(|one| one.1 == "entered").map(|one| one.0).collect();
    for process in list["processes"].as_array().unwrap() {
        let is_outside = outside.contains(&process["process"]["pid"].as_i64().unwrap());
        assert_eq!(process["outcome"], if is_outside { "drift" } else { "holds" }, "{process:#}");
    }
    let text = String::from_utf8(verify(&[]).stdout).unwrap();
    let named = "entered the container's namespaces from outside, and is not confined";
    assert!(text.contains(named), "{text}");
    let table = strait(&[engine], &["containers"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains(&format!("process {pid} (sleep) is not confined")), "{table}");
    drop(entered);
    assert_eq!(verify(&[]).status.code(), Some(0));

    exec.kill().unwrap();
    exec.wait().unwrap();
}

/// It is another process after a restart, and found under the same name.
fn restarted(engine: &Engine, before: i32) {
    let output = engine.client().args(["restart", "--time", "0", "web"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let now = engine.pid("web").unwrap();
    assert_ne!(before, now);
    let found = json(&strait(&[engine], &["inspect", "--json", "--container", "web"]));
    assert_eq!(found["container"]["pid"], now);
    assert_eq!(found["processes"].as_array().unwrap().len(), 1);
}

const EXECED: &str =
    "mkdir -p /tmp/made; echo one > /tmp/made/two; cat /tmp/made/two; rm -r /tmp/made";

/// The recording of this container while there are execs into it.
fn recording_of_execs(engine: &Engine, name: &str, file: &Path) -> Value {
    let record = Command::new(env!("CARGO_BIN_EXE_strait"))
        .envs(engine.environment())
        .args(["record", "--container", name, "--output"])
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The recording begins some time from now: what it is to have is repeated.
    for _ in 0..8 {
        engine.exec(name, &["/bin/sh", "-c", EXECED]).unwrap();
        sleep(Duration::from_millis(100));
    }
    Command::new("kill").args(["-INT", &record.id().to_string()]).status().unwrap();
    let output = record.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What is called in a container while it is recorded is in the recording, an exec's calls too.
fn recorded(engine: &Engine) {
    // Where no filter is loaded the runtime's own are told apart by its exec.
    let file = engine.folder().join("recording.json");
    let open = recording_of_execs(engine, "bare", &file);
    let of = |phase: &str| -> BTreeSet<String> {
        let calls = open["calls"].as_array().unwrap().iter();
        let calls = calls.filter(|call| call["phase"] == phase);
        let path = |call: &Value| {
            let image = usize::try_from(call["image"].as_u64().unwrap()).unwrap();
            open["images"][image]["path"].as_str().unwrap().to_owned()
        };
        calls.map(path).collect()
    };
    assert_eq!(of("outside"), BTreeSet::from(["/bin/busybox".to_owned()]), "{open:#}");
    let before = of("before-filter");
    let is_runtime = |path: &String| path.contains(engine.kind().runtime());
    assert!(!before.is_empty() && before.iter().all(is_runtime), "{before:?}");

    let recording = recording_of_execs(engine, "web", &file);
    let text = recording.to_string();
    assert!(text.contains("\"mkdir\""), "{recording:#}");

    // What the runtime does before the filter is loaded is no part of it: it is told apart.
    let named = |phase: &str, call: &str| {
        let calls = recording["calls"].as_array().unwrap().iter();
        calls.clone().any(|one| one["phase"] == phase && one["name"] == call)
    };
    assert!(named("before-filter", "seccomp") && !named("outside", "seccomp"), "{recording:#}");
    // A container with the profile that comes of it does the same on its first try.
    let profile = engine.folder().join("recorded.json");
    let args = ["generate", file.to_str().unwrap(), "--for", engine.kind().name(), "-o"];
    let output = strait(&[engine], &[&args[..], &[profile.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let script = ["/bin/sh", "-c", EXECED];
    let output =
        engine.run_command("again", Profile::File(&profile), &["--rm"], &script).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told == "one\n", "{told}{}", said(&output));
}

#[test]
fn dockers_containers_are_found_and_judged() {
    check(Kind::Docker, "dockers_containers_are_found_and_judged");
}

#[test]
fn containerds_containers_are_found_and_judged() {
    check(Kind::Containerd, "containerds_containers_are_found_and_judged");
}

#[test]
fn podmans_containers_with_crun_are_found_and_judged() {
    check(Kind::PodmanCrun, "podmans_containers_with_crun_are_found_and_judged");
}

#[test]
fn podmans_containers_with_runc_are_found_and_judged() {
    check(Kind::PodmanRunc, "podmans_containers_with_runc_are_found_and_judged");
}

#[test]
fn a_name_that_two_engines_have_is_an_error_that_names_both() {
    let test = "a_name_that_two_engines_have_is_an_error_that_names_both";
    let Some(containerd) = Engine::start(Kind::Containerd, test) else { return };
    let Some(podman) = Engine::start(Kind::PodmanRunc, test) else { return };
    let forever = ["/bin/sleep", "1000"];
    let one = containerd.run("twice", Profile::Unconfined, &[], &forever).unwrap();
    let other = podman.run("twice", Profile::Unconfined, &[], &forever).unwrap();
    let inspect =
        |name: &str| strait(&[&containerd, &podman], &["inspect", "--json", "--container", name]);
    let both = inspect("twice");
    assert_eq!(both.status.code(), Some(2));
    let inner = format!("{}/twice", containerd.namespace());
    let choices = format!("podman:twice, containerd:{inner}");
    assert!(said(&both).contains(&choices), "{}", said(&both));
    for (name, pid) in [
        ("podman:twice", other),
        ("containerd:twice", one),
        (&format!("containerd:{inner}"), one),
        (&inner, one),
    ] {
        assert_eq!(json(&inspect(name))["container"]["pid"], pid, "{name}");
    }
}

#[test]
fn an_engine_that_hangs_is_named_and_the_others_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    // Whoever connects is never answered.
    let listener = UnixListener::bind(&socket).unwrap();
    let docker = format!("docker={}", socket.display());
    let runc = format!("runc={}", dir.path().display());
    let args = ["containers", "--json", "--container-engine", &docker, "--container-engine", &runc];
    let output = strait(&[], &args);
    assert_eq!(output.status.code(), Some(3));
    let unreachable = &json(&output)["unreachable"];
    assert_eq!(unreachable.as_array().unwrap().len(), 1, "{unreachable}");
    assert_eq!(unreachable[0]["engine"], "docker");
    assert_eq!(unreachable[0]["place"], socket.to_str().unwrap());
    assert!(unreachable[0]["reason"].as_str().unwrap().contains("no answer within"));
    drop(listener);

    // Nobody listens any more: of what is not found it is said who was not asked.
    let args = ["inspect", "--container", "no-such-one", "--container-engine", &docker];
    let output = strait(&[], &args);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("no-such-one") && text.contains(socket.to_str().unwrap()), "{text}");
    let wrong = strait(&[], &["containers", "--container-engine", "beer=/x"]);
    assert!(said(&wrong).contains("`beer` is no engine"), "{}", said(&wrong));
}

#[test]
fn containers_that_share_or_lack_namespaces_are_told_apart() {
    let test = "containers_that_share_or_lack_namespaces";
    let Some(engine) = Engine::start(Kind::PodmanCrun, test) else { return };
    let forever = ["/bin/sleep", "1000"];
    let bare = Profile::Unconfined;
    let first = engine.run("first", Profile::Default, &[], &forever).unwrap();
    let kinds: [(&str, &[&str]); 4] = [
        ("guest", &["--pid", "container:first"]),
        ("hosted", &["--pid", "host"]),
        ("groupless", &["--cgroups", "disabled"]),
        ("mapped", &["--uidmap", "0:100000:65536"]),
    ];
    let mut pids = Vec::new();
    for (name, options) in kinds {
        match engine.run(name, bare, options, &forever) {
            Ok(pid) => pids.push((name, pid)),
            Err(reason) => skip(test, &format!("{name}: {reason}")),
        }
    }
    let list = json(&strait(&[&engine], &["containers", "--json"]));
    let members = |list: &Value, name: &str| -> Vec<i64> {
        let processes = &called(list, Kind::PodmanCrun, name)["processes"];
        let processes = processes.as_array().unwrap().iter();
        processes.map(|process| process["pid"].as_i64().unwrap()).collect()
    };
    assert_eq!(members(&list, "first"), [i64::from(first)]);
    assert_eq!(called(&list, Kind::PodmanCrun, "first")["confined"], "default");
    for (name, pid) in &pids {
        assert_eq!(members(&list, name), [i64::from(*pid)], "{name}");
        assert_eq!(called(&list, Kind::PodmanCrun, name)["confined"], "unconfined", "{name}");
        if *name == "mapped" {
            let found = json(&strait(&[&engine], &["inspect", "--json", "--container", name]));
            assert_eq!(found["processes"][0]["user"], 100_000);
        }
    }
}
