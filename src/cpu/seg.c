// SPDX-License-Identifier: GPL-2.0-or-later
/* Segmentation: descriptor tables, the checks of a segmented access, loads of segment registers and
 * stacks (Intel SDM 3A chapters 3 and 5). */
#include "cpu/mem.h"
#include "cpu/sys.h"

/* --- Accesses --- */

static G_NORETURN void seg_fault(struct cpu *cpu, unsigned segment)
{
	cpu_raise_error(cpu, segment == SEG_SS ? EXC_SS : EXC_GP, 0);
}

static bool in_limit(const struct cpu_segment *seg, uint64_t offset, unsigned size, bool types)
{
	uint64_t last = offset + size - 1;

	if (types && (seg->attr & (SEG_S | SEG_CODE | SEG_DC)) == (SEG_S | SEG_DC))
		return offset > seg->limit && last <= (seg->attr & SEG_DB ? 0xffffffff : 0xffff);
	return last <= seg->limit;
}

static bool type_allows(const struct cpu_segment *seg, enum mem_access access)
{
	if (seg->attr & SEG_UNUSABLE)
		return false;
	if (access == MEM_FETCH)
		return true;
	if (access == MEM_WRITE)
		return (seg->attr & (SEG_CODE | SEG_RW)) == SEG_RW;
	return (seg->attr & (SEG_CODE | SEG_RW)) != SEG_CODE;
}

uint64_t seg_linear(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
		    enum mem_access access)
{
	const struct cpu_segment *seg = &cpu->seg[segment];
	bool types;

	if (cpu->code_size == 8) {
		uint64_t linear = offset;

		if (segment == SEG_FS || segment == SEG_GS)
			linear += seg->base;
		if (!is_canonical(linear) || !is_canonical(linear + size - 1))
			seg_fault(cpu, segment);
		return linear;
	}
	types = cpu_is_protected(cpu);
	if ((types && !type_allows(seg, access)) || !in_limit(seg, offset, size, types))
		seg_fault(cpu, segment);
	return (uint32_t)(seg->base + offset);
}

/* --- Descriptors --- */

bool desc_read(struct cpu *cpu, uint16_t selector, struct desc *desc)
{
	uint64_t base = cpu->gdtr.base;
	uint32_t limit = cpu->gdtr.limit;

	if (selector & 4) {
		const struct cpu_segment *ldt = &cpu->seg[SEG_LDTR];

		if (ldt->attr & SEG_UNUSABLE)
			return false;
		base = ldt->base;
		limit = ldt->limit;
	}
	if ((selector | 7u) > limit)
		return false;
	desc->selector = selector;
	desc->at = base + (selector & 0xfff8);
	if (!cpu_is_long(cpu))
		desc->at = (uint32_t)desc->at;
	desc->raw = mem_read_system(cpu, desc->at, 8);
	return true;
}

bool desc_read_high(struct cpu *cpu, const struct desc *desc, uint64_t *high)
{
	uint32_t limit = desc->selector & 4 ? cpu->seg[SEG_LDTR].limit : cpu->gdtr.limit;

	if ((desc->selector | 7u) + 8 > limit)
		return false;
	*high = mem_read_system(cpu, desc->at + 8, 8);
	return true;
}

struct cpu_segment desc_segment(const struct desc *desc)
{
	uint64_t raw = desc->raw;
	struct cpu_segment seg = {
		.base = ((raw >> 16) & 0xffffff) | ((raw >> 32) & 0xff000000),
		.limit = (raw & 0xffff) | ((raw >> 32) & 0xf0000),
		.selector = desc->selector,
		.attr = desc_attr(raw),
	};

	if (seg.attr & SEG_G)
		seg.limit = seg.limit << 12 | 0xfff;
	return seg;
}

void desc_mark_accessed(struct cpu *cpu, struct desc *desc)
{
	uint64_t bit = (uint64_t)SEG_ACCESSED << 40;

	if (desc->raw & bit)
		return;
	desc->raw |= bit;
	mem_write_system(cpu, desc->at + 5, (desc->raw >> 40) & 0xff, 1);
}

void desc_set_busy(struct cpu *cpu, uint16_t selector, bool busy)
{
	uint64_t at = cpu->gdtr.base + (selector & 0xfff8) + 5;
	uint64_t byte;

	if (!cpu_is_long(cpu))
		at = (uint32_t)at;
	byte = mem_read_system(cpu, at, 1);
	mem_write_system(cpu, at, busy ? byte | 2 : byte & ~UINT64_C(2), 1);
}

/* --- Loading segment registers --- */

void seg_set_real(struct cpu *cpu, unsigned segment, uint16_t selector)
{
	struct cpu_segment *seg = &cpu->seg[segment];

	/* The limit and the size stay as they were: "big real mode". */
	if (seg->attr & SEG_UNUSABLE) {
		seg->limit = 0xffff;
		seg->attr = 0;
	}
	seg->selector = selector;
	seg->base = (uint64_t)selector << 4;
	seg->attr = (seg->attr & (SEG_G | SEG_DB | SEG_AVL)) | SEG_P | SEG_S | SEG_RW |
		    SEG_ACCESSED | (segment == SEG_CS ? SEG_CODE : 0);
}

void seg_set_v86(struct cpu *cpu, unsigned segment, uint16_t selector)
{
	cpu->seg[segment] = (struct cpu_segment){
		.base = (uint64_t)selector << 4,
		.limit = 0xffff,
		.selector = selector,
		.attr = SEG_P | SEG_S | SEG_DPL | SEG_RW | SEG_ACCESSED,
	};
}

void seg_set_null(struct cpu *cpu, unsigned segment, uint16_t selector)
{
	cpu->seg[segment] = (struct cpu_segment){
		.selector = selector,
		.attr = SEG_UNUSABLE,
	};
	if (segment == SEG_SS) /* the privilege is to be seen in SS whatever it holds */
		cpu->seg[segment].attr |= (selector & 3) << SEG_DPL_SHIFT;
}

void seg_set_flat(struct cpu *cpu, unsigned segment, uint16_t selector, uint16_t attr)
{
	cpu->seg[segment] = (struct cpu_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.attr = attr | SEG_P | SEG_S | SEG_G | SEG_ACCESSED,
	};
}

void seg_check_stack(struct cpu *cpu, uint16_t selector, unsigned cpl, uint8_t vector, uint32_t ext,
		     struct cpu_segment *out)
{
	struct desc desc;
	unsigned type;

	if (selector_is_null(selector))
		cpu_raise_error(cpu, vector, ext);
	if (!desc_read(cpu, selector, &desc))
		cpu_raise_error(cpu, vector, selector_error(selector, ext));
	type = desc_type(desc.raw);
	if ((selector & 3u) != cpl || (type & (SEG_S | SEG_CODE | SEG_RW)) != (SEG_S | SEG_RW) ||
	    desc_dpl(desc.raw) != cpl)
		cpu_raise_error(cpu, vector, selector_error(selector, ext));
	if (!desc_present(desc.raw))
		cpu_raise_error(cpu, EXC_SS, selector_error(selector, ext));
	desc_mark_accessed(cpu, &desc);
	*out = desc_segment(&desc);
}

void seg_check_data(struct cpu *cpu, uint16_t selector, unsigned cpl, uint8_t vector, uint32_t ext,
		    struct cpu_segment *out)
{
	struct desc desc;
	unsigned type, rpl = selector & 3;

	if (selector_is_null(selector)) {
		*out = (struct cpu_segment){.selector = selector, .attr = SEG_UNUSABLE};
		return;
	}
	if (!desc_read(cpu, selector, &desc))
		cpu_raise_error(cpu, vector, selector_error(selector, ext));
	type = desc_type(desc.raw);
	if (!(type & SEG_S) || (type & (SEG_CODE | SEG_RW)) == SEG_CODE)
		cpu_raise_error(cpu, vector, selector_error(selector, ext));
	if ((type & (SEG_CODE | SEG_DC)) != (SEG_CODE | SEG_DC) &&
	    (rpl > desc_dpl(desc.raw) || cpl > desc_dpl(desc.raw)))
		cpu_raise_error(cpu, vector, selector_error(selector, ext));
	if (!desc_present(desc.raw))
		cpu_raise_error(cpu, EXC_NP, selector_error(selector, ext));
	desc_mark_accessed(cpu, &desc);
	*out = desc_segment(&desc);
}

void seg_load(struct cpu *cpu, unsigned segment, uint16_t selector)
{
	struct cpu_segment loaded;

	if (!(cpu->cr0 & CR0_PE)) {
		seg_set_real(cpu, segment, selector);
	} else if (cpu_is_v86(cpu)) {
		seg_set_v86(cpu, segment, selector);
	} else if (segment != SEG_SS) {
		seg_check_data(cpu, selector, cpu->cpl, EXC_GP, 0, &loaded);
		cpu->seg[segment] = loaded;
	} else if (selector_is_null(selector) && cpu->code_size == 8 && cpu->cpl < 3 &&
		   (selector & 3) == cpu->cpl) {
		seg_set_null(cpu, SEG_SS, selector);
	} else {
		seg_check_stack(cpu, selector, cpu->cpl, EXC_GP, 0, &loaded);
		cpu->seg[SEG_SS] = loaded;
	}
	if (cpu->code_size != 8) /* no segment of 64-bit code but CS says anything of its mode */
		cpu_mode_changed(cpu);
}

void seg_drop_privileged(struct cpu *cpu)
{
	static const uint8_t list[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned i = 0; i < G_N_ELEMENTS(list); i++) {
		struct cpu_segment *seg = &cpu->seg[list[i]];
		bool conforming = (seg->attr & (SEG_CODE | SEG_DC)) == (SEG_CODE | SEG_DC);

		if (!(seg->attr & SEG_UNUSABLE) &&
		    (conforming || ((seg->attr & SEG_DPL) >> SEG_DPL_SHIFT) >= cpu->cpl))
			continue;
		/* Only the selector goes, a null one's RPL too: 64-bit kernels rely on the bases
		 * of FS and GS. */
		seg->selector = 0;
		seg->attr |= SEG_UNUSABLE;
	}
	if (cpu->code_size != 8)
		cpu_mode_changed(cpu);
}

/* --- Stacks --- */

static uint64_t stack_mask(const struct cpu_segment *ss, bool flat64)
{
	return flat64 ? UINT64_MAX : ss->attr & SEG_DB ? 0xffffffff : 0xffff;
}

void stack_init(struct stack *stack, struct cpu *cpu, uint32_t error)
{
	stack->cpu = cpu;
	stack->ss = cpu->seg[SEG_SS];
	stack->flat64 = cpu->code_size == 8;
	stack->mask = stack_mask(&stack->ss, stack->flat64);
	stack->sp = cpu->regs[CPU_RSP] & stack->mask;
	stack->cpl = cpu->cpl;
	stack->error = error;
}

static uint64_t stack_linear(struct stack *stack, uint64_t sp, unsigned size)
{
	struct cpu *cpu = stack->cpu;

	if (stack->flat64) {
		if (!is_canonical(sp) || !is_canonical(sp + size - 1))
			cpu_raise_error(cpu, EXC_SS, stack->error);
		return sp;
	}
	if ((stack->ss.attr & SEG_UNUSABLE) ||
	    !in_limit(&stack->ss, sp, size, cpu_is_protected(cpu)))
		cpu_raise_error(cpu, EXC_SS, stack->error);
	return (uint32_t)(stack->ss.base + sp);
}

void stack_push(struct stack *stack, uint64_t value, unsigned size)
{
	uint64_t sp = (stack->sp - size) & stack->mask;

	mem_write_as(stack->cpu, stack_linear(stack, sp, size), value & size_mask(size), size,
		     stack->cpl);
	stack->sp = sp;
}

uint64_t stack_pop(struct stack *stack, unsigned size)
{
	uint64_t value =
		mem_read_as(stack->cpu, stack_linear(stack, stack->sp, size), size, stack->cpl);

	stack->sp = (stack->sp + size) & stack->mask;
	return value;
}

void stack_push_words(struct stack *stack, const uint64_t *words, unsigned count)
{
	uint64_t sp = stack->sp - 8 * count;

	if (is_canonical(sp) && mem_try_write_words(stack->cpu, sp, words, count, stack->cpl)) {
		stack->sp = sp;
		return;
	}
	while (count > 0)
		stack_push(stack, words[--count], 8);
}

void stack_need(struct stack *stack, unsigned bytes)
{
	for (unsigned done = 2; done <= bytes; done += 2)
		stack_linear(stack, (stack->sp - done) & stack->mask, 2);
}

uint64_t stack_rsp(const struct stack *stack, uint64_t old_rsp)
{
	if (stack->mask == 0xffff)
		return (old_rsp & ~UINT64_C(0xffff)) | stack->sp;
	return stack->sp;
}

void stack_from_tss(struct cpu *cpu, unsigned cpl, uint32_t ext, struct stack *stack)
{
	const struct cpu_segment *tr = &cpu->seg[SEG_TR];
	bool wide = (tr->attr & SEG_TYPE) == DESC_TSS32_BUSY;
	unsigned at = wide ? 4 + 8 * cpl : 2 + 4 * cpl, size = wide ? 4 : 2;
	uint16_t selector;

	if (at + size + 1 > tr->limit)
		cpu_raise_error(cpu, EXC_TS, selector_error(tr->selector, ext));
	stack->cpu = cpu;
	stack->sp = mem_read_system(cpu, (uint32_t)(tr->base + at), size);
	selector = mem_read_system(cpu, (uint32_t)(tr->base + at + size), 2);
	seg_check_stack(cpu, selector, cpl, EXC_TS, ext, &stack->ss);
	stack->flat64 = false;
	stack->mask = stack_mask(&stack->ss, false);
	stack->sp &= stack->mask;
	stack->cpl = cpl;
	stack->error = selector_error(selector, ext);
}

uint64_t tss_rsp(struct cpu *cpu, unsigned slot, uint32_t ext)
{
	const struct cpu_segment *tr = &cpu->seg[SEG_TR];
	unsigned at = slot < 3 ? 4 + 8 * slot : 36 + 8 * (slot - 3);
	uint64_t rsp;

	if (at + 7 > tr->limit)
		cpu_raise_error(cpu, EXC_TS, selector_error(tr->selector, ext));
	rsp = mem_read_system(cpu, tr->base + at, 8);
	if (!is_canonical(rsp))
		cpu_raise_error(cpu, EXC_SS, ext);
	return rsp;
}

/* --- LAR, LSL, VERR, VERW, ARPL --- */

static uint16_t selector_operand(struct cpu *cpu, const struct op *op)
{
	if (op->flags & OP_MEM)
		return mem_read(cpu, op->segment, op_offset(cpu, op), 2);
	return reg_get(cpu, op->rm, 2);
}

static void set_zf(struct cpu *cpu, bool on)
{
	cpu_set_rflags(cpu, on ? FL_ZF : 0, FL_ZF);
}

static void refuse_without_selectors(struct cpu *cpu)
{
	if (!cpu_is_protected(cpu))
		cpu_raise(cpu, EXC_UD);
}

/* Whether CPL and RPL may look at the descriptor at all. */
static bool visible(const struct cpu *cpu, const struct desc *desc)
{
	unsigned dpl = desc_dpl(desc->raw);

	if (desc_is_code(desc->raw) && desc_is_conforming(desc->raw))
		return true;
	return cpu->cpl <= dpl && (desc->selector & 3u) <= dpl;
}

/* System types that LAR (@gates) or LSL accept, as a set of bits. */
static bool system_type_known(const struct cpu *cpu, unsigned type, bool gates)
{
	unsigned known;

	if (cpu_is_long(cpu))
		known = 1u << DESC_LDT | 1u << DESC_TSS32 | 1u << DESC_TSS32_BUSY |
			(gates ? 1u << DESC_CALL32 : 0);
	else
		known = 1u << DESC_TSS16 | 1u << DESC_LDT | 1u << DESC_TSS16_BUSY |
			1u << DESC_TSS32 | 1u << DESC_TSS32_BUSY |
			(gates ? 1u << DESC_CALL16 | 1u << DESC_TASK_GATE | 1u << DESC_CALL32 : 0);
	return known >> type & 1;
}

static bool inspect(struct cpu *cpu, const struct op *op, bool gates, struct desc *desc)
{
	uint16_t selector;
	uint64_t high;
	unsigned type;

	refuse_without_selectors(cpu);
	selector = selector_operand(cpu, op);
	if (selector_is_null(selector) || !desc_read(cpu, selector, desc) || !visible(cpu, desc))
		return false;
	type = desc_type(desc->raw);
	if (type & SEG_S)
		return true;
	if (!system_type_known(cpu, type, gates))
		return false;
	return !cpu_is_long(cpu) || (desc_read_high(cpu, desc, &high) && !(high >> 40 & 0x1f));
}

void sys_lar(struct cpu *cpu, const struct op *op)
{
	struct desc desc;
	bool ok = inspect(cpu, op, true, &desc);

	if (ok)
		reg_set(cpu, op->reg, op->size, (desc.raw >> 32) & 0x00ffff00);
	set_zf(cpu, ok);
}

void sys_lsl(struct cpu *cpu, const struct op *op)
{
	struct desc desc;
	bool ok = inspect(cpu, op, false, &desc);

	if (ok)
		reg_set(cpu, op->reg, op->size, desc_segment(&desc).limit);
	set_zf(cpu, ok);
}

static void verify(struct cpu *cpu, const struct op *op, bool write)
{
	uint16_t selector;
	struct desc desc;
	unsigned type;
	bool ok;

	refuse_without_selectors(cpu);
	selector = selector_operand(cpu, op);
	ok = !selector_is_null(selector) && desc_read(cpu, selector, &desc) && visible(cpu, &desc);
	if (ok) {
		type = desc_type(desc.raw);
		if (write)
			ok = (type & (SEG_S | SEG_CODE | SEG_RW)) == (SEG_S | SEG_RW);
		else
			ok = (type & SEG_S) && (type & (SEG_CODE | SEG_RW)) != SEG_CODE;
	}
	set_zf(cpu, ok);
}

void sys_verr(struct cpu *cpu, const struct op *op)
{
	verify(cpu, op, false);
}

void sys_verw(struct cpu *cpu, const struct op *op)
{
	verify(cpu, op, true);
}

void sys_arpl(struct cpu *cpu, const struct op *op)
{
	uint16_t to, from = reg_get(cpu, op->reg, 2);
	uint64_t offset = 0;
	bool raise_rpl;

	refuse_without_selectors(cpu);
	if (op->flags & OP_MEM) {
		offset = op_offset(cpu, op);
		to = mem_read(cpu, op->segment, offset, 2);
	} else {
		to = reg_get(cpu, op->rm, 2);
	}
	raise_rpl = (to & 3) < (from & 3);
	if (raise_rpl) {
		to = (to & ~3) | (from & 3);
		if (op->flags & OP_MEM)
			mem_write(cpu, op->segment, offset, to, 2);
		else
			reg_set(cpu, op->rm, 2, to);
	}
	set_zf(cpu, raise_rpl);
}

/* --- MOV, PUSH, POP of segment registers; LDS and its kin --- */

void sys_mov_from_seg(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = cpu->seg[op->modrm >> 3 & 7].selector;

	if (op->flags & OP_MEM)
		mem_write(cpu, op->segment, op_offset(cpu, op), selector, 2);
	else
		reg_set(cpu, op->rm, op->size, selector);
}

void sys_mov_to_seg(struct cpu *cpu, const struct op *op)
{
	unsigned segment = op->modrm >> 3 & 7;

	seg_load(cpu, segment, selector_operand(cpu, op));
	if (segment == SEG_SS)
		cpu->shadow_movss = true;
}

/* The register that a PUSH or POP opcode names. */
static unsigned implied_segment(const struct op *op)
{
	return op->opcode >> 3 & 7;
}

void sys_push_seg(struct cpu *cpu, const struct op *op)
{
	struct stack stack;

	stack_init(&stack, cpu, 0);
	stack_push(&stack, cpu->seg[implied_segment(op)].selector, op->size);
	cpu->regs[CPU_RSP] = stack_rsp(&stack, cpu->regs[CPU_RSP]);
}

void sys_pop_seg(struct cpu *cpu, const struct op *op)
{
	unsigned segment = implied_segment(op);
	uint64_t rsp = cpu->regs[CPU_RSP];
	struct stack stack;
	uint16_t selector;

	stack_init(&stack, cpu, 0);
	selector = stack_pop(&stack, op->size);
	seg_load(cpu, segment, selector);
	cpu->regs[CPU_RSP] = stack_rsp(&stack, rsp);
	if (segment == SEG_SS)
		cpu->shadow_movss = true;
}

/* LES, LDS, LSS, LFS, LGS. */
void sys_load_far_pointer(struct cpu *cpu, const struct op *op)
{
	static const uint8_t by_0f[] = {[2] = SEG_SS, [4] = SEG_FS, [5] = SEG_GS};
	uint64_t at = op_offset(cpu, op);
	uint64_t offset = mem_read(cpu, op->segment, at, op->size);
	uint16_t selector =
		mem_read(cpu, op->segment,
			 (at + op->size) &
				 (op->address_size == 8 ? UINT64_MAX : size_mask(op->address_size)),
			 2);
	unsigned segment =
		op->map == MAP_1BYTE ? op->opcode == 0xc4 ? SEG_ES : SEG_DS : by_0f[op->opcode & 7];

	seg_load(cpu, segment, selector);
	reg_set(cpu, op->reg, op->size, offset);
}
