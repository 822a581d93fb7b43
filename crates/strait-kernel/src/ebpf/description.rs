//! The kernel's description of its types, as it shows it in a file of 5 MB.

use std::fs::{self, File};
use std::io;
use std::ptr;
use std::slice;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Where it is.
pub(super) const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The description: the kernel's own memory where it lets that be mapped (Linux 6.16), else a copy, which
/// takes some 5 ms more.
#[derive(Debug)]
pub(super) enum Description {
    Mapped(Mapping),
    Copied(Vec<u8>),
}

impl Description {
    /// Reads it.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn read() -> io::Result<Description> {
        match Mapping::new() {
            Ok(mapping) => Ok(Description::Mapped(mapping)),
            Err(_) => fs::read(PATH).map(Description::Copied),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Description::Mapped(mapping) => mapping.bytes(),
            Description::Copied(bytes) => bytes,
        }
    }
}

/// The file [`PATH`], mapped to be read.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *const u8,
    length: usize,
}

impl Mapping {
    fn new() -> io::Result<Mapping> {
        let file = File::open(PATH)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, flags, &file, 0) }?;
        Ok(Mapping { start: start.cast_const().cast(), length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this length, may be read, and lives as long as this does. What it
        // shows is a section of the kernel that nobody writes to, .BTF (kernel/bpf/sysfs_btf.c).
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length, and nobody has a part of it: `bytes` borrows this.
        let unmapped = unsafe { munmap(self.start.cast_mut().cast(), self.length) };
        // It fails for what is no mapping.
        let _ = unmapped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_what_the_file_says() {
        let Ok(copied) = fs::read(PATH) else {
            return strait_testkit::skip("the kernel's types", "the kernel describes none");
        };
        assert!(Description::read().unwrap().bytes() == copied);
    }
}
