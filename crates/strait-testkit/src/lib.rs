//! Victims, generators and oracles for the tests of Strait.

pub mod allocation;
pub mod cases;
pub mod cri;
mod debian;
mod effort;
pub mod engine;
pub mod fuzz;
pub mod generate;
pub mod kernel;
pub mod older_kernel;
pub mod policies;
pub mod rootless;
pub mod rules;
pub mod script;
mod skip;
pub mod smt;
pub mod victim;

pub use effort::effort;
pub use skip::{SKIPS, skip};
