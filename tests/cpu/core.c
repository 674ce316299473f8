// SPDX-License-Identifier: GPL-2.0-or-later
/* The run loop: blocks, chaining, budgets, code modification, REP, page crossings. */
#include <string.h>

#include "bench.h"
#include "code.h"

enum { RAM = 4 << 20, GIB = 1 << 30, PD = 0x72000, PT = 0x73000 };

/* Maps linear 1 GiB + n pages to the physical pages in @pages (0: not present). */
static void map_pages(struct bench *bench, const uint64_t *pages, unsigned count)
{
	uint64_t pd = PD + 7, pt = PT + 7;

	bench_load(bench, BENCH_TABLES + 0x1008, &pd, 8);
	bench_load(bench, PD, &pt, 8);
	for (unsigned i = 0; i < count; i++) {
		uint64_t entry = pages[i] ? pages[i] + 0x67 : 0;

		bench_load(bench, PT + 8 * i, &entry, 8);
	}
}

static void start(struct bench *bench, const uint8_t *code, size_t size)
{
	bench_load(bench, 0x1000, code, size);
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x8000);
}

#define START(bench, name) start(bench, name##_start, CODE_SIZE(name))

CODE(loop, 64, "mov ecx, 10; xor eax, eax; 1: add eax, ecx; dec ecx; jnz 1b; hlt");
CODE(loop32, 32, "mov ecx, 10; xor eax, eax; 1: add eax, ecx; dec ecx; jnz 1b; hlt");
CODE(loop16, 16, "mov cx, 10; xor ax, ax; 1: add ax, cx; dec cx; jnz 1b; hlt");

static void test_loop(void)
{
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	g_assert_cmpint(RUN(bench, 64, loop, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 55);
	g_assert_cmpuint(state.rip, ==, 0x1000 + CODE_SIZE(loop));
	g_assert_cmpint(RUN(bench, 32, loop32, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 55);
	g_assert_cmpint(RUN(bench, 16, loop16, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 55);
	bench_free(bench);
}

/* Any budget stops after exactly that many instructions, with the state of single steps. */
static void test_budget(void)
{
	struct bench *bench = bench_new(RAM), *steps = bench_new(RAM);
	struct cpu_state state, expected;

	for (unsigned budget = 1; budget < 32; budget++) {
		START(bench, loop);
		START(steps, loop);
		g_assert_cmpint(cpu_run(bench->cpu, budget), ==, CPU_EXIT_BUDGET);
		for (unsigned i = 0; i < budget; i++)
			g_assert_cmpint(cpu_run(steps->cpu, 1), ==, CPU_EXIT_BUDGET);
		cpu_get_state(bench->cpu, &state);
		cpu_get_state(steps->cpu, &expected);
		g_assert_cmpuint(state.rip, ==, expected.rip);
		g_assert_cmpuint(state.rflags, ==, expected.rflags);
		g_assert_cmpmem(state.regs, sizeof(state.regs), expected.regs,
				sizeof(expected.regs));
		g_assert_cmpuint(cpu_insns_retired(bench->cpu), ==, cpu_insns_retired(steps->cpu));
	}
	bench_free(bench);
	bench_free(steps);
}

CODE(rep_copy, 64, "mov ecx, 10000; mov esi, 0x10000; mov edi, 0x20000; rep movsb; hlt");

static void test_rep_budget(void)
{
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	START(bench, rep_copy);
	memset(bench->ram + 0x10000, 0x5a, 10000);
	g_assert_cmpint(cpu_run(bench->cpu, 3 + 5000), ==, CPU_EXIT_BUDGET);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmpuint(state.regs[CPU_RCX], ==, 5000);
	g_assert_cmpuint(state.regs[CPU_RDI], ==, 0x20000 + 5000);
	g_assert_cmpuint(bench->ram[0x20000 + 4999], ==, 0x5a);
	g_assert_cmpuint(bench->ram[0x20000 + 5000], ==, 0);
	g_assert_cmpint(cpu_run(bench->cpu, 5000), ==, CPU_EXIT_BUDGET);
	g_assert_cmpuint(cpu_insns_retired(bench->cpu), ==, 10003);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_HALT);
	g_assert_cmpmem(bench->ram + 0x10000, 10000, bench->ram + 0x20000, 10000);
	bench_free(bench);
}

/* The destination begins inside the source: earlier stores are read again. */
CODE(rep_overlap, 64,
     "mov ecx, 100; mov esi, 0x10000; mov edi, 0x10003; rep movsb;"
     "mov ecx, 20; mov esi, 0x11000; mov edi, 0x11004; rep movsq;"
     "std; mov ecx, 50; mov esi, 0x12063; mov edi, 0x12073; rep movsb; cld; hlt");

static void test_rep_overlap(void)
{
	struct bench *bench = bench_new(RAM);
	static uint8_t expected[0x3000];
	struct cpu_state state;

	for (unsigned i = 0; i < sizeof(expected); i++)
		bench->ram[0x10000 + i] = expected[i] = (uint8_t)(i * 7 + (i >> 8));
	for (unsigned i = 0; i < 100; i++)
		expected[3 + i] = expected[i];
	for (unsigned i = 0; i < 20; i++) {
		uint64_t element;

		memcpy(&element, expected + 0x1000 + 8 * i, 8);
		memcpy(expected + 0x1004 + 8 * i, &element, 8);
	}
	for (unsigned i = 0; i < 50; i++)
		expected[0x2073 - i] = expected[0x2063 - i];
	g_assert_cmpint(RUN(bench, 64, rep_overlap, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpmem(bench->ram + 0x10000, sizeof(expected), expected, sizeof(expected));
	bench_free(bench);
}

/* A fault in the middle leaves the counters at the element that faulted. */
CODE(rep_fault, 64, "mov ecx, 6000; mov esi, 0x10000; mov edi, 0x40000000; rep movsb; hlt");
CODE(rep_fault_load, 64, "mov ecx, 6000; mov edi, 0x10000; mov esi, 0x40000000; rep movsb; hlt");

static void test_rep_fault(void)
{
	static const uint64_t pages[] = {0x100000, 0};
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	START(bench, rep_fault);
	map_pages(bench, pages, 2);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_SHUTDOWN);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmpuint(state.regs[CPU_RCX], ==, 6000 - 4096);
	g_assert_cmpuint(state.regs[CPU_RSI], ==, 0x11000);
	g_assert_cmpuint(state.regs[CPU_RDI], ==, 0x40001000);
	g_assert_cmpuint(state.cr2, ==, 0x40001000);
	g_assert_cmpuint(cpu_insns_retired(bench->cpu), ==, 3 + 4096);
	START(bench, rep_fault_load);
	map_pages(bench, pages, 2);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_SHUTDOWN);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmpuint(state.regs[CPU_RCX], ==, 6000 - 4096);
	g_assert_cmpuint(state.cr2, ==, 0x40001000);
	bench_free(bench);
}

CODE(crossing, 64,
     "mov rax, 0x1122334455667788; mov edi, 0x40000ffd; mov [rdi], rax; mov rbx, [rdi];"
     "add qword ptr [rdi], 1; xchg [rdi], rax; lock add dword ptr [rdi + 1], 0x10; hlt");
CODE(crossing_fault, 64, "mov rax, -1; mov edi, 0x40001ffd; mov [rdi], rax; hlt");
CODE(crossing_modify, 64, "mov edi, 0x40001ffe; inc dword ptr [rdi]; hlt");

static void test_crossing(void)
{
	static const uint64_t pages[] = {0x100000, 0x102000, 0};
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	START(bench, crossing);
	map_pages(bench, pages, 3);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_HALT);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.regs[CPU_RBX], ==, 0x1122334455667788);
	g_assert_cmphex(state.regs[CPU_RAX], ==, 0x1122334455667789);
	g_assert_cmphex(bench->ram[0x100ffd], ==, 0x88);
	g_assert_cmphex(bench->ram[0x100ffe], ==, 0x87);
	g_assert_cmphex(bench->ram[0x102000], ==, 0x55);
	START(bench, crossing_fault);
	map_pages(bench, pages, 3);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_SHUTDOWN);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.cr2, ==, 0x40002000);
	g_assert_cmphex(bench->ram[0x102ffd], ==, 0);
	START(bench, crossing_modify);
	map_pages(bench, pages, 3);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_SHUTDOWN);
	g_assert_cmphex(bench->ram[0x102ffe], ==, 0);
	bench_free(bench);
}

/* --- Code modification --- */

CODE(smc_next, 64, "mov byte ptr [rip + smc_target + 1], 0x22; smc_target: mov al, 0x11; hlt");
CODE(smc_loop, 64,
     "xor ebx, ebx; mov ecx, 300; 1: mov [rip + smc_value + 1], ecx; call smc_value;"
     "add ebx, eax; dec ecx; jnz 1b; hlt; smc_value: mov eax, 0; ret");
CODE(smc_alias, 64,
     "xor ebx, ebx; mov ecx, 300; mov edi, 0x40001000; add edi, smc_aliased - smc_alias_start + 1;"
     "1: mov [rdi], ecx; call smc_aliased; add ebx, eax; dec ecx; jnz 1b; hlt;"
     "smc_aliased: mov eax, 0; ret");
CODE(smc_rep, 64,
     "mov esi, 0x10000; lea rdi, [rip + smc_replaced]; mov ecx, 5; rep movsb;"
     "smc_replaced: mov eax, 1; hlt");
/* Data in the page of the code, but in other granules: nothing is decoded anew. */
CODE(smc_stack, 64, "mov ecx, 1000; mov esp, 0x1f00; 1: push rcx; pop rax; dec ecx; jnz 1b; hlt");

static void test_smc(void)
{
	static const uint64_t alias[] = {0x100000, 0x1000};
	static const uint8_t replacement[] = {0xb8, 7, 0, 0, 0};
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	g_assert_cmpint(RUN(bench, 64, smc_next, &state), ==, CPU_EXIT_HALT);
	g_assert_cmphex(state.regs[CPU_RAX], ==, 0x22);
	g_assert_cmpint(RUN(bench, 64, smc_loop, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RBX], ==, 300 * 301 / 2);
	START(bench, smc_alias);
	map_pages(bench, alias, 2);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_HALT);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmpuint(state.regs[CPU_RBX], ==, 300 * 301 / 2);
	bench_load(bench, 0x10000, replacement, sizeof(replacement));
	g_assert_cmpint(RUN(bench, 64, smc_rep, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 7);
	g_assert_cmpint(RUN(bench, 64, smc_stack, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 1);
	bench_free(bench);
}

/* A device writes code while the guest waits for it in an OUT. */
CODE(smc_dma, 64, "call 1f; out 0x80, al; call 1f; hlt; 1: mov eax, 1; ret");

static void port_dma(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct bench *bench = opaque;
	uint64_t at = 0x1000 + CODE_SIZE(smc_dma) - 5;

	bench->ram[at] = 9;
	cpu_system_ram_written(bench->system, at, 1);
}

static void test_smc_dma(void)
{
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	bench->bus.port_write = port_dma;
	g_assert_cmpint(RUN(bench, 64, smc_dma, &state), ==, CPU_EXIT_HALT);
	g_assert_cmpuint(state.regs[CPU_RAX], ==, 9);
	bench_free(bench);
}

/* --- Mappings --- */

/* Two pages of code, each jumping into the other; the second is exchanged under way. Its number is
 * in eax. */
CODE(remap, 64,
     "xor ebx, ebx; mov r8d, 0x40000000; mov ecx, 4; 1: call r8; call r8; add ebx, eax;"
     "mov rdx, [0x73000]; xchg rdx, [0x73008]; mov [0x73000], rdx; invlpg [r8];"
     "mov r9d, 0x40001000; invlpg [r9]; dec ecx; jnz 1b; hlt");
CODE(remap_cr3, 64,
     "xor ebx, ebx; mov r8d, 0x40000000; mov ecx, 4; 1: call r8; call r8; add ebx, eax;"
     "mov rdx, [0x73000]; xchg rdx, [0x73008]; mov [0x73000], rdx; mov rdx, cr3; mov cr3, rdx;"
     "dec ecx; jnz 1b; hlt");
CODE(page_one, 64, "mov eax, 1; ret");
CODE(page_two, 64, "mov eax, 0x100; ret");

static void test_remap(void)
{
	static const uint64_t pages[] = {0x100000, 0x101000};
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	for (unsigned kind = 0; kind < 2; kind++) {
		if (kind)
			START(bench, remap_cr3);
		else
			START(bench, remap);
		bench_load(bench, 0x100000, page_one_start, CODE_SIZE(page_one));
		bench_load(bench, 0x101000, page_two_start, CODE_SIZE(page_two));
		map_pages(bench, pages, 2);
		g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_HALT);
		cpu_get_state(bench->cpu, &state);
		g_assert_cmphex(state.regs[CPU_RBX], ==, 0x202);
	}
	bench_free(bench);
}

/* An instruction over a page border, whose second half changes its page. */
CODE(split_code, 64,
     "xor ebx, ebx; mov r8d, 0x40000ffd; mov ecx, 4; 1: call r8; add ebx, eax;"
     "mov rdx, [0x73008]; xchg rdx, [0x73010]; mov [0x73008], rdx; mov r9d, 0x40001000;"
     "invlpg [r9]; dec ecx; jnz 1b; hlt");

static void test_split_code(void)
{
	static const uint64_t pages[] = {0x100000, 0x102000, 0x104000};
	static const uint8_t head[] = {0xb8, 1, 0}, tail[] = {0, 0, 0xc3}, other[] = {1, 0, 0xc3};
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	START(bench, split_code);
	bench_load(bench, 0x100ffd, head, 3);
	bench_load(bench, 0x102000, tail, 3);
	bench_load(bench, 0x104000, other, 3);
	map_pages(bench, pages, 3);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_HALT);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.regs[CPU_RBX], ==, 4 + 2 * 0x10000);
	/* A store to the tail is noticed as well. */
	bench->ram[0x102000] = bench->ram[0x104000] = 2;
	cpu_system_ram_written(bench->system, 0x102000, 1);
	cpu_system_ram_written(bench->system, 0x104000, 1);
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x8000);
	map_pages(bench, pages, 3);
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_HALT);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.regs[CPU_RBX], ==, 4 * 0x20001);
	bench_free(bench);
}

/* --- Slots --- */

CODE(store, 64, "mov byte ptr [0x20000], 1; mov byte ptr [0x20001], 2; hlt");
CODE(rom_store, 64,
     "mov edi, 0x400000; mov eax, [rdi]; mov [rdi], ecx; add dword ptr [rdi], 5; hlt");

static void test_dirty(void)
{
	struct bench *bench = bench_new(RAM);
	struct cpu_state state;

	RUN(bench, 64, store, &state);
	g_assert_cmphex(bench->dirty[0], ==, 0);
	cpu_system_log_dirty(bench->system, bench->slot, true);
	RUN(bench, 64, store, &state);
	g_assert_cmphex(bench->dirty[0] & 1ULL << 0x20, !=, 0);
	bench->dirty[0] = 0;
	cpu_system_rearm_dirty(bench->system, bench->slot);
	RUN(bench, 64, store, &state);
	g_assert_cmphex(bench->dirty[0], ==, 1ULL << 0x20);
	bench_free(bench);
}

static void test_rom(void)
{
	struct bench *bench = bench_new(RAM);
	static _Alignas(4096) uint8_t rom[4096] = {0x78, 0x56, 0x34, 0x12};
	struct cpu_state state;

	cpu_system_map(bench->system, RAM, sizeof(rom), rom, true, NULL);
	g_assert_cmpint(RUN(bench, 64, rom_store, &state), ==, CPU_EXIT_HALT);
	g_assert_cmphex(state.regs[CPU_RAX], ==, 0x12345678);
	g_assert_cmphex(rom[0], ==, 0x78);
	g_assert_cmpuint(bench->event_count, ==, 2);
	g_assert_cmpint(bench->event[0].kind, ==, BENCH_MMIO_WRITE);
	g_assert_cmphex(bench->event[1].value, ==, 0x1234567d);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/core/loop", test_loop);
	g_test_add_func("/cpu/core/budget", test_budget);
	g_test_add_func("/cpu/core/rep-budget", test_rep_budget);
	g_test_add_func("/cpu/core/rep-overlap", test_rep_overlap);
	g_test_add_func("/cpu/core/rep-fault", test_rep_fault);
	g_test_add_func("/cpu/core/crossing", test_crossing);
	g_test_add_func("/cpu/core/smc", test_smc);
	g_test_add_func("/cpu/core/smc-dma", test_smc_dma);
	g_test_add_func("/cpu/core/remap", test_remap);
	g_test_add_func("/cpu/core/split-code", test_split_code);
	g_test_add_func("/cpu/core/dirty", test_dirty);
	g_test_add_func("/cpu/core/rom", test_rom);
	return g_test_run();
}
