// SPDX-License-Identifier: GPL-2.0-or-later
/* AML writer (ACPI 6.3: 20.2 encoding, 6.4 resource descriptors). */
#include "vmm/aml.h"

#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXTENDED = 0x5b,
	OP_EXT_DEVICE = 0x82,
};
/* Package lengths are written in three bytes always: up to 1 MiB, and their place is known. */
enum { LENGTH_BYTES = 3 };

void aml_byte(aml *to, uint8_t byte)
{
	g_byte_array_append(to, &byte, 1);
}

static void put(aml *to, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		aml_byte(to, (uint8_t)(value >> (8 * i)));
}

static void name_segment(aml *to, const char *name)
{
	char segment[4] = {'_', '_', '_', '_'};
	g_assert(strlen(name) >= 1 && strlen(name) <= 4);
	memcpy(segment, name, strlen(name));
	g_byte_array_append(to, (const uint8_t *)segment, 4);
}

void aml_name_string(aml *to, const char *path)
{
	if (*path == '\\') {
		aml_byte(to, '\\');
		path++;
	}
	g_auto(GStrv) parts = g_strsplit(path, ".", -1);
	guint count = g_strv_length(parts);
	if (count == 2) {
		aml_byte(to, 0x2e);
	} else if (count > 2) {
		aml_byte(to, 0x2f);
		aml_byte(to, (uint8_t)count);
	}
	for (guint i = 0; i < count; i++)
		name_segment(to, parts[i]);
}

static guint open_package(aml *to)
{
	guint mark = to->len;
	put(to, 0, LENGTH_BYTES);
	return mark;
}

void aml_close(aml *to, guint mark)
{
	guint length = to->len - mark;
	g_assert(length < 1 << 20);
	to->data[mark] = (uint8_t)((LENGTH_BYTES - 1) << 6 | (length & 15));
	to->data[mark + 1] = (uint8_t)(length >> 4);
	to->data[mark + 2] = (uint8_t)(length >> 12);
}

guint aml_scope(aml *to, const char *path)
{
	aml_byte(to, OP_SCOPE);
	guint mark = open_package(to);
	aml_name_string(to, path);
	return mark;
}

guint aml_device(aml *to, const char *name)
{
	aml_byte(to, OP_EXTENDED);
	aml_byte(to, OP_EXT_DEVICE);
	guint mark = open_package(to);
	name_segment(to, name);
	return mark;
}

guint aml_method(aml *to, const char *name, unsigned arguments)
{
	aml_byte(to, OP_METHOD);
	guint mark = open_package(to);
	name_segment(to, name);
	aml_byte(to, (uint8_t)arguments);
	return mark;
}

guint aml_package(aml *to, unsigned elements)
{
	g_assert(elements < 256);
	aml_byte(to, OP_PACKAGE);
	guint mark = open_package(to);
	aml_byte(to, (uint8_t)elements);
	return mark;
}

void aml_name(aml *to, const char *name)
{
	aml_byte(to, OP_NAME);
	name_segment(to, name);
}

void aml_integer(aml *to, uint64_t value)
{
	if (value <= 1) {
		aml_byte(to, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		aml_byte(to, OP_BYTE);
		put(to, value, 1);
	} else if (value <= UINT16_MAX) {
		aml_byte(to, OP_WORD);
		put(to, value, 2);
	} else if (value <= UINT32_MAX) {
		aml_byte(to, OP_DWORD);
		put(to, value, 4);
	} else {
		aml_byte(to, OP_QWORD);
		put(to, value, 8);
	}
}

void aml_string(aml *to, const char *text)
{
	aml_byte(to, OP_STRING);
	g_byte_array_append(to, (const uint8_t *)text, (guint)strlen(text) + 1);
}

void aml_eisaid(aml *to, const char *id)
{
	uint32_t value = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
			 (uint32_t)(id[2] - '@') << 16;
	g_assert(strlen(id) == 7);
	value |= (uint32_t)g_ascii_strtoull(id + 3, NULL, 16);
	aml_byte(to, OP_DWORD);
	put(to, GUINT32_SWAP_LE_BE(value), 4);
}

struct aml_resources aml_resources(aml *to)
{
	struct aml_resources r;
	aml_byte(to, OP_BUFFER);
	r.mark = open_package(to);
	aml_byte(to, OP_WORD);
	r.size_at = to->len;
	put(to, 0, 2);
	r.start = to->len;
	return r;
}

void aml_close_resources(aml *to, struct aml_resources r)
{
	put(to, 0x79, 1); /* end tag, checksum 0: not checked */
	put(to, 0, 1);
	guint size = to->len - r.start;
	to->data[r.size_at] = (uint8_t)size;
	to->data[r.size_at + 1] = (uint8_t)(size >> 8);
	aml_close(to, r.mark);
}

void aml_io(aml *to, uint16_t port, uint8_t length)
{
	put(to, 0x47, 1);
	put(to, 1, 1); /* decodes 16 bits */
	put(to, port, 2);
	put(to, port, 2);
	put(to, 1, 1);
	put(to, length, 1);
}

void aml_irq(aml *to, unsigned irq)
{
	put(to, 0x22, 1);
	put(to, UINT64_C(1) << irq, 2);
}

void aml_memory32(aml *to, uint32_t base, uint32_t length)
{
	put(to, 0x86, 1);
	put(to, 9, 2);
	put(to, 1, 1); /* writable */
	put(to, base, 4);
	put(to, length, 4);
}

void aml_window(aml *to, enum aml_space space, uint64_t first, uint64_t last)
{
	static const uint8_t tags[] = {[2] = 0x88, [4] = 0x87, [8] = 0x8a};
	unsigned width = space != AML_MEMORY ? 2 : last > UINT32_MAX ? 8 : 4;
	put(to, tags[width], 1);
	put(to, 3 + 5 * width, 2);
	put(to, space, 1);
	put(to, 0x0c, 1); /* producer, both ends fixed, positive decode */
	put(to, space == AML_MEMORY ? 1 : space == AML_IO ? 3 : 0, 1);
	put(to, 0, width);
	put(to, first, width);
	put(to, last, width);
	put(to, 0, width);
	put(to, last - first + 1, width);
}
