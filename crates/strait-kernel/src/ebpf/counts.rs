//! What was counted: the types, which other engines fill too, and reading them from the maps.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues};
use rustix::time::{ClockId, clock_getres, clock_gettime};
use strait_abi::Arch;

use super::layout::{
    About, BLOCK, Block, CallKey, Cell, ENTRY_NO_ROOM, Entry, IMAGE_OTHER, INDEX, ImageKey,
    LINEAGE_FILTERED, LINEAGE_OUTSIDE, LINEAGE_WORKLOAD, OPERATIONS, PHASE_START_UP, PHASE_STEADY,
    ProgramFile, ROW_EXECED, ROW_OTHER, ROW_OTHER_COMPAT, RowKey,
};
use super::{EbpfError, Recorder, Workload, map_error};

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The program files, by the number that calls name them by.
    pub images: BTreeMap<u32, Image>,
    /// What tells whether a file at a program's path is the one that was run, by the same number;
    /// where that is known.
    pub files: BTreeMap<u32, FileId>,
    /// Calls.
    pub calls: BTreeMap<Call, Outcomes>,
    /// How often io_uring was asked for each operation, by opcode (`IORING_OP_…`).
    pub io_uring: BTreeMap<u8, u64>,
    /// How long was observed, from the first call on, in microseconds; where that is known.
    pub time_us: Option<u64>,
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

/// What tells a file from others at the same path. Device numbers do not: what stat(2) says of a
/// file on overlayfs or btrfs is not what the kernel has in its super block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The inode number.
    pub inode: u64,
    /// The size in bytes.
    pub size: u64,
    /// A process that ran it, in whose root directory its path is.
    pub process: i32,
}

/// When in the life of a workload a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before a runtime loaded the filter under which it executed the workload.
    BeforeFilter,
    /// From then until that exec.
    Runtime,
    /// From the exec until the workload is ready.
    StartUp,
    /// From then on.
    Steady,
    /// From the first signal on that tells it to end.
    Shutdown,
    /// By a process that has entered the workload from outside.
    Outside,
}

/// One system call of one program file, in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The program file: a key of [`Counts::images`].
    pub image: u32,
    /// When in the workload's life; `None` where that is not told apart.
    pub phase: Option<Phase>,
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
    /// When it was first and last made, in microseconds from the first call of all on.
    pub times_us: Option<(u64, u64)>,
    /// The values of its arguments of interest, by the argument's place.
    pub arguments: BTreeMap<usize, Values>,
}

/// The values of an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Those that were kept, with only the bits that the kernel looks at.
    pub values: BTreeSet<u64>,
    /// There were others.
    pub overflow: bool,
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
    /// Changes of program file or phase that could not be told apart from others any more.
    pub lost_rows: u64,
    /// Errors that were counted as such but not with their errno.
    pub lost_errnos: u64,
    /// Execs of which the path or the script's name was too long.
    pub cut_paths: u64,
    /// Runs of a program that the kernel left out.
    pub missed_events: u64,
}

/// Nanoseconds of the monotonic clock.
pub(super) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds of a tick: the coarse clocks go by ticks.
fn tick_ns() -> u64 {
    nanoseconds(clock_getres(ClockId::MonotonicCoarse))
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Recorder {
    /// What was counted of a workload up to now. What was lost is that of all workloads: they share
    /// the tables, and nobody knows any more whose it was.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn counts(&self, workload: Workload) -> Result<Counts, EbpfError> {
        let now = monotonic_ns();
        let mut counts = Counts { statistics: self.statistics(workload)?, ..Counts::default() };
        self.read_images(&mut counts)?;
        let rows = self.rows(workload)?;
        let mut entries = self.entries()?;
        let abouts =
            Array::<_, About>::try_from(self.map("abouts")).map_err(map_error("abouts"))?;
        let mut errnos = self.errnos()?;

        let mut lost = Outcomes::default();
        entries.get(ENTRY_NO_ROOM)?.iter().for_each(|entry| lost.add(entry));
        counts.statistics.lost_calls = lost.entered + lost.denied;

        let tick = tick_ns();
        let mut times = BTreeMap::new();
        let map =
            HashMap::<_, CallKey, u32>::try_from(self.map("calls")).map_err(map_error("calls"))?;
        for item in map.iter() {
            let (key, cached) = item.map_err(map_error("calls"))?;
            let Some(row) = rows.get(&key.row) else { continue };
            let index = cached & INDEX;
            let call = row.call(key.nr);
            let per_cpu = entries.get(index)?;
            let about = abouts.get(&index, 0).map_err(map_error("abouts"))?;
            let outcomes = counts.calls.entry(call).or_default();
            per_cpu.iter().for_each(|entry| outcomes.add(entry));
            for (errno, count) in errnos.remove(&index).unwrap_or_default() {
                *outcomes.errnos.entry(errno).or_default() += count;
            }
            self.read_arguments(&about, outcomes)?;
            let last_tick = per_cpu.iter().map(|entry| entry.last_tick).max().unwrap_or(0);
            let ticks = last_tick.saturating_sub(about.first_tick);
            let seen = (about.first, about.first.saturating_add(ticks.saturating_mul(tick)));
            times
                .entry(call)
                .and_modify(|(first, last): &mut (u64, u64)| {
                    *first = seen.0.min(*first);
                    *last = seen.1.max(*last);
                })
                .or_insert(seen);
        }
        let began = times.values().map(|&(first, _)| first).min().unwrap_or(now);
        let us = |time: u64| time.saturating_sub(began) / 1000;
        // The last of them has ended, and only then is it over.
        let end =
            if self.live(workload)? == 0 { self.tally(workload)?.ended_at.max(began) } else { now };
        counts.time_us = Some(us(end));
        for (call, (first, last)) in times {
            // A tick may be counted before it is over.
            let times = (us(first), us(last.min(end)).max(us(first)));
            counts.calls.entry(call).or_default().times_us = Some(times);
        }
        self.read_operations(workload, &mut counts)?;
        Ok(counts)
    }

    fn entries(&self) -> Result<Entries<'_>, EbpfError> {
        let map =
            PerCpuArray::<_, Block>::try_from(self.map("entries")).map_err(map_error("entries"))?;
        Ok(Entries { map, read: BTreeMap::new() })
    }

    fn read_images(&self, counts: &mut Counts) -> Result<(), EbpfError> {
        let map = HashMap::<_, ImageKey, ProgramFile>::try_from(self.map("images"))
            .map_err(map_error("images"))?;
        for item in map.iter() {
            let (key, file) = item.map_err(map_error("images"))?;
            counts.images.insert(file.number, Image::from_key(&key));
            let id = FileId { inode: file.inode, size: file.size, process: file.process };
            counts.files.insert(file.number, id);
        }
        counts.images.insert(IMAGE_OTHER, Image { path: Vec::new(), script: None });
        Ok(())
    }

    fn errnos(&self) -> Result<BTreeMap<u32, Vec<(u16, u64)>>, EbpfError> {
        let mut errnos: BTreeMap<u32, Vec<(u16, u64)>> = BTreeMap::new();
        let map =
            HashMap::<_, u32, u64>::try_from(self.map("errnos")).map_err(map_error("errnos"))?;
        for item in map.iter() {
            let (key, count) = item.map_err(map_error("errnos"))?;
            let [b0, b1, b2, b3] = key.to_le_bytes();
            let errno = u16::from_le_bytes([b0, b1]);
            errnos.entry(u16::from_le_bytes([b2, b3]).into()).or_default().push((errno, count));
        }
        Ok(errnos)
    }

    /// The rows of a workload, by number.
    fn rows(&self, workload: Workload) -> Result<BTreeMap<u32, Row>, EbpfError> {
        let map = HashMap::<_, RowKey, u32>::try_from(self.map("row_keys"))
            .map_err(map_error("row_keys"))?;
        let mut keys = BTreeMap::new();
        for item in map.iter() {
            let (key, number) = item.map_err(map_error("row_keys"))?;
            if key.workload == workload.0 {
                keys.insert(number, key);
            }
        }
        let marks =
            Array::<_, u32>::try_from(self.map("row_marks")).map_err(map_error("row_marks"))?;
        let mut execed = BTreeSet::new();
        for &number in keys.keys() {
            if marks.get(&number, 0).map_err(map_error("row_marks"))? & ROW_EXECED != 0 {
                execed.insert(number);
            }
        }
        let exec_under_filter =
            execed.iter().any(|number| keys[number].lineage == LINEAGE_FILTERED);
        // Programs that have come in from outside to run another.
        let entering: BTreeSet<u32> = execed
            .iter()
            .filter(|number| keys[number].lineage & LINEAGE_OUTSIDE != 0)
            .map(|number| keys[number].image)
            .collect();
        let row = |(&number, key): (&u32, &RowKey)| {
            let life = match key.phase {
                PHASE_START_UP => Phase::StartUp,
                PHASE_STEADY => Phase::Steady,
                _ => Phase::Shutdown,
            };
            let phase = match (key.lineage & !LINEAGE_OUTSIDE, key.lineage & LINEAGE_OUTSIDE) {
                (LINEAGE_WORKLOAD, 0) if exec_under_filter => Phase::BeforeFilter,
                (LINEAGE_FILTERED, 0) if execed.contains(&number) => Phase::Runtime,
                (_, 0) => life,
                (LINEAGE_WORKLOAD, LINEAGE_OUTSIDE) if entering.contains(&key.image) => {
                    Phase::BeforeFilter
                }
                _ => Phase::Outside,
            };
            (number, Row { image: key.image, phase: Some(phase), compat: key.compat != 0 })
        };
        let mut rows: BTreeMap<u32, Row> = keys.iter().map(row).collect();
        // What could not be told apart any more: it is nobody's if there are several.
        if self.workloads.len() == 1 {
            for (number, compat) in [(ROW_OTHER, false), (ROW_OTHER_COMPAT, true)] {
                rows.insert(number, Row { image: IMAGE_OTHER, phase: None, compat });
            }
        }
        Ok(rows)
    }

    /// Adds the values that an entry's cells have.
    fn read_arguments(&self, about: &About, outcomes: &mut Outcomes) -> Result<(), EbpfError> {
        let cells = Array::<_, Cell>::try_from(self.map("cells")).map_err(map_error("cells"))?;
        let places = (0..6).filter(|place| about.interest.which >> place & 1 == 1);
        for (place, cell) in places.zip(about.cell..) {
            let values = outcomes.arguments.entry(place).or_default();
            if about.cell == 0 {
                values.overflow = true;
                continue;
            }
            let cell = cells.get(&cell, 0).map_err(map_error("cells"))?;
            let (seen, overflow) = cell.values();
            values.values.extend(seen);
            values.overflow |= overflow;
        }
        Ok(())
    }

    fn read_operations(&self, workload: Workload, counts: &mut Counts) -> Result<(), EbpfError> {
        if self.stats()?.operations == 0 {
            return Ok(());
        }
        let operations =
            Array::<_, u64>::try_from(self.map("operations")).map_err(map_error("operations"))?;
        for (operation, index) in (0_u8..).zip(0..OPERATIONS) {
            let index = u32::from(workload.0) * OPERATIONS + index;
            let count = operations.get(&index, 0).map_err(map_error("operations"))?;
            if count > 0 {
                counts.io_uring.insert(operation, count);
            }
        }
        Ok(())
    }
}

/// The entries, of which a block is read once.
struct Entries<'a> {
    map: PerCpuArray<&'a MapData, Block>,
    read: BTreeMap<u32, PerCpuValues<Block>>,
}

impl Entries<'_> {
    /// What each CPU has counted in an entry.
    fn get(&mut self, index: u32) -> Result<Vec<&Entry>, EbpfError> {
        let number = index / BLOCK;
        let block = match self.read.entry(number) {
            btree_map::Entry::Occupied(block) => block.into_mut(),
            btree_map::Entry::Vacant(place) => {
                place.insert(self.map.get(&number, 0).map_err(map_error("entries"))?)
            }
        };
        Ok(block.iter().map(|block| block.entry(index)).collect())
    }
}

/// What the calls of a row have in common.
struct Row {
    image: u32,
    phase: Option<Phase>,
    compat: bool,
}

impl Row {
    fn call(&self, nr: u32) -> Call {
        let arch = match (self.compat, nr & Arch::X32_BIT != 0) {
            (true, _) => Arch::I386,
            (false, true) => Arch::X32,
            (false, false) => Arch::X86_64,
        };
        Call { image: self.image, phase: self.phase, arch, nr }
    }
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

#[cfg(test)]
mod tests {
    use super::super::layout::{PATH, SCRIPT};
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
}
