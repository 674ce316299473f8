// SPDX-License-Identifier: GPL-2.0-or-later
// Conversions between XMM registers and general or MMX registers (SDM 1 sections 10.4.4, 11.4.1.6).
#include "cpu/fp.h"

/* name, wide: conversion to a general register; prefix, opcode, bytes of the source. */
#define TO_INTEGER(X)                                                                              \
	X(cvtss2si, PP_F3, 0x2d, 4)                                                                \
	X(cvtsd2si, PP_F2, 0x2d, 8)                                                                \
	X(cvttss2si, PP_F3, 0x2c, 4)                                                               \
	X(cvttsd2si, PP_F2, 0x2c, 8)

#define FROM_INTEGER(X)                                                                            \
	X(cvtsi2ss, PP_F3, 0x2a)                                                                   \
	X(cvtsi2sd, PP_F2, 0x2a)

/* To and from MMX: source bytes, and whether a source of 16 bytes. */
#define TO_MMX(X)                                                                                  \
	X(cvtps2pi, PP_NONE, 0x2d, 8)                                                              \
	X(cvtpd2pi, PP_66, 0x2d, 16)                                                               \
	X(cvttps2pi, PP_NONE, 0x2c, 8)                                                             \
	X(cvttpd2pi, PP_66, 0x2c, 16)

#define FROM_MMX(X)                                                                                \
	X(cvtpi2ps, PP_NONE, 0x2a)                                                                 \
	X(cvtpi2pd, PP_66, 0x2a)

static inline void perform(struct cpu *cpu, sse_body *body, void *dst, const void *src)
{
	if (G_LIKELY(sse_all_masked(cpu)))
		body(dst, src, 0);
	else
		sse_checked(cpu, body, dst, src, 0);
}

/* The body writes 64 bits; the 32-bit form zero-extends. */
#define DEFINE_WIDTH(name, bytes, suffix, type)                                                    \
	static inline void name##suffix##_body(void *dst, const void *src, unsigned imm)           \
	{                                                                                          \
		__m128i source = fp_vector(src, bytes);                                            \
		type value;                                                                        \
		asm volatile(#name " %1, %0" : "=r"(value) : "x"(source));                         \
		uint64_t result = value;                                                           \
		memcpy(dst, &result, 8);                                                           \
	}                                                                                          \
	static inline void name##suffix##_convert(struct cpu *cpu, const struct op *op,            \
						  const void *src)                                 \
	{                                                                                          \
		uint64_t result[2] = {0, 0};                                                       \
		perform(cpu, name##suffix##_body, result, src);                                    \
		fp_set_reg(cpu, op->reg, result[0]);                                               \
	}                                                                                          \
	static void name##suffix##_register(struct cpu *cpu, const struct op *op)                  \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		name##suffix##_convert(cpu, op, xmm(cpu, op->rm));                                 \
	}                                                                                          \
	static void name##suffix##_memory(struct cpu *cpu, const struct op *op)                    \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		name##suffix##_convert(cpu, op, fp_load(cpu, op, buffer, bytes));                  \
	}
#define DEFINE(name, prefix, opcode, bytes)                                                        \
	DEFINE_WIDTH(name, bytes, _32, uint32_t)                                                   \
	DEFINE_WIDTH(name, bytes, _64, uint64_t)
TO_INTEGER(DEFINE)
#undef DEFINE
#undef DEFINE_WIDTH

#define DEFINE_WIDTH(name, suffix, type, letter)                                                   \
	static inline void name##suffix##_body(void *dst, const void *src, unsigned imm)           \
	{                                                                                          \
		__m128i value = _mm_loadu_si128(dst);                                              \
		type source;                                                                       \
		memcpy(&source, src, sizeof(source));                                              \
		asm volatile(#name letter " %1, %0" : "+x"(value) : "r"(source));                  \
		_mm_storeu_si128(dst, value);                                                      \
	}                                                                                          \
	static void name##suffix##_register(struct cpu *cpu, const struct op *op)                  \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		perform(cpu, name##suffix##_body, xmm(cpu, op->reg), &cpu->regs[op->rm]);          \
	}                                                                                          \
	static void name##suffix##_memory(struct cpu *cpu, const struct op *op)                    \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		perform(cpu, name##suffix##_body, xmm(cpu, op->reg),                               \
			fp_load(cpu, op, buffer, sizeof(type)));                                   \
	}
#define DEFINE(name, prefix, opcode)                                                               \
	DEFINE_WIDTH(name, _32, uint32_t, "l")                                                     \
	DEFINE_WIDTH(name, _64, uint64_t, "q")
FROM_INTEGER(DEFINE)
#undef DEFINE
#undef DEFINE_WIDTH

/* The x87 unit of the host is scratch in MMX state, so that MM0 is free for use. The change of
 * state comes after everything that can fault. */
#define DEFINE(name, prefix, opcode, bytes)                                                        \
	static void name##_body(void *dst, const void *src, unsigned imm)                          \
	{                                                                                          \
		__m128i source = fp_vector(src, bytes);                                            \
		asm volatile(#name " %1, %%mm0\n\tmovq %%mm0, %0"                                  \
			     : "=m"(*(uint64_t *)dst)                                              \
			     : "x"(source)                                                         \
			     : "mm0");                                                             \
	}                                                                                          \
	static void name##_convert(struct cpu *cpu, const struct op *op, const void *src)          \
	{                                                                                          \
		uint64_t result[2] = {0, 0};                                                       \
		mmx_begin(cpu);                                                                    \
		perform(cpu, name##_body, result, src);                                            \
		memcpy(mm(cpu, op->reg), result, 8);                                               \
		mm_written(cpu, op->reg);                                                          \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		mmx_check(cpu);                                                                    \
		name##_convert(cpu, op, xmm(cpu, op->rm));                                         \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		mmx_check(cpu);                                                                    \
		name##_convert(cpu, op,                                                            \
			       bytes == 16 ? fp_load_aligned(cpu, op, buffer)                      \
					   : fp_load(cpu, op, buffer, 8));                         \
	}
TO_MMX(DEFINE)
#undef DEFINE

#define DEFINE(name, prefix, opcode)                                                               \
	static void name##_body(void *dst, const void *src, unsigned imm)                          \
	{                                                                                          \
		__m128i value = _mm_loadu_si128(dst);                                              \
		asm volatile("movq %1, %%mm0\n\t" #name " %%mm0, %0"                               \
			     : "+x"(value)                                                         \
			     : "m"(*(const uint64_t *)src)                                         \
			     : "mm0");                                                             \
		_mm_storeu_si128(dst, value);                                                      \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		mmx_check(cpu);                                                                    \
		mmx_begin(cpu);                                                                    \
		perform(cpu, name##_body, xmm(cpu, op->reg), mm(cpu, op->rm));                     \
	}
FROM_MMX(DEFINE)
#undef DEFINE

/* From memory they have nothing to do with MMX state, and are conversions of packed integers. */
static void cvtpi2pd_memory_body(void *dst, const void *src, unsigned imm)
{
	_mm_storeu_pd(dst, _mm_cvtepi32_pd(fp_vector(src, 8)));
}

static void cvtpi2ps_memory_body(void *dst, const void *src, unsigned imm)
{
	__m128i source = fp_vector(src, 8);

	asm volatile("cvtdq2ps %0, %0" : "+x"(source));
	_mm_storel_epi64(dst, source);
}

#define DEFINE(name, prefix, opcode)                                                               \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		perform(cpu, name##_memory_body, xmm(cpu, op->reg), fp_load(cpu, op, buffer, 8));  \
	}
FROM_MMX(DEFINE)
#undef DEFINE

bool sse_convert_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	bool memory = insn->flags & OP_MEM, wide = insn->flags & OP_REXW;

	switch (key) {
#define CASE(name, prefix, opcode, ...)                                                            \
	case FP_KEY(MAP_0F, prefix, opcode):                                                       \
		if (wide)                                                                          \
			return fp_chosen(choice, memory ? name##_64_memory : name##_64_register,   \
					 8);                                                       \
		return fp_chosen(choice, memory ? name##_32_memory : name##_32_register, 4);
		TO_INTEGER(CASE)
		FROM_INTEGER(CASE)
#undef CASE
#define CASE(name, prefix, opcode, ...)                                                            \
	case FP_KEY(MAP_0F, prefix, opcode):                                                       \
		return fp_chosen(choice, memory ? name##_memory : name##_register, 8);
		TO_MMX(CASE)
		FROM_MMX(CASE)
#undef CASE
	default:
		return false;
	}
}
