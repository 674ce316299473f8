/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "vmm/board.h"

/* What a machine has done so far, as JSON: the answer to x-lodge-status, and the line at the end.
 * Numbers of running processors are approximate. Main thread. */

/* What the asker saw last, for rates. All zero: since the machine was made. */
struct status_mark {
	uint64_t instructions;
	int64_t time_us;
};

/* Appends one JSON object; @mark is read and set to now. */
void status_append(GString *to, const struct board *board, struct status_mark *mark);
/* As above with "exit-status", written to @fd. */
void status_write(int fd, const struct board *board, int exit_status);
