/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/char.h"
#include "vm/vm.h"

/*
 * A 16550A serial port. Its registers are under the machine lock; bytes from the host arrive on the
 * main thread. Source: National PC16550D datasheet.
 */
struct ns16550;

/* At @port (0x3f8 for COM1) with interrupt @irq; @chardev may be NULL (bytes go nowhere) and stays
 * the caller's. */
struct ns16550 *ns16550_new(struct vm *vm, uint16_t port, struct irq_line *irq,
			    struct chardev *chardev);
