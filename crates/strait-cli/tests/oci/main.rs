//! Strait between real engines and real runtimes: as the OCI runtime that binds policies and starts
//! recorders, and as a hook.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod across;
mod ahead;
mod binding;
mod cri;
mod hook;
mod notify;
mod nri;
mod plugin;
mod pods;
mod recorded;
mod recording;
mod restarts;
mod service;
mod setup;
mod together;
mod workloads;
