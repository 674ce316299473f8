// SPDX-License-Identifier: GPL-2.0-or-later
/* Split virtqueues (VIRTIO 1.2, 2.7): a descriptor table, a ring of available heads and a ring of
 * used ones. */
#include "vm/memory.h"
#include "virtio/ring.h"

enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };

struct avail {
	uint16_t flags, idx;
	uint16_t ring[]; /* size entries, then used_event */
};

struct used_entry {
	uint32_t id, len;
};

struct used {
	uint16_t flags, idx;
	struct used_entry ring[]; /* size entries, then avail_event */
};

static uint16_t avail_idx(struct queue *q)
{
	const struct avail *avail = q->driver;
	return __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
}

bool split_is_empty(struct queue *q)
{
	return avail_idx(q) == q->last_avail;
}

unsigned ring_read_table(struct queue *q, const struct ring_desc *d, struct ring_desc *to,
			 unsigned room)
{
	unsigned count = d->len / sizeof(*to);
	if (!q->indirect || (d->flags & RING_NEXT)) {
		queue_set_fault(q, "an indirect descriptor where none may be");
		return 0;
	}
	if (d->len % sizeof(*to) || count == 0 || count > room) {
		queue_set_fault(q, "an indirect table has no possible length");
		return 0;
	}
	if (!dma_read(q->vm, d->addr, to, d->len)) {
		queue_set_fault(q, "an indirect table is outside memory");
		return 0;
	}
	return count;
}

/* The chain inside an indirect table, appended to the @count descriptors in front of it. */
static unsigned take_indirect(struct queue *q, const struct ring_desc *d, struct ring_chain *chain,
			      unsigned count)
{
	struct ring_desc table[QUEUE_SEGMENTS_MAX];
	unsigned entries = ring_read_table(q, d, table, QUEUE_SEGMENTS_MAX - count);
	unsigned at = 0;
	for (unsigned walked = 0; walked < entries; walked++) {
		if (table[at].flags & RING_INDIRECT) {
			queue_set_fault(q, "an indirect table holds an indirect descriptor");
			return 0;
		}
		chain->desc[count++] = table[at];
		if (!(table[at].flags & RING_NEXT))
			return count;
		at = table[at].next;
		if (at >= entries) {
			queue_set_fault(q, "a descriptor index is outside the indirect table");
			return 0;
		}
	}
	queue_set_fault(q, "a descriptor chain loops");
	return 0;
}

unsigned split_take(struct queue *q, struct ring_chain *chain)
{
	const struct ring_desc *table = q->desc;
	const struct avail *avail = q->driver;
	uint16_t waiting = (uint16_t)(avail_idx(q) - q->last_avail);
	if (waiting == 0)
		return 0;
	if (waiting > q->size) {
		queue_set_fault(q, "the available index runs ahead of the ring");
		return 0;
	}
	unsigned at =
		__atomic_load_n(&avail->ring[q->last_avail & (q->size - 1)], __ATOMIC_RELAXED);
	chain->id = (uint16_t)at;
	chain->slots = 1;
	for (unsigned count = 0; count < q->size && count < QUEUE_SEGMENTS_MAX;) {
		if (at >= q->size) {
			queue_set_fault(q, "a descriptor index is outside the table");
			return 0;
		}
		struct ring_desc d;
		__builtin_memcpy(&d, &table[at], sizeof(d));
		if (d.flags & RING_INDIRECT)
			return take_indirect(q, &d, chain, count);
		chain->desc[count++] = d;
		if (!(d.flags & RING_NEXT))
			return count;
		at = d.next;
	}
	queue_set_fault(q, "a descriptor chain loops");
	return 0;
}

void split_fill(struct queue *q, uint16_t id, uint32_t written)
{
	struct used *used = q->device;
	uint16_t at = (uint16_t)(q->used_idx + q->filled++) & (q->size - 1);
	used->ring[at] = (struct used_entry){.id = id, .len = written};
	dma_written(q->vm, q->device_gpa + 4 + 8u * at, 8);
}

void split_flush(struct queue *q)
{
	struct used *used = q->device;
	q->used_idx = (uint16_t)(q->used_idx + q->filled);
	__atomic_store_n(&used->idx, q->used_idx, __ATOMIC_RELEASE);
	dma_written(q->vm, q->device_gpa, 4);
}

bool split_wants_interrupt(struct queue *q)
{
	const struct avail *avail = q->driver;
	if (!q->event_idx)
		return !(__atomic_load_n(&avail->flags, __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
	uint16_t event = __atomic_load_n(&avail->ring[q->size], __ATOMIC_RELAXED);
	return (uint16_t)(q->used_idx - event - 1) < (uint16_t)q->unsignalled;
}

static void set_used_flags(struct queue *q, uint16_t flags)
{
	struct used *used = q->device;
	__atomic_store_n(&used->flags, flags, __ATOMIC_RELAXED);
	dma_written(q->vm, q->device_gpa, 2);
}

/* With event indexes the old event is already behind the driver's index: nothing to do. */
void split_notify_off(struct queue *q)
{
	if (!q->event_idx)
		set_used_flags(q, USED_NO_NOTIFY);
}

void split_notify_on(struct queue *q)
{
	struct used *used = q->device;
	if (!q->event_idx) {
		set_used_flags(q, 0);
		return;
	}
	uint16_t *event = (uint16_t *)&used->ring[q->size];
	__atomic_store_n(event, q->last_avail, __ATOMIC_RELAXED);
	dma_written(q->vm, q->device_gpa + 4 + 8u * q->size, 2);
}
