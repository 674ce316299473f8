// SPDX-License-Identifier: GPL-2.0-or-later
// Vector instructions on XMM registers that raise no floating point exception: integer arithmetic,
// logic, comparison, packing, shifts, sign and zero extension (SDM 1 sections 11.4.2, 12.x).
#include "cpu/fp.h"
#include "cpu/packed.h"

/* name, map, prefix, opcode, bytes of the source; sources of 16 bytes are aligned. */
#define XMM_ONLY(X)                                                                                \
	X(unpcklps, MAP_0F, PP_NONE, 0x14, 16)                                                     \
	X(unpcklpd, MAP_0F, PP_66, 0x14, 16)                                                       \
	X(unpckhps, MAP_0F, PP_NONE, 0x15, 16)                                                     \
	X(unpckhpd, MAP_0F, PP_66, 0x15, 16)                                                       \
	X(andps, MAP_0F, PP_NONE, 0x54, 16)                                                        \
	X(andpd, MAP_0F, PP_66, 0x54, 16)                                                          \
	X(andnps, MAP_0F, PP_NONE, 0x55, 16)                                                       \
	X(andnpd, MAP_0F, PP_66, 0x55, 16)                                                         \
	X(orps, MAP_0F, PP_NONE, 0x56, 16)                                                         \
	X(orpd, MAP_0F, PP_66, 0x56, 16)                                                           \
	X(xorps, MAP_0F, PP_NONE, 0x57, 16)                                                        \
	X(xorpd, MAP_0F, PP_66, 0x57, 16)                                                          \
	X(punpcklqdq, MAP_0F, PP_66, 0x6c, 16)                                                     \
	X(punpckhqdq, MAP_0F, PP_66, 0x6d, 16)                                                     \
	X(pmovsxbw, MAP_0F38, PP_66, 0x20, 8)                                                      \
	X(pmovsxbd, MAP_0F38, PP_66, 0x21, 4)                                                      \
	X(pmovsxbq, MAP_0F38, PP_66, 0x22, 2)                                                      \
	X(pmovsxwd, MAP_0F38, PP_66, 0x23, 8)                                                      \
	X(pmovsxwq, MAP_0F38, PP_66, 0x24, 4)                                                      \
	X(pmovsxdq, MAP_0F38, PP_66, 0x25, 8)                                                      \
	X(pmuldq, MAP_0F38, PP_66, 0x28, 16)                                                       \
	X(pcmpeqq, MAP_0F38, PP_66, 0x29, 16)                                                      \
	X(packusdw, MAP_0F38, PP_66, 0x2b, 16)                                                     \
	X(pmovzxbw, MAP_0F38, PP_66, 0x30, 8)                                                      \
	X(pmovzxbd, MAP_0F38, PP_66, 0x31, 4)                                                      \
	X(pmovzxbq, MAP_0F38, PP_66, 0x32, 2)                                                      \
	X(pmovzxwd, MAP_0F38, PP_66, 0x33, 8)                                                      \
	X(pmovzxwq, MAP_0F38, PP_66, 0x34, 4)                                                      \
	X(pmovzxdq, MAP_0F38, PP_66, 0x35, 8)                                                      \
	X(pcmpgtq, MAP_0F38, PP_66, 0x37, 16)                                                      \
	X(pminsb, MAP_0F38, PP_66, 0x38, 16)                                                       \
	X(pminsd, MAP_0F38, PP_66, 0x39, 16)                                                       \
	X(pminuw, MAP_0F38, PP_66, 0x3a, 16)                                                       \
	X(pminud, MAP_0F38, PP_66, 0x3b, 16)                                                       \
	X(pmaxsb, MAP_0F38, PP_66, 0x3c, 16)                                                       \
	X(pmaxsd, MAP_0F38, PP_66, 0x3d, 16)                                                       \
	X(pmaxuw, MAP_0F38, PP_66, 0x3e, 16)                                                       \
	X(pmaxud, MAP_0F38, PP_66, 0x3f, 16)                                                       \
	X(pmulld, MAP_0F38, PP_66, 0x40, 16)                                                       \
	X(phminposuw, MAP_0F38, PP_66, 0x41, 16)

/* name, opcode: the mask is XMM0. */
#define VARIABLE_BLENDS(X)                                                                         \
	X(pblendvb, 0x10)                                                                          \
	X(blendvps, 0x14)                                                                          \
	X(blendvpd, 0x15)

/* name, opcode, reg field: the count is an immediate byte, the operand ModRM.rm. */
#define SHIFTS(X)                                                                                  \
	X(psrlw, 0x71, 2)                                                                          \
	X(psraw, 0x71, 4)                                                                          \
	X(psllw, 0x71, 6)                                                                          \
	X(psrld, 0x72, 2)                                                                          \
	X(psrad, 0x72, 4)                                                                          \
	X(pslld, 0x72, 6)                                                                          \
	X(psrlq, 0x73, 2)                                                                          \
	X(psllq, 0x73, 6)

static inline const void *load_source(struct cpu *cpu, const struct op *op, void *buffer,
				      unsigned size)
{
	if (size == 16)
		return fp_load_aligned(cpu, op, buffer);
	if (size == 2) {
		uint64_t value = mem_read(cpu, op->segment, op_offset(cpu, op), 2);
		memcpy(buffer, &value, 8);
		memset((uint8_t *)buffer + 8, 0, 8);
		return buffer;
	}
	return fp_load(cpu, op, buffer, size);
}

/* A register source is read in whole, whatever its memory form reads. */
#define DEFINE(name, map, prefix, opcode, bytes)                                                   \
	static inline void name##_body(void *dst, const void *src, unsigned size)                  \
	{                                                                                          \
		__m128i value = _mm_loadu_si128(dst), source = fp_vector(src, size);               \
		asm(#name " %1, %0" : "+x"(value) : "x"(source));                                  \
		_mm_storeu_si128(dst, value);                                                      \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		name##_body(xmm(cpu, op->reg), xmm(cpu, op->rm), 16);                              \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		name##_body(xmm(cpu, op->reg), load_source(cpu, op, buffer, bytes), bytes);        \
	}
XMM_ONLY(DEFINE)
#define DEFINE_PACKED(name, map, opcode) DEFINE(name, map, PP_66, opcode, 16)
PACKED(DEFINE_PACKED)
#undef DEFINE_PACKED
#undef DEFINE

#define DEFINE(name, opcode)                                                                       \
	static inline void name##_body(struct cpu *cpu, const struct op *op, const void *src)      \
	{                                                                                          \
		__m128i value = _mm_loadu_si128((void *)xmm(cpu, op->reg));                        \
		__m128i source = _mm_loadu_si128(src),                                             \
			mask = _mm_loadu_si128((void *)xmm(cpu, 0));                               \
		asm("movdqa %2, %%xmm0\n\t" #name " %%xmm0, %1, %0"                                \
		    : "+x"(value)                                                                  \
		    : "x"(source), "x"(mask)                                                       \
		    : "xmm0");                                                                     \
		_mm_storeu_si128((void *)xmm(cpu, op->reg), value);                                \
	}                                                                                          \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		name##_body(cpu, op, xmm(cpu, op->rm));                                            \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		name##_body(cpu, op, fp_load_aligned(cpu, op, buffer));                            \
	}
VARIABLE_BLENDS(DEFINE)
#undef DEFINE

#define DEFINE(name, opcode, field)                                                                \
	static void name##_immediate(struct cpu *cpu, const struct op *op)                         \
	{                                                                                          \
		uint64_t count[2] = {op->imm & 0xff, 0};                                           \
		sse_check(cpu);                                                                    \
		name##_body(xmm(cpu, op->rm), count, 16);                                          \
	}
SHIFTS(DEFINE)
#undef DEFINE

/* Byte shifts of the whole register: a window of 16 bytes into the value between zeros. */
static void psrldq_immediate(struct cpu *cpu, const struct op *op)
{
	uint8_t wide[32] = {0};

	sse_check(cpu);
	memcpy(wide, xmm(cpu, op->rm), 16);
	memcpy(xmm(cpu, op->rm), wide + MIN(op->imm & 0xff, 16), 16);
}

static void pslldq_immediate(struct cpu *cpu, const struct op *op)
{
	uint8_t wide[32] = {0};

	sse_check(cpu);
	memcpy(wide + 16, xmm(cpu, op->rm), 16);
	memcpy(xmm(cpu, op->rm), wide + 16 - MIN(op->imm & 0xff, 16), 16);
}

static inline void ptest(struct cpu *cpu, const struct op *op, const void *src)
{
	__m128i value = _mm_loadu_si128((void *)xmm(cpu, op->reg)), source = _mm_loadu_si128(src);
	uint32_t flags = 0;

	asm("ptest %2, %1\n\tlahf\n\tseto %%al" : "+a"(flags) : "x"(value), "x"(source) : "cc");
	cpu->arith = flags;
}

static void ptest_register(struct cpu *cpu, const struct op *op)
{
	sse_check(cpu);
	ptest(cpu, op, xmm(cpu, op->rm));
}

static void ptest_memory(struct cpu *cpu, const struct op *op)
{
	uint8_t buffer[16];

	sse_check(cpu);
	ptest(cpu, op, fp_load_aligned(cpu, op, buffer));
}

static bool select_shift(const struct insn *insn, struct op_choice *choice)
{
	if (insn->flags & OP_MEM)
		return false;
	switch (insn->opcode << 3 | (insn->modrm >> 3 & 7)) {
#define CASE(name, opcode, field)                                                                  \
	case opcode << 3 | field:                                                                  \
		return fp_chosen(choice, name##_immediate, 16);
		SHIFTS(CASE)
#undef CASE
	case 0x73 << 3 | 3:
		return fp_chosen(choice, psrldq_immediate, 16);
	case 0x73 << 3 | 7:
		return fp_chosen(choice, pslldq_immediate, 16);
	default:
		return false;
	}
}

bool sse_int_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	bool memory = insn->flags & OP_MEM;

	switch (key) {
#define CASE(name, map, prefix, opcode, bytes)                                                     \
	case FP_KEY(map, prefix, opcode):                                                          \
		return fp_chosen(choice, memory ? name##_memory : name##_register, bytes);
		XMM_ONLY(CASE)
#define CASE_PACKED(name, map, opcode) CASE(name, map, PP_66, opcode, 16)
		PACKED(CASE_PACKED)
#undef CASE_PACKED
#undef CASE
#define CASE(name, opcode)                                                                         \
	case FP_KEY(MAP_0F38, PP_66, opcode):                                                      \
		return fp_chosen(choice, memory ? name##_memory : name##_register, 16);
		VARIABLE_BLENDS(CASE)
#undef CASE
	case FP_KEY(MAP_0F38, PP_66, 0x17):
		return fp_chosen(choice, memory ? ptest_memory : ptest_register, 16);
	case FP_KEY(MAP_0F, PP_66, 0x71):
	case FP_KEY(MAP_0F, PP_66, 0x72):
	case FP_KEY(MAP_0F, PP_66, 0x73):
		return select_shift(insn, choice);
	default:
		return false;
	}
}
