// SPDX-License-Identifier: GPL-2.0-or-later
/* SMBIOS tables (DMTF DSP0134 3.0): each structure is a formatted part, then its strings, each with
 * its NUL, and another NUL. String fields hold the number of the string, counted from 1. */
#include "vmm/smbios.h"

#include <string.h>

enum type {
	TYPE_BIOS = 0,
	TYPE_SYSTEM = 1,
	TYPE_CHASSIS = 3,
	TYPE_PROCESSOR = 4,
	TYPE_MEMORY_ARRAY = 16,
	TYPE_MEMORY_DEVICE = 17,
	TYPE_MEMORY_ARRAY_ADDRESS = 19,
	TYPE_BOOT = 32,
	TYPE_END = 127,
};
#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct writer {
	GByteArray *to;
	guint start; /* of the open structure */
	GPtrArray *strings;
};

static void put(struct writer *w, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		g_byte_array_append(w->to, &byte, 1);
	}
}

static void put_zeros(struct writer *w, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		put(w, 0, 1);
}

static void put_string(struct writer *w, const char *text)
{
	g_ptr_array_add(w->strings, (gpointer)(uintptr_t)text);
	put(w, w->strings->len, 1);
}

static void begin(struct writer *w, enum type type, uint16_t handle)
{
	w->start = w->to->len;
	g_ptr_array_set_size(w->strings, 0);
	put(w, type, 1);
	put(w, 0, 1);
	put(w, handle, 2);
}

static void end(struct writer *w)
{
	w->to->data[w->start + 1] = (uint8_t)(w->to->len - w->start);
	for (guint i = 0; i < w->strings->len; i++) {
		const char *text = w->strings->pdata[i];
		g_byte_array_append(w->to, (const uint8_t *)text, (guint)strlen(text) + 1);
	}
	put(w, 0, w->strings->len ? 1 : 2);
}

static void put_bios(struct writer *w)
{
	begin(w, TYPE_BIOS, 0);
	put_string(w, "Lodge");
	put_string(w, "0");
	put(w, 0xe800, 2); /* segment where it starts */
	put_string(w, "01/01/2024");
	put(w, 0, 1);      /* 64 KiB */
	put(w, 1 << 3, 8); /* characteristics are not told */
	put(w, 0x1001, 2); /* ACPI; it is a virtual machine */
	put(w, 0, 2);      /* release */
	put(w, 0xffff, 2); /* no embedded controller */
	end(w);
}

static void put_system(struct writer *w, const struct smbios_config *config)
{
	const uint8_t *u = config->uuid;
	/* The first three fields of the UUID are little-endian numbers here (7.2.1). */
	const uint8_t mixed[16] = {u[3], u[2], u[1],  u[0],  u[5],  u[4],  u[7],  u[6],
				   u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]};
	begin(w, TYPE_SYSTEM, 0x100);
	put_string(w, "Lodge");
	put_string(w, "Lodge virtual machine");
	put_string(w, "1");
	put(w, 0, 1); /* no serial number */
	g_byte_array_append(w->to, mixed, sizeof(mixed));
	put(w, 6, 1); /* woken by the power switch */
	put(w, 0, 2);
	end(w);
}

static void put_chassis(struct writer *w)
{
	begin(w, TYPE_CHASSIS, 0x300);
	put_string(w, "Lodge");
	put(w, 1, 1); /* other */
	put(w, 0, 3); /* version, serial number, asset tag */
	put(w, 0x030303, 3);
	put(w, 2, 1); /* security: unknown */
	put_zeros(w, 4);
	put(w, 0, 1);
	put(w, 0, 1); /* power cords: unspecified */
	put(w, 0, 2); /* no contained elements, of 0 bytes */
	put(w, 0, 1);
	end(w);
}

/* One socket that holds all processors as its cores. */
static void put_processor(struct writer *w, const struct smbios_config *config)
{
	unsigned n = MIN(config->cpu_count, 255u);
	begin(w, TYPE_PROCESSOR, 0x400);
	put_string(w, "CPU 0");
	put(w, 3, 1); /* central processor */
	put(w, 1, 1); /* family: other */
	put_string(w, "Lodge");
	put(w, 0, 8); /* id */
	put_string(w, "1");
	put(w, 0, 1); /* voltage */
	put(w, 0, 2); /* external clock */
	put(w, config->cpu_mhz, 2);
	put(w, config->cpu_mhz, 2);
	put(w, 0x41, 1); /* populated, enabled */
	put(w, 1, 1);
	put(w, 0xffffffffffff, 6); /* no cache structures */
	put(w, 0, 3);
	put(w, n, 1);
	put(w, n, 1);
	put(w, n, 1);
	put(w, 4, 2); /* 64-bit capable */
	put(w, 1, 2); /* family: other */
	put(w, config->cpu_count, 2);
	put(w, config->cpu_count, 2);
	put(w, config->cpu_count, 2);
	end(w);
}

static void put_memory(struct writer *w, const struct smbios_config *config)
{
	uint64_t mib = config->memory_bytes / MIB, kib = config->memory_bytes / KIB;
	begin(w, TYPE_MEMORY_ARRAY, 0x1000);
	put(w, 1, 1); /* location: other */
	put(w, 3, 1); /* system memory */
	put(w, 3, 1); /* no error correction */
	put(w, kib < 0x80000000 ? kib : 0x80000000, 4);
	put(w, 0xfffe, 2);
	put(w, 1, 2);
	put(w, kib < 0x80000000 ? 0 : config->memory_bytes, 8);
	end(w);
	begin(w, TYPE_MEMORY_DEVICE, 0x1100);
	put(w, 0x1000, 2);
	put(w, 0xfffe, 2);
	put(w, 64, 2);
	put(w, 64, 2);
	put(w, mib < 0x7fff ? mib : 0x7fff, 2);
	put(w, 9, 1); /* DIMM */
	put(w, 0, 1);
	put_string(w, "DIMM 0");
	put(w, 0, 1);
	put(w, 7, 1); /* RAM */
	put(w, 2, 2); /* other */
	put(w, 0, 2);
	put_string(w, "Lodge");
	put(w, 0, 3); /* serial number, asset tag, part number */
	put(w, 0, 1);
	put(w, mib < 0x7fff ? 0 : mib, 4);
	put(w, 0, 8); /* clock, voltages */
	end(w);
}

static void put_range(struct writer *w, uint16_t handle, uint64_t start, uint64_t size)
{
	uint64_t last = start + size - 1;
	bool narrow = last / KIB < UINT32_MAX;
	if (!size)
		return;
	begin(w, TYPE_MEMORY_ARRAY_ADDRESS, handle);
	put(w, narrow ? start / KIB : UINT32_MAX, 4);
	put(w, narrow ? last / KIB : UINT32_MAX, 4);
	put(w, 0x1000, 2);
	put(w, 1, 1);
	put(w, narrow ? 0 : start, 8);
	put(w, narrow ? 0 : last, 8);
	end(w);
}

static void put_anchor(uint8_t *anchor, uint32_t table, uint32_t size)
{
	uint8_t sum = 0;
	memcpy(anchor, "_SM3_", 5);
	anchor[6] = SMBIOS_ANCHOR_BYTES;
	anchor[7] = 3; /* version 3.0.0, revision 1 of the anchor */
	anchor[10] = 1;
	memcpy(anchor + 12, &size, 4);
	memcpy(anchor + 16, &table, 4);
	for (unsigned i = 0; i < SMBIOS_ANCHOR_BYTES; i++)
		sum = (uint8_t)(sum + anchor[i]);
	anchor[5] = (uint8_t)-sum;
}

GByteArray *smbios_build(const struct smbios_config *config, uint32_t base)
{
	struct writer w = {.to = g_byte_array_new(), .strings = g_ptr_array_new()};
	put_zeros(&w, SMBIOS_TABLES_AT);
	put_bios(&w);
	put_system(&w, config);
	put_chassis(&w);
	put_processor(&w, config);
	put_memory(&w, config);
	put_range(&w, 0x1300, 0, config->low_bytes);
	put_range(&w, 0x1301, 4 * GIB, config->memory_bytes - config->low_bytes);
	begin(&w, TYPE_BOOT, 0x2000);
	put(&w, 0, 6);
	put(&w, 0, 1); /* no errors detected */
	end(&w);
	begin(&w, TYPE_END, 0x7f00);
	end(&w);
	put_anchor(w.to->data, base + SMBIOS_TABLES_AT, w.to->len - SMBIOS_TABLES_AT);
	g_ptr_array_free(w.strings, TRUE);
	return w.to;
}
