// SPDX-License-Identifier: GPL-2.0-or-later
/* Port and MMIO windows: lookup, and the splitting of accesses to what a device takes. */
#include "vm/window.h"

#include "vm/vm.h"

void window_init(struct window *window, enum window_kind kind, const struct window_ops *ops,
		 void *device, uint64_t size)
{
	*window =
		(struct window){.ops = ops, .device = device, .size = size, .kind = (uint8_t)kind};
}

/*
 * The array is sorted by start. Windows hardly ever overlap (a BAR that a guest puts over a chip),
 * but where they do an outer one can start far before an inner one; so every window that starts at
 * or below the address is a candidate unless the nearest one covers it at a priority no other
 * exceeds.
 */
static struct window *window_find(struct vm *vm, enum window_kind kind, uint64_t address)
{
	const GPtrArray *windows = vm->windows[kind];
	guint low = 0, high = windows->len;
	while (low < high) {
		guint middle = (low + high) / 2;
		const struct window *w = windows->pdata[middle];
		if (w->start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	struct window *best = NULL;
	for (guint i = low; i-- > 0;) {
		struct window *w = windows->pdata[i];
		if (address - w->start >= w->size)
			continue;
		if (!best || w->priority > best->priority)
			best = w;
		if (best->priority >= vm->window_priority[kind])
			break;
	}
	return best;
}

void window_map(struct vm *vm, struct window *window, uint64_t start)
{
	GPtrArray *windows = vm->windows[window->kind];
	if (window->mapped)
		window_unmap(vm, window);
	window->start = start;
	window->mapped = true;
	vm->window_priority[window->kind] =
		MAX(vm->window_priority[window->kind], window->priority);
	guint i = 0;
	while (i < windows->len && ((struct window *)windows->pdata[i])->start <= start)
		i++;
	g_ptr_array_insert(windows, (gint)i, window);
}

void window_unmap(struct vm *vm, struct window *window)
{
	if (!window->mapped)
		return;
	g_ptr_array_remove(vm->windows[window->kind], window);
	window->mapped = false;
}

static uint64_t mask_of(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

static uint64_t read_split(const struct window *w, uint64_t offset, unsigned size)
{
	unsigned min = w->ops->min_size ? w->ops->min_size : 1;
	unsigned max = w->ops->max_size ? w->ops->max_size : 4;
	if (size < min) {
		uint64_t start = offset & ~(uint64_t)(min - 1);
		uint64_t value = w->ops->read(w->device, start, min);
		return (value >> (8 * (offset - start))) & mask_of(size);
	}
	if (size <= max)
		return w->ops->read(w->device, offset, size) & mask_of(size);
	uint64_t value = 0;
	for (unsigned done = 0; done < size; done += max) {
		uint64_t part = offset + done < w->size
					? w->ops->read(w->device, offset + done, max)
					: UINT64_MAX;
		value |= (part & mask_of(max)) << (8 * done);
	}
	return value;
}

static void write_split(const struct window *w, uint64_t offset, uint64_t value, unsigned size)
{
	unsigned min = w->ops->min_size ? w->ops->min_size : 1;
	unsigned max = w->ops->max_size ? w->ops->max_size : 4;
	if (size < min)
		return; /* narrower than the chip's registers: ignored, as by the hardware */
	if (size <= max) {
		w->ops->write(w->device, offset, value & mask_of(size), size);
		return;
	}
	for (unsigned done = 0; done < size && offset + done < w->size; done += max)
		w->ops->write(w->device, offset + done, (value >> (8 * done)) & mask_of(max), max);
}

uint64_t vm_window_read(struct vm *vm, enum window_kind kind, uint64_t address, unsigned size)
{
	uint64_t value = mask_of(size);
	g_mutex_lock(&vm->lock);
	struct window *w = window_find(vm, kind, address);
	if (!w) {
		g_mutex_unlock(&vm->lock);
	} else if (w->ops->unlocked) {
		g_mutex_unlock(&vm->lock);
		value = read_split(w, address - w->start, size);
	} else {
		value = read_split(w, address - w->start, size);
		g_mutex_unlock(&vm->lock);
	}
	return value;
}

void vm_window_write(struct vm *vm, enum window_kind kind, uint64_t address, uint64_t value,
		     unsigned size)
{
	g_mutex_lock(&vm->lock);
	struct window *w = window_find(vm, kind, address);
	if (!w) {
		g_mutex_unlock(&vm->lock);
	} else if (w->ops->unlocked) {
		g_mutex_unlock(&vm->lock);
		write_split(w, address - w->start, value, size);
	} else {
		write_split(w, address - w->start, value, size);
		g_mutex_unlock(&vm->lock);
	}
}
