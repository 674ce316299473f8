// SPDX-License-Identifier: GPL-2.0-or-later
/* Random accesses to all chips of a machine without a processor. The input is a list of accesses:
 * a byte of kind and size, two of address, four of value. */
#include <string.h>

#include "tests/dev/bench.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

enum { RECORD = 7, RECORDS_MAX = 2000 };

static void access_one(struct bench *b, const uint8_t *record)
{
	static const uint64_t areas[] = {0xfec00000, 0xfed00000, PCI_ECAM_BASE,
					 PCI_ECAM_BASE + 0x8000, 0xc0000000};
	unsigned kind = record[0] & 7, size = 1u << (record[0] >> 3 & 3), cpu = record[0] >> 5 & 1;
	bool write = record[0] & 0x80;
	uint16_t address;
	uint32_t value;
	memcpy(&address, record + 1, 2);
	memcpy(&value, record + 3, 4);
	if (kind < 2) {
		size = MIN(size, 4u);
		if (write)
			out(b, address, value, size);
		else
			in(b, address, size);
	} else if (kind < 2 + G_N_ELEMENTS(areas)) {
		uint64_t gpa = areas[kind - 2] + (address & 0xfff);
		if (write)
			mmio_out(b, gpa, value, size);
		else
			mmio_in(b, gpa, size);
	} else if (write) {
		apic_out(b, cpu, address & 0xff0, value);
	} else {
		uint64_t ignored;
		take(b, cpu);
		if (address & 1)
			msr_out(b, cpu, 0x800 + (address >> 1 & 0x3f), value);
		else
			msr_in(b, cpu, 0x800 + (address >> 1 & 0x3f), &ignored);
		advance(b, value & 0xfffff);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct bench *b = bench_new(2);
	for (size_t i = 0; i + RECORD <= length && i < (size_t)RECORDS_MAX * RECORD; i += RECORD)
		access_one(b, data + i);
	/* Whatever state the chips are in now can be saved and loaded. */
	g_autoptr(GByteArray) saved = bench_save(b);
	struct bench *other = bench_new(2);
	g_autoptr(GError) error = NULL;
	if (!bench_load(other, vm_clock_ns(b->vm), saved->data, saved->len, &error))
		g_error("the state cannot be loaded: %s", error->message);
	bench_free(other);
	bench_free(b);
	return 0;
}
