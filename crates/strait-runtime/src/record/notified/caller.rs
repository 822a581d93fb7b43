//! Whose call a notification is of: which program its task runs, and what it comes of.
//!
//! A notification names a thread by its id. What is known of an id holds until the next call by
//! which a task is made or replaced, as only then can the id come to stand for another task or the
//! task for another program. All tasks of the workload have the filter, so every such call is seen,
//! before it is made. After one, `/proc` is asked again, while the call in question waits: the
//! thread can neither exec nor end meanwhile, but be killed, and then the notification is no longer
//! valid, which is looked at last.
//!
//! Whether a task has a filter besides ours is the kernel's count, which is looked at in the same way
//! once some task has made a call that may load one. Whether an exec has succeeded shows by the 16
//! random bytes that the kernel gives each program (AT_RANDOM): the name of its file may be the same.

use std::collections::HashMap;
use std::fs;

use rustix::process::Pid;
use strait_abi::{Arch, AuditArch, Syscall};
use strait_kernel::seccomp::Notification;
use strait_kernel::supervision::Supervision;

use crate::record::life::Lineage;
use crate::record::program;
use crate::record::status::Status;
use crate::record::tally::Tally;

/// How many ids are remembered at most; what is forgotten is asked for again.
const MAX_KNOWN: usize = 32_768;

/// Who makes a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// The number of its program.
    pub(super) image: u32,
    pub(super) lineage: Lineage,
}

/// What is known of threads.
#[derive(Debug)]
pub(super) struct Callers {
    command: u32,
    /// How many filters the command begins with; where the kernel says so.
    filters: Option<u32>,
    /// A call was made that may have loaded a filter.
    may_be_filtered: bool,
    /// Of tasks in exec under a filter that they have loaded, what they ran, by the id that they
    /// will have if it succeeds.
    leaving: HashMap<u32, Leaving>,
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
    caller: Caller,
    age: u64,
}

/// A program that another may take the place of.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    image: u32,
    thread: u32,
    random: [u8; 16],
}

/// A call after which ids may mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurningPoint {
    Start,
    Exec,
    End,
}

impl Callers {
    /// Nobody has called yet. The command has this id, and begins with so many filters.
    pub(super) fn new(command: Pid, filters: Option<u32>) -> Callers {
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
            command: command.as_raw_pid().unsigned_abs(),
            filters,
            may_be_filtered: false,
            leaving: HashMap::new(),
            known: HashMap::new(),
            age: 0,
            in_exec: Vec::new(),
            turning_points,
            set_id: false,
        }
    }

    /// Who makes a call that waits; `None` if the call is gone.
    pub(super) fn caller(
        &mut self,
        call: &Notification,
        supervision: &Supervision,
        tally: &mut Tally,
    ) -> Option<Caller> {
        // One that calls again under its old id has not succeeded. The id of a first thread stays, so of
        // that it shows otherwise.
        self.in_exec.retain(|&(thread, _)| thread != call.tid);
        self.leaving.retain(|&process, left| left.thread != call.tid || process == call.tid);
        let caller = match self.known.get(&call.tid) {
            Some(known) if known.age == self.age && !self.may_have_execed(call.tid) => known.caller,
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
                let process = process_of(call.tid).unwrap_or(call.tid);
                if process != call.tid {
                    self.in_exec.push((call.tid, process));
                }
                if caller.lineage == Lineage::Filtered
                    && let Some(random) = task(call.tid).and_then(program::random)
                {
                    let (image, thread) = (caller.image, call.tid);
                    self.leaving.insert(process, Leaving { image, thread, random });
                }
            }
            Some(TurningPoint::End) => drop(self.known.remove(&call.tid)),
        }
        Some(caller)
    }

    /// A call that may load a filter is made, for the thread or for all of its process: everybody is
    /// looked at again.
    pub(super) fn may_be_filtered(&mut self) {
        self.may_be_filtered = true;
        self.age += 1;
    }

    /// What the command comes of by now.
    pub(super) fn commands_lineage(&self) -> Lineage {
        let known = self.known.get(&self.command);
        known.map_or(Lineage::Workload, |known| known.caller.lineage)
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
    ) -> Option<Caller> {
        // A thread that has exec'd, or has died of another's, is there no more under its old id.
        // While it is there the first thread is what it was; looked at before its program is.
        self.in_exec.retain(|&(thread, process)| {
            process != call.tid
                || fs::exists(format!("/proc/{process}/task/{thread}")).unwrap_or(true)
        });
        let task = task(call.tid)?;
        let program = program::of(task);
        let set_id = program::is_set_id(task);
        let status = if self.may_be_filtered { Status::of(task) } else { None };
        let random =
            if self.leaving.contains_key(&call.tid) { program::random(task) } else { None };
        if !supervision.listener().is_waiting(call.id) {
            return None;
        }
        self.set_id |= set_id;
        let lineage = match self.left(call.tid, random) {
            Some(left) => {
                tally.exec_under_filter(left);
                Lineage::Inner
            }
            None => self.lineage(call.tid, status.as_ref(), tally),
        };
        let image = tally.image(program);
        let caller = Caller { image, lineage };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(call.tid, Known { caller, age: self.age });
        Some(caller)
    }

    /// The program that a thread has left by an exec under a filter, where that shows now.
    fn left(&mut self, tid: u32, random: Option<[u8; 16]>) -> Option<u32> {
        let leaving = *self.leaving.get(&tid)?;
        let has_left = random.is_some_and(|random| random != leaving.random);
        // One that calls again as it was has not succeeded. Another thread may call before it does.
        if has_left || leaving.thread == tid {
            self.leaving.remove(&tid);
        }
        has_left.then_some(leaving.image)
    }

    /// What a thread comes of.
    fn lineage(&mut self, tid: u32, status: Option<&Status>, tally: &mut Tally) -> Lineage {
        let filters = status.and_then(Status::filters);
        // Where the count is not told nobody is taken for filtered.
        let (Some(status), Some(now), Some(first)) = (status, filters, self.filters) else {
            return Lineage::Workload;
        };
        if now <= first {
            return Lineage::Workload;
        }
        match self.known.get(&tid).map(|known| known.caller.lineage) {
            // It has loaded one, or another thread has for it; and perhaps for others.
            Some(Lineage::Workload) => {
                self.age += 1;
                Lineage::Filtered
            }
            Some(known) => known,
            None => {
                let origin = task(tid).and_then(|task| status.origin(task));
                let origin = origin.map(|task| task.as_raw_pid().unsigned_abs());
                match origin.and_then(|origin| self.known.get(&origin)) {
                    Some(origin) if origin.caller.lineage == Lineage::Inner => Lineage::Inner,
                    Some(_) => Lineage::Filtered,
                    // Who has started it has ended.
                    None if tally.life().has_inner() => Lineage::Inner,
                    None => Lineage::Filtered,
                }
            }
        }
    }
}

/// The process of a thread.
fn process_of(tid: u32) -> Option<u32> {
    Some(Status::of(task(tid)?)?.process()?.as_raw_pid().unsigned_abs())
}

fn task(tid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(tid).ok()?)
}
