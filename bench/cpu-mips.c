// SPDX-License-Identifier: GPL-2.0-or-later
/* How many million instructions the software processor does in a second of CPU time, on an integer
 * mix, on REP MOVSB and on OUT. */
#include "cpu-mips.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { MEMORY = 0x100000, CODE = 0x2000, RAM = 64 << 20 };

extern const char __start_guest[], __stop_guest[];

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void mix(uint64_t rounds)
{
	static const uint8_t entry[] = {0xff, 0xd0, 0xf4}; /* call rax; hlt */
	struct bench *bench = bench_new(RAM);
	uint8_t *memory = calloc(1, 256 << 10);
	struct cpu_state state;
	uint64_t before, insns;
	double start, taken, native;

	bench_load(bench, CODE, __start_guest, (size_t)(__stop_guest - __start_guest));
	bench_load(bench, 0x1000, entry, sizeof(entry));
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x60000);
	cpu_get_state(bench->cpu, &state);
	state.regs[CPU_RAX] =
		CODE + (uint64_t)((const char *)(uintptr_t)guest_main - __start_guest);
	state.regs[CPU_RDI] = MEMORY;
	state.regs[CPU_RSI] = rounds;
	if (!cpu_set_state(bench->cpu, &state, NULL))
		abort();
	before = cpu_insns_retired(bench->cpu);
	start = cpu_seconds();
	if (cpu_run(bench->cpu, 0) != CPU_EXIT_HALT)
		abort();
	taken = cpu_seconds() - start;
	insns = cpu_insns_retired(bench->cpu) - before;
	cpu_get_state(bench->cpu, &state);
	start = cpu_seconds();
	/* The list holds addresses, but none gets into the result. */
	if (guest_main(memory, rounds) != state.regs[CPU_RAX]) {
		fprintf(stderr, "cpu-mips: the guest's result is wrong\n");
		exit(1);
	}
	native = cpu_seconds() - start;
	printf("integer mix: %.0f MIPS (%.2f s for %.0f M instructions; native %.3f s, %.1fx)\n",
	       (double)insns / taken / 1e6, taken, (double)insns / 1e6, native, taken / native);
	free(memory);
	bench_free(bench);
}

static double code_seconds(const char *what, const uint8_t *code, size_t size)
{
	struct bench *bench = bench_new(RAM);
	double start;

	bench_load(bench, 0x1000, code, size);
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x60000);
	start = cpu_seconds();
	if (cpu_run(bench->cpu, 0) != CPU_EXIT_HALT) {
		fprintf(stderr, "cpu-mips: %s did not end\n", what);
		exit(1);
	}
	start = cpu_seconds() - start;
	bench_free(bench);
	return start;
}

static void copies(void)
{
	/* mov ebx,100; 1: mov esi,0x1000000; mov edi,0x2000000; mov ecx,0x1000000; rep movsb;
	 * dec ebx; jnz 1b; hlt */
	static const uint8_t code[] = {0xbb, 100,  0,    0,    0,    0xbe, 0,    0,    0,
				       1,    0xbf, 0,    0,    0,    2,    0xb9, 0,    0,
				       0,    1,    0xf3, 0xa4, 0xff, 0xcb, 0x75, 0xeb, 0xf4};
	double taken = code_seconds("rep movsb", code, sizeof(code));

	printf("rep movsb, 16 MiB to 16 MiB on: %.1f GB/s\n", 100 * 16.777216e6 / taken / 1e9);
}

static void ports(void)
{
	/* mov ecx,10000000; 1: out 0x80,al; dec ecx; jnz 1b; hlt */
	static const uint8_t code[] = {0xb9, 0x80, 0x96, 0x98, 0,    0xe6,
				       0x80, 0xff, 0xc9, 0x75, 0xfa, 0xf4};
	double taken = code_seconds("out", code, sizeof(code));

	printf("out: %.3f us each\n", taken / 10);
}

int main(int argc, char **argv)
{
	mix(argc > 1 ? strtoull(argv[1], NULL, 0) : 1000);
	copies();
	ports();
	return 0;
}
