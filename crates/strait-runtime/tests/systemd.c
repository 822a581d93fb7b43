/*
 * The filter that systemd loads for one arch of a SystemCallFilter=, on standard output.
 *
 *   systemd ARCH DEFAULT ACTION NAME…
 *
 * As seccomp_load_syscall_filter_set_raw() of its src/shared/seccomp-util.c asks libseccomp for it: a filter
 * for each arch by itself, that lets calls of all others pass, with a rule for each name that
 * libseccomp knows. Actions are the kernel's values in hexadecimal.
 */
#include <seccomp.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	uint32_t arch, action;
	scmp_filter_ctx ctx;
	int i;

	if (argc < 4)
		return 2;
	arch = seccomp_arch_resolve_name(argv[1]);
	ctx = seccomp_init(strtoul(argv[2], NULL, 16));
	action = strtoul(argv[3], NULL, 16);
	if (!ctx)
		return 3;
	if (arch != seccomp_arch_native() &&
	    (seccomp_arch_remove(ctx, seccomp_arch_native()) || seccomp_arch_add(ctx, arch)))
		return 3;
	if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW))
		return 3;
	for (i = 4; i < argc; i++) {
		int call = seccomp_syscall_resolve_name(argv[i]);

		if (call == __NR_SCMP_ERROR)
			continue;
		/* What the arch does not have is passed over, as systemd does. */
		seccomp_rule_add_exact(ctx, action, call, 0);
	}
	return seccomp_export_bpf(ctx, 1) ? 3 : 0;
}
