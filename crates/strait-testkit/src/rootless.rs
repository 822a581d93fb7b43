//! Podman of a user without privileges, with all of its state in a folder of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::{can_contain, in_path, naming, rootfs, succeed};

/// The user: `nobody`, whom every machine has and who owns nothing.
pub const USER: u32 = 65534;

/// The name of the image that all containers are of: a static busybox.
pub const IMAGE: &str = "localhost/strait-test/rootless:latest";

/// Podman as that user has it, until it is dropped.
#[derive(Debug)]
pub struct Rootless {
    folder: TempDir,
}

impl Rootless {
    /// Sets it up, if a container can be run here by such a user.
    ///
    /// # Errors
    /// Why none can.
    pub fn try_start() -> Result<Rootless, String> {
        can_contain()?;
        for program in ["podman", "conmon", "runc", "setpriv"] {
            if !in_path(program) {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = tempfile::Builder::new().prefix("strait-rootless-").tempdir();
        let folder = folder.map_err(|error| format!("no folder for it: {error}"))?;
        let rootless = Rootless { folder };
        let path = |name: &str| rootless.folder.path().join(name);
        let made = (|| {
            fs::set_permissions(rootless.folder.path(), fs::Permissions::from_mode(0o755))?;
            for name in ["home", "run"] {
                fs::create_dir(path(name))?;
                chown(path(name), Some(USER), Some(USER))?;
            }
            // Limits that it may not raise, no systemd, and one user id for everything.
            fs::write(
                path("containers.conf"),
                "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:4096\"]\n\
                 [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
                 runtime = \"runc\"\n",
            )?;
            fs::write(
                path("storage.conf"),
                "[storage]\ndriver = \"vfs\"\n[storage.options]\nignore_chown_errors = \"true\"\n",
            )
        })();
        made.map_err(|error: std::io::Error| error.to_string())?;
        rootfs(&path("root"))?;
        let archive = path("root.tar");
        succeed(Command::new("tar").arg("-C").arg(path("root")).arg("-cf").arg(&archive).arg("."))?;
        succeed(rootless.client().arg("import").arg(&archive).arg(IMAGE))?;
        rootless.run("strait-test-first", &["/bin/sleep", "1000"])?;
        succeed(rootless.client().args(["rm", "--force", "--time", "0", "strait-test-first"]))?;
        Ok(rootless)
    }

    /// That user's client.
    pub fn client(&self) -> Command {
        let path = |name: &str| self.folder.path().join(name);
        let user = USER.to_string();
        let mut client = Command::new("setpriv");
        client.args(["--reuid", &user, "--regid", &user, "--clear-groups", "podman"]);
        client.current_dir("/").stdin(Stdio::null()).env("HOME", path("home"));
        client.env("XDG_RUNTIME_DIR", path("run"));
        client.env("CONTAINERS_CONF", path("containers.conf"));
        client.env("CONTAINERS_STORAGE_CONF", path("storage.conf"));
        client
    }

    /// Runs a container in the background and returns the process id of its first process.
    ///
    /// # Errors
    /// What the client said if it did not start.
    pub fn run(&self, name: &str, command: &[&str]) -> Result<i32, String> {
        let options = ["run", "--detach", "--network", "none", "--name", name, IMAGE];
        succeed(self.client().args(options).args(command))?;
        let pid = self.inspect(name, "{{.State.Pid}}")?;
        pid.parse().map_err(|_| format!("{name} has no process: {pid}"))
    }

    /// What that user's Podman says of a container, in this format.
    ///
    /// # Errors
    /// What the client said.
    pub fn inspect(&self, name: &str, format: &str) -> Result<String, String> {
        let said = succeed(self.client().args(["inspect", "--format", format, name]))?;
        Ok(said.trim().to_owned())
    }

    /// Removes the containers, for which their runtimes have to be there still. What is left of them.
    pub fn clear(&self) -> Vec<String> {
        let _ = succeed(self.client().args(["rm", "--all", "--force", "--time", "0"]));
        let left =
            || naming(self.folder.path()).into_iter().map(|(pid, line)| format!("{pid}: {line}"));
        for _ in 0..200 {
            if left().next().is_none() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        left().collect()
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let _ = succeed(self.client().args(["rm", "--all", "--force", "--time", "0"]));
        // A process that holds the user's namespaces for the next command stays.
        let holder = fs::read_to_string(self.folder.path().join("run/libpod/tmp/pause.pid"));
        let holder = holder.ok().and_then(|pid| pid.trim().parse::<u32>().ok());
        let is_its = |pid: &u32| {
            let status =
                fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
            status.is_ok_and(|status| status.contains(&format!("Uid:\t{USER}\t")))
        };
        if let Some(pid) = holder.filter(is_its) {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
    }
}
