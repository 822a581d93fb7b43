//! A recorder that waits for its container: it loads its programs while the runtime makes the container,
//! and the hook then only says which one it is.
//!
//! It is told by a socket in a folder of root's alone, with a random name that stands nowhere but in the
//! arguments of the hook: whoever may annotate a container neither chooses nor learns it. A recorder whose
//! container never comes ends with whoever was to make it, or when nobody makes it any more. Where nobody waits the hook starts a recorder
//! itself, so what goes wrong here costs time and no recording.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use strait_kernel::streams;

use super::cgroups::Cgroups;
use super::hook::{ANSWER, HookError, RECORDING};
use super::makers::Makers;
use super::socket::{SocketName, listen};

/// How long a recorder waits for its container at most, where nobody is seen who makes it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the hook may take to say which container it is, once it has begun to.
const HANDING: Duration = Duration::from_secs(10);
/// What a hook says is no longer, in bytes.
const LIMIT: u64 = 64 << 10;

/// A container for its recorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its first process.
    pub pid: i32,
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The file of the runtime that has made it, if that is known.
    pub runtime: Option<PathBuf>,
    /// The file in the folder for recordings that it is to be recorded into.
    pub file: String,
}

/// Starts `program`, which is this one, as a recorder that waits, with these arguments, for a container
/// that the process `starter` is about to make. It is told by this name of which container.
///
/// # Errors
/// If it cannot be started.
pub fn start<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    starter: Pid,
) -> io::Result<SocketName> {
    let (name, listener) = listen()?;
    let mut recorder = Command::new(program);
    recorder.args(arguments).arg("--socket").arg(name.to_string());
    recorder.arg("--starter").arg(starter.as_raw_nonzero().to_string());
    recorder.current_dir("/").stdin(OwnedFd::from(listener));
    recorder.stdout(Stdio::null()).stderr(Stdio::null());
    // The runtime is given descriptors that somebody waits for the end of.
    streams::pass_nothing_else(&mut recorder);
    recorder.spawn().inspect_err(|_| name.remove())?;
    Ok(name)
}

/// Tells the recorder that waits by this name of its container. When this returns true, the container is
/// recorded; false: nobody waits.
///
/// # Errors
/// What the recorder says if it cannot record it, or if it says nothing.
pub fn hand_over(name: &SocketName, container: &Container) -> Result<bool, HookError> {
    hand_over_within(name, container, ANSWER)
}

fn hand_over_within(
    name: &SocketName,
    container: &Container,
    within: Duration,
) -> Result<bool, HookError> {
    let asked = (|| {
        let mut recorder = UnixStream::connect(name.path())?;
        recorder.set_read_timeout(Some(within))?;
        recorder.set_write_timeout(Some(within))?;
        recorder.write_all(&serde_json::to_vec(container)?)?;
        recorder.shutdown(Shutdown::Write)?;
        let mut said = Vec::new();
        (&mut recorder).take(LIMIT).read_to_end(&mut said)?;
        Ok::<_, io::Error>(said)
    })();
    match asked {
        Ok(said) if said == RECORDING.as_bytes() => Ok(true),
        Ok(said) if !said.is_empty() => {
            Err(HookError::Recorder(String::from_utf8_lossy(&said).trim().to_owned()))
        }
        // It may have the container already: a second one would record it too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(HookError::Silent),
        _ => {
            // A recorder that was killed has left it.
            name.remove();
            Ok(false)
        }
    }
}

/// The hook that has asked for a container to be recorded.
#[derive(Debug)]
pub struct Hook {
    stream: UnixStream,
    cgroups: Cgroups,
}

impl Hook {
    /// Says this to it.
    ///
    /// # Errors
    /// If it is gone.
    pub fn tell(&mut self, said: &[u8]) -> io::Result<()> {
        self.stream.write_all(said)
    }

    /// It need not wait any longer. This process goes to the cgroups that it is in: that takes a while.
    pub fn release(self) {
        drop(self.stream);
        self.cgroups.join();
    }
}

/// The recorder's end: it waits to be told of its container.
#[derive(Debug)]
pub struct Waiting {
    name: SocketName,
    listener: UnixListener,
    starter: OwnedFd,
    makers: Makers,
    deadline: Instant,
}

impl Waiting {
    /// Waits at the socket that is this process's standard input, as long as the process `starter` lives and
    /// the container's makers have not gone.
    ///
    /// # Errors
    /// If that has ended already.
    pub fn new(name: SocketName, starter: Pid, makers: Makers) -> io::Result<Waiting> {
        let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
        let starter = pidfd_open(starter, PidfdFlags::empty()).inspect_err(|_| name.remove())?;
        Ok(Waiting { name, listener, starter, makers, deadline: Instant::now() + PATIENCE })
    }

    /// The container, and who asks for it; `None` where none comes.
    ///
    /// # Errors
    /// If what is said is no container.
    pub fn container(mut self) -> io::Result<Option<(Container, Hook)>> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let rest = self.makers.rest().map_or(left, |rest| rest.min(left));
            let timeout = Timespec::try_from(rest).map_err(io::Error::other)?;
            let mut fds = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.starter, PollFlags::IN),
            ];
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
                Ok(0) if left.is_zero() || self.makers.are_gone() => return Ok(None),
                Ok(0) => continue,
                Ok(_) => {}
            }
            if !fds[0].revents().contains(PollFlags::IN) {
                return Ok(None);
            }
            let (hook, _) = self.listener.accept()?;
            hook.set_read_timeout(Some(HANDING))?;
            let mut said = Vec::new();
            (&hook).take(LIMIT).read_to_end(&mut said)?;
            let container = serde_json::from_slice(&said)?;
            let cgroups = Cgroups::of(socket_peercred(&hook)?.pid)?;
            return Ok(Some((container, Hook { stream: hook, cgroups })));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The hook may have done that.
        self.name.remove();
    }
}

#[cfg(test)]
mod tests {
    use strait_testkit::skip;

    use super::*;

    #[test]
    fn a_recorder_that_is_stopped_is_no_recorder_that_is_gone() {
        if !rustix::process::geteuid().is_root() {
            return skip("a recorder that is stopped", "the folder of the sockets is root's");
        }
        let container = Container {
            pid: 1,
            id: "some".to_owned(),
            bundle: PathBuf::new(),
            runtime: None,
            file: "some.json".to_owned(),
        };
        let (name, listener) = listen().unwrap();
        let asked = hand_over_within(&name, &container, Duration::from_millis(1));
        assert!(matches!(asked, Err(HookError::Silent)), "{asked:?}");
        drop(listener);
        assert!(!hand_over_within(&name, &container, ANSWER).unwrap());
        assert!(!name.exists());
    }
}
