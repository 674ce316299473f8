/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "virtio/queue.h"

/* The two ring layouts, for queue.c alone. Each function is called on a ready queue. */

enum {
	RING_NEXT = 1,
	RING_WRITE = 2,
	RING_INDIRECT = 4,
	RING_AVAIL = 0x80,  /* packed */
	RING_USED = 0x8000, /* packed */
};

/* A descriptor of a split ring. Packed ones are of the same size; there `next` is the flags and
 * `flags` the buffer id, which packed.c puts right on copying. */
struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* Copies of all descriptors of one chain. */
struct ring_chain {
	struct ring_desc desc[QUEUE_SEGMENTS_MAX];
	uint16_t id, slots;
};

/* Reads the indirect table that @d names into @to, at most @room entries; 0 with a fault. */
unsigned ring_read_table(struct queue *queue, const struct ring_desc *d, struct ring_desc *to,
			 unsigned room);

/* Take: copies the next chain and returns how many descriptors it has; 0: none, or a fault. */
bool split_is_empty(struct queue *queue);
unsigned split_take(struct queue *queue, struct ring_chain *chain);
void split_fill(struct queue *queue, uint16_t id, uint32_t written);
void split_flush(struct queue *queue);
bool split_wants_interrupt(struct queue *queue);
void split_notify_off(struct queue *queue);
void split_notify_on(struct queue *queue);

bool packed_is_empty(struct queue *queue);
unsigned packed_take(struct queue *queue, struct ring_chain *chain);
void packed_advance(struct queue *queue, unsigned slots);
void packed_retreat(struct queue *queue, unsigned slots);
void packed_fill(struct queue *queue, uint16_t id, unsigned slots, uint32_t written);
void packed_flush(struct queue *queue);
bool packed_wants_interrupt(struct queue *queue);
void packed_notify_off(struct queue *queue);
void packed_notify_on(struct queue *queue);
