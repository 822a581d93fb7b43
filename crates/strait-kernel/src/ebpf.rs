//! The recorder's eBPF programs: loading them, naming what they follow, reading what they counted.
//!
//! The programs are in `bpf/recorder.bpf.c`, their built object beside it; `cargo xtask ebpf`
//! builds it. Nothing outlives the [`Recorder`]: programs, maps and attachments are held by its
//! descriptors alone, so they go with the process however it ends.

mod built;
mod clear;
mod counts;
mod description;
mod layout;

mod types;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{io, ptr, thread};

use aya::maps::{Array, CgroupArray, Map, MapError};
use aya::programs::tp_btf::{BtfTracePoint, BtfTracePointLinkId};
use aya::programs::{Program, ProgramError};
use aya::util::nr_cpus;
use aya::{Btf, EbpfError as AyaError, EbpfLoader};
use landlock::{AccessFs, Ruleset, RulesetAttr, RulesetError};
use object::Endianness;
use strait_abi::{Arch, Syscall};

use built::{OBJECT, for_older_kernels};
use counts::monotonic_ns;
pub use counts::{Call, Counts, FileId, Image, Outcomes, Phase, Statistics, Values};
use description::Description;
use layout::{
    EPOCH_STEP, Follower, IMAGE_UNRESOLVED, IMAGE_WAITING, NamespaceIds, PHASE_START_UP,
    PHASE_STEADY, Stats, TASKS, Tally, WORKLOADS, WorkloadState, interests,
};

/// The programs; each is named after the tracepoint that it is attached to. Calls come first, so
/// that a task that is followed is followed whole.
const PROGRAMS: [&str; 6] = [
    "sys_exit",
    "sys_enter",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_fork",
    "signal_deliver",
];

/// The program on a tracepoint that not every kernel has.
const IO_URING: &str = "io_uring_submit_req";

/// How many programs the kernel is given at a time, at most. The first two take as long as all others.
const LOADERS: usize = 3;

/// Why the recorder cannot be had, or its counts not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EbpfError {
    /// The programs are for another machine.
    #[error("the eBPF recorder is for x86_64 only")]
    Arch,
    /// The kernel has no type information, without which the programs do not find its fields.
    #[error("the kernel has no type information in {} (CONFIG_DEBUG_INFO_BTF)", description::PATH)]
    NoBtf(#[source] io::Error),
    /// The kernel refuses eBPF.
    #[error(
        "eBPF is refused: it takes CAP_BPF and CAP_PERFMON, and a kernel that is not locked down"
    )]
    Refused(#[source] io::Error),
    /// The object does not fit this kernel.
    #[error("the eBPF programs cannot be loaded")]
    Load(#[source] Box<AyaError>),
    /// A program was not accepted or not attached.
    #[error("the eBPF program {name} cannot be attached")]
    Attach {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map of the object could not be used.
    #[error("the eBPF map {map} cannot be used")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// A map could not be cleared for a further recording.
    #[error("the eBPF map {map} cannot be cleared")]
    Clear {
        /// The map.
        map: String,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// What the kernel says of a program could not be read.
    #[error("the kernel's account of the eBPF programs cannot be read")]
    Account(#[source] io::Error),
    /// A task could not be named to the programs.
    #[error("the process cannot be followed")]
    Follow(#[source] io::Error),
    /// A recorder follows one workload at least, and not more than it has room for.
    #[error("{asked} workloads cannot be recorded at once: from 1 to {WORKLOADS} can")]
    Workloads {
        /// How many there were to be.
        asked: usize,
    },
    /// The directory is not one of a version 2 cgroup.
    #[error("{} is no directory of the unified (version 2) cgroup hierarchy", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow<'a> {
    /// Tasks that are named to the recorder, and all that they start.
    Tree,
    /// As `Tree`, and the threads that such a process has already.
    Process,
    /// Every task that makes a call while it is in this cgroup or one below it, and all that it
    /// starts. The path is that of the cgroup's directory.
    Cgroup {
        /// The directory.
        path: &'a Path,
        /// Whether somebody is in it already, so that its start is over.
        populated: bool,
    },
    /// Every task that makes a call while it is in these namespaces, and all that it starts. Where they
    /// are not known yet nobody is followed until [`Recorder::follow_namespaces`] tells them.
    Namespaces(Option<Namespaces>),
}

/// Namespaces that tell a workload from others, by the inode number of `/proc/PID/ns/NAME`; at
/// least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces(NamespaceIds);

impl Namespaces {
    /// The namespaces with these ids; `None` is any. There are none without an id.
    pub fn new(pid: Option<u32>, mnt: Option<u32>, net: Option<u32>) -> Option<Namespaces> {
        let id = |id: Option<u32>| id.unwrap_or(0);
        let ids = NamespaceIds { pid: id(pid), mnt: id(mnt), net: id(net) };
        (ids != NamespaceIds::default()).then_some(Namespaces(ids))
    }

    /// Whether who is in `others` is in these too.
    pub fn contain(&self, others: &Namespaces) -> bool {
        self.pairs(others).into_iter().all(|(id, other)| id == 0 || id == other)
    }

    /// Whether somebody can be in both.
    pub fn meet(&self, others: &Namespaces) -> bool {
        self.pairs(others).into_iter().all(|(id, other)| id == 0 || other == 0 || id == other)
    }

    fn pairs(&self, others: &Namespaces) -> [(u32, u32); 3] {
        let (ids, others) = (self.0, others.0);
        [(ids.pid, others.pid), (ids.mnt, others.mnt), (ids.net, others.net)]
    }
}

/// One of the workloads of a recorder, in the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload(u16);

impl Workload {
    /// The first, which each recorder has.
    pub const FIRST: Workload = Workload(0);
}

/// The calls of which the first says that a workload has started, unless it is said otherwise: it
/// listens, accepts, or waits for events.
pub const READY: &[&str] =
    &["listen", "accept", "accept4", "epoll_wait", "epoll_pwait", "epoll_pwait2"];

/// The programs, loaded, and attached as soon as they are to count.
#[derive(Debug)]
pub struct Recorder {
    ebpf: aya::Ebpf,
    /// Those that this kernel has, in the order in which they are attached.
    programs: Vec<&'static str>,
    awaits_namespaces: bool,
    /// By the program's name.
    links: BTreeMap<&'static str, BtfTracePointLinkId>,
    /// What each workload begins with.
    workloads: Vec<WorkloadState>,
    ready: Vec<Syscall>,
    /// Tasks that were named by [`Recorder::follow`] and friends, by workload.
    named: Vec<u64>,
    /// What the kernel had left out before the recording that is made now.
    missed_before: u64,
}

impl Recorder {
    /// Loads the programs and attaches them. Nothing is followed yet, but for cgroups and
    /// namespaces. The calls of which the first makes a workload ready are those of `ready`.
    ///
    /// # Errors
    /// Where eBPF is not to be had, with the reason; or if there are no workloads, or more than a
    /// recorder has room for.
    pub fn new(follow: &[Follow<'_>], ready: &[Syscall]) -> Result<Recorder, EbpfError> {
        let mut recorder = Recorder::load(follow, ready)?;
        recorder.attach()?;
        recorder.begin_workloads()?;
        for (workload, follow) in recorder.workloads().zip(follow) {
            match follow {
                Follow::Tree | Follow::Process | Follow::Namespaces(None) => {}
                Follow::Cgroup { path, .. } => recorder.follow_cgroup(workload, path)?,
                Follow::Namespaces(Some(namespaces)) => {
                    recorder.set_namespaces(workload, namespaces.0)?;
                }
            }
        }
        Ok(recorder)
    }

    /// Loads the programs for one workload, which [`Recorder::follow_namespaces`] will tell. That is nearly
    /// all of the time that it takes, and slows nobody's calls yet.
    ///
    /// # Errors
    /// As for [`Recorder::new`].
    pub fn load_for_namespaces(ready: &[Syscall]) -> Result<Recorder, EbpfError> {
        Recorder::load(&[Follow::Namespaces(None)], ready)
    }

    /// Loads the programs. They are not attached, and once they are they follow nobody.
    fn load(follow: &[Follow<'_>], ready: &[Syscall]) -> Result<Recorder, EbpfError> {
        Recorder::load_with_room(follow, ready, TASKS)
    }

    /// The same, with room for less than so many tasks at once.
    fn load_with_room(
        follow: &[Follow<'_>],
        ready: &[Syscall],
        tasks: u32,
    ) -> Result<Recorder, EbpfError> {
        if Arch::NATIVE != Some(Arch::X86_64) {
            return Err(EbpfError::Arch);
        }
        if follow.is_empty() || follow.len() > WORKLOADS {
            return Err(EbpfError::Workloads { asked: follow.len() });
        }
        let types = kernel_types()?;
        let cpus = nr_cpus().map_err(|(_, source)| EbpfError::Account(source))?;
        // A number that does not fit is no number of CPUs.
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let adopt_threads = u32::from(follow.contains(&Follow::Process));
        // How many workloads there are up to the last of a kind: those are looked through.
        let mut counts = [0_u32; 2];
        for (number, follow) in (1..).zip(follow) {
            match follow {
                Follow::Tree | Follow::Process => {}
                Follow::Cgroup { .. } => counts[0] = number,
                Follow::Namespaces(_) => counts[1] = number,
            }
        }
        let interests = interests(ready);
        let mut loader = loader();
        loader
            .btf(Some(&types.structures))
            .override_global("adopt_threads", &adopt_threads, true)
            .override_global("cgroup_count", &counts[0], true)
            .override_global("namespace_count", &counts[1], true)
            .override_global("interests", &interests, true)
            .override_global("cpus", &cpus, true)
            .override_global("task_room", &tasks, true)
            .allow_unsupported_maps();
        let mut load = |object: &[u8]| {
            let mut ebpf = loader.load(object).map_err(load_error)?;
            let programs = load_programs(&mut ebpf, &types.tracepoints)?;
            Ok((ebpf, programs))
        };
        let (ebpf, programs) = match load(OBJECT) {
            // What is wrong with it for this kernel is said by the newer one.
            Err(error @ EbpfError::Attach { .. }) => {
                load(&for_older_kernels()).map_err(|_: EbpfError| error)?
            }
            other => other?,
        };
        let mut recorder = Recorder {
            ebpf,
            programs,
            awaits_namespaces: follow.contains(&Follow::Namespaces(None)),
            links: BTreeMap::new(),
            workloads: follow.iter().map(WorkloadState::of).collect(),
            ready: ready.to_vec(),
            named: vec![0; follow.len()],
            missed_before: 0,
        };
        recorder.begin_workloads()?;
        for workload in recorder.workloads() {
            // Where there are none, and none yet, they match nobody.
            let nobody = NamespaceIds { pid: u32::MAX, mnt: u32::MAX, net: u32::MAX };
            recorder.set_namespaces(workload, nobody)?;
        }
        Ok(recorder)
    }

    /// Whether it was loaded for namespaces that are not known yet.
    pub fn awaits_namespaces(&self) -> bool {
        self.awaits_namespaces
    }

    /// Attaches the programs. Only when all are there it is said who is followed: of a call whose begin was
    /// not seen the return would be one without a call.
    fn attach(&mut self) -> Result<(), EbpfError> {
        for &name in &self.programs {
            if !self.links.contains_key(name) {
                let attached = program(&mut self.ebpf, name)?.attach();
                self.links.insert(name, attached.map_err(attach_error(name))?);
            }
        }
        Ok(())
    }

    /// Attaches the programs and says which namespaces a workload is that was to be told by them: from now
    /// on they count. Who starts from now on and not by one of its tasks has come in from outside.
    ///
    /// # Errors
    /// If a program cannot be attached, or the maps cannot be written.
    pub fn follow_namespaces(
        &mut self,
        workload: Workload,
        namespaces: Namespaces,
    ) -> Result<(), EbpfError> {
        self.attach()?;
        self.begin_workloads()?;
        self.set_namespaces(workload, namespaces.0)?;
        self.awaits_namespaces = false;
        Ok(())
    }

    /// The workloads, in the order in which they were given.
    pub fn workloads(&self) -> impl Iterator<Item = Workload> + use<> {
        (0..self.workloads.len()).filter_map(|number| u16::try_from(number).ok()).map(Workload)
    }

    /// The calls of which the first makes a workload ready.
    pub fn ready_calls(&self) -> &[Syscall] {
        &self.ready
    }

    /// Follows a task that has not exec'd yet: its calls count from its next exec on, that exec
    /// not included.
    ///
    /// # Errors
    /// If the task is gone.
    pub fn follow_from_exec(
        &mut self,
        workload: Workload,
        task: BorrowedFd<'_>,
    ) -> Result<(), EbpfError> {
        self.name(workload, task, IMAGE_WAITING, true)
    }

    /// Follows a task from now on, which is the workload's first: its shutdown begins with a signal to it.
    /// With [`Follow::Process`] its threads are followed too.
    ///
    /// Returns whether it was not followed already.
    ///
    /// # Errors
    /// If the task is gone.
    pub fn follow(&mut self, workload: Workload, task: BorrowedFd<'_>) -> Result<bool, EbpfError> {
        self.follow_running(workload, task, true)
    }

    /// The same of a task that the workload's first, or one of its descendants, has started before.
    ///
    /// # Errors
    /// As for [`Recorder::follow`].
    pub fn follow_descendant(
        &mut self,
        workload: Workload,
        task: BorrowedFd<'_>,
    ) -> Result<bool, EbpfError> {
        self.follow_running(workload, task, false)
    }

    fn follow_running(
        &mut self,
        workload: Workload,
        task: BorrowedFd<'_>,
        first: bool,
    ) -> Result<bool, EbpfError> {
        match self.name(workload, task, IMAGE_UNRESOLVED, first) {
            Err(EbpfError::Follow(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Says that a workload has started: from now on it is in its steady phase, unless that is
    /// over.
    ///
    /// # Errors
    /// If the maps cannot be written.
    pub fn ready(&mut self, workload: Workload) -> Result<(), EbpfError> {
        let declared = map_error("declared_ready");
        Array::<_, u32>::try_from(self.map_mut("declared_ready"))
            .and_then(|mut map| map.set(workload.0.into(), 1, 0))
            .map_err(declared)?;
        // Written after what it tells of, so that who sees it sees that too.
        let mut epoch =
            Array::<_, u32>::try_from(self.map_mut(".data")).map_err(map_error("epoch"))?;
        let now = epoch.get(&0, 0).map_err(map_error("epoch"))?;
        epoch.set(0, now.wrapping_add(EPOCH_STEP), 0).map_err(map_error("epoch"))
    }

    /// How many followed tasks of a workload there are now.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn live(&self, workload: Workload) -> Result<u64, EbpfError> {
        let tally = self.tally(workload)?;
        Ok(self.tasks(workload, &tally).saturating_sub(tally.ended))
    }

    /// How many tasks of a workload were followed in all.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn followed(&self, workload: Workload) -> Result<u64, EbpfError> {
        Ok(self.tasks(workload, &self.tally(workload)?))
    }

    /// Stops counting. What was counted can still be read.
    ///
    /// # Errors
    /// If a program cannot be detached.
    pub fn detach(&mut self) -> Result<(), EbpfError> {
        // Programs are not unloaded: the kernel's account of them is still to be read. Returns go first, as of
        // a call whose begin is not seen any more the return would be one without a call.
        for &name in &self.programs {
            if let Some(link) = self.links.remove(name) {
                program(&mut self.ebpf, name)?.detach(link).map_err(attach_error(name))?;
            }
        }
        Ok(())
    }

    /// Whether it still counts.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Puts all workloads in the phase in which they begin.
    fn begin_workloads(&mut self) -> Result<(), EbpfError> {
        let since = monotonic_ns();
        let states = self.workloads.iter().map(|state| WorkloadState { since, ..*state });
        let states: Vec<WorkloadState> = states.collect();
        let mut map = Array::<_, WorkloadState>::try_from(self.map_mut("workloads"))
            .map_err(map_error("workloads"))?;
        for (number, state) in (0..).zip(states) {
            map.set(number, state, 0).map_err(map_error("workloads"))?;
        }
        Ok(())
    }

    /// A program that looks meanwhile sees some of the ones before, that match nobody.
    fn set_namespaces(&mut self, workload: Workload, ids: NamespaceIds) -> Result<(), EbpfError> {
        let mut map = Array::<_, NamespaceIds>::try_from(self.map_mut("namespaces"))
            .map_err(map_error("namespaces"))?;
        map.set(workload.0.into(), ids, 0).map_err(map_error("namespaces"))
    }

    fn follow_cgroup(&mut self, workload: Workload, path: &Path) -> Result<(), EbpfError> {
        let error = |source| EbpfError::Cgroup { path: path.to_path_buf(), source };
        let directory = File::open(path).map_err(error)?;
        let mut map =
            CgroupArray::try_from(self.map_mut("cgroups")).map_err(map_error("cgroups"))?;
        map.set(workload.0.into(), directory, 0).map_err(|source| match source {
            MapError::SyscallError(source) => error(source.io_error),
            other => map_error("cgroups")(other),
        })
    }

    fn name(
        &mut self,
        workload: Workload,
        task: BorrowedFd<'_>,
        image: u32,
        first: bool,
    ) -> Result<(), EbpfError> {
        let state =
            Follower { number: 0, image, workload: workload.0, root: first.into(), lost: 0 };
        // The loader has no type for task storage.
        let Map::Unsupported(map) = self.map("tasks") else {
            unreachable!("task storage is no type that the loader knows");
        };
        let map = map.fd().as_fd();
        set_task_storage(map, task, &state).map_err(EbpfError::Follow)?;
        if let Some(named) = self.named.get_mut(usize::from(workload.0)) {
            *named += 1;
        }
        Ok(())
    }

    fn map(&self, name: &'static str) -> &Map {
        match self.ebpf.map(name) {
            Some(map) => map,
            None => unreachable!("the object has the map {name}"),
        }
    }

    fn map_mut(&mut self, name: &'static str) -> &mut Map {
        match self.ebpf.map_mut(name) {
            Some(map) => map,
            None => unreachable!("the object has the map {name}"),
        }
    }

    fn stats(&self) -> Result<Stats, EbpfError> {
        let map = Array::<_, Stats>::try_from(self.map("stats")).map_err(map_error("stats"))?;
        map.get(&0, 0).map_err(map_error("stats"))
    }

    /// How many tasks of a workload there were, by its tally.
    fn tasks(&self, workload: Workload, tally: &Tally) -> u64 {
        let named = self.named.get(usize::from(workload.0)).copied().unwrap_or(0);
        named.saturating_add(tally.started)
    }

    fn tally(&self, workload: Workload) -> Result<Tally, EbpfError> {
        let map = Array::<_, Tally>::try_from(self.map("tallies")).map_err(map_error("tallies"))?;
        map.get(&workload.0.into(), 0).map_err(map_error("tallies"))
    }

    fn statistics(&self, workload: Workload) -> Result<Statistics, EbpfError> {
        let (stats, tally) = (self.stats()?, self.tally(workload)?);
        Ok(Statistics {
            tasks: self.tasks(workload, &tally),
            execs: tally.execs,
            filtered_tasks: tally.filtered,
            replaced_calls: tally.unpaired,
            lost_calls: 0,
            lost_tasks: stats.lost_tasks,
            lost_images: stats.lost_images,
            lost_rows: stats.lost_rows,
            lost_errnos: stats.lost_errnos,
            cut_paths: stats.cut_paths,
            missed_events: self.missed()?.saturating_sub(self.missed_before),
        })
    }

    /// How often the kernel left out a run of a program since they were loaded.
    fn missed(&self) -> Result<u64, EbpfError> {
        let mut sum = 0;
        for (_, program) in self.ebpf.programs() {
            if let Ok(fd) = program.fd() {
                sum += missed(fd.as_fd()).map_err(EbpfError::Account)?;
            }
        }
        Ok(sum)
    }
}

/// The ids of all eBPF programs that the kernel has now; none where it does not say.
pub fn loaded_programs() -> Vec<u32> {
    aya::programs::loaded_programs().filter_map(|program| Some(program.ok()?.id())).collect()
}

/// A loader that has not read the kernel's types. It does so when it is made, whatever it is then given,
/// for as long as everything else takes; so it is made where it cannot read.
fn loader() -> EbpfLoader<'static> {
    thread::scope(|scope| {
        // A Landlock domain is of the thread that enters it. Signals that are blocked here are there too.
        let blind = thread::Builder::new().spawn_scoped(scope, || {
            let ruleset = Ruleset::default().handle_access(AccessFs::ReadFile)?.create()?;
            ruleset.restrict_self()?;
            Ok::<_, RulesetError>(EbpfLoader::new())
        });
        match blind.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(Ok(loader))) => loader,
            // No thread or no Landlock to be had: it takes longer.
            _ => EbpfLoader::new(),
        }
    })
}

/// The kernel's types, as the loader takes them.
struct KernelTypes {
    /// By which the programs find members of its structures.
    structures: Btf,
    /// By which they are attached.
    tracepoints: Btf,
}

/// The kernel's types, read once for all recordings of this process.
fn kernel_types() -> Result<&'static KernelTypes, EbpfError> {
    static TYPES: OnceLock<KernelTypes> = OnceLock::new();
    if let Some(types) = TYPES.get() {
        return Ok(types);
    }
    let all = Description::read().map_err(EbpfError::NoBtf)?;
    let all = all.bytes();
    let parse = |types: &[u8]| {
        Btf::parse(types, Endianness::default()).map_err(|error| load_error(error.into()))
    };
    let tracepoints: Vec<&str> = PROGRAMS.into_iter().chain([IO_URING]).collect();
    let types = match types::needed(all, &tracepoints) {
        Some(needed) => KernelTypes {
            structures: parse(&needed.structures)?,
            tracepoints: parse(&needed.tracepoints)?,
        },
        // A kernel with kinds of types that are not known here. The loader may know them.
        None => KernelTypes { structures: parse(all)?, tracepoints: parse(all)? },
    };
    Ok(TYPES.get_or_init(|| types))
}

/// What an error of the loader means: a refusal, where the kernel said EPERM or EACCES.
fn load_error(error: AyaError) -> EbpfError {
    match refusal(&error) {
        Some(refused) => EbpfError::Refused(refused),
        None => EbpfError::Load(Box::new(error)),
    }
}

fn attach_error(name: &'static str) -> impl Fn(ProgramError) -> EbpfError {
    move |error| match refusal(&error) {
        Some(refused) => EbpfError::Refused(refused),
        None => EbpfError::Attach { name, source: Box::new(error) },
    }
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> EbpfError {
    move |source| EbpfError::Map { map, source: Box::new(source) }
}

/// The EPERM that is at the root of an error. The verifier says EACCES of a program that it does
/// not accept, so that is no refusal.
fn refusal(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno == Some(libc::EPERM) {
            return Some(io::Error::from_raw_os_error(libc::EPERM));
        }
        cause = error.source();
    }
    None
}

fn program<'a>(
    ebpf: &'a mut aya::Ebpf,
    name: &'static str,
) -> Result<&'a mut BtfTracePoint, EbpfError> {
    match ebpf.program_mut(name) {
        Some(program) => program.try_into().map_err(attach_error(name)),
        None => unreachable!("the object has the program {name}: PROGRAMS lists them"),
    }
}

/// Gives the programs to the kernel and returns those that it has taken, in their order. It looks at several
/// at a time: that is most of what loading takes.
fn load_programs(ebpf: &mut aya::Ebpf, tracepoints: &Btf) -> Result<Vec<&'static str>, EbpfError> {
    let mut all: BTreeMap<String, &mut Program> =
        ebpf.programs_mut().map(|(name, program)| (name.to_owned(), program)).collect();
    let names = || PROGRAMS.into_iter().chain([IO_URING]);
    let left: Vec<_> = names().filter_map(|name| Some((name, all.remove(name)?))).collect();
    let (left, loaded) = (Mutex::new(left.into_iter()), Mutex::new(BTreeMap::new()));
    let load = || {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((name, program)) = next else { return };
            let result = <&mut BtfTracePoint>::try_from(program)
                .and_then(|program| program.load(name, tracepoints));
            loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(name, result);
        }
    };
    thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..processors.min(LOADERS) {
            // Where there is no thread to be had it takes longer.
            let _ = thread::Builder::new().spawn_scoped(scope, load);
        }
        load();
    });
    let mut loaded = loaded.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut taken = Vec::new();
    for name in names() {
        match loaded.remove(name) {
            Some(Ok(())) => taken.push(name),
            // A kernel without io_uring has no such tracepoint.
            _ if name == IO_URING => {}
            Some(Err(error)) => return Err(attach_error(name)(error)),
            None => unreachable!("the object has the program {name}: PROGRAMS lists them"),
        }
    }
    Ok(taken)
}

impl WorkloadState {
    /// How a workload begins: one that runs already has started.
    fn of(follow: &Follow<'_>) -> WorkloadState {
        let started = match follow {
            Follow::Tree => false,
            Follow::Cgroup { populated, .. } => *populated,
            Follow::Process | Follow::Namespaces(_) => true,
        };
        let outer = if started { PHASE_STEADY } else { PHASE_START_UP };
        WorkloadState {
            since: 0,
            phase: [outer.into(), PHASE_START_UP.into()],
            tasks: started.into(),
            unused: 0,
        }
    }
}

/// Gives a task a value in a map of type task storage, unless it has one (EEXIST).
fn set_task_storage(map: BorrowedFd<'_>, task: BorrowedFd<'_>, state: &Follower) -> io::Result<()> {
    /// The part of `union bpf_attr` for BPF_MAP_UPDATE_ELEM (include/uapi/linux/bpf.h).
    #[repr(C)]
    struct Update {
        map_fd: i32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    const BPF_NOEXIST: u64 = 1;
    let pidfd: i32 = task.as_raw_fd();
    let update = Update {
        map_fd: map.as_raw_fd(),
        padding: 0,
        key: ptr::from_ref(&pidfd).addr() as u64,
        value: ptr::from_ref(state).addr() as u64,
        flags: BPF_NOEXIST,
    };
    // SAFETY: the command reads `update`, of the size that is passed, and through it the key, an
    // int as this type of map has it, and the value, of the size that the map was made with, as
    // `Follower` mirrors its type; all three live until the call has returned. It writes to none
    // of them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_ELEM,
            ptr::from_ref(&update),
            size_of::<Update>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How often the kernel did not run a program because it ran on that CPU already.
fn missed(program: BorrowedFd<'_>) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    // Not said before Linux 5.12.
    Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

    use super::*;

    /// A task for which there is no number is lost, and is not waited for when it has ended.
    #[test]
    fn a_task_for_which_there_is_no_room_is_lost_and_ends() {
        let test = "a_task_for_which_there_is_no_room_is_lost_and_ends";
        if !geteuid().is_root() || Arch::NATIVE != Some(Arch::X86_64) {
            return strait_testkit::skip(test, "eBPF takes root, and x86_64");
        }
        let waiting =
            || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (mut first, mut second) = (waiting(), waiting());
        let mut recorder = Recorder::load_with_room(&[Follow::Tree], &[], 2).unwrap();
        recorder.attach().unwrap();
        let mut follow = |child: &Child| {
            let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
            assert!(recorder.follow(Workload::FIRST, pidfd.as_fd()).unwrap());
        };
        follow(&first);
        // Numbers are for who calls.
        first.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
        let counted = |recorder: &Recorder| recorder.counts(Workload::FIRST).unwrap();
        follow(&second);
        while counted(&recorder).calls.is_empty() {
            thread::yield_now();
        }
        drop(second.stdin.take());
        assert!(second.wait().unwrap().success());
        assert_eq!(recorder.live(Workload::FIRST).unwrap(), 1);
        drop(first.stdin.take());
        assert!(first.wait().unwrap().success());
        assert_eq!(recorder.live(Workload::FIRST).unwrap(), 0);
        let statistics = counted(&recorder).statistics;
        assert_eq!((statistics.tasks, statistics.lost_tasks), (2, 1));
    }
}
