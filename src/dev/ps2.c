// SPDX-License-Identifier: GPL-2.0-or-later
/* PS/2 keyboard and mouse (IBM PS/2 Hardware Interface Technical Reference). */
#include "dev/ps2.h"

#include <string.h>

#include "base/error.h"

enum { ACK = 0xfa, SELF_TEST_OK = 0xaa, RESEND = 0xfe };

/* Set 2 code of each set 1 code: the keyboard's table, and backwards the controller's translation.
 */
static const uint8_t set2_of[0x59] = {
	0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66,
	0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14,
	0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a,
	0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05,
	0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b,
	0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07,
};

/* --- Queues --- */

static void push(struct ps2_queue *queue, uint8_t byte)
{
	if (queue->count < PS2_QUEUE)
		queue->bytes[queue->count++] = byte;
}

/* Pushes all of them or none, and leaves room for replies to commands. */
static void push_event(struct ps2_queue *queue, const uint8_t *bytes, unsigned count)
{
	enum { ROOM_FOR_REPLIES = 8 };
	if (queue->count + count > PS2_QUEUE - ROOM_FOR_REPLIES)
		return;
	for (unsigned i = 0; i < count; i++)
		push(queue, bytes[i]);
}

bool ps2_queue_pop(struct ps2_queue *queue, uint8_t *byte)
{
	if (!queue->count)
		return false;
	*byte = queue->last = queue->bytes[0];
	memmove(queue->bytes, queue->bytes + 1, --queue->count);
	return true;
}

uint8_t ps2_translate(uint8_t set2)
{
	for (unsigned i = 1; i < G_N_ELEMENTS(set2_of); i++) {
		if (set2_of[i] == set2)
			return (uint8_t)i;
	}
	return set2;
}

/* --- Keyboard --- */

static void keyboard_defaults(struct ps2_keyboard *k)
{
	k->set = 2;
	k->rate = 0x2b;
	k->leds = k->command = 0;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	memset(k, 0, sizeof(*k));
	keyboard_defaults(k);
	k->scanning = true;
}

void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down)
{
	uint8_t bytes[3];
	unsigned count = 0, code = key & 0xff;
	if (!k->scanning || code == 0 || code >= G_N_ELEMENTS(set2_of))
		return;
	if (key & 0x100)
		bytes[count++] = 0xe0;
	if (k->set == 1) {
		bytes[count++] = (uint8_t)(code | (down ? 0 : 0x80));
	} else {
		if (!down)
			bytes[count++] = 0xf0;
		bytes[count++] = set2_of[code];
	}
	push_event(&k->queue, bytes, count);
}

static void keyboard_argument(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->command;
	k->command = 0;
	push(&k->queue, ACK);
	if (command == 0xed)
		k->leds = byte & 7;
	else if (command == 0xf3)
		k->rate = byte & 0x7f;
	else if (byte == 0)
		push(&k->queue, k->set);
	else if (byte <= 2)
		k->set = byte;
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
	if (k->command && byte < 0xed) {
		keyboard_argument(k, byte);
		return;
	}
	k->command = 0;
	switch (byte) {
	case 0xed: /* indicators */
	case 0xf0: /* scan code set */
	case 0xf3: /* repeat rate */
		k->command = byte;
		push(&k->queue, ACK);
		break;
	case 0xee: /* echo */
		push(&k->queue, 0xee);
		break;
	case 0xf2: /* identify */
		push(&k->queue, ACK);
		push(&k->queue, 0xab);
		push(&k->queue, 0x83);
		break;
	case 0xf4:
	case 0xf5:
	case 0xf6:
		if (byte != 0xf4)
			keyboard_defaults(k);
		k->queue.count = 0;
		k->scanning = byte != 0xf5;
		push(&k->queue, ACK);
		break;
	case RESEND:
		push(&k->queue, k->queue.last);
		break;
	case 0xff:
		ps2_keyboard_reset(k);
		push(&k->queue, ACK);
		push(&k->queue, SELF_TEST_OK);
		break;
	default:
		/* Key type settings of set 3 (f7-fd) are acknowledged, the rest is no command. */
		push(&k->queue, byte >= 0xf7 ? ACK : RESEND);
	}
}

/* --- Mouse --- */

static void mouse_defaults(struct ps2_mouse *m)
{
	m->rate = 100;
	m->resolution = 2;
	m->reporting = m->remote = m->wrap = m->scaling = false;
	m->command = m->knock = 0;
	m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	memset(m, 0, sizeof(*m));
	mouse_defaults(m);
}

static int64_t take(int64_t *from, int64_t limit)
{
	int64_t part = CLAMP(*from, -limit, limit);
	*from -= part;
	return part;
}

static void mouse_packet(struct ps2_mouse *m)
{
	int64_t dx = take(&m->dx, 255), dy = -take(&m->dy, 255), dz = 0;
	uint8_t bytes[4] = {
		(uint8_t)(8 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)),
		(uint8_t)dx, (uint8_t)dy};
	if (m->id)
		dz = take(&m->dz, 7);
	else
		m->dz = 0;
	bytes[3] = m->id == 4 ? (uint8_t)((dz & 15) | (m->buttons & 0x18) << 1) : (uint8_t)dz;
	push_event(&m->queue, bytes, m->id ? 4 : 3);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, uint8_t buttons)
{
	enum { FARTHEST = 1 << 14 };
	m->buttons = buttons & 0x1f;
	if (!m->reporting || m->wrap)
		return;
	m->dx = CLAMP(m->dx + dx, -FARTHEST, FARTHEST);
	m->dy = CLAMP(m->dy + dy, -FARTHEST, FARTHEST);
	m->dz = CLAMP(m->dz + dz, -FARTHEST, FARTHEST);
	if (m->remote)
		return;
	unsigned packets = 0;
	do
		mouse_packet(m);
	while ((m->dx || m->dy || m->dz) && ++packets < 8);
}

/* Rates 200, 100, 80 ask for the wheel, 200, 200, 80 after that for five buttons. */
static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
	m->rate = rate;
	if (rate == 200)
		m->knock = m->knock == 1 ? 3 : 1;
	else if (rate == 100 && m->knock == 1)
		m->knock = 2;
	else if (rate == 80 && m->knock == 2)
		m->id = 3, m->knock = 0;
	else if (rate == 80 && m->knock == 3)
		m->id = m->id == 3 ? 4 : m->id, m->knock = 0;
	else
		m->knock = 0;
}

static void mouse_status(struct ps2_mouse *m)
{
	push(&m->queue, (uint8_t)((m->buttons & 1 ? 4 : 0) | (m->buttons & 4 ? 2 : 0) |
				  (m->buttons & 2 ? 1 : 0) | (m->scaling ? 0x10 : 0) |
				  (m->reporting ? 0x20 : 0) | (m->remote ? 0x40 : 0)));
	push(&m->queue, m->resolution);
	push(&m->queue, m->rate);
}

static void mouse_command(struct ps2_mouse *m, uint8_t byte)
{
	push(&m->queue, ACK);
	switch (byte) {
	case 0xe6:
	case 0xe7:
		m->scaling = byte == 0xe7;
		break;
	case 0xe8:
	case 0xf3:
		m->command = byte;
		break;
	case 0xe9:
		mouse_status(m);
		break;
	case 0xea:
	case 0xf0:
		m->remote = byte == 0xf0;
		break;
	case 0xeb:
		mouse_packet(m);
		break;
	case 0xec:
		m->wrap = false;
		break;
	case 0xee:
		m->wrap = true;
		break;
	case 0xf2:
		push(&m->queue, m->id);
		break;
	case 0xf4:
	case 0xf5:
		m->reporting = byte == 0xf4;
		break;
	case 0xf6:
		mouse_defaults(m);
		break;
	case 0xff:
		ps2_mouse_reset(m);
		push(&m->queue, ACK);
		push(&m->queue, SELF_TEST_OK);
		push(&m->queue, 0);
		break;
	default:
		m->queue.bytes[m->queue.count - 1] = RESEND;
	}
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
	if (m->wrap && byte != 0xec && byte != 0xff) {
		push(&m->queue, byte);
	} else if (m->command) {
		if (m->command == 0xe8)
			m->resolution = byte & 3;
		else
			set_rate(m, byte);
		m->command = 0;
		push(&m->queue, ACK);
	} else if (byte == RESEND) {
		push(&m->queue, m->queue.last);
	} else {
		if (m->queue.count >= PS2_QUEUE - 4)
			m->queue.count = 0; /* a guest that writes and never reads */
		mouse_command(m, byte);
	}
}

/* --- Saved state --- */

static bool queue_post_load(void *object, GError **error)
{
	const struct ps2_queue *queue = object;
	return queue->count <= PS2_QUEUE ||
	       error_set(error, LODGE_ERROR_CORRUPT, "impossible PS/2 queue");
}

static const struct state_field queue_fields[] = {
	STATE_BLOB(struct ps2_queue, bytes),
	STATE_SCALAR(struct ps2_queue, count),
	STATE_SCALAR(struct ps2_queue, last),
};
static const struct state_table queue_state = {.version = 1,
					       .min_version = 1,
					       .fields = queue_fields,
					       .field_count = G_N_ELEMENTS(queue_fields),
					       .post_load = queue_post_load};

static bool keyboard_post_load(void *object, GError **error)
{
	const struct ps2_keyboard *k = object;
	return k->set == 1 || k->set == 2 ||
	       error_set(error, LODGE_ERROR_CORRUPT, "impossible keyboard state");
}

static const struct state_field keyboard_fields[] = {
	STATE_SUB(struct ps2_keyboard, queue, &queue_state),
	STATE_SCALAR(struct ps2_keyboard, set),
	STATE_SCALAR(struct ps2_keyboard, command),
	STATE_SCALAR(struct ps2_keyboard, leds),
	STATE_SCALAR(struct ps2_keyboard, rate),
	STATE_SCALAR(struct ps2_keyboard, scanning),
};
const struct state_table ps2_keyboard_state = {.version = 1,
					       .min_version = 1,
					       .fields = keyboard_fields,
					       .field_count = G_N_ELEMENTS(keyboard_fields),
					       .post_load = keyboard_post_load};

static bool mouse_post_load(void *object, GError **error)
{
	struct ps2_mouse *m = object;
	if (m->id == 0 || m->id == 3 || m->id == 4)
		return true;
	return error_set(error, LODGE_ERROR_CORRUPT, "impossible mouse state");
}

static const struct state_field mouse_fields[] = {
	STATE_SUB(struct ps2_mouse, queue, &queue_state),
	STATE_SCALAR(struct ps2_mouse, command),
	STATE_SCALAR(struct ps2_mouse, rate),
	STATE_SCALAR(struct ps2_mouse, resolution),
	STATE_SCALAR(struct ps2_mouse, id),
	STATE_SCALAR(struct ps2_mouse, buttons),
	STATE_SCALAR(struct ps2_mouse, knock),
	STATE_SCALAR(struct ps2_mouse, reporting),
	STATE_SCALAR(struct ps2_mouse, remote),
	STATE_SCALAR(struct ps2_mouse, wrap),
	STATE_SCALAR(struct ps2_mouse, scaling),
	STATE_SCALAR(struct ps2_mouse, dx),
	STATE_SCALAR(struct ps2_mouse, dy),
	STATE_SCALAR(struct ps2_mouse, dz),
};
const struct state_table ps2_mouse_state = {.version = 1,
					    .min_version = 1,
					    .fields = mouse_fields,
					    .field_count = G_N_ELEMENTS(mouse_fields),
					    .post_load = mouse_post_load};
