//! Units are read as the systemd that is installed loads filters for them. It runs in namespaces
//! of its own, with the test's units and no others; what the kernel holds for each service is
//! compared with what the import says, for all inputs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peers;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peers::{Comparison, cannot_read, filters, idler, process, target};
use strait_policy::format::systemd;
use strait_testkit::generate::Rng;
use strait_testkit::{effort, skip};

/// A systemd of its own; it and all that it started end with this.
struct Manager(Child);

impl Manager {
    fn start(units: &Path) -> Manager {
        let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && \
            mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
            exec /lib/systemd/systemd --system --unit=strait.target --log-target=null \
                --show-status=false";
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--cgroup", "--ipc", "--uts", "--fork", "--mount-proc"]);
        unshare.args(["--kill-child", "sh", "-c", script]);
        unshare.env("container", "strait").env("SYSTEMD_UNIT_PATH", units);
        unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: nothing of this test is signalled with it.
        Manager(unshare.process_group(0).spawn().unwrap())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each setting, and how they go together.
const UNITS: &[&str] = &[
    "",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\nSystemCallErrorNumber=EPERM",
    "SystemCallFilter=~@mount:ENOSYS @clock kexec_load:kill ptrace:255 reboot:0",
    "SystemCallFilter=read write pause",
    "SystemCallFilter=~read:EACCES\nSystemCallFilter=write read\nSystemCallErrorNumber=1",
    "SystemCallFilter=@basic-io\nSystemCallFilter=~write:ENOSYS\nSystemCallErrorNumber=EPERM",
    "SystemCallFilter=@basic-io @default\nSystemCallFilter=~readv:kill @aio:EACCES mount:2\nSystemCallErrorNumber=EPERM",
    "SystemCallFilter=@basic-io @default\nSystemCallFilter=~mount:EPERM\nSystemCallErrorNumber=EPERM",
    "DynamicUser=maybe",
    "SystemCallFilter=@basic-io\nSystemCallFilter=~write:ENOSYS\nSystemCallFilter=~write\nSystemCallFilter=~read\nSystemCallFilter=~read:EIO",
    "SystemCallFilter=mount\nSystemCallFilter=\nSystemCallFilter=~@raw-io",
    "SystemCallFilter=setsidaccept4 @nothing read:EPERM umount2 breakx afs_syscall mmap2",
    "SystemCallFilter=~socket shmat socketcall recv\nSystemCallErrorNumber=EAFNOSUPPORT",
    "SystemCallFilter=@known\nSystemCallErrorNumber=kill",
    "SystemCallFilter=@known\nSystemCallErrorNumber=0",
    "SystemCallFilter=~",
    "SystemCallFilter=~\nSystemCallFilter=read",
    "SystemCallFilter=@system-service \\\n ; comment\n  @mount \\\n# another\n  @swap\nSystemCallErrorNumber=EPREM",
    "SystemCallArchitectures=native",
    "SystemCallArchitectures=native\nSystemCallFilter=@system-service",
    "SystemCallArchitectures=native\nSystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM",
    "SystemCallArchitectures=x86-64 x86",
    "SystemCallArchitectures=x32",
    "SystemCallArchitectures=arm64",
    "SystemCallArchitectures=s390x",
    "SystemCallArchitectures=mips",
    "SystemCallArchitectures=arm64 s390x mips",
    "SystemCallArchitectures=x86_64",
    "SystemCallArchitectures=native\nSystemCallArchitectures=",
    "SystemCallLog=@file-system read",
    "SystemCallLog=~@file-system",
    "SystemCallLog=@mount\nSystemCallFilter=@system-service @mount\nSystemCallErrorNumber=EPERM",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictAddressFamilies=~AF_PACKET AF_NETLINK",
    "RestrictAddressFamilies=none",
    "RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=~AF_UNIX",
    "RestrictAddressFamilies=~AF_UNIX\nRestrictAddressFamilies=AF_UNIX",
    "RestrictAddressFamilies=AF_INET AF_NOTHING UNIX\nRestrictAddressFamilies=",
    "RestrictAddressFamilies=AF_QIPCRTR AF_LOCAL AF_ROUTE AF_MCTP AF_XDP",
    "RestrictNamespaces=yes",
    "RestrictNamespaces=no",
    "RestrictNamespaces=user mnt",
    "RestrictNamespaces=~user",
    "RestrictNamespaces=~user cgroup\nRestrictNamespaces=~net\nRestrictNamespaces=cgroup",
    "RestrictNamespaces=user time",
    "MemoryDenyWriteExecute=yes",
    "MemoryDenyWriteExecute=on\nSystemCallFilter=~mmap:ENOMEM mprotect",
    "RestrictRealtime=true",
    "LockPersonality=1",
    "LockPersonality=yes\nPersonality=x86",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=maybe\nProtectClock=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes",
    "ProtectKernelTunables=yes\nProtectHostname=yes\nPrivateDevices=yes",
    "ProtectClock=yes\nProtectClock=\nRestrictRealtime=no",
    "RestrictNamespaces=yes\nMemoryDenyWriteExecute=yes\nRestrictRealtime=yes\nLockPersonality=yes\n\
     RestrictSUIDSGID=yes\nRestrictAddressFamilies=AF_UNIX\nSystemCallArchitectures=native\n\
     SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM",
];

/// Settings at random.
fn random_unit(rng: &mut Rng) -> String {
    const WORDS: &[&str] = &[
        "@file-system",
        "@network-io",
        "@process",
        "@ipc",
        "@signal",
        "@default",
        "@obsolete",
        "read",
        "write",
        "openat",
        "clone3",
        "socket",
        "shmat",
        "fcntl64",
        "mmap2",
        "chown32",
        "sendmsg",
        "semop",
    ];
    const SETTINGS: &[&str] = &[
        "MemoryDenyWriteExecute=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "RestrictNamespaces=~user",
        "RestrictAddressFamilies=AF_UNIX AF_INET",
        "RestrictAddressFamilies=~AF_PACKET",
        "SystemCallArchitectures=native",
        "SystemCallArchitectures=x86-64 x32",
        "ProtectClock=yes",
        "SystemCallErrorNumber=EPERM",
        "SystemCallErrorNumber=ENOSYS",
    ];
    let mut lines = Vec::new();
    for _ in 0..rng.below(4) {
        let key = rng.pick(&["SystemCallFilter", "SystemCallFilter", "SystemCallLog"]);
        let invert = rng.one_in(2);
        let mut line = format!("{key}={}", if invert { "~" } else { "" });
        for _ in 0..1 + rng.below(4) {
            line.push_str(rng.pick(WORDS));
            if invert && key == "SystemCallFilter" {
                line.push_str(rng.pick(&["", "", ":EACCES", ":ENOSYS"]));
            }
            line.push(' ');
        }
        lines.push(line);
    }
    for _ in 0..rng.below(4) {
        lines.push(rng.pick(SETTINGS).to_owned());
    }
    // What the service itself calls.
    if lines.iter().any(|line| line.starts_with("SystemCallFilter")) {
        lines.push(
            "SystemCallFilter=".to_owned()
                + if rng.one_in(2) { "execve pause" } else { "@default" },
        );
    }
    lines.join("\n")
}

#[test]
fn units_are_read_as_systemd_loads_them() {
    const NAME: &str = "units_are_read_as_systemd_loads_them";
    if let Some(reason) = cannot_read() {
        return skip(NAME, reason);
    }
    let version = Command::new("systemd-analyze").arg("--version").output();
    match version.ok().and_then(|output| String::from_utf8(output.stdout).ok()) {
        Some(text) if text.starts_with("systemd 252") => {}
        _ => return skip(NAME, "systemd 252 is not installed (package systemd of Debian 12)"),
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = idler(folder.path()) else {
        return skip(NAME, "no C compiler");
    };
    let mut rng = Rng::new(252);
    let mut settings: Vec<String> = UNITS.iter().map(|unit| (*unit).to_owned()).collect();
    settings.extend((0..effort(24)).map(|_| random_unit(&mut rng)));

    let units = folder.path().join("units");
    fs::create_dir(&units).unwrap();
    let mut names = Vec::new();
    let mut texts = Vec::new();
    for (index, settings) in settings.iter().enumerate() {
        let name = format!("unit{index}.service");
        let text = format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={} {name}\n{settings}\n",
            program.display()
        );
        fs::write(units.join(&name), &text).unwrap();
        names.push(name);
        texts.push(text);
    }
    let list = names.join(" ");
    let target_unit = format!("[Unit]\nDefaultDependencies=no\nWants={list} last.service\n");
    fs::write(units.join("strait.target"), target_unit).unwrap();
    let last = format!(
        "[Unit]\nDefaultDependencies=no\nAfter={list}\n[Service]\nExecStart={} last\n",
        program.display()
    );
    fs::write(units.join("last.service"), last).unwrap();

    let _manager = Manager::start(&units);
    if process(&program, "last", Duration::from_secs(60)).is_none() {
        return skip(NAME, "systemd does not start services in namespaces here");
    }
    let mut comparison = Comparison::default();
    for (name, text) in names.iter().zip(&texts) {
        // A unit that the import refuses is one that systemd does not start.
        let imported = systemd::import(text, &target());
        let patience = if imported.is_ok() { Duration::from_secs(20) } else { Duration::ZERO };
        match (imported, process(&program, name, patience)) {
            (Ok(imported), Some(pid)) => comparison.compare(text, &imported.policy, &filters(pid)),
            (Err(_), None) => {}
            (imported, started) => {
                panic!("systemd: {started:?}, import: {imported:?}, for\n{text}")
            }
        }
    }
    comparison.finish();
}
