// SPDX-License-Identifier: GPL-2.0-or-later
/* Slow handlers: moves, conversions, flag instructions, the stack. */
#include "cpu/alu.h"
#include "cpu/flags.h"
#include "cpu/operand.h"

void op_mov_rm_reg(struct cpu *cpu, const struct op *op)
{
	rm_write(cpu, op, modrm_reg(cpu, op));
}

void op_mov_reg_rm(struct cpu *cpu, const struct op *op)
{
	modrm_reg_set(cpu, op, rm_read(cpu, op));
}

void op_mov_rm_imm(struct cpu *cpu, const struct op *op)
{
	rm_write(cpu, op, op->imm);
}

void op_mov_reg_imm(struct cpu *cpu, const struct op *op)
{
	if (op->size == 1)
		reg8_set(cpu, op, op->rm, (uint8_t)op->imm);
	else
		reg_set(cpu, op->rm, op->size, op->imm);
}

void op_mov_acc_offset(struct cpu *cpu, const struct op *op)
{
	acc_set(cpu, op->size, mem_read(cpu, op->segment, op_offset(cpu, op), op->size));
}

void op_mov_offset_acc(struct cpu *cpu, const struct op *op)
{
	mem_write(cpu, op->segment, op_offset(cpu, op), acc_get(cpu, op->size), op->size);
}

/* The source of MOVZX and MOVSX is a byte or a word by the opcode (MOVSXD: a dword). */
static uint64_t narrow_source(struct cpu *cpu, const struct op *op)
{
	struct op source = *op;

	source.size = op->map == MAP_1BYTE ? MIN(op->size, 4) : op->opcode & 1 ? 2 : 1;
	return rm_read(cpu, &source);
}

void op_movzx(struct cpu *cpu, const struct op *op)
{
	modrm_reg_set(cpu, op, narrow_source(cpu, op));
}

void op_movsx(struct cpu *cpu, const struct op *op)
{
	uint64_t value = narrow_source(cpu, op);

	modrm_reg_set(cpu, op,
		      op->map == MAP_1BYTE ? (uint64_t)(int32_t)value
		      : op->opcode & 1     ? (uint64_t)(int16_t)value
					   : (uint64_t)(int8_t)value);
}

void op_lea(struct cpu *cpu, const struct op *op)
{
	modrm_reg_set(cpu, op, op_offset(cpu, op));
}

/* The source is read, and a 32-bit destination zero-extended, whatever the condition says. */
void op_cmov(struct cpu *cpu, const struct op *op)
{
	uint64_t value = rm_read(cpu, op);

	if (!flags_condition(cpu->arith, op->opcode & 15))
		value = modrm_reg(cpu, op);
	modrm_reg_set(cpu, op, value);
}

void op_setcc(struct cpu *cpu, const struct op *op)
{
	rm_write(cpu, op, flags_condition(cpu->arith, op->opcode & 15));
}

void op_xlat(struct cpu *cpu, const struct op *op)
{
	uint64_t offset =
		(cpu->regs[CPU_RBX] + (uint8_t)cpu->regs[CPU_RAX]) & size_mask(op->address_size);

	acc_set(cpu, 1, mem_read(cpu, op->segment, offset, 1));
}

/* CBW, CWDE, CDQE */
void op_extend_acc(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->regs[CPU_RAX];

	reg_set(cpu, CPU_RAX, op->size,
		op->size == 2   ? (uint64_t)(int8_t)value
		: op->size == 4 ? (uint64_t)(int16_t)value
				: (uint64_t)(int32_t)value);
}

/* CWD, CDQ, CQO */
void op_extend_sign(struct cpu *cpu, const struct op *op)
{
	bool negative = reg_get(cpu, CPU_RAX, op->size) >> (8 * op->size - 1);

	reg_set(cpu, CPU_RDX, op->size, negative ? UINT64_MAX : 0);
}

void op_lahf(struct cpu *cpu, const struct op *op)
{
	uint64_t ah = ((cpu->arith >> 8) & 0xd5) | 2;

	cpu->regs[CPU_RAX] = (cpu->regs[CPU_RAX] & ~UINT64_C(0xff00)) | ah << 8;
}

void op_sahf(struct cpu *cpu, const struct op *op)
{
	cpu->arith = (cpu->arith & ARITH_OF) | (cpu->regs[CPU_RAX] & 0xd500);
}

void op_clc(struct cpu *cpu, const struct op *op)
{
	cpu->arith &= ~(uint32_t)ARITH_CF;
}

void op_stc(struct cpu *cpu, const struct op *op)
{
	cpu->arith |= ARITH_CF;
}

void op_cmc(struct cpu *cpu, const struct op *op)
{
	cpu->arith ^= ARITH_CF;
}

void op_cld(struct cpu *cpu, const struct op *op)
{
	cpu->rflags &= ~(uint64_t)FL_DF;
}

void op_std(struct cpu *cpu, const struct op *op)
{
	cpu->rflags |= FL_DF;
}

void op_nop(struct cpu *cpu, const struct op *op)
{
}

void op_undefined(struct cpu *cpu, const struct op *op)
{
	cpu_raise(cpu, EXC_UD);
}

/* What decoding already knew: imm is the vector; #GP has error code 0. */
void op_raise(struct cpu *cpu, const struct op *op)
{
	if (op->imm == EXC_GP)
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu_raise(cpu, (uint8_t)op->imm);
}

/* --- Stack --- */

void op_push_reg(struct cpu *cpu, const struct op *op)
{
	stack_push(cpu, reg_get(cpu, op->rm, op->size), op->size);
}

void op_push_rm(struct cpu *cpu, const struct op *op)
{
	stack_push(cpu, rm_read(cpu, op), op->size);
}

void op_push_imm(struct cpu *cpu, const struct op *op)
{
	stack_push(cpu, op->imm & size_mask(op->size), op->size);
}

/* POP SP leaves what was popped. */
void op_pop_reg(struct cpu *cpu, const struct op *op)
{
	uint64_t value = stack_peek(cpu, op->size);

	stack_set(cpu, stack_offset(cpu, op->size));
	reg_set(cpu, op->rm, op->size, value);
}

/* The address of a memory destination is computed with the stack pointer already moved. */
void op_pop_rm(struct cpu *cpu, const struct op *op)
{
	uint64_t value = stack_peek(cpu, op->size), old = cpu->regs[CPU_RSP], offset;
	uint64_t moved = stack_offset(cpu, op->size);

	if (!(op->flags & OP_MEM)) {
		stack_set(cpu, moved);
		rm_write(cpu, op, value);
		return;
	}
	stack_set(cpu, moved);
	offset = op_offset(cpu, op);
	cpu->regs[CPU_RSP] = old;
	mem_write(cpu, op->segment, offset, value, op->size);
	stack_set(cpu, moved);
}

void op_pusha(struct cpu *cpu, const struct op *op)
{
	uint64_t values[8];

	for (unsigned i = 0; i < 8; i++) {
		values[i] = reg_get(cpu, i, op->size);
		mem_probe_write(cpu, SEG_SS, stack_offset(cpu, -(int64_t)(i + 1) * op->size),
				op->size);
	}
	for (unsigned i = 0; i < 8; i++)
		mem_write(cpu, SEG_SS, stack_offset(cpu, -(int64_t)(i + 1) * op->size), values[i],
			  op->size);
	stack_set(cpu, stack_offset(cpu, -8 * (int64_t)op->size));
}

void op_popa(struct cpu *cpu, const struct op *op)
{
	uint64_t values[8], moved = stack_offset(cpu, 8 * (int64_t)op->size);

	for (unsigned i = 0; i < 8; i++)
		values[7 - i] =
			mem_read(cpu, SEG_SS, stack_offset(cpu, (int64_t)i * op->size), op->size);
	for (unsigned i = 0; i < 8; i++) {
		if (i != CPU_RSP)
			reg_set(cpu, i, op->size, values[i]);
	}
	stack_set(cpu, moved);
}

/* Copies the enclosing frames' pointers; RBP and RSP change when nothing can fault any more. */
void op_enter(struct cpu *cpu, const struct op *op)
{
	unsigned level = (op->imm >> 16) & 31, size = op->size;
	uint64_t frame = stack_offset(cpu, -(int64_t)size), bp = cpu->regs[CPU_RBP], last;
	uint64_t mask = size_mask(stack_size(cpu));

	mem_write(cpu, SEG_SS, frame, reg_get(cpu, CPU_RBP, size), size);
	for (unsigned i = 1; i < level; i++) {
		uint64_t pointer = mem_read(cpu, SEG_SS, (bp - i * size) & mask, size);

		mem_write(cpu, SEG_SS, stack_offset(cpu, -(int64_t)(size * (i + 1))), pointer,
			  size);
	}
	if (level)
		mem_write(cpu, SEG_SS, stack_offset(cpu, -(int64_t)(size * (level + 1))), frame,
			  size);
	last = stack_offset(cpu, -(int64_t)(size * (level + 1) + (op->imm & 0xffff)));
	/* The new top must be writable, or the instruction faults. */
	mem_probe_write(cpu, SEG_SS, last, size);
	reg_set(cpu, CPU_RBP, stack_size(cpu) == 2 ? 2 : size, frame);
	stack_set(cpu, last);
}

void op_leave(struct cpu *cpu, const struct op *op)
{
	uint64_t frame = cpu->regs[CPU_RBP] & size_mask(stack_size(cpu));
	uint64_t value = mem_read(cpu, SEG_SS, frame, op->size);

	stack_set(cpu, (frame + op->size) & size_mask(stack_size(cpu)));
	reg_set(cpu, CPU_RBP, op->size, value);
}
