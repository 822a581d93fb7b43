//! Victims, generators and oracles for the tests of Strait.

pub mod generate;
mod skip;
pub mod victim;

pub use skip::{SKIPS, skip};
