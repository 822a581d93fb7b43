//! Sets that say what a kind of program needs: such programs run confined to them, and nothing in
//! them is there that was never seen to be needed without a reason that says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peers;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use strait_abi::Arch;
use strait_bpf::Action;
use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::seccomp::LoadOptions;
use strait_policy::Policy;
use strait_policy::format::oci;
use strait_runtime::launch::Enforcement;
use strait_testkit::skip;

/// A policy that allows one set and nothing else.
fn only(set: &str) -> Policy {
    let mut policy = Policy::new(Arch::NATIVE.unwrap().into(), Action::KillProcess);
    policy.include = vec![set.to_owned()];
    policy
}

/// Whether the compiler makes a program that runs confined to the set, to its end.
fn runs_within(set: &str, compiler: &str, options: &[&str], folder: &Path) -> Option<bool> {
    let (source, program) = (folder.join("seven.c"), folder.join("seven"));
    fs::write(&source, "int main(void) { return 7; }\n").unwrap();
    let mut command = Command::new(compiler);
    command.args(options).arg("-o").args([&program, &source]);
    command.stderr(Stdio::null());
    if !command.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let rules = only(set).lower().unwrap();
    let enforcement =
        Enforcement::new(&rules, &Options::default(), LoadOptions::default()).unwrap();
    let command = strait_kernel::command::Command::new(program.as_os_str(), []).unwrap();
    let child = enforcement.start(PendingChild::fork(&command).unwrap()).unwrap().child;
    Some(child.wait().unwrap().code() == Some(7))
}

#[test]
fn programs_start_and_end_within_the_set_of_their_libc() {
    let folder = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for (set, compiler) in [("set:glibc-startup", "gcc"), ("set:musl-startup", "musl-gcc")] {
        for options in [&["-static"][..], &["-no-pie"], &["-pie", "-O2"], &["-lm", "-lpthread"]] {
            match runs_within(set, compiler, options, folder.path()) {
                Some(runs) => {
                    assert!(runs, "{compiler} {options:?} within {set}");
                    ran += 1;
                }
                None => skip(
                    &format!("{set} {options:?}"),
                    &format!("{compiler} makes no such program here"),
                ),
            }
        }
    }
    if ran == 0 {
        skip("programs_start_and_end_within_the_set_of_their_libc", "no compiler");
    }
}

/// Whether the runtime starts a container within the set, as root or not, with or without
/// `no_new_privs`: that decides when the filter is loaded.
fn starts_within(runtime: &str, folder: &Path, root: bool, no_new_privs: bool) -> bool {
    let mut policy = only(&format!("set:runtime-{runtime}"));
    // What the workload itself calls.
    let exit = strait_abi::Syscall::from_name("exit").unwrap();
    policy.rules.push(strait_policy::policy::Rule::new([exit], Action::Allow));
    let mut target = peers::target();
    target.runtime = runtime.parse().unwrap();
    let profile = oci::export(&policy, &target).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&profile.text).unwrap();
    let bundle = folder.join(format!("{runtime}-{root}-{no_new_privs}"));
    for inner in ["dev", "proc"] {
        fs::create_dir_all(bundle.join("rootfs").join(inner)).unwrap();
    }
    let source = folder.join("leave.S");
    fs::write(&source, ".globl _start\n_start: mov $60, %eax\n mov $7, %edi\n syscall\n").unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-nostdlib", "-static", "-o"]).args([&bundle.join("rootfs/leave"), &source]);
    assert!(cc.status().unwrap().success());
    let user = if root { 0 } else { 1000 };
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": user, "additionalGids": [user]},
            "args": ["/leave"], "cwd": "/", "noNewPrivileges": no_new_privs,
            "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        },
        "root": {"path": "rootfs"},
        "hostname": "strait",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "seccomp": profile,
        },
    });
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    // A cgroup file system of one kind, which crun asks for.
    let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /sys/fs/cgroup && umount /sys/fs/cgroup && \
        mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec \"$@\"";
    let mut start = Command::new("unshare");
    start.args(["--mount", "--cgroup", "sh", "-c", script, "sh", runtime]);
    if runtime == "crun" {
        start.arg("--cgroup-manager=disabled");
    }
    let name = format!("strait-{}-{root}-{no_new_privs}", std::process::id());
    start.arg("--root").arg(folder.join("state")).args(["run", "--bundle"]).arg(&bundle).arg(name);
    let output = start.stdin(Stdio::null()).output().unwrap();
    let started = output.status.code() == Some(7);
    if !started {
        eprintln!("{runtime}: {}", String::from_utf8_lossy(&output.stderr));
    }
    started
}

#[test]
fn runtimes_start_containers_within_their_sets() {
    for runtime in ["runc", "crun"] {
        let name = format!("runtimes_start_containers_within_their_sets {runtime}");
        if !Command::new(runtime)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            skip(&name, &format!("{runtime} is not installed"));
            continue;
        }
        if let Some(reason) = peers::cannot_read() {
            skip(&name, reason);
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        for (root, no_new_privs) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(
                starts_within(runtime, folder.path(), root, no_new_privs),
                "{runtime} as root: {root}, with no_new_privs: {no_new_privs}"
            );
        }
    }
}
