//! The notify engine: the workload waits before each call until a thread here has counted it and
//! lets it go on.
//!
//! It needs no privilege and sees every call of every ABI before it is decided on, unless another
//! filter of the workload denies it. It does not see what comes of a call.

mod caller;

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use rustix::thread::gettid;
use strait_kernel::child::{Change, Child, PendingChild};
use strait_kernel::ebpf::Counts;
use strait_kernel::notified::Supervised;
use strait_kernel::seccomp::{Notification, Privileges};
use strait_kernel::supervision::{Keeper, Supervision, is_over};
use strait_kernel::task::{CAP_SYS_ADMIN, Task};
use strait_kernel::waker::Waker;

use self::caller::{Caller, Callers};
use super::counted::Counted;
use super::ending::{Demand, Ending};
use super::life::Life;
use super::status::Status;
use super::tally::{Tally, loads_filter};
use super::tree::has_filter;
use super::{Ready, RecordError};

/// How often a supervisor that is to stop is told so until it has.
const AGAIN: Duration = Duration::from_millis(1);

const RESULTS: &str = "the notify engine sees calls before they are made, and no signals: what came \
                       of calls is not in the recording, and shutdown only where the recorder \
                       passes on the signal for it";
const FILTERED: &str = "the workload put a filter on itself: what that denied was not seen, and \
                        no tracer is asked by it while calls are notified";
const UNPRIVILEGED: &str = "a set-user-ID program was run without its privilege, as the filter of \
                            an unprivileged recorder takes no_new_privs";
const LISTENER: &str = "the workload asked for a listener of its own and was refused (EBUSY): \
                        there can be one only. Record it with another engine";

/// A recording by notification.
#[derive(Debug)]
pub(super) struct Observer {
    supervisor: JoinHandle<Result<Noted, RecordError>>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    told_to_end: Arc<AtomicBool>,
    /// Hangs up when the supervisor has ended.
    ended: OwnedFd,
    /// Hangs up when no task has the filter any more.
    listener: OwnedFd,
    command: Child,
    ending: Ending,
    filtered: bool,
    no_new_privs: bool,
    /// Goes last: it takes over what is left.
    keeper: Keeper,
}

/// What the supervisor is told.
#[derive(Debug)]
struct Said {
    /// It is to end.
    stop: Arc<AtomicBool>,
    /// The command has been told to end, or is told so now.
    told_to_end: Arc<AtomicBool>,
}

/// What the supervisor comes back with.
#[derive(Debug)]
struct Noted {
    counts: Counts,
    set_id: bool,
    wanted_listener: bool,
}

/// Puts the filter on the command and runs it.
pub(super) fn start(
    pending: PendingChild,
    ending: Ending,
    ready: &Ready,
) -> Result<Observer, RecordError> {
    let filtered = has_filter(None);
    // What the command inherits, and the filter that notifies.
    let own = Status::of(gettid()).and_then(|status| status.filters());
    let callers = Callers::new(pending.pid(), own.map(|filters| filters + 1));
    let tally = Tally::new(Life::new(ready, false));
    let privileges = privileges();
    let notified = pending.notify(privileges)?;
    let keeper = notified.supervision().keep().map_err(RecordError::Keeper)?;
    let Supervised { child, supervision, first } = notified.exec()?;
    let listener = dup(&supervision)?;
    let (ended, until_end) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| RecordError::Wait(errno.into()))?;
    let stop = Arc::new(AtomicBool::new(false));
    let told_to_end = Arc::new(AtomicBool::new(false));
    let (ready, is_ready) = mpsc::channel();
    let said = Said { stop: Arc::clone(&stop), told_to_end: Arc::clone(&told_to_end) };
    let supervisor = thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(move || {
            let _until_end = until_end;
            // Without a receiver there is nobody who would wake it.
            let _ = ready.send(Waker::new());
            supervise(supervision, first, callers, tally, &said)
        })
        .map_err(RecordError::Wait)?;
    let waker = match is_ready.recv() {
        Ok(waker) => waker,
        Err(_) => unreachable!("the supervisor sends before it does anything else"),
    };
    Ok(Observer {
        supervisor,
        waker,
        stop,
        told_to_end,
        ended,
        listener,
        command: child,
        ending,
        filtered,
        no_new_privs: privileges == Privileges::NoNew,
        keeper,
    })
}

impl Observer {
    /// Waits for the end, and for what was counted.
    pub(super) fn wait(mut self) -> Result<Counted, RecordError> {
        let mut status = None;
        loop {
            let over = is_over(&self.listener);
            if status.is_none()
                && let Some(Change::Ended(end)) =
                    self.command.changed().map_err(RecordError::Wait)?
            {
                status = Some(end);
            }
            // Without a supervisor there is nothing more to see, but for how it ended.
            let failed = self.supervisor.is_finished() && !over;
            if failed || (status.is_some() && (self.ending.early() || over)) {
                break;
            }
            match self.ending.demand() {
                Some(Demand::Send(signal)) if status.is_none() => {
                    self.ends_by(signal);
                    self.command.signal(signal).map_err(RecordError::Wait)?;
                }
                Some(Demand::Sent(signal)) => self.ends_by(signal),
                Some(_) => {}
                None => self.pause(status, over)?,
            }
        }
        self.stop.store(true, Ordering::Release);
        while !self.supervisor.is_finished() {
            self.waker.wake();
            thread::sleep(AGAIN);
        }
        drop(self.keeper);
        let noted = match self.supervisor.join() {
            Ok(noted) => noted?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let loaded = noted.counts.statistics.filtered_tasks > 0;
        let blind_spots = [
            (true, RESULTS),
            (loaded, FILTERED),
            (noted.wanted_listener, LISTENER),
            (noted.set_id && self.no_new_privs, UNPRIVILEGED),
        ];
        Ok(Counted {
            counts: noted.counts,
            status,
            interrupted: self.ending.early(),
            filtered: self.filtered || loaded,
            sees_results: false,
            lost: Vec::new(),
            blind_spots: blind_spots
                .into_iter()
                .filter(|&(holds, _)| holds)
                .map(|(_, sentence)| sentence.to_owned())
                .collect(),
        })
    }

    /// The command gets a signal, which may tell it to end.
    fn ends_by(&self, signal: Signal) {
        let status = Status::of(self.command.pid());
        if status.is_some_and(|status| status.is_ended_by(signal.as_raw())) {
            self.told_to_end.store(true, Ordering::Release);
        }
    }

    /// Waits until something may have happened.
    fn pause(&self, status: Option<ExitStatus>, over: bool) -> Result<(), RecordError> {
        let mut fds = vec![PollFd::new(&self.ending, PollFlags::IN)];
        if !over {
            fds.push(PollFd::new(&self.ended, PollFlags::IN));
        }
        match status {
            None => fds.push(PollFd::new(&self.command, PollFlags::IN)),
            // The hang-up is always reported, and calls are not asked for.
            Some(_) => fds.push(PollFd::new(&self.listener, PollFlags::empty())),
        }
        let timeout = self.ending.patience().and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(RecordError::Wait(errno.into())),
        }
    }
}

/// The supervising thread.
fn supervise(
    mut supervision: Supervision,
    first: Option<Notification>,
    mut callers: Callers,
    mut tally: Tally,
    said: &Said,
) -> Result<Noted, RecordError> {
    let Said { stop, told_to_end } = said;
    let mut wanted_listener = false;
    let mut next = first;
    loop {
        let call = match next.take().map_or_else(|| supervision.receive(), Ok) {
            Ok(call) => call,
            // The call is gone, a signal came, or nobody is left.
            Err(error) if is(&error, Errno::NOENT) || is(&error, Errno::INTR) => {
                if stop.load(Ordering::Acquire) || supervision.is_over() {
                    break;
                }
                continue;
            }
            Err(error) => return Err(RecordError::Notify(error)),
        };
        if told_to_end.load(Ordering::Acquire) {
            told_to_end.store(false, Ordering::Relaxed);
            tally.life().end(callers.commands_lineage());
        }
        let caller = callers.caller(&call, &supervision, &mut tally);
        match supervision.pass(call.id) {
            // Only what goes on is made; what was interrupted will come again.
            Ok(()) => {
                let made = caller.and_then(|Caller { image, lineage }| {
                    tally.entered(image, lineage, &call.data)
                });
                if made.is_some_and(|made| loads_filter(made, &call.data)) {
                    match wants_listener(&call) {
                        true => wanted_listener = true,
                        false => {
                            tally.filtered();
                            callers.may_be_filtered();
                        }
                    }
                }
            }
            Err(error) if is(&error, Errno::NOENT) => {}
            Err(error) => return Err(RecordError::Notify(error)),
        }
        if stop.load(Ordering::Acquire) {
            break;
        }
    }
    Ok(Noted { counts: tally.counts(), set_id: callers.ran_set_id(), wanted_listener })
}

/// Whether a call that loads a filter asks for a listener: of prctl(2) the argument is an address.
fn wants_listener(call: &Notification) -> bool {
    const SECCOMP_SET_MODE_FILTER: u64 = 1;
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: u64 = 1 << 3;
    let [operation, flags, ..] = call.data.args;
    operation == SECCOMP_SET_MODE_FILTER && flags & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

/// `no_new_privs` is left alone where that is allowed, so that set-user-ID programs work as ever.
pub(super) fn privileges() -> Privileges {
    let own = rustix::process::getpid();
    match Task::read(own, own) {
        Ok(task) if task.capabilities.has_effective(CAP_SYS_ADMIN) => Privileges::Keep,
        _ => Privileges::NoNew,
    }
}

fn dup(supervision: &Supervision) -> Result<OwnedFd, RecordError> {
    use std::os::fd::AsFd;
    supervision.as_fd().try_clone_to_owned().map_err(RecordError::Wait)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
