// SPDX-License-Identifier: GPL-2.0-or-later
/* Reset and INIT values, taking and giving the architectural state, and the way out of a faulting
 * instruction (Intel SDM 3A table 9-1). */
#include <string.h>

#include "base/error.h"
#include "cpu/sys.h"

/* --- Raising --- */

void cpu_raise(struct cpu *cpu, uint8_t vector)
{
	cpu->raised_vector = vector;
	cpu->raised_has_error = false;
	cpu->raised_error = 0;
	siglongjmp(cpu->unwind, 1);
}

void cpu_raise_error(struct cpu *cpu, uint8_t vector, uint32_t error)
{
	cpu->raised_vector = vector;
	cpu->raised_has_error = true;
	cpu->raised_error = error;
	siglongjmp(cpu->unwind, 1);
}

void cpu_raise_page_fault(struct cpu *cpu, uint64_t linear, uint32_t error)
{
	cpu->cr2 = linear;
	cpu_raise_error(cpu, EXC_PF, error);
}

/* --- Reset --- */

/* What both a reset and an INIT set. */
static void reset_common(struct cpu_state *state, bool is_bsp)
{
	uint64_t keep_cr0 = state->cr0 & (CR0_CD | CR0_NW);

	memset(state->regs, 0, sizeof(state->regs));
	state->regs[CPU_RDX] = CPU_SIGNATURE;
	state->rip = 0xfff0;
	state->rflags = 2;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		state->seg[i] = (struct cpu_segment){.limit = 0xffff,
						     .attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED};
	state->seg[SEG_CS].selector = 0xf000;
	state->seg[SEG_CS].base = 0xffff0000;
	state->seg[SEG_CS].attr |= SEG_CODE;
	state->seg[SEG_LDTR].attr = SEG_P | DESC_LDT;
	state->seg[SEG_TR].attr = SEG_P | DESC_TSS32_BUSY;
	state->gdtr = (struct cpu_table){.limit = 0xffff};
	state->idtr = (struct cpu_table){.limit = 0xffff};
	state->cr0 = CR0_ET | keep_cr0;
	state->cr2 = state->cr3 = state->cr4 = state->cr8 = 0;
	state->efer = 0;
	memset(state->dr, 0, sizeof(state->dr));
	state->dr6 = DR6_FIXED;
	state->dr7 = DR7_FIXED;
	state->event = (struct cpu_event){0};
	state->sti_shadow = state->movss_shadow = false;
	state->nmi_pending = state->nmi_blocked = false;
	state->activity = is_bsp ? CPU_ACTIVE : CPU_WAIT_SIPI;
	state->sipi_vector = 0;
}

void cpu_state_reset(struct cpu_state *state, bool is_bsp)
{
	static const uint16_t fcw = 0x40;
	static const uint32_t mxcsr = 0x1f80, mxcsr_mask = 0xffff;

	memset(state, 0, sizeof(*state));
	state->cr0 = CR0_CD | CR0_NW;
	reset_common(state, is_bsp);
	state->xcr0 = 1;
	state->msr.pat = UINT64_C(0x0007040600070406);
	state->msr.misc_enable = 0x1801; /* fast strings; no BTS, no PEBS */
	state->msr.feature_control = 1;  /* locked */
	memcpy(state->fxsave, &fcw, sizeof(fcw));
	state->fxsave[4] = 0xff; /* all registers valid */
	memcpy(state->fxsave + 24, &mxcsr, sizeof(mxcsr));
	memcpy(state->fxsave + 28, &mxcsr_mask, sizeof(mxcsr_mask));
}

void cpu_state_init(struct cpu_state *state, bool is_bsp)
{
	reset_common(state, is_bsp);
}

/* --- Get --- */

void cpu_get_state(struct cpu *cpu, struct cpu_state *state)
{
	memset(state, 0, sizeof(*state));
	memcpy(state->regs, cpu->regs, sizeof(state->regs));
	state->rip = cpu->rip;
	state->rflags = cpu_rflags(cpu);
	memcpy(state->seg, cpu->seg, sizeof(state->seg));
	state->gdtr = cpu->gdtr;
	state->idtr = cpu->idtr;
	state->cr0 = cpu->cr0;
	state->cr2 = cpu->cr2;
	state->cr3 = cpu->cr3;
	state->cr4 = cpu->cr4;
	state->cr8 = cpu->bus && cpu->bus->tpr_read ? cpu->bus->tpr_read(cpu->opaque) & 15 : 0;
	state->efer = cpu->efer;
	state->xcr0 = cpu->xcr0;
	memcpy(state->dr, cpu->dr, sizeof(state->dr));
	state->dr6 = cpu->dr6;
	state->dr7 = cpu->dr7;
	state->tsc = cpu_read_tsc(cpu);
	state->msr = cpu->msr;
	memcpy(state->fxsave, cpu->fxsave, 464);
	state->event = cpu->event;
	state->sti_shadow = cpu->shadow_sti;
	state->movss_shadow = cpu->shadow_movss;
	state->nmi_pending = atomic_load(&cpu->request) & REQ_NMI;
	state->nmi_blocked = cpu->nmi_blocked;
	state->activity = cpu->activity;
	state->sipi_vector = cpu->sipi_vector;
}

/* --- Set --- */

static const char *check_control(const struct cpu *cpu, const struct cpu_state *s)
{
	uint64_t cr0_valid = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM |
			     CR0_NW | CR0_CD | CR0_PG;
	bool lma = s->efer & EFER_LMA;

	if (s->cr0 & ~cr0_valid)
		return "reserved bits of CR0 are set";
	if ((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE))
		return "CR0 has paging without protection";
	if ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD))
		return "CR0 has NW without CD";
	if (s->cr4 & ~cr4_valid(cpu))
		return "reserved bits of CR4 are set";
	if (s->cr3 & phys_reserved(cpu))
		return "reserved bits of CR3 are set";
	if (s->cr8 > 15)
		return "CR8 is beyond 15";
	if (s->efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return "reserved bits of EFER are set";
	if (lma != ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)))
		return "EFER.LMA does not follow from LME and CR0.PG";
	if (lma && !(s->cr4 & CR4_PAE))
		return "long mode without CR4.PAE";
	if ((s->cr4 & CR4_PCIDE) && !lma)
		return "CR4.PCIDE without long mode";
	if (s->xcr0 != 1 && s->xcr0 != 3)
		return "XCR0 names components that do not exist";
	return NULL;
}

static const char *check_mode(const struct cpu_state *s)
{
	bool lma = s->efer & EFER_LMA;
	bool code64 = lma && (s->seg[SEG_CS].attr & SEG_L);

	if (s->rflags & ~(uint64_t)(FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF |
				    FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID | 2))
		return "reserved bits of RFLAGS are set";
	if ((s->rflags & FL_VM) && (lma || !(s->cr0 & CR0_PE)))
		return "virtual-8086 mode outside of legacy protected mode";
	if (code64 && (s->seg[SEG_CS].attr & SEG_DB))
		return "CS has both L and D";
	if (code64 ? !is_canonical(s->rip) : s->rip >> 32 != 0)
		return "RIP is impossible in this mode";
	if ((s->cr0 & CR0_PE) && (s->seg[SEG_CS].attr & SEG_UNUSABLE))
		return "CS is null in protected mode";
	for (unsigned i = 0; i < SEG_COUNT; i++)
		if (!is_canonical(s->seg[i].base))
			return "a segment base is not canonical";
	if (!is_canonical(s->gdtr.base) || !is_canonical(s->idtr.base))
		return "a descriptor table base is not canonical";
	if (s->dr6 >> 32 || s->dr7 >> 32)
		return "reserved bits of DR6 or DR7 are set";
	if (s->activity > CPU_SHUTDOWN || s->event.kind > CPU_EVENT_ICEBP)
		return "an unknown activity or kind of event";
	if (s->event.pending && s->event.kind == CPU_EVENT_EXCEPTION && s->event.vector > 31)
		return "an exception with a vector beyond 31";
	return NULL;
}

static const char *check_msrs(const struct cpu_state *s)
{
	const struct cpu_msrs *m = &s->msr;
	uint64_t components;
	uint32_t mxcsr;

	memcpy(&components, s->xsave_ext, sizeof(components));
	if (components)
		return "it holds vector registers beyond SSE, which the software processor has not";
	if (!is_canonical(m->lstar) || !is_canonical(m->cstar) ||
	    !is_canonical(m->kernel_gs_base) || !is_canonical(m->sysenter_esp) ||
	    !is_canonical(m->sysenter_eip))
		return "an MSR that holds an address is not canonical";
	memcpy(&mxcsr, s->fxsave + 24, sizeof(mxcsr));
	if (mxcsr & 0xffff0000)
		return "reserved bits of MXCSR are set";
	return NULL;
}

static void set_requests(struct cpu *cpu, const struct cpu_state *state)
{
	if (state->nmi_pending)
		atomic_fetch_or(&cpu->request, REQ_NMI);
	else
		atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_NMI);
	cpu->sipi_vector = state->sipi_vector;
}

static void take_state(struct cpu *cpu, const struct cpu_state *state)
{
	memcpy(cpu->regs, state->regs, sizeof(state->regs));
	cpu->regs[OP_NO_REG] = 0;
	cpu->rip = state->rip;
	memcpy(cpu->seg, state->seg, sizeof(state->seg));
	cpu->gdtr = state->gdtr;
	cpu->idtr = state->idtr;
	cpu->cr0 = state->cr0 | CR0_ET;
	cpu->cr2 = state->cr2;
	cpu->cr3 = state->cr3;
	cpu->cr4 = state->cr4;
	cpu->efer = state->efer;
	cpu->xcr0 = state->xcr0;
	memcpy(cpu->dr, state->dr, sizeof(state->dr));
	cpu->dr6 = state->dr6 | DR6_FIXED;
	cpu->dr7 = state->dr7 | DR7_FIXED;
	cpu->msr = state->msr;
	cpu->tsc_offset = (int64_t)(state->tsc - __builtin_ia32_rdtsc());
	memcpy(cpu->fxsave, state->fxsave, 464);
	memset(cpu->fxsave + 464, 0, sizeof(cpu->fxsave) - 464);
	cpu->event = state->event;
	/* A software interrupt that was not finished runs again from its instruction. */
	if (cpu->event.kind == CPU_EVENT_SOFT_INT || cpu->event.kind == CPU_EVENT_SOFT_EXC ||
	    cpu->event.kind == CPU_EVENT_ICEBP)
		cpu->event = (struct cpu_event){0};
	cpu->shadow_sti = state->sti_shadow;
	cpu->shadow_movss = state->movss_shadow;
	cpu->nmi_blocked = state->nmi_blocked;
	cpu->activity = state->activity;
	cpu->pending_debug = 0;
	cpu->break_held = state->movss_shadow;
	cpu->pdpte_loaded = false;
}

bool cpu_set_state(struct cpu *cpu, const struct cpu_state *state, GError **error)
{
	const char *why = check_control(cpu, state);

	if (!why)
		why = check_mode(state);
	if (!why)
		why = check_msrs(state);
	if (why) {
		return error_set(error, LODGE_ERROR_INVALID, "cannot take the processor state: %s",
				 why);
	}
	take_state(cpu, state);
	set_requests(cpu, state);
	if (!(cpu->cr0 & CR0_PE))
		cpu->cpl = 0;
	else if (state->rflags & FL_VM)
		cpu->cpl = 3;
	else
		cpu->cpl = (state->seg[SEG_SS].attr & SEG_DPL) >> SEG_DPL_SHIFT;
	cpu_set_rflags(cpu, state->rflags, UINT64_MAX);
	if (cpu->bus && cpu->bus->tpr_write && cpu->bus->tpr_read &&
	    (cpu->bus->tpr_read(cpu->opaque) & 15) != state->cr8)
		cpu->bus->tpr_write(cpu->opaque, state->cr8);
	tlb_flush_all(cpu);
	cpu_mode_changed(cpu);
	return true;
}
