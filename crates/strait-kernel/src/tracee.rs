//! The ptrace(2) requests to one thread: it is traced, stopped, asked and let go on.
//!
//! A thread is traced by one thread of the tracer, and only that one may ask for anything: a
//! [`Tracee`] cannot be sent. When that thread ends, for whatever reason, the kernel detaches, and
//! the tracee runs on.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use strait_bpf::Insn;

use crate::stop::{Call, CallInfo, Stop};

// include/uapi/linux/ptrace.h; libc types them differently for each C library.
const PTRACE_CONT: libc::c_long = 7;
const PTRACE_DETACH: libc::c_long = 17;
const PTRACE_SYSCALL: libc::c_long = 24;
const PTRACE_SETOPTIONS: libc::c_long = 0x4200;
const PTRACE_GETEVENTMSG: libc::c_long = 0x4201;
const PTRACE_SEIZE: libc::c_long = 0x4206;
const PTRACE_INTERRUPT: libc::c_long = 0x4207;
const PTRACE_LISTEN: libc::c_long = 0x4208;
const PTRACE_SECCOMP_GET_FILTER: libc::c_long = 0x420c;
const PTRACE_GET_SYSCALL_INFO: libc::c_long = 0x420e;

/// Tell the begin and the end of a call from a SIGTRAP.
pub(crate) const TRACE_CALLS: usize = 1;
/// Stop at exec, before the first instruction of the new program.
pub(crate) const TRACE_EXEC: usize = 1 << 4;
/// Trace what it starts: by fork, vfork and clone.
pub(crate) const TRACE_NEW: usize = 1 << 1 | 1 << 2 | 1 << 3;
/// Kill the tracee when the tracer ends.
pub(crate) const EXIT_KILL: usize = 1 << 20;

/// A thread that the calling thread traces.
#[derive(Debug)]
pub(crate) struct Tracee {
    tid: Pid,
    /// What only the tracing thread may do cannot be sent to another.
    not_send: PhantomData<*const ()>,
}

impl Tracee {
    /// Begins to trace a thread, which runs on.
    pub(crate) fn seize(tid: Pid, options: usize) -> io::Result<Tracee> {
        let tracee = Tracee { tid, not_send: PhantomData };
        tracee.request(PTRACE_SEIZE, 0, options)?;
        Ok(tracee)
    }

    /// A thread that the calling thread traces already.
    pub(crate) fn of_this_thread(tid: Pid) -> Tracee {
        Tracee { tid, not_send: PhantomData }
    }

    /// Sets other options for the stopped thread.
    pub(crate) fn set_options(&self, options: usize) -> io::Result<()> {
        self.request(PTRACE_SETOPTIONS, 0, options)
    }

    /// Asks the thread to stop; [`Tracee::stopped`] tells when it has.
    pub(crate) fn interrupt(&self) -> io::Result<()> {
        self.request(PTRACE_INTERRUPT, 0, 0)
    }

    /// Lets the stopped thread go on, with this signal delivered (0 for none).
    pub(crate) fn resume(&self, signal: i32) -> io::Result<()> {
        self.request(PTRACE_CONT, 0, signal_value(signal))
    }

    /// The same, up to the next begin or end of a call.
    pub(crate) fn resume_until_call(&self, signal: i32) -> io::Result<()> {
        self.request(PTRACE_SYSCALL, 0, signal_value(signal))
    }

    /// Lets a thread in a group stop be as if it were not traced, until it is continued.
    pub(crate) fn listen(&self) -> io::Result<()> {
        self.request(PTRACE_LISTEN, 0, 0)
    }

    /// Ends tracing; the stopped thread goes on with this signal delivered (0 for none), or stays
    /// in the group stop that its process is in.
    pub(crate) fn detach(self, signal: i32) -> io::Result<()> {
        self.request(PTRACE_DETACH, 0, signal_value(signal))
    }

    /// The stop that the thread has come to since the last was read, if it has. Never waits.
    ///
    /// # Errors
    /// ECHILD if the thread is dead and gone.
    pub(crate) fn stopped(&self) -> io::Result<Option<Stop>> {
        // The end of a child is left to be waited for.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let Some(status) = waitid(WaitId::Pid(self.tid), options)? else {
            return Ok(None);
        };
        let status = status.trapping_signal().or_else(|| status.stopping_signal());
        Ok(Some(Stop::from_status(status.unwrap_or_default())))
    }

    /// The instructions of filter `index` of the stopped thread, 0 being the oldest; `None` when
    /// there is no filter of that index.
    ///
    /// # Errors
    /// EACCES without CAP_SYS_ADMIN or if the caller is filtered itself, EINVAL if the thread has
    /// no filter or the kernel no CONFIG_CHECKPOINT_RESTORE, ESRCH if it is not stopped any more.
    pub(crate) fn filter(&self, index: usize) -> io::Result<Option<Vec<Insn>>> {
        let length = match self.call(PTRACE_SECCOMP_GET_FILTER, index, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            length => usize::try_from(length?).unwrap_or(0),
        };
        let mut insns = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; length];
        // The thread is stopped and its filters cannot be taken off: the length stays.
        self.call(PTRACE_SECCOMP_GET_FILTER, index, insns.as_mut_ptr().expose_provenance())?;
        Ok(Some(
            insns
                .iter()
                .map(|insn| Insn { code: insn.code, jt: insn.jt, jf: insn.jf, k: insn.k })
                .collect(),
        ))
    }

    /// Where in a call the stopped thread is.
    ///
    /// # Errors
    /// ESRCH if it is gone; EIO before Linux 5.3.
    pub(crate) fn at_call(&self) -> io::Result<Call> {
        let mut info = MaybeUninit::<CallInfo>::zeroed();
        let place = info.as_mut_ptr().expose_provenance();
        self.request(PTRACE_GET_SYSCALL_INFO, size_of::<CallInfo>(), place)?;
        // SAFETY: zeroed before, then written by the kernel as far as it had something to say;
        // integers only, for which every value is valid.
        Ok(Call::from(unsafe { info.assume_init() }))
    }

    /// The task that the event is about at which the thread is stopped; `None` if either is gone.
    pub(crate) fn other_task(&self) -> Option<Pid> {
        let mut message: libc::c_ulong = 0;
        self.request(PTRACE_GETEVENTMSG, 0, (&raw mut message).expose_provenance()).ok()?;
        Pid::from_raw(i32::try_from(message).ok()?)
    }

    fn request(&self, request: libc::c_long, address: usize, data: usize) -> io::Result<()> {
        self.call(request, address, data).map(drop)
    }

    fn call(&self, request: libc::c_long, address: usize, data: usize) -> io::Result<libc::c_long> {
        // SAFETY: none of the requests in this module reads or writes memory of this process, but
        // three. SECCOMP_GET_FILTER with a pointer writes as many `sock_filter` as the vector of its
        // caller has: the length that the same request told for the same stopped thread.
        // GET_SYSCALL_INFO writes no more bytes than it is given in `address`, the size of the
        // structure at `data`; GETEVENTMSG writes the one word there. Both are live locals of the
        // callers.
        let done = unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                request,
                libc::c_long::from(self.tid.as_raw_pid()),
                ptr::without_provenance::<u8>(address),
                ptr::with_exposed_provenance::<u8>(data),
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
    }
}

/// A signal number as ptrace takes it.
fn signal_value(signal: i32) -> usize {
    usize::try_from(signal).unwrap_or(0)
}
