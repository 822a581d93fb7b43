//! Ending a thread's wait in the kernel from another thread.

use std::mem::MaybeUninit;
use std::ptr;

/// Ends the wait of a thread: in [`Tracer::wait`](crate::ptrace::Tracer::wait) or in
/// [`Supervision::receive`](crate::supervision::Supervision::receive).
#[derive(Clone, Copy, Debug)]
pub struct Waker {
    thread: libc::pid_t,
    signal: libc::c_int,
}

impl Waker {
    /// A waker for the calling thread.
    ///
    /// It uses the real-time signal before the last, for which the process must have no use.
    pub fn new() -> Waker {
        Waker::by(libc::SIGRTMAX() - 1)
    }

    /// The same by SIGURG, for a process that passes real-time signals on to another.
    pub fn by_urgent_signal() -> Waker {
        Waker::by(libc::SIGURG)
    }

    fn by(signal: libc::c_int) -> Waker {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: an all-zero action is a valid one: no flags (so that waits are interrupted), an
        // empty mask.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = nothing as *const () as usize;
        // SAFETY: the handler does nothing, which is safe at any point of any thread.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        // SAFETY: the call takes nothing and cannot fail.
        Waker { thread: unsafe { libc::gettid() }, signal }
    }

    /// Interrupts the thread's wait, if it is waiting; to be repeated until it has noticed.
    pub fn wake(&self) {
        let process = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: the call takes numbers only; a thread that has ended is ESRCH, and the signal
        // has a handler that does nothing.
        unsafe { libc::syscall(libc::SYS_tgkill, process, self.thread, self.signal) };
    }
}

impl Default for Waker {
    fn default() -> Waker {
        Waker::new()
    }
}
