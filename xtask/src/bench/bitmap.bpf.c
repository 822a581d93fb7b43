// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The least that a recorder can do: one bit for each number, for each CPU, of whoever calls. What
// `cargo xtask bench record` measures the recorder beside.

typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

enum { BPF_MAP_TYPE_PERCPU_ARRAY = 6, WORDS = 8 };
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

struct bits {
	u64 word[WORDS];
};

struct {
	int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
	int (*max_entries)[1];
	u32 *key;
	struct bits *value;
} bitmap SEC(".maps");

SEC("raw_tp/sys_enter")
int sys_enter(u64 *ctx)
{
	u32 zero = 0;
	struct bits *bits = bpf_map_lookup_elem(&bitmap, &zero);
	if (bits)
		bits->word[ctx[1] >> 6 & (WORDS - 1)] |= 1ull << (ctx[1] & 63);
	return 0;
}

char license_of_program[] SEC("license") = "Dual MIT/GPL";
