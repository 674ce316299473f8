// SPDX-License-Identifier: GPL-2.0-or-later
// Insertion and extraction of single elements of XMM registers (SDM 1 section 12.8.11).
#include "cpu/fp.h"

/* --- Extraction: to a general register (zero-extended), or just the element to memory --- */

static void extract(struct cpu *cpu, const struct op *op, unsigned size, unsigned element)
{
	uint64_t value = 0;

	sse_check(cpu);
	memcpy(&value, xmm(cpu, op->reg) + size * element, size);
	if (op->flags & OP_MEM)
		mem_write(cpu, op->segment, op_offset(cpu, op), value, size);
	else
		fp_set_reg(cpu, op->rm, value);
}

static void pextrb(struct cpu *cpu, const struct op *op)
{
	extract(cpu, op, 1, op->imm & 15);
}

static void pextrw(struct cpu *cpu, const struct op *op)
{
	extract(cpu, op, 2, op->imm & 7);
}

/* PEXTRD, PEXTRQ. */
static void pextrd(struct cpu *cpu, const struct op *op)
{
	if (op_is_wide(op))
		extract(cpu, op, 8, op->imm & 1);
	else
		extract(cpu, op, 4, op->imm & 3);
}

static void extractps(struct cpu *cpu, const struct op *op)
{
	extract(cpu, op, 4, op->imm & 3);
}

/* The SSE2 form, to a register only, has its operands the other way round. */
static void pextrw_register(struct cpu *cpu, const struct op *op)
{
	uint16_t value;

	sse_check(cpu);
	memcpy(&value, xmm(cpu, op->rm) + 2 * (op->imm & 7), 2);
	fp_set_reg(cpu, op->reg, value);
}

/* --- Insertion --- */

static void insert(struct cpu *cpu, const struct op *op, unsigned size, unsigned element)
{
	uint64_t value;

	sse_check(cpu);
	if (op->flags & OP_MEM)
		value = mem_read(cpu, op->segment, op_offset(cpu, op), size);
	else
		value = cpu->regs[op->rm];
	memcpy(xmm(cpu, op->reg) + size * element, &value, size);
}

static void pinsrb(struct cpu *cpu, const struct op *op)
{
	insert(cpu, op, 1, op->imm & 15);
}

static void pinsrw(struct cpu *cpu, const struct op *op)
{
	insert(cpu, op, 2, op->imm & 7);
}

/* PINSRD, PINSRQ. */
static void pinsrd(struct cpu *cpu, const struct op *op)
{
	if (op_is_wide(op))
		insert(cpu, op, 8, op->imm & 1);
	else
		insert(cpu, op, 4, op->imm & 3);
}

/* Immediate: bits 7-6 the source element (register form), 5-4 the destination, 3-0 which become
 * zero. */
static void insertps(struct cpu *cpu, const struct op *op)
{
	uint32_t value;

	sse_check(cpu);
	if (op->flags & OP_MEM)
		value = (uint32_t)mem_read(cpu, op->segment, op_offset(cpu, op), 4);
	else
		memcpy(&value, xmm(cpu, op->rm) + 4 * (op->imm >> 6 & 3), 4);
	memcpy(xmm(cpu, op->reg) + 4 * (op->imm >> 4 & 3), &value, 4);
	for (unsigned i = 0; i < 4; i++)
		if (op->imm >> i & 1)
			memset(xmm(cpu, op->reg) + 4 * i, 0, 4);
}

bool sse_element_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	bool memory = insn->flags & OP_MEM;

	switch (key) {
	case FP_KEY(MAP_0F, PP_66, 0xc4):
		return fp_chosen(choice, pinsrw, 2);
	case FP_KEY(MAP_0F, PP_66, 0xc5):
		return fp_chosen(choice, memory ? NULL : pextrw_register, 2);
	case FP_KEY(MAP_0F3A, PP_66, 0x14):
		return fp_chosen(choice, pextrb, 1);
	case FP_KEY(MAP_0F3A, PP_66, 0x15):
		return fp_chosen(choice, pextrw, 2);
	case FP_KEY(MAP_0F3A, PP_66, 0x16):
		return fp_chosen(choice, pextrd, 4);
	case FP_KEY(MAP_0F3A, PP_66, 0x17):
		return fp_chosen(choice, extractps, 4);
	case FP_KEY(MAP_0F3A, PP_66, 0x20):
		return fp_chosen(choice, pinsrb, 1);
	case FP_KEY(MAP_0F3A, PP_66, 0x21):
		return fp_chosen(choice, insertps, 4);
	case FP_KEY(MAP_0F3A, PP_66, 0x22):
		return fp_chosen(choice, pinsrd, 4);
	default:
		return false;
	}
}
