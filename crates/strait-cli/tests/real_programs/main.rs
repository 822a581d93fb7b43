//! Real programs, unmodified, through `strait tighten`: the confined run behaves as the first,
//! nothing is denied, and a call that was not recorded is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod observer;
mod programs;
mod servers;
