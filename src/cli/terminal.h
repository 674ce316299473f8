/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

/*
 * The serial port on standard input and output: raw mode while the guest runs, bytes both ways, and
 * the escape character. Where they are no terminal they are plain pipes.
 */

enum { TERMINAL_ESCAPE = 0x1d }; /* ^] */

struct terminal {
	int guest;  /* our end of the stream to the serial port, -1: none or ended */
	bool input; /* standard input may still give something */
	bool is_raw, is_tty;
	bool left;       /* the user typed the escape character */
	bool lost;       /* nobody reads standard output any more */
	GByteArray *out; /* for standard output */
	GByteArray *in;  /* for the guest */
};

/* Takes @guest over. Standard input becomes raw if it is a terminal that is ours to use. */
void terminal_init(struct terminal *terminal, int guest);
/* Writes out what is left, restores the mode. */
void terminal_fini(struct terminal *terminal);
/* Puts the terminal's mode back, and raw again: around a stop of this process. */
void terminal_restore(struct terminal *terminal);
void terminal_make_raw(struct terminal *terminal);

enum { TERMINAL_POLLS = 3 };
/* Fills TERMINAL_POLLS entries (fd -1 where nothing is to be waited for), and serves them. */
void terminal_prepare(const struct terminal *terminal, struct pollfd polls[TERMINAL_POLLS]);
void terminal_serve(struct terminal *terminal, const struct pollfd polls[TERMINAL_POLLS]);
