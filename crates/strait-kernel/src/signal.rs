//! Signal masks and dispositions.

use std::mem::MaybeUninit;
use std::ptr;

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
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, the old one is written to the pointer.
    unsafe { libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, then written by sigaction; integers and a mask, for which zero is valid.
    let ignored = unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN;
    if ignored {
        // SAFETY: SIG_DFL is no function of ours, so nothing can run in signal context.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
    ignored
}
