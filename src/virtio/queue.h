/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vm/state.h"

/*
 * Virtqueues, split and packed (VIRTIO 1.2, 2.7 and 2.8). The driver makes chains of buffers
 * available; the device pops them as elements, reads `out`, writes `in`, and pushes them as used,
 * in whatever order.
 *
 * Everything in guest memory is hostile and may change while it is looked at: descriptors are
 * copied before they are checked, and a queue that makes no sense gets a `fault` and stays dead
 * until it is reset. All calls are made under the lock of the queue's device.
 */

enum {
	QUEUE_SIZE_MAX = 1024,
	QUEUE_SEGMENTS_MAX = 1024, /* of one element, with indirect descriptors */
	QUEUE_NO_VECTOR = 0xffff,
};

struct queue {
	struct vm *vm;
	uint16_t size_max, size;
	uint16_t vector; /* MSI-X, or QUEUE_NO_VECTOR */
	bool enabled;
	bool packed, event_idx, indirect;          /* negotiated */
	uint64_t desc_gpa, driver_gpa, device_gpa; /* as the driver wrote them */

	uint16_t last_avail, used_idx; /* packed: positions in the ring */
	bool avail_wrap, used_wrap;    /* packed: their wrap counters */
	uint16_t in_flight;            /* popped and not pushed; packed: their ring slots */
	uint32_t unsignalled;          /* used since the last decision to interrupt; slots */
	const char *fault;             /* what the driver did wrong, or NULL */

	void *desc, *driver, *device; /* the three areas in host memory */
	uint32_t filled;              /* between queue_fill and queue_flush: packed slots */
	uint16_t first_flags;         /* packed: held back until the flush */
};

/* Starts what a device keeps per request: embed it first. Freed with g_free. */
struct queue_element {
	uint16_t id, slots;
	unsigned out_count, in_count;
	uint64_t out_bytes, in_bytes;
	struct iovec *out, *in; /* the device reads out, writes in; never of length 0 */
	uint64_t *gpa;          /* guest-physical address of each piece, out first */
};

void queue_init(struct queue *queue, struct vm *vm, uint16_t size_max);
/* Power-on values; forgets elements in flight. */
void queue_reset(struct queue *queue);
/* Finds the rings in memory and enables the queue. The features are set. A layout that cannot be
 * leaves the queue enabled, with a fault. */
void queue_enable(struct queue *queue);
/* After a restore: as queue_enable, the indexes kept. False when they contradict each other. */
bool queue_restore(struct queue *queue);
/* Declares the queue dead; the first reason stays. @reason is a constant. */
void queue_set_fault(struct queue *queue, const char *reason);
bool queue_is_ready(const struct queue *queue);

bool queue_is_empty(struct queue *queue);
/* The next element in a block of @struct_size bytes, or NULL (none, or a fault). */
struct queue_element *queue_pop(struct queue *queue, size_t struct_size);
/* Gives the element that was popped last, and not pushed, back; frees it. */
void queue_unpop(struct queue *queue, struct queue_element *element);

/* Returns an element of which @written bytes of `in` were written; frees nothing. The guest sees it
 * at queue_flush, all filled ones at once. */
void queue_fill(struct queue *queue, struct queue_element *element, uint64_t written);
void queue_flush(struct queue *queue);
/* Both, and frees the element. */
void queue_push(struct queue *queue, struct queue_element *element, uint64_t written);

/* Whether the driver wants an interrupt for what was pushed since the last question. */
bool queue_should_interrupt(struct queue *queue);

/* The driver need not notify, while the device looks at the queue anyway. */
void queue_notify_off(struct queue *queue);
/* Asks to be notified again; true when elements came meanwhile: look again. */
bool queue_notify_on(struct queue *queue);

/* Copies from `out` or to `in` at @offset; returns how many bytes there were. */
size_t queue_element_read(const struct queue_element *element, uint64_t offset, void *buffer,
			  size_t size);
size_t queue_element_write(const struct queue_element *element, uint64_t offset, const void *buffer,
			   size_t size);

/* For devices whose elements can outlive a drain: appends @element to saved state; reads one back,
 * NULL when it makes no sense. The descriptors themselves may be gone from the ring by then. */
void queue_element_save(const struct queue_element *element, GByteArray *to);
struct queue_element *queue_element_load(struct queue *queue, size_t struct_size,
					 const uint8_t **from, const uint8_t *end);

extern const struct state_table queue_state;
