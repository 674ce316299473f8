// SPDX-License-Identifier: GPL-2.0-or-later
/* Mode ladders, refused mode switches and MSR values, CPUID, and the state: what is taken, what is
 * refused, and whether a run that is moved to another processor ends as one that was not. */
#include "sysbench.h"

/* --- Real, protected, paged, PAE, long, compatibility mode, and back --- */

enum { LADDER = 0xe000 };

CODE(ladder, 16,
     "lgdtl 0xf00; mov %cr0, %eax; or $1, %al; mov %eax, %cr0;"
     "ljmpl $0x18, $(1f - ladder + 0xe000)\n"
     ".code32\n"
     "1: mov $0x10, %eax; mov %eax, %ds; mov %eax, %ss; mov %eax, %es; mov $0x20000, %esp\n"
     "movl $1, 0x30000\n"
     "mov $0xa000, %eax; mov %eax, %cr3; mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
     "movl $2, 0x30004\n"
     "and $0x7fffffff, %eax; mov %eax, %cr0\n"
     "mov %cr4, %ecx; or $0x20, %ecx; mov %ecx, %cr4; mov $0xc000, %ecx; mov %ecx, %cr3\n"
     "or $0x80000000, %eax; mov %eax, %cr0\n"
     "movl $3, 0x30008\n"
     "and $0x7fffffff, %eax; mov %eax, %cr0\n"
     "mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr; mov $0x6000, %eax; mov %eax, %cr3\n"
     "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
     "movl $4, 0x3000c\n"
     "ljmp $0x08, $(2f - ladder + 0xe000)\n"
     ".code64\n"
     "2: movabs $0x123456789a, %rax; mov %rax, 0x30010\n"
     "push $0x18; push $(3f - ladder + 0xe000); rex.w lret\n"
     ".code32\n"
     "3: movl $5, 0x30018\n"
     "mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n"
     "mov $0xc0000080, %ecx; rdmsr; mov %eax, 0x3001c; and $~0x100, %eax; wrmsr\n"
     "ljmp $0x38, $(4f - ladder + 0xe000)\n"
     ".code16\n"
     "4: mov $0x40, %ax; mov %ax, %ds; mov %ax, %ss; mov %cr0, %eax; and $0xfe, %al\n"
     "mov %eax, %cr0; ljmp $0, $(5f - ladder + 0xe000)\n"
     "5: mov $0x3000, %ax; mov %ax, %ds; movw $6, 0x20; hlt\n");

static void test_ladder(void)
{
	struct bench *bench = bench_new(BENCH_REAL, 0);
	struct outcome o;

	bench_setup(bench, BENCH_LONG, 0); /* its tables */
	bench->mode = BENCH_LONG;
	cpu_state_reset(&bench->state, true);
	bench->state.seg[SEG_CS].base = 0;
	bench->state.seg[SEG_CS].selector = 0;
	bench->state.rip = LADDER;
	memcpy(bench->ram + LADDER, ladder, (size_t)(ladder_end - ladder));
	bench_put(bench, 0xf00, 0xff | (uint64_t)AT_GDT << 16, 6);
	o = RUN(bench, ladder);
	ASSERT_CLEAN(o);
	for (unsigned i = 0; i < 4; i++)
		g_assert_cmpuint(bench_get(bench, AT_DATA + i * 4, 4), ==, i + 1);
	g_assert_cmphex(bench_get(bench, AT_DATA + 0x10, 8), ==, UINT64_C(0x123456789a));
	g_assert_cmpuint(bench_get(bench, AT_DATA + 0x18, 4), ==, 5);
	g_assert_cmphex(bench_get(bench, AT_DATA + 0x1c, 4), ==, EFER_LME);
	g_assert_cmpuint(bench_get(bench, AT_DATA + 0x20, 2), ==, 6);
	g_assert_cmphex(o.state.efer, ==, 0);
	g_assert_cmphex(o.state.cr0 & (CR0_PE | CR0_PG), ==, 0);
	bench_free(bench);
}

/* --- What MOV to control registers and WRMSR refuse --- */

CODE(write_cr0, 64, "mov %rax, %cr0");
CODE(write_cr3, 64, "mov %rax, %cr3");
CODE(write_cr4, 64, "mov %rax, %cr4");
CODE(write_cr8, 64, "mov %rax, %cr8");
CODE(write_cr5, 64, ".byte 0x0f, 0x22, 0xe8");
CODE(write_msr, 64, "mov %rax, %rdx; shr $32, %rdx; wrmsr");
CODE(do_xsetbv, 64, "mov %rax, %rdx; shr $32, %rdx; xsetbv");
CODE(do_invpcid, 64, "mov %rax, 0x30000; invpcid 0x30000, %rcx");

struct refusal {
	const char *name;
	const uint8_t *code, *end;
	uint64_t rax, rcx;
	int vector; /* -1: taken */
	unsigned rip;
};

#define LONG_CR0 (CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP)
#define LONG_CR4 (CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE)
#define CASE(label, code, rax, rcx, vector, rip)                                                   \
	{                                                                                          \
		label, code, code##_end, rax, rcx, vector, rip                                     \
	}

static const struct refusal refusals[] = {
	CASE("CR0 upper half", write_cr0, LONG_CR0 | UINT64_C(1) << 32, 0, 13, 0),
	CASE("CR0 PG without PE", write_cr0, CR0_PG | CR0_ET, 0, 13, 0),
	CASE("CR0 NW without CD", write_cr0, LONG_CR0 | CR0_NW, 0, 13, 0),
	CASE("CR0 without PG in 64-bit code", write_cr0, LONG_CR0 & ~CR0_PG, 0, 13, 0),
	CASE("CR0 as it is", write_cr0, LONG_CR0, 0, -1, 0),
	CASE("CR3 beyond the address width", write_cr3, AT_PML4 | UINT64_C(1) << 40, 0, 13, 0),
	CASE("CR3 bit 63 without PCIDs", write_cr3, AT_PML4 | UINT64_C(1) << 63, 0, 13, 0),
	CASE("CR3", write_cr3, AT_PML4 | 0x18, 0, -1, 0),
	CASE("CR4 without PAE", write_cr4, LONG_CR4 & ~(uint64_t)CR4_PAE, 0, 13, 0),
	CASE("CR4 VME", write_cr4, LONG_CR4 | CR4_VME, 0, 13, 0),
	CASE("CR4 LA57", write_cr4, LONG_CR4 | 1 << 12, 0, 13, 0),
	CASE("CR4 PCIDE", write_cr4, LONG_CR4 | CR4_PCIDE, 0, -1, 0),
	CASE("CR4 with all", write_cr4, LONG_CR4 | CR4_SMEP | CR4_SMAP | CR4_UMIP | CR4_FSGSBASE, 0,
	     -1, 0),
	CASE("CR8", write_cr8, 15, 0, -1, 0),
	CASE("CR8 beyond 15", write_cr8, 16, 0, 13, 0),
	CASE("CR5", write_cr5, 0, 0, 6, 0),
	CASE("FS base", write_msr, UINT64_C(0x7fffffffffff), 0xc0000100, -1, 0),
	CASE("FS base not canonical", write_msr, UINT64_C(0x800000000000), 0xc0000100, 13, 7),
	CASE("LSTAR not canonical", write_msr, UINT64_C(0x800000000000), 0xc0000082, 13, 7),
	CASE("SYSENTER_EIP not canonical", write_msr, UINT64_C(1) << 47, 0x176, 13, 7),
	CASE("EFER without LME", write_msr, EFER_SCE, 0xc0000080, 13, 7),
	CASE("EFER reserved bit", write_msr, EFER_LME | 2, 0xc0000080, 13, 7),
	CASE("PAT", write_msr, UINT64_C(0x0007040600070406), 0x277, -1, 0),
	CASE("PAT with type 2", write_msr, 2, 0x277, 13, 7),
	CASE("ARCH_CAPABILITIES", write_msr, 0, 0x10a, 13, 7),
	CASE("SPEC_CTRL", write_msr, 7, 0x48, -1, 0),
	CASE("SPEC_CTRL reserved bit", write_msr, 8, 0x48, 13, 7),
	CASE("an MSR that nobody has", write_msr, 0, 0x9b00, 13, 7),
	CASE("MTRR default type 2", write_msr, 2, 0x2ff, 13, 7),
	CASE("XCR0 without x87", do_xsetbv, 2, 0, 13, 7),
	CASE("XCR0 with AVX", do_xsetbv, 7, 0, 13, 7),
	CASE("XCR0", do_xsetbv, 3, 0, -1, 0),
	CASE("XCR1", do_xsetbv, 3, 1, 13, 7),
	CASE("INVPCID type 4", do_invpcid, 0, 4, 13, 8),
	CASE("INVPCID with PCID while off", do_invpcid, 1, 1, 13, 8),
	CASE("INVPCID all", do_invpcid, 1, 2, -1, 0),
};

static void test_refusals(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);

	for (unsigned i = 0; i < G_N_ELEMENTS(refusals); i++) {
		const struct refusal *c = &refusals[i];
		struct outcome o;

		g_test_message("%s", c->name);
		bench_setup(bench, BENCH_LONG, 0);
		for (unsigned page = 0; page < 512; page++)
			*bench_pte(bench, (uint64_t)page << 12) &= ~UINT64_C(4);
		bench->state.cr4 = LONG_CR4;
		bench->state.regs[CPU_RAX] = c->rax;
		bench->state.regs[CPU_RCX] = c->rcx;
		o = bench_run(bench, c->code, (size_t)(c->end - c->code));
		if (c->vector < 0)
			ASSERT_CLEAN(o);
		else
			ASSERT_FAULT(o, c->vector, 0, c->rip);
	}
	/* PCIDE wants CR3's low bits clear. */
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.cr3 |= 0x18;
	bench->state.regs[CPU_RAX] = LONG_CR4 | CR4_PCIDE;
	{
		struct outcome o = RUN(bench, write_cr4);

		ASSERT_FAULT(o, 13, 0, 0);
	}
	bench_free(bench);
}

CODE(write_cr3_32, 32, "mov %eax, %cr3");

/* PAE: the four pointers are checked when CR3 is loaded, and kept until the next load. */
static void test_pae_pointers(void)
{
	struct bench *bench = bench_new(BENCH_PAE32, 0);
	struct outcome o;

	bench_put(bench, AT_DATA, AT_PD | 3, 8);
	bench->state.regs[CPU_RAX] = AT_DATA;
	o = RUN(bench, write_cr3_32);
	ASSERT_FAULT(o, 13, 0, 0);
	g_assert_cmphex(o.state.cr3, ==, AT_PAE);
	bench_free(bench);
}

/* --- CPUID --- */

static void test_cpuid(void)
{
	struct cpu_model model = {
		.apic_id = 3, .cpu_count = 4, .tsc_hz = 2300000000, .apic_timer_hz = 1000000000};
	uint32_t r[4], leaf, sub;
	unsigned count = 0;

	cpu_model_cpuid(&model, 0, 0, r);
	g_assert_cmpuint(r[0], >=, 0x16);
	g_assert_cmpmem(&r[1], 4, "Genu", 4);
	cpu_model_cpuid(&model, 1, 0, r);
	g_assert_cmpuint(r[1] >> 24, ==, 3);
	g_assert_cmpuint(r[1] >> 16 & 0xff, ==, 4);
	g_assert_cmpuint(r[2] >> 27 & 1, ==, 0); /* OSXSAVE is not static */
	cpu_model_cpuid(&model, 0x15, 0, r);
	g_assert_cmpuint((uint64_t)r[2] * r[1] / r[0], ==, model.tsc_hz);
	cpu_model_cpuid(&model, 0xb, 1, r);
	g_assert_cmpuint(r[0], ==, 2);
	g_assert_cmpuint(r[1], ==, 4);
	g_assert_cmpuint(r[3], ==, 3);
	cpu_model_cpuid(&model, 0x40000000, 0, r);
	g_assert_cmpmem(&r[1], 4, "KVMK", 4);
	model.hide_kvm = true;
	cpu_model_cpuid(&model, 0x40000000, 0, r);
	g_assert_cmphex(r[1], ==, 0);
	cpu_model_cpuid(&model, 7, 0, r);
	g_assert_cmpuint(r[3] >> 29 & 1, ==, 1);
	model.hide_mitigations = true;
	cpu_model_cpuid(&model, 7, 0, r);
	g_assert_cmpuint(r[3] >> 29 & 1, ==, 0);
	while (cpu_model_leaf(&model, count, &leaf, &sub))
		count++;
	g_assert_cmpuint(count, >, 20);
}

/* --- Impossible states --- */

static void test_set_refused(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 0);
	struct cpu_state good = bench->state, bad, back;

	g_assert_true(cpu_set_state(bench->cpu, &good, NULL));
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		g_autoptr(GError) error = NULL;                                                    \
		bad = good;                                                                        \
		change;                                                                            \
		g_assert_false(cpu_set_state(bench->cpu, &bad, &error));                           \
		g_assert_nonnull(error);                                                           \
	} while (0)
	REFUSED(bad.cr0 |= UINT64_C(1) << 40);
	REFUSED(bad.cr0 &= ~(uint64_t)CR0_PE);
	REFUSED(bad.cr4 |= CR4_VME);
	REFUSED(bad.cr4 &= ~(uint64_t)CR4_PAE);
	REFUSED(bad.efer &= ~(uint64_t)EFER_LMA);
	REFUSED(bad.efer |= 2);
	REFUSED(bad.cr3 |= UINT64_C(1) << 50);
	REFUSED(bad.rflags |= FL_VM);
	REFUSED(bad.rflags |= 8);
	REFUSED(bad.rip = UINT64_C(0x800000000000));
	REFUSED(bad.seg[SEG_CS].attr |= SEG_DB);
	REFUSED(bad.seg[SEG_GS].base = UINT64_C(1) << 47);
	REFUSED(bad.msr.lstar = UINT64_C(1) << 47);
	REFUSED(bad.xcr0 = 2);
	REFUSED(bad.fxsave[26] = 1);
	REFUSED(bad.dr7 |= UINT64_C(1) << 32);
	REFUSED(bad.cr8 = 16);
	REFUSED(bad.activity = 9);
	cpu_get_state(bench->cpu, &back);
	good.tsc = back.tsc = 0;
	g_assert_cmpmem(&good, sizeof(good), &back, sizeof(back));
	bench_free(bench);
}

/* --- Moving a run --- */

CODE(work, 64,
     "mov $300, %ecx; mov $0x30000, %edi; movq %rcx, %xmm1; fld1\n"
     "1: push %rcx; pushf; pop %rax; add %rax, %rbx; movq %rbx, %xmm0; paddq %xmm0, %xmm1\n"
     "movdqu %xmm1, 0x31000; fld1; faddp; int $0x80; mov %ds, %eax; mov %eax, %ss; cli; sti\n"
     "mov %cr3, %rax; mov %rax, %cr3; push %rdi; push $16; pop %rcx; rep stosb; pop %rdi\n"
     "imul $0x343fd, %rbx, %rbx; add $0x269ec3, %rbx; mov %bl, (%rdi); inc %rdi; pop %rcx\n"
     "dec %ecx; jnz 1b; fistpl 0x31100; xor %eax, %eax\n");
CODE(work_handler, 64, "add $3, %rbx; swapgs; xor (%rsp), %rdx; swapgs; iretq");

static void prepare_work(struct bench *bench)
{
	bench_setup(bench, BENCH_LONG, 0);
	bench->state.seg[SEG_GS].base = 0x30000;
	bench->state.fxsave[0] = 0x7f;
	bench->state.fxsave[1] = 3;
	bench->state.fxsave[4] = 0;
	memcpy(bench->ram + 0x13000, work_handler, (size_t)(work_handler_end - work_handler));
	bench_set_gate(bench, 0x80, SEL_CODE64, 0x13000, 14, 3, 0);
}

static void test_round_trip(void)
{
	struct bench *a = bench_new(BENCH_LONG, 0), *b = bench_new(BENCH_LONG, 0);
	unsigned rounds = g_getenv("LODGE_LONG") ? 300 : 20;
	struct outcome want, got;
	struct cpu_state state;

	prepare_work(a);
	want = RUN(a, work);
	ASSERT_CLEAN(want);
	g_assert_cmpuint(bench_get(a, 0x31100, 4), ==, 301);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t left = g_test_rand_int_range(1, 5000);

		prepare_work(b);
		memcpy(b->ram + AT_CODE, work, (size_t)(work_end - work));
		b->ram[AT_CODE + (work_end - work)] = 0xf4;
		cpu_system_ram_written(b->system, 0, RAM_SIZE);
		g_assert_true(cpu_set_state(b->cpu, &b->state, NULL));
		g_assert_cmpint(cpu_run(b->cpu, left), ==, CPU_EXIT_BUDGET);
		cpu_get_state(b->cpu, &state);
		memcpy(a->ram, b->ram, RAM_SIZE);
		cpu_system_ram_written(a->system, 0, RAM_SIZE);
		cpu_reset(a->cpu, true);
		g_assert_true(cpu_set_state(a->cpu, &state, NULL));
		got = bench_continue(a, 100000);
		ASSERT_CLEAN(got);
		got.state.tsc = want.state.tsc = 0;
		g_assert_cmpmem(&got.state, sizeof(got.state), &want.state, sizeof(want.state));
		g_assert_cmpuint(bench_get(a, 0x31100, 4), ==, 301);
	}
	bench_free(a);
	bench_free(b);
}

/* A page fault that was recognised but not delivered travels with the state. */
static void test_pending_event(void)
{
	struct bench *bench = bench_new(BENCH_LONG, 3);
	struct outcome o;

	bench->state.event = (struct cpu_event){.pending = true,
						.vector = 14,
						.kind = CPU_EVENT_EXCEPTION,
						.has_error = true,
						.error = 6};
	bench->state.cr2 = 0x1234;
	o = RUN(bench, write_cr0);
	ASSERT_FAULT(o, 14, 6, 0);
	g_assert_cmphex(o.state.cr2, ==, 0x1234);
	g_assert_false(o.state.event.pending);
	bench_free(bench);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/state/ladder", test_ladder);
	g_test_add_func("/cpu/state/refusals", test_refusals);
	g_test_add_func("/cpu/state/pae-pointers", test_pae_pointers);
	g_test_add_func("/cpu/state/cpuid", test_cpuid);
	g_test_add_func("/cpu/state/refused", test_set_refused);
	g_test_add_func("/cpu/state/round-trip", test_round_trip);
	g_test_add_func("/cpu/state/pending-event", test_pending_event);
	return g_test_run();
}
