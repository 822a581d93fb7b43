//! `strait nri` against runtimes that are no runtimes: one that speaks as NRI 0.12 does, which takes
//! profiles, those that do not speak as they should, and those that go and come back. The real ones are in
//! `oci/nri.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prost::Message;
use strait_runtime::nri::message::{
    ConfigureRequest, ConfigureResponse, Container, ContainerAdjustment, CreateContainerRequest,
    CreateContainerResponse, Empty, Hook, Hooks, LinuxContainer, LinuxSeccomp, PodSandbox,
    RegisterPluginRequest, Request, Response, SecurityProfile, StartContainerRequest,
    StateChangeEvent, Status, SynchronizeRequest, SynchronizeResponse,
};
use strait_runtime::nri::wire::{self, Frame, REQUEST, RESPONSE, Reader, TO_PLUGIN, TO_RUNTIME};
use strait_testkit::policies::all_but;
use tempfile::TempDir;

const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";

/// A plugin that has been started, and what is to be its runtime.
struct Fake {
    folder: TempDir,
    plugin: Child,
    listener: UnixListener,
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
        let socket = accept(&listener);
        Fake { folder, plugin, listener, socket, reader: Reader::default(), calls: 0 }
    }

    /// One that has taken the plugin.
    fn registered() -> Fake {
        let mut fake = Fake::new();
        fake.register("strait", "90");
        fake
    }

    fn register(&mut self, name: &str, index: &str) {
        let call = self.reader.read(&mut self.socket).unwrap();
        assert_eq!((call.connection, call.kind), (TO_RUNTIME, REQUEST));
        let request = Request::decode(call.payload.as_slice()).unwrap();
        assert_eq!(request.service, "nri.pkg.api.v1alpha1.Runtime");
        assert_eq!(request.method, "RegisterPlugin");
        let plugin = RegisterPluginRequest::decode(request.payload.as_slice()).unwrap();
        assert_eq!((plugin.plugin_name.as_str(), plugin.plugin_idx.as_str()), (name, index));
        // The answer to another call is none to this one.
        let refused = Status { code: 9, message: "no".to_owned() };
        let refused = Response { status: Some(refused), payload: vec![] };
        self.send(TO_RUNTIME, call.stream + 2, RESPONSE, &refused);
        self.send(TO_RUNTIME, call.stream, RESPONSE, &Response::default());
    }

    /// The runtime is gone, and is there again.
    fn come_back(&mut self) {
        self.socket = accept(&self.listener);
        self.reader = Reader::default();
        self.register("strait", "90");
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

    /// What the plugin ends with and has said, when it does not go on.
    fn ended(&mut self) -> (Option<i32>, String) {
        self.socket.shutdown(Shutdown::Both).unwrap();
        let mut said = String::new();
        self.plugin.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.plugin.wait().unwrap().code(), said)
    }

    /// What the plugin has said up to a line with this in it.
    fn said(&mut self, part: &str) -> String {
        let mut said = String::new();
        let errors = self.plugin.stderr.as_mut().unwrap();
        for line in BufReader::with_capacity(1, errors).lines() {
            said += &(line.unwrap() + "\n");
            if said.contains(part) {
                return said;
            }
        }
        panic!("{part}: {said}");
    }

    /// What the plugin has said when the runtime is gone.
    fn gone(&mut self) -> String {
        self.socket.shutdown(Shutdown::Both).unwrap();
        self.said("until the runtime is back")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // It waits for its runtime to come back.
        let _ = self.plugin.kill();
        let _ = self.plugin.wait();
    }
}

fn accept(listener: &UnixListener) -> UnixStream {
    let (socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
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
    PodSandbox {
        id: "p".to_owned(),
        name: "web".to_owned(),
        namespace: "shop".to_owned(),
        annotations,
    }
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
        ..ConfigureRequest::default()
    };
    let ConfigureResponse { events } = fake.call("Configure", &configure).unwrap();
    assert_eq!(events, 1 << 3 | 1 << 5, "CREATE_CONTAINER and START_CONTAINER, and no other");
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
    // In a file of its own: so are those of the other containers, pods and namespaces.
    assert_eq!(open.annotations["io.strait.record"], "shop_web_app.web.json");
    let default = fake.create(&record, DEFAULT).unwrap().unwrap();
    assert_eq!(default.linux, None, "the engine's own stays");

    let said = fake.gone();
    let unknown =
        "c runs already: whether it is confined by `no-mkdir`, as it is to be, cannot be told";
    for part in ["containerd v2.2.0 tells", unknown, "has closed the connection"] {
        assert!(said.contains(part), "{part}: {said}");
    }
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
    // A call that is none is answered too: without its connection the next container has no plugin.
    let frame = Frame { connection: TO_PLUGIN, stream: 99, kind: REQUEST, payload: vec![0xff; 3] };
    wire::send(&mut fake.socket, &frame).unwrap();
    let answer = fake.reader.read(&mut fake.socket).unwrap();
    assert_eq!((answer.connection, answer.stream), (TO_PLUGIN, 99));
    let answer = Response::decode(answer.payload.as_slice()).unwrap();
    assert_eq!(answer.status.unwrap().code, 3);
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    // What may be asked for a container is in the annotations of its pod.
    let request = CreateContainerRequest { pod: None, container: Some(container(DEFAULT)) };
    let error = fake.call::<CreateContainerResponse>("CreateContainer", &request).unwrap_err();
    assert!(error.message.contains("which pod"), "{error:?}");
    // A configuration that nobody reads would not do what it says.
    let configure = ConfigureRequest { config: "policies: /x".to_owned(), ..Default::default() };
    let error = fake.call::<ConfigureResponse>("Configure", &configure).unwrap_err();
    assert!(error.code == 3 && error.message.contains("is not read"), "{error:?}");
    fake.gone();
}

/// A container that was made while the plugin was away has not got what it is to have.
#[test]
fn what_was_made_without_the_plugin_is_not_started() {
    let mut fake = Fake::registered();
    let asks = [("io.strait.policy", "no-mkdir")];
    let adjusted = fake.create(&asks, DEFAULT).unwrap().unwrap();
    let made = |hooks| Container { hooks, state: 1, ..container(DEFAULT) };
    let other = Hook { path: "/x".to_owned(), args: vec!["x".to_owned(), "oci-hook".to_owned()] };
    let other = Hooks { create_runtime: vec![other] };
    let (with, without) = (made(adjusted.hooks), [made(None), made(Some(other))]);
    for event in [None, Some(6), Some(7)] {
        let mut start = |asks: &[(&str, &str)], made: &Container| {
            let (pod, container) = (Some(pod(asks)), Some(made.clone()));
            match event {
                // A call of its own since NRI 0.12.
                None => fake.call("StartContainer", &StartContainerRequest { pod, container }),
                Some(event) => {
                    fake.call("StateChange", &StateChangeEvent { event, pod, container })
                }
            }
        };
        assert_eq!(start(&asks, &with), Ok(Empty {}), "{event:?}");
        for without in &without {
            assert_eq!(start(&[], without), Ok(Empty {}), "nothing is asked for");
            if event == Some(7) {
                assert_eq!(start(&asks, without), Ok(Empty {}), "it is another event");
                continue;
            }
            let error = start(&asks, without).unwrap_err();
            assert!(
                error.message.contains("the policy `no-mkdir`: have it made again"),
                "{error:?}"
            );
            let error = start(&[("io.strait.record", "x.json")], without).unwrap_err();
            assert!(error.message.contains("a recorder: have it made again"), "{error:?}");
            let error = start(&[("io.strait.policy", "../x")], without).unwrap_err();
            assert!(error.message.contains("is no name of a policy"), "{error:?}");
        }
    }
    let said = fake.gone();
    assert!(said.contains("c is not started: this container was made while"), "{said}");
}

/// What runs already is looked at by what the kernel enforces on it.
#[test]
fn what_runs_already_and_is_not_confined_is_named() {
    let mut fake = Fake::registered();
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    let asks = [("io.strait.policy", "no-mkdir")];
    let of = |id: &str, pod: &str, state: i32, pid: u32| Container {
        id: id.to_owned(),
        pod_sandbox_id: pod.to_owned(),
        state,
        pid,
        ..container(DEFAULT)
    };
    let containers = vec![
        of("open", "p", 3, sleep.id()),
        of("paused", "p", 2, sleep.id()),
        of("made", "p", 1, 0),
        of("over", "p", 4, sleep.id()),
        // Of a pod that is gone, so that nothing is known of it.
        of("lost", "q", 3, sleep.id()),
        // One that ends meanwhile.
        of("ended", "p", 3, 0x7fff_fffe),
    ];
    let there = SynchronizeRequest { pods: vec![pod(&asks)], containers, more: false };
    assert_eq!(fake.call("Synchronize", &there), Ok(SynchronizeResponse { more: false }));
    let said = fake.said("run already");
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let open = |id| {
        format!(
            "{id} runs already and is not confined by `no-mkdir`, as it is to be: process {}",
            sleep.id()
        )
    };
    assert!(said.contains(&open("open")) && said.contains(&open("paused")), "{said}");
    assert!(said.contains("(sleep): it is not confined at all"), "{said}");
    assert!(
        said.contains("lost runs already: whether it is to be confined cannot be told"),
        "{said}"
    );
    assert!(
        !said.contains("made ") && !said.contains("over ") && !said.contains("ended "),
        "{said}"
    );
    assert!(said.contains("4 containers run already: 3 are to be confined, and 2 of"), "{said}");
}

#[test]
fn what_there_is_may_not_be_endless() {
    let mut fake = Fake::registered();
    let args = vec!["x".repeat(4_000_000)];
    let large = vec![Container { args, ..container(DEFAULT) }];
    let part = SynchronizeRequest { pods: vec![], containers: large, more: true };
    let refused =
        (0..18).find_map(|_| fake.call::<SynchronizeResponse>("Synchronize", &part).err());
    assert!(refused.unwrap().message.contains("more than 64 MiB"));
    assert_eq!(fake.create(&[], DEFAULT), Ok(None), "it goes on");
}

/// A runtime passes over a plugin that waits for whoever reads what it says.
#[test]
fn who_does_not_read_what_is_said_holds_nothing_up() {
    let mut fake = Fake::registered();
    // More than fits a pipe, and than is kept.
    const MANY: usize = 1500;
    for _ in 0..MANY {
        let container = Container { id: "x".repeat(300), ..container(DEFAULT) };
        let pod = Some(pod(&[("io.strait.policy", "none")]));
        let request = CreateContainerRequest { pod, container: Some(container) };
        let error = fake.call::<CreateContainerResponse>("CreateContainer", &request).unwrap_err();
        assert!(error.message.contains("there is no policy"), "{error:?}");
    }
    let said = fake.said("more were not said");
    let lost = said.split("strait: ").find_map(|line| line.split_once(" more were not said"));
    let lost: usize = lost.unwrap().0.parse().unwrap();
    let said = said + &fake.gone();
    assert_eq!(said.matches("is not made").count() + lost, MANY, "what is lost is counted");
}

#[test]
fn a_runtime_that_comes_back_has_its_plugin_again() {
    let mut fake = Fake::registered();
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    fake.gone();
    fake.come_back();
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    // One that speaks otherwise breaks off, and has the plugin again when it does not.
    fake.socket.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
    fake.said("not NRI");
    fake.come_back();
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    // Where nobody listens for a while, that is told once.
    let socket = fake.folder.path().join("nri.sock");
    fs::remove_file(&socket).unwrap();
    fake.socket.shutdown(Shutdown::Both).unwrap();
    fake.said("cannot connect to");
    // It is tried again meanwhile.
    std::thread::sleep(Duration::from_millis(400));
    fake.listener = UnixListener::bind(&socket).unwrap();
    fake.come_back();
    let Ok(ConfigureResponse { .. }) = fake.call("Configure", &ConfigureRequest::default()) else {
        panic!("it is the plugin again")
    };
    assert!(!fake.said("tells of its containers").contains("cannot connect"));
}

/// As a runtime starts those that it finds in its folder.
#[test]
fn a_plugin_that_the_runtime_starts_has_its_socket_from_there() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("42-confine");
    symlink(env!("CARGO_BIN_EXE_strait"), &program).unwrap();
    let start = |number: &str| {
        let (ours, its) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let plugin = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" 3<&0 </dev/null"])
            .arg(&program)
            .env_clear()
            .env("NRI_PLUGIN_NAME", "confine")
            .env("NRI_PLUGIN_IDX", "42")
            .env("NRI_PLUGIN_SOCKET", number)
            .stdin(OwnedFd::from(its))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (plugin, ours)
    };
    let (plugin, socket) = start("3");
    let listener = UnixListener::bind(folder.path().join("none")).unwrap();
    let reader = Reader::default();
    let mut fake = Fake { folder, plugin, listener, socket, reader, calls: 0 };
    fake.register("confine", "42");
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    // Its runtime starts it again, and nobody else knows of it.
    let (status, said) = fake.ended();
    assert!(status == Some(3) && said.contains("has closed the connection"), "{status:?} {said}");

    let program = fake.folder.path().join("42-confine");
    for wrong in ["x", "", "-1", "77"] {
        let started = Command::new(&program).env("NRI_PLUGIN_SOCKET", wrong).output().unwrap();
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert_eq!(started.status.code(), Some(2), "{wrong}: {said}");
        assert!(said.contains("NRI_PLUGIN_SOCKET"), "{wrong}: {said}");
    }
}

#[test]
fn policies_in_a_folder_that_is_not_there_are_not_passed_over() {
    let folder = TempDir::new().unwrap();
    let output = plugin(folder.path().join("none"), &folder).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("there is no folder") && said.contains("no policy can be bound"),
        "{said}"
    );
}

/// An empty file that nobody can open, until this is dropped or the kernel's patience has ended (45 s): whoever
/// tries waits for the one who has it on lease (fcntl(2), `F_SETLEASE`).
struct Hanging(Child);

impl Hanging {
    fn new(file: &Path, test: &str) -> Option<Hanging> {
        fs::write(file, "").unwrap();
        let script = "$SIG{IO} = 'IGNORE'; open(my $file, '+<', shift) or die; \
                      fcntl($file, 1024, 1) or die; print STDOUT \"leased\\n\"; close STDOUT; sleep 1000";
        let lessee =
            Command::new("perl").args(["-e", script]).arg(file).stdout(Stdio::piped()).spawn();
        let Ok(mut lessee) = lessee else {
            strait_testkit::skip(test, "there is no perl");
            return None;
        };
        let mut said = String::new();
        lessee.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "leased\n");
        Some(Hanging(lessee))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What nobody else may write is the administrator's word, and nothing else is.
#[test]
fn policies_that_others_may_write_stop_every_container() {
    let mut fake = Fake::registered();
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
    let policies = fake.folder.path().join("policies");
    let mode = |mode: u32| {
        fs::set_permissions(&policies, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o777);
    let error = fake.create(&[], DEFAULT).unwrap_err();
    let said = format!("{} may be written by everybody (mode 0777)", policies.display());
    assert!(error.message.contains(&said), "{error:?}");
    mode(0o755);
    assert_eq!(fake.create(&[], DEFAULT), Ok(None));
}

/// A runtime that has waited for too long goes on without the plugin, so it does not come to that.
#[test]
fn what_cannot_be_told_in_time_stops_the_container() {
    let mut fake = Fake::registered();
    let bindings = fake.folder.path().join("policies/bindings");
    let Some(hanging) = Hanging::new(&bindings, "a file of bindings that hangs") else { return };
    let configure = ConfigureRequest { request_timeout: 1000, ..ConfigureRequest::default() };
    let _: ConfigureResponse = fake.call("Configure", &configure).unwrap();
    let error = fake.create(&[], DEFAULT).unwrap_err();
    assert!(error.message.contains("within the 1000 ms"), "{error:?}");
    drop(hanging);
    assert_eq!(fake.create(&[], DEFAULT), Ok(None), "the next one is not held up");
    let said = fake.gone();
    assert!(said.contains("c is not made: what the container is to get"), "{said}");
}

/// Nobody waits any more for what hangs, so that is not begun again and again.
#[test]
fn a_folder_that_hangs_takes_no_more_and_more() {
    let mut fake = Fake::registered();
    let bindings = fake.folder.path().join("policies/bindings");
    let Some(hanging) = Hanging::new(&bindings, "a folder that hangs") else { return };
    let configure = ConfigureRequest { request_timeout: 100, ..ConfigureRequest::default() };
    let _: ConfigureResponse = fake.call("Configure", &configure).unwrap();
    // What runs already is looked at by nobody whom the runtime waits for.
    let there =
        SynchronizeRequest { pods: vec![pod(&[])], containers: vec![container(0)], more: false };
    assert_eq!(fake.call("Synchronize", &there), Ok(SynchronizeResponse { more: false }));
    for _ in 1..8 {
        let error = fake.create(&[], DEFAULT).unwrap_err();
        assert!(error.message.contains("within the 100 ms"), "{error:?}");
    }
    let error = fake.create(&[], DEFAULT).unwrap_err();
    assert!(error.message.contains("8 containers from before are still looked at"), "{error:?}");
    // All of them read it when it can be read, and come to an end.
    drop(hanging);
    let mut again = || fake.create(&[], DEFAULT);
    assert!((0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        again() == Ok(None)
    }));
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
    fs::create_dir(folder.path().join("policies")).unwrap();
    let output = plugin(folder.path().join("none"), &folder).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot connect to") && said.contains("is NRI enabled"), "{said}");
}
