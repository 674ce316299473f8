// SPDX-License-Identifier: GPL-2.0-or-later
/* How fast the software processor runs floating point and vector code, against the host itself on
 * the same code. */
#include "cpu-fp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { MEMORY = 0x100000, MEMORY_SIZE = 256 << 10, CODE = 0x2000, RAM = 16 << 20 };

extern const char __start_floating[], __stop_floating[];

static const double constants[8] = {1.25, 0.75, 1.0009765625, 3.5, -2.25, 0.3, 1e6, 0.001};

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t run_guest(enum cpu_fp_kernel kernel, uint64_t rounds, double *seconds,
			  uint64_t *insns)
{
	static const uint8_t entry[] = {0xff, 0xd0, 0xf4}; /* call rax; hlt */
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	bench_load(bench, CODE, __start_floating, (size_t)(__stop_floating - __start_floating));
	bench_load(bench, 0x1000, entry, sizeof(entry));
	bench_load(bench, MEMORY, constants, sizeof(constants));
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x60000);
	cpu_get_state(bench->cpu, &state);
	state.regs[CPU_RAX] =
		CODE + (uint64_t)((const char *)(uintptr_t)guest_fp - __start_floating);
	state.regs[CPU_RDI] = MEMORY;
	state.regs[CPU_RSI] = kernel;
	state.regs[CPU_RDX] = rounds;
	memcpy(state.fxsave, &(uint16_t){0x37f}, 2);
	state.fxsave[4] = 0; /* no x87 register in use */
	if (!cpu_set_state(bench->cpu, &state, NULL))
		abort();
	*insns = cpu_insns_retired(bench->cpu);
	*seconds = cpu_seconds();
	if (cpu_run(bench->cpu, 0) != CPU_EXIT_HALT)
		abort();
	*seconds = cpu_seconds() - *seconds;
	*insns = cpu_insns_retired(bench->cpu) - *insns;
	cpu_get_state(bench->cpu, &state);
	bench_free(bench);
	return state.regs[CPU_RAX];
}

static uint64_t run_native(enum cpu_fp_kernel kernel, uint64_t rounds, double *seconds)
{
	uint8_t *memory = aligned_alloc(64, MEMORY_SIZE);
	uint64_t result;

	memset(memory, 0, MEMORY_SIZE);
	memcpy(memory, constants, sizeof(constants));
	*seconds = cpu_seconds();
	result = guest_fp(memory, kernel, rounds);
	*seconds = cpu_seconds() - *seconds;
	free(memory);
	return result;
}

int main(void)
{
	static const struct {
		const char *name;
		uint64_t rounds;
	} kernels[CPU_FP_KERNELS] = {{"matmul (packed doubles)", 500},
				     {"nbody (scalar doubles)", 300000},
				     {"x87 (multiply, divide, root)", 5000000},
				     {"simdint (packed integers)", 100000}};

	for (unsigned i = 0; i < CPU_FP_KERNELS; i++) {
		double ours, native;
		uint64_t insns, result = run_guest(i, kernels[i].rounds, &ours, &insns);
		if (run_native(i, kernels[i].rounds, &native) != result) {
			fprintf(stderr, "cpu-fp: %s: the guest's result is wrong\n",
				kernels[i].name);
			return 1;
		}
		printf("%s: %.2f ns an instruction (%.0f MIPS), %.1f times native\n",
		       kernels[i].name, ours * 1e9 / (double)insns, (double)insns / ours / 1e6,
		       ours / native);
	}
	return 0;
}
