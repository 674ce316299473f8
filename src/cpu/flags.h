/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Arithmetic by the host's own instructions, so that results and all six flags are the host's: each
 * is the instruction followed by LAHF and SETO, which leaves AX in the form of cpu->arith. Rotates
 * and INC/DEC get the flags they keep by SAHF or BT before.
 */

enum {
	ARITH_OF = 0x0001,
	ARITH_CF = 0x0100,
	ARITH_PF = 0x0400,
	ARITH_AF = 0x1000,
	ARITH_ZF = 0x4000,
	ARITH_SF = 0x8000
};

#define FLAGS_SAVE "\n\tlahf\n\tseto %%al"

#define DEFINE_BINARY(name, insn, T, bits)                                                         \
	static inline T name##bits(T a, T b, uint32_t *arith)                                      \
	{                                                                                          \
		uint32_t ax = 0;                                                                   \
		__asm__(insn " %[b],%[a]" FLAGS_SAVE : [a] "+r"(a), "+a"(ax) : [b] "r"(b) : "cc"); \
		*arith = ax;                                                                       \
		return a;                                                                          \
	}
#define DEFINE_CARRY(name, insn, T, bits)                                                          \
	static inline T name##bits(T a, T b, uint32_t *arith)                                      \
	{                                                                                          \
		uint32_t ax = *arith;                                                              \
		__asm__("sahf\n\t" insn " %[b],%[a]" FLAGS_SAVE                                    \
			: [a] "+r"(a), "+a"(ax)                                                    \
			: [b] "r"(b)                                                               \
			: "cc");                                                                   \
		*arith = ax;                                                                       \
		return a;                                                                          \
	}
#define DEFINE_UNARY(name, insn, T, bits)                                                          \
	static inline T name##bits(T a, uint32_t *arith)                                           \
	{                                                                                          \
		uint32_t ax = *arith;                                                              \
		__asm__("sahf\n\t" insn " %[a]" FLAGS_SAVE : [a] "+r"(a), "+a"(ax) : : "cc");      \
		*arith = ax;                                                                       \
		return a;                                                                          \
	}
/* @count must not be zero (after masking): then the instruction changes no flags at all. */
#define DEFINE_SHIFT(name, insn, T, bits)                                                          \
	static inline T name##bits(T a, uint8_t count, uint32_t *arith)                            \
	{                                                                                          \
		uint32_t ax = *arith;                                                              \
		__asm__("sahf\n\t" insn " %%cl,%[a]" FLAGS_SAVE                                    \
			: [a] "+r"(a), "+a"(ax)                                                    \
			: "c"(count)                                                               \
			: "cc");                                                                   \
		*arith = ax;                                                                       \
		return a;                                                                          \
	}
#define DEFINE_DOUBLE_SHIFT(name, insn, T, bits)                                                   \
	static inline T name##bits(T a, T b, uint8_t count, uint32_t *arith)                       \
	{                                                                                          \
		uint32_t ax = *arith;                                                              \
		__asm__("sahf\n\t" insn " %%cl,%[b],%[a]" FLAGS_SAVE                               \
			: [a] "+r"(a), "+a"(ax)                                                    \
			: [b] "r"(b), "c"(count)                                                   \
			: "cc");                                                                   \
		*arith = ax;                                                                       \
		return a;                                                                          \
	}

#define DEFINE_SIZES(define, name, insn)                                                           \
	define(name, insn "b", uint8_t, 8) define(name, insn "w", uint16_t, 16)                    \
		define(name, insn "l", uint32_t, 32) define(name, insn "q", uint64_t, 64)

DEFINE_SIZES(DEFINE_BINARY, flags_add, "add")
DEFINE_SIZES(DEFINE_BINARY, flags_or, "or")
DEFINE_SIZES(DEFINE_CARRY, flags_adc, "adc")
DEFINE_SIZES(DEFINE_CARRY, flags_sbb, "sbb")
DEFINE_SIZES(DEFINE_BINARY, flags_and, "and")
DEFINE_SIZES(DEFINE_BINARY, flags_sub, "sub")
DEFINE_SIZES(DEFINE_BINARY, flags_xor, "xor")
DEFINE_SIZES(DEFINE_UNARY, flags_inc, "inc")
DEFINE_SIZES(DEFINE_UNARY, flags_dec, "dec")
DEFINE_SIZES(DEFINE_UNARY, flags_neg, "neg")
DEFINE_SIZES(DEFINE_SHIFT, flags_rol, "rol")
DEFINE_SIZES(DEFINE_SHIFT, flags_ror, "ror")
DEFINE_SIZES(DEFINE_SHIFT, flags_rcl, "rcl")
DEFINE_SIZES(DEFINE_SHIFT, flags_rcr, "rcr")
DEFINE_SIZES(DEFINE_SHIFT, flags_shl, "shl")
DEFINE_SIZES(DEFINE_SHIFT, flags_shr, "shr")
DEFINE_SIZES(DEFINE_SHIFT, flags_sar, "sar")
DEFINE_DOUBLE_SHIFT(flags_shld, "shldw", uint16_t, 16)
DEFINE_DOUBLE_SHIFT(flags_shld, "shldl", uint32_t, 32)
DEFINE_DOUBLE_SHIFT(flags_shld, "shldq", uint64_t, 64)
DEFINE_DOUBLE_SHIFT(flags_shrd, "shrdw", uint16_t, 16)
DEFINE_DOUBLE_SHIFT(flags_shrd, "shrdl", uint32_t, 32)
DEFINE_DOUBLE_SHIFT(flags_shrd, "shrdq", uint64_t, 64)
DEFINE_BINARY(flags_imul, "imulw", uint16_t, 16)
DEFINE_BINARY(flags_imul, "imull", uint32_t, 32)
DEFINE_BINARY(flags_imul, "imulq", uint64_t, 64)

/* Condition code 0-15 of Jcc, SETcc, CMOVcc. */
static inline bool flags_condition(uint32_t arith, unsigned cc)
{
	bool result;

	switch (cc >> 1) {
	case 0:
		result = arith & ARITH_OF;
		break;
	case 1:
		result = arith & ARITH_CF;
		break;
	case 2:
		result = arith & ARITH_ZF;
		break;
	case 3:
		result = arith & (ARITH_CF | ARITH_ZF);
		break;
	case 4:
		result = arith & ARITH_SF;
		break;
	case 5:
		result = arith & ARITH_PF;
		break;
	case 6:
		result = ((arith >> 15) ^ arith) & 1;
		break;
	default:
		result = (((arith >> 15) ^ arith) & 1) | (arith & ARITH_ZF);
		break;
	}
	return result ^ (cc & 1);
}
