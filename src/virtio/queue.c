// SPDX-License-Identifier: GPL-2.0-or-later
/* Virtqueues: what is common to split and packed rings, and the elements made of descriptors. */
#include "virtio/queue.h"

#include <string.h>

#include "base/error.h"
#include "virtio/ring.h"
#include "vm/memory.h"

void queue_init(struct queue *q, struct vm *vm, uint16_t size_max)
{
	g_assert(size_max && size_max <= QUEUE_SIZE_MAX && (size_max & (size_max - 1)) == 0);
	q->vm = vm;
	q->size_max = size_max;
	queue_reset(q);
}

static void start_indexes(struct queue *q)
{
	q->last_avail = q->used_idx = q->in_flight = 0;
	q->avail_wrap = q->used_wrap = true;
	q->unsignalled = q->filled = 0;
}

void queue_reset(struct queue *q)
{
	*q = (struct queue){.vm = q->vm,
			    .size_max = q->size_max,
			    .size = q->size_max,
			    .vector = QUEUE_NO_VECTOR};
	start_indexes(q);
}

void queue_set_fault(struct queue *q, const char *reason)
{
	if (!q->fault)
		q->fault = reason;
}

bool queue_is_ready(const struct queue *q)
{
	return q->enabled && !q->fault && q->desc;
}

static void *map_area(struct queue *q, uint64_t gpa, uint64_t size, unsigned alignment, bool write)
{
	void *host = gpa % alignment ? NULL : dma_map(q->vm, gpa, size, write);
	if (!host)
		queue_set_fault(q, "a ring is misaligned or outside memory");
	return host;
}

static void map_rings(struct queue *q)
{
	uint64_t n = q->size;
	if (n == 0 || n > q->size_max || (!q->packed && (n & (n - 1)))) {
		queue_set_fault(q, "the queue size is not possible");
		return;
	}
	q->desc = map_area(q, q->desc_gpa, 16 * n, 16, q->packed);
	if (q->packed) {
		q->driver = map_area(q, q->driver_gpa, 4, 4, false);
		q->device = map_area(q, q->device_gpa, 4, 4, true);
	} else {
		q->driver = map_area(q, q->driver_gpa, 6 + 2 * n, 2, false);
		q->device = map_area(q, q->device_gpa, 6 + 8 * n, 4, true);
	}
	if (q->fault)
		q->desc = q->driver = q->device = NULL;
}

void queue_enable(struct queue *q)
{
	q->enabled = true;
	start_indexes(q);
	map_rings(q);
}

bool queue_restore(struct queue *q)
{
	q->fault = NULL;
	q->desc = q->driver = q->device = NULL;
	q->filled = 0;
	if (q->size > q->size_max)
		return false;
	if (!q->enabled)
		return true;
	if (q->packed && (q->last_avail >= q->size || q->used_idx >= q->size))
		return false;
	if (q->in_flight > q->size)
		return false;
	map_rings(q);
	return true;
}

/* --- Elements --- */

/* Host pieces of one element while it is put together. */
struct pieces {
	unsigned out_count, in_count;
	uint64_t out_bytes, in_bytes;
	struct iovec iov[QUEUE_SEGMENTS_MAX]; /* out first */
	uint64_t gpa[QUEUE_SEGMENTS_MAX];
};

/* One descriptor; it may lie in several mappings. */
static bool add_piece(struct queue *q, struct pieces *p, const struct ring_desc *d)
{
	bool write = d->flags & RING_WRITE;
	uint64_t gpa = d->addr, left = d->len;
	if (!write && p->in_count) {
		queue_set_fault(q, "a readable descriptor follows a writable one");
		return false;
	}
	if (gpa + left < gpa) {
		queue_set_fault(q, "a buffer goes beyond the end of the address space");
		return false;
	}
	while (left) {
		unsigned n = p->out_count + p->in_count;
		uint64_t size = left;
		void *host = dma_map_prefix(q->vm, gpa, &size, write);
		if (!host || n == QUEUE_SEGMENTS_MAX) {
			queue_set_fault(q, host ? "a chain has too many pieces"
						: "a buffer is outside memory");
			return false;
		}
		p->iov[n] = (struct iovec){host, size};
		p->gpa[n] = gpa;
		*(write ? &p->in_count : &p->out_count) += 1;
		*(write ? &p->in_bytes : &p->out_bytes) += size;
		gpa += size;
		left -= size;
	}
	if (p->in_bytes + p->out_bytes > UINT32_MAX) {
		queue_set_fault(q, "the buffers of a chain exceed 4 GiB");
		return false;
	}
	return true;
}

static struct queue_element *make_element(const struct pieces *p, size_t struct_size)
{
	unsigned n = p->out_count + p->in_count;
	size_t start = (struct_size + 15) & ~(size_t)15;
	uint8_t *memory = g_malloc(start + n * (sizeof(struct iovec) + sizeof(uint64_t)));
	struct queue_element *e = (struct queue_element *)(void *)memory;
	memset(memory, 0, start);
	e->out_count = p->out_count;
	e->in_count = p->in_count;
	e->out_bytes = p->out_bytes;
	e->in_bytes = p->in_bytes;
	e->out = (struct iovec *)(void *)(memory + start);
	e->in = e->out + p->out_count;
	e->gpa = (uint64_t *)(e->out + n);
	memcpy(e->out, p->iov, n * sizeof(struct iovec));
	memcpy(e->gpa, p->gpa, n * sizeof(uint64_t));
	return e;
}

static unsigned take_chain(struct queue *q, struct ring_chain *chain)
{
	return q->packed ? packed_take(q, chain) : split_take(q, chain);
}

struct queue_element *queue_pop(struct queue *q, size_t struct_size)
{
	struct ring_chain chain;
	struct pieces pieces;
	g_assert(struct_size >= sizeof(struct queue_element));
	if (!queue_is_ready(q) || q->in_flight >= q->size) {
		if (queue_is_ready(q) && !queue_is_empty(q))
			queue_set_fault(q, "more buffers are available than the queue holds");
		return NULL;
	}
	unsigned count = take_chain(q, &chain);
	if (count == 0)
		return NULL;
	pieces.out_count = pieces.in_count = 0;
	pieces.out_bytes = pieces.in_bytes = 0;
	for (unsigned i = 0; i < count; i++) {
		if (!add_piece(q, &pieces, &chain.desc[i]))
			return NULL;
	}
	struct queue_element *e = make_element(&pieces, struct_size);
	e->id = chain.id;
	e->slots = chain.slots;
	q->in_flight += chain.slots;
	if (q->packed) {
		packed_advance(q, chain.slots);
	} else {
		q->last_avail++;
	}
	return e;
}

void queue_unpop(struct queue *q, struct queue_element *e)
{
	q->in_flight -= e->slots;
	if (q->packed)
		packed_retreat(q, e->slots);
	else
		q->last_avail--;
	g_free(e);
}

bool queue_is_empty(struct queue *q)
{
	if (!queue_is_ready(q))
		return true;
	return q->packed ? packed_is_empty(q) : split_is_empty(q);
}

/* --- Used elements --- */

static void mark_written(struct queue *q, const struct queue_element *e, uint64_t written)
{
	for (unsigned i = 0; i < e->in_count && written; i++) {
		uint64_t part = MIN(written, e->in[i].iov_len);
		dma_written(q->vm, e->gpa[e->out_count + i], part);
		written -= part;
	}
}

void queue_fill(struct queue *q, struct queue_element *e, uint64_t written)
{
	g_assert(written <= e->in_bytes);
	mark_written(q, e, written);
	q->in_flight -= MIN(q->in_flight, e->slots);
	if (!queue_is_ready(q))
		return;
	if (q->packed)
		packed_fill(q, e->id, e->slots, (uint32_t)written);
	else
		split_fill(q, e->id, (uint32_t)written);
}

void queue_flush(struct queue *q)
{
	if (!queue_is_ready(q) || !q->filled)
		return;
	q->unsignalled = MIN(q->unsignalled + q->filled, (uint32_t)UINT16_MAX);
	if (q->packed)
		packed_flush(q);
	else
		split_flush(q);
	q->filled = 0;
}

void queue_push(struct queue *q, struct queue_element *e, uint64_t written)
{
	queue_fill(q, e, written);
	queue_flush(q);
	g_free(e);
}

bool queue_should_interrupt(struct queue *q)
{
	if (!queue_is_ready(q) || !q->unsignalled)
		return false;
	/* The used entries must be visible before the driver's wish is read: it publishes the wish
	 * before it looks for entries. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	bool wanted = q->packed ? packed_wants_interrupt(q) : split_wants_interrupt(q);
	q->unsignalled = 0;
	return wanted;
}

void queue_notify_off(struct queue *q)
{
	if (!queue_is_ready(q))
		return;
	if (q->packed)
		packed_notify_off(q);
	else
		split_notify_off(q);
}

bool queue_notify_on(struct queue *q)
{
	if (!queue_is_ready(q))
		return false;
	if (q->packed)
		packed_notify_on(q);
	else
		split_notify_on(q);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !queue_is_empty(q);
}

/* --- Copies --- */

static size_t copy(const struct iovec *iov, unsigned count, uint64_t offset, uint8_t *buffer,
		   size_t size, bool to_iov)
{
	size_t done = 0;
	for (unsigned i = 0; i < count && done < size; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN(size - done, iov[i].iov_len - (size_t)offset);
		uint8_t *p = (uint8_t *)iov[i].iov_base + offset;
		if (to_iov)
			memcpy(p, buffer + done, part);
		else
			memcpy(buffer + done, p, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t queue_element_read(const struct queue_element *e, uint64_t offset, void *buffer, size_t size)
{
	return copy(e->out, e->out_count, offset, buffer, size, false);
}

size_t queue_element_write(const struct queue_element *e, uint64_t offset, const void *buffer,
			   size_t size)
{
	return copy(e->in, e->in_count, offset, (uint8_t *)(uintptr_t)buffer, size, true);
}

/* --- Saved state --- */

/* id and slots (u16), count of pieces (u32), then gpa (u64), length (u32), writable (u32) of each;
 * little-endian. */
struct saved_head {
	uint16_t id, slots;
	uint32_t count;
};

struct saved_piece {
	uint64_t gpa;
	uint32_t length, writable;
};

void queue_element_save(const struct queue_element *e, GByteArray *to)
{
	struct saved_head head = {e->id, e->slots, e->out_count + e->in_count};
	g_byte_array_append(to, (uint8_t *)&head, sizeof(head));
	for (unsigned i = 0; i < head.count; i++) {
		struct saved_piece piece = {e->gpa[i], (uint32_t)e->out[i].iov_len,
					    i >= e->out_count};
		g_byte_array_append(to, (uint8_t *)&piece, sizeof(piece));
	}
}

struct queue_element *queue_element_load(struct queue *q, size_t struct_size, const uint8_t **from,
					 const uint8_t *end)
{
	struct saved_head head;
	struct saved_piece piece;
	struct pieces pieces;
	pieces.out_count = pieces.in_count = 0;
	pieces.out_bytes = pieces.in_bytes = 0;
	if ((size_t)(end - *from) < sizeof(head))
		return NULL;
	memcpy(&head, *from, sizeof(head));
	*from += sizeof(head);
	if (head.count > (size_t)(end - *from) / sizeof(piece) || head.slots > q->in_flight)
		return NULL;
	for (uint32_t i = 0; i < head.count; i++) {
		memcpy(&piece, *from, sizeof(piece));
		*from += sizeof(piece);
		const struct ring_desc d = {.addr = piece.gpa,
					    .len = piece.length,
					    .flags = piece.writable ? RING_WRITE : 0};
		if (!add_piece(q, &pieces, &d))
			return NULL;
	}
	struct queue_element *e = make_element(&pieces, struct_size);
	e->id = head.id;
	e->slots = head.slots;
	return e;
}

static const struct state_field queue_fields[] = {
	STATE_SCALAR(struct queue, size),       STATE_SCALAR(struct queue, vector),
	STATE_SCALAR(struct queue, enabled),    STATE_SCALAR(struct queue, desc_gpa),
	STATE_SCALAR(struct queue, driver_gpa), STATE_SCALAR(struct queue, device_gpa),
	STATE_SCALAR(struct queue, last_avail), STATE_SCALAR(struct queue, avail_wrap),
	STATE_SCALAR(struct queue, used_idx),   STATE_SCALAR(struct queue, used_wrap),
	STATE_SCALAR(struct queue, in_flight),  STATE_SCALAR(struct queue, unsignalled),
};

const struct state_table queue_state = {.version = 1,
					.min_version = 1,
					.fields = queue_fields,
					.field_count = G_N_ELEMENTS(queue_fields)};
