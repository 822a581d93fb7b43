//! Conditions and calls: see `strait_testkit::fuzz::when`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::when(input));
