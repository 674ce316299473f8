// SPDX-License-Identifier: GPL-2.0-or-later
/* ACPI fixed hardware (ACPI 6.3, 4.8). SCI_EN always reads 1: the machine has no SMM to switch
 * from. */
#include "dev/acpi-pm.h"

enum { PM_HZ = 3579545 };
enum {
	PM1_TIMER = 1 << 0,
	PM1_GLOBAL = 1 << 5,
	PM1_POWER_BUTTON = 1 << 8,
	PM1_SLEEP_BUTTON = 1 << 9,
	PM1_RTC = 1 << 10,
	PM1_WAKE = 1 << 15
};
enum { CONTROL_SCI_EN = 1, CONTROL_SLP_TYP = 0x1c00, CONTROL_SLP_EN = 1 << 13 };
enum { SLP_TYP_S5 = 0 };

struct acpi_pm {
	struct device device;
	uint16_t pm1_status, pm1_enable, pm1_control;
	uint8_t gpe_status[8], gpe_enable[8];
	uint8_t reset_control;
	struct irq_line *sci;
	struct irq_line button;
	struct vm_timer timer; /* when bit 23 of the PM timer turns, while that interrupt is on */
	struct window pm1, gpe, reset;
};

static uint64_t pm_ticks(const struct acpi_pm *pm)
{
	return (uint64_t)((unsigned __int128)vm_clock_ns(pm->device.vm) * PM_HZ / 1000000000);
}

static void update(struct acpi_pm *pm)
{
	bool level = pm->pm1_status & pm->pm1_enable &
		     (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC);
	for (unsigned i = 0; i < sizeof(pm->gpe_status); i++)
		level |= (pm->gpe_status[i] & pm->gpe_enable[i]) != 0;
	irq_set(pm->sci, level);
}

static void schedule(struct acpi_pm *pm)
{
	vm_timer_cancel(&pm->timer);
	if (!(pm->pm1_enable & PM1_TIMER))
		return;
	uint64_t next = (pm_ticks(pm) | 0x7fffff) + 1;
	vm_timer_arm(&pm->timer, (int64_t)((unsigned __int128)next * 1000000000 / PM_HZ) + 1);
}

static void timer_due(void *opaque)
{
	struct acpi_pm *pm = opaque;
	pm->pm1_status |= PM1_TIMER;
	update(pm);
	schedule(pm);
}

static uint64_t pm1_read(void *device, uint64_t offset, unsigned size)
{
	const struct acpi_pm *pm = device;
	uint8_t bytes[12] = {0};
	uint32_t ticks = (uint32_t)pm_ticks(pm) & 0xffffff;
	uint16_t words[3] = {pm->pm1_status, pm->pm1_enable, pm->pm1_control | CONTROL_SCI_EN};
	__builtin_memcpy(bytes, words, 6);
	__builtin_memcpy(bytes + 8, &ticks, 4);
	uint64_t value = 0;
	for (unsigned i = 0; i < size && offset + i < sizeof(bytes); i++)
		value |= (uint64_t)bytes[offset + i] << (8 * i);
	return value;
}

static void write_control(struct acpi_pm *pm, uint16_t value)
{
	pm->pm1_control = value & (CONTROL_SLP_TYP | CONTROL_SCI_EN | 2);
	if ((value & CONTROL_SLP_EN) && (value & CONTROL_SLP_TYP) >> 10 == SLP_TYP_S5)
		vm_request_shutdown(pm->device.vm, "guest-shutdown");
}

static void pm1_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct acpi_pm *pm = device;
	/* Registers are 16 bits wide; a wider write reaches both, a byte only its half. */
	for (unsigned i = 0; i < size; i++, offset++) {
		unsigned shift = offset & 1 ? 8 : 0;
		uint16_t part = (uint16_t)((value >> (8 * i) & 0xff) << shift);
		uint16_t mask = (uint16_t)(0xff << shift);
		if (offset < 2)
			pm->pm1_status &= (uint16_t)~part;
		else if (offset < 4)
			pm->pm1_enable = (pm->pm1_enable & (uint16_t)~mask) | part;
		else if (offset < 6)
			write_control(pm, (pm->pm1_control & (uint16_t)~mask) | part);
	}
	schedule(pm);
	update(pm);
}

static uint64_t gpe_read(void *device, uint64_t offset, unsigned size)
{
	const struct acpi_pm *pm = device;
	return offset < 8 ? pm->gpe_status[offset] : pm->gpe_enable[offset - 8];
}

static void gpe_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct acpi_pm *pm = device;
	if (offset < 8)
		pm->gpe_status[offset] &= (uint8_t)~value;
	else
		pm->gpe_enable[offset - 8] = (uint8_t)value;
	update(pm);
}

void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned bit)
{
	pm->gpe_status[bit / 8] |= (uint8_t)(1u << (bit % 8));
	update(pm);
}

static uint64_t reset_read(void *device, uint64_t offset, unsigned size)
{
	const struct acpi_pm *pm = device;
	return pm->reset_control;
}

/* 0xcf9: bit 2 rising resets (bit 1: the whole platform; here always). */
static void reset_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct acpi_pm *pm = device;
	pm->reset_control = value & 0x0a;
	if (value & 4)
		vm_request_reset(pm->device.vm, "guest-reset");
}

static void press_button(void *opaque, unsigned number, bool level)
{
	struct acpi_pm *pm = opaque;
	if (!level)
		return;
	pm->pm1_status |= PM1_POWER_BUTTON;
	update(pm);
}

static const struct window_ops pm1_ops = {.read = pm1_read, .write = pm1_write};
static const struct window_ops gpe_ops = {.read = gpe_read, .write = gpe_write, .max_size = 1};
static const struct window_ops reset_ops = {
	.read = reset_read, .write = reset_write, .max_size = 1};

static void reset(struct device *device)
{
	struct acpi_pm *pm = (struct acpi_pm *)device;
	pm->pm1_status = pm->pm1_enable = pm->pm1_control = 0;
	pm->reset_control = 0;
	for (unsigned i = 0; i < 8; i++)
		pm->gpe_status[i] = pm->gpe_enable[i] = 0;
	vm_timer_cancel(&pm->timer);
	update(pm);
}

static bool post_load(void *object, GError **error)
{
	struct acpi_pm *pm = object;
	pm->sci->level = false;
	schedule(pm);
	update(pm);
	return true;
}

static const struct state_field fields[] = {
	STATE_SCALAR(struct acpi_pm, pm1_status),  STATE_SCALAR(struct acpi_pm, pm1_enable),
	STATE_SCALAR(struct acpi_pm, pm1_control), STATE_BLOB(struct acpi_pm, gpe_status),
	STATE_BLOB(struct acpi_pm, gpe_enable),    STATE_SCALAR(struct acpi_pm, reset_control),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .post_load = post_load};

static void pm_free(struct device *device)
{
	struct acpi_pm *pm = (struct acpi_pm *)device;
	vm_timer_cancel(&pm->timer);
	device->vm->power_button = NULL;
	g_free(pm);
}

static const struct device_class class = {
	.name = "acpi-pm", .reset = reset, .free = pm_free, .state = &state};

struct acpi_pm *acpi_pm_new(struct vm *vm, struct irq_line *sci)
{
	struct acpi_pm *pm = g_new0(struct acpi_pm, 1);
	device_add(vm, &pm->device, &class, NULL);
	pm->sci = sci;
	pm->button = (struct irq_line){.set = press_button, .opaque = pm};
	vm->power_button = &pm->button;
	vm_timer_init(&pm->timer, vm, timer_due, pm);
	window_init(&pm->pm1, WINDOW_PORT, &pm1_ops, pm, 12);
	window_init(&pm->gpe, WINDOW_PORT, &gpe_ops, pm, ACPI_GPE0_BYTES);
	window_init(&pm->reset, WINDOW_PORT, &reset_ops, pm, 1);
	window_map(vm, &pm->pm1, ACPI_PM1_EVENT);
	window_map(vm, &pm->gpe, ACPI_GPE0);
	pm->reset.priority = 1; /* inside 0xcf8-0xcff */
	window_map(vm, &pm->reset, ACPI_RESET_PORT);
	reset(&pm->device);
	return pm;
}
