// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The maps of the recorder.

#pragma once

#include "layout.h"

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

// Apart from `workloads`, to which the programs write: each map has one writer, so that nothing is
// overwritten with what it was before.
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, WORKLOADS);
	TYPE(key, u32);
	TYPE(value, u32);
} declared_ready SEC(".maps");

// Read while the programs count.
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, WORKLOADS);
	TYPE(key, u32);
	TYPE(value, struct tally);
} tallies SEC(".maps");

// By workload. Not read-only data: which namespaces it is may not be known before the programs are there.
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, WORKLOADS);
	TYPE(key, u32);
	TYPE(value, struct namespaces);
} namespaces SEC(".maps");

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

struct {
	UINT(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	UINT(max_entries, WORKLOADS);
	UINT(key_size, 4);
	UINT(value_size, 4);
} cgroups SEC(".maps");

// What all tasks compare theirs with (shared). The programs count it up by one. The recorder may not do so,
// as it cannot add to it but only write it: it goes on by so much that what is counted meanwhile does not
// take it to a number that it has had.
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

INLINE struct tally *tally_of(u32 workload)
{
	return bpf_map_lookup_elem(&tallies, &workload);
}

#define COUNT_FOR(workload, member)                       \
	({                                                \
		struct tally *tally = tally_of(workload); \
		if (tally)                                \
			ADD(tally->member, 1);            \
	})
