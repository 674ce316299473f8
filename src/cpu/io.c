// SPDX-License-Identifier: GPL-2.0-or-later
/* Port instructions and their permissions (Intel SDM 1 chapter 19). Repeated forms move at the most
 * one page between two looks at the request flags, and count as one iteration for it. */
#include "cpu/sys.h"

enum { CHUNK = 4096 };

/* #GP(0) unless CPL, IOPL or the TSS's bitmap allow all ports of the access. */
static void check_port(struct cpu *cpu, uint16_t port, unsigned size)
{
	const struct cpu_segment *tr = &cpu->seg[SEG_TR];
	uint32_t map, at, bits;

	if (!(cpu->cr0 & CR0_PE) || (!cpu_is_v86(cpu) && cpu->cpl <= cpu_iopl(cpu)))
		return;
	if ((tr->attr & SEG_UNUSABLE) || (tr->attr & SEG_TYPE) != DESC_TSS32_BUSY ||
	    tr->limit < 0x67)
		goto refuse;
	map = mem_read_system(cpu, tr->base + 0x66, 2);
	at = map + port / 8;
	if (at + 1 > tr->limit)
		goto refuse;
	bits = mem_read_system(cpu, tr->base + at, 2) >> (port & 7);
	if (!(bits & ((1u << size) - 1)))
		return;
refuse:
	cpu_raise_error(cpu, EXC_GP, 0);
}

static void store_accumulator(struct cpu *cpu, const struct op *op, unsigned size, uint32_t value)
{
	if (size == 1)
		reg8_set(cpu, op, CPU_RAX, value);
	else
		reg_set(cpu, CPU_RAX, size, value);
}

static void do_in(struct cpu *cpu, const struct op *op, uint16_t port)
{
	check_port(cpu, port, op->size);
	store_accumulator(cpu, op, op->size, bus_port_read(cpu, port, op->size));
	debug_check_port(cpu, port, op->size);
}

static void do_out(struct cpu *cpu, const struct op *op, uint16_t port)
{
	check_port(cpu, port, op->size);
	bus_port_write(cpu, port, cpu->regs[CPU_RAX], op->size);
	debug_check_port(cpu, port, op->size);
}

void sys_in_imm(struct cpu *cpu, const struct op *op)
{
	do_in(cpu, op, (uint8_t)op->imm);
}

void sys_in_dx(struct cpu *cpu, const struct op *op)
{
	do_in(cpu, op, (uint16_t)cpu->regs[CPU_RDX]);
}

void sys_out_imm(struct cpu *cpu, const struct op *op)
{
	do_out(cpu, op, (uint8_t)op->imm);
}

void sys_out_dx(struct cpu *cpu, const struct op *op)
{
	do_out(cpu, op, (uint16_t)cpu->regs[CPU_RDX]);
}

/* --- INS and OUTS --- */

/* A string register by the address size; 32-bit writes clear the upper half. */
static void advance(struct cpu *cpu, unsigned reg, unsigned address_size, uint64_t by)
{
	reg_set(cpu, reg, address_size, cpu->regs[reg] + by);
}

/* How many elements go in one piece: as many as lie forward within the page and the count, one
 * where the direction, a wrap or a debugger asks for it. */
static unsigned chunk_count(const struct cpu *cpu, const struct op *op, uint64_t offset,
			    uint64_t count)
{
	uint64_t wrap = size_mask(op->address_size) - offset;
	uint64_t room = CHUNK - (offset & (CHUNK - 1));
	unsigned n;

	if ((cpu->rflags & FL_DF) || debug_armed(cpu))
		return 1;
	n = MIN(room, wrap) / op->size;
	return n == 0 ? 1 : MIN(n, count);
}

static void ins_chunk(struct cpu *cpu, const struct op *op, uint16_t port, uint64_t offset,
		      unsigned count)
{
	uint8_t bytes[CHUNK];

	mem_probe_write(cpu, SEG_ES, offset, count * op->size);
	for (unsigned i = 0; i < count; i++) {
		uint32_t value = bus_port_read(cpu, port, op->size);

		memcpy(bytes + i * op->size, &value, op->size);
	}
	mem_write_block(cpu, SEG_ES, offset, bytes, count * op->size);
}

static void outs_chunk(struct cpu *cpu, const struct op *op, uint16_t port, uint64_t offset,
		       unsigned count)
{
	uint8_t bytes[CHUNK];

	mem_read_block(cpu, op->segment, offset, bytes, count * op->size);
	for (unsigned i = 0; i < count; i++) {
		uint32_t value = 0;

		memcpy(&value, bytes + i * op->size, op->size);
		bus_port_write(cpu, port, value, op->size);
	}
}

static void string_io(struct cpu *cpu, const struct op *op, unsigned reg,
		      void (*move)(struct cpu *, const struct op *, uint16_t, uint64_t, unsigned))
{
	bool rep = op->flags & (OP_REP | OP_REPNE);
	uint16_t port = cpu->regs[CPU_RDX];
	unsigned address_size = op->address_size;
	uint64_t left = rep ? reg_get(cpu, CPU_RCX, address_size) : 1;

	check_port(cpu, port, op->size);
	if (!left)
		return;
	do {
		uint64_t offset = reg_get(cpu, reg, address_size);
		unsigned count = rep ? chunk_count(cpu, op, offset, left) : 1;
		uint64_t bytes = (uint64_t)count * op->size;

		move(cpu, op, port, offset, count);
		debug_check_port(cpu, port, op->size);
		advance(cpu, reg, address_size, cpu->rflags & FL_DF ? -bytes : bytes);
		left -= count;
		if (rep)
			advance(cpu, CPU_RCX, address_size, -(uint64_t)count);
	} while (left && !rep_pause(cpu));
	if (left) /* interruptible: goes on from here */
		cpu->rip = op_rip(cpu, op);
}

void sys_ins(struct cpu *cpu, const struct op *op)
{
	string_io(cpu, op, CPU_RDI, ins_chunk);
}

void sys_outs(struct cpu *cpu, const struct op *op)
{
	string_io(cpu, op, CPU_RSI, outs_chunk);
}
