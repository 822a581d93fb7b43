/*
 * The filter that libseccomp makes of rules on standard input, on standard output.
 *
 *   default ACTION
 *   arch TOKEN                      lower case, as seccomp_arch_resolve_name takes it
 *   rule ACTION NAME [INDEX OP A B]...
 *
 * Actions are the kernel's values in hexadecimal; OP is libseccomp's number of the operator.
 * Exits with 3 if libseccomp refuses, as a runtime then would.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

int main(void)
{
	static char line[1 << 16];
	scmp_filter_ctx ctx = NULL;
	/* Rules that it cannot cope with end it, one way or another. */
	struct rlimit seconds = { 2, 2 };

	setrlimit(RLIMIT_CPU, &seconds);
	while (fgets(line, sizeof(line), stdin)) {
		char *word = strtok(line, " \n");
		if (!word)
			continue;
		if (!strcmp(word, "default")) {
			ctx = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 16));
			if (!ctx)
				return 3;
		} else if (!strcmp(word, "arch")) {
			int rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(strtok(NULL, " \n")));
			if (rc && rc != -EEXIST)
				return 3;
		} else {
			struct scmp_arg_cmp args[6];
			unsigned int count = 0;
			unsigned long action = strtoul(strtok(NULL, " \n"), NULL, 16);
			int call = seccomp_syscall_resolve_name(strtok(NULL, " \n"));

			while ((word = strtok(NULL, " \n")) && count < 6) {
				args[count].arg = strtoul(word, NULL, 10);
				args[count].op = strtoul(strtok(NULL, " \n"), NULL, 10);
				args[count].datum_a = strtoull(strtok(NULL, " \n"), NULL, 10);
				args[count].datum_b = strtoull(strtok(NULL, " \n"), NULL, 10);
				count++;
			}
			if (call == __NR_SCMP_ERROR)
				continue;
			if (seccomp_rule_add_array(ctx, action, call, count, args))
				return 3;
		}
	}
	return seccomp_export_bpf(ctx, 1) ? 3 : 0;
}
