// SPDX-License-Identifier: GPL-2.0-or-later
/* Interrupt flag, AC, PUSHF, POPF and HLT (Intel SDM 2). Without VME and PVI, which CPUID does not
 * show, IOPL decides alone. */
#include "cpu/mem.h"
#include "cpu/sys.h"

static void check_iopl(struct cpu *cpu)
{
	if ((cpu->cr0 & CR0_PE) && cpu->cpl > cpu_iopl(cpu))
		cpu_raise_error(cpu, EXC_GP, 0);
}

void sys_cli(struct cpu *cpu, const struct op *op)
{
	check_iopl(cpu);
	cpu->rflags &= ~(uint64_t)FL_IF;
}

/* Whether HLT follows, as far as the TLB tells without effort. */
static bool hlt_may_follow(const struct cpu *cpu)
{
	uint64_t linear = cpu->code_base + cpu->rip;
	const struct tlb_entry *entry = &cpu->tlb->entry[tlb_index(linear)];

	if ((linear ^ entry->exec) > 0xfff)
		return true;
	return *(const volatile uint8_t *)(uintptr_t)(linear + entry->addend) == 0xf4;
}

/* The shadow costs the loop a block of one instruction. It tells only when an interrupt waits
 * already, and before HLT, which must not be reached when one comes in between. */
void sys_sti(struct cpu *cpu, const struct op *op)
{
	check_iopl(cpu);
	if (!(cpu->rflags & FL_IF) &&
	    (atomic_load_explicit(&cpu->intr_line, memory_order_relaxed) || hlt_may_follow(cpu)))
		cpu->shadow_sti = true;
	else if (!(cpu->rflags & FL_IF))
		cpu->after_sti = cpu->rip;
	cpu->rflags |= FL_IF;
}

static void set_ac(struct cpu *cpu, uint64_t value)
{
	if (cpu->cpl) /* also in virtual-8086 mode; #UD, not #GP */
		cpu_raise(cpu, EXC_UD);
	cpu_set_rflags(cpu, value, FL_AC);
}

void sys_clac(struct cpu *cpu, const struct op *op)
{
	set_ac(cpu, 0);
}

void sys_stac(struct cpu *cpu, const struct op *op)
{
	set_ac(cpu, FL_AC);
}

void sys_hlt(struct cpu *cpu, const struct op *op)
{
	need_cpl0(cpu);
	cpu->activity = CPU_HALTED;
}

static void check_v86_iopl(struct cpu *cpu)
{
	if (cpu_is_v86(cpu) && cpu_iopl(cpu) < 3)
		cpu_raise_error(cpu, EXC_GP, 0);
}

void sys_pushf(struct cpu *cpu, const struct op *op)
{
	uint64_t rsp = cpu->regs[CPU_RSP], mask = UINT64_MAX;

	check_v86_iopl(cpu);
	if (cpu->code_size != 8)
		mask = cpu->seg[SEG_SS].attr & SEG_DB ? 0xffffffff : 0xffff;
	rsp = (rsp & ~mask) | ((rsp - op->size) & mask);
	mem_write(cpu, SEG_SS, rsp & mask, cpu_rflags(cpu) & ~(uint64_t)(FL_RF | FL_VM), op->size);
	cpu->regs[CPU_RSP] = mask == 0xffffffff ? (uint32_t)rsp : rsp;
}

void sys_popf(struct cpu *cpu, const struct op *op)
{
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;
	uint64_t rsp = cpu->regs[CPU_RSP], wrap = UINT64_MAX, value;

	check_v86_iopl(cpu);
	if (cpu->code_size != 8)
		wrap = cpu->seg[SEG_SS].attr & SEG_DB ? 0xffffffff : 0xffff;
	value = mem_read(cpu, SEG_SS, rsp & wrap, op->size);
	if (cpu->cpl <= cpu_iopl(cpu))
		mask |= FL_IF;
	if (cpu->cpl == 0)
		mask |= FL_IOPL | FL_VIF | FL_VIP;
	if (op->size == 2)
		mask &= 0xffff;
	rsp = (rsp & ~wrap) | ((rsp + op->size) & wrap);
	cpu->regs[CPU_RSP] = wrap == 0xffffffff ? (uint32_t)rsp : rsp;
	cpu_set_rflags(cpu, value & ~(uint64_t)(FL_VIF | FL_VIP), mask);
	cpu->rflags &= ~(uint64_t)FL_RF;
}
