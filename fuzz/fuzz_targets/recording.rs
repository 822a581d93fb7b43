//! Recordings and strace's output: see `strait_testkit::fuzz::recording`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::recording(input));
