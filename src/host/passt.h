/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The network of a guest without privileges on the host: passt, a program that turns the guest's
 * frames into the host's sockets. For launchers; a machine gets the descriptor. The guest gets
 * 10.0.2.15/24 by DHCP; 10.0.2.2 is its gateway, and the host's loopback.
 */

struct passt_forward {
	bool udp;
	uint16_t host_port, guest_port;
};

/* Starts passt, which ends by itself when the descriptor returned is closed: a connected stream
 * socket, close-on-exec, on which each frame has its length (u32, big-endian) in front. -1 with
 * @error, which says which package is missing, or what passt said. */
int passt_start(const struct passt_forward *forwards, unsigned count, GError **error);
