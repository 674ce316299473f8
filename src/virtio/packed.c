// SPDX-License-Identifier: GPL-2.0-or-later
/* Packed virtqueues (VIRTIO 1.2, 2.8): one ring of descriptors that both sides write; flags that
 * are compared with a wrap counter say whose turn an entry is. */
#include "vm/memory.h"
#include "virtio/ring.h"

enum { EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC };

struct packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id, flags;
};

struct event {
	uint16_t off_wrap, flags;
};

static bool is_available(uint16_t flags, bool wrap)
{
	return !!(flags & RING_AVAIL) == wrap && !!(flags & RING_USED) != wrap;
}

static uint16_t load_flags(struct queue *q, unsigned at)
{
	const struct packed_desc *ring = q->desc;
	return __atomic_load_n(&ring[at].flags, __ATOMIC_ACQUIRE);
}

bool packed_is_empty(struct queue *q)
{
	return !is_available(load_flags(q, q->last_avail), q->avail_wrap);
}

static struct ring_desc unpack(const struct packed_desc *d)
{
	return (struct ring_desc){.addr = d->addr, .len = d->len, .flags = d->flags};
}

/* In a table of a packed ring all entries belong to the chain, in order. */
static unsigned take_indirect(struct queue *q, const struct ring_desc *d, struct ring_chain *chain,
			      unsigned count)
{
	struct ring_desc table[QUEUE_SEGMENTS_MAX];
	unsigned entries = ring_read_table(q, d, table, QUEUE_SEGMENTS_MAX - count);
	for (unsigned i = 0; i < entries; i++) {
		struct packed_desc packed;
		__builtin_memcpy(&packed, &table[i], sizeof(packed));
		if (packed.flags & RING_INDIRECT) {
			queue_set_fault(q, "an indirect table holds an indirect descriptor");
			return 0;
		}
		chain->desc[count++] = unpack(&packed);
	}
	return entries ? count : 0;
}

unsigned packed_take(struct queue *q, struct ring_chain *chain)
{
	const struct packed_desc *ring = q->desc;
	unsigned at = q->last_avail;
	if (packed_is_empty(q))
		return 0;
	for (unsigned count = 0; count < q->size && count < QUEUE_SEGMENTS_MAX;) {
		struct packed_desc packed;
		if (count + 1 > (unsigned)q->size - q->in_flight)
			break;
		__builtin_memcpy(&packed, &ring[at], sizeof(packed));
		struct ring_desc d = unpack(&packed);
		chain->id = packed.id;
		chain->slots = (uint16_t)(count + 1);
		if (d.flags & RING_INDIRECT)
			return take_indirect(q, &d, chain, count);
		chain->desc[count++] = d;
		if (!(d.flags & RING_NEXT))
			return count;
		at = at + 1 == q->size ? 0 : at + 1;
	}
	queue_set_fault(q, "a descriptor chain is longer than the queue");
	return 0;
}

void packed_advance(struct queue *q, unsigned slots)
{
	unsigned at = q->last_avail + slots;
	if (at >= q->size) {
		at -= q->size;
		q->avail_wrap = !q->avail_wrap;
	}
	q->last_avail = (uint16_t)at;
}

void packed_retreat(struct queue *q, unsigned slots)
{
	if (slots > q->last_avail) {
		q->avail_wrap = !q->avail_wrap;
		q->last_avail = (uint16_t)(q->last_avail + q->size - slots);
	} else {
		q->last_avail = (uint16_t)(q->last_avail - slots);
	}
}

/* Where the used entry goes that has @ahead slots before it; *wrap is the counter there. */
static unsigned used_position(const struct queue *q, unsigned ahead, bool *wrap)
{
	unsigned at = q->used_idx + ahead;
	*wrap = q->used_wrap;
	if (at >= q->size) {
		at -= q->size;
		*wrap = !*wrap;
	}
	return at;
}

/* The first entry's flags come last: the driver looks no further than it. */
void packed_fill(struct queue *q, uint16_t id, unsigned slots, uint32_t written)
{
	struct packed_desc *ring = q->desc;
	bool wrap;
	if (q->filled + slots > q->size) /* bounded by in_flight; a restored one may lie */
		return queue_set_fault(q, "more buffers are used than the queue holds");
	unsigned at = used_position(q, q->filled, &wrap);
	uint16_t flags =
		(uint16_t)((wrap ? RING_AVAIL | RING_USED : 0) | (written ? RING_WRITE : 0));
	ring[at].id = id;
	ring[at].len = written;
	if (q->filled == 0)
		q->first_flags = flags;
	else
		__atomic_store_n(&ring[at].flags, flags, __ATOMIC_RELEASE);
	dma_written(q->vm, q->desc_gpa + 16u * at, 16);
	q->filled += slots;
}

void packed_flush(struct queue *q)
{
	struct packed_desc *ring = q->desc;
	__atomic_store_n(&ring[q->used_idx].flags, q->first_flags, __ATOMIC_RELEASE);
	dma_written(q->vm, q->desc_gpa + 16u * q->used_idx, 16);
	q->used_idx = (uint16_t)used_position(q, q->filled, &q->used_wrap);
}

bool packed_wants_interrupt(struct queue *q)
{
	const struct event *event = q->driver;
	uint16_t flags = __atomic_load_n(&event->flags, __ATOMIC_ACQUIRE);
	if (flags != EVENT_DESC || !q->event_idx)
		return flags != EVENT_DISABLE;
	uint16_t off_wrap = __atomic_load_n(&event->off_wrap, __ATOMIC_RELAXED);
	uint16_t off = off_wrap & 0x7fff;
	if (!!(off_wrap & 0x8000) != q->used_wrap)
		off = (uint16_t)(off - q->size);
	return (uint16_t)(q->used_idx - off - 1) < (uint16_t)q->unsignalled;
}

static void set_event(struct queue *q, uint16_t flags)
{
	struct event *event = q->device;
	__atomic_store_n(&event->flags, flags, __ATOMIC_RELEASE);
	dma_written(q->vm, q->device_gpa, 4);
}

void packed_notify_off(struct queue *q)
{
	set_event(q, EVENT_DISABLE);
}

void packed_notify_on(struct queue *q)
{
	struct event *event = q->device;
	if (q->event_idx)
		__atomic_store_n(&event->off_wrap,
				 (uint16_t)(q->last_avail | (q->avail_wrap ? 0x8000 : 0)),
				 __ATOMIC_RELAXED);
	set_event(q, q->event_idx ? EVENT_DESC : EVENT_ENABLE);
}
