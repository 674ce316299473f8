/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/char.h"
#include "virtio/pci.h"

enum { VIRTIO_CONSOLE_PORTS_MAX = 31 };

struct virtio_console_port {
	const char *name;        /* /dev/virtio-ports/NAME in the guest; NULL for the console */
	struct chardev *chardev; /* stays the caller's; NULL: nowhere */
};

/* A console on @bus: ports[0] is the console (hvc0), the others are named ports. */
struct device *virtio_console_new(struct vm *vm, struct pci_bus *bus,
				  const struct virtio_console_port *ports, unsigned port_count,
				  bool packed, GError **error);
