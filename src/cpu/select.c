// SPDX-License-Identifier: GPL-2.0-or-later
/* From a decoded instruction to its slow handler and operand size: the integer part of the opcode
 * maps here, the rest asked of sys_select and fp_select. */
#include "cpu/alu.h"
#include "cpu/cache.h"
#include "cpu/flags.h"

enum { ALL_FLAGS = ARITH_OF | ARITH_CF | ARITH_PF | ARITH_AF | ARITH_ZF | ARITH_SF };

/* The answer for one instruction; a NULL fn is #UD. */
struct selection {
	op_fn *fn;
	uint8_t size;
	bool end, lockable;
	uint8_t rm; /* register of forms without ModRM */
};

/* Near branches and the stack: 64 bits in 64-bit mode; a 66 prefix makes pushes 16 bits wide, and
 * does nothing to branches. */
static uint8_t branch_size(const struct insn *insn)
{
	return insn->code_size == 8 ? 8 : insn->operand_size;
}

static uint8_t stack_operand_size(const struct insn *insn)
{
	if (insn->code_size != 8)
		return insn->operand_size;
	return (insn->flags & (OP_OPSIZE | OP_REXW)) == OP_OPSIZE ? 2 : 8;
}

static uint8_t byte_or_full(const struct insn *insn)
{
	return insn->opcode & 1 ? insn->operand_size : 1;
}

static unsigned group(const struct insn *insn)
{
	return (insn->modrm >> 3) & 7;
}

static bool is_memory(const struct insn *insn)
{
	return insn->flags & OP_MEM;
}

static void select_sys(const struct insn *insn, struct selection *s)
{
	struct op_choice choice = {0};

	if (!sys_select(insn, &choice))
		return;
	s->fn = choice.fn;
	s->end = choice.end;
	s->size = choice.size ? choice.size : insn->operand_size;
	s->lockable = true; /* it has checked by itself */
}

static void select_fp(const struct insn *insn, struct selection *s)
{
	struct op_choice choice = {0};

	if (!fp_select(insn, &choice))
		return;
	s->fn = choice.fn;
	s->end = choice.end;
	s->size = choice.size ? choice.size : insn->operand_size;
	s->lockable = true;
}

/* 00-3F */
static void select_arithmetic(const struct insn *insn, struct selection *s)
{
	static op_fn *const forms[] = {op_alu_rm_reg, op_alu_rm_reg,  op_alu_reg_rm,
				       op_alu_reg_rm, op_alu_acc_imm, op_alu_acc_imm};
	static op_fn *const decimal[] = {op_daa, op_das, op_aaa, op_aas};
	unsigned form = insn->opcode & 7;

	s->size = byte_or_full(insn);
	if (form < 6) {
		s->fn = forms[form];
		s->lockable = form < 2 && (insn->opcode >> 3) != 7;
	} else if (insn->opcode >= 0x27) {
		s->fn = decimal[(insn->opcode - 0x27) >> 3];
	} else {
		select_sys(insn, s);
	}
}

/* 40-7F */
static void select_registers(const struct insn *insn, struct selection *s)
{
	if (insn->opcode < 0x60)
		s->rm = (uint8_t)((insn->opcode & 7) | (insn->rex & 1) << 3);
	switch (insn->opcode >> 3) {
	case 8:
		s->fn = op_inc;
		return;
	case 9:
		s->fn = op_dec;
		return;
	case 10:
		s->fn = op_push_reg;
		s->size = stack_operand_size(insn);
		return;
	case 11:
		s->fn = op_pop_reg;
		s->size = stack_operand_size(insn);
		return;
	case 14:
	case 15:
		s->fn = op_jcc;
		s->size = branch_size(insn);
		s->end = true;
		return;
	}
	switch (insn->opcode) {
	case 0x60:
		s->fn = op_pusha;
		break;
	case 0x61:
		s->fn = op_popa;
		break;
	case 0x63:
		if (insn->code_size == 8)
			s->fn = op_movsx;
		else
			select_sys(insn, s);
		break;
	case 0x68:
	case 0x6a:
		s->fn = op_push_imm;
		s->size = stack_operand_size(insn);
		break;
	case 0x69:
	case 0x6b:
		s->fn = op_imul_reg_rm_imm;
		break;
	default:
		select_sys(insn, s);
	}
}

static void select_80_8f(const struct insn *insn, struct selection *s)
{
	static op_fn *const fns[16] = {
		op_alu_rm_imm,  op_alu_rm_imm,  op_alu_rm_imm,  op_alu_rm_imm,
		op_test_rm_reg, op_test_rm_reg, op_xchg_rm_reg, op_xchg_rm_reg,
		op_mov_rm_reg,  op_mov_rm_reg,  op_mov_reg_rm,  op_mov_reg_rm,
		NULL,           op_lea,         NULL,           op_pop_rm};

	s->fn = fns[insn->opcode & 15];
	s->size = byte_or_full(insn);
	switch (insn->opcode) {
	case 0x80:
	case 0x81:
	case 0x82:
	case 0x83:
		s->lockable = group(insn) != 7;
		break;
	case 0x86:
	case 0x87:
		s->lockable = true;
		break;
	case 0x8d:
		if (!is_memory(insn))
			s->fn = NULL;
		break;
	case 0x8f:
		if (group(insn) != 0)
			s->fn = NULL;
		s->size = stack_operand_size(insn);
		break;
	case 0x8c:
	case 0x8e:
		select_sys(insn, s);
		break;
	}
}

static void select_90_bf(const struct insn *insn, struct selection *s)
{
	static op_fn *const fns[16] = {
		op_mov_acc_offset, op_mov_acc_offset, op_mov_offset_acc, op_mov_offset_acc,
		op_movs,           op_movs,           op_cmps,           op_cmps,
		op_test_acc_imm,   op_test_acc_imm,   op_stos,           op_stos,
		op_lods,           op_lods,           op_scas,           op_scas};

	s->rm = (uint8_t)((insn->opcode & 7) | (insn->rex & 1) << 3);
	if (insn->opcode < 0x98) {
		s->fn = s->rm ? op_xchg_acc : op_nop;
	} else if (insn->opcode >= 0xb0) {
		s->fn = op_mov_reg_imm;
		s->size = insn->opcode >= 0xb8 ? insn->operand_size : 1;
	} else if (insn->opcode >= 0xa0) {
		s->fn = fns[insn->opcode & 15];
		s->size = byte_or_full(insn);
		/* REP may leave with RIP on itself. */
		s->end = (insn->flags & (OP_REP | OP_REPNE)) && insn->opcode >= 0xa4 &&
			 (insn->opcode & 0xfe) != 0xa8;
	} else if (insn->opcode == 0x98) {
		s->fn = op_extend_acc;
	} else if (insn->opcode == 0x99) {
		s->fn = op_extend_sign;
	} else if (insn->opcode == 0x9b) {
		select_fp(insn, s);
	} else if (insn->opcode >= 0x9e) {
		s->fn = insn->opcode == 0x9e ? op_sahf : op_lahf;
	} else {
		select_sys(insn, s);
	}
}

static void select_group3(const struct insn *insn, struct selection *s)
{
	static op_fn *const fns[8] = {op_test_rm_imm, op_test_rm_imm, op_not, op_neg,
				      op_mul,         op_imul,        op_div, op_idiv};

	s->fn = fns[group(insn)];
	s->size = byte_or_full(insn);
	s->lockable = group(insn) == 2 || group(insn) == 3;
}

static void select_group5(const struct insn *insn, struct selection *s)
{
	static op_fn *const fns[8] = {op_inc,    op_dec, op_call_rm, NULL,
				      op_jmp_rm, NULL,   op_push_rm, NULL};
	unsigned n = group(insn);

	if (n == 3 || n == 5) {
		select_sys(insn, s);
		return;
	}
	s->size = byte_or_full(insn);
	if (n < 2) {
		s->fn = fns[n];
		s->lockable = true;
		return;
	}
	if (insn->opcode == 0xfe)
		return;
	s->fn = fns[n];
	s->end = n != 6;
	s->size = n == 6 ? stack_operand_size(insn) : branch_size(insn);
}

/* C0-CF: shifts, returns, moves of immediates, frames */
static void select_c0_cf(const struct insn *insn, struct selection *s)
{
	switch (insn->opcode) {
	case 0xc0:
	case 0xc1:
		s->fn = op_shift_imm;
		s->size = byte_or_full(insn);
		break;
	case 0xc2:
	case 0xc3:
		s->fn = insn->opcode == 0xc3 ? op_ret : op_ret_imm;
		s->size = branch_size(insn);
		s->end = true;
		break;
	case 0xc6:
	case 0xc7:
		s->fn = group(insn) ? NULL : op_mov_rm_imm;
		s->size = byte_or_full(insn);
		break;
	case 0xc8:
	case 0xc9:
		s->fn = insn->opcode == 0xc8 ? op_enter : op_leave;
		s->size = stack_operand_size(insn);
		break;
	default:
		select_sys(insn, s);
	}
}

/* E0-EF: loops and branches */
static void select_e0_ef(const struct insn *insn, struct selection *s)
{
	s->end = true;
	s->size = branch_size(insn);
	switch (insn->opcode) {
	case 0xe0:
	case 0xe1:
	case 0xe2:
		s->fn = op_loop;
		break;
	case 0xe3:
		s->fn = op_jcxz;
		break;
	case 0xe8:
		s->fn = op_call_rel;
		break;
	case 0xe9:
	case 0xeb:
		s->fn = op_jmp_rel;
		break;
	default:
		s->end = false;
		select_sys(insn, s);
	}
}

static void select_f0_ff(const struct insn *insn, struct selection *s)
{
	static op_fn *const flags[] = {op_clc, op_stc, NULL, NULL, op_cld, op_std};

	switch (insn->opcode) {
	case 0xf5:
		s->fn = op_cmc;
		break;
	case 0xf6:
	case 0xf7:
		select_group3(insn, s);
		break;
	case 0xf8:
	case 0xf9:
	case 0xfc:
	case 0xfd:
		s->fn = flags[insn->opcode - 0xf8];
		break;
	case 0xfe:
	case 0xff:
		select_group5(insn, s);
		break;
	default:
		select_sys(insn, s);
	}
}

static void select_d0_df(const struct insn *insn, struct selection *s)
{
	static op_fn *const fns[] = {op_shift_one, op_shift_one, op_shift_cl, op_shift_cl,
				     op_aam,       op_aad,       op_salc,     op_xlat};

	if (insn->opcode >= 0xd8) {
		select_fp(insn, s);
		return;
	}
	s->fn = fns[insn->opcode & 7];
	s->size = insn->opcode < 0xd4 ? byte_or_full(insn) : 1;
}

static void select_one_byte(const struct insn *insn, struct selection *s)
{
	if (insn->opcode < 0x40)
		select_arithmetic(insn, s);
	else if (insn->opcode < 0x80)
		select_registers(insn, s);
	else if (insn->opcode < 0x90)
		select_80_8f(insn, s);
	else if (insn->opcode < 0xc0)
		select_90_bf(insn, s);
	else if (insn->opcode < 0xd0)
		select_c0_cf(insn, s);
	else if (insn->opcode < 0xe0)
		select_d0_df(insn, s);
	else if (insn->opcode < 0xf0)
		select_e0_ef(insn, s);
	else
		select_f0_ff(insn, s);
}

/* --- 0F --- */

/* 0F A0-AF: the mixed row */
static void select_0f_a0(const struct insn *insn, struct selection *s)
{
	switch (insn->opcode) {
	case 0xa3:
	case 0xab:
		s->fn = op_bit_reg;
		s->lockable = insn->opcode == 0xab;
		break;
	case 0xa4:
		s->fn = op_shld_imm;
		break;
	case 0xa5:
		s->fn = op_shld_cl;
		break;
	case 0xac:
		s->fn = op_shrd_imm;
		break;
	case 0xad:
		s->fn = op_shrd_cl;
		break;
	case 0xae:
		if (!is_memory(insn) && (insn->flags & OP_REP))
			select_sys(insn, s);
		else
			select_fp(insn, s);
		break;
	case 0xaf:
		s->fn = op_imul_reg_rm;
		break;
	default:
		select_sys(insn, s);
	}
}

static void select_0f_b0(const struct insn *insn, struct selection *s)
{
	switch (insn->opcode) {
	case 0xb0:
	case 0xb1:
		s->fn = op_cmpxchg;
		s->size = byte_or_full(insn);
		s->lockable = true;
		break;
	case 0xb3:
	case 0xbb:
		s->fn = op_bit_reg;
		s->lockable = true;
		break;
	case 0xb6:
	case 0xb7:
		s->fn = op_movzx;
		break;
	case 0xb8:
		s->fn = insn->flags & OP_REP ? op_popcnt : NULL;
		break;
	case 0xb9:
		break;
	case 0xba:
		s->fn = group(insn) >= 4 ? op_bit_imm : NULL;
		s->lockable = group(insn) > 4;
		break;
	case 0xbc:
		s->fn = op_bsf;
		break;
	case 0xbd:
		s->fn = op_bsr;
		break;
	case 0xbe:
	case 0xbf:
		s->fn = op_movsx;
		break;
	default:
		select_sys(insn, s);
	}
}

static void select_0f_c0(const struct insn *insn, struct selection *s)
{
	unsigned n = group(insn);

	if (insn->opcode >= 0xc8) {
		s->fn = op_bswap;
		s->rm = (uint8_t)((insn->opcode & 7) | (insn->rex & 1) << 3);
	} else if (insn->opcode < 0xc2) {
		s->fn = op_xadd;
		s->size = byte_or_full(insn);
		s->lockable = true;
	} else if (insn->opcode != 0xc7) {
		select_fp(insn, s);
	} else if (n == 1) {
		s->fn = is_memory(insn) ? op_cmpxchg_pair : NULL;
		s->lockable = true;
	} else if (n >= 6) {
		select_sys(insn, s);
	} else {
		select_fp(insn, s);
	}
}

static void select_0f_00(const struct insn *insn, struct selection *s)
{
	switch (insn->opcode) {
	case 0x0b:
	case 0x0f:
		break;
	case 0x0d:
		s->fn = op_nop;
		break;
	default:
		select_sys(insn, s);
	}
}

static void select_two_byte(const struct insn *insn, struct selection *s)
{
	switch (insn->opcode >> 4) {
	case 0x0:
		select_0f_00(insn, s);
		break;
	case 0x1:
		if (insn->opcode >= 0x18)
			s->fn = op_nop;
		else
			select_fp(insn, s);
		break;
	case 0x2:
		if (insn->opcode < 0x28)
			select_sys(insn, s);
		else
			select_fp(insn, s);
		break;
	case 0x3:
		select_sys(insn, s);
		break;
	case 0x4:
		s->fn = op_cmov;
		break;
	case 0x8:
		s->fn = op_jcc;
		s->size = branch_size(insn);
		s->end = true;
		break;
	case 0x9:
		s->fn = op_setcc;
		s->size = 1;
		break;
	case 0xa:
		select_0f_a0(insn, s);
		break;
	case 0xb:
		select_0f_b0(insn, s);
		break;
	case 0xc:
		select_0f_c0(insn, s);
		break;
	default:
		if (insn->opcode != 0xff)
			select_fp(insn, s);
	}
}

static void select_three_byte(const struct insn *insn, struct selection *s)
{
	if (insn->map == MAP_0F38 && (insn->opcode & 0xfe) == 0xf0) {
		if (insn->flags & OP_REPNE)
			s->fn = op_crc32;
		s->size = byte_or_full(insn);
	} else if (insn->map == MAP_0F38 && insn->opcode == 0x82) {
		select_sys(insn, s);
	} else {
		select_fp(insn, s);
	}
}

/* --- What liveness must know of forms that touch registers only and cannot fault --- */

static void register_info(const struct insn *insn, const struct op *op, struct op_info *info)
{
	op_fn *fn = op->fn;

	if (fn == op_alu_rm_reg || fn == op_alu_reg_rm || fn == op_alu_acc_imm ||
	    fn == op_alu_rm_imm) {
		unsigned kind = ((fn == op_alu_rm_imm ? insn->modrm : insn->opcode) >> 3) & 7;

		info->reads = kind == 2 || kind == 3 ? ARITH_CF : 0;
		info->writes = ALL_FLAGS;
	} else if (fn == op_test_rm_reg || fn == op_test_rm_imm || fn == op_test_acc_imm ||
		   fn == op_imul_reg_rm || fn == op_imul_reg_rm_imm || fn == op_neg) {
		info->reads = 0;
		info->writes = ALL_FLAGS;
	} else if (fn == op_inc || fn == op_dec) {
		info->reads = 0;
		info->writes = ALL_FLAGS & ~ARITH_CF;
	} else if (fn == op_shift_imm && group(insn) >= 4) {
		info->reads = 0;
		info->writes = insn->imm & (op->size == 8 ? 63 : 31) ? ALL_FLAGS : 0;
	} else if (fn == op_shift_one && group(insn) >= 4) {
		info->reads = 0;
		info->writes = ALL_FLAGS;
	} else if (fn == op_mov_rm_reg || fn == op_mov_reg_rm || fn == op_mov_rm_imm ||
		   fn == op_mov_reg_imm || fn == op_movzx || fn == op_movsx || fn == op_lea ||
		   fn == op_nop || fn == op_not || fn == op_xchg_acc || fn == op_extend_acc ||
		   fn == op_extend_sign || fn == op_bswap) {
		info->reads = info->writes = 0;
	} else if (fn != op_cmov && fn != op_setcc) {
		return;
	}
	info->faults = false;
}

void select_raise(struct op *op, uint8_t vector)
{
	op->fn = op_raise;
	op->imm = vector;
	op->flags |= OP_END;
}

static void copy_fields(const struct insn *insn, struct op *op, uint64_t rip, unsigned offset)
{
	*op = (struct op){.imm = insn->imm,
			  .disp = insn->disp,
			  .base = insn->base,
			  .index = insn->index,
			  .shift = insn->shift,
			  .segment = insn->segment,
			  .reg = insn->reg,
			  .rm = insn->rm,
			  .size = insn->operand_size,
			  .address_size = insn->address_size,
			  .flags = insn->flags,
			  .length = insn->length,
			  .opcode = insn->opcode,
			  .modrm = insn->modrm,
			  .offset = (uint16_t)offset,
			  .map = insn->map,
			  .code_size = insn->code_size};
	if (insn->rip_relative)
		op->disp += (int64_t)(rip + offset + insn->length);
}

void select_op(const struct insn *insn, struct op *op, struct op_info *info, uint64_t rip,
	       unsigned offset)
{
	struct selection s = {.size = insn->operand_size, .rm = insn->rm};

	copy_fields(insn, op, rip, offset);
	*info = (struct op_info){.faults = true, .reads = ALL_FLAGS};
	if (insn->map == MAP_1BYTE)
		select_one_byte(insn, &s);
	else if (insn->map == MAP_0F)
		select_two_byte(insn, &s);
	else
		select_three_byte(insn, &s);
	/* LOCK wants a memory destination. */
	if (!s.fn || ((insn->flags & OP_LOCK) && !(s.lockable && is_memory(insn)))) {
		select_raise(op, EXC_UD);
		info->end = true;
		return;
	}
	op->fn = s.fn;
	op->size = s.size;
	if (!insn->has_modrm)
		op->rm = s.rm;
	if (s.fn == op_enter)
		op->imm |= insn->imm2 << 16;
	if (s.fn == op_mov_acc_offset || s.fn == op_mov_offset_acc)
		op->disp = (int64_t)insn->imm;
	if (s.end)
		op->flags |= OP_END;
	info->end = s.end;
	if (!is_memory(insn) || s.fn == op_lea || s.fn == op_nop)
		register_info(insn, op, info);
}
