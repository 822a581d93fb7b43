// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What the recorder keeps, and how: sizes, special values and layouts. Those marked "shared" are mirrored
// in src/ebpf/layout.rs.

#pragma once

#include "kernel.h"

// What is followed (shared): set before the programs are loaded, so that the verifier removes what
// does not apply. Tasks that are named to the recorder and what they start are followed always.
const volatile u32 adopt_threads = 0;   // so are the threads of a process that is
const volatile u32 cgroup_count = 0;    // and who calls in one of these cgroups: workload by index
const volatile u32 namespace_count = 0; // or in one of these sets of namespaces
const volatile u32 cpus = 1;
// How many tasks there can be at once, and one.
const volatile u32 task_room = 32768;

// Sizes (shared). ENTRIES is at most 16384: cached entries have 14 bits.
enum {
	WORKLOADS = 64,
	IMAGES = 1024,
	ROWS = 2048,
	NUMBERS = 512,
	ENTRIES = 16384,
	CELLS = 4096,
	VALUES = 64,
	PATH = 4096,
	SCRIPT = 1024,
	TASKS = 32768,
	OPERATIONS = 128,
	ARGUMENTS = 6,
};

// The namespaces of a workload, by inode number; 0: any (shared). Until they are known they are ones
// that nobody is in.
struct namespaces {
	u32 pid;
	u32 mnt;
	u32 net;
};

// What is to be known of a call's arguments, by number (shared). A bit for each argument.
struct interest {
	u8 which; // is of interest
	u8 wide;  // has 64 bits that count; others have 32
	u8 half;  // has 16
	u8 kind;
};
// Which table, after what an x32 number is without its bit.
enum { NATIVE = 0, COMPAT = 1, X32 = 2, KNOWN_NUMBERS = 640 };
const volatile struct interest interests[3 * KNOWN_NUMBERS] = {};
#define X32_BIT 0x40000000u

// What else a call can be (shared).
enum {
	KIND_READY = 1,	 // a workload that makes it has started
	KIND_FILTER = 2, // may load a filter
};

// In what a cached entry is besides its index.
enum { HAS_ARGUMENTS = 0x8000, IS_SPECIAL = 0x4000, INDEX = 0x3fff };

// Where a task comes from (shared).
enum {
	LINEAGE_WORKLOAD = 0, // followed from the start or a descendant
	LINEAGE_FILTERED = 1, // that has loaded a filter and not exec'd since
	LINEAGE_INNER = 2,    // that has exec'd since, or a descendant
	LINEAGE_OUTSIDE = 4,  // added to one of these: it has come in from outside
};

// The phases of a workload (shared).
enum { PHASE_START_UP = 0, PHASE_STEADY = 1, PHASE_SHUTDOWN = 2 };

// The image of a task (shared): a row, or one of these.
enum {
	IMAGE_UNRESOLVED = 0, // followed from now on, image not asked for yet
	IMAGE_OTHER = 1,      // every image for which there was no room
	IMAGE_FIRST = 2,
	IMAGE_WAITING = 0xffffffff, // its calls do not count until it has exec'd
};

// Entries with a meaning of their own (shared).
enum {
	ENTRY_NO_ROOM = 0, // calls for which there was no entry
	ENTRY_IGNORED = 1, // the second return of fork, the return of the exec that began it all
	ENTRY_FIRST = 2,
};

// What a task is to begin with (shared): named by the recorder, it has no number yet.
struct follower {
	u32 number; // 0: none yet
	u32 image;
	u16 workload;
	u8 root; // what `task.root` is to be
	u8 lost; // that there was no number for it is counted
};

struct task {
	u32 epoch; // in which its rows were found out; 0: they have to be
	u32 row[2]; // native, compat; 0: not found out yet
	u32 image;
	u32 filters; // how many it had before its lineage changes
	u16 entry; // of the call that it is in, as it is cached
	u8 in_call;
	u8 dead; // its death by a filter is counted
	u8 lineage;
	u8 root; // a signal that ends it ends the workload
	u16 workload;
};

// The task that called last on a CPU.
struct last {
	u64 regs; // where its registers are, on its kernel stack; 0: nobody's
	struct task_struct KEPT *task;
	u32 number;
};

// Shared. One cache line.
enum { ERRNOS = 3 };
struct entry {
	u64 entered;
	u64 succeeded;
	u64 denied;
	u64 last; // jiffies
	u64 failed[ERRNOS];
	u16 errno[ERRNOS]; // 0: not taken
};

// Shared. A value of the map of entries: the kernel allots each by itself on every CPU, which takes
// it as long for one entry as for many.
enum { BLOCK = 64 };
struct block {
	struct entry entry[BLOCK];
};

// Shared. What all CPUs know of an entry.
struct about {
	u64 first;	// monotonic nanoseconds
	u64 first_tick; // jiffies
	u32 cell;	// of the first argument of interest, others follow; 0: there was no room
	struct interest interest;
	u64 mask[ARGUMENTS]; // the bits that the kernel looks at; 0: not of interest
};

// Shared. The values of an argument, each inverted, so that an empty place is 0; the one value that
// cannot be told from one has a mark.
struct cell {
	u64 value[VALUES];
	u64 marks;
};
enum { MARK_OVERFLOW = 1, MARK_ALL_ONES = 2 };

// Shared.
struct row_key {
	u32 image;
	u16 workload;
	u8 lineage;
	u8 phase;
	u32 compat;
};

// Shared. What is in `row_keys`.
enum { ROW_EXECED = 1 }; // a task of it has exec'd

// Shared. By lineage: outer and inner.
struct workload {
	u64 since; // monotonic nanoseconds; who has started later is new
	u32 phase[2];
	u32 tasks;
	u32 unused;
};

// Shared.
struct call {
	u32 row;
	u32 nr;
};

// Shared. A program file that was run.
struct program_file {
	u64 inode;
	u64 size;
	u32 number;
	u32 process; // one that ran it
};

// Shared. `exe` holds the components of a path from the file to the root, each ended by NUL.
struct image {
	char exe[PATH];
	char script[SCRIPT];
};

// Shared. What is counted of a workload besides its calls. It is read from its begin to its end, so
// that of the tasks that come and go meanwhile none is taken for ended that was not taken for started.
struct tally {
	u64 ended;
	u64 started; // tasks followed from fork or adoption on
	u64 ended_at; // monotonic nanoseconds: when a followed task ended last
	u64 execs;
	u64 filtered; // tasks that ended with a filter on them
	u64 unpaired; // returns without a call, and no filter
};

// Shared. What is counted of all workloads together.
struct stats {
	u64 lost_tasks;
	u64 lost_images;
	u64 lost_rows;
	u64 lost_errnos;
	u64 cut_paths;
	u64 operations; // of io_uring
	u32 next_image;
	u32 next_row;
	u32 next_entry;
	u32 next_cell;
	u32 next_task;
	u32 orphans;
};
