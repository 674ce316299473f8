/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/pci.h"

/* Between pci.c and msix.c. */
void msix_config_written(struct pci_function *function, unsigned offset, unsigned size);
void msix_reset(struct pci_function *function);
