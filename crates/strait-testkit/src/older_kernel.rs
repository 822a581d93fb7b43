//! A kernel that is older than the machine's: Debian 12's own, 6.1, in an emulator.
//!
//! It is fetched from where the machine's packages come from and unpacked below `target/`, never installed.
//! What it runs comes with it in memory: a busybox, the programs of the test with their libraries, and a
//! shell script. There is no disk and no network but the loopback.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::debian::target;
use crate::engine::{in_path, succeed};
use crate::skip;

/// The package that depends on the newest kernel of Debian 12, and how the names of these begin.
const PACKAGE: &str = "linux-image-cloud-amd64";
const NAMES: &str = "linux-image-6.1.";
const EMULATOR: &str = "qemu-system-x86_64";

/// What runs first there: it leads to the script, and off.
const INIT: &str = "\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
export HOME=/tmp
echo
echo BEGIN
sh /script
echo
echo END
poweroff -f
";

/// Boots it, has its shell go through the script as root with these programs in its path, and gives what
/// was printed. Where that cannot be it says why, for this test, and there is nothing.
///
/// # Panics
/// If the machine came up and did not get to the end of the script.
pub fn run(test: &str, programs: &[&Path], script: &str) -> Option<String> {
    match try_run(programs, script) {
        Ok(console) => {
            let said =
                console.split_once("\nBEGIN\n").and_then(|(_, said)| said.split_once("\nEND\n"));
            let Some((said, _)) = said else {
                panic!("the script did not come to its end: {console}")
            };
            Some(said.to_owned())
        }
        Err(reason) => {
            skip(test, &format!("an older kernel in an emulator: {reason}"));
            None
        }
    }
}

fn try_run(programs: &[&Path], script: &str) -> Result<String, String> {
    if std::env::consts::ARCH != "x86_64" {
        return Err("it is one for x86_64".to_owned());
    }
    for program in [EMULATOR, "busybox", "strip", "ldd", "timeout"] {
        if !in_path(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let kernel = kernel()?;
    let folder = TempDir::new().map_err(|error| format!("no folder for it: {error}"))?;
    let disk = folder.path().join("initramfs");
    pack(programs, script, &folder.path().join("root"), &disk)?;
    let console = folder.path().join("console");
    let failed = |error: std::io::Error| format!("{EMULATOR}: {error}");
    // Emulated even where the machine could do better: not every machine that says so can.
    let mut emulator = Command::new("timeout");
    emulator.args(["300", EMULATOR, "-cpu", "max", "-smp", "2"]);
    emulator.args(["-m", "2048", "-display", "none", "-monitor", "none", "-serial", "stdio"]);
    emulator.args(["-no-reboot", "-nic", "none"]);
    emulator.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=0"]);
    emulator.arg("-kernel").arg(&kernel).arg("-initrd").arg(&disk).stdin(Stdio::null());
    emulator.stdout(File::create(&console).map_err(failed)?);
    let ended = emulator.stderr(Stdio::piped()).output().map_err(failed)?;
    let said = fs::read(&console).map_err(failed)?;
    if said.is_empty() {
        return Err(String::from_utf8_lossy(&ended.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&said).replace('\r', ""))
}

/// The kernel's image, which is fetched if it is not there yet.
fn kernel() -> Result<PathBuf, String> {
    let target = target();
    let unpacked = target.join("kernels/debian-12");
    if let Some(image) = image(&unpacked) {
        return Ok(image);
    }
    let dependencies = succeed(Command::new("apt-cache").args(["depends", PACKAGE]))?;
    let package = dependencies.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.filter(|name| name.starts_with(NAMES));
    let package = package.ok_or("this machine's archive is not Debian 12's")?;
    fs::create_dir_all(target.join("kernels")).map_err(|error| error.to_string())?;
    let folder = TempDir::new_in(target.join("kernels")).map_err(|error| error.to_string())?;
    // apt compares what it has fetched with the archive's signed list.
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", package]);
    succeed(apt.current_dir(folder.path()))?;
    let packages = fs::read_dir(folder.path()).map_err(|error| error.to_string())?;
    let file = packages.flatten().next().ok_or("apt-get has fetched nothing")?.path();
    let fresh = folder.path().join("unpacked");
    succeed(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&fresh))?;
    // Another test may have been first, and its is as good.
    let _ = fs::rename(fresh.join("boot"), &unpacked);
    image(&unpacked).ok_or_else(|| format!("{package} has no image of a kernel"))
}

fn image(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let is_image =
        |path: &PathBuf| path.file_name()?.to_str()?.starts_with("vmlinuz-").then_some(());
    files.filter(|path| is_image(path).is_some()).min()
}

/// Puts everything that there is to be into a folder, and that into an archive as the kernel reads it.
fn pack(programs: &[&Path], script: &str, root: &Path, archive: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder)).map_err(failed)?;
    }
    let busybox = succeed(Command::new("sh").args(["-c", "command -v busybox"]))?;
    fs::copy(busybox.trim(), root.join("bin/busybox")).map_err(failed)?;
    for applet in succeed(Command::new("busybox").arg("--list"))?.lines() {
        symlink("busybox", root.join("bin").join(applet))
            .or_else(|error| if applet == "busybox" { Ok(()) } else { Err(failed(error)) })?;
    }
    let mut libraries = libraries_of(Path::new(busybox.trim()))?;
    for program in programs {
        let name = program.file_name().ok_or("a program has no name")?;
        let copy = root.join("bin").join(name);
        succeed(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
        libraries.extend(libraries_of(program)?);
    }
    for library in libraries {
        let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(inside.parent().unwrap_or(root)).map_err(failed)?;
        fs::copy(&library, inside).map_err(failed)?;
    }
    fs::write(root.join("script"), script).map_err(failed)?;
    fs::write(root.join("init"), INIT).map_err(failed)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let mut cpio = Command::new("sh");
    cpio.args(["-c", "find . | busybox cpio -o -H newc > \"$0\""]).arg(archive);
    succeed(cpio.current_dir(root)).map(|_| ())
}

/// The libraries that a program is loaded with, and what loads them; none of one that is static, which ldd(1)
/// calls a failure.
fn libraries_of(program: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let told =
        Command::new("ldd").arg(program).output().map_err(|error| format!("ldd: {error}"))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    // A line that names the program itself ends its path with a colon.
    let paths =
        told.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(PathBuf::from).collect())
}
