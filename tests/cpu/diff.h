/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Differential test of the processor against the host's: one instruction (or a few) is executed by
 * both, from the same state, at the same addresses, in user mode; then everything is compared.
 *
 * The address space that the instruction sees, in both worlds:
 *   DIFF_CODE   two pages of code, readable and executable; then nothing
 *   DIFF_DATA   two pages of data; nothing on either side
 * Addresses below 64 KiB are not mapped either.
 */
enum {
	DIFF_CONTEXT = 0x10000000, /* the host side's own */
	DIFF_CODE = 0x20000000,
	DIFF_DATA = 0x30000000,
	DIFF_KERNEL = 0x40000000, /* our side's descriptor tables and handlers, not for CPL 3 */
	DIFF_PAGE = 4096,
	DIFF_CODE_SIZE = 2 * DIFF_PAGE,
	DIFF_DATA_SIZE = 2 * DIFF_PAGE,
};

struct cpu_state;

enum diff_mode { DIFF_64, DIFF_32, DIFF_16, DIFF_MODES };

struct diff_state {
	uint64_t regs[16]; /* in encoding order */
	uint64_t rip, rflags;
	_Alignas(64) uint8_t fx[512];
};

struct diff_outcome {
	struct diff_state state;
	int vector; /* -1: the instruction completed */
	uint32_t error;
	uint64_t cr2;
};

struct diff_case {
	enum diff_mode mode;
	uint8_t bytes[256];
	unsigned length; /* of all instructions together */
	unsigned count;  /* how many instructions */
	bool repeats;    /* one instruction with a REP prefix */
	struct diff_state start;
	uint64_t fs_base, gs_base;
	bool warm;           /* ours: the data pages are in the TLB already */
	const uint8_t *data; /* DIFF_DATA_SIZE bytes */
};

/* --- The host's processor (native.c) --- */

/* False, with the reason in @why, where this cannot be done. */
bool native_init(const char **why);
bool native_has_mode(enum diff_mode mode);
/* The bases that FS and GS have on the host. */
uint64_t native_fs_base(void);
uint64_t native_gs_base(void);
/* The data pages are left as the instruction made them: native_data(). */
void native_run(const struct diff_case *test, struct diff_outcome *outcome);
const uint8_t *native_data(void);

/* --- Ours (guest.c) --- */
struct diff_guest;
struct diff_guest *guest_new(void);
void guest_free(struct diff_guest *guest);
void guest_run(struct diff_guest *guest, const struct diff_case *test,
	       struct diff_outcome *outcome);
void guest_get_data(struct diff_guest *guest, uint8_t *to);
/* The system state that every run starts with (control registers and tables), for changes. */
struct cpu_state *guest_base(struct diff_guest *guest);

/* Selectors and bases of the 16-bit segments, made by native.c in the LDT. */
enum { DIFF_CODE16 = 0x07, DIFF_DATA16 = 0x0f };

/* --- The generator (generate.c) --- */

/* What the comparison must know about an instruction. */
struct diff_traits {
	const char *name;
	uint32_t undefined_flags; /* arithmetic flags the manuals leave undefined */
	bool extension;           /* not in our processor's model: must be #UD there */
	uint64_t image;      /* address of an FXSAVE image or x87 environment it writes, or 0 */
	unsigned image_size; /* 512, 28, 14 (environment) */
	/* What processors do in their own ways when the instruction faults: */
	bool free_order;     /* which of its accesses faults first */
	bool free_registers; /* POPA: which registers have been loaded */
	bool free_mmx_state; /* MASKMOVQ: whether MMX state has been entered */
	bool free_flags;     /* DPPS: MXCSR flags of steps that were not taken */
};

/* Prepares what all cases share. */
void generate_init(void);
/* Makes case @index of the series @seed; false where it cannot be used (an instruction that is
 * not valid, or is left out for a reason that generate.c gives). */
/* @sequence: how many instructions without branches; 0 for one of any kind. */
bool generate_case(uint64_t seed, uint64_t index, unsigned sequence, struct diff_case *test,
		   struct diff_traits *traits);
