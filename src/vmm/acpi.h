/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The ACPI tables of a machine: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG, HPET, WAET. Source:
 * ACPI 6.3 chapter 5; PCI Firmware 3.2 (MCFG); IA-PC HPET 1.0a.
 */

struct acpi_config {
	unsigned cpu_count;
	uint32_t pci_window_start, pci_window_end;     /* last byte */
	uint64_t pci_window64_start, pci_window64_end; /* both 0: none */
	bool hpet, i8042, serial, fw_cfg, pvpanic;
};

/* The tables as they lie from guest-physical @base (16-byte aligned, below 1 MiB so that the guest
 * finds the RSDP): the RSDP is first. */
GByteArray *acpi_build(const struct acpi_config *config, uint32_t base);
