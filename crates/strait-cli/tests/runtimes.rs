//! What runc and crun really load of a profile, read back from the kernel, against what the import
//! says that they load: for all inputs.
//!
//! The profile is resolved for the container here a second time, as Docker and Podman do it before
//! a runtime is asked. Needs root and the runtimes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use strait_abi::Syscall;
use strait_testkit::skip;
use tempfile::TempDir;

/// Podman's default profile, as Debian ships it.
const DEBIAN: &str = "/usr/share/containers/seccomp.json";

/// The capability sets that profiles are resolved for, as `--cap` takes them.
const CAPABILITIES: [&str; 4] = ["DOCKER", "DOCKER,SYS_ADMIN", "NONE", "ALL"];

const DOCKER: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Calls that a runtime makes between loading the filter and the workload's first, and that one's.
const STARTING: &[&str] = &[
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "close",
    "close_range",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit",
    "exit_group",
    "faccessat2",
    "fchdir",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "prctl",
    "read",
    "readlinkat",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "setgid",
    "setresgid",
    "setresuid",
    "setgroups",
    "setsid",
    "setuid",
    "sigaltstack",
    "statx",
    "tgkill",
    "umask",
    "write",
];

/// All capabilities that select rules in the profiles of the field.
const SELECTING: [&str; 14] = [
    "AUDIT_CONTROL",
    "BPF",
    "DAC_READ_SEARCH",
    "NET_ADMIN",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
];

/// The capabilities that the words of `--cap` stand for.
fn capabilities(words: &str) -> Vec<String> {
    let sets = words.split(',').flat_map(|word| match word {
        "DOCKER" => DOCKER.to_vec(),
        "ALL" => [&DOCKER[..], &SELECTING, &["SYS_TTY_CONFIG"]].concat(),
        "NONE" => Vec::new(),
        one => vec![one],
    });
    sets.map(|name| format!("CAP_{name}")).collect()
}

/// A container runtime that works here.
#[derive(Clone, Copy)]
struct Runtime {
    name: &'static str,
    /// Whether it must not see the second cgroup tree of a hybrid machine.
    hides_unified: bool,
}

impl Runtime {
    /// It, if a container can be started by it here.
    fn find(name: &'static str, rootfs: &Path) -> Option<Runtime> {
        for hides_unified in [false, true] {
            let runtime = Runtime { name, hides_unified };
            match runtime.start(rootfs, &json!({"defaultAction": "SCMP_ACT_ALLOW"})) {
                Ok(_) => return Some(runtime),
                Err(error) if hides_unified => skip("runtimes", &format!("{name}: {error}")),
                Err(_) => {}
            }
        }
        None
    }

    fn command(self, state: &Path) -> Command {
        let mut command = Command::new(if self.hides_unified { "unshare" } else { self.name });
        if self.hides_unified {
            let script = "umount /sys/fs/cgroup/unified; exec \"$@\"";
            command.args(["-m", "sh", "-c", script, "sh", self.name]);
        }
        command.arg("--root").arg(state);
        command
    }

    /// Starts a container with this profile, which then waits.
    fn start(self, rootfs: &Path, profile: &Value) -> Result<Container, String> {
        let dir = TempDir::new().unwrap();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/program"],
                "cwd": "/",
            },
            "root": {"path": rootfs, "readonly": true},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}],
                "seccomp": profile,
            },
        });
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let state = dir.path().join("state");
        let pid_file = dir.path().join("pid");
        let id = format!("strait-{}-{}", std::process::id(), dir.path().display())
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let child = self
            .command(&state)
            .args(["run", "--bundle"])
            .arg(dir.path())
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&id)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let is_ready = line == "ready\n";
        let output = Some(output);
        let mut container =
            Container { runtime: self, _dir: dir, state, id, child, output, pid: 0 };
        if !is_ready {
            container.output = None;
            let mut said = String::new();
            let errors = container.child.stderr.as_mut().unwrap();
            errors.read_to_string(&mut said).unwrap();
            return Err(said.trim().to_owned());
        }
        // The runtime writes the file at about the same time.
        for _ in 0..2000 {
            let pid = fs::read_to_string(&pid_file).ok();
            if let Some(pid) = pid.and_then(|text| text.trim().parse().ok()) {
                container.pid = pid;
                return Ok(container);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("it wrote no process id".to_owned())
    }
}

/// A container that waits for somebody to read what it says.
struct Container {
    runtime: Runtime,
    _dir: TempDir,
    state: PathBuf,
    id: String,
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    pid: u32,
}

impl Drop for Container {
    fn drop(&mut self) {
        // The next thing that it says ends it.
        self.output = None;
        let mut delete = self.runtime.command(&self.state);
        let _ = delete.args(["delete", "--force", &self.id]).output();
        let _ = self.child.wait();
    }
}

/// A program that needs no call but `write`: it says that it is there, and then more than anybody
/// reads.
const PROGRAM: &str = r#"
static char text[1 << 20] = "ready\n";
static long put(const char *from, unsigned long length)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "0"(1L), "D"(1L), "S"(from), "d"(length)
		: "rcx", "r11", "memory");
	return result;
}
void _start(void)
{
	put(text, 6);
	while (put(text, sizeof(text)) >= 0)
		;
	__builtin_trap();
}
"#;

/// A root with nothing but that program.
fn rootfs(dir: &TempDir) -> Option<PathBuf> {
    let root = dir.path().join("rootfs");
    fs::create_dir_all(root.join("proc")).unwrap();
    let source = dir.path().join("program.c");
    fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc")
        .args(["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o"])
        .arg(root.join("program"))
        .arg(&source)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        skip("runtimes", "there is no C compiler");
        return None;
    }
    Some(root)
}

/// What Docker and Podman give a runtime of a profile: its architectures here, and the rules that
/// its conditions select.
fn resolve(profile: &Value, capabilities: &[String]) -> Value {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version = |text: &str| -> (u32, u32) {
        let mut numbers = text.split(['.', '-']).map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    };
    let here = version(release.trim());
    let strings = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let is_newer = |value: &Value| value.as_str().is_some_and(|wanted| here >= version(wanted));
    let selected = |rule: &Value| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let has = |name: &String| capabilities.contains(name);
        let arches = strings(&includes["arches"]);
        let excluded = strings(&excludes["arches"]).iter().any(|arch| arch == "amd64")
            || strings(&excludes["caps"]).iter().any(has)
            || is_newer(&excludes["minKernel"]);
        let included = (arches.is_empty() || arches.iter().any(|arch| arch == "amd64"))
            && strings(&includes["caps"]).iter().all(has)
            && (includes["minKernel"].is_null() || is_newer(&includes["minKernel"]));
        included && !excluded
    };
    let mut arches = strings(&profile["architectures"]);
    for entry in profile["archMap"].as_array().into_iter().flatten() {
        if entry["architecture"] == "SCMP_ARCH_X86_64" {
            arches.push("SCMP_ARCH_X86_64".to_owned());
            arches.extend(strings(&entry["subArchitectures"]));
        }
    }
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let rules = rules.filter(|rule| selected(rule)).map(|rule| {
        let mut kept = serde_json::Map::new();
        for field in ["names", "action", "errnoRet", "args"] {
            if !rule[field].is_null() {
                kept.insert(field.to_owned(), rule[field].clone());
            }
        }
        if let Value::String(name) = &rule["name"]
            && !name.is_empty()
        {
            kept.insert("names".to_owned(), json!([name]));
        }
        Value::Object(kept)
    });
    let rules: Vec<Value> = rules.collect();
    let mut resolved = json!({
        "defaultAction": profile["defaultAction"],
        "architectures": arches,
        "syscalls": rules,
    });
    if !profile["defaultErrnoRet"].is_null() {
        resolved["defaultErrnoRet"] = profile["defaultErrnoRet"].clone();
    }
    resolved
}

fn strait(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).output().unwrap()
}

/// Demands that what the runtime loads is what the import says, for all inputs.
#[track_caller]
fn agree(runtime: Runtime, rootfs: &Path, file: &Path, loaded: &Value, words: &str) {
    let what = format!("{} of {} with {words}", runtime.name, file.display());
    let container = runtime.start(rootfs, loaded).unwrap_or_else(|error| panic!("{what}: {error}"));
    let process = format!("pid:{}", container.pid);
    let file = file.to_str().unwrap();
    let args = ["prove", file, &process, "--runtime", runtime.name, "--library", "installed"];
    let output = strait(&[&args[..], &["--cap", words]].concat());
    assert_eq!(
        output.status.code(),
        Some(0),
        "{what}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs it with each runtime that works here.
fn with_runtimes(test: &str, check: impl Fn(Runtime, &Path)) {
    if !cfg!(target_arch = "x86_64") {
        return skip(test, "the profiles are resolved for x86_64");
    }
    let dir = TempDir::new().unwrap();
    let Some(rootfs) = rootfs(&dir) else { return };
    for name in ["runc", "crun"] {
        if let Some(runtime) = Runtime::find(name, &rootfs) {
            check(runtime, &rootfs);
        }
    }
}

#[test]
fn profiles_of_the_field_are_read_as_the_runtimes_load_them() {
    let shared: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "..", "shared", "profiles"].iter().collect();
    let mut files = vec![PathBuf::from(DEBIAN)];
    files.extend(
        ["moby-default.json", "containers-common.json", "docker-labs-deny.json"]
            .map(|name| shared.join(name)),
    );
    let dir = TempDir::new().unwrap();
    with_runtimes("profiles of the field", |runtime, rootfs| {
        for file in &files {
            let Ok(text) = fs::read_to_string(file) else {
                skip("profiles of the field", &format!("there is no {}", file.display()));
                continue;
            };
            let mut profile: Value = serde_json::from_str(&text).unwrap();
            let mut file = file.clone();
            if profile["syscalls"].as_array().is_some_and(Vec::is_empty) {
                // No container starts with it; so it has to allow a little.
                profile["syscalls"] = json!([{"names": STARTING, "action": "SCMP_ACT_ALLOW"}]);
                file = dir.path().join("profile.json");
                fs::write(&file, profile.to_string()).unwrap();
            }
            for words in CAPABILITIES {
                let loaded = resolve(&profile, &capabilities(words));
                agree(runtime, rootfs, &file, &loaded, words);
            }
        }
    });
}

#[test]
fn rules_that_overlap_are_read_as_the_runtimes_load_them() {
    let allow = |name: &str| json!({"names": [name], "action": "SCMP_ACT_ALLOW"});
    let arg = |index: u8, op: &str, value: u64, two: u64| json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two});
    // All calls that the profiles have no other rule for: a container can be started.
    let others = |ruled: &[&str]| {
        let names: Vec<&str> =
            Syscall::all().map(Syscall::name).filter(|name| !ruled.contains(name)).collect();
        json!({"names": names, "action": "SCMP_ACT_ALLOW"})
    };
    let trace = |name: &str| json!({"names": [name], "action": "SCMP_ACT_TRACE", "errnoRet": 7});
    let profiles = [
        // A name that is no call, one without a rule of its own number, both spellings of `name`.
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                others(&["mount", "kexec_load", "reboot", "init_module", "acct", "swapon", "uselib"]),
                allow("setsidaccept4"), trace("mount"),
                {"names": ["kexec_load"], "action": "SCMP_ACT_KILL"},
                {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["init_module"], "action": "SCMP_ACT_TRAP"},
                {"names": ["acct"], "action": "SCMP_ACT_LOG"}]}),
        // Conditions of several rules, with and without others that stand above them.
        json!({"defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                others(&["socket", "personality", "setpriority", "madvise", "mincore", "kill", "msgget"]),
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", 1, 0)]},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", 2, 0), arg(1, "NE", 3, 0)]},
                {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [arg(0, "EQ", 16, 0), arg(2, "EQ", 9, 0)]},
                {"names": ["socket"], "action": "SCMP_ACT_LOG", "args": [arg(0, "MASKED_EQ", 0x20, 0x20)]},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "LE", 8, 0)]},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", 0xffff_ffff, 0)]},
                {"names": ["setpriority"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "GT", 1, 0), arg(1, "LT", 9, 0)]},
                {"names": ["madvise", "mincore"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [arg(2, "GE", 4, 0)]},
                {"names": ["kill"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["kill"], "action": "SCMP_ACT_LOG", "args": [arg(1, "EQ", 9, 0)]},
                {"names": ["msgget"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", 0, 0)]}]}),
        // What is denied of what is allowed.
        json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["mount", "umount2"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
                {"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [arg(0, "NE", 0, 0)]},
                {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [arg(0, "MASKED_EQ", 0x1000_0000, 0x1000_0000)]}]}),
    ];
    with_runtimes("rules that overlap", |runtime, rootfs| {
        let dir = TempDir::new().unwrap();
        for profile in &profiles {
            let file = dir.path().join("profile.json");
            fs::write(&file, profile.to_string()).unwrap();
            agree(runtime, rootfs, &file, profile, "DOCKER");
        }
    });
}

#[test]
fn profiles_of_the_operator_are_read_as_the_runtimes_load_them() {
    let names = [("runc", "baseprofile-runc.yaml"), ("crun", "baseprofile-crun.yaml")];
    with_runtimes("profiles of the operator", |runtime, rootfs| {
        let (_, name) = names.into_iter().find(|(of, _)| *of == runtime.name).unwrap();
        let file: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "..", "..", "..", "shared", "profiles", name]
                .iter()
                .collect();
        if !file.exists() {
            return skip("profiles of the operator", &format!("there is no {}", file.display()));
        }
        let convert = ["convert", file.to_str().unwrap(), "--to", "oci", "--library", "installed"];
        let output = strait(&[&convert[..], &["--runtime", runtime.name]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let loaded: Value = serde_json::from_slice(&output.stdout).unwrap();
        agree(runtime, rootfs, &file, &loaded, "DOCKER");
    });
}
