/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * ACPI fixed hardware: PM1 event and control, PM timer, GPE0, the fixed power button, and the reset
 * register 0xcf9. Machine lock held. Source: ACPI 6.3 section 4.8.
 */

enum {
	ACPI_PM1_EVENT = 0x600,
	ACPI_PM1_CONTROL = 0x604,
	ACPI_PM_TIMER = 0x608,
	ACPI_GPE0 = 0x620,
	ACPI_GPE0_BYTES = 16,
	ACPI_RESET_PORT = 0xcf9,
	ACPI_RESET_VALUE = 0x0f,
	ACPI_SCI = 9,
};

struct acpi_pm;

/* Also sets vm->power_button. */
struct acpi_pm *acpi_pm_new(struct vm *vm, struct irq_line *sci);
/* Raises general-purpose event @bit (0-63). */
void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned bit);
