//! `exec.strict`: every program that a workload executes stands at its first instruction until its file was
//! looked at, and is killed there if it may not run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use strait_testkit::script::events;
use strait_testkit::skip;
use tempfile::TempDir;

const STRAIT: &str = env!("CARGO_BIN_EXE_strait");
const KILLED: i32 = 128 + 9;

/// A policy that closes nothing but what is executed; `allow` is a list as YAML has it.
fn policy(dir: &TempDir, allow: &str) {
    let text = format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nmetadata: {{name: strict}}\nspec:\n  \
         architectures: [x86_64]\n  default: allow\n  exec: {{allow: [{allow}], strict: true}}\n"
    );
    fs::write(dir.path().join("policy.yaml"), text).unwrap();
}

fn run(dir: &TempDir, options: &[&str], words: &[&str]) -> (Output, String) {
    let mut command = Command::new(STRAIT);
    command.args(["run", "--policy", "policy.yaml"]).args(options).arg("--").args(words);
    let output = command.current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

fn sha256(path: &str) -> String {
    let digest = Sha256::digest(fs::read(path).unwrap());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"sha256:{digits}\"")
}

/// Landlock would refuse these before: with a digest on the list the check at exec is alone.
#[test]
fn what_is_not_on_the_list_is_killed_before_its_first_instruction() {
    let dir = TempDir::new().unwrap();
    policy(&dir, &format!("/bin/sh, /usr/bin/ls, {}", sha256("/usr/bin/id")));
    fs::copy("/usr/bin/touch", dir.path().join("copied")).unwrap();
    fs::copy("/usr/bin/id", dir.path().join("renamed")).unwrap();
    let loader = "/lib64/ld-linux-x86-64.so.2";
    for (script, allowed) in [
        ("ls policy.yaml", true),
        ("id -u", true),
        // By what is in it, wherever it is.
        ("./renamed -u", true),
        ("./copied made", false),
        ("touch made", false),
    ] {
        let script = format!("{script}; echo $?");
        let (output, said) = run(&dir, &[], &["sh", "-c", &script]);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = out.lines().last().unwrap().parse::<i32>().unwrap();
        assert_eq!(status, if allowed { 0 } else { KILLED }, "{script}: {out}{said}");
        assert_eq!(said.contains("may not be executed"), !allowed, "{script}: {said}");
    }
    // The loader by itself runs any file; a script is run by its interpreter.
    let script = dir.path().join("script");
    fs::write(&script, "#!/usr/bin/env touch\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, said) = run(
        &dir,
        &["--mode", "notify"],
        &["sh", "-c", &format!("{loader} ./copied made; echo $?; ./script; echo $?")],
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("137\n").count(), 2, "{said}");
    assert!(said.contains("ld-linux"), "{said}");
    assert!(!dir.path().join("made").exists());
    // The command itself is no exception, and then nothing has run at all.
    for words in [&["./copied", "made"][..], &[loader, "./copied", "made"]] {
        let (output, said) = run(&dir, &[], words);
        assert_eq!(output.status.code(), Some(126), "{said}");
        assert!(said.contains("may not be executed") && !said.contains("strait: killed"), "{said}");
    }
    assert!(!dir.path().join("made").exists());
}

#[test]
fn what_was_killed_is_told_as_other_denials_are() {
    let dir = TempDir::new().unwrap();
    policy(&dir, &format!("/bin/sh, {}", sha256("/usr/bin/id")));
    let touch = fs::canonicalize("/usr/bin/touch").unwrap();
    let touch = touch.to_str().unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11; do touch made; done; id -u; uname";
    for mode in ["enforce", "notify"] {
        let options = ["--mode", mode, "--denials", "json"];
        let (output, said) = run(&dir, &options, &["sh", "-c", script]);
        let events = events(&output);
        let told: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "killed" && event["image"] == touch)
            .map(|event| event["times"].as_u64().unwrap())
            .collect();
        assert_eq!(told, [1, 10], "{mode}: {said}");
        assert_eq!(events[0]["permit"], format!("exec: {{allow: [{touch}]}}"), "{said}");
        assert!(events[0]["tid"].as_u64().unwrap() > 1 && events[0]["why"] != "", "{said}");
        let summary = events.last().unwrap();
        assert_eq!((&summary["event"], &summary["killed"]), (&"summary".into(), &12.into()));
        assert_eq!(summary["killedImages"][0]["image"], touch, "{said}");
        assert_eq!(summary["killedImages"][0]["count"], 11, "{said}");
    }
    // A name is no line of ours, whatever is in it.
    fs::copy(touch, dir.path().join("x\nstrait: fine")).unwrap();
    let (_, said) = run(&dir, &[], &["sh", "-c", "./x*; :"]);
    assert!(said.contains("x\\nstrait: fine"), "{said}");
    assert!(!said.contains("\nstrait: fine"), "{said}");
    // The line that is offered does permit it.
    policy(&dir, &format!("/bin/sh, {touch}, {}", sha256("/usr/bin/id")));
    let (_, said) = run(&dir, &[], &["sh", "-c", "touch made && uname"]);
    assert!(dir.path().join("made").exists(), "{said}");
    assert!(
        said.contains("1 program was killed that may not be executed:\n         1  /"),
        "{said}"
    );
}

#[test]
fn a_file_that_was_changed_is_another() {
    let dir = TempDir::new().unwrap();
    let tool = dir.path().join("tool");
    fs::copy("/usr/bin/true", &tool).unwrap();
    policy(&dir, &format!("/bin/sh, {}, {}", tool.display(), sha256("/usr/bin/cat")));
    // Written over in place: the same name, the same inode.
    let script = "./tool; echo $?; cat /usr/bin/false > tool; ./tool; echo $?";
    let (output, said) = run(&dir, &[], &["sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("0\n{KILLED}\n"), "{said}");
    assert!(said.contains("as it is now"), "{said}");
}

/// A task can ask not to be traced with its parent; what it executed would not be looked at.
#[test]
fn no_task_gets_out_of_sight() {
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() {
        return skip("no_task_gets_out_of_sight", "python3 is not installed");
    }
    let dir = TempDir::new().unwrap();
    policy(&dir, &format!("{python}, {}", sha256("/usr/bin/id")));
    // clone by number and clone3, with CLONE_UNTRACED and SIGCHLD.
    let script = "\
import ctypes, os, sys
call = ctypes.CDLL(None).syscall
words = (ctypes.c_uint64 * 8)(0x00800000, 0, 0, 0, 17, 0, 0, 0)
pid = call(56, 0x00800011, 0, 0, 0, 0) if sys.argv[1] == 'clone' else call(435, words, 64)
if pid == 0:
    os.execv('/usr/bin/touch', ['touch', 'made'])
if pid > 0:
    os.waitpid(pid, 0)
print('refused' if pid < 0 else 'started')
";
    for call in ["clone", "clone3"] {
        let (output, said) = run(&dir, &[], &[python, "-c", script, call]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "refused\n", "{call}: {said}");
        assert!(!dir.path().join("made").exists(), "{call}");
    }
}

#[test]
fn the_command_behaves_as_if_it_were_started_directly() {
    let dir = TempDir::new().unwrap();
    policy(&dir, "/bin/sh, /usr/bin/sleep, /usr/bin/true");
    for (script, status) in [
        ("exit 7", 7),
        ("kill -TERM $$", 128 + 15),
        // Many, at once and one after the other, by processes of their own.
        ("for i in 1 2 3 4 5 6 7 8 9 10; do (true; true) & done; wait; true", 0),
        ("trap 'exit 5' USR1; kill -USR1 $$; sleep 10", 5),
        // A stop and a continue of a child.
        ("sleep 0.2 & kill -STOP $!; kill -CONT $!; wait $!", 0),
    ] {
        for mode in ["enforce", "notify"] {
            let (output, said) = run(&dir, &["--mode", mode], &["sh", "-c", script]);
            let code = output.status.code();
            let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
            let found = code.or(signal.map(|signal| 128 + signal));
            assert_eq!(found, Some(status), "{mode}: {script}: {said}");
        }
    }
    // What goes on after the command is waited for, for it is held to the list too.
    let script = "(sleep 0.5; echo late) & echo early";
    let (output, _) = run(&dir, &[], &["sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "early\nlate\n");
}

#[test]
fn nothing_goes_on_unwatched() {
    let dir = TempDir::new().unwrap();
    policy(&dir, "/bin/sh, /usr/bin/sleep");
    let mut command = Command::new(STRAIT);
    command.args(["run", "--policy", "policy.yaml", "--", "sh", "-c"]);
    let mut strait = command
        .args(["sleep 60 & echo $!; sleep 60"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = strait.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    let stat = Path::new("/proc").join(line.trim()).join("stat");
    assert!(stat.exists());
    strait.kill().unwrap();
    strait.wait().unwrap();
    // Dead, whether or not somebody has waited for it.
    let dead = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(10));
        fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "))
    });
    assert!(dead, "{}", fs::read_to_string(&stat).unwrap_or_default());
}
