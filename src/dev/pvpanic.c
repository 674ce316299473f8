// SPDX-License-Identifier: GPL-2.0-or-later
/* Panic notification port (QEMU docs/specs/pvpanic.rst). */
#include "dev/pvpanic.h"

enum { PANICKED = 1 };

struct pvpanic {
	struct device device;
	struct window window;
};

/* Which events there are. */
static uint64_t port_read(void *device, uint64_t offset, unsigned size)
{
	return PANICKED;
}

static void port_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct pvpanic *p = device;
	if (value & PANICKED)
		vm_request_panic(p->device.vm, "guest-panic");
}

static const struct window_ops window_ops = {.read = port_read, .write = port_write, .max_size = 1};

static void pvpanic_free(struct device *device)
{
	window_unmap(device->vm, &((struct pvpanic *)device)->window);
	g_free(device);
}

static const struct device_class class = {.name = "pvpanic", .free = pvpanic_free};

void pvpanic_new(struct vm *vm, uint16_t port)
{
	struct pvpanic *p = g_new0(struct pvpanic, 1);
	device_add(vm, &p->device, &class, NULL);
	window_init(&p->window, WINDOW_PORT, &window_ops, p, 1);
	window_map(vm, &p->window, port);
}
