/* Builds a filter with libseccomp and writes it to standard output as struct sock_filter; with RUNS,
 * that often, and writes the median of the nanoseconds that it took to standard error.
 *
 * usage: libseccomp OPTIMIZE [RUNS] < POLICY, where OPTIMIZE is 1 (priority order) or 2 (binary tree) and
 * POLICY has one line each: `default ACTION`, `arch NAME`,
 * `rule ACTION CALL NR COUNT [ARG OP VALUE VALUE2 BITS]…` with libseccomp's numbers for OP. The number
 * is used where libseccomp does not know the name.
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void check(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "libseccomp: %s: %s\n", what, strerror(-result));
		exit(1);
	}
}

static int build(FILE *in, uint32_t optimize, int out)
{
	scmp_filter_ctx filter = NULL;
	char word[16], name[64];
	unsigned int action, count;
	int known;

	while (fscanf(in, "%15s", word) == 1) {
		if (!strcmp(word, "default") && fscanf(in, "%u", &action) == 1) {
			filter = seccomp_init(action);
			check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE,
					       optimize), "optimize");
		} else if (!strcmp(word, "arch") && fscanf(in, "%63s", name) == 1) {
			int result = seccomp_arch_add(filter, seccomp_arch_resolve_name(name));
			/* Already there, or unknown to some of the architectures. */
			check(result == -17 || result == -14 ? 0 : result, name);
		} else if (!strcmp(word, "rule") &&
			   fscanf(in, "%u %63s %d %u", &action, name, &known, &count) == 4 && count <= 6) {
			struct scmp_arg_cmp compare[6] = { 0 };
			unsigned int arg, op, bits;
			unsigned long long a, b;

			for (unsigned int i = 0; i < count; i++) {
				if (fscanf(in, "%u %u %llu %llu %u", &arg, &op, &a, &b, &bits) != 5)
					return 2;
				if (bits == 32 && op == SCMP_CMP_EQ) {
					op = SCMP_CMP_MASKED_EQ;
					b = a;
					a = 0xffffffff;
				}
				compare[i] = (struct scmp_arg_cmp){ arg, (enum scmp_compare)op, a, b };
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR)
				nr = known;
			if (nr == -1)
				continue;
			int result = seccomp_rule_add_array(filter, action, nr, count, compare);
			/* Already there, or unknown to some of the architectures. */
			check(result == -17 || result == -14 ? 0 : result, name);
		} else {
			return 2;
		}
	}
	check(seccomp_export_bpf(filter, out), "export");
	seccomp_release(filter);
	return 0;
}

static int ascending(const void *a, const void *b)
{
	long one = *(const long *)a, other = *(const long *)b;

	return (one > other) - (one < other);
}

int main(int argc, char **argv)
{
	static char text[1 << 20];
	static long times[1001];
	int runs = argc == 3 ? atoi(argv[2]) : 1;
	size_t length = fread(text, 1, sizeof(text), stdin);
	FILE *nothing = fopen("/dev/null", "w");

	if (argc < 2 || argc > 3 || runs < 1 || runs > 1001 || !nothing)
		return 2;
	for (int i = 0; i < runs; i++) {
		struct timespec before, after;
		FILE *in = fmemopen(text, length, "r");

		clock_gettime(CLOCK_MONOTONIC, &before);
		int result = build(in, (uint32_t)atoi(argv[1]), i == runs - 1 ? 1 : fileno(nothing));
		clock_gettime(CLOCK_MONOTONIC, &after);
		fclose(in);
		if (result)
			return result;
		times[i] = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
	}
	qsort(times, (size_t)runs, sizeof(times[0]), ascending);
	if (argc == 3)
		fprintf(stderr, "%ld\n", times[runs / 2]);
	return 0;
}
