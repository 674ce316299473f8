// SPDX-License-Identifier: GPL-2.0-or-later
/* The firmware's log port. */
#include "dev/debug-console.h"

#include <unistd.h>

enum { LINE_BYTES = 256 };

struct debug_console {
	struct device device;
	struct window window;
	int fd;
	unsigned used;
	char line[LINE_BYTES];
};

/* A log that cannot be written is lost: the guest does not wait for it. */
static void flush(struct debug_console *d)
{
	ssize_t written = d->used ? write(d->fd, d->line, d->used) : 0;
	(void)written;
	d->used = 0;
}

static uint64_t port_read(void *device, uint64_t offset, unsigned size)
{
	return 0xe9;
}

static void port_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct debug_console *d = device;
	d->line[d->used++] = (char)value;
	if (d->used == LINE_BYTES || value == '\n')
		flush(d);
}

static const struct window_ops window_ops = {.read = port_read, .write = port_write, .max_size = 1};

static void debug_console_free(struct device *device)
{
	struct debug_console *d = (struct debug_console *)device;
	flush(d);
	window_unmap(device->vm, &d->window);
	g_free(d);
}

static const struct device_class class = {.name = "debug-console", .free = debug_console_free};

void debug_console_new(struct vm *vm, uint16_t port, int fd)
{
	struct debug_console *d = g_new0(struct debug_console, 1);
	device_add(vm, &d->device, &class, NULL);
	d->fd = fd;
	window_init(&d->window, WINDOW_PORT, &window_ops, d, 1);
	window_map(vm, &d->window, port);
}
