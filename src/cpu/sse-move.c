// SPDX-License-Identifier: GPL-2.0-or-later
// Moves of XMM registers: whole, halves, scalars; to memory and to general registers.
#include "cpu/fp.h"

static inline void copy16(void *to, const void *from)
{
	_mm_storeu_si128(to, _mm_loadu_si128(from));
}

/* --- 16 bytes --- */

static void move_load_register(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	copy16(xmm(cpu, op->reg), xmm(cpu, op->rm));
}

static void move_store_register(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	copy16(xmm(cpu, op->rm), xmm(cpu, op->reg));
}

static void move_load_aligned(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];

	sse_check(cpu);
	copy16(xmm(cpu, op->reg), fp_load_aligned(cpu, op, buffer));
}

static void move_store_aligned(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	fp_store_aligned(cpu, op, xmm(cpu, op->reg));
}

static void move_load_unaligned(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];

	sse_check(cpu);
	copy16(xmm(cpu, op->reg), fp_load(cpu, op, buffer, 16));
}

static void move_store_unaligned(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	fp_store(cpu, op, xmm(cpu, op->reg), 16);
}

/* Results are stored with all 16 bytes: a narrower store would delay the load that follows. */
static inline __m128i get(struct cpu *cpu, unsigned reg)
{
	return _mm_loadu_si128((const void *)xmm(cpu, reg));
}
static inline void set(struct cpu *cpu, unsigned reg, __m128i value)
{
	_mm_storeu_si128((void *)xmm(cpu, reg), value);
}
/* --- Scalars: memory loads clear the rest, register moves keep it --- */

#define SCALAR(X) X(movss, 4, fp_move_word) X(movsd, 8, fp_move_low)

#define DEFINE(name, bytes, merge)                                                                 \
	static void name##_load_register(struct cpu *cpu, const struct op *op)                     \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		set(cpu, op->reg, merge(get(cpu, op->reg), get(cpu, op->rm)));                     \
	}                                                                                          \
	static void name##_store_register(struct cpu *cpu, const struct op *op)                    \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		set(cpu, op->rm, merge(get(cpu, op->rm), get(cpu, op->reg)));                      \
	}                                                                                          \
	static void name##_load_memory(struct cpu *cpu, const struct op *op)                       \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		set(cpu, op->reg, fp_vector(fp_load(cpu, op, buffer, bytes), bytes));              \
	}                                                                                          \
	static void name##_store_memory(struct cpu *cpu, const struct op *op)                      \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		fp_store(cpu, op, xmm(cpu, op->reg), bytes);                                       \
	}
SCALAR(DEFINE)
#undef DEFINE

/* MOVQ between XMM registers clears the upper half. */
static void movq_load_register(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	_mm_storeu_si128((void *)xmm(cpu, op->reg), fp_vector(xmm(cpu, op->rm), 8));
}

static void movq_store_register(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	_mm_storeu_si128((void *)xmm(cpu, op->rm), fp_vector(xmm(cpu, op->reg), 8));
}

/* MOVD, and MOVQ with REX.W, from and to general registers and memory. */
static void movd_load_register(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->regs[op->rm];

	sse_check(cpu);
	set(cpu, op->reg, _mm_cvtsi64_si128((int64_t)(op_is_wide(op) ? value : (uint32_t)value)));
}

static void movd_store_register(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	sse_check(cpu);
	memcpy(&value, xmm(cpu, op->reg), 8);
	fp_set_reg(cpu, op->rm, op_is_wide(op) ? value : (uint32_t)value);
}

/* --- Halves --- */

static void low_load_memory(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];
	__m128i source;

	sse_check(cpu);
	source = fp_vector(fp_load(cpu, op, buffer, 8), 8);
	set(cpu, op->reg, fp_move_low(get(cpu, op->reg), source));
}

static void high_load_memory(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];
	__m128i source;

	sse_check(cpu);
	source = fp_vector(fp_load(cpu, op, buffer, 8), 8);
	set(cpu, op->reg, _mm_unpacklo_epi64(get(cpu, op->reg), source));
}

static void high_store_memory(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	fp_store(cpu, op, xmm(cpu, op->reg) + 8, 8);
}

static void movhlps(struct cpu *cpu, const struct op *op)
{
	__m128i source = get(cpu, op->rm);

	sse_check(cpu);
	set(cpu, op->reg, fp_move_low(get(cpu, op->reg), _mm_unpackhi_epi64(source, source)));
}

static void movlhps(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	set(cpu, op->reg, _mm_unpacklo_epi64(get(cpu, op->reg), get(cpu, op->rm)));
}

/* --- Duplicating moves --- */

static void duplicate(struct cpu *cpu, const struct op *op, const void *from)
{
	uint32_t in[4], out[4];
	bool odd = op->opcode == 0x16;

	memcpy(in, from, 16);
	out[0] = out[1] = in[odd];
	out[2] = out[3] = in[2 + odd];
	memcpy(xmm(cpu, op->reg), out, 16);
}

/* MOVSLDUP and MOVSHDUP. */
static void movsdup_register(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	duplicate(cpu, op, xmm(cpu, op->rm));
}

static void movsdup_memory(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];

	sse_check(cpu);
	duplicate(cpu, op, fp_load_aligned(cpu, op, buffer));
}

static void movddup_register(struct cpu *cpu, const struct op *op)
{
	__m128i source = get(cpu, op->rm);

	sse_check(cpu);
	set(cpu, op->reg, _mm_unpacklo_epi64(source, source));
}

static void movddup_memory(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];
	__m128i source;

	sse_check(cpu);
	source = fp_vector(fp_load(cpu, op, buffer, 8), 8);
	set(cpu, op->reg, _mm_unpacklo_epi64(source, source));
}

/* --- Masks, non-temporal stores --- */

static void movmskps(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	fp_set_reg(cpu, op->reg, (unsigned)_mm_movemask_ps(_mm_loadu_ps((void *)xmm(cpu, op->rm))));
}

static void movmskpd(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	fp_set_reg(cpu, op->reg, (unsigned)_mm_movemask_pd(_mm_loadu_pd((void *)xmm(cpu, op->rm))));
}

static void pmovmskb(struct cpu *cpu, const struct op *op)
{
	__m128i value = _mm_loadu_si128((void *)xmm(cpu, op->rm));

	sse_check(cpu);
	fp_set_reg(cpu, op->reg, (unsigned)_mm_movemask_epi8(value));
}

/* MOVNTI needs no enabled SSE state: it moves a general register. */
static void movnti(struct cpu *cpu, const struct op *op)
{
	mem_write(cpu, op->segment, op_offset(cpu, op), cpu->regs[op->reg], op_is_wide(op) ? 8 : 4);
}

/* Writes the bytes whose mask bytes have their top bit set, after probing them all. */
static void maskmovdqu(struct cpu *cpu, const struct op *op)
{
	uint64_t offset = cpu->regs[CPU_RDI];
	const uint8_t *value = xmm(cpu, op->reg), *mask = xmm(cpu, op->rm);

	sse_check(cpu);
	if (op->address_size < 8)
		offset = op->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
	fp_check_alignment(cpu, op, offset, 16, 16, MEM_WRITE);
	mem_probe_write(cpu, op->segment, offset, 16);
	for (unsigned i = 0; i < 16; i++)
		if (mask[i] & 0x80)
			mem_write(cpu, op->segment, offset + i, value[i], 1);
}

/* --- Selection --- */

/* name: register form or NULL, memory form or NULL; then the prefix and the opcode in map 0F. */
#define MOVES(X)                                                                                   \
	X(PP_NONE, 0x10, move_load_register, move_load_unaligned)                                  \
	X(PP_66, 0x10, move_load_register, move_load_unaligned)                                    \
	X(PP_F3, 0x10, movss_load_register, movss_load_memory)                                     \
	X(PP_F2, 0x10, movsd_load_register, movsd_load_memory)                                     \
	X(PP_NONE, 0x11, move_store_register, move_store_unaligned)                                \
	X(PP_66, 0x11, move_store_register, move_store_unaligned)                                  \
	X(PP_F3, 0x11, movss_store_register, movss_store_memory)                                   \
	X(PP_F2, 0x11, movsd_store_register, movsd_store_memory)                                   \
	X(PP_NONE, 0x12, movhlps, low_load_memory)                                                 \
	X(PP_66, 0x12, NULL, low_load_memory)                                                      \
	X(PP_F3, 0x12, movsdup_register, movsdup_memory)                                           \
	X(PP_F2, 0x12, movddup_register, movddup_memory)                                           \
	X(PP_NONE, 0x13, NULL, movsd_store_memory)                                                 \
	X(PP_66, 0x13, NULL, movsd_store_memory)                                                   \
	X(PP_NONE, 0x16, movlhps, high_load_memory)                                                \
	X(PP_66, 0x16, NULL, high_load_memory)                                                     \
	X(PP_F3, 0x16, movsdup_register, movsdup_memory)                                           \
	X(PP_NONE, 0x17, NULL, high_store_memory)                                                  \
	X(PP_66, 0x17, NULL, high_store_memory)                                                    \
	X(PP_NONE, 0x28, move_load_register, move_load_aligned)                                    \
	X(PP_66, 0x28, move_load_register, move_load_aligned)                                      \
	X(PP_NONE, 0x29, move_store_register, move_store_aligned)                                  \
	X(PP_66, 0x29, move_store_register, move_store_aligned)                                    \
	X(PP_NONE, 0x2b, NULL, move_store_aligned)                                                 \
	X(PP_66, 0x2b, NULL, move_store_aligned)                                                   \
	X(PP_NONE, 0x50, movmskps, NULL)                                                           \
	X(PP_66, 0x50, movmskpd, NULL)                                                             \
	X(PP_66, 0x6f, move_load_register, move_load_aligned)                                      \
	X(PP_F3, 0x6f, move_load_register, move_load_unaligned)                                    \
	X(PP_F3, 0x7e, movq_load_register, movsd_load_memory)                                      \
	X(PP_66, 0x7f, move_store_register, move_store_aligned)                                    \
	X(PP_F3, 0x7f, move_store_register, move_store_unaligned)                                  \
	X(PP_NONE, 0xc3, NULL, movnti)                                                             \
	X(PP_66, 0xd6, movq_store_register, movsd_store_memory)                                    \
	X(PP_66, 0xd7, pmovmskb, NULL)                                                             \
	X(PP_66, 0xe7, NULL, move_store_aligned)                                                   \
	X(PP_F2, 0xf0, NULL, move_load_unaligned)                                                  \
	X(PP_66, 0xf7, maskmovdqu, NULL)

bool sse_move_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	bool memory = insn->flags & OP_MEM, wide = insn->flags & OP_REXW;

	switch (key) {
#define CASE(prefix, opcode, reg_form, memory_form)                                                \
	case FP_KEY(MAP_0F, prefix, opcode):                                                       \
		return fp_chosen(choice, memory ? memory_form : reg_form, 16);
		MOVES(CASE)
#undef CASE
	case FP_KEY(MAP_0F, PP_66, 0x6e):
		return fp_chosen(choice,
				 !memory ? movd_load_register
				 : wide  ? movsd_load_memory
					 : movss_load_memory,
				 wide ? 8 : 4);
	case FP_KEY(MAP_0F, PP_66, 0x7e):
		return fp_chosen(choice,
				 !memory ? movd_store_register
				 : wide  ? movsd_store_memory
					 : movss_store_memory,
				 wide ? 8 : 4);
	case FP_KEY(MAP_0F38, PP_66, 0x2a):
		return fp_chosen(choice, memory ? move_load_aligned : NULL, 16);
	default:
		return false;
	}
}
