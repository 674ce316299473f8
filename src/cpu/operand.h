/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/mem.h"

/* What slow handlers share: operands by ModRM, the stack, near branches. */

/* The op's ModRM operand, register or memory, of op->size bytes. */
static inline uint64_t rm_read(struct cpu *cpu, const struct op *op)
{
	if (op->flags & OP_MEM)
		return mem_read(cpu, op->segment, op_offset(cpu, op), op->size);
	return op->size == 1 ? reg8_get(cpu, op, op->rm) : reg_get(cpu, op->rm, op->size);
}

static inline void rm_write(struct cpu *cpu, const struct op *op, uint64_t value)
{
	if (op->flags & OP_MEM)
		mem_write(cpu, op->segment, op_offset(cpu, op), value, op->size);
	else if (op->size == 1)
		reg8_set(cpu, op, op->rm, (uint8_t)value);
	else
		reg_set(cpu, op->rm, op->size, value);
}

static inline uint64_t modrm_reg(const struct cpu *cpu, const struct op *op)
{
	return op->size == 1 ? reg8_get(cpu, op, op->reg) : reg_get(cpu, op->reg, op->size);
}

static inline void modrm_reg_set(struct cpu *cpu, const struct op *op, uint64_t value)
{
	if (op->size == 1)
		reg8_set(cpu, op, op->reg, (uint8_t)value);
	else
		reg_set(cpu, op->reg, op->size, value);
}

/* RAX in any size. */
static inline uint64_t acc_get(const struct cpu *cpu, unsigned size)
{
	return size == 1 ? (uint8_t)cpu->regs[CPU_RAX] : reg_get(cpu, CPU_RAX, size);
}

static inline void acc_set(struct cpu *cpu, unsigned size, uint64_t value)
{
	if (size == 1)
		cpu->regs[CPU_RAX] = (cpu->regs[CPU_RAX] & ~UINT64_C(0xff)) | (uint8_t)value;
	else
		reg_set(cpu, CPU_RAX, size, value);
}

static inline uint64_t size_mask(unsigned size)
{
	return UINT64_MAX >> (64 - 8 * size);
}

static inline unsigned stack_size(const struct cpu *cpu)
{
	return cpu->code_size == 8 ? 8 : cpu->mode & MODE_STACK32 ? 4 : 2;
}

/* The stack pointer @delta further on, wrapped to the stack's size. */
static inline uint64_t stack_offset(const struct cpu *cpu, int64_t delta)
{
	return (cpu->regs[CPU_RSP] + (uint64_t)delta) & size_mask(stack_size(cpu));
}

static inline void stack_set(struct cpu *cpu, uint64_t offset)
{
	reg_set(cpu, CPU_RSP, stack_size(cpu), offset);
}

static inline void stack_push(struct cpu *cpu, uint64_t value, unsigned size)
{
	uint64_t offset = stack_offset(cpu, -(int64_t)size);

	mem_write(cpu, SEG_SS, offset, value, size);
	stack_set(cpu, offset);
}

/* Does not move the stack pointer: the caller does when nothing can fault any more. */
static inline uint64_t stack_peek(struct cpu *cpu, unsigned size)
{
	return mem_read(cpu, SEG_SS, stack_offset(cpu, 0), size);
}

/* A near branch: checks the target against canonical form or the limit of CS. */
static inline uint64_t branch_check(struct cpu *cpu, uint64_t target)
{
	if (cpu->code_size == 8) {
		if ((uint64_t)((int64_t)(target << 16) >> 16) != target)
			cpu_raise_error(cpu, EXC_GP, 0);
	} else if (target > cpu->seg[SEG_CS].limit) {
		cpu_raise_error(cpu, EXC_GP, 0);
	}
	return target;
}

/* --- Locked operations on host memory, any alignment --- */

/* Stores @desired where @host still holds @expected. */
static inline bool host_cmpxchg(void *host, unsigned size, uint64_t expected, uint64_t desired)
{
	bool done;

	switch (size) {
	case 1:
		__asm__ volatile("lock cmpxchgb %[new],%[mem]"
				 : "=@ccz"(done), [mem] "+m"(*(char(*)[1])host), "+a"(expected)
				 : [new] "r"((uint8_t)desired)
				 : "memory");
		break;
	case 2:
		__asm__ volatile("lock cmpxchgw %[new],%[mem]"
				 : "=@ccz"(done), [mem] "+m"(*(char(*)[2])host), "+a"(expected)
				 : [new] "r"((uint16_t)desired)
				 : "memory");
		break;
	case 4:
		__asm__ volatile("lock cmpxchgl %[new],%[mem]"
				 : "=@ccz"(done), [mem] "+m"(*(char(*)[4])host), "+a"(expected)
				 : [new] "r"((uint32_t)desired)
				 : "memory");
		break;
	default:
		__asm__ volatile("lock cmpxchgq %[new],%[mem]"
				 : "=@ccz"(done), [mem] "+m"(*(char(*)[8])host), "+a"(expected)
				 : [new] "r"(desired)
				 : "memory");
	}
	return done;
}

static inline uint64_t host_load(const void *host, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, host, size);
	return value;
}
