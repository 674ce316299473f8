// SPDX-License-Identifier: GPL-2.0-or-later
/* Slow handlers: near transfers of control. All end their block and leave cpu->rip; the target is
 * checked before anything changes. */
#include "cpu/alu.h"
#include "cpu/flags.h"
#include "cpu/operand.h"

/* op->imm of a relative branch is the displacement; op->size truncates the result. */
static uint64_t relative_target(struct cpu *cpu, const struct op *op)
{
	return branch_check(cpu, (op_next_rip(cpu, op) + op->imm) & size_mask(op->size));
}

void op_jmp_rel(struct cpu *cpu, const struct op *op)
{
	cpu->rip = relative_target(cpu, op);
}

void op_jcc(struct cpu *cpu, const struct op *op)
{
	if (flags_condition(cpu->arith, op->opcode & 15))
		cpu->rip = relative_target(cpu, op);
}

void op_jmp_rm(struct cpu *cpu, const struct op *op)
{
	cpu->rip = branch_check(cpu, rm_read(cpu, op));
}

void op_call_rel(struct cpu *cpu, const struct op *op)
{
	uint64_t target = relative_target(cpu, op);

	stack_push(cpu, op_next_rip(cpu, op), op->size);
	cpu->rip = target;
}

void op_call_rm(struct cpu *cpu, const struct op *op)
{
	uint64_t target = branch_check(cpu, rm_read(cpu, op));

	stack_push(cpu, op_next_rip(cpu, op), op->size);
	cpu->rip = target;
}

void op_ret(struct cpu *cpu, const struct op *op)
{
	uint64_t target = branch_check(cpu, stack_peek(cpu, op->size));

	stack_set(cpu, stack_offset(cpu, op->size));
	cpu->rip = target;
}

void op_ret_imm(struct cpu *cpu, const struct op *op)
{
	uint64_t target = branch_check(cpu, stack_peek(cpu, op->size));

	stack_set(cpu, stack_offset(cpu, op->size + (int64_t)op->imm));
	cpu->rip = target;
}

/* LOOPNE, LOOPE, LOOP; the counter has the address size. */
void op_loop(struct cpu *cpu, const struct op *op)
{
	uint64_t count = (cpu->regs[CPU_RCX] - 1) & size_mask(op->address_size);
	bool zero = cpu->arith & ARITH_ZF;
	bool taken = count && (op->opcode == 0xe2 || zero == (op->opcode == 0xe1));
	uint64_t target = taken ? relative_target(cpu, op) : cpu->rip;

	reg_set(cpu, CPU_RCX, op->address_size, count);
	cpu->rip = target;
}

void op_jcxz(struct cpu *cpu, const struct op *op)
{
	if (!(cpu->regs[CPU_RCX] & size_mask(op->address_size)))
		cpu->rip = relative_target(cpu, op);
}
