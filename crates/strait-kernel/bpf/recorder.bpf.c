// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The recorder: counts every system call of the tasks that it follows, in maps and nowhere else.
//
// Each followed task has a number in task storage, and a `struct task` at that number in `states`.
// What it does is counted in a row: one per (workload, lineage, phase, program file, ABI). A call is
// counted in an entry, one per (row, number), which is per CPU, so that counting takes no atomic
// operation: a program on a tracepoint cannot be preempted. Entries are handed out at a call's first
// use; `calls` says which is whose, and `rows` is no more than a fast way to ask that for ordinary
// numbers. The values of arguments are in cells, small hash tables that all CPUs share: they are
// written once for each value and only read from then on.
//
// What a call costs is helper calls, about 15 ns each where returns are mitigated; counting is 2.
// So each CPU remembers the number of the task that called last, by the place of its registers,
// which is on its kernel stack and so its own. Arrays are looked up without a helper call.
//
// A task's row changes with its workload's phase, its filters and its exec. Whatever changes one of
// these for other tasks too counts `epoch` up; a task whose own is behind looks again.
//
// Built by `cargo xtask ebpf`. The layouts marked "shared" are mirrored in src/ebpf.rs.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
// A function that the verifier looks at once and by itself, whatever it is called with.
#define APART __attribute__((noinline))
#define RELOCATED __attribute__((preserve_access_index))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) value *name
#define ADD(counter, n) __sync_fetch_and_add(&(counter), (n))

// Kernel structures: only the members that are read, found by name in the running kernel's BTF.

struct pt_regs {
	unsigned long bp, bx, r10, r9, r8, cx, dx, si, di, orig_ax;
} RELOCATED;

struct thread_info {
	u32 status;
} RELOCATED;

typedef struct {
	int counter;
} RELOCATED atomic_t;

struct seccomp {
	int mode;
	atomic_t filter_count;
} RELOCATED;

struct ns_common {
	unsigned int inum;
} RELOCATED;

struct pid_namespace {
	struct ns_common ns;
} RELOCATED;

struct mnt_namespace {
	struct ns_common ns;
} RELOCATED;

struct net {
	struct ns_common ns;
} RELOCATED;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
} RELOCATED;

struct upid {
	int nr;
	struct pid_namespace *ns;
} RELOCATED;

struct pid {
	unsigned int level;
	struct upid numbers[];
} RELOCATED;

struct sigaction {
	void *sa_handler;
} RELOCATED;

struct k_sigaction {
	struct sigaction sa;
} RELOCATED;

struct io_kiocb {
	u8 opcode;
} RELOCATED;

struct inode {
	unsigned long i_ino;
	s64 i_size;
} RELOCATED;

struct qstr {
	const unsigned char *name;
} RELOCATED;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
} RELOCATED;

struct vfsmount {
	struct dentry *mnt_root;
} RELOCATED;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} RELOCATED;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} RELOCATED;

struct file {
	struct path f_path;
	struct inode *f_inode;
} RELOCATED;

struct fs_struct {
	struct path root;
} RELOCATED;

struct mm_struct {
	struct file *exe_file;
} RELOCATED;

struct task_struct {
	struct thread_info thread_info;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct seccomp seccomp;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	int tgid;
	u64 start_time;
} RELOCATED;

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
} RELOCATED;

// Constants of the kernel: arch/x86/include/asm/thread_info.h, linux/seccomp.h, uapi/linux/bpf.h.
enum {
	TS_COMPAT = 2,
	SECCOMP_MODE_DEAD = 3,
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
	BPF_MAP_TYPE_STACK = 23,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};
#define MAX_ERRNO 4095

// Helper functions by their number (uapi/linux/bpf.h).
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
					 u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static long (*const bpf_current_task_under_cgroup)(void *map, u32 index) = (void *)37;
static u64 (*const bpf_jiffies64)(void) = (void *)118;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_map_push_elem)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static void *(*const bpf_task_storage_get)(void *map, struct task_struct *task, void *value,
					   u64 flags) = (void *)156;
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;
static struct pt_regs *(*const bpf_task_pt_regs)(struct task_struct *task) = (void *)175;
static long (*const bpf_loop)(u32 count, void *each, void *context, u64 flags) = (void *)181;
static void *(*const bpf_map_lookup_percpu_elem)(void *map, const void *key,
						 u32 cpu) = (void *)195;

// What is followed (shared): set before the programs are loaded, so that the verifier removes what
// does not apply. Tasks that are named to the recorder and what they start are followed always.
const volatile u32 adopt_threads = 0;   // so are the threads of a process that is
const volatile u32 cgroup_count = 0;    // and who calls in one of these cgroups: workload by index
const volatile u32 namespace_count = 0; // or in one of these sets of namespaces
const volatile u64 attached_at = 0;     // monotonic nanoseconds; who has started later is new
const volatile u32 cpus = 1;

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

// The namespaces of a workload, by inode number; 0: any (shared).
struct namespaces {
	u32 pid;
	u32 mnt;
	u32 net;
};
const volatile struct namespaces namespaces[WORKLOADS] = {};

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
	u32 workload;
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
	u64 regs;
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
	u32 phase[2];
	u32 tasks;
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

// Shared.
struct stats {
	u64 started; // tasks followed from fork or adoption on
	u64 ended;
	u64 execs;
	u64 filtered; // tasks that ended with a filter on them
	u64 unpaired; // returns without a call, and no filter
	u64 lost_tasks;
	u64 lost_images;
	u64 lost_rows;
	u64 lost_errnos;
	u64 cut_paths;
	u64 ended_at; // monotonic nanoseconds: when a followed task ended last
	u64 operations; // of io_uring, of all workloads
	u32 next_image;
	u32 next_row;
	u32 next_entry;
	u32 next_cell;
	u32 next_task;
	u32 orphans;
};

struct {
	UINT(type, BPF_MAP_TYPE_TASK_STORAGE);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, int);
	TYPE(value, struct follower);
} tasks SEC(".maps");

// Followed tasks for which task storage could not be had at fork, by the address of the task: the
// kernel refuses while another task's storage is being freed on the same CPU.
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 1024);
	TYPE(key, u64);
	TYPE(value, u32);
} orphans SEC(".maps");

// By number, from 1 on.
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, TASKS);
	TYPE(key, u32);
	TYPE(value, struct task);
} states SEC(".maps");

// Numbers that have been used and are free.
struct {
	UINT(type, BPF_MAP_TYPE_STACK);
	UINT(max_entries, TASKS);
	UINT(key_size, 0);
	UINT(value_size, 4);
} numbers SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct last);
} last SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, ENTRIES / BLOCK);
	TYPE(key, u32);
	TYPE(value, struct block);
} entries SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, ENTRIES);
	TYPE(key, struct call);
	TYPE(value, u32);
} calls SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, ENTRIES);
	TYPE(key, u32);
	TYPE(value, struct about);
} abouts SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, CELLS);
	TYPE(key, u32);
	TYPE(value, struct cell);
} cells SEC(".maps");

struct row {
	u16 entry[NUMBERS]; // with its flags; 0: ask `calls`
};

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, ROWS);
	TYPE(key, u32);
	TYPE(value, struct row);
} rows SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, ROWS);
	TYPE(key, struct row_key);
	TYPE(value, u32);
} row_keys SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, ROWS);
	TYPE(key, u32);
	TYPE(value, u32);
} row_marks SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, WORKLOADS);
	TYPE(key, u32);
	TYPE(value, struct workload);
} workloads SEC(".maps");

// How often io_uring did each operation, by workload * OPERATIONS + opcode.
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, WORKLOADS * OPERATIONS);
	TYPE(key, u32);
	TYPE(value, u64);
} operations SEC(".maps");

// Counts of errnos beyond the ERRNOS of an entry, by entry << 16 | errno.
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, ENTRIES);
	TYPE(key, u32);
	TYPE(value, u64);
} errnos SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	UINT(max_entries, IMAGES);
	TYPE(key, struct image);
	TYPE(value, struct program_file);
} images SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct stats);
} stats SEC(".maps");

// A walk from a file up to the root of its task.
struct walk {
	u32 at;
	u32 done;
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct dentry *root_dentry;
	struct vfsmount *root_mnt;
};

// Where a path is put together, with room for one component more than fits the key, and zeros to
// clear it with.
struct scratch {
	struct image image;
	char beyond[256];
	struct walk walk;
};

// What a step of a walk is given. The walk itself is in a map and not on the stack: what the
// verifier knows nothing of it need not follow from step to step, which took it seconds.
struct step {
	struct scratch *space;
};

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 2);
	TYPE(key, u32);
	TYPE(value, struct scratch);
} scratch SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	UINT(max_entries, WORKLOADS);
	UINT(key_size, 4);
	UINT(value_size, 4);
} cgroups SEC(".maps");

// What all tasks compare theirs with (shared).
u32 epoch = 1;

INLINE struct stats *statistics(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&stats, &zero);
}

#define COUNT(member)                               \
	({                                          \
		struct stats *counted = statistics(); \
		if (counted)                        \
			ADD(counted->member, 1);    \
	})

// Images.

#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), (from))

// One step up from `walk->dentry`: its name is added, or a mount is left.
static long step_up(u32 count, struct step *step)
{
	struct walk *walk = &step->space->walk;
	struct dentry *dentry = walk->dentry, *parent, *top;
	const unsigned char *name;
	if (dentry == walk->root_dentry && walk->mnt == walk->root_mnt) {
		walk->done = 1;
		return 1;
	}
	if (READ(top, &walk->mnt->mnt_root) || READ(parent, &dentry->d_parent) ||
	    READ(name, &dentry->d_name.name))
		return 1;
	if (dentry == top || dentry == parent) {
		struct mount *of_mnt = 0, *above;
		struct mount *mount = (void *)walk->mnt - (unsigned long)&of_mnt->mnt;
		if (READ(above, &mount->mnt_parent))
			return 1;
		if (above != mount) {
			walk->mnt = &above->mnt;
			return READ(walk->dentry, &mount->mnt_mountpoint) != 0;
		}
		// The last root; it has a name only where nothing is mounted, as for a memfd.
		walk->done = 1;
		char first;
		if (READ(first, name) || first == '/')
			return 1;
	}
	u32 at = walk->at;
	if (at >= PATH) {
		walk->done = 0;
		return 1;
	}
	long length = bpf_probe_read_kernel_str(step->space->image.exe + at, 256, name);
	if (length <= 0)
		return 1;
	walk->at = at + length;
	walk->dentry = parent;
	return walk->done != 0;
}

// The row of the program in `file`, run for `script` unless that is null.
NOINLINE u32 image_of(struct task_struct *task, struct file *file, const char *script)
{
	u32 zero = 0, one = 1;
	struct scratch *space = bpf_map_lookup_elem(&scratch, &zero);
	struct scratch *zeros = bpf_map_lookup_elem(&scratch, &one);
	struct stats *st = statistics();
	if (!space || !zeros || !st)
		return IMAGE_OTHER;
	bpf_probe_read_kernel(space, sizeof(*space), zeros);

	struct fs_struct *fs;
	struct walk *walk = &space->walk;
	struct step step = {.space = space};
	if (file && !READ(fs, &task->fs)) {
		READ(walk->dentry, &file->f_path.dentry);
		READ(walk->mnt, &file->f_path.mnt);
		READ(walk->root_dentry, &fs->root.dentry);
		READ(walk->root_mnt, &fs->root.mnt);
		bpf_loop(PATH / 2, step_up, &step, 0);
	}
	if (!walk->done || walk->at > PATH)
		ADD(st->cut_paths, 1);
	if (script &&
	    bpf_probe_read_kernel_str(space->image.script, SCRIPT, script) == SCRIPT)
		ADD(st->cut_paths, 1);

	struct program_file *known = bpf_map_lookup_elem(&images, &space->image);
	if (known)
		return known->number;
	struct program_file program = {.process = task->tgid};
	struct inode *inode;
	if (file && !READ(inode, &file->f_inode) && !READ(program.inode, &inode->i_ino))
		READ(program.size, &inode->i_size);
	program.number = ADD(st->next_image, 1) + IMAGE_FIRST;
	if (program.number < IMAGES &&
	    !bpf_map_update_elem(&images, &space->image, &program, BPF_NOEXIST))
		return program.number;
	known = bpf_map_lookup_elem(&images, &space->image);
	if (known)
		return known->number;
	ADD(st->lost_images, 1);
	return IMAGE_OTHER;
}

NOINLINE u32 image_now(struct task_struct *task)
{
	struct mm_struct *mm;
	struct file *file = 0;
	if (!READ(mm, &task->mm) && mm)
		READ(file, &mm->exe_file);
	return image_of(task, file, 0);
}

// Rows.

// The phase of a workload for tasks of a lineage.
INLINE u32 phase_of(u32 number, u32 lineage)
{
	struct workload *workload = bpf_map_lookup_elem(&workloads, &number);
	if (!workload || lineage >= LINEAGE_OUTSIDE)
		return PHASE_STEADY;
	return workload->phase[lineage == LINEAGE_INNER];
}

// The row of a task now, for one of its ABIs. Where there is no room, it is one of two for all.
enum { ROW_OTHER = 1, ROW_FIRST = 3 };
NOINLINE u32 row_of(struct task *task, u32 compat)
{
	struct stats *st = statistics();
	u32 other = ROW_OTHER + (compat != 0);
	if (!st || !task)
		return other;
	struct row_key key = {
		.image = task->image,
		.workload = task->workload,
		.lineage = task->lineage,
		.phase = phase_of(task->workload, task->lineage),
		.compat = compat,
	};
	u32 *known = bpf_map_lookup_elem(&row_keys, &key);
	if (known)
		return *known;
	u32 row = other;
	if (*(volatile u32 *)&st->next_row < ROWS - ROW_FIRST)
		row = ADD(st->next_row, 1) + ROW_FIRST;
	if (row != other && row < ROWS &&
	    !bpf_map_update_elem(&row_keys, &key, &row, BPF_NOEXIST))
		return row;
	known = bpf_map_lookup_elem(&row_keys, &key);
	if (known)
		return *known;
	ADD(st->lost_rows, 1);
	return other;
}

INLINE void mark_row(u32 row, u32 mark)
{
	u32 *marks = bpf_map_lookup_elem(&row_marks, &row);
	if (marks)
		__sync_fetch_and_or(marks, mark);
}

INLINE u32 filters_of(struct task_struct *task)
{
	return task->seccomp.filter_count.counter;
}

// Finds out what has changed for the current task. Whether its calls count.
NOINLINE int look_again(struct task *task)
{
	struct task_struct *current = bpf_get_current_task_btf();
	if (!task || task->image == IMAGE_WAITING)
		return 0;
	task->epoch = epoch;
	if (task->image == IMAGE_UNRESOLVED) {
		task->image = image_now(current);
		task->filters = filters_of(current);
	}
	if ((task->lineage & ~LINEAGE_OUTSIDE) == LINEAGE_WORKLOAD &&
	    filters_of(current) > task->filters)
		task->lineage += LINEAGE_FILTERED;
	task->row[0] = task->row[1] = 0;
	return 1;
}

// The phase of the workload of the current task, and of others of its lineage, from the next call on.
NOINLINE int begin_phase(struct task *task, u32 phase)
{
	if (!task || task->lineage >= LINEAGE_OUTSIDE)
		return 0;
	u32 number = task->workload;
	struct workload *workload = bpf_map_lookup_elem(&workloads, &number);
	if (!workload)
		return 0;
	u32 *now = &workload->phase[task->lineage == LINEAGE_INNER];
	if (*now < phase) {
		*now = phase;
		ADD(epoch, 1);
	}
	return 0;
}

// Entries.

// What is to be known of a call.
INLINE struct interest interest_of(u32 nr, u32 compat)
{
	u32 table = compat ? COMPAT : nr & X32_BIT ? X32 : NATIVE;
	nr &= ~X32_BIT;
	if (nr >= KNOWN_NUMBERS)
		return (struct interest){};
	const volatile struct interest *known = &interests[table * KNOWN_NUMBERS + nr];
	return (struct interest){known->which, known->wide, known->half, known->kind};
}

APART u32 new_entry(struct call *call, u32 compat)
{
	struct stats *st = statistics();
	if (!st || !call)
		return ENTRY_NO_ROOM;
	u32 *known = bpf_map_lookup_elem(&calls, call);
	if (known)
		return *known;
	u32 entry = ENTRY_NO_ROOM;
	// Compared first, so that a full table is not written to for each call.
	if (*(volatile u32 *)&st->next_entry < ENTRIES - ENTRY_FIRST)
		entry = ADD(st->next_entry, 1) + ENTRY_FIRST;
	struct about *about = bpf_map_lookup_elem(&abouts, &entry);
	if (!entry || !about)
		return ENTRY_NO_ROOM;
	about->first = bpf_ktime_get_ns();
	about->first_tick = bpf_jiffies64();
	about->interest = interest_of(call->nr, compat);
	about->cell = 0;
	u32 arguments = 0;
#pragma clang loop unroll(full)
	for (u32 i = 0; i < ARGUMENTS; i++) {
		u32 which = about->interest.which >> i & 1;
		u32 wide = about->interest.wide >> i & 1, half = about->interest.half >> i & 1;
		about->mask[i] = !which ? 0 : wide ? ~0ull : half ? 0xffff : 0xffffffff;
		arguments += which;
	}
	if (arguments && *(volatile u32 *)&st->next_cell < CELLS - 7) {
		about->cell = ADD(st->next_cell, arguments) + 1;
		entry |= HAS_ARGUMENTS;
	}
	if (about->interest.kind)
		entry |= IS_SPECIAL;
	if (!bpf_map_update_elem(&calls, call, &entry, BPF_NOEXIST))
		return entry;
	known = bpf_map_lookup_elem(&calls, call);
	return known ? *known : ENTRY_NO_ROOM;
}

INLINE u32 entry_of(u32 row_number, u32 nr, u32 compat)
{
	u16 *cached = 0;
	if (nr < NUMBERS) {
		struct row *row = bpf_map_lookup_elem(&rows, &row_number);
		if (row) {
			cached = &row->entry[nr];
			if (*cached)
				return *cached;
		}
	}
	struct call call = {.row = row_number, .nr = nr};
	u32 entry = new_entry(&call, compat);
	if (cached)
		*cached = entry;
	return entry;
}

INLINE struct entry *counters(u32 entry)
{
	u32 number = entry / BLOCK;
	struct block *block = bpf_map_lookup_elem(&entries, &number);
	return block ? &block->entry[entry % BLOCK] : 0;
}

// Arguments.

INLINE u32 place_of(u64 value)
{
	return value * 0x9e3779b97f4a7c15ull >> 58;
}

APART int new_value(u32 number, u64 value)
{
	struct cell *cell = bpf_map_lookup_elem(&cells, &number);
	if (!cell)
		return 0;
	if (!~value) {
		if (!(cell->marks & MARK_ALL_ONES))
			__sync_fetch_and_or(&cell->marks, MARK_ALL_ONES);
		return 0;
	}
	u32 place = place_of(value);
	for (u32 i = 0; i < VALUES; i++) {
		u64 *at = &cell->value[(place + i) & (VALUES - 1)];
		u64 there = *(volatile u64 *)at;
		if (!there)
			there = __sync_val_compare_and_swap(at, 0, ~value);
		if (!there || there == ~value)
			return 0;
	}
	if (!(cell->marks & MARK_OVERFLOW))
		__sync_fetch_and_or(&cell->marks, MARK_OVERFLOW);
	return 0;
}

INLINE void see(u32 number, u64 value)
{
	struct cell *cell = bpf_map_lookup_elem(&cells, &number);
	if (!cell)
		return;
	// An empty place looks like the inverse of all ones.
	if (cell->value[place_of(value) & (VALUES - 1)] != ~value || !~value)
		new_value(number, value);
}

#define SEE(argument, value)                                             \
	if (about->mask[argument]) {                                     \
		see(cell, (value) & about->mask[argument]);              \
		cell++;                                                  \
	}

INLINE void see_arguments(u32 entry, struct pt_regs *regs, u32 compat)
{
	struct about *about = bpf_map_lookup_elem(&abouts, &entry);
	if (!about)
		return;
	u32 cell = about->cell;
	if (!compat) {
		SEE(0, regs->di)
		SEE(1, regs->si)
		SEE(2, regs->dx)
		SEE(3, regs->r10)
		SEE(4, regs->r8)
		SEE(5, regs->r9)
	} else {
		SEE(0, regs->bx)
		SEE(1, regs->cx)
		SEE(2, regs->dx)
		SEE(3, regs->si)
		SEE(4, regs->di)
		SEE(5, regs->bp)
	}
}

APART int count_errno(u32 entry, u32 errno)
{
	u32 key = entry << 16 | errno;
	u64 zero = 0;
	u64 *count = bpf_map_lookup_elem(&errnos, &key);
	if (!count) {
		bpf_map_update_elem(&errnos, &key, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&errnos, &key);
	}
	if (count)
		ADD(*count, 1);
	else
		COUNT(lost_errnos);
	return 0;
}

// Tasks.

INLINE u32 is_compat(struct task_struct *task)
{
	return (task->thread_info.status & TS_COMPAT) != 0;
}

INLINE struct task *state_of(u32 number)
{
	return number ? bpf_map_lookup_elem(&states, &number) : 0;
}

// A number for a task that begins with this image; 0: there is none left.
APART u32 number(u32 image, u32 workload)
{
	struct stats *st = statistics();
	u32 number = 0;
	if (!st)
		return 0;
	if (bpf_map_pop_elem(&numbers, &number)) {
		number = 0;
		if (*(volatile u32 *)&st->next_task < TASKS - 1)
			number = ADD(st->next_task, 1) + 1;
	}
	struct task *task = state_of(number);
	if (!task) {
		ADD(st->lost_tasks, 1);
		return 0;
	}
	// Whatever call it may be in was not seen to begin: its return is not to be counted. For a
	// new task that is the return of the call that made it, which is counted for its parent.
	*task = (struct task){
		.image = image, .entry = ENTRY_IGNORED, .in_call = 1, .workload = workload};
	struct workload *of = bpf_map_lookup_elem(&workloads, &workload);
	if (of && !*(volatile u32 *)&of->tasks)
		of->tasks = 1;
	return number;
}

static long forget_on(u32 cpu, u32 *number)
{
	u32 zero = 0;
	struct last *on = bpf_map_lookup_percpu_elem(&last, &zero, cpu);
	if (on && on->number == *number)
		on->regs = 0;
	return 0;
}

// Gives a number back, which no CPU may remember any more.
INLINE void forget(u32 number)
{
	bpf_loop(cpus, forget_on, &number, 0);
	bpf_map_push_elem(&numbers, &number, BPF_ANY);
}

// Makes a task followed: the current one, or one that does not run yet.
INLINE u32 follow_task(struct task_struct *task, u32 image, u32 workload)
{
	struct follower fresh = {.number = number(image, workload)};
	if (!fresh.number)
		return 0;
	if (!bpf_task_storage_get(&tasks, task, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
		u64 key = (u64)task;
		if (bpf_map_update_elem(&orphans, &key, &fresh.number, BPF_ANY)) {
			bpf_map_push_elem(&numbers, &fresh.number, BPF_ANY);
			COUNT(lost_tasks);
			return 0;
		}
		COUNT(orphans);
	}
	COUNT(started);
	return fresh.number;
}

// Where a task is that has none of what it would be followed for.
enum { NO_WORKLOAD = 0xffffffff };

// The workload whose namespaces the current task is in.
NOINLINE u32 by_namespaces(struct task_struct *task)
{
	struct nsproxy *proxy;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	struct pid *pid;
	struct pid_namespace *pid_ns;
	u32 level, in_pid, in_mnt, in_net;
	if (!task || READ(proxy, &task->nsproxy) || !proxy || READ(mnt_ns, &proxy->mnt_ns) ||
	    READ(in_mnt, &mnt_ns->ns.inum) || READ(net_ns, &proxy->net_ns) ||
	    READ(in_net, &net_ns->ns.inum) || READ(pid, &task->thread_pid) ||
	    READ(level, &pid->level))
		return NO_WORKLOAD;
	struct upid *upid = (void *)&pid->numbers + level * sizeof(struct upid);
	if (READ(pid_ns, &upid->ns) || READ(in_pid, &pid_ns->ns.inum))
		return NO_WORKLOAD;
	for (u32 i = 0; i < WORKLOADS && i < namespace_count; i++) {
		const volatile struct namespaces *of = &namespaces[i];
		if ((!of->pid || of->pid == in_pid) && (!of->mnt || of->mnt == in_mnt) &&
		    (!of->net || of->net == in_net))
			return i;
	}
	return NO_WORKLOAD;
}

APART u32 by_cgroup(void)
{
	for (u32 i = 0; i < WORKLOADS && i < cgroup_count; i++)
		if (bpf_current_task_under_cgroup(&cgroups, i) == 1)
			return i;
	return NO_WORKLOAD;
}

// The current task has no storage: it is an orphan, or one to adopt. Gives its number.
APART u32 adopt(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct stats *st = statistics();
	if (!st)
		return 0;
	if (st->orphans) {
		u64 key = (u64)task;
		u32 *orphan = bpf_map_lookup_elem(&orphans, &key);
		if (orphan)
			return *orphan;
	}
	if (adopt_threads) {
		struct follower *leader = bpf_task_storage_get(&tasks, task->group_leader, 0, 0);
		if (leader)
			return follow_task(task, IMAGE_UNRESOLVED, leader->workload);
	}
	u32 workload = NO_WORKLOAD;
	if (cgroup_count)
		workload = by_cgroup();
	if (namespace_count && workload == NO_WORKLOAD)
		workload = by_namespaces(task);
	struct workload *of = bpf_map_lookup_elem(&workloads, &workload);
	if (!of)
		return 0;
	// Whoever has started since and was not started by one of it has come from elsewhere, but
	// for the first, which is the workload's own.
	u32 outside = of->tasks && task->start_time > attached_at;
	u32 number = follow_task(task, IMAGE_UNRESOLVED, workload);
	struct task *state = state_of(number);
	if (state) {
		state->lineage = outside ? LINEAGE_OUTSIDE : LINEAGE_WORKLOAD;
		state->root = !outside;
	}
	return number;
}

// The number of the current task; 0: it is not followed.
INLINE u32 number_of(struct task_struct *current)
{
	struct follower *follower = bpf_task_storage_get(&tasks, current, 0, 0);
	if (follower) {
		if (!follower->number) {
			follower->number = number(follower->image, follower->workload);
			struct task *named = state_of(follower->number);
			if (named)
				named->root = 1;
		}
		return follower->number;
	}
	if (!adopt_threads && !cgroup_count && !namespace_count) {
		struct stats *st = statistics();
		if (!st || !st->orphans)
			return 0;
	}
	return adopt();
}

// The state of the current task, which has its registers there.
INLINE struct task *caller(u64 regs)
{
	u32 zero = 0;
	struct last *on = bpf_map_lookup_elem(&last, &zero);
	if (!on)
		return 0;
	if (on->regs != regs) {
		u32 number = number_of(bpf_get_current_task_btf());
		if (!number)
			return 0;
		on->number = number;
		on->regs = regs;
	}
	return state_of(on->number);
}

// Calls.

// A call that begins a phase.
NOINLINE int special(struct task *task, u32 entry)
{
	struct about *about = bpf_map_lookup_elem(&abouts, &entry);
	if (about && about->interest.kind & KIND_READY)
		begin_phase(task, PHASE_STEADY);
	return 0;
}

// A call that may have loaded a filter, on other threads too. The tasks look themselves, at
// their next call.
NOINLINE int filtered(struct task *task, u32 entry)
{
	struct about *about = bpf_map_lookup_elem(&abouts, &entry);
	if (task && about && about->interest.kind & KIND_FILTER &&
	    filters_of(bpf_get_current_task_btf()) > task->filters)
		ADD(epoch, 1);
	return 0;
}

SEC("tp_btf/sys_enter")
int sys_enter(u64 *ctx)
{
	struct task *task = caller(ctx[0]);
	if (!task)
		return 0;
	if (task->epoch != epoch && !look_again(task))
		return 0;
	u32 compat = is_compat(bpf_get_current_task_btf());
	u32 row = compat ? task->row[1] : task->row[0];
	if (!row) {
		row = row_of(task, compat);
		if (compat)
			task->row[1] = row;
		else
			task->row[0] = row;
	}
	u32 cached = entry_of(row, (u32)ctx[1], compat);
	u32 entry = cached & INDEX;
	task->entry = cached;
	task->in_call = 1;
	struct entry *e = counters(entry);
	if (e) {
		e->entered++;
		e->last = bpf_jiffies64();
	}
	if (cached & HAS_ARGUMENTS)
		see_arguments(entry, (struct pt_regs *)ctx[0], compat);
	if (cached & IS_SPECIAL)
		special(task, entry);
	return 0;
}

// A return without a call: a filter answered before the call was seen.
NOINLINE int answered(struct task *task, u32 nr)
{
	struct task_struct *current = bpf_get_current_task_btf();
	if (!task || task->image == IMAGE_WAITING ||
	    (task->epoch != epoch && !look_again(task)))
		return 0;
	if (!current->seccomp.mode) {
		COUNT(unpaired);
		return 0;
	}
	if (current->seccomp.mode == SECCOMP_MODE_DEAD)
		task->dead = 1;
	u32 compat = is_compat(current);
	u32 entry = entry_of(row_of(task, compat), nr, compat) & INDEX;
	struct entry *e = counters(entry);
	if (e) {
		e->denied++;
		e->last = bpf_jiffies64();
	}
	return 0;
}

SEC("tp_btf/sys_exit")
int sys_exit(u64 *ctx)
{
	struct task *task = caller(ctx[0]);
	if (!task)
		return 0;
	if (!task->in_call) {
		struct pt_regs *regs = (struct pt_regs *)ctx[0];
		return answered(task, (u32)regs->orig_ax);
	}
	u32 cached = task->entry, entry = cached & INDEX;
	task->in_call = 0;
	struct entry *e = counters(entry);
	if (!e)
		return 0;
	s64 result = ctx[1];
	if (result >= 0 || result < -MAX_ERRNO) {
		e->succeeded++;
		if (cached & IS_SPECIAL)
			filtered(task, entry);
		return 0;
	}
	u32 errno = -result;
#pragma clang loop unroll(full)
	for (int i = 0; i < ERRNOS; i++) {
		if (!e->errno[i])
			e->errno[i] = errno;
		if (e->errno[i] == errno) {
			e->failed[i]++;
			return 0;
		}
	}
	count_errno(entry, errno);
	return 0;
}

// Tasks come and go.

SEC("tp_btf/sched_process_fork")
int sched_process_fork(u64 *ctx)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_struct *new = (struct task_struct *)ctx[1];
	struct task *parent = state_of(number_of(current));
	if (!parent || parent->image == IMAGE_WAITING)
		return 0;
	struct task *child = state_of(follow_task(new, parent->image, parent->workload));
	if (child) {
		child->lineage = parent->lineage;
		child->filters = parent->filters;
		child->root = parent->root && new->tgid == current->tgid;
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int sched_process_exec(u64 *ctx)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct linux_binprm *bprm = (struct linux_binprm *)ctx[2];
	struct task *task = state_of(number_of(current));
	if (!task)
		return 0;
	if (task->image == IMAGE_WAITING) {
		task->entry = ENTRY_IGNORED;
		task->in_call = 1;
	}
	const char *script = bprm->filename == bprm->interp ? 0 : bprm->filename;
	if (task->image == IMAGE_WAITING || task->image == IMAGE_UNRESOLVED) {
		task->filters = filters_of(current);
	} else {
		look_again(task);
		if ((task->lineage & ~LINEAGE_OUTSIDE) == LINEAGE_FILTERED) {
			// The filter's own exec: what follows is what the filter is for.
			mark_row(row_of(task, is_compat(current)), ROW_EXECED);
			task->lineage += LINEAGE_INNER - LINEAGE_FILTERED;
			task->root = 1;
		}
	}
	task->epoch = 0;
	task->image = image_of(current, bprm->file, script);
	COUNT(execs);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(u64 *ctx)
{
	struct task_struct *current = bpf_get_current_task_btf();
	u32 number = number_of(current);
	struct task *task = state_of(number);
	struct stats *st = statistics();
	if (!st || !task)
		return 0;
	if (task->image != IMAGE_WAITING && current->seccomp.mode) {
		ADD(st->filtered, 1);
		// Killed by a filter at a call from which it did not return.
		if (current->seccomp.mode == SECCOMP_MODE_DEAD && !task->dead)
			answered(task, (u32)bpf_task_pt_regs(current)->orig_ax);
	}
	forget(number);
	u64 key = (u64)current;
	if (st->orphans && !bpf_map_delete_elem(&orphans, &key))
		ADD(st->orphans, -1);
	ADD(st->ended, 1);
	st->ended_at = bpf_ktime_get_ns();
	return 0;
}

// The end of a workload begins with a signal to its first process.
SEC("tp_btf/signal_deliver")
int signal_deliver(u64 *ctx)
{
	enum { SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGTERM = 15 };
	u32 signal = ctx[0];
	if (signal != SIGTERM && signal != SIGINT && signal != SIGQUIT && signal != SIGHUP)
		return 0;
	struct task *task = state_of(number_of(bpf_get_current_task_btf()));
	if (!task || !task->root || task->image == IMAGE_WAITING)
		return 0;
	struct k_sigaction *action = (struct k_sigaction *)ctx[2];
	u64 handler = (u64)action->sa.sa_handler;
	// Ignored; or SIGHUP with a handler, which is how servers are told to read their files again.
	if (handler == 1 || (signal == SIGHUP && handler))
		return 0;
	return begin_phase(task, PHASE_SHUTDOWN);
}

// What io_uring is asked to do: by the task itself, or by the kernel's thread of its process.
SEC("tp_btf/io_uring_submit_req")
int io_uring_submit_req(u64 *ctx)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task *task = state_of(number_of(current));
	if (!task) {
		struct follower *leader = bpf_task_storage_get(&tasks, current->group_leader, 0, 0);
		task = leader ? state_of(leader->number) : 0;
	}
	if (!task || task->image == IMAGE_WAITING)
		return 0;
	struct io_kiocb *request = (struct io_kiocb *)ctx[0];
	u32 key = task->workload * OPERATIONS + (request->opcode & (OPERATIONS - 1));
	u64 *count = bpf_map_lookup_elem(&operations, &key);
	if (count) {
		ADD(*count, 1);
		COUNT(operations);
	}
	return 0;
}

char license_of_program[] SEC("license") = "Dual MIT/GPL";
