/* The least that a supervisor has to do: `notify sync|plain CMD…` lets every call of the command
 * pass by seccomp user notification, and counts nothing. `sync` asks for wake-ups on the same CPU
 * (Linux 6.6). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SET_FLAGS _IOW('!', 4, unsigned long long)
#define SYNC_WAKE_UP 1UL
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static void run(char **command)
{
	struct sock_filter filter[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF) };
	struct sock_fprog program = { .len = 1, .filter = filter };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	execv(command[0], command);
	_exit(127);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	/* The number that the child's listener will have: the lowest that is free. */
	int number = dup(0);
	close(number);
	pid_t child = fork();
	if (child == 0)
		run(argv + 2);
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	int listener;
	while ((listener = syscall(SYS_pidfd_getfd, pidfd, number, 0)) < 0)
		if (errno != EBADF)
			return 2;
	if (!strcmp(argv[1], "sync") && ioctl(listener, SET_FLAGS, SYNC_WAKE_UP))
		return 2;
	for (;;) {
		struct seccomp_notif call;
		memset(&call, 0, sizeof call);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
			struct pollfd over = { .fd = listener };
			if (poll(&over, 1, 0) > 0 && over.revents & POLLHUP)
				break;
			continue;
		}
		struct seccomp_notif_resp answer = {
			.id = call.id,
			.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
		};
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
