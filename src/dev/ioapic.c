// SPDX-License-Identifier: GPL-2.0-or-later
/* 82093AA I/O APIC (Intel 290566). An entry leaves as the MSI that a local APIC would decode to the
 * same interrupt (SDM 3A section 11.11). */
#include "dev/ioapic.h"

#include "base/error.h"
#include "vm/chips.h"

#define IOAPIC_BASE UINT64_C(0xfec00000)

enum { IOAPIC_PINS = 24, IOAPIC_VERSION = 0x20 };
enum { REG_SELECT = 0x00, REG_DATA = 0x10, REG_EOI = 0x40 };
enum {
	ENTRY_LOGICAL = 1 << 11,
	ENTRY_PENDING = 1 << 12,
	ENTRY_LOW_ACTIVE = 1 << 13,
	ENTRY_REMOTE_IRR = 1 << 14,
	ENTRY_LEVEL = 1 << 15,
	ENTRY_MASKED = 1 << 16,
};

struct ioapic {
	struct device device;
	uint32_t select, id;
	uint32_t lines; /* levels of the inputs */
	uint32_t edges; /* seen and not yet sent; those at masked pins are lost */
	uint64_t entries[IOAPIC_PINS];
	struct irq_line inputs[IOAPIC_PINS];
	struct window window;
	bool in_kernel;
};

static void send(struct ioapic *chip, unsigned pin)
{
	uint64_t entry = chip->entries[pin];
	uint64_t address =
		0xfee00000 | (entry >> 56) << 12 | (entry & ENTRY_LOGICAL ? UINT64_C(1) << 2 : 0);
	unsigned delivery = entry >> 8 & 7;
	/* Lowest priority needs the redirection hint. */
	if (delivery == 1)
		address |= 1 << 3;
	uint32_t data = (uint32_t)(entry & 0xff) | delivery << 8 |
			(entry & ENTRY_LEVEL ? 1u << 15 | 1u << 14 : 0);
	vm_send_msi(chip->device.vm, address, data);
}

static void service(struct ioapic *chip, unsigned pin)
{
	uint64_t *entry = &chip->entries[pin];
	uint32_t bit = 1u << pin;
	if (*entry & ENTRY_MASKED)
		return;
	if (*entry & ENTRY_LEVEL) {
		if (!(chip->lines & bit) || (*entry & ENTRY_REMOTE_IRR))
			return;
		*entry |= ENTRY_REMOTE_IRR;
	} else {
		if (!(chip->edges & bit))
			return;
		chip->edges &= ~bit;
	}
	send(chip, pin);
}

static void set_input(void *opaque, unsigned pin, bool level)
{
	struct ioapic *chip = opaque;
	uint32_t bit = 1u << pin;
	if (level && !(chip->lines & bit) && !(chip->entries[pin] & (ENTRY_MASKED | ENTRY_LEVEL)))
		chip->edges |= bit;
	chip->lines = level ? chip->lines | bit : chip->lines & ~bit;
	service(chip, pin);
}

struct irq_line *ioapic_input(struct ioapic *chip, unsigned pin)
{
	g_assert(pin < IOAPIC_PINS);
	return &chip->inputs[pin];
}

void ioapic_eoi(struct ioapic *chip, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *entry = &chip->entries[pin];
		if ((*entry & 0xff) != vector || !(*entry & ENTRY_LEVEL))
			continue;
		*entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
		service(chip, pin);
	}
}

static uint32_t register_read(const struct ioapic *chip)
{
	uint32_t index = chip->select & 0xff;
	if (index == 0 || index == 2)
		return chip->id;
	if (index == 1)
		return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
	if (index >= 0x10 && index < 0x10 + 2 * IOAPIC_PINS)
		return (uint32_t)(chip->entries[(index - 0x10) / 2] >> (index & 1 ? 32 : 0));
	return 0;
}

static void register_write(struct ioapic *chip, uint32_t value)
{
	uint32_t index = chip->select & 0xff;
	if (index == 0)
		chip->id = value & 0x0f000000;
	if (index < 0x10 || index >= 0x10 + 2 * IOAPIC_PINS)
		return;
	unsigned pin = (index - 0x10) / 2;
	uint64_t *entry = &chip->entries[pin];
	if (index & 1) {
		*entry = (*entry & 0xffffffff) | (uint64_t)(value & 0xff000000) << 32;
	} else {
		uint64_t keep = *entry & (ENTRY_REMOTE_IRR | ENTRY_PENDING);
		uint64_t set = value & (0x1ffff & ~(ENTRY_REMOTE_IRR | ENTRY_PENDING));
		*entry = (*entry & ~UINT64_C(0xffffffff)) | set | keep;
		/* Remote IRR means nothing for edges; software clears it by this round trip. */
		if (!(*entry & ENTRY_LEVEL))
			*entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
	}
	service(chip, pin);
}

static uint64_t window_read(void *device, uint64_t offset, unsigned size)
{
	const struct ioapic *chip = device;
	if (offset == REG_SELECT)
		return chip->select;
	return offset == REG_DATA ? register_read(chip) : 0;
}

static void window_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct ioapic *chip = device;
	if (offset == REG_SELECT)
		chip->select = (uint32_t)value;
	else if (offset == REG_DATA)
		register_write(chip, (uint32_t)value);
	else if (offset == REG_EOI)
		ioapic_eoi(chip, (uint8_t)value);
}

static const struct window_ops window_ops = {
	.read = window_read, .write = window_write, .min_size = 4, .max_size = 4};

static bool push_to_kernel(struct ioapic *chip, GError **error)
{
	struct vm *vm = chip->device.vm;
	struct ioapic_regs regs = {
		.select = chip->select, .id = chip->id >> 24, .irr = chip->edges};
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		regs.redirection[i] = chip->entries[i];
		/* Of an edge that has been delivered nothing is left to do, high as its line may
		 * be: the kernel would take it for a new one, and miss the next. */
		if (chip->entries[i] & ENTRY_LEVEL)
			regs.irr |= chip->lines & 1u << i;
	}
	return vm->accel->irq->set_chip(vm, CHIP_IOAPIC, 0, &regs, error);
}

static void reset(struct device *device)
{
	struct ioapic *chip = (struct ioapic *)device;
	chip->select = chip->id = chip->edges = 0;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		chip->entries[i] = ENTRY_MASKED;
	if (chip->in_kernel)
		push_to_kernel(chip, NULL);
}

static void map_window(struct ioapic *chip)
{
	chip->in_kernel = chip->device.vm->accel_caps & ACCEL_IRQCHIP;
	if (chip->in_kernel)
		window_unmap(chip->device.vm, &chip->window);
	else
		window_map(chip->device.vm, &chip->window, IOAPIC_BASE);
}

static void pre_save(void *object)
{
	struct ioapic *chip = object;
	struct vm *vm = chip->device.vm;
	struct ioapic_regs regs;
	if (!chip->in_kernel || !vm->accel->irq->get_chip(vm, CHIP_IOAPIC, 0, &regs, NULL))
		return;
	chip->select = regs.select;
	chip->id = regs.id << 24;
	chip->lines = 0;
	chip->edges = 0;
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		chip->entries[i] = regs.redirection[i];
		if (regs.irr & 1u << i) {
			if (regs.redirection[i] & ENTRY_LEVEL)
				chip->lines |= 1u << i;
			else if (!(regs.redirection[i] & ENTRY_MASKED))
				chip->edges |= 1u << i;
		}
	}
}

static bool post_load(void *object, GError **error)
{
	struct ioapic *chip = object;
	if ((chip->lines | chip->edges) >> IOAPIC_PINS)
		return error_set(error, LODGE_ERROR_CORRUPT, "impossible I/O APIC state");
	map_window(chip);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		chip->inputs[i].level = chip->lines >> i & 1;
	if (chip->in_kernel)
		return push_to_kernel(chip, error);
	/* What the kernel held back (a level that rose while masked, an edge) goes out now. */
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		service(chip, i);
	return true;
}

static const struct state_field fields[] = {
	STATE_SCALAR(struct ioapic, select), STATE_SCALAR(struct ioapic, id),
	STATE_SCALAR(struct ioapic, lines),  STATE_SCALAR(struct ioapic, edges),
	STATE_ARRAY(struct ioapic, entries),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .pre_save = pre_save,
					 .post_load = post_load};

static void chip_free(struct device *device)
{
	g_free(device);
}

static const struct device_class class = {
	.name = "ioapic", .reset = reset, .free = chip_free, .state = &state};

struct ioapic *ioapic_new(struct vm *vm)
{
	struct ioapic *chip = g_new0(struct ioapic, 1);
	device_add(vm, &chip->device, &class, NULL);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		chip->inputs[i] = (struct irq_line){.set = set_input, .opaque = chip, .number = i};
	window_init(&chip->window, WINDOW_MMIO, &window_ops, chip, 0x1000);
	map_window(chip);
	reset(&chip->device);
	return chip;
}
