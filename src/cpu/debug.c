// SPDX-License-Identifier: GPL-2.0-or-later
/* Debug registers, breakpoints and single step (Intel SDM 3B chapter 17).
 *
 * While debug_armed() holds, the loop executes one instruction at a time between debug_before_insn
 * and debug_after_insn. A trap that a MOV SS or POP SS brings about is held for one instruction;
 * its single step is lost, and an instruction breakpoint on the one behind it as well. */
#include "cpu/sys.h"

enum { BREAK_EXECUTE, BREAK_WRITE, BREAK_PORT, BREAK_ACCESS };

static bool enabled(const struct cpu *cpu, unsigned n)
{
	return cpu->dr7 >> (2 * n) & 3;
}

static unsigned kind_of(const struct cpu *cpu, unsigned n)
{
	return cpu->dr7 >> (16 + 4 * n) & 3;
}

static unsigned length_of(const struct cpu *cpu, unsigned n)
{
	static const uint8_t lengths[] = {1, 2, 8, 4};

	return lengths[cpu->dr7 >> (18 + 4 * n) & 3];
}

bool debug_armed(const struct cpu *cpu)
{
	return (cpu->rflags & FL_TF) || (cpu->dr7 & 0xff) || cpu->pending_debug;
}

/* Bits 0-3 say what the last exception was about; the others only ever gather. */
static void dr6_note(struct cpu *cpu, uint64_t bits)
{
	if (bits & 15)
		cpu->dr6 &= ~UINT64_C(15);
	cpu->dr6 |= bits;
}

G_NORETURN void debug_raise(struct cpu *cpu, uint64_t bits)
{
	dr6_note(cpu, bits);
	cpu_raise(cpu, EXC_DB);
}

void debug_before_insn(struct cpu *cpu)
{
	uint64_t linear = cpu->rip, hits = 0;
	bool armed = false, held = cpu->break_held;

	cpu->break_held = false;
	if (!(cpu->dr7 & 0xff) || (cpu->rflags & FL_RF) || held)
		return;
	if (cpu->code_size != 8)
		linear = (uint32_t)(cpu->seg[SEG_CS].base + linear);
	for (unsigned n = 0; n < 4; n++) {
		if (kind_of(cpu, n) != BREAK_EXECUTE || cpu->dr[n] != linear)
			continue;
		hits |= UINT64_C(1) << n;
		armed |= enabled(cpu, n);
	}
	if (armed)
		debug_raise(cpu, hits);
}

void debug_after_insn(struct cpu *cpu)
{
	struct cpu_event event = {.pending = true, .vector = EXC_DB, .kind = CPU_EVENT_EXCEPTION};
	uint64_t bits = cpu->pending_debug;

	if (cpu->current->opcode != 0xcf ||
	    cpu->current->map != MAP_1BYTE) /* IRET may just have set it */
		cpu->rflags &= ~(uint64_t)FL_RF;
	if (cpu->shadow_movss) {
		cpu->break_held = true;
		cpu->step_tf = false;
		return;
	}
	if (cpu->step_tf)
		bits |= DR6_BS;
	cpu->step_tf = false;
	cpu->pending_debug = 0;
	if (!bits)
		return;
	dr6_note(cpu, bits);
	event_deliver(cpu, &event);
}

static void note_hits(struct cpu *cpu, uint64_t at, unsigned size, unsigned kinds)
{
	uint64_t hits = 0;
	bool armed = false;

	for (unsigned n = 0; n < 4; n++) {
		uint64_t length = length_of(cpu, n), start = cpu->dr[n] & ~(length - 1);

		if (!(kinds >> kind_of(cpu, n) & 1) || at >= start + length || start >= at + size)
			continue;
		hits |= UINT64_C(1) << n;
		armed |= enabled(cpu, n);
	}
	if (!armed)
		return;
	cpu->pending_debug |= hits;
	cpu->request |= REQ_DEBUG;
}

void debug_check_data(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	note_hits(cpu, linear, size, 1u << BREAK_ACCESS | (write ? 1u << BREAK_WRITE : 0));
}

void debug_check_port(struct cpu *cpu, uint16_t port, unsigned size)
{
	if ((cpu->cr4 & CR4_DE) && (cpu->dr7 & 0xff))
		note_hits(cpu, port, size, 1u << BREAK_PORT);
}

/* --- MOV to and from debug registers --- */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE says that they do not exist. */
static unsigned debug_register(struct cpu *cpu, const struct op *op)
{
	unsigned n = op->reg;

	if (n > 7 || ((n == 4 || n == 5) && (cpu->cr4 & CR4_DE)))
		cpu_raise(cpu, EXC_UD);
	need_cpl0(cpu);
	if (cpu->dr7 & DR7_GD) {
		cpu->dr7 &= ~(uint64_t)DR7_GD;
		debug_raise(cpu, DR6_BD);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

void sys_mov_from_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = debug_register(cpu, op);
	uint64_t value = n < 4 ? cpu->dr[n] : n == 6 ? cpu->dr6 : cpu->dr7;

	reg_set(cpu, op->rm, op->size, value);
}

void sys_mov_to_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = debug_register(cpu, op);
	uint64_t value = reg_get(cpu, op->rm, op->size);

	if (n >= 6 && value >> 32)
		cpu_raise_error(cpu, EXC_GP, 0);
	if (n < 4)
		cpu->dr[n] = value;
	else if (n == 6)
		cpu->dr6 = (value & 0xe00f) | DR6_FIXED;
	else
		cpu->dr7 = (value & 0xffff23ff) | DR7_FIXED;
	cpu_mode_changed(cpu);
}
