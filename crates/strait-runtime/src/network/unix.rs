//! Unix sockets: which one a task means by a path, and whether it is on the list.
//!
//! A path is followed once, with the task's own root and working folder, to a file that is held open.
//! The file is what is decided on and what is connected to, by its descriptor: what the path leads to
//! afterwards does not matter.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use strait_policy::network::{Network, UnixName};

/// The file that a path leads a task to.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    /// Where it stands, from this process's root.
    pub(super) path: PathBuf,
}

impl Opened {
    /// Follows a path for a task.
    ///
    /// # Errors
    /// Those of open(2); ENOENT for what stands nowhere that can be named from here.
    pub(super) fn new(tid: u32, path: &[u8]) -> Result<Opened, Errno> {
        let start: &[u8] = if path.starts_with(b"/") { b"root" } else { b"cwd/" };
        let path = [format!("/proc/{tid}/").as_bytes(), start, path].concat();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file: OwnedFd = rustix::fs::open(OsStr::from_bytes(&path), flags, Mode::empty())?;
        let path = rustix::fs::readlink(of(&file), Vec::new())?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()));
        let opened = Opened { file: File::from(file), path };
        // What was removed or stands elsewhere has a text that leads to no file, or to another one.
        if opened.is_at(&opened.path) { Ok(opened) } else { Err(Errno::NOENT) }
    }

    /// A path by which this process, and nobody else, reaches the file whatever becomes of its name.
    pub(super) fn name(&self) -> Vec<u8> {
        of(&self.file).into_bytes()
    }

    /// The file, for [`rustix::process::fchdir`].
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether it is what stands at this path now.
    fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), fs::metadata(path)) {
            (Ok(own), Ok(other)) => (own.dev(), own.ino()) == (other.dev(), other.ino()),
            _ => false,
        }
    }

    /// Whether a socket that exists is on the list.
    pub(super) fn is_permitted(&self, network: &Network) -> bool {
        network.unix.iter().any(|name| match name {
            UnixName::Path(path) => self.is_at(Path::new(path)),
            UnixName::Folder(folder) => is_below(&self.path, folder),
            UnixName::Abstract(_) => false,
        })
    }

    /// Whether a socket may be made in this folder by this name.
    pub(super) fn permits_new(&self, name: &OsStr, network: &Network) -> bool {
        network.unix.iter().any(|entry| match entry {
            UnixName::Path(path) => {
                let path = Path::new(path);
                path.file_name() == Some(name) && path.parent().is_some_and(|at| self.is_at(at))
            }
            UnixName::Folder(folder) => is_below(&self.path.join(name), folder),
            UnixName::Abstract(_) => false,
        })
    }
}

/// Whether a name that stands in no folder is on the list.
pub(super) fn permits_abstract(name: &[u8], network: &Network) -> bool {
    network.unix.iter().any(|entry| match entry {
        UnixName::Abstract(permitted) => permitted.as_bytes() == name,
        _ => false,
    })
}

/// The folder and the last name of a path; `None` where it has none.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &OsStr)> {
    let (folder, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (&b"/"[..], &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    let named = !matches!(name, b"" | b"." | b"..");
    named.then(|| (folder, OsStr::from_bytes(name)))
}

fn is_below(path: &Path, folder: &str) -> bool {
    fs::canonicalize(folder).is_ok_and(|folder| path != folder && path.starts_with(folder))
}

fn of(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
