/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/op.h"

/* Slow handlers of the integer instructions, each for every operand size and form. The names are
 * the mnemonics; see select.c for which opcodes lead here. */
op_fn op_alu_rm_reg, op_alu_reg_rm, op_alu_acc_imm, op_alu_rm_imm, op_test_rm_reg, op_test_acc_imm,
	op_test_rm_imm, op_inc, op_dec, op_not, op_neg, op_xadd, op_cmpxchg, op_cmpxchg_pair,
	op_xchg_rm_reg, op_xchg_acc;
op_fn op_mul, op_imul, op_imul_reg_rm, op_imul_reg_rm_imm, op_div, op_idiv;
op_fn op_shift_imm, op_shift_one, op_shift_cl, op_shld_imm, op_shld_cl, op_shrd_imm, op_shrd_cl;
op_fn op_bit_reg, op_bit_imm, op_bsf, op_bsr, op_popcnt, op_crc32, op_bswap;
op_fn op_daa, op_das, op_aaa, op_aas, op_aam, op_aad, op_salc;
op_fn op_mov_rm_reg, op_mov_reg_rm, op_mov_rm_imm, op_mov_reg_imm, op_mov_acc_offset,
	op_mov_offset_acc, op_movzx, op_movsx, op_lea, op_cmov, op_setcc, op_xlat, op_extend_acc,
	op_extend_sign, op_lahf, op_sahf, op_clc, op_stc, op_cmc, op_cld, op_std, op_nop;
op_fn op_push_reg, op_pop_reg, op_push_rm, op_pop_rm, op_push_imm, op_pusha, op_popa, op_enter,
	op_leave;
op_fn op_jmp_rel, op_jcc, op_jmp_rm, op_call_rel, op_call_rm, op_ret, op_ret_imm, op_loop, op_jcxz;
op_fn op_movs, op_stos, op_lods, op_scas, op_cmps;
op_fn op_undefined, op_raise;
