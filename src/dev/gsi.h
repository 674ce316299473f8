/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "dev/i8259.h"
#include "dev/ioapic.h"

/*
 * The global system interrupts 0-23: the wires that devices drive. Without an in-kernel irqchip
 * each fans out to the 8259 pair (0-15) and the IOAPIC (0 arrives at pin 2, as the ACPI override
 * says); with one, the kernel does the same. Several sources of one level-triggered GSI (PCI INTx)
 * are or-ed. Machine lock held.
 */
struct gsi;

struct gsi *gsi_new(struct vm *vm, struct i8259 *pic, struct ioapic *ioapic);
struct irq_line *gsi_line(struct gsi *gsi, unsigned number);
/* A further input of the same GSI, or-ed with the others. Owned by @gsi. */
struct irq_line *gsi_shared_line(struct gsi *gsi, unsigned number);
