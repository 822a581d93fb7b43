//! Recording: what a command, a process or a cgroup calls, from its first instruction to the end
//! of the last task that it started.
//!
//! Four engines observe, and give the same document. `ebpf` counts in the kernel and needs
//! privilege; `notify` lets each call wait until it is counted and needs none, but sees no results;
//! `ptrace` stops each task twice at each call; `audit` reads what the kernel logs of each call.

mod counted;
mod document;
mod ending;
mod followed;
mod life;
mod logged;
mod notified;
mod program;
mod program_file;
mod several;
mod status;
mod tally;
mod traced;
mod tree;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::slice;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, test_kill_process};
use strait_abi::Syscall;
use strait_kernel::audit::AuditError;
use strait_kernel::child::{ExecError, ForkError, PendingChild};
use strait_kernel::command::Command;
use strait_kernel::ebpf::{self, EbpfError, READY};
use strait_kernel::interrupts::Interrupts;
use strait_policy::Recording;
use strait_policy::recording::{Engine, text};

use crate::launch::{Enforcement, StartError, Verified};
use crate::oci::hook::RuntimeFile;

pub use several::{Several, SeveralRequest, start_several};

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What to record.
    pub target: Target<'a>,
    /// Who is to observe.
    pub engine: Choice,
    /// After this time the recording ends even if the workload has not. A command that still runs
    /// is told to end (SIGTERM, and SIGKILL if that does not help).
    pub duration: Option<Duration>,
    /// When the workload's start is over.
    pub ready: Ready,
}

/// When a workload's start is over and its steady phase begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// When it first makes one of these calls.
    Calls(Vec<Syscall>),
    /// This long after the recording has begun.
    After(Duration),
}

impl Default for Ready {
    /// When it first listens, accepts or waits for events ([`READY`]).
    fn default() -> Ready {
        Ready::Calls(READY.iter().filter_map(|name| Syscall::from_name(name)).collect())
    }
}

/// What to record.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// A command and everything that it starts, from its first instruction after exec until the
    /// last of them has ended.
    Command {
        /// The command.
        command: &'a Command,
        /// What it is confined by, if it is.
        enforcement: Option<&'a Enforcement>,
    },
    /// A process that runs already, with all its threads, its descendants and what they start.
    Process(Pid),
    /// Every process that makes a call in the version 2 cgroup of this directory or below it, and
    /// what it starts.
    Cgroup(PathBuf),
    /// Every process that makes a call in the pid, mount and network namespaces of this one, as far
    /// as they are not this process's too, and what it starts.
    Namespaces(Pid),
    /// The same of a container that its runtime has created and not started yet: nothing of it has
    /// been missed.
    Container {
        /// Its first process.
        init: Pid,
        /// The command that it is to run.
        command: Vec<String>,
        /// Whether the filter that it is to get lets everything pass.
        open: bool,
    },
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Command { command, .. } => {
                let program = command.arguments().next().unwrap_or_default();
                write!(f, "the command {}", text(program.as_encoded_bytes()))
            }
            Target::Process(pid) => write!(f, "process {}", pid.as_raw_pid()),
            Target::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Target::Namespaces(pid) | Target::Container { init: pid, .. } => {
                write!(f, "the namespaces of process {}", pid.as_raw_pid())
            }
        }
    }
}

/// Who is to observe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// eBPF where it is to be had; else notify for a command that is not confined, and ptrace for
    /// everything else. The recording says which and why.
    #[default]
    Auto,
    /// The same, of the engines that see what comes of a call: eBPF, else ptrace.
    AutoWithResults,
    /// eBPF, or an error.
    Ebpf,
    /// seccomp user notification, or an error. For commands that are not confined: a filter is
    /// put on a process by itself alone, and one that denies a call keeps it from the notifying
    /// one.
    Notify,
    /// ptrace, or an error.
    Ptrace,
    /// Audit records, or an error. For commands that are not confined.
    Audit,
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// No child could be made.
    #[error("the command cannot be started")]
    Fork(#[from] ForkError),
    /// The command was not executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The command was not confined as it should have been, and did not run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// eBPF was asked for and is not to be had, or failed.
    #[error("cannot record by eBPF")]
    Ebpf(#[from] EbpfError),
    /// Tracing failed.
    #[error("cannot record by ptrace: process {pid}")]
    Ptrace {
        /// The task that could not be traced.
        pid: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Audit records cannot be had or be read.
    #[error("cannot record by audit")]
    Audit(#[from] AuditError),
    /// The notified calls could not be answered.
    #[error("cannot record by notify")]
    Notify(#[source] io::Error),
    /// No process could be made that answers notified calls if this one dies.
    #[error("no process could be made that keeps the workload going if the recorder dies")]
    Keeper(#[source] io::Error),
    /// The engine cannot record this.
    #[error(
        "the {engine} engine records commands that are not confined, nothing else; take ebpf or ptrace"
    )]
    Target {
        /// The engine.
        engine: &'static str,
    },
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// Its id.
        pid: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespaces of a process tell it from nobody, or cannot be read.
    #[error("process {pid} has no namespaces of its own: record it by its process id")]
    Namespaces {
        /// Its id.
        pid: i32,
    },
    /// The engine records one workload at a time.
    #[error(
        "the {engine} engine records one workload at a time: take ebpf, or a recorder for each"
    )]
    OneAtATime {
        /// The engine.
        engine: &'static str,
    },
    /// There is no eBPF, without which workloads are recorded one at a time.
    #[error("several workloads at once take eBPF: record them by a recorder each")]
    SeveralWithoutEbpf(#[source] EbpfError),
    /// Workloads that are recorded together run already.
    #[error("{target} is yet to be started: record it by itself")]
    Starts {
        /// What it is.
        target: String,
    },
    /// Two workloads are one, or one is part of the other.
    #[error(
        "{first} and {second} have processes in common, and a process is recorded once: leave one \
         out, or record it by a recorder of its own"
    )]
    Overlap {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// Only eBPF records that.
    #[error("only the ebpf engine records a set of namespaces")]
    OnlyEbpf,
    /// The cgroup's files could not be read.
    #[error("cannot read {}", path.display())]
    Cgroup {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The means to wait for the workload.
    #[error("cannot wait for the workload")]
    Wait(#[source] io::Error),
}

impl RecordError {
    /// The exit status by which env(1) and container runtimes tell why a command was not run: 127
    /// not found, 126 not executable, 125 for a failure of the recorder.
    pub fn exit_status(&self) -> u8 {
        match self {
            RecordError::Exec(error) => error.exit_status(),
            RecordError::Start(error) => error.exit_status(),
            _ => 125,
        }
    }
}

/// Makes recordings, one after the other.
///
/// What was loaded into the kernel for one serves the next where that is of the same kind, which
/// saves most of the time that it takes to start one.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Loaded for commands, attached, and with nothing counted; or for a container that is to come.
    loaded: Option<ebpf::Recorder>,
    interrupted_by: Option<Signal>,
}

/// A recording that is being made.
///
/// While it lives SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end this process: [`Running::wait`]
/// passes them on to the command.
#[derive(Debug)]
pub struct Running {
    observer: Observer,
    engine: Engine,
    command: Vec<String>,
    container: document::Container,
    pid: Option<Pid>,
    verified: Option<Verified>,
    signal: Arc<OnceLock<Signal>>,
}

#[derive(Debug)]
enum Observer {
    Ebpf(Box<tree::Observer>),
    Notify(Box<notified::Observer>),
    Ptrace(Box<traced::Observer>),
    Audit(Box<logged::Observer>),
}

impl Recorder {
    /// A recorder that has loaded nothing yet.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// Loads what records a container, before it is known which. [`Recorder::start`] takes it for the first one.
    ///
    /// # Errors
    /// Where eBPF is not to be had.
    pub fn prepare_for_container(&mut self, ready: &Ready) -> Result<(), RecordError> {
        self.loaded = Some(tree::load_for_container(ready)?);
        Ok(())
    }

    /// As [`start()`], with what an earlier recording has left.
    ///
    /// # Errors
    /// As there.
    pub fn start(&mut self, request: &Request<'_>) -> Result<Running, RecordError> {
        begin(request, self.loaded.take())
    }

    /// As [`Running::wait`], but keeps what is loaded for the next recording.
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self, running: Running) -> Result<Recording, RecordError> {
        let Running { observer, engine, command, container, signal, .. } = running;
        let counted = match observer {
            Observer::Ebpf(observer) => {
                let (counted, loaded) = observer.wait_and_keep()?;
                self.loaded = loaded;
                counted
            }
            Observer::Notify(observer) => observer.wait()?,
            Observer::Ptrace(observer) => observer.wait()?,
            Observer::Audit(observer) => observer.wait()?,
        };
        self.interrupted_by = signal.get().copied();
        Ok(document::recording(engine, command, &container, counted))
    }

    /// The signal to this process that has ended the last recording, if one has.
    pub fn interrupted_by(&self) -> Option<Signal> {
        self.interrupted_by
    }
}

/// Starts to record. A command runs when this returns.
///
/// Call it on the program's first thread, before it has others: the signals are blocked for this
/// thread and those that it starts.
///
/// # Errors
/// If nothing can be observed; a command was not run then, or has been ended.
pub fn start(request: &Request<'_>) -> Result<Running, RecordError> {
    begin(request, None)
}

fn begin(request: &Request<'_>, loaded: Option<ebpf::Recorder>) -> Result<Running, RecordError> {
    exists(&request.target)?;
    let (observed, reason) = match request.engine {
        Choice::Ebpf => (by_ebpf(request, loaded)?, AS_ASKED.to_owned()),
        Choice::Notify => (by_notify(request)?, AS_ASKED.to_owned()),
        Choice::Ptrace => (by_ptrace(request)?, AS_ASKED.to_owned()),
        Choice::Audit => (by_audit(request)?, AS_ASKED.to_owned()),
        Choice::Auto => by_the_best(request, loaded, true)?,
        Choice::AutoWithResults => by_the_best(request, loaded, false)?,
    };
    let Observed { name, observer, verified, child, signal } = observed;
    let engine = Engine { name: name.to_owned(), reason };
    let (command, pid) = match &request.target {
        Target::Command { command, .. } => {
            (command.arguments().map(|arg| text(arg.as_encoded_bytes())).collect(), child)
        }
        &(Target::Process(pid) | Target::Namespaces(pid)) => (Vec::new(), Some(pid)),
        Target::Container { init, command, .. } => {
            let words = command.iter().map(|word| text(word.as_bytes()));
            (words.collect(), Some(*init))
        }
        Target::Cgroup(_) => (Vec::new(), None),
    };
    let container = document::Container::default();
    Ok(Running { observer, engine, command, container, pid, verified, signal })
}

/// Whether the process of a target is there: said before anything is loaded for it.
fn exists(target: &Target<'_>) -> Result<(), RecordError> {
    let &(Target::Process(pid) | Target::Namespaces(pid) | Target::Container { init: pid, .. }) =
        target
    else {
        return Ok(());
    };
    test_kill_process(pid)
        .or_else(|errno| if errno == Errno::PERM { Ok(()) } else { Err(errno) })
        .map_err(|errno| RecordError::NoProcess { pid: pid.as_raw_pid(), source: errno.into() })
}

const AS_ASKED: &str = "as asked for";
const AVAILABLE: &str = "eBPF is available";

/// What one engine has begun.
struct Observed {
    name: &'static str,
    observer: Observer,
    verified: Option<Verified>,
    child: Option<Pid>,
    signal: Arc<OnceLock<Signal>>,
}

/// The first engine that can be had: in the order of what they see and what they cost.
fn by_the_best(
    request: &Request<'_>,
    loaded: Option<ebpf::Recorder>,
    without_results: bool,
) -> Result<(Observed, String), RecordError> {
    let mut reason = match by_ebpf(request, loaded) {
        Ok(observed) => return Ok((observed, AVAILABLE.to_owned())),
        Err(error @ RecordError::Ebpf(EbpfError::Cgroup { .. })) => return Err(error),
        Err(RecordError::Ebpf(error)) => {
            format!("eBPF is not available: {}", document::chain(&error))
        }
        Err(error) => return Err(error),
    };
    if !without_results {
        return Ok((by_ptrace(request)?, reason));
    }
    match by_notify(request) {
        Ok(observed) => return Ok((observed, reason)),
        Err(RecordError::Target { .. }) => {}
        // The program has not run, so another engine may start it.
        Err(
            error @ (RecordError::Keeper(_)
            | RecordError::Exec(ExecError::FilterNotLoaded { .. } | ExecError::Gate { .. })),
        ) => {
            let why = document::chain(&error);
            reason = format!("{reason}; seccomp notification is not available: {why}");
        }
        Err(error) => return Err(error),
    }
    Ok((by_ptrace(request)?, reason))
}

fn by_ebpf(request: &Request<'_>, loaded: Option<ebpf::Recorder>) -> Result<Observed, RecordError> {
    let recorder = tree::attach(slice::from_ref(&request.target), &request.ready, loaded)?;
    let (pending, ending) = prepare(request)?;
    let child = pending.as_ref().map(PendingChild::pid);
    let signal = ending.signal();
    let (observer, verified) = tree::start(recorder, request, pending, ending)?;
    let observer = Observer::Ebpf(Box::new(observer));
    Ok(Observed { name: "ebpf", observer, verified, child, signal })
}

fn by_notify(request: &Request<'_>) -> Result<Observed, RecordError> {
    let Target::Command { enforcement: None, .. } = request.target else {
        return Err(RecordError::Target { engine: "notify" });
    };
    let (Some(pending), ending) = prepare(request)? else {
        unreachable!("a command has been forked")
    };
    let child = Some(pending.pid());
    let signal = ending.signal();
    let observer = Observer::Notify(Box::new(notified::start(pending, ending, &request.ready)?));
    Ok(Observed { name: "notify", observer, verified: None, child, signal })
}

fn by_ptrace(request: &Request<'_>) -> Result<Observed, RecordError> {
    let (pending, ending) = prepare(request)?;
    let child = pending.as_ref().map(PendingChild::pid);
    let signal = ending.signal();
    let (observer, verified) = traced::start(request, pending, ending)?;
    let observer = Observer::Ptrace(Box::new(observer));
    Ok(Observed { name: "ptrace", observer, verified, child, signal })
}

fn by_audit(request: &Request<'_>) -> Result<Observed, RecordError> {
    let Target::Command { command, enforcement: None } = request.target else {
        return Err(RecordError::Target { engine: "audit" });
    };
    let forked = logged::fork(command)?;
    let child = Some(forked.child.pid());
    let interrupts = Interrupts::block().map_err(RecordError::Wait)?;
    let ending = ending::Ending::new(interrupts, request.duration);
    let signal = ending.signal();
    let observer = Observer::Audit(Box::new(logged::start(forked, ending, &request.ready)?));
    Ok(Observed { name: "audit", observer, verified: None, child, signal })
}

/// A child for the command, and from then on the signals that would end this process are read.
fn prepare(request: &Request<'_>) -> Result<(Option<PendingChild>, ending::Ending), RecordError> {
    // Forked before the signals are blocked, as the command is to find them as they were.
    let pending = match &request.target {
        Target::Command { command, .. } => Some(PendingChild::fork(command)?),
        _ => None,
    };
    let interrupts = Interrupts::block().map_err(RecordError::Wait)?;
    Ok((pending, ending::Ending::new(interrupts, request.duration)))
}

impl Running {
    /// The process id of the command, or of the process that is recorded.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Whether the command's confinement was seen in the kernel, if it is confined.
    pub fn verified(&self) -> Option<&Verified> {
        self.verified.as_ref()
    }

    /// Says which container runtime starts the workload. What release it is it is asked when the workload has
    /// ended: now it has better to do.
    pub fn started_by(&mut self, runtime: RuntimeFile) {
        self.container.runtime = Some(runtime);
    }

    /// Names the recording by the container's id, by which its next run is known to be one more.
    pub fn of_container(&mut self, id: String) {
        self.container.id = Some(id);
    }

    /// Says what the container's engine calls it.
    pub fn called(&mut self, called: strait_policy::recording::Container) {
        self.container.called = Some(called);
    }

    /// Who observes, and why.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Waits for the end: of the last task of the workload, of the time, or by a signal.
    ///
    /// The first SIGINT, SIGTERM, SIGHUP or SIGQUIT is passed on to the command, unless it comes
    /// from the terminal, which has sent it to the command as well. The recording goes on until
    /// the command has ended, so that its shutdown is part of it, and does not wait for what else
    /// the command has started. After ten seconds, or at the next signal, the command is killed.
    ///
    /// # Errors
    /// If what was observed cannot be read.
    pub fn wait(self) -> Result<Recording, RecordError> {
        Recorder::new().wait(self)
    }
}
