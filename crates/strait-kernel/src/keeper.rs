//! The process that answers for a supervisor that is gone.
//!
//! If the last copy of a listener is closed, every notified call fails with ENOSYS: a workload of
//! which all calls are notified would be broken by the end of whoever recorded it. So there is a
//! second process with a copy, which lets everything pass from then on and ends with the last task
//! of the workload.
//!
//! Between fork and its end a keeper allocates nothing and locks nothing, as the process that it is
//! forked from may have other threads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::child::no_fork_meanwhile;
use crate::signal;
use crate::supervision::{Supervision, is_over};

/// A keeper. When this is dropped, or its process dies, the keeper takes over: it answers as long
/// as there is a task with the filter, which may be not at all.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    /// Closed to say that it is its turn.
    turn: Option<OwnedFd>,
    listener: OwnedFd,
}

impl Keeper {
    pub(crate) fn fork(supervision: &Supervision) -> io::Result<Keeper> {
        let listener = supervision.as_fd().try_clone_to_owned()?;
        let (waits, turn) = pipe_with(PipeFlags::CLOEXEC)?;
        let supervisor = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        // Of no pending child may this be another copy of the end that hangs up on exec.
        let alone = no_fork_meanwhile();
        // Nothing that a person or a terminal sends to the recorder is for its keeper.
        let mask = signal::block_all();
        // SAFETY: the child runs `keep` alone, which never returns and makes only system calls.
        let pid = match unsafe { libc::fork() } {
            0 => keep(supervision, waits.as_fd(), supervisor.as_fd()),
            pid => pid,
        };
        let error = io::Error::last_os_error();
        signal::restore_mask(&mask);
        drop(alone);
        let pid = Pid::from_raw(pid.max(0)).ok_or(error)?;
        Ok(Keeper { pid, turn: Some(turn), listener })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.turn.take());
        if is_over(&self.listener) {
            // It has nothing to do and ends at once.
            let _ = rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty());
        }
    }
}

/// The keeper's whole life. All signals are blocked.
fn keep(supervision: &Supervision, waits: BorrowedFd<'_>, supervisor: BorrowedFd<'_>) -> ! {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"strait-keeper");
    // A folder that is in use cannot be unmounted.
    let _ = rustix::process::chdir("/");
    close_all_but([supervision.as_fd(), waits, supervisor].map(|fd| fd.as_raw_fd()));
    loop {
        let mut fds = [
            PollFd::new(&waits, PollFlags::IN),
            PollFd::new(&supervisor, PollFlags::IN),
            PollFd::new(supervision, PollFlags::empty()),
        ];
        // Fails by want of memory alone, and then again and again until there is some.
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if fds[2].revents().contains(PollFlags::HUP) {
            exit();
        }
        // The pipe hangs up when it is closed; the pidfd is readable when the process is dead.
        if fds[..2].iter().any(|fd| !fd.revents().is_empty()) {
            break;
        }
    }
    answer(supervision)
}

/// Lets everything pass until there is nobody left.
fn answer(supervision: &Supervision) -> ! {
    // Read, perhaps not answered; an answer too many is refused.
    let _ = supervision.pass(supervision.last_read());
    loop {
        let mut fds = [PollFd::new(supervision, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let happened = fds[0].revents();
        if happened.contains(PollFlags::IN) {
            // Receives what is there, or finds that it is gone; it does not allocate.
            if let Ok(notification) = supervision.listener().receive() {
                let _ = supervision.pass(notification.id);
            }
        } else if happened.contains(PollFlags::HUP) {
            exit();
        }
    }
}

/// Closes every descriptor but these.
fn close_all_but(mut kept: [i32; 3]) {
    kept.sort_unstable();
    let mut from = 0;
    for end in kept.into_iter().map(Some).chain([None]) {
        let last = end.map_or(u32::MAX, |end| end.cast_unsigned().wrapping_sub(1));
        if end != Some(0) && from <= last {
            close_range(from, last);
        }
        from = end.map_or(from, |end| end.cast_unsigned().wrapping_add(1));
    }
}

fn close_range(first: u32, last: u32) {
    // SAFETY: the keeper uses no descriptor but those that are kept, and never returns to code that
    // owns others.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done != 0 {
        // Before Linux 5.9. More than these are unlikely, and held open they do little harm.
        for fd in first..=last.min(65_535) {
            // SAFETY: as above; a number that is not open is EBADF.
            unsafe { libc::close(fd.cast_signed()) };
        }
    }
}

fn exit() -> ! {
    // SAFETY: ends the process and runs nothing of it.
    unsafe { libc::_exit(0) }
}
