// SPDX-License-Identifier: GPL-2.0-or-later
/* Opening and closing a qcow2 image. */
#include "block/qcow2.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

enum { L2_CACHE_BYTES = 8 << 20, REFS_CACHE_BYTES = 4 << 20, CACHE_TABLES_MIN = 8 };

static uint64_t *load_entries(struct block_file *file, uint64_t offset, uint64_t entries,
			      int *result)
{
	uint64_t *table = g_new0(uint64_t, MAX(entries, 1));

	*result = block_file_pread(file, offset, table, entries * 8);
	for (uint64_t i = 0; i < entries; i++)
		table[i] = qcow2_get64(&table[i]);
	return table;
}

static void derive(struct qcow2 *q)
{
	const struct qcow2_header *h = &q->header;
	bool extended = h->incompat & QCOW2_INCOMPAT_EXTENDED_L2;

	q->cluster_bits = h->cluster_bits;
	q->cluster_size = 1U << h->cluster_bits;
	q->l2_entry_size = extended ? 16 : 8;
	q->l2_bits = h->cluster_bits - (extended ? 4 : 3);
	q->sub_count = extended ? 32 : 1;
	q->sub_bits = h->cluster_bits - (extended ? 5 : 0);
	q->ref_bits = h->cluster_bits + 3 - h->refcount_order;
	qcow2_cache_init(&q->l2, MAX(L2_CACHE_BYTES >> h->cluster_bits, CACHE_TABLES_MIN));
	qcow2_cache_init(&q->refs, MAX(REFS_CACHE_BYTES >> h->cluster_bits, CACHE_TABLES_MIN));
}

static bool own(struct qcow2 *q, const char *what, uint64_t index, uint64_t offset, GError **error)
{
	const char *how = NULL;

	if (offset & (q->cluster_size - 1))
		how = "does not begin on a cluster";
	else if (offset >> q->cluster_bits >= q->end)
		how = "lies beyond the end of the file";
	else if (qcow2_is_metadata_locked(q, offset >> q->cluster_bits))
		how = "lies over other metadata";
	if (how)
		return error_set(error, LODGE_ERROR_CORRUPT,
				 "%s: corrupt qcow2 image: %s %" PRIu64 " %s; "
				 "try 'qemu-img check -r all', or open it read-only",
				 q->image->path, what, index, how);
	g_hash_table_add(q->owned, GSIZE_TO_POINTER(offset >> q->cluster_bits));
	return true;
}

/* Remembers where metadata lies, so that data never goes over it. */
static bool map_metadata(struct qcow2 *q, GError **error)
{
	uint64_t snapshots = q->header.snapshots ? q->header.snapshot_offset >> q->cluster_bits : 0;

	if (snapshots)
		g_hash_table_add(q->owned, GSIZE_TO_POINTER(snapshots));
	for (uint64_t i = 0; i < q->reftable_entries; i++) {
		uint64_t offset = q->reftable[i] & ~UINT64_C(0x1ff);

		if (offset && !own(q, "refcount block", i, offset, error))
			return false;
	}
	for (uint64_t i = 0; i < q->header.l1_entries; i++) {
		uint64_t offset = q->l1[i] & QCOW2_OFFSET;

		if (offset && !own(q, "L2 table", i, offset, error))
			return false;
	}
	return true;
}

static bool check_writable(struct qcow2 *q, GError **error)
{
	const char *path = q->image->path;

	if (q->header.incompat & QCOW2_INCOMPAT_CORRUPT)
		return error_set(error, LODGE_ERROR_CORRUPT,
				 "%s: the image is marked corrupt; repair it with "
				 "'qemu-img check -r all', or open it read-only",
				 path);
	if (!map_metadata(q, error))
		return false;
	if (q->header.incompat & QCOW2_INCOMPAT_DIRTY)
		return qcow2_rebuild_refcounts(q, error);
	return true;
}

static void free_state(struct qcow2 *q)
{
	qcow2_forget_unpacked(q);
	qcow2_cache_fini(&q->l2);
	qcow2_cache_fini(&q->refs);
	g_free(q->l1);
	g_free(q->reftable);
	g_array_unref(q->freed);
	g_hash_table_unref(q->owned);
	g_mutex_clear(&q->commit);
	g_mutex_clear(&q->meta);
	g_mutex_clear(&q->zip);
	g_free(q);
}

static bool load(struct qcow2 *q, GError **error)
{
	struct image *image = q->image;
	uint64_t file_size;
	int r = block_file_size(image->file, &file_size);

	if (r == 0)
		q->l1 = load_entries(image->file, q->header.l1_offset, q->header.l1_entries, &r);
	if (r < 0)
		return error_set_errno(error, -r, "%s: cannot read the L1 table", image->path);
	q->end = (file_size + q->cluster_size - 1) >> q->cluster_bits;
	q->fresh = q->end << q->cluster_bits;
	if (image->read_only)
		return true;
	q->reftable_entries = ((uint64_t)q->header.reftable_clusters << q->cluster_bits) / 8;
	q->reftable = load_entries(image->file, q->header.reftable_offset, q->reftable_entries, &r);
	if (r < 0)
		return error_set_errno(error, -r, "%s: cannot read the refcount table",
				       image->path);
	return check_writable(q, error);
}

static bool qcow2_open(struct image *image, GError **error)
{
	struct qcow2_header header;

	if (!qcow2_header_read(image, &header, error))
		return false;
	struct qcow2 *q = g_new0(struct qcow2, 1);

	q->image = image;
	q->file = image->file;
	q->header = header;
	q->freed = g_array_new(FALSE, FALSE, sizeof(struct qcow2_freed));
	q->owned = g_hash_table_new(NULL, NULL);
	g_mutex_init(&q->commit);
	g_mutex_init(&q->meta);
	g_mutex_init(&q->zip);
	derive(q);
	if (!load(q, error)) {
		free_state(q);
		return false;
	}
	image->state = q;
	image->size_bytes = header.size;
	image->granularity = q->cluster_size;
	image->zero_granularity = 1U << q->sub_bits;
	return true;
}

static int qcow2_close(struct image *image)
{
	struct qcow2 *q = image->state;
	int r = 0;

	if (!image->read_only && q->ready) {
		r = qcow2_commit(q, true);
		/* What the first commit freed shows in the refcounts now. */
		if (r == 0 && qcow2_is_dirty_locked(q))
			r = qcow2_commit(q, true);
	}
	free_state(q);
	return r;
}

int qcow2_corrupt_locked(struct qcow2 *q, const char *format, ...)
{
	uint8_t bits[8];
	va_list list;

	if (q->corrupt)
		return -EIO;
	q->corrupt = true;
	va_start(list, format);
	g_autofree char *what = g_strdup_vprintf(format, list);

	va_end(list);
	g_message("%s: corrupt qcow2 image: %s; no more is written to it", q->image->path, what);
	q->header.incompat |= QCOW2_INCOMPAT_CORRUPT;
	qcow2_put64(bits, q->header.incompat);
	if (!q->image->read_only && q->header.version >= 3 &&
	    block_file_pwrite(q->file, 72, bits, sizeof(bits)) == 0)
		block_file_flush(q->file);
	return -EIO;
}

static int clear_autoclear(struct qcow2 *q)
{
	uint8_t bits[8] = {0};
	int r;

	if (q->header.version < 3 || !q->header.autoclear)
		return 0;
	r = block_file_pwrite(q->file, 88, bits, sizeof(bits));
	if (r == 0)
		r = block_file_flush(q->file);
	if (r == 0)
		q->header.autoclear = 0;
	return r;
}

int qcow2_prepare_write(struct qcow2 *q)
{
	int r = 0;

	g_mutex_lock(&q->meta);
	bool ready = q->ready, corrupt = q->corrupt;

	g_mutex_unlock(&q->meta);
	if (corrupt)
		return -EIO;
	if (ready)
		return 0;
	g_mutex_lock(&q->commit);
	g_mutex_lock(&q->meta);
	if (!q->ready)
		r = clear_autoclear(q);
	q->ready = r == 0;
	g_mutex_unlock(&q->meta);
	g_mutex_unlock(&q->commit);
	return r;
}

const struct image_ops qcow2_ops = {
	.name = "qcow2",
	.open = qcow2_open,
	.close = qcow2_close,
	.map = qcow2_map,
	.preadv = qcow2_preadv,
	.pwritev = qcow2_pwritev,
	.flush = qcow2_flush,
	.discard = qcow2_discard,
	.zero = qcow2_zero,
};
