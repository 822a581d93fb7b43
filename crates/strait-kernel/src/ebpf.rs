//! The recorder's eBPF programs: loading them, naming what they follow, reading what they counted.
//!
//! The programs are in `bpf/recorder.bpf.c`, their built object beside it; `cargo xtask ebpf`
//! builds it. Nothing outlives the [`Recorder`]: programs, maps and attachments are held by its
//! descriptors alone, so they go with the process however it ends.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{io, ptr, thread};

use aya::maps::{Array, CgroupArray, HashMap, Map, MapError, PerCpuArray, PerCpuValues};
use aya::programs::ProgramError;
use aya::programs::tp_btf::{BtfTracePoint, BtfTracePointLinkId};
use aya::util::nr_cpus;
use aya::{Btf, EbpfError as AyaError, EbpfLoader, Pod};
use strait_abi::Arch;

/// The object, aligned as an ELF reader wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/recorder.bpf.o");

/// The programs; each is named after the tracepoint that it is attached to. Calls come first, so
/// that a task that is followed is followed whole.
const PROGRAMS: [&str; 5] =
    ["sys_exit", "sys_enter", "sched_process_exec", "sched_process_exit", "sched_process_fork"];

/// Where the kernel shows its type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Sizes and special values that are shared with `recorder.bpf.c`.
const PATH: usize = 4096;
const SCRIPT: usize = 1024;
const IMAGE_UNRESOLVED: u32 = 0;
const IMAGE_OTHER: u32 = 1;
const IMAGE_FIRST: u32 = 2;
const IMAGES: u32 = 1024;
const IMAGE_WAITING: u32 = u32::MAX;
const ENTRY_NO_ROOM: u32 = 0;
const ENTRY_FIRST: u32 = 2;
const ENTRIES: u32 = 16384;
const NUMBERS: usize = 512;

/// Why the recorder cannot be had, or its counts not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EbpfError {
    /// The programs are for another machine.
    #[error("the eBPF recorder is for x86_64 only")]
    Arch,
    /// The kernel has no type information, without which the programs do not find its fields.
    #[error("the kernel has no type information in {BTF} (CONFIG_DEBUG_INFO_BTF)")]
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
    Cgroup(&'a Path),
}

/// The programs, attached.
#[derive(Debug)]
pub struct Recorder {
    ebpf: aya::Ebpf,
    /// By the program's name.
    links: BTreeMap<&'static str, BtfTracePointLinkId>,
    /// Tasks that were named by [`Recorder::follow`] and friends.
    named: u64,
    /// What the kernel had left out before the recording that is made now.
    missed_before: u64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The program files, by the number that calls name them by.
    pub images: BTreeMap<u32, Image>,
    /// Calls.
    pub calls: BTreeMap<Call, Outcomes>,
    /// What was lost and what else was noticed.
    pub statistics: Statistics,
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// Its path below the root directory of the task that ran it; empty where it is not known.
    pub path: Vec<u8>,
    /// The script for which it was run, as it was named at exec.
    pub script: Option<Vec<u8>>,
}

/// One system call of one program file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The program file: a key of [`Counts::images`].
    pub image: u32,
    /// The ABI that it was made by.
    pub arch: Arch,
    /// The number, as `seccomp_data.nr` shows it.
    pub nr: u32,
}

/// How a call went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How often it was begun.
    pub entered: u64,
    /// How often it returned no error.
    pub succeeded: u64,
    /// How often it returned each errno.
    pub errnos: BTreeMap<u16, u64>,
    /// How often a filter answered it before it was begun.
    pub denied: u64,
}

/// Everything that is counted besides calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tasks that were followed.
    pub tasks: u64,
    /// Execs of followed tasks.
    pub execs: u64,
    /// Tasks that ended with a filter on them.
    pub filtered_tasks: u64,
    /// Returns without a call where no filter can have answered: a tracer replaced the call.
    pub replaced_calls: u64,
    /// Calls that were made and not counted: there was no room for one more kind of call.
    pub lost_calls: u64,
    /// Tasks that could not be followed.
    pub lost_tasks: u64,
    /// Execs whose program file could not be told apart from others any more.
    pub lost_images: u64,
    /// Errors that were counted as such but not with their errno.
    pub lost_errnos: u64,
    /// Execs of which the path or the script's name was too long.
    pub cut_paths: u64,
    /// Runs of a program that the kernel left out.
    pub missed_events: u64,
}

/// `struct follower`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Follower {
    number: u32,
    image: u32,
}

/// `struct entry`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    entered: u64,
    succeeded: u64,
    denied: u64,
    failed: [u64; 4],
    errno: [u16; 4],
}

/// `struct call`.
#[derive(Clone, Copy)]
#[repr(C)]
struct CallKey {
    image: u32,
    nr: u32,
    compat: u32,
}

/// `struct image`.
#[derive(Clone, Copy)]
#[repr(C)]
struct ImageKey {
    exe: [u8; PATH],
    script: [u8; SCRIPT],
}

/// `struct stats`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Stats {
    started: u64,
    ended: u64,
    execs: u64,
    filtered: u64,
    unpaired: u64,
    lost_tasks: u64,
    lost_images: u64,
    lost_errnos: u64,
    cut_paths: u64,
    next_image: u32,
    next_entry: u32,
    next_task: u32,
    orphans: u32,
}

/// `struct row`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Row {
    entry: [u16; 2 * NUMBERS],
}

// SAFETY: `repr(C)`, integers of one size only.
unsafe impl Pod for Row {}
// SAFETY: `repr(C)`, integers only, no padding: 7 × 8 + 4 × 2 bytes.
unsafe impl Pod for Entry {}
// SAFETY: `repr(C)`, integers only, no padding: 3 × 4 bytes.
unsafe impl Pod for CallKey {}
// SAFETY: `repr(C)`, bytes only.
unsafe impl Pod for ImageKey {}
// SAFETY: `repr(C)`, integers only, no padding: 9 × 8 + 4 × 4 bytes.
unsafe impl Pod for Stats {}

impl Recorder {
    /// Loads the programs and attaches them. Nothing is followed yet, but for [`Follow::Cgroup`].
    ///
    /// # Errors
    /// Where eBPF is not to be had, with the reason.
    pub fn new(follow: Follow<'_>) -> Result<Recorder, EbpfError> {
        if Arch::NATIVE != Some(Arch::X86_64) {
            return Err(EbpfError::Arch);
        }
        let (mut loader, btf) = loader_and_types();
        let btf = btf?;
        let mode: u32 = match follow {
            Follow::Tree => 0,
            Follow::Process => 1,
            Follow::Cgroup(_) => 2,
        };
        let cpus = nr_cpus().map_err(|(_, source)| EbpfError::Account(source))?;
        // A number that does not fit is no number of CPUs.
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let mut ebpf = loader
            .override_global("follow", &mode, true)
            .override_global("cpus", &cpus, true)
            .allow_unsupported_maps()
            .load(OBJECT)
            .map_err(load_error)?;
        if let Follow::Cgroup(path) = follow {
            follow_cgroup(&mut ebpf, path)?;
        }
        for name in PROGRAMS {
            program(&mut ebpf, name)?.load(name, btf).map_err(attach_error(name))?;
        }
        let mut links = BTreeMap::new();
        for name in PROGRAMS {
            let link = program(&mut ebpf, name)?.attach().map_err(attach_error(name))?;
            links.insert(name, link);
        }
        Ok(Recorder { ebpf, links, named: 0, missed_before: 0 })
    }

    /// Follows a task that has not exec'd yet: its calls count from its next exec on, that exec
    /// not included.
    ///
    /// # Errors
    /// If the task is gone.
    pub fn follow_from_exec(&mut self, task: BorrowedFd<'_>) -> Result<(), EbpfError> {
        self.name(task, IMAGE_WAITING)
    }

    /// Follows a task from now on. With [`Follow::Process`] its threads are followed too.
    ///
    /// Returns whether it was not followed already.
    ///
    /// # Errors
    /// If the task is gone.
    pub fn follow(&mut self, task: BorrowedFd<'_>) -> Result<bool, EbpfError> {
        match self.name(task, IMAGE_UNRESOLVED) {
            Err(EbpfError::Follow(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// How many followed tasks there are now.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn live(&self) -> Result<u64, EbpfError> {
        let stats = self.stats()?;
        Ok((self.named + stats.started).saturating_sub(stats.ended))
    }

    /// How many tasks were followed in all.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn followed(&self) -> Result<u64, EbpfError> {
        Ok(self.named.saturating_add(self.stats()?.started))
    }

    /// Stops counting. What was counted can still be read.
    ///
    /// # Errors
    /// If a program cannot be detached.
    pub fn detach(&mut self) -> Result<(), EbpfError> {
        for name in PROGRAMS {
            let program = program(&mut self.ebpf, name)?;
            // Programs are not unloaded: the kernel's account of them is still to be read.
            if let Some(link) = self.links.remove(name) {
                program.detach(link).map_err(attach_error(name))?;
            }
        }
        Ok(())
    }

    /// Forgets what was counted, for a further recording by the same programs, which stay attached:
    /// loading them takes a hundred times as long. Returns whether it could: not while tasks are
    /// followed, and not once [`Recorder::detach`] was called.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn clear(&mut self) -> Result<bool, EbpfError> {
        let stats = self.stats()?;
        if self.links.len() < PROGRAMS.len() || self.live()? > 0 {
            return Ok(false);
        }
        self.missed_before = self.missed()?;
        let cpus = nr_cpus().map_err(|(_, source)| EbpfError::Account(source))?;
        let used = |next: u32, first: u32, room: u32| next.saturating_add(first).min(room);
        for (name, map) in self.ebpf.maps_mut() {
            let error =
                |source| EbpfError::Clear { map: name.to_owned(), source: Box::new(source) };
            match name {
                "entries" => {
                    let used = used(stats.next_entry, ENTRY_FIRST, ENTRIES);
                    let mut map = PerCpuArray::<_, Entry>::try_from(map).map_err(error)?;
                    for index in 0..used {
                        let none = PerCpuValues::try_from(vec![Entry::default(); cpus])
                            .map_err(EbpfError::Account)?;
                        map.set(index, none, 0).map_err(error)?;
                    }
                    Ok(())
                }
                "rows" => Array::try_from(map).and_then(|mut map: Array<_, Row>| {
                    let used = used(stats.next_image, IMAGE_FIRST, IMAGES);
                    let none = Row { entry: [0; 2 * NUMBERS] };
                    (0..used).try_for_each(|index| map.set(index, none, 0))
                }),
                "calls" => clear_hash::<CallKey, u32>(map),
                "errnos" => clear_hash::<u32, u64>(map),
                "images" => clear_hash::<ImageKey, u32>(map),
                "orphans" => clear_hash::<u64, u32>(map),
                "stats" => Array::try_from(map).and_then(|mut map: Array<_, Stats>| {
                    // Numbers that were never used go on from here; those that were are free.
                    map.set(0, Stats { next_task: stats.next_task, ..Stats::default() }, 0)
                }),
                // A task's state begins when it gets its number, and what CPUs remember of it and
                // its storage have ended with it. The rest is never written to, or only read
                // after it was.
                "states" | "numbers" | "last" | "tasks" | "scratch" | "cgroup" | ".rodata" => {
                    Ok(())
                }
                other => unreachable!("nothing says what is to become of the map {other}"),
            }
            .map_err(error)?;
        }
        self.named = 0;
        Ok(true)
    }

    /// What was counted up to now.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn counts(&self) -> Result<Counts, EbpfError> {
        let mut statistics = self.statistics()?;
        let mut images = BTreeMap::new();
        let map = HashMap::<_, ImageKey, u32>::try_from(self.map("images"))
            .map_err(map_error("images"))?;
        for item in map.iter() {
            let (key, image) = item.map_err(map_error("images"))?;
            images.insert(image, Image::from_key(&key));
        }
        images.insert(IMAGE_OTHER, Image { path: Vec::new(), script: None });

        let entries =
            PerCpuArray::<_, Entry>::try_from(self.map("entries")).map_err(map_error("entries"))?;
        let sum = |index: u32| -> Result<Outcomes, EbpfError> {
            let per_cpu = entries.get(&index, 0).map_err(map_error("entries"))?;
            let mut outcomes = Outcomes::default();
            per_cpu.iter().for_each(|entry| outcomes.add(entry));
            Ok(outcomes)
        };
        let lost = sum(ENTRY_NO_ROOM)?;
        statistics.lost_calls = lost.entered + lost.denied;

        let mut errnos: BTreeMap<u32, Vec<(u16, u64)>> = BTreeMap::new();
        let map =
            HashMap::<_, u32, u64>::try_from(self.map("errnos")).map_err(map_error("errnos"))?;
        for item in map.iter() {
            let (key, count) = item.map_err(map_error("errnos"))?;
            let [b0, b1, b2, b3] = key.to_le_bytes();
            let errno = u16::from_le_bytes([b0, b1]);
            errnos.entry(u16::from_le_bytes([b2, b3]).into()).or_default().push((errno, count));
        }

        let mut calls = BTreeMap::new();
        let map =
            HashMap::<_, CallKey, u32>::try_from(self.map("calls")).map_err(map_error("calls"))?;
        for item in map.iter() {
            let (key, index) = item.map_err(map_error("calls"))?;
            let mut outcomes = sum(index)?;
            for &(errno, count) in errnos.get(&index).into_iter().flatten() {
                *outcomes.errnos.entry(errno).or_default() += count;
            }
            calls.insert(Call::from_key(key), outcomes);
        }
        Ok(Counts { images, calls, statistics })
    }

    fn name(&mut self, task: BorrowedFd<'_>, image: u32) -> Result<(), EbpfError> {
        let state = Follower { number: 0, image };
        // The loader has no type for task storage.
        let Map::Unsupported(map) = self.map("tasks") else {
            unreachable!("task storage is no type that the loader knows");
        };
        let map = map.fd().as_fd();
        set_task_storage(map, task, &state).map_err(EbpfError::Follow)?;
        self.named += 1;
        Ok(())
    }

    fn map(&self, name: &'static str) -> &Map {
        match self.ebpf.map(name) {
            Some(map) => map,
            None => unreachable!("the object has the map {name}"),
        }
    }

    fn stats(&self) -> Result<Stats, EbpfError> {
        let map = Array::<_, Stats>::try_from(self.map("stats")).map_err(map_error("stats"))?;
        map.get(&0, 0).map_err(map_error("stats"))
    }

    fn statistics(&self) -> Result<Statistics, EbpfError> {
        let stats = self.stats()?;
        Ok(Statistics {
            tasks: self.named + stats.started,
            execs: stats.execs,
            filtered_tasks: stats.filtered,
            replaced_calls: stats.unpaired,
            lost_calls: 0,
            lost_tasks: stats.lost_tasks,
            lost_images: stats.lost_images,
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

impl Image {
    fn from_key(key: &ImageKey) -> Image {
        let names: Vec<&[u8]> =
            key.exe.split(|&byte| byte == 0).take_while(|name| !name.is_empty()).collect();
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        let script: Vec<u8> = key.script.iter().copied().take_while(|&byte| byte != 0).collect();
        Image { path, script: Some(script).filter(|script| !script.is_empty()) }
    }
}

impl Call {
    fn from_key(key: CallKey) -> Call {
        let arch = match (key.compat != 0, key.nr & Arch::X32_BIT != 0) {
            (true, _) => Arch::I386,
            (false, true) => Arch::X32,
            (false, false) => Arch::X86_64,
        };
        Call { image: key.image, arch, nr: key.nr }
    }
}

impl Outcomes {
    fn add(&mut self, entry: &Entry) {
        self.entered += entry.entered;
        self.succeeded += entry.succeeded;
        self.denied += entry.denied;
        for (errno, count) in entry.errno.into_iter().zip(entry.failed) {
            if errno != 0 {
                *self.errnos.entry(errno).or_default() += count;
            }
        }
    }
}

/// A loader, which reads the kernel's types for itself, and the types for what the loader does not
/// do; both at once, as reading them takes longer than everything else that is done to start.
fn loader_and_types() -> (EbpfLoader<'static>, Result<&'static Btf, EbpfError>) {
    thread::scope(|scope| {
        // It inherits the signal mask: whoever blocks signals has done so.
        let types = thread::Builder::new().spawn_scoped(scope, kernel_types);
        let loader = EbpfLoader::new();
        let types = match types.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(types)) => types,
            // No thread to be had, or one that panicked: here it shows what it comes to.
            _ => kernel_types(),
        };
        (loader, types)
    })
}

/// The kernel's types, read once for all recordings of this process.
fn kernel_types() -> Result<&'static Btf, EbpfError> {
    static TYPES: OnceLock<Btf> = OnceLock::new();
    if let Some(types) = TYPES.get() {
        return Ok(types);
    }
    // Asked for here, as the loader goes on without.
    File::open(BTF).map_err(EbpfError::NoBtf)?;
    let types = Btf::from_sys_fs().map_err(|error| load_error(error.into()))?;
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

fn follow_cgroup(ebpf: &mut aya::Ebpf, path: &Path) -> Result<(), EbpfError> {
    let error = |source| EbpfError::Cgroup { path: path.to_path_buf(), source };
    let directory = File::open(path).map_err(error)?;
    let Some(map) = ebpf.map_mut("cgroup") else {
        unreachable!("the object has the map cgroup");
    };
    let mut map = CgroupArray::try_from(map).map_err(map_error("cgroup"))?;
    map.set(0, directory, 0).map_err(|source| match source {
        MapError::SyscallError(source) => error(source.io_error),
        other => map_error("cgroup")(other),
    })
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

fn clear_hash<K: Pod, V: Pod>(map: &mut Map) -> Result<(), MapError> {
    let mut map = HashMap::<_, K, V>::try_from(map)?;
    let keys = map.keys().collect::<Result<Vec<K>, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key))
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
    use super::*;

    #[test]
    fn paths_are_put_together_from_the_root() {
        let mut key = ImageKey { exe: [0; PATH], script: [0; SCRIPT] };
        key.exe[..11].copy_from_slice(b"dash\0bin\0us");
        key.exe[11] = b'r';
        let image = Image::from_key(&key);
        assert_eq!(image, Image { path: b"/usr/bin/dash".to_vec(), script: None });
        key.script[..4].copy_from_slice(b"./\xff\n");
        assert_eq!(Image::from_key(&key).script, Some(b"./\xff\n".to_vec()));
    }

    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<Follower>(), 8);
        assert_eq!(size_of::<Entry>(), 64);
        assert_eq!(size_of::<CallKey>(), 12);
        assert_eq!(size_of::<ImageKey>(), PATH + SCRIPT);
        assert_eq!(size_of::<Stats>(), 88);
    }
}
