// SPDX-License-Identifier: GPL-2.0-or-later
// Vector instructions with an immediate byte that raise no floating point exception, and the
// SSE4.2 string comparisons (SDM 2, "PCMPESTRI" and following; SDM 1 section 12.10).
#include "cpu/fp.h"

/* name, map, prefix, opcode, bytes of the source, encoding on XMM0, XMM1 but for the immediate. */
#define WITH_IMMEDIATE(X)                                                                          \
	X(pshufd, MAP_0F, PP_66, 0x70, 16, "0x66, 0x0f, 0x70, 0xc1")                               \
	X(pshufhw, MAP_0F, PP_F3, 0x70, 16, "0xf3, 0x0f, 0x70, 0xc1")                              \
	X(pshuflw, MAP_0F, PP_F2, 0x70, 16, "0xf2, 0x0f, 0x70, 0xc1")                              \
	X(shufps, MAP_0F, PP_NONE, 0xc6, 16, "0x0f, 0xc6, 0xc1")                                   \
	X(shufpd, MAP_0F, PP_66, 0xc6, 16, "0x66, 0x0f, 0xc6, 0xc1")                               \
	X(blendps, MAP_0F3A, PP_66, 0x0c, 16, "0x66, 0x0f, 0x3a, 0x0c, 0xc1")                      \
	X(blendpd, MAP_0F3A, PP_66, 0x0d, 16, "0x66, 0x0f, 0x3a, 0x0d, 0xc1")                      \
	X(pblendw, MAP_0F3A, PP_66, 0x0e, 16, "0x66, 0x0f, 0x3a, 0x0e, 0xc1")                      \
	X(palignr, MAP_0F3A, PP_66, 0x0f, 16, "0x66, 0x0f, 0x3a, 0x0f, 0xc1")                      \
	X(mpsadbw, MAP_0F3A, PP_66, 0x42, 16, "0x66, 0x0f, 0x3a, 0x42, 0xc1")

#define DEFINE(name, map, prefix, opcode, bytes, encoding)                                         \
	IMM_TABLE(lodge_imm_##name, encoding);                                                     \
	static void name##_register(struct cpu *cpu, const struct op *op)                          \
	{                                                                                          \
		sse_check(cpu);                                                                    \
		lodge_imm_call(xmm(cpu, op->reg), xmm(cpu, op->rm),                                \
			       lodge_imm_##name + 8 * (op->imm & 0xff));                           \
	}                                                                                          \
	static void name##_memory(struct cpu *cpu, const struct op *op)                            \
	{                                                                                          \
		uint8_t buffer[16];                                                                \
		sse_check(cpu);                                                                    \
		lodge_imm_call(xmm(cpu, op->reg), fp_load_aligned(cpu, op, buffer),                \
			       lodge_imm_##name + 8 * (op->imm & 0xff));                           \
	}
WITH_IMMEDIATE(DEFINE)
#undef DEFINE

/* --- String comparison --- */

struct string_compare {
	uint8_t first[16], second[16];
	uint64_t first_length, second_length; /* explicit lengths; sign-extended from 32 bits */
	uint64_t index, flags;                /* results; flags as in cpu->arith */
	uint8_t mask[16];                     /* result */
};
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct string_compare, first_length) == 32);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct string_compare, index) == 48);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct string_compare, mask) == 64);

void lodge_string_call(struct string_compare *compare, const void *routine);
asm(".pushsection .text\n"
    ".type lodge_string_call, @function\n"
    "lodge_string_call:\n"
    "	movups (%rdi), %xmm1\n"
    "	movups 16(%rdi), %xmm2\n"
    "	mov %rsi, %r8\n"
    "	mov 32(%rdi), %rax\n"
    "	mov 40(%rdi), %rdx\n"
    "	xor %ecx, %ecx\n"
    "	pxor %xmm0, %xmm0\n"
    "	call *%r8\n"
    "	lahf\n"
    "	seto %al\n"
    "	movzwl %ax, %eax\n"
    "	mov %rcx, 48(%rdi)\n"
    "	mov %rax, 56(%rdi)\n"
    "	movups %xmm0, 64(%rdi)\n"
    "	ret\n"
    ".size lodge_string_call, . - lodge_string_call\n"
    ".popsection\n");

/* On XMM1 and XMM2; the explicit lengths are 64-bit ones. */
IMM_TABLE(lodge_imm_pcmpestrm, "0x66, 0x48, 0x0f, 0x3a, 0x60, 0xca");
IMM_TABLE(lodge_imm_pcmpestri, "0x66, 0x48, 0x0f, 0x3a, 0x61, 0xca");
IMM_TABLE(lodge_imm_pcmpistrm, "0x66, 0x0f, 0x3a, 0x62, 0xca");
IMM_TABLE(lodge_imm_pcmpistri, "0x66, 0x0f, 0x3a, 0x63, 0xca");

static void compare_strings(struct cpu *cpu, const struct op *op)
{
	static const uint8_t *const routines[4] = {lodge_imm_pcmpestrm, lodge_imm_pcmpestri,
						   lodge_imm_pcmpistrm, lodge_imm_pcmpistri};
	struct string_compare compare;
	uint8_t buffer[16];
	uint64_t rax = cpu->regs[CPU_RAX], rdx = cpu->regs[CPU_RDX];

	sse_check(cpu);
	memcpy(compare.first, xmm(cpu, op->reg), 16);
	if (op->flags & OP_MEM)
		memcpy(compare.second, fp_load(cpu, op, buffer, 16), 16);
	else
		memcpy(compare.second, xmm(cpu, op->rm), 16);
	compare.first_length = op_is_wide(op) ? rax : (uint64_t)(int64_t)(int32_t)rax;
	compare.second_length = op_is_wide(op) ? rdx : (uint64_t)(int64_t)(int32_t)rdx;
	lodge_string_call(&compare, routines[op->opcode & 3] + 8 * (op->imm & 0xff));
	if (op->opcode & 1)
		cpu->regs[CPU_RCX] = compare.index;
	else
		memcpy(xmm(cpu, 0), compare.mask, 16);
	cpu->arith = (uint32_t)compare.flags;
}

bool sse_imm_select(unsigned key, const struct insn *insn, struct op_choice *choice)
{
	bool memory = insn->flags & OP_MEM;

	switch (key) {
#define CASE(name, map, prefix, opcode, bytes, encoding)                                           \
	case FP_KEY(map, prefix, opcode):                                                          \
		return fp_chosen(choice, memory ? name##_memory : name##_register, bytes);
		WITH_IMMEDIATE(CASE)
#undef CASE
	case FP_KEY(MAP_0F3A, PP_66, 0x60):
	case FP_KEY(MAP_0F3A, PP_66, 0x61):
	case FP_KEY(MAP_0F3A, PP_66, 0x62):
	case FP_KEY(MAP_0F3A, PP_66, 0x63):
		return fp_chosen(choice, compare_strings, 16);
	default:
		return false;
	}
}
