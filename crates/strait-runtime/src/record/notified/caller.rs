//! Whose call a notification is of: which program its task runs.
//!
//! A notification names a thread by its id. What is known of an id holds until the next call by
//! which a task is made or replaced, as only then can the id come to stand for another task or the
//! task for another program. All tasks of the workload have the filter, so every such call is seen,
//! before it is made. After one, `/proc` is asked again, while the call in question waits: the
//! thread can neither exec nor end meanwhile, but be killed, and then the notification is no longer
//! valid, which is looked at last.

use std::collections::HashMap;
use std::fs;

use rustix::process::Pid;
use strait_abi::{Arch, AuditArch, Syscall};
use strait_kernel::seccomp::Notification;
use strait_kernel::supervision::Supervision;

use crate::record::program::{self, proc_file};
use crate::record::tally::Tally;

/// How many ids are remembered at most; what is forgotten is asked for again.
const MAX_KNOWN: usize = 32_768;

/// What is known of threads.
#[derive(Debug)]
pub(super) struct Callers {
    known: HashMap<u32, Known>,
    /// Counts the calls by which tasks are made or replaced.
    age: u64,
    /// Threads other than the first of their process that are in exec, with the id that they will
    /// have if it succeeds. Until it has succeeded or failed, that id may be of the old program or
    /// of the new.
    in_exec: Vec<(u32, u32)>,
    turning_points: HashMap<(AuditArch, u32), TurningPoint>,
    set_id: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    image: u32,
    age: u64,
}

/// A call after which ids may mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurningPoint {
    Start,
    Exec,
    End,
}

impl Callers {
    pub(super) fn new() -> Callers {
        let mut turning_points = HashMap::new();
        for (names, turning_point) in [
            (&["clone", "clone3", "fork", "vfork"][..], TurningPoint::Start),
            (&["execve", "execveat"], TurningPoint::Exec),
            (&["exit"], TurningPoint::End),
        ] {
            for call in names.iter().filter_map(|name| Syscall::from_name(name)) {
                for &arch in Arch::ALL {
                    if let Some(nr) = call.number(arch) {
                        turning_points.insert((arch.audit_arch(), nr), turning_point);
                    }
                }
            }
        }
        Callers {
            known: HashMap::new(),
            age: 0,
            in_exec: Vec::new(),
            turning_points,
            set_id: false,
        }
    }

    /// The number of the program that makes a call which waits; `None` if the call is gone.
    pub(super) fn image(
        &mut self,
        call: &Notification,
        supervision: &Supervision,
        tally: &mut Tally,
    ) -> Option<u32> {
        // One that calls again under its old id has not succeeded.
        self.in_exec.retain(|&(thread, _)| thread != call.tid);
        let image = match self.known.get(&call.tid) {
            Some(known) if known.age == self.age && !self.may_have_execed(call.tid) => known.image,
            _ => self.look(call, supervision, tally)?,
        };
        match self.turning_points.get(&(call.data.arch, call.data.nr)) {
            None => {}
            Some(TurningPoint::Start) => {
                self.age += 1;
                // The caller itself stays what it is: while it lives nobody gets its id.
                if let Some(known) = self.known.get_mut(&call.tid) {
                    known.age = self.age;
                }
            }
            Some(TurningPoint::Exec) => {
                self.age += 1;
                if let Some(process) = process_of(call.tid).filter(|&first| first != call.tid) {
                    self.in_exec.push((call.tid, process));
                }
            }
            Some(TurningPoint::End) => drop(self.known.remove(&call.tid)),
        }
        Some(image)
    }

    /// Whether a program was run that gives its user or group.
    pub(super) fn ran_set_id(&self) -> bool {
        self.set_id
    }

    fn may_have_execed(&self, tid: u32) -> bool {
        self.in_exec.iter().any(|&(_, process)| process == tid)
    }

    /// Asks `/proc`.
    fn look(
        &mut self,
        call: &Notification,
        supervision: &Supervision,
        tally: &mut Tally,
    ) -> Option<u32> {
        // A thread that has exec'd, or has died of another's, is there no more under its old id.
        // While it is there the first thread is what it was; looked at before its program is.
        self.in_exec.retain(|&(thread, process)| {
            process != call.tid
                || fs::exists(format!("/proc/{process}/task/{thread}")).unwrap_or(true)
        });
        let task = Pid::from_raw(i32::try_from(call.tid).ok()?)?;
        let program = program::of(task);
        let set_id = program::is_set_id(task);
        if !supervision.listener().is_waiting(call.id) {
            return None;
        }
        self.set_id |= set_id;
        let image = tally.image(program);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(call.tid, Known { image, age: self.age });
        Some(image)
    }
}

/// The process of a thread.
fn process_of(tid: u32) -> Option<u32> {
    let task = Pid::from_raw(i32::try_from(tid).ok()?)?;
    let status = fs::read(proc_file(task, "status")).ok()?;
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}
