/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * The pair of 8259A interrupt controllers at ports 0x20 and 0xa0 with their edge/level registers at
 * 0x4d0. Everything under the machine lock. Source: Intel 8259A datasheet (231468).
 */
struct i8259;

/* @output: the master's INT wire (to LINT0 of the first local APIC). */
struct i8259 *i8259_new(struct vm *vm, struct irq_line *output);
/* Input @irq (0-15, not 2). */
struct irq_line *i8259_input(struct i8259 *pic, unsigned irq);
/* Interrupt acknowledge cycle: the vector (a spurious one where nothing is pending). */
uint8_t i8259_acknowledge(struct i8259 *pic);
/* Whether INT is asserted. */
bool i8259_pending(struct i8259 *pic);
