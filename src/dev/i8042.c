// SPDX-License-Identifier: GPL-2.0-or-later
/* 8042 keyboard controller. Its output buffer holds one byte from one of three sources: replies of
 * its own, the keyboard, the mouse; the next one moves in when it has been read. */
#include "dev/i8042.h"

#include <string.h>

#include "base/error.h"
#include "dev/ps2.h"

enum {
	STATUS_OUTPUT = 1,
	STATUS_SYSTEM = 4,
	STATUS_COMMAND = 8,
	STATUS_UNLOCKED = 0x10,
	STATUS_AUX = 0x20
};
enum {
	MODE_KEYBOARD_IRQ = 1,
	MODE_AUX_IRQ = 2,
	MODE_SYSTEM = 4,
	MODE_KEYBOARD_OFF = 0x10,
	MODE_AUX_OFF = 0x20,
	MODE_TRANSLATE = 0x40
};
enum { OUT_NO_RESET = 1, OUT_A20 = 2 };
enum { RAM_BYTES = 32, REPLIES = 8 };

struct i8042 {
	struct device device;
	uint8_t ram[RAM_BYTES]; /* byte 0: the mode */
	uint8_t command;        /* one that waits for its argument, or 0 */
	uint8_t output, status; /* the output buffer; status has its two bits */
	uint8_t replies[REPLIES];
	uint8_t reply_count;
	bool aux_reply[REPLIES]; /* shown as if the mouse had sent it */
	bool break_pending;      /* translation saw F0 */
	bool a20;
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
	struct irq_line *irq1, *irq12;
	struct window data, control, port_a;
};

static void fill(struct i8042 *chip, uint8_t byte, bool aux)
{
	uint8_t mode = chip->ram[0];
	chip->output = byte;
	chip->status = STATUS_OUTPUT | (aux ? STATUS_AUX : 0);
	irq_set(aux ? chip->irq12 : chip->irq1, mode & (aux ? MODE_AUX_IRQ : MODE_KEYBOARD_IRQ));
}

/* The next byte of the keyboard, translated: the prefix F0 becomes the high bit of what follows. */
static bool next_key(struct i8042 *chip, uint8_t *byte)
{
	while (ps2_queue_pop(&chip->keyboard.queue, byte)) {
		if (!(chip->ram[0] & MODE_TRANSLATE))
			return true;
		if (*byte == 0xf0) {
			chip->break_pending = true;
			continue;
		}
		*byte = (uint8_t)(ps2_translate(*byte) | (chip->break_pending ? 0x80 : 0));
		chip->break_pending = false;
		return true;
	}
	return false;
}

static void refill(struct i8042 *chip)
{
	uint8_t byte;
	if (chip->status & STATUS_OUTPUT)
		return;
	if (chip->reply_count) {
		bool aux = chip->aux_reply[0];
		byte = chip->replies[0];
		chip->reply_count--;
		memmove(chip->replies, chip->replies + 1, chip->reply_count);
		memmove(chip->aux_reply, chip->aux_reply + 1, chip->reply_count * sizeof(bool));
		fill(chip, byte, aux);
	} else if (!(chip->ram[0] & MODE_KEYBOARD_OFF) && next_key(chip, &byte)) {
		fill(chip, byte, false);
	} else if (!(chip->ram[0] & MODE_AUX_OFF) && ps2_queue_pop(&chip->mouse.queue, &byte)) {
		fill(chip, byte, true);
	}
}

static void reply(struct i8042 *chip, uint8_t byte, bool aux)
{
	if (chip->reply_count == REPLIES)
		return;
	chip->aux_reply[chip->reply_count] = aux;
	chip->replies[chip->reply_count++] = byte;
}

static void write_output_port(struct i8042 *chip, uint8_t value)
{
	chip->a20 = value & OUT_A20;
	if (!(value & OUT_NO_RESET))
		vm_request_reset(chip->device.vm, "guest-reset");
}

static void write_mode(struct i8042 *chip, uint8_t mode)
{
	chip->ram[0] = mode;
	if (!(chip->status & STATUS_OUTPUT))
		return;
	bool aux = chip->status & STATUS_AUX;
	irq_set(aux ? chip->irq12 : chip->irq1, mode & (aux ? MODE_AUX_IRQ : MODE_KEYBOARD_IRQ));
}

static void argument(struct i8042 *chip, uint8_t command, uint8_t value)
{
	switch (command) {
	case 0xd1:
		write_output_port(chip, value);
		break;
	case 0xd2:
	case 0xd3:
		reply(chip, value, command == 0xd3);
		break;
	case 0xd4:
		chip->ram[0] &= (uint8_t)~MODE_AUX_OFF;
		ps2_mouse_write(&chip->mouse, value);
		break;
	default:
		if ((command & 0x1f) == 0)
			write_mode(chip, value);
		else
			chip->ram[command & 0x1f] = value;
	}
}

static void execute(struct i8042 *chip, uint8_t command)
{
	switch (command) {
	case 0xa7:
		chip->ram[0] |= MODE_AUX_OFF;
		break;
	case 0xa8:
		chip->ram[0] &= (uint8_t)~MODE_AUX_OFF;
		break;
	case 0xa9: /* both interface tests find no fault */
	case 0xab:
		reply(chip, 0, false);
		break;
	case 0xaa:
		chip->ram[0] |= MODE_SYSTEM;
		reply(chip, 0x55, false);
		break;
	case 0xad:
		chip->ram[0] |= MODE_KEYBOARD_OFF;
		break;
	case 0xae:
		chip->ram[0] &= (uint8_t)~MODE_KEYBOARD_OFF;
		break;
	case 0xc0: /* input port: not locked */
		reply(chip, 0x80, false);
		break;
	case 0xd0:
		reply(chip,
		      (uint8_t)(OUT_NO_RESET | (chip->a20 ? OUT_A20 : 0) |
				(chip->status & STATUS_OUTPUT ? 0x10 : 0)),
		      false);
		break;
	case 0xd1:
	case 0xd2:
	case 0xd3:
	case 0xd4:
		chip->command = command;
		break;
	case 0xdd:
	case 0xdf:
		chip->a20 = command == 0xdf;
		break;
	default:
		if (command >= 0x20 && command < 0x40)
			reply(chip, chip->ram[command & 0x1f], false);
		else if (command >= 0x60 && command < 0x80)
			chip->command = command;
		else if (command >= 0xf0 && !(command & 1)) /* pulses the reset wire */
			vm_request_reset(chip->device.vm, "guest-reset");
	}
}

static uint64_t data_read(void *device, uint64_t offset, unsigned size)
{
	struct i8042 *chip = device;
	irq_set(chip->irq1, false);
	irq_set(chip->irq12, false);
	chip->status &= (uint8_t) ~(STATUS_OUTPUT | STATUS_AUX);
	uint8_t value = chip->output;
	refill(chip);
	return value;
}

static void data_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8042 *chip = device;
	uint8_t command = chip->command;
	chip->command = 0;
	if (command) {
		argument(chip, command, (uint8_t)value);
	} else {
		chip->ram[0] &= (uint8_t)~MODE_KEYBOARD_OFF;
		ps2_keyboard_write(&chip->keyboard, (uint8_t)value);
	}
	refill(chip);
}

static uint64_t control_read(void *device, uint64_t offset, unsigned size)
{
	const struct i8042 *chip = device;
	return chip->status | STATUS_UNLOCKED | (chip->ram[0] & MODE_SYSTEM ? STATUS_SYSTEM : 0) |
	       (chip->command ? STATUS_COMMAND : 0);
}

static void control_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8042 *chip = device;
	chip->command = 0;
	execute(chip, (uint8_t)value);
	refill(chip);
}

/* System control port A: bit 0 resets when it rises, bit 1 is the A20 gate. */
static uint64_t port_a_read(void *device, uint64_t offset, unsigned size)
{
	const struct i8042 *chip = device;
	return chip->a20 ? OUT_A20 : 0;
}

static void port_a_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8042 *chip = device;
	chip->a20 = value & OUT_A20;
	if (value & 1)
		vm_request_reset(chip->device.vm, "guest-reset");
}

static const struct window_ops data_ops = {.read = data_read, .write = data_write, .max_size = 1};
static const struct window_ops control_ops = {
	.read = control_read, .write = control_write, .max_size = 1};
static const struct window_ops port_a_ops = {
	.read = port_a_read, .write = port_a_write, .max_size = 1};

void i8042_key(struct i8042 *chip, unsigned key, bool down)
{
	ps2_keyboard_key(&chip->keyboard, key, down);
	refill(chip);
}

void i8042_pointer(struct i8042 *chip, int dx, int dy, int dz, uint8_t buttons)
{
	ps2_mouse_move(&chip->mouse, dx, dy, dz, buttons);
	refill(chip);
}

/* As a firmware leaves it: translating, both interfaces on, interrupts off. */
static void reset(struct device *device)
{
	struct i8042 *chip = (struct i8042 *)device;
	memset(chip->ram, 0, sizeof(chip->ram));
	chip->ram[0] = MODE_SYSTEM | MODE_TRANSLATE;
	chip->command = chip->output = chip->status = chip->reply_count = 0;
	memset(chip->replies, 0, sizeof(chip->replies));
	memset(chip->aux_reply, 0, sizeof(chip->aux_reply));
	chip->break_pending = false;
	chip->a20 = true;
	ps2_keyboard_reset(&chip->keyboard);
	ps2_mouse_reset(&chip->mouse);
	irq_set(chip->irq1, false);
	irq_set(chip->irq12, false);
}

static bool post_load(void *object, GError **error)
{
	struct i8042 *chip = object;
	if (chip->reply_count > REPLIES || chip->status & ~(STATUS_OUTPUT | STATUS_AUX))
		return error_set(error, LODGE_ERROR_CORRUPT, "impossible keyboard controller");
	chip->irq1->level = chip->irq12->level = false;
	write_mode(chip, chip->ram[0]);
	return true;
}

static const struct state_field fields[] = {
	STATE_BLOB(struct i8042, ram),
	STATE_SCALAR(struct i8042, command),
	STATE_SCALAR(struct i8042, output),
	STATE_SCALAR(struct i8042, status),
	STATE_BLOB(struct i8042, replies),
	STATE_SCALAR(struct i8042, reply_count),
	STATE_ARRAY(struct i8042, aux_reply),
	STATE_SCALAR(struct i8042, break_pending),
	STATE_SCALAR(struct i8042, a20),
	STATE_SUB(struct i8042, keyboard, &ps2_keyboard_state),
	STATE_SUB(struct i8042, mouse, &ps2_mouse_state),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .post_load = post_load};

static void chip_free(struct device *device)
{
	struct i8042 *chip = (struct i8042 *)device;
	window_unmap(device->vm, &chip->data);
	window_unmap(device->vm, &chip->control);
	window_unmap(device->vm, &chip->port_a);
	g_free(chip);
}

static const struct device_class class = {
	.name = "i8042", .reset = reset, .free = chip_free, .state = &state};

struct i8042 *i8042_new(struct vm *vm, struct irq_line *irq1, struct irq_line *irq12)
{
	struct i8042 *chip = g_new0(struct i8042, 1);
	device_add(vm, &chip->device, &class, NULL);
	chip->irq1 = irq1;
	chip->irq12 = irq12;
	window_init(&chip->data, WINDOW_PORT, &data_ops, chip, 1);
	window_init(&chip->control, WINDOW_PORT, &control_ops, chip, 1);
	window_init(&chip->port_a, WINDOW_PORT, &port_a_ops, chip, 1);
	window_map(vm, &chip->data, 0x60);
	window_map(vm, &chip->control, 0x64);
	window_map(vm, &chip->port_a, 0x92);
	reset(&chip->device);
	return chip;
}
