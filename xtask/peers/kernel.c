/* Loads the filter on standard input and prints how many nanoseconds a call takes under it.
 *
 * usage: kernel NR ROUNDS < FILTER, with FILTER as struct sock_filter, or empty for none. The call
 * is made with all arguments 0, so it must be a harmless one.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static struct sock_filter filter[4096];
	size_t bytes = fread(filter, 1, sizeof(filter), stdin);
	struct sock_fprog program = { .len = bytes / sizeof(*filter), .filter = filter };
	struct timespec from, to;
	char line[64];

	if (argc != 3)
		return 2;
	long nr = atol(argv[1]), rounds = atol(argv[2]);
	if (program.len && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
			    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)))
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < rounds; i++)
		syscall(nr, 0, 0, 0, 0, 0, 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	double elapsed = (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec);
	snprintf(line, sizeof(line), "%.1f\n", elapsed / rounds);
	if (write(1, line, strlen(line)) < 0)
		return 1;
	_exit(0);
}
