//! What `/proc` tells of a thread: identity, privileges and how far seccomp is on.
//!
//! Read from `/proc/PID/task/TID/status` and `stat` (proc(5)). These are what the kernel says
//! without stopping the thread; they do not say what its filters decide.

use std::fs;
use std::io;

use rustix::process::Pid;

/// The seccomp mode of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Every call passes.
    Disabled,
    /// Only read, write, _exit and sigreturn.
    Strict,
    /// Filters decide.
    Filter,
}

/// The capability sets of a thread, as bit masks of capability numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capabilities {
    /// Kept over exec of a file that inherits them.
    pub inheritable: u64,
    /// What the thread may make effective.
    pub permitted: u64,
    /// What the kernel checks.
    pub effective: u64,
    /// The limit of what exec can give.
    pub bounding: u64,
    /// Kept over exec of an unprivileged file.
    pub ambient: u64,
}

/// One thread, as the kernel described it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The process that it belongs to.
    pub process: Pid,
    /// The thread.
    pub thread: Pid,
    /// Its name (`comm`), escaped as the kernel does it.
    pub name: String,
    /// The state letter: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`, …
    pub state: char,
    /// Who traces it.
    pub tracer: Option<Pid>,
    /// Its id in the innermost pid namespace that it is in, if that is not ours.
    pub inner: Option<Pid>,
    /// The effective user id.
    pub user: u32,
    /// Whether exec can give it privileges.
    pub no_new_privs: bool,
    /// How far seccomp is on.
    pub mode: Mode,
    /// How many filters it has, where the kernel says so (Linux 5.9).
    pub filters: Option<u32>,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Whether it is a thread of the kernel, which has no program and no filter.
    pub kernel: bool,
    /// When it was started, in clock ticks since boot: with the id it names a thread for good.
    pub started: u64,
}

/// Why a thread could not be described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// There is no such process or thread (any more).
    #[error("there is no thread {thread} of process {process}")]
    Gone {
        /// The process.
        process: Pid,
        /// The thread.
        thread: Pid,
    },
    /// `/proc` could not be read.
    #[error("{path} could not be read; is /proc mounted, and without hidepid?")]
    Unreadable {
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `/proc` says something that is not understood.
    #[error("{path} has no valid `{field}`")]
    Malformed {
        /// The file.
        path: String,
        /// The field.
        field: &'static str,
    },
}

impl Task {
    /// Describes one thread of a process.
    ///
    /// # Errors
    /// If it is gone or `/proc` does not tell.
    pub fn read(process: Pid, thread: Pid) -> Result<Task, TaskError> {
        let folder = format!("/proc/{process}/task/{thread}");
        let file = |name: &str| -> Result<(String, String), TaskError> {
            let path = format!("{folder}/{name}");
            match fs::read(&path) {
                // A name may be any bytes; nothing else in these files is.
                Ok(text) => Ok((path, String::from_utf8_lossy(&text).into_owned())),
                Err(error) if gone(&error) => Err(TaskError::Gone { process, thread }),
                Err(source) => Err(TaskError::Unreadable { path, source }),
            }
        };
        let (path, stat) = file("stat")?;
        let (flags, started) = stat_fields(&stat)
            .ok_or(TaskError::Malformed { path, field: "flags and starttime" })?;
        let (path, status) = file("status")?;
        let malformed = |field| TaskError::Malformed { path: path.clone(), field };
        let status = Status(&status);
        let mask = |field| status.hexadecimal(field).ok_or_else(|| malformed(field));
        Ok(Task {
            process,
            thread,
            name: status.value("Name").unwrap_or_default().to_owned(),
            state: status
                .value("State")
                .and_then(|value| value.chars().next())
                .ok_or_else(|| malformed("State"))?,
            tracer: status.number("TracerPid").and_then(Pid::from_raw),
            inner: status
                .value("NSpid")
                .and_then(|ids| ids.split_ascii_whitespace().skip(1).last()?.parse().ok())
                .and_then(Pid::from_raw),
            user: status
                .value("Uid")
                .and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok())
                .ok_or_else(|| malformed("Uid"))?,
            no_new_privs: status.number("NoNewPrivs") == Some(1),
            mode: match status.number("Seccomp") {
                // Without the line the kernel is built without seccomp.
                None | Some(0) => Mode::Disabled,
                Some(1) => Mode::Strict,
                Some(2) => Mode::Filter,
                Some(_) => return Err(malformed("Seccomp")),
            },
            filters: status.value("Seccomp_filters").and_then(|value| value.parse().ok()),
            capabilities: Capabilities {
                inheritable: mask("CapInh")?,
                permitted: mask("CapPrm")?,
                effective: mask("CapEff")?,
                bounding: mask("CapBnd")?,
                ambient: mask("CapAmb")?,
            },
            kernel: flags & PF_KTHREAD != 0,
            started,
        })
    }

    /// Whether the process has ended and waits for its parent to notice.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

impl Capabilities {
    /// Whether the effective set has the capability of this number (`linux/capability.h`).
    pub const fn has_effective(&self, number: u32) -> bool {
        number < 64 && self.effective >> number & 1 == 1
    }
}

/// `CAP_SYS_ADMIN` (`linux/capability.h`).
pub const CAP_SYS_ADMIN: u32 = 21;

/// The threads of a process, in ascending order.
///
/// # Errors
/// If the process is gone or `/proc` cannot be read.
pub fn threads(process: Pid) -> Result<Vec<Pid>, TaskError> {
    let path = format!("/proc/{process}/task");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Err(TaskError::Gone { process, thread: process }),
        Err(source) => return Err(TaskError::Unreadable { path, source }),
    };
    let mut threads: Vec<Pid> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .collect();
    threads.sort_by_key(|thread| thread.as_raw_pid());
    match threads.is_empty() {
        true => Err(TaskError::Gone { process, thread: process }),
        false => Ok(threads),
    }
}

/// `PF_KTHREAD` (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// `flags` and `starttime` of `/proc/PID/stat`. The name stands in parentheses and may contain
/// any.
fn stat_fields(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    // Counted from `state`, field 3 of proc(5): flags is field 9, starttime field 22.
    let flags = fields.nth(6)?.parse().ok()?;
    Some((flags, fields.nth(12)?.parse().ok()?))
}

/// The lines `Field:\tvalue` of `/proc/PID/status`.
struct Status<'a>(&'a str);

impl<'a> Status<'a> {
    fn value(&self, field: &str) -> Option<&'a str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim()))
    }

    fn number(&self, field: &str) -> Option<i32> {
        self.value(field)?.parse().ok()
    }

    fn hexadecimal(&self, field: &str) -> Option<u64> {
        u64::from_str_radix(self.value(field)?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_fields_that_follow_it() {
        let stat = "7 (a) S (b) R 1 7 7 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 55 0 0";
        assert_eq!(stat_fields(stat), Some((2_129_984, 55)));
        assert_eq!(stat_fields("7 (a"), None);
    }

    #[test]
    fn this_thread_and_a_kernel_thread_are_told_apart() {
        let own = rustix::process::getpid();
        let task = Task::read(own, own).unwrap();
        assert!(!task.kernel && !task.is_zombie() && task.started > 0, "{task:?}");
        assert!(threads(own).unwrap().contains(&own));
        let kthreadd = Pid::from_raw(2).unwrap();
        match Task::read(kthreadd, kthreadd) {
            Ok(task) if task.name == "kthreadd" => assert!(task.kernel),
            _ => eprintln!("SKIP a kernel thread: this pid namespace shows none"),
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_gone() {
        let none = Pid::from_raw(i32::MAX).unwrap();
        assert!(matches!(Task::read(none, none), Err(TaskError::Gone { .. })));
        assert!(matches!(threads(none), Err(TaskError::Gone { .. })));
    }
}
