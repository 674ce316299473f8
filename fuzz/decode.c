// SPDX-License-Identifier: GPL-2.0-or-later
/* Random code: decoded in all three code sizes, then run for a while in a machine with 1 MiB of
 * RAM. The first byte chooses the mode, the next eight seed the registers. Nothing may crash, and
 * the processor must stop at its budget. */
#include <string.h>

#include "bench.h"
#include "cpu/decode.h"

enum { RAM = 1 << 20, HEADER = 9, CODE_MAX = 4096, BUDGET = 3000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_all(const uint8_t *code, size_t size)
{
	static const unsigned code_sizes[] = {2, 4, 8};

	for (unsigned i = 0; i < G_N_ELEMENTS(code_sizes); i++) {
		for (size_t at = 0; at < size;) {
			unsigned left = (unsigned)MIN(size - at, INSN_MAX);
			struct insn insn;

			if (decode(code + at, left, code_sizes[i], &insn) == DECODE_OK) {
				g_assert(insn.length && insn.length <= left);
				at += insn.length;
			} else {
				at++;
			}
		}
	}
}

static void seed_state(struct cpu_state *state, uint64_t seed)
{
	for (unsigned i = 0; i < CPU_REG_COUNT; i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		/* Mostly addresses within the RAM, some anywhere. */
		state->regs[i] = seed & UINT64_C(7) << 30 ? (seed >> 32) % RAM : seed;
	}
	state->rflags = 2 | (seed & 0x40cd5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned bits[] = {16, 32, 64};
	struct cpu_state state;
	struct bench *bench;
	uint64_t seed, before;

	if (size <= HEADER)
		return 0;
	decode_all(data + HEADER, size - HEADER);
	bench = bench_new(RAM);
	memcpy(&seed, data + 1, sizeof(seed));
	bench_load(bench, 0x1000, data + HEADER, MIN(size - HEADER, CODE_MAX));
	bench_mode(bench, bench->cpu, bits[data[0] % 3], 0x1000, 0x8000);
	cpu_get_state(bench->cpu, &state);
	seed_state(&state, seed);
	if (data[0] & 0x80 && data[0] % 3) { /* user code */
		state.seg[SEG_CS].selector |= 3;
		for (unsigned i = 0; i <= SEG_GS; i++)
			state.seg[i].attr |= SEG_DPL;
	}
	bench->answer = seed;
	bench->vector = (int)(seed >> 56);
	if (cpu_set_state(bench->cpu, &state, NULL)) {
		before = cpu_insns_retired(bench->cpu);
		cpu_set_intr(bench->cpu, data[0] & 0x40);
		cpu_run(bench->cpu, BUDGET);
		g_assert(cpu_insns_retired(bench->cpu) - before <= BUDGET);
	}
	bench_free(bench);
	return 0;
}
