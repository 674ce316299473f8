// SPDX-License-Identifier: GPL-2.0-or-later
/* PCI functions on a bus: configuration space, BARs, INTx (PCI Local Bus 3.0, chapter 6). */
#include "vm/pci.h"

#include <string.h>

#include "base/error.h"
#include "vm/pci-internal.h"
#include "vm/vm.h"

enum {
	PCI_VENDOR = 0x00,
	PCI_DEVICE = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS = 0x09,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_SUBSYSTEM_VENDOR = 0x2c,
	PCI_SUBSYSTEM = 0x2e,
	PCI_CAPABILITIES = 0x34,
	PCI_INTERRUPT_LINE = 0x3c,
	PCI_INTERRUPT_PIN = 0x3d,
};

enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, COMMAND_MASTER = 4, COMMAND_NO_INTX = 0x400 };
enum { STATUS_INTX = 0x08, STATUS_CAPABILITIES = 0x10 }; /* in the low byte */

struct pci_bus {
	struct vm *vm;
	void (*intx)(void *opaque, uint8_t devfn, unsigned pin, bool level);
	void *opaque;
	struct pci_function *functions[PCI_DEVFNS];
};

struct pci_bus *pci_bus_new(struct vm *vm,
			    void (*intx)(void *opaque, uint8_t devfn, unsigned pin, bool level),
			    void *opaque)
{
	struct pci_bus *bus = g_new0(struct pci_bus, 1);
	bus->vm = vm;
	bus->intx = intx;
	bus->opaque = opaque;
	return bus;
}

void pci_bus_free(struct pci_bus *bus)
{
	g_free(bus);
}

struct pci_function *pci_bus_function(struct pci_bus *bus, uint8_t devfn)
{
	return bus->functions[devfn];
}

/* --- BARs --- */

static uint64_t bar_register(const struct pci_function *f, unsigned index)
{
	const struct pci_bar *bar = &f->bars[index];
	uint64_t value = pci_get32(&f->config[PCI_BAR0 + 4 * index]);
	if (bar->is_64bit)
		value |= (uint64_t)pci_get32(&f->config[PCI_BAR0 + 4 * index + 4]) << 32;
	return value & ~(bar->window.kind == WINDOW_PORT ? UINT64_C(3) : UINT64_C(15));
}

uint64_t pci_bar_address(struct pci_function *f, unsigned index)
{
	const struct pci_bar *bar = &f->bars[index];
	bool port = bar->window.kind == WINDOW_PORT;
	if (!bar->size || !(f->config[PCI_COMMAND] & (port ? COMMAND_IO : COMMAND_MEMORY)))
		return UINT64_MAX;
	uint64_t address = bar_register(f, index);
	uint64_t limit = port ? 0x10000 : bar->is_64bit ? UINT64_C(1) << 52 : UINT64_C(1) << 32;
	/* All ones is a size probe, zero an unassigned register. */
	if (address == 0 || address > limit - bar->size)
		return UINT64_MAX;
	return address;
}

static void update_windows(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct window *window = &f->bars[i].window;
		if (!f->bars[i].size)
			continue;
		uint64_t address = pci_bar_address(f, i);
		if (window->mapped && window->start == address)
			continue;
		window_unmap(f->device.vm, window);
		if (address != UINT64_MAX)
			window_map(f->device.vm, window, address);
	}
}

void pci_bar_add(struct pci_function *f, unsigned index, enum window_kind kind, uint64_t size,
		 bool is_64bit, bool prefetchable, const struct window_ops *ops, void *device)
{
	g_assert(index + is_64bit < PCI_BARS && size >= 16 && (size & (size - 1)) == 0);
	struct pci_bar *bar = &f->bars[index];
	uint8_t *reg = &f->config[PCI_BAR0 + 4 * index];
	uint64_t mask = ~(size - 1);
	window_init(&bar->window, kind, ops, device, size);
	bar->window.priority = -1; /* a chip at a fixed address wins over a BAR put on it */
	bar->size = size;
	bar->is_64bit = is_64bit;
	bar->prefetchable = prefetchable;
	reg[0] = kind == WINDOW_PORT ? 1 : (uint8_t)((is_64bit ? 4 : 0) | (prefetchable ? 8 : 0));
	pci_set32(&f->writable[PCI_BAR0 + 4 * index], (uint32_t)mask);
	if (is_64bit)
		pci_set32(&f->writable[PCI_BAR0 + 4 * index + 4], (uint32_t)(mask >> 32));
}

/* --- INTx --- */

static void update_intx(struct pci_function *f)
{
	unsigned pin = f->config[PCI_INTERRUPT_PIN];
	bool enabled = !(pci_get16(&f->config[PCI_COMMAND]) & COMMAND_NO_INTX);
	bool level = f->intx_level && enabled;
	if (pin && level != f->intx_driven) {
		f->intx_driven = level;
		f->bus->intx(f->bus->opaque, f->devfn, pin - 1, level);
	}
}

void pci_intx_set(struct pci_function *f, bool level)
{
	f->intx_level = level;
	if (level)
		f->config[PCI_STATUS] |= STATUS_INTX;
	else
		f->config[PCI_STATUS] &= (uint8_t)~STATUS_INTX;
	update_intx(f);
}

bool pci_bus_master(const struct pci_function *f)
{
	return f->config[PCI_COMMAND] & COMMAND_MASTER;
}

/* --- Configuration accesses --- */

uint32_t pci_bus_config_read(struct pci_bus *bus, uint8_t devfn, unsigned offset, unsigned size)
{
	struct pci_function *f = bus->functions[devfn];
	uint32_t value = 0;
	if (!f)
		return UINT32_MAX >> (32 - 8 * size);
	if (offset + size > PCI_CONFIG_SIZE)
		return 0;
	if (f->ops && f->ops->config_reading)
		f->ops->config_reading(f, offset, size);
	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)f->config[offset + i] << (8 * i);
	return value;
}

static bool touches(unsigned offset, unsigned size, unsigned start, unsigned length)
{
	return offset < start + length && start < offset + size;
}

void pci_bus_config_write(struct pci_bus *bus, uint8_t devfn, unsigned offset, uint32_t value,
			  unsigned size)
{
	struct pci_function *f = bus->functions[devfn];
	if (!f || offset + size > PCI_CONFIG_SIZE)
		return;
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t *reg = &f->config[offset + i];
		uint8_t writable = f->writable[offset + i];
		*reg = (uint8_t)((*reg & ~writable) | (byte & writable));
		*reg &= (uint8_t) ~(byte & f->write_1_clear[offset + i]);
	}
	if (touches(offset, size, PCI_COMMAND, 2) || touches(offset, size, PCI_BAR0, 24)) {
		update_windows(f);
		update_intx(f);
	}
	msix_config_written(f, offset, size);
	if (f->ops && f->ops->config_written)
		f->ops->config_written(f, offset, size);
}

/* --- Functions --- */

static int free_slot(struct pci_bus *bus)
{
	for (int slot = 1; slot < 31; slot++) {
		bool used = false;
		for (int function = 0; function < 8; function++)
			used |= bus->functions[slot * 8 + function] != NULL;
		if (!used)
			return slot * 8;
	}
	return -1;
}

bool pci_function_add(struct pci_bus *bus, struct pci_function *f, const struct pci_id *id,
		      const struct pci_ops *ops, int devfn, GError **error)
{
	if (devfn < 0)
		devfn = free_slot(bus);
	if (devfn < 0 || devfn >= PCI_DEVFNS)
		return error_set(error, LODGE_ERROR_INVALID,
				 "no free PCI slot for '%s': at most 30 devices fit",
				 f->device.class->name);
	if (bus->functions[devfn])
		return error_set(error, LODGE_ERROR_INVALID,
				 "PCI slot %02x.%x is taken by '%s', '%s' cannot use it",
				 devfn >> 3, devfn & 7, bus->functions[devfn]->device.id,
				 f->device.id);
	f->bus = bus;
	f->ops = ops;
	f->devfn = (uint8_t)devfn;
	f->next_cap = 0x40;
	g_mutex_init(&f->msix.lock);
	pci_set16(&f->config[PCI_VENDOR], id->vendor);
	pci_set16(&f->config[PCI_DEVICE], id->device);
	pci_set16(&f->config[PCI_SUBSYSTEM_VENDOR], id->subsystem_vendor);
	pci_set16(&f->config[PCI_SUBSYSTEM], id->subsystem);
	f->config[PCI_REVISION] = id->revision;
	f->config[PCI_CLASS] = (uint8_t)id->class_code;
	pci_set16(&f->config[PCI_CLASS + 1], (uint16_t)(id->class_code >> 8));
	pci_set16(&f->writable[PCI_COMMAND],
		  0x0547);        /* io, memory, master, parity, serr, intx off */
	f->writable[0x0c] = 0xff; /* cache line size */
	f->writable[PCI_INTERRUPT_LINE] = 0xff;
	if (devfn & 7 && bus->functions[devfn & ~7])
		bus->functions[devfn & ~7]->config[PCI_HEADER_TYPE] |= 0x80;
	bus->functions[devfn] = f;
	return true;
}

void pci_function_remove(struct pci_function *f)
{
	if (!f->bus)
		return;
	for (unsigned i = 0; i < PCI_BARS; i++)
		window_unmap(f->device.vm, &f->bars[i].window);
	f->bus->functions[f->devfn] = NULL;
	f->bus = NULL;
	g_mutex_clear(&f->msix.lock);
}

unsigned pci_capability_add(struct pci_function *f, uint8_t id, unsigned size)
{
	unsigned offset = f->next_cap;
	g_assert(offset + size <= PCI_CONFIG_SIZE);
	f->config[offset] = id;
	f->config[offset + 1] = 0;
	f->config[f->last_cap ? f->last_cap + 1u : PCI_CAPABILITIES] = (uint8_t)offset;
	f->config[PCI_STATUS] |= STATUS_CAPABILITIES;
	f->last_cap = (uint8_t)offset;
	f->next_cap = (uint8_t)((offset + size + 3) & ~3u);
	return offset;
}

void pci_function_reset(struct pci_function *f)
{
	pci_set16(&f->config[PCI_COMMAND], 0);
	f->config[PCI_INTERRUPT_LINE] = 0;
	f->config[0x0c] = 0;
	for (unsigned i = 0; i < 24; i++)
		f->config[PCI_BAR0 + i] &= (uint8_t)~f->writable[PCI_BAR0 + i];
	memcpy(f->header, f->config, sizeof(f->header));
	f->intx_level = false;
	f->config[PCI_STATUS] &= (uint8_t)~STATUS_INTX;
	msix_reset(f);
	update_windows(f);
	update_intx(f);
}

/* --- Assignment without firmware --- */

static bool assign_bar(struct pci_function *f, unsigned index, uint64_t *next, uint64_t end,
		       GError **error)
{
	const struct pci_bar *bar = &f->bars[index];
	uint64_t at = (*next + bar->size - 1) & ~(bar->size - 1);
	if (at < *next || at > end - bar->size)
		return error_set(error, LODGE_ERROR_FAILED,
				 "the PCI window is full: BAR %u of '%s' does not fit", index,
				 f->device.id);
	pci_set32(&f->config[PCI_BAR0 + 4 * index],
		  (uint32_t)at | (f->config[PCI_BAR0 + 4 * index] & 15));
	if (bar->is_64bit)
		pci_set32(&f->config[PCI_BAR0 + 4 * index + 4], (uint32_t)(at >> 32));
	*next = at + bar->size;
	return true;
}

bool pci_bus_assign(struct pci_bus *bus, uint64_t start, uint64_t end, uint16_t port_start,
		    GError **error)
{
	uint64_t next_port = port_start;
	for (unsigned devfn = 0; devfn < PCI_DEVFNS; devfn++) {
		struct pci_function *f = bus->functions[devfn];
		uint16_t command = 0;
		for (unsigned i = 0; f && i < PCI_BARS; i++) {
			bool port = f->bars[i].window.kind == WINDOW_PORT;
			if (!f->bars[i].size)
				continue;
			if (!assign_bar(f, i, port ? &next_port : &start, port ? 0x10000 : end,
					error))
				return false;
			command |= port ? COMMAND_IO : COMMAND_MEMORY;
		}
		if (f && command) {
			pci_set16(&f->config[PCI_COMMAND], command | COMMAND_MASTER);
			update_windows(f);
		}
	}
	return true;
}

/* --- Saved state --- */

/* What makes the function what it is: ids, class, header type, kinds of BARs, capabilities' start,
 * interrupt pin. */
static bool same_function(const struct pci_function *f)
{
	static const uint8_t ranges[][2] = {{0x00, 0x04}, {0x08, 0x0c}, {0x0e, 0x0f}, {0x10, 0x28},
					    {0x2c, 0x30}, {0x34, 0x35}, {0x3d, 0x3e}};
	for (unsigned i = 0; i < G_N_ELEMENTS(ranges); i++) {
		for (unsigned at = ranges[i][0]; at < ranges[i][1]; at++) {
			if ((f->config[at] ^ f->header[at]) & (uint8_t)~f->writable[at])
				return false;
		}
	}
	return true;
}

static bool post_load(void *object, GError **error)
{
	struct pci_function *f = object;
	if (!same_function(f))
		return error_set(error, LODGE_ERROR_INVALID, "it is of another PCI function");
	f->intx_driven = false;
	update_windows(f);
	update_intx(f);
	return true;
}

static const struct state_field msix_entry_fields[] = {
	STATE_SCALAR(struct msix_entry, address),
	STATE_SCALAR(struct msix_entry, data),
	STATE_SCALAR(struct msix_entry, control),
};

static const struct state_table msix_entry_state = {.version = 1,
						    .min_version = 1,
						    .fields = msix_entry_fields,
						    .field_count = G_N_ELEMENTS(msix_entry_fields)};

static const struct state_field msix_fields[] = {
	STATE_SUBS(struct msix, entries, &msix_entry_state),
	STATE_ARRAY(struct msix, pending),
};

static const struct state_table msix_state = {.version = 1,
					      .min_version = 1,
					      .fields = msix_fields,
					      .field_count = G_N_ELEMENTS(msix_fields)};

static const struct state_field pci_fields[] = {
	STATE_BLOB(struct pci_function, config),
	STATE_SCALAR(struct pci_function, intx_level),
	STATE_SUB(struct pci_function, msix, &msix_state),
};

const struct state_table pci_state = {.version = 1,
				      .min_version = 1,
				      .fields = pci_fields,
				      .field_count = G_N_ELEMENTS(pci_fields),
				      .post_load = post_load};
