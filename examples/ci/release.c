// Releases: proves by descriptor 3 that it has the secret, and then tries what code that was planted in it
// would try. Each attempt must be refused; the status tells whether all were. With --check it is tested
// before there is a secret, and tries to change what was built.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_attempts;

static void must_fail(const char *what, long result)
{
	if (result < 0) {
		printf("refused: %s (%s)\n", what, strerrorname_np(errno));
	} else {
		printf("OPEN: %s\n", what);
		open_attempts++;
	}
}

// Enough for an example; a real release signs something.
static unsigned long sign(const char *secret)
{
	unsigned long sum = 5381;
	for (const char *at = secret; *at; at++)
		sum = sum * 33 + (unsigned char)*at;
	return sum;
}

static int check(const char *built)
{
	if (sign("a") != 177670) {
		fputs("release: what it signs is wrong\n", stderr);
		return 2;
	}
	// Not to write: a program that runs is not written to, whatever the policy.
	must_fail("change its mode", chmod(built, 0777));
	must_fail("replace it", rename(built, built));
	must_fail("make another file", open("/tmp", O_RDWR | O_TMPFILE, 0600));
	return open_attempts != 0;
}

int main(int count, char **arguments)
{
	if (count > 1 && !strcmp(arguments[1], "--check"))
		return check(arguments[0]);
	const char *secret = getenv("SECRET");
	if (!secret) {
		fputs("release: there is no SECRET\n", stderr);
		return 2;
	}
	if (dprintf(3, "release %lx\n", sign(secret)) < 0) {
		perror("release: descriptor 3");
		return 2;
	}

	pid_t child = fork();
	if (!child)
		_exit(0);
	must_fail("start a process", child);
	char *shell[] = {"sh", "-c", "exit 0", NULL};
	// It does not return where it succeeds.
	must_fail("become a shell", execv("/bin/sh", shell));
	must_fail("make a file without a name", memfd_create("code", 0));
	must_fail("trace a process", ptrace(PTRACE_SEIZE, getppid(), 0, 0));
	must_fail("open a connection", socket(AF_INET, SOCK_STREAM, 0));
	must_fail("write a file", open("/tmp", O_RDWR | O_TMPFILE, 0600));
	void *memory = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must_fail("map memory to execute", memory == MAP_FAILED ? -1 : 0);
	return open_attempts != 0;
}
