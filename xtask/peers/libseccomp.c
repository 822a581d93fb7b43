/* Builds a filter with libseccomp and writes it to standard output as struct sock_filter.
 *
 * usage: libseccomp OPTIMIZE < POLICY, where OPTIMIZE is 1 (priority order) or 2 (binary tree) and
 * POLICY has one line each: `default ACTION`, `arch NAME`,
 * `rule ACTION CALL NR COUNT [ARG OP VALUE VALUE2 BITS]…` with libseccomp's numbers for OP. The number
 * is used where libseccomp does not know the name.
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "libseccomp: %s: %s\n", what, strerror(-result));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = NULL;
	char word[16], name[64];
	unsigned int action, count;
	int known;

	if (argc != 2)
		return 2;
	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "default") && scanf("%u", &action) == 1) {
			filter = seccomp_init(action);
			check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE,
					       (uint32_t)atoi(argv[1])), "optimize");
		} else if (!strcmp(word, "arch") && scanf("%63s", name) == 1) {
			int result = seccomp_arch_add(filter, seccomp_arch_resolve_name(name));
			/* Already there, or unknown to some of the architectures. */
			check(result == -17 || result == -14 ? 0 : result, name);
		} else if (!strcmp(word, "rule") &&
			   scanf("%u %63s %d %u", &action, name, &known, &count) == 4 && count <= 6) {
			struct scmp_arg_cmp compare[6] = { 0 };
			unsigned int arg, op, bits;
			unsigned long long a, b;

			for (unsigned int i = 0; i < count; i++) {
				if (scanf("%u %u %llu %llu %u", &arg, &op, &a, &b, &bits) != 5)
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
	check(seccomp_export_bpf(filter, 1), "export");
	seccomp_release(filter);
	return 0;
}
