//! System call policies.
//!
//! A policy is the document that a person reads. Resolved to numbers, per audit arch, it becomes
//! [`Rules`], a total function from what a filter sees to an action: what the compiler takes and
//! what every comparison is about. A [`Recording`] is what was observed of a workload, and what
//! policies are generated from.
//!
//! The crate does no I/O.
#![forbid(unsafe_code)]

mod meaning;
pub mod recording;
pub mod rules;

pub use recording::Recording;
pub use rules::Rules;
