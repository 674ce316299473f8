// SPDX-License-Identifier: GPL-2.0-or-later
// FXSAVE, FXRSTOR, the XSAVE family with x87 and SSE state, LDMXCSR, STMXCSR, fences and cache line
// flushes: groups 0F AE and 0F C7 (SDM 1 sections 10.5 and 13).
#include "cpu/fp.h"

enum { XSTATE_X87 = 1, XSTATE_SSE = 2 };
enum { LEGACY_SIZE = 512, HEADER_SIZE = 64, XSAVE_SIZE = LEGACY_SIZE + HEADER_SIZE };
#define XCOMP_COMPACT (UINT64_C(1) << 63)

static void check_fx(struct cpu *cpu)
{
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		cpu_raise(cpu, EXC_NM);
}

static void check_xsave(struct cpu *cpu)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		cpu_raise(cpu, EXC_UD);
	if (cpu->cr0 & CR0_TS)
		cpu_raise(cpu, EXC_NM);
}

static uint64_t aligned_offset(struct cpu *cpu, const struct op *op, unsigned align)
{
	uint64_t offset = op_offset(cpu, op);

	if (fp_linear(cpu, op, offset) & (align - 1))
		cpu_raise_error(cpu, EXC_GP, 0);
	return offset;
}

static unsigned xmm_count(const struct op *op)
{
	return op->code_size == 8 ? 16 : 8;
}

/* --- Images in memory --- */

/* Bytes 0-23 and the registers. Without REX.W the pointers are 32 bits wide and a selector. */
static void put_x87(struct cpu *cpu, const struct op *op, uint8_t *image)
{
	x87_park(cpu);
	memcpy(image, cpu->fxsave, FX_MXCSR);
	if (!op_is_wide(op)) {
		memset(image + FX_FIP + 4, 0, 4);
		memset(image + FX_FDP + 4, 0, 4);
	}
	for (unsigned i = 0; i < 8; i++) {
		memcpy(image + FX_ST + 16 * i, cpu->fxsave + FX_ST + 16 * i, 10);
		memset(image + FX_ST + 16 * i + 10, 0, 6);
	}
}

static void get_x87(struct cpu *cpu, const struct op *op, const uint8_t *image)
{
	x87_park(cpu);
	memcpy(cpu->fxsave, image, FX_MXCSR);
	cpu->fxsave[FX_FTW + 1] = 0;
	fx_set16(cpu, FX_FOP, fx_get16(cpu, FX_FOP) & 0x7ff);
	if (!op_is_wide(op)) {
		memset(cpu->fxsave + FX_FIP + 4, 0, 4);
		memset(cpu->fxsave + FX_FDP + 4, 0, 4);
	}
	for (unsigned i = 0; i < 8; i++)
		memcpy(cpu->fxsave + FX_ST + 16 * i, image + FX_ST + 16 * i, 10);
	x87_normalise(cpu);
}

static void init_x87(struct cpu *cpu)
{
	x87_park(cpu);
	memset(cpu->fxsave, 0, FX_MXCSR);
	fx_set16(cpu, FX_FCW, 0x37f);
	memset(cpu->fxsave + FX_ST, 0, FX_XMM - FX_ST);
}

static void put_mxcsr(struct cpu *cpu, uint8_t *image)
{
	uint32_t words[2] = {mxcsr_get(cpu), MXCSR_VALID};

	memcpy(image + FX_MXCSR, words, 8);
}

static uint32_t image_mxcsr(struct cpu *cpu, const uint8_t *image)
{
	uint32_t value;

	memcpy(&value, image + FX_MXCSR, 4);
	if (value & ~MXCSR_VALID)
		cpu_raise_error(cpu, EXC_GP, 0);
	return value;
}

uint64_t fpu_in_use(struct cpu *cpu)
{
	static const uint8_t zeros[256];
	uint64_t in_use = 0;

	x87_park(cpu);
	if (fx_get16(cpu, FX_FCW) != 0x37f || memcmp(cpu->fxsave + FX_FSW, zeros, 22) != 0 ||
	    memcmp(cpu->fxsave + FX_ST, zeros, FX_XMM - FX_ST) != 0)
		in_use |= XSTATE_X87;
	if (memcmp(cpu->fxsave + FX_XMM, zeros, 256) != 0)
		in_use |= XSTATE_SSE;
	return in_use;
}

/* --- FXSAVE, FXRSTOR --- */

static void fxsave(struct cpu *cpu, const struct op *op)
{
	uint8_t image[LEGACY_SIZE];
	uint64_t offset;

	check_fx(cpu);
	offset = aligned_offset(cpu, op, 16);
	mem_probe_write(cpu, op->segment, offset, LEGACY_SIZE);
	put_x87(cpu, op, image);
	put_mxcsr(cpu, image);
	memcpy(image + FX_XMM, cpu->fxsave + FX_XMM, 256);
	mem_write_block(cpu, op->segment, offset, image, FX_XMM + 16 * xmm_count(op));
}

static void fxrstor(struct cpu *cpu, const struct op *op)
{
	uint8_t image[LEGACY_SIZE];
	uint32_t mxcsr;

	check_fx(cpu);
	mem_read_block(cpu, op->segment, aligned_offset(cpu, op, 16), image, LEGACY_SIZE);
	mxcsr = image_mxcsr(cpu, image);
	get_x87(cpu, op, image);
	memcpy(cpu->fxsave + FX_XMM, image + FX_XMM, 16 * xmm_count(op));
	mxcsr_set(cpu, mxcsr);
}

/* --- XSAVE family --- */

static uint64_t requested(const struct cpu *cpu)
{
	uint64_t mask = cpu->regs[CPU_RDX] << 32 | (uint32_t)cpu->regs[CPU_RAX];

	return mask & cpu->xcr0;
}

static void save_components(struct cpu *cpu, const struct op *op, uint64_t offset, uint64_t which,
			    bool with_mxcsr)
{
	uint8_t image[LEGACY_SIZE];

	if (which & XSTATE_X87) {
		put_x87(cpu, op, image);
		mem_write_block(cpu, op->segment, offset, image, FX_MXCSR);
		mem_write_block(cpu, op->segment, offset + FX_ST, image + FX_ST, FX_XMM - FX_ST);
	}
	if (with_mxcsr) {
		put_mxcsr(cpu, image);
		mem_write_block(cpu, op->segment, offset + FX_MXCSR, image + FX_MXCSR, 8);
	}
	if (which & XSTATE_SSE)
		mem_write_block(cpu, op->segment, offset + FX_XMM, cpu->fxsave + FX_XMM,
				16 * xmm_count(op));
}

/* XSAVE, and XSAVEOPT, which leaves out components in their initial configuration. */
static void save_standard(struct cpu *cpu, const struct op *op, bool optimised)
{
	uint64_t offset, which, in_use, header;

	check_xsave(cpu);
	offset = aligned_offset(cpu, op, 64);
	which = requested(cpu);
	mem_probe_write(cpu, op->segment, offset, XSAVE_SIZE);
	header = mem_read(cpu, op->segment, offset + LEGACY_SIZE, 8);
	in_use = fpu_in_use(cpu);
	save_components(cpu, op, offset, optimised ? which & in_use : which, which & XSTATE_SSE);
	mem_write(cpu, op->segment, offset + LEGACY_SIZE, (header & ~which) | (in_use & which), 8);
}

static void xsave(struct cpu *cpu, const struct op *op)
{
	save_standard(cpu, op, false);
}

static void xsaveopt(struct cpu *cpu, const struct op *op)
{
	save_standard(cpu, op, true);
}

static void xsavec(struct cpu *cpu, const struct op *op)
{
	uint64_t offset, which, in_use;

	check_xsave(cpu);
	offset = aligned_offset(cpu, op, 64);
	which = requested(cpu);
	mem_probe_write(cpu, op->segment, offset, XSAVE_SIZE);
	in_use = fpu_in_use(cpu);
	if (mxcsr_get(cpu) != MXCSR_DEFAULT)
		in_use |= XSTATE_SSE;
	in_use &= which;
	save_components(cpu, op, offset, in_use, in_use & XSTATE_SSE);
	mem_write(cpu, op->segment, offset + LEGACY_SIZE, in_use, 8);
	mem_write(cpu, op->segment, offset + LEGACY_SIZE + 8, which | XCOMP_COMPACT, 8);
}

/* What the header must look like; raises #GP(0). */
static void check_header(struct cpu *cpu, const uint64_t header[8])
{
	uint64_t present = header[0], format = header[1], reserved = 0;
	bool good;

	for (unsigned i = 2; i < 8; i++)
		reserved |= i == 2 || (format & XCOMP_COMPACT) ? header[i] : 0;
	if (format & XCOMP_COMPACT)
		good = !(format & ~XCOMP_COMPACT & ~cpu->xcr0) && !(present & ~format) &&
		       !(present & XCOMP_COMPACT);
	else
		good = format == 0 && !(present & ~cpu->xcr0);
	if (!good || reserved)
		cpu_raise_error(cpu, EXC_GP, 0);
}

static void xrstor(struct cpu *cpu, const struct op *op)
{
	uint8_t image[LEGACY_SIZE];
	uint64_t header[8], offset, which, present;
	uint32_t mxcsr = MXCSR_DEFAULT;
	bool compact;

	check_xsave(cpu);
	offset = aligned_offset(cpu, op, 64);
	which = requested(cpu);
	mem_read_block(cpu, op->segment, offset, image, LEGACY_SIZE);
	mem_read_block(cpu, op->segment, offset + LEGACY_SIZE, header, HEADER_SIZE);
	check_header(cpu, header);
	present = header[0] & which;
	compact = header[1] & XCOMP_COMPACT;
	if (compact ? present & XSTATE_SSE : which & XSTATE_SSE)
		mxcsr = image_mxcsr(cpu, image);
	if (present & XSTATE_X87)
		get_x87(cpu, op, image);
	else if (which & XSTATE_X87)
		init_x87(cpu);
	if (which & XSTATE_SSE) {
		if (present & XSTATE_SSE)
			memcpy(cpu->fxsave + FX_XMM, image + FX_XMM, 16 * xmm_count(op));
		else
			memset(cpu->fxsave + FX_XMM, 0, 16 * xmm_count(op));
		mxcsr_set(cpu, mxcsr);
	}
}

/* --- MXCSR, fences, cache lines --- */

static void ldmxcsr(struct cpu *cpu, const struct op *op)
{
	uint32_t value;

	sse_check(cpu);
	value = (uint32_t)mem_read(cpu, op->segment, op_offset(cpu, op), 4);
	if (value & ~MXCSR_VALID)
		cpu_raise_error(cpu, EXC_GP, 0);
	mxcsr_set(cpu, value);
}

static void stmxcsr(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	mem_write(cpu, op->segment, op_offset(cpu, op), mxcsr_get(cpu), 4);
}

static void lfence(struct cpu *cpu, const struct op *op)
{
	asm volatile("lfence" : : : "memory");
}

static void mfence(struct cpu *cpu, const struct op *op)
{
	asm volatile("mfence" : : : "memory");
}

static void sfence(struct cpu *cpu, const struct op *op)
{
	asm volatile("sfence" : : : "memory");
}

/* CLFLUSH and CLFLUSHOPT are checked like a read of a byte, and touch neither RAM nor devices. */
static void clflush(struct cpu *cpu, const struct op *op)
{
	struct walk_result result;
	uint64_t linear = seg_linear(cpu, op->segment, op_offset(cpu, op), 1, MEM_READ);

	page_walk(cpu, linear, MEM_READ, cpu->cpl, false, &result);
}

/* --- Selection --- */

static op_fn *select_memory(unsigned prefix, unsigned field)
{
	static op_fn *const plain[8] = {fxsave, fxrstor, ldmxcsr,  stmxcsr,
					xsave,  xrstor,  xsaveopt, clflush};

	if (prefix == PP_NONE)
		return plain[field];
	return prefix == PP_66 && field == 7 ? clflush : NULL;
}

static op_fn *select_fence(unsigned prefix, unsigned field)
{
	if (prefix != PP_NONE)
		return NULL;
	return field == 5 ? lfence : field == 6 ? mfence : field == 7 ? sfence : NULL;
}

bool fpsave_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	unsigned field = insn->modrm >> 3 & 7, prefix = key >> 8 & 3;
	bool memory = insn->flags & OP_MEM;

	if (insn->map != MAP_0F)
		return false;
	if (insn->opcode == 0xae)
		return fp_chosen(
			choice, memory ? select_memory(prefix, field) : select_fence(prefix, field),
			0);
	if (insn->opcode == 0xc7 && memory && field == 4 && prefix == PP_NONE)
		return fp_chosen(choice, xsavec, 0);
	return false;
}
