// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The least supervisor of connect that has no race, and the loop that it is measured on.
//
// connect supervise CMD...   each connect of the command is made in its place, whatever it leads to
// connect loop udp|tcp N     connects N times on the loopback device; prints the ns that one took

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#define THREAD 0200 // PIDFD_THREAD, Linux 6.9

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

static void answer(int listener, const struct seccomp_notif *call)
{
	struct seccomp_notif_resp answer = {.id = call->id};
	struct sockaddr_storage address;
	size_t length = call->data.args[2];
	int pidfd = syscall(SYS_pidfd_open, call->pid, THREAD);
	int fd = syscall(SYS_pidfd_getfd, pidfd, (int)call->data.args[0], 0);
	struct iovec own = {&address, length}, theirs = {(void *)call->data.args[1], length};
	if (length > sizeof address || fd < 0 ||
	    process_vm_readv(call->pid, &own, 1, &theirs, 1, 0) != (ssize_t)length)
		answer.error = -EACCES;
	else if (!ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call->id) &&
		 connect(fd, (struct sockaddr *)&address, length))
		answer.error = -errno;
	close(fd);
	close(pidfd);
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

static int supervise(char **command)
{
	volatile int *listener = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (listener == MAP_FAILED)
		fail("mmap");
	*listener = -1;
	pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (child < 0)
		fail("clone");
	if (!child) {
		struct sock_filter filter[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = {.len = 4, .filter = filter};
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		*listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				    SECCOMP_FILTER_FLAG_NEW_LISTENER |
					    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
				    &program);
		execvp(command[0], command);
		fail(command[0]);
	}
	while (*listener < 0)
		;
	__u64 same_cpu = 1; // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6; as Strait does
	ioctl(*listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, same_cpu);
	struct pollfd ready = {.fd = *listener, .events = POLLIN};
	for (;;) {
		struct seccomp_notif call = {};
		if (!ioctl(*listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			answer(*listener, &call);
		else if (errno != EINTR && errno != ENOENT)
			fail("NOTIF_RECV");
		else if (poll(&ready, 1, 0) == 1 && ready.revents & POLLHUP)
			break;
	}
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int loop(int type, long count)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof address;
	int peer = socket(AF_INET, type, 0);
	if (bind(peer, (struct sockaddr *)&address, length) ||
	    getsockname(peer, (struct sockaddr *)&address, &length) ||
	    (type == SOCK_STREAM && listen(peer, 16)))
		fail("listen");
	long long spent = 0;
	for (long i = 0; i < count; i++) {
		int fd = socket(AF_INET, type, 0);
		struct timespec before, after;
		clock_gettime(CLOCK_MONOTONIC, &before);
		if (connect(fd, (struct sockaddr *)&address, length))
			fail("connect");
		clock_gettime(CLOCK_MONOTONIC, &after);
		spent += (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
		if (type == SOCK_STREAM) {
			// The one that connected resets, so that no port is kept waiting.
			struct linger reset = {1, 0};
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
			close(accept(peer, 0, 0));
		}
		close(fd);
	}
	printf("%f\n", (double)spent / count);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "supervise"))
		return supervise(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "loop"))
		return loop(strcmp(argv[2], "udp") ? SOCK_STREAM : SOCK_DGRAM, atol(argv[3]));
	return 2;
}
