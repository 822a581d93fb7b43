//! Symbolic execution against the interpreter: see `strait_testkit::fuzz::symbolic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::symbolic(input));
