//! Which standard streams this process was started with.
//!
//! Rust's runtime opens /dev/null in the place of a standard stream that is closed, so that no file
//! gets its number by accident. After that nobody can tell any more: data would be written to
//! nowhere, and a command would find a stream open that it was not given. So they are looked at
//! before, by a function of the kind that the C library runs before `main`.

use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::command::Stream;

/// By number; written once, before there are threads.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// `.init_array` holds functions that run before `main` (System V ABI, "Initialization and
/// Termination Functions").
// SAFETY: the section takes pointers to functions of the C ABI, which this is; the function needs
// nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for (fd, closed) in (0..).zip(&CLOSED) {
        // SAFETY: asks about a number, which need not be open.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        closed.store(flags < 0, Ordering::Relaxed);
    }
}

/// Has a program be started with its standard streams and no other descriptor of this process.
pub fn pass_nothing_else(command: &mut std::process::Command) {
    let mark = || {
        // Marked and not closed: among them is the one by which a failed exec is told.
        // SAFETY: takes numbers, and closes nothing that anybody here has.
        let marked = unsafe {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        // Before Linux 5.11 there is no such call; then they are passed.
        let _ = marked;
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call and nothing else, which signals and
    // other threads cannot disturb.
    unsafe { command.pre_exec(mark) };
}

/// Whether a standard stream was closed when this process was started.
pub fn was_closed(stream: Stream) -> bool {
    let index = match stream {
        Stream::Stdin => 0,
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    CLOSED[index].load(Ordering::Relaxed)
}

/// The same, by descriptor.
pub(crate) fn all_closed() -> [bool; 3] {
    CLOSED.each_ref().map(|closed| closed.load(Ordering::Relaxed))
}
