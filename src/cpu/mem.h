/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <string.h>

#include "cpu/internal.h"

/*
 * The software TLB. One `struct cpu_tlb` holds the translations for one class of privilege; a set
 * is the three classes for one address space (PCID), and a processor keeps several.
 *
 * An entry's tag is the page's address where an access of that kind needs nothing but a host
 * access: so one comparison, `(address ^ tag) <= 0x1000 - size`, covers presence, rights and the
 * page crossing. The tag for writes is withheld from pages that are guarded (system.h), not yet
 * dirty, read-only or not RAM; the page record beside the entry then still knows the translation.
 *
 *   1. The index hash of an invalid tag's page is never the entry's own index (TLB_INVALID).
 *   2. An index whose page record is valid is in one of the journals, so that flushing costs only
 *      what was filled.
 *   3. cpu->tlb is cpu->tlb_class, or the entries that never hit while data breakpoints or
 *      alignment checks are on.
 *   4. Whatever drops a translation gives cpu->generation new values: chained blocks and the jump
 *      cache are valid for one generation.
 */

/* Guest data in host memory: any alignment. */
typedef uint8_t unaligned8;
typedef uint16_t __attribute__((aligned(1), may_alias)) unaligned16;
typedef uint32_t __attribute__((aligned(1), may_alias)) unaligned32;
typedef uint64_t __attribute__((aligned(1), may_alias)) unaligned64;

enum { TLB_ENTRIES = 2048, TLB_SETS = 4 };
enum tlb_class { TLB_USER, TLB_SUPERVISOR_SMAP, TLB_SUPERVISOR, TLB_CLASSES };

struct tlb_entry {
	uint64_t read, write, exec;
	uint64_t addend; /* host address minus linear address */
};

enum {
	TLB_VALID = 1,
	TLB_R = 2,
	TLB_W = 4, /* allowed, and the leaf is dirty */
	TLB_X = 8,
	TLB_GLOBAL = 16,
	TLB_IN_JOURNAL = 32, /* << global */
	TLB_SIZE_SHIFT = 8,  /* address bits of the page: 12, 21, 22, 30 */
};

struct ram_slot;

struct tlb_page {
	uint64_t va, gpa;
	struct ram_slot *slot; /* NULL: not RAM */
	uint32_t flags;
};

struct cpu_tlb {
	struct tlb_entry entry[TLB_ENTRIES];
	struct tlb_page page[TLB_ENTRIES];
	uint16_t journal[2][TLB_ENTRIES]; /* [1]: global */
	unsigned journaled[2];
	enum tlb_class class;
};

struct tlb_set {
	struct cpu_tlb tlb[TLB_CLASSES];
	uint16_t pcid;
	bool in_use, large; /* any page larger than 4 KiB was filled */
	uint64_t stamp;     /* of the last use */
	uint64_t generation;
	uint64_t large_filter[16]; /* by 2 MiB region */
};

static inline unsigned tlb_index(uint64_t linear)
{
	return (unsigned)((linear >> 12) ^ (linear >> 23)) & (TLB_ENTRIES - 1);
}

/* A tag for entry @index that no address with that index matches. */
static inline uint64_t tlb_invalid(unsigned index)
{
	return index ? 0 : 0x1000;
}

#define TLB_EVERY_PAGE UINT64_MAX

void tlb_new(struct cpu *cpu);
void tlb_free(struct cpu *cpu);
/* Chooses cpu->tlb after the privilege, SMAP, AC or debug state has changed. */
void tlb_select(struct cpu *cpu);
/* The page that holds @linear, walked and filled if need be; raises #PF. */
struct tlb_page *tlb_resolve(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear,
			     enum mem_access access);
/* Takes the write entries for the physical page @gpa away, or all (TLB_EVERY_PAGE). */
void tlb_drop_writes(struct cpu *cpu, uint64_t gpa);
/* A store to the page is about to happen: logs it, and lets further ones be fast if they may. */
void tlb_note_write(struct cpu_tlb *tlb, struct tlb_page *page);

/* Where @size bytes lie in host memory, when they are in one page of RAM and their access is
 * allowed; NULL when any of that needs more care (then use mem_read, mem_write). May raise #PF. A
 * writer calls mem_host_written when done. Does not do the segment's checks for @offset. */
void *mem_host(struct cpu *cpu, uint64_t linear, unsigned size, enum mem_access access,
	       struct tlb_page *page);
void mem_host_written(struct cpu *cpu, const struct tlb_page *page, uint64_t linear, unsigned size);

/* By linear address with the rights of CPL; @segment only chooses #GP or #SS. */
uint64_t mem_read_linear(struct cpu *cpu, unsigned segment, uint64_t linear, unsigned size);
void mem_write_linear(struct cpu *cpu, unsigned segment, uint64_t linear, uint64_t value,
		      unsigned size);

/* Linear address of an operand; the segment's checks where the mode has any. */
uint64_t mem_linear(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
		    enum mem_access access);

/* @count words of 8 bytes with the rights of @cpl, if they are in one page and the TLB has it;
 * false, with nothing done, where mem_read_as and mem_write_as must be used. */
bool mem_try_read_words(struct cpu *cpu, uint64_t linear, uint64_t *words, unsigned count,
			unsigned cpl);
bool mem_try_write_words(struct cpu *cpu, uint64_t linear, const uint64_t *words, unsigned count,
			 unsigned cpl);

/* A read-modify-write operand, see mem_target_begin. */
struct mem_target {
	uint8_t *host; /* NULL: use mem_read_linear and mem_write_linear, which cannot fault */
	uint64_t linear;
	struct tlb_page page;
	unsigned segment, size;
	bool stopped;
};

/* Makes the operand ready to be modified (raises everything a write would raise). With @locked and
 * no single host location the other processors stand still until mem_target_end. */
void mem_target_begin(struct cpu *cpu, struct mem_target *target, unsigned segment, uint64_t offset,
		      unsigned size, bool locked);
void mem_target_end(struct cpu *cpu, struct mem_target *target);
