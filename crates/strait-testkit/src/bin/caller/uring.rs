//! Operations of io_uring, which no filter and no tracepoint of system calls sees. The offsets are those
//! of `struct io_uring_params`, `io_uring_sqe` and the rings (include/uapi/linux/io_uring.h).

use std::ffi::c_long;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// More than are ever asked for: completions are not taken.
const ENTRIES: u8 = 64;
const SETUP_SQPOLL: u32 = 2;
const ENTER_GETEVENTS: c_long = 1;
const ENTER_SQ_WAKEUP: c_long = 2;
const OFF_SQES: libc::off_t = 0x1000_0000;

/// `io_uring_params`: where parameters are, by words of four bytes.
const FLAGS: usize = 2;
const IDLE: usize = 4;
const SQ_TAIL: usize = 11;

/// Asks for an operation so often; by the kernel's thread where `polled`.
pub(super) fn submit(opcode: u8, times: u32, polled: bool) {
    let mut parameters = [0_u32; 30];
    if polled {
        parameters[FLAGS] = SETUP_SQPOLL;
        // Milliseconds until its thread sleeps.
        parameters[IDLE] = 10;
    }
    let place = c_long::try_from(parameters.as_mut_ptr().expose_provenance()).unwrap();
    let ring = super::call(libc::SYS_io_uring_setup, [ENTRIES.into(), place, 0, 0, 0, 0]).unwrap();
    let fd = i32::try_from(ring).unwrap();
    // With IORING_FEAT_SINGLE_MMAP this has both rings.
    let (rings, entries) = (map(fd, 0), map(fd, OFF_SQES));
    let at = |offset: u32| rings.wrapping_add(usize::try_from(offset).unwrap());
    // A descriptor that is none, so that whatever is asked for does nothing.
    let descriptor = entries.wrapping_add(4).cast::<i32>();
    // SAFETY: the first entry is in its mapping, which is zeroed, at the offset that the kernel gave;
    // nobody but this thread writes there. All places of the ring name it: they are zero.
    unsafe { entries.write(opcode) };
    // SAFETY: the same entry, four bytes on, where it has an aligned word.
    unsafe { descriptor.write(-1) };
    // SAFETY: the kernel gave the offset of an aligned word in the mapping, which is never removed;
    // the kernel reads it, by an atomic load.
    let tail = unsafe { AtomicU32::from_ptr(at(parameters[SQ_TAIL]).cast()) };
    let mut done = 0;
    for _ in 0..times.min(ENTRIES.into()) {
        tail.fetch_add(1, Ordering::Release);
        done += 1;
        let flags = if polled { ENTER_GETEVENTS | ENTER_SQ_WAKEUP } else { ENTER_GETEVENTS };
        super::call(libc::SYS_io_uring_enter, [ring, 1, done, flags, 0, 0]).unwrap();
    }
}

fn map(fd: i32, offset: libc::off_t) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let memory = unsafe { libc::mmap(ptr::null_mut(), 4096, access, libc::MAP_SHARED, fd, offset) };
    assert!(memory != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    memory.cast()
}
