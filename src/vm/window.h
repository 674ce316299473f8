/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Windows: ranges of ports or guest-physical addresses that a device answers. The core finds the
 * window of an access by binary search, splits accesses that are larger than the device takes, and
 * extracts from larger ones where it takes only those. What no window answers reads all ones.
 */

struct vm;

enum window_kind { WINDOW_PORT, WINDOW_MMIO, WINDOW_KINDS };

struct window_ops {
	/* @offset from the window's start; @size 1, 2, 4 or 8 within [min_size, max_size]. */
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, uint64_t value, unsigned size);
	uint8_t min_size, max_size; /* 0 means 1 and 4 */
	/* The device locks for itself: called without the machine lock. */
	bool unlocked;
};

/* Embedded in the device; priority decides between overlapping windows (higher wins; ties: the
 * one added later). */
struct window {
	const struct window_ops *ops;
	void *device;
	uint64_t start, size;
	uint8_t kind; /* enum window_kind */
	int8_t priority;
	bool mapped;
};

/* The machine lock is held (or no vCPU exists yet). Moving a window is remove and add. */
void window_init(struct window *window, enum window_kind kind, const struct window_ops *ops,
		 void *device, uint64_t size);
void window_map(struct vm *vm, struct window *window, uint64_t start);
void window_unmap(struct vm *vm, struct window *window);

/* An access by a vCPU (or a test): takes the machine lock itself. Unclaimed reads give all ones. */
uint64_t vm_window_read(struct vm *vm, enum window_kind kind, uint64_t address, unsigned size);
void vm_window_write(struct vm *vm, enum window_kind kind, uint64_t address, uint64_t value,
		     unsigned size);
