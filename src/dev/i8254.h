/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * The 8254 interval timer at ports 0x40-0x43 and the speaker gate at 0x61. Channel 0 drives @irq0.
 * Machine lock held. Source: Intel 8254 datasheet (231164).
 */
struct i8254;

struct i8254 *i8254_new(struct vm *vm, struct irq_line *irq0);
