#![forbid(unsafe_code)]
//! The `strait` command.
fn main() {}
