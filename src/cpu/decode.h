/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/op.h"

enum decode_result {
	DECODE_OK,
	DECODE_MORE,     /* the bytes end before the instruction does */
	DECODE_TOO_LONG, /* more than 15 bytes: #GP(0) */
	DECODE_INVALID,  /* an encoding without meaning: #UD; insn->length is what was read */
};

enum { INSN_MAX = 15 };

/*
 * Decodes the instruction at @bytes, of which @available may be read, for code of @code_size (2, 4
 * or 8). Knows the length of everything in the four opcode maps; whether an opcode means anything
 * is the selectors' business, except where the encoding alone decides (VEX, EVEX, opcodes that
 * 64-bit mode took away).
 *
 * Source: Intel SDM 2A chapter 2, 2D appendix A.
 */
enum decode_result decode(const uint8_t *bytes, unsigned available, unsigned code_size,
			  struct insn *insn);
