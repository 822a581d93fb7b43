//! seccomp(2): loading a filter, the listener of its notifications, and what the kernel offers.
//!
//! `SECCOMP_FILTER_FLAG_SPEC_ALLOW` is never set: a filter must not switch off the mitigations of
//! speculative store bypass that the task would otherwise have.

use std::ffi::c_void;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use strait_abi::AuditArch;
use strait_bpf::{Action, Program, SeccompData};

/// Which threads a filter is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread, and what it forks or execs later.
    This,
    /// Every thread of the process, all or none (`SECCOMP_FILTER_FLAG_TSYNC`).
    All,
}

/// How the right to load a filter is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// `no_new_privs` is set first: set-user-id programs and file capabilities give nothing from
    /// then on. Needs no privilege.
    NoNew,
    /// `no_new_privs` is left as it is; the kernel then demands CAP_SYS_ADMIN in the user
    /// namespace of the caller.
    Keep,
}

/// How a filter is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Which threads it is put on.
    pub threads: Threads,
    /// How the right to load it is had.
    pub privileges: Privileges,
    /// Whether the kernel logs what the filter answers with anything but allow
    /// (`SECCOMP_FILTER_FLAG_LOG`), as far as `/proc/sys/kernel/seccomp/actions_logged` has it.
    pub log: bool,
}

impl Default for LoadOptions {
    /// All threads, no new privileges, not logged.
    fn default() -> Self {
        LoadOptions { threads: Threads::All, privileges: Privileges::NoNew, log: false }
    }
}

/// Why a filter was not loaded. Nothing is confined then; `no_new_privs` may have been set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// prctl(2) refused `PR_SET_NO_NEW_PRIVS`.
    #[error("no_new_privs could not be set; a seccomp filter on this process may forbid prctl")]
    NoNewPrivs {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Privileges are kept, and the caller has no CAP_SYS_ADMIN (EACCES).
    #[error(
        "a filter without no_new_privs needs CAP_SYS_ADMIN; do not keep privileges, or run with it"
    )]
    Privilege {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A thread has a filter that the caller does not have, or is in strict mode.
    #[error("thread {tid} has filters of its own: one filter for all threads is not possible")]
    Thread {
        /// The thread, 0 where the kernel does not say which.
        tid: i32,
    },
    /// The task's filters already have a listener (EBUSY); a stack can have one only.
    #[error("a filter of this process has a listener already, and a stack can have only one")]
    ListenerExists {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The filters of the stack together are longer than the kernel takes (ENOMEM; 32768
    /// instructions and 4 for each filter, `MAX_INSNS_PER_PATH` in `kernel/seccomp.c`).
    #[error("no memory for the filter, or the stack of filters would exceed 32768 instructions")]
    Memory {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel knows no seccomp filters, or not the flags that are needed (ENOSYS, EINVAL).
    #[error(
        "this kernel does not take the filter: it lacks CONFIG_SECCOMP_FILTER or a flag (a listener together with TSYNC needs Linux 5.7)"
    )]
    Unsupported {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("seccomp(2) refused the filter")]
    Os {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl LoadError {
    /// Reads the outcome of `SECCOMP_SET_MODE_FILTER` as the kernel means it.
    pub(crate) fn from_errno(errno: i32) -> LoadError {
        let source = io::Error::from_raw_os_error(errno);
        match errno {
            libc::EACCES => LoadError::Privilege { source },
            libc::EBUSY => LoadError::ListenerExists { source },
            libc::ENOMEM => LoadError::Memory { source },
            libc::ENOSYS | libc::EINVAL => LoadError::Unsupported { source },
            // TSYNC_ESRCH: a thread could not be synchronised, the kernel does not say which.
            libc::ESRCH => LoadError::Thread { tid: 0 },
            _ => LoadError::Os { source },
        }
    }
}

/// Loads a filter onto the calling process or thread. It cannot be taken off again.
///
/// # Errors
/// Why it was not loaded.
pub fn load(program: &Program, options: LoadOptions) -> Result<(), LoadError> {
    set_mode_filter(program, options, 0).map(drop)
}

/// Loads a filter and returns the listener that answers its [`Action::Notify`].
///
/// While a listener is open and nobody answers, notified calls wait; when its last copy is closed
/// they fail with ENOSYS, pending and later ones alike.
///
/// # Errors
/// Why it was not loaded.
pub fn load_with_listener(program: &Program, options: LoadOptions) -> Result<Listener, LoadError> {
    let fd = set_mode_filter(program, options, listener_flags(options.threads))?;
    // SAFETY: with SECCOMP_FILTER_FLAG_NEW_LISTENER a return value that is no error is a
    // descriptor that the kernel has just made for this process (with TSYNC_ESRCH it is never a
    // thread id), so nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Listener { fd })
}

/// Whether the kernel knows this action (`SECCOMP_GET_ACTION_AVAIL`, Linux 4.14).
pub fn action_available(action: Action) -> bool {
    let value = action.raw() & libc::SECCOMP_RET_ACTION_FULL;
    let value: *const u32 = &value;
    seccomp(libc::SECCOMP_GET_ACTION_AVAIL, 0, value.cast()) == Ok(0)
}

/// The sizes of the kernel's notification structures, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationSizes {
    /// `struct seccomp_notif`.
    pub notification: u16,
    /// `struct seccomp_notif_resp`.
    pub response: u16,
    /// `struct seccomp_data`.
    pub data: u16,
}

/// Asks the kernel how large its notification structures are (`SECCOMP_GET_NOTIF_SIZES`).
///
/// # Errors
/// EINVAL on a kernel without notifications (before Linux 5.0).
pub fn notification_sizes() -> io::Result<NotificationSizes> {
    let mut sizes =
        libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    let out: *mut libc::seccomp_notif_sizes = &mut sizes;
    seccomp(libc::SECCOMP_GET_NOTIF_SIZES, 0, out.cast_const().cast())
        .map_err(io::Error::from_raw_os_error)?;
    Ok(NotificationSizes {
        notification: sizes.seccomp_notif,
        response: sizes.seccomp_notif_resp,
        data: sizes.seccomp_data,
    })
}

/// One call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names this call until it is answered or its task dies; never used again.
    pub id: u64,
    /// The thread that made it, in the pid namespace of the reader; 0 where it is not visible.
    pub tid: u32,
    /// What the filter saw.
    pub data: SeccompData,
}

/// The supervisor's end of a filter that answers with [`Action::Notify`].
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// A listener from a descriptor that is one, such as a copy made by pidfd_getfd(2).
    pub fn from_fd(fd: OwnedFd) -> Listener {
        Listener { fd }
    }

    /// Waits for a notified call.
    ///
    /// # Errors
    /// ENOENT if the call that was about to be read is gone (its task was interrupted or died):
    /// read again. EINTR if a signal came.
    pub fn receive(&self) -> io::Result<Notification> {
        // The kernel checks that the buffer is zero and writes its own size, which may be larger
        // than ours on a newer kernel; a spare KiB takes what structures may grow by.
        #[repr(C)]
        struct Buffer {
            notification: libc::seccomp_notif,
            spare: [u64; 128],
        }
        let mut buffer = MaybeUninit::<Buffer>::zeroed();
        // SAFETY: the descriptor is open for the borrow; RECV takes a pointer to a zeroed
        // `struct seccomp_notif` of the size that SECCOMP_GET_NOTIF_SIZES tells, and the buffer
        // is zeroed and larger.
        let done = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                buffer.as_mut_ptr().cast::<c_void>(),
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all bytes were zeroed and then partly overwritten by the kernel; the structures
        // are integers, for which every bit pattern is a value.
        let notification = unsafe { buffer.assume_init() }.notification;
        Ok(Notification {
            id: notification.id,
            tid: notification.pid,
            data: SeccompData {
                nr: notification.data.nr.cast_unsigned(),
                arch: AuditArch::from_raw(notification.data.arch),
                instruction_pointer: notification.data.instruction_pointer,
                args: notification.data.args,
            },
        })
    }

    /// Lets the call go on as if the filter had allowed it.
    ///
    /// This is no control over what the call does: its arguments in memory may change after they
    /// were read.
    ///
    /// # Errors
    /// ENOENT if the call is gone.
    pub fn continue_call(&self, id: u64) -> io::Result<()> {
        // The constant is a flag in the low bits; the field that takes it has 32.
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
        self.send(libc::seccomp_notif_resp { id, val: 0, error: 0, flags })
    }

    /// Makes the call return `value`, as if it had been made.
    ///
    /// # Errors
    /// ENOENT if the call is gone.
    pub fn return_from_call(&self, id: u64, value: i64) -> io::Result<()> {
        self.send(libc::seccomp_notif_resp { id, val: value, error: 0, flags: 0 })
    }

    /// Has a notified task wake its supervisor on its own CPU, and the supervisor the task on its own,
    /// where the kernel can (Linux 6.6): each is about to sleep, so nothing is gained by another CPU
    /// and the caches are lost. An older kernel is slower.
    pub fn stay_on_cpu(&self) {
        /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (include/uapi/linux/seccomp.h).
        const SYNC_WAKE_UP: libc::c_ulong = 1;
        // SAFETY: the descriptor is open for the borrow; SET_FLAGS takes a number. An older kernel
        // answers EINVAL.
        unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)
        };
    }

    /// Makes the call fail with `errno` (1 to 4095).
    ///
    /// # Errors
    /// ENOENT if the call is gone.
    pub fn fail_call(&self, id: u64, errno: u16) -> io::Result<()> {
        self.send(libc::seccomp_notif_resp { id, val: 0, error: -i32::from(errno), flags: 0 })
    }

    /// Whether the call is still waiting: what was read of its task before this says so was read
    /// of the right task.
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the descriptor is open for the borrow; ID_VALID reads a u64 from the pointer.
        unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, ptr::from_ref(&id))
                == 0
        }
    }

    fn send(&self, mut response: libc::seccomp_notif_resp) -> io::Result<()> {
        // SAFETY: the descriptor is open for the borrow; SEND reads a `struct seccomp_notif_resp`
        // from the pointer.
        let done = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                ptr::from_mut(&mut response),
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The flags that ask for a listener.
///
/// With TSYNC the return value could be a thread id or a descriptor; TSYNC_ESRCH (Linux 5.7)
/// makes it a descriptor or an error.
pub(crate) fn listener_flags(threads: Threads) -> libc::c_ulong {
    match threads {
        Threads::This => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        Threads::All => {
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
        }
    }
}

/// The flags that ask for a listener, and that a call that the supervisor has read waits for its
/// answer whatever signals come, as far as the kernel can do that (Linux 5.19). Without, a signal
/// makes the call start over, which is one notification more.
pub(crate) fn patient_listener_flags(threads: Threads) -> libc::c_ulong {
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let flags = listener_flags(threads);
    if waits_patiently() { flags | killable } else { flags }
}

/// Whether a call that the supervisor has read can be made to wait for its answer whatever signals
/// come (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19): without, one that a signal interrupts
/// is made again though the supervisor may have made it in the task's place already.
pub fn waits_patiently() -> bool {
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let flags = listener_flags(Threads::This) | killable;
    // Flags are looked at before the filter: without one, EFAULT says that they are known.
    matches!(seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, ptr::null()), Err(libc::EFAULT))
}

/// The flags of `SECCOMP_SET_MODE_FILTER` for these options, without a listener.
pub(crate) fn filter_flags(options: LoadOptions) -> libc::c_ulong {
    let threads = match options.threads {
        Threads::This => 0,
        Threads::All => libc::SECCOMP_FILTER_FLAG_TSYNC,
    };
    threads | if options.log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 }
}

/// The instructions as the kernel takes them.
pub(crate) fn sock_filters(program: &Program) -> Vec<libc::sock_filter> {
    let insns = program.insns().iter();
    insns
        .map(|insn| libc::sock_filter { code: insn.code, jt: insn.jt, jf: insn.jf, k: insn.k })
        .collect()
}

/// seccomp(2), or the errno. Allocates nothing and locks nothing: it may be called between fork
/// and exec.
///
/// `args` must be what the operation takes: see each caller.
pub(crate) fn seccomp(
    operation: libc::c_uint,
    flags: libc::c_ulong,
    args: *const c_void,
) -> Result<libc::c_long, i32> {
    // SAFETY: every caller in this crate passes what the operation takes: for SET_MODE_FILTER a
    // `sock_fprog` whose length is that of the array it points to, both alive during the call, or
    // null, which the kernel refuses;
    // for GET_ACTION_AVAIL a u32; for GET_NOTIF_SIZES a writable `seccomp_notif_sizes`. The
    // kernel copies it and keeps no pointer.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, args) };
    if done >= 0 {
        return Ok(done);
    }
    Err(errno())
}

/// The errno of the call that has just failed. Allocates nothing.
pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Sets `no_new_privs` for the calling thread, or gives the errno. Allocates nothing.
pub(crate) fn set_no_new_privs() -> Result<(), i32> {
    rustix::thread::set_no_new_privs(true).map_err(rustix::io::Errno::raw_os_error)
}

fn set_mode_filter(
    program: &Program,
    options: LoadOptions,
    more_flags: libc::c_ulong,
) -> Result<i32, LoadError> {
    let mut insns = sock_filters(program);
    let fprog = libc::sock_fprog {
        // A program has at most 4096 instructions.
        len: u16::try_from(insns.len()).map_err(|_| LoadError::from_errno(libc::EINVAL))?,
        filter: insns.as_mut_ptr(),
    };
    if options.privileges == Privileges::NoNew {
        set_no_new_privs().map_err(|errno| LoadError::NoNewPrivs {
            source: io::Error::from_raw_os_error(errno),
        })?;
    }
    let flags = filter_flags(options) | more_flags;
    let done = seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&fprog).cast())
        .map_err(LoadError::from_errno)?;
    mem::drop(insns);
    let value = i32::try_from(done).map_err(|_| LoadError::from_errno(libc::EINVAL))?;
    // Without a listener, TSYNC tells the first thread that stood in the way.
    if more_flags == 0 && value > 0 {
        return Err(LoadError::Thread { tid: value });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_actions_that_are_compiled_to() {
        if !std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
            eprintln!("SKIP the_kernel_knows_the_actions: no seccomp filters in this kernel");
            return;
        }
        let named = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap();
        for (action, name) in [
            (Action::KillProcess, "kill_process"),
            (Action::Errno(1), "errno"),
            (Action::Notify, "user_notif"),
            (Action::Log, "log"),
        ] {
            assert_eq!(action_available(action), named.split(' ').any(|word| word.trim() == name));
        }
    }

    #[test]
    fn notification_structures_are_at_least_those_that_we_know() {
        let Ok(sizes) = notification_sizes() else {
            eprintln!("SKIP notification_structures: no notifications in this kernel");
            return;
        };
        assert!(usize::from(sizes.notification) >= size_of::<libc::seccomp_notif>());
        assert!(usize::from(sizes.response) >= size_of::<libc::seccomp_notif_resp>());
        assert_eq!(u32::from(sizes.data), SeccompData::SIZE);
    }
}
