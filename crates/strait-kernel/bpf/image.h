// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Program files: which one a task runs, by its path, and the number that it has here.

#pragma once

#include "maps.h"

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

// Of the program that the current task runs.
APART u32 image_now(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm;
	struct file *file = 0;
	if (!READ(mm, &task->mm) && mm)
		READ(file, &mm->exe_file);
	return image_of(task, file, 0);
}
