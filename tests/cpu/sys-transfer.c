// SPDX-License-Identifier: GPL-2.0-or-later
/* Far jumps, calls and returns, call gates of three widths, IRET, virtual-8086 mode, task switches,
 * SYSCALL and SYSENTER. */
#include "sysbench.h"

enum { TARGET = 0x12000 }; /* where gates lead; filled with HLT */

static void put_target(struct bench *bench)
{
	memset(bench->ram + TARGET, 0xf4, 16);
}

static void set_call_gate(struct bench *bench, uint16_t selector, uint64_t offset, unsigned type,
			  unsigned dpl, unsigned parameters)
{
	uint64_t at = AT_GDT + SEL_GATE;

	bench_put(bench, at, (offset & 0xffff) | (uint64_t)selector << 16, 4);
	bench_put(bench, at + 4,
		  (offset & 0xffff0000) | parameters | (uint64_t)(type | dpl << 5 | 0x80) << 8, 4);
	if (bench->mode >= BENCH_COMPAT)
		bench_put(bench, at + 8, offset >> 32, 8);
	put_target(bench);
}

/* --- Direct transfers --- */

CODE(code32_ljmp, 32, "ljmp *0x30000");
CODE(code32_lcall, 32, "lcall *0x30000");
CODE(code32_lcall_lret, 32, "lcall $0x18, $0x12000; mov $7, %eax");
CODE(code64_ljmp, 64, "rex.w ljmp *0x30000");

static void test_direct(void)
{
	static const struct {
		unsigned cpl;
		uint16_t selector;
		int vector;
		uint32_t error;
	} cases[] = {
		{0, SEL_CODE32, -1, 0},
		{0, 0, 13, 0},
		{0, SEL_DATA, 13, SEL_DATA},
		{0, SEL_USER32, 13, SEL_USER32 & ~3},
		{3, SEL_CODE32, 13, SEL_CODE32},
		{3, SEL_USER32, -1, 0},
		{3, SEL_CONFORMING, -1, 0},
		{0, SEL_ABSENT, 13, SEL_ABSENT}, /* the type counts first */
		{0, 0x100, 13, 0x100},
		{0, SEL_TSS, 13, SEL_TSS}, /* busy */
	};
	struct bench *bench = bench_new(BENCH_PROT32, 0);

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct outcome o;

		g_test_message("ljmp %#x in ring %u", cases[i].selector, cases[i].cpl);
		bench_setup(bench, BENCH_PROT32, cases[i].cpl);
		put_target(bench);
		bench_put(bench, AT_DATA, TARGET, 4);
		bench_put(bench, AT_DATA + 4, cases[i].selector, 2);
		o = RUN(bench, code32_ljmp);
		if (cases[i].vector >= 0) {
			ASSERT_FAULT(o, cases[i].vector, cases[i].error, 0);
			continue;
		}
		if (cases[i].cpl) { /* HLT there faults */
			ASSERT_FAULT(o, 13, 0, TARGET - AT_CODE);
			g_assert_cmphex(o.cs, ==, (cases[i].selector & ~3u) | 3);
		} else {
			ASSERT_CLEAN(o);
			g_assert_cmphex(o.state.rip, ==, TARGET + 1);
		}
	}
	bench_free(bench);
}

static void test_call_return(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o;

	bench->ram[TARGET] = 0xcb; /* lret */
	o = RUN(bench, code32_lcall_lret);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(o.state.regs[CPU_RAX], ==, 7);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_RING0);
	/* A call beyond the limit of its target leaves the stack pointer alone. */
	bench_setup(bench, BENCH_PROT32, 0);
	bench_put(bench, AT_DATA, 0x200000, 4);
	bench_put(bench, AT_DATA + 4, SEL_CODE16, 2);
	o = RUN(bench, code32_lcall);
	ASSERT_FAULT(o, 13, 0, 0);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_RING0 - 16);
	bench_free(bench);
}

/* --- Call gates --- */

CODE(code32_call_gate, 32, "push $0x1111; push $0x2222; lcall $0x88, $0");
CODE(code64_call_gate, 64, "movl $0x88, 0x30004; lcall *0x30000");
CODE(code32_return, 32, "mov $5, %eax; lret $8");

static void test_call_gates(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 3);
	struct outcome o;

	/* 32-bit with two parameters, to ring 0. */
	set_call_gate(bench, SEL_CODE32, TARGET, 12, 3, 2);
	o = RUN(bench, code32_call_gate);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TSS0 - 24);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 24, 4), ==, AT_CODE + 17);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 20, 4), ==, SEL_USER32);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 16, 4), ==, 0x2222);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 12, 4), ==, 0x1111);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 8, 4), ==, TOP_RING3 - 8);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 4, 4), ==, SEL_USER_DATA);
	/* And back again, both stacks released. */
	bench_setup(bench, BENCH_PROT32, 3);
	set_call_gate(bench, SEL_CODE32, TARGET, 12, 3, 2);
	memcpy(bench->ram + TARGET, code32_return, (size_t)(code32_return_end - code32_return));
	o = RUN(bench, code32_call_gate);
	ASSERT_FAULT(o, 13, 0, 17);
	g_assert_cmpuint(o.state.regs[CPU_RAX], ==, 5);
	g_assert_cmphex(o.rsp, ==, TOP_RING3);
	g_assert_cmphex(o.state.seg[SEG_DS].selector, ==, SEL_USER_DATA);
	/* 16-bit. */
	bench_setup(bench, BENCH_PROT32, 3);
	set_call_gate(bench, SEL_CODE32, TARGET & 0xffff, 4, 3, 1);
	memset(bench->ram + (TARGET & 0xffff), 0xf4, 1);
	o = RUN(bench, code32_call_gate);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TSS0 - 10);
	/* Too little privilege for the gate; an absent one; one to data. */
	bench_setup(bench, BENCH_PROT32, 3);
	set_call_gate(bench, SEL_CODE32, TARGET, 12, 0, 0);
	o = RUN(bench, code32_call_gate);
	ASSERT_FAULT(o, 13, SEL_GATE, 10);
	bench_setup(bench, BENCH_PROT32, 3);
	set_call_gate(bench, SEL_CODE32, TARGET, 12, 3, 0);
	bench->ram[AT_GDT + SEL_GATE + 5] &= 0x7f;
	o = RUN(bench, code32_call_gate);
	ASSERT_FAULT(o, 11, SEL_GATE, 10);
	bench_setup(bench, BENCH_PROT32, 3);
	set_call_gate(bench, SEL_DATA, TARGET, 12, 3, 0);
	o = RUN(bench, code32_call_gate);
	ASSERT_FAULT(o, 13, SEL_DATA, 10);
	/* The inner stack segment is bad: #TS names it. */
	bench_setup(bench, BENCH_PROT32, 3);
	set_call_gate(bench, SEL_CODE_DPL1, TARGET, 12, 3, 0);
	bench_put(bench, AT_TSS + 16, SEL_DATA, 4);
	o = RUN(bench, code32_call_gate);
	ASSERT_FAULT(o, 10, SEL_DATA, 10);
	bench_free(bench);
}

static void test_call_gate64(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o;

	set_call_gate(bench, SEL_CODE64, TARGET, 12, 3, 0);
	o = RUN(bench, code64_call_gate);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TSS0 - 32);
	g_assert_cmphex(o.state.seg[SEG_SS].selector, ==, 0);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 8, 8), ==, SEL_USER_DATA);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 16, 8), ==, TOP_RING3);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 24, 8), ==, SEL_USER64);
	bench_setup(bench, BENCH_LONG, 3);
	set_call_gate(bench, SEL_CODE32, TARGET, 12, 3, 0);
	o = RUN(bench, code64_call_gate);
	ASSERT_FAULT(o, 13, SEL_CODE32, 11);
	bench_setup(bench, BENCH_LONG, 3);
	set_call_gate(bench, SEL_CODE64, TARGET, 4, 3, 0); /* 16-bit gates are gone */
	o = RUN(bench, code64_call_gate);
	ASSERT_FAULT(o, 13, SEL_GATE, 11);
	bench_free(bench);
}

/* --- IRET --- */

CODE(code64_iret, 64, "push $0x2b; push $0x23f00; push $0x202; push $0x33; push $0x12000; iretq");
CODE(code64_iret_compat, 64,
     "push $0x2b; push $0x23f00; push $0x3202; push $0x23; push $0x12000; iretq");
CODE(code64_iret_bad_ss, 64,
     "push $0x10; push $0x23f00; push $0x202; push $0x33; push $0x12000; iretq");
CODE(code64_iret_nt, 64, "push $0x4002; popf; iretq");
CODE(code64_int80, 64, "int $0x80");
CODE(code32_int80, 32, "int $0x80");

static void test_iret(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	memcpy(bench->ram + TARGET, code64_int80, 2);
	o = RUN(bench, code64_iret);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(o.cs, ==, SEL_USER64);
	g_assert_cmphex(o.ss, ==, SEL_USER_DATA);
	g_assert_cmphex(o.rsp, ==, 0x23f00);
	g_assert_cmphex(o.flags, ==, 0x202);
	g_assert_cmphex(o.state.seg[SEG_DS].selector, ==, 0); /* DPL 0: taken away */
	bench_setup(bench, BENCH_LONG, 0);
	memcpy(bench->ram + TARGET, code32_int80, 2);
	o = RUN(bench, code64_iret_compat);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(o.cs, ==, SEL_USER32);
	g_assert_cmphex(o.flags, ==, 0x3202);
	bench_setup(bench, BENCH_LONG, 0);
	o = RUN(bench, code64_iret_bad_ss);
	ASSERT_FAULT(o, 13, SEL_DATA, code64_iret_bad_ss_end - code64_iret_bad_ss - 2);
	bench_setup(bench, BENCH_LONG, 0);
	o = RUN(bench, code64_iret_nt);
	ASSERT_FAULT(o, 13, 0, 6);
	bench_free(bench);
}

/* --- Virtual-8086 mode --- */

CODE(code32_to_v86, 32,
     "push $0x1000; push $0x2000; push $0x3000; push $0x4000; push $0x500; push $0x8000;"
     "push $0x23002; push $0x1100; push $0x1000; iret");
CODE(code32_to_v86_iopl0, 32,
     "push $0x1000; push $0x2000; push $0x3000; push $0x4000; push $0x500; push $0x8000;"
     "push $0x20002; push $0x1100; push $0x1000; iret");
CODE(code16_v86, 16, "mov %ds, %ax; mov $0x55, %bx; int $0x80");
CODE(code16_cli, 16, "cli");

static void test_v86(void)
{
	struct bench *bench = bench_new(BENCH_LEGACY32, 0);
	struct outcome o;

	memcpy(bench->ram + TARGET, code16_v86, (size_t)(code16_v86_end - code16_v86));
	o = RUN(bench, code32_to_v86);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmpuint(o.state.regs[CPU_RBX] & 0xffff, ==, 0x55);
	g_assert_cmphex(o.state.regs[CPU_RAX] & 0xffff, ==, 0x3000);
	g_assert_cmphex(o.rip, ==, 0x1000 + 7);
	g_assert_cmphex(o.cs, ==, 0x1100);
	g_assert_cmphex(o.flags, ==, 0x23002);
	g_assert_cmphex(o.rsp, ==, 0x8000);
	g_assert_cmphex(o.ss, ==, 0x500);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TSS0 - 36);
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 4, 4), ==, 0x1000);  /* GS */
	g_assert_cmphex(bench_get(bench, TOP_TSS0 - 16, 4), ==, 0x4000); /* ES */
	g_assert_cmphex(o.state.seg[SEG_DS].selector, ==, 0);
	g_assert_cmphex(o.state.rflags & FL_VM, ==, 0);
	/* IOPL below 3: INT n and CLI are #GP(0). */
	bench_setup(bench, BENCH_LEGACY32, 0);
	memcpy(bench->ram + TARGET, code16_v86, (size_t)(code16_v86_end - code16_v86));
	o = RUN(bench, code32_to_v86_iopl0);
	g_assert_cmpint(o.vector, ==, 13);
	g_assert_cmphex(o.error, ==, 0);
	g_assert_cmphex(o.rip, ==, 0x1000 + 5);
	bench_setup(bench, BENCH_LEGACY32, 0);
	memcpy(bench->ram + TARGET, code16_cli, 1);
	o = RUN(bench, code32_to_v86_iopl0);
	g_assert_cmpint(o.vector, ==, 13);
	/* A handler that is not in ring 0. */
	bench_setup(bench, BENCH_LEGACY32, 0);
	memcpy(bench->ram + TARGET, code16_v86, (size_t)(code16_v86_end - code16_v86));
	bench_set_gate(bench, 0x80, SEL_CODE_DPL1, AT_HANDLERS + 0x400, 14, 3, 0);
	o = RUN(bench, code32_to_v86);
	g_assert_cmpint(o.vector, ==, 13);
	g_assert_cmphex(o.error, ==, SEL_CODE_DPL1);
	bench_free(bench);
}

/* --- Task switches --- */

static void set_task2(struct bench *bench, uint32_t eip)
{
	uint64_t at = AT_TSS2;

	bench_put(bench, at + 0x20, eip, 4);
	bench_put(bench, at + 0x24, 2, 4);
	bench_put(bench, at + 0x28, 0xaaaa, 4); /* EAX */
	bench_put(bench, at + 0x38, TOP_TASK2, 4);
	for (unsigned i = 0; i < 6; i++)
		bench_put(bench, at + 0x48 + i * 4, i == SEG_CS ? SEL_CODE32 : SEL_DATA, 4);
	bench_put(bench, at + 0x60, SEL_LDT, 4);
}

CODE(code32_task_call, 32, "mov $0x77, %ebx; lcall $0x78, $0; mov $0x99, %ecx");
CODE(code32_task_jump, 32, "ljmp $0x78, $0");
CODE(code32_task_body, 32, "mov $0x1234, %edx; iret");
CODE(code32_ud, 32, "ud2");

static void test_task_call(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o;

	set_task2(bench, TARGET);
	memset(bench->ram + TARGET, 0xf4, 1);
	o = RUN(bench, code32_task_call);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.rip, ==, TARGET + 1);
	g_assert_cmphex(o.state.regs[CPU_RAX], ==, 0xaaaa);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TASK2);
	g_assert_cmphex(o.state.rflags, ==, 2 | FL_NT);
	g_assert_cmphex(o.state.seg[SEG_TR].selector, ==, SEL_TSS2);
	g_assert_cmphex(o.state.cr0 & CR0_TS, ==, CR0_TS);
	g_assert_cmphex(bench_get(bench, AT_TSS2, 2), ==, SEL_TSS);
	g_assert_cmphex(bench->ram[AT_GDT + SEL_TSS2 + 5], ==, 0x8b);
	g_assert_cmphex(bench->ram[AT_GDT + SEL_TSS + 5], ==, 0x8b);
	g_assert_cmphex(bench_get(bench, AT_TSS + 0x20, 4), ==, AT_CODE + 12);
	g_assert_cmphex(bench_get(bench, AT_TSS + 0x34, 4), ==, 0x77);
	/* And back by IRET. */
	bench_setup(bench, BENCH_PROT32, 0);
	set_task2(bench, TARGET);
	memcpy(bench->ram + TARGET, code32_task_body,
	       (size_t)(code32_task_body_end - code32_task_body));
	o = RUN(bench, code32_task_call);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.regs[CPU_RCX], ==, 0x99);
	g_assert_cmphex(o.state.regs[CPU_RBX], ==, 0x77);
	g_assert_cmphex(o.state.seg[SEG_TR].selector, ==, SEL_TSS);
	g_assert_cmphex(bench->ram[AT_GDT + SEL_TSS2 + 5], ==, 0x89);
	g_assert_cmphex(bench_get(bench, AT_TSS2 + 0x2c + 4, 4), ==, 0x1234);
	bench_free(bench);
}

static void test_task_jump(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o;

	set_task2(bench, TARGET);
	memset(bench->ram + TARGET, 0xf4, 1);
	o = RUN(bench, code32_task_jump);
	ASSERT_CLEAN(o);
	g_assert_cmphex(bench->ram[AT_GDT + SEL_TSS + 5], ==, 0x89);
	g_assert_cmphex(o.state.rflags, ==, 2);
	/* A bad SS is found in the new task: #TS there, at its EIP. */
	bench_setup(bench, BENCH_PROT32, 0);
	set_task2(bench, TARGET);
	bench_put(bench, AT_TSS2 + 0x50, SEL_CODE32, 4);
	bench_set_gate(bench, 10, 0, 0, 14, 0, 0);
	bench_put(bench, AT_IDT + 10 * 8 + 2, SEL_TASK_GATE, 2);
	o = RUN(bench, code32_task_jump);
	g_assert_cmpint(o.exit, ==, CPU_EXIT_SHUTDOWN);
	/* A TSS that is too small, and a busy one. */
	bench_setup(bench, BENCH_PROT32, 0);
	bench_set_desc(bench, SEL_TSS2, AT_TSS2, 0x66, SEG_P | 9);
	o = RUN(bench, code32_task_jump);
	ASSERT_FAULT(o, 10, SEL_TSS2, 0);
	bench_setup(bench, BENCH_PROT32, 0);
	bench_set_desc(bench, SEL_TSS2, AT_TSS2, 0x67, SEG_P | 11);
	o = RUN(bench, code32_task_jump);
	ASSERT_FAULT(o, 13, SEL_TSS2, 0);
	bench_setup(bench, BENCH_PROT32, 0);
	bench_set_desc(bench, SEL_TSS2, AT_TSS2, 0x67, 9);
	o = RUN(bench, code32_task_jump);
	ASSERT_FAULT(o, 11, SEL_TSS2, 0);
	bench_free(bench);
}

CODE(code32_new_task_fault, 32, "ljmp $0x78, $0");

/* The new task's data segment is absent: its handler sees #NP with the new task's EIP. */
static void test_task_fault_inside(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o;

	set_task2(bench, TARGET);
	bench_put(bench, AT_TSS2 + 0x54, SEL_ABSENT, 4);
	o = RUN(bench, code32_new_task_fault);
	ASSERT_FAULT(o, 11, SEL_ABSENT, TARGET - AT_CODE);
	g_assert_cmphex(o.state.seg[SEG_TR].selector, ==, SEL_TSS2);
	bench_free(bench);
}

/* A task gate in the IDT takes a #GP with its error code, and returns with IRET. */
static void test_task_gate(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o;

	set_task2(bench, TARGET);
	memset(bench->ram + TARGET, 0xf4, 1);
	bench_put(bench, AT_IDT + 13 * 8, (uint64_t)SEL_TSS2 << 16, 4);
	bench_put(bench, AT_IDT + 13 * 8 + 4, 0x8500, 4);
	bench->state.regs[CPU_RAX] = 0x100;
	{
		static const uint8_t load[] = {0x8e, 0xd8}; /* mov %eax, %ds */

		o = bench_run(bench, load, sizeof(load));
	}
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.rip, ==, TARGET + 1);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TASK2 - 4);
	g_assert_cmphex(bench_get(bench, TOP_TASK2 - 4, 4), ==, 0x100);
	g_assert_cmphex(bench_get(bench, AT_TSS + 0x20, 4), ==, AT_CODE);
	g_assert_cmphex(bench_get(bench, AT_TSS2, 2), ==, SEL_TSS);
	bench_free(bench);
}

CODE(code32_task16, 32, "lcall $0x80, $0; mov $0x99, %ecx");

static void test_task16(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o;

	bench_put(bench, AT_TSS16 + 0x0e, 0xf000, 2);
	bench_put(bench, AT_TSS16 + 0x10, 2, 2);
	bench_put(bench, AT_TSS16 + 0x12, 0x1111, 2);
	bench_put(bench, AT_TSS16 + 0x1a, 0xe000, 2);
	for (unsigned i = 0; i < 4; i++)
		bench_put(bench, AT_TSS16 + 0x22 + i * 2, i == SEG_CS ? SEL_CODE16 : SEL_DATA16, 2);
	bench->ram[0xf000] = 0xcf; /* iret */
	o = RUN(bench, code32_task16);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.regs[CPU_RCX], ==, 0x99);
	g_assert_cmphex(bench_get(bench, AT_TSS16, 2), ==, SEL_TSS);
	g_assert_cmphex(bench->ram[AT_GDT + SEL_TSS16 + 5], ==, 0x81);
	bench_free(bench);
}

/* --- SYSCALL, SYSENTER --- */

CODE(code_syscall, 64, "nop; syscall");
CODE(code_sysret, 64, "mov $0x12000, %ecx; mov $0x246, %r11d; rex.w sysret");
CODE(code_sysret32, 64, "mov $0x12000, %ecx; mov $0x246, %r11d; sysretl");
CODE(code_sysret_bad, 64, "movabs $0x800000000000, %rcx; rex.w sysret");
CODE(code_sysenter, 64, "sysenter");
CODE(code_sysexit, 64, "mov $0x12000, %edx; mov $0x23000, %ecx; rex.w sysexit");
CODE(code32_syscall, 32, "syscall");

static void set_star(struct bench *bench)
{
	bench->state.msr.star = (uint64_t)(SEL_USER32 & ~3) << 48 | (uint64_t)SEL_CODE64 << 32;
	bench->state.msr.lstar = TARGET;
	bench->state.msr.sfmask = FL_IF | FL_DF;
	bench->state.msr.sysenter_cs = SEL_CODE64;
	bench->state.msr.sysenter_esp = TOP_IST1;
	bench->state.msr.sysenter_eip = TARGET;
}

static void test_syscall(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o;

	put_target(bench);
	set_star(bench);
	bench->state.rflags |= FL_IF | FL_DF | FL_CF;
	o = RUN(bench, code_syscall);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.rip, ==, TARGET + 1);
	g_assert_cmphex(o.state.regs[CPU_RCX], ==, AT_CODE + 3);
	g_assert_cmphex(o.state.regs[CPU_R11], ==, 2 | FL_IF | FL_DF | FL_CF);
	g_assert_cmphex(o.state.rflags, ==, 2 | FL_CF);
	g_assert_cmphex(o.state.seg[SEG_CS].selector, ==, SEL_CODE64);
	g_assert_cmphex(o.state.seg[SEG_SS].selector, ==, SEL_CODE64 + 8);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_RING3);
	bench_setup(bench, BENCH_LONG, 3);
	set_star(bench);
	bench->state.efer &= ~(uint64_t)EFER_SCE;
	o = RUN(bench, code_syscall);
	ASSERT_FAULT(o, 6, 0, 1);
	bench_setup(bench, BENCH_COMPAT, 3); /* Intel: only in 64-bit mode */
	set_star(bench);
	o = RUN(bench, code32_syscall);
	ASSERT_FAULT(o, 6, 0, 0);
	bench_free(bench);
}

static void test_sysret(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	set_star(bench);
	memcpy(bench->ram + TARGET, code64_int80, 2);
	o = RUN(bench, code_sysret);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(o.cs, ==, SEL_USER64);
	g_assert_cmphex(o.ss, ==, SEL_USER_DATA);
	g_assert_cmphex(o.flags, ==, 0x246);
	g_assert_cmphex(o.rsp, ==, TOP_RING0);
	bench_setup(bench, BENCH_LONG, 0);
	set_star(bench);
	memcpy(bench->ram + TARGET, code32_int80, 2);
	o = RUN(bench, code_sysret32);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(o.cs, ==, SEL_USER32);
	bench_setup(bench, BENCH_LONG, 0);
	set_star(bench);
	o = RUN(bench, code_sysret_bad);
	ASSERT_FAULT(o, 13, 0, 10);
	bench_free(bench);
}

static void test_sysenter(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o;

	put_target(bench);
	set_star(bench);
	bench->state.rflags |= FL_IF;
	o = RUN(bench, code_sysenter);
	ASSERT_CLEAN(o);
	g_assert_cmphex(o.state.rip, ==, TARGET + 1);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_IST1);
	g_assert_cmphex(o.state.rflags, ==, 2);
	bench_setup(bench, BENCH_LONG, 3);
	o = RUN(bench, code_sysenter); /* CS is null */
	ASSERT_FAULT(o, 13, 0, 0);
	bench_setup(bench, BENCH_LONG, 0);
	set_star(bench);
	memcpy(bench->ram + TARGET, code64_int80, 2);
	o = RUN(bench, code_sysexit);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(o.cs, ==, (SEL_CODE64 + 32) | 3);
	g_assert_cmphex(o.rsp, ==, 0x23000);
	bench_setup(bench, BENCH_LONG, 3);
	set_star(bench);
	o = RUN(bench, code_sysexit);
	ASSERT_FAULT(o, 13, 0, 10);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/transfer/direct", test_direct);
	g_test_add_func("/cpu/transfer/call-return", test_call_return);
	g_test_add_func("/cpu/transfer/call-gates", test_call_gates);
	g_test_add_func("/cpu/transfer/call-gate64", test_call_gate64);
	g_test_add_func("/cpu/transfer/iret", test_iret);
	g_test_add_func("/cpu/transfer/v86", test_v86);
	g_test_add_func("/cpu/transfer/task-call", test_task_call);
	g_test_add_func("/cpu/transfer/task-jump", test_task_jump);
	g_test_add_func("/cpu/transfer/task-fault", test_task_fault_inside);
	g_test_add_func("/cpu/transfer/task-gate", test_task_gate);
	g_test_add_func("/cpu/transfer/task16", test_task16);
	g_test_add_func("/cpu/transfer/syscall", test_syscall);
	g_test_add_func("/cpu/transfer/sysret", test_sysret);
	g_test_add_func("/cpu/transfer/sysenter", test_sysenter);
	return g_test_run();
}
