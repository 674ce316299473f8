// SPDX-License-Identifier: GPL-2.0-or-later
/* Guest memory: host allocations, where they appear to the guest, bounded access by devices, and
 * the dirty log. */
#include "vm/memory.h"

#include <errno.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/units.h"
#include "vm/vm.h"

enum { PAGE_BYTES = 4096, PAGE_SHIFT = 12, HUGE_BYTES = 2 << 20 };

static void *allocate_shared(struct ram *ram, uint64_t size)
{
	unsigned flags = MFD_CLOEXEC | (ram->flags & RAM_HUGETLB ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
	ram->fd = memfd_create(ram->name, flags);
	if (ram->fd < 0 || ftruncate(ram->fd, (off_t)size) < 0)
		return MAP_FAILED;
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ram->fd, 0);
}

/* Anonymous memory whose start is aligned for transparent huge pages. */
static void *allocate_aligned(uint64_t size)
{
	uint64_t slack = size >= HUGE_BYTES ? HUGE_BYTES : 0;
	uint8_t *raw = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED || !slack)
		return raw;
	uint64_t head = -(uintptr_t)raw & (HUGE_BYTES - 1);
	if (head)
		munmap(raw, head);
	if (slack - head)
		munmap(raw + head + size, slack - head);
	return raw + head;
}

static void *allocate(struct ram *ram, uint64_t size)
{
	if (ram->flags & RAM_SHARED)
		return allocate_shared(ram, size);
	if (ram->flags & RAM_HUGETLB)
		return mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	return allocate_aligned(size);
}

struct ram *ram_new(struct vm *vm, const char *name, uint64_t size, unsigned flags, GError **error)
{
	g_assert(size > 0 && size % PAGE_BYTES == 0);
	struct ram *ram = g_new0(struct ram, 1);
	ram->name = g_strdup(name);
	ram->size = size;
	ram->flags = flags;
	ram->fd = -1;
	void *host = allocate(ram, size);
	if (host == MAP_FAILED) {
		int err = errno;
		g_autofree char *text = units_format_size(size);
		if (ram->fd >= 0)
			close(ram->fd);
		g_free(ram->name);
		g_free(ram);
		error_set_errno(error, err, "cannot allocate %s of guest memory (%s)%s", text, name,
				flags & RAM_HUGETLB
					? "; reserve huge pages with vm.nr_hugepages first"
					: "");
		return NULL;
	}
	ram->host = host;
	if (flags & RAM_MERGEABLE)
		madvise(host, size, MADV_MERGEABLE);
	madvise(host, size, MADV_DONTFORK);
	/* Bitmaps are touched only where pages get dirty, so they cost nothing until then. */
	ram->dirty = mmap(NULL, (size / PAGE_BYTES + 63) / 64 * 8, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	g_assert(ram->dirty != MAP_FAILED);
	g_ptr_array_add(vm->rams, ram);
	return ram;
}

void ram_free(struct ram *ram)
{
	munmap(ram->host, ram->size);
	munmap(ram->dirty, (ram->size / PAGE_BYTES + 63) / 64 * 8);
	if (ram->fd >= 0)
		close(ram->fd);
	g_free(ram->name);
	g_free(ram);
}

static int find_slot(struct vm *vm)
{
	for (int slot = 0;; slot++) {
		bool used = false;
		for (guint i = 0; i < vm->mappings->len; i++)
			used |= ((struct ram_mapping *)vm->mappings->pdata[i])->slot == slot;
		if (!used)
			return slot;
	}
}

/* Index of the first mapping that ends above @gpa. */
static guint mapping_after(struct vm *vm, uint64_t gpa)
{
	guint low = 0, high = vm->mappings->len;
	while (low < high) {
		guint middle = (low + high) / 2;
		const struct ram_mapping *m = vm->mappings->pdata[middle];
		if (m->gpa + m->size <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct ram_mapping *ram_map(struct vm *vm, struct ram *ram, uint64_t gpa, uint64_t offset,
			    uint64_t size, bool readonly, GError **error)
{
	g_assert((gpa | offset | size) % PAGE_BYTES == 0 && size > 0);
	g_assert(offset <= ram->size && size <= ram->size - offset && gpa + size > gpa);
	struct ram_mapping *mapping = g_new0(struct ram_mapping, 1);
	*mapping = (struct ram_mapping){
		.ram = ram, .gpa = gpa, .size = size, .offset = offset, .readonly = readonly};
	g_rw_lock_writer_lock(&vm->map_lock);
	guint index = mapping_after(vm, gpa);
	if (index < vm->mappings->len)
		g_assert(((struct ram_mapping *)vm->mappings->pdata[index])->gpa >= gpa + size);
	mapping->slot = find_slot(vm);
	g_ptr_array_insert(vm->mappings, (gint)index, mapping);
	g_rw_lock_writer_unlock(&vm->map_lock);
	if (!vm->accel->map(vm, mapping, error)) {
		g_rw_lock_writer_lock(&vm->map_lock);
		g_ptr_array_remove(vm->mappings, mapping);
		g_rw_lock_writer_unlock(&vm->map_lock);
		g_free(mapping);
		return NULL;
	}
	return mapping;
}

void ram_unmap(struct vm *vm, struct ram_mapping *mapping)
{
	vm->accel->unmap(vm, mapping);
	g_rw_lock_writer_lock(&vm->map_lock);
	g_ptr_array_remove(vm->mappings, mapping);
	g_rw_lock_writer_unlock(&vm->map_lock);
	g_free(mapping);
}

static void mark_dirty(struct ram *ram, uint64_t offset, uint64_t size)
{
	for (uint64_t page = offset >> PAGE_SHIFT; page <= (offset + size - 1) >> PAGE_SHIFT;
	     page++)
		__atomic_fetch_or(&ram->dirty[page / 64], UINT64_C(1) << (page % 64),
				  __ATOMIC_RELAXED);
}

/* What a device's write to [gpa, gpa + size) inside @mapping entails. */
static void written(struct vm *vm, const struct ram_mapping *mapping, uint64_t gpa, uint64_t size)
{
	struct ram *ram = mapping->ram;
	if (__atomic_load_n(&ram->logging, __ATOMIC_ACQUIRE))
		mark_dirty(ram, gpa - mapping->gpa + mapping->offset, size);
	if (vm->accel->memory->ram_written)
		vm->accel->memory->ram_written(vm, gpa, size);
}

/* The mapping that holds @gpa with the lock held, or NULL. */
static struct ram_mapping *mapping_find(struct vm *vm, uint64_t gpa)
{
	guint index = mapping_after(vm, gpa);
	if (index == vm->mappings->len)
		return NULL;
	struct ram_mapping *mapping = vm->mappings->pdata[index];
	return mapping->gpa <= gpa ? mapping : NULL;
}

static bool dma_copy(struct vm *vm, uint64_t gpa, uint8_t *buffer, uint64_t size, bool write)
{
	bool whole = true;
	g_rw_lock_reader_lock(&vm->map_lock);
	while (size > 0) {
		struct ram_mapping *mapping = mapping_find(vm, gpa);
		if (!mapping || (write && mapping->readonly)) {
			whole = false;
			break;
		}
		uint64_t part = MIN(size, mapping->gpa + mapping->size - gpa);
		uint8_t *host = mapping->ram->host + mapping->offset + (gpa - mapping->gpa);
		if (write) {
			memcpy(host, buffer, part);
			written(vm, mapping, gpa, part);
		} else {
			memcpy(buffer, host, part);
		}
		if (part < size && gpa + part < gpa) {
			whole = false;
			break;
		}
		gpa += part;
		buffer += part;
		size -= part;
	}
	g_rw_lock_reader_unlock(&vm->map_lock);
	return whole;
}

bool dma_read(struct vm *vm, uint64_t gpa, void *buffer, uint64_t size)
{
	return dma_copy(vm, gpa, buffer, size, false);
}

bool dma_write(struct vm *vm, uint64_t gpa, const void *buffer, uint64_t size)
{
	return dma_copy(vm, gpa, (uint8_t *)(uintptr_t)buffer, size, true);
}

void *dma_map_prefix(struct vm *vm, uint64_t gpa, uint64_t *size, bool write)
{
	void *host = NULL;
	g_rw_lock_reader_lock(&vm->map_lock);
	struct ram_mapping *mapping = mapping_find(vm, gpa);
	if (mapping && !(write && mapping->readonly)) {
		*size = MIN(*size, mapping->gpa + mapping->size - gpa);
		host = mapping->ram->host + mapping->offset + (gpa - mapping->gpa);
	}
	g_rw_lock_reader_unlock(&vm->map_lock);
	return host;
}

void *dma_map(struct vm *vm, uint64_t gpa, uint64_t size, bool write)
{
	uint64_t got = size;
	void *host = dma_map_prefix(vm, gpa, &got, write);
	return got == size ? host : NULL;
}

void dma_written(struct vm *vm, uint64_t gpa, uint64_t size)
{
	g_rw_lock_reader_lock(&vm->map_lock);
	struct ram_mapping *mapping = size ? mapping_find(vm, gpa) : NULL;
	if (mapping)
		written(vm, mapping, gpa, MIN(size, mapping->gpa + mapping->size - gpa));
	g_rw_lock_reader_unlock(&vm->map_lock);
}

bool ram_log_start(struct vm *vm, GError **error)
{
	if (vm->log_users++ > 0)
		return true;
	for (guint i = 0; i < vm->mappings->len; i++) {
		struct ram_mapping *mapping = vm->mappings->pdata[i];
		__atomic_fetch_add(&mapping->ram->logging, 1, __ATOMIC_RELEASE);
		if (!vm->accel->memory->log_start(vm, mapping, error)) {
			__atomic_fetch_sub(&mapping->ram->logging, 1, __ATOMIC_RELEASE);
			while (i-- > 0) {
				mapping = vm->mappings->pdata[i];
				vm->accel->memory->log_stop(vm, mapping);
				__atomic_fetch_sub(&mapping->ram->logging, 1, __ATOMIC_RELEASE);
			}
			vm->log_users = 0;
			return false;
		}
	}
	return true;
}

void ram_log_stop(struct vm *vm)
{
	g_assert(vm->log_users > 0);
	if (--vm->log_users > 0)
		return;
	for (guint i = 0; i < vm->mappings->len; i++) {
		struct ram_mapping *mapping = vm->mappings->pdata[i];
		vm->accel->memory->log_stop(vm, mapping);
		__atomic_fetch_sub(&mapping->ram->logging, 1, __ATOMIC_RELEASE);
	}
}

bool ram_log_fetch(struct vm *vm, struct ram *ram, uint64_t *bitmap, GError **error)
{
	uint64_t words = (ram->size / PAGE_BYTES + 63) / 64;
	for (guint i = 0; i < vm->mappings->len; i++) {
		struct ram_mapping *mapping = vm->mappings->pdata[i];
		if (mapping->ram == ram && !vm->accel->memory->log_sync(vm, mapping, error))
			return false;
	}
	for (uint64_t i = 0; i < words; i++) {
		if (__atomic_load_n(&ram->dirty[i], __ATOMIC_RELAXED))
			bitmap[i] |= __atomic_exchange_n(&ram->dirty[i], 0, __ATOMIC_ACQ_REL);
	}
	for (guint i = 0; i < vm->mappings->len; i++) {
		struct ram_mapping *mapping = vm->mappings->pdata[i];
		if (mapping->ram == ram)
			vm->accel->memory->log_rearm(vm, mapping);
	}
	return true;
}
