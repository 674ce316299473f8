/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vm/state.h"

/*
 * A PS/2 keyboard (scan code sets 1 and 2) and a PS/2 mouse with wheel and five buttons. Each is a
 * queue of bytes towards the controller; when it is full, key strokes and movements are dropped
 * whole. Source: IBM PS/2 Hardware Interface Technical Reference (keyboard, mouse); Microsoft's
 * IntelliMouse extension.
 */

enum { PS2_QUEUE = 64 };

struct ps2_queue {
	uint8_t bytes[PS2_QUEUE];
	uint8_t count;
	uint8_t last; /* for the resend command */
};

struct ps2_keyboard {
	struct ps2_queue queue;
	uint8_t set;     /* 1 or 2 */
	uint8_t command; /* one that waits for its argument, or 0 */
	uint8_t leds, rate;
	bool scanning;
};

struct ps2_mouse {
	struct ps2_queue queue;
	uint8_t command, rate, resolution, id, buttons;
	uint8_t knock; /* how much of the sequence of rates that asks for a wheel has come */
	bool reporting, remote, wrap, scaling;
	int64_t dx, dy, dz; /* moved, not yet reported */
};

void ps2_keyboard_reset(struct ps2_keyboard *keyboard);
void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte);
/* @key: its set 1 code (0x01-0x58), plus 0x100 for keys with the E0 prefix. */
void ps2_keyboard_key(struct ps2_keyboard *keyboard, unsigned key, bool down);
void ps2_mouse_reset(struct ps2_mouse *mouse);
void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);
/* Right, down and towards the user are positive; @buttons: bit 0 left, 1 right, 2 middle, 3, 4. */
void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, uint8_t buttons);

bool ps2_queue_pop(struct ps2_queue *queue, uint8_t *byte);
/* What the controller makes of a set 2 byte when it translates; break prefixes are its own matter.
 */
uint8_t ps2_translate(uint8_t set2);

extern const struct state_table ps2_keyboard_state, ps2_mouse_state;
