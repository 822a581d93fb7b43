//! The supervisor of a container that is bound in the mode `notify`: a process beside the container, which the
//! runtime hands the listeners of its filters to, and which answers as the supervisor of `strait run --mode
//! notify` does, by the same code.
//!
//! ```text
//! wrapper, hook    starts it, tells it the policy, writes its socket into `listenerPath`
//! runtime          connects for each filter that it loads: of the container, of each exec
//!                  (ContainerProcessState of the runtime specification, with one descriptor)
//! supervisor       answers; ends when the last listener has
//! ```
//!
//! If it dies, the kernel answers what it was asked about with ENOSYS, and the runtime, which finds nobody at the
//! socket, executes nothing in the container any more.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use strait_kernel::seccomp::Listener;
use strait_kernel::streams;
use strait_policy::{LowerError, Policy};

use super::cgroups::Cgroups;
use super::makers::Makers;
use super::socket::{SocketName, listen};
use crate::steps::Steps;
use crate::supervise::{Answering, Counted, Denial, Supervisor};

/// What the supervisor answers when the runtime may connect.
pub const SUPERVISING: &str = "supervising\n";

/// How long whoever starts it waits for that: the engine waits meanwhile.
const ANSWER: Duration = Duration::from_secs(60);
/// How long it waits for its container at most, where whoever was to make it lives on.
const PATIENCE: Duration = Duration::from_secs(60);
/// No policy and no state is longer, in bytes.
const LIMIT: usize = 16 << 20;
/// At most so many runtimes are in the middle of a hand-over.
const CONNECTIONS: usize = 256;

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// It cannot be started, or cannot be spoken to.
    #[error("cannot start the container's supervisor {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It does not supervise.
    #[error("the container cannot be supervised: {0}")]
    Refused(String),
}

/// Starts `program`, which is this one, as the supervisor of a container that the process `starter` is about to
/// make, with these arguments. When this returns, runtimes may hand over to its socket the listeners of filters
/// that ask it what this policy says.
///
/// # Errors
/// If it does not supervise; none is left then.
pub fn start<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    starter: Pid,
    policy: &Policy,
) -> Result<SocketName, SuperviseError> {
    let failed = |source| SuperviseError::Start { path: program.to_owned(), source };
    let (name, listener) = listen().map_err(failed)?;
    let mut supervisor = Command::new(program);
    supervisor.args(arguments).arg("--socket").arg(name.to_string());
    supervisor.arg("--starter").arg(starter.as_raw_nonzero().to_string());
    supervisor.current_dir("/").stdin(OwnedFd::from(listener));
    supervisor.stdout(Stdio::null()).stderr(Stdio::null());
    streams::pass_nothing_else(&mut supervisor);
    let asked = (|| {
        supervisor.spawn()?;
        // Or this process's own end would be somebody who listens.
        drop(supervisor);
        let mut told = UnixStream::connect(name.path())?;
        told.set_read_timeout(Some(ANSWER))?;
        told.set_write_timeout(Some(ANSWER))?;
        told.write_all(policy.to_string().as_bytes())?;
        told.shutdown(Shutdown::Write)?;
        let mut said = String::new();
        (&mut told).take(LIMIT as u64).read_to_string(&mut said)?;
        Ok(said)
    })();
    match asked {
        Ok(said) if said == SUPERVISING => Ok(name),
        Ok(said) if said.is_empty() => {
            name.remove();
            Err(SuperviseError::Refused("its supervisor has ended".to_owned()))
        }
        Ok(said) => {
            name.remove();
            Err(SuperviseError::Refused(said.trim().to_owned()))
        }
        Err(source) => {
            name.remove();
            Err(failed(source))
        }
    }
}

/// The container that a runtime has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its first process.
    pub pid: Pid,
    /// Its id.
    pub id: String,
}

/// What runtimes say: ContainerProcessState.
#[derive(Deserialize)]
struct ProcessState {
    #[serde(default)]
    fds: Vec<String>,
    pid: i32,
    state: State,
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    id: String,
}

/// How the runtime calls the descriptor of the listener (`SeccompFdName` of the specification).
const LISTENER: &str = "seccompFd";

/// The supervisor's end, before there is a container.
#[derive(Debug)]
pub struct Supervising {
    listener: UnixListener,
    starter: OwnedFd,
    makers: Makers,
}

/// The same when it has its policy: whoever started it waits.
#[derive(Debug)]
pub struct Told {
    supervising: Supervising,
    by: UnixStream,
    policy: Policy,
    steps: Steps,
}

impl Supervising {
    /// Listens at the socket that is this process's standard input.
    ///
    /// # Errors
    /// If the process `starter`, which is to have the container made, has ended.
    pub fn new(starter: Pid, makers: Makers) -> io::Result<Supervising> {
        let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
        listener.set_nonblocking(true)?;
        let starter = pidfd_open(starter, PidfdFlags::empty())?;
        Ok(Supervising { listener, starter, makers })
    }

    /// Waits for the policy, which comes from whoever has started this process. What is wrong with it is
    /// said there.
    ///
    /// # Errors
    /// If it does not come, or is none.
    pub fn told(self) -> io::Result<Told> {
        let mut fds =
            [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.starter, PollFlags::IN)];
        let timeout = Timespec::try_from(ANSWER).map_err(io::Error::other)?;
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))?;
        if !fds[0].revents().contains(PollFlags::IN) {
            return Err(io::Error::other("nobody has told of a policy"));
        }
        let (by, _) = self.listener.accept()?;
        by.set_read_timeout(Some(ANSWER))?;
        let mut text = String::new();
        (&by).take(LIMIT as u64).read_to_string(&mut text)?;
        let read = Policy::parse(&text).map_err(|error| error.to_string());
        let lowered = read.and_then(|policy| {
            let rules = policy.lower().map_err(|error: LowerError| error.to_string())?;
            Ok((policy, Steps::only(rules)))
        });
        match lowered {
            Ok((policy, steps)) => Ok(Told { supervising: self, by, policy, steps }),
            Err(error) => {
                (&by).write_all(error.as_bytes())?;
                Err(io::Error::other(error))
            }
        }
    }
}

impl Told {
    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Says that there will be no supervisor, and why.
    pub fn refuse(mut self, why: &str) {
        // Who is gone need not be told.
        let _ = self.by.write_all(why.as_bytes());
    }

    /// Answers what is asked, as long as there is somebody who may ask: until the last process is gone that a
    /// listener was handed over for, or no container has come. Tells `begin` of the container before
    /// anything is answered, and has denials told to what that returns. Returns that, and what was denied.
    ///
    /// # Errors
    /// If it cannot go on, or `begin` fails; what is asked then gets ENOSYS.
    pub fn serve<T>(
        self,
        begin: impl FnOnce(&Container) -> io::Result<T>,
        tell: impl Fn(&mut T, &Denial),
    ) -> io::Result<Option<(T, Vec<Counted>, u64)>> {
        let Told { supervising, mut by, policy, steps } = self;
        by.write_all(SUPERVISING.as_bytes())?;
        drop(by);
        let mut runtimes =
            Runtimes { listener: supervising.listener, connections: Vec::new(), is_full: false };
        let Some(come) = runtimes.first(&supervising.starter, supervising.makers)? else {
            return Ok(None);
        };
        if let Some(cgroups) = &come.cgroups {
            cgroups.join();
        }
        let no_process = || io::Error::other("the runtime does not say which process it is");
        let container = Container { pid: come.pid.ok_or_else(no_process)?, id: come.id };
        let mut told = begin(&container)?;
        let listener = Listener::from_fd(come.listener);
        let supervisor =
            Supervisor::new(listener, container.pid, policy, steps, Answering::Enforce);
        let supervisor = serve(supervisor, runtimes, &mut |denial| tell(&mut told, denial))?;
        let (counted, others) = supervisor.counted();
        Ok(Some((told, counted, others)))
    }
}

/// Serves this supervisor, and one beside it for each process that comes, until all of them are over.
fn serve(
    mut first: Supervisor,
    mut runtimes: Runtimes,
    tell: &mut dyn FnMut(&Denial),
) -> io::Result<Supervisor> {
    let mut is_over = false;
    let mut others: Vec<Supervisor> = Vec::new();
    while !is_over || !others.is_empty() || !runtimes.connections.is_empty() {
        let mut listeners: Vec<BorrowedFd<'_>> = Vec::new();
        listeners.extend(others.iter().map(Supervisor::as_fd));
        listeners.extend((!is_over).then(|| first.as_fd()));
        let ready = runtimes.wait(&listeners, None)?;
        for index in ready.into_iter().rev() {
            match others.get_mut(index) {
                None => is_over = !first.serve(tell)?,
                Some(other) => {
                    if !other.serve(tell)? {
                        others.remove(index);
                    }
                }
            }
        }
        for come in runtimes.attend()? {
            others.push(first.beside(Listener::from_fd(come.listener)));
        }
    }
    Ok(first)
}

/// The runtimes that have connected and not said all yet.
struct Runtimes {
    listener: UnixListener,
    connections: Vec<Connection>,
    /// Whether there is no descriptor left for one more: then they wait until something has ended.
    is_full: bool,
}

/// One of them.
struct Connection {
    stream: UnixStream,
    said: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What one has handed over.
struct Come {
    /// The process that has the filter. crun does not tell that of an exec.
    pid: Option<Pid>,
    /// The container's id.
    id: String,
    listener: OwnedFd,
    /// Where the runtime is.
    cgroups: Option<Cgroups>,
}

impl Runtimes {
    /// What is handed over first; `None` where nothing comes, and nobody makes the container any more.
    fn first(&mut self, starter: &OwnedFd, mut makers: Makers) -> io::Result<Option<Come>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A runtime that loads the filter last has connected, and hands over when the container is
            // started, which may be long after whoever has made it has ended.
            let waits = self.connections.is_empty();
            let left = deadline.saturating_duration_since(Instant::now());
            let rest = makers.rest().map_or(left, |rest| rest.min(left));
            let watched: &[BorrowedFd<'_>] = if waits { &[starter.as_fd()] } else { &[] };
            let has_ended = !self.wait(watched, waits.then_some(rest))?.is_empty();
            let come = self.attend()?;
            // One runtime makes one container, which has one first process.
            if let Some(come) = come.into_iter().next() {
                return Ok(Some(come));
            }
            let is_over = has_ended || left.is_zero() || makers.are_gone();
            if waits && is_over && self.connections.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Waits until somebody has something to say. Returns which of these descriptors are ready, in order.
    fn wait(&self, watched: &[BorrowedFd<'_>], left: Option<Duration>) -> io::Result<Vec<usize>> {
        let streams = self.connections.iter().map(|connection| connection.stream.as_fd());
        let own = (!self.is_full).then(|| self.listener.as_fd()).into_iter().chain(streams);
        let mut fds: Vec<PollFd<'_>> = watched
            .iter()
            .copied()
            .chain(own)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = (0..watched.len()).filter(|&index| !fds[index].revents().is_empty());
        Ok(ready.collect())
    }

    /// Lets in who has connected, and hears what there is to hear. What is no hand-over is dropped, and with it the
    /// listener, if it has come: nobody answers its process then, which gets ENOSYS.
    fn attend(&mut self) -> io::Result<Vec<Come>> {
        self.is_full = false;
        loop {
            match self.listener.accept() {
                // Whoever comes in such numbers is no runtime: nobody but root can.
                Ok(_) if self.connections.len() >= CONNECTIONS => {}
                Ok((stream, _)) => {
                    let connection =
                        Connection { stream, said: Vec::new(), descriptors: Vec::new() };
                    self.connections.push(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    self.is_full = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let mut come = Vec::new();
        let connections = std::mem::take(&mut self.connections);
        for mut connection in connections {
            match connection.hear() {
                Ok(Heard::All(one)) => come.push(one),
                Ok(Heard::Part) => self.connections.push(connection),
                Ok(Heard::Nothing) | Err(_) => {}
            }
        }
        Ok(come)
    }
}

/// What has been heard of a runtime.
enum Heard {
    /// All of it.
    All(Come),
    /// There has to come more.
    Part,
    /// There comes nothing.
    Nothing,
}

impl Connection {
    fn hear(&mut self) -> io::Result<Heard> {
        loop {
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let received = match recvmsg(&self.stream, into, &mut control, flags) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(Heard::Part),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            self.said.extend(&bytes[..received.bytes]);
            let is_too_much = self.said.len() > LIMIT || self.descriptors.len() > 4;
            if is_too_much || received.flags.contains(ReturnFlags::CTRUNC) {
                return Ok(Heard::Nothing);
            }
            match serde_json::from_slice::<ProcessState>(&self.said) {
                Ok(said) => return Ok(self.handed_over(said).map_or(Heard::Nothing, Heard::All)),
                // Not all of it is there; runtimes need not close their end soon.
                Err(error) if error.is_eof() && received.bytes > 0 => {}
                Err(_) => return Ok(Heard::Nothing),
            }
        }
    }

    fn handed_over(&mut self, said: ProcessState) -> Option<Come> {
        let at = said.fds.iter().position(|name| name == LISTENER)?;
        if at >= self.descriptors.len() {
            return None;
        }
        let pid = (said.pid > 0).then(|| Pid::from_raw(said.pid)).flatten();
        let runtime = socket_peercred(&self.stream).ok()?.pid;
        // The container's own are no place for who watches over it.
        let cgroups = (Some(runtime) != pid).then(|| Cgroups::of(runtime).ok()).flatten();
        let listener = self.descriptors.swap_remove(at);
        Some(Come { pid, id: said.state.id, listener, cgroups })
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use serde_json::json;

    use super::*;

    /// What comes of what a runtime says, in these parts, with a descriptor.
    fn heard(parts: &[&[u8]], closes: bool) -> Heard {
        let (runtime, stream) = UnixStream::pair().unwrap();
        let mut connection = Connection { stream, said: Vec::new(), descriptors: Vec::new() };
        let mut heard = Heard::Part;
        for (index, part) in parts.iter().enumerate() {
            let descriptors = [runtime.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if index == 0 {
                assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            }
            let part = [IoSlice::new(part)];
            sendmsg(&runtime, &part, &mut control, SendFlags::empty()).unwrap();
            heard = connection.hear().unwrap();
        }
        if closes {
            drop(runtime);
            connection.descriptors.clear();
            heard = connection.hear().unwrap();
        }
        heard
    }

    #[test]
    fn a_runtime_hands_over_a_listener_and_its_process() {
        let state = json!({
            "ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": 17, "metadata": "",
            "state": {"ociVersion": "1.0.2", "id": "web", "status": "creating", "pid": 17},
        });
        let text = state.to_string();
        let (one, other) = text.as_bytes().split_at(30);
        for parts in [&[text.as_bytes()][..], &[one, other]] {
            let Heard::All(come) = heard(parts, false) else { panic!("it is all there") };
            assert_eq!((come.pid, come.id.as_str()), (Pid::from_raw(17), "web"));
        }
        for pid in [0, -1] {
            let exec = json!({"fds": ["seccompFd"], "pid": pid, "state": {"id": "web"}});
            let Heard::All(come) = heard(&[exec.to_string().as_bytes()], false) else { panic!() };
            assert_eq!(come.pid, None);
        }
        assert!(matches!(heard(&[one], false), Heard::Part));
        assert!(matches!(heard(&[one], true), Heard::Nothing));
        for wrong in [
            json!({"fds": [], "pid": 17, "state": {}}),
            json!({"fds": ["other"], "pid": 17, "state": {}}),
            json!({"fds": ["other", "seccompFd"], "pid": 17, "state": {}}),
            json!({"fds": ["seccompFd"], "state": {}}),
            json!([]),
        ] {
            let wrong = wrong.to_string();
            assert!(matches!(heard(&[wrong.as_bytes()], false), Heard::Nothing), "{wrong}");
        }
        assert!(matches!(heard(&[b"GET / HTTP/1.1"], false), Heard::Nothing));
    }
}
