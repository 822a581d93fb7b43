//! Policies that the runtime binds to containers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use strait_testkit::engine::{Engine, IMAGE, Kind, Profile};

use crate::setup::{STRAIT, Setup, text};

/// Whether a container can make a folder.
fn can_mkdir(engine: &Engine, name: &str) -> bool {
    engine.exec(name, &["/bin/mkdir", &format!("/tmp/{name}")]).is_ok()
}

/// Whether a container can change a mode.
fn can_chmod(engine: &Engine, name: &str) -> bool {
    engine.exec(name, &["/bin/chmod", "1777", "/tmp"]).is_ok()
}

/// `verify` of the container's process against the policy.
fn verify(setup: &Setup, pid: i32) -> Output {
    let policy = setup.path("policies/no-mkdir.yaml");
    let mut command = Command::new(STRAIT);
    command.args(["verify", "--pid", &pid.to_string(), "--policy"]).arg(policy);
    command.output().unwrap()
}

/// By annotation: the policy, its modes, and what stops a container.
fn by_annotation(kind: Kind) {
    let setup = Setup::new();
    let test = "policies are bound by annotation";
    let Some(engine) = setup.engine(kind, test) else { return };
    let binary = setup.program(kind.runtime());
    let start = |name: &str, annotations: &[&str]| {
        let mut options: Vec<&str> =
            annotations.iter().flat_map(|annotation| ["--annotation", annotation]).collect();
        if kind == Kind::Containerd {
            options.extend(["--runc-binary", &binary]);
        }
        engine.run(name, Profile::Default, &options, &["/bin/sleep", "1000"])
    };

    start("plain", &[]).unwrap();
    assert!(can_mkdir(&engine, "plain"), "{kind:?}: what asks for nothing is not touched");

    let pid = start("bound", &["io.strait.policy=no-mkdir"]).unwrap();
    assert!(!can_mkdir(&engine, "bound"), "{kind:?}");
    let verified = verify(&setup, pid);
    assert!(verified.status.success(), "{kind:?}: {}", text(&verified));

    let bindings = setup.path("policies/bindings");
    fs::write(&bindings, "* - overridable\n").unwrap();
    start("logged", &["io.strait.policy=no-mkdir", "io.strait.mode=log"]).unwrap();
    assert!(can_mkdir(&engine, "logged"), "{kind:?}");
    fs::remove_file(&bindings).unwrap();

    for (annotations, said) in [
        (&["io.strait.policy=none"][..], "there is no policy `none`"),
        (&["io.strait.policy=../policies/no-mkdir"], "is no name of a policy"),
        (&["io.strait.policy=/etc/passwd"], "is no name of a policy"),
        (&["io.strait.policy=broken"], "broken.yaml"),
        (&["io.strait.policy=no-mkdir", "io.strait.mode=off"], "`off` is no mode"),
        (&["io.strait.mode=log"], "there is none"),
        (&["io.strait.policy=no-mkdir", "io.strait.mode=log"], "says `overridable`"),
        (&["io.strait.record=../x"], "is no file in"),
        (&["io.strait.record=/etc/x"], "is no file in"),
    ] {
        let error = start("stopped", annotations).expect_err(said);
        assert!(error.contains(said), "{kind:?} {annotations:?}: {error}");
        assert!(engine.pid("stopped").is_err(), "{kind:?}: it does not run");
        engine.remove("stopped");
    }
    assert_eq!(fs::read_dir(setup.path("recordings")).unwrap().count(), 0);

    // What others may write is nobody's word: they could take away what confines a container.
    for (path, mode, annotations) in [
        ("policies", 0o777, &[][..]),
        ("policies", 0o1777, &[]),
        ("policies/no-mkdir.yaml", 0o664, &["io.strait.policy=no-mkdir"]),
    ] {
        let _safe = setup.with_mode(path, mode);
        let error = start("stopped", annotations).unwrap_err();
        let said = format!("{} may be written by", setup.path(path).display());
        assert!(error.contains(&said), "{kind:?} {annotations:?}: {error}");
        assert!(engine.pid("stopped").is_err(), "{kind:?}: it does not run");
        engine.remove("stopped");
    }

    // Where one is bound, an annotation may choose what permits less, and nothing else.
    let over = |name: &str, text: &str, annotations: &[&str]| {
        fs::write(&bindings, text).unwrap();
        start(name, annotations)
    };
    let (tighter, looser) = ("io.strait.policy=tighter", "io.strait.policy=looser");
    over("tighter", "* no-mkdir\n", &[tighter]).unwrap();
    assert!(!can_mkdir(&engine, "tighter") && !can_chmod(&engine, "tighter"), "{kind:?}");
    for (annotations, said) in [
        (&[looser][..], "mkdir would pass by `looser` and not by `no-mkdir`"),
        (&[tighter, "io.strait.mode=log"], "says `overridable`"),
        (&["io.strait.policy=no-mkdir", "io.strait.mode=log"], "says `overridable`"),
    ] {
        let error = over("stopped", "* no-mkdir\n", annotations).expect_err(said);
        assert!(error.contains(said), "{kind:?} {annotations:?}: {error}");
        assert!(engine.pid("stopped").is_err(), "{kind:?}: it does not run");
        engine.remove("stopped");
    }
    over("overridden", "* no-mkdir overridable\n", &[looser]).unwrap();
    assert!(can_mkdir(&engine, "overridden") && !can_chmod(&engine, "overridden"), "{kind:?}");
    // By `log` everything passes: nothing can be looser.
    over("from-log", "* tighter log\n", &[looser]).unwrap();
    assert!(can_mkdir(&engine, "from-log") && !can_chmod(&engine, "from-log"), "{kind:?}");
}

#[test]
fn podman_with_crun_gets_policies_by_annotation() {
    by_annotation(Kind::PodmanCrun);
}

#[test]
fn podman_with_runc_gets_policies_by_annotation() {
    by_annotation(Kind::PodmanRunc);
}

#[test]
fn containerd_gets_policies_by_annotation() {
    by_annotation(Kind::Containerd);
}

#[test]
fn docker_and_podman_get_policies_by_image() {
    for kind in [Kind::Docker, Kind::PodmanCrun, Kind::PodmanRunc] {
        let setup = Setup::new();
        let Some(engine) = setup.engine(kind, "policies are bound by image") else { continue };
        let inspected = engine.client().args(["inspect", "--format", "{{.Id}}", IMAGE]).output();
        let id = text(&inspected.unwrap());
        let digest = format!("sha256:{}", id.trim().trim_start_matches("sha256:"));
        let start = |name: &str, bindings: &str| {
            fs::write(setup.path("policies/bindings"), bindings).unwrap();
            engine.run(name, Profile::Default, &[], &["/bin/sleep", "1000"])
        };

        let pid = start("by-digest", &format!("* none\n{digest} no-mkdir\n")).unwrap();
        assert!(!can_mkdir(&engine, "by-digest"), "{kind:?}");
        assert!(verify(&setup, pid).status.success(), "{kind:?}");
        start("by-name", "localhost/* none\nlocalhost/strait-test/* no-mkdir log\n").unwrap();
        assert!(can_mkdir(&engine, "by-name"), "{kind:?}");
        start("other", "other no-mkdir\n").unwrap();
        assert!(can_mkdir(&engine, "other"), "{kind:?}");
        start("excepted", &format!("* none\n{digest} -\n")).unwrap();

        for (bindings, said) in [
            (format!("{digest} no-mkdir\n{digest} none\n"), "lines 1 and 2 match this image alike"),
            ("* none\n".to_owned(), "there is no policy `none`"),
            ("x\n".to_owned(), "line 1: there is no policy"),
        ] {
            let error = start("stopped", &bindings).expect_err(said);
            assert!(error.contains(said), "{kind:?} {bindings:?}: {error}");
            engine.remove("stopped");
        }
    }
}

/// Its client tells of no image; what CRI clients have it run does, in annotations.
#[test]
fn containerd_gets_policies_by_the_image_that_its_annotations_tell() {
    let setup = Setup::new();
    let Some(engine) = setup.engine(Kind::Containerd, "policies are bound by digest") else {
        return;
    };
    let binary = setup.program("runc");
    let digest = format!("sha256:{}", "4b".repeat(32));
    let image = format!("io.kubernetes.cri.image-name=registry.local/web@{digest}");
    let start = |name: &str, bindings: &str, annotations: &[&str]| {
        fs::write(setup.path("policies/bindings"), bindings).unwrap();
        let annotations = annotations.iter().flat_map(|&one| ["--annotation", one]);
        let options: Vec<&str> =
            ["--runc-binary", &binary].into_iter().chain(annotations).collect();
        engine.run(name, Profile::Default, &options, &["/bin/sleep", "1000"])
    };
    let by_digest = format!("* none\n{digest} no-mkdir\n");
    let pid = start("by-digest", &by_digest, &[&image]).unwrap();
    assert!(!can_mkdir(&engine, "by-digest"));
    assert!(verify(&setup, pid).status.success());
    let error = start("stopped", &by_digest, &[&image, "io.strait.policy=looser"]).unwrap_err();
    assert!(error.contains("mkdir would pass by `looser`"), "{error}");
    // Which image that is cannot be told, and it may be the one that is bound.
    let only = format!("{digest} no-mkdir\n");
    for annotations in [&[][..], &["io.strait.policy=looser"]] {
        let error = start("unknown", &only, annotations).unwrap_err();
        assert!(error.contains("has no line `*`"), "{error}");
        engine.remove("unknown");
    }
}

/// As docs/containers.md has it: `runtimes` with `runtimeArgs`.
#[test]
fn docker_takes_strait_with_arguments() {
    let setup = Setup::new();
    let arguments = setup.arguments("runc");
    let config = json!({"runtimes": {"strait": {"path": STRAIT, "runtimeArgs": arguments}}});
    let file = setup.path("daemon.json").display().to_string();
    fs::write(&file, config.to_string()).unwrap();
    let engine = match Engine::try_start(Kind::Docker, &["--config-file", &file]) {
        Ok(engine) => engine,
        Err(reason) => return strait_testkit::skip("docker takes strait with arguments", &reason),
    };
    fs::write(setup.path("policies/bindings"), "* no-mkdir\n").unwrap();
    let forever = ["/bin/sleep", "1000"];
    let pid = engine.run("bound", Profile::Default, &["--runtime", "strait"], &forever).unwrap();
    assert!(!can_mkdir(&engine, "bound"));
    assert!(verify(&setup, pid).status.success());
    engine.run("other", Profile::Default, &[], &forever).unwrap();
    assert!(can_mkdir(&engine, "other"), "the default runtime stays what it was");
}

/// By the name `strait-oci` alone, which is what containerd's `BinaryName` has room for.
#[test]
fn containerd_takes_strait_by_its_name() {
    let setup = Setup::new();
    let test = "containerd takes strait by its name";
    let Some(engine) = setup.engine(Kind::Containerd, test) else { return };
    let link = setup.path("strait-oci");
    symlink(STRAIT, &link).unwrap();
    let start = |name: &str, annotations: &[&str]| {
        let binary = ["--runc-binary", link.to_str().unwrap()];
        let options = [&binary[..], annotations].concat();
        engine.run(name, Profile::Default, &options, &["/bin/sleep", "1000"])
    };
    start("plain", &[]).unwrap();
    assert!(can_mkdir(&engine, "plain"));
    let error = start("stopped", &["--annotation", "io.strait.policy=no-such-policy"]).unwrap_err();
    let said = "there is no policy `no-such-policy` in /etc/strait/policies";
    assert!(error.contains(said), "{error}");
}

/// A bundle with this configuration.
fn bundle(folder: &Path, config: &[u8]) -> PathBuf {
    let bundle = folder.join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    fs::write(bundle.join("config.json"), config).unwrap();
    bundle
}

#[test]
fn what_no_configuration_is_is_told_and_stays() {
    let setup = Setup::new();
    let asking = json!({"io.strait.policy": "no-mkdir"});
    let huge = "x".repeat(33 << 20);
    let large = "y".repeat(4 << 20);
    for (config, said) in [
        ("{".to_owned(), "not JSON"),
        ("[]".to_owned(), "not JSON"),
        (json!({"annotations": asking}).to_string(), "`linux` is missing"),
        (json!({"annotations": asking, "linux": []}).to_string(), "`linux` is no object"),
        (json!({"annotations": 7, "linux": {}}).to_string(), "`annotations` is no object"),
        (json!({"annotations": {"io.strait.policy": 7}}).to_string(), "is no text"),
        (json!({"process": {"args": [huge]}, "linux": {}}).to_string(), "larger than 32 MiB"),
        (
            json!({"process": {"args": [large], "capabilities": {"bounding": ["CAP_X"]}},
                   "annotations": asking, "linux": {}})
            .to_string(),
            "`CAP_X` is no capability",
        ),
    ] {
        let bundle = bundle(&setup.path(""), config.as_bytes());
        let log = setup.path("log.json");
        let _ = fs::remove_file(&log);
        let output = Command::new(STRAIT)
            .args(setup.arguments("runc"))
            .args(["--log", log.to_str().unwrap(), "--log-format", "json", "create", "--bundle"])
            .arg(&bundle)
            .arg("some-id")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(125), "{said}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said) && error.len() < 1000, "{said}: {error}");
        let logged: Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
        assert_eq!(logged["level"], "error");
        assert!(logged["msg"].as_str().unwrap().contains(said), "{logged}");
        let after = fs::read_to_string(bundle.join("config.json")).unwrap();
        assert!(after == config, "{said}: the configuration stays");
        assert_eq!(fs::read_dir(&bundle).unwrap().count(), 2, "{said}: nothing is left");
    }
}

#[test]
fn everything_else_is_the_runtimes() {
    let setup = Setup::new();
    let echo = |arguments: &[&str]| {
        let mut command = Command::new(STRAIT);
        text(&command.args(setup.arguments("echo")).args(arguments).output().unwrap())
    };
    assert_eq!(echo(&["--version"]).split(' ').next(), Some("echo"));
    assert_eq!(echo(&["--root", "/x", "state", "id"]), "--root /x state id\n");
    // No bundle: the runtime is to say so.
    assert_eq!(echo(&["create", "--bundle", "/none", "id"]), "create --bundle /none id\n");
    // What asks for nothing is not written, and not read further than needed.
    let bundle = bundle(&setup.path(""), br#"{ "x": 1 }"#);
    let path = bundle.display().to_string();
    assert_eq!(echo(&["run", "-b", &path, "id"]), format!("run -b {path} id\n"));
    assert_eq!(fs::read(bundle.join("config.json")).unwrap(), br#"{ "x": 1 }"#);

    let output = Command::new(STRAIT).args(setup.arguments("/none")).arg("x").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    // By its name alone.
    let link = setup.path("strait-oci-echo");
    symlink(STRAIT, &link).unwrap();
    let output = Command::new(&link).args(["state", "--help"]).output().unwrap();
    assert_eq!(text(&output), "state --help\n");
}
