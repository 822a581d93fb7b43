//! Other circumstances than root's on a terminal: no privileges, interrupts, programs that are too
//! long.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use strait_testkit::skip;
use tempfile::TempDir;

/// A folder that everybody may use, with a copy of the binary that everybody may execute.
fn open_folder() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let strait = dir.path().join("strait");
    fs::copy(env!("CARGO_BIN_EXE_strait"), &strait).unwrap();
    (dir, strait)
}

/// Runs strait as a user without any privilege; `None`, said, where that cannot be done.
fn as_nobody(name: &str, dir: &TempDir, strait: &Path, args: &[&str]) -> Option<Output> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !root || !Path::new("/usr/bin/setpriv").exists() {
        skip(name, "becoming another user needs root and setpriv");
        return None;
    }
    let output = Command::new("/usr/bin/setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(strait)
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Some(output)
}

#[test]
fn without_privileges_ptrace_takes_over_and_says_so() {
    let (dir, strait) = open_folder();
    let args = ["tighten", "--json", "-o", "policy.yaml", "--", "sh", "-c", "ls / | wc -l"];
    let name = "without_privileges_ptrace_takes_over_and_says_so";
    let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout).expect(&stderr);
    assert_eq!(output.status.code(), Some(0), "{json:#}\n{stderr}");
    assert_eq!(json["recording"]["engine"]["name"], "ptrace");
    let reason = json["recording"]["engine"]["reason"].as_str().unwrap();
    assert!(reason.contains("eBPF is not available"), "{reason}");
    assert_eq!(json["behavedAsFirst"], true, "{json:#}");
    // Nobody may read a filter back without CAP_SYS_ADMIN: that is said, not passed over.
    assert_eq!(json["confined"]["verification"]["verified"], "no", "{json:#}");
    assert!(json["confined"]["verification"]["reason"].is_string());
    assert!(dir.path().join("policy.yaml").exists());
}

#[test]
fn without_privileges_a_command_is_recorded_by_notify_and_it_is_said_why() {
    let (dir, strait) = open_folder();
    let name = "without_privileges_a_command_is_recorded_by_notify_and_it_is_said_why";
    for (options, is_said) in [(&[][..], true), (&["--engine", "notify"], false)] {
        let args = [&["record", "-o", "r.json"], options, &["--", "true"]].concat();
        let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("; notify ("), "{stderr}");
        assert_eq!(stderr.contains("strait: eBPF is not available: "), is_said, "{stderr}");
    }
}

#[test]
fn without_privileges_ebpf_is_refused_by_name() {
    let (dir, strait) = open_folder();
    let args = ["record", "--engine", "ebpf", "-o", "r.json", "--", "touch", "ran"];
    let name = "without_privileges_ebpf_is_refused_by_name";
    let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("CAP_BPF"), "{stderr}");
    assert!(!dir.path().join("ran").exists() && !dir.path().join("r.json").exists());
}

#[test]
fn without_privileges_commands_run_confined() {
    let (dir, strait) = open_folder();
    let name = "without_privileges_commands_run_confined";
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: no-folders}
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [mkdir, mkdirat], action: errno(EXDEV)}
";
    fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    let args = ["run", "--policy", "policy.yaml", "--", "mkdir", "made"];
    let Some(output) = as_nobody(name, &dir, &strait, &args) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cross-device"), "the errno is the policy's: {stderr}");
    assert!(!dir.path().join("made").exists());
}

#[test]
fn an_interrupted_recording_is_written_and_says_so() {
    let dir = TempDir::new().unwrap();
    let script = "trap 'exit 7' INT; echo started > mark; while :; do sleep 0.05; done";
    let child = start(&dir, &["record", "-o", "r.json", "--", "sh", "-c", script]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The command ended by itself when it was asked to, and its status is passed on.
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    let recording = fs::read_to_string(dir.path().join("r.json")).unwrap();
    let recording: Value = serde_json::from_str(&recording).unwrap();
    assert_eq!(recording["completeness"]["interrupted"], true);
    assert_eq!(recording["exit"]["status"], 7);
}

#[test]
fn an_interrupted_tighten_keeps_the_policy_and_does_not_run_again() {
    let dir = TempDir::new().unwrap();
    let script = "echo started >> mark; while :; do sleep 0.05; done";
    let child = start(&dir, &["tighten", "-o", "p.yaml", "--", "sh", "-c", script]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert!(dir.path().join("p.yaml").exists());
    assert_eq!(fs::read_to_string(dir.path().join("mark")).unwrap(), "started\n");
}

/// Shells tell a signal by 128 and its number, and so does tighten, which signal it may be and
/// whether it comes to strait alone or to the command as well.
#[test]
fn an_interrupted_tighten_tells_the_signal() {
    for (signal, status) in [("HUP", 129), ("INT", 130), ("QUIT", 131), ("TERM", 143)] {
        for group in [false, true] {
            for engine in ["auto", "ptrace"] {
                let dir = TempDir::new().unwrap();
                let script = "echo started >> mark; while :; do sleep 0.05; done";
                let args = ["tighten", "--engine", engine, "-o", "p.yaml", "--json", "--"];
                let child = start(&dir, &[&args[..], &["sh", "-c", script]].concat());
                let to = format!("{}{}", if group { "-" } else { "" }, child.id());
                let kill = Command::new("kill").args(["-s", signal, "--", &to]).status().unwrap();
                assert!(kill.success());
                let output = child.wait_with_output().unwrap();
                let stderr = String::from_utf8_lossy(&output.stderr);
                let what = format!("{signal}, group: {group}, {engine}");
                assert_eq!(output.status.code(), Some(status), "{what}: {stderr}");
                assert_eq!(fs::read_to_string(dir.path().join("mark")).unwrap(), "started\n");
            }
        }
    }
}

#[test]
fn a_recording_that_is_ended_with_its_group_is_marked() {
    for engine in ["auto", "ptrace"] {
        let dir = TempDir::new().unwrap();
        let script = "echo started >> mark; while :; do sleep 0.05; done";
        let args = ["record", "--engine", engine, "-o", "r.json", "--", "sh", "-c", script];
        let child = start(&dir, &args);
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-TERM", "--", &group]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(15), "{engine}");
        let recording = fs::read_to_string(dir.path().join("r.json")).unwrap();
        let recording: Value = serde_json::from_str(&recording).unwrap();
        assert_eq!(recording["completeness"]["interrupted"], true, "{engine}");
        assert_eq!(recording["exit"]["signal"], 15, "{engine}");
    }
}

/// Starts strait, in a process group of its own, and waits until the command has written `mark`.
fn start(dir: &TempDir, args: &[&str]) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    // Bounded, so that a failure ends the test; how long it takes says nothing.
    let end = Instant::now() + Duration::from_secs(60);
    let started = || fs::read(dir.path().join("mark")).is_ok_and(|mark| !mark.is_empty());
    while !started() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(started(), "the command did not start");
    child
}

/// What kill(1) sends to strait alone, not what a terminal sends to the whole group.
fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_that_ends_the_command_ends_strait() {
    let dir = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["record", "-q", "-o", "/dev/null", "--", "sh", "-c", "kill -KILL $$"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9));
}

#[test]
fn a_policy_that_fits_no_program_is_refused_and_runs_nothing() {
    let dir = TempDir::new().unwrap();
    let mut policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: too-long}
spec:
  architectures: [x86_64]
  default: errno(EPERM)
  rules:
"
    .to_owned();
    // Values without a pattern, each of which takes an instruction or more.
    let mut value = 1_u64;
    for call in ["lseek", "mmap", "munmap"] {
        let mut values = Vec::new();
        for _ in 0..1000 {
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            values.push((value >> 1).to_string());
        }
        let (argument, list) = (if call == "lseek" { "offset" } else { "len" }, values.join(", "));
        let _ = writeln!(
            policy,
            "    - {{syscalls: [{call}], when: \"{argument} in {{{list}}}\", action: allow}}"
        );
    }
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    for (args, status) in
        [(&["compile", "p.yaml"][..], 2), (&["run", "-p", "p.yaml", "--", "touch", "ran"], 125)]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains("4096") && stderr.contains("p.yaml"), "{stderr}");
    }
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn every_run_reads_standard_input_from_its_beginning() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("in"), "line\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["tighten", "-o", "p.yaml", "--runs", "2", "--", "sh", "-c", "cat >> out"])
        .current_dir(dir.path())
        .stdin(fs::File::open(dir.path().join("in")).unwrap())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), "line\nline\nline\n");
}

/// Tightens a command with a pipe for standard input, which `input` fills and closes.
fn tighten_fed(
    dir: &TempDir,
    options: &[&str],
    command: &[&str],
    input: impl FnOnce(std::process::ChildStdin) + Send + 'static,
) -> Output {
    let mut strait = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["tighten", "-o", "p.yaml"])
        .args(options)
        .arg("--")
        .args(command)
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = strait.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || input(pipe));
    let output = strait.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// Writes until nobody reads any more.
fn endless(mut pipe: std::process::ChildStdin) {
    while std::io::Write::write_all(&mut pipe, &[b'x'; 4096]).is_ok() {}
}

#[test]
fn every_run_gets_the_same_from_a_pipe() {
    let dir = TempDir::new().unwrap();
    // More than a pipe holds, so that it has to be fed while the command reads.
    let lines: String = (0..100_000).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "line {line}");
        text
    });
    let sum = ["sh", "-c", "cksum >> sums"];
    let output = tighten_fed(&dir, &["--runs", "2"], &sum, move |mut pipe| {
        std::io::Write::write_all(&mut pipe, lines.as_bytes()).unwrap();
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("standard input"), "{stderr}");
    let sums = fs::read_to_string(dir.path().join("sums")).unwrap();
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums.len(), 3);
    assert!(sums.iter().all(|sum| *sum == sums[0] && sum.contains(" 1088890")), "{sums:?}");
}

#[test]
fn a_pipe_that_is_not_read_to_its_end_goes_on_where_the_next_run_needs_it() {
    let dir = TempDir::new().unwrap();
    // The second run reads further than the first.
    let script = "test -e mark && size=300000 || size=10; : > mark; head -c $size | wc -c >> sizes";
    let output = tighten_fed(&dir, &["--runs", "2"], &["sh", "-c", script], endless);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let sizes = fs::read_to_string(dir.path().join("sizes")).unwrap();
    assert_eq!(sizes.split_whitespace().collect::<Vec<_>>(), ["10", "300000", "300000"]);
}

#[test]
fn a_command_gets_its_input_as_it_comes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("answer");
    let script = "read word; echo got $word > answer; read word; echo $word";
    let output = tighten_fed(&dir, &[], &["sh", "-c", script], move |mut pipe| {
        std::io::Write::write_all(&mut pipe, b"one\n").unwrap();
        // The second word is there only after the first was answered.
        let end = Instant::now() + Duration::from_secs(60);
        while fs::read_to_string(&path).unwrap_or_default() != "got one\n" && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::io::Write::write_all(&mut pipe, b"two\n").unwrap();
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "two\ntwo\n");
}

#[test]
fn one_run_has_the_pipe_itself() {
    let dir = TempDir::new().unwrap();
    let output = tighten_fed(&dir, &["--once"], &["head", "-c", "3"], endless);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"xxx");
}

#[test]
fn a_socket_can_be_read_once_only_and_that_is_told() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &ours, b"line\n").unwrap();
    drop(ours);
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["tighten", "-o", "p.yaml", "--", "cat"])
        .current_dir(dir.path())
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"line\n");
    assert!(stderr.contains("standard input"), "{stderr}");
}

#[test]
fn what_was_closed_at_the_start_is_no_place_for_data() {
    let dir = TempDir::new().unwrap();
    let run = |script: &str| {
        let output = Command::new("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_strait")])
            .current_dir(dir.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (script, status) in [
        ("$1 tighten -- touch ran >&-", 2),
        ("$1 tighten --json -o p.yaml -- touch ran >&-", 2),
        ("$1 record -- touch ran >&-", 125),
        ("$1 completions bash >&-", 3),
    ] {
        let (code, stderr) = run(script);
        assert_eq!(code, Some(status), "{script}: {stderr}");
        assert!(stderr.contains("standard output") && stderr.contains("closed"), "{stderr}");
    }
    assert!(!dir.path().join("ran").exists());
    // Where no data of ours goes there it does not matter, and the command finds it closed, too.
    let see = "for fd in 0 1 2; do test -e /proc/self/fd/$fd && x=$x$fd; done; echo $x >> open";
    let (code, stderr) = run(&format!("$1 tighten -o p.yaml -- sh -c '{see}' >&- <&-"));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(fs::read_to_string(dir.path().join("open")).unwrap(), "2\n2\n");
}

#[test]
fn data_is_written_though_nothing_can_be_said() {
    let dir = TempDir::new().unwrap();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |args: &[&str]| {
        let mut strait = Command::new(env!("CARGO_BIN_EXE_strait"));
        strait.args(args).current_dir(dir.path()).stderr(full()).stdout(Stdio::null());
        strait.status().unwrap().code()
    };
    assert_eq!(run(&["record", "-o", "r.json", "--", "true"]), Some(0));
    assert!(dir.path().join("r.json").exists());
    assert_eq!(run(&["tighten", "-o", "p.yaml", "--", "true"]), Some(0));
    assert_eq!(run(&["run", "-p", "none.yaml", "--", "true"]), Some(125));
}

#[test]
fn an_interrupted_tighten_leaves_a_policy_that_is_there() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.yaml"), "precious").unwrap();
    let script = "echo started >> mark; while :; do sleep 0.05; done";
    let child = start(&dir, &["tighten", "-o", "p.yaml", "--", "sh", "-c", script]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(dir.path().join("p.yaml")).unwrap(), "precious");
}

#[test]
fn a_recording_on_standard_output_is_nothing_else() {
    let dir = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["record", "--", "echo", "words"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let recording: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(recording["kind"], "SyscallRecording");
    assert!(String::from_utf8_lossy(&output.stderr).contains("words"));
}

#[test]
fn a_policy_for_another_machine_runs_nothing() {
    let dir = TempDir::new().unwrap();
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec: {architectures: [s390x], default: allow}
";
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["run", "-p", "p.yaml", "--", "touch", "ran"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("s390x"), "{stderr}");
    assert!(!dir.path().join("ran").exists());
}
