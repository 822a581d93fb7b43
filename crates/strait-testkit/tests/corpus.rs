//! The fuzz targets, on the inputs that fuzzing has found worth keeping.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::PathBuf;

use strait_testkit::fuzz;

/// Runs a target over its corpus; how many inputs there were.
fn replay(target: &str, run: fn(&[u8])) -> usize {
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
