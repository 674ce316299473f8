// SPDX-License-Identifier: GPL-2.0-or-later
// Which floating point and vector instructions have handlers in the dispatch loop.
#include "cpu/exec.h"
#include "cpu/fp.h"

enum { FORM_NONE = 3, NO_HANDLER = -1 };

static int base_of_operation(unsigned key)
{
	switch (key) {
#define CASE(name, prefix, opcode, bytes)                                                          \
	case FP_KEY(MAP_0F, prefix, opcode):                                                       \
		return EXEC_fp_##name##_rr;
		FP_FAST_ARITHMETIC(CASE)
		FP_FAST_PACKED(CASE)
#undef CASE
	default:
		return NO_HANDLER;
	}
}

static int base_of_move(unsigned key)
{
	switch (key) {
	case FP_KEY(MAP_0F, PP_NONE, 0x28):
	case FP_KEY(MAP_0F, PP_66, 0x28):
	case FP_KEY(MAP_0F, PP_66, 0x6f):
		return EXEC_fp_aligned_load_rr;
	case FP_KEY(MAP_0F, PP_NONE, 0x29):
	case FP_KEY(MAP_0F, PP_66, 0x29):
	case FP_KEY(MAP_0F, PP_66, 0x7f):
		return EXEC_fp_aligned_store_rr;
	case FP_KEY(MAP_0F, PP_NONE, 0x10):
	case FP_KEY(MAP_0F, PP_66, 0x10):
	case FP_KEY(MAP_0F, PP_F3, 0x6f):
		return EXEC_fp_unaligned_load_rr;
	case FP_KEY(MAP_0F, PP_NONE, 0x11):
	case FP_KEY(MAP_0F, PP_66, 0x11):
	case FP_KEY(MAP_0F, PP_F3, 0x7f):
		return EXEC_fp_unaligned_store_rr;
	case FP_KEY(MAP_0F, PP_F2, 0x10):
		return EXEC_fp_sd_load_rr;
	case FP_KEY(MAP_0F, PP_F2, 0x11):
		return EXEC_fp_sd_store_rr;
	case FP_KEY(MAP_0F, PP_F3, 0x10):
		return EXEC_fp_ss_load_rr;
	case FP_KEY(MAP_0F, PP_F3, 0x11):
		return EXEC_fp_ss_store_rr;
	default:
		return NO_HANDLER;
	}
}

int fp_fast(const struct op *op, unsigned form)
{
	unsigned prefix = op->flags & OP_REP      ? PP_F3
			  : op->flags & OP_REPNE  ? PP_F2
			  : op->flags & OP_OPSIZE ? PP_66
						  : PP_NONE;
	unsigned key = FP_KEY(op->map, prefix, op->opcode);
	int base;

	if (op->map != MAP_0F || (op->flags & OP_LOCK))
		return NO_HANDLER;
	base = base_of_operation(key);
	if (base == NO_HANDLER)
		base = base_of_move(key);
	if (base == NO_HANDLER || !(op->flags & OP_MEM))
		return base;
	return form >= FORM_NONE ? NO_HANDLER : base + 1 + (int)form;
}
