//! `compile` and what reads its results: forms, byte orders, recordings as profiles, and policies
//! that no single program has room for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

use strait_abi::Arch;
use strait_bpf::{Program, SeccompData};
use strait_policy::Recording;
use strait_policy::recording::{Engine, Observation, Outcomes, Phase, Site};
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
}

/// Runs it, demands success, and returns what it wrote.
#[track_caller]
fn succeeds(dir: &TempDir, args: &[&str]) -> Vec<u8> {
    let output = strait(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    output.stdout
}

fn policy(arch: &str, rules: &str) -> String {
    format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [{arch}]\n  \
         default: errno(EPERM)\n  rules:\n{rules}"
    )
}

const RULES: &str = "    - {syscalls: [read, write, close, exit_group, openat, futex], action: allow}\n    \
                     - {syscalls: [socket], when: \"domain == AF_UNIX\", action: allow}\n";

#[test]
fn every_form_is_read_back() {
    for arch in ["x86_64", "s390x"] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("p.yaml"), policy(arch, RULES)).unwrap();
        succeeds(&dir, &["compile", "p.yaml", "-o", "p.bpf"]);
        let raw = succeeds(&dir, &["disasm", "p.bpf"]);
        assert_eq!(String::from_utf8_lossy(&raw).contains("big-endian"), arch == "s390x");
        for form in ["hex", "c", "rust", "json"] {
            let file = format!("p.{form}");
            succeeds(&dir, &["compile", "p.yaml", "--format", form, "-o", &file]);
            succeeds(&dir, &["prove", "p.yaml", &file]);
            if (form, arch) == ("hex", "s390x") || arch == "x86_64" {
                assert_eq!(succeeds(&dir, &["disasm", &file]), raw, "{form} for {arch}");
            }
        }
        let pfc = succeeds(&dir, &["compile", "p.yaml", "--format", "pfc"]);
        assert!(String::from_utf8_lossy(&pfc).contains("pseudo filter code"));
    }
}

#[test]
fn text_that_is_no_program_is_an_error_with_its_place() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.hex"), "2000000004000000\n3400000000000000\n0600000000000000\n")
        .unwrap();
    fs::write(dir.path().join("p.c"), "{ {6, 0, 0}, }").unwrap();
    for (file, place) in [("p.hex", "instruction 1"), ("p.c", "0")] {
        let output = strait(&dir, &["disasm", file]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(file) && stderr.contains(place), "{stderr}");
    }
}

#[test]
fn a_recording_says_which_calls_are_to_be_fast() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.yaml"), policy("x86_64", RULES)).unwrap();
    let engine = Engine { name: "ptrace".to_owned(), reason: "a test".to_owned() };
    let mut builder = Recording::builder(engine, "6.18");
    let seen = |count| Observation {
        outcomes: Outcomes { count, succeeded: count, ..Outcomes::default() },
        ..Observation::default()
    };
    let site =
        |phase, nr| Site { image: "/bin/true".into(), phase: Some(phase), arch: Arch::X86_64, nr };
    builder.observe(site(Phase::Steady, 202), &seen(1000));
    builder.observe(site(Phase::Steady, 0), &seen(1));
    builder.observe(site(Phase::BeforeFilter, 0), &seen(1_000_000));
    fs::write(dir.path().join("r.json"), builder.build().to_json()).unwrap();
    let executed = |args: &[&str], nr| {
        let mut all = vec!["compile", "p.yaml"];
        all.extend(args);
        let program = Program::from_bytes(&succeeds(&dir, &all)).unwrap();
        program.run_counting(&SeccompData::new(Arch::X86_64.audit_arch(), nr)).executed
    };
    // The arch and the number are loaded and compared, and an answer given.
    assert_eq!(executed(&["--profile", "r.json"], 202), 5);
    assert!(executed(&["--profile", "r.json"], 0) > executed(&["--profile", "r.json"], 202));
    assert!(executed(&[], 202) > 5);
    let missing = strait(&dir, &["compile", "p.yaml", "--profile", "p.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn what_no_program_has_room_for_is_split_when_asked() {
    let dir = TempDir::new().unwrap();
    let values = |from: u32| {
        let values: Vec<String> = (0..1500).map(|value| (from + 3 * value).to_string()).collect();
        values.join(", ")
    };
    let rules: String = ["read", "write", "close", "fsync"]
        .iter()
        .zip([0, 10_000, 20_000, 30_000])
        .map(|(call, from)| {
            let values = values(from);
            format!("    - {{syscalls: [{call}], when: \"fd in {{{values}}}\", action: allow}}\n")
        })
        .collect();
    fs::write(dir.path().join("p.yaml"), policy("x86_64", &rules)).unwrap();

    let output = strait(&dir, &["compile", "p.yaml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for said in ["4096", "the arguments of call", "--split", "p.yaml"] {
        assert!(stderr.contains(said), "`{said}` is not in:\n{stderr}");
    }
    let output = strait(&dir, &["compile", "p.yaml", "--split"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("-o"));
    assert!(output.stdout.is_empty());

    succeeds(&dir, &["compile", "p.yaml", "--split", "-o", "p.bpf"]);
    let mut prove = vec!["prove", "p.yaml", "p.bpf.1", "p.bpf.2"];
    for more in ["p.bpf.3", "p.bpf.4"] {
        if dir.path().join(more).exists() {
            prove.push(more);
        }
    }
    succeeds(&dir, &prove);
    // One alone lets through what the others deny.
    assert_eq!(strait(&dir, &["prove", "p.yaml", "p.bpf.1"]).status.code(), Some(1));
}
