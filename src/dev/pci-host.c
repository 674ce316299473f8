// SPDX-License-Identifier: GPL-2.0-or-later
/* Intel 82Q35 host bridge: function 0:0.0 and the two ways to PCI configuration space. */
#include "dev/pci-host.h"

#include <string.h>

enum { PCIEXBAR = 0x60, PCI_SLOTS = 32, PCI_PINS = 4 };

struct pci_host {
	struct pci_function function; /* embeds the device */
	uint32_t address;             /* last value written to 0xcf8 */
	bool ecam_at_reset;
	struct window ports, ecam;
	struct irq_line *lines[PCI_SLOTS * 8][PCI_PINS];
	struct gsi *gsi;
	struct pci_bus *bus;
};

unsigned pci_host_gsi(uint8_t devfn, unsigned pin)
{
	return 16 + ((devfn >> 3) + pin) % 8;
}

static void route_intx(void *opaque, uint8_t devfn, unsigned pin, bool level)
{
	struct pci_host *host = opaque;
	struct irq_line **line = &host->lines[devfn][pin];
	if (!*line)
		*line = gsi_shared_line(host->gsi, pci_host_gsi(devfn, pin));
	irq_set(*line, level);
}

struct pci_bus *pci_host_bus(struct pci_host *host)
{
	return host->bus;
}

/* 0xcf8-0xcff. The address register takes and gives 32-bit accesses only (PCI 3.0, 3.2.2.3.2). */
static uint64_t ports_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_host *host = device;
	if (offset < 4)
		return offset == 0 && size == 4 ? host->address : UINT32_MAX;
	if (!(host->address & 0x80000000) || host->address >> 16 & 0xff)
		return UINT32_MAX;
	return pci_bus_config_read(host->bus, (uint8_t)(host->address >> 8),
				   (host->address & 0xfc) + ((unsigned)offset & 3), size);
}

static void ports_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct pci_host *host = device;
	if (offset < 4) {
		if (offset == 0 && size == 4)
			host->address = (uint32_t)value & 0x80fffffc;
		return;
	}
	if (!(host->address & 0x80000000) || host->address >> 16 & 0xff)
		return;
	pci_bus_config_write(host->bus, (uint8_t)(host->address >> 8),
			     (host->address & 0xfc) + ((unsigned)offset & 3), (uint32_t)value,
			     size);
}

/* Bus in bits 20-27, device and function in 12-19, register in 0-11. */
static uint64_t ecam_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_host *host = device;
	if (offset >> 20)
		return UINT32_MAX;
	return pci_bus_config_read(host->bus, (uint8_t)(offset >> 12), (unsigned)offset & 0xfff,
				   size);
}

static void ecam_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct pci_host *host = device;
	if (!(offset >> 20))
		pci_bus_config_write(host->bus, (uint8_t)(offset >> 12), (unsigned)offset & 0xfff,
				     (uint32_t)value, size);
}

static const struct window_ops ports_ops = {.read = ports_read, .write = ports_write};
static const struct window_ops ecam_ops = {.read = ecam_read, .write = ecam_write};

static void update_ecam(struct pci_host *host)
{
	uint64_t bar = pci_get32(&host->function.config[PCIEXBAR]) |
		       (uint64_t)pci_get32(&host->function.config[PCIEXBAR + 4]) << 32;
	uint64_t start = bar & UINT64_C(0xff0000000);
	if ((bar & 1) && start)
		window_map(host->function.device.vm, &host->ecam, start);
	else
		window_unmap(host->function.device.vm, &host->ecam);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	if (offset < PCIEXBAR + 8 && PCIEXBAR < offset + size)
		update_ecam((struct pci_host *)function);
}

static const struct pci_ops ops = {.config_written = config_written};

static void reset(struct device *device)
{
	struct pci_host *host = (struct pci_host *)device;
	host->address = 0;
	pci_function_reset(&host->function);
	pci_set32(&host->function.config[PCIEXBAR],
		  host->ecam_at_reset ? (uint32_t)PCI_ECAM_BASE | 1 : 0);
	pci_set32(&host->function.config[PCIEXBAR + 4], 0);
	memset(&host->function.config[0x90], 0, 7); /* PAM */
	update_ecam(host);
}

static bool post_load(void *object, GError **error)
{
	update_ecam(object);
	return true;
}

static const struct state_field fields[] = {
	STATE_SUB(struct pci_host, function, &pci_state),
	STATE_SCALAR(struct pci_host, address),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .post_load = post_load};

static void host_free(struct device *device)
{
	struct pci_host *host = (struct pci_host *)device;
	struct vm *vm = device->vm;
	window_unmap(vm, &host->ports);
	window_unmap(vm, &host->ecam);
	pci_function_remove(&host->function);
	pci_bus_free(host->bus);
	g_free(host);
}

static const struct device_class class = {
	.name = "pci-host", .reset = reset, .free = host_free, .state = &state};

struct pci_host *pci_host_new(struct vm *vm, struct gsi *gsi, bool ecam)
{
	static const struct pci_id id = {.vendor = 0x8086,
					 .device = 0x29c0,
					 .subsystem_vendor = 0x1af4,
					 .subsystem = 0x1100,
					 .class_code = 0x060000};
	struct pci_host *host = g_new0(struct pci_host, 1);
	device_add(vm, &host->function.device, &class, NULL);
	host->gsi = gsi;
	host->ecam_at_reset = ecam;
	host->bus = pci_bus_new(vm, route_intx, host);
	pci_function_add(host->bus, &host->function, &id, &ops, 0, NULL);
	pci_set32(&host->function.writable[PCIEXBAR], 0xf0000007);
	pci_set32(&host->function.writable[PCIEXBAR + 4], 0xf);
	memset(&host->function.writable[0x90], 0x33, 7);
	window_init(&host->ports, WINDOW_PORT, &ports_ops, host, 8);
	window_init(&host->ecam, WINDOW_MMIO, &ecam_ops, host, PCI_ECAM_SIZE);
	window_map(vm, &host->ports, 0xcf8);
	reset(&host->function.device);
	return host;
}
