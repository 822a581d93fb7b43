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
use strait_abi::AuditArch;
use strait_bpf::{Program, SeccompData};

use crate::dump::{self, DumpError};
use crate::tracee::Tracee;

// include/uapi/linux/ptrace.h
/// Syscall stops are told from SIGTRAP; fork, vfork, clone and exec stop.
const OPTIONS: usize = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;
const EVENT_FORK: i32 = 1;
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_STOP: i32 = 128;

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

/// Where in a call a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// At its begin, before any filter.
    Entered(SeccompData),
    /// At its end, with what the kernel returns: from -4095 to -1 it is an errno.
    Returned(i64),
    /// In none.
    Outside,
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
        Tracee::seize(task, OPTIONS).map(drop)
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
        let info = Tracee::of_this_thread(task).call_info()?;
        Ok(match info.op {
            1 => {
                let [nr, args @ ..] = info.words;
                let [b0, b1, b2, b3, ..] = nr.to_le_bytes();
                Call::Entered(SeccompData {
                    nr: u32::from_le_bytes([b0, b1, b2, b3]),
                    arch: AuditArch::from_raw(info.arch),
                    instruction_pointer: info.instruction_pointer,
                    args,
                })
            }
            2 => Call::Returned(info.words[0].cast_signed()),
            _ => Call::Outside,
        })
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
        let signal = libc::WSTOPSIG(status);
        let event = match status >> 16 {
            EVENT_FORK | EVENT_VFORK | EVENT_CLONE => match self.message(task) {
                Some(new) => Event::Started(new),
                None => Event::Interrupted,
            },
            EVENT_EXEC => Event::Exec(self.message(task).unwrap_or(task)),
            EVENT_STOP if signal == libc::SIGTRAP => Event::Interrupted,
            EVENT_STOP => Event::Group,
            _ if signal == libc::SIGTRAP | 0x80 => Event::Call,
            _ => Event::Signal(signal),
        };
        Ok(Some((task, event)))
    }

    /// The task that the event of a stopped task is about; `None` if that is gone.
    fn message(&self, task: Pid) -> Option<Pid> {
        let message = Tracee::of_this_thread(task).message().ok()?;
        Pid::from_raw(i32::try_from(message).ok()?)
    }
}

impl Default for Tracer {
    fn default() -> Tracer {
        Tracer::new()
    }
}
