//! Verifying containers that runc and crun run, against the policy that their profile was written
//! from. Needs root, the runtimes and a static busybox.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use strait_abi::{Arch, KernelVersion};
use strait_policy::Policy;
use strait_policy::format::{Runtime, Target, oci};
use strait_testkit::policies::all_but;
use strait_testkit::skip;
use tempfile::TempDir;

/// A container that is removed with the test.
struct Container {
    runtime: &'static str,
    folder: TempDir,
    id: String,
    pid: String,
}

impl Container {
    /// A container that sleeps, with this profile; `None` where the runtime does not run here.
    fn start(runtime: &'static str, profile: &str, test: &str) -> Option<Container> {
        let busybox = Path::new("/bin/busybox");
        let folder = TempDir::new().unwrap();
        let bin = folder.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        if fs::copy(busybox, bin.join("busybox")).is_err() {
            skip(test, "busybox-static is not installed");
            return None;
        }
        std::os::unix::fs::symlink("busybox", bin.join("sleep")).unwrap();
        let spec = Command::new(runtime).arg("spec").current_dir(&folder).status();
        if !spec.is_ok_and(|status| status.success()) {
            skip(test, &format!("{runtime} is not installed"));
            return None;
        }
        let file = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["/bin/sleep", "1000"]);
        config["linux"]["seccomp"] = serde_json::from_str(profile).unwrap();
        fs::write(&file, config.to_string()).unwrap();
        let id = format!("strait-{runtime}-{}", std::process::id());
        let pid_file = folder.path().join("pid");
        let started = Self::command(runtime, folder.path())
            .args(["run", "--detach", "--pid-file"])
            .arg(&pid_file)
            .arg(&id)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .status();
        if !started.is_ok_and(|status| status.success()) {
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            skip(test, &format!("{runtime} runs no container here: {}", log.trim()));
            return None;
        }
        let pid = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
        // The filter is loaded when the program runs.
        let name = PathBuf::from(format!("/proc/{pid}/comm"));
        for _ in 0..500 {
            if fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some(Container { runtime, folder, id, pid })
    }

    fn command(runtime: &str, folder: &Path) -> Command {
        // crun refuses cgroups of both versions side by side: it is shown the first alone.
        let alone = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
        let mut command = match runtime {
            "crun" => Command::new("unshare"),
            _ => Command::new(runtime),
        };
        if runtime == "crun" {
            command.args(["--mount", "sh", "-c", alone, runtime]);
        }
        command.arg("--root").arg(folder.join("state"));
        command
    }

    fn verify(&self, policy: &Policy, more: &[&str]) -> (Option<i32>, Value) {
        let file = self.folder.path().join("policy.yaml");
        fs::write(&file, policy.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(["verify", "--json", "--pid", &self.pid, "--policy"])
            .arg(&file)
            .args(more)
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut delete = Self::command(self.runtime, self.folder.path());
        let _ = delete.args(["delete", "--force", &self.id]).stderr(Stdio::null()).status();
    }
}

fn check(name: &'static str, runtime: Runtime) {
    let test = "what_a_runtime_renders_holds_and_is_explained";
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("Uid:\t0\t0\t") || !status.contains("Seccomp:\t0\n") {
        return skip(test, "needs root and no filter of its own");
    }
    let policy = all_but(&["mount", "kexec_load", "bpf"], 1);
    let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    target.runtime = runtime;
    let profile = oci::export(&policy, &target).unwrap().text;
    let Some(container) = Container::start(name, &profile, test) else { return };

    let (status, json) = container.verify(&policy, &[]);
    assert_eq!((status, &json["outcome"]), (Some(0), &"holds".into()), "{json:#}");
    let rendering = &json["judged"][0]["rendering"];
    assert_eq!(rendering["runtime"], name);
    let explained = rendering["explained"].as_array().unwrap();
    let because = |reason: &str| explained.iter().any(|one| one["because"] == reason);
    assert!(because("other-arch"), "{rendering:#}");
    assert!(explained.iter().all(|one| one["because"] != "not-expressible"), "{rendering:#}");

    // The container is found by its id; its one process is shown with the filter.
    let inspected = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["inspect", "--json", "--container", &container.id])
        .output()
        .unwrap();
    let machine: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let processes = machine["processes"].as_array().unwrap();
    let pid: i64 = container.pid.parse().unwrap();
    let found = processes.iter().find(|process| process["pid"] == pid);
    // Without cgroups of its own (crun, where those are mixed) nothing tells the container.
    if let Some(found) = found {
        assert_eq!((&found["status"], &found["innerPid"]), (&"filtered".into(), &1.into()));
    } else {
        assert_eq!(name, "crun", "{machine:#}");
    }

    // To the letter it is another decision, by which nothing more passes.
    let (status, json) = container.verify(&policy, &["--strict"]);
    assert_eq!((status, &json["outcome"]), (Some(1), &"drift".into()));
    assert_eq!(json["judged"][0]["permitsMore"], false);

    // Against a policy that denies one call more it is drift, whatever the runtime renders.
    let (status, json) =
        container.verify(&all_but(&["mount", "kexec_load", "bpf", "chroot"], 1), &[]);
    assert_eq!((status, &json["outcome"]), (Some(1), &"drift".into()));
    assert_eq!(json["judged"][0]["permitsMore"], true);
    let spans = json["judged"][0]["differences"]["spans"].as_array().unwrap();
    let more = spans.iter().filter(|span| span["installed"] == "allow");
    let more: Vec<&Value> = more.map(|span| &span["witness"]["name"]).collect();
    assert_eq!(more, ["chroot"]);
}

#[test]
fn what_runc_renders_holds_and_is_explained() {
    check("runc", Runtime::Runc);
}

#[test]
fn what_crun_renders_holds_and_is_explained() {
    check("crun", Runtime::Crun);
}
