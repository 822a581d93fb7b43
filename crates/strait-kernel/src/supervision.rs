//! Answering the notified calls of a workload, in such a way that the workload outlives whoever
//! answers.
//!
//! A supervisor reads each notification into memory that it shares with its keeper
//! ([`Supervision::keep`]): a process that does nothing as long as the supervisor lives. If that
//! dies, however it does, the keeper lets pass the one call that was read and perhaps not answered,
//! whose id stands in the memory, and from then on every other.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strait_abi::AuditArch;
use strait_bpf::SeccompData;

pub use crate::keeper::Keeper;
use crate::seccomp::{Listener, Notification};
use crate::shared::{Shareable, Shared};

/// The one who answers.
#[derive(Debug)]
pub struct Supervision {
    listener: Listener,
    mailbox: Shared<Letter>,
}

impl Supervision {
    /// Takes up a listener.
    ///
    /// # Errors
    /// If there is no memory for the notifications.
    pub fn new(listener: Listener) -> io::Result<Supervision> {
        listener.stay_on_cpu();
        Ok(Supervision { listener, mailbox: Shared::new()? })
    }

    /// The listener.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Starts a keeper. To be done before the first call is let pass.
    ///
    /// # Errors
    /// If there is no process or no descriptor for it.
    pub fn keep(&self) -> io::Result<Keeper> {
        Keeper::fork(self)
    }

    /// Waits for a notified call.
    ///
    /// # Errors
    /// ENOENT if the call that was about to be read is gone, or if no task has the filter any more
    /// ([`Supervision::is_over`] tells); EINTR if a signal came, as by a
    /// [`Waker`](crate::waker::Waker).
    pub fn receive(&mut self) -> io::Result<Notification> {
        // SAFETY: an integer structure, for which zero is a value; only the supervisor writes to it,
        // the exclusive borrow makes that one thread, and the keeper reads when this process is dead.
        unsafe { ptr::write_bytes(self.mailbox.notification.get(), 0, 1) };
        // SAFETY: as above.
        unsafe { ptr::write_bytes(self.mailbox.spare.get(), 0, 1) };
        // SAFETY: the descriptor is open for the borrow; RECV takes a pointer to a zeroed
        // `struct seccomp_notif`, and the letter is zeroed and larger, with room for a kernel whose
        // structure has grown.
        let done = unsafe {
            libc::ioctl(
                self.listener.as_fd().as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                self.mailbox.notification.get().cast::<c_void>(),
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: initialised, by zeros and then by the kernel, with integers, for which every bit
        // pattern is a value; nobody writes to it now.
        let letter = unsafe { self.mailbox.notification.get().read() };
        Ok(Notification {
            id: letter.id,
            tid: letter.pid,
            data: SeccompData {
                nr: letter.data.nr.cast_unsigned(),
                arch: AuditArch::from_raw(letter.data.arch),
                instruction_pointer: letter.data.instruction_pointer,
                args: letter.data.args,
            },
        })
    }

    /// Lets a call go on.
    ///
    /// # Errors
    /// ENOENT if the call is gone.
    pub fn pass(&self, id: u64) -> io::Result<()> {
        self.listener.continue_call(id)
    }

    /// Whether no task has the filter any more.
    pub fn is_over(&self) -> bool {
        is_over(&self.listener)
    }

    /// The id of the call that was read last: 0 for none. Not of this process's own use.
    pub(crate) fn last_read(&self) -> u64 {
        // SAFETY: initialised integers, as in `receive`; the caller is the keeper, whose supervisor
        // is dead, or a supervisor that does not receive now.
        unsafe { self.mailbox.notification.get().read_volatile() }.id
    }
}

impl AsFd for Supervision {
    /// Readable when a call waits; hung up when no task has the filter any more.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Whether no task has the filter of this listener any more (Linux 5.8).
pub fn is_over(listener: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::empty())];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    ready.is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

/// What RECV writes to.
#[repr(C)]
struct Letter {
    notification: UnsafeCell<libc::seccomp_notif>,
    /// Room for what a newer kernel's structure has grown by.
    spare: UnsafeCell<[u64; 16]>,
}

// SAFETY: integers only, for which zero is a value. The supervisor alone writes, in an UnsafeCell.
unsafe impl Shareable for Letter {}
