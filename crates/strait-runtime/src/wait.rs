//! Waiting for a child as if it had been started directly: signals, stops and the way it ends.

use std::io;
use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use strait_kernel::child::{Change, Child};
use strait_kernel::signal::{self, Relay};
use strait_kernel::task::Task;
use strait_kernel::watch::{Watch, Watched};

use crate::exec_check::{ExecCheck, NotAllowed};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The last signal that came to this process and asks a program to end, if one came.
    pub interrupted_by: Option<i32>,
}

/// Something else that is looked after while a child runs.
pub trait Attended {
    /// Becomes readable when there is something to do.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Does all that there is to do, without waiting. Whether there may come more.
    ///
    /// # Errors
    /// If it cannot be looked after any more.
    fn attend(&mut self) -> io::Result<bool>;
}

/// What a child and all that it starts execute, held to a list while it is waited for.
pub struct Held<'a> {
    /// The tracing of them.
    pub watch: Watch,
    /// What may be executed.
    pub check: ExecCheck,
    /// Is told of each program that was killed as it may not be executed.
    pub tell: &'a mut dyn FnMut(Pid, &NotAllowed),
}

impl Held<'_> {
    fn changed(&mut self) -> io::Result<Watched> {
        let Held { watch, check, tell } = self;
        watch.attend(&mut |process| match check.check(process) {
            Ok(()) => true,
            Err(refused) => {
                tell(process, &refused);
                false
            }
        })
    }
}

/// Waits until a child ends.
///
/// What a process sends to this one alone is passed on; what the terminal sends has come to the
/// child too, which is in the same process group. When the child is stopped, this process stops
/// as well, so that a shell sees a stopped job, and when it is continued it continues the child.
///
/// # Errors
/// ECHILD if somebody else has waited for the child.
pub fn until_end(child: &Child, relay: &Relay) -> io::Result<Ended> {
    until_end_attending(child, relay, None, None)
}

/// As [`until_end`], and looks after something else meanwhile. Where what is executed is held to a list,
/// it waits until everything that the child has started has ended too, as that would be killed with
/// this thread.
///
/// # Errors
/// As well, if that fails.
pub fn until_end_attending(
    child: &Child,
    relay: &Relay,
    mut attended: Option<&mut dyn Attended>,
    mut held: Option<Held<'_>>,
) -> io::Result<Ended> {
    let mut interrupted_by = None;
    let mut ended = None;
    loop {
        if let Some(other) = attended.take_if(|_| true) {
            attended = other.attend()?.then_some(other);
        }
        while let Some(received) = relay.received() {
            if ENDING.iter().any(|signal| signal.as_raw() == received.signal) {
                interrupted_by = Some(received.signal);
            }
            if received.from_process && received.signal != Signal::CHILD.as_raw() {
                // Fails if the child has become another user's, as set-user-id programs do: then
                // the sender could not have reached it either.
                let _ = child.signal_number(received.signal);
            }
        }
        let change = match &mut held {
            None => child.changed()?,
            Some(held) => match (held.changed()?, ended) {
                (Watched::Changed(Change::Ended(status)), _) => {
                    ended = Some(status);
                    continue;
                }
                (Watched::Changed(change), _) => Some(change),
                (Watched::Nothing, _) => None,
                (Watched::Done, Some(status)) => Some(Change::Ended(status)),
                (Watched::Done, None) => return Err(Errno::CHILD.into()),
            },
        };
        match change {
            Some(Change::Ended(status)) => return Ok(Ended { status, interrupted_by }),
            Some(Change::Stopped) => mirror_stop(child)?,
            None => {
                let mut fds = vec![PollFd::new(relay, PollFlags::IN)];
                // Readable from its end on, when there are others to wait for.
                fds.extend(ended.is_none().then(|| PollFd::new(child, PollFlags::IN)));
                let other = attended.as_ref().map(|other| other.descriptor());
                fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
                // The relay's descriptor is readable when SIGCHLD has come, too.
                match poll(&mut fds, None::<&Timespec>) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
    }
}

/// Signals that ask a program to end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Stops this process if the child stays stopped, and continues the child afterwards.
///
/// The terminal stops and continues both at once. So that a stop that is over already is not
/// taken up, the child must still be stopped after a moment.
fn mirror_stop(child: &Child) -> io::Result<()> {
    thread::sleep(Duration::from_millis(20));
    let stopped =
        Task::read(child.pid(), child.pid()).is_ok_and(|task| matches!(task.state, 'T' | 't'));
    if stopped {
        signal::stop();
        child.signal(Signal::CONT)?;
    }
    Ok(())
}
