//! What is to be run: the program file, found before anything is forked, its arguments,
//! environment and standard streams.

use std::env;
use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::io;
use std::iter;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal};

use crate::landlock::Domain;

/// The directories that are searched when `PATH` is not set (`confstr(_CS_PATH)` of Linux C
/// libraries).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such file, or none of that name in any directory of `PATH`.
    #[error("program not found: {}", program.display())]
    NotFound {
        /// The program as it was named.
        program: PathBuf,
    },
    /// The file is there and cannot be executed.
    #[error("program cannot be executed: {}", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A descriptor that was to be kept is not open.
    #[error("descriptor {fd} is not open here, so the program cannot inherit it")]
    Descriptor {
        /// Its number.
        fd: RawFd,
    },
    /// An argument or environment variable holds a NUL byte, which no program can be given.
    #[error("an argument or environment variable contains a NUL byte: {}", value.display())]
    Nul {
        /// The argument or variable.
        value: OsString,
    },
}

impl CommandError {
    /// The exit status by which env(1) and container runtimes tell this: 127 not found, 126 not
    /// executable, 125 otherwise.
    pub fn exit_status(&self) -> u8 {
        match self {
            CommandError::NotFound { .. } => 127,
            CommandError::NotExecutable { .. } => 126,
            CommandError::Descriptor { .. } | CommandError::Nul { .. } => 125,
        }
    }
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input, descriptor 0.
    Stdin,
    /// Standard output, descriptor 1.
    Stdout,
    /// Standard error, descriptor 2.
    Stderr,
}

/// A program file with arguments, environment and standard streams, and what is set up for it.
///
/// Working directory, process group, terminal, and what is not set here, are the caller's.
#[derive(Debug)]
pub struct Command {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    streams: [Option<OwnedFd>; 3],
    kept: Option<Vec<RawFd>>,
    limits: Vec<(Resource, Rlimit)>,
    parent_death: Option<Signal>,
    landlock: Option<Domain>,
}

impl Command {
    /// A command with the caller's environment.
    ///
    /// A program name without a slash is looked up in `PATH` as execvp(3) does: an empty element
    /// is the working directory, a file that may not be executed is passed over. A script without
    /// a `#!` line is not handed to a shell.
    ///
    /// # Errors
    /// If the program is not found, is not executable, or an argument holds a NUL byte.
    pub fn new<A>(program: &OsStr, arguments: A) -> Result<Command, CommandError>
    where
        A: IntoIterator<Item = OsString>,
    {
        let path = if program.as_bytes().contains(&b'/') {
            let path = PathBuf::from(program);
            match executable(&path) {
                Ok(()) => path,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    return Err(CommandError::NotFound { program: path });
                }
                Err(errno) => {
                    return Err(CommandError::NotExecutable { path, source: errno.into() });
                }
            }
        } else {
            search(program, env::var_os("PATH").as_deref().unwrap_or(OsStr::new(DEFAULT_PATH)))?
        };
        let variables = env::vars_os().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        });
        Ok(Command {
            path: c_string(path.into_os_string())?,
            arguments: iter::once(program.to_owned())
                .chain(arguments)
                .map(c_string)
                .collect::<Result<_, _>>()?,
            environment: variables.map(c_string).collect::<Result<_, _>>()?,
            streams: [None, None, None],
            kept: None,
            limits: Vec::new(),
            parent_death: None,
            landlock: None,
        })
    }

    /// The file that will be executed.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.as_bytes()))
    }

    /// The arguments, the program's name first.
    pub fn arguments(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        self.arguments.iter().map(|argument| OsStr::from_bytes(argument.as_bytes()))
    }

    /// Connects a standard stream to `fd` instead of the caller's.
    #[must_use]
    pub fn redirect(mut self, stream: Stream, fd: OwnedFd) -> Command {
        let slot = match stream {
            Stream::Stdin => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        self.streams[slot] = Some(fd);
        self
    }

    /// Lets the program inherit no descriptors but the standard streams and these. Without this it
    /// inherits what is open here and does not close on exec.
    ///
    /// Needs Linux 5.11 (`CLOSE_RANGE_CLOEXEC`).
    ///
    /// # Errors
    /// For a descriptor that is not open.
    pub fn keep_only(mut self, descriptors: &[RawFd]) -> Result<Command, CommandError> {
        for &fd in descriptors {
            // procfs shows what is open without taking the number for an owned descriptor.
            if fd < 0 || rustix::fs::lstat(format!("/proc/self/fd/{fd}")).is_err() {
                return Err(CommandError::Descriptor { fd });
            }
        }
        self.kept = Some(descriptors.to_vec());
        Ok(self)
    }

    /// Sets a resource limit of the program (setrlimit(2)), in the units of the resource; `None`
    /// is no limit.
    #[must_use]
    pub fn limit(mut self, resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Command {
        self.limits.push((resource, Rlimit { current: soft, maximum: hard }));
        self
    }

    /// Sends the program this signal when the thread that forks it ends (`PR_SET_PDEATHSIG`): make
    /// that a thread that lives as long as the process. Its children do not inherit it.
    #[must_use]
    pub fn signal_on_parent_death(mut self, signal: Signal) -> Command {
        self.parent_death = Some(signal);
        self
    }

    /// Puts a Landlock domain on the program, and on all that it starts. It sets `no_new_privs`.
    #[must_use]
    pub fn landlock(mut self, domain: Domain) -> Command {
        self.landlock = Some(domain);
        self
    }

    pub(crate) fn domain(&self) -> Option<&Domain> {
        self.landlock.as_ref()
    }

    /// The descriptors that are inherited, if others are not to be.
    pub(crate) fn kept(&self) -> Option<&[RawFd]> {
        self.kept.as_deref()
    }

    pub(crate) fn limits(&self) -> &[(Resource, Rlimit)] {
        &self.limits
    }

    pub(crate) fn parent_death(&self) -> Option<Signal> {
        self.parent_death
    }

    pub(crate) fn c_path(&self) -> &CStr {
        &self.path
    }

    /// The arguments as execve(2) takes them: pointers into `self`, closed by a null pointer.
    pub(crate) fn argument_pointers(&self) -> Vec<*const c_char> {
        pointers(&self.arguments)
    }

    /// The environment as execve(2) takes it: pointers into `self`, closed by a null pointer.
    pub(crate) fn environment_pointers(&self) -> Vec<*const c_char> {
        pointers(&self.environment)
    }

    /// The descriptors of the redirected streams, -1 for one that stays.
    pub(crate) fn raw_streams(&self) -> [RawFd; 3] {
        self.streams.each_ref().map(|fd| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }
}

/// A copy of a descriptor that this process was started with, closed on exec.
///
/// # Errors
/// EBADF if it is not open.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates whatever has this number, or fails; what had it is not touched.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for the caller, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Looks `program` up in `path` (directories separated by `:`).
fn search(program: &OsStr, path: &OsStr) -> Result<PathBuf, CommandError> {
    let mut refused = None;
    if !program.is_empty() {
        for directory in path.as_bytes().split(|&byte| byte == b':') {
            let directory = if directory.is_empty() { b"." } else { directory };
            let file = Path::new(OsStr::from_bytes(directory)).join(program);
            match executable(&file) {
                Ok(()) => return Ok(file),
                Err(errno @ Errno::ACCESS) if refused.is_none() => refused = Some((file, errno)),
                Err(_) => {}
            }
        }
    }
    match refused {
        Some((path, errno)) => Err(CommandError::NotExecutable { path, source: errno.into() }),
        None => Err(CommandError::NotFound { program: program.into() }),
    }
}

/// Whether the caller may execute the file: EACCES for a directory, as execve(2) says it.
fn executable(path: &Path) -> rustix::io::Result<()> {
    let mode = rustix::fs::stat(path)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

fn c_string(value: OsString) -> Result<CString, CommandError> {
    CString::new(value.into_vec())
        .map_err(|error| CommandError::Nul { value: OsString::from_vec(error.into_vec()) })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain(iter::once(ptr::null())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn path_is_searched_as_execvp_does() {
        let root = tempfile::tempdir().unwrap();
        for (directory, mode) in [("a", 0o644), ("b", 0o755), ("c", 0o755)] {
            fs::create_dir(root.path().join(directory)).unwrap();
            let file = root.path().join(directory).join("tool");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(root.path().join("a/folder")).unwrap();
        let path = |names: &[&str]| {
            env::join_paths(names.iter().map(|name| root.path().join(name))).unwrap()
        };
        let tool = OsStr::new("tool");
        assert_eq!(
            search(tool, &path(&["none", "a", "b", "c"])).unwrap(),
            root.path().join("b/tool")
        );
        assert_eq!(search(tool, &path(&["a"])).unwrap_err().exit_status(), 126);
        assert_eq!(search(OsStr::new("folder"), &path(&["a"])).unwrap_err().exit_status(), 126);
        assert_eq!(search(tool, &path(&["none"])).unwrap_err().exit_status(), 127);
        assert_eq!(search(OsStr::new(""), &path(&["a"])).unwrap_err().exit_status(), 127);
    }
}
