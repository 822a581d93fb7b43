//! The fuzz targets, on the inputs that fuzzing has found worth keeping.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::PathBuf;

use strait_policy::format::Format;
use strait_testkit::fuzz;

/// Runs a target over its corpus; how many inputs there were.
fn replay(target: &str, run: fn(&[u8])) -> usize {
    replay_with(target, run)
}

fn replay_with(target: &str, run: impl Fn(&[u8])) -> usize {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let inputs: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for input in &inputs {
        println!("{}", input.display());
        run(&fs::read(input).unwrap());
    }
    inputs.len()
}

#[test]
fn documents() {
    for &format in Format::ALL.iter().filter(|format| **format != Format::Strait) {
        let inputs = replay_with(format.name(), |input| fuzz::document(format, input));
        assert!(inputs >= 2, "{format}");
    }
    assert!(replay("policy", fuzz::policy) >= 4);
    assert!(replay("when", fuzz::when) >= 4);
    assert!(replay("recording", fuzz::recording) >= 2);
}

/// What was fuzzed for one reader is hostile to every other.
#[test]
fn documents_for_another_reader() {
    for format in Format::ALL {
        for target in [
            "policy",
            "oci",
            "spo",
            "seccompiler",
            "systemd",
            "lxc",
            "minijail",
            "kafel",
            "bpf",
            "when",
            "recording",
        ] {
            replay_with(target, |input| fuzz::document(*format, input));
        }
    }
}

#[test]
fn conversions() {
    assert!(replay("convert", fuzz::convert) >= 20);
}

#[test]
fn files() {
    assert!(replay("file", fuzz::file) >= 4);
}

#[test]
fn texts() {
    assert!(replay("assembler", fuzz::assembler) >= 3);
}

#[test]
fn programs() {
    assert!(replay("symbolic", fuzz::symbolic) >= 1);
}
