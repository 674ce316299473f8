/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/* The port (0x402) to which firmwares write their log: bytes go to the file @fd, line by line. It
 * reads 0xe9, by which firmwares find it. @fd stays the caller's. */
void debug_console_new(struct vm *vm, uint16_t port, int fd);
