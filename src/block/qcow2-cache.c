// SPDX-License-Identifier: GPL-2.0-or-later
/* Metadata of a qcow2 image in memory, and the one place where it is written back in crash-safe
 * order.
 *
 * Invariants:
 * 1. In memory, the refcount of a cluster is never below the number of references to it, counting
 *    those on disk as well as those in memory.
 * 2. qcow2_commit writes a state that was whole at one moment: everything is copied while meta is
 *    held, and written after it was released.
 * 3. Only clean tables that no commit is writing leave the cache. */
#include "block/qcow2.h"

#include <errno.h>
#include <string.h>

enum { FREED_MAX = 4096 };

static void table_free(void *data)
{
	struct qcow2_table *table = data;

	g_free(table->data);
	g_free(table);
}

void qcow2_cache_init(struct qcow2_cache *cache, uint32_t capacity)
{
	cache->tables = g_hash_table_new_full(NULL, NULL, NULL, table_free);
	g_queue_init(&cache->order);
	cache->capacity = capacity;
}

void qcow2_cache_fini(struct qcow2_cache *cache)
{
	if (cache->tables)
		g_hash_table_unref(cache->tables);
}

struct qcow2_table *qcow2_cache_find_locked(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table = g_hash_table_lookup(cache->tables, GSIZE_TO_POINTER(offset));

	if (table && cache->order.head != &table->link) {
		g_queue_unlink(&cache->order, &table->link);
		g_queue_push_head_link(&cache->order, &table->link);
	}
	return table;
}

static void remove_table(struct qcow2_cache *cache, struct qcow2_table *table)
{
	if (table->dirty_from != table->dirty_to)
		cache->dirty--;
	g_queue_unlink(&cache->order, &table->link);
	cache->evictions++;
	g_hash_table_remove(cache->tables, GSIZE_TO_POINTER(table->offset));
}

/* Invariant 3. The tables used last stay in any case: callers hold pointers to a few of them. */
static void trim(struct qcow2_cache *cache)
{
	GList *at = cache->order.tail;

	while (at && cache->order.length > cache->capacity) {
		struct qcow2_table *table = at->data;

		at = at->prev;
		if (table->dirty_from == table->dirty_to && !table->staged)
			remove_table(cache, table);
	}
}

static struct qcow2_table *insert(struct qcow2_cache *cache, uint64_t offset, uint8_t *data)
{
	struct qcow2_table *table = g_new0(struct qcow2_table, 1);

	trim(cache);
	table->link.data = table;
	table->offset = offset;
	table->data = data;
	g_hash_table_insert(cache->tables, GSIZE_TO_POINTER(offset), table);
	g_queue_push_head_link(&cache->order, &table->link);
	return table;
}

struct qcow2_table *qcow2_cache_add_locked(struct qcow2 *q, struct qcow2_cache *cache,
					   uint64_t offset)
{
	qcow2_cache_drop_locked(cache, offset);
	struct qcow2_table *table = insert(cache, offset, g_malloc0(q->cluster_size));

	qcow2_cache_dirty_locked(cache, table, 0, q->cluster_size);
	return table;
}

int qcow2_cache_load_locked(struct qcow2 *q, struct qcow2_cache *cache, uint64_t offset, bool drop,
			    struct qcow2_table **table)
{
	for (;;) {
		*table = qcow2_cache_find_locked(cache, offset);
		if (*table)
			return 0;
		uint8_t *data = g_malloc(q->cluster_size);
		uint64_t evictions = cache->evictions;

		if (drop)
			g_mutex_unlock(&q->meta);
		int r = block_file_pread(q->file, offset, data, q->cluster_size);

		if (drop)
			g_mutex_lock(&q->meta);
		if (r < 0) {
			g_free(data);
			return r;
		}
		/* Somebody may have loaded, changed and evicted it meanwhile: then ours is old. */
		if (evictions == cache->evictions && !qcow2_cache_find_locked(cache, offset)) {
			*table = insert(cache, offset, data);
			return 0;
		}
		g_free(data);
	}
}

void qcow2_cache_dirty_locked(struct qcow2_cache *cache, struct qcow2_table *table, uint32_t from,
			      uint32_t to)
{
	if (table->dirty_from == table->dirty_to) {
		table->dirty_from = from;
		table->dirty_to = to;
		cache->dirty++;
		return;
	}
	table->dirty_from = MIN(table->dirty_from, from);
	table->dirty_to = MAX(table->dirty_to, to);
}

void qcow2_cache_drop_locked(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table = g_hash_table_lookup(cache->tables, GSIZE_TO_POINTER(offset));

	if (table)
		remove_table(cache, table);
}

void qcow2_span_add(struct qcow2_span *span, uint64_t from, uint64_t to)
{
	if (from == to)
		return;
	if (span->from == span->to) {
		span->from = from;
		span->to = to;
		return;
	}
	span->from = MIN(span->from, from);
	span->to = MAX(span->to, to);
}

/* Bytes of one table on their way to the file. */
struct staged {
	struct qcow2_table *table;
	uint64_t offset;
	uint32_t from, to;
	uint8_t *data;
};

/* All that one commit writes. */
struct batch {
	GArray *refs, *l2; /* struct staged */
	struct qcow2_span reftable, l1;
	uint8_t *reftable_data, *l1_data;
	GArray *freed;
};

static void staged_clear(void *data)
{
	g_free(((struct staged *)data)->data);
}

static GArray *stage_cache(struct qcow2_cache *cache)
{
	GArray *all = g_array_new(FALSE, FALSE, sizeof(struct staged));

	g_array_set_clear_func(all, staged_clear);
	if (!cache->dirty)
		return all;
	for (GList *at = cache->order.head; at; at = at->next) {
		struct qcow2_table *table = at->data;
		struct staged s = {table, table->offset, table->dirty_from, table->dirty_to, NULL};

		if (s.from == s.to)
			continue;
		s.data = g_memdup2(table->data + s.from, s.to - s.from);
		table->dirty_from = table->dirty_to = 0;
		table->staged = true;
		g_array_append_val(all, s);
	}
	cache->dirty = 0;
	return all;
}

static uint8_t *stage_span(const uint64_t *entries, struct qcow2_span *dirty,
			   struct qcow2_span *staged)
{
	*staged = *dirty;
	dirty->from = dirty->to = 0;
	if (staged->from == staged->to)
		return NULL;
	uint8_t *data = g_malloc((staged->to - staged->from) * 8);

	for (uint64_t i = staged->from; i < staged->to; i++)
		qcow2_put64(data + (i - staged->from) * 8, entries[i]);
	return data;
}

static void stage_locked(struct qcow2 *q, struct batch *batch)
{
	batch->refs = stage_cache(&q->refs);
	batch->l2 = stage_cache(&q->l2);
	batch->reftable_data = stage_span(q->reftable, &q->reftable_dirty, &batch->reftable);
	batch->l1_data = stage_span(q->l1, &q->l1_dirty, &batch->l1);
	batch->freed = q->freed;
	q->freed = g_array_new(FALSE, FALSE, sizeof(struct qcow2_freed));
}

static int write_staged(struct qcow2 *q, const GArray *all)
{
	int r = 0;

	for (unsigned i = 0; i < all->len && r == 0; i++) {
		const struct staged *s = &g_array_index(all, struct staged, i);

		r = block_file_pwrite(q->file, s->offset + s->from, s->data, s->to - s->from);
	}
	return r;
}

static int write_span(struct qcow2 *q, uint64_t offset, const struct qcow2_span *span,
		      const uint8_t *data)
{
	return block_file_pwrite(q->file, offset + span->from * 8, data,
				 (span->to - span->from) * 8);
}

/* Rules R1 to R4: refcounts, then what makes them reachable, then L2 tables, then the L1 table,
 * with everything before it durable at each arrow. */
static int write_batch(struct qcow2 *q, const struct batch *batch, bool durable)
{
	int r = write_staged(q, batch->refs);

	if (r == 0 && batch->reftable_data) {
		r = block_file_flush(q->file);
		if (r == 0)
			r = write_span(q, q->header.reftable_offset, &batch->reftable,
				       batch->reftable_data);
	}
	if (r == 0 && (batch->l2->len || batch->l1_data))
		r = block_file_flush(q->file);
	if (r == 0)
		r = write_staged(q, batch->l2);
	if (r == 0 && batch->l1_data) {
		r = block_file_flush(q->file);
		if (r == 0)
			r = write_span(q, q->header.l1_offset, &batch->l1, batch->l1_data);
	}
	if (r == 0 && (durable || batch->freed->len))
		r = block_file_flush(q->file);
	return r;
}

static void unstage_locked(struct qcow2_cache *cache, GArray *all, bool failed)
{
	for (unsigned i = 0; i < all->len; i++) {
		const struct staged *s = &g_array_index(all, struct staged, i);

		s->table->staged = false;
		if (failed)
			qcow2_cache_dirty_locked(cache, s->table, s->from, s->to);
	}
	g_array_unref(all);
}

int qcow2_commit(struct qcow2 *q, bool durable)
{
	struct batch batch;

	g_mutex_lock(&q->commit);
	g_mutex_lock(&q->meta);
	if (q->corrupt) {
		g_mutex_unlock(&q->meta);
		g_mutex_unlock(&q->commit);
		return -EIO;
	}
	stage_locked(q, &batch);
	g_mutex_unlock(&q->meta);

	int r = write_batch(q, &batch, durable);

	g_mutex_lock(&q->meta);
	unstage_locked(&q->refs, batch.refs, r < 0);
	unstage_locked(&q->l2, batch.l2, r < 0);
	if (r < 0) {
		qcow2_span_add(&q->reftable_dirty, batch.reftable.from, batch.reftable.to);
		qcow2_span_add(&q->l1_dirty, batch.l1.from, batch.l1.to);
		g_array_append_vals(q->freed, batch.freed->data, batch.freed->len);
	} else {
		for (unsigned i = 0; i < batch.freed->len; i++) {
			const struct qcow2_freed *f =
				&g_array_index(batch.freed, struct qcow2_freed, i);

			qcow2_release_locked(q, f->cluster, f->count);
		}
		trim(&q->l2);
		trim(&q->refs);
	}
	g_mutex_unlock(&q->meta);
	g_mutex_unlock(&q->commit);
	g_free(batch.reftable_data);
	g_free(batch.l1_data);
	g_array_unref(batch.freed);
	return r;
}

bool qcow2_is_dirty_locked(struct qcow2 *q)
{
	return q->l2.dirty || q->refs.dirty || q->l1_dirty.from != q->l1_dirty.to ||
	       q->reftable_dirty.from != q->reftable_dirty.to || q->freed->len;
}

int qcow2_make_room(struct qcow2 *q)
{
	g_mutex_lock(&q->meta);
	bool full = q->l2.dirty > q->l2.capacity / 2 || q->refs.dirty > q->refs.capacity / 2 ||
		    q->freed->len > FREED_MAX;

	g_mutex_unlock(&q->meta);
	return full ? qcow2_commit(q, false) : 0;
}

int qcow2_write_dirty_locked(struct qcow2 *q, struct qcow2_cache *cache)
{
	GArray *all = stage_cache(cache);
	int r = write_staged(q, all);

	unstage_locked(cache, all, r < 0);
	return r;
}
