/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/internal.h"

/*
 * What the processors of one machine share: RAM slots, which of their pages hold decoded code, and
 * the exchange by which one thread makes all processors drop what they have cached.
 *
 * Code tracking. Per page of RAM there is a word of 64 granule bits (64 bytes each: some processor
 * has decoded code from there) and a guard count: while it is not zero no processor has a write
 * entry for the page in its TLB, so every store comes by smc_written. The count starts at
 * GUARD_STORES with each decode and falls with stores that hit no granule of a page without any,
 * so that a page that became data gets its fast stores back.
 *
 *   1. Granule bits change under system->lock only; they are read without.
 *   2. A decoder guards the page, then sets its bits, then reads the bytes (again); a writer
 * stores, then reads the bits. One of the two sees the other.
 *   3. Guard goes from zero to set only by a broadcast that every processor in its loop answers.
 */

enum { GUARD_STORES = 16, RAM_SLOTS = 64 };

struct ram_slot {
	uint64_t gpa, size;
	uint8_t *host;
	bool readonly;
	int id;
	_Atomic bool logging;
	_Atomic uint64_t *dirty;
	_Atomic uint64_t *granules;
	_Atomic uint8_t *guard;
};

struct cpu_system {
	GMutex lock;
	GCond answered;
	struct ram_slot *slot[RAM_SLOTS]; /* sorted by address; changes only while nobody runs */
	unsigned slot_count;
	int next_id;
	GPtrArray *cpus;
	_Atomic uint64_t broadcasts;
	struct cpu *stopper; /* runs alone: everybody else stays out of the loop */
	unsigned waiters;
};

enum { SYNC_PAGES = 32 };

/* What other threads have asked of one processor; guarded by system->lock (but generations, which
 * is the processor's own). */
struct cpu_sync {
	uint64_t generations;  /* how many the TLB has given out */
	bool drop_writes;      /* all write entries */
	bool drop_translation; /* all entries */
	bool drop_code;        /* all decoded blocks */
	unsigned guarded_count, modified_count;
	uint64_t guarded[SYNC_PAGES]; /* pages whose write entries must go */
	struct {
		uint64_t gpa, granules;
	} modified[SYNC_PAGES];
};

/* The slot that holds @gpa, or NULL. */
struct ram_slot *system_slot(struct cpu_system *system, uint64_t gpa);

void system_add_cpu(struct cpu_system *system, struct cpu *cpu);
void system_remove_cpu(struct cpu_system *system, struct cpu *cpu);

/* The run loop's doors. Between enter and leave a processor may touch guest memory; it looks at
 * REQ_SYNC at each block end and calls system_answer. */
void system_enter(struct cpu *cpu);
void system_leave(struct cpu *cpu);
/* Does what others have asked. @blocks_too: blocks may be dropped as well (not while one runs). */
void system_answer(struct cpu *cpu, bool blocks_too);

/* Stops every other processor outside its current instruction; nests not. */
void system_stop_others(struct cpu *cpu);
void system_resume_others(struct cpu *cpu);

/* Before decoding from the page: after it no processor has a write entry for it. */
void smc_guard(struct cpu *cpu, struct ram_slot *slot, uint64_t page);
/* Sets the granule bits of [@gpa, @gpa + @size), within one page. */
void smc_mark(struct cpu *cpu, struct ram_slot *slot, uint64_t gpa, unsigned size);
/* After a store by @cpu into a guarded page: drops blocks where it hit some. */
void smc_written(struct cpu *cpu, struct ram_slot *slot, uint64_t gpa, unsigned size);

static inline uint64_t slot_page(const struct ram_slot *slot, uint64_t gpa)
{
	return (gpa - slot->gpa) >> 12;
}

static inline void slot_set_dirty(struct ram_slot *slot, uint64_t page)
{
	uint64_t bit = UINT64_C(1) << (page % 64);

	if (slot->dirty && atomic_load_explicit(&slot->logging, memory_order_relaxed) &&
	    !(atomic_load_explicit(&slot->dirty[page / 64], memory_order_relaxed) & bit))
		atomic_fetch_or(&slot->dirty[page / 64], bit);
}
