//! What `bpf/layout.h` and the recorder share: sizes, special values and the layouts of maps.

use aya::Pod;
use strait_abi::{Arch, Syscall, Width};

pub(super) const PATH: usize = 4096;
pub(super) const SCRIPT: usize = 1024;
pub(super) const IMAGE_UNRESOLVED: u32 = 0;
pub(super) const IMAGE_OTHER: u32 = 1;
pub(super) const IMAGE_WAITING: u32 = u32::MAX;
pub(super) const ROW_OTHER: u32 = 1;
pub(super) const ROW_OTHER_COMPAT: u32 = 2;
pub(super) const ROW_FIRST: u32 = 3;
pub(super) const ROWS: u32 = 2048;
pub(super) const ENTRY_NO_ROOM: u32 = 0;
pub(super) const ENTRY_FIRST: u32 = 2;
pub(super) const ENTRIES: u32 = 16384;
pub(super) const CELLS: u32 = 4096;
pub(super) const INDEX: u32 = 0x3fff;
pub(super) const WORKLOADS: usize = 64;
pub(super) const TASKS: u32 = 32768;
pub(super) const OPERATIONS: u32 = 128;
/// How many entries a value of the map of entries has.
pub(super) const BLOCK: u32 = 64;
pub(super) const LINEAGE_WORKLOAD: u8 = 0;
pub(super) const LINEAGE_FILTERED: u8 = 1;
pub(super) const LINEAGE_OUTSIDE: u8 = 4;
pub(super) const PHASE_START_UP: u8 = 0;
pub(super) const PHASE_STEADY: u8 = 1;
pub(super) const ROW_EXECED: u32 = 1;
const KNOWN_NUMBERS: usize = 640;
const NUMBERS: usize = 512;
const VALUES: usize = 64;
const MARK_OVERFLOW: u64 = 1;
const MARK_ALL_ONES: u64 = 2;
const KIND_READY: u8 = 1;
const KIND_FILTER: u8 = 2;

/// How much further the recorder takes `epoch`, beyond what programs can count meanwhile.
pub(super) const EPOCH_STEP: u32 = 1 << 16;

/// `struct follower`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Follower {
    pub(super) number: u32,
    pub(super) image: u32,
    pub(super) workload: u16,
    pub(super) root: u8,
    pub(super) lost: u8,
}

/// `struct entry`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) entered: u64,
    pub(super) succeeded: u64,
    pub(super) denied: u64,
    pub(super) last_tick: u64,
    pub(super) failed: [u64; 3],
    pub(super) errno: [u16; 3],
    pub(super) unused: u16,
}

impl Entry {
    /// Nothing was counted in it.
    const NONE: Entry = Entry {
        entered: 0,
        succeeded: 0,
        denied: 0,
        last_tick: 0,
        failed: [0; 3],
        errno: [0; 3],
        unused: 0,
    };
}

/// `struct block`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Block {
    entry: [Entry; 64],
}

impl Block {
    /// Nothing was counted in it.
    pub(super) const NONE: Block = Block { entry: [Entry::NONE; 64] };

    /// The entry with this index of all, if it is in this block.
    pub(super) fn entry(&self, index: u32) -> &Entry {
        let place = usize::try_from(index % BLOCK).unwrap_or(usize::MAX);
        &self.entry[place]
    }
}

/// `struct interest`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Interest {
    pub(super) which: u8,
    pub(super) wide: u8,
    pub(super) half: u8,
    pub(super) kind: u8,
}

/// `struct about`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct About {
    pub(super) first: u64,
    pub(super) first_tick: u64,
    pub(super) cell: u32,
    pub(super) interest: Interest,
    masks: [u64; 6],
}

/// `struct cell`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Cell {
    value: [u64; VALUES],
    marks: u64,
}

/// `struct row`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Row {
    entry: [u16; NUMBERS],
}

impl Row {
    /// Nothing is remembered in it.
    pub(super) const NONE: Row = Row { entry: [0; NUMBERS] };
}

/// `struct row_key`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct RowKey {
    pub(super) image: u32,
    pub(super) workload: u16,
    pub(super) lineage: u8,
    pub(super) phase: u8,
    pub(super) compat: u32,
}

/// `struct workload`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct WorkloadState {
    pub(super) since: u64,
    pub(super) phase: [u32; 2],
    pub(super) tasks: u32,
    pub(super) unused: u32,
}

/// `struct call`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct CallKey {
    pub(super) row: u32,
    pub(super) nr: u32,
}

/// `struct namespaces`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct NamespaceIds {
    pub(super) pid: u32,
    pub(super) mnt: u32,
    pub(super) net: u32,
}

/// `struct image`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct ImageKey {
    pub(super) exe: [u8; PATH],
    pub(super) script: [u8; SCRIPT],
}

/// `struct program_file`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct ProgramFile {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) number: u32,
    pub(super) process: i32,
}

/// `struct tally`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Tally {
    pub(super) ended: u64,
    pub(super) started: u64,
    pub(super) ended_at: u64,
    pub(super) execs: u64,
    pub(super) filtered: u64,
    pub(super) unpaired: u64,
}

/// `struct stats`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Stats {
    pub(super) lost_tasks: u64,
    pub(super) lost_images: u64,
    pub(super) lost_rows: u64,
    pub(super) lost_errnos: u64,
    pub(super) cut_paths: u64,
    pub(super) operations: u64,
    pub(super) next_image: u32,
    pub(super) next_row: u32,
    pub(super) next_entry: u32,
    pub(super) next_cell: u32,
    pub(super) next_task: u32,
    pub(super) orphans: u32,
}

// SAFETY: `repr(C)`, integers only, no padding: 7 × 8 + 4 × 2 bytes.
unsafe impl Pod for Entry {}
// SAFETY: `repr(C)`, an array of `Entry`, which is Pod.
unsafe impl Pod for Block {}
// SAFETY: `repr(C)`, bytes only.
unsafe impl Pod for Interest {}
// SAFETY: `repr(C)`, integers only, no padding: 2 × 8 + 4 + 4 × 1 + 6 × 8 bytes.
unsafe impl Pod for About {}
// SAFETY: `repr(C)`, integers only, no padding: 65 × 8 bytes.
unsafe impl Pod for Cell {}
// SAFETY: `repr(C)`, integers of one size only.
unsafe impl Pod for Row {}
// SAFETY: `repr(C)`, integers only, no padding: 4 + 2 + 2 × 1 + 4 bytes.
unsafe impl Pod for RowKey {}
// SAFETY: `repr(C)`, integers only, no padding: 8 + 4 × 4 bytes.
unsafe impl Pod for WorkloadState {}
// SAFETY: `repr(C)`, integers only, no padding: 2 × 4 bytes.
unsafe impl Pod for CallKey {}
// SAFETY: `repr(C)`, integers only, no padding: 3 × 4 bytes.
unsafe impl Pod for NamespaceIds {}
// SAFETY: `repr(C)`, bytes only.
unsafe impl Pod for ImageKey {}
// SAFETY: `repr(C)`, integers only, no padding: 2 × 8 + 2 × 4 bytes.
unsafe impl Pod for ProgramFile {}
// SAFETY: `repr(C)`, integers of one size only.
unsafe impl Pod for Tally {}
// SAFETY: `repr(C)`, integers only, no padding: 6 × 8 + 6 × 4 bytes.
unsafe impl Pod for Stats {}

impl Cell {
    /// No value.
    pub(super) const NONE: Cell = Cell { value: [0; VALUES], marks: 0 };

    /// The values in it, and whether there were others.
    pub(super) fn values(&self) -> (Vec<u64>, bool) {
        let mut values: Vec<u64> =
            self.value.iter().filter(|&&value| value != 0).map(|value| !value).collect();
        if self.marks & MARK_ALL_ONES != 0 {
            values.push(u64::MAX);
        }
        (values, self.marks & MARK_OVERFLOW != 0)
    }
}

/// What the programs are told of every call: its arguments of interest, and whether a workload that
/// makes it is ready.
pub(super) fn interests(ready: &[Syscall]) -> [Interest; 3 * KNOWN_NUMBERS] {
    let mut interests = [Interest::default(); 3 * KNOWN_NUMBERS];
    for (table, arch) in [Arch::X86_64, Arch::I386, Arch::X32].into_iter().enumerate() {
        for call in Syscall::all() {
            let number = call.number(arch).map(|nr| nr & !Arch::X32_BIT);
            let number = number.and_then(|nr| usize::try_from(nr).ok());
            let Some(nr) = number.filter(|&nr| nr < KNOWN_NUMBERS) else { continue };
            let interest = &mut interests[table * KNOWN_NUMBERS + nr];
            for (place, arg) in call.args_of_interest(arch) {
                interest.which |= 1 << place;
                match arg.width(arch) {
                    Width::Bits64 => interest.wide |= 1 << place,
                    Width::Bits16 => interest.half |= 1 << place,
                    Width::Bits32 => {}
                }
            }
            if ready.contains(&call) {
                interest.kind |= KIND_READY;
            }
            if ["seccomp", "prctl"].contains(&call.name()) {
                interest.kind |= KIND_FILTER;
            }
        }
    }
    interests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<Follower>(), 12);
        assert_eq!(size_of::<Entry>(), 64);
        assert_eq!(size_of::<Block>(), 64 * usize::try_from(BLOCK).unwrap());
        assert_eq!(size_of::<About>(), 72);
        assert_eq!(size_of::<Cell>(), 520);
        assert_eq!(size_of::<RowKey>(), 12);
        assert_eq!(size_of::<WorkloadState>(), 24);
        assert_eq!(size_of::<CallKey>(), 8);
        assert_eq!(size_of::<ImageKey>(), PATH + SCRIPT);
        assert_eq!(size_of::<ProgramFile>(), 24);
        assert_eq!(size_of::<Tally>(), 48);
        assert_eq!(size_of::<Stats>(), 72);
    }

    #[test]
    fn interests_are_those_of_the_tables() {
        let listen = Syscall::from_name("listen").unwrap();
        let interests = interests(&[listen]);
        let of = |name: &str, arch: Arch, table: usize| {
            let nr = Syscall::from_name(name).unwrap().number(arch).unwrap() & !Arch::X32_BIT;
            interests[table * KNOWN_NUMBERS + usize::try_from(nr).unwrap()]
        };
        assert_eq!(of("socket", Arch::X86_64, 0).which, 0b111);
        assert_eq!(of("mmap", Arch::X86_64, 0).wide, 0b1100);
        assert_eq!(of("ioctl", Arch::I386, 1).which, 0b10);
        assert_eq!(of("ioctl", Arch::X32, 2).which, 0b10);
        assert_eq!(of("listen", Arch::I386, 1).kind, KIND_READY);
        assert_eq!(of("seccomp", Arch::X86_64, 0).kind, KIND_FILTER);
        assert_eq!(of("getppid", Arch::X86_64, 0).which, 0);
    }
}
