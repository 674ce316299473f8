/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/pci.h"
#include "vm/vm.h"

/* A guest's side of virtio in a machine without a processor: a bus with devices, and a driver that
 * works their registers and rings in guest memory. */

enum { RIG_RAM_BYTES = 8 << 20, DRIVER_QUEUES = 8, RIG_HOLE = RIG_RAM_BYTES + (1 << 20) };

#define FEATURE_PACKED (UINT64_C(1) << 34)
#define FEATURE_BASE   (UINT64_C(1) << 32 | UINT64_C(1) << 29 | UINT64_C(1) << 28)

struct rig {
	GMainContext *context;
	struct vm *vm;
	struct pci_bus *bus;
	struct ram *ram;
	bool intx;          /* level of the shared line */
	unsigned msis;      /* sent so far */
	uint32_t last_msi;  /* its data */
	uint64_t next_free; /* guest memory handed out so far */
};

struct driver_queue {
	unsigned index, size;
	bool packed;
	uint64_t desc, driver, device;
	uint16_t avail, used; /* split: counts; packed: positions */
	bool avail_wrap, used_wrap;
	uint16_t next_desc; /* split: where the next chain starts */
	uint16_t slots[256];
};

struct driver {
	struct rig *rig;
	struct pci_function *function;
	uint64_t bar;
	uint64_t features;
	unsigned queue_count;
	struct driver_queue queues[DRIVER_QUEUES];
};

struct piece {
	uint64_t gpa;
	uint32_t length;
	bool write;
};

/* The machine, and after the devices are made: addresses, start. */
void rig_init(struct rig *rig);
void rig_start(struct rig *rig);
void rig_fini(struct rig *rig);
/* Runs the main loop until @done is true, at most ten seconds; asserts that it became so. */
void rig_wait(struct rig *rig, bool (*done)(void *opaque), void *opaque);
uint64_t rig_alloc(struct rig *rig, uint64_t size);
void *rig_host(struct rig *rig, uint64_t gpa);

/* Resets the device, takes @features of those offered, sets up the queues with @size entries. */
void driver_init(struct driver *driver, struct rig *rig, struct pci_function *function,
		 uint64_t features, unsigned size);
/* Only up to FEATURES_OK; returns the status read back. */
uint8_t driver_negotiate(struct driver *driver, uint64_t features);
void driver_setup_queue(struct driver *driver, unsigned index, unsigned size);
uint32_t driver_read(struct driver *driver, unsigned page, unsigned offset, unsigned size);
void driver_write(struct driver *driver, unsigned page, unsigned offset, uint32_t value,
		  unsigned size);
uint8_t driver_status(struct driver *driver);
void driver_notify(struct driver *driver, unsigned queue);
/* Makes a chain available (no notification); returns its id. */
uint16_t driver_add(struct driver *driver, unsigned queue, const struct piece *pieces,
		    unsigned count);
/* Takes the next used element; false when there is none. */
bool driver_used(struct driver *driver, unsigned queue, uint16_t *id, uint32_t *length);
/* Makes available, notifies and waits until it is used; returns the length written. */
uint32_t driver_do(struct driver *driver, unsigned queue, const struct piece *pieces,
		   unsigned count);
/* Saves all devices, loads that into them again, saves, and compares. */
void rig_check_state(struct rig *rig);
