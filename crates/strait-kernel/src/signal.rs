//! Signals: a relay for a process that stands in front of another, ending as a child ended, and
//! masks and dispositions around fork.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// Signals that would end, stop or continue this process, received instead.
///
/// For a process that waits for a child and wants to be as good as the child to whoever sends it
/// signals: what comes to it alone is to be passed on, what the terminal sent has come to the
/// child as well. A signal that was ignored before stays so. Children forked while there is a
/// relay have the dispositions of before.
///
/// There can be one relay in a process at a time.
#[derive(Debug)]
pub struct Relay {
    reader: OwnedFd,
    /// Kept open as long as the handler may write to it.
    _writer: OwnedFd,
    before: Vec<(libc::c_int, libc::sigaction)>,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Whether a process sent it, with kill(2) and the like; if not, it came from the kernel: from
    /// the terminal to the whole foreground process group, or because a child changed.
    pub from_process: bool,
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// There is one already.
    #[error("this process has a signal relay already")]
    Taken,
    /// No pipe for it.
    #[error("no pipe for the signals that come")]
    Pipe {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Where the handler writes to; -1 while there is no relay.
static WRITER: AtomicI32 = AtomicI32::new(-1);

impl Relay {
    /// Starts to receive.
    ///
    /// # Errors
    /// If there is a relay already, or no descriptor to be had.
    pub fn install() -> Result<Relay, RelayError> {
        let pipe_error = |errno: rustix::io::Errno| RelayError::Pipe { source: errno.into() };
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags).map_err(pipe_error)?;
        WRITER
            .compare_exchange(-1, writer.as_raw_fd(), Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| RelayError::Taken)?;
        let mut relay = Relay { reader, _writer: writer, before: Vec::new() };
        let passed_on = [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGALRM,
            libc::SIGTERM,
            libc::SIGCONT,
            libc::SIGWINCH,
        ];
        let realtime = libc::SIGRTMIN()..=libc::SIGRTMAX();
        for signal in passed_on.into_iter().chain(realtime).chain([libc::SIGCHLD]) {
            let before = disposition(signal);
            // What is ignored stays so, for us and for the child; but SIGCHLD tells of stops.
            if before.is_none_or(|before| before.sa_sigaction == libc::SIG_IGN)
                && signal != libc::SIGCHLD
            {
                continue;
            }
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: the pointer is to a whole structure; the fields are integers and a mask,
            // for which zero is valid.
            let action = unsafe {
                let action = action.assume_init_mut();
                action.sa_sigaction = note as *const () as libc::sighandler_t;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
                &*action
            };
            // SAFETY: `note` has the signature that SA_SIGINFO asks for and does only what a
            // signal handler may.
            if unsafe { libc::sigaction(signal, action, ptr::null_mut()) } == 0
                && let Some(before) = before
            {
                relay.before.push((signal, before));
            }
        }
        Ok(relay)
    }

    /// The next signal that came, if there is one. Never waits: [`Relay::as_fd`] is readable when
    /// there is one.
    pub fn received(&self) -> Option<Received> {
        let mut message = [0_u8; 2];
        match rustix::io::read(&self.reader, &mut message) {
            Ok(2) => Some(Received { signal: message[0].into(), from_process: message[1] != 0 }),
            _ => None,
        }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            // SAFETY: puts back what sigaction gave.
            unsafe { libc::sigaction(*signal, before, ptr::null_mut()) };
        }
        WRITER.store(-1, Ordering::Release);
    }
}

/// Ends this process as a child ended: with its exit status, or by the signal that ended it, so
/// that whoever waits for this process sees the same. A core is not dumped again.
pub fn end_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal() {
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
        // SAFETY: SIG_DFL is no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        let mut only = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes a whole set to the pointer.
        unsafe { libc::sigemptyset(only.as_mut_ptr()) };
        // SAFETY: the set has just been written; the number is one that the kernel told.
        unsafe { libc::sigaddset(only.as_mut_ptr(), signal) };
        // SAFETY: the set is a valid one; no old mask is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, only.as_ptr(), ptr::null_mut()) };
        // SAFETY: a signal to this thread.
        unsafe { libc::raise(signal) };
        std::process::exit(128 + signal);
    }
    std::process::exit(status.code().unwrap_or(125));
}

/// Stops this process as a child was stopped, until somebody continues it.
pub fn stop() {
    // SAFETY: a signal to this process.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// The handler: notes the signal and who sent it.
extern "C" fn note(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the C library gives each thread a valid errno location.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let interrupted = unsafe { *errno };
    // SAFETY: the kernel gives a handler that asked for it a valid structure.
    let code = unsafe { info.as_ref() }.map_or(libc::SI_USER, |info| info.si_code);
    // SI_USER, SI_QUEUE and SI_TKILL are 0 and below; what the kernel sends is above.
    let message = [u8::try_from(signal).unwrap_or(0), u8::from(code <= 0)];
    // SAFETY: write(2) is allowed in a handler; the buffer is as long as is said. The pipe does
    // not block: when it is full, thousands of signals wait already.
    unsafe { libc::write(WRITER.load(Ordering::Acquire), message.as_ptr().cast(), message.len()) };
    // SAFETY: as above; the code that was interrupted finds its errno as it was.
    unsafe { *errno = interrupted };
}

/// How a signal is disposed of; `None` for a number that the C library keeps for itself.
fn disposition(signal: libc::c_int) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, the old one is written to the pointer.
    let done = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, and written by sigaction if it succeeded; zero is valid for every field.
    (done == 0).then(|| unsafe { action.assume_init() })
}

/// Blocks every signal for this thread and gives the mask from before.
pub(crate) fn block_all() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes a whole set to the pointer.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the first set has just been written; the second is written by the call, which
    // cannot fail with SIG_BLOCK and valid pointers.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: written by pthread_sigmask.
    unsafe { before.assume_init() }
}

/// Sets the mask of this thread.
pub(crate) fn restore_mask(mask: &libc::sigset_t) {
    // SAFETY: the pointer is to a valid set; no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Sets SIGCHLD to its default if it is ignored, and tells whether it was.
pub(crate) fn unignore_sigchld() -> bool {
    let ignored = disposition(libc::SIGCHLD).is_some_and(|old| old.sa_sigaction == libc::SIG_IGN);
    if ignored {
        // SAFETY: SIG_DFL is no function of ours, so nothing can run in signal context.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
    ignored
}

/// Gives the program that is about to be executed the signals as this process had them: handlers
/// become defaults (they are code of this process), ignored ones stay, but for SIGPIPE, which
/// Rust ignores and the one who started this process most likely did not. Then the mask; what has
/// come meanwhile is delivered. Allocates nothing.
pub(crate) fn reset_for_exec(mask: &libc::sigset_t, sigchld_ignored: bool) {
    for signal in 1..=libc::SIGRTMAX() {
        let Some(action) = disposition(signal) else {
            continue;
        };
        let action = action.sa_sigaction;
        let keep = action == libc::SIG_DFL || action == libc::SIG_IGN;
        let disposition = match signal {
            libc::SIGPIPE => libc::SIG_DFL,
            libc::SIGCHLD if sigchld_ignored => libc::SIG_IGN,
            _ if keep => continue,
            _ => libc::SIG_DFL,
        };
        // SAFETY: neither disposition is a function of ours.
        unsafe { libc::signal(signal, disposition) };
    }
    restore_mask(mask);
}
