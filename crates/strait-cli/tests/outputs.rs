//! Where results go: places that cannot be written, full devices, names that are no text. A command
//! does not run for a result that has no place, and a good file outlives every failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use strait_testkit::skip;
use tempfile::TempDir;

const STRAIT: &str = env!("CARGO_BIN_EXE_strait");

fn strait(dir: &Path, args: &[&OsStr]) -> Output {
    let mut command = Command::new(STRAIT);
    command.args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Known before the command runs, for each verb that runs one.
#[test]
fn a_place_that_cannot_be_written_is_found_before_the_command_runs() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    symlink("nowhere/at/all", dir.path().join("dangling")).unwrap();
    for place in ["folder", "no/such/folder/p.yaml", "/proc/p.yaml", "dangling"] {
        for (verb, status) in [("tighten", [2, 3]), ("record", [125, 125])] {
            let words = [verb, "-o", place, "--", "touch", "ran"].map(OsStr::new);
            let output = strait(dir.path(), &words);
            let text = text(&output);
            assert!(output.status.code().is_some_and(|code| status.contains(&code)), "{text}");
            assert!(text.contains(&format!("cannot write {place}: ")), "{text}");
            assert!(!dir.path().join("ran").exists(), "{verb} -o {place}");
        }
    }
}

#[test]
fn a_folder_that_is_gone_has_no_place_for_results() {
    let dir = TempDir::new().unwrap();
    let here = dir.path().join("here");
    fs::create_dir(&here).unwrap();
    let script = format!("rmdir ../here && exec {STRAIT} tighten -o p.yaml -- touch \"$0\"/ran");
    let mut command = Command::new("sh");
    let output = command.args(["-c", &script]).arg(dir.path()).current_dir(&here).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success() && said.contains("cannot write p.yaml: "), "{said}");
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn a_full_device_is_told() {
    let dir = TempDir::new().unwrap();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let space = "No space left on device";
    let to_full = |words: &[&str]| {
        let mut command = Command::new(STRAIT);
        command.args(words).current_dir(dir.path()).stdout(full()).output().unwrap()
    };
    // Data that is lost is a failure of the verb that makes it.
    let output = to_full(&["tighten", "--once", "--json", "-o", "p.yaml", "--", "true"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains(&format!("cannot write to standard output: {space}")));
    let output = to_full(&["record", "-o", "-", "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains(space));
    for words in [&["sets"][..], &["schema"], &["completions", "bash"], &["help", "run"]] {
        let output = to_full(words);
        assert!(!output.status.success() && text(&output).contains(space), "{words:?}");
    }
    // A device that is named is written to as it is.
    let words = ["tighten", "--once", "-o", "/dev/full", "--", "true"].map(OsStr::new);
    let output = strait(dir.path(), &words);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains(&format!("cannot write /dev/full: {space}")));
}

/// In a mount namespace of its own.
#[test]
fn a_good_file_outlives_a_full_file_system() {
    let test = "a_good_file_outlives_a_full_file_system";
    let dir = TempDir::new().unwrap();
    let fs_dir = dir.path().join("small");
    fs::create_dir(&fs_dir).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k none small || exit 77
         echo precious > small/p.yaml
         dd if=/dev/zero of=small/fill bs=1k count=60 2> /dev/null
         dd if=/dev/zero bs=1k count=60 >> small/fill 2> /dev/null
         {STRAIT} tighten --once -o small/p.yaml -- true; echo status $?
         cat small/p.yaml; ls -A small; mount -o remount,ro none small
         {STRAIT} tighten --once -o small/p.yaml -- touch ran; echo status $?
         cat small/p.yaml"
    );
    let mut command = Command::new("unshare");
    let output =
        command.args(["-m", "sh", "-c", &script]).current_dir(dir.path()).output().unwrap();
    let said = text(&output);
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        return skip(test, "a mount namespace takes root");
    }
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "status 3\nprecious\nfill\np.yaml\nstatus 2\nprecious\n";
    assert_eq!(printed, expected, "{said}");
    assert!(said.contains("cannot write small/p.yaml: No space left on device"), "{said}");
    assert!(said.contains("cannot write small/p.yaml: Read-only file system"), "{said}");
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn names_that_are_no_text_are_names() {
    let dir = TempDir::new().unwrap();
    let program = OsString::from_vec(b"./x\xff\ny".to_vec());
    let policy = OsString::from_vec(b"p\xff.yaml".to_vec());
    fs::copy("/bin/true", dir.path().join(&program)).unwrap();
    let words = [OsStr::new("tighten"), OsStr::new("-o"), &policy, OsStr::new("--"), &program];
    let output = strait(dir.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let written = fs::read_to_string(dir.path().join(&policy)).unwrap();
    assert!(written.contains("kind: SyscallPolicy"), "{written}");
}

/// As many as the kernel takes.
#[test]
fn many_arguments_are_passed_on() {
    let dir = TempDir::new().unwrap();
    let words = ["tighten", "--once", "-o", "p.yaml", "--", "sh", "-c", "echo $# > count", "sh"];
    let mut command = Command::new(STRAIT);
    let arguments = (0..50_000).map(|number| number.to_string());
    let output = command.args(words).args(arguments).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(fs::read_to_string(dir.path().join("count")).unwrap(), "50000\n");
}
