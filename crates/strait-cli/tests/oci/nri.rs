//! Pods of a real containerd, with Strait as its plugin: NRI 0.8, which has no words for profiles.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use strait_testkit::cri::{Cri, IMAGE};

use crate::plugin::Plugin;
use crate::recorded::{calls, is_whole, recorders, recording, wait};
use crate::setup::{STRAIT, Setup, strait};

/// What containers that are bound do, for as long as they are let.
const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];
const MKDIR: [&str; 2] = ["/bin/mkdir", "/tmp/new"];

#[test]
fn pods_are_recorded_by_the_plugin() {
    let setup = Setup::new();
    let Some(cri) = Cri::start("pods are recorded", |runtime| setup.program(runtime)) else {
        return;
    };
    let plugin = Plugin::start(&setup, &cri);

    let plain = cri.pod("plain", &[], "").unwrap();
    cri.run(&plain, "app", false, &SLEEP).unwrap();
    assert_eq!(recorders(&setup).len(), 0, "what asks for nothing is not recorded");

    let asks = [("io.strait.record", "web.json"), ("io.strait.record/container.two", "2.json")];
    let pod = cri.pod("web", &asks, "").unwrap();
    let work = ["/bin/sh", "-c", "mkdir /tmp/$$; sleep 1000"];
    let one = cri.run(&pod, "one", true, &work).unwrap();
    cri.run(&pod, "two", true, &SLEEP).unwrap();
    assert_eq!(recorders(&setup).len(), 2, "{}", plugin.said());
    assert_eq!(cri.exec(&one, &["/bin/chmod", "755", "/tmp"]), Ok(0));
    // What tells the runtime's calls from the workload's is the loading of a filter.
    let error = cri.run(&pod, "three", false, &SLEEP).unwrap_err();
    assert!(error.contains("without a seccomp profile"), "{error}");
    cri.remove(&pod);
    wait("the recorders end with their containers", || recorders(&setup).is_empty());
    // With Strait as the runtime too it has one, and there is one recorder.
    let pod = cri.pod("open", &[("io.strait.record", "open.json")], "strait").unwrap();
    let open = cri.run(&pod, "app", false, &SLEEP).unwrap();
    assert_eq!(recorders(&setup).len(), 1, "{}", plugin.said());
    assert!(is_confined(&cri, &open));
    cri.remove(&pod);

    let file = setup.path("recordings/shop_web_one.web.json");
    let recording = recording(&setup, &file);
    is_whole(&recording);
    let called = serde_json::json!({"pod": "shop/web", "name": "one", "image": IMAGE});
    assert_eq!(recording["container"], called);
    assert!(calls(&recording, "before-filter", "runc").contains("pivot_root"));
    assert!(calls(&recording, "runtime", "runc").contains("execve"));
    assert!(
        calls(&recording, "start-up", "busybox").is_superset(&BTreeSet::from(["mkdir", "brk"]))
    );
    assert!(calls(&recording, "outside", "busybox").contains("chmod"));
    assert!(setup.path("recordings/shop_web_two.2.json").exists());

    // Such a recording makes a policy that starts the pod.
    let policy = setup.path("policies/web.yaml").display().to_string();
    strait(&["generate", file.to_str().unwrap(), "-o", &policy]);
    let pod = cri.pod("bound", &[("io.strait.policy", "web")], "strait").unwrap();
    let bound = cri.run(&pod, "one", true, &work).unwrap();
    assert!(is_confined(&cri, &bound));
}

#[test]
fn what_the_runtime_passes_over_stops_the_container() {
    let setup = Setup::new();
    let Some(cri) = Cri::start("pods are bound", |runtime| setup.program(runtime)) else { return };
    let _plugin = Plugin::start(&setup, &cri);

    // runc is told of no profile, or of containerd's own, whatever the plugin says.
    let pod = cri.pod("dropped", &[("io.strait.policy", "no-mkdir")], "").unwrap();
    let error = cri.run(&pod, "open", false, &SLEEP).unwrap_err();
    assert!(error.contains("confined by `no-mkdir`") && error.contains("no profile"), "{error}");
    let error = cri.run(&pod, "default", true, &SLEEP).unwrap_err();
    assert!(error.contains("another profile, which decides otherwise on"), "{error}");

    // With Strait as the runtime it is, and that is found so.
    let pod = cri.pod("bound", &[("io.strait.policy", "no-mkdir")], "strait").unwrap();
    let bound = cri.run(&pod, "app", true, &SLEEP).unwrap();
    assert_ne!(cri.exec(&bound, &MKDIR), Ok(0));
    assert_eq!(cri.exec(&bound, &["/bin/true"]), Ok(0));

    // So it is with a supervisor.
    let asks = [("io.strait.policy", "no-mkdir"), ("io.strait.mode", "notify")];
    let pod = cri.pod("told", &asks, "").unwrap();
    let error = cri.run(&pod, "app", true, &SLEEP).unwrap_err();
    assert!(error.contains("has been told of no supervisor"), "{error}");
    let pod = cri.pod("supervised", &asks, "strait").unwrap();
    let supervised = cri.run(&pod, "app", true, &SLEEP).unwrap();
    assert_ne!(cri.exec(&supervised, &MKDIR), Ok(0));
    assert_eq!(cri.exec(&supervised, &["/bin/true"]), Ok(0));
    let file = setup.path(&format!("recordings/{supervised}.denials.json"));
    wait("it is told", || fs::read_to_string(&file).is_ok_and(|told| told.contains("mkdir(")));

    // What cannot be applied is told when the container is made.
    for (annotation, value, said) in [
        ("io.strait.policy", "none", "there is no policy `none`"),
        ("io.strait.policy", "../x", "is no name of a policy"),
        ("io.strait.policy", "broken", "broken.yaml"),
        ("io.strait.mode", "log", "there is none"),
        ("io.strait.record", "/etc/x", "is no file in"),
    ] {
        let pod = cri.pod("stopped", &[(annotation, value)], "").unwrap();
        let error = cri.create(&pod, "app", true, &SLEEP).expect_err(said);
        assert!(error.contains(said), "{annotation}={value}: {error}");
        cri.remove(&pod);
    }

    // So it is with what is bound to the image, however its name is written.
    let bindings = setup.path("policies/bindings");
    let pod = cri.pod("image", &[], "").unwrap();
    for (app, name) in [("a", "localhost/strait-test/*"), ("b", "localhost/strait-test/busybox")] {
        fs::write(&bindings, format!("{name} no-mkdir\n")).unwrap();
        let error = cri.run(&pod, app, true, &SLEEP).unwrap_err();
        assert!(error.contains("confined by `no-mkdir`"), "{name}: {error}");
    }
    // Its digest containerd does not tell.
    let digest = "0".repeat(64);
    fs::write(&bindings, format!("* -\nsha256:{digest} no-mkdir\n")).unwrap();
    let error = cri.create(&pod, "c", true, &SLEEP).unwrap_err();
    assert!(error.contains("line 2 is by a digest"), "{error}");
    fs::remove_file(&bindings).unwrap();
}

/// What is made while the plugin is away is named when it comes back, or is not started.
#[test]
fn what_the_plugin_has_missed_is_named() {
    let setup = Setup::new();
    let Some(mut cri) = Cri::start("a plugin is away", |runtime| setup.program(runtime)) else {
        return;
    };
    let plugin = Plugin::start(&setup, &cri);
    let asks = [("io.strait.policy", "no-mkdir")];
    let pod = cri.pod("bound", &asks, "strait").unwrap();
    let bound = cri.run(&pod, "app", true, &SLEEP).unwrap();
    let works = |cri: &Cri| {
        assert!(is_confined(cri, &bound));
        assert_ne!(cri.exec(&bound, &MKDIR), Ok(0));
        assert_eq!(cri.exec(&bound, &["/bin/true"]), Ok(0));
    };
    works(&cri);
    // It takes nothing with it.
    drop(plugin);
    works(&cri);
    let other = cri.pod("missed", &asks, "").unwrap();
    let default = cri.run(&other, "default", true, &SLEEP).unwrap();
    let open = cri.run(&other, "open", false, &SLEEP).unwrap();
    let made = cri.create(&other, "made", true, &SLEEP).unwrap();
    // By the runtime, which is passed the pod's annotations.
    let passed_on = cri.pod("confined", &asks, "annotated").unwrap();
    let confined = cri.create(&passed_on, "confined", true, &SLEEP).unwrap();

    let plugin = Plugin::start(&setup, &cri);
    let are_named = |said: &str| {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("runs already")).collect();
        let [one, two] = lines[..] else { panic!("{said}") };
        for (id, part) in [
            (&default, "): mkdir gets allow and not errno(30)"),
            (&open, "(sleep): it is not confined at all"),
        ] {
            let is_it = |line: &&str| {
                line.contains(&format!("{id} runs already and is not confined by `no-mkdir`"))
                    && line.contains(part)
            };
            assert!([one, two].iter().any(is_it), "{part}: {said}");
        }
    };
    wait("it has looked", || plugin.said().contains("3 are to be confined, and 2 of these"));
    are_named(&plugin.said());
    let error = cri.begin(&made).unwrap_err();
    assert!(error.contains("was made while `strait nri` was not there"), "{error}");
    cri.begin(&confined).unwrap();
    assert!(is_confined(&cri, &confined));
    assert_ne!(cri.exec(&confined, &MKDIR), Ok(0));

    // An engine that is started again has its plugin again, and it looks again.
    cri.stop();
    wait("the plugin notices", || plugin.said().contains("until the runtime is back"));
    let before = plugin.said().len();
    let synchronized = cri.log().matches("connected and synchronized").count();
    cri.restart().unwrap();
    let since = || plugin.said().split_off(before);
    wait("it has looked", || since().contains("4 are to be confined, and 2 of these"));
    are_named(&since());
    works(&cri);
    let times = || cri.log().matches("connected and synchronized").count();
    wait("containers are told of", || times() > synchronized);
    let error = cri.run(&other, "again", true, &SLEEP).unwrap_err();
    assert!(error.contains("another profile, which decides otherwise on"), "{error}");
    let again = cri.run(&pod, "again", true, &SLEEP).unwrap();
    assert_ne!(cri.exec(&again, &MKDIR), Ok(0));
}

/// containerd starts what is in its folder of plugins, and gives it the socket.
#[test]
fn an_engine_starts_its_plugin_itself() {
    let setup = Setup::new();
    let Some(mut cri) = Cri::start("a plugin is started", |runtime| setup.program(runtime)) else {
        return;
    };
    let path = |name: &str| setup.path(name).display().to_string();
    let script = format!(
        "#!/bin/sh\nexec {STRAIT} nri --policies {} --recordings {} 2>>{}\n",
        path("policies"),
        path("recordings"),
        path("said"),
    );
    fs::create_dir(cri.plugins()).unwrap();
    let program = cri.plugins().join("42-confine");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for times in 1..3 {
        // It ends with its engine, and begins with it.
        cri.stop();
        cri.restart().unwrap();
        let said = || fs::read_to_string(setup.path("said")).unwrap_or_default();
        wait("it is the plugin", || said().matches("tells of its containers").count() == times);
        let pod = cri.pod("bound", &[("io.strait.policy", "no-mkdir")], "").unwrap();
        let error = cri.run(&pod, "app", false, &SLEEP).unwrap_err();
        assert!(error.contains("confined by `no-mkdir`"), "{error}: {}", cri.log());
        cri.remove(&pod);
    }
}

fn is_confined(cri: &Cri, container: &str) -> bool {
    let pid = cri.pid(container).unwrap();
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("Seccomp:\t2\n")
}
