// SPDX-License-Identifier: GPL-2.0-or-later
/* Refcounts of host clusters: reading, changing, finding free clusters, and growing the table of
 * refcount blocks. */
#include "block/qcow2.h"

#include <errno.h>
#include <string.h>

uint64_t qcow2_refcount_read(const uint8_t *block, uint64_t index, uint32_t order)
{
	uint32_t per_byte = order < 3 ? 8U >> order : 1;
	uint32_t bits = 1U << order;

	if (order < 3)
		return (block[index / per_byte] >> (index % per_byte * bits)) & ((1U << bits) - 1);
	uint64_t value = 0;

	for (uint32_t i = 0; i < bits / 8; i++)
		value = value << 8 | block[index * (bits / 8) + i];
	return value;
}

void qcow2_refcount_write(uint8_t *block, uint64_t index, uint32_t order, uint64_t value)
{
	uint32_t per_byte = order < 3 ? 8U >> order : 1;
	uint32_t bits = 1U << order;

	if (order < 3) {
		uint8_t *byte = block + index / per_byte;
		uint32_t shift = (uint32_t)(index % per_byte) * bits;
		uint32_t mask = ((1U << bits) - 1) << shift;

		*byte = (uint8_t)((*byte & ~mask) | ((value << shift) & mask));
		return;
	}
	for (uint32_t i = bits / 8; i-- > 0; value >>= 8)
		block[index * (bits / 8) + i] = (uint8_t)value;
}

/* The refcount block of @cluster, or NULL when there is none (all its clusters are free). */
static int block_of_locked(struct qcow2 *q, uint64_t cluster, struct qcow2_table **block)
{
	uint64_t index = cluster >> q->ref_bits;

	*block = NULL;
	if (index >= q->reftable_entries || q->reftable[index] == 0)
		return 0;
	uint64_t offset = q->reftable[index] & ~UINT64_C(0x1ff);

	if ((offset & (q->cluster_size - 1)) || offset >> q->cluster_bits >= q->end)
		return qcow2_corrupt_locked(q,
					    "refcount block %" PRIu64 " is at %#" PRIx64
					    ", not a cluster of the file",
					    index, offset);
	return qcow2_cache_load_locked(q, &q->refs, offset, false, block);
}

int qcow2_refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *value)
{
	struct qcow2_table *block;
	int r = block_of_locked(q, cluster, &block);

	*value = 0;
	if (r == 0 && block)
		*value = qcow2_refcount_read(block->data,
					     cluster & ((UINT64_C(1) << q->ref_bits) - 1),
					     q->header.refcount_order);
	return r;
}

static void set_in_block_locked(struct qcow2 *q, struct qcow2_table *block, uint64_t cluster,
				uint64_t value)
{
	uint64_t index = cluster & ((UINT64_C(1) << q->ref_bits) - 1);
	uint32_t from = (uint32_t)((index << q->header.refcount_order) >> 3);
	uint32_t to = (uint32_t)((((index + 1) << q->header.refcount_order) + 7) >> 3);

	qcow2_refcount_write(block->data, index, q->header.refcount_order, value);
	qcow2_cache_dirty_locked(&q->refs, block, from, to);
}

/* Makes the refcount block for table entry @index, in host cluster @place, which must be free. */
static struct qcow2_table *make_block_locked(struct qcow2 *q, uint64_t index, uint64_t place)
{
	uint64_t offset = place << q->cluster_bits;
	struct qcow2_table *block = qcow2_cache_add_locked(q, &q->refs, offset);

	q->reftable[index] = offset;
	qcow2_span_add(&q->reftable_dirty, index, index + 1);
	g_hash_table_add(q->owned, GSIZE_TO_POINTER(place));
	q->end = MAX(q->end, place + 1);
	q->fresh = MAX(q->fresh, (place + 1) << q->cluster_bits);
	return block;
}

int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
	uint64_t index = cluster >> q->ref_bits;
	struct qcow2_table *block;
	int r = block_of_locked(q, cluster, &block);

	if (r < 0)
		return r;
	if (index >= q->reftable_entries)
		return -EAGAIN;
	if (!block)
		return qcow2_corrupt_locked(q, "cluster at %#" PRIx64 " has no refcount block",
					    cluster << q->cluster_bits);
	set_in_block_locked(q, block, cluster, value);
	return 0;
}

bool qcow2_is_metadata_locked(struct qcow2 *q, uint64_t cluster)
{
	const struct qcow2_header *h = &q->header;
	uint64_t at = cluster << q->cluster_bits;

	if (cluster == 0)
		return true;
	if (at + q->cluster_size > h->l1_offset && at < h->l1_offset + (uint64_t)h->l1_entries * 8)
		return true;
	if (at + q->cluster_size > h->reftable_offset &&
	    at < h->reftable_offset + ((uint64_t)h->reftable_clusters << q->cluster_bits))
		return true;
	return g_hash_table_contains(q->owned, GSIZE_TO_POINTER(cluster));
}

/* Finds free clusters at or after @from. Makes refcount blocks as it comes to ranges without. */
static int find_free_locked(struct qcow2 *q, uint64_t from, uint64_t want, uint64_t *first,
			    uint64_t *count)
{
	uint64_t mask = (UINT64_C(1) << q->ref_bits) - 1;

	*count = 0;
	for (uint64_t cluster = from;; cluster = (cluster | mask) + 1) {
		struct qcow2_table *block;
		int r = block_of_locked(q, cluster, &block);

		if (r < 0)
			return r;
		if ((cluster >> q->ref_bits) >= q->reftable_entries)
			return -EAGAIN;
		if (!block) {
			uint64_t place = cluster & ~mask;

			if (qcow2_is_metadata_locked(q, place))
				return qcow2_corrupt_locked(
					q, "metadata at %#" PRIx64 " has no refcount",
					place << q->cluster_bits);
			block = make_block_locked(q, cluster >> q->ref_bits, place);
			set_in_block_locked(q, block, place, 1);
		}
		for (uint64_t at = cluster & mask; at <= mask && *count < want; at++) {
			if (qcow2_refcount_read(block->data, at, q->header.refcount_order) == 0) {
				if (*count == 0)
					*first = (cluster & ~mask) + at;
				++*count;
			} else if (*count) {
				return 0;
			}
		}
		if (*count)
			return 0;
	}
}

int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, uint64_t *first, uint64_t *count,
		       bool *fresh)
{
	int r = find_free_locked(q, q->free_hint, want, first, count);

	if (r < 0)
		return r;
	if ((*first + *count) > (UINT64_C(1) << (56 - q->cluster_bits)))
		return -EFBIG;
	for (uint64_t i = 0; i < *count; i++) {
		if (qcow2_is_metadata_locked(q, *first + i))
			return qcow2_corrupt_locked(q, "metadata at %#" PRIx64 " has no refcount",
						    (*first + i) << q->cluster_bits);
	}
	for (uint64_t i = 0; i < *count; i++) {
		r = qcow2_refcount_set_locked(q, *first + i, 1);
		if (r < 0) {
			qcow2_release_locked(q, *first, i);
			return r;
		}
	}
	q->free_hint = *first + *count;
	q->end = MAX(q->end, *first + *count);
	*fresh = q->file->regular && *first << q->cluster_bits >= q->fresh;
	q->fresh = MAX(q->fresh, (*first + *count) << q->cluster_bits);
	return 0;
}

static void release_one_locked(struct qcow2 *q, uint64_t cluster)
{
	uint64_t value, offset = cluster << q->cluster_bits;

	if (qcow2_refcount_get_locked(q, cluster, &value) < 0)
		return; /* leaked */
	if (value == 0) {
		qcow2_corrupt_locked(q, "cluster at %#" PRIx64 " is freed but has no refcount",
				     offset);
		return;
	}
	if (qcow2_refcount_set_locked(q, cluster, value - 1) < 0 || value > 1)
		return;
	g_hash_table_remove(q->owned, GSIZE_TO_POINTER(cluster));
	qcow2_cache_drop_locked(&q->l2, offset);
	q->free_hint = MIN(q->free_hint, cluster);
	if (q->image->discard)
		q->file->ops->zero(q->file, offset, q->cluster_size, true);
}

void qcow2_release_locked(struct qcow2 *q, uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		release_one_locked(q, first + i);
}

void qcow2_free_later_locked(struct qcow2 *q, uint64_t first, uint64_t count)
{
	struct qcow2_freed *last =
		q->freed->len ? &g_array_index(q->freed, struct qcow2_freed, q->freed->len - 1)
			      : NULL;

	if (last && last->cluster + last->count == first) {
		last->count += count;
		return;
	}
	struct qcow2_freed f = {first, count};

	g_array_append_val(q->freed, f);
}

/* Moves the end behind clusters that have a refcount though the file ends before them: what a power
 * cut may leave. */
static int find_end_locked(struct qcow2 *q)
{
	uint64_t per_block = UINT64_C(1) << q->ref_bits;

	for (uint64_t i = q->end >> q->ref_bits; i < q->reftable_entries; i++) {
		struct qcow2_table *block;
		int r = block_of_locked(q, i << q->ref_bits, &block);

		if (r < 0)
			return r;
		for (uint64_t at = block ? per_block : 0; at-- > 0;) {
			if (qcow2_refcount_read(block->data, at, q->header.refcount_order)) {
				q->end = MAX(q->end, (i << q->ref_bits) + at + 1);
				break;
			}
		}
	}
	return 0;
}

/* Takes @count clusters at the very end of the file, where everything is free, and makes the
 * refcount blocks that describe them right behind. */
static int alloc_at_end_locked(struct qcow2 *q, uint64_t count, uint64_t *first)
{
	int r = find_end_locked(q);
	uint64_t start = q->end, end = start + count;

	if (r < 0)
		return r;
	for (uint64_t at = start; at < end; at++) {
		uint64_t index = at >> q->ref_bits;

		if (index >= q->reftable_entries)
			return -EFBIG;
		if (q->reftable[index] == 0)
			make_block_locked(q, index, end++);
	}
	q->end = MAX(q->end, end);
	q->fresh = MAX(q->fresh, q->end << q->cluster_bits);
	for (uint64_t at = start; at < end && r == 0; at++)
		r = qcow2_refcount_set_locked(q, at, 1);
	*first = start;
	return r;
}

/* Rule R6: the new table and its blocks are durable before the one header write that names them. */
static int switch_table_locked(struct qcow2 *q, uint64_t offset, uint64_t entries)
{
	g_autofree uint8_t *data = g_malloc(entries * 8);
	uint8_t head[12];
	int r = qcow2_write_dirty_locked(q, &q->refs);

	for (uint64_t i = 0; i < entries; i++)
		qcow2_put64(data + i * 8, q->reftable[i]);
	if (r == 0)
		r = block_file_pwrite(q->file, offset, data, entries * 8);
	if (r == 0)
		r = block_file_flush(q->file);
	qcow2_put64(head, offset);
	qcow2_put32(head + 8, (uint32_t)((entries * 8) >> q->cluster_bits));
	if (r == 0)
		r = block_file_pwrite(q->file, 48, head, sizeof(head));
	if (r == 0)
		r = block_file_flush(q->file);
	return r;
}

/* Puts a table that could not grow back to what the file has. */
static void shrink_back_locked(struct qcow2 *q, uint64_t entries)
{
	for (uint64_t i = entries; i < q->reftable_entries; i++) {
		if (!q->reftable[i])
			continue;
		qcow2_cache_drop_locked(&q->refs, q->reftable[i]);
		g_hash_table_remove(q->owned, GSIZE_TO_POINTER(q->reftable[i] >> q->cluster_bits));
		q->reftable[i] = 0;
	}
	q->reftable_entries = entries;
	q->reftable_dirty.to = MIN(q->reftable_dirty.to, entries);
	if (q->reftable_dirty.from >= q->reftable_dirty.to)
		q->reftable_dirty.from = q->reftable_dirty.to = 0;
}

static int grow_locked(struct qcow2 *q)
{
	uint64_t per_cluster = q->cluster_size / 8, old = q->reftable_entries, first = 0;
	uint64_t entries = (old + old / 2 + per_cluster) / per_cluster * per_cluster;
	uint64_t old_first = q->header.reftable_offset >> q->cluster_bits;
	uint64_t old_clusters = q->header.reftable_clusters;

	if (q->corrupt)
		return -EIO;
	if (entries * 8 > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	q->reftable = g_renew(uint64_t, q->reftable, entries);
	memset(q->reftable + old, 0, (entries - old) * 8);
	q->reftable_entries = entries;
	int r = alloc_at_end_locked(q, entries / per_cluster, &first);

	if (r == 0)
		r = switch_table_locked(q, first << q->cluster_bits, entries);
	if (r < 0) {
		shrink_back_locked(q, old);
		return r;
	}
	q->header.reftable_offset = first << q->cluster_bits;
	q->header.reftable_clusters = (uint32_t)(entries / per_cluster);
	q->reftable_dirty.from = q->reftable_dirty.to = 0;
	qcow2_release_locked(q, old_first, old_clusters);
	return 0;
}

int qcow2_grow(struct qcow2 *q)
{
	g_mutex_lock(&q->commit);
	g_mutex_lock(&q->meta);
	int r = grow_locked(q);

	g_mutex_unlock(&q->meta);
	g_mutex_unlock(&q->commit);
	return r;
}
