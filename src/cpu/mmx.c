// SPDX-License-Identifier: GPL-2.0-or-later
// MMX instructions and their SSE, SSE2 and SSSE3 extensions on MMX registers (SDM 1 chapter 9).
// While mmx_live is set the host's MM0 and MM1 are free for use; the guest's are in the image.
// Everything that can fault comes before mmx_begin, which changes tags and TOP.
#include "cpu/fp.h"
#include "cpu/packed.h"

#define SHIFTS(X)                                                                                  \
	X(psrlw, 0x71, 2)                                                                          \
	X(psraw, 0x71, 4)                                                                          \
	X(psllw, 0x71, 6)                                                                          \
	X(psrld, 0x72, 2)                                                                          \
	X(psrad, 0x72, 4)                                                                          \
	X(pslld, 0x72, 6)                                                                          \
	X(psrlq, 0x73, 2)                                                                          \
	X(psllq, 0x73, 6)

/* The second halves of two operands of which memory forms read only 32 bits. */
static inline unsigned source_size(unsigned map, unsigned opcode)
{
	return map == MAP_0F && opcode <= 0x62 ? 4 : 8;
}

#define DEFINE(name, map, opcode)                                                                  \
	static inline void name##_body(void *dst, const void *src)                                 \
	{                                                                                          \
		asm("movq %0, %%mm0\n\tmovq %1, %%mm1\n\t" #name " %%mm1, %%mm0\n\tmovq %%mm0, %0" \
		    : "+m"(*(uint64_t *)dst)                                                       \
		    : "m"(*(const uint64_t *)src)                                                  \
		    : "mm0", "mm1");                                                               \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		mmx_check(cpu);                                                                    \
		mmx_begin(cpu);                                                                    \
		name##_body(mm(cpu, op->reg), mm(cpu, op->rm));                                    \
		mm_written(cpu, op->reg);                                                          \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint64_t source;                                                                   \
		mmx_check(cpu);                                                                    \
		source = mem_read(cpu, op->segment, op_offset(cpu, op), source_size(map, opcode)); \
		mmx_begin(cpu);                                                                    \
		name##_body(mm(cpu, op->reg), &source);                                            \
		mm_written(cpu, op->reg);                                                          \
	}
PACKED(DEFINE)
#undef DEFINE

#define DEFINE(name, opcode, field)                                                                \
	static void name##_immediate(struct cpu *cpu, const struct op *op)                         \
	{                                                                                          \
		uint64_t count = op->imm & 0xff;                                                   \
		mmx_check(cpu);                                                                    \
		mmx_begin(cpu);                                                                    \
		name##_body(mm(cpu, op->rm), &count);                                              \
		mm_written(cpu, op->rm);                                                           \
	}
SHIFTS(DEFINE)
#undef DEFINE

/* --- Moves --- */

static void set_mm(struct cpu *cpu, unsigned reg, uint64_t value)
{
	mmx_begin(cpu);
	memcpy(mm(cpu, reg), &value, 8);
	mm_written(cpu, reg);
}

static uint64_t get_mm(struct cpu *cpu, unsigned reg)
{
	uint64_t value;

	mmx_begin(cpu);
	memcpy(&value, mm(cpu, reg), 8);
	return value;
}

static void movq_load_register(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	set_mm(cpu, op->reg, get_mm(cpu, op->rm));
}

static void movq_load_memory(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	set_mm(cpu, op->reg, mem_read(cpu, op->segment, op_offset(cpu, op), 8));
}

static void movq_store_register(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	set_mm(cpu, op->rm, get_mm(cpu, op->reg));
}

/* MOVQ and MOVNTQ to memory. */
static void movq_store_memory(struct cpu *cpu, const struct op *op)
{
	uint64_t offset = op_offset(cpu, op);

	mmx_check(cpu);
	mem_probe_write(cpu, op->segment, offset, 8);
	mem_write(cpu, op->segment, offset, get_mm(cpu, op->reg), 8);
}

/* MOVD and MOVQ (REX.W) between MMX and general registers or memory. */
static void movd_load_register(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->regs[op->rm];

	mmx_check(cpu);
	set_mm(cpu, op->reg, op_is_wide(op) ? value : (uint32_t)value);
}

static void movd_load_memory(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	set_mm(cpu, op->reg,
	       mem_read(cpu, op->segment, op_offset(cpu, op), op_is_wide(op) ? 8 : 4));
}

static void movd_store_register(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	mmx_check(cpu);
	value = get_mm(cpu, op->reg);
	fp_set_reg(cpu, op->rm, op_is_wide(op) ? value : (uint32_t)value);
}

static void movd_store_memory(struct cpu *cpu, const struct op *op)
{
	uint64_t offset = op_offset(cpu, op);
	unsigned size = op_is_wide(op) ? 8 : 4;

	mmx_check(cpu);
	mem_probe_write(cpu, op->segment, offset, size);
	mem_write(cpu, op->segment, offset, get_mm(cpu, op->reg), size);
}

static void movq2dq(struct cpu *cpu, const struct op *op)
{
	uint64_t value[2] = {0, 0};

	sse_check(cpu);
	mmx_check(cpu);
	value[0] = get_mm(cpu, op->rm);
	memcpy(xmm(cpu, op->reg), value, 16);
}

static void movdq2q(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	sse_check(cpu);
	mmx_check(cpu);
	memcpy(&value, xmm(cpu, op->rm), 8);
	set_mm(cpu, op->reg, value);
}

static void pmovmskb_mmx(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	fp_set_reg(cpu, op->reg,
		   (unsigned)_mm_movemask_epi8(_mm_cvtsi64_si128((int64_t)get_mm(cpu, op->rm))));
}

/* Writes the bytes whose mask bytes have their top bit set, after probing them all. */
static void maskmovq(struct cpu *cpu, const struct op *op)
{
	uint64_t offset = cpu->regs[CPU_RDI], mask = 0, value;

	mmx_check(cpu);
	if (op->address_size < 8)
		offset = op->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
	mem_probe_write(cpu, op->segment, offset, 8);
	mask = get_mm(cpu, op->rm);
	value = get_mm(cpu, op->reg);
	for (unsigned i = 0; i < 8; i++)
		if (mask >> (8 * i + 7) & 1)
			mem_write(cpu, op->segment, offset + i, value >> (8 * i) & 0xff, 1);
}

static void emms(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	mmx_begin(cpu);
	x87_park(cpu);
	fx_set16(cpu, FX_FTW, 0);
}

/* --- With an immediate --- */

static uint64_t shuffle_words(uint64_t value, unsigned order)
{
	uint64_t result = 0;

	for (unsigned i = 0; i < 4; i++)
		result |= (value >> (16 * (order >> (2 * i) & 3)) & 0xffff) << (16 * i);
	return result;
}

static void pshufw_register(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	set_mm(cpu, op->reg, shuffle_words(get_mm(cpu, op->rm), op->imm & 0xff));
}

static void pshufw_memory(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	mmx_check(cpu);
	value = mem_read(cpu, op->segment, op_offset(cpu, op), 8);
	set_mm(cpu, op->reg, shuffle_words(value, op->imm & 0xff));
}

static void insert_word(struct cpu *cpu, const struct op *op, uint64_t word)
{
	unsigned shift = 16 * (op->imm & 3);
	uint64_t old = get_mm(cpu, op->reg);

	set_mm(cpu, op->reg, (old & ~(UINT64_C(0xffff) << shift)) | (word & 0xffff) << shift);
}

static void pinsrw_register(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	insert_word(cpu, op, cpu->regs[op->rm]);
}

static void pinsrw_memory(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	insert_word(cpu, op, mem_read(cpu, op->segment, op_offset(cpu, op), 2));
}

static void pextrw_mmx(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	fp_set_reg(cpu, op->reg, get_mm(cpu, op->rm) >> (16 * (op->imm & 3)) & 0xffff);
}

static void align_bytes(struct cpu *cpu, const struct op *op, uint64_t source)
{
	uint8_t wide[24] = {0};
	uint64_t high = get_mm(cpu, op->reg), result;

	memcpy(wide, &source, 8);
	memcpy(wide + 8, &high, 8);
	memcpy(&result, wide + MIN(op->imm & 0xff, 16), 8);
	set_mm(cpu, op->reg, result);
}

static void palignr_register(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	align_bytes(cpu, op, get_mm(cpu, op->rm));
}

static void palignr_memory(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	align_bytes(cpu, op, mem_read(cpu, op->segment, op_offset(cpu, op), 8));
}

/* --- Selection --- */

static bool select_shift(const struct insn *insn, struct op_choice *choice)
{
	if (insn->flags & OP_MEM)
		return false;
	switch (insn->opcode << 3 | (insn->modrm >> 3 & 7)) {
#define CASE(name, opcode, field)                                                                  \
	case opcode << 3 | field:                                                                  \
		return fp_chosen(choice, name##_immediate, 8);
		SHIFTS(CASE)
#undef CASE
	default:
		return false;
	}
}

static bool either(const struct insn *insn, struct op_choice *choice, op_fn *reg, op_fn *memory)
{
	return fp_chosen(choice, insn->flags & OP_MEM ? memory : reg, 8);
}

bool mmx_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	switch (key) {
#define CASE(name, map, opcode)                                                                    \
	case FP_KEY(map, PP_NONE, opcode):                                                         \
		return either(insn, choice, name##_register, name##_memory);
		PACKED(CASE)
#undef CASE
	case FP_KEY(MAP_0F, PP_NONE, 0x6e):
		return either(insn, choice, movd_load_register, movd_load_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0x6f):
		return either(insn, choice, movq_load_register, movq_load_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0x70):
		return either(insn, choice, pshufw_register, pshufw_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0x71):
	case FP_KEY(MAP_0F, PP_NONE, 0x72):
	case FP_KEY(MAP_0F, PP_NONE, 0x73):
		return select_shift(insn, choice);
	case FP_KEY(MAP_0F, PP_NONE, 0x77):
		return fp_chosen(choice, emms, 8);
	case FP_KEY(MAP_0F, PP_NONE, 0x7e):
		return either(insn, choice, movd_store_register, movd_store_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0x7f):
		return either(insn, choice, movq_store_register, movq_store_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0xc4):
		return either(insn, choice, pinsrw_register, pinsrw_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0xc5):
		return either(insn, choice, pextrw_mmx, NULL);
	case FP_KEY(MAP_0F, PP_F3, 0xd6):
		return either(insn, choice, movq2dq, NULL);
	case FP_KEY(MAP_0F, PP_F2, 0xd6):
		return either(insn, choice, movdq2q, NULL);
	case FP_KEY(MAP_0F, PP_NONE, 0xd7):
		return either(insn, choice, pmovmskb_mmx, NULL);
	case FP_KEY(MAP_0F, PP_NONE, 0xe7):
		return either(insn, choice, NULL, movq_store_memory);
	case FP_KEY(MAP_0F, PP_NONE, 0xf7):
		return either(insn, choice, maskmovq, NULL);
	case FP_KEY(MAP_0F3A, PP_NONE, 0x0f):
		return either(insn, choice, palignr_register, palignr_memory);
	default:
		return false;
	}
}
