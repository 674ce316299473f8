// SPDX-License-Identifier: GPL-2.0-or-later
/* String instructions. Each iteration is committed before the next begins, so a fault or an
 * interrupt leaves RCX, RSI and RDI where it happened; long forward MOVS and STOS are done by the
 * page with the host's copy. */
#include "cpu/alu.h"
#include "cpu/cache.h"
#include "cpu/flags.h"
#include "cpu/operand.h"

/* Iterations that may be done at a stretch before rep_pause is asked again. */
static uint64_t allowance(const struct cpu *cpu)
{
	uint64_t used = cpu->retired + cpu->block->count;

	if (cpu->mode & MODE_STEP)
		return 1;
	return cpu->retire_limit > used ? cpu->retire_limit - used + 1 : 1;
}

bool rep_pause(struct cpu *cpu)
{
	uint32_t request = atomic_load_explicit(&cpu->request, memory_order_relaxed);

	if ((request & ~(uint32_t)REQ_COUNT) || cpu->block_hit || (cpu->mode & MODE_STEP) ||
	    cpu->retired + cpu->block->count >= cpu->retire_limit)
		return true;
	cpu->retired++;
	return false;
}

static void advance(struct cpu *cpu, const struct op *op, unsigned reg, uint64_t iterations)
{
	uint64_t bytes = iterations * op->size;

	if (cpu->rflags & FL_DF)
		bytes = -bytes;
	reg_set(cpu, reg, op->address_size, cpu->regs[reg] + bytes);
}

static uint64_t index_offset(const struct cpu *cpu, const struct op *op, unsigned reg)
{
	return cpu->regs[reg] & size_mask(op->address_size);
}

static uint64_t count_get(const struct cpu *cpu, const struct op *op)
{
	return cpu->regs[CPU_RCX] & size_mask(op->address_size);
}

static bool repeated(const struct op *op)
{
	return op->flags & (OP_REP | OP_REPNE);
}

/* Commits @done iterations of the @left that are to be done. True: the handler must leave. */
static bool repeat(struct cpu *cpu, const struct op *op, uint64_t left, uint64_t done)
{
	reg_set(cpu, CPU_RCX, op->address_size, left - done);
	cpu->retired += done - 1;
	if (left == done)
		return true;
	if (rep_pause(cpu)) {
		cpu->rip = op_rip(cpu, op);
		return true;
	}
	return false;
}

/* How many elements fit forward from @offset without leaving the page, the segment's range of the
 * address size, or @wanted; 0 when forward runs are not possible at all. */
static uint64_t run_length(const struct cpu *cpu, const struct op *op, uint64_t offset,
			   uint64_t linear, uint64_t wanted)
{
	uint64_t room = 0x1000 - (linear & 0xfff);

	if (cpu->rflags & FL_DF)
		return 0;
	if (op->address_size == 2)
		room = MIN(room, 0x10000 - offset);
	return MIN(wanted, room / op->size);
}

/* Host memory of the run, or NULL: then the elements go one by one. */
static uint8_t *run_host(struct cpu *cpu, const struct op *op, unsigned segment, uint64_t offset,
			 uint64_t *count, enum mem_access access, struct tlb_page *page)
{
	uint64_t linear, bytes;

	if (cpu->code_size != 8 && (!(cpu->mode & MODE_FLAT) || segment >= SEG_FS)) {
		const struct cpu_segment *seg = &cpu->seg[segment];
		/* Plain expand-up segments only; the first element's own check covers the rights.
		 */
		if ((seg->attr & (SEG_UNUSABLE | SEG_CODE | SEG_DC)) || offset > seg->limit)
			return NULL;
		*count = MIN(*count, (seg->limit - offset + UINT64_C(1)) / op->size);
		if (!*count)
			return NULL;
		linear = seg_linear(cpu, segment, offset, op->size, access);
	} else {
		linear = mem_linear(cpu, segment, offset, op->size, access);
	}
	*count = run_length(cpu, op, offset, linear, *count);
	bytes = *count * op->size;
	return bytes ? mem_host(cpu, linear, (unsigned)bytes, access, page) : NULL;
}

/* A forward copy by elements: where the destination begins inside the source run, earlier stores
 * are read again. */
static void copy_forward(uint8_t *to, const uint8_t *from, uint64_t bytes, unsigned size)
{
	if (to <= from || to >= from + bytes) {
		memmove(to, from, bytes);
		return;
	}
	for (uint64_t i = 0; i < bytes; i += size) {
		uint64_t element;

		memcpy(&element, from + i, size);
		memcpy(to + i, &element, size);
	}
}

/* A run of MOVS; returns the number of elements done, 0 when it must go one by one. */
static uint64_t movs_run(struct cpu *cpu, const struct op *op, uint64_t wanted)
{
	uint64_t source = index_offset(cpu, op, CPU_RSI), target = index_offset(cpu, op, CPU_RDI);
	uint64_t count = MIN(wanted, allowance(cpu)), to_count;
	struct tlb_page from_page, to_page;
	uint8_t *from, *to;

	from = run_host(cpu, op, op->segment, source, &count, MEM_READ, &from_page);
	if (!from)
		return 0;
	to_count = count;
	to = run_host(cpu, op, SEG_ES, target, &to_count, MEM_WRITE, &to_page);
	if (!to)
		return 0;
	copy_forward(to, from, to_count * op->size, op->size);
	mem_host_written(cpu, &to_page, to_page.va | ((uintptr_t)to & 0xfff),
			 (unsigned)(to_count * op->size));
	return to_count;
}

void op_movs(struct cpu *cpu, const struct op *op)
{
	uint64_t left = repeated(op) ? count_get(cpu, op) : 1, done;

	while (left) {
		done = left > 1 ? movs_run(cpu, op, left) : 0;
		if (!done) {
			uint64_t value = mem_read(cpu, op->segment, index_offset(cpu, op, CPU_RSI),
						  op->size);

			mem_write(cpu, SEG_ES, index_offset(cpu, op, CPU_RDI), value, op->size);
			done = 1;
		}
		advance(cpu, op, CPU_RSI, done);
		advance(cpu, op, CPU_RDI, done);
		if (!repeated(op) || repeat(cpu, op, left, done))
			return;
		left -= done;
	}
}

static void fill(uint8_t *to, uint64_t value, uint64_t count, unsigned size)
{
	switch (size) {
	case 1:
		memset(to, (int)value, count);
		break;
	case 2:
		for (uint64_t i = 0; i < count; i++)
			memcpy(to + 2 * i, &value, 2);
		break;
	case 4:
		for (uint64_t i = 0; i < count; i++)
			memcpy(to + 4 * i, &value, 4);
		break;
	default:
		for (uint64_t i = 0; i < count; i++)
			memcpy(to + 8 * i, &value, 8);
	}
}

static uint64_t stos_run(struct cpu *cpu, const struct op *op, uint64_t wanted)
{
	uint64_t count = MIN(wanted, allowance(cpu)), value = cpu->regs[CPU_RAX];
	struct tlb_page page;
	uint8_t *to =
		run_host(cpu, op, SEG_ES, index_offset(cpu, op, CPU_RDI), &count, MEM_WRITE, &page);

	if (!to)
		return 0;
	if (op->size > 1 &&
	    (value & size_mask(op->size)) == (value & 0xff) * (size_mask(op->size) / 0xff))
		memset(to, (int)(value & 0xff), count * op->size);
	else
		fill(to, value, count, op->size);
	mem_host_written(cpu, &page, page.va | ((uintptr_t)to & 0xfff),
			 (unsigned)(count * op->size));
	return count;
}

void op_stos(struct cpu *cpu, const struct op *op)
{
	uint64_t left = repeated(op) ? count_get(cpu, op) : 1, done;

	while (left) {
		done = left > 1 ? stos_run(cpu, op, left) : 0;
		if (!done) {
			mem_write(cpu, SEG_ES, index_offset(cpu, op, CPU_RDI),
				  acc_get(cpu, op->size), op->size);
			done = 1;
		}
		advance(cpu, op, CPU_RDI, done);
		if (!repeated(op) || repeat(cpu, op, left, done))
			return;
		left -= done;
	}
}

void op_lods(struct cpu *cpu, const struct op *op)
{
	uint64_t left = repeated(op) ? count_get(cpu, op) : 1;

	for (; left; left--) {
		acc_set(cpu, op->size,
			mem_read(cpu, op->segment, index_offset(cpu, op, CPU_RSI), op->size));
		advance(cpu, op, CPU_RSI, 1);
		if (!repeated(op) || repeat(cpu, op, left, 1))
			return;
	}
}

/* Sets the flags as CMP does, of @size bytes. */
static void compare(struct cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	switch (size) {
	case 1:
		flags_sub8((uint8_t)a, (uint8_t)b, &cpu->arith);
		break;
	case 2:
		flags_sub16((uint16_t)a, (uint16_t)b, &cpu->arith);
		break;
	case 4:
		flags_sub32((uint32_t)a, (uint32_t)b, &cpu->arith);
		break;
	default:
		flags_sub64(a, b, &cpu->arith);
	}
}

/* After a comparison: whether REPE or REPNE ends here (RCX is then committed). */
static bool compared(struct cpu *cpu, const struct op *op, uint64_t left)
{
	bool equal = cpu->arith & ARITH_ZF;

	if (!repeated(op))
		return true;
	if (equal != !!(op->flags & OP_REP)) {
		reg_set(cpu, CPU_RCX, op->address_size, left - 1);
		return true;
	}
	return repeat(cpu, op, left, 1);
}

void op_scas(struct cpu *cpu, const struct op *op)
{
	uint64_t left = repeated(op) ? count_get(cpu, op) : 1;

	for (; left; left--) {
		uint64_t value = mem_read(cpu, SEG_ES, index_offset(cpu, op, CPU_RDI), op->size);

		compare(cpu, op->size, acc_get(cpu, op->size), value);
		advance(cpu, op, CPU_RDI, 1);
		if (compared(cpu, op, left))
			return;
	}
}

void op_cmps(struct cpu *cpu, const struct op *op)
{
	uint64_t left = repeated(op) ? count_get(cpu, op) : 1;

	for (; left; left--) {
		uint64_t a = mem_read(cpu, op->segment, index_offset(cpu, op, CPU_RSI), op->size);
		uint64_t b = mem_read(cpu, SEG_ES, index_offset(cpu, op, CPU_RDI), op->size);

		compare(cpu, op->size, a, b);
		advance(cpu, op, CPU_RSI, 1);
		advance(cpu, op, CPU_RDI, 1);
		if (compared(cpu, op, left))
			return;
	}
}
