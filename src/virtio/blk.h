/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/block.h"
#include "virtio/pci.h"

struct virtio_blk_config {
	const char *id;     /* of the device, or NULL */
	const char *serial; /* up to 20 bytes, or NULL */
	unsigned queues;
	bool packed;
	bool writethrough; /* the write cache is off at power-on */
};

/* A disk on @bus. The device drains @block but does not close it. Completions arrive in the
 * machine's context. */
struct device *virtio_blk_new(struct vm *vm, struct pci_bus *bus, struct block *block,
			      const struct virtio_blk_config *config, GError **error);
