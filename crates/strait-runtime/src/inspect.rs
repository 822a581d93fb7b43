//! The inspector: what the kernel really enforces on each thread of a process.
//!
//! Filters are per thread, and threads of one process may differ; that they do is an alarm. Equal
//! stacks of filters are decided once, whichever threads and processes have them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Decision, Program};
use strait_kernel::dump::{self, Dump, DumpError};
use strait_kernel::task::{self, Capabilities, Mode, Task, TaskError};

use crate::gate;
use crate::launch::reason;
use crate::listeners::Listeners;
use crate::verdict::Gate;

/// How far threads are looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Their filters are read; each filtered thread is stopped for some microseconds.
    #[default]
    Filters,
    /// Only what `/proc` tells; no thread is stopped.
    Status,
}

/// Why a process could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no such process, or it ended meanwhile.
    #[error("there is no process {pid}, or it ended while it was inspected")]
    Gone {
        /// The process id.
        pid: Pid,
    },
    /// The id is a thread's.
    #[error("{pid} is a thread of another process, not a process")]
    Thread {
        /// The id.
        pid: Pid,
    },
    /// `/proc` does not tell.
    #[error(transparent)]
    Task(TaskError),
    /// The process could not be held on to.
    #[error("process {pid} cannot be inspected")]
    Os {
        /// The process id.
        pid: Pid,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// What the kernel enforces on a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The process id.
    #[serde(serialize_with = "as_number")]
    pub pid: Pid,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
    /// The name of its first thread.
    pub name: String,
    /// Its effective user id.
    pub user: u32,
    /// Its threads, by id.
    pub threads: Vec<Thread>,
    /// The different stacks of filters that they have; threads refer to them by index.
    pub stacks: Vec<Stack>,
    /// What a person should look at.
    pub alarms: Vec<Alarm>,
}

/// What the kernel enforces on a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Thread {
    /// The thread id.
    #[serde(serialize_with = "as_number")]
    pub tid: Pid,
    /// Its name.
    pub name: String,
    /// The state letter of proc(5).
    pub state: char,
    /// How far seccomp is on.
    #[serde(serialize_with = "as_mode")]
    pub mode: Mode,
    /// How many filters it has, where the kernel says so.
    pub filters: Option<u32>,
    /// Whether exec can give it no privileges.
    pub no_new_privs: bool,
    /// Its capability sets.
    #[serde(serialize_with = "as_sets")]
    pub capabilities: Capabilities,
    /// What is known of its filters.
    #[serde(flatten)]
    pub reading: Reading,
}

/// What is known of a thread's filters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reading", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Reading {
    /// They were read.
    Read {
        /// Index into [`Process::stacks`].
        stack: usize,
        /// For how long the thread was stopped, at most; nothing if it did not have to be.
        #[serde(serialize_with = "as_micros", rename = "stoppedMicroseconds")]
        stopped: Duration,
    },
    /// They were not to be read, as nothing was to be stopped.
    NotAsked,
    /// The thread has ended and makes no call any more.
    Ended,
    /// They could not be read.
    Failed {
        /// Why, for a person to read.
        reason: String,
    },
}

/// A stack of filters and what it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// The filters, the oldest first; none for a thread that is not confined.
    pub filters: Vec<Filter>,
    /// What it decides, per arch of which anything passes.
    pub summary: Vec<Summary>,
    /// Why that is not known, if it is not.
    pub undecided: Option<String>,
    /// The launcher's gate, if it has it ([`crate::gate`]).
    pub gate: Option<Gate>,
    /// The exact decision.
    #[serde(skip)]
    pub decision: Option<Arc<Decision>>,
}

/// An installed filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// How many instructions it has.
    pub instructions: usize,
    /// The SHA-256 of its instructions as the kernel holds them, in hexadecimal.
    pub sha256: String,
    /// The filter.
    #[serde(skip)]
    pub program: Program,
}

/// How many of the known calls of an arch pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The arch.
    pub arch: String,
    /// Calls that pass whatever their arguments.
    pub allowed: usize,
    /// Calls that pass or not by their arguments.
    pub conditional: usize,
    /// Calls that never pass.
    pub denied: usize,
}

/// What a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "alarm", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Alarm {
    /// Threads of the process are confined differently: what one may not do another can do for
    /// it, as they share their memory.
    ThreadsDiffer {
        /// The threads, in groups of those that are confined alike; the largest group first.
        #[serde(serialize_with = "as_groups")]
        groups: Vec<Vec<Pid>>,
    },
}

/// Inspects processes, and remembers what stacks of filters decide.
#[derive(Debug, Default)]
pub struct Inspector {
    depth: Depth,
    decided: HashMap<Vec<Program>, Stack>,
    listeners: Option<Listeners>,
}

impl Inspector {
    /// An inspector that looks this far.
    pub fn new(depth: Depth) -> Inspector {
        Inspector { depth, ..Inspector::default() }
    }

    /// Who holds listeners; looked up once, when it is first asked for.
    pub fn listeners(&mut self) -> &Listeners {
        self.listeners.get_or_insert_with(Listeners::look)
    }

    /// Inspects one process.
    ///
    /// Threads that end meanwhile are left out, and those that start meanwhile are included.
    ///
    /// # Errors
    /// If there is no such process, or it ends before it is done.
    pub fn inspect(&mut self, pid: Pid) -> Result<Process, InspectError> {
        // The descriptor keeps the id from being another process's: as long as the process that
        // it stands for lives, nobody else has it.
        let _held = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Err(InspectError::Gone { pid }),
            Err(Errno::INVAL | Errno::NOENT) => return Err(InspectError::Thread { pid }),
            Err(errno) => return Err(InspectError::Os { pid, source: errno.into() }),
        };
        let first = read_task(pid, pid)?.ok_or(InspectError::Gone { pid })?;
        let mut stacks: Vec<(Vec<Program>, Stack)> = Vec::new();
        let mut threads: BTreeMap<i32, Thread> = BTreeMap::new();
        // A thread that starts while others are read has what its creator had, but is to be seen;
        // a process that starts threads faster than they can be read is read this often.
        for _ in 0..ROUNDS {
            let new: Vec<Pid> = match task::threads(pid) {
                Ok(now) => {
                    now.into_iter().filter(|tid| !threads.contains_key(&tid.as_raw_pid())).collect()
                }
                Err(TaskError::Gone { .. }) => return Err(InspectError::Gone { pid }),
                Err(error) => return Err(InspectError::Task(error)),
            };
            if new.is_empty() {
                break;
            }
            for thread in self.read(pid, &new, &mut stacks)? {
                threads.insert(thread.tid.as_raw_pid(), thread);
            }
        }
        match read_task(pid, pid)? {
            Some(now) if now.started == first.started => {}
            _ => return Err(InspectError::Gone { pid }),
        }
        let threads: Vec<Thread> = threads.into_values().collect();
        let stacks = stacks.into_iter().map(|(_, stack)| stack).collect();
        let alarms = differing(&threads);
        let Task { name, user, started, .. } = first;
        Ok(Process { pid, started, name, user, threads, stacks, alarms })
    }

    /// Reads some threads of a process; those that have gone are left out.
    fn read(
        &mut self,
        pid: Pid,
        threads: &[Pid],
        stacks: &mut Vec<(Vec<Program>, Stack)>,
    ) -> Result<Vec<Thread>, InspectError> {
        let mut tasks = Vec::with_capacity(threads.len());
        for &tid in threads {
            tasks.extend(read_task(pid, tid)?);
        }
        let stop = |task: &Task| {
            self.depth == Depth::Filters && task.mode == Mode::Filter && !task.is_zombie()
        };
        let to_dump: Vec<Pid> =
            tasks.iter().filter(|task| stop(task)).map(|task| task.thread).collect();
        let mut dumps: HashMap<Pid, Result<Dump, DumpError>> =
            to_dump.iter().copied().zip(dump::filters_of(&to_dump)).collect();
        let mut read = Vec::with_capacity(tasks.len());
        for task in tasks {
            let reading = match (task.mode, dumps.remove(&task.thread)) {
                _ if task.is_zombie() => Reading::Ended,
                (_, Some(Ok(Dump { filters, stopped }))) => {
                    Reading::Read { stack: self.stack(filters, stacks), stopped }
                }
                (_, Some(Err(DumpError::Gone { .. }))) => continue,
                (_, Some(Err(DumpError::Zombie { .. }))) => Reading::Ended,
                (_, Some(Err(error))) => Reading::Failed { reason: reason(&error) },
                (Mode::Disabled, None) => {
                    Reading::Read { stack: self.stack(Vec::new(), stacks), stopped: Duration::ZERO }
                }
                (Mode::Strict, None) => Reading::Failed {
                    reason: "strict mode: only read, write, _exit and sigreturn pass".to_owned(),
                },
                (Mode::Filter, None) => Reading::NotAsked,
            };
            read.push(Thread {
                tid: task.thread,
                name: task.name,
                state: task.state,
                mode: task.mode,
                filters: task.filters,
                no_new_privs: task.no_new_privs,
                capabilities: task.capabilities,
                reading,
            });
        }
        Ok(read)
    }

    /// The index of a stack among those of the process that is inspected.
    fn stack(&mut self, filters: Vec<Program>, stacks: &mut Vec<(Vec<Program>, Stack)>) -> usize {
        if let Some(known) = stacks.iter().position(|(programs, _)| *programs == filters) {
            return known;
        }
        let stack = match self.decided.get(&filters) {
            Some(stack) => stack.clone(),
            None => {
                let stack = self.decide(&filters);
                self.decided.insert(filters.clone(), stack.clone());
                stack
            }
        };
        stacks.push((filters, stack));
        stacks.len() - 1
    }

    fn decide(&mut self, programs: &[Program]) -> Stack {
        let filters = programs.iter().map(Filter::new).collect();
        match Decision::of_stack(programs) {
            Ok(decision) => Stack {
                filters,
                summary: summarise(&decision),
                undecided: None,
                gate: matches!(gate::find(&decision), Ok(Some(_)))
                    .then(|| Gate::from_listeners(self.listeners().clone())),
                decision: Some(Arc::new(decision)),
            },
            Err(undecided) => Stack {
                filters,
                summary: Vec::new(),
                undecided: Some(undecided.to_string()),
                gate: None,
                decision: None,
            },
        }
    }
}

impl Process {
    /// The stack that a thread has, if it was read.
    pub fn stack_of(&self, thread: &Thread) -> Option<&Stack> {
        match thread.reading {
            Reading::Read { stack, .. } => self.stacks.get(stack),
            _ => None,
        }
    }
}

impl Filter {
    fn new(program: &Program) -> Filter {
        let digest = Sha256::digest(program.to_bytes());
        Filter {
            instructions: program.insns().len(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            program: program.clone(),
        }
    }
}

/// How often new threads are looked for.
const ROUNDS: usize = 8;

/// Describes a thread; `None` if it is gone.
fn read_task(pid: Pid, tid: Pid) -> Result<Option<Task>, InspectError> {
    match Task::read(pid, tid) {
        Ok(task) => Ok(Some(task)),
        Err(TaskError::Gone { .. }) => Ok(None),
        Err(error) => Err(InspectError::Task(error)),
    }
}

/// How many calls of each arch pass, for arches of which any does.
fn summarise(decision: &Decision) -> Vec<Summary> {
    let summary = |arch: Arch| {
        let mut summary =
            Summary { arch: arch.name().to_owned(), allowed: 0, conditional: 0, denied: 0 };
        for nr in Syscall::all().filter_map(|call| call.number(arch)) {
            let actions = decision.answer(arch.audit_arch(), nr).actions();
            let pass = actions.iter().filter(|action| Action::lets_pass(**action)).count();
            match pass {
                0 => summary.denied += 1,
                all if all == actions.len() => summary.allowed += 1,
                _ => summary.conditional += 1,
            }
        }
        summary
    };
    let all = Arch::ALL.iter().copied().map(summary);
    all.filter(|summary| summary.allowed + summary.conditional > 0).collect()
}

/// The alarm that threads differ, if those that still run do.
fn differing(threads: &[Thread]) -> Vec<Alarm> {
    let mut groups: BTreeMap<(Mode, Option<usize>, Option<u32>), Vec<Pid>> = BTreeMap::new();
    for thread in threads {
        let stack = match thread.reading {
            Reading::Ended => continue,
            Reading::Read { stack, .. } => Some(stack),
            _ => None,
        };
        match groups.entry((thread.mode, stack, thread.filters)) {
            Entry::Vacant(entry) => drop(entry.insert(vec![thread.tid])),
            Entry::Occupied(mut entry) => entry.get_mut().push(thread.tid),
        }
    }
    let mut groups: Vec<Vec<Pid>> = groups.into_values().collect();
    // Ordered by size; the sort is stable, so groups of one size stay in the order of the map.
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    if groups.len() > 1 { vec![Alarm::ThreadsDiffer { groups }] } else { Vec::new() }
}

pub(crate) fn as_number<S: Serializer>(pid: &Pid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32(pid.as_raw_pid())
}

pub(crate) fn as_numbers<S: Serializer>(pids: &[Pid], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pids.iter().map(|pid| pid.as_raw_pid()))
}

fn as_groups<S: Serializer>(groups: &[Vec<Pid>], serializer: S) -> Result<S::Ok, S::Error> {
    let numbers =
        |group: &Vec<Pid>| -> Vec<i32> { group.iter().map(|pid| pid.as_raw_pid()).collect() };
    serializer.collect_seq(groups.iter().map(numbers))
}

fn as_mode<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match mode {
        Mode::Disabled => "disabled",
        Mode::Strict => "strict",
        Mode::Filter => "filter",
    })
}

fn as_micros<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// The sets as `/proc/PID/status` shows them: hexadecimal masks of capability numbers.
fn as_sets<S: Serializer>(sets: &Capabilities, serializer: S) -> Result<S::Ok, S::Error> {
    let sets = [
        ("inheritable", sets.inheritable),
        ("permitted", sets.permitted),
        ("effective", sets.effective),
        ("bounding", sets.bounding),
        ("ambient", sets.ambient),
    ];
    serializer.collect_map(sets.map(|(name, mask)| (name, format!("{mask:016x}"))))
}
