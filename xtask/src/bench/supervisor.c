// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The least supervisor that there can be: every call of a command is notified and let go on. What the
// notify engine is compared with; it counts nothing.
//
// supervisor CMD...

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	// The listener is told by memory, since every call of the child waits for its answer.
	volatile int *listener = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (listener == MAP_FAILED)
		fail("mmap");
	*listener = -1;
	pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (child < 0)
		fail("clone");
	if (!child) {
		struct sock_filter notify = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
		struct sock_fprog program = {.len = 1, .filter = &notify};
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		*listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
				    &program);
		execvp(argv[1], argv + 1);
		fail(argv[1]);
	}
	while (*listener < 0)
		;
	__u64 same_cpu = 1; // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6; as the notify engine does
	ioctl(*listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, same_cpu);
	struct pollfd ready = {.fd = *listener, .events = POLLIN};
	for (;;) {
		struct seccomp_notif call = {};
		struct seccomp_notif_resp answer = {};
		if (ioctl(*listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
			if (errno != EINTR && errno != ENOENT)
				fail("NOTIF_RECV");
			// Nobody is left who has the filter.
			if (poll(&ready, 1, 0) == 1 && ready.revents & POLLHUP)
				break;
			continue;
		}
		answer.id = call.id;
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(*listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
