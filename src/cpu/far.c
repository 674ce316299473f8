// SPDX-License-Identifier: GPL-2.0-or-later
/* Far jumps, calls and returns, call gates and IRET in all modes (Intel SDM 2, the pseudo-code of
 * JMP, CALL, RET and IRET; 3A chapter 5).
 *
 * Invariants: everything is read and checked before any register changes; the stack is accessed
 * with the rights of the privilege it belongs to. */
#include "cpu/mem.h"
#include "cpu/sys.h"

/* --- Code segments --- */

/* Reads the descriptor of a code segment that is about to be entered. */
static void code_read(struct cpu *cpu, uint16_t selector, struct desc *desc)
{
	if (selector_is_null(selector))
		cpu_raise_error(cpu, EXC_GP, 0);
	if (!desc_read(cpu, selector, desc))
		cpu_raise_error(cpu, EXC_GP, selector_error(selector, 0));
}

static bool is_code64(const struct cpu *cpu, uint64_t raw)
{
	return cpu_is_long(cpu) && (desc_attr(raw) & SEG_L);
}

/* L and D together mean nothing in IA-32e mode. */
static bool code_size_valid(const struct cpu *cpu, uint64_t raw)
{
	return !is_code64(cpu, raw) || !(desc_attr(raw) & SEG_DB);
}

void code_check_rip(struct cpu *cpu, const struct code_target *target, uint32_t error)
{
	if (is_code64(cpu, target->desc.raw)) {
		if (!is_canonical(target->rip))
			cpu_raise_error(cpu, EXC_GP, error);
	} else if (target->rip > desc_segment(&target->desc).limit) {
		cpu_raise_error(cpu, EXC_GP, error);
	}
}

void code_commit(struct cpu *cpu, struct code_target *target)
{
	desc_mark_accessed(cpu, &target->desc);
	cpu->seg[SEG_CS] = desc_segment(&target->desc);
	cpu->seg[SEG_CS].selector = (target->desc.selector & ~3) | target->cpl;
	cpu->cpl = target->cpl;
	cpu->rip = target->rip;
	cpu_mode_changed(cpu);
}

/* The checks of a direct far jump or call: privilege stays. */
static void code_check_direct(struct cpu *cpu, struct code_target *target)
{
	uint64_t raw = target->desc.raw;
	uint16_t selector = target->desc.selector;
	unsigned dpl = desc_dpl(raw);

	if (!code_size_valid(cpu, raw))
		cpu_raise_error(cpu, EXC_GP, selector_error(selector, 0));
	if (desc_is_conforming(raw) ? dpl > cpu->cpl
				    : (selector & 3u) > cpu->cpl || dpl != cpu->cpl)
		cpu_raise_error(cpu, EXC_GP, selector_error(selector, 0));
	if (!desc_present(raw))
		cpu_raise_error(cpu, EXC_NP, selector_error(selector, 0));
	target->cpl = cpu->cpl;
}

/* Real and virtual-8086 mode: no descriptors. */
static void flat_transfer(struct cpu *cpu, uint16_t selector, uint64_t offset)
{
	if (offset > cpu->seg[SEG_CS].limit)
		cpu_raise_error(cpu, EXC_GP, 0);
	if (cpu_is_v86(cpu))
		seg_set_v86(cpu, SEG_CS, selector);
	else
		seg_set_real(cpu, SEG_CS, selector);
	cpu->rip = offset;
	cpu_mode_changed(cpu);
}

/* --- Gates --- */

struct gate {
	uint16_t selector; /* of the code segment */
	uint64_t offset;
	unsigned size; /* of what is pushed */
	unsigned parameters;
};

/* Checks a system descriptor reached by a far jump or call. Returns true with @gate filled for a
 * call gate; task gates and TSSs are dealt with at once. */
static bool system_transfer(struct cpu *cpu, const struct desc *desc, enum task_reason reason,
			    struct gate *gate)
{
	uint64_t raw = desc->raw, high = 0;
	unsigned type = desc_type(raw), dpl = desc_dpl(raw);
	uint32_t error = selector_error(desc->selector, 0);
	bool lm = cpu_is_long(cpu);
	bool call_gate = type == DESC_CALL32 || (type == DESC_CALL16 && !lm);
	bool task = !lm && (type == DESC_TASK_GATE || type == DESC_TSS16 || type == DESC_TSS32);

	if (!call_gate && !task)
		cpu_raise_error(cpu, EXC_GP, error);
	if (dpl < cpu->cpl || dpl < (desc->selector & 3u))
		cpu_raise_error(cpu, EXC_GP, error);
	if (lm && (!desc_read_high(cpu, desc, &high) || (high >> 40 & 0x1f)))
		cpu_raise_error(cpu, EXC_GP, error);
	if (!desc_present(raw))
		cpu_raise_error(cpu, EXC_NP, error);
	if (task) {
		if (type == DESC_TASK_GATE)
			task_switch_gate(cpu, raw, reason, 0, NULL);
		else
			task_switch(cpu, desc->selector, reason, 0, NULL);
		return false;
	}
	gate->selector = raw >> 16;
	gate->offset = (raw & 0xffff) | ((raw >> 32) & 0xffff0000);
	gate->parameters = (raw >> 32) & 0x1f;
	gate->size = lm ? 8 : type == DESC_CALL32 ? 4 : 2;
	if (lm)
		gate->offset |= high << 32;
	else if (gate->size == 2)
		gate->offset &= 0xffff;
	return true;
}

static void gate_target(struct cpu *cpu, const struct gate *gate, struct code_target *target)
{
	uint32_t error = selector_error(gate->selector, 0);
	uint64_t raw;

	code_read(cpu, gate->selector, &target->desc);
	raw = target->desc.raw;
	if (!desc_is_code(raw) || desc_dpl(raw) > cpu->cpl)
		cpu_raise_error(cpu, EXC_GP, error);
	if (cpu_is_long(cpu) && (desc_attr(raw) & (SEG_L | SEG_DB)) != SEG_L)
		cpu_raise_error(cpu, EXC_GP, error);
	if (!desc_present(raw))
		cpu_raise_error(cpu, EXC_NP, error);
	target->rip = gate->offset;
	target->cpl = cpu->cpl;
}

/* --- Jump --- */

void do_far_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size)
{
	struct code_target target = {.rip = offset & size_mask(size)};
	struct gate gate;

	if (!cpu_is_protected(cpu)) {
		flat_transfer(cpu, selector, offset & size_mask(size));
		return;
	}
	code_read(cpu, selector, &target.desc);
	if (desc_is_code(target.desc.raw)) {
		code_check_direct(cpu, &target);
		code_check_rip(cpu, &target, 0);
	} else if (desc_type(target.desc.raw) & SEG_S) {
		cpu_raise_error(cpu, EXC_GP, selector_error(selector, 0));
	} else {
		if (!system_transfer(cpu, &target.desc, TASK_JUMP, &gate))
			return;
		gate_target(cpu, &gate, &target);
		if (!desc_is_conforming(target.desc.raw) && desc_dpl(target.desc.raw) != cpu->cpl)
			cpu_raise_error(cpu, EXC_GP, selector_error(gate.selector, 0));
		code_check_rip(cpu, &target, 0);
	}
	code_commit(cpu, &target);
}

/* --- Call --- */

/* Pushes CS:RIP on the present stack and goes to @target. */
static void call_same(struct cpu *cpu, struct code_target *target, unsigned size)
{
	struct stack stack;
	uint64_t rsp;

	stack_init(&stack, cpu, 0);
	if (size == 8) { /* a 64-bit gate, perhaps reached from compatibility mode */
		stack.flat64 = true;
		stack.mask = UINT64_MAX;
		stack.sp = cpu->regs[CPU_RSP];
	}
	stack_push(&stack, cpu->seg[SEG_CS].selector, size);
	stack_push(&stack, cpu->rip, size);
	code_check_rip(cpu, target, 0);
	rsp = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	code_commit(cpu, target);
	cpu->regs[CPU_RSP] = rsp;
}

static void call_inner_long(struct cpu *cpu, struct code_target *target)
{
	struct stack stack = {.cpu = cpu, .mask = UINT64_MAX, .cpl = target->cpl, .flat64 = true};

	stack.sp = tss_rsp(cpu, target->cpl, 0);
	code_check_rip(cpu, target, 0);
	stack_push(&stack, cpu->seg[SEG_SS].selector, 8);
	stack_push(&stack, cpu->regs[CPU_RSP], 8);
	stack_push(&stack, cpu->seg[SEG_CS].selector, 8);
	stack_push(&stack, cpu->rip, 8);
	desc_mark_accessed(cpu, &target->desc);
	seg_set_null(cpu, SEG_SS, target->cpl);
	cpu->regs[CPU_RSP] = stack.sp;
	code_commit(cpu, target);
}

static void call_inner(struct cpu *cpu, struct code_target *target, const struct gate *gate)
{
	struct stack stack, old;
	uint64_t parameters[32];

	stack_init(&old, cpu, 0);
	stack_from_tss(cpu, target->cpl, 0, &stack);
	stack_need(&stack, (4 + gate->parameters) * gate->size);
	code_check_rip(cpu, target, 0);
	for (unsigned i = 0; i < gate->parameters; i++)
		parameters[i] = stack_pop(&old, gate->size);
	stack_push(&stack, cpu->seg[SEG_SS].selector, gate->size);
	stack_push(&stack, cpu->regs[CPU_RSP], gate->size);
	for (unsigned i = gate->parameters; i > 0; i--)
		stack_push(&stack, parameters[i - 1], gate->size);
	stack_push(&stack, cpu->seg[SEG_CS].selector, gate->size);
	stack_push(&stack, cpu->rip, gate->size);
	desc_mark_accessed(cpu, &target->desc);
	cpu->seg[SEG_SS] = stack.ss;
	cpu->regs[CPU_RSP] = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	code_commit(cpu, target);
}

static void call_through_gate(struct cpu *cpu, const struct gate *gate)
{
	struct code_target target;

	gate_target(cpu, gate, &target);
	if (desc_is_conforming(target.desc.raw) || desc_dpl(target.desc.raw) == cpu->cpl) {
		call_same(cpu, &target, gate->size);
		return;
	}
	target.cpl = desc_dpl(target.desc.raw);
	if (cpu_is_long(cpu))
		call_inner_long(cpu, &target);
	else
		call_inner(cpu, &target, gate);
}

void do_far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size)
{
	struct code_target target = {.rip = offset & size_mask(size)};
	struct stack stack;
	struct gate gate;
	uint64_t rsp;

	if (!cpu_is_protected(cpu)) {
		stack_init(&stack, cpu, 0);
		stack_push(&stack, cpu->seg[SEG_CS].selector, size);
		stack_push(&stack, cpu->rip, size);
		rsp = stack_rsp(&stack, cpu->regs[CPU_RSP]);
		flat_transfer(cpu, selector, target.rip);
		cpu->regs[CPU_RSP] = rsp;
		return;
	}
	code_read(cpu, selector, &target.desc);
	if (desc_is_code(target.desc.raw)) {
		code_check_direct(cpu, &target);
		call_same(cpu, &target, size);
	} else if (desc_type(target.desc.raw) & SEG_S) {
		cpu_raise_error(cpu, EXC_GP, selector_error(selector, 0));
	} else if (system_transfer(cpu, &target.desc, TASK_CALL, &gate)) {
		call_through_gate(cpu, &gate);
	}
}

/* --- Return --- */

/* What RET and IRET check of the code segment they return to. */
static void return_target(struct cpu *cpu, uint16_t selector, uint64_t rip,
			  struct code_target *target)
{
	uint32_t error = selector_error(selector, 0);
	unsigned rpl = selector & 3;
	uint64_t raw;

	code_read(cpu, selector, &target->desc);
	raw = target->desc.raw;
	if (!desc_is_code(raw) || rpl < cpu->cpl || !code_size_valid(cpu, raw))
		cpu_raise_error(cpu, EXC_GP, error);
	if (desc_is_conforming(raw) ? desc_dpl(raw) > rpl : desc_dpl(raw) != rpl)
		cpu_raise_error(cpu, EXC_GP, error);
	if (!desc_present(raw))
		cpu_raise_error(cpu, EXC_NP, error);
	target->rip = rip;
	target->cpl = rpl;
}

/* The stack segment of an outer level; null is allowed for 64-bit code above ring 3. */
static void return_stack(struct cpu *cpu, uint16_t selector, const struct code_target *target,
			 struct cpu_segment *out)
{
	if (selector_is_null(selector) && is_code64(cpu, target->desc.raw) && target->cpl < 3 &&
	    (selector & 3u) == target->cpl)
		*out = (struct cpu_segment){.selector = selector,
					    .attr = SEG_UNUSABLE |
						    (uint16_t)(target->cpl << SEG_DPL_SHIFT)};
	else
		seg_check_stack(cpu, selector, target->cpl, EXC_GP, 0, out);
}

/* RSP after a return, by the size of the stack that it goes to. */
static void return_rsp(struct cpu *cpu, uint64_t rsp)
{
	if (cpu->code_size == 8)
		cpu->regs[CPU_RSP] = rsp;
	else if (cpu->seg[SEG_SS].attr & SEG_DB)
		cpu->regs[CPU_RSP] = (uint32_t)rsp;
	else
		cpu->regs[CPU_RSP] = (cpu->regs[CPU_RSP] & ~UINT64_C(0xffff)) | (uint16_t)rsp;
}

void sys_far_ret(struct cpu *cpu, const struct op *op)
{
	unsigned size = op->size, release = op->opcode == 0xca ? (uint16_t)op->imm : 0;
	struct code_target target;
	struct cpu_segment ss;
	struct stack stack;
	uint16_t selector, ss_selector;
	uint64_t rip, rsp;

	stack_init(&stack, cpu, 0);
	rip = stack_pop(&stack, size);
	selector = stack_pop(&stack, size);
	stack.sp = (stack.sp + release) & stack.mask;
	rsp = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	if (!cpu_is_protected(cpu)) {
		flat_transfer(cpu, selector, rip);
		cpu->regs[CPU_RSP] = rsp;
		return;
	}
	return_target(cpu, selector, rip, &target);
	if (target.cpl == cpu->cpl) {
		code_check_rip(cpu, &target, 0);
		code_commit(cpu, &target);
		cpu->regs[CPU_RSP] = rsp;
		return;
	}
	rsp = stack_pop(&stack, size);
	ss_selector = stack_pop(&stack, size);
	return_stack(cpu, ss_selector, &target, &ss);
	code_check_rip(cpu, &target, 0);
	desc_mark_accessed(cpu, &target.desc);
	cpu->seg[SEG_SS] = ss;
	code_commit(cpu, &target);
	return_rsp(cpu, rsp + release);
	seg_drop_privileged(cpu);
}

/* --- IRET --- */

static void iret_flags(struct cpu *cpu, uint64_t flags, unsigned size, unsigned old_cpl)
{
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

	if (size > 2)
		mask |= FL_RF | FL_AC | FL_ID;
	if (old_cpl == 0)
		mask |= FL_IOPL;
	if (old_cpl <= cpu_iopl(cpu))
		mask |= FL_IF;
	if (old_cpl == 0 && size > 2)
		mask |= FL_VIF | FL_VIP;
	/* RF only tells with breakpoints armed; else it would linger for nothing. */
	if (!(cpu->dr7 & 0xff))
		flags &= ~(uint64_t)FL_RF;
	cpu_set_rflags(cpu, flags, mask);
	cpu->nmi_blocked = false;
}

static void iret_flat(struct cpu *cpu, unsigned size)
{
	uint64_t mask = FL_ARITH | FL_TF | FL_IF | FL_DF | FL_NT, rip, flags, rsp;
	struct stack stack;
	uint16_t selector;

	if (cpu_is_v86(cpu)) {
		if (cpu_iopl(cpu) < 3)
			cpu_raise_error(cpu, EXC_GP, 0);
	} else {
		mask |= FL_IOPL;
	}
	if (size > 2)
		mask |= FL_RF | FL_AC | FL_ID;
	stack_init(&stack, cpu, 0);
	rip = stack_pop(&stack, size);
	selector = stack_pop(&stack, size);
	flags = stack_pop(&stack, size);
	rsp = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	flat_transfer(cpu, selector, rip);
	cpu->regs[CPU_RSP] = rsp;
	if (!(cpu->dr7 & 0xff))
		flags &= ~(uint64_t)FL_RF;
	cpu_set_rflags(cpu, flags, mask);
	cpu->nmi_blocked = false;
}

/* To virtual-8086 mode: ESP, SS, ES, DS, FS and GS follow EFLAGS on the stack. */
static void iret_to_v86(struct cpu *cpu, struct stack *stack, uint16_t selector, uint64_t rip,
			uint64_t flags)
{
	static const uint8_t order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	uint16_t selectors[G_N_ELEMENTS(order)];
	uint64_t esp = stack_pop(stack, 4);

	for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
		selectors[i] = stack_pop(stack, 4);
	if (rip > 0xffff)
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu_set_rflags(cpu, flags, 0x3f7fd5);
	cpu->nmi_blocked = false;
	cpu->cpl = 3;
	seg_set_v86(cpu, SEG_CS, selector);
	for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
		seg_set_v86(cpu, order[i], selectors[i]);
	cpu->rip = rip;
	cpu->regs[CPU_RSP] = (uint32_t)esp;
	cpu_mode_changed(cpu);
}

static void iret_nested_task(struct cpu *cpu)
{
	uint16_t link;

	if (cpu_is_long(cpu))
		cpu_raise_error(cpu, EXC_GP, 0);
	link = mem_read_system(cpu, (uint32_t)cpu->seg[SEG_TR].base, 2);
	task_switch(cpu, link, TASK_IRET, 0, NULL);
	cpu->nmi_blocked = false;
}

void sys_iret(struct cpu *cpu, const struct op *op)
{
	unsigned size = op->size, old_cpl = cpu->cpl;
	bool from64 = cpu->code_size == 8, outer;
	struct code_target target;
	struct cpu_segment ss;
	struct stack stack;
	uint64_t rip, flags, rsp, frame[5];
	uint16_t selector;
	bool whole;

	if (!cpu_is_protected(cpu)) {
		iret_flat(cpu, size);
		return;
	}
	if (cpu->rflags & FL_NT) {
		iret_nested_task(cpu);
		return;
	}
	stack_init(&stack, cpu, 0);
	whole = from64 && size == 8 && is_canonical(stack.sp) &&
		mem_try_read_words(cpu, stack.sp, frame, 5, cpu->cpl);
	rip = whole ? frame[0] : stack_pop(&stack, size);
	selector = whole ? frame[1] : stack_pop(&stack, size);
	flags = whole ? frame[2] : stack_pop(&stack, size);
	if ((flags & FL_VM) && size == 4 && !old_cpl && !cpu_is_long(cpu)) {
		iret_to_v86(cpu, &stack, selector, rip, flags);
		return;
	}
	return_target(cpu, selector, rip, &target);
	outer = target.cpl > old_cpl;
	rsp = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	if (outer || from64) {
		rsp = whole ? frame[3] : stack_pop(&stack, size);
		return_stack(cpu, whole ? frame[4] : stack_pop(&stack, size), &target, &ss);
	}
	code_check_rip(cpu, &target, 0);
	desc_mark_accessed(cpu, &target.desc);
	if (outer || from64)
		cpu->seg[SEG_SS] = ss;
	code_commit(cpu, &target);
	if (outer || from64)
		return_rsp(cpu, rsp);
	else
		cpu->regs[CPU_RSP] = rsp;
	iret_flags(cpu, flags, size, old_cpl);
	if (outer)
		seg_drop_privileged(cpu);
}

/* --- The instructions --- */

static void far_pointer(struct cpu *cpu, const struct op *op, uint16_t *selector, uint64_t *offset)
{
	uint64_t at = op_offset(cpu, op);

	*offset = mem_read(cpu, op->segment, at, op->size);
	at = (at + op->size) & size_mask(op->address_size);
	*selector = mem_read(cpu, op->segment, at, 2);
}

void sys_far_jump_imm(struct cpu *cpu, const struct op *op)
{
	do_far_jump(cpu, op->imm >> 32, (uint32_t)op->imm, op->size);
}

void sys_far_call_imm(struct cpu *cpu, const struct op *op)
{
	do_far_call(cpu, op->imm >> 32, (uint32_t)op->imm, op->size);
}

void sys_far_jump_mem(struct cpu *cpu, const struct op *op)
{
	uint16_t selector;
	uint64_t offset;

	far_pointer(cpu, op, &selector, &offset);
	do_far_jump(cpu, selector, offset, op->size);
}

void sys_far_call_mem(struct cpu *cpu, const struct op *op)
{
	uint16_t selector;
	uint64_t offset;

	far_pointer(cpu, op, &selector, &offset);
	do_far_call(cpu, selector, offset, op->size);
}
