// SPDX-License-Identifier: GPL-2.0-or-later
/* The page walker: 2-level, PAE and 4-level paging (Intel SDM 3A chapter 4).
 *
 * Invariants:
 * 1. Tables are read through phys_read and changed only by compare-and-exchange; when an entry was
 *    changed meanwhile the whole walk begins anew.
 * 2. Accessed and dirty bits are set after the access has been found allowed, never for one that
 *    faults.
 * 3. A fault has changed nothing in memory. */
#include "cpu/sys.h"

enum {
	PTE_P = 0x1,
	PTE_W = 0x2,
	PTE_U = 0x4,
	PTE_A = 0x20,
	PTE_D = 0x40,
	PTE_PS = 0x80,
	PTE_G = 0x100,
};
#define PTE_NX      (UINT64_C(1) << 63)
#define PTE_ADDRESS UINT64_C(0x000ffffffffff000)

struct walk {
	struct cpu *cpu;
	uint64_t linear;
	unsigned entry_size, levels;
	uint64_t entry_at[4], entry[4]; /* by depth, the root first */
	unsigned depth;                 /* entries read */
	uint64_t rights;                /* AND of the P, W and U bits */
	bool nx;
	uint64_t base, page_size;
};

enum walk_outcome { WALK_OK, WALK_NOT_PRESENT, WALK_RESERVED };

static bool nx_enabled(const struct cpu *cpu)
{
	return (cpu->efer & EFER_NXE) && (cpu->cr4 & CR4_PAE);
}

/* Bits that are reserved in every PAE or 4-level entry. */
static uint64_t entry_reserved(const struct cpu *cpu)
{
	uint64_t reserved = phys_reserved(cpu) & PTE_ADDRESS;

	if (!(cpu->efer & EFER_NXE))
		reserved |= PTE_NX;
	if (!cpu_is_long(cpu))
		reserved |= UINT64_C(0x7ff) << 52;
	return reserved;
}

static enum walk_outcome walk_wide(struct walk *w, uint64_t table, unsigned level)
{
	struct cpu *cpu = w->cpu;
	uint64_t always = entry_reserved(cpu);

	w->entry_size = 8;
	for (;; level--) {
		uint64_t reserved = always;
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t at = table + ((w->linear >> shift) & 0x1ff) * 8;
		uint64_t entry = phys_read(cpu, at, 8);
		bool leaf = level == 1 || ((entry & PTE_PS) && level < 4);

		w->entry_at[w->depth] = at;
		w->entry[w->depth++] = entry;
		if (!(entry & PTE_P))
			return WALK_NOT_PRESENT;
		if (level == 4)
			reserved |= PTE_PS;
		else if (leaf && level > 1) /* between the PAT bit and the address */
			reserved |= ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff);
		if (entry & reserved)
			return WALK_RESERVED;
		w->rights &= entry;
		w->nx |= (entry & PTE_NX) != 0;
		if (leaf) {
			w->page_size = UINT64_C(1) << shift;
			w->base = entry & PTE_ADDRESS & ~(w->page_size - 1);
			return WALK_OK;
		}
		table = entry & PTE_ADDRESS;
	}
}

static enum walk_outcome walk_pae(struct walk *w)
{
	struct cpu *cpu = w->cpu;
	uint64_t pdpte;

	/* The registers are part of no saved state: the tables say what they held. */
	if (!cpu->pdpte_loaded && !pdpte_load(cpu, cpu->cr3)) {
		memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
		cpu->pdpte_loaded = true;
	}
	pdpte = cpu->pdpte[(w->linear >> 30) & 3];
	if (!(pdpte & PTE_P))
		return WALK_NOT_PRESENT;
	return walk_wide(w, pdpte & PTE_ADDRESS, 2);
}

static enum walk_outcome walk_narrow(struct walk *w)
{
	struct cpu *cpu = w->cpu;
	uint64_t at = (cpu->cr3 & 0xfffff000) + ((w->linear >> 22) & 0x3ff) * 4;
	uint64_t entry = phys_read(cpu, at, 4);

	w->entry_size = 4;
	w->entry_at[w->depth] = at;
	w->entry[w->depth++] = entry;
	if (!(entry & PTE_P))
		return WALK_NOT_PRESENT;
	w->rights &= entry;
	if ((entry & PTE_PS) && (cpu->cr4 & CR4_PSE)) {
		uint64_t high = (entry & 0x1fe000) << 19; /* PSE-36: bits 20:13 are 39:32 */

		if ((entry & 0x200000) || (high & phys_reserved(cpu)))
			return WALK_RESERVED;
		w->page_size = 0x400000;
		w->base = (entry & 0xffc00000) | high;
		return WALK_OK;
	}
	at = (entry & 0xfffff000) + ((w->linear >> 12) & 0x3ff) * 4;
	entry = phys_read(cpu, at, 4);
	w->entry_at[w->depth] = at;
	w->entry[w->depth++] = entry;
	if (!(entry & PTE_P))
		return WALK_NOT_PRESENT;
	w->rights &= entry;
	w->page_size = 0x1000;
	w->base = entry & 0xfffff000;
	return WALK_OK;
}

static enum walk_outcome walk_tables(struct walk *w, struct cpu *cpu, uint64_t linear)
{
	w->cpu = cpu;
	w->linear = linear;
	w->depth = 0;
	w->rights = PTE_P | PTE_W | PTE_U;
	w->nx = false;
	if (cpu_is_long(cpu))
		return walk_wide(w, cpu->cr3 & PTE_ADDRESS, 4);
	if (cpu->cr4 & CR4_PAE)
		return walk_pae(w);
	return walk_narrow(w);
}

static bool access_allowed(const struct walk *w, enum mem_access access, bool user_access,
			   bool implicit)
{
	const struct cpu *cpu = w->cpu;
	bool user_page = w->rights & PTE_U, writable = w->rights & PTE_W;

	if (user_access && !user_page)
		return false;
	if (access == MEM_FETCH) {
		if (w->nx && nx_enabled(cpu))
			return false;
		return user_access || !user_page || !(cpu->cr4 & CR4_SMEP);
	}
	if (!user_access && user_page && (cpu->cr4 & CR4_SMAP) &&
	    (implicit || !(cpu->rflags & FL_AC)))
		return false;
	if (access == MEM_WRITE && !writable)
		return !user_access && !(cpu->cr0 & CR0_WP);
	return true;
}

/* False when an entry was changed by someone else since it was read. */
static bool set_accessed_dirty(struct walk *w, bool write)
{
	for (unsigned i = 0; i < w->depth; i++) {
		uint64_t want = w->entry[i] | PTE_A;

		if (write && i + 1 == w->depth)
			want |= PTE_D;
		if (want == w->entry[i])
			continue;
		if (!phys_cmpxchg(w->cpu, w->entry_at[i], w->entry[i], want, w->entry_size))
			return false;
		w->entry[i] = want;
	}
	return true;
}

static void walk_fill(const struct walk *w, struct walk_result *result)
{
	uint64_t leaf = w->entry[w->depth - 1];

	result->gpa = w->base + (w->linear & (w->page_size - 1) & ~UINT64_C(0xfff));
	result->user = w->rights & PTE_U;
	result->writable = w->rights & PTE_W;
	result->executable = !(w->nx && nx_enabled(w->cpu));
	result->global = (leaf & PTE_G) && (w->cpu->cr4 & CR4_PGE);
	result->dirty = leaf & PTE_D;
	result->page_size = w->page_size;
}

static void walk_identity(uint64_t linear, struct walk_result *result)
{
	*result = (struct walk_result){
		.gpa = linear & 0xfffff000,
		.user = true,
		.writable = true,
		.executable = true,
		.dirty = true,
		.page_size = 0x1000,
	};
}

void page_walk(struct cpu *cpu, uint64_t linear, enum mem_access access, unsigned cpl,
	       bool implicit_supervisor, struct walk_result *result)
{
	bool user_access = cpl == 3 && !implicit_supervisor;
	enum walk_outcome outcome;
	struct walk w;
	uint32_t error = 0;

	if (!(cpu->cr0 & CR0_PG)) {
		walk_identity(linear, result);
		return;
	}
	do {
		outcome = walk_tables(&w, cpu, linear);
		if (outcome != WALK_OK ||
		    !access_allowed(&w, access, user_access, implicit_supervisor))
			goto fault;
	} while (!set_accessed_dirty(&w, access == MEM_WRITE));
	walk_fill(&w, result);
	return;
fault:
	if (outcome != WALK_NOT_PRESENT)
		error |= PF_P;
	if (outcome == WALK_RESERVED)
		error |= PF_RSVD;
	if (access == MEM_WRITE)
		error |= PF_W;
	if (user_access)
		error |= PF_U;
	if (access == MEM_FETCH && (nx_enabled(cpu) || (cpu->cr4 & CR4_SMEP)))
		error |= PF_I;
	cpu_raise_page_fault(cpu, linear, error);
}

bool page_probe(struct cpu *cpu, uint64_t linear, struct walk_result *result)
{
	struct walk w;

	if (!(cpu->cr0 & CR0_PG)) {
		walk_identity(linear, result);
		return true;
	}
	if (walk_tables(&w, cpu, linear) != WALK_OK)
		return false;
	walk_fill(&w, result);
	return true;
}

bool pdpte_load(struct cpu *cpu, uint64_t cr3)
{
	uint64_t pdpte[4];
	bool valid = true;

	for (unsigned i = 0; i < 4; i++) {
		pdpte[i] = phys_read(cpu, (cr3 & 0xffffffe0) + 8 * i, 8);
		if ((pdpte[i] & PTE_P) && (pdpte[i] & (phys_reserved(cpu) | 0x1e6)))
			valid = false;
	}
	if (valid) {
		memcpy(cpu->pdpte, pdpte, sizeof(pdpte));
		cpu->pdpte_loaded = true;
	}
	return valid;
}
