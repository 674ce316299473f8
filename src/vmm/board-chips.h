/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vmm/acpi.h"
#include "vmm/board.h"

/* The fixed part of a board: interrupt controllers, timers, serial port, keyboard controller, PCI
 * host, power management and firmware interface. */
bool board_add_chips(struct board *board, GError **error);
void board_describe_chips(struct acpi_config *acpi);
uint64_t board_apic_timer_hz(void);
