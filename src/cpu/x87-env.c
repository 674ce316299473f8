// SPDX-License-Identifier: GPL-2.0-or-later
// FNSTENV, FLDENV, FNSAVE and FRSTOR in their 16- and 32-bit, protected and real-address formats
// (SDM 1, figures 8-9 to 8-12). The selectors FCS and FDS read as zero, as on processors that have
// deprecated them (CPUID.7.0:EBX[13]).
#include "cpu/fp.h"

enum { ENV_MAX = 28, REGISTERS_SIZE = 80 };

struct environment {
	uint16_t fcw, fsw, tags, fop;
	uint64_t fip, fdp;
};

static bool real_format(const struct cpu *cpu)
{
	return !(cpu->cr0 & CR0_PE) || (cpu->rflags & FL_VM);
}

static unsigned env_size(const struct op *op)
{
	return op->size == 2 ? 14 : 28;
}

/* The two tag bits of an x87 register that is not empty. */
static unsigned classify(const uint8_t *reg)
{
	uint64_t mantissa;
	uint16_t exponent;

	memcpy(&mantissa, reg, 8);
	memcpy(&exponent, reg + 8, 2);
	exponent &= 0x7fff;
	if (exponent == 0 && mantissa == 0)
		return 1;
	return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

static uint16_t full_tags(const struct cpu *cpu)
{
	unsigned top = (fx_get16(cpu, FX_FSW) & FSW_TOP) >> FSW_TOP_SHIFT;
	unsigned abridged = fx_get16(cpu, FX_FTW), tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *reg = cpu->fxsave + FX_ST + 16 * ((i - top) & 7);
		unsigned tag = abridged >> i & 1 ? classify(reg) : 3;
		tags |= tag << (2 * i);
	}
	return (uint16_t)tags;
}

static uint16_t abridged_tags(uint16_t tags)
{
	unsigned abridged = 0;

	for (unsigned i = 0; i < 8; i++)
		if ((tags >> (2 * i) & 3) != 3)
			abridged |= 1u << i;
	return (uint16_t)abridged;
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 4);
}
static void put16(uint8_t *at, uint32_t value)
{
	memcpy(at, &(uint16_t){(uint16_t)value}, 2);
}
static uint32_t get32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, 4);
	return value;
}
static uint16_t get16(const uint8_t *at)
{
	uint16_t value;
	memcpy(&value, at, 2);
	return value;
}

static void pack32(const struct environment *env, uint8_t *to, bool real)
{
	enum { UNUSED_HIGH = 0xffff0000 };

	put32(to, env->fcw | UNUSED_HIGH);
	put32(to + 4, env->fsw | UNUSED_HIGH);
	put32(to + 8, env->tags | UNUSED_HIGH);
	if (real) {
		put32(to + 12, (env->fip & 0xffff) | UNUSED_HIGH);
		put32(to + 16, (uint32_t)(env->fip >> 16 & 0xffff) << 12 | env->fop);
		put32(to + 20, (env->fdp & 0xffff) | UNUSED_HIGH);
		put32(to + 24, (uint32_t)(env->fdp >> 16 & 0xffff) << 12);
	} else {
		put32(to + 12, (uint32_t)env->fip);
		put32(to + 16, (uint32_t)env->fop << 16);
		put32(to + 20, (uint32_t)env->fdp);
		put32(to + 24, UNUSED_HIGH);
	}
}

static void pack16(const struct environment *env, uint8_t *to, bool real)
{
	put16(to, env->fcw);
	put16(to + 2, env->fsw);
	put16(to + 4, env->tags);
	put16(to + 6, (uint16_t)env->fip);
	put16(to + 8, real ? (env->fip >> 16 & 0xf) << 12 | env->fop : 0);
	put16(to + 10, (uint16_t)env->fdp);
	put16(to + 12, real ? (env->fdp >> 16 & 0xf) << 12 : 0);
}

static void unpack32(struct environment *env, const uint8_t *from, bool real)
{
	env->fcw = get16(from);
	env->fsw = get16(from + 4);
	env->tags = get16(from + 8);
	if (real) {
		env->fip = get16(from + 12) | (get32(from + 16) >> 12 & 0xffff) << 16;
		env->fop = get32(from + 16) & 0x7ff;
		env->fdp = get16(from + 20) | (get32(from + 24) >> 12 & 0xffff) << 16;
	} else {
		env->fip = get32(from + 12);
		env->fop = get32(from + 16) >> 16 & 0x7ff;
		env->fdp = get32(from + 20);
	}
}

static void unpack16(struct environment *env, const uint8_t *from, bool real)
{
	env->fcw = get16(from);
	env->fsw = get16(from + 2);
	env->tags = get16(from + 4);
	env->fip = get16(from + 6);
	env->fdp = get16(from + 10);
	env->fop = 0;
	if (real) {
		env->fip |= (uint64_t)(get16(from + 8) >> 12) << 16;
		env->fop = get16(from + 8) & 0x7ff;
		env->fdp |= (uint64_t)(get16(from + 12) >> 12) << 16;
	}
}

static void save_env(const struct cpu *cpu, const struct op *op, uint8_t *to)
{
	struct environment env = {
		.fcw = fx_get16(cpu, FX_FCW),
		.fsw = fx_get16(cpu, FX_FSW),
		.tags = full_tags(cpu),
		.fop = fx_get16(cpu, FX_FOP) & 0x7ff,
		.fip = fx_get64(cpu, FX_FIP),
		.fdp = fx_get64(cpu, FX_FDP),
	};

	if (op->size == 2)
		pack16(&env, to, real_format(cpu));
	else
		pack32(&env, to, real_format(cpu));
}

static void load_env(struct cpu *cpu, const struct op *op, const uint8_t *from)
{
	struct environment env;

	if (op->size == 2)
		unpack16(&env, from, real_format(cpu));
	else
		unpack32(&env, from, real_format(cpu));
	fx_set16(cpu, FX_FCW, env.fcw);
	fx_set16(cpu, FX_FSW, env.fsw);
	fx_set16(cpu, FX_FTW, abridged_tags(env.tags));
	fx_set16(cpu, FX_FOP, env.fop);
	fx_set64(cpu, FX_FIP, env.fip);
	fx_set64(cpu, FX_FDP, env.fdp);
	x87_normalise(cpu);
}

static void not_available(struct cpu *cpu)
{
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		cpu_raise(cpu, EXC_NM);
}

/* Offset of the memory operand, after the alignment check. */
static uint64_t image_offset(struct cpu *cpu, const struct op *op, unsigned size,
			     enum mem_access access)
{
	uint64_t offset = op_offset(cpu, op);

	fp_check_alignment(cpu, op, offset, op->size == 2 ? 2 : 4, size, access);
	return offset;
}

static void check_waiting(struct cpu *cpu)
{
	not_available(cpu);
	if (x87_pending(cpu))
		cpu_raise(cpu, EXC_MF);
}

static unsigned top_of(const struct cpu *cpu)
{
	return (fx_get16(cpu, FX_FSW) & FSW_TOP) >> FSW_TOP_SHIFT;
}

void x87_fnstenv(struct cpu *cpu, const struct op *op)
{
	uint8_t env[ENV_MAX];

	not_available(cpu);
	x87_park(cpu);
	save_env(cpu, op, env);
	mem_write_block(cpu, op->segment, image_offset(cpu, op, env_size(op), MEM_WRITE), env,
			env_size(op));
	fx_set16(cpu, FX_FCW, fx_get16(cpu, FX_FCW) | 0x3f);
	x87_normalise(cpu);
}

void x87_fldenv(struct cpu *cpu, const struct op *op)
{
	uint8_t env[ENV_MAX];
	unsigned old_top;

	check_waiting(cpu);
	mem_read_block(cpu, op->segment, image_offset(cpu, op, env_size(op), MEM_READ), env,
		       env_size(op));
	x87_park(cpu);
	old_top = top_of(cpu);
	load_env(cpu, op, env);
	x87_rotate(cpu, old_top - top_of(cpu));
}

void x87_fnsave(struct cpu *cpu, const struct op *op)
{
	uint8_t image[ENV_MAX + REGISTERS_SIZE];
	unsigned size = env_size(op);

	not_available(cpu);
	x87_park(cpu);
	save_env(cpu, op, image);
	for (unsigned i = 0; i < 8; i++)
		memcpy(image + size + 10 * i, cpu->fxsave + FX_ST + 16 * i, 10);
	mem_write_block(cpu, op->segment, image_offset(cpu, op, size + REGISTERS_SIZE, MEM_WRITE),
			image, size + REGISTERS_SIZE);
	x87_set_top(cpu, 0);
	memset(cpu->fxsave + FX_FSW, 0, FX_MXCSR - FX_FSW);
	fx_set16(cpu, FX_FCW, 0x37f);
}

void x87_frstor(struct cpu *cpu, const struct op *op)
{
	uint8_t image[ENV_MAX + REGISTERS_SIZE];
	unsigned size = env_size(op);

	check_waiting(cpu);
	mem_read_block(cpu, op->segment, image_offset(cpu, op, size + REGISTERS_SIZE, MEM_READ),
		       image, size + REGISTERS_SIZE);
	x87_park(cpu);
	load_env(cpu, op, image);
	for (unsigned i = 0; i < 8; i++)
		memcpy(cpu->fxsave + FX_ST + 16 * i, image + size + 10 * i, 10);
}
