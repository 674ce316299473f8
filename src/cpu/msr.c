// SPDX-License-Identifier: GPL-2.0-or-later
/* The processor's own model-specific registers; all others are the bus's (Intel SDM 4). Writes of
 * reserved bits and of addresses that are not canonical are refused, as the hardware does. */
#include "cpu/sys.h"

enum {
	MSR_TSC = 0x10,
	MSR_PLATFORM_ID = 0x17,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48,
	MSR_PRED_CMD = 0x49,
	MSR_UCODE_REVISION = 0x8b,
	MSR_PLATFORM_INFO = 0xce,
	MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_FLUSH_CMD = 0x10b,
	MSR_MISC_FEATURES = 0x140,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP,
	MSR_SYSENTER_EIP,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9,
	MSR_MTRR_VARIABLE = 0x200,
	MSR_MTRR_VARIABLE_END = MSR_MTRR_VARIABLE + 2 * CPU_MTRR_VARIABLE,
	MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_EFER = (int)0xc0000080,
	MSR_STAR,
	MSR_LSTAR,
	MSR_CSTAR,
	MSR_SFMASK,
	MSR_FS_BASE = (int)0xc0000100,
	MSR_GS_BASE,
	MSR_KERNEL_GS_BASE,
	MSR_TSC_AUX,
};

/* RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO,
 * PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. */
#define ARCH_CAPABILITIES                                                                          \
	(UINT64_C(0x17b) | UINT64_C(7) << 13 | UINT64_C(1) << 20 | UINT64_C(1) << 24 |             \
	 UINT64_C(1) << 26 | UINT64_C(1) << 27 | UINT64_C(1) << 62)

enum { UCODE_REVISION = 0x2b000661, SPEC_CTRL_BITS = 0x7 /* IBRS, STIBP, SSBD */ };

/* The slot of a fixed-range MTRR, or -1. */
static int fixed_mtrr(uint32_t index)
{
	if (index == MSR_MTRR_FIX64K)
		return 0;
	if (index == MSR_MTRR_FIX16K || index == MSR_MTRR_FIX16K + 1)
		return 1 + (int)(index - MSR_MTRR_FIX16K);
	if (index >= MSR_MTRR_FIX4K && index < MSR_MTRR_FIX4K + 8)
		return 3 + (int)(index - MSR_MTRR_FIX4K);
	return -1;
}

/* Registers that are nothing but 64 bits that the guest may read: the table for reading. */
static const uint64_t *plain(const struct cpu *cpu, uint32_t index)
{
	const struct cpu_msrs *msr = &cpu->msr;
	int fixed;

	switch ((int)index) {
	case MSR_FEATURE_CONTROL:
		return &msr->feature_control;
	case MSR_TSC_ADJUST:
		return &msr->tsc_adjust;
	case MSR_SYSENTER_CS:
		return &msr->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &msr->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &msr->sysenter_eip;
	case MSR_MISC_ENABLE:
		return &msr->misc_enable;
	case MSR_PAT:
		return &msr->pat;
	case MSR_MTRR_DEF_TYPE:
		return &msr->mtrr_def_type;
	case MSR_EFER:
		return &cpu->efer;
	case MSR_STAR:
		return &msr->star;
	case MSR_LSTAR:
		return &msr->lstar;
	case MSR_CSTAR:
		return &msr->cstar;
	case MSR_SFMASK:
		return &msr->sfmask;
	case MSR_FS_BASE:
		return &cpu->seg[SEG_FS].base;
	case MSR_GS_BASE:
		return &cpu->seg[SEG_GS].base;
	case MSR_KERNEL_GS_BASE:
		return &msr->kernel_gs_base;
	case MSR_TSC_AUX:
		return &msr->tsc_aux;
	default:
		break;
	}
	if (index >= MSR_MTRR_VARIABLE && index < MSR_MTRR_VARIABLE_END)
		return &msr->mtrr_variable[index - MSR_MTRR_VARIABLE];
	fixed = fixed_mtrr(index);
	return fixed < 0 ? NULL : &msr->mtrr_fixed[fixed];
}

bool msr_read(struct cpu *cpu, uint32_t index, uint64_t *value)
{
	const uint64_t *slot = plain(cpu, index);
	bool ok;

	if (slot) {
		*value = *slot;
		return true;
	}
	*value = 0;
	switch (index) {
	case MSR_TSC:
		*value = cpu_read_tsc(cpu);
		return true;
	case MSR_SPEC_CTRL:
		*value = cpu->msr.spec_ctrl;
		return !cpu->model.hide_mitigations;
	case MSR_ARCH_CAPABILITIES:
		*value = ARCH_CAPABILITIES;
		return !cpu->model.hide_mitigations;
	case MSR_PRED_CMD:
	case MSR_FLUSH_CMD:
		return false; /* write-only */
	case MSR_UCODE_REVISION:
		*value = (uint64_t)UCODE_REVISION << 32;
		return true;
	case MSR_MTRR_CAP:
		*value = 0x500 | CPU_MTRR_VARIABLE;
		return true;
	case MSR_PLATFORM_ID:
	case MSR_PLATFORM_INFO:
	case MSR_MISC_FEATURES:
	case MSR_MCG_CAP:
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL:
		return true;
	default:
		break;
	}
	bus_begin(cpu);
	ok = cpu->bus->msr_read(cpu->opaque, index, value);
	bus_end(cpu);
	return ok;
}

/* --- Writing --- */

static bool valid_memory_type(unsigned type, bool pat)
{
	return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool all_types_valid(uint64_t value, bool pat)
{
	for (unsigned i = 0; i < 8; i++)
		if (!valid_memory_type(value >> (8 * i) & 0xff, pat))
			return false;
	return true;
}

static bool write_mtrr(struct cpu *cpu, uint32_t index, uint64_t value)
{
	struct cpu_msrs *msr = &cpu->msr;
	unsigned n = index - MSR_MTRR_VARIABLE;
	int fixed = fixed_mtrr(index);

	if (fixed >= 0) {
		if (!all_types_valid(value, false))
			return false;
		msr->mtrr_fixed[fixed] = value;
	} else if (index == MSR_MTRR_DEF_TYPE) {
		if ((value & ~UINT64_C(0xcff)) || !valid_memory_type(value & 0xff, false))
			return false;
		msr->mtrr_def_type = value;
	} else if (n & 1) { /* a mask */
		if (value & (phys_reserved(cpu) | 0x7ff))
			return false;
		msr->mtrr_variable[n] = value;
	} else {
		if ((value & (phys_reserved(cpu) | 0xf00)) ||
		    !valid_memory_type(value & 0xff, false))
			return false;
		msr->mtrr_variable[n] = value;
	}
	return true;
}

static bool store_address(uint64_t *slot, uint64_t value)
{
	if (!is_canonical(value))
		return false;
	*slot = value;
	return true;
}

static bool store_masked(uint64_t *slot, uint64_t value, uint64_t valid)
{
	if (value & ~valid)
		return false;
	*slot = value;
	return true;
}

static bool write_tsc(struct cpu *cpu, uint64_t delta)
{
	cpu->tsc_offset += (int64_t)delta;
	cpu->msr.tsc_adjust += delta;
	return true;
}

static bool write_bus(struct cpu *cpu, uint32_t index, uint64_t value)
{
	bool ok;

	bus_begin(cpu);
	ok = cpu->bus->msr_write(cpu->opaque, index, value);
	bus_end(cpu);
	return ok;
}

bool msr_write(struct cpu *cpu, uint32_t index, uint64_t value)
{
	struct cpu_msrs *msr = &cpu->msr;

	switch ((int)index) {
	case MSR_FS_BASE:
		return store_address(&cpu->seg[SEG_FS].base, value);
	case MSR_GS_BASE:
		return store_address(&cpu->seg[SEG_GS].base, value);
	case MSR_KERNEL_GS_BASE:
		return store_address(&msr->kernel_gs_base, value);
	case MSR_LSTAR:
		return store_address(&msr->lstar, value);
	case MSR_CSTAR:
		return store_address(&msr->cstar, value);
	case MSR_SYSENTER_ESP:
		return store_address(&msr->sysenter_esp, value);
	case MSR_SYSENTER_EIP:
		return store_address(&msr->sysenter_eip, value);
	case MSR_SYSENTER_CS:
		msr->sysenter_cs = (uint32_t)value;
		return true;
	case MSR_STAR:
		msr->star = value;
		return true;
	case MSR_SFMASK:
		msr->sfmask = (uint32_t)value;
		return true;
	case MSR_EFER:
		return cpu_write_efer(cpu, value);
	case MSR_TSC_AUX:
		return store_masked(&msr->tsc_aux, value, UINT32_MAX);
	case MSR_TSC:
		return write_tsc(cpu, value - cpu_read_tsc(cpu));
	case MSR_TSC_ADJUST:
		return write_tsc(cpu, value - msr->tsc_adjust);
	case MSR_SPEC_CTRL:
		return !cpu->model.hide_mitigations &&
		       store_masked(&msr->spec_ctrl, value, SPEC_CTRL_BITS);
	case MSR_PRED_CMD:
	case MSR_FLUSH_CMD:
		return !cpu->model.hide_mitigations && value <= 1;
	case MSR_PAT:
		if (!all_types_valid(value, true))
			return false;
		msr->pat = value;
		return true;
	case MSR_MISC_ENABLE:
		msr->misc_enable = value;
		return true;
	case MSR_FEATURE_CONTROL:
		return !(msr->feature_control & 1) && store_masked(&msr->feature_control, value, 1);
	case MSR_UCODE_REVISION:
		return true; /* Linux clears it before it reads */
	case MSR_MISC_FEATURES:
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL:
		return !value;
	case MSR_MTRR_CAP:
	case MSR_MCG_CAP:
	case MSR_ARCH_CAPABILITIES:
	case MSR_PLATFORM_ID:
	case MSR_PLATFORM_INFO:
		return false;
	default:
		break;
	}
	if ((index >= MSR_MTRR_VARIABLE && index < MSR_MTRR_VARIABLE_END) ||
	    index == MSR_MTRR_DEF_TYPE || fixed_mtrr(index) >= 0)
		return write_mtrr(cpu, index, value);
	return write_bus(cpu, index, value);
}

/* --- The instructions --- */

void sys_rdmsr(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	need_cpl0(cpu);
	if (!msr_read(cpu, cpu->regs[CPU_RCX], &value))
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu->regs[CPU_RAX] = (uint32_t)value;
	cpu->regs[CPU_RDX] = value >> 32;
}

void sys_wrmsr(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->regs[CPU_RDX] << 32 | (uint32_t)cpu->regs[CPU_RAX];

	need_cpl0(cpu);
	if (!msr_write(cpu, cpu->regs[CPU_RCX], value))
		cpu_raise_error(cpu, EXC_GP, 0);
}
