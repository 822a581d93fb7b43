//! containerd with its CRI and NRI for tests: pods as a kubelet has them made, without a kubelet.
//!
//! What distributions of today have is too old for NRI, so a newer containerd is fetched from Debian's
//! archive, and a crun that is new enough for that; the machine's own can be had too. Pods
//! are on the machine's own network, so that no network plugin is needed. gRPC is spoken by curl.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prost::Message;
use tempfile::TempDir;

use crate::debian;
use crate::engine::{can_contain, has_unified, in_path, naming, rootfs, succeed};
use crate::skip;

/// The name of the image that all containers are of: a static busybox.
pub const IMAGE: &str = "localhost/strait-test/busybox:latest";

/// A containerd that runs, until it is dropped.
#[derive(Debug)]
pub struct Cri {
    folder: TempDir,
    programs: PathBuf,
    daemon: Child,
    calls: AtomicU32,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Pod {
    id: String,
    config: PodSandboxConfig,
}

impl Cri {
    /// Starts it; where that cannot be it says why, for this test, and there is none.
    ///
    /// Pods are run by runc unless a handler says otherwise: `strait` and `strait-crun` are what `strait` gives
    /// for `runc` and `crun`, the path of a program, the latter with the annotations of Strait passed on;
    /// and `annotated` is `strait` where all annotations of pods are passed on.
    pub fn start(test: &str, strait: impl Fn(&str) -> String) -> Option<Cri> {
        let start = |programs| Cri::try_start(programs, CONFIG, &new_crun()?, &strait);
        match containerd().and_then(start) {
            Ok(cri) => Some(cri),
            Err(reason) => {
                skip(test, &format!("containerd with CRI and NRI: {reason}"));
                None
            }
        }
    }

    /// The same of the containerd that is installed on the machine, which may know nothing of NRI, with the
    /// handlers `strait` and `strait-crun` alone.
    pub fn start_installed(test: &str, strait: impl Fn(&str) -> String) -> Option<Cri> {
        match installed().and_then(|programs| Cri::try_start(programs, CONFIG_2, "", &strait)) {
            Ok(cri) => Some(cri),
            Err(reason) => {
                skip(test, &format!("the machine's own containerd with CRI: {reason}"));
                None
            }
        }
    }

    fn try_start(
        programs: PathBuf,
        config: &str,
        before_crun: &str,
        strait: &dyn Fn(&str) -> String,
    ) -> Result<Cri, String> {
        can_contain()?;
        for program in ["runc", "curl", "sha256sum"] {
            if !in_path(program) {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = tempfile::Builder::new().prefix("strait-").tempdir();
        let folder = folder.map_err(|error| format!("no folder for it: {error}"))?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        rootfs(&folder.path().join("root"))?;
        let strait_crun = apart(folder.path(), &strait("crun"), before_crun)?;
        let config = config
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("IMAGE", IMAGE)
            .replace("STRAIT_CRUN", &strait_crun)
            .replace("STRAIT", &strait("runc"));
        fs::write(path("config.toml"), config).map_err(|error| error.to_string())?;
        let daemon = daemon(folder.path(), &programs)?;
        let cri = Cri { folder, programs, daemon, calls: AtomicU32::new(0) };
        cri.wait()?;
        cri.import()?;
        // Whether it really runs pods here is not known before one has run.
        let pod = cri.pod("strait-test-first", &[], "")?;
        cri.remove(&pod);
        Ok(cri)
    }

    /// The folder with all of its state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the state of its containers, by which they are found.
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// The socket on which it listens for plugins of NRI.
    pub fn nri(&self) -> PathBuf {
        self.folder().join("nri.sock")
    }

    /// The folder of the plugins of NRI that it starts itself.
    pub fn plugins(&self) -> PathBuf {
        self.folder().join("plugins")
    }

    /// Ends its daemon; containers go on.
    pub fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        for _ in 0..200 {
            if !matches!(self.daemon.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }

    /// Starts its daemon again.
    ///
    /// # Errors
    /// If that fails.
    pub fn restart(&mut self) -> Result<(), String> {
        self.daemon = daemon(self.folder.path(), &self.programs)?;
        self.wait()
    }

    /// Its release, such as `2.1.9`.
    pub fn release(&self) -> String {
        let said = succeed(Command::new(self.programs.join("containerd")).arg("--version"));
        let said = said.unwrap_or_default();
        let word = said.split_whitespace().nth(2).unwrap_or_default();
        word.split(['+', '~']).next().unwrap_or_default().trim_start_matches('v').to_owned()
    }

    /// What its daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Runs a pod of this name, in the namespace `shop`, with these annotations, whose containers are run
    /// by the runtime of this handler: `` is runc.
    ///
    /// # Errors
    /// What it said if that failed.
    pub fn pod(
        &self,
        name: &str,
        annotations: &[(&str, &str)],
        handler: &str,
    ) -> Result<Pod, String> {
        let namespaces = || Some(NamespaceOption { network: HOST, pid: CONTAINER, ipc: CONTAINER });
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "shop".to_owned(),
            }),
            annotations: map(annotations),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(SandboxSecurityContext { namespaces: namespaces() }),
            }),
        };
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), handler: handler.to_owned() };
        let Id { id } = self.call("RunPodSandbox", &request)?;
        Ok(Pod { id, config })
    }

    /// Makes a container of a pod, which is not started yet, and returns its id. With `default` it has
    /// containerd's own profile, without it none.
    ///
    /// # Errors
    /// What it said if that failed.
    pub fn create(
        &self,
        pod: &Pod,
        name: &str,
        default: bool,
        command: &[&str],
    ) -> Result<String, String> {
        let profile = i32::from(!default);
        let request = CreateContainerRequest {
            pod: pod.id.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata { name: name.to_owned() }),
                image: Some(ImageSpec { image: IMAGE.to_owned() }),
                command: command.iter().map(|&word| word.to_owned()).collect(),
                linux: Some(LinuxContainerConfig {
                    security_context: Some(SecurityContext {
                        namespaces: Some(NamespaceOption {
                            network: HOST,
                            pid: CONTAINER,
                            ipc: CONTAINER,
                        }),
                        seccomp: Some(SecurityProfile { profile }),
                    }),
                }),
            }),
            pod_config: Some(pod.config.clone()),
        };
        let Id { id } = self.call("CreateContainer", &request)?;
        Ok(id)
    }

    /// Makes a container, starts it, and returns its id.
    ///
    /// # Errors
    /// What it said if that failed.
    pub fn run(
        &self,
        pod: &Pod,
        name: &str,
        default: bool,
        command: &[&str],
    ) -> Result<String, String> {
        let id = self.create(pod, name, default, command)?;
        self.begin(&id)?;
        Ok(id)
    }

    /// Starts a container that was made.
    ///
    /// # Errors
    /// What it said if that failed.
    pub fn begin(&self, container: &str) -> Result<(), String> {
        self.call::<_, Empty>("StartContainer", &Id { id: container.to_owned() }).map(drop)
    }

    /// Runs a command in a container, waits for it, and returns its status.
    ///
    /// # Errors
    /// What it said if that failed.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<i32, String> {
        let request = ExecSyncRequest {
            container: container.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 60,
        };
        let response: ExecSyncResponse = self.call("ExecSync", &request)?;
        Ok(response.status)
    }

    /// The process id of a container's first process.
    ///
    /// # Errors
    /// If there is none.
    pub fn pid(&self, container: &str) -> Result<i32, String> {
        let file = self.state().join("io.containerd.runtime.v2.task/k8s.io").join(container);
        let text = fs::read_to_string(file.join("init.pid")).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| format!("{container} has no process"))
    }

    /// Ends a container and removes it.
    ///
    /// # Errors
    /// What it said if that failed.
    pub fn remove_container(&self, container: &str) -> Result<(), String> {
        let id = Id { id: container.to_owned() };
        self.call::<_, Empty>("StopContainer", &id)?;
        self.call::<_, Empty>("RemoveContainer", &id).map(drop)
    }

    /// What there is of its containers: processes that have something of its folder among their arguments,
    /// and mounts in it. Its daemon is none of these.
    pub fn remains(&self) -> Vec<String> {
        let processes = naming(self.folder()).into_iter();
        let processes = processes.filter(|&(pid, _)| pid != self.daemon.id());
        let processes = processes.map(|(pid, line)| format!("process {pid}: {line}"));
        let mounts = self.mounts();
        processes.chain(mounts.iter().map(|point| format!("mount {point}"))).collect()
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours = points.filter(|point| Path::new(point).starts_with(self.folder()));
        ours.map(str::to_owned).collect()
    }

    /// Ends a pod with its containers and removes them.
    pub fn remove(&self, pod: &Pod) {
        // What is not there is removed.
        let _ = self.call::<_, Empty>("StopPodSandbox", &Id { id: pod.id.clone() });
        let _ = self.call::<_, Empty>("RemovePodSandbox", &Id { id: pod.id.clone() });
    }

    /// Calls a method of `runtime.v1.RuntimeService`.
    fn call<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, String> {
        let nr = self.calls.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| self.folder().join(format!("call-{nr}-{name}"));
        let body = request.encode_to_vec();
        let length = u32::try_from(body.len()).map_err(|error| error.to_string())?;
        // Not compressed, its length, and the message.
        let body = [&[0], &length.to_be_bytes()[..], &body].concat();
        fs::write(file("request"), body).map_err(|error| error.to_string())?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "100"]);
        curl.arg("--unix-socket").arg(self.state().join("sock"));
        curl.args(["--header", "content-type: application/grpc", "--header", "te: trailers"]);
        curl.arg("--dump-header").arg(file("head")).arg("--output").arg(file("answer"));
        curl.arg("--data-binary").arg(format!("@{}", file("request").display()));
        curl.arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"));
        succeed(&mut curl)?;
        let head = fs::read_to_string(file("head")).map_err(|error| error.to_string())?;
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
        };
        if field("grpc-status") != Some("0") {
            return Err(unescaped(field("grpc-message").unwrap_or(&head)));
        }
        let answer = fs::read(file("answer")).map_err(|error| error.to_string())?;
        A::decode(answer.get(5..).unwrap_or_default()).map_err(|error| error.to_string())
    }

    fn wait(&self) -> Result<(), String> {
        for _ in 0..600 {
            if self.call::<_, Empty>("Status", &Empty {}).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = self.log();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        Err(format!("it does not answer: {}", last.join(" / ")))
    }

    /// Makes the image of the root file system: an archive as `docker save` writes it.
    fn import(&self) -> Result<(), String> {
        let folder = self.folder().join("image");
        let failed = |error: std::io::Error| error.to_string();
        fs::create_dir(&folder).map_err(failed)?;
        let layer = folder.join("layer.tar");
        let mut tar = Command::new("tar");
        succeed(tar.arg("-C").arg(self.folder().join("root")).arg("-cf").arg(&layer).arg("."))?;
        let digest = debian::digest(&layer)?;
        let config = format!(
            "{{\"architecture\": \"amd64\", \"os\": \"linux\", \"config\": {{\"Cmd\": [\"/bin/sleep\", \
             \"100000\"]}}, \"rootfs\": {{\"type\": \"layers\", \"diff_ids\": [\"sha256:{digest}\"]}}}}"
        );
        let manifest = format!(
            "[{{\"Config\": \"config.json\", \"RepoTags\": [{IMAGE:?}], \"Layers\": [\"layer.tar\"]}}]"
        );
        fs::write(folder.join("config.json"), config).map_err(failed)?;
        fs::write(folder.join("manifest.json"), manifest).map_err(failed)?;
        let archive = self.folder().join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&folder).arg("-cf").arg(&archive);
        succeed(tar.args(["manifest.json", "config.json", "layer.tar"]))?;
        let mut ctr = Command::new(self.programs.join("ctr"));
        ctr.arg("--address").arg(self.state().join("sock")).args(["--namespace", "k8s.io"]);
        succeed(ctr.args(["images", "import"]).arg(&archive)).map(drop)
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        let pods: Result<ListPodSandboxResponse, _> = self.call("ListPodSandbox", &Empty {});
        for pod in pods.unwrap_or_default().pods {
            let _ = self.call::<_, Empty>("StopPodSandbox", &pod);
            let _ = self.call::<_, Empty>("RemovePodSandbox", &pod);
        }
        self.stop();
        for point in self.mounts().into_iter().rev() {
            let _ = Command::new("umount").args(["--lazy", &point]).status();
        }
    }
}

const CONFIG: &str = r#"
version = 3
root = "FOLDER/data"
state = "FOLDER/state"
[grpc]
  address = "FOLDER/state/sock"
[plugins.'io.containerd.nri.v1.nri']
  disable = false
  socket_path = "FOLDER/nri.sock"
  plugin_path = "FOLDER/plugins"
  plugin_config_path = "FOLDER/none"
  # Tests do not depend on how fast the machine is.
  plugin_registration_timeout = "60s"
  plugin_request_timeout = "60s"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "IMAGE"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dir = "FOLDER/none"
    conf_dir = "FOLDER/none"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      Root = "FOLDER/runc"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.strait]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.strait.options]
      BinaryName = "STRAIT"
      Root = "FOLDER/runc"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.strait-crun]
    runtime_type = "io.containerd.runc.v2"
    pod_annotations = ["io.strait.*"]
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.strait-crun.options]
      BinaryName = "STRAIT_CRUN"
      Root = "FOLDER/crun"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.annotated]
    runtime_type = "io.containerd.runc.v2"
    pod_annotations = ["*"]
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.annotated.options]
      BinaryName = "STRAIT"
      Root = "FOLDER/runc"
"#;

/// The same before containerd 2: there is no NRI, or it is off.
const CONFIG_2: &str = r#"
version = 2
root = "FOLDER/data"
state = "FOLDER/state"
[grpc]
  address = "FOLDER/state/sock"
[plugins.'io.containerd.internal.v1.opt']
  path = "FOLDER/opt"
[plugins.'io.containerd.grpc.v1.cri']
  restrict_oom_score_adj = true
  sandbox_image = "IMAGE"
  [plugins.'io.containerd.grpc.v1.cri'.cni]
    bin_dir = "FOLDER/none"
    conf_dir = "FOLDER/none"
  [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
      Root = "FOLDER/runc"
  [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.strait]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.strait.options]
      BinaryName = "STRAIT"
      Root = "FOLDER/runc"
  [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.strait-crun]
    runtime_type = "io.containerd.runc.v2"
    pod_annotations = ["io.strait.*"]
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.strait-crun.options]
      BinaryName = "STRAIT_CRUN"
      Root = "FOLDER/crun"
"#;

/// What runs a runtime where it can: crun cannot where a machine has both trees of cgroups, unless it does not
/// see the second.
fn apart(folder: &Path, runtime: &str, before: &str) -> Result<String, String> {
    let hide = if has_unified() { "umount /sys/fs/cgroup/unified && " } else { "" };
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c '{hide}{before}exec \"$0\" \"$@\"' {runtime} \"$@\"\n"
    );
    let script = folder.join("run-crun");
    let failed = |error: std::io::Error| error.to_string();
    fs::write(&script, text).map_err(failed)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok(script.display().to_string())
}

/// The folder with the programs of the containerd that is installed.
fn installed() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let it =
        folders.find(|folder| folder.join("containerd").is_file() && folder.join("ctr").is_file());
    it.ok_or_else(|| "containerd is not installed".to_owned())
}

/// Starts it by the configuration in this folder.
fn daemon(folder: &Path, programs: &Path) -> Result<Child, String> {
    let failed = |error: std::io::Error| error.to_string();
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
    let log = log.map_err(failed)?;
    let found = std::env::var("PATH").unwrap_or_default();
    let mut daemon = Command::new(programs.join("containerd"));
    daemon.arg("--config").arg(folder.join("config.toml"));
    // It finds its shim, which is as new as itself, by this.
    daemon.env("PATH", format!("{}:{found}", programs.display()));
    daemon.stdin(Stdio::null()).stderr(log.try_clone().map_err(failed)?).stdout(log);
    daemon.spawn().map_err(failed)
}

/// The folder with the programs of containerd 2.
fn containerd() -> Result<PathBuf, String> {
    Ok(debian::unpacked("sid", "containerd", &["containerd"])?.join("usr/bin"))
}

/// What crun is run by that is new enough for containerd 2: what mounts the libraries that it needs over those of the
/// machine, for it and what it starts alone, and has it found first.
fn new_crun() -> Result<String, String> {
    let packages =
        ["crun", "libc6", "libcap2", "libseccomp2", "libsystemd0", "libyajl2", "libgcc-s1"];
    let unpacked = debian::unpacked("trixie", "crun", &packages)?;
    let (unpacked, libraries) = (unpacked.display(), "/usr/lib/x86_64-linux-gnu");
    Ok(format!(
        "mount -t overlay -o lowerdir={unpacked}{libraries}:{libraries} overlay {libraries} && \
         PATH={unpacked}/usr/bin:$PATH && "
    ))
}

/// `%20` is a blank, as in the messages of gRPC.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = code.and_then(|two| u8::from_str_radix(two, 16).ok());
        match code.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn map(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

// The messages of CRI that are needed, from `api.proto` of <https://github.com/kubernetes/cri-api> (v1).

/// The machine's own namespace.
const HOST: i32 = 2;
/// A namespace of the container's.
const CONTAINER: i32 = 1;

#[derive(Clone, Copy, PartialEq, Message)]
struct Empty {}

/// What the requests and answers that are nothing but an id have in common.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    pods: Vec<Id>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
    #[prost(string, tag = "2")]
    handler: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(btree_map = "string, string", tag = "7")]
    annotations: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxPodSandboxConfig {
    #[prost(message, optional, tag = "2")]
    security_context: Option<SandboxSecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<NamespaceOption>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxContainerConfig {
    #[prost(message, optional, tag = "2")]
    security_context: Option<SecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityContext {
    #[prost(message, optional, tag = "3")]
    namespaces: Option<NamespaceOption>,
    #[prost(message, optional, tag = "15")]
    seccomp: Option<SecurityProfile>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SecurityProfile {
    #[prost(int32, tag = "1")]
    profile: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncResponse {
    #[prost(int32, tag = "3")]
    status: i32,
}
