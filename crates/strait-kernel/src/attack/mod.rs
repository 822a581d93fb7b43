//! Attacks: what a confined process that was taken over could try, tried for real by a throw-away
//! child under a filter.
//!
//! Each attack is a script of raw calls against things of our own that its parent made for it: a
//! process, files, sockets, a terminal. Whether it comes through is the kernel's answer and not a
//! guess. Tried without a filter as well, it tells whether it was the filter that stopped it.

#[cfg(target_arch = "x86_64")]
mod child;
#[cfg(target_arch = "x86_64")]
mod fixture;
#[cfg(target_arch = "x86_64")]
mod script;
#[cfg(target_arch = "x86_64")]
mod scripts;

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use rustix::process::Pid;
use strait_abi::{Arch, Syscall};
use strait_bpf::{Program, SeccompData};

use crate::landlock::Domain;
use crate::seccomp::{self, Listener};

/// Something that a confined process could try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attack {
    /// Opens `/` by an operation of io_uring, which no filter sees.
    IoUringOpen,
    /// Makes an internet socket by an operation of io_uring.
    IoUringSocket,
    /// Makes a call of i386 by `int $0x80`.
    I386Entry,
    /// Makes a call by its x32 number.
    X32Entry,
    /// Makes a socket of this domain and type with bit 32 of the domain set, which the kernel does
    /// not look at.
    HighBitsSocket {
        /// The domain.
        domain: u32,
        /// The type.
        kind: u32,
    },
    /// Puts a byte into its terminal's input with bit 32 of the command set.
    HighBitsIoctl,
    /// Puts a byte into its terminal's input (`TIOCSTI`), as if it had been typed there.
    Tiocsti,
    /// Makes a user namespace by clone3, whose flags are in memory.
    Clone3Namespace,
    /// Makes a user namespace by clone.
    CloneNamespace,
    /// Opens a file by openat2, whose flags are in memory.
    Openat2 {
        /// Whether it makes a new file to write to, or reads `/`.
        write: bool,
    },
    /// Opens a file by open.
    OpenTwin {
        /// Whether it makes a new file to write to, or reads `/`.
        write: bool,
    },
    /// Makes a file by an open that is only to read.
    CreateReadOnly,
    /// Empties a file by an open that is only to read.
    EmptyReadOnly,
    /// Opens `/` by a handle, which no rule on paths sees; takes CAP_DAC_READ_SEARCH.
    OpenByHandle,
    /// Executes a program by execveat.
    Execveat,
    /// Writes a program into memory that has no path, and executes it.
    MemfdExec,
    /// Runs code that it wrote into memory which is writable and executable.
    MapExecutable,
    /// Runs code that it wrote into memory which it then made executable.
    ProtectExecutable,
    /// Runs code that it wrote into a file, by mapping the file.
    MapFileExecutable,
    /// Writes code over its own, through `/proc/self/mem`.
    ProcSelfMem,
    /// Traces another process.
    Ptrace,
    /// Reads another process's memory.
    ProcessVmRead,
    /// Reads another process's memory through `/proc/PID/mem`.
    ProcMem,
    /// Reads another process's environment, where secrets are.
    ProcEnviron,
    /// Goes through another process's root directory.
    ProcRoot,
    /// Enters another process's namespace.
    Setns,
    /// Takes another process's open file.
    PidfdGetfd,
    /// Compares what other processes share.
    Kcmp,
    /// Sends another process a signal, one that does nothing to it.
    SignalOutside,
    /// Connects to an address of this machine.
    Connect(Ipv4Addr),
    /// Connects to an address of this machine by MPTCP.
    ConnectMultipath(Ipv4Addr),
    /// Connects a datagram socket, again and again, to an address that another thread exchanges for this
    /// one of this machine and back.
    RewriteAddress {
        /// The address that is aimed at.
        to: Ipv4Addr,
        /// The address that is shown.
        shown: SocketAddrV4,
    },
    /// Connects a socket that was there before the filter to an address of this machine.
    ConnectInherited(Ipv4Addr),
    /// Sends from a socket that was there before the filter to an address of this machine.
    SendInherited {
        /// The address.
        to: Ipv4Addr,
        /// By sendmsg, where the address is in memory, and not by sendto.
        message: bool,
    },
    /// Connects to an address of this machine by sendto with MSG_FASTOPEN.
    FastOpen(Ipv4Addr),
    /// Sends a datagram to a socket file, without connecting.
    UnixDatagram,
    /// Loads a filter with a listener over the policy's, and lets this call pass itself.
    NestedListener(Harmless),
    /// Makes this call on a thread that was there before the filter.
    EarlyThread(Harmless),
    /// Makes this call while no supervisor is there to answer it.
    Unanswered(Harmless),
    /// Connects to an abstract socket of another process.
    AbstractSocket,
    /// Executes a program that it has just been given, by its path.
    ExecOutside,
    /// Has the dynamic loader run a program, which it only reads and maps.
    Loader,
}

/// Calls that do nothing to anybody, with an answer of the kernel that is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harmless {
    /// connect(-1, NULL, 0): EBADF.
    Connect,
    /// execve(NULL, NULL, NULL): EFAULT.
    Exec,
    /// openat(AT_FDCWD, "/", O_RDONLY).
    Open,
    /// socket(AF_UNIX, SOCK_STREAM, 0).
    Socket,
    /// unshare(0): nothing is unshared.
    Unshare,
    /// ptrace(PTRACE_CONT, 0): no process 0 is traced, ESRCH.
    Ptrace,
    /// setns(-1, 0): EBADF.
    Setns,
    /// personality(0xffffffff): tells and changes nothing.
    Personality,
    /// getppid().
    Getppid,
}

impl Harmless {
    /// All of them.
    pub const ALL: [Harmless; 9] = [
        Harmless::Connect,
        Harmless::Exec,
        Harmless::Open,
        Harmless::Socket,
        Harmless::Unshare,
        Harmless::Ptrace,
        Harmless::Setns,
        Harmless::Personality,
        Harmless::Getppid,
    ];

    /// The call's name.
    pub fn name(self) -> &'static str {
        match self {
            Harmless::Connect => "connect",
            Harmless::Exec => "execve",
            Harmless::Open => "openat",
            Harmless::Socket => "socket",
            Harmless::Unshare => "unshare",
            Harmless::Ptrace => "ptrace",
            Harmless::Setns => "setns",
            Harmless::Personality => "personality",
            Harmless::Getppid => "getppid",
        }
    }

    /// What a filter sees of it on this machine; a pointer to a path is some address.
    pub fn data(self) -> Option<SeccompData> {
        let arch = Arch::NATIVE?;
        let number = Syscall::from_name(self.name())?.number(arch)?;
        Some(SeccompData::new(arch.audit_arch(), number).with_args(self.args()))
    }

    #[cfg(target_arch = "x86_64")]
    fn number(self) -> i64 {
        self.data().map_or(-1, |data| data.nr.into())
    }

    fn args(self) -> [u64; 6] {
        let int = |value: i32| i64::from(value).cast_unsigned();
        match self {
            Harmless::Connect | Harmless::Setns => [int(-1), 0, 0, 0, 0, 0],
            Harmless::Open => [int(libc::AT_FDCWD), PATH, 0, 0, 0, 0],
            Harmless::Socket => [int(libc::AF_UNIX), int(libc::SOCK_STREAM), 0, 0, 0, 0],
            Harmless::Ptrace => [u64::from(libc::PTRACE_CONT), 0, 0, 0, 0, 0],
            Harmless::Personality => [0xffff_ffff, 0, 0, 0, 0, 0],
            Harmless::Exec | Harmless::Unshare | Harmless::Getppid => [0; 6],
        }
    }

    /// The errno that the kernel itself answers; none where the call succeeds.
    #[cfg(target_arch = "x86_64")]
    fn answer(self) -> Option<i32> {
        match self {
            Harmless::Connect | Harmless::Setns => Some(libc::EBADF),
            Harmless::Exec => Some(libc::EFAULT),
            Harmless::Ptrace => Some(libc::ESRCH),
            _ => None,
        }
    }
}

/// Some address, for what a filter sees of a path.
const PATH: u64 = 0x7000_0000_0000;

/// What became of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It came through.
    Succeeded,
    /// A call on the way failed.
    Refused {
        /// Which.
        call: &'static str,
        /// The errno; 0 where something else than was hoped for came back.
        errno: i32,
    },
    /// A signal ended the process.
    Killed {
        /// At which call.
        call: &'static str,
        /// The signal.
        signal: i32,
    },
    /// A call on the way did not return for five seconds.
    Stuck {
        /// Which.
        call: &'static str,
    },
}

/// Why an attack could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// Its calls are written for another machine.
    #[error("attacks are written for x86_64 only")]
    Unsupported,
    /// What it is tried on could not be made.
    #[error("what attacks are tried on could not be made (files in {}, a process, sockets)", std::env::temp_dir().display())]
    Fixture(#[source] io::Error),
    /// No child could be made.
    #[error("no process could be made to attack from")]
    Fork(#[source] io::Error),
    /// The Landlock domain is not on the child.
    #[error("the Landlock domain could not be put on")]
    Landlock(#[source] io::Error),
    /// Nobody answers for the child, or looks at what it executes.
    #[error("the attacked process could not be supervised")]
    Supervise(#[source] io::Error),
    /// The filter is not on the child.
    #[error("the filter could not be loaded")]
    Load(#[from] seccomp::LoadError),
}

/// What an attack is tried under.
#[derive(Clone, Copy, Default)]
pub struct Confinement<'a> {
    /// The filter.
    pub filter: Option<&'a Program>,
    /// The Landlock domain.
    pub domain: Option<&'a Domain>,
    /// Who answers what the filter notifies. Without it nobody does, as if the supervisor had ended.
    pub supervise: Option<&'a Supervise<'a>>,
    /// Whether the process that stands at the first instruction of a program may run it; if not, it is
    /// killed. Without it nobody is asked.
    pub may_run: Option<&'a MayRun<'a>>,
}

/// Takes up the listener of a process's filter, and answers as long as what it gives back is kept.
pub type Supervise<'a> = dyn Fn(Listener, Pid) -> io::Result<Box<dyn Any>> + 'a;

/// See [`Confinement::may_run`].
pub type MayRun<'a> = dyn Fn(Pid) -> bool + 'a;

impl fmt::Debug for Confinement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confinement")
            .field("filter", &self.filter)
            .field("domain", &self.domain)
            .field("supervise", &self.supervise.is_some())
            .field("may_run", &self.may_run.is_some())
            .finish()
    }
}

/// Tries an attack in a throw-away child, confined or not. As under a launcher, `no_new_privs` is
/// set either way, and the filter is for all threads.
///
/// # Errors
/// If it could not be tried.
pub fn attempt(attack: Attack, confinement: Confinement<'_>) -> Result<Attempt, AttemptError> {
    #[cfg(target_arch = "x86_64")]
    return child::attempt(attack, confinement);
    #[cfg(not(target_arch = "x86_64"))]
    Err(AttemptError::Unsupported)
}
