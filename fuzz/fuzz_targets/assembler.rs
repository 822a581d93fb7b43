//! Program texts: see `strait_testkit::fuzz::assembler`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::assembler(input));
