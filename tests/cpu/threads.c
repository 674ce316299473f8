// SPDX-License-Identifier: GPL-2.0-or-later
/* Several processors, a host thread each: atomicity, code modification by others, requests. */
#include <string.h>

#include "bench.h"
#include "code.h"

enum { RAM = 4 << 20, PD = 0x72000, PT = 0x73000, LIMIT_US = 20 * G_USEC_PER_SEC };

struct runner {
	struct cpu *cpu;
	enum cpu_exit exit;
};

static gpointer run(gpointer data)
{
	struct runner *runner = data;

	do
		runner->exit = cpu_run(runner->cpu, 0);
	while (runner->exit == CPU_EXIT_BUDGET);
	return NULL;
}

/* Runs both processors to their ends; a watchdog kicks what does not end. */
static void run_both(struct bench *bench, enum cpu_exit exits[2])
{
	struct runner runners[2] = {{.cpu = bench->cpus[0]}, {.cpu = bench->cpus[1]}};
	GThread *threads[2];

	for (unsigned i = 0; i < 2; i++)
		threads[i] = g_thread_new("vcpu", run, &runners[i]);
	for (unsigned i = 0; i < 2; i++) {
		g_thread_join(threads[i]);
		exits[i] = runners[i].exit;
	}
}

static struct bench *two_cpus(const uint8_t *one, size_t one_size, const uint8_t *two,
			      size_t two_size)
{
	struct bench *bench = bench_new(RAM);

	bench_add_cpu(bench);
	bench_load(bench, 0x1000, one, one_size);
	bench_load(bench, 0x3000, two, two_size);
	bench_mode(bench, bench->cpus[0], 64, 0x1000, 0x8000);
	bench_mode(bench, bench->cpus[1], 64, 0x3000, 0x9000);
	return bench;
}

#define TWO(one, two) two_cpus(one##_start, CODE_SIZE(one), two##_start, CODE_SIZE(two))

CODE(counting, 64,
     "mov ecx, 100000; mov esi, 0x20000; mov edi, 0x20041; mov ebx, 0x20100; 1: lock inc dword ptr "
     "[rsi]; mov eax, 1; lock xadd [rdi], eax; 2: mov eax, [rbx]; lea edx, [rax + 1];"
     "lock cmpxchg [rbx], edx; jnz 2b; lock bts dword ptr [rsi + 0x200], 3; dec ecx; jnz 1b; hlt");

static void test_atomic(void)
{
	struct bench *bench = TWO(counting, counting);
	enum cpu_exit exits[2];
	uint32_t sums[3];

	run_both(bench, exits);
	g_assert_cmpint(exits[0], ==, CPU_EXIT_HALT);
	g_assert_cmpint(exits[1], ==, CPU_EXIT_HALT);
	memcpy(&sums[0], bench->ram + 0x20000, 4);
	memcpy(&sums[1], bench->ram + 0x20041, 4);
	memcpy(&sums[2], bench->ram + 0x20100, 4);
	for (unsigned i = 0; i < 3; i++)
		g_assert_cmpuint(sums[i], ==, 200000);
	g_assert_cmpuint(bench->ram[0x20200], ==, 8);
	bench_free(bench);
}

/* An operand over two pages that are not neighbours in memory. */
CODE(split_count, 64,
     "mov ecx, 2000; mov edi, 0x40000ffe; 1: lock add dword ptr [rdi], 0x101; dec ecx; jnz 1b; "
     "hlt");

static void test_split_lock(void)
{
	struct bench *bench = TWO(split_count, split_count);
	uint64_t pd = PD + 7, pt = PT + 7, pages[2] = {0x100067, 0x102067};
	enum cpu_exit exits[2];

	bench_load(bench, BENCH_TABLES + 0x1008, &pd, 8);
	bench_load(bench, PD, &pt, 8);
	bench_load(bench, PT, pages, 16);
	run_both(bench, exits);
	g_assert_cmpint(exits[0], ==, CPU_EXIT_HALT);
	g_assert_cmpint(exits[1], ==, CPU_EXIT_HALT);
	/* 4000 * 0x101 = 0xfafa0 */
	g_assert_cmphex(bench->ram[0x100ffe], ==, 0xa0);
	g_assert_cmphex(bench->ram[0x100fff], ==, 0xaf);
	g_assert_cmphex(bench->ram[0x102000], ==, 0x0f);
	bench_free(bench);
}

/* (Few rounds: where both share one host CPU each takes two time slices.)
 * One rewrites a function and waits until the other, who calls it all the time, returns the new
 * value; the other ends at the value 0. */
CODE(caller, 64,
     "jmp 1f; 2: mov eax, -1; ret; 1: call 2b; mov [0x20000], eax; test eax, eax; jnz 1b; hlt");
CODE(patcher, 64,
     "mov ecx, 40; mov edi, 0x1002; 1: mov [rdi + 1], ecx; 2: pause; cmp [0x20000], ecx; jne 2b;"
     "dec ecx; jnz 1b; mov [rdi + 1], ecx; hlt");

static void test_cross_modify(void)
{
	struct bench *bench = TWO(caller, patcher);
	enum cpu_exit exits[2];

	run_both(bench, exits);
	g_assert_cmpint(exits[0], ==, CPU_EXIT_HALT);
	g_assert_cmpint(exits[1], ==, CPU_EXIT_HALT);
	bench_free(bench);
}

/* --- Requests --- */

CODE(forever, 64, "1: jmp 1b");
CODE(long_rep, 64, "1: mov ecx, 0x200000; mov edi, 0x100000; rep stosb; jmp 1b");
CODE(long_cmps, 64, "1: mov ecx, 0x300000; mov esi, 0x20000; mov edi, 0x20000; repe cmpsb; jmp 1b");

static void kick_one(const uint8_t *code, size_t size)
{
	struct bench *bench = bench_new(RAM);
	struct runner runner = {.cpu = bench->cpu};
	gint64 before;
	GThread *thread;

	bench_load(bench, 0x1000, code, size);
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x8000);
	thread = g_thread_new("vcpu", run, &runner);
	while (!cpu_insns_retired(bench->cpu))
		g_thread_yield();
	before = g_get_monotonic_time();
	cpu_kick(bench->cpu);
	g_thread_join(thread);
	g_assert_cmpint(runner.exit, ==, CPU_EXIT_KICK);
	g_assert_cmpint(g_get_monotonic_time() - before, <, G_USEC_PER_SEC);
	/* Sticky: a kick before the run ends it at once. */
	cpu_kick(bench->cpu);
	g_assert_true(cpu_has_work(bench->cpu));
	g_assert_cmpint(cpu_run(bench->cpu, 0), ==, CPU_EXIT_KICK);
	bench_free(bench);
}

static void test_kick(void)
{
	kick_one(forever_start, CODE_SIZE(forever));
	kick_one(long_rep_start, CODE_SIZE(long_rep));
	kick_one(long_cmps_start, CODE_SIZE(long_cmps));
}

/* A real-mode interrupt into a loop of one jump. */
CODE(spin16, 16, "sti; 1: jmp 1b");
CODE(handler16, 16, "mov ax, 0x1234; hlt");

static void test_interrupt(void)
{
	static const uint16_t vector[2] = {0x2000, 0};
	struct bench *bench = bench_new(RAM);
	struct runner runner = {.cpu = bench->cpu};
	struct cpu_state state;
	GThread *thread;

	bench_load(bench, 0x1000, spin16_start, CODE_SIZE(spin16));
	bench_load(bench, 0x2000, handler16_start, CODE_SIZE(handler16));
	bench_load(bench, 0x20 * 4, vector, 4);
	bench_mode(bench, bench->cpu, 16, 0x1000, 0x8000);
	bench->vector = 0x20;
	thread = g_thread_new("vcpu", run, &runner);
	while (!cpu_insns_retired(bench->cpu))
		g_thread_yield();
	cpu_set_intr(bench->cpu, true);
	g_thread_join(thread);
	g_assert_cmpint(runner.exit, ==, CPU_EXIT_HALT);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.regs[CPU_RAX], ==, 0x1234);
	g_assert_false(state.rflags & 0x200);
	bench_free(bench);
}

/* Dirty logging armed anew while a processor writes: each round must see the write. */
CODE(writer, 64, "1: inc dword ptr [0x20000]; jmp 1b");

static void test_rearm(void)
{
	struct bench *bench = bench_new(RAM);
	struct runner runner = {.cpu = bench->cpu};
	GThread *thread;

	bench_load(bench, 0x1000, writer_start, CODE_SIZE(writer));
	bench_mode(bench, bench->cpu, 64, 0x1000, 0x8000);
	cpu_system_log_dirty(bench->system, bench->slot, true);
	thread = g_thread_new("vcpu", run, &runner);
	for (unsigned i = 0; i < 200; i++) {
		gint64 end = g_get_monotonic_time() + LIMIT_US;

		while (!(__atomic_load_n(&bench->dirty[0], __ATOMIC_SEQ_CST) & 1ULL << 0x20)) {
			g_assert_cmpint(g_get_monotonic_time(), <, end);
			g_thread_yield();
		}
		__atomic_store_n(&bench->dirty[0], 0, __ATOMIC_SEQ_CST);
		cpu_system_rearm_dirty(bench->system, bench->slot);
	}
	cpu_kick(bench->cpu);
	g_thread_join(thread);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/threads/atomic", test_atomic);
	g_test_add_func("/cpu/threads/split-lock", test_split_lock);
	g_test_add_func("/cpu/threads/cross-modify", test_cross_modify);
	g_test_add_func("/cpu/threads/kick", test_kick);
	g_test_add_func("/cpu/threads/interrupt", test_interrupt);
	g_test_add_func("/cpu/threads/rearm", test_rearm);
	return g_test_run();
}
