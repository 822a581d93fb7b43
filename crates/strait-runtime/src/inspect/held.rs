//! A process that is held on to: whoever has its number later is not taken for it.
//!
//! Numbers of processes are used again. A pidfd stands for one process for good, and
//! `/proc/self/fdinfo` tells when that process has been waited for, after which another may have
//! its number (`fs/pidfs.c`: `Pid:` is then -1).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use strait_kernel::task::{Task, TaskError};

use super::InspectError;

/// A process, and not whoever comes to have its number.
#[derive(Debug)]
pub struct Held {
    pid: Pid,
    descriptor: OwnedFd,
    started: u64,
}

impl Held {
    /// Holds on to the process that has this number now.
    ///
    /// # Errors
    /// If there is none, or it may not be looked at.
    pub fn new(pid: Pid) -> Result<Held, InspectError> {
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Err(InspectError::Gone { pid }),
            Err(Errno::INVAL | Errno::NOENT) => return Err(InspectError::Thread { pid }),
            Err(errno) => return Err(InspectError::Os { pid, source: errno.into() }),
        };
        let started = match Task::read(pid, pid) {
            Ok(task) => task.started,
            Err(TaskError::Gone { .. }) => return Err(InspectError::Gone { pid }),
            Err(error) => return Err(InspectError::Task(error)),
        };
        let held = Held { pid, descriptor, started };
        // What was read may be another's, if the number was free in between.
        held.check()?;
        Ok(held)
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// When it was started, in clock ticks since boot.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Whether the number is its own still: it runs, or is a zombie that nobody has waited for.
    ///
    /// # Errors
    /// [`InspectError::Gone`] if it has ended, [`InspectError::Reused`] if another process has its
    /// number now.
    pub fn check(&self) -> Result<(), InspectError> {
        let pid = self.pid;
        let waited_for = self.waited_for();
        if waited_for == Some(false) {
            return Ok(());
        }
        match (waited_for, Task::read(pid, pid)) {
            // The kernel does not say: the time of its start tells most others with its number.
            (None, Ok(now)) if now.started == self.started => Ok(()),
            (_, Ok(_)) => Err(InspectError::Reused { pid }),
            (_, Err(_)) => Err(InspectError::Gone { pid }),
        }
    }

    /// Whether somebody has waited for it, which frees its number; `None` if the kernel does not
    /// say.
    fn waited_for(&self) -> Option<bool> {
        let path = format!("/proc/self/fdinfo/{}", self.descriptor.as_raw_fd());
        let text = fs::read_to_string(path).ok()?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        Some(number.trim() == "-1")
    }
}
