// SPDX-License-Identifier: GPL-2.0-or-later
/* Delivery of interrupts and exceptions (Intel SDM 3A chapter 6; 2, pseudo-code of INT n).
 *
 * Invariants: the frame is pushed and every check is made before a register changes, so that a
 * fault inside of a delivery finds the state of before. cpu->rip is what the frame will hold. */
#include "cpu/sys.h"

static bool is_software(const struct cpu_event *event)
{
	return event->kind == CPU_EVENT_SOFT_INT || event->kind == CPU_EVENT_SOFT_EXC;
}

/* Faults proper are resumed with RF set, instruction breakpoints excepted. */
static bool is_fault(const struct cpu_event *event)
{
	if (event->kind != CPU_EVENT_EXCEPTION)
		return false;
	return event->vector != EXC_DB && event->vector != EXC_NMI && event->vector != EXC_BP &&
	       event->vector != EXC_OF && event->vector != EXC_DF && event->vector != EXC_MC;
}

static uint64_t pushed_flags(const struct cpu *cpu, const struct cpu_event *event)
{
	return cpu_rflags(cpu) | (is_fault(event) ? FL_RF : 0);
}

struct delivery {
	struct cpu *cpu;
	const struct cpu_event *event;
	uint32_t ext;        /* EXT bit of error codes */
	uint32_t gate_error; /* error code that names the IDT entry */
	uint64_t gate;
	unsigned type;
	struct code_target target;
};

/* What all gates of protected and long mode have in common. */
static void check_gate(const struct delivery *d, bool known)
{
	if (!known)
		cpu_raise_error(d->cpu, EXC_GP, d->gate_error);
	if (is_software(d->event) && desc_dpl(d->gate) < d->cpu->cpl)
		cpu_raise_error(d->cpu, EXC_GP, d->gate_error);
	if (!desc_present(d->gate))
		cpu_raise_error(d->cpu, EXC_NP, d->gate_error);
}

static void check_code(struct delivery *d, uint16_t selector)
{
	struct cpu *cpu = d->cpu;
	uint32_t error = selector_error(selector, d->ext);
	uint64_t raw;

	if (selector_is_null(selector))
		cpu_raise_error(cpu, EXC_GP, d->ext);
	if (!desc_read(cpu, selector, &d->target.desc))
		cpu_raise_error(cpu, EXC_GP, error);
	raw = d->target.desc.raw;
	if (!desc_is_code(raw) || desc_dpl(raw) > cpu->cpl)
		cpu_raise_error(cpu, EXC_GP, error);
	if (cpu_is_long(cpu) && (desc_attr(raw) & (SEG_L | SEG_DB)) != SEG_L)
		cpu_raise_error(cpu, EXC_GP, error);
	if (!desc_present(raw))
		cpu_raise_error(cpu, EXC_NP, error);
	d->target.cpl = desc_is_conforming(raw) ? cpu->cpl : desc_dpl(raw);
}

static void enter_handler(struct delivery *d, bool interrupt_gate)
{
	struct cpu *cpu = d->cpu;

	cpu_set_rflags(cpu, 0, FL_TF | FL_NT | FL_RF | FL_VM | (interrupt_gate ? FL_IF : 0));
	code_commit(cpu, &d->target);
}

/* --- Long mode --- */

static void deliver_long(struct delivery *d)
{
	struct cpu *cpu = d->cpu;
	uint64_t at = cpu->idtr.base + d->event->vector * 16u, high, frame[6];
	struct stack stack = {.cpu = cpu, .mask = UINT64_MAX, .flat64 = true, .error = d->ext};
	unsigned ist;

	if (d->event->vector * 16u + 15 > cpu->idtr.limit)
		cpu_raise_error(cpu, EXC_GP, d->gate_error);
	d->gate = mem_read_system(cpu, at, 8);
	high = mem_read_system(cpu, at + 8, 8);
	d->type = desc_type(d->gate);
	check_gate(d, d->type == DESC_INT32 || d->type == DESC_TRAP32);
	check_code(d, d->gate >> 16);
	d->target.rip = (d->gate & 0xffff) | ((d->gate >> 32) & 0xffff0000) | high << 32;
	ist = (d->gate >> 32) & 7;
	stack.cpl = d->target.cpl;
	if (ist)
		stack.sp = tss_rsp(cpu, 2 + ist, d->ext);
	else if (d->target.cpl != cpu->cpl)
		stack.sp = tss_rsp(cpu, d->target.cpl, d->ext);
	else
		stack.sp = cpu->regs[CPU_RSP];
	code_check_rip(cpu, &d->target, d->ext);
	stack.sp &= ~UINT64_C(15);
	frame[0] = d->event->error;
	frame[1] = cpu->rip;
	frame[2] = cpu->seg[SEG_CS].selector;
	frame[3] = pushed_flags(cpu, d->event);
	frame[4] = cpu->regs[CPU_RSP];
	frame[5] = cpu->seg[SEG_SS].selector;
	if (d->event->has_error)
		stack_push_words(&stack, frame, 6);
	else
		stack_push_words(&stack, frame + 1, 5);
	desc_mark_accessed(cpu, &d->target.desc);
	if (d->target.cpl != cpu->cpl)
		seg_set_null(cpu, SEG_SS, d->target.cpl);
	cpu->regs[CPU_RSP] = stack.sp;
	enter_handler(d, d->type == DESC_INT32);
}

/* --- Protected mode --- */

static void push_frame(struct delivery *d, struct stack *stack, unsigned size, bool outer)
{
	struct cpu *cpu = d->cpu;

	if (outer) {
		stack_push(stack, cpu->seg[SEG_SS].selector, size);
		stack_push(stack, cpu->regs[CPU_RSP], size);
	}
	stack_push(stack, pushed_flags(cpu, d->event), size);
	stack_push(stack, cpu->seg[SEG_CS].selector, size);
	stack_push(stack, cpu->rip, size);
	if (d->event->has_error)
		stack_push(stack, d->event->error, size);
}

static void deliver_inner(struct delivery *d, unsigned size)
{
	static const uint8_t order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
	struct cpu *cpu = d->cpu;
	bool from_v86 = cpu_is_v86(cpu);
	struct stack stack;

	stack_from_tss(cpu, d->target.cpl, d->ext, &stack);
	stack_need(&stack, ((from_v86 ? 9 : 5) + d->event->has_error) * size);
	code_check_rip(cpu, &d->target, d->ext);
	if (from_v86) {
		for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
			stack_push(&stack, cpu->seg[order[i]].selector, size);
	}
	push_frame(d, &stack, size, true);
	desc_mark_accessed(cpu, &d->target.desc);
	if (from_v86) {
		for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
			seg_set_null(cpu, order[i], 0);
	}
	cpu->seg[SEG_SS] = stack.ss;
	cpu->regs[CPU_RSP] = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	enter_handler(d, d->type == DESC_INT16 || d->type == DESC_INT32);
}

static void deliver_same(struct delivery *d, unsigned size)
{
	struct cpu *cpu = d->cpu;
	struct stack stack;
	uint64_t rsp;

	stack_init(&stack, cpu, d->ext);
	stack_need(&stack, (3 + d->event->has_error) * size);
	code_check_rip(cpu, &d->target, d->ext);
	push_frame(d, &stack, size, false);
	rsp = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	desc_mark_accessed(cpu, &d->target.desc);
	cpu->regs[CPU_RSP] = rsp;
	enter_handler(d, d->type == DESC_INT16 || d->type == DESC_INT32);
}

static void deliver_protected(struct delivery *d)
{
	struct cpu *cpu = d->cpu;
	const struct cpu_event *event = d->event;
	uint32_t at = (uint32_t)cpu->idtr.base + event->vector * 8u;
	unsigned size;

	if (event->vector * 8u + 7 > cpu->idtr.limit)
		cpu_raise_error(cpu, EXC_GP, d->gate_error);
	d->gate = mem_read_system(cpu, at, 8);
	d->type = desc_type(d->gate);
	check_gate(d, d->type == DESC_TASK_GATE || (d->type & ~9u) == DESC_INT16);
	if (d->type == DESC_TASK_GATE) {
		task_switch_gate(cpu, d->gate, TASK_EVENT, d->ext,
				 event->has_error ? &event->error : NULL);
		return;
	}
	check_code(d, d->gate >> 16);
	size = d->type & 8 ? 4 : 2;
	d->target.rip = d->gate & 0xffff;
	if (size == 4)
		d->target.rip |= (d->gate >> 32) & 0xffff0000;
	if (cpu_is_v86(cpu) && (d->target.cpl || desc_is_conforming(d->target.desc.raw)))
		cpu_raise_error(cpu, EXC_GP, selector_error(d->gate >> 16, d->ext));
	if (d->target.cpl < cpu->cpl)
		deliver_inner(d, size);
	else
		deliver_same(d, size);
}

/* --- Real mode --- */

static void deliver_real(struct delivery *d)
{
	struct cpu *cpu = d->cpu;
	unsigned at = d->event->vector * 4u;
	struct stack stack;
	uint32_t entry;

	if (at + 3 > cpu->idtr.limit)
		cpu_raise_error(cpu, EXC_GP, d->gate_error);
	entry = mem_read_system(cpu, (uint32_t)(cpu->idtr.base + at), 4);
	stack_init(&stack, cpu, 0);
	stack_push(&stack, pushed_flags(cpu, d->event), 2);
	stack_push(&stack, cpu->seg[SEG_CS].selector, 2);
	stack_push(&stack, cpu->rip, 2);
	if ((entry & 0xffff) > cpu->seg[SEG_CS].limit)
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu->regs[CPU_RSP] = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	cpu_set_rflags(cpu, 0, FL_IF | FL_TF | FL_AC | FL_RF);
	seg_set_real(cpu, SEG_CS, entry >> 16);
	cpu->rip = entry & 0xffff;
	cpu_mode_changed(cpu);
}

/* --- All modes --- */

void event_deliver(struct cpu *cpu, const struct cpu_event *event)
{
	struct cpu_event copy = *event;
	struct delivery d = {.cpu = cpu, .event = &copy};

	d.ext = !is_software(&copy);
	d.gate_error = copy.vector * 8u + 2 + d.ext;
	copy.pending = false;
	if (copy.kind == CPU_EVENT_EXCEPTION || copy.kind == CPU_EVENT_INTERRUPT ||
	    copy.kind == CPU_EVENT_NMI) {
		cpu->event = copy;
		cpu->event.pending = true;
	}
	if (copy.kind == CPU_EVENT_NMI)
		cpu->nmi_blocked = true;
	if (copy.vector == EXC_DB && copy.kind == CPU_EVENT_EXCEPTION)
		cpu->dr7 &= ~(uint64_t)DR7_GD;
	if (!is_software(&copy)) {
		cpu->activity = CPU_ACTIVE;
		cpu->shadow_sti = false;
		cpu->shadow_movss = false;
		cpu->pending_debug = 0;
	}
	cpu->step_tf = false;
	if (!(cpu->cr0 & CR0_PE))
		deliver_real(&d);
	else if (cpu_is_long(cpu))
		deliver_long(&d);
	else
		deliver_protected(&d);
	cpu->event.pending = false;
}

enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum severity severity(const struct cpu_event *event)
{
	if (event->kind != CPU_EVENT_EXCEPTION)
		return BENIGN;
	switch (event->vector) {
	case EXC_DE:
	case EXC_TS:
	case EXC_NP:
	case EXC_SS:
	case EXC_GP:
		return CONTRIBUTORY;
	case EXC_PF:
		return PAGE_FAULT;
	case EXC_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

bool exception_combine(const struct cpu_event *first, const struct cpu_event *second,
		       struct cpu_event *out)
{
	enum severity a = severity(first), b = severity(second);
	bool both = b != BENIGN && (a == PAGE_FAULT || (a == CONTRIBUTORY && b == CONTRIBUTORY));

	if (a == DOUBLE_FAULT && b != BENIGN)
		return false;
	if (both)
		*out = (struct cpu_event){.pending = true,
					  .vector = EXC_DF,
					  .kind = CPU_EVENT_EXCEPTION,
					  .has_error = true};
	else
		*out = *second;
	return true;
}

/* --- Instructions that raise events --- */

static void software_event(struct cpu *cpu, uint8_t vector, enum cpu_event_kind kind)
{
	struct cpu_event event = {.pending = true, .vector = vector, .kind = kind};

	event_deliver(cpu, &event);
}

void sys_int3(struct cpu *cpu, const struct op *op)
{
	software_event(cpu, EXC_BP, CPU_EVENT_SOFT_EXC);
}

void sys_int(struct cpu *cpu, const struct op *op)
{
	if (cpu_is_v86(cpu) && cpu_iopl(cpu) < 3)
		cpu_raise_error(cpu, EXC_GP, 0);
	software_event(cpu, (uint8_t)op->imm, CPU_EVENT_SOFT_INT);
}

void sys_into(struct cpu *cpu, const struct op *op)
{
	if (cpu_rflags(cpu) & FL_OF)
		software_event(cpu, EXC_OF, CPU_EVENT_SOFT_EXC);
}

/* ICEBP: a trap that sets no bit of DR6, but takes the debug traps held by MOV SS along. */
void sys_int1(struct cpu *cpu, const struct op *op)
{
	uint64_t held = cpu->pending_debug;

	software_event(cpu, EXC_DB, CPU_EVENT_ICEBP);
	cpu->dr6 |= held;
	cpu->dr7 &= ~(uint64_t)DR7_GD;
}

void sys_bound(struct cpu *cpu, const struct op *op)
{
	uint64_t at = op_offset(cpu, op);
	unsigned bits = 64 - 8 * op->size;
	int64_t index = (int64_t)(reg_get(cpu, op->reg, op->size) << bits) >> bits;
	int64_t low = (int64_t)(mem_read(cpu, op->segment, at, op->size) << bits) >> bits;
	uint64_t next = (at + op->size) & size_mask(op->address_size);
	int64_t high = (int64_t)(mem_read(cpu, op->segment, next, op->size) << bits) >> bits;

	if (index < low || index > high)
		cpu_raise(cpu, EXC_BR);
}
