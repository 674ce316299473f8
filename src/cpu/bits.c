// SPDX-License-Identifier: GPL-2.0-or-later
/* Slow handlers: bit test and scan, POPCNT, CRC32, BSWAP, and decimal adjustment. */
#include "cpu/alu.h"
#include "cpu/flags.h"
#include "cpu/operand.h"

enum { BIT_TEST = 4, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static uint64_t bit_change(unsigned kind, uint64_t value, uint64_t bit)
{
	return kind == BIT_SET     ? value | bit
	       : kind == BIT_RESET ? value & ~bit
	       : kind == BIT_TEST  ? value
				   : value ^ bit;
}

static void set_carry(struct cpu *cpu, bool carry)
{
	cpu->arith = (cpu->arith & ~(uint32_t)ARITH_CF) | (carry ? ARITH_CF : 0);
}

static uint64_t locked_change(uint8_t *host, unsigned size, unsigned kind, uint64_t bit)
{
	uint64_t old;

	do
		old = host_load(host, size);
	while (!host_cmpxchg(host, size, old, bit_change(kind, old, bit)));
	return old;
}

static void bit_memory(struct cpu *cpu, const struct op *op, unsigned kind, uint64_t offset,
		       uint64_t bit)
{
	struct mem_target target;
	uint64_t old;

	if (kind == BIT_TEST) {
		set_carry(cpu, mem_read(cpu, op->segment, offset, op->size) & bit);
		return;
	}
	mem_target_begin(cpu, &target, op->segment, offset, op->size, op->flags & OP_LOCK);
	if (target.host && (op->flags & OP_LOCK)) {
		old = locked_change(target.host, op->size, kind, bit);
	} else {
		old = mem_read_linear(cpu, target.segment, target.linear, op->size);
		mem_write_linear(cpu, target.segment, target.linear, bit_change(kind, old, bit),
				 op->size);
	}
	mem_target_end(cpu, &target);
	set_carry(cpu, old & bit);
}

static void bit_op(struct cpu *cpu, const struct op *op, unsigned kind, uint64_t offset,
		   uint64_t number)
{
	uint64_t bit = UINT64_C(1) << (number & (8 * op->size - 1)), old;

	if (op->flags & OP_MEM) {
		bit_memory(cpu, op, kind, offset, bit);
		return;
	}
	old = rm_read(cpu, op);
	if (kind != BIT_TEST)
		rm_write(cpu, op, bit_change(kind, old, bit));
	set_carry(cpu, old & bit);
}

/* The bit number may lead far from the operand's address. */
void op_bit_reg(struct cpu *cpu, const struct op *op)
{
	uint64_t number = modrm_reg(cpu, op), offset = 0;

	if (op->flags & OP_MEM) {
		int64_t index = op->size == 8   ? (int64_t)number
				: op->size == 4 ? (int32_t)number
						: (int16_t)number;

		offset = op_offset(cpu, op) +
			 (uint64_t)((index >> (3 + __builtin_ctz(op->size))) * op->size);
		offset &= size_mask(op->address_size);
	}
	bit_op(cpu, op, (op->opcode >> 3) & 7, offset, number);
}

void op_bit_imm(struct cpu *cpu, const struct op *op)
{
	bit_op(cpu, op, (op->modrm >> 3) & 7, op->flags & OP_MEM ? op_offset(cpu, op) : 0, op->imm);
}

/* The whole destination register goes through the host's instruction, so that a zero source leaves
 * in it exactly what the host leaves. */
#define SCAN(insn)                                                                                 \
	do {                                                                                       \
		uint64_t source = rm_read(cpu, op), value = cpu->regs[op->reg];                    \
		uint32_t ax = cpu->arith;                                                          \
		if (op->size == 2)                                                                 \
			__asm__("sahf\n\t" insn " %w[s],%w[d]" FLAGS_SAVE                          \
				: [d] "+r"(value), "+a"(ax)                                        \
				: [s] "r"(source)                                                  \
				: "cc");                                                           \
		else if (op->size == 4)                                                            \
			__asm__("sahf\n\t" insn " %k[s],%k[d]" FLAGS_SAVE                          \
				: [d] "+r"(value), "+a"(ax)                                        \
				: [s] "r"(source)                                                  \
				: "cc");                                                           \
		else                                                                               \
			__asm__("sahf\n\t" insn " %[s],%[d]" FLAGS_SAVE                            \
				: [d] "+r"(value), "+a"(ax)                                        \
				: [s] "r"(source)                                                  \
				: "cc");                                                           \
		cpu->regs[op->reg] = value;                                                        \
		cpu->arith = ax;                                                                   \
	} while (0)

void op_bsf(struct cpu *cpu, const struct op *op)
{
	SCAN("bsf");
}

void op_bsr(struct cpu *cpu, const struct op *op)
{
	SCAN("bsr");
}

void op_popcnt(struct cpu *cpu, const struct op *op)
{
	uint64_t source = rm_read(cpu, op);

	modrm_reg_set(cpu, op, (uint64_t)__builtin_popcountll(source));
	cpu->arith = source ? 0 : ARITH_ZF;
}

void op_crc32(struct cpu *cpu, const struct op *op)
{
	uint64_t source = rm_read(cpu, op), crc = (uint32_t)cpu->regs[op->reg];

	switch (op->size) {
	case 1:
		__asm__("crc32b %b[s],%k[c]" : [c] "+r"(crc) : [s] "r"(source));
		break;
	case 2:
		__asm__("crc32w %w[s],%k[c]" : [c] "+r"(crc) : [s] "r"(source));
		break;
	case 4:
		__asm__("crc32l %k[s],%k[c]" : [c] "+r"(crc) : [s] "r"(source));
		break;
	default:
		__asm__("crc32q %[s],%[c]" : [c] "+r"(crc) : [s] "r"(source));
	}
	cpu->regs[op->reg] = crc;
}

/* In 16-bit form undefined; processors leave zero. */
void op_bswap(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->regs[op->rm];

	reg_set(cpu, op->rm, op->size,
		op->size == 8   ? __builtin_bswap64(value)
		: op->size == 4 ? __builtin_bswap32((uint32_t)value)
				: 0);
}

/* --- Decimal adjustment (SDM 2A: AAA, AAD, AAM, AAS, DAA, DAS) --- */

static void set_al(struct cpu *cpu, uint8_t al, bool carry, bool adjust)
{
	acc_set(cpu, 1, al);
	flags_or8(al, 0, &cpu->arith);
	cpu->arith |= (carry ? ARITH_CF : 0) | (adjust ? ARITH_AF : 0);
}

void op_daa(struct cpu *cpu, const struct op *op)
{
	uint8_t al = (uint8_t)cpu->regs[CPU_RAX], old = al;
	bool carry = cpu->arith & ARITH_CF, adjust = (al & 0xf) > 9 || (cpu->arith & ARITH_AF);

	if (adjust)
		al += 6;
	if (old > 0x99 || carry) {
		al += 0x60;
		carry = true;
	}
	set_al(cpu, al, carry, adjust);
}

void op_das(struct cpu *cpu, const struct op *op)
{
	uint8_t al = (uint8_t)cpu->regs[CPU_RAX], old = al;
	bool had_carry = cpu->arith & ARITH_CF, carry = false;
	bool adjust = (al & 0xf) > 9 || (cpu->arith & ARITH_AF);

	if (adjust) {
		carry = had_carry || al < 6;
		al -= 6;
	}
	if (old > 0x99 || had_carry) {
		al -= 0x60;
		carry = true;
	}
	set_al(cpu, al, carry, adjust);
}

static void ascii_adjust(struct cpu *cpu, int direction)
{
	uint16_t ax = (uint16_t)cpu->regs[CPU_RAX];
	bool adjust = (ax & 0xf) > 9 || (cpu->arith & ARITH_AF);

	if (adjust)
		ax = (uint16_t)(ax + direction * 0x106);
	ax &= 0xff0f;
	reg_set(cpu, CPU_RAX, 2, ax);
	flags_or8((uint8_t)ax, 0, &cpu->arith);
	if (adjust)
		cpu->arith |= ARITH_CF | ARITH_AF;
}

void op_aaa(struct cpu *cpu, const struct op *op)
{
	ascii_adjust(cpu, 1);
}

void op_aas(struct cpu *cpu, const struct op *op)
{
	ascii_adjust(cpu, -1);
}

void op_aam(struct cpu *cpu, const struct op *op)
{
	uint8_t al = (uint8_t)cpu->regs[CPU_RAX], base = (uint8_t)op->imm;

	if (!base)
		cpu_raise(cpu, EXC_DE);
	reg_set(cpu, CPU_RAX, 2, (uint16_t)(al / base << 8 | al % base));
	flags_or8(al % base, 0, &cpu->arith);
}

void op_aad(struct cpu *cpu, const struct op *op)
{
	uint16_t ax = (uint16_t)cpu->regs[CPU_RAX];
	uint8_t al = flags_add8((uint8_t)ax, (uint8_t)((ax >> 8) * op->imm), &cpu->arith);

	reg_set(cpu, CPU_RAX, 2, al);
	flags_or8(al, 0, &cpu->arith);
}

void op_salc(struct cpu *cpu, const struct op *op)
{
	acc_set(cpu, 1, cpu->arith & ARITH_CF ? 0xff : 0);
}
