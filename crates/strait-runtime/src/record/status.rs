//! What `/proc/TID/status` tells of a task (proc_pid_status(5)).

use std::fs;

use rustix::process::{Pid, Signal};

use super::program::proc_file;

/// The signals by which a workload is told to end.
const ENDS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

/// What was told.
#[derive(Debug)]
pub(super) struct Status(String);

impl Status {
    /// That of a task; `None` if it is gone.
    pub(super) fn of(task: Pid) -> Option<Status> {
        let status = fs::read(proc_file(task, "status")).ok()?;
        // The name may be any bytes, but for line breaks. Nothing else is.
        Some(Status(String::from_utf8_lossy(&status).into_owned()))
    }

    /// The process that the task is a thread of.
    pub(super) fn process(&self) -> Option<Pid> {
        Pid::from_raw(self.value("Tgid:")?.parse().ok()?)
    }

    /// Who has started the task, as far as that still lives: another thread's process for a thread.
    pub(super) fn origin(&self, task: Pid) -> Option<Pid> {
        let process = self.process()?;
        if process != task {
            return Some(process);
        }
        Pid::from_raw(self.value("PPid:")?.parse().ok()?)
    }

    /// How many filters the task has; `None` before Linux 5.9.
    pub(super) fn filters(&self) -> Option<u32> {
        self.value("Seccomp_filters:")?.parse().ok()
    }

    /// Whether a signal tells the task to end: it is one of those for that, and not ignored; nor is
    /// it SIGHUP with a handler, which is how servers are told to read their files again.
    pub(super) fn is_ended_by(&self, signal: i32) -> bool {
        if !ENDS.iter().any(|end| end.as_raw() == signal) {
            return false;
        }
        let has = |key| {
            let mask = self.value(key).and_then(|mask| u64::from_str_radix(mask, 16).ok());
            mask.unwrap_or(0) >> (signal - 1) & 1 == 1
        };
        let is_handled_hangup = signal == Signal::HUP.as_raw() && has("SigCgt:");
        !has("SigIgn:") && !is_handled_hangup
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_end_are_not_ignored_ones() {
        // SIGHUP (1) and SIGTERM (15) have handlers, SIGINT (2) is ignored.
        let status =
            Status("Tgid:\t7\nSigIgn:\t0000000000000002\nSigCgt:\t0000000000004001\n".into());
        let ends: Vec<i32> = (1..64).filter(|&signal| status.is_ended_by(signal)).collect();
        assert_eq!(ends, [3, 15]);
        let default = Status("SigIgn:\t0\nSigCgt:\t0\n".into());
        assert!(default.is_ended_by(1));
    }
}
