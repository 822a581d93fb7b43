//! A forked child that waits before exec, so that it can be watched and confined from outside
//! before the first instruction of its program.
//!
//! Between fork and exec the child allocates nothing and locks nothing, as the caller may have
//! had other threads. After its filter is loaded it makes one call, execve: whatever else it has
//! to say it writes into memory that it shares with its parent.
//!
//! # The gate
//! A policy may deny execve to the workload. So that the child's own exec does not have to be
//! allowed for that, its filter may answer one execve by notification: the one that carries a
//! secret [`ExecToken`] in argument registers that the call does not use. The parent lets exactly
//! the child's exec pass and closes the listener. From then on nobody holds one, and nobody knows
//! the token; every other execve is decided by the policy.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_getfd,
    pidfd_open, pidfd_send_signal, waitid,
};
use strait_bpf::Program;

use crate::before_exec::Plan;
use crate::command::Command;
use crate::seccomp::{self, Listener, LoadError, LoadOptions, Privileges};
use crate::shared::{Exchange, Order, Shared, Step};
use crate::signal;

/// A secret by which a filter tells the child's own execve from every other: what the call
/// carries in its fifth and sixth argument registers, which the kernel does not look at.
///
/// It must be secret. An execve that the filter answers by notification could be let pass by the
/// workload itself: it may load a further filter that notifies execve too, with a listener of its
/// own, and of filters that agree the newest one's listener is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExecToken([u64; 2]);

impl ExecToken {
    /// A token that nobody can guess: 128 bits from the kernel.
    ///
    /// # Errors
    /// If the kernel gives no random numbers (getrandom(2)).
    pub fn random() -> io::Result<ExecToken> {
        let mut words = [0; 2];
        for word in &mut words {
            let mut bytes = [0_u8; 8];
            // Up to 256 bytes are given whole.
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            *word = u64::from_ne_bytes(bytes);
        }
        Ok(ExecToken(words))
    }

    /// The token that was found in an installed filter.
    pub const fn from_words(words: [u64; 2]) -> ExecToken {
        ExecToken(words)
    }

    /// What the fifth and the sixth argument register hold.
    pub const fn words(self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Debug for ExecToken {
    /// Does not show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecToken(_)")
    }
}

/// How a child is confined.
#[derive(Clone, Copy, Debug)]
pub struct Confinement<'a> {
    /// The filter.
    pub program: &'a Program,
    /// How it is loaded.
    pub options: LoadOptions,
    /// The token of the execve that the filter answers by notification (see the module). Without
    /// one it must allow execve, or the child cannot start its program.
    pub gate: Option<ExecToken>,
    /// Whether the listener stays open after exec, for a supervisor ([`Child::take_listener`]).
    /// There is a listener where there is a gate.
    pub keep_listener: bool,
}

/// Why no child could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// Memory, sockets or descriptors for the talk with the child.
    #[error("no means to talk to a child process; check the limits on open files and memory")]
    Channel {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// fork(2).
    #[error("no child process could be made; check the limits on processes and memory")]
    Fork {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// pidfd_open(2), which Linux has since 5.3.
    #[error(
        "no pidfd of the child; this needs Linux 5.3 and a seccomp filter that permits pidfd_open"
    )]
    Pidfd {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why a child did not start its program. The program did not run, and the child is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The file, or the interpreter or dynamic loader that it names, is not there.
    #[error("program not found, or the interpreter that it names is missing: {}", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel does not execute the file.
    #[error("program cannot be executed: {}{}", path.display(), exec_hint(source))]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The filter is not on the child.
    #[error("the filter could not be loaded, so the program was not started")]
    FilterNotLoaded {
        /// Why.
        #[source]
        source: LoadError,
    },
    /// Something that the command asks for could not be set up.
    #[error("{what} could not be set up for the program, so it was not started")]
    Setup {
        /// What.
        what: Setup,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The child's exec waits for an answer that cannot be given.
    #[error(
        "the child's listener could not be taken over (pidfd_getfd needs Linux 5.6 and the right to trace the child), so the program was not started"
    )]
    Gate {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody ended the child before it got to exec.
    #[error("the child process ended before it could start the program ({status})")]
    Died {
        /// How it ended.
        status: ExitStatus,
    },
    /// The talk with the child failed.
    #[error("the child process could not be reached")]
    Channel {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a command may ask for ([`Command`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setup {
    /// Its standard streams.
    Streams,
    /// That it inherits only some descriptors (Linux 5.11).
    Descriptors,
    /// Resource limits: a hard limit can be raised with CAP_SYS_RESOURCE alone.
    Limits,
    /// A signal when its parent ends; or the parent has ended already.
    ParentDeath,
    /// Its Landlock domain.
    Landlock,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Setup::Streams => "the standard streams",
            Setup::Descriptors => "closing other descriptors (Linux 5.11)",
            Setup::Limits => {
                "a resource limit (a hard limit is raised with CAP_SYS_RESOURCE alone)"
            }
            Setup::ParentDeath => "the signal on the end of the parent",
            Setup::Landlock => "the Landlock domain",
        })
    }
}

impl ExecError {
    /// The exit status by which env(1) and container runtimes tell this: 127 not found, 126 not
    /// executable, 125 for a failure that is not the program's.
    pub fn exit_status(&self) -> u8 {
        match self {
            ExecError::NotFound { .. } => 127,
            ExecError::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

/// A forked child that waits to be told what to load and to exec.
///
/// It stays what it is until [`PendingChild::exec`]: its pid can be put into maps, and it can be
/// traced. When it is dropped, or its parent dies, the child ends without having run anything.
#[derive(Debug)]
pub struct PendingChild {
    pid: Pid,
    pidfd: OwnedFd,
    /// The parent's end. The child's end is its only copy and closes on exec: the other side
    /// hangs up when exec has happened or the child is dead, and not before.
    channel: OwnedFd,
    shared: Shared<Exchange>,
    path: PathBuf,
    keep_listener: bool,
    /// The listener that is kept, once exec has happened.
    listener: Option<Listener>,
    /// Whether the child has been reaped, or is no longer ours to end.
    done: bool,
}

/// A child that runs its program.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    listener: Option<Listener>,
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended.
    Ended(ExitStatus),
    /// A signal stopped it; it may have been continued already.
    Stopped,
}

impl PendingChild {
    /// Forks a child that waits.
    ///
    /// If SIGCHLD is ignored in this process it is set to its default here, as a process that
    /// ignores it cannot learn how its children end; the child gets it back as it was.
    ///
    /// # Errors
    /// If the kernel gives no process or no means to talk to it.
    pub fn fork(command: &Command) -> Result<PendingChild, ForkError> {
        let _alone = no_fork_meanwhile();
        let channel_error = |source: io::Error| ForkError::Channel { source };
        let shared = Shared::new().map_err(channel_error)?;
        let (channel, childs_end) = channel().map_err(channel_error)?;
        let arguments = command.argument_pointers();
        let environment = command.environment_pointers();
        let sigchld_ignored = signal::unignore_sigchld();
        // No handler of this process may run in the child, so all signals wait until it has set
        // them to what its program shall find.
        let mask = signal::block_all();
        let plan = Plan {
            path: command.c_path().as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            streams: command.raw_streams(),
            kept: command.kept(),
            limits: command.limits(),
            parent_death: command.parent_death(),
            landlock: command.domain(),
            parent: rustix::process::getpid(),
            channel: childs_end.as_raw_fd(),
            parents_end: channel.as_raw_fd(),
            exchange: &shared,
            mask,
            sigchld_ignored,
        };
        // SAFETY: the child runs `Plan::run` alone, which never returns and makes only calls that
        // are allowed between fork and exec in a process that had several threads.
        let pid = match unsafe { libc::fork() } {
            // SAFETY: this is the forked child, and the plan's pointers are to memory that its
            // copy of the address space holds until exec.
            0 => unsafe { plan.run() },
            pid => pid,
        };
        let error = io::Error::last_os_error();
        signal::restore_mask(&mask);
        drop(childs_end);
        let pid = match Pid::from_raw(pid.max(0)) {
            Some(pid) => pid,
            None => return Err(ForkError::Fork { source: error }),
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                let path = command.path().to_owned();
                Ok(PendingChild {
                    pid,
                    pidfd,
                    channel,
                    shared,
                    path,
                    keep_listener: false,
                    listener: None,
                    done: false,
                })
            }
            Err(errno) => {
                drop(channel);
                // The child sees the hang-up and ends by itself.
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                Err(ForkError::Pidfd { source: errno.into() })
            }
        }
    }

    /// The child's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor of the child.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Lets the child load its filter, if it gets one, and exec, and waits until exec has
    /// happened.
    ///
    /// The child may be traced by another thread or process meanwhile.
    ///
    /// # Errors
    /// Why the program was not started; the child has ended then.
    pub fn exec(mut self, confinement: Option<Confinement<'_>>) -> Result<Child, ExecError> {
        self.start(confinement)?;
        self.until_exec(
            confinement.is_some_and(|confinement| confinement.gate.is_some()),
            &mut || Ok(()),
        )?;
        self.into_child()
    }

    /// Tells the child to go on.
    pub(crate) fn start(&mut self, confinement: Option<Confinement<'_>>) -> Result<(), ExecError> {
        if let Some(Confinement { program, options, gate, keep_listener }) = confinement {
            self.keep_listener = keep_listener;
            let listener = match gate {
                Some(_) if keep_listener => seccomp::patient_listener_flags(options.threads),
                Some(_) => seccomp::listener_flags(options.threads),
                None => 0,
            };
            let flags = seccomp::filter_flags(options) | listener;
            self.order(program, options.privileges, flags, gate.map(ExecToken::words))?;
        }
        self.go_on()
    }

    /// Writes down what the child is to load.
    pub(crate) fn order(
        &mut self,
        program: &Program,
        privileges: Privileges,
        flags: libc::c_ulong,
        token: Option<[u64; 2]>,
    ) -> Result<(), ExecError> {
        // All flags are in the low 32 bits, which is what the kernel takes.
        let flags = u32::try_from(flags).map_err(|_| ExecError::FilterNotLoaded {
            source: LoadError::from_errno(libc::EINVAL),
        })?;
        let no_new_privs = privileges == Privileges::NoNew;
        self.shared.put(program, Order { no_new_privs, flags, token: token.unwrap_or_default() });
        Ok(())
    }

    /// Tells the child to go on with what was written down.
    pub(crate) fn go_on(&mut self) -> Result<(), ExecError> {
        match rustix::net::send(&self.channel, b"!", SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(self.died()),
            Err(errno) => Err(ExecError::Channel { source: errno.into() }),
        }
    }

    /// Waits until exec has happened, and opens the gate for it. `tick` is called whenever
    /// something may have happened, and at least every few milliseconds if it is needed.
    pub(crate) fn until_exec(
        &mut self,
        gate: bool,
        tick: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), ExecError> {
        let listener = if gate { self.take_listener(tick)? } else { None };
        loop {
            tick().map_err(|source| ExecError::Channel { source })?;
            let listener = listener.as_ref().map(|held| &held.listener);
            let ready = self.wait_ready(listener, TICK)?;
            if ready.hung_up || self.shared.failure().is_some() {
                break;
            }
            if let (true, Some(listener)) = (ready.notified, listener) {
                self.open_gate(listener)?;
            }
        }
        match self.shared.failure() {
            Some(errno) => Err(self.failed(errno)),
            // The child's own copy of the listener was closed by its exec; if it is not kept the
            // last one is dropped here.
            None => {
                let held = listener.filter(|_| self.keep_listener);
                self.listener = held.map(|held| held.listener);
                Ok(())
            }
        }
    }

    /// Gets the child's listener, or `None` if the child failed or died before it had one.
    ///
    /// The child cannot tell that it has loaded its filter by any call, so this looks again and
    /// again at what it writes into the shared memory.
    pub(crate) fn take_listener(
        &self,
        tick: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Option<HeldListener>, ExecError> {
        let mut pause = Duration::from_micros(10);
        let fd = loop {
            tick().map_err(|source| ExecError::Channel { source })?;
            if let Some(fd) = self.shared.listener() {
                break fd;
            }
            if self.shared.failure().is_some() || self.wait_ready(None, Duration::ZERO)?.hung_up {
                return Ok(None);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        };
        let alone = no_fork_meanwhile();
        match pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty()) {
            Ok(fd) => Ok(Some(HeldListener { listener: Listener::from_fd(fd), _alone: alone })),
            // It is gone already: somebody killed it.
            Err(Errno::SRCH) => Ok(None),
            Err(errno) => Err(ExecError::Gate { source: errno.into() }),
        }
    }

    /// Lets the notified exec pass if it is the child's own.
    ///
    /// Whether it is cannot be read from the notification, which the new program could make just
    /// alike. But exec hangs the channel up before the new program runs: if it has not hung up
    /// after the notification was received, the notification is from before exec, so it is ours,
    /// and the id stands for this one notification for ever.
    fn open_gate(&self, listener: &Listener) -> Result<(), ExecError> {
        let notification = match listener.receive() {
            Ok(notification) => notification,
            // A signal interrupted the child or us; the child's call starts over.
            Err(error) if again(&error) => return Ok(()),
            Err(source) => return Err(ExecError::Gate { source }),
        };
        if self.wait_ready(None, Duration::ZERO)?.hung_up || self.shared.failure().is_some() {
            return Ok(());
        }
        match listener.continue_call(notification.id) {
            Ok(()) => Ok(()),
            Err(error) if again(&error) => Ok(()),
            Err(source) => Err(ExecError::Gate { source }),
        }
    }

    /// Waits for the child to hang up or to be notified about.
    pub(crate) fn wait_ready(
        &self,
        listener: Option<&Listener>,
        timeout: Duration,
    ) -> Result<Ready, ExecError> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(&self.channel, PollFlags::IN)];
        if let Some(listener) = listener {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(ExecError::Channel { source: errno.into() }),
        }
        // The child never writes to the channel: whatever happens there is the hang-up.
        Ok(Ready {
            hung_up: !fds[0].revents().is_empty(),
            notified: fds.get(1).is_some_and(|fd| fd.revents().contains(PollFlags::IN)),
        })
    }

    /// The program runs: hands the child over.
    pub(crate) fn into_child(mut self) -> Result<Child, ExecError> {
        if self.shared.step() != Step::Exec {
            return Err(self.died());
        }
        let pidfd = self.pidfd.try_clone().map_err(|source| ExecError::Channel { source })?;
        self.done = true;
        Ok(Child { pid: self.pid, pidfd, listener: self.listener.take() })
    }

    /// The error of a child that has said that it failed.
    pub(crate) fn failure(&mut self) -> Option<ExecError> {
        self.shared.failure().map(|errno| self.failed(errno))
    }

    /// Whether the child is dead.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The error of a child that said at which step and why it failed. Ends it.
    fn failed(&mut self, errno: i32) -> ExecError {
        self.end();
        let source = io::Error::from_raw_os_error(errno);
        let path = self.path.clone();
        match self.shared.step() {
            Step::Waiting => ExecError::Channel { source },
            Step::Streams => ExecError::Setup { what: Setup::Streams, source },
            Step::Descriptors => ExecError::Setup { what: Setup::Descriptors, source },
            Step::Limits => ExecError::Setup { what: Setup::Limits, source },
            Step::ParentDeath => ExecError::Setup { what: Setup::ParentDeath, source },
            Step::NoNewPrivs => {
                ExecError::FilterNotLoaded { source: LoadError::NoNewPrivs { source } }
            }
            Step::Landlock => ExecError::Setup { what: Setup::Landlock, source },
            Step::Load => ExecError::FilterNotLoaded { source: LoadError::from_errno(errno) },
            Step::Exec if matches!(errno, libc::ENOENT | libc::ENOTDIR) => {
                ExecError::NotFound { path, source }
            }
            Step::Exec => ExecError::NotExecutable { path, source },
        }
    }

    /// The error of a child that ended without saying why.
    pub(crate) fn died(&mut self) -> ExecError {
        match self.shared.failure() {
            Some(errno) => self.failed(errno),
            None => ExecError::Died { status: self.end().unwrap_or_default() },
        }
    }

    /// Ends the child and reaps it; how it ended, unless somebody else has reaped it.
    fn end(&mut self) -> Option<ExitStatus> {
        if self.done {
            return None;
        }
        self.done = true;
        // Fails only if it is dead already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        reap(self.pidfd.as_fd()).ok()
    }
}

impl Drop for PendingChild {
    fn drop(&mut self) {
        self.end();
    }
}

impl Child {
    /// The process id. It stays the child's until it has been waited for.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The listener of its filter, if the confinement was to keep it; once.
    pub fn take_listener(&mut self) -> Option<Listener> {
        self.listener.take()
    }

    /// Whether the program has ended, and how, or has been stopped by a signal since the last
    /// time that this was asked. Never waits.
    ///
    /// # Errors
    /// ECHILD if somebody else has waited for its end.
    pub fn changed(&self) -> io::Result<Option<Change>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        loop {
            return match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Ok(None) => Ok(None),
                Ok(Some(status)) => Ok(Some(match ended(&status) {
                    Some(status) => Change::Ended(status),
                    None => Change::Stopped,
                })),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Waits until the program ends.
    ///
    /// # Errors
    /// ECHILD if somebody else has waited for it.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        reap(self.pidfd.as_fd())
    }

    /// Sends a signal to the process; nothing happens if it has ended.
    ///
    /// # Errors
    /// EPERM if it has become another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.signal_number(signal.as_raw())
    }

    /// The same for a signal that has no name, such as a real-time one.
    ///
    /// # Errors
    /// Besides, EINVAL for a number that is no signal.
    pub fn signal_number(&self, signal: i32) -> io::Result<()> {
        // SAFETY: the descriptor is open for the borrow; no siginfo is passed.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                ptr::null::<libc::siginfo_t>(),
                0_u32,
            )
        };
        match done {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }
}

impl AsFd for Child {
    /// A pidfd: readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Keeps other threads from forking children while descriptors are open here that they must not
/// have copies of: the child's end of a channel, whose hang-up tells of exec, and a listener.
pub(crate) fn no_fork_meanwhile() -> MutexGuard<'static, ()> {
    static FORK: Mutex<()> = Mutex::new(());
    FORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long at most nothing is looked at while a child is on its way to exec.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// The listener of a child, of which no other child gets a copy. Closed before others may fork.
pub(crate) struct HeldListener {
    pub(crate) listener: Listener,
    _alone: MutexGuard<'static, ()>,
}

/// What [`PendingChild::wait_ready`] found.
pub(crate) struct Ready {
    pub(crate) hung_up: bool,
    pub(crate) notified: bool,
}

/// Whether a notification was withdrawn or we were interrupted: look again.
pub(crate) fn again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR))
}

/// What can be done about an exec error, to stand behind the message.
fn exec_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOEXEC) => {
            " (no binary of this machine and no script with a `#!` line: run it by its interpreter, as in `sh FILE`)"
        }
        Some(libc::E2BIG) => " (arguments and environment together are too large)",
        _ => "",
    }
}

/// Waits for the end of a child and reaps it.
fn reap(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                if let Some(status) = ended(&status) {
                    return Ok(status);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The end that waitid(2) tells of, if it is one, as wait(2) would encode it.
fn ended(status: &WaitIdStatus) -> Option<ExitStatus> {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) if status.dumped() => signal | 0x80,
        (None, Some(signal)) => signal,
        (None, None) => return None,
    };
    Some(ExitStatus::from_raw(raw))
}

/// Two connected ends that exec closes, neither of them a standard stream's number.
fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let above_streams = |fd: OwnedFd| match fd.as_raw_fd() {
        0..=2 => rustix::io::fcntl_dupfd_cloexec(&fd, 3),
        _ => Ok(fd),
    };
    Ok((above_streams(one)?, above_streams(other)?))
}
