//! Every process of the machine, and what could not be looked at.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;
use serde::Serialize;
use strait_kernel::task::{Mode, Task};

use super::{Held, InspectError, Inspector, Process, Reading, Thread, as_number, read_task};
use crate::launch::reason;

/// What the kernel enforces on every process that `/proc` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The processes by id, without the one that inspects.
    pub processes: Vec<Process>,
    /// Those of which nothing is known.
    pub missed: Vec<Missed>,
    /// For how long threads were stopped.
    pub stops: Stops,
}

/// A process of which nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missed {
    /// Its id.
    #[serde(serialize_with = "as_number")]
    pub pid: Pid,
    /// `vanished`, `reused` or `unreadable`.
    pub status: Status,
    /// Why, for a person to read.
    pub reason: String,
}

/// What there is to say of a process as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Every thread has filters, all the same.
    Filtered,
    /// No thread has a filter.
    Unconfined,
    /// Strict mode: read, write, _exit and sigreturn alone.
    Strict,
    /// Its threads are confined differently.
    ThreadsDiffer,
    /// The filters of some thread are not known: it is traced, does not stop, or may not be read.
    Unknown,
    /// It has ended, and waits for its parent to notice.
    Zombie,
    /// A thread of the kernel.
    Kernel,
    /// It ended before it was looked at.
    Vanished,
    /// It ended, and another process got its id, before it was looked at.
    Reused,
    /// `/proc` does not show it to us.
    Unreadable,
}

impl Status {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Filtered => "filtered",
            Status::Unconfined => "unconfined",
            Status::Strict => "strict",
            Status::ThreadsDiffer => "threads-differ",
            Status::Unknown => "unknown",
            Status::Zombie => "zombie",
            Status::Kernel => "kernel",
            Status::Vanished => "vanished",
            Status::Reused => "reused",
            Status::Unreadable => "unreadable",
        }
    }

    /// Of a process with these threads; those that have ended count only if all have.
    pub(super) fn of(threads: &[Thread], kernel: bool, differ: bool) -> Status {
        let mut running = threads.iter().filter(|thread| thread.reading != Reading::Ended);
        let Some(first) = running.next() else { return Status::Zombie };
        if kernel {
            Status::Kernel
        } else if differ {
            Status::ThreadsDiffer
        } else if first.mode == Mode::Strict {
            Status::Strict
        } else if threads.iter().any(|thread| {
            !matches!(thread.reading, Reading::NotAsked) && thread.reading.unknown().is_some()
        }) {
            Status::Unknown
        } else if first.mode == Mode::Filter {
            Status::Filtered
        } else {
            Status::Unconfined
        }
    }
}

/// For how long threads were stopped so that their filters could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stops {
    /// How many were stopped.
    pub threads: usize,
    /// The median, in microseconds.
    pub median_microseconds: u64,
    /// The longest, in microseconds.
    pub longest_microseconds: u64,
}

impl Stops {
    /// Of the threads of these processes.
    pub fn of<'p>(processes: impl IntoIterator<Item = &'p Process>) -> Stops {
        let threads = processes.into_iter().flat_map(|process| &process.threads);
        let mut times: Vec<u64> = threads
            .filter_map(|thread| match thread.reading {
                Reading::Read { stopped, .. } if !stopped.is_zero() => {
                    Some(u64::try_from(stopped.as_micros()).unwrap_or(u64::MAX))
                }
                _ => None,
            })
            .collect();
        times.sort_unstable();
        Stops {
            threads: times.len(),
            median_microseconds: times.get(times.len() / 2).copied().unwrap_or_default(),
            longest_microseconds: times.last().copied().unwrap_or_default(),
        }
    }
}

/// How long a thread in state D is given to stop where there may be many of them.
const PATIENCE: Duration = Duration::from_millis(50);

impl Inspector {
    /// Inspects every process that `/proc` shows but this one.
    ///
    /// # Errors
    /// If `/proc` cannot be listed.
    pub fn inspect_all(&mut self) -> Result<Machine, std::io::Error> {
        let own = rustix::process::getpid();
        let mut pids: Vec<Pid> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter(|&pid| pid != own)
            .collect();
        pids.sort_by_key(|pid| pid.as_raw_pid());
        Ok(self.inspect_these(pids))
    }

    /// Inspects these processes, in this order.
    pub fn inspect_these(&mut self, pids: Vec<Pid>) -> Machine {
        // A filter is recognised with the capabilities that any of its processes has, so all of
        // them are known before the first is decided.
        for &pid in &pids {
            if self.profiles
                && let Ok(Some(Task { mode: Mode::Filter, capabilities, .. })) = read_task(pid, pid)
            {
                self.registry.resolve_for(capabilities.bounding);
            }
        }
        let patience = std::mem::replace(&mut self.patience, PATIENCE);
        let (mut processes, mut missed) = (Vec::with_capacity(pids.len()), Vec::new());
        for pid in pids {
            match Held::new(pid).and_then(|held| self.inspect_held(&held)) {
                Ok(process) => processes.push(process),
                Err(error) => {
                    let status = match error {
                        InspectError::Gone { .. } | InspectError::Thread { .. } => Status::Vanished,
                        InspectError::Reused { .. } => Status::Reused,
                        InspectError::Task(_) | InspectError::Os { .. } => Status::Unreadable,
                    };
                    missed.push(Missed { pid, status, reason: reason(&error) });
                }
            }
        }
        self.patience = patience;
        let stops = Stops::of(&processes);
        Machine { processes, missed, stops }
    }
}
