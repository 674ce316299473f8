/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/* A port (0xf4) that ends the machine when a test guest writes to it; the exit status is value * 2
 * + 1, as kvm-unit-tests expect of isa-debug-exit. The status is in *@status when the machine has
 * shut down with the detail "debug-exit". */
void debug_exit_new(struct vm *vm, uint16_t port, int *status);
