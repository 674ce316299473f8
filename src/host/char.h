/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Character back ends: where a serial port or a console port ends on the host (terminal, pty, unix
 * or TCP socket, file, nothing). The front end is the device. All calls are made on the thread of
 * the context given at creation, but for char_write, which any thread may call.
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

/* Opens the host's side of @spec as a user writes it: "null", "pty", "file:PATH", "unix:PATH"
 * (connects), "unix:PATH,server" (listens), "tcp:HOST:PORT[,server]". Returns what char_open takes
 * (the caller frees) and sets @fd to the descriptor that is named in it (-1 for null;
 * close-on-exec), @where to a text for people (the pty's path, the address). For a launcher, which
 * hands the descriptor on. */
char *char_prepare(const char *spec, int *fd, char **where, GError **error);

/* @spec: "null", "fd:N" (a connected stream, a terminal or a file), "listen:N" (a listening socket:
 * one peer at a time), "pty:N" (the master side). Takes the descriptor over. NULL and @error on
 * failure. */
struct chardev *char_open(const char *spec, GMainContext *context, GError **error);
void char_free(struct chardev *chardev);

/* Ties the device's side; @opaque goes to each call. NULL front unties. */
void char_attach(struct chardev *chardev, const struct char_front *front, void *opaque);

/* Writes without blocking the guest for long: what the host does not take at once is queued up to
 * 64 KiB, beyond that dropped where no peer reads. Returns @size. Any thread. */
size_t char_write(struct chardev *chardev, const uint8_t *data, size_t size);

/* The device can take input again after it could not. Any thread. */
void char_accept_input(struct chardev *chardev);

bool char_is_open(struct chardev *chardev);
/* Waits up to @timeout_ms until what char_write queued has gone out: before the process ends. */
void char_drain(struct chardev *chardev, int timeout_ms);
