//! Program files: see `strait_testkit::fuzz::file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::file(input));
