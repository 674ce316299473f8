/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>

#include "vm/state.h"

/*
 * The device core. A `struct device` is embedded first in each chip's struct. The machine owns its
 * devices: they are reset in the order they were added, and freed in the reverse order.
 */

struct vm;
struct device;

struct device_class {
	const char *name; /* the chip: a promise, part of saved state */
	/* Power-on values. The machine lock is held and no vCPU runs. */
	void (*reset)(struct device *device);
	void (*free)(struct device *device); /* also frees the memory */
	const struct state_table *state;     /* over the struct that embeds the device */
	/* Quiesces I/O in flight before state is saved or the machine is reset; may be NULL. Called
	 * on the main thread WITHOUT the machine lock, vCPUs paused. */
	void (*drain)(struct device *device);
};

struct device {
	const struct device_class *class;
	struct vm *vm;
	char *id; /* unique: class name, or class name and a number or user's alias */
};

/* Adds to the machine. @id NULL: the class name, with "-2", "-3".. for further ones. */
void device_add(struct vm *vm, struct device *device, const struct device_class *class,
		const char *id);
