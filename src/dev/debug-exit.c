// SPDX-License-Identifier: GPL-2.0-or-later
/* The exit port of test guests. */
#include "dev/debug-exit.h"

struct debug_exit {
	struct device device;
	struct window window;
	int *status;
};

static uint64_t exit_read(void *device, uint64_t offset, unsigned size)
{
	return 0;
}

static void exit_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct debug_exit *d = device;
	*d->status = (int)((value & 0x7f) << 1 | 1);
	vm_request_shutdown(d->device.vm, "debug-exit");
}

static const struct window_ops ops = {.read = exit_read, .write = exit_write};

static void exit_free(struct device *device)
{
	window_unmap(device->vm, &((struct debug_exit *)device)->window);
	g_free(device);
}

static const struct device_class class = {.name = "debug-exit", .free = exit_free};

void debug_exit_new(struct vm *vm, uint16_t port, int *status)
{
	struct debug_exit *d = g_new0(struct debug_exit, 1);
	device_add(vm, &d->device, &class, NULL);
	d->status = status;
	window_init(&d->window, WINDOW_PORT, &ops, d, 4);
	window_map(vm, &d->window, port);
}
