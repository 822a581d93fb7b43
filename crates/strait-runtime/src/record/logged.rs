//! The audit engine: a filter has every call logged, and the records are read from audit netlink.
//!
//! The workload is told from all else by its audit session, which is begun for it, is inherited by
//! everything that it starts, and stands in each record. Marks before and after show that all
//! records in between have come, and serial numbers which ones have not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Action, Insn, Op, Program, SeccompData};
use strait_kernel::audit::{self, AuditError, Log, Record, Seccomp};
use strait_kernel::child::{Change, Child, Confinement, PendingChild};
use strait_kernel::command::Command;
use strait_kernel::ebpf::{Counts, Image};
use strait_kernel::seccomp::{LoadOptions, Privileges, Threads};

use super::counted::Counted;
use super::ending::{Demand, Ending};
use super::life::{Life, Lineage};
use super::notified::privileges;
use super::status::Status;
use super::tally::Tally;
use super::tree::has_filter;
use super::{Ready, RecordError};

/// How long a mark is waited for after the last record has come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often at most and at least it is looked whether the last task has ended.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

const BLIND: &str = "the audit engine sees neither arguments nor what came of a call, shutdown only \
                     where the recorder passes on the signal for it, times by the last tick of the \
                     wall clock, and of scripts only their interpreter";
const FILTERED: &str = "the workload put a filter on itself: what that denied was seen only where \
                        it had it logged, and what was before it is not told apart";
const UNPRIVILEGED: &str = "a set-user-ID program was run without its privilege, as the filter of \
                            an unprivileged recorder takes no_new_privs";
const BUFFER: &str = "the buffer for audit records could not be made as large as it should be, \
                      which takes CAP_NET_ADMIN";
const UNCOUNTED: &str = "the kernel's own count of lost audit records could not be read, which \
                         takes CAP_AUDIT_CONTROL";

/// A recording from audit records.
#[derive(Debug)]
pub(super) struct Observer {
    reader: Reader,
    command: Child,
    ending: Ending,
    filtered: bool,
    no_new_privs: bool,
}

/// Reads the records of one workload.
#[derive(Debug)]
struct Reader {
    log: Log,
    sessions: BTreeSet<u32>,
    tally: Tally,
    /// The launcher's exec has been seen, which is not the workload's.
    begun: bool,
    /// The mark that is waited for; other recorders make theirs.
    awaited: Option<u32>,
    /// The mark of the begin, which is made again when the workload is told to end.
    mark: u32,
    /// When the first mark was made, and when the last thing that was read of, by the records.
    span_ms: Option<(u64, u64)>,
}

/// A child that is in an audit session of its own.
pub(super) struct InSession {
    pub(super) child: PendingChild,
    session: u32,
    log: Log,
}

/// Forks a child for the command, in a session of its own.
pub(super) fn fork(command: &Command) -> Result<InSession, RecordError> {
    let log = Log::open()?;
    // The session is the calling thread's, and is not to be that of this whole process.
    let (session, child) = thread::scope(|scope| {
        let forked = scope.spawn(|| -> Result<_, RecordError> {
            Ok((audit::begin_session()?, PendingChild::fork(command)?))
        });
        forked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(InSession { child, session, log })
}

/// Puts the filter on the command and runs it.
pub(super) fn start(
    forked: InSession,
    ending: Ending,
    ready: &Ready,
) -> Result<Observer, RecordError> {
    let InSession { child, session, log } = forked;
    let id = child.pid();
    let mut reader = Reader {
        log,
        sessions: BTreeSet::from([session]),
        tally: Tally::new(Life::new(ready, false)),
        begun: false,
        awaited: None,
        mark: begin_mark(id),
        span_ms: None,
    };
    if !reader.reach(begin_mark(id))? {
        return Err(RecordError::Audit(AuditError::NotLogged));
    }
    let filtered = has_filter(None);
    let privileges = privileges();
    let program = Program::new(vec![Insn::from(Op::Ret(Action::Log.raw()))])
        .unwrap_or_else(|_| unreachable!("one return is a program"));
    let options = LoadOptions { threads: Threads::This, privileges, log: false };
    let confinement =
        Some(Confinement { program: &program, options, gate: None, keep_listener: false });
    let command = child.exec(confinement)?;
    let no_new_privs = privileges == Privileges::NoNew;
    Ok(Observer { reader, command, ending, filtered, no_new_privs })
}

impl Observer {
    /// Waits for the end, and for what was counted.
    pub(super) fn wait(mut self) -> Result<Counted, RecordError> {
        let mut status = None;
        let mut pause = SHORTEST;
        loop {
            self.reader.drain()?;
            if status.is_none()
                && let Some(Change::Ended(end)) =
                    self.command.changed().map_err(RecordError::Wait)?
            {
                status = Some(end);
            }
            if status.is_some()
                && (self.ending.early() || !audit::in_session(&self.reader.sessions))
            {
                break;
            }
            match self.ending.demand() {
                Some(Demand::Send(signal)) if status.is_none() => {
                    self.ends_by(signal)?;
                    self.command.signal(signal).map_err(RecordError::Wait)?;
                }
                Some(Demand::Sent(signal)) => self.ends_by(signal)?,
                Some(_) => {}
                None => self.pause(status, pause)?,
            }
            if status.is_some() {
                pause = (pause * 2).min(LONGEST);
            }
        }
        let whole = self.reader.reach(begin_mark(self.command.pid()) + 1)?;
        Ok(self.counted(status, whole))
    }

    /// The command gets a signal. If it tells it to end a mark is made, after which all records are of
    /// what it does then.
    fn ends_by(&self, signal: Signal) -> Result<(), RecordError> {
        let status = Status::of(self.command.pid());
        if status.is_some_and(|status| status.is_ended_by(signal.as_raw())) {
            audit::mark(self.reader.mark).map_err(RecordError::Wait)?;
        }
        Ok(())
    }

    fn counted(self, status: Option<ExitStatus>, whole: bool) -> Counted {
        let losses = self.reader.log.losses();
        let large = self.reader.log.has_large_buffer();
        let time_us = self.reader.span_ms.map(|(begin, end)| micros_between(begin, end));
        let counts = Counts { time_us, ..self.reader.tally.counts() };
        let set_id = counts.images.values().any(|image| {
            fs::metadata(std::ffi::OsStr::from_bytes(&image.path))
                .is_ok_and(|file| file.mode() & 0o6000 != 0)
        });
        let seccomp = Syscall::from_name("seccomp");
        let loaded = counts
            .calls
            .keys()
            .any(|call| seccomp.is_some_and(|it| it.number(call.arch) == Some(call.nr)));
        let blind_spots = [
            (true, BLIND),
            (loaded, FILTERED),
            (set_id && self.no_new_privs, UNPRIVILEGED),
            (!large, BUFFER),
            (losses.kernel.is_none(), UNCOUNTED),
        ];
        Counted {
            counts,
            status,
            interrupted: self.ending.early(),
            filtered: self.filtered || loaded,
            sees_results: false,
            lost: vec![
                ("audit events", losses.gaps),
                ("audit socket overruns", losses.overruns),
                ("audit records, by the kernel's count", losses.kernel.unwrap_or(0)),
                ("audit records at the end", u64::from(!whole)),
            ],
            blind_spots: blind_spots
                .into_iter()
                .filter(|&(holds, _)| holds)
                .map(|(_, sentence)| sentence.to_owned())
                .collect(),
        }
    }

    /// Waits until something may have happened.
    fn pause(&self, status: Option<ExitStatus>, pause: Duration) -> Result<(), RecordError> {
        let mut timeout = self.ending.patience();
        let mut fds = vec![
            PollFd::new(&self.ending, PollFlags::IN),
            PollFd::new(&self.reader.log, PollFlags::IN),
        ];
        match status {
            None => fds.push(PollFd::new(&self.command, PollFlags::IN)),
            Some(_) => timeout = Some(timeout.map_or(pause, |patience| patience.min(pause))),
        }
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(RecordError::Wait(errno.into())),
        }
    }
}

impl Reader {
    /// Reads what there is.
    fn drain(&mut self) -> Result<bool, RecordError> {
        let mut any = false;
        while let Some(record) = self.log.read()? {
            any = true;
            match record {
                Record::Seccomp(call) if self.sessions.contains(&call.session) => self.note(call),
                Record::Seccomp(call) if self.awaited == Some(call.nr) => {
                    self.reached(call.at_ms);
                    self.awaited = None;
                }
                Record::Seccomp(call) if self.mark == call.nr => {
                    self.tally.life().end(Lineage::Workload);
                }
                Record::Login(old, new) if self.sessions.contains(&old) => {
                    self.sessions.insert(new);
                }
                _ => {}
            }
        }
        Ok(any)
    }

    /// Makes a mark and reads until it comes; whether it has come.
    fn reach(&mut self, mark: u32) -> Result<bool, RecordError> {
        self.awaited = Some(mark);
        audit::mark(mark).map_err(RecordError::Wait)?;
        let mut last = Instant::now();
        while self.awaited.is_some() && last.elapsed() < PATIENCE {
            if self.drain()? {
                last = Instant::now();
                continue;
            }
            let mut fds = [PollFd::new(&self.log, PollFlags::IN)];
            let timeout = Timespec::try_from(LONGEST).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(RecordError::Wait(errno.into())),
            }
        }
        Ok(self.awaited.is_none())
    }

    /// Something was done at this time by the wall clock: how long after the first mark, in
    /// microseconds. A clock that is set back makes that 0, never less.
    fn reached(&mut self, at_ms: u64) -> u64 {
        let (begin, end) = self.span_ms.unwrap_or((at_ms, at_ms));
        self.span_ms = Some((begin, end.max(at_ms)));
        micros_between(begin, at_ms)
    }

    fn note(&mut self, call: Seccomp) {
        let at_us = self.reached(call.at_ms);
        let data = SeccompData::new(AuditArch::from_raw(call.arch), call.nr);
        if !self.begun {
            self.begun = true;
            let execve = Syscall::from_name("execve").zip(Arch::NATIVE);
            let execve = execve.and_then(|(execve, native)| execve.number(native));
            if execve == Some(call.nr) {
                return;
            }
            // The record of it was lost, which shows in the numbers.
        }
        let image = self.tally.image(Image { path: call.exe, script: None });
        match Action::from_raw(call.action) {
            Action::Log | Action::Allow => self.tally.entered_at(image, &data, at_us),
            // Somebody else answers: whether it was made is not known.
            Action::Notify | Action::Trace(_) => self.tally.lost(1),
            _ => self.tally.denied_at(image, &data, at_us),
        }
    }
}

fn micros_between(begin_ms: u64, end_ms: u64) -> u64 {
    end_ms.saturating_sub(begin_ms).saturating_mul(1000)
}

/// The number of the mark before a child's first call; the next one is that at its end.
fn begin_mark(child: Pid) -> u32 {
    // Ids are below 2^22 (PID_MAX_LIMIT in include/linux/threads.h).
    audit::FIRST_MARK + 2 * (child.as_raw_pid().unsigned_abs() & 0x3f_ffff)
}
