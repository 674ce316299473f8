// SPDX-License-Identifier: GPL-2.0-or-later
/* Selects the handlers of the system instructions. One table entry per opcode; what the table
 * cannot say (operand sizes, ModRM groups) stands in the functions behind it. */
#include "cpu/sys.h"

static bool is_mem(const struct insn *insn)
{
	return insn->flags & OP_MEM;
}

static bool choose(struct op_choice *choice, op_fn *fn, unsigned size, bool end)
{
	choice->fn = fn;
	choice->size = size;
	choice->end = end;
	return true;
}

/* 64-bit mode: these have 64-bit operands, or 16-bit ones with 66. */
static unsigned stack_operand(const struct insn *insn)
{
	if (insn->code_size != 8)
		return insn->operand_size;
	return insn->flags & OP_OPSIZE && !(insn->flags & OP_REXW) ? 2 : 8;
}

/* Operand size of what is 64 bits wide in 64-bit mode and 32 elsewhere, whatever the prefixes. */
static unsigned machine_word(const struct insn *insn)
{
	return insn->code_size == 8 ? 8 : 4;
}

static unsigned port_size(const struct insn *insn)
{
	return !(insn->opcode & 1) ? 1 : insn->operand_size == 2 ? 2 : 4;
}

static bool has_simd_prefix(const struct insn *insn)
{
	return insn->flags & (OP_OPSIZE | OP_REP | OP_REPNE);
}

/* --- One-byte opcodes --- */

static bool select_not_64(const struct insn *insn, struct op_choice *choice)
{
	unsigned size = insn->operand_size;

	if (insn->code_size == 8)
		return false;
	switch (insn->opcode) {
	case 0x06:
	case 0x0e:
	case 0x16:
	case 0x1e:
		return choose(choice, sys_push_seg, size, false);
	case 0x07:
	case 0x17:
	case 0x1f:
		return choose(choice, sys_pop_seg, size, true);
	case 0x62:
		return is_mem(insn) && choose(choice, sys_bound, size, true);
	case 0x63:
		return choose(choice, sys_arpl, 2, false);
	case 0x9a:
		return choose(choice, sys_far_call_imm, size, true);
	case 0xea:
		return choose(choice, sys_far_jump_imm, size, true);
	case 0xc4:
	case 0xc5:
		return is_mem(insn) && choose(choice, sys_load_far_pointer, size, true);
	case 0xce:
		return choose(choice, sys_into, size, true);
	default:
		return false;
	}
}

static bool select_far_group(const struct insn *insn, struct op_choice *choice)
{
	switch (insn->modrm >> 3 & 7) {
	case 3:
		return is_mem(insn) && choose(choice, sys_far_call_mem, insn->operand_size, true);
	case 5:
		return is_mem(insn) && choose(choice, sys_far_jump_mem, insn->operand_size, true);
	default:
		return false;
	}
}

static bool select_1byte(const struct insn *insn, struct op_choice *choice)
{
	unsigned size = insn->operand_size, sreg = insn->modrm >> 3 & 7;

	switch (insn->opcode) {
	case 0x6c:
	case 0x6d:
		return choose(choice, sys_ins, port_size(insn), true);
	case 0x6e:
	case 0x6f:
		return choose(choice, sys_outs, port_size(insn), true);
	case 0x8c:
		return sreg < 6 && choose(choice, sys_mov_from_seg, size, false);
	case 0x8e:
		return sreg < 6 && sreg != SEG_CS && choose(choice, sys_mov_to_seg, 2, true);
	case 0x9c:
		return choose(choice, sys_pushf, stack_operand(insn), false);
	case 0x9d:
		return choose(choice, sys_popf, stack_operand(insn), true);
	case 0xca:
	case 0xcb:
		return choose(choice, sys_far_ret, size, true);
	case 0xcc:
		return choose(choice, sys_int3, size, true);
	case 0xcd:
		return choose(choice, sys_int, size, true);
	case 0xcf:
		return choose(choice, sys_iret, size, true);
	case 0xe4:
	case 0xe5:
		return choose(choice, sys_in_imm, port_size(insn), true);
	case 0xe6:
	case 0xe7:
		return choose(choice, sys_out_imm, port_size(insn), true);
	case 0xec:
	case 0xed:
		return choose(choice, sys_in_dx, port_size(insn), true);
	case 0xee:
	case 0xef:
		return choose(choice, sys_out_dx, port_size(insn), true);
	case 0xf1:
		return choose(choice, sys_int1, size, true);
	case 0xf4:
		return choose(choice, sys_hlt, size, true);
	case 0xfa:
		return choose(choice, sys_cli, size, false);
	case 0xfb:
		return choose(choice, sys_sti, size, true);
	case 0xff:
		return select_far_group(insn, choice);
	default:
		return select_not_64(insn, choice);
	}
}

/* --- Two-byte opcodes --- */

static bool select_group6(const struct insn *insn, struct op_choice *choice)
{
	switch (insn->modrm >> 3 & 7) {
	case 0:
		return choose(choice, sys_sldt, insn->operand_size, false);
	case 1:
		return choose(choice, sys_str, insn->operand_size, false);
	case 2:
		return choose(choice, sys_lldt, 2, true);
	case 3:
		return choose(choice, sys_ltr, 2, true);
	case 4:
		return choose(choice, sys_verr, 2, false);
	case 5:
		return choose(choice, sys_verw, 2, false);
	default:
		return false;
	}
}

/* 0F 01 with a register form: the whole ModRM byte is the opcode. */
static bool select_0f01_register(const struct insn *insn, struct op_choice *choice)
{
	if ((insn->modrm >> 3 & 7) == 4)
		return choose(choice, sys_smsw, insn->operand_size, false);
	if ((insn->modrm >> 3 & 7) == 6)
		return choose(choice, sys_lmsw, 2, true);
	if (has_simd_prefix(insn) && insn->modrm != 0xf8 && insn->modrm != 0xf9)
		return false;
	switch (insn->modrm) {
	case 0xc1:
	case 0xd9:
		return choose(choice, sys_hypercall, machine_word(insn), true);
	case 0xca:
		return choose(choice, sys_clac, 4, true);
	case 0xcb:
		return choose(choice, sys_stac, 4, true);
	case 0xd0:
		return choose(choice, sys_xgetbv, 4, false);
	case 0xd1:
		return choose(choice, sys_xsetbv, 4, true);
	case 0xf8:
		return insn->code_size == 8 && choose(choice, sys_swapgs, 8, false);
	case 0xf9:
		return choose(choice, sys_rdtscp, 4, false);
	default:
		return false;
	}
}

static bool select_0f01(const struct insn *insn, struct op_choice *choice)
{
	if (!is_mem(insn))
		return select_0f01_register(insn, choice);
	switch (insn->modrm >> 3 & 7) {
	case 0:
		return choose(choice, sys_sgdt, insn->operand_size, false);
	case 1:
		return choose(choice, sys_sidt, insn->operand_size, false);
	case 2:
		return choose(choice, sys_lgdt, insn->operand_size, true);
	case 3:
		return choose(choice, sys_lidt, insn->operand_size, true);
	case 4:
		return choose(choice, sys_smsw, 2, false);
	case 6:
		return choose(choice, sys_lmsw, 2, true);
	case 7:
		return choose(choice, sys_invlpg, insn->operand_size, true);
	default:
		return false;
	}
}

static bool select_fsgsbase(const struct insn *insn, struct op_choice *choice)
{
	static op_fn *const table[] = {sys_rdfsbase, sys_rdgsbase, sys_wrfsbase, sys_wrgsbase};
	unsigned n = insn->modrm >> 3 & 7;

	if (is_mem(insn) || !(insn->flags & OP_REP) || n > 3 || insn->code_size != 8)
		return false;
	return choose(choice, table[n], insn->operand_size == 8 ? 8 : 4, false);
}

static bool select_random(const struct insn *insn, struct op_choice *choice)
{
	unsigned n = insn->modrm >> 3 & 7;

	if (is_mem(insn) || n < 6)
		return false;
	if (insn->flags & OP_REP)
		return n == 7 && choose(choice, sys_rdpid, machine_word(insn), false);
	if (insn->flags & OP_REPNE)
		return false;
	return choose(choice, n == 6 ? sys_rdrand : sys_rdseed, insn->operand_size, false);
}

static bool select_0f_control(const struct insn *insn, struct op_choice *choice)
{
	switch (insn->opcode) {
	case 0x00:
		return select_group6(insn, choice);
	case 0x01:
		return select_0f01(insn, choice);
	case 0x02:
		return choose(choice, sys_lar, insn->operand_size, false);
	case 0x03:
		return choose(choice, sys_lsl, insn->operand_size, false);
	case 0x05:
		return insn->code_size == 8 && choose(choice, sys_syscall, 8, true);
	case 0x06:
		return choose(choice, sys_clts, 4, true);
	case 0x07:
		return insn->code_size == 8 && choose(choice, sys_sysret, 8, true);
	case 0x08:
	case 0x09:
		return choose(choice, sys_wbinvd, 4, true);
	case 0x20:
		return choose(choice, sys_mov_from_cr, machine_word(insn), false);
	case 0x21:
		return choose(choice, sys_mov_from_dr, machine_word(insn), true);
	case 0x22:
		return choose(choice, sys_mov_to_cr, machine_word(insn), true);
	case 0x23:
		return choose(choice, sys_mov_to_dr, machine_word(insn), true);
	default:
		return false;
	}
}

static bool select_0f(const struct insn *insn, struct op_choice *choice)
{
	unsigned size = insn->operand_size;

	switch (insn->opcode) {
	case 0x30:
		return choose(choice, sys_wrmsr, 4, true);
	case 0x31:
		return choose(choice, sys_rdtsc, 4, false);
	case 0x32:
		return choose(choice, sys_rdmsr, 4, false);
	case 0x33:
		return choose(choice, sys_rdpmc, 4, true);
	case 0x34:
		return choose(choice, sys_sysenter, 4, true);
	case 0x35:
		return choose(choice, sys_sysexit, 4, true);
	case 0xa0:
	case 0xa8:
		return choose(choice, sys_push_seg, stack_operand(insn), false);
	case 0xa1:
	case 0xa9:
		return choose(choice, sys_pop_seg, stack_operand(insn), true);
	case 0xa2:
		return choose(choice, sys_cpuid, 4, false);
	case 0xae:
		return select_fsgsbase(insn, choice);
	case 0xb2:
	case 0xb4:
	case 0xb5:
		return is_mem(insn) && choose(choice, sys_load_far_pointer, size, true);
	case 0xc7:
		return select_random(insn, choice);
	default:
		return select_0f_control(insn, choice);
	}
}

bool sys_select(const struct insn *insn, struct op_choice *choice)
{
	if (insn->flags & OP_LOCK)
		return false;
	switch (insn->map) {
	case MAP_1BYTE:
		return select_1byte(insn, choice);
	case MAP_0F:
		return select_0f(insn, choice);
	case MAP_0F38:
		return insn->opcode == 0x82 && is_mem(insn) && (insn->flags & OP_OPSIZE) &&
		       !(insn->flags & (OP_REP | OP_REPNE)) &&
		       choose(choice, sys_invpcid, machine_word(insn), true);
	default:
		return false;
	}
}
