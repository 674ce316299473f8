/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Guest memory. A `struct ram` is host memory that a guest can see (main memory, ROM, flash, frame
 * buffer); a `struct ram_mapping` puts a part of one at a guest-physical address. Devices reach it
 * only through the bounded dma_* functions: these never touch what is not mapped, mark what they
 * write as dirty, and tell the software processor of overwritten code.
 */

struct vm;

enum ram_flags {
	RAM_SHARED = 1 << 0,    /* a memfd that other processes can map (vhost-user) */
	RAM_HUGETLB = 1 << 1,   /* from the pool of 2 MiB pages, or fail */
	RAM_MERGEABLE = 1 << 2, /* KSM may merge it */
};

struct ram {
	char *name; /* unique in the machine: saved state goes by it */
	uint8_t *host;
	uint64_t size; /* bytes, page-aligned */
	unsigned flags;
	int fd;                /* the memfd or -1 */
	uint64_t *dirty;       /* one bit per 4 KiB page, set atomically */
	int logging;           /* users of the dirty log; changed under the map lock */
	bool volatile_content; /* not part of saved state (ROM loaded again at start) */
};

struct ram_mapping {
	struct ram *ram;
	uint64_t gpa, size, offset; /* bytes, page-aligned; offset into the ram */
	bool readonly;              /* guest writes go to the MMIO windows instead */
	int slot;                   /* the accelerator's */
};

/* Allocates zeroed memory, not populated until touched. */
struct ram *ram_new(struct vm *vm, const char *name, uint64_t size, unsigned flags, GError **error);

void ram_free(struct ram *ram); /* for vm_free; nothing maps it any more */

/* Puts [offset, offset + size) of @ram at @gpa. Must not overlap another mapping. The vCPUs must be
 * paused or the caller on the only vCPU's thread under the machine lock. */
struct ram_mapping *ram_map(struct vm *vm, struct ram *ram, uint64_t gpa, uint64_t offset,
			    uint64_t size, bool readonly, GError **error);
void ram_unmap(struct vm *vm, struct ram_mapping *mapping);

/* Copies between guest memory and @buffer; any thread. False when any byte of the range is not
 * memory (what is, has been copied), or for a write is read-only. */
bool dma_read(struct vm *vm, uint64_t gpa, void *buffer, uint64_t size);
bool dma_write(struct vm *vm, uint64_t gpa, const void *buffer, uint64_t size);

/* The host address of [gpa, gpa + size) for direct access, or NULL where the range is not wholly
 * inside one mapping. With @write the caller must call dma_written after it has written. Valid
 * until the machine's memory map changes (vCPUs paused). */
void *dma_map(struct vm *vm, uint64_t gpa, uint64_t size, bool write);
void dma_written(struct vm *vm, uint64_t gpa, uint64_t size);
/* Longest prefix of [gpa, gpa + *size) that is contiguous in one mapping; sets *size to it. */
void *dma_map_prefix(struct vm *vm, uint64_t gpa, uint64_t *size, bool write);

/* Dirty log of all mapped RAM: a count of users. Each user fetches through ram_log_fetch, which
 * moves the bits of @ram into @bitmap (or-ing; same shape as ram->dirty) and clears them. */
bool ram_log_start(struct vm *vm, GError **error);
void ram_log_stop(struct vm *vm);
bool ram_log_fetch(struct vm *vm, struct ram *ram, uint64_t *bitmap, GError **error);
