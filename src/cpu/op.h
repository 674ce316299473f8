/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Between decode and semantics. `struct insn` is one instruction as the bytes say it, with nothing
 * of the machine's state but the code size; `struct op` is what the dispatch loop executes. A
 * selector turns the one into the other. Three files of selectors share the opcode space: integer
 * (select.c), system (sys_select), floating point and vector (fp_select).
 */

struct cpu;
struct op;

/* A slow handler: does one whole instruction. It may leave by cpu_raise (a fault: no architectural
 * change may have happened before, but for what the architecture says) and, where the op has
 * OP_END, may set cpu->rip, which the dispatch loop has set to the following instruction before the
 * call. */
typedef void op_fn(struct cpu *cpu, const struct op *op);

enum op_map { MAP_1BYTE, MAP_0F, MAP_0F38, MAP_0F3A };

enum { OP_NO_REG = 16 }; /* index of the register slot that always reads zero */

enum op_flags {
	OP_MEM =
		0x01, /* ModRM names memory (or the op has an implied memory operand via base...) */
	OP_LOCK = 0x02,
	OP_REP = 0x04,    /* F3 */
	OP_REPNE = 0x08,  /* F2 */
	OP_REX = 0x10,    /* any REX prefix: SPL, BPL, SIL, DIL instead of AH, CH, DH, BH */
	OP_OPSIZE = 0x20, /* 66 prefix present */
	OP_END = 0x40,    /* ends its block: may change rip, mode, mappings or interrupt state */
	OP_REXW = 0x80,
};

/* One decoded instruction. */
struct insn {
	uint8_t map;    /* enum op_map */
	uint8_t opcode; /* the last opcode byte */
	uint8_t modrm;  /* valid if has_modrm */
	bool has_modrm;
	uint8_t code_size;    /* 2, 4 or 8: 16-bit, 32-bit or 64-bit code */
	uint8_t operand_size; /* 2, 4 or 8 by prefixes and mode (before per-opcode exceptions) */
	uint8_t address_size; /* 2, 4 or 8 */
	uint8_t flags;        /* enum op_flags but for OP_END */
	uint8_t reg, rm;      /* ModRM fields with REX.R and REX.B; rm only for register forms */
	uint8_t base, index, shift; /* memory: OP_NO_REG where absent; the scale as a shift count */
	uint8_t segment; /* enum cpu_seg: the override, or the default for this address */
	bool seg_override;
	bool rip_relative; /* disp is to be added to the following instruction's address */
	uint8_t rex;       /* the low four bits of REX: W R X B */
	uint8_t length;    /* bytes, 1 to 15 */
	int32_t disp;
	uint64_t imm;  /* sign-extended where the opcode says so; far pointers: selector << 32 |
			  offset */
	uint64_t imm2; /* second immediate (ENTER, MOFFS uses imm) */
};

/* One executable record; the layout may be repacked, the names stay. */
struct op {
	const void *handler; /* where the dispatch loop jumps */
	op_fn *fn;           /* the slow handler, for ops that have no fast one */
	uint64_t imm;
	int64_t disp; /* rip-relative already resolved: base is OP_NO_REG then */
	uint8_t base, index, shift, segment;
	uint8_t reg, rm;
	uint8_t size; /* operand size in bytes as selected: 1, 2, 4, 8, 16 */
	uint8_t address_size;
	uint8_t flags; /* enum op_flags */
	uint8_t length;
	uint8_t opcode, modrm;
	uint16_t offset; /* of the instruction from the start of its block */
	uint8_t map, code_size;
};

/* A selector's answer. */
struct op_choice {
	op_fn *fn;
	uint8_t size; /* 0: take insn.operand_size */
	bool end;     /* OP_END */
};

/* Each gets instructions of its part of the opcode space and answers false for #UD. Both must check
 * the LOCK prefix themselves (every instruction of theirs refuses it with #UD). */
bool sys_select(const struct insn *insn, struct op_choice *choice);
bool fp_select(const struct insn *insn, struct op_choice *choice);
/* The dispatch loop's handler (exec.h) for an op of the floating point side, or -1. @form is how
 * its memory operand is addressed: 0 to 2 in the order of exec.inc's forms, 3 for none of them. */
int fp_fast(const struct op *op, unsigned form);
