//! What a filter tells the kernel to do with a call.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// What the kernel does with a call that a filter has answered.
///
/// Values are canonical: two actions are equal exactly if the kernel behaves alike. The order is
/// the kernel's: the *most restrictive first*, so the answer of a filter stack is its minimum
/// (`seccomp_run_filters` in `kernel/seccomp.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// End the process with SIGSYS. Any value that the kernel does not know means this too.
    KillProcess,
    /// End the thread with SIGSYS.
    KillThread,
    /// Deliver SIGSYS with this value in `si_errno`.
    Trap(u16),
    /// Skip the call, which returns this errno; never more than 4095 (`MAX_ERRNO`).
    Errno(u16),
    /// Ask the supervisor that holds the listener; ENOSYS if there is none.
    Notify,
    /// Tell the tracer, with this value as the event message; ENOSYS if there is none.
    Trace(u16),
    /// Let the call pass and log it.
    Log,
    /// Let the call pass.
    Allow,
}

impl Action {
    /// The largest errno that the kernel passes on; larger values are cut to it.
    pub const MAX_ERRNO: u16 = 4095;

    const KILL_PROCESS: u32 = 0x8000_0000;
    const KILL_THREAD: u32 = 0x0000_0000;
    const TRAP: u32 = 0x0003_0000;
    const ERRNO: u32 = 0x0005_0000;
    const NOTIFY: u32 = 0x7fc0_0000;
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: u32 = 0x7ffc_0000;
    const ALLOW: u32 = 0x7fff_0000;

    /// What the kernel makes of a filter's return value
    /// (`include/uapi/linux/seccomp.h`, `__seccomp_filter` in `kernel/seccomp.c`).
    pub const fn from_raw(value: u32) -> Action {
        let data = (value & 0xffff) as u16;
        match value & 0xffff_0000 {
            Self::KILL_THREAD => Action::KillThread,
            Self::TRAP => Action::Trap(data),
            Self::ERRNO if data > Self::MAX_ERRNO => Action::Errno(Self::MAX_ERRNO),
            Self::ERRNO => Action::Errno(data),
            Self::NOTIFY => Action::Notify,
            Self::TRACE => Action::Trace(data),
            Self::LOG => Action::Log,
            Self::ALLOW => Action::Allow,
            _ => Action::KillProcess,
        }
    }

    /// The value that a filter returns for this action.
    pub const fn raw(self) -> u32 {
        match self {
            Action::KillProcess => Self::KILL_PROCESS,
            Action::KillThread => Self::KILL_THREAD,
            Action::Trap(data) => Self::TRAP | data as u32,
            Action::Errno(errno) => Self::ERRNO | errno as u32,
            Action::Notify => Self::NOTIFY,
            Action::Trace(data) => Self::TRACE | data as u32,
            Action::Log => Self::LOG,
            Action::Allow => Self::ALLOW,
        }
    }

    /// Whether the call is executed without anybody being asked: [`Action::Allow`] and
    /// [`Action::Log`].
    pub const fn lets_pass(self) -> bool {
        matches!(self, Action::Allow | Action::Log)
    }

    /// The kernel's rank of the action without its data; lower wins in a stack.
    const fn rank(self) -> u8 {
        match self {
            Action::KillProcess => 0,
            Action::KillThread => 1,
            Action::Trap(_) => 2,
            Action::Errno(_) => 3,
            Action::Notify => 4,
            Action::Trace(_) => 5,
            Action::Log => 6,
            Action::Allow => 7,
        }
    }

    /// The order by restriction alone: actions that differ only in their data are equal.
    pub fn restriction_cmp(self, other: Action) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Action {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Action {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank(), self.raw()).cmp(&(other.rank(), other.raw()))
    }
}

impl fmt::Display for Action {
    /// The spelling of policies, with errno values as numbers: `allow`, `errno(38)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::KillProcess => f.write_str("kill-process"),
            Action::KillThread => f.write_str("kill-thread"),
            Action::Trap(data) => write!(f, "trap({data})"),
            Action::Errno(errno) => write!(f, "errno({errno})"),
            Action::Notify => f.write_str("notify"),
            Action::Trace(data) => write!(f, "trace({data})"),
            Action::Log => f.write_str("log"),
            Action::Allow => f.write_str("allow"),
        }
    }
}

/// A text that spells no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no action; there are allow, log, notify, kill-thread, kill-process, errno(0 to 4095), \
     trap(0 to 65535) and trace(0 to 65535)"
)]
pub struct UnknownAction(
    /// The text as it was given.
    pub String,
);

impl FromStr for Action {
    type Err = UnknownAction;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Action, UnknownAction> {
        let unknown = || UnknownAction(text.to_owned());
        let (name, data) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            None => (text, None),
            Some((name, data)) => (name, Some(data.parse::<u16>().map_err(|_| unknown())?)),
        };
        match (name, data) {
            ("allow", None) => Ok(Action::Allow),
            ("log", None) => Ok(Action::Log),
            ("notify", None) => Ok(Action::Notify),
            ("kill-thread", None) => Ok(Action::KillThread),
            ("kill-process", None) => Ok(Action::KillProcess),
            ("errno", Some(errno)) if errno <= Action::MAX_ERRNO => Ok(Action::Errno(errno)),
            ("trap", Some(data)) => Ok(Action::Trap(data)),
            ("trace", Some(data)) => Ok(Action::Trace(data)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_are_read_as_the_kernel_reads_them() {
        assert_eq!(Action::from_raw(0x7fff_0007), Action::Allow);
        assert_eq!(Action::from_raw(0x0005_ffff), Action::Errno(4095));
        assert_eq!(Action::from_raw(0x0001_0000), Action::KillProcess);
        assert_eq!(Action::from_raw(0x0000_0003), Action::KillThread);
    }

    #[test]
    fn text_comes_back() {
        for raw in (0..=0xffffu32).map(|high| high << 16 | 0x0321) {
            let action = Action::from_raw(raw);
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        for text in ["", "Allow", "errno", "errno(4096)", "errno(+1)x", "allow(1)", "trap(65536)"] {
            assert!(text.parse::<Action>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_most_restrictive_is_least() {
        assert!(Action::KillProcess < Action::KillThread);
        assert!(Action::Errno(1) < Action::Notify);
        assert!(Action::Log < Action::Allow);
    }
}
