/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "virtio/pci.h"

struct virtio_net_config {
	int fd; /* a tap, or a connected stream socket that speaks passt's framing; the device's */
	bool is_tap;
	uint8_t mac[6];
	bool packed;
};

/* A network card on @bus. */
struct device *virtio_net_new(struct vm *vm, struct pci_bus *bus,
			      const struct virtio_net_config *config, GError **error);
