// SPDX-License-Identifier: GPL-2.0-or-later
/* Ports for test guests. */
#include "dev/test-device.h"

#include <string.h>

enum { LATCH = 0xe0, LATCH_BYTES = 12, LINES = 0x2000, LINE_COUNT = 24 };
enum { MEMORY_BYTES = 0x10000 };
#define MEMORY_BASE UINT64_C(0xff000000)

struct test_device {
	struct device device;
	struct window latch, lines, memory;
	uint8_t bytes[LATCH_BYTES];
	uint8_t content[MEMORY_BYTES];
	struct irq_line *gsi[LINE_COUNT];
};

static uint64_t latch_read(void *device, uint64_t offset, unsigned size)
{
	const struct test_device *t = device;
	uint64_t value = 0;
	memcpy(&value, t->bytes + offset, MIN(size, LATCH_BYTES - offset));
	return value;
}

static void latch_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct test_device *t = device;
	memcpy(t->bytes + offset, &value, MIN(size, LATCH_BYTES - offset));
}

static uint64_t memory_read(void *device, uint64_t offset, unsigned size)
{
	const struct test_device *t = device;
	uint64_t value = 0;
	memcpy(&value, t->content + offset, MIN(size, MEMORY_BYTES - offset));
	return value;
}

static void memory_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct test_device *t = device;
	memcpy(t->content + offset, &value, MIN(size, MEMORY_BYTES - offset));
}

static uint64_t lines_read(void *device, uint64_t offset, unsigned size)
{
	return 0;
}

static void lines_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct test_device *t = device;
	irq_set(t->gsi[offset], value & 1);
}

static const struct window_ops latch_ops = {.read = latch_read, .write = latch_write};
static const struct window_ops memory_ops = {
	.read = memory_read, .write = memory_write, .max_size = 8};
static const struct window_ops lines_ops = {.read = lines_read, .write = lines_write};

static void reset(struct device *device)
{
	struct test_device *t = (struct test_device *)device;
	memset(t->bytes, 0, sizeof(t->bytes));
	memset(t->content, 0, sizeof(t->content));
	for (unsigned i = 0; i < LINE_COUNT; i++)
		irq_set(t->gsi[i], false);
}

static const struct state_field fields[] = {
	STATE_BLOB(struct test_device, bytes),
	STATE_BLOB(struct test_device, content),
};
static const struct state_table state = {
	.version = 1, .min_version = 1, .fields = fields, .field_count = G_N_ELEMENTS(fields)};

static void test_device_free(struct device *device)
{
	struct test_device *t = (struct test_device *)device;
	window_unmap(device->vm, &t->latch);
	window_unmap(device->vm, &t->lines);
	window_unmap(device->vm, &t->memory);
	g_free(t);
}

static const struct device_class class = {
	.name = "test-device", .reset = reset, .free = test_device_free, .state = &state};

void test_device_new(struct vm *vm, struct gsi *gsi)
{
	struct test_device *t = g_new0(struct test_device, 1);
	device_add(vm, &t->device, &class, NULL);
	for (unsigned i = 0; i < LINE_COUNT; i++) {
		if (i != 2)
			t->gsi[i] = gsi_line(gsi, i);
	}
	window_init(&t->latch, WINDOW_PORT, &latch_ops, t, LATCH_BYTES);
	window_init(&t->lines, WINDOW_PORT, &lines_ops, t, LINE_COUNT);
	window_init(&t->memory, WINDOW_MMIO, &memory_ops, t, MEMORY_BYTES);
	window_map(vm, &t->memory, MEMORY_BASE);
	window_map(vm, &t->latch, LATCH);
	window_map(vm, &t->lines, LINES);
}
