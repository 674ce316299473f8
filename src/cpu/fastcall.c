// SPDX-License-Identifier: GPL-2.0-or-later
/* SYSCALL, SYSENTER and their returns, SWAPGS, hypercalls, the FS and GS base instructions, and
 * those that only report (Intel SDM 2; SYSCALL as Intel has it: in 64-bit mode only). */
#include <errno.h>
#include <sys/random.h>

#include "cpu/sys.h"

/* Code and stack as the fast transfers load them, without looking at a descriptor table. */
static void set_flat(struct cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, uint16_t size_bit)
{
	uint16_t dpl = (uint16_t)(cpl << SEG_DPL_SHIFT);

	seg_set_flat(cpu, SEG_CS, cs | cpl, SEG_CODE | SEG_RW | dpl | size_bit);
	seg_set_flat(cpu, SEG_SS, ss | cpl, SEG_RW | SEG_DB | dpl);
	cpu->cpl = cpl;
}

/* The single-step trap after SYSCALL and SYSRET goes by TF as it is at their end. */
static void step_by_new_flags(struct cpu *cpu)
{
	cpu->step_tf = false;
	if (!(cpu->rflags & FL_TF))
		return;
	cpu->pending_debug |= DR6_BS;
	cpu->request |= REQ_DEBUG;
}

void sys_syscall(struct cpu *cpu, const struct op *op)
{
	uint16_t cs = (cpu->msr.star >> 32) & 0xfffc;
	uint64_t flags = cpu_rflags(cpu);

	if (cpu->code_size != 8 || !(cpu->efer & EFER_SCE))
		cpu_raise(cpu, EXC_UD);
	cpu->regs[CPU_RCX] = cpu->rip;
	cpu->regs[CPU_R11] = flags;
	cpu->rip = cpu->msr.lstar;
	set_flat(cpu, cs, cs + 8, 0, SEG_L);
	cpu_set_rflags(cpu, flags & ~cpu->msr.sfmask & ~(uint64_t)FL_RF, UINT64_MAX);
	cpu_mode_changed(cpu);
	step_by_new_flags(cpu);
}

void sys_sysret(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = cpu->msr.star >> 48;
	bool wide = op->flags & OP_REXW;

	if (cpu->code_size != 8 || !(cpu->efer & EFER_SCE))
		cpu_raise(cpu, EXC_UD);
	need_cpl0(cpu);
	if (wide && !is_canonical(cpu->regs[CPU_RCX]))
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu->rip = wide ? cpu->regs[CPU_RCX] : (uint32_t)cpu->regs[CPU_RCX];
	cpu_set_rflags(cpu, cpu->regs[CPU_R11], 0x3c7fd5);
	cpu->rflags &= ~(uint64_t)(FL_RF | FL_VM);
	set_flat(cpu, selector + (wide ? 16 : 0), selector + 8, 3, wide ? SEG_L : SEG_DB);
	cpu_mode_changed(cpu);
	step_by_new_flags(cpu);
}

void sys_sysenter(struct cpu *cpu, const struct op *op)
{
	uint16_t cs = cpu->msr.sysenter_cs & 0xfffc;
	bool lm = cpu_is_long(cpu);

	if (!(cpu->cr0 & CR0_PE) || !cs)
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu_set_rflags(cpu, 0, FL_VM | FL_IF | FL_RF);
	cpu->regs[CPU_RSP] = lm ? cpu->msr.sysenter_esp : (uint32_t)cpu->msr.sysenter_esp;
	cpu->rip = lm ? cpu->msr.sysenter_eip : (uint32_t)cpu->msr.sysenter_eip;
	set_flat(cpu, cs, cs + 8, 0, lm ? SEG_L : SEG_DB);
	cpu_mode_changed(cpu);
}

void sys_sysexit(struct cpu *cpu, const struct op *op)
{
	uint16_t cs = cpu->msr.sysenter_cs & 0xfffc;
	uint64_t rip = cpu->regs[CPU_RDX], rsp = cpu->regs[CPU_RCX];
	bool wide = op->flags & OP_REXW;

	if (!(cpu->cr0 & CR0_PE) || !cs || cpu->cpl)
		cpu_raise_error(cpu, EXC_GP, 0);
	if (wide && (!is_canonical(rip) || !is_canonical(rsp)))
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu->rip = wide ? rip : (uint32_t)rip;
	cpu->regs[CPU_RSP] = wide ? rsp : (uint32_t)rsp;
	cs += wide ? 32 : 16;
	set_flat(cpu, cs, cs + 8, 3, wide ? SEG_L : SEG_DB);
	cpu_mode_changed(cpu);
}

void sys_swapgs(struct cpu *cpu, const struct op *op)
{
	uint64_t base = cpu->seg[SEG_GS].base;

	if (cpu->code_size != 8)
		cpu_raise(cpu, EXC_UD);
	need_cpl0(cpu);
	cpu->seg[SEG_GS].base = cpu->msr.kernel_gs_base;
	cpu->msr.kernel_gs_base = base;
}

void sys_hypercall(struct cpu *cpu, const struct op *op)
{
	unsigned size = cpu->code_size == 8 ? 8 : 4;
	uint64_t args[4];
	int64_t result = -EPERM;

	if (!cpu->bus->hypercall)
		cpu_raise(cpu, EXC_UD);
	if (!cpu->cpl) {
		args[0] = reg_get(cpu, CPU_RBX, size);
		args[1] = reg_get(cpu, CPU_RCX, size);
		args[2] = reg_get(cpu, CPU_RDX, size);
		args[3] = reg_get(cpu, CPU_RSI, size);
		bus_begin(cpu);
		result = cpu->bus->hypercall(cpu->opaque, reg_get(cpu, CPU_RAX, size), args);
		bus_end(cpu);
	}
	reg_set(cpu, CPU_RAX, size, (uint64_t)result);
}

/* --- FS and GS bases --- */

static void check_fsgsbase(struct cpu *cpu)
{
	if (cpu->code_size != 8 || !(cpu->cr4 & CR4_FSGSBASE))
		cpu_raise(cpu, EXC_UD);
}

static void read_base(struct cpu *cpu, const struct op *op, unsigned segment)
{
	check_fsgsbase(cpu);
	reg_set(cpu, op->rm, op->size, cpu->seg[segment].base);
}

static void write_base(struct cpu *cpu, const struct op *op, unsigned segment)
{
	uint64_t base = reg_get(cpu, op->rm, op->size);

	check_fsgsbase(cpu);
	if (!is_canonical(base))
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu->seg[segment].base = base;
}

void sys_rdfsbase(struct cpu *cpu, const struct op *op)
{
	read_base(cpu, op, SEG_FS);
}

void sys_rdgsbase(struct cpu *cpu, const struct op *op)
{
	read_base(cpu, op, SEG_GS);
}

void sys_wrfsbase(struct cpu *cpu, const struct op *op)
{
	write_base(cpu, op, SEG_FS);
}

void sys_wrgsbase(struct cpu *cpu, const struct op *op)
{
	write_base(cpu, op, SEG_GS);
}

/* --- Clocks, counters, random numbers --- */

static void check_tsd(struct cpu *cpu)
{
	if (cpu->cpl && (cpu->cr4 & CR4_TSD))
		cpu_raise_error(cpu, EXC_GP, 0);
}

uint64_t cpu_read_tsc(const struct cpu *cpu)
{
	return __builtin_ia32_rdtsc() + (uint64_t)cpu->tsc_offset;
}

void sys_rdtsc(struct cpu *cpu, const struct op *op)
{
	uint64_t tsc;

	check_tsd(cpu);
	tsc = cpu_read_tsc(cpu);
	cpu->regs[CPU_RAX] = (uint32_t)tsc;
	cpu->regs[CPU_RDX] = tsc >> 32;
}

void sys_rdtscp(struct cpu *cpu, const struct op *op)
{
	sys_rdtsc(cpu, op);
	cpu->regs[CPU_RCX] = (uint32_t)cpu->msr.tsc_aux;
}

/* There are no performance counters. */
void sys_rdpmc(struct cpu *cpu, const struct op *op)
{
	cpu_raise_error(cpu, EXC_GP, 0);
}

void sys_rdpid(struct cpu *cpu, const struct op *op)
{
	reg_set(cpu, op->rm, cpu->code_size == 8 ? 8 : 4, (uint32_t)cpu->msr.tsc_aux);
}

void sys_rdrand(struct cpu *cpu, const struct op *op)
{
	uint64_t value = 0;
	bool ok = getrandom(&value, sizeof(value), GRND_NONBLOCK) == (ssize_t)sizeof(value);

	reg_set(cpu, op->rm, op->size, ok ? value : 0);
	cpu_set_rflags(cpu, ok ? FL_CF : 0, FL_ARITH);
}

void sys_rdseed(struct cpu *cpu, const struct op *op)
{
	sys_rdrand(cpu, op);
}

void sys_cpuid(struct cpu *cpu, const struct op *op)
{
	uint32_t regs[4];

	cpuid_dynamic(cpu, cpu->regs[CPU_RAX], cpu->regs[CPU_RCX], regs);
	cpu->regs[CPU_RAX] = regs[0];
	cpu->regs[CPU_RBX] = regs[1];
	cpu->regs[CPU_RCX] = regs[2];
	cpu->regs[CPU_RDX] = regs[3];
}
