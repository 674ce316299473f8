// SPDX-License-Identifier: GPL-2.0-or-later
// x87 instructions, each executed by the very same instruction on the host's x87 unit
// (SDM 1 chapter 8). The environment instructions are in x87-env.c.
#include "cpu/fp.h"

/* Four bytes for every register form, D8 C0 to DF FF; then for every memory form with the operand
 * at (%rdi), D8 /0 to DF /7: the instruction and a return. */
extern const uint8_t lodge_x87_registers[512][4], lodge_x87_memory[64][4];
/* Calls a register form with the arithmetic flags @arith, and returns those after it. */
uint32_t lodge_x87_flags_call(const void *routine, uint32_t arith);
asm(".pushsection .text\n"
    ".balign 64\n"
    "lodge_x87_registers:\n"
    ".set lodge_n, 0\n"
    ".rept 512\n"
    "	.byte 0xd8 + lodge_n / 64, 0xc0 + lodge_n % 64, 0xc3, 0x90\n"
    "	.set lodge_n, lodge_n + 1\n"
    ".endr\n"
    "lodge_x87_memory:\n"
    ".set lodge_n, 0\n"
    ".rept 64\n"
    "	.byte 0xd8 + lodge_n / 8, (lodge_n % 8) * 8 + 7, 0xc3, 0x90\n"
    "	.set lodge_n, lodge_n + 1\n"
    ".endr\n"
    ".type lodge_x87_flags_call, @function\n"
    "lodge_x87_flags_call:\n"
    "	mov %esi, %eax\n"
    "	add $0x7f, %al\n"
    "	sahf\n"
    "	call *%rdi\n"
    "	lahf\n"
    "	seto %al\n"
    "	movzwl %ax, %eax\n"
    "	ret\n"
    ".popsection\n");

typedef void register_form(void);
typedef void memory_form(void *operand);

static inline void begin(struct cpu *cpu)
{
	if (G_UNLIKELY(!cpu->fpu_fast || (cpu->cr0 & (CR0_EM | CR0_TS))))
		x87_prepare(cpu);
}

/* After a read: it may have called a device, for which the registers were parked. */
static inline void resume(struct cpu *cpu)
{
	if (G_UNLIKELY(!cpu->fpu_live))
		x87_prepare(cpu);
}

/* Notes the instruction, as FNSTENV shows it. */
static inline void note(struct cpu *cpu, const struct op *op)
{
	fx_set64(cpu, FX_FIP, op_rip(cpu, op));
	fx_set16(cpu, FX_FOP, (uint16_t)((op->opcode & 7) << 8 | op->modrm));
}

static inline const void *register_routine(const struct op *op)
{
	return lodge_x87_registers[(op->opcode & 7) << 6 | (op->modrm & 0x3f)];
}

static inline memory_form *memory_routine(const struct op *op)
{
	const uint8_t *at = lodge_x87_memory[(op->opcode & 7) << 3 | (op->modrm >> 3 & 7)];
	return (memory_form *)(uintptr_t)at;
}

static void x87_register(struct cpu *cpu, const struct op *op)
{
	begin(cpu);
	note(cpu, op);
	((register_form *)(uintptr_t)register_routine(op))();
}

/* FCOMI and the like. */
static void x87_to_flags(struct cpu *cpu, const struct op *op)
{
	begin(cpu);
	note(cpu, op);
	cpu->arith = lodge_x87_flags_call(register_routine(op), cpu->arith);
}

/* FCMOVcc. */
static void x87_by_flags(struct cpu *cpu, const struct op *op)
{
	begin(cpu);
	note(cpu, op);
	lodge_x87_flags_call(register_routine(op), cpu->arith);
}

static inline void load(struct cpu *cpu, const struct op *op, unsigned size)
{
	uint8_t buffer[16], *from;
	uint64_t offset = op_offset(cpu, op);

	begin(cpu);
	from = fp_hit(cpu, op, offset, size, MEM_READ);
	if (G_UNLIKELY(!from)) {
		fp_load_slow(cpu, op, from = buffer, size);
		resume(cpu);
	}
	note(cpu, op);
	fx_set64(cpu, FX_FDP, offset);
	memory_routine(op)(from);
}

static void x87_load2(struct cpu *cpu, const struct op *op)
{
	load(cpu, op, 2);
}
static void x87_load4(struct cpu *cpu, const struct op *op)
{
	load(cpu, op, 4);
}
static void x87_load8(struct cpu *cpu, const struct op *op)
{
	load(cpu, op, 8);
}
static void x87_load10(struct cpu *cpu, const struct op *op)
{
	load(cpu, op, 10);
}

/* Whether the store that just ran was suppressed by an unmasked exception: ES was clear before. */
static bool suppressed(void)
{
	enum { BEFORE_STORE = 0x19 }; /* invalid, overflow, underflow */
	uint16_t fsw, fcw;

	asm volatile("fnstsw %0\n\tfnstcw %1" : "=m"(fsw), "=m"(fcw));
	return fsw & ~fcw & BEFORE_STORE;
}

static inline void store(struct cpu *cpu, const struct op *op, unsigned size)
{
	uint8_t buffer[16], *to;
	uint64_t offset = op_offset(cpu, op);

	begin(cpu);
	to = fp_hit(cpu, op, offset, size, MEM_WRITE);
	if (G_UNLIKELY(!to)) {
		if (size > 8)
			fp_check_alignment(cpu, op, offset, 8, size, MEM_WRITE);
		mem_probe_write(cpu, op->segment, offset, size);
		to = buffer;
	}
	note(cpu, op);
	fx_set64(cpu, FX_FDP, offset);
	memory_routine(op)(to);
	if (to == buffer && (cpu->fpu_fast || !suppressed()))
		fp_store_slow(cpu, op, buffer, size);
}

static void x87_store2(struct cpu *cpu, const struct op *op)
{
	store(cpu, op, 2);
}
static void x87_store4(struct cpu *cpu, const struct op *op)
{
	store(cpu, op, 4);
}
static void x87_store8(struct cpu *cpu, const struct op *op)
{
	store(cpu, op, 8);
}
static void x87_store10(struct cpu *cpu, const struct op *op)
{
	store(cpu, op, 10);
}

/* --- Control instructions --- */

static void not_available(struct cpu *cpu)
{
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		cpu_raise(cpu, EXC_NM);
}

static void x87_fwait(struct cpu *cpu, const struct op *op)
{
	if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		cpu_raise(cpu, EXC_NM);
	if (x87_pending(cpu))
		cpu_raise(cpu, EXC_MF);
}

static void x87_fldcw(struct cpu *cpu, const struct op *op)
{
	uint16_t value;

	begin(cpu);
	value = (uint16_t)mem_read(cpu, op->segment, op_offset(cpu, op), 2);
	resume(cpu);
	asm volatile("fldcw %0" : : "m"(value));
	cpu->fpu_fast = (value & 0x3f) == 0x3f;
}

static void x87_fnstcw(struct cpu *cpu, const struct op *op)
{
	uint16_t value;

	not_available(cpu);
	value = fx_get16(cpu, FX_FCW);
	if (cpu->fpu_live)
		asm volatile("fnstcw %0" : "=m"(value));
	mem_write(cpu, op->segment, op_offset(cpu, op), value, 2);
}

static void x87_fnstsw(struct cpu *cpu, const struct op *op)
{
	not_available(cpu);
	mem_write(cpu, op->segment, op_offset(cpu, op), x87_status(cpu), 2);
}

static void x87_fnstsw_ax(struct cpu *cpu, const struct op *op)
{
	not_available(cpu);
	cpu->regs[CPU_RAX] = (cpu->regs[CPU_RAX] & ~UINT64_C(0xffff)) | x87_status(cpu);
}

static void x87_fnclex(struct cpu *cpu, const struct op *op)
{
	not_available(cpu);
	if (cpu->fpu_live)
		asm volatile("fnclex");
	else
		fx_set16(cpu, FX_FSW, fx_get16(cpu, FX_FSW) & 0x7f00);
}

static void x87_fninit(struct cpu *cpu, const struct op *op)
{
	not_available(cpu);
	x87_park(cpu);
	fx_set16(cpu, FX_FCW, 0x37f);
	x87_set_top(cpu, 0); /* the registers stay in their physical places */
	memset(cpu->fxsave + FX_FSW, 0, FX_MXCSR - FX_FSW);
}

/* FENI, FDISI, FSETPM: the 8087's and 287's own. */
static void x87_nothing(struct cpu *cpu, const struct op *op)
{
	not_available(cpu);
}

/* --- Selection --- */

static op_fn *select_register(uint8_t opcode, uint8_t modrm)
{
	unsigned group = modrm >> 3 & 7;

	switch (opcode) {
	case 0xd9:
		if ((modrm > 0xd0 && modrm < 0xd8) || modrm == 0xe2 || modrm == 0xe3 ||
		    modrm == 0xe6 || modrm == 0xe7 || modrm == 0xef)
			return NULL;
		return x87_register;
	case 0xda:
		return group < 4 ? x87_by_flags : modrm == 0xe9 ? x87_register : NULL;
	case 0xdb:
		if (modrm == 0xe2)
			return x87_fnclex;
		if (modrm == 0xe3)
			return x87_fninit;
		if (modrm == 0xe0 || modrm == 0xe1 || modrm == 0xe4)
			return x87_nothing;
		return group < 4 ? x87_by_flags : group == 5 || group == 6 ? x87_to_flags : NULL;
	case 0xdd:
		return group < 6 ? x87_register : NULL;
	case 0xde:
		return group != 3 || modrm == 0xd9 ? x87_register : NULL;
	case 0xdf:
		if (modrm == 0xe0)
			return x87_fnstsw_ax;
		return group < 4 ? x87_register : group == 5 || group == 6 ? x87_to_flags : NULL;
	default:
		return x87_register;
	}
}

/* By opcode and the reg field. */
static op_fn *const memory_handlers[8][8] = {
	{x87_load4, x87_load4, x87_load4, x87_load4, x87_load4, x87_load4, x87_load4, x87_load4},
	{x87_load4, NULL, x87_store4, x87_store4, x87_fldenv, x87_fldcw, x87_fnstenv, x87_fnstcw},
	{x87_load4, x87_load4, x87_load4, x87_load4, x87_load4, x87_load4, x87_load4, x87_load4},
	{x87_load4, x87_store4, x87_store4, x87_store4, NULL, x87_load10, NULL, x87_store10},
	{x87_load8, x87_load8, x87_load8, x87_load8, x87_load8, x87_load8, x87_load8, x87_load8},
	{x87_load8, x87_store8, x87_store8, x87_store8, x87_frstor, NULL, x87_fnsave, x87_fnstsw},
	{x87_load2, x87_load2, x87_load2, x87_load2, x87_load2, x87_load2, x87_load2, x87_load2},
	{x87_load2, x87_store2, x87_store2, x87_store2, x87_load10, x87_load8, x87_store10,
	 x87_store8},
};

bool x87_select(const struct insn *insn, struct op_choice *choice)
{
	op_fn *fn;

	if (insn->opcode == 0x9b)
		fn = x87_fwait;
	else if (insn->flags & OP_MEM)
		fn = memory_handlers[insn->opcode & 7][insn->modrm >> 3 & 7];
	else
		fn = select_register(insn->opcode, insn->modrm);
	return fp_chosen(choice, fn, 0);
}
