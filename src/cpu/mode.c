// SPDX-License-Identifier: GPL-2.0-or-later
/* What follows from segment and control registers: code size, the TLB to use, and the mode key by
 * which decoded blocks are told apart. */
#include "cpu/cache.h"
#include "cpu/mem.h"

/* A segment of the flat model: base 0, limit 4 GiB, and no access is refused. */
static bool is_flat(const struct cpu_segment *seg)
{
	uint16_t relevant = SEG_UNUSABLE | SEG_P | SEG_S | SEG_RW;

	if (seg->base || seg->limit != UINT32_MAX)
		return false;
	if (seg->attr & SEG_CODE)
		return (seg->attr & relevant) == (SEG_P | SEG_S | SEG_RW);
	return (seg->attr & (relevant | SEG_DC)) == (SEG_P | SEG_S | SEG_RW);
}

static bool all_flat(const struct cpu *cpu)
{
	return (cpu->cr0 & CR0_PE) && !(cpu->rflags & FL_VM) && is_flat(&cpu->seg[SEG_CS]) &&
	       is_flat(&cpu->seg[SEG_DS]) && is_flat(&cpu->seg[SEG_ES]) &&
	       is_flat(&cpu->seg[SEG_SS]) && !(cpu->seg[SEG_DS].attr & SEG_CODE) &&
	       !(cpu->seg[SEG_ES].attr & SEG_CODE);
}

/* No near branch of this code size can leave CS. */
static bool is_wide(const struct cpu *cpu)
{
	return cpu->code_size == 8 || cpu->seg[SEG_CS].limit == UINT32_MAX ||
	       (cpu->code_size == 2 && cpu->seg[SEG_CS].limit >= 0xffff);
}

void cpu_mode_changed(struct cpu *cpu)
{
	uint16_t cs = cpu->seg[SEG_CS].attr;
	uint32_t mode;

	cpu->paging = cpu->cr0 & CR0_PG;
	cpu->code_size = (cpu->efer & EFER_LMA) && (cs & SEG_L) ? 8 : cs & SEG_DB ? 4 : 2;
	cpu->code_base = cpu->code_size == 8 ? 0 : cpu->seg[SEG_CS].base;
	mode = cpu->code_size >> 2; /* 0, 1, 2 */
	if (cpu->code_size == 8 || all_flat(cpu))
		mode |= MODE_FLAT;
	if (cpu->seg[SEG_SS].attr & SEG_DB)
		mode |= MODE_STACK32;
	if (cpu->cpl == 3)
		mode |= MODE_USER;
	if (debug_armed(cpu))
		mode |= MODE_STEP;
	if (is_wide(cpu))
		mode |= MODE_WIDE;
	cpu->mode = mode;
	tlb_select(cpu);
}
