// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading and writing the general registers and RFLAGS for handlers that are not worth a
 * specialised form. */
#include "cpu/internal.h"

uint64_t reg_get(const struct cpu *cpu, unsigned reg, unsigned size)
{
	uint64_t value = cpu->regs[reg];

	return size == 8 ? value : size == 4 ? (uint32_t)value : (uint16_t)value;
}

void reg_set(struct cpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
	if (size == 8)
		cpu->regs[reg] = value;
	else if (size == 4)
		cpu->regs[reg] = (uint32_t)value;
	else
		cpu->regs[reg] = (cpu->regs[reg] & ~UINT64_C(0xffff)) | (uint16_t)value;
}

uint8_t reg8_get(const struct cpu *cpu, const struct op *op, unsigned reg)
{
	if (reg >= 4 && reg < 8 && !(op->flags & OP_REX))
		return (uint8_t)(cpu->regs[reg - 4] >> 8);
	return (uint8_t)cpu->regs[reg];
}

void reg8_set(struct cpu *cpu, const struct op *op, unsigned reg, uint8_t value)
{
	if (reg >= 4 && reg < 8 && !(op->flags & OP_REX))
		cpu->regs[reg - 4] = (cpu->regs[reg - 4] & ~UINT64_C(0xff00)) | (uint64_t)value
											<< 8;
	else
		cpu->regs[reg] = (cpu->regs[reg] & ~UINT64_C(0xff)) | value;
}

uint64_t cpu_rflags(const struct cpu *cpu)
{
	uint64_t arith = ((cpu->arith >> 8) & 0xd5) | (cpu->arith & 1 ? FL_OF : 0);

	return (cpu->rflags & ~(uint64_t)FL_ARITH) | arith | 2;
}

void cpu_set_rflags(struct cpu *cpu, uint64_t value, uint64_t mask)
{
	uint64_t full = (cpu_rflags(cpu) & ~mask) | (value & mask);
	uint64_t changed = full ^ cpu->rflags;

	cpu->arith = (uint32_t)((full & 0xd5) << 8) | (full & FL_OF ? 1 : 0);
	cpu->rflags = (full & ~(uint64_t)FL_ARITH) | 2;
	if (changed & (FL_TF | FL_AC | FL_VM))
		cpu_mode_changed(cpu);
}
