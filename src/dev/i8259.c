// SPDX-License-Identifier: GPL-2.0-or-later
/* 8259A programmable interrupt controllers, master and slave as a PC wires them (Intel 231468). */
#include "dev/i8259.h"

#include "base/error.h"
#include "vm/chips.h"

enum { PIC_INPUTS = 8, PIC_CASCADE = 2 };

struct pic {
	uint8_t irr, imr, isr;
	uint8_t lines;     /* levels of the inputs */
	uint8_t lowest;    /* input of lowest priority, 7 after reset */
	uint8_t base;      /* vector of input 0 */
	uint8_t elcr;      /* inputs that are level-triggered */
	uint8_t init_step; /* next ICW expected: 2, 3, 4, or 0 when initialised */
	bool wants_icw3, wants_icw4, auto_eoi, rotate_auto, special_mask, read_isr, poll,
		special_nested;
};

struct i8259 {
	struct device device;
	struct pic pic[2];
	struct irq_line inputs[16];
	struct irq_line *output;
	struct window command[2], level;
	bool in_kernel;
};

/* The unmasked request to serve next, or -1. */
static int pending_input(const struct pic *pic, bool is_master)
{
	unsigned requests = pic->irr & ~pic->imr;
	unsigned blocking = pic->isr;
	if (pic->special_mask)
		blocking &= ~pic->imr;
	/* In special fully nested mode the slave's input may interrupt itself. */
	if (pic->special_nested && is_master)
		blocking &= ~(1u << PIC_CASCADE);
	for (unsigned priority = 0; priority < PIC_INPUTS; priority++) {
		unsigned input = (pic->lowest + 1 + priority) & 7;
		if (blocking & (1u << input))
			return -1;
		if (requests & (1u << input))
			return (int)input;
	}
	return -1;
}

static void pic_input(struct pic *pic, unsigned input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);
	if (pic->elcr & bit)
		pic->irr = level ? pic->irr | bit : pic->irr & (uint8_t)~bit;
	else if (level && !(pic->lines & bit))
		pic->irr |= bit; /* stays until it is acknowledged */
	pic->lines = level ? pic->lines | bit : pic->lines & (uint8_t)~bit;
}

static void update(struct i8259 *chip)
{
	bool slave = pending_input(&chip->pic[1], false) >= 0;
	pic_input(&chip->pic[0], PIC_CASCADE, slave);
	if (!slave)
		chip->pic[0].irr &= (uint8_t) ~(1u << PIC_CASCADE);
	irq_set(chip->output, pending_input(&chip->pic[0], true) >= 0);
}

static void set_input(void *opaque, unsigned irq, bool level)
{
	struct i8259 *chip = opaque;
	pic_input(&chip->pic[irq / 8], irq % 8, level);
	update(chip);
}

struct irq_line *i8259_input(struct i8259 *chip, unsigned irq)
{
	g_assert(irq < 16 && irq != PIC_CASCADE);
	return &chip->inputs[irq];
}

bool i8259_pending(struct i8259 *chip)
{
	return pending_input(&chip->pic[0], true) >= 0;
}

/* Takes the request into service; the vector. */
static uint8_t acknowledge(struct pic *pic, int input)
{
	if (input < 0)
		return pic->base + 7; /* spurious */
	uint8_t bit = (uint8_t)(1u << input);
	if (!(pic->elcr & bit))
		pic->irr &= (uint8_t)~bit;
	if (!pic->auto_eoi)
		pic->isr |= bit;
	else if (pic->rotate_auto)
		pic->lowest = (uint8_t)input;
	return (uint8_t)(pic->base + input);
}

uint8_t i8259_acknowledge(struct i8259 *chip)
{
	int input = pending_input(&chip->pic[0], true);
	uint8_t vector = acknowledge(&chip->pic[0], input);
	if (input == PIC_CASCADE) {
		vector = acknowledge(&chip->pic[1], pending_input(&chip->pic[1], false));
		/* The slave's INT falls during the cycle: what it still wants is a new edge. */
		pic_input(&chip->pic[0], PIC_CASCADE, false);
	}
	update(chip);
	return vector;
}

static void start_initialisation(struct pic *pic, uint8_t icw1)
{
	pic->imr = pic->isr = pic->irr = 0;
	pic->irr |= pic->lines & pic->elcr;
	pic->lowest = 7;
	pic->init_step = 2;
	pic->wants_icw3 = !(icw1 & 2);
	pic->wants_icw4 = icw1 & 1;
	pic->auto_eoi = pic->rotate_auto = pic->special_mask = false;
	pic->read_isr = pic->poll = pic->special_nested = false;
}

static void end_of_interrupt(struct pic *pic, uint8_t ocw2)
{
	unsigned command = ocw2 >> 5;
	int input = -1;
	if (command & 2) { /* specific */
		input = ocw2 & 7;
	} else {
		for (unsigned p = 0; p < PIC_INPUTS && input < 0; p++) {
			unsigned candidate = (pic->lowest + 1 + p) & 7;
			/* In special mask mode the masked ones stay in service. */
			unsigned isr = pic->special_mask ? pic->isr & ~pic->imr : pic->isr;
			if (isr & (1u << candidate))
				input = (int)candidate;
		}
	}
	if ((command & 1) && input >= 0)
		pic->isr &= (uint8_t) ~(1u << input);
	if ((command & 4) && command != 4 && input >= 0)
		pic->lowest = (uint8_t)input;
	if (command == 4 || command == 0)
		pic->rotate_auto = command == 4;
}

static void write_command(struct pic *pic, uint8_t value)
{
	if (value & 0x10) {
		start_initialisation(pic, value);
	} else if (value & 0x08) {
		pic->poll = value & 4;
		if (value & 2)
			pic->read_isr = value & 1;
		if (value & 0x40)
			pic->special_mask = value & 0x20;
	} else {
		end_of_interrupt(pic, value);
	}
}

static void write_data(struct pic *pic, uint8_t value)
{
	switch (pic->init_step) {
	case 0:
		pic->imr = value;
		break;
	case 2:
		pic->base = value & 0xf8;
		pic->init_step = pic->wants_icw3 ? 3 : pic->wants_icw4 ? 4 : 0;
		break;
	case 3:
		pic->init_step = pic->wants_icw4 ? 4 : 0;
		break;
	default:
		pic->auto_eoi = value & 2;
		pic->special_nested = value & 0x10;
		pic->init_step = 0;
	}
}

static void port_write(struct i8259 *chip, unsigned which, uint64_t offset, uint8_t value)
{
	if (offset == 0)
		write_command(&chip->pic[which], value);
	else
		write_data(&chip->pic[which], value);
	update(chip);
}

static uint8_t port_read(struct i8259 *chip, unsigned which, uint64_t offset)
{
	struct pic *pic = &chip->pic[which];
	if (pic->poll) {
		pic->poll = false;
		int input = pending_input(pic, which == 0);
		if (input < 0)
			return 0;
		acknowledge(pic, input);
		update(chip);
		return (uint8_t)(0x80 | input);
	}
	return offset == 1 ? pic->imr : pic->read_isr ? pic->isr : pic->irr;
}

static uint64_t master_read(void *device, uint64_t offset, unsigned size)
{
	return port_read(device, 0, offset);
}

static void master_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	port_write(device, 0, offset, (uint8_t)value);
}

static uint64_t slave_read(void *device, uint64_t offset, unsigned size)
{
	return port_read(device, 1, offset);
}

static void slave_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	port_write(device, 1, offset, (uint8_t)value);
}

static uint64_t elcr_read(void *device, uint64_t offset, unsigned size)
{
	const struct i8259 *chip = device;
	return chip->pic[offset].elcr;
}

static void elcr_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8259 *chip = device;
	/* Timer, keyboard, cascade, RTC and FPU are always edge-triggered. */
	chip->pic[offset].elcr = (uint8_t)value & (offset ? 0xde : 0xf8);
}

static const struct window_ops command_ops[2] = {
	{.read = master_read, .write = master_write, .max_size = 1},
	{.read = slave_read, .write = slave_write, .max_size = 1},
};
static const struct window_ops elcr_ops = {.read = elcr_read, .write = elcr_write, .max_size = 1};

static void from_kernel(struct pic *pic, const struct pic_regs *regs)
{
	pic->irr = regs->irr;
	pic->imr = regs->imr;
	pic->isr = regs->isr;
	pic->lines = regs->last_irr;
	pic->lowest = (uint8_t)((regs->priority_add - 1) & 7);
	pic->base = regs->irq_base;
	pic->elcr = regs->elcr;
	pic->init_step = regs->init_state ? (uint8_t)(regs->init_state + 1) : 0;
	pic->wants_icw3 = true;
	pic->wants_icw4 = regs->init4;
	pic->auto_eoi = regs->auto_eoi;
	pic->rotate_auto = regs->rotate_on_auto_eoi;
	pic->special_mask = regs->special_mask;
	pic->read_isr = regs->read_isr;
	pic->poll = regs->poll;
	pic->special_nested = regs->special_fully_nested;
}

static void to_kernel(const struct pic *pic, struct pic_regs *regs)
{
	*regs = (struct pic_regs){
		.irr = pic->irr,
		.imr = pic->imr,
		.isr = pic->isr,
		.last_irr = pic->lines,
		.priority_add = (uint8_t)((pic->lowest + 1) & 7),
		.irq_base = pic->base,
		.elcr = pic->elcr,
		.init_state = pic->init_step ? (uint8_t)(pic->init_step - 1) : 0,
		.init4 = pic->wants_icw4,
		.auto_eoi = pic->auto_eoi,
		.rotate_on_auto_eoi = pic->rotate_auto,
		.special_mask = pic->special_mask,
		.read_isr = pic->read_isr,
		.poll = pic->poll,
		.special_fully_nested = pic->special_nested,
	};
}

static bool push_to_kernel(struct i8259 *chip, GError **error)
{
	struct vm *vm = chip->device.vm;
	for (unsigned i = 0; i < 2; i++) {
		struct pic_regs regs;
		to_kernel(&chip->pic[i], &regs);
		/* The kernel's PIT gives pulses: to it the line is low. */
		if (i == 0)
			regs.last_irr &= 0xfe;
		if (!vm->accel->irq->set_chip(vm, CHIP_PIC_MASTER + i, 0, &regs, error))
			return false;
	}
	return true;
}

static void reset(struct device *device)
{
	struct i8259 *chip = (struct i8259 *)device;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t lines = chip->pic[i].lines;
		chip->pic[i] = (struct pic){.lowest = 7, .imr = 0xff, .lines = lines};
	}
	if (chip->in_kernel)
		push_to_kernel(chip, NULL);
	else
		update(chip);
}

static void pre_save(void *object)
{
	struct i8259 *chip = object;
	for (unsigned i = 0; i < 2 && chip->in_kernel; i++) {
		struct pic_regs regs;
		if (chip->device.vm->accel->irq->get_chip(chip->device.vm, CHIP_PIC_MASTER + i, 0,
							  &regs, NULL))
			from_kernel(&chip->pic[i], &regs);
	}
}

static void map_windows(struct i8259 *chip)
{
	static const uint16_t ports[2] = {0x20, 0xa0};
	chip->in_kernel = chip->device.vm->accel_caps & ACCEL_IRQCHIP;
	for (unsigned i = 0; i < 2; i++) {
		if (chip->in_kernel) {
			window_unmap(chip->device.vm, &chip->command[i]);
		} else {
			window_map(chip->device.vm, &chip->command[i], ports[i]);
		}
	}
	if (chip->in_kernel)
		window_unmap(chip->device.vm, &chip->level);
	else
		window_map(chip->device.vm, &chip->level, 0x4d0);
}

static bool post_load(void *object, GError **error)
{
	struct i8259 *chip = object;
	for (unsigned i = 0; i < 2; i++) {
		struct pic *pic = &chip->pic[i];
		if (pic->lowest > 7 || pic->init_step > 4 || pic->init_step == 1)
			return error_set(error, LODGE_ERROR_CORRUPT, "impossible 8259 state");
	}
	map_windows(chip);
	if (chip->in_kernel && !push_to_kernel(chip, error))
		return false;
	for (unsigned i = 0; i < 16; i++)
		chip->inputs[i].level = chip->pic[i / 8].lines >> (i % 8) & 1;
	if (!chip->in_kernel)
		update(chip);
	return true;
}

static const struct state_field pic_fields[] = {
	STATE_SCALAR(struct pic, irr),          STATE_SCALAR(struct pic, imr),
	STATE_SCALAR(struct pic, isr),          STATE_SCALAR(struct pic, lines),
	STATE_SCALAR(struct pic, lowest),       STATE_SCALAR(struct pic, base),
	STATE_SCALAR(struct pic, elcr),         STATE_SCALAR(struct pic, init_step),
	STATE_SCALAR(struct pic, wants_icw3),   STATE_SCALAR(struct pic, wants_icw4),
	STATE_SCALAR(struct pic, auto_eoi),     STATE_SCALAR(struct pic, rotate_auto),
	STATE_SCALAR(struct pic, special_mask), STATE_SCALAR(struct pic, read_isr),
	STATE_SCALAR(struct pic, poll),         STATE_SCALAR(struct pic, special_nested),
};
static const struct state_table pic_state = {.version = 1,
					     .min_version = 1,
					     .fields = pic_fields,
					     .field_count = G_N_ELEMENTS(pic_fields)};
static const struct state_field fields[] = {STATE_SUBS(struct i8259, pic, &pic_state)};
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
	.name = "i8259", .reset = reset, .free = chip_free, .state = &state};

struct i8259 *i8259_new(struct vm *vm, struct irq_line *output)
{
	struct i8259 *chip = g_new0(struct i8259, 1);
	device_add(vm, &chip->device, &class, NULL);
	chip->output = output;
	for (unsigned i = 0; i < 16; i++)
		chip->inputs[i] = (struct irq_line){.set = set_input, .opaque = chip, .number = i};
	for (unsigned i = 0; i < 2; i++)
		window_init(&chip->command[i], WINDOW_PORT, &command_ops[i], chip, 2);
	window_init(&chip->level, WINDOW_PORT, &elcr_ops, chip, 2);
	map_windows(chip);
	reset(&chip->device);
	return chip;
}
