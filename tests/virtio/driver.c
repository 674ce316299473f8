// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's side of virtio, for tests. */
#include "driver.h"

#include <string.h>

#include "accel/accel.h"

enum { PAGE_COMMON = 0, PAGE_NOTIFY = 3 };

static void on_intx(void *opaque, uint8_t devfn, unsigned pin, bool level)
{
	((struct rig *)opaque)->intx = level;
}

static void on_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct rig *rig = opaque;
	rig->msis++;
	rig->last_msi = data;
}

void rig_init(struct rig *rig)
{
	g_autoptr(GError) error = NULL;
	memset(rig, 0, sizeof(*rig));
	rig->context = g_main_context_new();
	rig->vm = vm_new(&accel_test, rig->context, &error);
	g_assert_no_error(error);
	rig->vm->msi = on_msi;
	rig->vm->msi_opaque = rig;
	rig->ram = ram_new(rig->vm, "ram", RIG_RAM_BYTES, 0, &error);
	g_assert_no_error(error);
	g_assert_nonnull(ram_map(rig->vm, rig->ram, 0, 0, RIG_RAM_BYTES / 2, false, NULL));
	g_assert_nonnull(ram_map(rig->vm, rig->ram, RIG_RAM_BYTES / 2, RIG_RAM_BYTES / 2,
				 RIG_RAM_BYTES / 2, false, NULL));
	rig->bus = pci_bus_new(rig->vm, on_intx, rig);
	rig->next_free = 0x10000;
}

void rig_start(struct rig *rig)
{
	g_autoptr(GError) error = NULL;
	g_assert_true(vm_reset(rig->vm, &error));
	g_assert_true(pci_bus_assign(rig->bus, 0xc0000000, 0xd0000000, 0xc000, &error));
	g_assert_true(vm_start(rig->vm, &error));
}

void rig_fini(struct rig *rig)
{
	vm_free(rig->vm);
	pci_bus_free(rig->bus);
	g_main_context_unref(rig->context);
}

void rig_wait(struct rig *rig, bool (*done)(void *opaque), void *opaque)
{
	gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
	while (!done(opaque)) {
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		if (!g_main_context_iteration(rig->context, FALSE))
			g_usleep(100);
	}
}

uint64_t rig_alloc(struct rig *rig, uint64_t size)
{
	uint64_t gpa = rig->next_free;
	rig->next_free += (size + 63) & ~UINT64_C(63);
	g_assert_cmpuint(rig->next_free, <=, RIG_RAM_BYTES);
	return gpa;
}

void *rig_host(struct rig *rig, uint64_t gpa)
{
	return rig->ram->host + gpa;
}

void rig_check_state(struct rig *rig)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GByteArray) first = g_byte_array_new(), second = g_byte_array_new();
	for (guint i = 0; i < rig->vm->devices->len; i++) {
		struct device *device = rig->vm->devices->pdata[i];
		if (device->class->drain)
			device->class->drain(device);
	}
	vm_devices_save(rig->vm, first);
	g_assert_true(vm_devices_load(rig->vm, first->data, first->len, &error));
	g_assert_no_error(error);
	vm_devices_save(rig->vm, second);
	g_assert_cmpmem(first->data, first->len, second->data, second->len);
}

uint32_t driver_read(struct driver *d, unsigned page, unsigned offset, unsigned size)
{
	return (uint32_t)vm_window_read(d->rig->vm, WINDOW_MMIO, d->bar + page * 0x1000 + offset,
					size);
}

void driver_write(struct driver *d, unsigned page, unsigned offset, uint32_t value, unsigned size)
{
	vm_window_write(d->rig->vm, WINDOW_MMIO, d->bar + page * 0x1000 + offset, value, size);
}

uint8_t driver_status(struct driver *d)
{
	return (uint8_t)driver_read(d, PAGE_COMMON, 0x14, 1);
}

static bool was_reset(void *opaque)
{
	return driver_status(opaque) == 0;
}

uint8_t driver_negotiate(struct driver *d, uint64_t features)
{
	driver_write(d, PAGE_COMMON, 0x14, 0, 1);
	rig_wait(d->rig, was_reset, d);
	driver_write(d, PAGE_COMMON, 0x14, 1, 1);
	driver_write(d, PAGE_COMMON, 0x14, 3, 1);
	for (unsigned i = 0; i < 2; i++) {
		driver_write(d, PAGE_COMMON, 0x08, i, 4);
		driver_write(d, PAGE_COMMON, 0x0c, (uint32_t)(features >> (32 * i)), 4);
	}
	d->features = features;
	driver_write(d, PAGE_COMMON, 0x14, 0xb, 1);
	return driver_status(d);
}

void driver_setup_queue(struct driver *d, unsigned index, unsigned size)
{
	struct driver_queue *q = &d->queues[index];
	*q = (struct driver_queue){
		.index = index, .size = size, .avail_wrap = true, .used_wrap = true};
	q->packed = d->features & FEATURE_PACKED;
	q->desc = rig_alloc(d->rig, 16 * size);
	q->driver = rig_alloc(d->rig, 6 + 2 * size);
	q->device = rig_alloc(d->rig, 6 + 8 * size);
	memset(rig_host(d->rig, q->desc), 0, d->rig->next_free - q->desc);
	driver_write(d, PAGE_COMMON, 0x16, index, 2);
	driver_write(d, PAGE_COMMON, 0x18, size, 2);
	driver_write(d, PAGE_COMMON, 0x1a, index, 2);
	driver_write(d, PAGE_COMMON, 0x20, (uint32_t)q->desc, 4);
	driver_write(d, PAGE_COMMON, 0x24, 0, 4);
	driver_write(d, PAGE_COMMON, 0x28, (uint32_t)q->driver, 4);
	driver_write(d, PAGE_COMMON, 0x30, (uint32_t)q->device, 4);
	driver_write(d, PAGE_COMMON, 0x1c, 1, 2);
}

void driver_init(struct driver *d, struct rig *rig, struct pci_function *function,
		 uint64_t features, unsigned size)
{
	*d = (struct driver){.rig = rig, .function = function};
	d->bar = pci_bar_address(function, 4);
	g_assert_cmpuint(d->bar, !=, UINT64_MAX);
	uint64_t offered = 0;
	for (unsigned i = 0; i < 2; i++) {
		driver_write(d, PAGE_COMMON, 0x00, i, 4);
		offered |= (uint64_t)driver_read(d, PAGE_COMMON, 0x04, 4) << (32 * i);
	}
	g_assert_cmphex(driver_negotiate(d, features & offered), ==, 0xb);
	d->queue_count = MIN(driver_read(d, PAGE_COMMON, 0x12, 2), (unsigned)DRIVER_QUEUES);
	for (unsigned i = 0; i < d->queue_count; i++)
		driver_setup_queue(d, i, size);
	driver_write(d, PAGE_COMMON, 0x14, 0xf, 1);
	g_assert_cmphex(driver_status(d), ==, 0xf);
}

void driver_notify(struct driver *d, unsigned queue)
{
	driver_write(d, PAGE_NOTIFY, 4 * queue, queue, 2);
}

static void store16(struct driver *d, uint64_t gpa, uint16_t value)
{
	__atomic_store_n((uint16_t *)rig_host(d->rig, gpa), value, __ATOMIC_RELEASE);
}

static uint16_t load16(struct driver *d, uint64_t gpa)
{
	return __atomic_load_n((uint16_t *)rig_host(d->rig, gpa), __ATOMIC_ACQUIRE);
}

static void put_desc(struct driver *d, uint64_t at, const struct piece *p, uint16_t third,
		     uint16_t fourth)
{
	uint8_t *host = rig_host(d->rig, at);
	memcpy(host, &p->gpa, 8);
	memcpy(host + 8, &p->length, 4);
	memcpy(host + 12, &third, 2);
	memcpy(host + 14, &fourth, 2);
}

static uint16_t add_packed(struct driver *d, struct driver_queue *q, const struct piece *pieces,
			   unsigned count)
{
	uint16_t id = q->avail, first_flags = 0;
	uint64_t first = q->desc + 16u * q->avail;
	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)((i + 1 < count ? 1 : 0) | (pieces[i].write ? 2 : 0) |
					    (q->avail_wrap ? 0x80 : 0x8000));
		put_desc(d, q->desc + 16u * q->avail, &pieces[i], id,
			 i ? flags : load16(d, first + 14));
		if (i == 0)
			first_flags = flags;
		if (++q->avail == q->size) {
			q->avail = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	q->slots[id] = (uint16_t)count;
	store16(d, first + 14, first_flags);
	return id;
}

uint16_t driver_add(struct driver *d, unsigned queue, const struct piece *pieces, unsigned count)
{
	struct driver_queue *q = &d->queues[queue];
	if (q->packed)
		return add_packed(d, q, pieces, count);
	uint16_t head = q->next_desc;
	for (unsigned i = 0; i < count; i++) {
		uint16_t next = (uint16_t)((q->next_desc + 1) % q->size);
		put_desc(d, q->desc + 16u * q->next_desc, &pieces[i],
			 (uint16_t)((i + 1 < count ? 1 : 0) | (pieces[i].write ? 2 : 0)), next);
		q->next_desc = next;
	}
	store16(d, q->driver + 4 + 2u * (q->avail % q->size), head);
	store16(d, q->driver + 2, ++q->avail);
	return head;
}

bool driver_used(struct driver *d, unsigned queue, uint16_t *id, uint32_t *length)
{
	struct driver_queue *q = &d->queues[queue];
	if (!q->packed) {
		if (load16(d, q->device + 2) == q->used)
			return false;
		const uint8_t *e = rig_host(d->rig, q->device + 4 + 8u * (q->used++ % q->size));
		memcpy(id, e, 2);
		memcpy(length, e + 4, 4);
		if (d->features & UINT64_C(1) << 29)
			store16(d, q->driver + 4 + 2u * q->size, q->used);
		return true;
	}
	uint64_t at = q->desc + 16u * q->used;
	uint16_t flags = load16(d, at + 14);
	if (!!(flags & 0x80) != q->used_wrap || !!(flags & 0x8000) != q->used_wrap)
		return false;
	memcpy(length, rig_host(d->rig, at + 8), 4);
	memcpy(id, rig_host(d->rig, at + 12), 2);
	g_assert_cmpuint(*id, <, q->size);
	q->used = (uint16_t)(q->used + q->slots[*id]);
	if (q->used >= q->size) {
		q->used = (uint16_t)(q->used - q->size);
		q->used_wrap = !q->used_wrap;
	}
	return true;
}

struct wait {
	struct driver *driver;
	unsigned queue;
	uint16_t id;
	uint32_t length;
};

static bool is_used(void *opaque)
{
	struct wait *w = opaque;
	return driver_used(w->driver, w->queue, &w->id, &w->length);
}

uint32_t driver_do(struct driver *d, unsigned queue, const struct piece *pieces, unsigned count)
{
	struct wait wait = {.driver = d, .queue = queue};
	uint16_t id = driver_add(d, queue, pieces, count);
	driver_notify(d, queue);
	rig_wait(d->rig, is_used, &wait);
	g_assert_cmpuint(wait.id, ==, id);
	return wait.length;
}
