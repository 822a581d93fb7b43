//! A child whose every exec is looked at, and that of all that it starts: before the first instruction of a
//! program somebody says whether it may run.
//!
//! Its tasks are traced by the thread that started it, and stop at exec, at new tasks and at signals, but at
//! no system call. When that thread ends, for whatever reason, the kernel kills them all: a program that
//! nobody looks at does not run. Who is traced cannot be traced by another, a debugger in the workload for
//! one.

use std::io;

use rustix::process::{Pid, Signal, kill_process};

use crate::child::{Change, Child, ExecError};
use crate::exec_stop::StoppedChild;
use crate::ptrace::{Event, Tracer, Until};
use crate::tracee::{EXIT_KILL, TRACE_EXEC, TRACE_NEW, Tracee};

/// The tracing of a child and of all that it starts, by the thread that has this.
#[derive(Debug)]
pub struct Watch {
    tracer: Tracer,
    child: Pid,
}

/// What has happened to the tasks that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The child ended, or a signal stopped it.
    Changed(Change),
    /// Nothing more that is to be told now.
    Nothing,
    /// No task is left.
    Done,
}

impl StoppedChild {
    /// Lets the program run, and goes on to trace it and all that it starts.
    ///
    /// # Errors
    /// If the child was killed meanwhile, or the kernel refuses.
    pub fn watch(self) -> Result<(Child, Watch), ExecError> {
        let (child, tracee) = self.into_parts();
        let failed = |source| ExecError::Channel { source };
        tracee.set_options(TRACE_EXEC | TRACE_NEW | EXIT_KILL).map_err(failed)?;
        let watch = Watch { tracer: Tracer::new(), child: child.pid() };
        tracee.resume(0).map_err(failed)?;
        Ok((child.into_child()?, watch))
    }
}

impl Watch {
    /// Begins to trace a child of this process and all that it starts. It runs on.
    ///
    /// # Errors
    /// EPERM if it may not be traced or is already; ESRCH if it is gone.
    pub(crate) fn seize(child: Pid) -> io::Result<Watch> {
        Tracee::seize(child, TRACE_EXEC | TRACE_NEW | EXIT_KILL)?;
        Ok(Watch { tracer: Tracer::new(), child })
    }

    /// Looks at what has happened, until there is something to tell. Never waits: SIGCHLD says that
    /// there is something.
    ///
    /// `may_run` is asked of each process that stands at the first instruction of a program; if it
    /// says no, the process is killed.
    ///
    /// # Errors
    /// If the tasks cannot be traced any more. They are killed as this thread ends.
    pub fn attend(&mut self, may_run: &mut dyn FnMut(Pid) -> bool) -> io::Result<Watched> {
        loop {
            let (task, event) = match self.tracer.poll() {
                Ok(Some(happened)) => happened,
                Ok(None) => return Ok(Watched::Nothing),
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    return Ok(Watched::Done);
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) => return Err(error),
            };
            let signal = match event {
                Event::Ended(status) if task == self.child => {
                    return Ok(Watched::Changed(Change::Ended(status)));
                }
                Event::Ended(_) => continue,
                Event::Group => {
                    unless_gone(self.tracer.listen(task))?;
                    if task == self.child {
                        return Ok(Watched::Changed(Change::Stopped));
                    }
                    continue;
                }
                Event::Exec(_) if !may_run(task) => {
                    // It stays stopped, and dies so.
                    unless_gone(kill_process(task, Signal::KILL).map_err(io::Error::from))?;
                    continue;
                }
                Event::Signal(signal) => signal,
                Event::Exec(_) | Event::Started(_) | Event::Interrupted | Event::Call => 0,
            };
            unless_gone(self.tracer.resume(task, Until::Event, signal))?;
        }
    }
}

/// A task may be killed at any point; its end is told all the same.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}
