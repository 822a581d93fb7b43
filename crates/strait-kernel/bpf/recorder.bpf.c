// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The recorder: counts every system call of the tasks that it follows, in maps and nowhere else.
//
// Each followed task has a number in task storage, and a `struct task` at that number in `states`.
// A call is counted in an entry, one per (image, ABI, number), which is per CPU, so that counting
// takes no atomic operation: a program on a tracepoint cannot be preempted. Entries are handed out
// at a call's first use; `calls` says which is whose, and `rows` is no more than a fast way to ask
// that for ordinary numbers.
//
// What a call costs is helper calls, about 15 ns each where returns are mitigated; counting is 2.
// So each CPU remembers the number of the task that called last, by the place of its registers,
// which is on its kernel stack and so its own. Arrays are looked up without a helper call.
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
#define RELOCATED __attribute__((preserve_access_index))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) value *name
#define ADD(counter, n) __sync_fetch_and_add(&(counter), (n))

// Kernel structures: only the members that are read, found by name in the running kernel's BTF.

struct pt_regs {
	unsigned long orig_ax;
} RELOCATED;

struct thread_info {
	u32 status;
} RELOCATED;

struct seccomp {
	int mode;
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
	struct seccomp seccomp;
	struct task_struct *group_leader;
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
// does not apply.
enum { FOLLOW_TREE = 0, FOLLOW_PROCESS = 1, FOLLOW_CGROUP = 2 };
const volatile u32 follow = FOLLOW_TREE;
const volatile u32 cpus = 1;

// Sizes (shared). ENTRIES is at most 65536: rows hold 16-bit indices.
enum { IMAGES = 1024, NUMBERS = 512, ENTRIES = 16384, PATH = 4096, SCRIPT = 1024, TASKS = 32768 };

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
};

struct task {
	u32 image;
	u16 entry; // of the call that it is in
	u8 in_call;
	u8 dead; // its death by a filter is counted
};

// The task that called last on a CPU.
struct last {
	u64 regs;
	u32 number;
};

// Shared. One cache line.
enum { ERRNOS = 4 };
struct entry {
	u64 entered;
	u64 succeeded;
	u64 denied;
	u64 failed[ERRNOS];
	u16 errno[ERRNOS]; // 0: not taken
};

// Shared.
struct call {
	u32 image;
	u32 nr;
	u32 compat;
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
	u64 lost_errnos;
	u64 cut_paths;
	u32 next_image;
	u32 next_entry;
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
	UINT(max_entries, ENTRIES);
	TYPE(key, u32);
	TYPE(value, struct entry);
} entries SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, ENTRIES);
	TYPE(key, struct call);
	TYPE(value, u32);
} calls SEC(".maps");

struct row {
	u16 entry[2 * NUMBERS]; // native, then compat; 0: ask `calls`
};

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, IMAGES);
	TYPE(key, u32);
	TYPE(value, struct row);
} rows SEC(".maps");

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
	TYPE(value, u32);
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
	UINT(max_entries, 1);
	UINT(key_size, 4);
	UINT(value_size, 4);
} cgroup SEC(".maps");

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

	u32 *known = bpf_map_lookup_elem(&images, &space->image);
	if (known)
		return *known;
	u32 image = ADD(st->next_image, 1) + IMAGE_FIRST;
	if (image < IMAGES && !bpf_map_update_elem(&images, &space->image, &image, BPF_NOEXIST))
		return image;
	known = bpf_map_lookup_elem(&images, &space->image);
	if (known)
		return *known;
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

// Entries.

NOINLINE u32 new_entry(struct call *call)
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
	if (entry >= ENTRIES)
		return ENTRY_NO_ROOM;
	if (entry && !bpf_map_update_elem(&calls, call, &entry, BPF_NOEXIST))
		return entry;
	known = bpf_map_lookup_elem(&calls, call);
	return known ? *known : ENTRY_NO_ROOM;
}

INLINE u32 entry_of(u32 image, u32 nr, u32 compat)
{
	u16 *cached = 0;
	if (nr < NUMBERS) {
		struct row *row = bpf_map_lookup_elem(&rows, &image);
		if (row) {
			cached = &row->entry[nr + (compat ? NUMBERS : 0)];
			if (*cached)
				return *cached;
		}
	}
	struct call call = {.image = image, .nr = nr, .compat = compat};
	u32 entry = new_entry(&call);
	if (cached)
		*cached = entry;
	return entry;
}

NOINLINE int count_errno(u32 entry, u32 errno)
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

// A number for a task that begins in this state; 0: there is none left.
NOINLINE u32 number(u32 image)
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
	*task = (struct task){.image = image, .entry = ENTRY_IGNORED, .in_call = 1};
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
INLINE u32 follow_task(struct task_struct *task, u32 image)
{
	struct follower fresh = {.number = number(image)};
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

// The current task has no storage: it is an orphan, or one to adopt. Gives its number.
NOINLINE u32 adopt(void)
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
	if (follow == FOLLOW_PROCESS) {
		struct follower *leader = bpf_task_storage_get(&tasks, task->group_leader, 0, 0);
		if (!leader)
			return 0;
	} else if (follow == FOLLOW_CGROUP) {
		if (bpf_current_task_under_cgroup(&cgroup, 0) != 1)
			return 0;
	} else {
		return 0;
	}
	return follow_task(task, IMAGE_UNRESOLVED);
}

// The number of the current task; 0: it is not followed.
INLINE u32 number_of(struct task_struct *current)
{
	struct follower *follower = bpf_task_storage_get(&tasks, current, 0, 0);
	if (follower) {
		if (!follower->number)
			follower->number = number(follower->image);
		return follower->number;
	}
	if (follow == FOLLOW_TREE) {
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

SEC("tp_btf/sys_enter")
int sys_enter(u64 *ctx)
{
	struct task *task = caller(ctx[0]);
	if (!task)
		return 0;
	u32 image = task->image;
	if (image >= IMAGES)
		return 0;
	struct task_struct *current = bpf_get_current_task_btf();
	if (image == IMAGE_UNRESOLVED)
		task->image = image = image_now(current);
	u32 entry = entry_of(image, (u32)ctx[1], is_compat(current));
	task->entry = entry;
	task->in_call = 1;
	struct entry *e = bpf_map_lookup_elem(&entries, &entry);
	if (e)
		e->entered++;
	return 0;
}

// A return without a call: a filter answered before the call was seen.
NOINLINE int answered(struct task *task, u32 nr)
{
	struct task_struct *current = bpf_get_current_task_btf();
	if (!task || task->image >= IMAGES)
		return 0;
	if (!current->seccomp.mode) {
		COUNT(unpaired);
		return 0;
	}
	if (current->seccomp.mode == SECCOMP_MODE_DEAD)
		task->dead = 1;
	u32 entry = entry_of(task->image, nr, is_compat(current));
	struct entry *e = bpf_map_lookup_elem(&entries, &entry);
	if (e)
		e->denied++;
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
	u32 entry = task->entry;
	task->in_call = 0;
	struct entry *e = bpf_map_lookup_elem(&entries, &entry);
	if (!e)
		return 0;
	s64 result = ctx[1];
	if (result >= 0 || result < -MAX_ERRNO) {
		e->succeeded++;
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
	struct task *parent = state_of(number_of(bpf_get_current_task_btf()));
	if (parent && parent->image != IMAGE_WAITING)
		follow_task((struct task_struct *)ctx[1], parent->image);
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
	if (task->image < IMAGES && current->seccomp.mode) {
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
	return 0;
}

char license_of_program[] SEC("license") = "Dual MIT/GPL";
