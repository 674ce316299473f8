// SPDX-License-Identifier: GPL-2.0-or-later
/* Slow handlers: the eight arithmetic operations, TEST, INC, DEC, NOT, NEG, and the exchanging ones
 * (XCHG, XADD, CMPXCHG), with LOCK as a compare-and-exchange loop on the host memory itself. */
#include "cpu/alu.h"

#include "cpu/flags.h"
#include "cpu/operand.h"

/* A computation on a read-modify-write operand: the new value, and the flags. */
typedef uint64_t modify_fn(unsigned kind, unsigned size, uint64_t old, uint64_t operand,
			   uint32_t *arith);

#define BINARY(n, name)                                                                            \
	case (n)*4:                                                                                \
		return name##8((uint8_t)a, (uint8_t)b, arith);                                     \
	case (n)*4 + 1:                                                                            \
		return name##16((uint16_t)a, (uint16_t)b, arith);                                  \
	case (n)*4 + 2:                                                                            \
		return name##32((uint32_t)a, (uint32_t)b, arith);                                  \
	case (n)*4 + 3:                                                                            \
		return name##64(a, b, arith);

static unsigned size_log(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

static uint64_t alu(unsigned kind, unsigned size, uint64_t a, uint64_t b, uint32_t *arith)
{
	switch (kind * 4 + size_log(size)) {
		BINARY(ALU_ADD, flags_add)
		BINARY(ALU_OR, flags_or)
		BINARY(ALU_ADC, flags_adc)
		BINARY(ALU_SBB, flags_sbb)
		BINARY(ALU_AND, flags_and)
		BINARY(ALU_SUB, flags_sub)
		BINARY(ALU_XOR, flags_xor)
		BINARY(ALU_CMP, flags_sub)
	}
	g_assert_not_reached();
}

#define UNARY(n, name)                                                                             \
	case (n)*4:                                                                                \
		return name##8((uint8_t)a, arith);                                                 \
	case (n)*4 + 1:                                                                            \
		return name##16((uint16_t)a, arith);                                               \
	case (n)*4 + 2:                                                                            \
		return name##32((uint32_t)a, arith);                                               \
	case (n)*4 + 3:                                                                            \
		return name##64(a, arith);

enum { UNARY_INC, UNARY_DEC, UNARY_NEG, UNARY_NOT };

static uint64_t unary(unsigned kind, unsigned size, uint64_t a, uint64_t unused, uint32_t *arith)
{
	if (kind == UNARY_NOT)
		return ~a;
	switch (kind * 4 + size_log(size)) {
		UNARY(UNARY_INC, flags_inc)
		UNARY(UNARY_DEC, flags_dec)
		UNARY(UNARY_NEG, flags_neg)
	}
	g_assert_not_reached();
}

static uint64_t exchange(unsigned kind, unsigned size, uint64_t a, uint64_t b, uint32_t *arith)
{
	return b;
}

/* Replaces the ModRM operand by what @fn makes of it, atomically if @locked; returns the old value.
 * Nothing has changed, flags included, where the operand faults. */
static uint64_t modify(struct cpu *cpu, const struct op *op, modify_fn *fn, unsigned kind,
		       uint64_t operand, bool locked)
{
	struct mem_target target;
	uint32_t arith = cpu->arith;
	uint64_t old;

	if (!(op->flags & OP_MEM)) {
		old = rm_read(cpu, op);
		rm_write(cpu, op, fn(kind, op->size, old, operand, &cpu->arith));
		return old;
	}
	mem_target_begin(cpu, &target, op->segment, op_offset(cpu, op), op->size, locked);
	if (target.host && locked) {
		uint64_t desired;

		do {
			arith = cpu->arith;
			old = host_load(target.host, op->size);
			desired = fn(kind, op->size, old, operand, &arith);
		} while (!host_cmpxchg(target.host, op->size, old, desired));
	} else {
		old = mem_read_linear(cpu, target.segment, target.linear, op->size);
		mem_write_linear(cpu, target.segment, target.linear,
				 fn(kind, op->size, old, operand, &arith), op->size);
	}
	cpu->arith = arith;
	mem_target_end(cpu, &target);
	return old;
}

static unsigned opcode_kind(const struct op *op)
{
	return (op->opcode >> 3) & 7;
}

static unsigned group_kind(const struct op *op)
{
	return (op->modrm >> 3) & 7;
}

static void alu_rm(struct cpu *cpu, const struct op *op, unsigned kind, uint64_t operand)
{
	if (kind == ALU_CMP)
		alu(kind, op->size, rm_read(cpu, op), operand, &cpu->arith);
	else
		modify(cpu, op, alu, kind, operand, op->flags & OP_LOCK);
}

void op_alu_rm_reg(struct cpu *cpu, const struct op *op)
{
	alu_rm(cpu, op, opcode_kind(op), modrm_reg(cpu, op));
}

void op_alu_rm_imm(struct cpu *cpu, const struct op *op)
{
	alu_rm(cpu, op, group_kind(op), op->imm);
}

void op_alu_reg_rm(struct cpu *cpu, const struct op *op)
{
	uint64_t operand = rm_read(cpu, op);
	uint64_t value = alu(opcode_kind(op), op->size, modrm_reg(cpu, op), operand, &cpu->arith);

	if (opcode_kind(op) != ALU_CMP)
		modrm_reg_set(cpu, op, value);
}

void op_alu_acc_imm(struct cpu *cpu, const struct op *op)
{
	uint64_t value =
		alu(opcode_kind(op), op->size, acc_get(cpu, op->size), op->imm, &cpu->arith);

	if (opcode_kind(op) != ALU_CMP)
		acc_set(cpu, op->size, value);
}

void op_test_rm_reg(struct cpu *cpu, const struct op *op)
{
	alu(ALU_AND, op->size, rm_read(cpu, op), modrm_reg(cpu, op), &cpu->arith);
}

void op_test_rm_imm(struct cpu *cpu, const struct op *op)
{
	alu(ALU_AND, op->size, rm_read(cpu, op), op->imm, &cpu->arith);
}

void op_test_acc_imm(struct cpu *cpu, const struct op *op)
{
	alu(ALU_AND, op->size, acc_get(cpu, op->size), op->imm, &cpu->arith);
}

void op_inc(struct cpu *cpu, const struct op *op)
{
	modify(cpu, op, unary, UNARY_INC, 0, op->flags & OP_LOCK);
}

void op_dec(struct cpu *cpu, const struct op *op)
{
	modify(cpu, op, unary, UNARY_DEC, 0, op->flags & OP_LOCK);
}

void op_neg(struct cpu *cpu, const struct op *op)
{
	modify(cpu, op, unary, UNARY_NEG, 0, op->flags & OP_LOCK);
}

void op_not(struct cpu *cpu, const struct op *op)
{
	modify(cpu, op, unary, UNARY_NOT, 0, op->flags & OP_LOCK);
}

/* --- Exchanges --- */

void op_xchg_rm_reg(struct cpu *cpu, const struct op *op)
{
	uint64_t value = modrm_reg(cpu, op);

	modrm_reg_set(cpu, op, modify(cpu, op, exchange, 0, value, true));
}

void op_xchg_acc(struct cpu *cpu, const struct op *op)
{
	uint64_t value = acc_get(cpu, op->size);

	acc_set(cpu, op->size, reg_get(cpu, op->rm, op->size));
	reg_set(cpu, op->rm, op->size, value);
}

/* The destination is written last: XADD of a register with itself leaves the sum. */
void op_xadd(struct cpu *cpu, const struct op *op)
{
	uint64_t operand = modrm_reg(cpu, op);
	uint64_t old;

	if (op->flags & OP_MEM) {
		old = modify(cpu, op, alu, ALU_ADD, operand, op->flags & OP_LOCK);
		modrm_reg_set(cpu, op, old);
	} else {
		old = rm_read(cpu, op);
		modrm_reg_set(cpu, op, old);
		rm_write(cpu, op, alu(ALU_ADD, op->size, old, operand, &cpu->arith));
	}
}

static void cmpxchg_reg(struct cpu *cpu, const struct op *op)
{
	uint64_t acc = acc_get(cpu, op->size), old = rm_read(cpu, op);

	alu(ALU_CMP, op->size, acc, old, &cpu->arith);
	if (cpu->arith & ARITH_ZF) {
		rm_write(cpu, op, modrm_reg(cpu, op));
	} else {
		/* A 32-bit destination keeps its upper half: only RAX is written. */
		acc_set(cpu, op->size, old);
	}
}

void op_cmpxchg(struct cpu *cpu, const struct op *op)
{
	uint64_t acc = acc_get(cpu, op->size), desired = modrm_reg(cpu, op), old;
	struct mem_target target;

	if (!(op->flags & OP_MEM)) {
		cmpxchg_reg(cpu, op);
		return;
	}
	mem_target_begin(cpu, &target, op->segment, op_offset(cpu, op), op->size,
			 op->flags & OP_LOCK);
	if (target.host) {
		do
			old = host_load(target.host, op->size);
		while (old == acc && !host_cmpxchg(target.host, op->size, acc, desired));
	} else {
		old = mem_read_linear(cpu, target.segment, target.linear, op->size);
		mem_write_linear(cpu, target.segment, target.linear, old == acc ? desired : old,
				 op->size);
	}
	mem_target_end(cpu, &target);
	alu(ALU_CMP, op->size, acc, old, &cpu->arith);
	if (old != acc)
		acc_set(cpu, op->size, old);
}

static bool host_cmpxchg_pair(void *host, uint64_t expected[2], const uint64_t desired[2])
{
	bool done;

	__asm__ volatile("lock cmpxchg16b %[mem]"
			 : "=@ccz"(done), [mem] "+m"(*(char(*)[16])host), "+a"(expected[0]),
			   "+d"(expected[1])
			 : "b"(desired[0]), "c"(desired[1])
			 : "memory");
	return done;
}

static void cmpxchg16b(struct cpu *cpu, const struct op *op)
{
	uint64_t expected[2] = {cpu->regs[CPU_RAX], cpu->regs[CPU_RDX]};
	uint64_t desired[2] = {cpu->regs[CPU_RBX], cpu->regs[CPU_RCX]};
	uint64_t offset = op_offset(cpu, op), old[2] = {expected[0], expected[1]};
	struct mem_target target;
	bool done;

	if (mem_linear(cpu, op->segment, offset, 16, MEM_WRITE) & 15)
		cpu_raise_error(cpu, EXC_GP, 0);
	mem_target_begin(cpu, &target, op->segment, offset, 16, op->flags & OP_LOCK);
	if (target.host) {
		done = host_cmpxchg_pair(target.host, old, desired);
	} else {
		old[0] = mem_read_linear(cpu, target.segment, target.linear, 8);
		old[1] = mem_read_linear(cpu, target.segment, target.linear + 8, 8);
		done = old[0] == expected[0] && old[1] == expected[1];
		mem_write_linear(cpu, target.segment, target.linear, done ? desired[0] : old[0], 8);
		mem_write_linear(cpu, target.segment, target.linear + 8, done ? desired[1] : old[1],
				 8);
	}
	mem_target_end(cpu, &target);
	cpu->arith &= ~(uint32_t)ARITH_ZF;
	if (done) {
		cpu->arith |= ARITH_ZF;
	} else {
		cpu->regs[CPU_RAX] = old[0];
		cpu->regs[CPU_RDX] = old[1];
	}
}

static void cmpxchg8b(struct cpu *cpu, const struct op *op)
{
	uint64_t expected = (uint32_t)cpu->regs[CPU_RAX] | cpu->regs[CPU_RDX] << 32;
	uint64_t desired = (uint32_t)cpu->regs[CPU_RBX] | cpu->regs[CPU_RCX] << 32;
	struct mem_target target;
	uint64_t old;

	mem_target_begin(cpu, &target, op->segment, op_offset(cpu, op), 8, op->flags & OP_LOCK);
	if (target.host) {
		do
			old = host_load(target.host, 8);
		while (old == expected && !host_cmpxchg(target.host, 8, expected, desired));
	} else {
		old = mem_read_linear(cpu, target.segment, target.linear, 8);
		mem_write_linear(cpu, target.segment, target.linear,
				 old == expected ? desired : old, 8);
	}
	mem_target_end(cpu, &target);
	cpu->arith &= ~(uint32_t)ARITH_ZF;
	if (old == expected) {
		cpu->arith |= ARITH_ZF;
	} else {
		cpu->regs[CPU_RAX] = (uint32_t)old;
		cpu->regs[CPU_RDX] = old >> 32;
	}
}

void op_cmpxchg_pair(struct cpu *cpu, const struct op *op)
{
	if (op->flags & OP_REXW)
		cmpxchg16b(cpu, op);
	else
		cmpxchg8b(cpu, op);
}
