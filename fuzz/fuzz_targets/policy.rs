//! Policies: see `strait_testkit::fuzz::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::policy(input));
