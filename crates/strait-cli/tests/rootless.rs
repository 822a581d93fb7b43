//! Containers that a user without privileges runs, as root finds them and looks into them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use strait_testkit::engine::{Engine, Kind, Profile};
use strait_testkit::policies::all_but;
use strait_testkit::rootless::{IMAGE, Rootless, USER};
use strait_testkit::skip;

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

fn strait(arguments: &[&str], engine: Option<&Engine>) -> Output {
    let mut strait = Command::new(env!("CARGO_BIN_EXE_strait"));
    strait.args(arguments).envs(engine.into_iter().flat_map(Engine::environment)).output().unwrap()
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn root_finds_the_containers_of_users_and_looks_into_them() {
    let test = "containers of users";
    let rootless = match Rootless::try_start() {
        Ok(rootless) => rootless,
        Err(reason) => return skip(test, &reason),
    };
    let pid = rootless.run("web", &SLEEP).unwrap();
    let id = rootless.inspect("web", "{{.Id}}").unwrap();

    let listed = json(&strait(&["containers", "--json"], None));
    let of_user = |listed: &Value| {
        let all = listed["containers"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["id"] == id.as_str()).unwrap()
    };
    let web = of_user(&listed);
    let told =
        ["engine", "user", "names", "pid", "runtime", "confined"].map(|key| web[key].clone());
    let wanted = serde_json::json!(["podman", USER, ["web"], pid, "runc", "default"]);
    assert_eq!(Value::from(told.to_vec()), wanted, "{web:#}");

    // It is called by its user, and by nothing else, whatever that user calls it.
    let named = format!("podman:{USER}/web");
    for name in [named.as_str(), &format!("{USER}/{}", &id[..12])] {
        let output = strait(&["inspect", "--json", "--container", name], None);
        let processes = json(&output)["processes"].as_array().unwrap().clone();
        assert_eq!(processes.len(), 1, "{name}");
        assert_eq!(
            (&processes[0]["pid"], &processes[0]["status"]),
            (&pid.into(), &"filtered".into())
        );
    }
    for name in ["web", "podman:web", &id] {
        let output = strait(&["inspect", "--container", name], None);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&named), "{name}: {said}");
    }

    // Root's own of that name is another one, and stays what the name means.
    let Some(engine) = Engine::start(Kind::PodmanRunc, test) else { return };
    let own = engine.run("web", Profile::Unconfined, &[], &SLEEP).unwrap();
    for name in ["web", "podman:web"] {
        let output = strait(&["inspect", "--json", "--container", name], Some(&engine));
        assert_eq!(json(&output)["processes"][0]["pid"], own, "{name}");
    }
    let listed = json(&strait(&["containers", "--json"], Some(&engine)));
    assert_eq!(of_user(&listed)["pid"], pid);
    let webs = listed["containers"].as_array().unwrap().iter();
    assert_eq!(webs.filter(|one| one["names"][0] == "web").count(), 2, "{listed:#}");
}

/// A user binds policies of root's to containers: who owns them cannot be told in the user's namespace, but who else
/// may write them can.
#[test]
fn users_have_their_containers_bound() {
    let test = "containers of users are bound";
    // With the runtime, by which the containers are removed in the end.
    let folder = tempfile::tempdir().unwrap();
    let rootless = match Rootless::try_start() {
        Ok(rootless) => rootless,
        Err(reason) => return skip(test, &reason),
    };
    let path = |name: &str| folder.path().join(name);
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    // Where that user may execute it.
    fs::copy(env!("CARGO_BIN_EXE_strait"), path("strait")).unwrap();
    fs::create_dir(path("policies")).unwrap();
    mode("policies", 0o755);
    fs::write(path("policies/no-mkdir.yaml"), all_but(&["mkdir"], 30).to_string()).unwrap();
    let script = format!(
        "#!/bin/sh\nexec {} oci-runtime --runtime runc --policies {} --recordings {} -- \"$@\"\n",
        path("strait").display(),
        path("policies").display(),
        path("recordings").display()
    );
    fs::write(path("runtime"), script).unwrap();
    mode("runtime", 0o755);
    let runtime = path("runtime").display().to_string();
    let run = |name: &str, options: &[&str]| {
        let mut podman = rootless.client();
        podman.args([
            "--runtime",
            &runtime,
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "none",
        ]);
        podman.args(options).arg(IMAGE).args(SLEEP);
        podman.output().unwrap()
    };
    let text = |output: &Output| {
        let (out, err) = (&output.stdout, &output.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    };
    let asks = ["--annotation", "io.strait.policy=no-mkdir"];
    let bound = run("bound", &asks);
    assert!(bound.status.success(), "{}", text(&bound));
    let mkdir = ["exec", "bound", "/bin/mkdir", "/tmp/new"];
    let mkdir = rootless.client().args(["--runtime", &runtime]).args(mkdir).output().unwrap();
    assert!(text(&mkdir).contains("Read-only file system"), "{}", text(&mkdir));

    mode("policies", 0o777);
    let stopped = run("stopped", &asks);
    assert!(!stopped.status.success());
    assert!(text(&stopped).contains("policies may be written by everybody"), "{}", text(&stopped));
    mode("policies", 0o755);

    // And supervised, in a folder of that user's.
    fs::create_dir(path("recordings")).unwrap();
    chown(path("recordings"), Some(USER), Some(USER)).unwrap();
    let asks = [&asks[..], &["--annotation", "io.strait.mode=notify"]].concat();
    let told = run("told", &asks);
    assert!(told.status.success(), "{}", text(&told));
    let mkdir = ["exec", "told", "/bin/mkdir", "/tmp/new"];
    let mkdir = rootless.client().args(["--runtime", &runtime]).args(mkdir).output().unwrap();
    assert!(text(&mkdir).contains("Read-only file system"), "{}", text(&mkdir));
    let file =
        path(&format!("recordings/{}.denials.json", rootless.inspect("told", "{{.Id}}").unwrap()));
    let is_told = || fs::read_to_string(&file).is_ok_and(|told| told.contains("mkdir("));
    assert!((0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        is_told()
    }));
    let remove = ["rm", "--force", "--time", "0", "told"];
    let removed = rootless.client().args(["--runtime", &runtime]).args(remove).output().unwrap();
    assert!(removed.status.success(), "{}", text(&removed));
    let is_summed_up = || fs::read_to_string(&file).is_ok_and(|told| told.contains("summary"));
    assert!((0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        is_summed_up()
    }));
    assert_eq!(rootless.clear(), Vec::<String>::new());
}
