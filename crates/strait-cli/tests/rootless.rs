//! Containers that a user without privileges runs, as root finds them and looks into them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;
use strait_testkit::engine::{Engine, Kind, Profile};
use strait_testkit::rootless::{Rootless, USER};
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
