//! Logs of other tools, as recordings.
//!
//! Lines that are no calls (signals, exits, messages) are passed over; what looks like a call and
//! cannot be understood is counted as lost, so that a policy is not made of it unawares. What a
//! tool cannot see, or does not write down, is among the recording's blind spots.

mod audit;
mod perf;
pub mod strace;

use strait_abi::{Arch, Syscall};

use crate::errno::errno_number;
use crate::recording::{Engine, Outcomes, Recording, RecordingBuilder};

/// A tool that logs calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Log {
    /// `strace`, and its table of `-c`.
    Strace,
    /// `perf trace`, and its tables of `-s`.
    PerfTrace,
    /// Records of the kernel's audit: type SECCOMP (1326) and SYSCALL (1300), from auditd's log,
    /// `ausearch`, or the kernel's own log.
    Audit,
}

impl Log {
    /// Every tool.
    pub const ALL: &[Log] = &[Log::Audit, Log::PerfTrace, Log::Strace];

    /// The tool that a text looks like the output of.
    pub fn detect(text: &str) -> Option<Log> {
        let recognises = |log: &&Log| match log {
            Log::Audit => audit::recognises(text),
            Log::PerfTrace => perf::recognises(text),
            Log::Strace => strace::recognises(text),
        };
        Log::ALL.iter().find(recognises).copied()
    }

    /// The name of the tool.
    pub const fn name(self) -> &'static str {
        match self {
            Log::Strace => "strace",
            Log::PerfTrace => "perf trace",
            Log::Audit => "audit",
        }
    }

    /// The recording that the tool's output is.
    ///
    /// `arch` is the ABI of the program where the tool does not say it, `kernel` the release on
    /// which it ran, which no tool says.
    pub fn import(self, text: &str, arch: Arch, kernel: &str) -> Recording {
        match self {
            Log::Strace => strace::import(text, arch, kernel),
            Log::PerfTrace => perf::import(text, arch, kernel),
            Log::Audit => audit::import(text, kernel),
        }
    }

    fn recording(self, kernel: &str) -> RecordingBuilder {
        let reason = format!("imported from the output of {}", self.name());
        Recording::builder(Engine { name: self.name().into(), reason }, kernel)
    }

    /// Says how many lines looked like calls and were none.
    fn unreadable(self, recording: &mut RecordingBuilder, lines: u64) {
        recording.lost(format!("lines of {} that could not be read", self.name()), lines);
    }
}

/// The image of calls of which the program file is not known.
const UNKNOWN_IMAGE: &str = "(unknown)";

/// The number of a call by its name, or by that which tools make up for one that they do not know.
fn number(name: &str, arch: Arch) -> Option<u32> {
    if let Some(hex) = name.strip_prefix("syscall_0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    Syscall::from_name(name)?.number(arch)
}

/// What stands after the last ` = ` of a line.
fn result(line: &str) -> Option<Outcomes> {
    let (_, result) = line.rsplit_once(" = ").or_else(|| line.rsplit_once("= "))?;
    let mut words = result.split_whitespace();
    let value = words.next()?;
    let mut outcomes = Outcomes { count: 1, ..Outcomes::default() };
    match (value, words.next()) {
        ("?", _) => {}
        ("-1", Some(name)) if name.starts_with('E') => {
            outcomes.errnos.insert(errno_number(name)?, 1);
        }
        _ => outcomes.succeeded = 1,
    }
    Some(outcomes)
}

/// A row of a table of counts.
fn counted(count: &str, errors: &str) -> Option<Outcomes> {
    let (count, errors): (u64, u64) = (count.parse().ok()?, errors.parse().ok()?);
    Some(Outcomes { count, succeeded: count.saturating_sub(errors), ..Outcomes::default() })
}
