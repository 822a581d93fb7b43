//! The signals by which a person or a supervisor ends a program, read in order instead of ending
//! it at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::process::Signal;

/// What ends a program that has no handler.
const SIGNALS: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, blocked as long as this lives.
///
/// A signal that the process ignores already, as SIGHUP under nohup(1), stays ignored. Only the
/// calling thread and threads that it starts afterwards block the signals, so this is for a
/// program's first thread, before it has others.
#[derive(Debug)]
pub struct Interrupts {
    signals: OwnedFd,
    before: Mask,
}

/// One that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Which.
    pub signal: Signal,
    /// It is the terminal's: everything in the foreground process group got it too.
    pub from_terminal: bool,
}

/// A signal mask; it says nothing of use when printed.
struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

impl Interrupts {
    /// Blocks the signals.
    ///
    /// # Errors
    /// If there is no descriptor left for them.
    pub fn block() -> io::Result<Interrupts> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes a whole set to the pointer.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: written by sigemptyset.
        let mut set = unsafe { set.assume_init() };
        for signal in SIGNALS {
            if !ignored(signal) {
                // SAFETY: the set is initialised and the signal has a valid number.
                unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
            }
        }
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` is initialised; the old mask is written to `before`.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) };
        // SAFETY: pthread_sigmask cannot fail with SIG_BLOCK and valid pointers, so it is written.
        let before = Mask(unsafe { before.assume_init() });
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            before.restore();
            return Err(error);
        }
        // SAFETY: signalfd has just made this descriptor, and nobody else has it.
        let signals = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Interrupts { signals, before })
    }

    /// The oldest one that has come and was not taken yet; does not wait.
    pub fn take(&self) -> Option<Interrupt> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is of the size that is passed.
        let read = unsafe { libc::read(self.signals.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if usize::try_from(read) != Ok(size) {
            return None;
        }
        // SAFETY: read has written it whole.
        let info = unsafe { info.assume_init() };
        let number = i32::try_from(info.ssi_signo).ok()?;
        let signal = SIGNALS.into_iter().find(|signal| signal.as_raw() == number)?;
        Some(Interrupt { signal, from_terminal: info.ssi_code == libc::SI_KERNEL })
    }
}

impl AsFd for Interrupts {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // One that came when it did not matter any more must not end the program now.
        while self.take().is_some() {}
        self.before.restore();
    }
}

impl Mask {
    fn restore(&self) {
        // SAFETY: the set is initialised; no old mask is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

fn ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, the old one is written to the pointer.
    unsafe { libc::sigaction(signal.as_raw(), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, then written by sigaction; integers and a mask, for which zero is valid.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
