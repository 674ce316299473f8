// SPDX-License-Identifier: GPL-2.0-or-later
/* The run loop: blocks, chaining, budgets, requests. */
#include "bench.h"

#include <string.h>

#define RUN(bench, bits, state, ...)                                                               \
	({                                                                                         \
		static const uint8_t code[] = {__VA_ARGS__};                                       \
		bench_code(bench, bits, code, sizeof(code), state);                                \
	})

/* mov ecx,10; xor eax,eax; add eax,ecx; dec ecx; jnz; hlt: the same bytes in 32 and 64 bits but for
 * DEC. */
static void test_loop(void)
{
	struct bench *bench = bench_new(1 << 20);
	struct cpu_state state;

	g_assert_cmpint(RUN(bench, 64, &state, 0xb9, 10, 0, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0xff,
			    0xc9, 0x75, 0xfa, 0xf4),
			==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 55);
	g_assert_cmpuint(state.rip, ==, 0x1000 + 14);
	g_assert_cmpint(RUN(bench, 32, &state, 0xb9, 10, 0, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0x49,
			    0x75, 0xfb, 0xf4),
			==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 55);
	g_assert_cmpint(
		RUN(bench, 16, &state, 0xb9, 10, 0, 0x31, 0xc0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4),
		==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 55);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/core/loop", test_loop);
	return g_test_run();
}
