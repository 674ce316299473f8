// SPDX-License-Identifier: GPL-2.0-or-later
/* Single step, breakpoints and their registers, the shadows of STI and MOV SS, NMI, and the pending
 * interrupt. */
#include "sysbench.h"

enum { LOG = 0x32000, HANDLER = 0x13000, LOG_MAX = 32 };

/* Notes RIP and DR6 of each #DB, clears DR6, and returns with RF set. */
CODE(db_handler, 64,
     "push %rax; push %rbx; mov 0x32000, %rbx; mov 16(%rsp), %rax; mov %rax, (%rbx);"
     "mov %dr6, %rax; mov %rax, 8(%rbx); add $16, %rbx; mov %rbx, 0x32000;"
     "xor %eax, %eax; mov %rax, %dr6; orl $0x10000, 32(%rsp); pop %rbx; pop %rax; iretq");

static void arm(struct bench *bench)
{
	bench_setup(bench, BENCH_LONG, 0);
	memcpy(bench->ram + HANDLER, db_handler, (size_t)(db_handler_end - db_handler));
	bench_put(bench, LOG, LOG + 16, 8);
	bench_set_gate(bench, 1, SEL_CODE64, HANDLER, 14, 3, 0);
}

static unsigned hits(const struct bench *bench)
{
	return (bench_get(bench, LOG, 8) - LOG - 16) / 16;
}

static void assert_hit(const struct bench *bench, unsigned n, unsigned offset, uint64_t dr6)
{
	g_assert_cmphex(bench_get(bench, LOG + 16 + n * 16, 8), ==, AT_CODE + offset);
	g_assert_cmphex(bench_get(bench, LOG + 24 + n * 16, 8), ==, 0xffff0ff0 | dr6);
}

enum { BD = 0x2000, BS = 0x4000 };

#define TF_ON  "pushf; orl $0x100, (%rsp); popf;"       /* 9 bytes */
#define TF_OFF "pushf; andl $0xfffffeff, (%rsp); popf;" /* 9 bytes, three more traps */

CODE(step_plain, 64, TF_ON "nop; mov $5, %eax;" TF_OFF);
CODE(step_movss, 64, "mov %ss, %ecx;" TF_ON "mov %ecx, %ss; nop;" TF_OFF);
CODE(step_sti, 64, TF_ON "sti; nop;" TF_OFF);
CODE(step_int, 64, TF_ON "int $0x21; nop;" TF_OFF);
CODE(step_rep, 64,
     "mov $0x30000, %esi; mov $0x31000, %edi; mov $3, %ecx;" TF_ON "rep movsb;" TF_OFF);
CODE(step_icebp, 64, "mov %ss, %ecx;" TF_ON "mov %ecx, %ss; .byte 0xf1; nop;" TF_OFF);

static void test_step(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	arm(bench);
	o = RUN(bench, step_plain);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 5);
	assert_hit(bench, 0, 10, BS);
	assert_hit(bench, 1, 15, BS);
	assert_hit(bench, 2, 16, BS);
	assert_hit(bench, 3, 23, BS);
	assert_hit(bench, 4, 24, BS);
	arm(bench); /* MOV SS takes its own trap away */
	o = RUN(bench, step_movss);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 4);
	assert_hit(bench, 0, 14, BS);
	arm(bench); /* STI does not */
	o = RUN(bench, step_sti);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 5);
	assert_hit(bench, 0, 10, BS);
	arm(bench); /* INT n is not followed by a trap; the first instruction after IRET is */
	bench_put(bench, AT_HANDLERS + 0x21 * 8, 0xcf48, 2);
	o = RUN(bench, step_int);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 4);
	assert_hit(bench, 0, 12, BS);
	arm(bench); /* each iteration */
	o = RUN(bench, step_rep);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 6);
	assert_hit(bench, 0, 24, BS);
	assert_hit(bench, 1, 24, BS);
	assert_hit(bench, 2, 26, BS);
	arm(bench);
	o = RUN(bench, step_icebp);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 5);
	assert_hit(bench, 0, 14, 0);
	assert_hit(bench, 1, 15, BS);
	bench_free(bench);
}

CODE(step_syscall, 64, TF_ON "syscall");
CODE(step_sysret, 64, "mov $0x12000, %ecx; mov $0x102, %r11d; rex.w sysret");
CODE(just_nop_int, 64, "nop; int $0x80");

/* The trap after SYSCALL and SYSRET goes by TF at their end. */
static void test_step_syscall(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	arm(bench);
	bench->state.msr.star = (uint64_t)0x20 << 48 | (uint64_t)SEL_CODE64 << 32;
	bench->state.msr.lstar = 0x12000;
	bench->state.msr.sfmask = FL_TF;
	bench->ram[0x12000] = 0xf4;
	o = RUN(bench, step_syscall);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 0);
	arm(bench);
	bench->state.msr.star = (uint64_t)0x20 << 48 | (uint64_t)SEL_CODE64 << 32;
	memcpy(bench->ram + 0x12000, just_nop_int, 3);
	o = RUN(bench, step_sysret);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmpuint(hits(bench), ==, 2);
	assert_hit(bench, 0, 0x2000, BS);
	assert_hit(bench, 1, 0x2001, BS);
	bench_free(bench);
}

CODE(break_code, 64, "nop; nop; nop");
CODE(break_data, 64, "mov $1, %eax; mov %eax, 0x30000; mov 0x30000, %eax; nop");
CODE(break_held, 64, "mov %ss, %eax; mov %eax, 0x30000; mov 0x30000, %ss; nop; nop");
CODE(break_int3, 64, "mov 0x30000, %ss; int3; nop");
CODE(break_port, 64, "mov $0x61, %edx; in %dx, %al; nop");
CODE(break_detect, 64, "mov %dr0, %rax; nop");
CODE(shadow_movss2, 64, "mov %ss, %eax; mov %eax, %ss; nop; nop");
CODE(break_dr4, 64, "mov %dr4, %rax");

static void test_breakpoints(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	arm(bench); /* a fault before the instruction; RF lets it pass */
	bench->state.dr[2] = AT_CODE + 1;
	bench->state.dr7 = 0x420;
	o = RUN(bench, break_code);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 1);
	assert_hit(bench, 0, 1, 4);
	arm(bench); /* a trap after the store */
	bench->state.dr[1] = AT_DATA;
	bench->state.dr7 = 0x00d0040a;
	o = RUN(bench, break_data);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 1);
	assert_hit(bench, 0, 12, 2);
	arm(bench); /* reads as well */
	bench->state.dr[1] = AT_DATA + 2;
	bench->state.dr7 = 0x0030040a;
	o = RUN(bench, break_data);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 2);
	arm(bench); /* not enabled: nothing */
	bench->state.dr[1] = AT_DATA;
	bench->state.dr7 = 0x00d00400;
	o = RUN(bench, break_data);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 0);
	arm(bench); /* held back by MOV SS */
	bench->state.dr[1] = AT_DATA;
	bench->state.dr7 = 0x00f0040a;
	o = RUN(bench, break_held);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 2);
	assert_hit(bench, 0, 9, 2);
	assert_hit(bench, 1, 17, 2);
	arm(bench); /* no instruction breakpoint right behind MOV SS */
	bench->state.dr[0] = AT_CODE + 4;
	bench->state.dr7 = 0x402;
	o = RUN(bench, shadow_movss2);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 0);
	arm(bench); /* the held trap comes on top of the handler's first instruction */
	bench_put(bench, AT_HANDLERS + 3 * 8, 0xcf48, 2);
	bench_put(bench, AT_DATA, SEL_DATA, 2);
	bench->state.dr[1] = AT_DATA;
	bench->state.dr7 = 0x00f0040a;
	o = RUN(bench, break_int3);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 1);
	g_assert_cmphex(bench_get(bench, LOG + 16, 8), ==, AT_HANDLERS + 3 * 8);
	arm(bench);
	bench->state.cr4 |= CR4_DE;
	bench->state.dr[0] = 0x61;
	bench->state.dr7 = 0x20402;
	o = RUN(bench, break_port);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 1);
	assert_hit(bench, 0, 6, 1);
	arm(bench); /* general detect: a fault, and GD is off in the handler */
	bench->state.dr7 = 0x2400;
	o = RUN(bench, break_detect);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(hits(bench), ==, 1);
	assert_hit(bench, 0, 0, BD);
	g_assert_cmphex(o.state.dr7, ==, 0x400);
	arm(bench);
	bench->state.cr4 |= CR4_DE;
	o = RUN(bench, break_dr4);
	ASSERT_FAULT(o, 6, 0, 0);
	bench_free(bench);
}

/* --- Interrupts and their shadows --- */

CODE(shadow_sti, 64, "cli; sti; nop; nop");
CODE(shadow_movss, 64, "mov %ss, %eax; sti; nop");

static struct outcome run_interrupted(struct bench *bench, const uint8_t *code, size_t size)
{
	bench->interrupt = 0x50;
	cpu_set_intr(bench->cpu, true);
	return bench_run(bench, code, size);
}

static void test_shadows(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	o = run_interrupted(bench, shadow_sti, (size_t)(shadow_sti_end - shadow_sti));
	ASSERT_FAULT(o, 0x50, 0, 3);
	g_assert_cmphex(o.flags, ==, 2 | FL_IF);
	g_assert_cmphex(o.state.rflags & FL_IF, ==, 0);
	bench_setup(bench, BENCH_LONG, 0);
	o = run_interrupted(bench, shadow_movss, (size_t)(shadow_movss_end - shadow_movss));
	ASSERT_FAULT(o, 0x50, 0, 4);
	/* IF is set from the start: the interrupt comes first of all. */
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.rflags |= FL_IF;
	o = run_interrupted(bench, shadow_movss2, (size_t)(shadow_movss2_end - shadow_movss2));
	ASSERT_FAULT(o, 0x50, 0, 0);
	/* The shadow is state: the first instruction runs. */
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.rflags |= FL_IF;
	bench->state.movss_shadow = true;
	o = run_interrupted(bench, shadow_movss2, (size_t)(shadow_movss2_end - shadow_movss2));
	g_assert_cmpint(o.vector, ==, 0x50);
	g_assert_cmphex(o.rip, ==, AT_CODE + 2);
	bench_free(bench);
}

CODE(two_halts, 64, "nop; hlt; nop; hlt");
CODE(nmi_count, 64, "incl 0x32000; iretq");

static void test_nmi(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	cpu_request_nmi(bench->cpu);
	bench->state.nmi_pending = true;
	o = RUN(bench, two_halts);
	ASSERT_FAULT(o, 2, 0, 0);
	g_assert_true(o.state.nmi_blocked);
	/* Another one waits for IRET. */
	cpu_request_nmi(bench->cpu);
	g_assert_false(cpu_has_work(bench->cpu));
	/* One per HLT wakes it. */
	bench_setup(bench, BENCH_LONG, 0);
	memcpy(bench->ram + HANDLER, nmi_count, (size_t)(nmi_count_end - nmi_count));
	bench_set_gate(bench, 2, SEL_CODE64, HANDLER, 14, 0, 0);
	o = RUN(bench, two_halts);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.rip, ==, AT_CODE + 2);
	g_assert_false(cpu_has_work(bench->cpu));
	cpu_request_nmi(bench->cpu);
	g_assert_true(cpu_has_work(bench->cpu));
	o = bench_continue(bench, 1000);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.rip, ==, AT_CODE + 4);
	g_assert_cmpuint(bench_get(bench, LOG, 4), ==, 1);
	g_assert_false(o.state.nmi_blocked);
	bench_free(bench);
}

static void test_startup(void)
{
	struct bench *bench = bench_new(BENCH_REAL, 0);
	struct cpu_state state;

	bench->ram[0x12000] = 0xf4;
	cpu_reset(bench->cpu, false);
	g_assert_cmpint(cpu_run(bench->cpu, 100), ==, CPU_EXIT_WAIT_SIPI);
	g_assert_false(cpu_has_work(bench->cpu));
	cpu_request_nmi(bench->cpu); /* does not start it */
	g_assert_cmpint(cpu_run(bench->cpu, 100), ==, CPU_EXIT_WAIT_SIPI);
	cpu_request_sipi(bench->cpu, 0x12);
	g_assert_true(cpu_has_work(bench->cpu));
	cpu_get_state(bench->cpu, &state);
	state.nmi_pending = false;
	g_assert_true(cpu_set_state(bench->cpu, &state, NULL));
	g_assert_cmpint(cpu_run(bench->cpu, 100), ==, CPU_EXIT_HALT);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.seg[SEG_CS].selector, ==, 0x1200);
	g_assert_cmphex(state.seg[SEG_CS].base, ==, 0x12000);
	g_assert_cmphex(state.rip, ==, 1);
	/* INIT throws it back, MSRs kept; SIPI starts it anew. */
	state.msr.lstar = 0x1234;
	state.regs[CPU_RBX] = 5;
	g_assert_true(cpu_set_state(bench->cpu, &state, NULL));
	cpu_request_init(bench->cpu);
	g_assert_cmpint(cpu_run(bench->cpu, 100), ==, CPU_EXIT_WAIT_SIPI);
	cpu_get_state(bench->cpu, &state);
	g_assert_cmphex(state.msr.lstar, ==, 0x1234);
	g_assert_cmphex(state.regs[CPU_RBX], ==, 0);
	g_assert_cmphex(state.rip, ==, 0xfff0);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/debug/step", test_step);
	g_test_add_func("/cpu/debug/step-syscall", test_step_syscall);
	g_test_add_func("/cpu/debug/breakpoints", test_breakpoints);
	g_test_add_func("/cpu/debug/shadows", test_shadows);
	g_test_add_func("/cpu/debug/nmi", test_nmi);
	g_test_add_func("/cpu/debug/startup", test_startup);
	return g_test_run();
}
