/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * The 82093AA I/O APIC at 0xfec00000 with 24 inputs. Messages go out as MSIs (vm_send_msi), so that
 * it knows no local APIC. Machine lock held. Source: Intel 290566.
 */
struct ioapic;

struct ioapic *ioapic_new(struct vm *vm);
struct irq_line *ioapic_input(struct ioapic *ioapic, unsigned pin);
/* A local APIC finished level-triggered @vector: pins still high are sent again. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);
