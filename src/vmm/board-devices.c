// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices that a machine's description asks for. */
#include "vmm/board-devices.h"

bool board_add_devices(struct board *board, GError **error)
{
	return true;
}

void board_describe_devices(const struct board *board, struct acpi_config *acpi)
{
	acpi->i8042 = false;
}

void board_free_devices(struct board *board)
{
}
