// SPDX-License-Identifier: GPL-2.0-or-later
/* Slow handlers: shifts, rotates, multiplication and division. */
#include "cpu/alu.h"
#include "cpu/flags.h"
#include "cpu/operand.h"

#define SHIFT(n, name)                                                                             \
	case (n)*4:                                                                                \
		return name##8((uint8_t)a, count, arith);                                          \
	case (n)*4 + 1:                                                                            \
		return name##16((uint16_t)a, count, arith);                                        \
	case (n)*4 + 2:                                                                            \
		return name##32((uint32_t)a, count, arith);                                        \
	case (n)*4 + 3:                                                                            \
		return name##64(a, count, arith);

static uint64_t shift_value(unsigned kind, unsigned size, uint64_t a, uint8_t count,
			    uint32_t *arith)
{
	switch (kind * 4 + (unsigned)__builtin_ctz(size)) {
		SHIFT(0, flags_rol)
		SHIFT(1, flags_ror)
		SHIFT(2, flags_rcl)
		SHIFT(3, flags_rcr)
		SHIFT(4, flags_shl)
		SHIFT(5, flags_shr)
		SHIFT(6, flags_shl)
		SHIFT(7, flags_sar)
	}
	g_assert_not_reached();
}

/* Computes before it stores, and takes the new flags only when the store has not faulted. */
static void shift(struct cpu *cpu, const struct op *op, uint64_t count)
{
	uint32_t arith = cpu->arith;
	struct mem_target target;
	uint64_t value;

	count &= op->size == 8 ? 63 : 31;
	if (!(op->flags & OP_MEM)) {
		value = rm_read(cpu, op);
		if (count)
			value = shift_value((op->modrm >> 3) & 7, op->size, value, (uint8_t)count,
					    &arith);
		rm_write(cpu, op, value);
		cpu->arith = arith;
		return;
	}
	mem_target_begin(cpu, &target, op->segment, op_offset(cpu, op), op->size, false);
	value = mem_read_linear(cpu, target.segment, target.linear, op->size);
	if (count)
		value = shift_value((op->modrm >> 3) & 7, op->size, value, (uint8_t)count, &arith);
	mem_write_linear(cpu, target.segment, target.linear, value, op->size);
	mem_target_end(cpu, &target);
	cpu->arith = arith;
}

void op_shift_imm(struct cpu *cpu, const struct op *op)
{
	shift(cpu, op, op->imm);
}

void op_shift_one(struct cpu *cpu, const struct op *op)
{
	shift(cpu, op, 1);
}

void op_shift_cl(struct cpu *cpu, const struct op *op)
{
	shift(cpu, op, cpu->regs[CPU_RCX]);
}

static uint64_t double_value(bool left, unsigned size, uint64_t a, uint64_t b, uint8_t count,
			     uint32_t *arith)
{
	if (size == 2)
		return left ? flags_shld16((uint16_t)a, (uint16_t)b, count, arith)
			    : flags_shrd16((uint16_t)a, (uint16_t)b, count, arith);
	if (size == 4)
		return left ? flags_shld32((uint32_t)a, (uint32_t)b, count, arith)
			    : flags_shrd32((uint32_t)a, (uint32_t)b, count, arith);
	return left ? flags_shld64(a, b, count, arith) : flags_shrd64(a, b, count, arith);
}

static void double_shift(struct cpu *cpu, const struct op *op, bool left, uint64_t count)
{
	uint32_t arith = cpu->arith;
	uint64_t value;

	count &= op->size == 8 ? 63 : 31;
	if (op->flags & OP_MEM)
		mem_probe_write(cpu, op->segment, op_offset(cpu, op), op->size);
	value = rm_read(cpu, op);
	if (count)
		value = double_value(left, op->size, value, modrm_reg(cpu, op), (uint8_t)count,
				     &arith);
	rm_write(cpu, op, value);
	cpu->arith = arith;
}

void op_shld_imm(struct cpu *cpu, const struct op *op)
{
	double_shift(cpu, op, true, op->imm);
}

void op_shld_cl(struct cpu *cpu, const struct op *op)
{
	double_shift(cpu, op, true, cpu->regs[CPU_RCX]);
}

void op_shrd_imm(struct cpu *cpu, const struct op *op)
{
	double_shift(cpu, op, false, op->imm);
}

void op_shrd_cl(struct cpu *cpu, const struct op *op)
{
	double_shift(cpu, op, false, cpu->regs[CPU_RCX]);
}

/* --- Multiplication --- */

/* The host's one-operand form, so that the undefined flags are the host's as well. */
#define WIDE_MULTIPLY(insn, suffix, T)                                                             \
	do {                                                                                       \
		T low = (T)a, high;                                                                \
		uint32_t ax;                                                                       \
		__asm__(insn suffix " %[b]\n\tmov %%rax,%%rcx\n\tlahf\n\tseto %%al"                \
			: "+a"(low), "=d"(high), "=c"(*result)                                     \
			: [b] "r"((T)b)                                                            \
			: "cc");                                                                   \
		ax = (uint16_t)low;                                                                \
		*upper = high;                                                                     \
		return ax;                                                                         \
	} while (0)

#define DEFINE_WIDE(name, insn)                                                                    \
	static uint32_t name(unsigned size, uint64_t a, uint64_t b, uint64_t *result,              \
			     uint64_t *upper)                                                      \
	{                                                                                          \
		if (size == 2)                                                                     \
			WIDE_MULTIPLY(insn, "w", uint16_t);                                        \
		if (size == 4)                                                                     \
			WIDE_MULTIPLY(insn, "l", uint32_t);                                        \
		WIDE_MULTIPLY(insn, "q", uint64_t);                                                \
	}

DEFINE_WIDE(wide_mul, "mul")
DEFINE_WIDE(wide_imul, "imul")

static uint32_t byte_multiply(bool is_signed, uint8_t a, uint8_t b, uint16_t *result)
{
	uint32_t ax = a;
	uint16_t product;

	if (is_signed)
		__asm__("imulb %[b]\n\tmovw %%ax,%[p]\n\tlahf\n\tseto %%al"
			: "+a"(ax), [p] "=&r"(product)
			: [b] "q"(b)
			: "cc");
	else
		__asm__("mulb %[b]\n\tmovw %%ax,%[p]\n\tlahf\n\tseto %%al"
			: "+a"(ax), [p] "=&r"(product)
			: [b] "q"(b)
			: "cc");
	*result = product;
	return ax;
}

static void multiply(struct cpu *cpu, const struct op *op, bool is_signed)
{
	uint64_t operand = rm_read(cpu, op), low, high;
	uint16_t product;

	if (op->size == 1) {
		cpu->arith = byte_multiply(is_signed, (uint8_t)cpu->regs[CPU_RAX], (uint8_t)operand,
					   &product);
		reg_set(cpu, CPU_RAX, 2, product);
		return;
	}
	if (is_signed)
		cpu->arith = wide_imul(op->size, cpu->regs[CPU_RAX], operand, &low, &high);
	else
		cpu->arith = wide_mul(op->size, cpu->regs[CPU_RAX], operand, &low, &high);
	reg_set(cpu, CPU_RAX, op->size, low);
	reg_set(cpu, CPU_RDX, op->size, high);
}

void op_mul(struct cpu *cpu, const struct op *op)
{
	multiply(cpu, op, false);
}

void op_imul(struct cpu *cpu, const struct op *op)
{
	multiply(cpu, op, true);
}

static uint64_t narrow_imul(unsigned size, uint64_t a, uint64_t b, uint32_t *arith)
{
	return size == 2   ? flags_imul16((uint16_t)a, (uint16_t)b, arith)
	       : size == 4 ? flags_imul32((uint32_t)a, (uint32_t)b, arith)
			   : flags_imul64(a, b, arith);
}

void op_imul_reg_rm(struct cpu *cpu, const struct op *op)
{
	uint64_t operand = rm_read(cpu, op);

	modrm_reg_set(cpu, op, narrow_imul(op->size, modrm_reg(cpu, op), operand, &cpu->arith));
}

void op_imul_reg_rm_imm(struct cpu *cpu, const struct op *op)
{
	uint64_t operand = rm_read(cpu, op);

	modrm_reg_set(cpu, op, narrow_imul(op->size, operand, op->imm, &cpu->arith));
}

/* --- Division: flags stay as they are (undefined by the architecture) --- */

static void divide_byte(struct cpu *cpu, uint64_t divisor, bool is_signed)
{
	uint16_t dividend = (uint16_t)cpu->regs[CPU_RAX];
	int quotient, remainder;

	if (!(uint8_t)divisor)
		cpu_raise(cpu, EXC_DE);
	if (is_signed) {
		quotient = (int16_t)dividend / (int8_t)divisor;
		remainder = (int16_t)dividend % (int8_t)divisor;
		if (quotient != (int8_t)quotient)
			cpu_raise(cpu, EXC_DE);
	} else {
		quotient = dividend / (uint8_t)divisor;
		remainder = dividend % (uint8_t)divisor;
		if (quotient > 0xff)
			cpu_raise(cpu, EXC_DE);
	}
	reg_set(cpu, CPU_RAX, 2, (uint16_t)((uint8_t)quotient | (uint8_t)remainder << 8));
}

static unsigned __int128 dividend(const struct cpu *cpu, unsigned size)
{
	unsigned __int128 high = cpu->regs[CPU_RDX] & size_mask(size);

	return high << (8 * size) | (cpu->regs[CPU_RAX] & size_mask(size));
}

void op_div(struct cpu *cpu, const struct op *op)
{
	uint64_t divisor = rm_read(cpu, op), remainder;
	unsigned __int128 value, quotient;

	if (op->size == 1) {
		divide_byte(cpu, divisor, false);
		return;
	}
	value = dividend(cpu, op->size);
	if (!divisor || (uint64_t)(value >> (8 * op->size)) >= divisor)
		cpu_raise(cpu, EXC_DE);
	if (!(value >> 64)) {
		quotient = (uint64_t)value / divisor;
		remainder = (uint64_t)value % divisor;
	} else {
		quotient = value / divisor;
		remainder = (uint64_t)(value % divisor);
	}
	reg_set(cpu, CPU_RAX, op->size, (uint64_t)quotient);
	reg_set(cpu, CPU_RDX, op->size, remainder);
}

static int64_t extend(uint64_t value, unsigned size)
{
	return size == 8 ? (int64_t)value : size == 4 ? (int32_t)value : (int16_t)value;
}

void op_idiv(struct cpu *cpu, const struct op *op)
{
	uint64_t raw = rm_read(cpu, op);
	unsigned __int128 magnitude, quotient, limit;
	uint64_t divisor, remainder;
	bool negative, opposite;
	__int128 value;
	int64_t by;

	if (op->size == 1) {
		divide_byte(cpu, raw, true);
		return;
	}
	by = extend(raw, op->size);
	if (!by)
		cpu_raise(cpu, EXC_DE);
	/* The dividend, sign-extended from twice the operand size. */
	value = (__int128)(dividend(cpu, op->size) << (128 - 16 * op->size)) >>
		(128 - 16 * op->size);
	negative = value < 0;
	opposite = negative != (by < 0);
	magnitude = negative ? -(unsigned __int128)value : (unsigned __int128)value;
	divisor = by < 0 ? -(uint64_t)by : (uint64_t)by;
	quotient = magnitude / divisor;
	remainder = (uint64_t)(magnitude % divisor);
	limit = (unsigned __int128)1 << (8 * op->size - 1);
	if (quotient > limit || (quotient == limit && !opposite))
		cpu_raise(cpu, EXC_DE);
	reg_set(cpu, CPU_RAX, op->size, opposite ? -(uint64_t)quotient : (uint64_t)quotient);
	reg_set(cpu, CPU_RDX, op->size, negative ? -remainder : remainder);
}
