// SPDX-License-Identifier: GPL-2.0-or-later
// Floating point and vector state: when the units are available, unmasked exceptions, the
// instructions that save and restore state, and MMX registers within x87 registers. Each program is
// a few instructions in 64-bit user mode.
#include "cpu/internal.h"
#include "diff.h"

#include <string.h>

enum { NONE = -1 };

struct run {
	struct diff_guest *guest;
	struct diff_case test;
	struct diff_outcome out;
	uint8_t before[DIFF_DATA_SIZE], after[DIFF_DATA_SIZE];
};

static struct run *run_new(void)
{
	struct run *run = g_aligned_alloc0(1, sizeof(*run), 64);

	run->guest = guest_new();
	run->test.mode = DIFF_64;
	run->test.start.rip = DIFF_CODE;
	run->test.start.rflags = 0x202;
	run->test.start.regs[CPU_RSP] = DIFF_DATA + 0x1800;
	run->test.start.regs[CPU_RDI] = DIFF_DATA;
	memcpy(run->test.start.fx, &(uint16_t){0x37f}, 2);
	memcpy(run->test.start.fx + 24, &(uint32_t){0x1f80}, 4);
	run->test.data = run->before;
	return run;
}

static void run_free(struct run *run)
{
	guest_free(run->guest);
	g_aligned_free(run);
}

/* Runs @count instructions: @hex is their bytes. Returns the vector, or NONE. */
static int run_code(struct run *run, const char *hex, unsigned count)
{
	run->test.length = 0;
	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		run->test.bytes[run->test.length++] =
			(uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]));
		hex++;
	}
	run->test.count = count;
	guest_run(run->guest, &run->test, &run->out);
	guest_get_data(run->guest, run->after);
	return run->out.vector;
}

static uint16_t fx16(const struct run *run, unsigned at)
{
	uint16_t value;

	memcpy(&value, run->out.state.fx + at, 2);
	return value;
}

static uint32_t fx32(const struct run *run, unsigned at)
{
	uint32_t value;

	memcpy(&value, run->out.state.fx + at, 4);
	return value;
}

static void set_xmm(struct run *run, unsigned reg, double low, double high)
{
	memcpy(run->test.start.fx + 160 + 16 * reg, (double[]){low, high}, 16);
}

static void test_availability(void)
{
	enum { AX = EXC_UD, NM = EXC_NM };
	static const struct {
		const char *name, *code;
		int em, ts, ts_mp, no_osfxsr; /* vectors with that setting */
	} table[] = {
		{"fld1", "d9e8", NM, NM, NM, NONE},
		{"fnstsw ax", "dfe0", NM, NM, NM, NONE},
		{"fwait", "9b", NONE, NONE, NM, NONE},
		{"paddb mm0, mm1", "0ffcc1", AX, NM, NM, NONE},
		{"emms", "0f77", AX, NM, NM, NONE},
		{"addps xmm0, xmm1", "0f58c1", AX, NM, NM, AX},
		{"movaps xmm0, xmm1", "0f28c1", AX, NM, NM, AX},
		{"pxor xmm0, xmm0", "660fefc0", AX, NM, NM, AX},
		{"pcmpistri xmm0, xmm1, 0", "660f3a63c100", AX, NM, NM, AX},
		{"cvtpi2ps xmm0, mm0", "0f2ac0", AX, NM, NM, AX},
		{"stmxcsr [rdi]", "0fae1f", AX, NM, NM, AX},
		{"fxsave [rdi]", "0fae07", NM, NM, NM, NONE},
		{"movnti [rdi], eax", "0fc307", NONE, NONE, NONE, NONE},
		{"lfence", "0faee8", NONE, NONE, NONE, NONE},
		{"popcnt eax, ecx", "f30fb8c1", NONE, NONE, NONE, NONE},
	};
	struct run *run = run_new();
	struct cpu_state *base = guest_base(run->guest);
	uint64_t cr0 = base->cr0 & ~(uint64_t)CR0_MP, cr4 = base->cr4;

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		g_test_message("%s", table[i].name);
		base->cr0 = cr0;
		g_assert_cmpint(run_code(run, table[i].code, 1), ==, NONE);
		base->cr0 = cr0 | CR0_EM;
		g_assert_cmpint(run_code(run, table[i].code, 1), ==, table[i].em);
		base->cr0 = cr0 | CR0_TS;
		g_assert_cmpint(run_code(run, table[i].code, 1), ==, table[i].ts);
		base->cr0 = cr0 | CR0_TS | CR0_MP;
		g_assert_cmpint(run_code(run, table[i].code, 1), ==, table[i].ts_mp);
		base->cr0 = cr0;
		base->cr4 = cr4 & ~(uint64_t)CR4_OSFXSR;
		g_assert_cmpint(run_code(run, table[i].code, 1), ==, table[i].no_osfxsr);
		base->cr4 = cr4;
	}
	run_free(run);
}

static void test_locked(void)
{
	static const char *const code[] = {"f0d9e8", "f00f58c1", "f00ffcc1", "f00fae07", "f00f77"};
	struct run *run = run_new();

	for (size_t i = 0; i < G_N_ELEMENTS(code); i++)
		g_assert_cmpint(run_code(run, code[i], 1), ==, EXC_UD);
	run_free(run);
}

/* DIVPD with ZE unmasked: 1/0 and 2/3. */
static void test_sse_unmasked(void)
{
	struct run *run = run_new();
	struct cpu_state *base = guest_base(run->guest);
	double result[2];

	set_xmm(run, 0, 1.0, 2.0);
	set_xmm(run, 1, 0.0, 3.0);
	memcpy(run->test.start.fx + 24, &(uint32_t){0x1d80}, 4);
	g_assert_cmpint(run_code(run, "660f5ec1", 1), ==, EXC_XM);
	g_assert_cmpuint(run->out.state.rip, ==, DIFF_CODE);
	g_assert_cmphex(fx32(run, 24), ==, 0x1d84); /* ZE alone: found before the division */
	memcpy(result, run->out.state.fx + 160, 16);
	g_assert_cmpfloat(result[0], ==, 1.0);
	g_assert_cmpfloat(result[1], ==, 2.0);
	base->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
	g_assert_cmpint(run_code(run, "660f5ec1", 1), ==, EXC_UD);
	base->cr4 |= CR4_OSXMMEXCPT;
	/* Precision unmasked: found after; the zero divide is masked and flagged as well. */
	memcpy(run->test.start.fx + 24, &(uint32_t){0x0f80}, 4);
	g_assert_cmpint(run_code(run, "660f5ec1", 1), ==, EXC_XM);
	g_assert_cmphex(fx32(run, 24), ==, 0x0fa4);
	/* A set flag alone raises nothing. */
	memcpy(run->test.start.fx + 24, &(uint32_t){0x003f}, 4);
	set_xmm(run, 1, 1.0, 1.0);
	g_assert_cmpint(run_code(run, "660f5ec1", 1), ==, NONE);
	run_free(run);
}

static void test_x87_deferred(void)
{
	struct run *run = run_new();

	/* FLD1; FLDZ; FDIVP; FNSTSW AX; NOP; FLD1, with zero divide unmasked. */
	memcpy(run->test.start.fx, &(uint16_t){0x37b}, 2);
	g_assert_cmpint(run_code(run, "d9e8 d9ee def9 dfe0 90 d9e8", 6), ==, EXC_MF);
	g_assert_cmpuint(run->out.state.rip, ==, DIFF_CODE + 9);
	g_assert_cmphex(run->out.state.regs[CPU_RAX] & 0x80ff, ==, 0x8084);
	g_assert_cmphex(fx16(run, 2) & 0x80ff, ==, 0x8084);
	/* The operands are still there: an unmasked exception leaves the stack alone. */
	g_assert_cmphex(fx16(run, 2) & 0x3800, ==, 6 << 11);
	/* FNCLEX makes it harmless; MMX instructions wait as well, SSE ones do not. */
	g_assert_cmpint(run_code(run, "d9e8 d9ee def9 dbe2 d9e8", 5), ==, NONE);
	g_assert_cmpint(run_code(run, "d9e8 d9ee def9 0ffcc1", 4), ==, EXC_MF);
	g_assert_cmpint(run_code(run, "d9e8 d9ee def9 660ffcc1", 4), ==, NONE);
	g_assert_cmpint(run_code(run, "d9e8 d9ee def9 9b", 4), ==, EXC_MF);
	/* FNSTENV does not wait, and masks. */
	g_assert_cmpint(run_code(run, "d9e8 d9ee def9 d937 d9e8", 5), ==, NONE);
	g_assert_cmphex(fx16(run, 0), ==, 0x37f);
	run_free(run);
}

/* A suppressed FSTP neither stores nor pops: infinity to an integer with IE unmasked. */
static void test_x87_suppressed_store(void)
{
	struct run *run = run_new();
	static const uint8_t infinity[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f};

	memcpy(run->test.start.fx, &(uint16_t){0x37e}, 2);
	memcpy(run->test.start.fx + 32, infinity, 10);
	run->test.start.fx[4] = 1;
	memset(run->before, 0x55, 16);
	g_assert_cmpint(run_code(run, "db1f", 1), ==, NONE); /* FISTP dword [rdi] */
	g_assert_cmpint(run->after[0], ==, 0x55);
	g_assert_cmphex(fx16(run, 2), ==, 0x8081);
	/* A store that faults leaves the stack as it was. */
	run->test.start.regs[CPU_RDI] = DIFF_DATA + DIFF_DATA_SIZE - 2;
	memcpy(run->test.start.fx, &(uint16_t){0x37f}, 2);
	g_assert_cmpint(run_code(run, "db1f", 1), ==, EXC_PF);
	g_assert_cmphex(fx16(run, 2), ==, 0);
	g_assert_cmphex(run->out.state.fx[4], ==, 1);
	run_free(run);
}

static void test_mmx_aliasing(void)
{
	struct run *run = run_new();

	/* FLD1; FLDPI; MOVD MM3, EAX. */
	run->test.start.regs[CPU_RAX] = 0x12345678;
	g_assert_cmpint(run_code(run, "d9e8 d9eb 0f6ed8", 3), ==, NONE);
	g_assert_cmphex(fx16(run, 2) & 0x3800, ==, 0);
	g_assert_cmphex(run->out.state.fx[4], ==, 0xff);
	g_assert_cmphex(fx32(run, 32 + 48), ==, 0x12345678);
	g_assert_cmphex(fx16(run, 32 + 48 + 8), ==, 0xffff);
	/* FLD1 had gone to physical register 7, FLDPI to 6. */
	g_assert_cmphex(fx16(run, 32 + 112 + 8), ==, 0x3fff);
	g_assert_cmphex(fx16(run, 32 + 96 + 8), ==, 0x4000);
	g_assert_cmpint(run_code(run, "d9e8 0f77", 2), ==, NONE);
	g_assert_cmphex(run->out.state.fx[4], ==, 0);
	/* FNSTENV after FLD1; FLDZ: full tags, the pointers, 32-bit format. */
	g_assert_cmpint(run_code(run, "d9e8 d9ee d937", 3), ==, NONE);
	g_assert_cmphex(run->after[8] | run->after[9] << 8, ==, 0x1fff);
	g_assert_cmphex(run->after[12], ==, 2); /* FIP: FLDZ's */
	run_free(run);
}

static void enable_xsave(struct run *run)
{
	struct cpu_state *base = guest_base(run->guest);

	base->cr4 |= CR4_OSXSAVE;
	base->xcr0 = 3;
	run->test.start.regs[CPU_RAX] = UINT32_MAX;
	run->test.start.regs[CPU_RDX] = UINT32_MAX;
}

/* Saves, destroys, restores: the state must be the one before. */
static void check_round_trip(struct run *run, const char *save, const char *restore)
{
	g_autofree char *code =
		g_strdup_printf("%s dbe3 d9e8 0f57c0 440f57ff 0fae9700100000 %s", save, restore);

	for (unsigned i = 0; i < 128; i++)
		run->test.start.fx[32 + i] = (i & 15) < 10 ? (uint8_t)(i * 7 + 1) : 0;
	for (unsigned i = 0; i < 256; i++)
		run->test.start.fx[160 + i] = (uint8_t)(i * 5 + 3);
	memcpy(run->test.start.fx, &(uint16_t){0x27f}, 2);
	memcpy(run->test.start.fx + 2, &(uint16_t){0x1920}, 2);
	run->test.start.fx[4] = 0x5a;
	memcpy(run->test.start.fx + 24, &(uint32_t){0x7fa1}, 4);
	memcpy(run->before + 0x1000, &(uint32_t){0x1f80}, 4); /* for LDMXCSR */
	memset(run->before, 0, 0x1000);
	g_assert_cmpint(run_code(run, code, 7), ==, NONE);
	g_assert_cmpmem(run->out.state.fx, 5, run->test.start.fx, 5);
	g_assert_cmphex(fx32(run, 24), ==, 0x7fa1);
	g_assert_cmpmem(run->out.state.fx + 32, 384, run->test.start.fx + 32, 384);
}

static void test_round_trips(void)
{
	struct run *run = run_new();

	check_round_trip(run, "0fae07", "0fae0f");
	check_round_trip(run, "480fae07", "480fae0f");
	guest_base(run->guest)->cr4 &= ~(uint64_t)CR4_OSXSAVE;
	g_assert_cmpint(run_code(run, "0fae27", 1), ==, EXC_UD);
	enable_xsave(run);
	check_round_trip(run, "0fae27", "0fae2f");
	g_assert_cmphex(run->after[512], ==, 3);
	check_round_trip(run, "0fae37", "0fae2f"); /* XSAVEOPT */
	check_round_trip(run, "0fc727", "0fae2f"); /* XSAVEC */
	g_assert_cmphex(run->after[520], ==, 3);
	g_assert_cmphex(run->after[527], ==, 0x80);
	run_free(run);
}

static void test_xrstor_init(void)
{
	struct run *run = run_new();

	enable_xsave(run);
	check_round_trip(run, "0fae27", "0fae2f");
	memset(run->before, 0, sizeof(run->before));
	memcpy(run->before + 24, &(uint32_t){0x1f80}, 4);
	/* XSTATE_BV = 0: both components get their initial configuration. */
	g_assert_cmpint(run_code(run, "0fae2f", 1), ==, NONE);
	g_assert_cmphex(fx16(run, 0), ==, 0x37f);
	g_assert_cmphex(run->out.state.fx[160 + 17], ==, 0);
	/* Only SSE is asked for. */
	run->test.start.regs[CPU_RAX] = 2;
	g_assert_cmpint(run_code(run, "0fae2f", 1), ==, NONE);
	g_assert_cmphex(fx16(run, 0), ==, 0x27f);
	run_free(run);
}

static void test_xrstor_refuses(void)
{
	static const struct {
		unsigned at;
		uint8_t value;
		int vector;
	} table[] = {
		{512, 3, NONE},    {512, 4, EXC_GP},  {515, 1, EXC_GP}, {520, 1, EXC_GP},
		{527, 0x80, NONE}, {528, 1, EXC_GP},  {535, 1, EXC_GP}, {536, 1, NONE},
		{26, 1, EXC_GP},   {465, 0xff, NONE},
	};
	struct run *run = run_new();

	enable_xsave(run);
	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		memset(run->before, 0, sizeof(run->before));
		run->before[table[i].at] = table[i].value;
		g_test_message("byte %u = %u", table[i].at, table[i].value);
		g_assert_cmpint(run_code(run, "0fae2f", 1), ==, table[i].vector);
	}
	run->test.start.regs[CPU_RDI] = DIFF_DATA + 32;
	memset(run->before, 0, sizeof(run->before));
	g_assert_cmpint(run_code(run, "0fae2f", 1), ==, EXC_GP);
	g_assert_cmpint(run_code(run, "0fae27", 1), ==, EXC_GP);
	g_assert_cmpint(run_code(run, "0fae07", 1), ==, NONE); /* FXSAVE: 16 are enough */
	run->test.start.regs[CPU_RDI] = DIFF_DATA + 8;
	g_assert_cmpint(run_code(run, "0fae07", 1), ==, EXC_GP);
	g_assert_cmpint(run_code(run, "0fae0f", 1), ==, EXC_GP);
	run_free(run);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/fpu/availability", test_availability);
	g_test_add_func("/cpu/fpu/locked", test_locked);
	g_test_add_func("/cpu/fpu/sse-unmasked", test_sse_unmasked);
	g_test_add_func("/cpu/fpu/x87-deferred", test_x87_deferred);
	g_test_add_func("/cpu/fpu/x87-suppressed-store", test_x87_suppressed_store);
	g_test_add_func("/cpu/fpu/mmx-aliasing", test_mmx_aliasing);
	g_test_add_func("/cpu/fpu/round-trips", test_round_trips);
	g_test_add_func("/cpu/fpu/xrstor-init", test_xrstor_init);
	g_test_add_func("/cpu/fpu/xrstor-refuses", test_xrstor_refuses);
	return g_test_run();
}
