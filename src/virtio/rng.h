/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "virtio/pci.h"

/* A source of random bytes on @bus: the host's getrandom(2), at most 1 MiB a second. */
struct device *virtio_rng_new(struct vm *vm, struct pci_bus *bus, bool packed, GError **error);
