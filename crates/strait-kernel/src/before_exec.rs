//! What a child does between fork and exec: the child's side of [`crate::child`].
//!
//! Nothing here allocates, locks or unwinds: the parent may have had other threads, whose locks
//! stay taken for ever in the child. After the filter is loaded the only call is execve.

use std::ffi::c_char;
use std::os::fd::RawFd;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::landlock::Domain;
use crate::seccomp::{self, errno};
use crate::shared::{Exchange, Step};
use crate::signal;
use crate::streams;

/// What the child needs, all of it made before the fork.
pub(crate) struct Plan<'a> {
    pub(crate) path: *const c_char,
    pub(crate) arguments: *const *const c_char,
    pub(crate) environment: *const *const c_char,
    pub(crate) streams: [RawFd; 3],
    pub(crate) kept: Option<&'a [RawFd]>,
    pub(crate) limits: &'a [(Resource, Rlimit)],
    pub(crate) parent_death: Option<Signal>,
    pub(crate) landlock: Option<&'a Domain>,
    pub(crate) parent: Pid,
    pub(crate) channel: RawFd,
    pub(crate) parents_end: RawFd,
    pub(crate) exchange: &'a Exchange,
    pub(crate) mask: libc::sigset_t,
    pub(crate) sigchld_ignored: bool,
}

impl Plan<'_> {
    /// The child's whole life.
    ///
    /// # Safety
    /// To be called in a forked child only, whose copy of the address space holds what the plan
    /// points to.
    pub(crate) unsafe fn run(&self) -> ! {
        // SAFETY: the descriptor is the child's copy of the parent's end, used by nobody else
        // here; while it is open, the parent's death would not show.
        unsafe { libc::close(self.parents_end) };
        // SAFETY: as promised to this function.
        let errno = unsafe { self.proceed() };
        self.exchange.fail(errno);
        die()
    }

    /// Goes through the steps; returns the errno of the one that failed.
    ///
    /// # Safety
    /// As for `run`.
    unsafe fn proceed(&self) -> i32 {
        let mut byte = 0_u8;
        loop {
            // SAFETY: the buffer is one writable byte, as long as is said.
            let got = unsafe { libc::read(self.channel, (&raw mut byte).cast(), 1) };
            match got {
                1 => break,
                -1 if errno() == libc::EINTR => {}
                // The parent is gone or does not want us.
                _ => return libc::ECANCELED,
            }
        }
        if let Err(errno) = self.set_up() {
            return errno;
        }
        signal::reset_for_exec(&self.mask, self.sigchld_ignored);
        if let Some(domain) = self.landlock {
            self.exchange.enter(Step::NoNewPrivs);
            if let Err(errno) = seccomp::set_no_new_privs() {
                return errno;
            }
            self.exchange.enter(Step::Landlock);
            if let Err(errno) = domain.enter() {
                return errno;
            }
        }
        let mut token = [0; 2];
        if let Some((fprog, order)) = self.exchange.order() {
            token = order.token;
            if order.no_new_privs {
                self.exchange.enter(Step::NoNewPrivs);
                if let Err(errno) = seccomp::set_no_new_privs() {
                    return errno;
                }
            }
            self.exchange.enter(Step::Load);
            match seccomp::seccomp(
                libc::SECCOMP_SET_MODE_FILTER,
                order.flags.into(),
                ptr::from_ref(&fprog).cast(),
            ) {
                Ok(value) => {
                    // From here on the only call is execve.
                    if order.flags & LISTENER_FLAG != 0 {
                        self.exchange.publish_listener(i32::try_from(value).unwrap_or(-1));
                    }
                }
                Err(errno) => return errno,
            }
        }
        self.exchange.enter(Step::Exec);
        // SAFETY: path, arguments and environment are NUL-terminated strings and arrays closed by
        // a null pointer (`Command`), alive as promised to this function. The registers behind
        // the third are not looked at by the kernel.
        unsafe {
            libc::syscall(
                libc::SYS_execve,
                self.path,
                self.arguments,
                self.environment,
                0_u64,
                token[0],
                token[1],
            )
        };
        errno()
    }

    /// Sets up what the command asks for; the errno of the step that failed.
    fn set_up(&self) -> Result<(), i32> {
        self.exchange.enter(Step::Streams);
        for ((fd, closed), target) in self.streams.into_iter().zip(streams::all_closed()).zip(0..) {
            if fd < 0 {
                if closed {
                    // SAFETY: what stands there was opened by Rust's runtime alone, and this
                    // process has no use for it any more.
                    unsafe { libc::close(target) };
                }
                continue;
            }
            let done = if fd == target {
                inherit(fd)
            } else {
                // SAFETY: duplicating a descriptor that the command owns; what the target was is
                // a standard stream that the program shall not have.
                unsafe { libc::dup2(fd, target) }
            };
            if done < 0 {
                return Err(errno());
            }
        }
        if let Some(kept) = self.kept {
            self.exchange.enter(Step::Descriptors);
            // SAFETY: marks descriptors to be closed on exec; none is closed now.
            let done = unsafe {
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
            };
            // Our end of the channel may have got a number that was to be kept and was closed since.
            let mut kept = kept.iter().filter(|&&fd| fd != self.channel);
            if done < 0 || kept.any(|&fd| inherit(fd) < 0) {
                return Err(errno());
            }
        }
        self.exchange.enter(Step::Limits);
        for &(resource, limit) in self.limits {
            rustix::process::setrlimit(resource, limit).map_err(Errno::raw_os_error)?;
        }
        if let Some(signal) = self.parent_death {
            self.exchange.enter(Step::ParentDeath);
            rustix::process::set_parent_process_death_signal(Some(signal))
                .map_err(Errno::raw_os_error)?;
            // It may have ended just before.
            if rustix::process::getppid() != Some(self.parent) {
                return Err(libc::ESRCH);
            }
        }
        Ok(())
    }
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` as the exchange holds it.
const LISTENER_FLAG: u32 = 1 << 3;
const _: () = assert!(LISTENER_FLAG as libc::c_ulong == libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);

/// Lets a descriptor be inherited; negative if it is not open.
fn inherit(fd: RawFd) -> libc::c_int {
    // SAFETY: clears close-on-exec and nothing else.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }
}

/// Ends the child, also under a filter that denies every way to say so.
fn die() -> ! {
    // SAFETY: ending the process; nothing of it is needed any more.
    unsafe { libc::syscall(libc::SYS_exit_group, 125) };
    // SAFETY: as above, for a filter that lets only threads exit.
    unsafe { libc::syscall(libc::SYS_exit, 125) };
    loop {
        // An instruction that the processor refuses: the kernel ends the process by a signal that
        // no filter sees. The parent, told by the shared memory, kills it as well.
        #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
        // SAFETY: the instruction has no effect but the fault.
        unsafe {
            std::arch::asm!("ud2")
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the instruction has no effect but the fault.
        unsafe {
            std::arch::asm!("udf #0")
        }
        std::hint::spin_loop();
    }
}
