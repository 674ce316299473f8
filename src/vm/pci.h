/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm/device.h"
#include "vm/irq.h"
#include "vm/window.h"

/*
 * PCI functions and their bus: configuration space, base address registers, INTx, MSI-X. The host
 * bridge (dev/) feeds configuration accesses in and says where INTx lines go. Source: PCI Local Bus
 * 3.0 chapter 6; PCI Express base 7.5 and 7.9.
 */

enum { PCI_CONFIG_SIZE = 256, PCI_BARS = 6, PCI_DEVFNS = 256, MSIX_MAX = 128 };

struct pci_bus;
struct pci_function;

struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, programming interface */
	uint8_t revision;
};

struct pci_ops {
	/* After the core has done its part of a configuration write (byte range changed). May be
	 * NULL. */
	void (*config_written)(struct pci_function *function, unsigned offset, unsigned size);
	/* Before a configuration read is answered from the array (windows into the device). May be
	 * NULL. */
	void (*config_reading)(struct pci_function *function, unsigned offset, unsigned size);
};

struct pci_bar {
	struct window window; /* ops NULL: the BAR does not exist */
	uint64_t size;
	bool is_64bit, prefetchable;
};

struct msix_entry {
	uint64_t address;
	uint32_t data, control; /* control bit 0: masked */
};

struct msix {
	uint16_t count; /* 0: the function has none */
	uint8_t cap;    /* offset of its capability */
	uint8_t bar;
	struct msix_entry entries[MSIX_MAX];
	uint64_t pending[MSIX_MAX / 64];
	GMutex lock; /* entries and pending bits: senders are on any thread. A leaf but for the MSI
			sink */
};

struct pci_function {
	struct device device;
	struct pci_bus *bus;
	const struct pci_ops *ops;
	uint8_t devfn;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t header[64]; /* of the last reset: loaded state must be of the same function */
	uint8_t writable[PCI_CONFIG_SIZE]; /* bits the guest may write */
	uint8_t write_1_clear[PCI_CONFIG_SIZE];
	struct pci_bar bars[PCI_BARS];
	uint8_t next_cap; /* where the next capability goes */
	uint8_t last_cap; /* offset of the last one's header, 0 none */
	struct msix msix;
	bool intx_level, intx_driven; /* what the device wants; what the bus was told */
};

/* --- The bus: made by a host bridge --- */
/* @intx: pin 0-3 (INTA-INTD) of @devfn goes to @level; called under the machine lock. */
struct pci_bus *pci_bus_new(struct vm *vm,
			    void (*intx)(void *opaque, uint8_t devfn, unsigned pin, bool level),
			    void *opaque);
void pci_bus_free(struct pci_bus *bus);
/* Type 0 access: @offset below 4096; absent functions and space above 256 read all ones / zeros. */
uint32_t pci_bus_config_read(struct pci_bus *bus, uint8_t devfn, unsigned offset, unsigned size);
void pci_bus_config_write(struct pci_bus *bus, uint8_t devfn, unsigned offset, uint32_t value,
			  unsigned size);
struct pci_function *pci_bus_function(struct pci_bus *bus, uint8_t devfn);
/* Lets the bus put 32-bit memory BARs of all functions where a firmware would: from @start to @end,
 * 64-bit ones too, ports from @port_start, and switches decoding on. For machines that start a
 * kernel directly. Fails when the window is too small. */
bool pci_bus_assign(struct pci_bus *bus, uint64_t start, uint64_t end, uint16_t port_start,
		    GError **error);

/* --- A function: called by devices --- */
/* Fills the header and puts the function on the bus at @devfn (-1: the first free slot from 1 on,
 * function 0). The caller has done device_add. False when the slot is taken or none is free. */
bool pci_function_add(struct pci_bus *bus, struct pci_function *function, const struct pci_id *id,
		      const struct pci_ops *ops, int devfn, GError **error);
/* Declares BAR @index of @size (power of two, >= 16) answered by @window_ops on @device. */
void pci_bar_add(struct pci_function *function, unsigned index, enum window_kind kind,
		 uint64_t size, bool is_64bit, bool prefetchable, const struct window_ops *ops,
		 void *device);
uint64_t pci_bar_address(struct pci_function *function,
			 unsigned index); /* or UINT64_MAX: not decoded */
/* Adds a capability of @size bytes (header included) and returns its offset. */
unsigned pci_capability_add(struct pci_function *function, uint8_t id, unsigned size);
/* MSI-X with @count vectors (at most MSIX_MAX) in BAR @bar (4 KiB: table at 0, pending bits at
 * 0x800; made here). */
void pci_msix_add(struct pci_function *function, unsigned bar, uint16_t count);
bool pci_msix_enabled(const struct pci_function *function);
/* Sends vector @index, or marks it pending while masked. Any thread. */
void pci_msix_send(struct pci_function *function, unsigned index);
/* INTx level; pin is from the configuration space. Machine lock held. */
void pci_intx_set(struct pci_function *function, bool level);
bool pci_bus_master(const struct pci_function *function);
/* Frees what the core has in the function and takes it off the bus. */
void pci_function_remove(struct pci_function *function);
/* Reset of the core's part; a device's reset calls it first. */
void pci_function_reset(struct pci_function *function);

static inline void pci_set16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}
static inline void pci_set32(uint8_t *p, uint32_t v)
{
	pci_set16(p, (uint16_t)v);
	pci_set16(p + 2, (uint16_t)(v >> 16));
}
static inline uint16_t pci_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t pci_get32(const uint8_t *p)
{
	return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}

/* The saved-state table of the core's part: devices put STATE_SUB(struct x, pci, &pci_state) first.
 */
extern const struct state_table pci_state;
