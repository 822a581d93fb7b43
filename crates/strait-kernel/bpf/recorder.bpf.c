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
// So each CPU remembers the task that called last and its number, by the place of its registers, which
// is on its kernel stack and so its own. Arrays are looked up without a helper call, and so a call that
// is known takes none at all.
//
// A task's row changes with its workload's phase, its filters and its exec. Whatever changes one of
// these for other tasks too counts `epoch` up; a task whose own is behind looks again.
//
// Built by `cargo xtask ebpf`.

#include "image.h"
#include "maps.h"

// Rows.

// The phase of a workload for tasks of a lineage.
INLINE u32 phase_of(u32 number, u32 lineage)
{
	struct workload *workload = bpf_map_lookup_elem(&workloads, &number);
	u32 *ready = bpf_map_lookup_elem(&declared_ready, &number);
	if (!workload || !ready || lineage >= LINEAGE_OUTSIDE)
		return PHASE_STEADY;
	u32 phase = workload->phase[lineage == LINEAGE_INNER];
	return phase == PHASE_START_UP && *ready ? PHASE_STEADY : phase;
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
		task->image = image_now();
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

APART u32 new_entry(u32 row, u32 nr, u32 compat)
{
	struct call call = {.row = row, .nr = nr};
	struct stats *st = statistics();
	if (!st)
		return ENTRY_NO_ROOM;
	u32 *known = bpf_map_lookup_elem(&calls, &call);
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
	about->interest = interest_of(nr, compat);
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
	if (!bpf_map_update_elem(&calls, &call, &entry, BPF_NOEXIST))
		return entry;
	known = bpf_map_lookup_elem(&calls, &call);
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
	u32 entry = new_entry(row_number, nr, compat);
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

// Where a value is to be put.
struct placing {
	struct cell *cell;
	u64 value;
	u32 done;
};

// Tries one place. By a callback, which the verifier looks at once and not for each place.
static long try_place(u32 i, struct placing *placing)
{
	u64 value = placing->value;
	u64 *at = &placing->cell->value[(place_of(value) + i) & (VALUES - 1)];
	u64 there = *(volatile u64 *)at;
	if (!there)
		there = __sync_val_compare_and_swap(at, 0, ~value);
	placing->done = !there || there == ~value;
	return placing->done;
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
	struct placing placing = {.cell = cell, .value = value};
	bpf_loop(VALUES, try_place, &placing, 0);
	if (placing.done)
		return 0;
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
		if (*(volatile u32 *)&st->next_task < task_room - 1)
			number = ADD(st->next_task, 1) + 1;
	}
	struct task *task = state_of(number);
	if (!task)
		return 0;
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
	// What else there is in it is for one without a number.
	struct follower fresh = {.number = number(image, workload)};
	if (!fresh.number) {
		COUNT(lost_tasks);
		return 0;
	}
	if (!bpf_task_storage_get(&tasks, task, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
		u64 key = (u64)task;
		if (bpf_map_update_elem(&orphans, &key, &fresh.number, BPF_ANY)) {
			bpf_map_push_elem(&numbers, &fresh.number, BPF_ANY);
			COUNT(lost_tasks);
			return 0;
		}
		COUNT(orphans);
	}
	COUNT_FOR(workload, started);
	return fresh.number;
}

// Where a task is that has none of what it would be followed for.
enum { NO_WORKLOAD = 0xffffffff };

// The pid namespace that a task is in, by the number of its innermost id; 0: it has none any more.
NOINLINE u32 pid_namespace_of(struct task_struct *task)
{
	struct pid_namespace *ns;
	struct pid *pid;
	u32 inum = 0, level;
	if (READ(pid, &task->thread_pid) || !pid || READ(level, &pid->level))
		return 0;
	struct upid *upid = (void *)&pid->numbers + level * sizeof(struct upid);
	if (READ(ns, &upid->ns) || READ(inum, &ns->ns.inum))
		return 0;
	return inum;
}

// The mount and network namespaces of a task; 0: it ends and has given them up.
INLINE u32 namespaces_of(struct task_struct *task, u32 *mnt, u32 *net)
{
	struct nsproxy *proxy = task->nsproxy;
	if (!proxy)
		return 0;
	*mnt = proxy->mnt_ns->ns.inum;
	*net = proxy->net_ns->ns.inum;
	return 1;
}

// The same by helper calls, for what is not a call. For each pointer that is read of a task directly the
// verifier looks through all types of the kernel, four times: 3 ms in each program.
INLINE u32 read_namespaces_of(struct task_struct *task, u32 *mnt, u32 *net)
{
	struct nsproxy *proxy;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	return !READ(proxy, &task->nsproxy) && proxy && !READ(mnt_ns, &proxy->mnt_ns) &&
	       !READ(net_ns, &proxy->net_ns) && !READ(*mnt, &mnt_ns->ns.inum) &&
	       !READ(*net, &net_ns->ns.inum);
}

// The workload whose namespaces the current task is in. This is asked at each call of whoever is not
// followed, on the whole machine: what takes a helper call comes last.
INLINE u32 by_namespaces(u32 in_call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 in_mnt = 0, in_net = 0, in_pid = 0;
	if (!(in_call ? namespaces_of(task, &in_mnt, &in_net)
		      : read_namespaces_of(task, &in_mnt, &in_net)))
		return NO_WORKLOAD;
	for (u32 i = 0; i < WORKLOADS && i < namespace_count; i++) {
		struct namespaces *of = bpf_map_lookup_elem(&namespaces, &i);
		if (!of || (of->mnt && of->mnt != in_mnt) || (of->net && of->net != in_net))
			continue;
		if (of->pid && !in_pid)
			in_pid = pid_namespace_of(task);
		if (!of->pid || of->pid == in_pid)
			return i;
	}
	return NO_WORKLOAD;
}

// Whether the parent of a task is where it is: in its cgroup, where these tell workloads apart, or in its
// namespaces. Then it is none that the workload began with.
NOINLINE u32 parent_is_there(struct task_struct *task)
{
	struct task_struct *parent;
	if (READ(parent, &task->real_parent) || !parent)
		return 0;
	if (cgroup_count) {
		struct css_set *set, *of_parent;
		struct cgroup *group = 0, *other;
		if (READ(set, &task->cgroups) || READ(of_parent, &parent->cgroups) ||
		    READ(group, &set->dfl_cgrp) || READ(other, &of_parent->dfl_cgrp))
			return 0;
		return group == other;
	}
	u32 mnt = 0, net = 0, parents_mnt = 0, parents_net = 0;
	return read_namespaces_of(task, &mnt, &net) &&
	       read_namespaces_of(parent, &parents_mnt, &parents_net) && mnt == parents_mnt &&
	       net == parents_net && pid_namespace_of(task) == pid_namespace_of(parent);
}

APART u32 by_cgroup(void)
{
	for (u32 i = 0; i < WORKLOADS && i < cgroup_count; i++)
		if (bpf_current_task_under_cgroup(&cgroups, i) == 1)
			return i;
	return NO_WORKLOAD;
}

// The current task has no storage: it is an orphan, or one to adopt. Gives its number.
INLINE u32 adopt(u32 in_call)
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
		if (leader) {
			struct task *first = state_of(leader->number);
			u32 root = first ? first->root : leader->root;
			u32 number = follow_task(task, IMAGE_UNRESOLVED, leader->workload);
			struct task *thread = state_of(number);
			if (thread)
				thread->root = root;
			return number;
		}
	}
	u32 workload = NO_WORKLOAD;
	if (cgroup_count)
		workload = by_cgroup();
	if (namespace_count && workload == NO_WORKLOAD)
		workload = by_namespaces(in_call);
	// Said apart, as what follows is nothing for the verifier to look at where nobody is adopted.
	if (workload == NO_WORKLOAD)
		return 0;
	struct workload *of = bpf_map_lookup_elem(&workloads, &workload);
	if (!of)
		return 0;
	// Whoever has started since and was not started by one of it has come from elsewhere, but
	// for the first, which is the workload's own.
	u32 outside = of->tasks && task->start_time > of->since;
	u32 number = follow_task(task, IMAGE_UNRESOLVED, workload);
	struct task *state = state_of(number);
	if (state) {
		state->lineage = outside ? LINEAGE_OUTSIDE : LINEAGE_WORKLOAD;
		state->root = !outside && !parent_is_there(task);
	}
	return number;
}

APART u32 adopt_caller(void)
{
	return adopt(1);
}

APART u32 adopt_other(void)
{
	return adopt(0);
}

// The number of the current task, which is at a call or not; 0: it is not followed.
INLINE u32 number_at(struct task_struct *current, u32 in_call)
{
	struct follower *follower = bpf_task_storage_get(&tasks, current, 0, 0);
	if (follower) {
		if (!follower->number) {
			follower->number = number(follower->image, follower->workload);
			struct task *named = state_of(follower->number);
			if (named) {
				named->root = follower->root;
			} else if (!follower->lost) {
				follower->lost = 1;
				COUNT(lost_tasks);
			}
		}
		return follower->number;
	}
	if (!adopt_threads && !cgroup_count && !namespace_count) {
		struct stats *st = statistics();
		if (!st || !st->orphans)
			return 0;
	}
	return in_call ? adopt_caller() : adopt_other();
}

INLINE u32 number_of(struct task_struct *current)
{
	return number_at(current, 0);
}

// The current task, which has its registers there; null: it is not followed.
INLINE struct last *caller(u64 regs)
{
	u32 zero = 0;
	struct last *on = bpf_map_lookup_elem(&last, &zero);
	if (!on)
		return 0;
	if (on->regs != regs) {
		struct task_struct *current = bpf_get_current_task_btf();
		u32 number = number_at(current, 1);
		if (!number)
			return 0;
		on->number = number;
		on->task = current;
		on->regs = regs;
	}
	return on;
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
	struct last *on = caller(ctx[0]);
	struct task *task = on ? state_of(on->number) : 0;
	if (!task)
		return 0;
	if (task->epoch != epoch && !look_again(task))
		return 0;
	struct task_struct *current = on->task;
	u32 compat = current ? is_compat(current) : 0;
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
		COUNT_FOR(task->workload, unpaired);
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
	struct last *on = caller(ctx[0]);
	struct task *task = on ? state_of(on->number) : 0;
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
	struct file *file = 0;
	READ(file, &bprm->file);
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
		} else if (task->lineage == LINEAGE_OUTSIDE && namespace_count && !cgroup_count) {
			// It has entered the namespaces to run this there.
			mark_row(row_of(task, is_compat(current)), ROW_EXECED);
			task->lineage += LINEAGE_INNER;
		}
	}
	task->epoch = 0;
	task->image = image_of(current, file, script);
	COUNT_FOR(task->workload, execs);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(u64 *ctx)
{
	struct task_struct *current = bpf_get_current_task_btf();
	u32 number = number_of(current);
	struct task *task = state_of(number);
	struct stats *st = statistics();
	if (!task) {
		// Named, but there was no number for it: it has ended all the same.
		struct follower *unnumbered = bpf_task_storage_get(&tasks, current, 0, 0);
		if (unnumbered)
			COUNT_FOR(unnumbered->workload, ended);
		return 0;
	}
	struct tally *tally = tally_of(task->workload);
	if (!st || !tally)
		return 0;
	if (task->image != IMAGE_WAITING && current->seccomp.mode) {
		ADD(tally->filtered, 1);
		// Killed by a filter at a call from which it did not return.
		if (current->seccomp.mode == SECCOMP_MODE_DEAD && !task->dead)
			answered(task, (u32)bpf_task_pt_regs(current)->orig_ax);
	}
	forget(number);
	u64 key = (u64)current;
	if (st->orphans && !bpf_map_delete_elem(&orphans, &key))
		ADD(st->orphans, -1);
	tally->ended_at = bpf_ktime_get_ns();
	ADD(tally->ended, 1);
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
