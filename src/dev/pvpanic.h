/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/* The port (0x505) through which a guest kernel says that it has crashed: bit 0 stops the machine
 * as panicked. Source: QEMU docs/specs/pvpanic.rst. */
void pvpanic_new(struct vm *vm, uint16_t port);
