// SPDX-License-Identifier: GPL-2.0-or-later
/* Every exception with its vector, error code and saved RIP; double and triple faults, IST, stack
 * switches, segment checks, and the flags that are pushed. */
#include "sysbench.h"

/* --- Each exception, in 64-bit, 32-bit and real mode --- */

CODE(code_nop, 64, "nop");
CODE(code_ud, 64, "nop; ud2");
CODE(code_div, 64, "xor %ecx, %ecx; div %ecx");
CODE(code_int3, 64, "int3");
CODE(code_int, 64, "int $0x40");
CODE(code_int80, 64, "int $0x80");
CODE(code_icebp, 64, ".byte 0xf1");
CODE(code_fpu, 64, "fldz");
CODE(code_hlt_user, 64, "nop; hlt");
CODE(code_read, 64, "movabs $0x180000, %rbx; mov (%rbx), %eax");
CODE(code_write, 64, "movabs $0x180000, %rbx; movl $1, (%rbx)");
CODE(code_fetch, 64, "movabs $0x180000, %rbx; jmp *%rbx");
CODE(code_noncanonical, 64, "movabs $0x800000000000, %rbx; mov (%rbx), %eax");
CODE(code_push, 64, "movabs $0x800000000008, %rsp; push %rax");
CODE(code_rbp, 64, "movabs $0x800000000000, %rbp; mov 8(%rbp), %eax");
CODE(code_align, 64, "movabs $0x30001, %rbx; mov (%rbx), %eax");

struct fault_case {
	const char *name;
	const uint8_t *code, *end;
	unsigned cpl;
	int vector;
	uint32_t error;
	unsigned rip;
};

#define CASE(label, code, cpl, vector, error, rip)                                                 \
	{                                                                                          \
		label, code, code##_end, cpl, vector, error, rip                                   \
	}

static void test_each_long(void)
{
	static const struct fault_case cases[] = {
		CASE("#UD", code_ud, 0, 6, 0, 1),
		CASE("#DE", code_div, 0, 0, 0, 2),
		CASE("#BP", code_int3, 0, 3, 0, 1),
		CASE("#BP user", code_int3, 3, 3, 0, 1),
		CASE("INT", code_int, 0, 0x40, 0, 2),
		CASE("INT user, gate DPL 0", code_int, 3, 13, 0x40 * 8 + 2, 0),
		CASE("INT user, gate DPL 3", code_int80, 3, 0x80, 0, 2),
		CASE("ICEBP user", code_icebp, 3, 1, 0, 1),
		CASE("HLT user", code_hlt_user, 3, 13, 0, 1),
		CASE("#PF read", code_read, 0, 14, 0, 10),
		CASE("#PF write", code_write, 0, 14, 2, 10),
		CASE("#PF fetch", code_fetch, 0, 14, 0x10, 0x170000),
		CASE("#PF user read", code_read, 3, 14, 4, 10),
		CASE("#PF user write", code_write, 3, 14, 6, 10),
		CASE("#PF user fetch", code_fetch, 3, 14, 0x14, 0x170000),
		CASE("#GP non-canonical", code_noncanonical, 0, 13, 0, 10),
		CASE("#SS by push", code_push, 3, 12, 0, 10),
		CASE("#SS by rbp", code_rbp, 0, 12, 0, 10),
		CASE("#AC", code_align, 3, 17, 0, 10),
		CASE("no #AC in ring 0", code_align, 0, -1, 0, 0),
	};
	struct bench *bench = bench_new(BENCH_LONG, 0);

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct fault_case *c = &cases[i];
		struct outcome o;

		g_test_message("%s", c->name);
		bench_setup(bench, BENCH_LONG, c->cpl);
		*bench_pte(bench, 0x180000) = 0;
		bench->state.cr0 |= CR0_AM;
		bench->state.rflags |= FL_AC;
		o = bench_run(bench, c->code, (size_t)(c->end - c->code));
		if (c->vector < 0) {
			ASSERT_CLEAN(o);
			continue;
		}
		ASSERT_FAULT(o, c->vector, c->error, c->rip);
		if (c->vector == 14)
			g_assert_cmphex(o.state.cr2, ==, 0x180000);
		g_assert_cmphex(o.cs, ==, c->cpl ? SEL_USER64 : SEL_CODE64);
		g_assert_cmphex(o.state.seg[SEG_CS].selector, ==, SEL_CODE64);
		/* Faults are resumed with RF set; traps are not. */
		g_assert_cmpint(!!(o.flags & FL_RF), ==,
				c->vector != 3 && c->vector != 1 && c->vector < 32);
		g_assert_cmphex(o.state.regs[CPU_RSP] & 15, ==,
				c->vector == 8 || (c->vector >= 10 && c->vector <= 17) ? 0 : 8);
		if (c->cpl)
			g_assert_cmphex(o.state.seg[SEG_SS].selector, ==, 0);
	}
	bench_free(bench);
}

static void test_device_not_available(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	bench->state.cr0 |= CR0_TS;
	o = RUN(bench, code_fpu);
	ASSERT_FAULT(o, 7, 0, 0);
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.cr0 |= CR0_EM;
	o = RUN(bench, code_fpu);
	ASSERT_FAULT(o, 7, 0, 0);
	bench_free(bench);
}

CODE(code_real_int, 16, "mov $0x1234, %ax; int $0x21");
CODE(code_real_div, 16, "xor %cx, %cx; div %cx");
CODE(code_real_limit, 16, "mov $0xffff, %bx; mov (%bx), %ax");

static void test_each_real(void)
{
	struct bench *bench = bench_new(BENCH_REAL, 0);
	struct outcome o;

	bench->state.rflags |= FL_IF | FL_CF;
	bench->state.seg[SEG_CS].base = 0; /* RIP is beyond 64 KiB: big real mode */
	bench->state.rip = 0x8000;
	memcpy(bench->ram + 0x8000, code_real_int, (size_t)(code_real_int_end - code_real_int));
	o = RUN(bench, code_nop);
	g_assert_cmpint(o.vector, ==, 0x21);
	g_assert_cmphex(o.rip, ==, 0x8005);
	g_assert_cmphex(o.flags, ==, 2 | FL_IF | FL_CF);
	g_assert_cmphex(o.state.rflags, ==, 2 | FL_CF);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, 0xfff0 - 6);

	bench_setup(bench, BENCH_REAL, 0);
	bench->state.rip = 0x8000;
	memcpy(bench->ram + 0x8000, code_real_div, (size_t)(code_real_div_end - code_real_div));
	o = RUN(bench, code_nop);
	g_assert_cmpint(o.vector, ==, 0);
	g_assert_cmphex(o.rip, ==, 0x8002);

	bench_setup(bench, BENCH_REAL, 0);
	bench->state.rip = 0x8000;
	memcpy(bench->ram + 0x8000, code_real_limit,
	       (size_t)(code_real_limit_end - code_real_limit));
	o = RUN(bench, code_nop);
	g_assert_cmpint(o.vector, ==, 13);
	g_assert_cmphex(o.rip, ==, 0x8003);
	bench_free(bench);
}

CODE(code32_into, 32, "mov $0x7fffffff, %eax; inc %eax; into");
CODE(code32_bound, 32, "mov $9, %eax; movl $0, 0x30000; movl $8, 0x30004; bound %eax, 0x30000");
CODE(code32_int, 32, "int $0x80");

static void test_legacy(void)
{
	struct bench *bench = bench_new(BENCH_LEGACY32, 3);
	struct outcome o = RUN(bench, code32_into);

	ASSERT_FAULT(o, 4, 0, 7);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_bound);
	ASSERT_FAULT(o, 5, 0, 25);
	bench_setup(bench, BENCH_PAE32, 3);
	o = RUN(bench, code32_int);
	ASSERT_FAULT(o, 0x80, 0, 2);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_TSS0 - 20);
	g_assert_cmphex(o.state.seg[SEG_SS].selector, ==, SEL_DATA);
	g_assert_cmphex(o.ss, ==, SEL_USER_DATA);
	g_assert_cmphex(o.rsp, ==, TOP_RING3);
	bench_free(bench);
}

/* --- Segment registers --- */

CODE(code32_load_ds, 32, "mov %eax, %ds");
CODE(code32_load_ss, 32, "mov %eax, %ss");
CODE(code32_pop_es, 32, "push %eax; pop %es");
CODE(code32_lfs, 32, "movl $5, 0x30000; mov %ax, 0x30004; lfs 0x30000, %ecx");

struct segment_case {
	bool ss;
	unsigned cpl;
	uint16_t selector;
	int vector;
	uint32_t error;
};

static void test_segment_loads(void)
{
	static const struct segment_case cases[] = {
		{false, 0, SEL_DATA, -1, 0},
		{false, 0, 0, -1, 0},
		{false, 0, 3, -1, 0},
		{false, 0, SEL_ABSENT, 11, SEL_ABSENT},
		{false, 0, 0x100, 13, 0x100}, /* beyond the limit */
		{false, 0, SEL_EXECONLY, 13, SEL_EXECONLY},
		{false, 0, SEL_TSS, 13, SEL_TSS},
		{false, 0, SEL_READONLY | 1, 13, SEL_READONLY},
		{false, 3, SEL_DATA, 13, SEL_DATA},
		{false, 3, SEL_CONFORMING, -1, 0},
		{false, 3, SEL_USER32, -1, 0},
		{false, 0, 0x204, 13, 0x204}, /* an LDT entry beyond its limit */
		{false, 0, 0x14, 13, 0x14},   /* an empty LDT entry */
		{true, 0, SEL_DATA, -1, 0},
		{true, 0, 0, 13, 0},
		{true, 0, SEL_ABSENT, 12, SEL_ABSENT},
		{true, 0, SEL_READONLY, 13, SEL_READONLY},
		{true, 0, SEL_CODE32, 13, SEL_CODE32},
		{true, 0, SEL_USER_DATA, 13, SEL_USER_DATA & ~3},
		{true, 3, SEL_USER_DATA & ~3, 13, SEL_USER_DATA & ~3},
		{true, 3, 3, 13, 0},
	};
	struct bench *bench = bench_new(BENCH_PROT32, 0);

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct segment_case *c = &cases[i];
		struct outcome o;

		g_test_message("%s <- %#x in ring %u", c->ss ? "SS" : "DS", c->selector, c->cpl);
		bench_setup(bench, BENCH_PROT32, c->cpl);
		if (c->cpl) /* HLT is no way to end there */
			bench->state.regs[CPU_RAX] = c->selector;
		bench->state.regs[CPU_RAX] = c->selector;
		o = c->ss ? RUN(bench, code32_load_ss) : RUN(bench, code32_load_ds);
		if (c->vector >= 0) {
			ASSERT_FAULT(o, c->vector, c->error, 0);
			continue;
		}
		g_assert_cmpint(o.vector, ==, c->cpl ? 13 : -1);
		g_assert_cmphex(o.state.seg[c->ss ? SEG_SS : SEG_DS].selector, ==, c->selector);
	}
	bench_setup(bench, BENCH_PROT32, 0);
	bench->state.regs[CPU_RAX] = SEL_ABSENT;
	{
		struct outcome o = RUN(bench, code32_pop_es);

		ASSERT_FAULT(o, 11, SEL_ABSENT, 1);
		/* Nothing was popped: EFLAGS, CS, EIP and the error lie below the selector. */
		g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_RING0 - 4 - 16);
		bench_setup(bench, BENCH_PROT32, 0);
		bench->state.regs[CPU_RAX] = SEL_ABSENT;
		bench->state.regs[CPU_RCX] = 77;
		o = RUN(bench, code32_lfs);
		g_assert_cmpint(o.vector, ==, 11);
		g_assert_cmpuint(o.state.regs[CPU_RCX], ==, 77);
	}
	bench_free(bench);
}

CODE(code32_accessed, 32, "mov $0xb0, %eax; mov %eax, %ds");
CODE(code32_down_low, 32, "mov $0xb0, %eax; mov %eax, %ds; mov 0xffd, %ebx");
CODE(code32_down_high, 32, "mov $0xb0, %eax; mov %eax, %ds; mov 0x1000, %ebx");
CODE(code32_small, 32, "mov $0xc0, %eax; mov %eax, %ds; mov 0xfc, %ebx; mov 0xfd, %ebx");
CODE(code32_small_ss, 32, "mov $0xc0, %eax; mov %eax, %ss; mov $0x101, %esp; push %eax");
CODE(code32_readonly, 32, "mov $0xa0, %eax; mov %eax, %ds; mov 0, %ebx; mov %ebx, 0");
CODE(code32_null, 32, "xor %eax, %eax; mov %eax, %ds; mov 0, %ebx");
CODE(code32_code_write, 32, "mov %ebx, %cs:0x30000");

static void test_segment_limits(void)
{
	struct bench *bench = bench_new(BENCH_PROT32, 0);
	struct outcome o = RUN(bench, code32_accessed);

	ASSERT_CLEAN(o);
	g_assert_cmphex(bench->ram[AT_GDT + SEL_DOWN + 5] & 1, ==, 1);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_down_low);
	ASSERT_FAULT(o, 13, 0, 7);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_down_high);
	ASSERT_CLEAN(o);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_small);
	ASSERT_FAULT(o, 13, 0, 13);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_readonly);
	ASSERT_FAULT(o, 13, 0, 13);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_null);
	ASSERT_FAULT(o, 13, 0, 4);
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_code_write);
	ASSERT_FAULT(o, 13, 0, 0);
	/* The #SS itself then finds no stack: it becomes a double fault, and that a triple one. */
	bench_setup(bench, BENCH_PROT32, 0);
	o = RUN(bench, code32_small_ss);
	g_assert_cmpint(o.exit, ==, CPU_EXIT_SHUTDOWN);
	bench_free(bench);
}

/* --- Double and triple faults, IST --- */

static void test_double_fault(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o;

	/* #GP whose gate is absent: #NP while #GP was being delivered. */
	bench_set_gate(bench, 8, SEL_CODE64, AT_HANDLERS + 64, 14, 0, 1);
	bench->ram[AT_IDT + 13 * 16 + 5] &= 0x7f;
	o = RUN(bench, code_hlt_user);
	ASSERT_FAULT(o, 8, 0, 1);
	g_assert_cmphex(o.state.regs[CPU_RSP], ==, TOP_IST1 - 48);

	/* #PF, and its handler's stack is not mapped: #DF on its IST. */
	bench_setup(bench, BENCH_LONG, 3);
	bench_set_gate(bench, 8, SEL_CODE64, AT_HANDLERS + 64, 14, 0, 1);
	*bench_pte(bench, 0x180000) = 0;
	*bench_pte(bench, TOP_TSS0 - 8) = 0;
	o = RUN(bench, code_read);
	ASSERT_FAULT(o, 8, 0, 10);
	g_assert_cmphex(o.state.cr2, ==, TOP_TSS0 - 8);

	/* #UD is benign: the #NP of its gate comes alone. */
	bench_setup(bench, BENCH_LONG, 0);
	bench->ram[AT_IDT + 6 * 16 + 5] &= 0x7f;
	o = RUN(bench, code_ud);
	ASSERT_FAULT(o, 11, 6 * 8 + 3, 1);

	/* No IDT at all. */
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.idtr.limit = 0;
	o = RUN(bench, code_ud);
	g_assert_cmpint(o.exit, ==, CPU_EXIT_SHUTDOWN);
	g_assert_cmpint(o.state.activity, ==, CPU_SHUTDOWN);

	/* INT n through a bad gate: EXT is clear. */
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.idtr.limit = 0x3ff;
	o = RUN(bench, code_int);
	ASSERT_FAULT(o, 13, 0x40 * 8 + 2, 0);

	/* A target that is not canonical. */
	bench_setup(bench, BENCH_LONG, 0);
	bench_set_gate(bench, 6, SEL_CODE64, UINT64_C(0x800000000000), 14, 0, 0);
	o = RUN(bench, code_ud);
	ASSERT_FAULT(o, 13, 1, 1);
	bench_free(bench);
}

static void test_gate_checks(void)
{
	static const struct {
		uint16_t selector;
		unsigned type;
		int vector;
		uint32_t error;
	} cases[] = {
		{SEL_CODE64, 12, 13, 6 * 8 + 3}, /* a call gate */
		{SEL_CODE64, 5, 13, 6 * 8 + 3},  /* a task gate */
		{0, 14, 13, 1},
		{SEL_DATA, 14, 13, SEL_DATA | 1},
		{SEL_CODE32, 14, 13, SEL_CODE32 | 1}, /* not 64-bit */
		{SEL_USER64 & ~3, 14, 13, (SEL_USER64 & ~3) | 1},
		{0x100, 14, 13, 0x101},
	};
	struct bench *bench = bench_new(BENCH_LONG, 0);

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct outcome o;

		bench_setup(bench, BENCH_LONG, 0);
		bench_set_gate(bench, 6, cases[i].selector, AT_HANDLERS + 48, cases[i].type, 0, 0);
		o = RUN(bench, code_ud);
		ASSERT_FAULT(o, cases[i].vector, cases[i].error, 1);
	}
	bench_free(bench);
}

/* --- Reading and writing with SMAP, SMEP and WP through the whole processor --- */

CODE(code_stac, 64, "stac; mov 0x30000, %eax; clac; mov 0x30000, %eax");

static void test_smap(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct outcome o;

	for (unsigned i = 0; i < 512; i++)
		if (i != AT_DATA >> 12)
			*bench_pte(bench, (uint64_t)i << 12) &= ~UINT64_C(4);
	bench->state.cr4 |= CR4_SMAP | CR4_SMEP;
	o = RUN(bench, code_stac);
	ASSERT_FAULT(o, 14, 1, 13);
	g_assert_cmphex(o.state.cr2, ==, 0x30000);
	/* SMEP: ring 0 fetches from a user page. */
	bench_setup(bench, BENCH_LONG, 0);
	for (unsigned i = 0; i < 512; i++)
		if (i != AT_CODE >> 12)
			*bench_pte(bench, (uint64_t)i << 12) &= ~UINT64_C(4);
	bench->state.cr4 |= CR4_SMEP;
	o = RUN(bench, code_nop);
	ASSERT_FAULT(o, 14, 0x11, 0);
	bench_free(bench);
}

/* --- Flags, UMIP, ports --- */

CODE(code_cli, 64, "cli");
CODE(code_popf, 64, "push $0x3202; popf; pushf; pop %rax; int $0x80");
CODE(code_sgdt, 64, "sgdt 0x30000");
CODE(code_smsw, 64, "smsw %eax; int $0x80");
CODE(code_in, 64, "mov $0x61, %edx; in %dx, %al; int $0x80");
CODE(code_in_wide, 64, "mov $0x67, %edx; in %dx, %ax; int $0x80");
CODE(code_rep_ins, 64, "mov $0x30000, %edi; mov $16, %ecx; mov $0x60, %edx; rep insl");
CODE(code_rep_outs, 64, "mov $0x30800, %esi; mov $3000, %ecx; mov $0x60, %edx; rep outsb");

static void test_privileges(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o = RUN(bench, code_cli);

	ASSERT_FAULT(o, 13, 0, 0);
	bench_setup(bench, BENCH_LONG, 3); /* POPF of a user changes neither IF nor IOPL */
	o = RUN(bench, code_popf);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(o.state.regs[CPU_RAX], ==, 2);
	bench_setup(bench, BENCH_LONG, 3);
	bench->state.rflags |= FL_IOPL;
	o = RUN(bench, code_cli);
	ASSERT_FAULT(o, 13, 0, 1); /* the HLT behind */
	bench_setup(bench, BENCH_LONG, 3);
	bench->state.cr4 |= CR4_UMIP;
	o = RUN(bench, code_sgdt);
	ASSERT_FAULT(o, 13, 0, 0);
	bench_setup(bench, BENCH_LONG, 3);
	o = RUN(bench, code_smsw);
	g_assert_cmpint(o.vector, ==, 0x80);
	bench_free(bench);
}

static void test_ports(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o = RUN(bench, code_in);

	ASSERT_FAULT(o, 13, 0, 5);
	bench_setup(bench, BENCH_LONG, 3);
	bench->ram[AT_TSS + 0x68 + 0x60 / 8] = ~(1 << 1);
	o = RUN(bench, code_in);
	g_assert_cmpint(o.vector, ==, 0x80);
	g_assert_cmphex(bench->port, ==, 0x61);
	/* The word reaches into the next byte of the bitmap. */
	bench_setup(bench, BENCH_LONG, 3);
	bench->ram[AT_TSS + 0x68 + 0x60 / 8] = 0;
	o = RUN(bench, code_in_wide);
	ASSERT_FAULT(o, 13, 0, 5);
	/* The bitmap ends: no permission. */
	bench_setup(bench, BENCH_LONG, 3);
	bench->ram[AT_TSS + 0x68 + 0x60 / 8] = 0;
	bench->state.seg[SEG_TR].limit = 0x68 + 0x60 / 8;
	o = RUN(bench, code_in);
	ASSERT_FAULT(o, 13, 0, 5);
	bench_setup(bench, BENCH_LONG, 0);
	bench->port_reads = 0;
	o = RUN(bench, code_rep_ins);
	ASSERT_CLEAN(o);
	g_assert_cmpuint(bench->port_reads, ==, 16);
	g_assert_cmphex(bench_get(bench, AT_DATA + 4, 4), ==, 0x22222222);
	g_assert_cmphex(o.state.regs[CPU_RDI], ==, AT_DATA + 64);
	g_assert_cmpuint(o.state.regs[CPU_RCX], ==, 0);
	/* The second page is missing: what was done before stays done. */
	bench_setup(bench, BENCH_LONG, 0);
	*bench_pte(bench, AT_DATA + 0x1000) = 0;
	bench->port_writes = 0;
	o = RUN(bench, code_rep_outs);
	ASSERT_FAULT(o, 14, 0, 15);
	g_assert_cmpuint(bench->port_writes, ==, 2048);
	g_assert_cmphex(o.state.regs[CPU_RSI], ==, AT_DATA + 0x1000);
	g_assert_cmpuint(o.state.regs[CPU_RCX], ==, 3000 - 2048);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/fault/long", test_each_long);
	g_test_add_func("/cpu/fault/nm", test_device_not_available);
	g_test_add_func("/cpu/fault/real", test_each_real);
	g_test_add_func("/cpu/fault/legacy", test_legacy);
	g_test_add_func("/cpu/fault/segment-loads", test_segment_loads);
	g_test_add_func("/cpu/fault/segment-limits", test_segment_limits);
	g_test_add_func("/cpu/fault/double", test_double_fault);
	g_test_add_func("/cpu/fault/gates", test_gate_checks);
	g_test_add_func("/cpu/fault/smap", test_smap);
	g_test_add_func("/cpu/fault/privileges", test_privileges);
	g_test_add_func("/cpu/fault/ports", test_ports);
	return g_test_run();
}
