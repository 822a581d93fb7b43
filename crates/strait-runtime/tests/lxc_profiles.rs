//! Profiles are read as the LXC that is installed loads them: it starts a program under each, and what
//! the kernel then holds is compared with what the import says, for all inputs. A profile that the
//! import refuses is one with which LXC starts nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peers;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peers::{Comparison, cannot_read, filters, idler, process, target};
use strait_abi::Syscall;
use strait_policy::format::lxc;
use strait_testkit::skip;

/// What none of the programs under test calls.
const FREE: &[&str] = &["alarm", "getitimer", "personality", "socket", "uname", "semop", "sync"];

/// Profiles of version 2 after their first line; `*` stands for everything that is not [`FREE`].
const PROFILES: &[&str] = &[
    "denylist\nreject_force_umount  # comment\n[all]\nkexec_load errno 1\nalarm trap\n",
    "blacklist\n[x86]\nalarm errno 1\n[arm64]\ngetitimer errno 2\n[ALL]\nuname errno 3\n",
    "denylist\nsocket errno 97 [0,2,==]\nmmap2 errno 1 [0,1,<=]\nfcntl64 trap\nsemop errno 3\n",
    "denylist\nioctl errno 1 [1,0x9400,SCMP_CMP_MASKED_EQ,0xff00]\npersonality errno 010 [0,8,!=]\n",
    "denylist\nuname errno 1\nuname errno 2\nnosuchcall errno 4\nsetsidaccept4\n",
    "denylist errno 5\n*allow\nalarm allow\n",
    "allowlist\n*\nalarm\nalarm\npersonality allow [0,1,==]\npersonality allow [0,3,==]\n",
    "whitelist errno 7x\n*\npersonality allow [0,0,SCMP_CMP_GT][1,2,<]\nuname errno 3\n",
    "allowlist trap\n*\nsocket kill [0,1,>]\nsync allow # comment\n",
    // Refused.
    "allowlist\n*\nalarm kill\n",
    "denylist\nalarm allow\n",
    "denylist\nalarm [0,1,==]\n",
    "denylist\nalarm errno 1 [0,1,==] # comment\n",
    "denylist\nalarm errno 1 [0,1,==][0,2,==]\n",
    "denylist\nalarm errno 1 [6,1,==]\n",
    "denylist\nalarm errno 1 [0,x,==]\n",
    "denylist\nalarm errno EPERM\n",
    "denylist\nalarm errno 9999\n",
    "denylist deny\nalarm\n",
    "graylist\nalarm\n",
    "denylist\n[vax]\nalarm errno 1\n",
    "denylist debug\nalarm errno 1\n",
];

/// LXC with a program; both end with this.
struct Container(Child);

impl Container {
    fn start(folder: &Path, name: &str, profile: &str, program: &Path) -> Container {
        let file = folder.join(format!("{name}.profile"));
        let config = folder.join(format!("{name}.conf"));
        fs::write(&file, profile).unwrap();
        let settings = "lxc.rootfs.path = /\nlxc.uts.name = strait\nlxc.net.0.type = none\n";
        fs::write(&config, format!("{settings}lxc.seccomp.profile = {}\n", file.display()))
            .unwrap();
        let mut lxc = Command::new("lxc-execute");
        lxc.args(["-n", name, "-P"]).arg(folder).arg("-f").arg(config);
        lxc.arg("--").arg(program).arg(name);
        lxc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Container(lxc.spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

fn filled(profile: &str) -> String {
    let rest = |action: &str| -> String {
        let calls = Syscall::all().filter(|call| !FREE.contains(&call.name()));
        calls.map(|call| format!("{} {action}\n", call.name())).collect()
    };
    let filled = profile.replace("*allow\n", &rest("allow")).replace("*\n", &rest(""));
    format!("2\n{filled}")
}

fn version_1() -> String {
    let arch = strait_abi::Arch::NATIVE.unwrap();
    let calls = Syscall::all().filter(|call| !FREE.contains(&call.name()));
    let numbers: String =
        calls.filter_map(|call| call.number(arch)).map(|nr| format!("{nr} x\n")).collect();
    format!("1\nallowlist\n{numbers}999\n")
}

#[test]
fn profiles_are_read_as_lxc_loads_them() {
    const NAME: &str = "profiles_are_read_as_lxc_loads_them";
    if let Some(reason) = cannot_read() {
        return skip(NAME, reason);
    }
    let version = Command::new("lxc-execute").arg("--version").output();
    match version.ok().and_then(|output| String::from_utf8(output.stdout).ok()) {
        Some(text) if text.starts_with("5.0") => {}
        _ => return skip(NAME, "LXC 5.0 is not installed (package lxc of Debian 12)"),
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = idler(folder.path()) else {
        return skip(NAME, "no C compiler");
    };
    let started = |name: &str, profile: &str| {
        let mut container = Container::start(folder.path(), name, profile, &program);
        let pid = loop {
            let pid = process(&program, name, Duration::from_millis(50));
            if pid.is_some() || container.has_ended() {
                break pid;
            }
        };
        let filters = pid.map(filters);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        filters
    };
    if started("trial", "2\ndenylist\nkexec_load errno 1\n").is_none() {
        return skip(NAME, "LXC starts no containers here");
    }
    let mut profiles: Vec<String> = PROFILES.iter().map(|profile| filled(profile)).collect();
    profiles.extend([version_1(), "1\nallowlist\nread\n".to_owned(), "3\nallowlist\n".to_owned()]);
    let mut comparison = Comparison::default();
    let mut compared = 0;
    for (index, profile) in profiles.iter().enumerate() {
        let filters = started(&format!("profile{index}"), profile);
        let about: String = profile
            .lines()
            .filter(|line| line.len() > 24 || !profile.contains("accept4 "))
            .take(20)
            .collect::<Vec<_>>()
            .join("\n");
        match (lxc::import(profile, &target()), filters) {
            (Ok(imported), Some(filters)) => {
                comparison.compare(&about, &imported.policy, &filters);
                compared += 1;
            }
            (Err(_), None) => {}
            (imported, filters) => {
                panic!(
                    "LXC started: {}, import: {:?}, for\n{about}",
                    filters.is_some(),
                    imported.err()
                );
            }
        }
    }
    comparison.finish();
    assert!(compared >= 10, "{compared}");
}
