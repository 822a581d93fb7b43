//! The compiler against the evaluator and the interpreter: see `tests/fuzz` of `strait-compiler`.
#![no_main]

#[path = "../../crates/strait-compiler/tests/fuzz/mod.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::compiler(input));
