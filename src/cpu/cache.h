/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/internal.h"

/*
 * Decoded blocks of one processor. A block is a run of instructions within one page (only a lone
 * instruction may cross into the next), ended by the first that may change RIP, mode, mappings or
 * interrupt state. It is known by the physical address of its first byte, its RIP and the mode.
 *
 *   1. A block's memory is not reused before the whole cache is emptied, so a stale pointer to a
 *      block is harmless: a dropped block's first op leaves the dispatch loop.
 *   2. A link is followed only while *link->current == link->generation. Within a page that always
 *      holds; across pages until a translation is dropped.
 *   3. Only the processor's own thread touches its cache.
 */

enum { BLOCK_INSNS = 64, CACHE_JUMPS = 4096, CACHE_BUCKETS = 16384, CACHE_PAGES = 4096 };

struct link {
	struct block *from, *to;
	const uint64_t *current;
	uint64_t generation;
};

struct block {
	uint64_t rip, gpa;
	struct block *next;         /* in its bucket */
	struct block *page_next[2]; /* on its page, and on the second page */
	struct link link[2];        /* not taken (or falling through), taken */
	uint64_t second_gpa;        /* page of a crossing instruction's tail, or NO_PAGE */
	uint32_t mode;
	uint16_t count, bytes;
	bool dead, global;
	struct op ops[];
};

#define NO_PAGE UINT64_MAX

struct jump {
	uint64_t key; /* linear address ^ mode << 48 */
	uint64_t generation;
	struct block *block;
	uint64_t global;
};

struct page_blocks {
	uint64_t gpa;
	struct page_blocks *next;
	struct block *first; /* linked by page_next[gpa is the block's second page] */
};

struct cpu_cache {
	struct jump jump[CACHE_JUMPS];
	struct block *bucket[CACHE_BUCKETS];
	struct page_blocks *page[CACHE_PAGES];
	uint8_t *arena;
	size_t used, high;
	uint64_t epoch; /* counts flushes */
	uint64_t built; /* blocks decoded */
};

void cache_new(struct cpu *cpu);
void cache_free(struct cpu *cpu);
void cache_flush(struct cpu *cpu);
/* Drops the blocks with bytes in the @granules (64 bytes each) of page @gpa. If the block that runs
 * is among them cpu->block_hit tells. */
void cache_drop(struct cpu *cpu, uint64_t gpa, uint64_t granules);
/* The block at cpu->rip; raises what fetching the first instruction raises. */
struct block *cache_find(struct cpu *cpu);
/* The same for a block of one instruction. */
struct block *cache_find_alone(struct cpu *cpu);
/* Makes @link lead to @to, if it may. */
void cache_link(struct cpu *cpu, struct link *link, struct block *to);

static inline uint64_t jump_key(const struct cpu *cpu, uint64_t linear)
{
	return linear ^ (uint64_t)cpu->mode << 48;
}
static inline unsigned jump_slot(uint64_t key)
{
	return (unsigned)(key ^ (key >> 12) ^ (key >> 40)) & (CACHE_JUMPS - 1);
}

/* --- Selection (select.c, fast.c) and execution (exec.c) --- */

struct op_info {
	bool end;
	bool faults;            /* may leave by an exception */
	uint16_t reads, writes; /* arithmetic flags (ARITH_*) it may read, and it always sets */
};

/* Makes @op of @insn at @offset bytes from the block's start at @rip. False for #UD (op is then the
 * one that raises it). */
void select_op(const struct insn *insn, struct op *op, struct op_info *info, uint64_t rip,
	       unsigned offset);
/* An op that raises @vector. */
void select_raise(struct op *op, uint8_t vector);
/* Chooses the dispatch loop's handlers for the block; flags an op sets and nobody sees are left
 * out. */
void fast_select(struct block *block, const struct op_info *info);

/* Runs from @block until something needs the outer loop; returns the link that was not there, or
 * NULL. With cpu NULL: fills the table of handlers. cpu->rip is valid after it. */
struct link *exec_run(struct cpu *cpu, struct block *block);
const void *exec_handler(unsigned index);
void exec_init(void); /* before the first of all blocks */
