//! The task whose notified call waits: its memory, its descriptors, and calls that are made in its
//! place.
//!
//! What is read of a task is of the one that made the call only if the call still waits afterwards
//! ([`Listener::is_waiting`](crate::seccomp::Listener::is_waiting)). Memory is copied once: what the copy
//! says is what is decided on, and what the call is made with.
//!
//! It takes pidfd_getfd (Linux 5.6) and the right to trace the task (`PTRACE_MODE_ATTACH_REALCREDS`).

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// A task whose call waits.
#[derive(Debug)]
pub struct Caller {
    tid: Pid,
    pidfd: OwnedFd,
}

impl Caller {
    /// The task with this thread id.
    ///
    /// A thread may have a table of descriptors of its own. Before Linux 6.9 there is no pidfd of a
    /// thread: then its process's table is looked at.
    ///
    /// # Errors
    /// ESRCH if it is gone or not visible from here.
    pub fn new(tid: u32) -> Result<Caller, Errno> {
        let tid = i32::try_from(tid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        // `PIDFD_THREAD` (include/uapi/linux/pidfd.h) is O_EXCL.
        let thread = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
        let pidfd = match pidfd_open(tid, thread) {
            Err(Errno::INVAL) => pidfd_open(process_of(tid)?, PidfdFlags::empty()),
            opened => opened,
        }?;
        Ok(Caller { tid, pidfd })
    }

    /// A copy of one of its descriptors: the same open file.
    ///
    /// # Errors
    /// EBADF if there is none of this number; EPERM without the right to trace the task.
    pub fn descriptor(&self, fd: RawFd) -> Result<OwnedFd, Errno> {
        pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty())
    }

    /// Copies as many bytes as the buffer has from its memory.
    ///
    /// # Errors
    /// EFAULT if not all of them can be read; EPERM without the right to trace the task.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        if buffer.is_empty() {
            return Ok(());
        }
        let remote = remote(address, buffer.len())?;
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: `local` is the buffer, which is writable and borrowed exclusively; what `remote`
        // says is of the other task, and is checked by the kernel.
        let read = unsafe {
            libc::process_vm_readv(self.tid.as_raw_nonzero().get(), &local, 1, &remote, 1, 0)
        };
        whole(read, buffer.len())
    }

    /// Copies bytes to its memory.
    ///
    /// # Errors
    /// As for [`Caller::read`].
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let remote = remote(address, bytes.len())?;
        let local =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: process_vm_writev only reads from `local`, which are the borrowed bytes; what
        // `remote` says is of the other task, and is checked by the kernel.
        let written = unsafe {
            libc::process_vm_writev(self.tid.as_raw_nonzero().get(), &local, 1, &remote, 1, 0)
        };
        whole(written, bytes.len())
    }

    /// Ends its process.
    ///
    /// # Errors
    /// EPERM if it is another user's; ESRCH if it is gone.
    pub fn kill(&self) -> Result<(), Errno> {
        // SIGKILL is the whole process's whichever of its threads gets it.
        rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL)
    }

    /// Sends the signal of a broken pipe, as the kernel does to a task that writes to one.
    pub fn signal_pipe(&self) {
        // A pidfd of a thread signals that thread. That it is gone is its own affair.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::PIPE);
    }
}

/// The process that a thread belongs to.
fn process_of(tid: Pid) -> Result<Pid, Errno> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).map_err(|_| Errno::SRCH)?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?)).ok_or(Errno::SRCH)
}

fn remote(address: u64, length: usize) -> Result<libc::iovec, Errno> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    Ok(libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: length })
}

fn whole(done: isize, length: usize) -> Result<(), Errno> {
    match usize::try_from(done) {
        Ok(done) if done == length => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(last()),
    }
}

/// connect(2) with these bytes as the address.
///
/// # Errors
/// The kernel's.
pub fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let length = length(address)?;
    // SAFETY: the descriptor is open for the borrow, and the kernel copies as many bytes of the address
    // as there are, whatever their alignment.
    let done = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// bind(2) with these bytes as the address.
///
/// # Errors
/// The kernel's.
pub fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let length = length(address)?;
    // SAFETY: as for `connect`.
    let done = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// What sendmsg(2) takes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The address; none if it is empty.
    pub address: &'a [u8],
    /// What is sent.
    pub payload: &'a [u8],
    /// Control messages as the kernel takes them (cmsg(3)); none if it is empty.
    pub control: &'a [u8],
    /// `MSG_…`; a broken pipe sends no signal to this process in any case.
    pub flags: i32,
}

/// sendmsg(2): how many bytes were sent.
///
/// # Errors
/// The kernel's.
pub fn send(socket: BorrowedFd<'_>, message: &Message<'_>) -> Result<usize, Errno> {
    let Message { address, payload, control, flags } = *message;
    let mut part =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let pointer = |bytes: &[u8]| -> *mut c_void {
        if bytes.is_empty() { ptr::null_mut() } else { bytes.as_ptr().cast_mut().cast() }
    };
    // SAFETY: a structure of integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = pointer(address);
    header.msg_namelen = length(address)?;
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = pointer(control);
    #[allow(clippy::useless_conversion, reason = "musl has 32 bits there")]
    let length = control.len().try_into().map_err(|_| Errno::NOBUFS)?;
    header.msg_controllen = length;
    let flags = flags | libc::MSG_NOSIGNAL;
    // SAFETY: the descriptor is open for the borrow; the header points to memory that lives through the
    // call and has the lengths that it says; sendmsg only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) };
    usize::try_from(sent).map_err(|_| last())
}

/// Makes the calling thread's working folder and umask its own, so that it can change them alone.
///
/// # Errors
/// If the kernel has no memory for that.
pub fn own_folder_and_umask() -> Result<(), Errno> {
    // SAFETY: with CLONE_FS nothing changes but that others do not share what this thread sets.
    let done = unsafe { libc::unshare(libc::CLONE_FS) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

fn length(address: &[u8]) -> Result<libc::socklen_t, Errno> {
    address.len().try_into().map_err(|_| Errno::INVAL)
}

fn last() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl AsFd for Caller {
    /// A pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
