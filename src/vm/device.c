// SPDX-License-Identifier: GPL-2.0-or-later
/* The list of a machine's devices. */
#include "vm/device.h"

#include <string.h>

#include "vm/vm.h"

static bool id_taken(struct vm *vm, const char *id)
{
	for (guint i = 0; i < vm->devices->len; i++) {
		if (strcmp(((struct device *)vm->devices->pdata[i])->id, id) == 0)
			return true;
	}
	return false;
}

void device_add(struct vm *vm, struct device *device, const struct device_class *class,
		const char *id)
{
	device->class = class;
	device->vm = vm;
	device->id = g_strdup(id ? id : class->name);
	g_assert(!id || !id_taken(vm, id));
	for (unsigned n = 2; id_taken(vm, device->id); n++) {
		g_free(device->id);
		device->id = g_strdup_printf("%s-%u", class->name, n);
	}
	g_ptr_array_add(vm->devices, device);
}
