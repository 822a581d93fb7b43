//! Victims, generators and oracles for the tests of Strait.

mod skip;
pub mod victim;

pub use skip::{SKIPS, skip};
