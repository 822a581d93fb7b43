//! The inspector: what the kernel really enforces on each thread of a process.
//!
//! Filters are per thread, and threads of one process may differ; that they do is an alarm. Equal
//! stacks of filters are decided once, whichever threads and processes have them.
//!
//! What `/proc` does not show is Landlock: no file tells whether a thread is in a Landlock domain, so
//! nothing is said of it.

mod held;
mod known;
mod machine;
mod own_pid;
mod summary;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use serde::{Serialize, Serializer};
use strait_bpf::{Decision, Program};
use strait_kernel::dump::{self, Dump, DumpError};
use strait_kernel::task::{self, Capabilities, Mode, Task, TaskError};

use crate::gate;
use crate::launch::reason;
use crate::listeners::Listeners;
use crate::verdict::Gate;

pub use held::Held;
pub use known::{CAPABILITIES, names as capability_names, sha256};
pub use known::{Known, Registry, decisions_of_profile, digest, docker_capabilities};
pub use machine::{Machine, Missed, Status, Stops};
pub use own_pid::digest_without;
pub use summary::{Calls, Case, Conditional, Summary};

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
    /// It has ended, and another process has its id now.
    #[error("process {pid} ended while it was inspected, and another has its id now")]
    Reused {
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
    /// Its id in the innermost pid namespace that it is in, if that is not ours.
    #[serde(serialize_with = "as_number_if_any", skip_serializing_if = "Option::is_none")]
    pub inner_pid: Option<Pid>,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
    /// The name of its first thread.
    pub name: String,
    /// Its effective user id.
    pub user: u32,
    /// What there is to say of it as a whole.
    pub status: Status,
    /// Its threads, by id.
    pub threads: Vec<Thread>,
    /// The different stacks of filters that they have; threads refer to them by index.
    #[serde(serialize_with = "as_stacks")]
    pub stacks: Vec<Arc<Stack>>,
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
    /// The thread has ended and makes no call any more: a zombie.
    Ended,
    /// A thread of the kernel, which no filter is for.
    Kernel,
    /// They could not be read, as somebody else traces the thread.
    Traced {
        /// Who.
        #[serde(serialize_with = "as_number")]
        tracer: Pid,
    },
    /// They could not be read, as the thread did not stop: it waits where no signal reaches it
    /// (state D). It was let go.
    NotStopping {
        /// For how long it was waited.
        #[serde(serialize_with = "as_micros", rename = "waitedMicroseconds")]
        waited: Duration,
    },
    /// They could not be read: not by us, or not at all.
    Failed {
        /// Why, for a person to read.
        reason: String,
    },
}

impl Reading {
    /// Why nothing is known of the thread's filters, if that is so.
    pub fn unknown(&self) -> Option<String> {
        match self {
            Reading::Read { .. } | Reading::Ended | Reading::Kernel => None,
            Reading::NotAsked => Some("its filters were not to be read".to_owned()),
            Reading::Traced { tracer } => {
                Some(format!("process {tracer} traces it, and there can be only one tracer"))
            }
            Reading::NotStopping { waited } => Some(format!(
                "it did not stop within {} ms: it waits in the kernel (state D)",
                waited.as_millis()
            )),
            Reading::Failed { reason } => Some(reason.clone()),
        }
    }
}

/// A stack of filters and what it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// The SHA-256 of the digests of its filters, in hexadecimal: equal for equal stacks.
    pub sha256: String,
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
    /// The SHA-256 of what it decides by itself, if that is known ([`digest`]).
    pub decision: Option<String>,
    /// What it is, if it is one of those that are known by what they decide.
    pub known: Option<Known>,
    /// The filter.
    #[serde(skip)]
    pub program: Arc<Program>,
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
#[derive(Debug)]
pub struct Inspector {
    depth: Depth,
    /// How long a thread is given to stop that sleeps where no signal reaches it.
    patience: Duration,
    /// By the programs, and by the process where one of them names it.
    decided: HashMap<(Vec<Program>, Option<Pid>), Arc<Stack>>,
    listeners: Option<Listeners>,
    registry: Registry,
    /// Whether the profiles that lie on this machine are among what is known.
    profiles: bool,
}

impl Default for Inspector {
    fn default() -> Inspector {
        Inspector::new(Depth::default())
    }
}

impl Inspector {
    /// An inspector that looks this far.
    pub fn new(depth: Depth) -> Inspector {
        Inspector {
            depth,
            patience: dump::PATIENCE,
            decided: HashMap::new(),
            listeners: None,
            registry: Registry::new(),
            profiles: false,
        }
    }

    /// The same, which recognises the profiles that lie on this machine too: reading them takes some
    /// milliseconds for each set of capabilities.
    #[must_use]
    pub fn with_profiles(mut self) -> Inspector {
        self.profiles = true;
        self
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
        self.inspect_held(&Held::new(pid)?)
    }

    /// The same of a process that was held on to before.
    ///
    /// # Errors
    /// If it ends before it is done, and whether another process has its id by then.
    pub fn inspect_held(&mut self, held: &Held) -> Result<Process, InspectError> {
        let pid = held.pid();
        let first = read_task(pid, pid)?.ok_or(InspectError::Gone { pid })?;
        let mut stacks: Vec<Arc<Stack>> = Vec::new();
        let mut threads: BTreeMap<i32, Thread> = BTreeMap::new();
        // A thread that starts while others are read has what its creator had, but is to be seen;
        // a process that starts threads faster than they can be read is read this often.
        for _ in 0..ROUNDS {
            let new: Vec<Pid> = match task::threads(pid) {
                Ok(now) => {
                    now.into_iter().filter(|tid| !threads.contains_key(&tid.as_raw_pid())).collect()
                }
                Err(TaskError::Gone { .. }) => break,
                Err(error) => return Err(InspectError::Task(error)),
            };
            if new.is_empty() {
                break;
            }
            for thread in self.read(pid, first.inner.unwrap_or(pid), &new, &mut stacks)? {
                threads.insert(thread.tid.as_raw_pid(), thread);
            }
        }
        held.check()?;
        let threads: Vec<Thread> = threads.into_values().collect();
        let alarms = differing(&threads);
        let Task { name, user, started, inner, kernel, .. } = first;
        let status = Status::of(&threads, kernel, !alarms.is_empty());
        Ok(Process { pid, inner_pid: inner, started, name, user, status, threads, stacks, alarms })
    }

    /// Reads some threads of a process, which has this id as it sees it; those that have gone are left
    /// out.
    fn read(
        &mut self,
        pid: Pid,
        own: Pid,
        threads: &[Pid],
        stacks: &mut Vec<Arc<Stack>>,
    ) -> Result<Vec<Thread>, InspectError> {
        let mut tasks = Vec::with_capacity(threads.len());
        for &tid in threads {
            tasks.extend(read_task(pid, tid)?);
        }
        let stop = |task: &Task| {
            self.depth == Depth::Filters && task.mode == Mode::Filter && !task.is_zombie()
        };
        // Those that sleep where no signal reaches them come last, and may get less time: there may
        // be many of them, and most will not stop.
        let (stuck, others): (Vec<&Task>, Vec<&Task>) =
            tasks.iter().filter(|task| stop(task)).partition(|task| task.state == 'D');
        let mut dumps: HashMap<Pid, Result<Dump, DumpError>> = HashMap::new();
        for (tasks, patience) in [(others, dump::PATIENCE), (stuck, self.patience)] {
            let threads: Vec<Pid> = tasks.iter().map(|task| task.thread).collect();
            let read = dump::filters_of(&threads, patience);
            dumps.extend(threads.into_iter().zip(read));
        }
        let mut read = Vec::with_capacity(tasks.len());
        for task in tasks {
            let reading = match (task.mode, dumps.remove(&task.thread)) {
                _ if task.is_zombie() => Reading::Ended,
                _ if task.kernel => Reading::Kernel,
                (_, Some(Ok(Dump { filters, stopped }))) => {
                    if self.profiles {
                        self.registry.resolve_for(task.capabilities.bounding);
                    }
                    Reading::Read { stack: self.stack(filters, own, stacks), stopped }
                }
                (_, Some(Err(DumpError::Gone { .. }))) => continue,
                (_, Some(Err(DumpError::Zombie { .. }))) => Reading::Ended,
                (_, Some(Err(DumpError::Traced { tracer, .. }))) => Reading::Traced { tracer },
                (_, Some(Err(DumpError::NotStopping { waited, .. }))) => {
                    Reading::NotStopping { waited }
                }
                (_, Some(Err(error))) => Reading::Failed { reason: reason(&error) },
                (Mode::Disabled, None) => Reading::Read {
                    stack: self.stack(Vec::new(), own, stacks),
                    stopped: Duration::ZERO,
                },
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
    fn stack(&mut self, filters: Vec<Program>, own: Pid, stacks: &mut Vec<Arc<Stack>>) -> usize {
        let names_it = filters.iter().any(|program| own_pid::is_named(program, own));
        let key = (filters, names_it.then_some(own));
        let stack = match self.decided.get(&key) {
            Some(stack) => Arc::clone(stack),
            None => {
                let stack = Arc::new(self.decide(&key.0, own));
                self.decided.insert(key, Arc::clone(&stack));
                stack
            }
        };
        if let Some(known) = stacks.iter().position(|known| Arc::ptr_eq(known, &stack)) {
            return known;
        }
        stacks.push(stack);
        stacks.len() - 1
    }

    fn decide(&mut self, programs: &[Program], own: Pid) -> Stack {
        let filters: Vec<Filter> =
            programs.iter().map(|program| Filter::new(program, own, &self.registry)).collect();
        let digests: String = filters.iter().map(|filter| filter.sha256.as_str()).collect();
        let decision = Decision::of_stack(programs);
        Stack {
            sha256: known::sha256(digests.as_bytes()),
            filters,
            summary: decision.as_ref().map(summary::summaries).unwrap_or_default(),
            undecided: decision.as_ref().err().map(ToString::to_string),
            gate: matches!(decision.as_ref().map(gate::find), Ok(Ok(Some(_))))
                .then(|| Gate::from_listeners(self.listeners().clone())),
            decision: decision.ok().map(Arc::new),
        }
    }
}

impl Process {
    /// The stack that a thread has, if it was read.
    pub fn stack_of(&self, thread: &Thread) -> Option<&Stack> {
        match thread.reading {
            Reading::Read { stack, .. } => self.stacks.get(stack).map(Arc::as_ref),
            _ => None,
        }
    }
}

impl Filter {
    fn new(program: &Program, own: Pid, registry: &Registry) -> Filter {
        let decision = Decision::of(program).ok().map(|decision| digest(&decision));
        let find = |digest: &str| registry.find(digest).cloned();
        let known = decision.as_deref().and_then(find);
        let known = known.or_else(|| find(&own_pid::digest_without(program, own)?));
        Filter {
            instructions: program.insns().len(),
            sha256: known::sha256(&program.to_bytes()),
            known,
            decision,
            program: Arc::new(program.clone()),
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

/// The alarm that threads differ, if those that still run do.
fn differing(threads: &[Thread]) -> Vec<Alarm> {
    let mut groups: Vec<(&Thread, Vec<Pid>)> = Vec::new();
    // Those whose filters are known come first: another may be like one of them.
    let (read, unread): (Vec<&Thread>, Vec<&Thread>) = threads
        .iter()
        .filter(|thread| thread.reading != Reading::Ended)
        .partition(|thread| matches!(thread.reading, Reading::Read { .. }));
    for thread in read.into_iter().chain(unread) {
        let alike = |first: &Thread| {
            let same_stack = match (&first.reading, &thread.reading) {
                (Reading::Read { stack, .. }, Reading::Read { stack: other, .. }) => stack == other,
                // Not known to differ.
                _ => true,
            };
            same_stack && (first.mode, first.filters) == (thread.mode, thread.filters)
        };
        match groups.iter_mut().find(|(first, _)| alike(first)) {
            Some((_, group)) => group.push(thread.tid),
            None => groups.push((thread, vec![thread.tid])),
        }
    }
    let mut groups: Vec<Vec<Pid>> = groups.into_iter().map(|(_, group)| group).collect();
    // The sort is stable, so groups of one size stay in the order of their first threads.
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    if groups.len() > 1 { vec![Alarm::ThreadsDiffer { groups }] } else { Vec::new() }
}

fn as_number_if_any<S: Serializer>(pid: &Option<Pid>, serializer: S) -> Result<S::Ok, S::Error> {
    pid.map(Pid::as_raw_pid).serialize(serializer)
}

fn as_stacks<S: Serializer>(stacks: &[Arc<Stack>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(stacks.iter().map(Arc::as_ref))
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
