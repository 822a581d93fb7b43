//! Reading back the filters that the kernel really has on a thread (`PTRACE_SECCOMP_GET_FILTER`).
//!
//! The thread must be stopped for it. Tracing is done by a thread of our own that lives for this
//! alone: however it ends, by panic, timeout or the death of the whole process, the kernel
//! detaches what it traced, and nothing stays stopped.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::SecureComputingMode;
use strait_bpf::{Program, ProgramError};

use crate::stop::Stop;
use crate::task::{self, Mode, Task};
use crate::tracee::Tracee;

/// The filters of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Each program as it was installed, the oldest first.
    pub filters: Vec<Program>,
    /// How long the thread was stopped, at most: from the request to stop to its end.
    pub stopped: Duration,
}

/// Why the filters of a thread could not be read. It runs on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// There is no such thread (any more).
    #[error("thread {thread} is gone")]
    Gone {
        /// The thread.
        thread: Pid,
    },
    /// The caller has no CAP_SYS_ADMIN in the first user namespace.
    #[error(
        "reading filters needs CAP_SYS_ADMIN on the host (run as root, outside of user namespaces)"
    )]
    Privilege {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The caller has a filter itself; the kernel shows filters to nobody who has one.
    #[error(
        "reading filters needs a process without a seccomp filter of its own, and this one has one (a container's default profile, perhaps)"
    )]
    CallerFiltered {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else traces the thread, and there can be only one.
    #[error("thread {thread} is traced by process {tracer} already")]
    Traced {
        /// The thread.
        thread: Pid,
        /// Its tracer.
        tracer: Pid,
    },
    /// A thread of the kernel: it has no filter.
    #[error("{thread} is a kernel thread, which has no filter")]
    KernelThread {
        /// The thread.
        thread: Pid,
    },
    /// The process has ended and only waits for its parent to notice.
    #[error("{thread} has ended (a zombie)")]
    Zombie {
        /// The thread.
        thread: Pid,
    },
    /// A process cannot trace itself.
    #[error("a process cannot read its own filters")]
    Caller,
    /// The kernel does not let the caller trace the thread.
    #[error(
        "thread {thread} may not be traced (another user's, Yama's ptrace_scope, or a security module)"
    )]
    Denied {
        /// The thread.
        thread: Pid,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The thread did not stop: it sleeps where no signal reaches it (state D).
    #[error("thread {thread} did not stop within {} ms: it waits in the kernel for a device or file system", waited.as_millis())]
    NotStopping {
        /// The thread.
        thread: Pid,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The kernel cannot show filters.
    #[error("this kernel cannot show filters: it lacks CONFIG_CHECKPOINT_RESTORE")]
    Unsupported {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A program that this version of Strait does not take for one.
    #[error(
        "filter {index} of thread {thread} is no program that Strait knows (please report this)"
    )]
    Program {
        /// The thread.
        thread: Pid,
        /// Which filter, 0 being the oldest.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: ProgramError,
    },
    /// Anything else.
    #[error("the filters of thread {thread} could not be read")]
    Os {
        /// The thread.
        thread: Pid,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// How long a thread is given to stop where nothing else is said. One that runs or sleeps stops
/// within microseconds.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Reads the filters of one thread.
///
/// # Errors
/// Why they cannot be read.
pub fn filters(thread: Pid) -> Result<Dump, DumpError> {
    match filters_of(&[thread], PATIENCE).pop() {
        Some(dump) => dump,
        None => unreachable!("one thread was asked for and each gets an answer"),
    }
}

/// Reads the filters of several threads, one after the other; the answers are in the same order.
/// Each is stopped by itself and only while it is read, and is given up if it does not stop within
/// `patience`.
pub fn filters_of(threads: &[Pid], patience: Duration) -> Vec<Result<Dump, DumpError>> {
    let mut answers = Vec::with_capacity(threads.len());
    while let Some(rest) = threads.get(answers.len()..).filter(|rest| !rest.is_empty()) {
        let before = answers.len();
        let tracer = thread::Builder::new().name("strait-dump".into());
        let traced = thread::scope(|scope| {
            let tracer = tracer.spawn_scoped(scope, || dump_until_stuck(rest, patience))?;
            tracer.join().map_err(|_| io::Error::other("the tracing thread panicked"))
        });
        match traced {
            Ok(more) => answers.extend(more),
            Err(source) => answers.push(Err(DumpError::Os { thread: rest[0], source })),
        }
        debug_assert!(answers.len() > before, "each round answers for one thread at least");
    }
    answers
}

/// Dumps one thread after the other, up to the first that does not stop: a thread that does not
/// stop is let go by the end of its tracer alone.
fn dump_until_stuck(threads: &[Pid], patience: Duration) -> Vec<Result<Dump, DumpError>> {
    let mut answers = Vec::with_capacity(threads.len());
    for &thread in threads {
        let answer = dump(thread, patience);
        let stuck = matches!(answer, Err(DumpError::NotStopping { .. }));
        answers.push(answer);
        if stuck {
            break;
        }
    }
    answers
}

fn dump(thread: Pid, patience: Duration) -> Result<Dump, DumpError> {
    let tracee = seize(thread)?;
    let asked = Instant::now();
    tracee.interrupt().map_err(|source| lost(thread, source))?;
    let signal = match wait_for_stop(&tracee, thread, asked, patience)? {
        Stop::Signal(signal) => signal,
        _ => 0,
    };
    let filters = filters_of_stopped(&tracee, thread);
    // If this fails the thread was killed meanwhile.
    let _ = tracee.detach(signal);
    let stopped = asked.elapsed();
    Ok(Dump { filters: filters?, stopped })
}

/// How long a thread is waited for that somebody else traces: another who only reads its filters is
/// done in a moment.
const TRACER_PATIENCE: Duration = Duration::from_millis(20);

fn seize(thread: Pid) -> Result<Tracee, DumpError> {
    let asked = Instant::now();
    loop {
        let error = match Tracee::seize(thread, 0) {
            Ok(tracee) => return Ok(tracee),
            Err(error) => not_traceable(thread, error),
        };
        // What is told as denied may have been traced a moment ago.
        let passing = matches!(error, DumpError::Traced { .. } | DumpError::Denied { .. });
        if !passing || asked.elapsed() >= TRACER_PATIENCE {
            return Err(error);
        }
        thread::sleep(Duration::from_micros(500));
    }
}

/// Reads the filters of a thread that is stopped by us.
pub(crate) fn filters_of_stopped(tracee: &Tracee, thread: Pid) -> Result<Vec<Program>, DumpError> {
    let mut filters = Vec::new();
    loop {
        let index = filters.len();
        match tracee.filter(index) {
            Ok(None) => return Ok(filters),
            Ok(Some(insns)) => {
                filters.push(Program::new(insns).map_err(|source| DumpError::Program {
                    thread,
                    index,
                    source,
                })?)
            }
            Err(source) if source.raw_os_error() == Some(libc::EINVAL) && index == 0 => {
                // EINVAL is the answer for a thread without filters, too.
                return match Task::read(thread, thread).map(|task| task.mode) {
                    Ok(Mode::Filter) => Err(DumpError::Unsupported { source }),
                    Ok(_) => Ok(filters),
                    Err(_) => Err(DumpError::Gone { thread }),
                };
            }
            Err(source) => return Err(not_readable(thread, source)),
        }
    }
}

fn wait_for_stop(
    tracee: &Tracee,
    thread: Pid,
    since: Instant,
    patience: Duration,
) -> Result<Stop, DumpError> {
    let mut pause = Duration::from_micros(20);
    loop {
        match tracee.stopped() {
            Ok(Some(stop)) => return Ok(stop),
            Ok(None) => {}
            Err(source) => return Err(lost(thread, source)),
        }
        let waited = since.elapsed();
        if waited >= patience {
            return Err(DumpError::NotStopping { thread, waited });
        }
        if waited < Duration::from_micros(200) {
            // A thread that runs or sleeps stops within microseconds; to sleep ourselves would
            // make the stop longer than need be.
            thread::yield_now();
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

/// Why a thread cannot be traced: the kernel says EPERM for many reasons.
fn not_traceable(thread: Pid, source: io::Error) -> DumpError {
    if source.raw_os_error() == Some(libc::ESRCH) {
        return DumpError::Gone { thread };
    }
    if task::threads(rustix::process::getpid()).is_ok_and(|own| own.contains(&thread)) {
        return DumpError::Caller;
    }
    match Task::read(thread, thread) {
        Ok(task) if task.kernel => DumpError::KernelThread { thread },
        Ok(task) if task.is_zombie() => DumpError::Zombie { thread },
        Ok(Task { tracer: Some(tracer), .. }) => DumpError::Traced { thread, tracer },
        Ok(_) => DumpError::Denied { thread, source },
        Err(_) => DumpError::Gone { thread },
    }
}

/// Why a stopped thread's filters cannot be read.
fn not_readable(thread: Pid, source: io::Error) -> DumpError {
    match source.raw_os_error() {
        Some(libc::EACCES) => match rustix::thread::secure_computing_mode() {
            Ok(SecureComputingMode::Disabled) => DumpError::Privilege { source },
            _ => DumpError::CallerFiltered { source },
        },
        Some(libc::EIO) => DumpError::Unsupported { source },
        _ => lost(thread, source),
    }
}

/// A request for a traced thread failed: mostly because it is dead.
fn lost(thread: Pid, source: io::Error) -> DumpError {
    match source.raw_os_error() {
        Some(libc::ESRCH | libc::ECHILD) => DumpError::Gone { thread },
        _ => DumpError::Os { thread, source },
    }
}
