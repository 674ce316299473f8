/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * The MC146818A real-time clock with 128 bytes of CMOS memory at ports 0x70 and 0x71; interrupt 8.
 * Keeps UTC from the host's clock plus what the guest has set. Machine lock held. Source: Motorola
 * MC146818A datasheet; the meaning of PC CMOS bytes is the board's.
 */
struct mc146818;

struct mc146818 *mc146818_new(struct vm *vm, struct irq_line *irq8);
/* A byte beyond the clock's registers (0x0e up) as a board presets it; kept over resets. */
void mc146818_set_cmos(struct mc146818 *rtc, uint8_t index, uint8_t value);
