/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <emmintrin.h>
#include <string.h>

#include "cpu/mem.h"

/*
 * What the floating point and vector files share. XMM registers always are in cpu->fxsave; the x87
 * and MMX registers are there too, unless cpu->fpu_live is set. See docs/cpu-fp.md.
 */

/* Offsets in the FXSAVE64 image (SDM 1, table 10-2). */
enum {
	FX_FCW = 0,
	FX_FSW = 2,
	FX_FTW = 4,
	FX_FOP = 6,
	FX_FIP = 8,
	FX_FDP = 16,
	FX_MXCSR = 24,
	FX_MXCSR_MASK = 28,
	FX_ST = 32,
	FX_XMM = 160,
};

enum {
	MXCSR_FLAGS = 0x3f,
	MXCSR_DEFAULT = 0x1f80,
	MXCSR_MASKS = 0x1f80,
	MXCSR_VALID = 0xffff,
	MXCSR_FTZ = 0x8000
};
enum { FSW_ES = 0x80, FSW_B = 0x8000, FSW_TOP = 0x3800, FSW_TOP_SHIFT = 11 };

static inline uint16_t fx_get16(const struct cpu *cpu, unsigned at)
{
	uint16_t value;
	memcpy(&value, cpu->fxsave + at, 2);
	return value;
}
static inline void fx_set16(struct cpu *cpu, unsigned at, uint16_t value)
{
	memcpy(cpu->fxsave + at, &value, 2);
}
static inline uint32_t fx_get32(const struct cpu *cpu, unsigned at)
{
	uint32_t value;
	memcpy(&value, cpu->fxsave + at, 4);
	return value;
}
static inline void fx_set32(struct cpu *cpu, unsigned at, uint32_t value)
{
	memcpy(cpu->fxsave + at, &value, 4);
}
static inline uint64_t fx_get64(const struct cpu *cpu, unsigned at)
{
	uint64_t value;
	memcpy(&value, cpu->fxsave + at, 8);
	return value;
}
static inline void fx_set64(struct cpu *cpu, unsigned at, uint64_t value)
{
	memcpy(cpu->fxsave + at, &value, 8);
}

static inline uint8_t *xmm(struct cpu *cpu, unsigned reg)
{
	return cpu->fxsave + FX_XMM + 16 * reg;
}
/* The 64 bits of an MMX register; only while cpu->mmx_live. */
static inline uint8_t *mm(struct cpu *cpu, unsigned reg)
{
	return cpu->fxsave + FX_ST + 16 * (reg & 7);
}
/* A write to an MMX register sets the sign and exponent of the x87 register it lives in. */
static inline void mm_written(struct cpu *cpu, unsigned reg)
{
	fx_set16(cpu, FX_ST + 16 * (reg & 7) + 8, 0xffff);
}

/* --- State of the units (fpstate.c) --- */
void x87_park(struct cpu *cpu);    /* x87 registers are in cpu->fxsave afterwards */
void x87_prepare(struct cpu *cpu); /* for a waiting x87 instruction: raises #NM or #MF, or puts the
				    * registers into the host's unit */
void x87_normalise(struct cpu *cpu); /* parked image: what any load of FCW and FSW does to them */
/* Parked image: moves the registers up by @by places; or so that TOP becomes @top. */
void x87_rotate(struct cpu *cpu, unsigned by);
void x87_set_top(struct cpu *cpu, unsigned top);
uint16_t x87_status(struct cpu *cpu); /* the status word, wherever it is */
bool x87_pending(struct cpu *cpu);    /* an unmasked exception waits */
void mmx_prepare(struct cpu *cpu);    /* the checks of an MMX instruction: #UD, #NM, #MF */
void mmx_enter(struct cpu *cpu);      /* the change of state that every MMX instruction makes */
/* The guest's MXCSR with the flags raised so far; and a new one (valid bits only). */
uint32_t mxcsr_get(struct cpu *cpu);
void mxcsr_set(struct cpu *cpu, uint32_t value);
G_NORETURN void sse_unavailable(struct cpu *cpu); /* #UD or #NM, whatever the control bits say */

/* The operation of an instruction: changes the 16 (or fewer) bytes at @dst. */
typedef void sse_body(void *dst, const void *src, unsigned imm);
/* Runs @body where the guest has unmasked a SIMD exception: raises #XM, or commits to @dst. */
void sse_checked(struct cpu *cpu, sse_body *body, void *dst, const void *src, unsigned imm);

static inline void sse_check(struct cpu *cpu)
{
	if (G_UNLIKELY((cpu->cr0 & (CR0_EM | CR0_TS)) | (~cpu->cr4 & CR4_OSFXSR)))
		sse_unavailable(cpu);
}
static inline bool sse_all_masked(const struct cpu *cpu)
{
	return (fx_get32(cpu, FX_MXCSR) & MXCSR_MASKS) == MXCSR_MASKS;
}
static inline void mmx_check(struct cpu *cpu)
{
	if (G_UNLIKELY(!cpu->mmx_live || (cpu->cr0 & (CR0_EM | CR0_TS))))
		mmx_prepare(cpu);
}
static inline void mmx_begin(struct cpu *cpu)
{
	if (G_UNLIKELY(!cpu->mmx_live))
		mmx_enter(cpu);
}

/* --- Memory operands --- */

static inline uint64_t fp_linear(const struct cpu *cpu, const struct op *op, uint64_t offset)
{
	bool flat = op->code_size == 8 && op->segment < SEG_FS;
	return flat ? offset : cpu->seg[op->segment].base + offset;
}

/* The host's address of @size bytes at @offset when the TLB has them for this kind of access and
 * the segment needs no check; NULL otherwise. */
static inline uint8_t *fp_hit(const struct cpu *cpu, const struct op *op, uint64_t offset,
			      unsigned size, enum mem_access access)
{
	const struct tlb_entry *entry;
	uint64_t linear = offset;

	if (op->code_size == 8)
		linear += op->segment < SEG_FS ? 0 : cpu->seg[op->segment].base;
	else if (!(cpu->mode & MODE_FLAT) || op->segment >= SEG_FS ||
		 (access == MEM_WRITE && op->segment == SEG_CS) ||
		 offset > UINT64_C(0x100000000) - size)
		return NULL;
	entry = &cpu->tlb->entry[tlb_index(linear)];
	if ((linear ^ (access == MEM_WRITE ? entry->write : entry->read)) > 0x1000 - size)
		return NULL;
	return (uint8_t *)(uintptr_t)(linear + entry->addend);
}

/* #AC for operands that are not one value of 1 to 8 bytes, which mem_read and mem_write check. */
void fp_check_alignment(struct cpu *cpu, const struct op *op, uint64_t offset, unsigned align,
			unsigned size, enum mem_access access);

/* Out of line: the same for every case, through mem_read and mem_write. */
const void *fp_load_slow(struct cpu *cpu, const struct op *op, void *buffer, unsigned size);
void fp_store_slow(struct cpu *cpu, const struct op *op, const void *from, unsigned size);

/* Address of @size bytes of the memory operand's value: the guest's memory itself, or a copy in
 * @buffer (16 bytes). */
static inline const void *fp_load(struct cpu *cpu, const struct op *op, void *buffer, unsigned size)
{
	const void *hit = fp_hit(cpu, op, op_offset(cpu, op), size, MEM_READ);

	return G_LIKELY(hit) ? hit : fp_load_slow(cpu, op, buffer, size);
}
static inline const void *fp_load_aligned(struct cpu *cpu, const struct op *op, void *buffer)
{
	uint64_t offset = op_offset(cpu, op);

	if (G_UNLIKELY(fp_linear(cpu, op, offset) & 15))
		cpu_raise_error(cpu, EXC_GP, 0);
	return fp_load(cpu, op, buffer, 16);
}
static inline void fp_store(struct cpu *cpu, const struct op *op, const void *from, unsigned size)
{
	void *hit = fp_hit(cpu, op, op_offset(cpu, op), size, MEM_WRITE);

	if (G_LIKELY(hit))
		memcpy(hit, from, size);
	else
		fp_store_slow(cpu, op, from, size);
}
static inline void fp_store_aligned(struct cpu *cpu, const struct op *op, const void *from)
{
	uint64_t offset = op_offset(cpu, op);

	if (G_UNLIKELY(fp_linear(cpu, op, offset) & 15))
		cpu_raise_error(cpu, EXC_GP, 0);
	fp_store(cpu, op, from, 16);
}

/* A source of @size bytes in a vector register, zero above. */
static inline __m128i fp_vector(const void *from, unsigned size)
{
	int32_t word;
	switch (size) {
	case 4:
		memcpy(&word, from, 4);
		return _mm_cvtsi32_si128(word);
	case 8:
		return _mm_loadl_epi64(from);
	default:
		return _mm_loadu_si128(from);
	}
}

/* Moves between XMM registers: of all bits, of the low half, of the low 32 bits. */
static inline __m128i fp_move_all(__m128i value, __m128i source)
{
	return source;
}
static inline __m128i fp_move_low(__m128i value, __m128i source)
{
	return _mm_castpd_si128(_mm_move_sd(_mm_castsi128_pd(value), _mm_castsi128_pd(source)));
}
static inline __m128i fp_move_word(__m128i value, __m128i source)
{
	return _mm_castps_si128(_mm_move_ss(_mm_castsi128_ps(value), _mm_castsi128_ps(source)));
}

static inline bool op_is_wide(const struct op *op)
{
	return op->flags & OP_REXW;
}
/* Writes a result to a general register: 32 bits zero-extended, or 64. */
static inline void fp_set_reg(struct cpu *cpu, unsigned reg, uint64_t value)
{
	cpu->regs[reg] = value;
}

/* --- Instructions with an immediate byte ---
 * IMM_TABLE makes 256 routines of eight bytes, one for each immediate: @bytes is the instruction on
 * XMM0 (destination) and XMM1 without its last byte. imm_call puts the operands there. */
#define IMM_TABLE(name, bytes)                                                                     \
	extern const uint8_t name[];                                                               \
	asm(".pushsection .text\n.balign 64\n" #name ":\n.set lodge_imm, 0\n.rept 256\n"           \
	    ".byte " bytes ", lodge_imm\nret\n.balign 8, 0x90\n"                                   \
	    ".set lodge_imm, lodge_imm + 1\n.endr\n.popsection\n")
void lodge_imm_call(void *dst, const void *src, const void *routine);

/* --- Selection (fp-select.c): the key of an instruction is its map, its mandatory prefix and its
 * last opcode byte --- */
enum fp_prefix { PP_NONE, PP_66, PP_F3, PP_F2 };
#define FP_KEY(map, prefix, opcode) ((unsigned)(map) << 10 | (unsigned)(prefix) << 8 | (opcode))

/* Each finds the handler of @key, or answers false. */
bool sse_move_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool sse_arith_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool sse_convert_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool sse_int_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool sse_imm_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool sse_element_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool mmx_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool fpsave_select(unsigned key, const struct insn *insn, struct op_choice *choice);
bool x87_select(const struct insn *insn, struct op_choice *choice);

static inline bool fp_chosen(struct op_choice *choice, op_fn *fn, unsigned size)
{
	choice->fn = fn;
	choice->size = (uint8_t)size;
	choice->end = false;
	return fn != NULL;
}

/* Handlers that more than one file selects. */
op_fn x87_fnstenv, x87_fldenv, x87_fnsave, x87_frstor;

/* For XGETBV with ECX = 1 and the XSAVE family: components not in their initial configuration. */
uint64_t fpu_in_use(struct cpu *cpu);
