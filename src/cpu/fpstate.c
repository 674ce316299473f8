// SPDX-License-Identifier: GPL-2.0-or-later
// Where the x87, MMX and SSE state is: in the FXSAVE image or in the host's own units.
//
// 1. While cpu_run is in its loop, the host's MXCSR is the guest's with every exception masked; the
//    masks and modes of the guest are in the image, its flags there are older than the host's.
// 2. While fpu_live is set, the host's x87 unit holds the guest's control word, status word, tags
//    and registers, unmasked exceptions included. FOP, FIP and FDP always are in the image.
// 3. An x87 exception is deferred: the host raises it at its next waiting instruction, so none is
//    executed while the status word's ES is set.
// 4. While mmx_live is set, the image is complete and in MMX state; the host's unit is scratch.
#include "cpu/fp.h"

static inline uint32_t host_mxcsr(void)
{
	uint32_t value;
	asm volatile("stmxcsr %0" : "=m"(value));
	return value;
}

static inline void host_set_mxcsr(uint32_t value)
{
	asm volatile("ldmxcsr %0" : : "m"(value));
}

void fpu_enter(struct cpu *cpu)
{
	if (cpu->fpu_inside)
		return;
	cpu->fpu_inside = true;
	host_set_mxcsr(fx_get32(cpu, FX_MXCSR) | MXCSR_MASKS);
}

void fpu_leave(struct cpu *cpu)
{
	if (!cpu->fpu_inside)
		return;
	x87_park(cpu);
	mxcsr_get(cpu);
	host_set_mxcsr(MXCSR_DEFAULT);
	cpu->fpu_inside = false;
}

void fpu_reset(struct cpu *cpu)
{
	x87_park(cpu);
	memset(cpu->fxsave, 0, sizeof(cpu->fxsave));
	fx_set16(cpu, FX_FCW, 0x40);
	fx_set16(cpu, FX_FTW, 0xff);
	fx_set32(cpu, FX_MXCSR_MASK, MXCSR_VALID);
	mxcsr_set(cpu, MXCSR_DEFAULT);
}

uint32_t mxcsr_get(struct cpu *cpu)
{
	uint32_t value = fx_get32(cpu, FX_MXCSR);
	if (cpu->fpu_inside) {
		value = (value & ~MXCSR_FLAGS) | (host_mxcsr() & MXCSR_FLAGS);
		fx_set32(cpu, FX_MXCSR, value);
	}
	return value;
}

void mxcsr_set(struct cpu *cpu, uint32_t value)
{
	fx_set32(cpu, FX_MXCSR, value);
	if (cpu->fpu_inside)
		host_set_mxcsr(value | MXCSR_MASKS);
}

void x87_park(struct cpu *cpu)
{
	_Alignas(16) uint8_t image[512];

	if (cpu->fpu_live) {
		asm volatile("fxsave64 %0\n\tfninit" : "=m"(image));
		memcpy(cpu->fxsave, image, FX_FOP);
		memcpy(cpu->fxsave + FX_ST, image + FX_ST, FX_XMM - FX_ST);
	} else if (cpu->mmx_live) {
		asm volatile("emms");
	}
	cpu->fpu_live = cpu->fpu_fast = cpu->mmx_live = false;
}

static void unpark(struct cpu *cpu)
{
	_Alignas(16) uint8_t image[512];
	uint32_t mxcsr = host_mxcsr();

	x87_park(cpu);
	memcpy(image, cpu->fxsave, FX_XMM);
	memset(image + FX_FOP, 0, FX_MXCSR - FX_FOP);
	memset(image + FX_XMM, 0, sizeof(image) - FX_XMM);
	memcpy(image + FX_MXCSR, &mxcsr, 4);
	asm volatile("fxrstor64 %0"
		     :
		     : "m"(image)
		     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
		       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	cpu->fpu_live = true;
	cpu->fpu_fast = (fx_get16(cpu, FX_FCW) & 0x3f) == 0x3f;
}

uint16_t x87_status(struct cpu *cpu)
{
	uint16_t status = fx_get16(cpu, FX_FSW);
	if (cpu->fpu_live)
		asm volatile("fnstsw %0" : "=m"(status));
	return status;
}

bool x87_pending(struct cpu *cpu)
{
	return !cpu->fpu_fast && (x87_status(cpu) & FSW_ES);
}

void x87_normalise(struct cpu *cpu)
{
	uint16_t fcw = (fx_get16(cpu, FX_FCW) & 0x1f3f) | 0x40;
	uint16_t fsw = fx_get16(cpu, FX_FSW) & ~(FSW_ES | FSW_B);

	if (fsw & ~fcw & 0x3f)
		fsw |= FSW_ES | FSW_B;
	fx_set16(cpu, FX_FCW, fcw);
	fx_set16(cpu, FX_FSW, fsw);
}

void x87_prepare(struct cpu *cpu)
{
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		cpu_raise(cpu, EXC_NM);
	if (x87_pending(cpu))
		cpu_raise(cpu, EXC_MF);
	if (!cpu->fpu_live)
		unpark(cpu);
}

void mmx_prepare(struct cpu *cpu)
{
	if (cpu->cr0 & CR0_EM)
		cpu_raise(cpu, EXC_UD);
	if (cpu->cr0 & CR0_TS)
		cpu_raise(cpu, EXC_NM);
	if (x87_pending(cpu))
		cpu_raise(cpu, EXC_MF);
}

void x87_set_top(struct cpu *cpu, unsigned top)
{
	uint16_t fsw = fx_get16(cpu, FX_FSW);
	unsigned old_top = (fsw & FSW_TOP) >> FSW_TOP_SHIFT;

	x87_rotate(cpu, old_top - top);
	fx_set16(cpu, FX_FSW, (uint16_t)((fsw & ~FSW_TOP) | top << FSW_TOP_SHIFT));
}

void x87_rotate(struct cpu *cpu, unsigned by)
{
	uint8_t old[8][16];

	memcpy(old, cpu->fxsave + FX_ST, sizeof(old));
	for (unsigned i = 0; i < 8; i++)
		memcpy(cpu->fxsave + FX_ST + 16 * ((i + by) & 7), old[i], 16);
}

void mmx_enter(struct cpu *cpu)
{
	x87_park(cpu);
	x87_set_top(cpu, 0);
	fx_set16(cpu, FX_FTW, 0xff);
	cpu->mmx_live = true;
}

void sse_unavailable(struct cpu *cpu)
{
	if ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR))
		cpu_raise(cpu, EXC_UD);
	cpu_raise(cpu, EXC_NM);
}

void fp_check_alignment(struct cpu *cpu, const struct op *op, uint64_t offset, unsigned align,
			unsigned size, enum mem_access access)
{
	if (cpu->cpl != 3 || !(cpu->cr0 & CR0_AM) || !(cpu->rflags & FL_AC))
		return;
	if (seg_linear(cpu, op->segment, offset, size, access) & (align - 1))
		cpu_raise_error(cpu, EXC_AC, 0);
}

const void *fp_load_slow(struct cpu *cpu, const struct op *op, void *buffer, unsigned size)
{
	uint64_t offset = op_offset(cpu, op);

	if (size <= 8) {
		uint64_t value = mem_read(cpu, op->segment, offset, size);
		memcpy(buffer, &value, 8);
	} else {
		fp_check_alignment(cpu, op, offset, size == 16 ? 16 : 8, size, MEM_READ);
		mem_read_block(cpu, op->segment, offset, buffer, size);
	}
	return buffer;
}

void fp_store_slow(struct cpu *cpu, const struct op *op, const void *from, unsigned size)
{
	uint64_t offset = op_offset(cpu, op), value = 0;

	if (size <= 8) {
		memcpy(&value, from, size);
		mem_write(cpu, op->segment, offset, value, size);
	} else {
		fp_check_alignment(cpu, op, offset, size == 16 ? 16 : 8, size, MEM_WRITE);
		mem_write_block(cpu, op->segment, offset, from, size);
	}
}

/* One run on a copy, with the modes @mxcsr (all masked, no flags): the flags it raised. */
static uint32_t trial(sse_body *body, uint8_t copy[16], const void *dst, const void *src,
		      unsigned imm, uint32_t mxcsr)
{
	memcpy(copy, dst, 16);
	host_set_mxcsr(mxcsr);
	body(copy, src, imm);
	return host_mxcsr() & MXCSR_FLAGS;
}

void sse_checked(struct cpu *cpu, sse_body *body, void *dst, const void *src, unsigned imm)
{
	enum { BEFORE = 0x07, UNDERFLOW = 0x10 }; /* invalid, denormal, divide: found first */
	uint32_t guest = mxcsr_get(cpu);
	uint32_t unmasked = ~guest >> 7 & MXCSR_FLAGS;
	uint32_t modes = (guest | MXCSR_MASKS) & ~MXCSR_FLAGS;
	uint32_t flags;
	uint8_t result[16], scratch[16];

	/* Flush-to-zero has no effect while underflow is unmasked, but underflow then is raised
	 * for exact tiny results too: flush-to-zero shows those. */
	if (unmasked & UNDERFLOW) {
		flags = trial(body, result, dst, src, imm, modes & ~MXCSR_FTZ);
		flags |= trial(body, scratch, dst, src, imm, modes | MXCSR_FTZ) & UNDERFLOW;
	} else {
		flags = trial(body, result, dst, src, imm, modes);
	}
	if (flags & unmasked & BEFORE)
		flags &= BEFORE;
	mxcsr_set(cpu, guest | flags);
	if (flags & unmasked)
		cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
	memcpy(dst, result, 16);
}

asm(".pushsection .text\n"
    ".globl lodge_imm_call\n"
    ".type lodge_imm_call, @function\n"
    "lodge_imm_call:\n"
    "	movups (%rdi), %xmm0\n"
    "	movups (%rsi), %xmm1\n"
    "	call *%rdx\n"
    "	movups %xmm0, (%rdi)\n"
    "	ret\n"
    ".size lodge_imm_call, . - lodge_imm_call\n"
    ".popsection\n");
