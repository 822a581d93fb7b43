//! Profiles in the format `lxc`: see `strait_testkit::fuzz::document`.
#![no_main]

use strait_policy::format::Format;

libfuzzer_sys::fuzz_target!(|input: &[u8]| strait_testkit::fuzz::document(Format::Lxc, input));
