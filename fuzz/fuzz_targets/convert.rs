//! From each format to every other: see `strait_testkit::fuzz::convert`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::convert(input));
