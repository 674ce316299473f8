/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Character back ends: where a serial port or a console port ends on the host (terminal, pty, unix or
 * TCP socket, file, nothing). The front end is the device. All calls are made on the thread of the
 * context given at creation, but for char_write, which any thread may call.
 */

struct chardev;

/* What the device gives; any may be NULL. */
struct char_front {
	/* How many bytes the device takes now; the back end does not read more. */
	size_t (*can_receive)(void *opaque);
	void (*receive)(void *opaque, const uint8_t *data, size_t size);
	/* A peer came or went (sockets, pty); files and terminals are open from the start. */
	void (*opened)(void *opaque, bool open);
};

/* @spec: "stdio", "null", "pty", "file:PATH", "unix:PATH[,server]", "tcp:HOST:PORT[,server]", or "fd:N" (a
 * descriptor inherited or handed over; a connected stream or a file). NULL and @error on failure. */
struct chardev *char_open(const char *spec, GMainContext *context, GError **error);
void char_free(struct chardev *chardev);

/* Ties the device's side; @opaque goes to each call. NULL front unties. */
void char_attach(struct chardev *chardev, const struct char_front *front, void *opaque);

/* Writes without blocking the guest for long: what the host does not take at once is queued up to 64 KiB,
 * beyond that dropped where no peer reads. Returns @size. Any thread. */
size_t char_write(struct chardev *chardev, const uint8_t *data, size_t size);

/* The device can take input again after it could not. Any thread. */
void char_accept_input(struct chardev *chardev);

bool char_is_open(const struct chardev *chardev);
/* The slave's path of a pty, the address of a listening socket, or the spec. */
const char *char_describe(const struct chardev *chardev);
