//! Between a container engine and its OCI runtime: what is asked for a container, and how it gets it.
//!
//! Engines hand a runtime a *bundle*: a folder with `config.json`
//! (<https://github.com/opencontainers/runtime-spec>). What a container is to get is written there
//! before the runtime reads it: the profile that a policy comes to ([`bind`]), or the hook that starts
//! its recorder ([`hook`]). Containers that ask for nothing are not touched.

pub mod bind;
pub mod bindings;
pub mod cgroups;
pub mod hook;
pub mod image;
pub mod invocation;
pub mod makers;
pub mod recordings;
pub mod socket;
pub mod spec;
pub mod supervising;
pub mod trusted;
pub mod waiting;

/// Names the policy that a container is confined by: a file of the policy folder, without its ending.
pub const POLICY: &str = "io.strait.policy";
/// How the policy that [`POLICY`] names is enforced: `enforce`, `notify` or `log`.
pub const MODE: &str = "io.strait.mode";
/// Names the file in the folder for recordings that a container is recorded into.
pub const RECORD: &str = "io.strait.record";
