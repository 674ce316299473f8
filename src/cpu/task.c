// SPDX-License-Identifier: GPL-2.0-or-later
/* The hardware task switch with 16- and 32-bit TSSs (Intel SDM 3A chapter 7).
 *
 * Invariants: up to the point where TR changes, a fault belongs to the old task and the instruction
 * (or event) that asked for the switch can be tried again; after it, to the new task at its EIP. */
#include "cpu/sys.h"

/* Where things are in a TSS, and how wide. */
struct tss_layout {
	unsigned minimum; /* smallest limit */
	unsigned size;    /* of registers */
	unsigned eip, eflags, regs, segments, segment_step, segment_count, ldt;
};

static const struct tss_layout tss32 = {
	.minimum = 0x67,
	.size = 4,
	.eip = 0x20,
	.eflags = 0x24,
	.regs = 0x28,
	.segments = 0x48,
	.segment_step = 4,
	.segment_count = 6,
	.ldt = 0x60,
};
static const struct tss_layout tss16 = {
	.minimum = 0x2b,
	.size = 2,
	.eip = 0x0e,
	.eflags = 0x10,
	.regs = 0x12,
	.segments = 0x22,
	.segment_step = 2,
	.segment_count = 4,
	.ldt = 0x2a,
};

/* A task's registers as its TSS holds them. */
struct task_image {
	uint32_t cr3, eip, eflags, regs[8];
	uint16_t segment[6], ldt;
	bool trap;
};

static uint32_t tss_get(struct cpu *cpu, uint64_t base, unsigned at, unsigned size)
{
	return mem_read_system(cpu, (uint32_t)(base + at), size);
}

static void tss_put(struct cpu *cpu, uint64_t base, unsigned at, uint32_t value, unsigned size)
{
	mem_write_system(cpu, (uint32_t)(base + at), value, size);
}

static void image_read(struct cpu *cpu, uint64_t base, const struct tss_layout *l,
		       struct task_image *image)
{
	*image = (struct task_image){0};
	if (l == &tss32) {
		image->cr3 = tss_get(cpu, base, 0x1c, 4);
		image->trap = tss_get(cpu, base, 0x64, 2) & 1;
	}
	image->eip = tss_get(cpu, base, l->eip, l->size);
	image->eflags = tss_get(cpu, base, l->eflags, l->size);
	for (unsigned i = 0; i < 8; i++)
		image->regs[i] = tss_get(cpu, base, l->regs + i * l->size, l->size);
	for (unsigned i = 0; i < l->segment_count; i++)
		image->segment[i] = tss_get(cpu, base, l->segments + i * l->segment_step, 2);
	image->ldt = tss_get(cpu, base, l->ldt, 2);
}

static void image_write(struct cpu *cpu, uint64_t base, const struct tss_layout *l, uint32_t eflags)
{
	tss_put(cpu, base, l->eip, cpu->rip, l->size);
	tss_put(cpu, base, l->eflags, eflags, l->size);
	for (unsigned i = 0; i < 8; i++)
		tss_put(cpu, base, l->regs + i * l->size, cpu->regs[i], l->size);
	for (unsigned i = 0; i < l->segment_count; i++)
		tss_put(cpu, base, l->segments + i * l->segment_step, cpu->seg[i].selector, 2);
}

/* The new TSS's descriptor, by SDM 3A table 7-1 and section 7.3. */
static void check_tss(struct cpu *cpu, uint16_t selector, enum task_reason reason, uint32_t ext,
		      struct desc *desc)
{
	uint8_t vector = reason == TASK_IRET ? EXC_TS : EXC_GP;
	uint32_t error = selector_error(selector, ext);
	unsigned type;
	bool busy;

	if (selector_is_null(selector) || (selector & 4) || !desc_read(cpu, selector, desc))
		cpu_raise_error(cpu, vector, error);
	type = desc_type(desc->raw);
	busy = type == DESC_TSS16_BUSY || type == DESC_TSS32_BUSY;
	if ((!busy && type != DESC_TSS16 && type != DESC_TSS32) || busy != (reason == TASK_IRET))
		cpu_raise_error(cpu, vector, error);
	if (!desc_present(desc->raw))
		cpu_raise_error(cpu, EXC_NP, error);
}

/* Saves the old task, and marks descriptors and the link. */
static void leave_old(struct cpu *cpu, enum task_reason reason, uint32_t ext, uint64_t new_base)
{
	const struct cpu_segment *tr = &cpu->seg[SEG_TR];
	bool old32 = (tr->attr & SEG_TYPE) == DESC_TSS32_BUSY;
	uint32_t eflags = cpu_rflags(cpu);

	if (reason == TASK_IRET)
		eflags &= ~(uint32_t)FL_NT;
	if (reason == TASK_EVENT && ext && cpu->event.pending &&
	    cpu->event.kind == CPU_EVENT_EXCEPTION && cpu->event.vector != EXC_DB)
		eflags |= FL_RF;
	image_write(cpu, tr->base, old32 ? &tss32 : &tss16, eflags);
	if (reason == TASK_CALL || reason == TASK_EVENT)
		tss_put(cpu, new_base, 0, tr->selector, 2);
	if (reason == TASK_JUMP || reason == TASK_IRET)
		desc_set_busy(cpu, tr->selector, false);
}

static void load_ldt(struct cpu *cpu, uint16_t selector, uint32_t ext)
{
	struct desc desc;

	seg_set_null(cpu, SEG_LDTR, selector);
	if (selector_is_null(selector))
		return;
	if ((selector & 4) || !desc_read(cpu, selector, &desc) || desc_type(desc.raw) != DESC_LDT ||
	    !desc_present(desc.raw))
		cpu_raise_error(cpu, EXC_TS, selector_error(selector, ext));
	cpu->seg[SEG_LDTR] = desc_segment(&desc);
}

static void load_code(struct cpu *cpu, uint16_t selector, uint32_t ext)
{
	uint32_t error = selector_error(selector, ext);
	struct desc desc;
	unsigned rpl = selector & 3;

	if (selector_is_null(selector) || !desc_read(cpu, selector, &desc) ||
	    !desc_is_code(desc.raw))
		cpu_raise_error(cpu, EXC_TS, error);
	if (desc_is_conforming(desc.raw) ? desc_dpl(desc.raw) > rpl : desc_dpl(desc.raw) != rpl)
		cpu_raise_error(cpu, EXC_TS, error);
	if (!desc_present(desc.raw))
		cpu_raise_error(cpu, EXC_NP, error);
	desc_mark_accessed(cpu, &desc);
	cpu->seg[SEG_CS] = desc_segment(&desc);
	cpu_mode_changed(cpu);
}

/* Loads the segments of the new task: its privilege is the RPL of its CS. */
static void enter_segments(struct cpu *cpu, const struct task_image *image, uint32_t ext)
{
	static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	struct cpu_segment ss;

	if (cpu_is_v86(cpu)) {
		load_ldt(cpu, image->ldt, ext);
		for (unsigned i = 0; i < 6; i++)
			seg_set_v86(cpu, i, image->segment[i]);
		return;
	}
	for (unsigned i = 0; i < 6; i++)
		seg_set_null(cpu, i, image->segment[i]);
	load_ldt(cpu, image->ldt, ext);
	load_code(cpu, image->segment[SEG_CS], ext);
	seg_check_stack(cpu, image->segment[SEG_SS], cpu->cpl, EXC_TS, ext, &ss);
	cpu->seg[SEG_SS] = ss;
	for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
		seg_check_data(cpu, image->segment[data[i]], cpu->cpl, EXC_TS, ext,
			       &cpu->seg[data[i]]);
}

static void enter_new(struct cpu *cpu, const struct desc *desc, const struct tss_layout *layout,
		      const struct task_image *image, enum task_reason reason)
{
	uint32_t eflags = image->eflags;

	if (layout == &tss16)
		eflags &= 0xffff;
	if (reason == TASK_CALL || reason == TASK_EVENT)
		eflags |= FL_NT;
	if (reason != TASK_IRET)
		desc_set_busy(cpu, desc->selector, true);
	cpu->cr0 |= CR0_TS;
	cpu->seg[SEG_TR] = desc_segment(desc);
	cpu->seg[SEG_TR].selector = desc->selector;
	cpu->seg[SEG_TR].attr |= 2; /* busy */
	restart_at(cpu, image->eip);
	for (unsigned i = 0; i < 8; i++)
		cpu->regs[i] = layout == &tss32 ? image->regs[i] : image->regs[i] | 0xffff0000;
	cpu->dr7 &= ~UINT64_C(0x155); /* the local enables are per task */
	cpu->cpl = eflags & FL_VM ? 3 : image->segment[SEG_CS] & 3;
	if (!(cpu->dr7 & 0xff)) /* as in IRET */
		eflags &= ~(uint32_t)FL_RF;
	cpu_set_rflags(cpu, eflags, 0x3f7fd5);
	if (layout == &tss32 && (cpu->cr0 & CR0_PG) && image->cr3 != cpu->cr3)
		cpu_write_cr3(cpu, image->cr3);
	cpu_mode_changed(cpu);
}

void task_switch(struct cpu *cpu, uint16_t selector, enum task_reason reason, uint32_t ext,
		 const uint32_t *error)
{
	const struct tss_layout *layout;
	struct cpu_segment tss;
	struct task_image image;
	struct stack stack;
	struct desc desc;

	check_tss(cpu, selector, reason, ext, &desc);
	layout = desc_type(desc.raw) & 8 ? &tss32 : &tss16;
	tss = desc_segment(&desc);
	if (tss.limit < layout->minimum)
		cpu_raise_error(cpu, EXC_TS, selector_error(selector, ext));
	image_read(cpu, tss.base, layout, &image);
	leave_old(cpu, reason, ext, tss.base);
	/* A nested task that switches to itself finds what was just saved. */
	if (tss.base == cpu->seg[SEG_TR].base)
		image_read(cpu, tss.base, layout, &image);
	enter_new(cpu, &desc, layout, &image, reason);
	enter_segments(cpu, &image, ext);
	cpu_mode_changed(cpu);
	if (error) {
		stack_init(&stack, cpu, ext);
		stack_push(&stack, *error, layout->size);
		cpu->regs[CPU_RSP] = stack_rsp(&stack, cpu->regs[CPU_RSP]);
	}
	if (cpu->rip > cpu->seg[SEG_CS].limit)
		cpu_raise_error(cpu, EXC_GP, ext);
	if (image.trap) {
		cpu->pending_debug |= DR6_BT;
		cpu->request |= REQ_DEBUG;
	}
}

void task_switch_gate(struct cpu *cpu, uint64_t gate, enum task_reason reason, uint32_t ext,
		      const uint32_t *error)
{
	task_switch(cpu, gate >> 16, reason, ext, error);
}
