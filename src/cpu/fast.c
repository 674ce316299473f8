// SPDX-License-Identifier: GPL-2.0-or-later
/* Chooses the dispatch loop's handler for each op of a block: a specialised one where exec.inc has
 * it, `slow` (or `end`) otherwise; and leaves out flags that nobody will see. */
#include "cpu/alu.h"
#include "cpu/cache.h"
#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/mem.h"

enum { ALL_FLAGS = ARITH_OF | ARITH_CF | ARITH_PF | ARITH_AF | ARITH_ZF | ARITH_SF, NONE = -1 };

/* How a memory operand's address is computed, in the order of exec.inc's families. */
enum form { FORM_D, FORM_X, FORM_S, FORM_NONE };

static enum form address_form(const struct op *op, uint32_t mode)
{
	if (!(mode & MODE_FLAT) ||
	    (op->code_size != 8 && (op->segment >= SEG_FS || op->segment == SEG_CS)))
		return FORM_NONE;
	if (op->code_size != 8 || op->address_size != 8 || op->segment >= SEG_FS)
		return FORM_S;
	return op->index == OP_NO_REG ? FORM_D : FORM_X;
}

/* Where a byte register lies in the register file. */
static uint8_t byte_index(const struct op *op, unsigned reg)
{
	if (reg >= 4 && reg < 8 && !(op->flags & OP_REX))
		return (uint8_t)((reg - 4) * 8 + 1);
	return (uint8_t)(reg * 8);
}

/* Handlers of one name follow each other in exec.inc: from the 64-bit one at @first the 32-bit and
 * 8-bit ones. */
static int by_size(int first, unsigned size)
{
	return size == 8 ? first : size == 4 ? first + 1 : size == 1 ? first + 2 : NONE;
}

#define FORMS(name)                                                                                \
	{                                                                                          \
		EXEC_##name##_d, EXEC_##name##_x, EXEC_##name##_s                                  \
	}

/* Forms of ADD to XOR and CMP, TEST by the operation's number (8 is TEST). */
static const struct {
	int rr, ri, silent_rr, silent_ri;
	int rm[3], mr[3], mi[3];
} arithmetic[9] = {
#define ROW(name)                                                                                  \
	{                                                                                          \
		.rr = EXEC_##name##_rr64, .ri = EXEC_##name##_ri64, .silent_rr = NONE,             \
		.silent_ri = NONE, .rm = FORMS(name##_r64m), .mr = FORMS(name##_mr64),             \
		.mi = FORMS(name##_mi64),                                                          \
	}
#define ROW_SILENT(name)                                                                           \
	{                                                                                          \
		.rr = EXEC_##name##_rr64, .ri = EXEC_##name##_ri64,                                \
		.silent_rr = EXEC_##name##n_rr64, .silent_ri = EXEC_##name##n_ri64,                \
		.rm = FORMS(name##_r64m), .mr = FORMS(name##_mr64), .mi = FORMS(name##_mi64),      \
	}
	ROW_SILENT(add),
	ROW_SILENT(or),
	ROW(adc),
	ROW(sbb),
	ROW_SILENT(and),
	ROW_SILENT(sub),
	ROW_SILENT(xor),
	ROW(cmp),
	{.rr = EXEC_test_rr64,
	 .ri = EXEC_test_ri64,
	 .silent_rr = NONE,
	 .silent_ri = NONE,
	 .mr = FORMS(test_mr64),
	 .mi = FORMS(test_mi64)},
};

/* The immediate of a 32-bit or byte form is used as it is. */
static int pick_rr(struct op *op, unsigned kind, unsigned to, unsigned from, bool silent)
{
	if (op->size == 1) {
		op->rm = byte_index(op, to);
		op->reg = byte_index(op, from);
		return arithmetic[kind].rr + 2;
	}
	if (op->size == 2)
		return NONE;
	op->rm = (uint8_t)to;
	op->reg = (uint8_t)from;
	if (silent && arithmetic[kind].silent_rr != NONE)
		return by_size(arithmetic[kind].silent_rr, op->size);
	return by_size(arithmetic[kind].rr, op->size);
}

static int pick_ri(struct op *op, unsigned kind, unsigned to, bool silent)
{
	if (op->size == 2)
		return NONE;
	op->rm = op->size == 1 ? byte_index(op, to) : (uint8_t)to;
	if (silent && op->size != 1 && arithmetic[kind].silent_ri != NONE)
		return by_size(arithmetic[kind].silent_ri, op->size);
	return by_size(arithmetic[kind].ri, op->size);
}

static int pick_memory(struct op *op, const int first[3], enum form form, bool has_register)
{
	if (form == FORM_NONE || op->size == 2 || (op->flags & OP_LOCK))
		return NONE;
	if (op->size == 1 && has_register)
		op->imm = byte_index(op, op->reg);
	return by_size(first[form], op->size);
}

static int pick_arithmetic(struct op *op, bool silent, enum form form)
{
	unsigned by_opcode = (op->opcode >> 3) & 7, by_modrm = (op->modrm >> 3) & 7;
	bool memory = op->flags & OP_MEM;

	if (op->fn == op_alu_acc_imm)
		return pick_ri(op, by_opcode, CPU_RAX, silent);
	if (op->fn == op_test_acc_imm)
		return pick_ri(op, 8, CPU_RAX, silent);
	if (op->fn == op_alu_rm_reg)
		return memory ? pick_memory(op, arithmetic[by_opcode].mr, form, true)
			      : pick_rr(op, by_opcode, op->rm, op->reg, silent);
	if (op->fn == op_alu_reg_rm)
		return memory ? pick_memory(op, arithmetic[by_opcode].rm, form, true)
			      : pick_rr(op, by_opcode, op->reg, op->rm, silent);
	if (op->fn == op_alu_rm_imm)
		return memory ? pick_memory(op, arithmetic[by_modrm].mi, form, false)
			      : pick_ri(op, by_modrm, op->rm, silent);
	if (op->fn == op_test_rm_reg)
		return memory ? pick_memory(op, arithmetic[8].mr, form, true)
			      : pick_rr(op, 8, op->rm, op->reg, silent);
	if (op->fn == op_test_rm_imm)
		return memory ? pick_memory(op, arithmetic[8].mi, form, false)
			      : pick_ri(op, 8, op->rm, silent);
	return NONE;
}

/* --- Moves --- */

static int by_size4(const int handlers[4], unsigned size)
{
	return handlers[size == 8 ? 0 : size == 4 ? 1 : size == 2 ? 2 : 3];
}

static int pick_mov_rr(struct op *op, unsigned to, unsigned from)
{
	static const int handlers[4] = {EXEC_mov_rr64, EXEC_mov_rr32, EXEC_mov_rr16, EXEC_mov_rr8};

	op->rm = op->size == 1 ? byte_index(op, to) : (uint8_t)to;
	op->reg = op->size == 1 ? byte_index(op, from) : (uint8_t)from;
	return by_size4(handlers, op->size);
}

static int pick_mov_ri(struct op *op)
{
	if (op->size == 2)
		return NONE;
	if (op->size == 1) {
		op->rm = byte_index(op, op->rm);
		return EXEC_mov_ri8;
	}
	op->imm = op->size == 4 ? (uint32_t)op->imm : op->imm;
	return EXEC_mov_ri64;
}

#define FORMS4(name)                                                                               \
	{                                                                                          \
		{EXEC_##name##64_d, EXEC_##name##32_d, EXEC_##name##16_d, EXEC_##name##8_d},       \
			{EXEC_##name##64_x, EXEC_##name##32_x, EXEC_##name##16_x,                  \
			 EXEC_##name##8_x},                                                        \
			{EXEC_##name##64_s, EXEC_##name##32_s, EXEC_##name##16_s,                  \
			 EXEC_##name##8_s},                                                        \
	}
#define LOADS(f)                                                                                   \
	{                                                                                          \
		EXEC_mov_r64m_##f, EXEC_mov_r32m_##f, EXEC_mov_r16m_##f, EXEC_mov_r8m_##f          \
	}

static int pick_mov_memory(struct op *op, enum form form)
{
	static const int loads[3][4] = {LOADS(d), LOADS(x), LOADS(s)};
	static const int stores[3][4] = FORMS4(mov_mr);
	static const int constants[3][4] = FORMS4(mov_mi);

	if (form == FORM_NONE)
		return NONE;
	if (op->fn == op_mov_rm_imm)
		return by_size4(constants[form], op->size);
	if (op->size == 1)
		op->imm = byte_index(op, op->reg);
	return by_size4(op->fn == op_mov_rm_reg ? stores[form] : loads[form], op->size);
}

/* MOVZX, MOVSX, MOVSXD to 32 and 64 bits. */
static int pick_extension(struct op *op, enum form form)
{
#define ROWS(name)                                                                                 \
	{                                                                                          \
		EXEC_##name##r8, EXEC_##name##m8_d, EXEC_##name##m8_x, EXEC_##name##m8_s,          \
			EXEC_##name##r16, EXEC_##name##m16_d, EXEC_##name##m16_x,                  \
			EXEC_##name##m16_s,                                                        \
	}
	static const int zero[8] = ROWS(movzx_r32), sign32[8] = ROWS(movsx_r32),
			 sign64[8] = ROWS(movsx_r64);
	static const int wide[4] = {EXEC_movsx_r64r32, EXEC_movsx_r64m32_d, EXEC_movsx_r64m32_x,
				    EXEC_movsx_r64m32_s};
	bool memory = op->flags & OP_MEM;
	unsigned column = memory ? 1 + form : 0;

	if (op->size == 2 || (memory && form == FORM_NONE))
		return NONE;
	if (op->map == MAP_1BYTE)
		return op->size == 8 ? wide[column] : NONE;
	if (!(op->opcode & 1) && !memory)
		op->rm = byte_index(op, op->rm);
	column += op->opcode & 1 ? 4 : 0;
	return op->fn == op_movzx ? zero[column] : op->size == 8 ? sign64[column] : sign32[column];
}

static int pick_lea(struct op *op, uint32_t mode)
{
	bool indexed = op->index != OP_NO_REG;

	if (op->size == 2 || op->address_size == 2 || (op->size == 8 && op->address_size == 4))
		return NONE;
	if (op->size == 8)
		return indexed ? EXEC_lea64_x : EXEC_lea64_d;
	return indexed ? EXEC_lea32_x : EXEC_lea32_d;
}

/* --- One operand, shifts, multiplication --- */

static int pick_unary(struct op *op, int first, enum form form)
{
	unsigned offset = op->size == 8 ? 0 : 1;

	if (op->size < 4 || (op->flags & OP_LOCK))
		return NONE;
	if (!(op->flags & OP_MEM))
		return first + (int)offset;
	return form == FORM_D ? first + 2 + (int)offset : NONE;
}

static int pick_shift(struct op *op, bool silent)
{
	static const int handlers[8] = {EXEC_rol_ri64, EXEC_ror_ri64, NONE,          NONE,
					EXEC_shl_ri64, EXEC_shr_ri64, EXEC_shl_ri64, EXEC_sar_ri64};
	static const int silents[8] = {NONE,           NONE,           NONE,
				       NONE,           EXEC_shln_ri64, EXEC_shrn_ri64,
				       EXEC_shln_ri64, EXEC_sarn_ri64};
	unsigned kind = (op->modrm >> 3) & 7, offset = op->size == 8 ? 0 : 1;

	if ((op->flags & OP_MEM) || op->size < 4 || handlers[kind] == NONE)
		return NONE;
	if (op->fn == op_shift_cl)
		return handlers[kind] + 2 + (int)offset;
	op->imm = op->fn == op_shift_one ? 1 : op->imm & (op->size == 8 ? 63 : 31);
	if (!op->imm)
		return NONE;
	if (silent && silents[kind] != NONE)
		return silents[kind] + (int)offset;
	return handlers[kind] + (int)offset;
}

static int pick_imul(struct op *op, enum form form)
{
	unsigned offset = op->size == 8 ? 0 : 1;

	if (op->size < 4)
		return NONE;
	if (op->fn == op_imul_reg_rm_imm)
		return op->flags & OP_MEM ? NONE : EXEC_imul_rri64 + (int)offset;
	if (!(op->flags & OP_MEM))
		return EXEC_imul_rr64 + (int)offset;
	return form == FORM_D ? EXEC_imul_rm64_d + (int)offset : NONE;
}

/* --- Conditions, stack, branches --- */

#define CC(prefix, suffix)                                                                         \
	{                                                                                          \
		EXEC_##prefix##o##suffix, EXEC_##prefix##no##suffix, EXEC_##prefix##b##suffix,     \
			EXEC_##prefix##ae##suffix, EXEC_##prefix##z##suffix,                       \
			EXEC_##prefix##nz##suffix, EXEC_##prefix##be##suffix,                      \
			EXEC_##prefix##a##suffix, EXEC_##prefix##s##suffix,                        \
			EXEC_##prefix##ns##suffix, EXEC_##prefix##p##suffix,                       \
			EXEC_##prefix##np##suffix, EXEC_##prefix##l##suffix,                       \
			EXEC_##prefix##ge##suffix, EXEC_##prefix##le##suffix,                      \
			EXEC_##prefix##g##suffix,                                                  \
	}

static int pick_condition(struct op *op, enum form form)
{
	static const int sets[16] = CC(set, ), moves[16] = CC(cmov, _rr64);
	unsigned cc = op->opcode & 15;

	if (op->fn == op_setcc) {
		if (op->flags & OP_MEM)
			return NONE;
		op->rm = byte_index(op, op->rm);
		return sets[cc];
	}
	if (op->size < 4 || ((op->flags & OP_MEM) && form != FORM_D))
		return NONE;
	return moves[cc] + (op->flags & OP_MEM ? 2 : 0) + (op->size == 8 ? 0 : 1);
}

/* Relative branches keep their target in disp; only those that cannot leave the code's range. */
static int pick_relative(struct op *op, uint32_t mode, uint64_t rip)
{
	static const int conditions[16] = CC(j, );
	uint64_t target = rip + op->offset + op->length + op->imm;

	if (op->code_size == 8) {
		if ((uint64_t)((int64_t)(target << 16) >> 16) != target)
			return NONE;
	} else {
		if (!(mode & MODE_WIDE))
			return NONE;
		target = op->size == 2 ? (uint16_t)target : (uint32_t)target;
	}
	op->disp = (int64_t)target;
	if (op->fn == op_jcc)
		return conditions[op->opcode & 15];
	if (op->fn == op_jmp_rel)
		return EXEC_jmp;
	if (op->code_size == 8)
		return EXEC_call;
	return op->size == 4 && (mode & MODE_FLAT) && (mode & MODE_STACK32) ? EXEC_call32 : NONE;
}

static int pick_indirect(struct op *op, enum form form)
{
	static const int jumps[3] = FORMS(jmp_m64), calls[3] = FORMS(call_m64);
	bool is_call = op->fn == op_call_rm;

	if (op->code_size != 8)
		return NONE;
	if (!(op->flags & OP_MEM))
		return is_call ? EXEC_call_r64 : EXEC_jmp_r64;
	return is_call ? calls[form] : jumps[form];
}

static int pick_stack(struct op *op, uint32_t mode, enum form form)
{
	static const int pushes[3] = FORMS(push_m64);
	bool wide = op->size == 8;

	if (op->size == 2 || !(mode & MODE_FLAT) || (!wide && !(mode & MODE_STACK32)))
		return NONE;
	if (op->fn == op_ret)
		return wide ? EXEC_ret : mode & MODE_WIDE ? EXEC_ret32 : NONE;
	if (op->fn == op_push_reg)
		return wide ? EXEC_push_r64 : EXEC_push_r32;
	if (op->fn == op_pop_reg)
		return wide ? EXEC_pop_r64 : EXEC_pop_r32;
	if (op->fn == op_push_imm)
		return wide ? EXEC_push_i64 : EXEC_push_i32;
	if (op->fn == op_leave)
		return wide ? EXEC_leave64 : NONE;
	if (op->fn == op_push_rm && wide && (op->flags & OP_MEM))
		return pushes[form];
	return NONE;
}

static int pick_misc(struct op *op)
{
	if (op->fn == op_nop)
		return EXEC_nop;
	if (op->fn == op_bswap && op->size >= 4)
		return op->size == 8 ? EXEC_bswap64 : EXEC_bswap32;
	if (op->fn == op_extend_acc && op->size >= 4)
		return op->size == 8 ? EXEC_cdqe : EXEC_cwde;
	if (op->fn == op_extend_sign && op->size >= 4)
		return op->size == 8 ? EXEC_cqo : EXEC_cdq;
	if (op->fn == op_xchg_rm_reg && op->size == 8 && !(op->flags & OP_MEM))
		return EXEC_xchg_rr64;
	if (op->fn == op_not && op->size >= 4 && !(op->flags & OP_MEM))
		return op->size == 8 ? EXEC_not_r64 : EXEC_not_r32;
	return NONE;
}

static int pick(struct op *op, bool silent, uint32_t mode, uint64_t rip)
{
	enum form form = op->flags & OP_MEM ? address_form(op, mode) : FORM_NONE;
	op_fn *fn = op->fn;
	int handler = pick_arithmetic(op, silent, form);

	if (handler != NONE)
		return handler;
	if (fn == op_mov_rm_reg || fn == op_mov_reg_rm || fn == op_mov_rm_imm) {
		if (op->flags & OP_MEM)
			return pick_mov_memory(op, form);
		if (fn == op_mov_rm_imm)
			return pick_mov_ri(op);
		return fn == op_mov_rm_reg ? pick_mov_rr(op, op->rm, op->reg)
					   : pick_mov_rr(op, op->reg, op->rm);
	}
	if (fn == op_mov_reg_imm)
		return pick_mov_ri(op);
	if (fn == op_movzx || fn == op_movsx)
		return pick_extension(op, form);
	if (fn == op_lea)
		return pick_lea(op, mode);
	if (fn == op_inc || fn == op_dec || fn == op_neg)
		return pick_unary(op,
				  fn == op_inc   ? EXEC_inc_r64
				  : fn == op_dec ? EXEC_dec_r64
						 : EXEC_neg_r64,
				  form);
	if (fn == op_shift_imm || fn == op_shift_one || fn == op_shift_cl)
		return pick_shift(op, silent);
	if (fn == op_imul_reg_rm || fn == op_imul_reg_rm_imm)
		return pick_imul(op, form);
	if (fn == op_setcc || fn == op_cmov)
		return pick_condition(op, form);
	if (fn == op_jcc || fn == op_jmp_rel || fn == op_call_rel)
		return pick_relative(op, mode, rip);
	if (fn == op_jmp_rm || fn == op_call_rm)
		return pick_indirect(op, form);
	handler = pick_stack(op, mode, form);
	return handler != NONE ? handler : pick_misc(op);
}

void fast_select(struct block *block, const struct op_info *info)
{
	uint32_t live = ALL_FLAGS;

	for (unsigned i = block->count; i-- > 0;) {
		struct op *op = &block->ops[i];
		bool silent = !(live & info[i].writes) && !info[i].faults;
		int handler = pick(op, silent, block->mode, block->rip);

		if (handler == NONE && !(op->flags & OP_END))
			handler = fp_fast(op, address_form(op, block->mode));
		if (handler == NONE)
			handler = op->flags & OP_END ? EXEC_end : EXEC_slow;
		op->handler = exec_handler((unsigned)handler);
		live = info[i].faults ? ALL_FLAGS
				      : (live & ~(uint32_t)info[i].writes) | info[i].reads;
	}
}
