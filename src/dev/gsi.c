// SPDX-License-Identifier: GPL-2.0-or-later
/* Global system interrupts: from devices to whichever interrupt controllers the machine has. */
#include "dev/gsi.h"

#include "base/error.h"

enum { GSI_COUNT = 24 };

struct gsi {
	struct device device;
	struct i8259 *pic;
	struct ioapic *ioapic;
	struct irq_line lines[GSI_COUNT];
	GPtrArray *shared;
	unsigned asserted[GSI_COUNT]; /* shared inputs that are high: from their drivers */
	uint32_t levels;              /* saved: of the lines */
};

static void set_gsi(void *opaque, unsigned number, bool level)
{
	struct gsi *gsi = opaque;
	struct vm *vm = gsi->device.vm;
	if (vm->accel_caps & ACCEL_IRQCHIP) {
		vm->accel->irq->set_line(vm, number, level);
		return;
	}
	if (number < 16 && number != 2)
		irq_set(i8259_input(gsi->pic, number), level);
	irq_set(ioapic_input(gsi->ioapic, number == 0 ? 2 : number), level);
}

static void set_shared(void *opaque, unsigned number, bool level)
{
	struct gsi *gsi = opaque;
	gsi->asserted[number] += level ? 1u : -1u;
	irq_set(&gsi->lines[number], gsi->asserted[number] > 0);
}

struct irq_line *gsi_line(struct gsi *gsi, unsigned number)
{
	g_assert(number < GSI_COUNT && number != 2);
	return &gsi->lines[number];
}

struct irq_line *gsi_shared_line(struct gsi *gsi, unsigned number)
{
	g_assert(number < GSI_COUNT && number != 2);
	struct irq_line *line = g_new0(struct irq_line, 1);
	*line = (struct irq_line){.set = set_shared, .opaque = gsi, .number = number};
	g_ptr_array_add(gsi->shared, line);
	return line;
}

static void pre_save(void *object)
{
	struct gsi *gsi = object;
	gsi->levels = 0;
	for (unsigned i = 0; i < GSI_COUNT; i++)
		gsi->levels |= (uint32_t)gsi->lines[i].level << i;
}

/* The interrupt controllers have been loaded with the same levels. */
static bool post_load(void *object, GError **error)
{
	struct gsi *gsi = object;
	for (unsigned i = 0; i < GSI_COUNT; i++)
		gsi->lines[i].level = gsi->levels >> i & 1;
	return gsi->levels >> GSI_COUNT == 0 ||
	       error_set(error, LODGE_ERROR_CORRUPT, "impossible interrupt lines");
}

static const struct state_field fields[] = {STATE_SCALAR(struct gsi, levels)};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .pre_save = pre_save,
					 .post_load = post_load};

static void gsi_free(struct device *device)
{
	struct gsi *gsi = (struct gsi *)device;
	g_ptr_array_free(gsi->shared, TRUE);
	g_free(gsi);
}

static const struct device_class class = {.name = "gsi", .free = gsi_free, .state = &state};

struct gsi *gsi_new(struct vm *vm, struct i8259 *pic, struct ioapic *ioapic)
{
	struct gsi *gsi = g_new0(struct gsi, 1);
	device_add(vm, &gsi->device, &class, NULL);
	gsi->pic = pic;
	gsi->ioapic = ioapic;
	gsi->shared = g_ptr_array_new_with_free_func(g_free);
	for (unsigned i = 0; i < GSI_COUNT; i++)
		gsi->lines[i] = (struct irq_line){.set = set_gsi, .opaque = gsi, .number = i};
	return gsi;
}
