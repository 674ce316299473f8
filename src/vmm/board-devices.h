/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vmm/acpi.h"
#include "vmm/board.h"

/* The part of a board that its description varies: disks, network cards, consoles, and the chips
 * that only some machines have. */
bool board_add_devices(struct board *board, GError **error);
void board_describe_devices(const struct board *board, struct acpi_config *acpi);
void board_free_devices(struct board *board);
