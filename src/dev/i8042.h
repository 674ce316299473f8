/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * The keyboard controller of a PC at ports 0x60 and 0x64 with a PS/2 keyboard (interrupt 1) and
 * mouse (interrupt 12) on it, and system control port A (0x92): both have a reset wire and an A20
 * gate, which is stored and read back but masks nothing. Machine lock held. Source: Intel 8042 and
 * IBM PS/2 Hardware Interface Technical Reference.
 */
struct i8042;

struct i8042 *i8042_new(struct vm *vm, struct irq_line *irq1, struct irq_line *irq12);

/* Input from a display: numbers and directions as ps2.h has them. */
void i8042_key(struct i8042 *chip, unsigned key, bool down);
void i8042_pointer(struct i8042 *chip, int dx, int dy, int dz, uint8_t buttons);
