//! Tracing many tasks from one thread: every call, every new task, every exec and every end.
//!
//! The kernel attaches new tasks of a traced one by itself. It also lets all of them go when the
//! tracing thread ends, for whatever reason: none stays stopped and none dies of it, which is why
//! `PTRACE_O_EXITKILL` is not set.

use std::io;
use std::marker::PhantomData;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Pid;
use strait_bpf::Program;

use crate::dump::{self, DumpError};
pub use crate::stop::Call;
use crate::stop::Stop;
use crate::tracee::{TRACE_CALLS, TRACE_EXEC, TRACE_NEW, Tracee};

/// A thread that traces. What it traces, only it may ask about, so it cannot be sent.
#[derive(Debug)]
pub struct Tracer {
    not_send: PhantomData<*const ()>,
}

/// What happened to a task. Unless it has ended or says otherwise, it is stopped now and stays so
/// until it is told to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins or ends a call: [`Tracer::call`] tells.
    Call,
    /// It has started this task, which is traced too and will stop before its first instruction.
    Started(Pid),
    /// It has exec'd. It was this task before: all others of its process have ended, and it has
    /// taken the place and the id of the first.
    Exec(Pid),
    /// A signal is about to be delivered: it has to be passed on to [`Tracer::resume`].
    Signal(i32),
    /// Its process was stopped by a signal: [`Tracer::listen`] leaves it so.
    Group,
    /// It is traced now, or was interrupted.
    Interrupted,
    /// It is no more.
    Ended(ExitStatus),
}

/// How far a task is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the next begin or end of a call.
    Call,
    /// To whatever else stops it.
    Event,
}

impl Tracer {
    /// A tracer that traces nothing yet, of this thread.
    pub fn new() -> Tracer {
        Tracer { not_send: PhantomData }
    }

    /// Traces a task. It is not stopped by this.
    ///
    /// # Errors
    /// EPERM if it is another user's, is traced already or may not be traced; ESRCH if it is gone.
    pub fn seize(&self, task: Pid) -> io::Result<()> {
        Tracee::seize(task, TRACE_CALLS | TRACE_NEW | TRACE_EXEC).map(drop)
    }

    /// Stops a task; an [`Event::Interrupted`] tells when it has.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub fn interrupt(&self, task: Pid) -> io::Result<()> {
        Tracee::of_this_thread(task).interrupt()
    }

    /// Lets a stopped task go on, with this signal delivered; 0 for none.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub fn resume(&self, task: Pid, until: Until, signal: i32) -> io::Result<()> {
        let task = Tracee::of_this_thread(task);
        match until {
            Until::Call => task.resume_until_call(signal),
            Until::Event => task.resume(signal),
        }
    }

    /// Leaves a task in the group stop that it is in, until its process is continued.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub fn listen(&self, task: Pid) -> io::Result<()> {
        Tracee::of_this_thread(task).listen()
    }

    /// Where in a call the stopped task is.
    ///
    /// # Errors
    /// ESRCH if it is gone; EIO before Linux 5.3.
    pub fn call(&self, task: Pid) -> io::Result<Call> {
        Tracee::of_this_thread(task).at_call()
    }

    /// The filters that the kernel has on the stopped task, the oldest first.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn filters(&self, task: Pid) -> Result<Vec<Program>, DumpError> {
        dump::filters_of_stopped(&Tracee::of_this_thread(task), task)
    }

    /// Waits for the next event of any traced task; `None` once there is none left.
    ///
    /// # Errors
    /// EINTR if a [`Waker`](crate::waker::Waker) woke this thread.
    pub fn wait(&self) -> io::Result<Option<(Pid, Event)>> {
        match self.next(0) {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            result => result,
        }
    }

    /// The next event of any traced task, if there is one now. Never waits. The end of any other
    /// child of this thread counts too.
    ///
    /// # Errors
    /// ECHILD once no task is left.
    pub fn poll(&self) -> io::Result<Option<(Pid, Event)>> {
        self.next(libc::WNOHANG)
    }

    fn next(&self, flags: libc::c_int) -> io::Result<Option<(Pid, Event)>> {
        let mut status = 0;
        // The tracees of this thread alone, whatever they are to it (__WALL).
        let flags = flags | libc::__WALL | libc::__WNOTHREAD;
        // SAFETY: `status` is valid for the write.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // Nothing has happened.
        let Some(task) = Pid::from_raw(pid) else { return Ok(None) };
        if !libc::WIFSTOPPED(status) {
            return Ok(Some((task, Event::Ended(ExitStatus::from_raw(status)))));
        }
        let other = || Tracee::of_this_thread(task).other_task();
        let event = match Stop::from_status(status >> 8) {
            Stop::Call => Event::Call,
            Stop::Started => other().map_or(Event::Interrupted, Event::Started),
            Stop::Exec => Event::Exec(other().unwrap_or(task)),
            Stop::Group => Event::Group,
            Stop::Signal(signal) => Event::Signal(signal),
            Stop::Other => Event::Interrupted,
        };
        Ok(Some((task, event)))
    }
}

impl Default for Tracer {
    fn default() -> Tracer {
        Tracer::new()
    }
}
