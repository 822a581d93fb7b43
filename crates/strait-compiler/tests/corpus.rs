//! The compiler's fuzz target, on the inputs that fuzzing has found worth keeping.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::PathBuf;

mod fuzz;

#[test]
fn rules_that_fuzzing_found() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/compiler");
    let inputs: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for input in &inputs {
        println!("{}", input.display());
        fuzz::compiler(&fs::read(input).unwrap());
    }
    assert!(inputs.len() >= 4, "{} inputs", inputs.len());
}
