//! Recordings: what was observed of a workload, and how complete the observation is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was observed of a workload. The file is JSON, `kind: SyscallRecording`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recording {
    /// The command that was run, or empty where something that ran already was recorded.
    pub command: Vec<String>,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Who observed.
    pub engine: Engine,
    /// What could not be seen.
    pub completeness: Completeness,
    /// The program files whose calls were seen; [`Call::image`] is an index into this list.
    pub images: Vec<Image>,
    /// The calls, by image, arch and number, each once.
    pub calls: Vec<Call>,
    /// How the recorded command ended, where there was one and it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<Exit>,
}

/// Who observed, and why it and not another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Engine {
    /// `ebpf` or `ptrace`.
    pub name: String,
    /// Why this engine was taken, for a person to read.
    pub reason: String,
}

/// What a recording could not see, or lost. All zero, false and empty is a complete recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Completeness {
    /// Calls, tasks or images that were lost, by where they were lost; never an entry with 0.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    /// The recording was ended before the workload did.
    #[serde(default)]
    pub interrupted: bool,
    /// A filter was active on the workload already: calls that it denied are invisible.
    #[serde(default)]
    pub filter_active: bool,
    /// io_uring was set up: what was done by it never shows as a call.
    #[serde(default)]
    pub io_uring: bool,
    /// Anything else that could not be seen, a sentence each.
    #[serde(default)]
    pub blind_spots: Vec<String>,
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Its path, as the kernel had it at exec; bytes that are not UTF-8 as `\xNN`.
    pub path: String,
}

/// One system call of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// Index into [`Recording::images`].
    pub image: usize,
    /// The ABI it was made by, as [`strait_abi::Arch::name`] spells it.
    pub arch: String,
    /// The number, as `seccomp_data.nr` shows it.
    pub nr: u32,
    /// How often it was entered.
    pub count: u64,
    /// How often it returned something else than an error.
    #[serde(default)]
    pub succeeded: u64,
    /// How often it returned each errno.
    #[serde(default)]
    pub errnos: BTreeMap<u16, u64>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}
