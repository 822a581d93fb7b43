//! A child that stops between its exec and the first instruction of its program, so that the
//! filters that the kernel really has on it can be read before it does anything.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use strait_bpf::Program;

use crate::child::{Child, Confinement, ExecError, PendingChild};
use crate::dump::{self, DumpError};
use crate::stop::Stop;
use crate::tracee::{EXIT_KILL, TRACE_EXEC, Tracee};

/// A pending child that will stop at exec. It is traced by the thread that made this, and by no
/// other; should that end, the child is killed.
#[derive(Debug)]
pub struct SeizedChild {
    child: PendingChild,
    tracee: Tracee,
}

/// A child that stands at the first instruction of its program. When this is dropped the child is
/// killed, without having run any.
#[derive(Debug)]
pub struct StoppedChild {
    child: PendingChild,
    tracee: Tracee,
}

/// The child cannot be traced; it is given back, still waiting.
#[derive(Debug, thiserror::Error)]
#[error("the child may not be traced (Yama's ptrace_scope, a seccomp filter, or another tracer)")]
pub struct SeizeError {
    /// The child as it was.
    pub child: PendingChild,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl PendingChild {
    /// Makes the child stop at exec, by tracing it from this thread.
    ///
    /// # Errors
    /// If it may not be traced; the child is in the error.
    pub fn seize(self) -> Result<SeizedChild, Box<SeizeError>> {
        match Tracee::seize(self.pid(), TRACE_EXEC | EXIT_KILL) {
            Ok(tracee) => Ok(SeizedChild { child: self, tracee }),
            Err(source) => Err(Box::new(SeizeError { child: self, source })),
        }
    }
}

impl SeizedChild {
    /// As [`PendingChild::exec`], but the child then stands at its program's first instruction.
    ///
    /// # Errors
    /// Why the program was not started; the child has ended then.
    pub fn exec(mut self, confinement: Option<Confinement<'_>>) -> Result<StoppedChild, ExecError> {
        let gate = confinement.is_some_and(|confinement| confinement.gate.is_some());
        self.child.start(confinement)?;
        let mut at_exec = false;
        self.child.until_exec(gate, &mut || {
            at_exec |= pass_stops(&self.tracee)?;
            Ok(())
        })?;
        let mut pause = Duration::from_micros(10);
        while !at_exec {
            if self.child.has_ended() {
                return Err(self.child.died());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
            at_exec = pass_stops(&self.tracee).map_err(|source| ExecError::Channel { source })?;
        }
        Ok(StoppedChild { child: self.child, tracee: self.tracee })
    }
}

impl StoppedChild {
    /// The filters that the kernel has on the child, the oldest first.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn filters(&self) -> Result<Vec<Program>, DumpError> {
        dump::filters_of_stopped(&self.tracee, self.child.pid())
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    pub(crate) fn into_parts(self) -> (PendingChild, Tracee) {
        (self.child, self.tracee)
    }

    /// Lets the program run, untraced.
    ///
    /// # Errors
    /// If the child was killed meanwhile.
    pub fn release(self) -> Result<Child, ExecError> {
        let StoppedChild { child, tracee } = self;
        // A failure means that it is dead already; its end is there to be waited for.
        let _ = tracee.detach(0);
        child.into_child()
    }
}

/// Lets the child go on from every stop that is not the one at exec, as if it were not traced.
/// Returns whether it is at exec.
fn pass_stops(tracee: &Tracee) -> io::Result<bool> {
    loop {
        let done = match tracee.stopped() {
            Ok(None) => return Ok(false),
            Ok(Some(Stop::Exec)) => return Ok(true),
            Ok(Some(Stop::Group)) => tracee.listen(),
            Ok(Some(Stop::Signal(signal))) => tracee.resume(signal),
            Ok(Some(Stop::Call | Stop::Started | Stop::Other)) => tracee.resume(0),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {}
            // It is dead; whoever waits for it learns how it ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ECHILD)) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
}
