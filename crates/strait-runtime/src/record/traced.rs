//! The ptrace engine: a thread that traces the workload, and one that waits for the end.

mod count;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use strait_bpf::Program;
use strait_kernel::child::{Child, ExecError, PendingChild};
use strait_kernel::dump::DumpError;
use strait_kernel::ebpf::Counts;
use strait_kernel::ptrace::{Event, Tracer, Until};
use strait_kernel::waker::Waker;

use self::count::Counter;
use super::counted::Counted;
use super::ending::{Demand, Ending};
use super::life::Life;
use super::tree::{descendants, has_filter};
use super::{RecordError, Request, Target};
use crate::launch::{Enforcement, Verified};
use crate::listeners::Listeners;

/// How often a tracer that is to stop is told so until it has.
const AGAIN: Duration = Duration::from_millis(2);

const FILTERED: &str = "there was a filter, and ptrace sees a call before it: calls that the \
                        filter answered are counted as made";
const UNPRIVILEGED: &str = "a set-user-ID program was run without its privilege, as an \
                            unprivileged user traced it";

/// A recording by ptrace.
#[derive(Debug)]
pub(super) struct Observer {
    tracer: JoinHandle<Result<Traced, RecordError>>,
    shared: Arc<Shared>,
    waker: Waker,
    command: Option<Child>,
    ending: Ending,
    filtered: bool,
    confined: bool,
}

/// What was counted, and whether a set-user-ID program was run.
type Traced = (Counts, bool);

/// What the tracer found on the confined command at its exec, before its first instruction.
type Found = Result<Vec<Program>, DumpError>;

/// The tracer's side of the check of a confined command: it tells what it found, and holds the
/// command until it may go on; if it may not, the other side just goes.
struct Inspection {
    found: mpsc::Sender<Found>,
    go_on: mpsc::Receiver<()>,
}

/// What the two threads tell each other.
#[derive(Debug)]
struct Shared {
    /// The tracer is to end.
    stop: AtomicBool,
    /// The tracer has ended, or is about to and does nothing else.
    done: AtomicBool,
    /// How the command ended.
    status: Mutex<Option<ExitStatus>>,
    /// Written after the status is there, and after the tracer is done.
    news: OwnedFd,
}

impl Shared {
    fn status(&self) -> Option<ExitStatus> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        // It cannot block: two writes do not fill the counter.
        let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
    }
}

/// Traces the target, and runs the command.
pub(super) fn start(
    request: &Request<'_>,
    pending: Option<PendingChild>,
    ending: Ending,
) -> Result<(Observer, Option<Verified>), RecordError> {
    let enforcement = match &request.target {
        Target::Command { enforcement, .. } => *enforcement,
        _ => None,
    };
    let confinement = enforcement.map(Enforcement::confinement);
    let runs = !matches!(request.target, Target::Command { .. });
    let (tasks, command, filtered) = match (&request.target, &pending) {
        (Target::Command { .. }, Some(child)) => {
            (vec![child.pid()], Some(child.pid()), has_filter(None))
        }
        (&Target::Process(pid), _) => (tree(pid)?, None, has_filter(Some(pid))),
        (Target::Cgroup(path), _) => (members(path)?, None, false),
        (Target::Namespaces(_) | Target::Container { .. }, _) => return Err(RecordError::OnlyEbpf),
        (Target::Command { .. }, None) => unreachable!("a command has been forked"),
    };
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        done: AtomicBool::new(false),
        status: Mutex::new(None),
        news: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| RecordError::Wait(errno.into()))?,
    });
    let (ready, is_ready) = mpsc::channel();
    let filter = confinement.map(|confinement| confinement.program.clone());
    let (found, is_found) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let inspection = confinement.map(|_| Inspection { found, go_on: may_go_on });
    // Of a cgroup every process is one of the first; threads are none, but also no processes.
    let roots: HashSet<Pid> = match &request.target {
        &Target::Process(pid) => HashSet::from([pid]),
        _ => tasks.iter().copied().collect(),
    };
    let counter = Counter::new(command, filter, roots, Life::new(&request.ready, runs));
    let theirs = Arc::clone(&shared);
    let tracer = thread::Builder::new()
        .name("tracer".to_owned())
        .spawn(move || {
            let result = trace(&tasks, command, counter, inspection, &theirs, &ready);
            theirs.done.store(true, Ordering::Release);
            theirs.tell();
            result
        })
        .map_err(RecordError::Wait)?;
    let Ok(waker) = is_ready.recv() else {
        // It has ended without being ready, so with an error.
        return match tracer.join() {
            Ok(Err(error)) => Err(error),
            _ => unreachable!("the tracer is ready or has an error, and does not panic"),
        };
    };
    let command = match pending {
        Some(pending) => Some(pending.exec(confinement)?),
        None => None,
    };
    let verified = match (enforcement, &command) {
        (Some(enforcement), Some(child)) => {
            let checked = match is_found.recv() {
                // The gate's listener is closed by now: a child that is at exec holds no copy, and
                // ours is gone.
                Ok(found) => enforcement.verify(found, Listeners::default),
                // It was killed on its way there, and the tracer has seen its end.
                Err(_) => {
                    let status = shared.status().unwrap_or_default();
                    Err(ExecError::Died { status }.into())
                }
            };
            match checked {
                Ok(verified) => {
                    // A tracer that has ended needs no word.
                    let _ = go_on.send(());
                    Some(verified)
                }
                // A program that is not confined as was meant does not make its first step, even
                // if this process ends here and now.
                Err(error) => {
                    child.signal(Signal::KILL).map_err(RecordError::Wait)?;
                    return Err(error.into());
                }
            }
        }
        _ => None,
    };
    let confined = confinement.is_some();
    let observer = Observer { tracer, shared, waker, command, ending, filtered, confined };
    Ok((observer, verified))
}

impl Observer {
    /// Waits for the end, and for what was counted.
    pub(super) fn wait(mut self) -> Result<Counted, RecordError> {
        while !self.shared.done.load(Ordering::Acquire) {
            let status = self.shared.status();
            if self.ending.early() && (status.is_some() || self.command.is_none()) {
                self.shared.stop.store(true, Ordering::Release);
                self.waker.wake();
                thread::sleep(AGAIN);
                continue;
            }
            match (self.ending.demand(), &self.command) {
                (Some(Demand::Send(signal)), Some(child)) if status.is_none() => {
                    child.signal(signal).map_err(RecordError::Wait)?;
                }
                (Some(_), _) => {}
                (None, _) => self.pause()?,
            }
        }
        let (counts, ran_set_id) = match self.tracer.join() {
            Ok(counts) => counts?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let status = self.shared.status();
        let mut blind_spots = Vec::new();
        let filtered = self.filtered || counts.statistics.filtered_tasks > 0;
        if filtered {
            blind_spots.push(FILTERED.to_owned());
        }
        if ran_set_id && !rustix::process::geteuid().is_root() {
            blind_spots.push(UNPRIVILEGED.to_owned());
        }
        Ok(Counted {
            counts,
            status,
            interrupted: self.ending.early(),
            filtered: filtered || self.confined,
            sees_results: true,
            lost: Vec::new(),
            blind_spots,
        })
    }

    /// Waits until something may have happened.
    fn pause(&self) -> Result<(), RecordError> {
        let mut fds = [
            PollFd::new(&self.ending, PollFlags::IN),
            PollFd::new(&self.shared.news, PollFlags::IN),
        ];
        let timeout = self.ending.patience().and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(RecordError::Wait(errno.into())),
        }
        // What it is about is asked for elsewhere; nothing to read is fine.
        let _ = rustix::io::read(&self.shared.news, &mut [0; 8]);
        Ok(())
    }
}

/// The tracing thread.
fn trace(
    tasks: &[Pid],
    command: Option<Pid>,
    mut counter: Counter,
    mut inspection: Option<Inspection>,
    shared: &Shared,
    ready: &mpsc::Sender<Waker>,
) -> Result<Traced, RecordError> {
    let tracer = Tracer::new();
    let waker = Waker::new();
    for &task in tasks {
        match tracer.seize(task) {
            // What runs already shows its calls only once it has been stopped; the command is
            // not looked at before it execs, at which it stops.
            Ok(()) if command.is_none() => attend(tracer.interrupt(task), task)?,
            Ok(()) => {}
            Err(error) if command.is_none() && is_gone(&error) => {}
            Err(source) => return Err(ptrace_error(source, task)),
        }
    }
    // Without a receiver there is nobody to wait either.
    let _ = ready.send(waker);
    while !shared.stop.load(Ordering::Acquire) {
        let (task, event) = match tracer.wait() {
            Ok(Some(happened)) => happened,
            Ok(None) => break,
            Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => continue,
            Err(error) => return Err(RecordError::Wait(error)),
        };
        let signal = match event {
            Event::Ended(status) => {
                counter.ended(task);
                if Some(task) == command {
                    *shared.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    shared.tell();
                }
                continue;
            }
            Event::Group => {
                attend(tracer.listen(task), task)?;
                continue;
            }
            Event::Call => {
                match tracer.call(task) {
                    Ok(call) => counter.call(task, call),
                    Err(error) => attend(Err(error), task)?,
                }
                0
            }
            Event::Started(new) => {
                counter.started(task, new);
                0
            }
            Event::Exec(before) => {
                counter.exec(task, before);
                if let Some(Inspection { found, go_on }) = inspection.take() {
                    let _ = found.send(tracer.filters(task));
                    if go_on.recv().is_err() {
                        let _ = kill_process(task, Signal::KILL);
                    }
                }
                0
            }
            Event::Signal(signal) => {
                counter.signal(task, signal);
                signal
            }
            Event::Interrupted => 0,
        };
        let until = if counter.counts_calls_of(task) { Until::Call } else { Until::Event };
        attend(tracer.resume(task, until, signal), task)?;
    }
    Ok(counter.finish())
}

/// A task may be killed at any point; its end is reported all the same.
fn attend(result: io::Result<()>, task: Pid) -> Result<(), RecordError> {
    match result {
        Err(error) if !is_gone(&error) => Err(ptrace_error(error, task)),
        _ => Ok(()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn ptrace_error(source: io::Error, task: Pid) -> RecordError {
    RecordError::Ptrace { pid: task.as_raw_nonzero().get(), source }
}

/// All threads of a process and its descendants.
fn tree(root: Pid) -> Result<Vec<Pid>, RecordError> {
    let mut tasks = threads(root)
        .map_err(|source| RecordError::NoProcess { pid: root.as_raw_nonzero().get(), source })?;
    for pid in descendants(root) {
        tasks.extend(threads(pid).unwrap_or_default());
    }
    Ok(tasks)
}

fn members(cgroup: &Path) -> Result<Vec<Pid>, RecordError> {
    let path = cgroup.join("cgroup.procs");
    let error = |source| RecordError::Cgroup { path: path.clone(), source };
    let text = fs::read_to_string(&path).map_err(error)?;
    let processes = text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    Ok(processes.flat_map(|pid| threads(pid).unwrap_or_default()).collect())
}

fn threads(process: Pid) -> io::Result<Vec<Pid>> {
    let mut tasks = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        let name = entry?.file_name();
        tasks.extend(name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)));
    }
    Ok(tasks)
}
