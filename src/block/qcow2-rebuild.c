// SPDX-License-Identifier: GPL-2.0-or-later
/* Counts all references of an image that was left with its dirty bit set (lazy refcounts) and makes
 * the refcounts say the same. An image in worse state than that is refused, with the remedy. */
#include "block/qcow2.h"

#include "base/error.h"

#include <errno.h>

enum { SNAPSHOT_HEAD_BYTES = 40 };

struct rebuild {
	struct qcow2 *q;
	uint32_t *count;
	uint64_t clusters;
	const char *trouble;
};

static bool trouble(struct rebuild *b, const char *what)
{
	b->trouble = what;
	return false;
}

static bool count_range(struct rebuild *b, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset >> b->q->cluster_bits;

	if (bytes == 0)
		return true;
	if (first >= b->clusters || bytes > (b->clusters - first) << b->q->cluster_bits)
		return trouble(b, "something lies beyond the end of the file");
	uint64_t last = (offset + bytes - 1) >> b->q->cluster_bits;

	if (last >= b->clusters)
		return trouble(b, "something lies beyond the end of the file");
	for (uint64_t i = first; i <= last; i++)
		b->count[i]++;
	return true;
}

static bool count_entry(struct rebuild *b, struct qcow2_entry entry)
{
	uint64_t host = entry.word & QCOW2_OFFSET;

	if (entry.word & QCOW2_COMPRESSED) {
		uint64_t offset, bytes, end = b->clusters << b->q->cluster_bits;

		qcow2_packed_place(b->q, entry.word, &offset, &bytes);
		if (offset >= end)
			return trouble(b, "a compressed cluster lies beyond the end of the file");
		return count_range(b, offset, MIN(bytes, end - offset));
	}
	if (host & (b->q->cluster_size - 1))
		return trouble(b, "a data cluster does not begin on a cluster");
	return host == 0 || count_range(b, host, b->q->cluster_size);
}

static bool count_l2(struct rebuild *b, uint64_t offset)
{
	struct qcow2_table *table;

	if (offset & (b->q->cluster_size - 1))
		return trouble(b, "an L2 table does not begin on a cluster");
	if (!count_range(b, offset, b->q->cluster_size))
		return false;
	if (qcow2_cache_load_locked(b->q, &b->q->l2, offset, false, &table) < 0)
		return trouble(b, "an L2 table cannot be read");
	for (uint32_t i = 0; i < 1U << b->q->l2_bits; i++) {
		if (!count_entry(b, qcow2_entry_get(b->q, table, i)))
			return false;
	}
	return true;
}

static bool count_l1(struct rebuild *b, uint64_t offset, const uint64_t *l1, uint32_t entries)
{
	if (!count_range(b, offset, (uint64_t)entries * 8))
		return false;
	for (uint32_t i = 0; i < entries; i++) {
		uint64_t l2 = l1[i] & QCOW2_OFFSET;

		if (l2 && !count_l2(b, l2))
			return false;
	}
	return true;
}

static bool count_snapshot_l1(struct rebuild *b, uint64_t offset, uint32_t entries)
{
	if ((uint64_t)entries * 8 > QCOW2_MAX_L1_BYTES || (offset & (b->q->cluster_size - 1)))
		return trouble(b, "a snapshot's L1 table is out of range");
	g_autofree uint64_t *l1 = g_new0(uint64_t, MAX(entries, 1));

	if (block_file_pread(b->q->file, offset, l1, (size_t)entries * 8) < 0)
		return trouble(b, "a snapshot's L1 table cannot be read");
	for (uint32_t i = 0; i < entries; i++)
		l1[i] = qcow2_get64(&l1[i]);
	return count_l1(b, offset, l1, entries);
}

static bool count_snapshots(struct rebuild *b)
{
	uint64_t start = b->q->header.snapshot_offset, at = start;

	for (uint32_t i = 0; i < b->q->header.snapshots; i++) {
		uint8_t head[SNAPSHOT_HEAD_BYTES];

		if (block_file_pread(b->q->file, at, head, sizeof(head)) < 0)
			return trouble(b, "the snapshot table cannot be read");
		uint32_t id_length = (uint32_t)head[12] << 8 | head[13];
		uint32_t name_length = (uint32_t)head[14] << 8 | head[15];
		uint64_t bytes = (uint64_t)SNAPSHOT_HEAD_BYTES + qcow2_get32(head + 36) +
				 id_length + name_length;

		if (!count_snapshot_l1(b, qcow2_get64(head), qcow2_get32(head + 8)))
			return false;
		at += (bytes + 7) & ~UINT64_C(7);
		if (at - start > QCOW2_MAX_SNAPSHOT_BYTES)
			return trouble(b, "the snapshot table is too large");
	}
	return count_range(b, start, at - start);
}

static bool count_all(struct rebuild *b)
{
	struct qcow2 *q = b->q;

	if (!count_range(b, 0, q->cluster_size) ||
	    !count_range(b, q->header.reftable_offset, q->reftable_entries * 8))
		return false;
	for (uint64_t i = 0; i < q->reftable_entries; i++) {
		if (q->reftable[i] && !count_range(b, q->reftable[i], q->cluster_size))
			return false;
	}
	return count_l1(b, q->header.l1_offset, q->l1, q->header.l1_entries) && count_snapshots(b);
}

/* The "copied" bit promises that a cluster has one reference; writing in place relies on it. */
static bool check_copied(struct rebuild *b)
{
	struct qcow2 *q = b->q;

	for (uint32_t i = 0; i < q->header.l1_entries; i++) {
		uint64_t offset = q->l1[i] & QCOW2_OFFSET;
		struct qcow2_table *table;

		if (!offset)
			continue;
		if ((q->l1[i] & QCOW2_COPIED) && b->count[offset >> q->cluster_bits] != 1)
			return trouble(b, "an L2 table is used twice");
		if (qcow2_cache_load_locked(q, &q->l2, offset, false, &table) < 0)
			return trouble(b, "an L2 table cannot be read");
		for (uint32_t j = 0; j < 1U << q->l2_bits; j++) {
			uint64_t word = qcow2_entry_get(q, table, j).word;

			if ((word & QCOW2_COPIED) && !(word & QCOW2_COMPRESSED) &&
			    (word & QCOW2_OFFSET) &&
			    b->count[(word & QCOW2_OFFSET) >> q->cluster_bits] != 1)
				return trouble(b, "a data cluster is used twice");
		}
	}
	return true;
}

/* Sets a refcount; where its block is missing one is made at the end of the file. */
static bool put_count(struct rebuild *b, uint64_t cluster, uint64_t value)
{
	struct qcow2 *q = b->q;
	uint64_t index = cluster >> q->ref_bits, have;

	if (index >= q->reftable_entries)
		return trouble(b, "the refcount table is too small");
	if (q->reftable[index] == 0) {
		if (value == 0)
			return true;
		uint64_t place = q->end++;

		q->fresh = MAX(q->fresh, q->end << q->cluster_bits);
		q->reftable[index] = place << q->cluster_bits;
		qcow2_span_add(&q->reftable_dirty, index, index + 1);
		qcow2_cache_add_locked(q, &q->refs, place << q->cluster_bits);
		g_hash_table_add(q->owned, GSIZE_TO_POINTER(place));
		if (!put_count(b, place, 1))
			return false;
	}
	if (qcow2_refcount_get_locked(q, cluster, &have) < 0)
		return trouble(b, "a refcount block cannot be read");
	if (have == value)
		return true;
	uint32_t bits = 1U << q->header.refcount_order;

	if (bits < 64 && value >> bits)
		return trouble(b, "a cluster has more references than its refcount can hold");
	return qcow2_refcount_set_locked(q, cluster, value) == 0 ||
	       trouble(b, "a refcount block cannot be changed");
}

static bool correct_all(struct rebuild *b)
{
	for (uint64_t i = 0; i < b->clusters; i++) {
		if (!put_count(b, i, b->count[i]))
			return false;
	}
	return true;
}

static int clear_dirty(struct qcow2 *q)
{
	uint8_t bits[8];
	int r = qcow2_prepare_write(q);

	if (r == 0)
		r = qcow2_commit(q, true);
	if (r < 0)
		return r;
	qcow2_put64(bits, q->header.incompat & ~(uint64_t)QCOW2_INCOMPAT_DIRTY);
	r = block_file_pwrite(q->file, 72, bits, sizeof(bits));
	if (r == 0)
		r = block_file_flush(q->file);
	if (r == 0)
		q->header.incompat &= ~(uint64_t)QCOW2_INCOMPAT_DIRTY;
	return r;
}

bool qcow2_rebuild_refcounts(struct qcow2 *q, GError **error)
{
	struct rebuild b = {.q = q, .clusters = q->end};
	const char *path = q->image->path;
	bool ok;

	if (q->end > UINT64_C(1) << 28 ||
	    (q->header.bitmaps && (q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS)))
		ok = trouble(&b, "it holds more than can be counted here");
	else {
		b.count = g_new0(uint32_t, b.clusters);
		g_mutex_lock(&q->meta);
		ok = count_all(&b) && check_copied(&b) && correct_all(&b);
		g_mutex_unlock(&q->meta);
		g_free(b.count);
	}
	if (!ok)
		return error_set(
			error, LODGE_ERROR_CORRUPT,
			"%s: the image was not closed properly and its refcounts cannot be "
			"put right here (%s); repair it with 'qemu-img check -r all'",
			path, b.trouble);
	int r = clear_dirty(q);

	return r == 0 ||
	       error_set_errno(error, -r, "%s: cannot write the corrected refcounts", path);
}
