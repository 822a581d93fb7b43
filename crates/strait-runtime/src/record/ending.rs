//! When a recording ends before its workload does: by a signal, or when its time is over.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use strait_kernel::interrupts::Interrupts;

/// How long a command that was told to end may take for it.
const GRACE: Duration = Duration::from_secs(10);

/// Watches for an early end.
#[derive(Debug)]
pub(super) struct Ending {
    interrupts: Interrupts,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    early: bool,
    signal: Arc<OnceLock<Signal>>,
}

/// What is to be done about the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It is to be sent this signal.
    Send(Signal),
    /// It has got this signal from the terminal.
    Sent(Signal),
}

impl Ending {
    pub(super) fn new(interrupts: Interrupts, duration: Option<Duration>) -> Ending {
        let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
        Ending { interrupts, deadline, kill_at: None, early: false, signal: Arc::default() }
    }

    /// Whether the end has been asked for. A signal that has come and was not looked at counts: one
    /// to the whole process group can have ended the command already.
    pub(super) fn early(&self) -> bool {
        let mut fds = [PollFd::new(&self.interrupts, PollFlags::IN)];
        self.early || poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Where the signal will be that asks for the end first; all of them once this is dropped.
    pub(super) fn signal(&self) -> Arc<OnceLock<Signal>> {
        Arc::clone(&self.signal)
    }

    /// What has been asked for since this was called last.
    pub(super) fn demand(&mut self) -> Option<Demand> {
        let now = Instant::now();
        if let Some(interrupt) = self.interrupts.take() {
            let _ = self.signal.set(interrupt.signal);
            if self.early {
                return Some(Demand::Send(Signal::KILL));
            }
            self.begin(now);
            return Some(match interrupt.from_terminal {
                true => Demand::Sent(interrupt.signal),
                false => Demand::Send(interrupt.signal),
            });
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            if !self.early {
                self.begin(now);
                return Some(Demand::Send(Signal::TERM));
            }
        }
        if self.kill_at.is_some_and(|kill_at| kill_at <= now) {
            self.kill_at = None;
            return Some(Demand::Send(Signal::KILL));
        }
        None
    }

    /// How long there is nothing to ask for at most; `None` for ever.
    pub(super) fn patience(&self) -> Option<Duration> {
        let next = self.deadline.into_iter().chain(self.kill_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn begin(&mut self, now: Instant) {
        self.early = true;
        self.kill_at = now.checked_add(GRACE);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(interrupt) = self.interrupts.take() {
            let _ = self.signal.set(interrupt.signal);
        }
    }
}

impl AsFd for Ending {
    /// Readable when there is a demand from outside.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.interrupts.as_fd()
    }
}
