//! Known decisions, against the real things: each that this machine has must be recognised by the
//! row of `known.tsv` that is for it. With `STRAIT_BLESS` set, the rows of what the machine has are
//! written anew and the others are kept.
//!
//! `STRAIT_PROFILES` names a folder with profiles as their projects publish them:
//! `moby-default.json` (moby/profiles, seccomp/default.json) and `containers-common.json`
//! (containers/common, pkg/seccomp/seccomp.json).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use rustix::process::Pid;
use strait_abi::{Arch, KernelVersion};
use strait_bpf::Decision;
use strait_kernel::task::{CAP_SYS_ADMIN, Mode, Task};
use strait_runtime::inspect::{
    CAPABILITIES, Inspector, Registry, Status, decisions_of_profile, digest_without,
    docker_capabilities,
};
use strait_testkit::cri::Cri;
use strait_testkit::engine::{Engine, Kind, Profile};
use strait_testkit::{effort, skip};

/// A digest, what it is of, in detail, and how that is known.
type Row = (String, [String; 3]);

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/inspect/known.tsv");

const HEADING: &str = "\
# Decisions that are known: SHA-256 of the decision, what it is, in detail, how that is known.
# Written and checked by `STRAIT_BLESS=1 cargo test -p strait-runtime --test known`.
";

/// Holds the rows against the file, or writes them into it.
fn hold(test: &str, rows: &[Row]) {
    if env::var_os("STRAIT_BLESS").is_none() {
        let registry = Registry::new();
        for (digest, [name, detail, _]) in rows {
            let known = registry.find(digest);
            assert!(
                known.is_some(),
                "{test}: {name}, {detail}: {digest} is in no row. If what it decides has rightly changed: \
                 STRAIT_BLESS=1 cargo test -p strait-runtime --test known"
            );
        }
        return;
    }
    let text = fs::read_to_string(FILE).unwrap();
    let mut all: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (digest, rest) = line.split_once('\t').unwrap();
        // A row of one that is written anew goes.
        if rows.iter().any(|(_, row)| rest == row.join("\t")) {
            continue;
        }
        all.insert((rest.to_owned(), digest.to_owned()), digest.to_owned());
    }
    for (digest, row) in rows {
        // One decision has one row: the first that was found.
        if !all.values().any(|known| known == digest) {
            all.insert((row.join("\t"), digest.clone()), digest.clone());
        }
    }
    let mut file = fs::File::create(FILE).unwrap();
    file.write_all(HEADING.as_bytes()).unwrap();
    for ((rest, digest), _) in all {
        writeln!(file, "{digest}\t{rest}").unwrap();
    }
}

/// How many of many rows are held against the file: all when they are written.
fn limit(rows: usize) -> usize {
    if env::var_os("STRAIT_BLESS").is_some() { usize::MAX } else { effort(rows) }
}

/// The sets of capabilities for which profiles are resolved, each with its name.
fn capability_sets() -> Vec<(u64, String)> {
    let docker = docker_capabilities();
    let all = (1 << CAPABILITIES.len()) - 1;
    let mut sets = vec![
        (docker, "Docker's default capabilities".to_owned()),
        (0, "no capabilities".to_owned()),
        (all, "all capabilities".to_owned()),
    ];
    for (bit, name) in CAPABILITIES.iter().enumerate() {
        if docker >> bit & 1 == 0 {
            sets.push((docker | 1 << bit, format!("Docker's default capabilities and {name}")));
        }
    }
    sets
}

#[test]
fn profiles_of_container_engines_are_known_for_the_usual_capabilities() {
    let folder = env::var_os("STRAIT_PROFILES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/profiles"),
        PathBuf::from,
    );
    let profiles = [
        ("Docker's default profile", "moby-default.json", "moby/profiles seccomp/default.json"),
        (
            "Podman's default profile",
            "containers-common.json",
            "containers/common pkg/seccomp/seccomp.json",
        ),
    ];
    for (name, file, source) in profiles {
        let Ok(text) = fs::read_to_string(folder.join(file)) else {
            skip("profiles_of_container_engines", &format!("STRAIT_PROFILES has no {file}"));
            continue;
        };
        let mut rows: Vec<Row> = Vec::new();
        for (capabilities, set) in capability_sets().into_iter().take(limit(3)) {
            let decisions =
                decisions_of_profile(&text, Arch::X86_64, KernelVersion::new(6, 18), capabilities);
            assert!(!decisions.is_empty());
            for (digest, how) in decisions {
                let row = [name.to_owned(), format!("{set}, {how}"), source.to_owned()];
                if !rows.iter().any(|(known, _)| *known == digest) {
                    rows.push((digest, row));
                }
            }
        }
        hold("profiles_of_container_engines", &rows);
    }
}

fn can_inspect(test: &str) -> bool {
    let own = rustix::process::getpid();
    let task = Task::read(own, own).unwrap();
    let can = task.capabilities.has_effective(CAP_SYS_ADMIN) && task.mode == Mode::Disabled;
    if !can {
        skip(test, "needs CAP_SYS_ADMIN and no filter of its own");
    }
    can
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let below = descendants(self.0.id());
        let _ = self.0.kill();
        let _ = self.0.wait();
        for pid in below {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The processes below another, as `/proc` shows them now.
fn descendants(pid: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut todo = vec![pid];
    while let Some(pid) = todo.pop() {
        // The children of each thread.
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let child: u32 = child.parse().unwrap();
                found.extend(i32::try_from(child).ok().and_then(Pid::from_raw));
                todo.push(child);
            }
        }
    }
    found
}

#[test]
fn the_sandbox_of_opensshs_pre_auth_process_is_known() {
    let test = "the_sandbox_of_opensshs_pre_auth_process";
    if !can_inspect(test) {
        return;
    }
    let (sshd, keygen) = ("/usr/sbin/sshd", "/usr/bin/ssh-keygen");
    if !Path::new(sshd).exists() || !Path::new(keygen).exists() {
        return skip(test, "openssh-server is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let made =
        Command::new(keygen).args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    fs::create_dir_all("/run/sshd").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new(sshd)
        .args(["-D", "-e", "-f", "/dev/null", "-o", "PidFile=none", "-o", "UsePAM=no"])
        .args(["-o", &format!("ListenAddress=127.0.0.1:{port}")])
        .arg("-h")
        .arg(&key)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server(server);
    let mut said = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let listens = said.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
    assert!(listens, "sshd listens");
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // It waits for the client's key exchange, in its sandbox by then.
    client.write_all(b"SSH-2.0-test\r\n").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    let mut inspector = Inspector::default();
    let sandboxed = (0..500).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        let pids = descendants(server.0.id());
        let mut processes = pids.into_iter().filter_map(|pid| inspector.inspect(pid).ok());
        processes.find(|process| process.status == Status::Filtered)
    });
    let process = sandboxed.expect("the pre-auth process is filtered");
    let [filter] = &process.stacks[0].filters[..] else { panic!("{:?}", process.stacks) };
    let version = Command::new(sshd).arg("-V").output().unwrap().stderr;
    let version = String::from_utf8_lossy(&version);
    let version =
        version.split([',', ' ']).find(|word| word.starts_with("OpenSSH_")).unwrap_or("OpenSSH");
    let row = (
        filter.decision.clone().unwrap(),
        [
            "OpenSSH's pre-auth sandbox".to_owned(),
            format!("{version}, {}", Arch::NATIVE.unwrap()),
            "read from the sandboxed process of Debian's openssh-server".to_owned(),
        ],
    );
    hold(test, &[row]);
    if env::var_os("STRAIT_BLESS").is_none() {
        assert_eq!(filter.known.as_ref().unwrap().name, "OpenSSH's pre-auth sandbox");
    }
}

/// A browser with an empty page, as an ordinary user: Chromium's sandbox is not for root.
fn browser(program: &str, options: &[&str], home: &Path) -> Server {
    let nobody = 65534;
    std::os::unix::fs::chown(home, Some(nobody), Some(nobody)).unwrap();
    let browser = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig", "KILL", program])
        .args(options)
        .args(["--headless", "about:blank"])
        .current_dir(home)
        .env("HOME", home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Server(browser.unwrap())
}

/// A process's words, which browsers make one text of.
fn command_line(pid: Pid) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// The first word of what a program says of its version that looks like one.
fn version(program: &str, home: &Path) -> String {
    let output = Command::new(program).arg("--version").env("HOME", home).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find(|word| word.contains('.')).unwrap_or_default().to_owned()
}

/// An application and its runtime, both of nothing but a static busybox, are installed for a user whose
/// home is a folder of the test.
#[test]
fn the_sandbox_of_flatpaks_applications_is_known() {
    let test = "the_sandbox_of_flatpaks_applications";
    if !can_inspect(test) {
        return;
    }
    let (flatpak, busybox) = ("/usr/bin/flatpak", "/bin/busybox");
    for program in [flatpak, busybox] {
        if !Path::new(program).exists() {
            return skip(test, &format!("{program} is not installed"));
        }
    }
    let home = tempfile::tempdir().unwrap();
    let flatpak = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", flatpak]).args(args).current_dir(home.path());
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "FLATPAK_USER_DIR"] {
            command.env(variable, home.path().join(variable));
        }
        // Nobody's session is asked for anything.
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").stdin(Stdio::null());
        command
    };
    let arch = env::consts::ARCH;
    let platform = format!("dev.strait.Platform/{arch}/1");
    for folder in ["runtime/files", "runtime/usr", "app/files/bin", "app/export", "XDG_RUNTIME_DIR"]
    {
        fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    for (folder, section, name) in
        [("runtime", "Runtime", "dev.strait.Platform"), ("app", "Application", "dev.strait.App")]
    {
        let metadata = format!("[{section}]\nname={name}\nruntime={platform}\nsdk={platform}\n");
        fs::write(home.path().join(folder).join("metadata"), metadata).unwrap();
    }
    fs::copy(busybox, home.path().join("app/files/bin/sleep")).unwrap();
    for args in [
        &["build-export", "--runtime", "--disable-sandbox", "repository", "runtime", "1"][..],
        &["build-export", "--disable-sandbox", "repository", "app", "1"],
        &["--user", "remote-add", "--no-gpg-verify", "local", "repository"],
        &["--user", "install", "--noninteractive", "local", "dev.strait.App//1"],
    ] {
        let output = flatpak(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let version = version("/usr/bin/flatpak", home.path());
    let has_row = fs::read_to_string(FILE).unwrap().contains(&format!("flatpak {version},"));
    if env::var_os("STRAIT_BLESS").is_none() && !has_row {
        return skip(test, &format!("flatpak {version} has no row; it is newer, or older"));
    }
    let mut rows: Vec<Row> = Vec::new();
    let options =
        [("", "no options"), ("--devel", "--devel"), ("--allow=multiarch", "--allow=multiarch")];
    for (option, detail) in options {
        let options = Some(option).filter(|option| !option.is_empty());
        let mut run = flatpak(&["--user", "run"]);
        run.args(options).args(["--command=sleep", "dev.strait.App//1", "1000"]);
        let run = Server(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let mut inspector = Inspector::default();
        let found = (0..1500).find_map(|_| {
            thread::sleep(Duration::from_millis(20));
            let sleeps = |pid: &Pid| command_line(*pid).starts_with("sleep ");
            let sleeping = descendants(run.0.id()).into_iter().find(sleeps)?;
            inspector.inspect(sleeping).ok().filter(|process| process.status == Status::Filtered)
        });
        let Some(process) = found else {
            return skip(test, "flatpak starts nothing here: perhaps namespaces are off");
        };
        let [filter] = &process.stacks[0].filters[..] else { panic!("{:?}", process.stacks) };
        rows.push((
            filter.decision.clone().unwrap(),
            [
                "Flatpak's sandbox".to_owned(),
                format!("flatpak {version}, {}, {detail}", Arch::NATIVE.unwrap()),
                "read from an application that Debian's flatpak runs".to_owned(),
            ],
        ));
    }
    hold(test, &rows);
}

/// Each of Firefox's sandboxes lets a process signal itself alone, and so decides by its process id.
#[test]
fn the_sandboxes_of_firefox_are_known() {
    let test = "the_sandboxes_of_firefox";
    if !can_inspect(test) {
        return;
    }
    let program = "/usr/bin/firefox-esr";
    if !Path::new(program).exists() {
        return skip(test, "firefox-esr is not installed");
    }
    let home = tempfile::tempdir().unwrap();
    let profile = home.path().to_str().unwrap();
    let browser = browser(program, &["--no-remote", "--profile", profile], home.path());
    // By the last word of the command line, which Firefox gives to each kind of process.
    let kinds = [("tab", "content"), ("rdd", "decoder"), ("socket", "network")];
    let mut found: BTreeMap<&str, BTreeMap<i32, (String, bool)>> = BTreeMap::new();
    let mut inspector = Inspector::default();
    for _ in 0..1500 {
        thread::sleep(Duration::from_millis(20));
        for pid in descendants(browser.0.id()) {
            let words = command_line(pid);
            let word = words.trim().rsplit(' ').next().unwrap_or_default();
            let Some((kind, _)) = kinds.iter().find(|(kind, _)| *kind == word) else { continue };
            let known = found.entry(kind).or_default();
            if known.contains_key(&pid.as_raw_pid()) {
                continue;
            }
            let Ok(process) = inspector.inspect(pid) else { continue };
            if process.status != Status::Filtered {
                continue;
            }
            let [filter] = &process.stacks[0].filters[..] else { panic!("{:?}", process.stacks) };
            let digest = digest_without(&filter.program, process.inner_pid.unwrap_or(pid)).unwrap();
            known.insert(pid.as_raw_pid(), (digest, filter.known.is_some()));
        }
        let is_enough = |kind: &str| {
            let wanted = if kind == "tab" { 2 } else { 1 };
            found.get(kind).is_some_and(|found| found.len() >= wanted)
        };
        if kinds.iter().all(|(kind, _)| is_enough(kind)) {
            break;
        }
    }
    if found.get("tab").is_none_or(|tabs| tabs.len() < 2) {
        return skip(test, "no two confined content processes: perhaps the sandbox is off");
    }
    let version = version(program, home.path());
    let mut rows: Vec<Row> = Vec::new();
    for (kind, name) in kinds {
        let mut digests = found.get(kind).into_iter().flatten().map(|(_, (digest, _))| digest);
        let Some(digest) = digests.next() else { continue };
        assert!(digests.all(|other| other == digest), "{kind}: alike but for their ids: {found:?}");
        let detail = format!("version {version}, {}, for its own process", Arch::NATIVE.unwrap());
        let source = format!("read from a {kind} process of Debian's firefox-esr");
        rows.push((digest.clone(), [format!("Firefox's {name} sandbox"), detail, source]));
    }
    let all_known = found.values().flatten().all(|(_, (_, known))| *known);
    if env::var_os("STRAIT_BLESS").is_none() && !all_known {
        // Its filters change with its version, and Debian follows those.
        return skip(test, &format!("Firefox {version} has no row; the browser is newer"));
    }
    hold(test, &rows);
}

#[test]
fn the_sandbox_of_chromiums_renderers_is_known() {
    let test = "the_sandbox_of_chromiums_renderers";
    if !can_inspect(test) {
        return;
    }
    let Some(program) = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"]
        .into_iter()
        .find(|program| Path::new(program).exists())
    else {
        return skip(test, "neither chromium-headless-shell nor chromium is installed");
    };
    let home = tempfile::tempdir().unwrap();
    let options = ["--no-first-run", "--remote-debugging-port=0"];
    let browser = browser(program, &options, home.path());
    let renderer = |pid: &Pid| command_line(*pid).contains("--type=renderer");
    let mut inspector = Inspector::default();
    let found = (0..1500).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        let renderers = descendants(browser.0.id()).into_iter().filter(renderer);
        let mut processes = renderers.filter_map(|pid| inspector.inspect(pid).ok());
        processes.find(|process| process.status == Status::Filtered)
    });
    let Some(process) = found else {
        return skip(test, "no renderer with a filter: perhaps unprivileged namespaces are off");
    };
    let [filter] = &process.stacks[0].filters[..] else { panic!("{:?}", process.stacks) };
    let version = version(program, home.path());
    let row = (
        filter.decision.clone().unwrap(),
        [
            "Chromium's renderer sandbox".to_owned(),
            format!("version {version}, {}", Arch::NATIVE.unwrap()),
            "read from a renderer of Debian's chromium-headless-shell".to_owned(),
        ],
    );
    if env::var_os("STRAIT_BLESS").is_none() && filter.known.is_none() {
        // Its filter changes with its version, and Debian follows those.
        return skip(test, &format!("Chromium {version} has no row; the browser is newer"));
    }
    hold(test, &[row]);
}

/// The groups of calls that this systemd knows, with their members; groups within are resolved.
fn systemd_groups() -> Option<BTreeMap<String, Vec<String>>> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in text.lines() {
        let word = line.trim();
        if word.is_empty() || word.starts_with('#') {
            continue;
        }
        if line.starts_with('@') {
            group = word.to_owned();
            groups.entry(group.clone()).or_default();
        } else {
            groups.entry(group.clone()).or_default().push(word.to_owned());
        }
    }
    let mut resolved = groups.clone();
    for members in resolved.values_mut() {
        while let Some(at) = members.iter().position(|member| member.starts_with('@')) {
            let inner = members.remove(at);
            members.extend(groups.get(&inner)?.iter().cloned());
        }
    }
    (!resolved.is_empty()).then_some(resolved)
}

#[test]
fn the_groups_of_systemd_are_known() {
    let test = "the_groups_of_systemd";
    let Some(groups) = systemd_groups() else {
        return skip(test, "there is no systemd-analyze");
    };
    let compiler =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("systemd-{}", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd.c");
    let mut built = Command::new("cc");
    let built =
        built.arg("-o").arg(&compiler).args([source, "-lseccomp"]).stderr(Stdio::null()).status();
    if !built.is_ok_and(|status| status.success()) {
        return skip(test, "no C compiler, or no libseccomp to link");
    }
    let version = Command::new("systemd-analyze").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let version: Vec<&str> = version.split_whitespace().take(2).collect();
    let source = format!(
        "groups of systemd-analyze syscall-filter ({}), compiled as seccomp-util.c does",
        version.join(" ")
    );
    let (allow, eperm, kill) = ("7fff0000", "50001", "80000000");
    let mut rows: Vec<Row> = Vec::new();
    for (group, members) in groups.iter().take(limit(6)) {
        for arch in ["x86_64", "x32", "x86"] {
            // What an allow-list always has besides.
            let always = groups["@default"].iter();
            let listed: Vec<&str> = always.chain(members).map(String::as_str).collect();
            let denied: Vec<&str> = members.iter().map(String::as_str).collect();
            let spellings = [
                (format!("SystemCallFilter=~{group} (EPERM)"), allow, eperm, &denied),
                (format!("SystemCallFilter=~{group} (kill)"), allow, kill, &denied),
                (format!("SystemCallFilter={group} (EPERM)"), eperm, allow, &listed),
                (format!("SystemCallFilter={group} (kill)"), kill, allow, &listed),
            ];
            for (directive, default, action, names) in spellings {
                let mut output = Command::new(&compiler);
                let output = output.args([arch, default, action]).args(names).output().unwrap();
                assert!(output.status.success(), "{directive} on {arch}");
                let program = strait_bpf::Program::from_bytes(&output.stdout).unwrap();
                let digest = strait_runtime::inspect::digest(&Decision::of(&program).unwrap());
                let row = ["systemd's ".to_owned() + &directive, arch.to_owned(), source.clone()];
                if !rows.iter().any(|(known, _)| *known == digest) {
                    rows.push((digest, row));
                }
            }
        }
    }
    let _ = fs::remove_file(compiler);
    hold(test, &rows);
}

#[test]
fn one_call_more_is_another_decision() {
    let decision = |denied: &str| {
        let text =
            format!("ld [0]\njeq #{denied}, no, yes\nyes: ret #0x7fff0000\nno: ret #0x50001");
        let program = strait_bpf::Program::assemble(&text).unwrap();
        strait_runtime::inspect::digest(&Decision::of(&program).unwrap())
    };
    assert_eq!(decision("3"), decision("3"));
    assert_ne!(decision("3"), decision("4"));
}

/// The profiles that stand in no file: what engines make of them is read from a container.
#[test]
fn the_default_profiles_of_engines_are_known() {
    let test = "the_default_profiles_of_engines_are_known";
    for (kind, program, name, package) in [
        (Kind::Docker, "dockerd", "Docker's default profile", "docker.io"),
        (Kind::Containerd, "containerd", "containerd's default profile", "containerd"),
    ] {
        let Some(engine) = Engine::start(kind, test) else { continue };
        let version = |program: &str| {
            let output = Command::new(program).arg("--version").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
            let word = text.split_whitespace().find(number).unwrap_or_default().to_owned();
            word.split(['+', '~', ',']).next().unwrap_or_default().to_owned()
        };
        let detail = format!(
            "{program} {}, runc {}, Docker's default capabilities",
            version(program),
            version("runc")
        );
        let source = format!("read from a container of Debian's {package}");
        let pid = engine.run("default", Profile::Default, &[], &["/bin/sleep", "1000"]).unwrap();
        let process = Inspector::default().inspect(Pid::from_raw(pid).unwrap()).unwrap();
        let [stack] = &process.stacks[..] else { panic!("one thread: {process:?}") };
        let [filter] = &stack.filters[..] else { panic!("one filter: {stack:?}") };
        let digest = filter.decision.clone().unwrap();
        hold(test, &[(digest, [name.to_owned(), detail, source])]);
    }
}

/// The same of containerd 2 by its CRI. Its release moves on, and with it its profile: of another
/// nothing is said.
#[test]
fn the_default_profile_of_pods_is_known() {
    const RELEASE: &str = "2.1.9";
    let test = "the_default_profile_of_pods_is_known";
    let Some(cri) = Cri::start(test, str::to_owned) else { return };
    let release = cri.release();
    if release != RELEASE {
        skip(test, &format!("it is of containerd {RELEASE}, and here is {release}"));
        return;
    }
    let pod = cri.pod("known", &[], "").unwrap();
    let container = cri.run(&pod, "default", true, &["/bin/sleep", "1000"]).unwrap();
    let pid = Pid::from_raw(cri.pid(&container).unwrap()).unwrap();
    let process = Inspector::default().inspect(pid).unwrap();
    let [stack] = &process.stacks[..] else { panic!("one thread: {process:?}") };
    let [filter] = &stack.filters[..] else { panic!("one filter: {stack:?}") };
    let digest = filter.decision.clone().unwrap();
    let name = "containerd's default profile".to_owned();
    let detail = format!("containerd {RELEASE} (CRI), runc 1.1.5, Docker's default capabilities");
    let source = "read from a container of Debian's containerd".to_owned();
    hold(test, &[(digest, [name, detail, source])]);
}
