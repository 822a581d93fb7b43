//! The memory by which a forked child and its parent talk when the child may make no call any
//! more: what the parent wants loaded, and how far the child got.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};
use strait_bpf::Program;

use crate::seccomp;

/// How far the child got. Written by the child alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It waits to be told to go on.
    Waiting,
    /// It connects its standard streams.
    Streams,
    /// It sees to it that other descriptors are not inherited.
    Descriptors,
    /// It sets resource limits.
    Limits,
    /// It asks for a signal when its parent ends.
    ParentDeath,
    /// It sets `no_new_privs`.
    NoNewPrivs,
    /// It enters its Landlock domain.
    Landlock,
    /// It loads the filter.
    Load,
    /// It calls execve; the last step that it can be at.
    Exec,
}

impl Step {
    const ALL: [Step; 9] = [
        Step::Waiting,
        Step::Streams,
        Step::Descriptors,
        Step::Limits,
        Step::ParentDeath,
        Step::NoNewPrivs,
        Step::Landlock,
        Step::Load,
        Step::Exec,
    ];
}

/// What is in the memory. All fields are integers for which zero is a good start, and each is
/// written by one side only.
pub(crate) struct Exchange {
    /// The child's [`Step`].
    step: AtomicU32,
    /// The errno that the step failed with, 0 as long as none did.
    errno: AtomicI32,
    /// One more than the listener's descriptor number in the child; 0 before there is one.
    listener: AtomicI32,
    /// How many of `insns` there are; 0 for no filter.
    len: AtomicU32,
    /// Whether `no_new_privs` is to be set.
    no_new_privs: AtomicU32,
    /// The flags of `SECCOMP_SET_MODE_FILTER`.
    flags: AtomicU32,
    /// What execve carries in its fifth and sixth argument registers.
    token: [AtomicU64; 2],
    /// The filter. Written by the parent before it tells the child to go on, read by the child
    /// after that.
    insns: UnsafeCell<[libc::sock_filter; Program::MAX_LEN]>,
}

/// What the child is to load.
#[derive(Clone, Copy)]
pub(crate) struct Order {
    pub(crate) no_new_privs: bool,
    pub(crate) flags: u32,
    pub(crate) token: [u64; 2],
}

impl Exchange {
    /// Parent: writes down what is to be loaded. To be called before the child is told to go on,
    /// never after.
    pub(crate) fn put(&self, program: &Program, order: Order) {
        let insns = seccomp::sock_filters(program);
        // SAFETY: `insns` has at most MAX_LEN elements, the length of the array; the areas do not
        // overlap, being a new vector and the mapping; the child reads the array only after a
        // message that the caller sends after this, so nobody else accesses it now.
        unsafe {
            ptr::copy_nonoverlapping(insns.as_ptr(), self.insns.get().cast(), insns.len());
        }
        self.no_new_privs.store(u32::from(order.no_new_privs), Ordering::Relaxed);
        self.flags.store(order.flags, Ordering::Relaxed);
        for (word, value) in self.token.iter().zip(order.token) {
            word.store(value, Ordering::Relaxed);
        }
        self.len.store(u32::try_from(insns.len()).unwrap_or(0), Ordering::Release);
    }

    /// Child: the filter to load as the kernel takes it, and how; `None` for no filter.
    pub(crate) fn order(&self) -> Option<(libc::sock_fprog, Order)> {
        match self.len.load(Ordering::Acquire) {
            0 => None,
            len => Some((
                libc::sock_fprog {
                    // At most MAX_LEN: see `put`.
                    len: u16::try_from(len).unwrap_or(0),
                    filter: self.insns.get().cast(),
                },
                Order {
                    no_new_privs: self.no_new_privs.load(Ordering::Relaxed) != 0,
                    flags: self.flags.load(Ordering::Relaxed),
                    token: self.token.each_ref().map(|word| word.load(Ordering::Relaxed)),
                },
            )),
        }
    }

    /// Child: says what it is about to do.
    pub(crate) fn enter(&self, step: Step) {
        let index = Step::ALL.iter().zip(0..).find(|(known, _)| **known == step);
        let step = index.map_or(0, |(_, index)| index);
        self.step.store(step, Ordering::Release);
    }

    /// Child: says that the step it is at failed.
    pub(crate) fn fail(&self, errno: i32) {
        self.errno.store(errno, Ordering::Release);
    }

    /// Child: gives the number of the listener.
    pub(crate) fn publish_listener(&self, fd: i32) {
        self.listener.store(fd.saturating_add(1), Ordering::Release);
    }

    /// Parent: how far the child got.
    pub(crate) fn step(&self) -> Step {
        let index = usize::try_from(self.step.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        Step::ALL.get(index).copied().unwrap_or(Step::Exec)
    }

    /// Parent: the errno of the step that failed.
    pub(crate) fn failure(&self) -> Option<i32> {
        Some(self.errno.load(Ordering::Acquire)).filter(|&errno| errno != 0)
    }

    /// Parent: the listener's number in the child.
    pub(crate) fn listener(&self) -> Option<i32> {
        self.listener.load(Ordering::Acquire).checked_sub(1).filter(|&fd| fd >= 0)
    }
}

/// What may stand in memory that two processes share.
///
/// # Safety
/// All zero bytes are a value of the type, and everything in it that is written while it is shared
/// is atomic or in an `UnsafeCell`.
pub(crate) unsafe trait Shareable: Sized {}

// SAFETY: all fields are integers, atomic or, for the filter, in an UnsafeCell.
unsafe impl Shareable for Exchange {}

/// A value in memory that a fork shares.
pub(crate) struct Shared<T: Shareable> {
    value: NonNull<T>,
}

// SAFETY: the mapping is not bound to a thread, and a value that two processes may share may go
// from one thread to another.
unsafe impl<T: Shareable> Send for Shared<T> {}

impl<T: Shareable> Shared<T> {
    /// Maps the memory, all zero.
    pub(crate) fn new() -> io::Result<Shared<T>> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let memory = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                size_of::<T>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        let value = NonNull::new(memory.cast())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Shared { value })
    }
}

impl<T: Shareable> fmt::Debug for Shared<T> {
    /// Does not show the value, which the other side may be writing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.value).finish()
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is page-aligned, as large as a `T` and stays until drop; zero bytes
        // are a value of it, and what both sides write is atomic or in an UnsafeCell (`Shareable`).
        unsafe { self.value.as_ref() }
    }
}

impl<T: Shareable> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and the reference that `deref`
        // gives out cannot outlive `self`. A failure leaves the mapping, which harms nothing.
        let _ = unsafe { rustix::mm::munmap(self.value.as_ptr().cast(), size_of::<T>()) };
    }
}
