//! `strait nri` against runtimes that are no runtimes: one that speaks as NRI 0.12 does, which takes
//! profiles, and those that do not speak as they should. The real ones are in `oci/nri.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prost::Message;
use strait_runtime::nri::message::{
    ConfigureRequest, ConfigureResponse, Container, ContainerAdjustment, CreateContainerRequest,
    CreateContainerResponse, Empty, LinuxContainer, LinuxSeccomp, PodSandbox,
    RegisterPluginRequest, Request, Response, SecurityProfile, Status, SynchronizeRequest,
    SynchronizeResponse,
};
use strait_runtime::nri::wire::{self, Frame, REQUEST, RESPONSE, Reader, TO_PLUGIN, TO_RUNTIME};
use strait_testkit::policies::all_but;
use tempfile::TempDir;

const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";

/// A plugin that has been started, and what is to be its runtime.
struct Fake {
    folder: TempDir,
    plugin: Child,
    socket: UnixStream,
    reader: Reader,
    calls: u32,
}

impl Fake {
    /// Waits for the plugin to connect.
    fn new() -> Fake {
        let folder = TempDir::new().unwrap();
        for name in ["policies", "recordings"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let policy = all_but(&["mkdir"], 30).to_string();
        fs::write(folder.path().join("policies/no-mkdir.yaml"), policy).unwrap();
        let listener = UnixListener::bind(folder.path().join("nri.sock")).unwrap();
        let plugin = plugin(folder.path().join("nri.sock"), &folder);
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Fake { folder, plugin, socket, reader: Reader::default(), calls: 0 }
    }

    /// One that has taken the plugin.
    fn registered() -> Fake {
        let mut fake = Fake::new();
        let call = fake.reader.read(&mut fake.socket).unwrap();
        assert_eq!((call.connection, call.kind), (TO_RUNTIME, REQUEST));
        let request = Request::decode(call.payload.as_slice()).unwrap();
        assert_eq!(request.service, "nri.pkg.api.v1alpha1.Runtime");
        assert_eq!(request.method, "RegisterPlugin");
        let plugin = RegisterPluginRequest::decode(request.payload.as_slice()).unwrap();
        assert_eq!((plugin.plugin_name.as_str(), plugin.plugin_idx.as_str()), ("strait", "90"));
        fake.send(TO_RUNTIME, call.stream, RESPONSE, &Response::default());
        fake
    }

    fn send(&mut self, connection: u32, stream: u32, kind: u8, message: &impl Message) {
        let frame = Frame { connection, stream, kind, payload: message.encode_to_vec() };
        wire::send(&mut self.socket, &frame).unwrap();
    }

    /// Calls a method of the plugin with these bytes.
    fn call_with(
        &mut self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        self.calls += 2;
        let stream = self.calls + 1;
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: 60_000_000_000,
        };
        self.send(TO_PLUGIN, stream, REQUEST, &request);
        let answer = self.reader.read(&mut self.socket).unwrap();
        assert_eq!((answer.connection, answer.stream), (TO_PLUGIN, stream), "{method}");
        assert_eq!(answer.kind, RESPONSE, "{method}");
        let response = Response::decode(answer.payload.as_slice()).unwrap();
        response.status.map_or(Ok(response.payload), Err)
    }

    fn call<A: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<A, Status> {
        let answer = self.call_with(PLUGIN, method, message.encode_to_vec())?;
        Ok(A::decode(answer.as_slice()).unwrap())
    }

    /// Has a container made with these annotations of its pod and this type of profile.
    fn create(
        &mut self,
        pod: &[(&str, &str)],
        profile: i32,
    ) -> Result<Option<ContainerAdjustment>, Status> {
        let pod = self::pod(pod);
        let request =
            CreateContainerRequest { pod: Some(pod), container: Some(container(profile)) };
        self.call::<CreateContainerResponse>("CreateContainer", &request).map(|it| it.adjust)
    }

    /// What the plugin ends with and has said.
    fn ended(mut self) -> (Option<i32>, String) {
        drop(self.socket);
        let mut said = String::new();
        self.plugin.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.plugin.wait().unwrap().code(), said)
    }
}

fn plugin(socket: PathBuf, folder: &TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["nri", "--runtime", "runc", "--socket"])
        .arg(socket)
        .arg("--policies")
        .arg(folder.path().join("policies"))
        .arg("--recordings")
        .arg(folder.path().join("recordings"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn pod(annotations: &[(&str, &str)]) -> PodSandbox {
    let annotations: BTreeMap<String, String> =
        annotations.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
    PodSandbox { id: "p".to_owned(), annotations, ..PodSandbox::default() }
}

fn container(profile_type: i32) -> Container {
    let seccomp_profile = Some(SecurityProfile { profile_type });
    Container {
        id: "c".to_owned(),
        pod_sandbox_id: "p".to_owned(),
        name: "app".to_owned(),
        state: 3,
        linux: Some(LinuxContainer { seccomp_profile }),
        ..Container::default()
    }
}

fn profile(adjustment: &ContainerAdjustment) -> &LinuxSeccomp {
    adjustment.linux.as_ref().unwrap().seccomp_policy.as_ref().unwrap()
}

const DEFAULT: i32 = 0;
const UNCONFINED: i32 = 1;

#[test]
fn a_runtime_that_takes_profiles_is_given_them() {
    let mut fake = Fake::registered();
    let configure = ConfigureRequest {
        runtime_name: "containerd".to_owned(),
        runtime_version: "v2.2.0".to_owned(),
        request_timeout: 60_000,
        nri_version: "v0.12.0".to_owned(),
    };
    let ConfigureResponse { events } = fake.call("Configure", &configure).unwrap();
    assert_eq!(events, 1 << 3, "CREATE_CONTAINER, the fourth event, and no other");
    // What is there comes in parts.
    let asks = [("io.strait.policy", "no-mkdir")];
    let pods = SynchronizeRequest { pods: vec![pod(&asks)], containers: vec![], more: true };
    assert_eq!(fake.call("Synchronize", &pods), Ok(SynchronizeResponse { more: true }));
    let rest = SynchronizeRequest { pods: vec![], containers: vec![container(0)], more: false };
    assert_eq!(fake.call("Synchronize", &rest), Ok(SynchronizeResponse { more: false }));

    assert_eq!(fake.create(&[], DEFAULT), Ok(None), "nothing is asked for");
    let bound = fake.create(&asks, UNCONFINED).unwrap().unwrap();
    let annotations: Vec<_> =
        bound.annotations.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(annotations, asks);
    let denied = |profile: &LinuxSeccomp, call: &str| {
        let mut rules = profile.syscalls.iter();
        rules.any(|rule| {
            rule.names.iter().any(|name| name == call)
                && rule.action == "SCMP_ACT_ERRNO"
                && rule.errno_ret.is_some_and(|errno| errno.value == 30)
        }) || (profile.default_action == "SCMP_ACT_ERRNO"
            && !profile.syscalls.iter().any(|rule| rule.names.iter().any(|name| name == call)))
    };
    assert!(denied(profile(&bound), "mkdir") && !denied(profile(&bound), "chmod"), "{bound:?}");
    assert!(profile(&bound).architectures.contains(&"SCMP_ARCH_X86_64".to_owned()), "{bound:?}");
    let [hook] = &bound.hooks.as_ref().unwrap().create_runtime[..] else { panic!("{bound:?}") };
    assert!(hook.args.contains(&"--confirm".to_owned()), "{hook:?}");

    // For the one container of the pod more than for all of them.
    let one = [("io.strait.policy", "none"), ("io.strait.policy/container.app", "no-mkdir")];
    assert_eq!(fake.create(&one, DEFAULT).unwrap().unwrap().linux, bound.linux);
    let log = [("io.strait.policy", "no-mkdir"), ("io.strait.mode", "log")];
    // Everything passes only where the bindings let an annotation have it so.
    let error = fake.create(&log, DEFAULT).unwrap_err();
    assert!(error.message.contains("overridable"), "{}", error.message);
    fs::write(fake.folder.path().join("policies/bindings"), "* - overridable\n").unwrap();
    let logged = fake.create(&log, DEFAULT).unwrap().unwrap();
    assert!(!denied(profile(&logged), "mkdir"), "{logged:?}");

    // A profile that lets everything pass takes the place of none, and of nothing else.
    let record = [("io.strait.record", "web.json")];
    let open = fake.create(&record, UNCONFINED).unwrap().unwrap();
    assert_eq!(profile(&open).default_action, "SCMP_ACT_ALLOW");
    assert_eq!(open.annotations["io.strait.record"], "app.web.json");
    let default = fake.create(&record, DEFAULT).unwrap().unwrap();
    assert_eq!(default.linux, None, "the engine's own stays");

    let (status, said) = fake.ended();
    assert_eq!(status, Some(3), "{said}");
    for part in ["containerd v2.2.0 tells", "c runs already, and is to be confined by: no-mkdir"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("has closed the connection"), "{said}");
}

#[test]
fn every_call_is_answered() {
    let mut fake = Fake::registered();
    // As one call up to NRI 0.10, and as calls of their own from then on.
    for method in [
        "StateChange",
        "RunPodSandbox",
        "UpdatePodSandbox",
        "PostUpdatePodSandbox",
        "StopPodSandbox",
        "RemovePodSandbox",
        "PostCreateContainer",
        "StartContainer",
        "PostStartContainer",
        "UpdateContainer",
        "PostUpdateContainer",
        "StopContainer",
        "RemoveContainer",
        "ValidateContainerAdjustment",
        "Shutdown",
    ] {
        assert_eq!(fake.call(method, &Empty {}), Ok(Empty {}), "{method}");
    }
    let unknown = |answer: Result<Vec<u8>, Status>| answer.unwrap_err().code;
    assert_eq!(unknown(fake.call_with(PLUGIN, "Other", vec![])), 12);
    assert_eq!(unknown(fake.call_with("other", "CreateContainer", vec![])), 12);
    // What is not understood is made no container of.
    for payload in [&b"\xff\xff\xff"[..], b"\x12\x7f", b""] {
        let error = fake.call_with(PLUGIN, "CreateContainer", payload.to_vec()).unwrap_err();
        assert!([3, 9].contains(&error.code), "{payload:?}: {error:?}");
    }
    let error = fake.create(&[("io.strait.policy", "none")], DEFAULT).unwrap_err();
    assert!(error.message.starts_with("strait: there is no policy `none`"), "{error:?}");
    // An answer that nobody waits for harms nobody.
    fake.send(TO_RUNTIME, 77, RESPONSE, &Response::default());
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    assert_eq!(fake.ended().0, Some(3));
}

/// A runtime that has waited for too long goes on without the plugin, so it does not come to that.
#[test]
fn what_cannot_be_told_in_time_stops_the_container() {
    let mut fake = Fake::registered();
    // Whoever opens it waits for a writer, and there is none.
    let bindings = fake.folder.path().join("policies/bindings");
    assert!(Command::new("mkfifo").arg(&bindings).status().unwrap().success());
    let configure = ConfigureRequest { request_timeout: 1000, ..ConfigureRequest::default() };
    let _: ConfigureResponse = fake.call("Configure", &configure).unwrap();
    let error = fake.create(&[], DEFAULT).unwrap_err();
    assert!(error.message.contains("within the 1000 ms"), "{error:?}");
    fs::remove_file(&bindings).unwrap();
    assert_eq!(fake.create(&[], DEFAULT), Ok(None), "the next one is not held up");
    let (status, said) = fake.ended();
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("c is not made: what the container is to get"), "{said}");
}

#[test]
fn a_runtime_that_speaks_otherwise_is_named() {
    /// What the plugin ends with when its runtime does this.
    #[track_caller]
    fn ends(act: impl FnOnce(&mut Fake), part: &str) {
        let mut fake = Fake::new();
        let path = fake.folder.path().join("nri.sock").display().to_string();
        // A socket that is closed with something unread in it ends the other side otherwise.
        fake.reader.read(&mut fake.socket).unwrap();
        act(&mut fake);
        let (status, said) = fake.ended();
        assert_eq!(status, Some(3), "{said}");
        assert!(said.contains(part) && said.contains(&path), "{part}: {said}");
    }
    ends(|_| {}, "has closed the connection");
    ends(|fake| fake.socket.write_all(b"\0\0\0\x01\0\0").unwrap(), "in the middle of a message");
    ends(|fake| fake.socket.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap(), "not NRI");
    ends(|fake| fake.socket.write_all(b"\0\0\0\x01\xff\xff\xff\xff").unwrap(), "4294967295 bytes");
    let refused = Status { code: 9, message: "invalid plugin index".to_owned() };
    let refused = Response { status: Some(refused), payload: vec![] };
    ends(
        |fake| fake.send(TO_RUNTIME, 1, RESPONSE, &refused),
        "does not take the plugin: invalid plugin index",
    );

    // One that hangs: before it has taken the plugin, and in the middle of a message.
    for bytes in [&b""[..], b"\0\0\0\x02\0\0\0\x0a\0"] {
        let mut fake = Fake::new();
        fake.socket.write_all(bytes).unwrap();
        let mut said = String::new();
        fake.plugin.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(fake.plugin.wait().unwrap().code(), Some(3), "{said}");
        assert!(said.contains("nothing"), "{said}");
    }
    let folder = TempDir::new().unwrap();
    let output = plugin(folder.path().join("none"), &folder).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot connect to") && said.contains("is NRI enabled"), "{said}");
}
