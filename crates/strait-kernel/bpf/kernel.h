// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The kernel as the recorder sees it: the members of its structures that are read, its constants, and
// its helper functions.

#pragma once

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
// A pointer into the kernel that a map keeps and that reads through whatever is there by then. Before Linux
// 6.4 the kernel calls this `kptr`: src/ebpf/built.rs writes that over it.
#define KEPT __attribute__((btf_type_tag("kptr_untrusted")))
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

struct cgroup;

struct css_set {
	struct cgroup *dfl_cgrp; // of the unified hierarchy
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
	struct task_struct *real_parent;
	struct css_set *cgroups;
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
