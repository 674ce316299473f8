// SPDX-License-Identifier: GPL-2.0-or-later
/* The software TLB: filling, flushing, and the choice of entries for the present privilege (see
 * mem.h for its invariants; Intel SDM 3A section 4.10). */
#include "cpu/mem.h"
#include "cpu/system.h"

/* Generations are numbers never used before, so that nothing stale can look valid again. */
static uint64_t new_generation(struct cpu *cpu)
{
	return ++cpu->sync->generations;
}

void tlb_new(struct cpu *cpu)
{
	cpu->tlb_sets = g_new0(struct tlb_set, TLB_SETS + 1);
	for (unsigned i = 0; i <= TLB_SETS; i++) {
		struct tlb_set *set = &cpu->tlb_sets[i];

		for (unsigned class = 0; class < TLB_CLASSES; class ++) {
			struct tlb_entry *entry = &set->tlb[class].entry[0];

			set->tlb[class].class = class;
			entry->read = entry->write = entry->exec = tlb_invalid(0);
		}
		set->generation = new_generation(cpu);
	}
	cpu->tlb_set = &cpu->tlb_sets[0];
	cpu->tlb_set->in_use = true;
	cpu->generation[0] = cpu->tlb_set->generation;
	cpu->generation[1] = new_generation(cpu);
	tlb_select(cpu);
}

void tlb_free(struct cpu *cpu)
{
	g_free(cpu->tlb_sets);
}

/* The entries that never hit. */
static struct cpu_tlb *never(struct cpu *cpu)
{
	return &cpu->tlb_sets[TLB_SETS].tlb[0];
}

void tlb_select(struct cpu *cpu)
{
	bool strict = cpu->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->rflags & FL_AC);
	enum tlb_class class = cpu->cpl == 3 ? TLB_USER
			       : (cpu->cr4 & CR4_SMAP) && !(cpu->rflags & FL_AC)
				       ? TLB_SUPERVISOR_SMAP
				       : TLB_SUPERVISOR;

	/* A data breakpoint is one that is enabled with R/W 1 or 3. */
	for (unsigned i = 0; i < 4; i++) {
		if ((cpu->dr7 >> (2 * i) & 3) && (cpu->dr7 >> (16 + 4 * i) & 3))
			strict = true;
	}
	cpu->tlb_class = &cpu->tlb_set->tlb[class];
	cpu->tlb = strict ? never(cpu) : cpu->tlb_class;
}

/* --- Flushing --- */

static void invalidate(struct cpu_tlb *tlb, unsigned index)
{
	struct tlb_entry *entry = &tlb->entry[index];

	entry->read = entry->write = entry->exec = tlb_invalid(index);
	tlb->page[index].flags &= TLB_IN_JOURNAL | TLB_IN_JOURNAL << 1;
}

static void flush_journal(struct cpu_tlb *tlb, unsigned global)
{
	for (unsigned i = 0; i < tlb->journaled[global]; i++) {
		unsigned index = tlb->journal[global][i];
		struct tlb_page *page = &tlb->page[index];

		page->flags &= ~(uint32_t)(TLB_IN_JOURNAL << global);
		if (!!(page->flags & TLB_GLOBAL) == !!global)
			invalidate(tlb, index);
	}
	tlb->journaled[global] = 0;
}

static void flush_set(struct cpu *cpu, struct tlb_set *set, bool globals)
{
	for (unsigned class = 0; class < TLB_CLASSES; class ++) {
		flush_journal(&set->tlb[class], 0);
		if (globals)
			flush_journal(&set->tlb[class], 1);
	}
	if (globals) {
		set->large = false;
		memset(set->large_filter, 0, sizeof(set->large_filter));
	}
	set->generation = new_generation(cpu);
	if (set == cpu->tlb_set)
		cpu->generation[0] = set->generation;
}

void tlb_flush_all(struct cpu *cpu)
{
	for (unsigned i = 0; i < TLB_SETS; i++) {
		if (cpu->tlb_sets[i].in_use)
			flush_set(cpu, &cpu->tlb_sets[i], true);
		cpu->tlb_sets[i].in_use = &cpu->tlb_sets[i] == cpu->tlb_set;
	}
	cpu->tlb_set->pcid = cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
	cpu->generation[1] = new_generation(cpu);
}

/* Without CR4.PGE nothing is global. */
static void flush_nonglobal(struct cpu *cpu, struct tlb_set *set)
{
	flush_set(cpu, set, !(cpu->cr4 & CR4_PGE));
	if (!(cpu->cr4 & CR4_PGE))
		cpu->generation[1] = new_generation(cpu);
}

void tlb_flush_nonglobal(struct cpu *cpu)
{
	for (unsigned i = 0; i < TLB_SETS; i++) {
		if (cpu->tlb_sets[i].in_use)
			flush_nonglobal(cpu, &cpu->tlb_sets[i]);
	}
}

static uint64_t region_bit(uint64_t linear, unsigned *word)
{
	unsigned hash = (unsigned)((linear >> 21) ^ (linear >> 31)) & 1023;

	*word = hash / 64;
	return UINT64_C(1) << (hash % 64);
}

/* Drops the entries that came from the same large page as @linear. */
static void flush_large(struct cpu_tlb *tlb, uint64_t linear)
{
	for (unsigned global = 0; global < 2; global++) {
		for (unsigned i = 0; i < tlb->journaled[global]; i++) {
			unsigned index = tlb->journal[global][i];
			struct tlb_page *page = &tlb->page[index];

			if ((page->flags & TLB_VALID) &&
			    !((page->va ^ linear) >> (page->flags >> TLB_SIZE_SHIFT)))
				invalidate(tlb, index);
		}
	}
}

static void flush_page(struct cpu *cpu, struct tlb_set *set, uint64_t linear)
{
	unsigned index = tlb_index(linear), word;
	uint64_t bit = region_bit(linear, &word);
	bool large = set->large && (set->large_filter[word] & bit);

	for (unsigned class = 0; class < TLB_CLASSES; class ++) {
		if (set->tlb[class].page[index].va == (linear & ~UINT64_C(0xfff)))
			invalidate(&set->tlb[class], index);
		if (large)
			flush_large(&set->tlb[class], linear);
	}
	set->generation = new_generation(cpu);
	if (set == cpu->tlb_set)
		cpu->generation[0] = set->generation;
}

void tlb_flush_page(struct cpu *cpu, uint64_t linear)
{
	for (unsigned i = 0; i < TLB_SETS; i++) {
		if (cpu->tlb_sets[i].in_use)
			flush_page(cpu, &cpu->tlb_sets[i], linear);
	}
	cpu->generation[1] = new_generation(cpu);
}

/* The set for @pcid, or NULL. */
static struct tlb_set *find_set(struct cpu *cpu, unsigned pcid)
{
	for (unsigned i = 0; i < TLB_SETS; i++) {
		if (cpu->tlb_sets[i].in_use && cpu->tlb_sets[i].pcid == pcid)
			return &cpu->tlb_sets[i];
	}
	return NULL;
}

static struct tlb_set *take_set(struct cpu *cpu, unsigned pcid)
{
	struct tlb_set *oldest = NULL;

	for (unsigned i = 0; i < TLB_SETS; i++) {
		struct tlb_set *set = &cpu->tlb_sets[i];

		if (!oldest || !set->in_use || (oldest->in_use && set->stamp < oldest->stamp))
			oldest = set;
	}
	flush_set(cpu, oldest, true);
	oldest->in_use = true;
	oldest->pcid = (uint16_t)pcid;
	return oldest;
}

void tlb_cr3_loaded(struct cpu *cpu, uint64_t old, bool keep)
{
	unsigned pcid = cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
	struct tlb_set *set = find_set(cpu, pcid);

	if (!set) {
		set = take_set(cpu, pcid);
		keep = true;
	}
	set->stamp = new_generation(cpu);
	cpu->tlb_set = set;
	cpu->generation[0] = set->generation;
	if (!keep)
		flush_nonglobal(cpu, set);
	tlb_select(cpu);
}

void tlb_flush_pcid(struct cpu *cpu, unsigned pcid, uint64_t linear, bool single)
{
	struct tlb_set *set = find_set(cpu, pcid);

	if (!set)
		return;
	if (single)
		flush_page(cpu, set, linear);
	else
		flush_set(cpu, set, false);
}

static void drop_writes_journal(struct cpu_tlb *tlb, unsigned global, uint64_t gpa)
{
	for (unsigned i = 0; i < tlb->journaled[global]; i++) {
		unsigned index = tlb->journal[global][i];

		if (gpa == TLB_EVERY_PAGE || tlb->page[index].gpa == gpa)
			tlb->entry[index].write = tlb_invalid(index);
	}
}

void tlb_drop_writes(struct cpu *cpu, uint64_t gpa)
{
	for (unsigned i = 0; i < TLB_SETS; i++) {
		if (!cpu->tlb_sets[i].in_use)
			continue;
		for (unsigned class = 0; class < TLB_CLASSES; class ++) {
			drop_writes_journal(&cpu->tlb_sets[i].tlb[class], 0, gpa);
			drop_writes_journal(&cpu->tlb_sets[i].tlb[class], 1, gpa);
		}
	}
}

/* --- Filling --- */

static uint32_t rights(const struct cpu *cpu, enum tlb_class class, const struct walk_result *walk)
{
	bool user = class == TLB_USER;
	uint32_t flags = TLB_VALID;

	if (!cpu->paging)
		return TLB_VALID | TLB_R | TLB_W | TLB_X;
	if (user ? walk->user : class == TLB_SUPERVISOR || !walk->user) {
		flags |= TLB_R;
		if (walk->dirty && (walk->writable || (!user && !(cpu->cr0 & CR0_WP))))
			flags |= TLB_W;
	}
	if (walk->executable && (user ? walk->user : !walk->user || !(cpu->cr4 & CR4_SMEP)))
		flags |= TLB_X;
	if (walk->global && (cpu->cr4 & CR4_PGE))
		flags |= TLB_GLOBAL;
	return flags;
}

static uint32_t note_size(struct tlb_set *set, uint64_t linear, uint64_t size)
{
	unsigned word;
	uint64_t bit;

	if (size <= 0x1000)
		return 12u << TLB_SIZE_SHIFT;
	set->large = true;
	if (size >= 0x40000000) { /* any of its regions may be named */
		memset(set->large_filter, 0xff, sizeof(set->large_filter));
	} else {
		bit = region_bit(linear, &word);
		set->large_filter[word] |= bit;
		bit = region_bit(linear ^ 0x200000, &word); /* the other half of 4 MiB */
		set->large_filter[word] |= bit;
	}
	return (uint32_t)g_bit_nth_lsf(size, -1) << TLB_SIZE_SHIFT;
}

void tlb_note_write(struct cpu_tlb *tlb, struct tlb_page *page)
{
	unsigned index = (unsigned)(page - tlb->page);
	struct ram_slot *slot = page->slot;
	uint64_t number = slot_page(slot, page->gpa);

	slot_set_dirty(slot, number);
	if (!atomic_load_explicit(&slot->guard[number], memory_order_relaxed))
		tlb->entry[index].write = page->va;
}

static struct tlb_page *fill(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear,
			     const struct walk_result *walk)
{
	unsigned index = tlb_index(linear);
	struct tlb_page *page = &tlb->page[index];
	struct tlb_entry *entry = &tlb->entry[index];
	uint32_t journals = page->flags & (TLB_IN_JOURNAL | TLB_IN_JOURNAL << 1);
	uint32_t flags = rights(cpu, tlb->class, walk);
	unsigned global = !!(flags & TLB_GLOBAL);

	page->va = linear & ~UINT64_C(0xfff);
	page->gpa = walk->gpa;
	page->slot = system_slot(cpu->system, walk->gpa);
	if (!(journals & TLB_IN_JOURNAL << global)) {
		journals |= TLB_IN_JOURNAL << global;
		tlb->journal[global][tlb->journaled[global]++] = (uint16_t)index;
	}
	page->flags = flags | journals | note_size(cpu->tlb_set, linear, walk->page_size);
	entry->read = entry->write = entry->exec = tlb_invalid(index);
	if (!page->slot)
		return page;
	entry->addend = (uintptr_t)page->slot->host + (walk->gpa - page->slot->gpa) - page->va;
	if (flags & TLB_R)
		entry->read = page->va;
	if (flags & TLB_X)
		entry->exec = page->va;
	return page;
}

struct tlb_page *tlb_resolve(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear,
			     enum mem_access access)
{
	static const uint32_t wanted[] = {[MEM_READ] = TLB_VALID | TLB_R,
					  [MEM_WRITE] = TLB_VALID | TLB_W,
					  [MEM_FETCH] = TLB_VALID | TLB_X};
	struct tlb_page *page = &tlb->page[tlb_index(linear)];
	struct walk_result walk = {
		.gpa = linear & ~UINT64_C(0xfff), .dirty = true, .page_size = 0x1000};

	if (page->va == (linear & ~UINT64_C(0xfff)) &&
	    (page->flags & wanted[access]) == wanted[access])
		return page;
	if (cpu->paging)
		page_walk(cpu, linear, access, tlb->class == TLB_USER ? 3 : 0,
			  tlb->class == TLB_SUPERVISOR_SMAP, &walk);
	return fill(cpu, tlb, linear, &walk);
}
