/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/file.h"

/* For tests: a file that passes everything on to another, fails where it is told to, and keeps a
 * log of what changed. */
enum debug_op { DEBUG_READ, DEBUG_WRITE, DEBUG_FLUSH, DEBUG_ZERO, DEBUG_TRUNCATE, DEBUG_OPS };

struct debug_event {
	enum debug_op op;
	uint64_t offset, length;
	uint8_t *data; /* of a write */
};

/* Takes ownership of @under. The log is of struct debug_event, no reads. */
struct block_file *block_file_new_debug(struct block_file *under);
struct block_file *block_file_debug_under(struct block_file *f);

/* From now, the @nth operation of that kind (1 = the next) fails with -@err; with @sticky so do all
 * later ones. @nth 0: no more failures. */
void block_file_debug_fail(struct block_file *f, enum debug_op op, unsigned nth, int err,
			   bool sticky);
unsigned block_file_debug_count(struct block_file *f, enum debug_op op);

/* Starts recording, or returns the log so far (owned by @f). */
void block_file_debug_record(struct block_file *f);
GArray *block_file_debug_log(struct block_file *f);
/* Takes the log away; free with g_array_unref. */
GArray *block_file_debug_steal_log(struct block_file *f);

/* Applies @event to @f. */
void block_file_debug_replay(struct block_file *f, const struct debug_event *event);
