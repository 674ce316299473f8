// SPDX-License-Identifier: GPL-2.0-or-later
/* MSI-X: vector table, masks and pending bits (PCI Local Bus 3.0, section 6.8.2). */
#include <string.h>

#include "vm/pci-internal.h"
#include "vm/vm.h"

enum { MSIX_CAP = 0x11, MSIX_CAP_SIZE = 12, MSIX_CONTROL = 2, MSIX_PBA = 0x800 };
enum { CONTROL_ENABLE = 0x80, CONTROL_MASK_ALL = 0x40 }; /* in the high byte */

static bool function_masked(const struct pci_function *f)
{
	uint8_t control = f->config[f->msix.cap + MSIX_CONTROL + 1];
	return !(control & CONTROL_ENABLE) || (control & CONTROL_MASK_ALL);
}

bool pci_msix_enabled(const struct pci_function *f)
{
	return f->msix.count && f->config[f->msix.cap + MSIX_CONTROL + 1] & CONTROL_ENABLE;
}

/* Sends what is pending and no longer masked. */
static void flush_pending(struct pci_function *f)
{
	struct msix *msix = &f->msix;
	for (unsigned i = 0; i < msix->count; i++) {
		uint64_t bit = UINT64_C(1) << (i % 64);
		g_mutex_lock(&msix->lock);
		struct msix_entry entry = msix->entries[i];
		bool send = (msix->pending[i / 64] & bit) && !function_masked(f) &&
			    !(entry.control & 1);
		if (send)
			msix->pending[i / 64] &= ~bit;
		g_mutex_unlock(&msix->lock);
		if (send)
			vm_send_msi(f->device.vm, entry.address, entry.data);
	}
}

void pci_msix_send(struct pci_function *f, unsigned index)
{
	struct msix *msix = &f->msix;
	if (index >= msix->count || !pci_msix_enabled(f))
		return;
	g_mutex_lock(&msix->lock);
	struct msix_entry entry = msix->entries[index];
	bool masked = function_masked(f) || (entry.control & 1);
	if (masked)
		msix->pending[index / 64] |= UINT64_C(1) << (index % 64);
	g_mutex_unlock(&msix->lock);
	if (!masked)
		vm_send_msi(f->device.vm, entry.address, entry.data);
}

static uint64_t table_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_function *f = device;
	struct msix *msix = &f->msix;
	uint64_t value = 0;
	uint8_t bytes[16];
	g_mutex_lock(&msix->lock);
	if (offset < (uint64_t)msix->count * 16) {
		const struct msix_entry *entry = &msix->entries[offset / 16];
		memcpy(bytes, &entry->address, 8);
		memcpy(bytes + 8, &entry->data, 4);
		memcpy(bytes + 12, &entry->control, 4);
		memcpy(&value, bytes + offset % 16, MIN(size, 16 - offset % 16));
	} else if (offset >= MSIX_PBA && offset + size <= MSIX_PBA + sizeof(msix->pending)) {
		memcpy(&value, (uint8_t *)msix->pending + (offset - MSIX_PBA), size);
	}
	g_mutex_unlock(&msix->lock);
	return value;
}

static void table_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct pci_function *f = device;
	struct msix *msix = &f->msix;
	uint8_t bytes[16];
	if (offset >= (uint64_t)msix->count * 16)
		return;
	g_mutex_lock(&msix->lock);
	struct msix_entry *entry = &msix->entries[offset / 16];
	memcpy(bytes, &entry->address, 8);
	memcpy(bytes + 8, &entry->data, 4);
	memcpy(bytes + 12, &entry->control, 4);
	memcpy(bytes + offset % 16, &value, MIN(size, 16 - offset % 16));
	memcpy(&entry->address, bytes, 8);
	memcpy(&entry->data, bytes + 8, 4);
	memcpy(&entry->control, bytes + 12, 4);
	g_mutex_unlock(&msix->lock);
	flush_pending(f);
}

static const struct window_ops table_ops = {
	.read = table_read, .write = table_write, .min_size = 4, .max_size = 8};

void pci_msix_add(struct pci_function *f, unsigned bar, uint16_t count)
{
	g_assert(count > 0 && count <= MSIX_MAX);
	f->msix.count = count;
	f->msix.bar = (uint8_t)bar;
	unsigned cap = pci_capability_add(f, MSIX_CAP, MSIX_CAP_SIZE);
	f->msix.cap = (uint8_t)cap;
	pci_set16(&f->config[cap + MSIX_CONTROL], (uint16_t)(count - 1));
	pci_set32(&f->config[cap + 4], bar);
	pci_set32(&f->config[cap + 8], MSIX_PBA | bar);
	f->writable[cap + MSIX_CONTROL + 1] = CONTROL_ENABLE | CONTROL_MASK_ALL;
	pci_bar_add(f, bar, WINDOW_MMIO, 4096, false, false, &table_ops, f);
	msix_reset(f);
}

void msix_config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	unsigned control = f->msix.cap + MSIX_CONTROL;
	if (f->msix.count && offset < control + 2 && control < offset + size)
		flush_pending(f);
}

void msix_reset(struct pci_function *f)
{
	struct msix *msix = &f->msix;
	if (!msix->count)
		return;
	f->config[msix->cap + MSIX_CONTROL + 1] &= (uint8_t) ~(CONTROL_ENABLE | CONTROL_MASK_ALL);
	g_mutex_lock(&msix->lock);
	memset(msix->entries, 0, sizeof(msix->entries));
	memset(msix->pending, 0, sizeof(msix->pending));
	for (unsigned i = 0; i < msix->count; i++)
		msix->entries[i].control = 1;
	g_mutex_unlock(&msix->lock);
}
