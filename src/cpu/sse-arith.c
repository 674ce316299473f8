// SPDX-License-Identifier: GPL-2.0-or-later
// SSE to SSE4.1 floating point arithmetic and comparison: what MXCSR governs (SDM 1 chapter 11).
#include "cpu/fp.h"

/* name, instruction, prefix, opcode, bytes of the source. Sources of 16 bytes are aligned. */
#define TWO_OPERANDS(X)                                                                            \
	X(sqrtps, PP_NONE, 0x51, 16)                                                               \
	X(sqrtpd, PP_66, 0x51, 16)                                                                 \
	X(sqrtss, PP_F3, 0x51, 4)                                                                  \
	X(sqrtsd, PP_F2, 0x51, 8)                                                                  \
	X(rsqrtps, PP_NONE, 0x52, 16)                                                              \
	X(rsqrtss, PP_F3, 0x52, 4)                                                                 \
	X(rcpps, PP_NONE, 0x53, 16)                                                                \
	X(rcpss, PP_F3, 0x53, 4)                                                                   \
	X(addps, PP_NONE, 0x58, 16)                                                                \
	X(addpd, PP_66, 0x58, 16)                                                                  \
	X(addss, PP_F3, 0x58, 4)                                                                   \
	X(addsd, PP_F2, 0x58, 8)                                                                   \
	X(mulps, PP_NONE, 0x59, 16)                                                                \
	X(mulpd, PP_66, 0x59, 16)                                                                  \
	X(mulss, PP_F3, 0x59, 4)                                                                   \
	X(mulsd, PP_F2, 0x59, 8)                                                                   \
	X(cvtps2pd, PP_NONE, 0x5a, 8)                                                              \
	X(cvtpd2ps, PP_66, 0x5a, 16)                                                               \
	X(cvtss2sd, PP_F3, 0x5a, 4)                                                                \
	X(cvtsd2ss, PP_F2, 0x5a, 8)                                                                \
	X(cvtdq2ps, PP_NONE, 0x5b, 16)                                                             \
	X(cvtps2dq, PP_66, 0x5b, 16)                                                               \
	X(cvttps2dq, PP_F3, 0x5b, 16)                                                              \
	X(subps, PP_NONE, 0x5c, 16)                                                                \
	X(subpd, PP_66, 0x5c, 16)                                                                  \
	X(subss, PP_F3, 0x5c, 4)                                                                   \
	X(subsd, PP_F2, 0x5c, 8)                                                                   \
	X(minps, PP_NONE, 0x5d, 16)                                                                \
	X(minpd, PP_66, 0x5d, 16)                                                                  \
	X(minss, PP_F3, 0x5d, 4)                                                                   \
	X(minsd, PP_F2, 0x5d, 8)                                                                   \
	X(divps, PP_NONE, 0x5e, 16)                                                                \
	X(divpd, PP_66, 0x5e, 16)                                                                  \
	X(divss, PP_F3, 0x5e, 4)                                                                   \
	X(divsd, PP_F2, 0x5e, 8)                                                                   \
	X(maxps, PP_NONE, 0x5f, 16)                                                                \
	X(maxpd, PP_66, 0x5f, 16)                                                                  \
	X(maxss, PP_F3, 0x5f, 4)                                                                   \
	X(maxsd, PP_F2, 0x5f, 8)                                                                   \
	X(haddpd, PP_66, 0x7c, 16)                                                                 \
	X(haddps, PP_F2, 0x7c, 16)                                                                 \
	X(hsubpd, PP_66, 0x7d, 16)                                                                 \
	X(hsubps, PP_F2, 0x7d, 16)                                                                 \
	X(addsubpd, PP_66, 0xd0, 16)                                                               \
	X(addsubps, PP_F2, 0xd0, 16)                                                               \
	X(cvttpd2dq, PP_66, 0xe6, 16)                                                              \
	X(cvtdq2pd, PP_F3, 0xe6, 8)                                                                \
	X(cvtpd2dq, PP_F2, 0xe6, 16)

#define COMPARES(X)                                                                                \
	X(ucomiss, PP_NONE, 0x2e, 4)                                                               \
	X(ucomisd, PP_66, 0x2e, 8)                                                                 \
	X(comiss, PP_NONE, 0x2f, 4)                                                                \
	X(comisd, PP_66, 0x2f, 8)

/* name, map, prefix, opcode, bytes of the source, encoding on XMM0, XMM1 but for the immediate. */
#define WITH_IMMEDIATE(X)                                                                          \
	X(cmpps, MAP_0F, PP_NONE, 0xc2, 16, "0x0f, 0xc2, 0xc1")                                    \
	X(cmppd, MAP_0F, PP_66, 0xc2, 16, "0x66, 0x0f, 0xc2, 0xc1")                                \
	X(cmpss, MAP_0F, PP_F3, 0xc2, 4, "0xf3, 0x0f, 0xc2, 0xc1")                                 \
	X(cmpsd, MAP_0F, PP_F2, 0xc2, 8, "0xf2, 0x0f, 0xc2, 0xc1")                                 \
	X(roundps, MAP_0F3A, PP_66, 0x08, 16, "0x66, 0x0f, 0x3a, 0x08, 0xc1")                      \
	X(roundpd, MAP_0F3A, PP_66, 0x09, 16, "0x66, 0x0f, 0x3a, 0x09, 0xc1")                      \
	X(roundss, MAP_0F3A, PP_66, 0x0a, 4, "0x66, 0x0f, 0x3a, 0x0a, 0xc1")                       \
	X(roundsd, MAP_0F3A, PP_66, 0x0b, 8, "0x66, 0x0f, 0x3a, 0x0b, 0xc1")                       \
	X(dpps, MAP_0F3A, PP_66, 0x40, 16, "0x66, 0x0f, 0x3a, 0x40, 0xc1")                         \
	X(dppd, MAP_0F3A, PP_66, 0x41, 16, "0x66, 0x0f, 0x3a, 0x41, 0xc1")

static inline const void *load_source(struct cpu *cpu, const struct op *op, void *buffer,
				      unsigned size)
{
	return size == 16 ? fp_load_aligned(cpu, op, buffer) : fp_load(cpu, op, buffer, size);
}

static inline void perform(struct cpu *cpu, sse_body *body, void *dst, const void *src,
			   unsigned imm)
{
	if (G_LIKELY(sse_all_masked(cpu)))
		body(dst, src, imm);
	else
		sse_checked(cpu, body, dst, src, imm);
}

#define DEFINE(name, prefix, opcode, bytes)                                                        \
	static inline void name##_body(void *dst, const void *src, unsigned imm)                   \
	{                                                                                          \
		__m128i value = _mm_loadu_si128(dst), source = fp_vector(src, bytes);              \
		asm volatile(#name " %1, %0" : "+x"(value) : "x"(source));                         \
		_mm_storeu_si128(dst, value);                                                      \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		perform(cpu, name##_body, xmm(cpu, op->reg), xmm(cpu, op->rm), 0);                 \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		perform(cpu, name##_body, xmm(cpu, op->reg), load_source(cpu, op, buffer, bytes),  \
			0);                                                                        \
	}
TWO_OPERANDS(DEFINE)
#undef DEFINE

/* The comparison leaves its flags, in the form of cpu->arith, where the first operand was. */
#define DEFINE(name, prefix, opcode, bytes)                                                        \
	static inline void name##_body(void *dst, const void *src, unsigned imm)                   \
	{                                                                                          \
		__m128i value = fp_vector(dst, bytes), source = fp_vector(src, bytes);             \
		uint32_t flags = 0;                                                                \
		asm volatile(#name " %2, %1\n\tlahf\n\tseto %%al"                                  \
			     : "+a"(flags)                                                         \
			     : "x"(value), "x"(source)                                             \
			     : "cc");                                                              \
		memcpy(dst, &flags, 4);                                                            \
	}                                                                                          \
	static inline void name##_compare(struct cpu *cpu, const struct op *op, const void *src)   \
	{                                                                                          \
		uint8_t operand[16];                                                               \
		memcpy(operand, xmm(cpu, op->reg), 16);                                            \
		perform(cpu, name##_body, operand, src, 0);                                        \
		memcpy(&cpu->arith, operand, 4);                                                   \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		name##_compare(cpu, op, xmm(cpu, op->rm));                                         \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		name##_compare(cpu, op, fp_load(cpu, op, buffer, bytes));                          \
	}
COMPARES(DEFINE)
#undef DEFINE

#define DEFINE(name, map, prefix, opcode, bytes, encoding)                                         \
	IMM_TABLE(lodge_imm_##name, encoding);                                                     \
	static void name##_body(void *dst, const void *src, unsigned imm)                          \
	{                                                                                          \
		lodge_imm_call(dst, src, lodge_imm_##name + 8 * imm);                              \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		perform(cpu, name##_body, xmm(cpu, op->reg), xmm(cpu, op->rm), op->imm & 0xff);    \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		_mm_storeu_si128((void *)buffer,                                                   \
				 fp_vector(load_source(cpu, op, buffer, bytes), bytes));           \
		perform(cpu, name##_body, xmm(cpu, op->reg), buffer, op->imm & 0xff);              \
	}
WITH_IMMEDIATE(DEFINE)
#undef DEFINE

bool sse_arith_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	bool memory = insn->flags & OP_MEM;

	switch (key) {
#define CASE(name, prefix, opcode, bytes)                                                          \
	case FP_KEY(MAP_0F, prefix, opcode):                                                       \
		return fp_chosen(choice, memory ? name##_memory : name##_register, bytes);
		TWO_OPERANDS(CASE)
		COMPARES(CASE)
#undef CASE
#define CASE(name, map, prefix, opcode, bytes, encoding)                                           \
	case FP_KEY(map, prefix, opcode):                                                          \
		return fp_chosen(choice, memory ? name##_memory : name##_register, bytes);
		WITH_IMMEDIATE(CASE)
#undef CASE
	default:
		return false;
	}
}
