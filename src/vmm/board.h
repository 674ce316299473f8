/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "accel/accel.h"
#include "dev/acpi-pm.h"
#include "dev/gsi.h"
#include "dev/lapic.h"
#include "dev/pci-host.h"
#include "host/char.h"
#include "vmm/loader.h"
#include "vmm/machine.h"
#include "vmm/multiboot.h"

/*
 * The board: what a machine consists of and where everything lies. Guest-physical addresses: RAM
 * from 0 up to 2 GiB (or less than 2.75 GiB when it all fits there), ECAM at 0xb0000000, PCI window
 * from 0xc0000000, IOAPIC, HPET and local APICs at 0xfec00000 to 0xfeefffff, ROM below 4 GiB, more
 * RAM above 4 GiB.
 */

struct board {
	struct vm *vm;
	const struct machine_config *config;
	struct accel_choice accel;
	struct lapic_bus *lapics;
	struct gsi *gsi;
	struct pci_host *pci;
	struct acpi_pm *acpi;
	struct i8042 *keyboard;
	struct fw_cfg *fw_cfg;
	/* At most one of them; both NULL: a firmware starts. */
	struct linux_image *image;
	struct multiboot_image *multiboot;
	struct ram *rom;
	GByteArray *acpi_tables, *smbios_tables;
	GPtrArray *chardevs;
	GPtrArray *blocks;
	uint64_t low_bytes, high_bytes;
	struct e820_entry e820[8];
	unsigned e820_count;
	int64_t made_us;       /* monotonic time */
	int debug_exit_status; /* -1: the guest did not use the exit port */
};

/* Builds the machine; it is reset and ready to start. @config stays the caller's. */
struct board *board_new(const struct machine_config *config, GMainContext *context, GError **error);
void board_free(struct board *board);
