//! Container engines for tests: Docker, Podman and containerd as this machine has them, each with its
//! state in a folder of its own, and a root file system of nothing but a static busybox.
//!
//! What an engine leaves behind is removed with it: its containers by id, its daemon by process id,
//! its mounts by path. Nothing of the machine's own engines is touched, and no bridge and no rule of
//! a firewall is made.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::skip;

/// Which engine, and which runtime it is to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// dockerd with a containerd of its own and runc.
    Docker,
    /// containerd with runc, by `ctr`.
    Containerd,
    /// Podman with crun.
    PodmanCrun,
    /// Podman with runc.
    PodmanRunc,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Docker, Kind::Containerd, Kind::PodmanCrun, Kind::PodmanRunc];

    /// The engine's name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Containerd => "containerd",
            Kind::PodmanCrun | Kind::PodmanRunc => "podman",
        }
    }

    /// The runtime's name.
    pub const fn runtime(self) -> &'static str {
        match self {
            Kind::PodmanCrun => "crun",
            _ => "runc",
        }
    }

    /// The programs that it takes.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Docker => &["dockerd", "docker", "containerd", "runc"],
            Kind::Containerd => &["containerd", "ctr", "runc"],
            Kind::PodmanCrun => &["podman", "conmon", "crun"],
            Kind::PodmanRunc => &["podman", "conmon", "runc"],
        }
    }
}

/// The profile of a container.
#[derive(Clone, Copy, Debug)]
pub enum Profile<'a> {
    /// The engine's own.
    Default,
    /// None.
    Unconfined,
    /// This file's.
    File(&'a Path),
}

/// An engine that runs, until it is dropped.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    folder: TempDir,
    daemon: Option<Child>,
    /// Who holds the mount namespace in which crun does not see the second cgroup tree of a hybrid
    /// machine, which it refuses.
    apart: Option<Child>,
}

/// The name of the image that engines with images have: a static busybox.
pub const IMAGE: &str = "localhost/strait-test/busybox:latest";

impl Engine {
    /// Starts it; where that cannot be it says why, for this test, and there is none.
    pub fn start(kind: Kind, test: &str) -> Option<Engine> {
        match Engine::try_start(kind, &[]) {
            Ok(engine) => Some(engine),
            Err(reason) => {
                skip(test, &format!("{} with {}: {reason}", kind.name(), kind.runtime()));
                None
            }
        }
    }

    /// The same, with more arguments for Docker's daemon, or lines for the configuration of Podman
    /// (`containers.conf`) or containerd (`config.toml`).
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn try_start(kind: Kind, more: &[&str]) -> Result<Engine, String> {
        can_contain()?;
        for program in kind.programs() {
            if !in_path(program) {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = tempfile::Builder::new().prefix("strait-").tempdir();
        let folder = folder.map_err(|error| format!("no folder for it: {error}"))?;
        rootfs(&folder.path().join("root"))?;
        let mut engine = Engine { kind, folder, daemon: None, apart: None };
        if kind == Kind::PodmanCrun && has_unified() {
            engine.apart = Some(without_unified()?);
        }
        match kind {
            Kind::Docker => engine.start_docker(more)?,
            Kind::Containerd => engine.start_containerd(more)?,
            Kind::PodmanCrun | Kind::PodmanRunc => engine.set_up_podman(more)?,
        }
        // Whether it really runs containers here is not known before one has run.
        engine.run("strait-test-first", Profile::Unconfined, &[], &["/bin/sleep", "1000"])?;
        engine.remove("strait-test-first");
        Ok(engine)
    }

    /// Which it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The folder with all of its state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The root file system that its image is made of.
    pub fn rootfs(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// The socket of its daemon, if it has one.
    pub fn socket(&self) -> PathBuf {
        match self.kind {
            Kind::Containerd => self.folder().join("state/containerd.sock"),
            _ => self.folder().join("sock"),
        }
    }

    /// The namespace of containerd's containers. runc's own folder for them is the same for every
    /// containerd of the machine, so it is this one's alone.
    pub fn namespace(&self) -> String {
        let name = self.folder().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The variables by which clients find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        match self.kind {
            Kind::Docker => vec![("DOCKER_HOST", format!("unix://{}", path("sock")))],
            Kind::Containerd => vec![
                ("CONTAINERD_ADDRESS", path("state/containerd.sock")),
                ("CONTAINERD_NAMESPACE", self.namespace()),
            ],
            Kind::PodmanCrun | Kind::PodmanRunc => vec![
                ("CONTAINERS_CONF", path("containers.conf")),
                ("CONTAINERS_STORAGE_CONF", path("storage.conf")),
            ],
        }
    }

    /// Adds programs of this machine to its image, with the libraries that they are linked to.
    ///
    /// # Errors
    /// If one is not there, or the image cannot be made.
    pub fn add(&self, programs: &[&str]) -> Result<(), String> {
        for program in programs {
            let program = Path::new(program);
            if !program.is_file() {
                return Err(format!("{} is not installed", program.display()));
            }
            let linked = succeed(Command::new("ldd").arg(program)).unwrap_or_default();
            let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
            for file in libraries.map(Path::new).chain([program]) {
                let inside = self.rootfs().join(file.strip_prefix("/").unwrap_or(file));
                let copied = fs::create_dir_all(inside.parent().unwrap_or(&inside))
                    .and_then(|()| fs::copy(file, &inside));
                copied.map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        match self.kind {
            Kind::Containerd => Ok(()),
            _ => self.import(),
        }
    }

    /// What there is of its containers: processes that were started with something of this engine's
    /// among their arguments, and mounts in its folder. Its daemon is none of these.
    pub fn remains(&self) -> Vec<String> {
        let folder = self.folder.path();
        // The storage itself is mounted on itself, for as long as the engine likes.
        let storage = ["data", "data/overlay"].map(|name| folder.join(name));
        let of_storage = |point: &String| storage.iter().any(|it| it.as_path() == Path::new(point));
        let mounts = self.mounts().into_iter().filter(|point| !of_storage(point));
        let mounts = mounts.map(|point| format!("mount {point}"));
        // A daemon has started another, maybe.
        let daemon = self.daemon.as_ref().map(Child::id);
        let is_daemon =
            |pid: u32| daemon.is_some() && (Some(pid) == daemon || parent(pid) == daemon);
        let processes = naming(folder).into_iter().filter(|&(pid, _)| !is_daemon(pid));
        processes.map(|(pid, line)| format!("process {pid}: {line}")).chain(mounts).collect()
    }

    /// Where something is mounted in its folder, in the order in which that was done.
    fn mounts(&self) -> Vec<String> {
        let process =
            self.apart.as_ref().map_or_else(|| "self".to_owned(), |it| it.id().to_string());
        let mounts = fs::read_to_string(format!("/proc/{process}/mounts")).unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours = points.filter(|point| Path::new(point).starts_with(self.folder.path()));
        ours.map(str::to_owned).collect()
    }

    /// Its client: `docker`, `podman` or `ctr`.
    pub fn client(&self) -> Command {
        let program = match self.kind {
            Kind::Docker => "docker",
            Kind::Containerd => "ctr",
            Kind::PodmanCrun | Kind::PodmanRunc => "podman",
        };
        let mut client = if let Some(apart) = &self.apart {
            let mut client = Command::new("nsenter");
            client.arg(format!("--mount=/proc/{}/ns/mnt", apart.id())).arg(program);
            client
        } else {
            Command::new(program)
        };
        client.envs(self.environment()).stdin(Stdio::null());
        client
    }

    /// Runs a container in the background and returns the process id of its first process.
    ///
    /// `options` are the client's own, before the image.
    ///
    /// # Errors
    /// What the client said if it did not start.
    pub fn run(
        &self,
        name: &str,
        profile: Profile<'_>,
        options: &[&str],
        command: &[&str],
    ) -> Result<i32, String> {
        succeed(&mut self.run_command(name, profile, &[&["--detach"], options].concat(), command))?;
        self.pid(name)
    }

    /// The client's command that runs a container to its end.
    pub fn run_command(
        &self,
        name: &str,
        profile: Profile<'_>,
        options: &[&str],
        command: &[&str],
    ) -> Command {
        let mut client = self.client();
        client.arg("run");
        if self.kind == Kind::Containerd {
            match profile {
                Profile::Default => drop(client.arg("--seccomp")),
                Profile::Unconfined => {}
                Profile::File(file) => {
                    client.args(["--seccomp", "--seccomp-profile"]).arg(file);
                }
            }
            client.args(options).arg("--rootfs").arg(self.rootfs()).arg(name).args(command);
        } else {
            client.args(["--name", name, "--network", "none"]);
            let option = match profile {
                Profile::Default => None,
                Profile::Unconfined => Some("seccomp=unconfined".to_owned()),
                Profile::File(file) => Some(format!("seccomp={}", file.display())),
            };
            if let Some(option) = option {
                client.args(["--security-opt", &option]);
            }
            client.args(options).arg(IMAGE).args(command);
        }
        client
    }

    /// Runs a command in a container that runs, waits for it, and returns what it said.
    ///
    /// # Errors
    /// What the client said if it failed.
    pub fn exec(&self, name: &str, command: &[&str]) -> Result<String, String> {
        let mut client = self.exec_command(name, &[]);
        succeed(client.args(command))
    }

    /// The client's command that runs another in a container, which is still to be added.
    pub fn exec_command(&self, name: &str, options: &[&str]) -> Command {
        let mut client = self.client();
        if self.kind == Kind::Containerd {
            client.args(["task", "exec", "--exec-id", "strait-test"]).args(options).arg(name);
        } else {
            client.arg("exec").args(options).arg(name);
        }
        client
    }

    /// The process id of a container's first process.
    ///
    /// # Errors
    /// If there is no such container, or it does not run.
    pub fn pid(&self, name: &str) -> Result<i32, String> {
        let text = if self.kind == Kind::Containerd {
            let file = self.folder().join("state/io.containerd.runtime.v2.task");
            let file = file.join(self.namespace()).join(name).join("init.pid");
            fs::read_to_string(file).map_err(|error| format!("{name} has no process: {error}"))?
        } else {
            succeed(self.client().args(["inspect", "--format", "{{.State.Pid}}", name]))?
        };
        let pid = text.trim().parse().ok().filter(|&pid| pid > 0);
        pid.ok_or_else(|| format!("{name} has no process"))
    }

    /// The full id of a container.
    ///
    /// # Errors
    /// If there is no such container.
    pub fn id(&self, name: &str) -> Result<String, String> {
        if self.kind == Kind::Containerd {
            return Ok(name.to_owned());
        }
        let id = succeed(self.client().args(["inspect", "--format", "{{.Id}}", name]))?;
        Ok(id.trim().to_owned())
    }

    /// Ends a container and starts it again.
    ///
    /// # Errors
    /// What the client said if it failed.
    pub fn restart(&self, name: &str) -> Result<(), String> {
        if self.kind == Kind::Containerd {
            succeed(self.client().args(["task", "delete", "--force", name]))?;
            return succeed(self.client().args(["task", "start", "--detach", name])).map(drop);
        }
        succeed(self.client().args(["restart", "--time", "0", name])).map(drop)
    }

    /// Ends a container and removes it.
    pub fn remove(&self, name: &str) {
        let process = self.pid(name);
        // What is not there is removed.
        if self.kind == Kind::Containerd {
            let _ = succeed(self.client().args(["task", "delete", "--force", name]));
            let _ = succeed(self.client().args(["container", "delete", name]));
        } else {
            let mut client = self.client();
            client.args(["rm", "--force", "--volumes", name]);
            if self.kind != Kind::Docker {
                // Podman asks it to end first, which the first process of a container ignores.
                client.args(["--time", "0"]);
            }
            let _ = succeed(&mut client);
        }
        // An engine that has failed to end it must not leave it running without a folder.
        if let Ok(pid) = process
            && Path::new("/proc").join(pid.to_string()).exists()
        {
            let mut kill = Command::new("kill");
            let _ = kill.args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// The names or ids of all its containers.
    fn containers(&self) -> Vec<String> {
        let list = match self.kind {
            Kind::Containerd => succeed(self.client().args(["container", "list", "--quiet"])),
            _ => succeed(self.client().args(["ps", "--all", "--quiet"])),
        };
        list.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    fn start_docker(&mut self, more: &[&str]) -> Result<(), String> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        let mut daemon = Command::new("dockerd");
        daemon.args(["--data-root", &path("data"), "--exec-root", &path("exec")]);
        daemon.args(["--pidfile", &path("pid"), "--config-file", &path("daemon.json")]);
        daemon.args(["--host", &format!("unix://{}", path("sock"))]);
        // Nothing of it is to be seen on the machine's network.
        daemon.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        daemon.args(["--ip-forward=false", "--ip-masq=false"]).args(more);
        fs::write(path("daemon.json"), "{}").map_err(|error| error.to_string())?;
        let socket = self.socket();
        self.start_daemon(daemon, &socket)?;
        self.import()
    }

    fn start_containerd(&mut self, more: &[&str]) -> Result<(), String> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        let file = path("config.toml");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = {:?}\n{}\n",
            path("data"),
            path("state"),
            path("state/containerd.sock"),
            more.join("\n")
        );
        fs::write(&file, config).map_err(|error| error.to_string())?;
        let mut daemon = Command::new("containerd");
        daemon.args(["--config", &file]);
        let socket = self.socket();
        self.start_daemon(daemon, &socket)
    }

    fn set_up_podman(&mut self, more: &[&str]) -> Result<(), String> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        // Root without CAP_SYS_RESOURCE cannot give the limits that are Podman's default.
        let config = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:4096\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = {:?}\n\
             tmp_dir = {:?}\n{}\n",
            self.kind.runtime(),
            path("tmp"),
            more.join("\n")
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            path("data"),
            path("run")
        );
        let written = fs::write(path("containers.conf"), config)
            .and_then(|()| fs::write(path("storage.conf"), storage));
        written.map_err(|error| error.to_string())?;
        self.import()
    }

    /// Starts a daemon and waits until it listens.
    fn start_daemon(&mut self, mut command: Command, socket: &Path) -> Result<(), String> {
        let log = self.folder().join("log");
        let file = fs::File::create(&log).map_err(|error| error.to_string())?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        for _ in 0..1200 {
            if std::os::unix::net::UnixStream::connect(socket).is_ok() {
                self.daemon = Some(child);
                return Ok(());
            }
            if !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        Err(format!("the daemon does not listen: {}", last.join(" / ")))
    }

    /// Makes the image of the root file system.
    fn import(&self) -> Result<(), String> {
        let archive = self.folder().join("root.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(self.rootfs()).arg("-cf").arg(&archive).arg(".");
        succeed(&mut tar)?;
        succeed(self.client().arg("import").arg(&archive).arg(IMAGE)).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for container in self.containers() {
            self.remove(&container);
        }
        if let Some(daemon) = &mut self.daemon {
            // It ends the daemons that it has started, which a killed one does not.
            let _ = Command::new("kill").arg(daemon.id().to_string()).status();
            for _ in 0..200 {
                if !matches!(daemon.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // What Podman cleans up when a container has ended it does in the background, and mounts its
        // storage for that.
        for _ in 0..200 {
            if naming(self.folder.path()).is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // What is mounted apart goes with the last process there.
        if let Some(mut apart) = self.apart.take() {
            let _ = apart.kill();
            let _ = apart.wait();
        }
        // What was mounted last goes first.
        for point in self.mounts().into_iter().rev() {
            let _ = Command::new("umount").args(["--lazy", &point]).status();
        }
    }
}

/// Whether containers can be run and looked into here.
pub(crate) fn can_contain() -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.contains("Uid:\t0\t0\t") {
        return Err("needs root".to_owned());
    }
    if !status.contains("Seccomp:\t0\n") {
        return Err("needs no filter of its own".to_owned());
    }
    Ok(())
}

/// The processes that were started with something in this folder among their arguments.
pub(crate) fn naming(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let line = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, fs::read(entry.path().join("cmdline")).ok()?))
    };
    let names = |line: &[u8]| line.windows(folder.len()).any(|part| part == folder);
    let text = |line: &[u8]| String::from_utf8_lossy(line).replace('\0', " ");
    let lines = processes.filter_map(line).filter(|(_, line)| names(line));
    lines.map(|(pid, line)| (pid, text(&line))).collect()
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

pub(crate) fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether version 2 of cgroups is mounted beside version 1.
pub(crate) fn has_unified() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/cgroup/unified"))
}

/// A process that holds a mount namespace in which version 2 of cgroups is not mounted.
fn without_unified() -> Result<Child, String> {
    let script = "umount /sys/fs/cgroup/unified && echo ready && exec sleep infinity";
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut holder = holder.spawn().map_err(|error| error.to_string())?;
    let mut said = [0; 6];
    let output = holder.stdout.as_mut().map(|output| output.read_exact(&mut said));
    if matches!(output, Some(Ok(()))) {
        return Ok(holder);
    }
    let _ = holder.wait();
    Err("version 2 of cgroups cannot be hidden from crun".to_owned())
}

/// A root with a static busybox under the names of what tests run.
pub(crate) fn rootfs(root: &Path) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "cat", "chmod", "chown", "cp", "echo", "false", "head", "id", "kill", "ln", "ls", "mkdir",
        "mv", "rm", "rmdir", "sh", "sleep", "test", "touch", "true", "uname",
    ];
    let made = (|| -> std::io::Result<()> {
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "var"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for name in NAMES {
            symlink("busybox", root.join("bin").join(name))?;
        }
        let mut passwd = fs::File::create(root.join("etc/passwd"))?;
        passwd.write_all(b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    })();
    made.map_err(|error| format!("no root file system: {error}"))?;
    let copied = fs::copy("/bin/busybox", root.join("bin/busybox"));
    copied.map(drop).map_err(|_| "busybox-static is not installed".to_owned())
}

/// What a command wrote, or, if it failed, what it said.
pub(crate) fn succeed(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&stderr).trim().to_owned())
}
