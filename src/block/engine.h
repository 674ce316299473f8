/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/file.h"

/* Reads and writes of plain descriptors through io_uring(7). Not locked: the caller makes sure that
 * one thread at a time is in here. */
struct engine;

struct engine_op {
	void (*done)(struct engine_op *op, int result); /* bytes moved, or -errno */
};

/* NULL where the kernel refuses io_uring. */
struct engine *engine_new(unsigned depth);
/* Nothing may be in flight. */
void engine_free(struct engine *e);
/* Readable when there are completions. */
int engine_fd(struct engine *e);

/* Queues an operation; engine_submit hands all queued ones to the kernel at once. @iov must stay
 * until it is done. */
void engine_queue(struct engine *e, struct block_file *f, bool write, bool sync, uint64_t offset,
		  const struct iovec *iov, int count, struct engine_op *op);
/* Whether some are still queued afterwards (the kernel was short of something): call again soon. */
bool engine_submit(struct engine *e);
/* Calls the done function of all operations that are complete. Never waits. */
void engine_reap(struct engine *e);
