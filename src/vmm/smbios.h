/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The SMBIOS 3.0 tables of a machine. Source: DMTF DSP0134 3.0. */

struct smbios_config {
	uint8_t uuid[16]; /* as its text reads, first byte first */
	unsigned cpu_count;
	uint64_t memory_bytes, low_bytes; /* all, and that below 4 GiB */
	uint32_t cpu_mhz;
};

enum { SMBIOS_ANCHOR_BYTES = 24, SMBIOS_TABLES_AT = 32 };

/* The anchor and, from SMBIOS_TABLES_AT on, the structures, as they lie from guest-physical @base
 * (16-byte aligned, in 0xf0000-0xfffff so that the guest finds the anchor). */
GByteArray *smbios_build(const struct smbios_config *config, uint32_t base);
