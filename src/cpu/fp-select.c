// SPDX-License-Identifier: GPL-2.0-or-later
// Finds the handler of a floating point or vector instruction.
#include "cpu/fp.h"

/* F3 and F2 win over 66. */
static unsigned mandatory_prefix(const struct insn *insn)
{
	if (insn->flags & OP_REP)
		return PP_F3;
	if (insn->flags & OP_REPNE)
		return PP_F2;
	return insn->flags & OP_OPSIZE ? PP_66 : PP_NONE;
}

bool fp_select(const struct insn *insn, struct op_choice *choice)
{
	unsigned key = FP_KEY(insn->map, mandatory_prefix(insn), insn->opcode);

	if (insn->flags & OP_LOCK)
		return false;
	if (insn->map == MAP_1BYTE)
		return x87_select(insn, choice);
	return sse_move_select(key, insn, choice) || sse_int_select(key, insn, choice) ||
	       sse_arith_select(key, insn, choice) || sse_convert_select(key, insn, choice) ||
	       sse_imm_select(key, insn, choice) || sse_element_select(key, insn, choice) ||
	       mmx_select(key, insn, choice) || fpsave_select(key, insn, choice);
}
