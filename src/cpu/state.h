/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The architectural state of one x86-64 logical processor: the one form in which every accelerator
 * takes it and gives it back, and in which it is saved. It names no accelerator. What an interrupt
 * controller holds (local APIC registers, pending vectors) is not in here.
 *
 * Source: Intel SDM volume 3A, chapters 2, 3, 4, 6 and 17; AMD APM volume 2.
 */

enum cpu_reg {
	CPU_RAX,
	CPU_RCX,
	CPU_RDX,
	CPU_RBX,
	CPU_RSP,
	CPU_RBP,
	CPU_RSI,
	CPU_RDI,
	CPU_R8,
	CPU_R9,
	CPU_R10,
	CPU_R11,
	CPU_R12,
	CPU_R13,
	CPU_R14,
	CPU_R15,
	CPU_REG_COUNT
};

enum cpu_seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* Access rights: bits 8-23 of the second descriptor word, shifted down by 8, limit bits cleared. */
enum cpu_seg_attr {
	SEG_TYPE = 0x000f,
	SEG_ACCESSED = 0x0001,
	SEG_RW = 0x0002, /* data: writable; code: readable */
	SEG_DC = 0x0004, /* data: expand-down; code: conforming */
	SEG_CODE = 0x0008,
	SEG_S = 0x0010, /* code or data, not system */
	SEG_DPL = 0x0060,
	SEG_DPL_SHIFT = 5,
	SEG_P = 0x0080,
	SEG_AVL = 0x1000,
	SEG_L = 0x2000,
	SEG_DB = 0x4000,
	SEG_G = 0x8000,
	SEG_UNUSABLE = 0x0100, /* a null selector was loaded */
};

struct cpu_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, the last valid offset (granularity applied) */
	uint16_t selector;
	uint16_t attr; /* enum cpu_seg_attr */
};

struct cpu_table {
	uint64_t base;
	uint16_t limit;
};

enum cpu_activity {
	CPU_ACTIVE,
	CPU_HALTED,    /* in HLT, woken by an interrupt, NMI or INIT */
	CPU_WAIT_SIPI, /* after INIT, an application processor */
	CPU_SHUTDOWN,  /* triple fault: only a reset helps */
};

enum { CPU_XSAVE_EXT_BYTES = 3584 }; /* up to AVX-512 and PKRU */

enum {
	CPU_MTRR_VARIABLE = 8, /* variable range pairs, MSR 0x200 up */
	CPU_MTRR_FIXED = 11,   /* 0x250, 0x258, 0x259, 0x268 to 0x26f in that order */
};

/* MSRs that are state of the processor itself and are not derivable. */
struct cpu_msrs {
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t tsc_aux, tsc_adjust, pat, misc_enable, spec_ctrl, feature_control;
	uint64_t mtrr_def_type, mtrr_variable[2 * CPU_MTRR_VARIABLE], mtrr_fixed[CPU_MTRR_FIXED];
	uint64_t kvm_wall_clock, kvm_system_time; /* paravirtual clock, see bus msr calls */
};

/* An event that was recognised but not yet delivered (or whose delivery was interrupted). */
struct cpu_event {
	bool pending;
	uint8_t vector;
	uint8_t kind; /* enum cpu_event_kind */
	bool has_error;
	uint32_t error;
};

enum cpu_event_kind {
	CPU_EVENT_INTERRUPT, /* external, acknowledged */
	CPU_EVENT_NMI,
	CPU_EVENT_EXCEPTION, /* fault, trap or abort raised by the processor */
	CPU_EVENT_SOFT_INT,  /* INT n */
	CPU_EVENT_SOFT_EXC,  /* INT3, INTO */
	CPU_EVENT_ICEBP,     /* INT1 (0xf1) */
};

struct cpu_state {
	uint64_t regs[CPU_REG_COUNT]; /* enum cpu_reg */
	uint64_t rip, rflags;
	struct cpu_segment seg[SEG_COUNT];
	struct cpu_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
	uint64_t dr[4], dr6, dr7;
	uint64_t tsc; /* the value RDTSC would have read at the moment of the get */
	struct cpu_msrs msr;
	/* x87, MMX and SSE as FXSAVE64 writes them (SDM 1, table 10-2); bytes 464-511 zero. */
	_Alignas(16) uint8_t fxsave[512];
	/* What a wider processor keeps behind that: XSAVE's standard format from byte 512 on, its
	 * header first (XSTATE_BV without x87 and SSE). All zero where those components are in
	 * their initial state. The software processor takes no other. */
	uint8_t xsave_ext[CPU_XSAVE_EXT_BYTES];
	struct cpu_event event;
	bool sti_shadow, movss_shadow; /* interrupts held off for one instruction */
	bool nmi_pending, nmi_blocked;
	uint8_t activity; /* enum cpu_activity */
	uint8_t sipi_vector;
};

/* Power-on or INIT values (SDM 3A table 9-1). @is_bsp chooses between running at the reset vector
 * and waiting for SIPI. INIT keeps what a reset by INIT keeps (MSRs, FPU, TSC, CR0.CD/NW). */
void cpu_state_reset(struct cpu_state *state, bool is_bsp);
void cpu_state_init(struct cpu_state *state, bool is_bsp);
