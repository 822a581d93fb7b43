//! Audit netlink: the records of calls that a seccomp filter has logged, and how many were lost.
//!
//! The kernel sends every audit record to the multicast group AUDIT_NLGRP_READLOG, whether there is
//! an audit daemon or not (CAP_AUDIT_READ in the first user namespace; include/uapi/linux/audit.h).
//! Each event has a serial number, one more than that of the event before it, whoever it is about:
//! a number that never comes is an event that was lost.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
    sockopt,
};
use strait_bpf::{Action, Insn, Op, Program};

use crate::seccomp::{self, LoadOptions, Privileges, Threads};

/// What the kernel may keep for us until we read it, in bytes.
pub const RECEIVE_BUFFER: usize = 16 << 20;
/// How many serial numbers are waited for at most: those of one CPU come after those of another.
const MAX_MISSING: usize = 65_536;

const AUDIT_NLGRP_READLOG: u32 = 1;
const AUDIT_GET: u16 = 1000;
const AUDIT_LOGIN: u16 = 1006;
const AUDIT_SECCOMP: u16 = 1326;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// Why the audit records cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The group may not be joined.
    #[error(
        "audit records cannot be read: it takes CAP_AUDIT_READ, outside of any user namespace, and a kernel with CONFIG_AUDIT"
    )]
    Refused(#[source] io::Error),
    /// The kernel would lose records that are not read at once.
    #[error(
        "the kernel does not log what filters say shall be logged: `log` is missing in /proc/sys/kernel/seccomp/actions_logged"
    )]
    NotLogged,
    /// A session of its own could not be begun.
    #[error(
        "no audit session could be begun for the workload: its login uid is set already, and to set another takes CAP_AUDIT_CONTROL"
    )]
    Session(#[source] io::Error),
    /// Reading failed.
    #[error("audit records cannot be read")]
    Read(#[source] io::Error),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A filter had a call logged.
    Seccomp(Seccomp),
    /// A task has left its session for a new one: the old and the new.
    Login(u32, u32),
    /// Another.
    Other,
}

/// A call that a filter had logged (type 1326).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seccomp {
    /// The audit session of the task (`ses`).
    pub session: u32,
    /// The program file; without ` (deleted)`. Empty where the kernel did not know.
    pub exe: Vec<u8>,
    /// The audit arch.
    pub arch: u32,
    /// The number.
    pub nr: u32,
    /// The filter's answer (`SECCOMP_RET_…`, without its data).
    pub action: u32,
    /// When it was made, in milliseconds since 1970 by the wall clock, as of the last tick
    /// (`audit_get_stamp` in kernel/audit.c: at most 10 ms before).
    pub at_ms: u64,
}

/// Reads audit records.
#[derive(Debug)]
pub struct Log {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The serial numbers that have not come, below the largest that has.
    missing: BTreeSet<u64>,
    largest: Option<u64>,
    lost: u64,
    overruns: u64,
    /// The kernel's own count at the begin, where it may be read.
    lost_before: Option<u32>,
    forced: bool,
}

/// How many records were lost, by where that shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events of which the serial number never came.
    pub gaps: u64,
    /// How often the socket's buffer was full (ENOBUFS).
    pub overruns: u64,
    /// What the kernel has counted itself (`lost` of `struct audit_status`), where that may be read
    /// (CAP_AUDIT_CONTROL).
    pub kernel: Option<u64>,
}

impl Log {
    /// Begins to listen.
    ///
    /// # Errors
    /// Without the right, or on a kernel that does not log.
    pub fn open() -> Result<Log, AuditError> {
        let refused = |errno: Errno| AuditError::Refused(errno.into());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let audit = Some(netlink::AUDIT);
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, audit).map_err(refused)?;
        let logged = fs::read_to_string("/proc/sys/kernel/seccomp/actions_logged");
        if !logged.is_ok_and(|logged| logged.split_ascii_whitespace().any(|word| word == "log")) {
            return Err(AuditError::NotLogged);
        }
        // Without CAP_NET_ADMIN it is as large as net.core.rmem_max has it.
        let forced = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_ok();
        if !forced {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        let lost_before = kernel_lost();
        bind(&socket, &SocketAddrNetlink::new(0, 1 << (AUDIT_NLGRP_READLOG - 1)))
            .map_err(refused)?;
        Ok(Log {
            socket,
            buffer: vec![0; 16 << 10],
            missing: BTreeSet::new(),
            largest: None,
            lost: 0,
            overruns: 0,
            lost_before,
            forced,
        })
    }

    /// Whether the buffer is as large as was asked for.
    pub fn has_large_buffer(&self) -> bool {
        self.forced
    }

    /// The next record, if there is one; never waits.
    ///
    /// # Errors
    /// If the socket cannot be read. A full buffer is no error, but counted.
    pub fn read(&mut self) -> Result<Option<Record>, AuditError> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => {
                    let message = self.buffer.get(..length).unwrap_or(&self.buffer);
                    let Some((kind, text)) = split(message) else { continue };
                    let Some((stamp, fields)) = stamp(text) else { continue };
                    let record = record(kind, stamp.at_ms, fields);
                    self.note(stamp.serial);
                    return Ok(Some(record));
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => self.overruns += 1,
                Err(errno) => return Err(AuditError::Read(errno.into())),
            }
        }
    }

    /// What was lost up to now.
    pub fn losses(&self) -> Losses {
        let kernel = self.lost_before.and_then(|before| {
            // The counter may be set back to 0 by auditctl, and wraps.
            Some(u64::from(kernel_lost()?.wrapping_sub(before)))
        });
        let missing = u64::try_from(self.missing.len()).unwrap_or(u64::MAX);
        Losses { gaps: self.lost.saturating_add(missing), overruns: self.overruns, kernel }
    }

    /// Notes that an event has come. Several records may be of one, and events of different CPUs
    /// may overtake each other.
    fn note(&mut self, serial: u64) {
        match self.largest {
            Some(largest) if serial <= largest => {
                self.missing.remove(&serial);
                return;
            }
            Some(largest) => {
                let gap = serial - largest - 1;
                let room = u64::try_from(MAX_MISSING - self.missing.len()).unwrap_or(0);
                self.missing.extend(largest + 1..=largest + gap.min(room));
                self.lost = self.lost.saturating_add(gap.saturating_sub(room));
            }
            None => {}
        }
        self.largest = Some(serial);
    }
}

impl AsFd for Log {
    /// Readable when there is a record.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Puts the calling thread, and what it forks, into an audit session of its own, and gives that
/// session's id: the login uid is set, to what it was, or where there was none to the user id.
///
/// # Errors
/// EPERM where a login uid is set already and the caller has no CAP_AUDIT_CONTROL.
pub fn begin_session() -> Result<u32, AuditError> {
    let error = AuditError::Session;
    let login = fs::read_to_string("/proc/thread-self/loginuid").map_err(error)?;
    let unset = u32::MAX.to_string();
    let login = match login.trim() {
        login if login != unset => login.to_owned(),
        _ => rustix::process::getuid().as_raw().to_string(),
    };
    fs::write("/proc/thread-self/loginuid", login).map_err(error)?;
    let session = fs::read_to_string("/proc/thread-self/sessionid").map_err(error)?;
    session.trim().parse().map_err(|_| error(io::ErrorKind::InvalidData.into()))
}

/// Whether a process that has not ended is in one of these sessions.
pub fn in_session(sessions: &BTreeSet<u32>) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.into_iter().any(|entry| {
        let session = fs::read_to_string(entry.path().join("sessionid")).ok();
        let session = session.and_then(|session| session.trim().parse().ok());
        session.is_some_and(|session| sessions.contains(&session)) && runs(&entry.path())
    })
}

/// Makes a call of this number, which must be none that the kernel knows, and has it logged: a mark
/// among the records, as they come in the order in which they were made.
///
/// # Errors
/// If no thread can be made for it, or the number is one that may be a call's.
pub fn mark(nr: u32) -> io::Result<()> {
    if nr < FIRST_MARK {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let log = Program::new(vec![Insn::from(Op::Ret(Action::Log.raw()))]);
    let log = log.map_err(|_| io::ErrorKind::InvalidInput)?;
    let privileges = Privileges::NoNew;
    let options = LoadOptions { threads: Threads::This, privileges, ..LoadOptions::default() };
    // A thread of its own, as a filter and no_new_privs stay for good.
    let marker = thread::Builder::new().name("marker".to_owned()).spawn(move || {
        seccomp::load(&log, options).map_err(io::Error::other)?;
        // SAFETY: the kernel has no call of this number, so that it only says ENOSYS.
        unsafe { libc::syscall(libc::c_long::from(nr)) };
        Ok(())
    })?;
    marker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The least number of a mark: far from all calls of all ABIs.
pub const FIRST_MARK: u32 = 0x2000_0000;

/// Whether a process has not ended: one whose first thread has may have others.
fn runs(process: &std::path::Path) -> bool {
    let tasks = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    tasks.into_iter().any(|task| {
        let stat = fs::read(task.path().join("stat")).unwrap_or_default();
        let end = stat.windows(2).rposition(|pair| pair == b") ");
        end.and_then(|end| stat.get(end + 2)).is_some_and(|state| !b"ZX".contains(state))
    })
}

/// The kernel's count of lost records, where it may be read.
fn kernel_lost() -> Option<u32> {
    let flags = SocketFlags::CLOEXEC;
    let audit = Some(netlink::AUDIT);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, audit).ok()?;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut request = Vec::with_capacity(HEADER);
    request.extend(u32::try_from(HEADER).ok()?.to_ne_bytes());
    request.extend(AUDIT_GET.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    request.extend(1_u32.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).ok()?;
    // An acknowledgement comes at once, or a refusal; the answer is sent by a thread of the
    // kernel's own.
    let mut answer = [0; 1024];
    loop {
        let mut fds = [PollFd::new(&socket, PollFlags::IN)];
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        if poll(&mut fds, Some(&second)).ok()? == 0 {
            return None;
        }
        let (_, length) = recv(&socket, &mut answer, RecvFlags::empty()).ok()?;
        let (kind, contents) = split(answer.get(..length)?)?;
        match kind {
            AUDIT_GET => {
                // struct audit_status: mask, enabled, failure, pid, rate_limit, backlog_limit, lost.
                let lost = contents.get(24..28)?;
                return Some(u32::from_ne_bytes(lost.try_into().ok()?));
            }
            // struct nlmsgerr begins with the errno.
            NLMSG_ERROR if contents.get(..4) != Some(&[0; 4]) => return None,
            _ => {}
        }
    }
}

/// The type and the contents of a message.
fn split(message: &[u8]) -> Option<(u16, &[u8])> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    Some((kind, message.get(HEADER..)?))
}

/// What an event is told by: when it was, and its serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    at_ms: u64,
    serial: u64,
}

/// The stamp `audit(SECONDS.MILLISECONDS:SERIAL): …`, and what follows.
fn stamp(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let rest = text.strip_prefix(b"audit(")?;
    let end = rest.iter().position(|&byte| byte == b')')?;
    let (time, serial) = std::str::from_utf8(&rest[..end]).ok()?.split_once(':')?;
    let (seconds, milliseconds) = time.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let at_ms = seconds.checked_mul(1000)?.checked_add(milliseconds.parse().ok()?)?;
    Some((Stamp { at_ms, serial: serial.parse().ok()? }, rest.get(end + 1..)?))
}

fn record(kind: u16, at_ms: u64, text: &[u8]) -> Record {
    match kind {
        AUDIT_SECCOMP => seccomp(at_ms, text).map_or(Record::Other, Record::Seccomp),
        AUDIT_LOGIN => match (number(text, b"old-ses", 10), number(text, b"ses", 10)) {
            (Some(old), Some(new)) => Record::Login(old, new),
            _ => Record::Other,
        },
        _ => Record::Other,
    }
}

fn seccomp(at_ms: u64, text: &[u8]) -> Option<Seccomp> {
    let nr = std::str::from_utf8(field(text, b"syscall")?).ok()?.parse::<i64>().ok()?;
    Some(Seccomp {
        session: number(text, b"ses", 10)?,
        exe: path(field(text, b"exe").unwrap_or_default()),
        arch: number(text, b"arch", 16)?,
        // Printed as a long; a filter sees the low half.
        nr: u32::try_from(nr & i64::from(u32::MAX)).ok()?,
        action: number(text, b"code", 16)?,
        at_ms,
    })
}

/// The value of a field. Untrusted ones have no spaces: the kernel writes them as hex then.
fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|&byte| matches!(byte, b' ' | b'\n' | 0))
        .find_map(|word| word.strip_prefix(name)?.strip_prefix(b"="))
}

fn number(text: &[u8], name: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(field(text, name)?).ok()?;
    u32::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), radix).ok()
}

/// A path as audit writes it: in quotes, or as hex where it has quotes, spaces or what is not
/// printable (audit_log_untrustedstring in kernel/audit.c).
fn path(value: &[u8]) -> Vec<u8> {
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let mut path = match quoted {
        Some(path) => path.to_vec(),
        None => hex(value).unwrap_or_default(),
    };
    if path.ends_with(b" (deleted)") {
        path.truncate(path.len() - b" (deleted)".len());
    }
    path
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_the_kernel_writes_them() {
        let text = b"audit(1795593831.364:2648): auid=0 uid=0 gid=0 ses=7 pid=10424 comm=\"ses=9\" exe=\"/usr/bin/python3.11\" sig=0 arch=c000003e syscall=-1 compat=0 ip=0x7f4839f1f829 code=0x7ffc0000";
        let (stamped, fields) = stamp(text).unwrap();
        assert_eq!(stamped, Stamp { at_ms: 1_795_593_831_364, serial: 2648 });
        let Record::Seccomp(seccomp) = record(AUDIT_SECCOMP, 5, fields) else { panic!() };
        assert_eq!(seccomp.at_ms, 5);
        assert_eq!(seccomp.exe, b"/usr/bin/python3.11");
        assert_eq!((seccomp.session, seccomp.arch, seccomp.nr), (7, 0xc000_003e, u32::MAX));
        assert_eq!(seccomp.action, 0x7ffc_0000);
        assert_eq!(path(b"2F612062202864656C6574656429"), b"/a b");
        assert_eq!(path(b"(null)"), b"");
        let login =
            b" pid=5 uid=0 old-auid=4294967295 auid=0 tty=(none) old-ses=4294967295 ses=3 res=1";
        assert_eq!(record(AUDIT_LOGIN, 0, login), Record::Login(u32::MAX, 3));
        assert_eq!(record(AUDIT_SECCOMP, 0, b"nonsense"), Record::Other);
        for text in ["audit(1:", "audit(1:2): ", "audit(18446744073709551615.999:2): "] {
            assert_eq!(stamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_comes_late_was_not_lost() {
        let Ok(mut log) = Log::open() else {
            eprintln!("SKIP what_comes_late_was_not_lost: audit records cannot be read here");
            return;
        };
        for serial in [10, 11, 11, 14, 12, 20] {
            log.note(serial);
        }
        assert_eq!(log.losses().gaps, 6); // 13 and 15 to 19
        log.note(13);
        assert_eq!(log.losses().gaps, 5);
        log.note(10_000_000);
        assert_eq!(log.losses().gaps, 5 + 10_000_000 - 21);
        assert!(log.missing.len() <= MAX_MISSING);
    }
}
