// SPDX-License-Identifier: GPL-2.0-or-later
/* Guest data of a qcow2 image: reading, writing, zeroing, discarding. A write in place moves data
 * only. A write that needs a new cluster takes the cluster (its refcount), writes the data with
 * what surrounds it, and only then turns the L2 entry to it (rule R3). */
#include "block/qcow2.h"

#include "block/iov.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_MAX = 4 << 20, ZERO_STEP = 1024 };

/* One piece of a write: guest bytes [start, end) go to host clusters that begin at @host, which
 * stand for guest clusters beginning at @guest. Bytes from @fill_start and up to @fill_end around
 * it are carried over from what the guest sees there now. */
struct piece {
	uint64_t guest, host, start, end, fill_start, fill_end;
	uint32_t clusters;
	bool link;  /* the L2 entries change */
	bool taken; /* the clusters are new; let go of them on failure */
	bool fresh; /* and the file never held anything there */
};

static uint64_t backing_bytes(const struct qcow2 *q)
{
	return q->image->backing ? q->image->backing->size_bytes : 0;
}

bool qcow2_map(struct image *image, uint64_t offset, uint64_t length, bool write,
	       struct extent *extent)
{
	struct qcow2 *q = image->state;
	struct qcow2_run run;
	bool ok;

	g_mutex_lock(&q->meta);
	ok = qcow2_lookup_locked(q, offset, length, false, &run) == 0;
	if (ok && write) {
		ok = q->ready && !q->corrupt && run.kind == QCOW2_DATA && run.copied;
		for (uint64_t at = run.host >> q->cluster_bits;
		     ok && at <= (run.host + run.length - 1) >> q->cluster_bits; at++)
			ok = !qcow2_is_metadata_locked(q, at);
	}
	g_mutex_unlock(&q->meta);
	if (!ok || run.kind == QCOW2_PACKED)
		return false;
	extent->length = run.length;
	extent->offset = run.host;
	extent->file = run.kind == QCOW2_DATA ? q->file : NULL;
	if (run.kind != QCOW2_UNALLOCATED || offset >= backing_bytes(q))
		return true;
	length = MIN(run.length, backing_bytes(q) - offset);
	return image->backing->ops->map(image->backing, offset, length, false, extent);
}

int qcow2_preadv(struct image *image, uint64_t offset, const struct iovec *iov, int count)
{
	struct qcow2 *q = image->state;
	size_t total = iov_size(iov, count), done = 0;
	g_autofree struct iovec *part = g_new(struct iovec, MAX(count, 1));
	int r = 0;

	while (done < total && r == 0) {
		struct qcow2_run run;
		uint64_t at = offset + done;

		g_mutex_lock(&q->meta);
		r = qcow2_lookup_locked(q, at, total - done, true, &run);
		g_mutex_unlock(&q->meta);
		if (r < 0)
			break;
		size_t n = (size_t)run.length;

		if (run.kind == QCOW2_DATA) {
			int parts = iov_slice(part, iov, count, done, n);

			r = q->file->ops->preadv(q->file, run.host, part, parts);
		} else if (run.kind == QCOW2_PACKED) {
			r = qcow2_read_packed(q, run.word, (uint32_t)(at & (q->cluster_size - 1)),
					      iov, count, done, n);
			if (r == -EIO) {
				g_mutex_lock(&q->meta);
				r = qcow2_corrupt_locked(q,
							 "the compressed cluster of guest "
							 "offset %#" PRIx64 " is damaged",
							 at);
				g_mutex_unlock(&q->meta);
			}
		} else if (run.kind == QCOW2_ZEROES) {
			iov_zero(iov, count, done, n);
		} else {
			r = image_read(image->backing, at, iov, count, done, n);
		}
		done += n;
	}
	return r;
}

/* Whether the guest sees nothing but zeros in a range, as far as tables tell. */
static bool reads_zero_locked(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	while (length) {
		struct qcow2_run run;

		if (qcow2_lookup_locked(q, offset, length, true, &run) < 0)
			return false;
		if (run.kind != QCOW2_ZEROES &&
		    (run.kind != QCOW2_UNALLOCATED || offset < backing_bytes(q)))
			return false;
		offset += run.length;
		length -= run.length;
	}
	return true;
}

static int check_overlap_locked(struct qcow2 *q, uint64_t host, uint64_t length)
{
	for (uint64_t at = host >> q->cluster_bits; at <= (host + length - 1) >> q->cluster_bits;
	     at++) {
		if (qcow2_is_metadata_locked(q, at))
			return qcow2_corrupt_locked(q, "guest data lies over metadata at %#" PRIx64,
						    at << q->cluster_bits);
	}
	return 0;
}

/* The new clusters must take over everything the old ones hold when those are left behind. */
static bool leaves_data_behind(struct qcow2_entry entry)
{
	return (entry.word & QCOW2_COMPRESSED) || (entry.word & QCOW2_OFFSET);
}

static bool keeps_cluster(struct qcow2_entry entry)
{
	return !(entry.word & QCOW2_COMPRESSED) && (entry.word & QCOW2_COPIED) &&
	       (entry.word & QCOW2_OFFSET);
}

/* Sets what must be filled around [start, end) of a piece whose clusters are known. */
static void plan_fill(struct qcow2 *q, struct piece *p, struct qcow2_entry first,
		      struct qcow2_entry last)
{
	uint64_t cluster = q->cluster_size - 1, sub = (UINT64_C(1) << q->sub_bits) - 1;

	p->fill_start = p->start & ~(p->taken && leaves_data_behind(first) ? cluster : sub);
	p->fill_end = p->taken && leaves_data_behind(last) ? (p->end + cluster) & ~cluster
							   : (p->end + sub) & ~sub;
}

static int plan_new_locked(struct qcow2 *q, const struct qcow2_table *table, struct piece *p)
{
	uint32_t entries = 1U << q->l2_bits;
	uint32_t index = (uint32_t)(p->start >> q->cluster_bits) & (entries - 1);
	uint64_t last = (p->end - 1) >> q->cluster_bits, first, count, want = 1;
	struct qcow2_entry first_entry = qcow2_entry_get(q, table, index), last_entry;

	while (p->guest + (want << q->cluster_bits) <= last << q->cluster_bits &&
	       index + want < entries &&
	       !keeps_cluster(qcow2_entry_get(q, table, index + (uint32_t)want)))
		want++;
	uint64_t table_offset = table->offset;
	int r = qcow2_alloc_locked(q, want, &first, &count, &p->fresh);

	if (r < 0)
		return r;
	g_assert(qcow2_cache_find_locked(&q->l2, table_offset) == table);
	last_entry = qcow2_entry_get(q, table, index + (uint32_t)count - 1);
	p->host = first << q->cluster_bits;
	p->clusters = (uint32_t)count;
	p->taken = true;
	p->end = MIN(p->end, p->guest + (count << q->cluster_bits));
	plan_fill(q, p, first_entry, last_entry);
	return 0;
}

static int plan_locked(struct qcow2 *q, uint64_t offset, uint64_t length, struct piece *p)
{
	struct qcow2_table *table;
	struct qcow2_run run;
	int r = qcow2_lookup_locked(q, offset, length, true, &run);

	if (r < 0)
		return r;
	*p = (struct piece){.guest = offset & ~(uint64_t)(q->cluster_size - 1),
			    .start = offset,
			    .end = offset + length,
			    .clusters = 1};
	if (run.kind == QCOW2_DATA && run.copied) {
		p->host = run.host - (offset - p->guest);
		p->end = p->fill_end = offset + run.length;
		p->fill_start = offset;
		return check_overlap_locked(q, run.host, run.length);
	}
	r = qcow2_l2_for_write_locked(q, offset, &table);
	if (r < 0)
		return r;
	p->link = true;
	struct qcow2_entry entry = qcow2_entry_get(
		q, table, (uint32_t)(offset >> q->cluster_bits) & ((1U << q->l2_bits) - 1));

	if (!keeps_cluster(entry))
		return plan_new_locked(q, table, p);
	p->host = entry.word & QCOW2_OFFSET;
	p->end = MIN(p->end, p->guest + q->cluster_size);
	plan_fill(q, p, entry, entry);
	if (p->host & (q->cluster_size - 1) || p->host >> q->cluster_bits >= q->end)
		return qcow2_corrupt_locked(q,
					    "guest offset %#" PRIx64 " lies at %#" PRIx64
					    ", not a cluster of the file",
					    offset, p->host);
	return check_overlap_locked(q, p->host, q->cluster_size);
}

/* Reads what goes before or after the data of a piece. NULL when there is nothing to write there:
 * zeros that the file has already. */
static int read_fill(struct qcow2 *q, const struct piece *p, uint64_t start, uint64_t end,
		     struct iovec *fill)
{
	fill->iov_len = 0;
	fill->iov_base = NULL;
	if (start >= end)
		return 0;
	g_mutex_lock(&q->meta);
	bool zero = reads_zero_locked(q, start, end - start);

	g_mutex_unlock(&q->meta);
	if (zero && p->fresh)
		return 0;
	fill->iov_len = (size_t)(end - start);
	if (posix_memalign(&fill->iov_base, 4096, fill->iov_len) != 0)
		return -ENOMEM;
	if (zero) {
		memset(fill->iov_base, 0, fill->iov_len);
		return 0;
	}
	/* The last cluster may stick out of the disk. */
	uint64_t inside = MIN(end, MAX(q->image->size_bytes, start)) - start;
	struct iovec part = {fill->iov_base, (size_t)inside};

	memset((char *)fill->iov_base + inside, 0, fill->iov_len - inside);
	return inside ? qcow2_preadv(q->image, start, &part, 1) : 0;
}

static int write_piece(struct qcow2 *q, const struct piece *p, const struct iovec *iov, int count,
		       size_t skip)
{
	g_autofree struct iovec *all = g_new(struct iovec, count + 2);
	struct iovec head, tail = {0};
	int n = 0, r = read_fill(q, p, p->fill_start, p->start, &head);

	if (r == 0)
		r = read_fill(q, p, p->end, p->fill_end, &tail);
	if (r == 0) {
		if (head.iov_len)
			all[n++] = head;
		n += iov_slice(all + n, iov, count, skip, (size_t)(p->end - p->start));
		if (tail.iov_len)
			all[n++] = tail;
		r = q->file->ops->pwritev(q->file, p->host + (p->start - head.iov_len - p->guest),
					  all, n, q->image->sync_writes);
	}
	free(head.iov_base);
	free(tail.iov_base);
	return r;
}

/* The subclusters of guest cluster @guest that the piece wrote, as bits. */
static uint64_t written_bits(const struct qcow2 *q, const struct piece *p, uint64_t guest)
{
	uint64_t from = MAX(p->fill_start, guest) - guest;
	uint64_t to = MIN(p->fill_end, guest + q->cluster_size) - guest;
	uint32_t first = (uint32_t)(from >> q->sub_bits);
	uint32_t count = (uint32_t)((to - from) >> q->sub_bits);

	return ((UINT64_C(1) << count) - 1) << first;
}

static int link_piece_locked(struct qcow2 *q, const struct piece *p)
{
	struct qcow2_table *table;
	int r = qcow2_l2_for_write_locked(q, p->guest, &table);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < p->clusters; i++) {
		uint64_t guest = p->guest + ((uint64_t)i << q->cluster_bits);
		uint32_t index = (uint32_t)(guest >> q->cluster_bits) & ((1U << q->l2_bits) - 1);
		struct qcow2_entry old = qcow2_entry_get(q, table, index), entry = {0};

		entry.word = (p->host + ((uint64_t)i << q->cluster_bits)) | QCOW2_COPIED;
		if (q->sub_count > 1) {
			uint64_t bits = written_bits(q, p, guest);

			entry.bits = (old.word & QCOW2_COMPRESSED ? 0 : old.bits) | bits;
			entry.bits &= ~(bits << 32);
		}
		qcow2_entry_set_locked(q, table, index, entry);
		if (p->taken)
			qcow2_entry_free_later_locked(q, old);
	}
	return 0;
}

/* Writes the beginning of a request; *@done bytes of it. */
static int write_some(struct qcow2 *q, uint64_t offset, const struct iovec *iov, int count,
		      size_t skip, size_t length, size_t *done)
{
	struct piece p;
	int r = qcow2_make_room(q);

	while (r == 0) {
		g_mutex_lock(&q->meta);
		r = q->corrupt ? -EIO : plan_locked(q, offset, MIN(length, PIECE_MAX), &p);
		g_mutex_unlock(&q->meta);
		if (r != -EAGAIN)
			break;
		r = qcow2_grow(q);
	}
	if (r < 0)
		return r;
	r = write_piece(q, &p, iov, count, skip);
	*done = (size_t)(p.end - p.start);
	if (!p.link)
		return r;
	g_mutex_lock(&q->meta);
	if (r == 0)
		r = link_piece_locked(q, &p);
	if (r < 0 && p.taken)
		qcow2_release_locked(q, p.host >> q->cluster_bits, p.clusters);
	g_mutex_unlock(&q->meta);
	return r;
}

static int write_all(struct qcow2 *q, uint64_t offset, const struct iovec *iov, int count)
{
	size_t total = iov_size(iov, count), done = 0;
	int r = qcow2_prepare_write(q);

	while (done < total && r == 0) {
		size_t n = 0;

		r = write_some(q, offset + done, iov, count, done, total - done, &n);
		done += n;
	}
	return r;
}

/* In the modes that promise it, what was done is durable before it is reported done. Data was
 * written so; what is left is metadata. */
static int finish(struct qcow2 *q, int r)
{
	if (r < 0 || !q->image->sync_writes)
		return r;
	g_mutex_lock(&q->meta);
	bool dirty = qcow2_is_dirty_locked(q);

	g_mutex_unlock(&q->meta);
	return dirty ? qcow2_commit(q, true) : 0;
}

int qcow2_pwritev(struct image *image, uint64_t offset, const struct iovec *iov, int count)
{
	struct qcow2 *q = image->state;

	return finish(q, write_all(q, offset, iov, count));
}

int qcow2_flush(struct image *image)
{
	struct qcow2 *q = image->state;

	if (image->read_only)
		return 0;
	g_mutex_lock(&q->meta);
	bool dirty = qcow2_is_dirty_locked(q) || q->corrupt;

	g_mutex_unlock(&q->meta);
	return dirty ? qcow2_commit(q, true) : block_file_flush(q->file);
}

/* How clusters are emptied. */
enum emptying {
	EMPTY_DISCARD,  /* give the cluster back, keep what cannot be said to be zero */
	EMPTY_UNMAP,    /* zeros, give the cluster back */
	EMPTY_IN_PLACE, /* zeros, keep the cluster for later writes */
};

static void empty_cluster_locked(struct qcow2 *q, struct qcow2_table *table, uint64_t guest,
				 enum emptying how)
{
	uint32_t index = (uint32_t)(guest >> q->cluster_bits) & ((1U << q->l2_bits) - 1);
	struct qcow2_entry old = qcow2_entry_get(q, table, index), entry = {0};
	bool hide = guest < backing_bytes(q);

	if (how == EMPTY_IN_PLACE && q->header.version >= 3 && keeps_cluster(old)) {
		entry.word = old.word & (QCOW2_OFFSET | QCOW2_COPIED);
		hide = true;
	}
	if (hide && q->sub_count > 1)
		entry.bits = UINT64_C(0xffffffff) << 32;
	else if (hide)
		entry.word |= QCOW2_ZERO;
	if (entry.word == old.word && entry.bits == old.bits)
		return;
	qcow2_entry_set_locked(q, table, index, entry);
	if (!(entry.word & QCOW2_OFFSET))
		qcow2_entry_free_later_locked(q, old);
}

/* Empties whole clusters [offset, end), as far as one L2 table and one step go. */
static int empty_step_locked(struct qcow2 *q, uint64_t *offset, uint64_t end, enum emptying how)
{
	uint32_t span_bits = q->l2_bits + q->cluster_bits;
	uint64_t stop = MIN(end, ((*offset >> span_bits) + 1) << span_bits);
	struct qcow2_table *table;

	if (*offset >> span_bits >= q->header.l1_entries)
		return -EIO;
	if ((q->l1[*offset >> span_bits] & QCOW2_OFFSET) == 0 && *offset >= backing_bytes(q)) {
		*offset = stop;
		return 0;
	}
	int r = qcow2_l2_for_write_locked(q, *offset, &table);

	if (r < 0)
		return r;
	stop = MIN(stop, *offset + ((uint64_t)ZERO_STEP << q->cluster_bits));
	for (; *offset < stop; *offset += q->cluster_size)
		empty_cluster_locked(q, table, *offset, how);
	return 0;
}

static int empty_clusters(struct qcow2 *q, uint64_t offset, uint64_t end, enum emptying how)
{
	int r = 0;

	while (offset < end && r == 0) {
		r = qcow2_make_room(q);
		if (r < 0)
			return r;
		g_mutex_lock(&q->meta);
		r = q->corrupt ? -EIO : empty_step_locked(q, &offset, end, how);
		g_mutex_unlock(&q->meta);
		if (r == -EAGAIN)
			r = qcow2_grow(q);
	}
	return r;
}

/* The range of whole units of @unit bytes inside a request; the disk's end counts as whole. */
static void whole_units(const struct qcow2 *q, uint64_t offset, uint64_t length, uint64_t unit,
			uint64_t *from, uint64_t *to)
{
	uint64_t end = offset + length;

	*from = (offset + unit - 1) & ~(unit - 1);
	*to = end == q->image->size_bytes ? (end + unit - 1) & ~(unit - 1) : end & ~(unit - 1);
	*to = MAX(*from, *to);
}

int qcow2_discard(struct image *image, uint64_t offset, uint64_t length)
{
	struct qcow2 *q = image->state;
	uint64_t from, to;
	int r = qcow2_prepare_write(q);

	whole_units(q, offset, length, q->cluster_size, &from, &to);
	if (q->header.version < 3 && from < backing_bytes(q))
		return r; /* no way to hide what the backing file has there */
	if (r == 0)
		r = empty_clusters(q, from, to, EMPTY_DISCARD);
	return finish(q, r);
}

static int write_zeros(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	g_autofree char *zeros = NULL;
	int r = 0;

	while (length && r == 0) {
		size_t n = (size_t)MIN(length, q->cluster_size - (offset & (q->cluster_size - 1)));
		struct iovec iov;

		g_mutex_lock(&q->meta);
		bool already = reads_zero_locked(q, offset, n);

		g_mutex_unlock(&q->meta);
		if (!already) {
			if (!zeros)
				zeros = g_malloc0(q->cluster_size);
			iov = (struct iovec){zeros, n};
			r = write_all(q, offset, &iov, 1);
		}
		offset += n;
		length -= n;
	}
	return r;
}

/* Zeroes some whole subclusters of one cluster. Returns 1 when zeros must be written instead. */
static int zero_subclusters_locked(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	struct qcow2_table *table;
	int r = qcow2_l2_for_write_locked(q, offset, &table);

	if (r < 0)
		return r;
	uint32_t index = (uint32_t)(offset >> q->cluster_bits) & ((1U << q->l2_bits) - 1);
	uint32_t first = (uint32_t)(offset & (q->cluster_size - 1)) >> q->sub_bits;
	uint64_t bits = ((UINT64_C(1) << (length >> q->sub_bits)) - 1) << first;
	struct qcow2_entry entry = qcow2_entry_get(q, table, index);

	if (entry.word & QCOW2_COMPRESSED)
		return 1;
	entry.bits = (entry.bits & ~bits) | bits << 32;
	qcow2_entry_set_locked(q, table, index, entry);
	return 0;
}

/* Zeroes part of a cluster: whole subclusters by their bits, the rest by writing. */
static int zero_part(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	uint64_t from, to;
	int r = 1;

	whole_units(q, offset, length, UINT64_C(1) << q->sub_bits, &from, &to);
	while (q->sub_count > 1 && from < to) {
		r = qcow2_make_room(q);
		g_mutex_lock(&q->meta);
		if (r == 0)
			r = q->corrupt ? -EIO : zero_subclusters_locked(q, from, to - from);
		g_mutex_unlock(&q->meta);
		if (r != -EAGAIN || (r = qcow2_grow(q)) < 0)
			break;
	}
	if (r < 0)
		return r;
	if (r == 1)
		return write_zeros(q, offset, length);
	r = write_zeros(q, offset, from - offset);
	return r == 0 && to < offset + length ? write_zeros(q, to, offset + length - to) : r;
}

int qcow2_zero(struct image *image, uint64_t offset, uint64_t length, bool unmap)
{
	struct qcow2 *q = image->state;
	enum emptying how = unmap && image->discard ? EMPTY_UNMAP : EMPTY_IN_PLACE;
	uint64_t from, to, end = offset + length;
	int r = qcow2_prepare_write(q);

	whole_units(q, offset, length, q->cluster_size, &from, &to);
	if (r == 0 && from >= to) {
		/* Nothing whole: one cluster, or the ends of two. */
		uint64_t cut = MIN(MAX(from, offset), end);

		if (cut > offset)
			r = zero_part(q, offset, cut - offset);
		if (r == 0 && cut < end)
			r = zero_part(q, cut, end - cut);
		return finish(q, r);
	}
	if (r == 0 && offset < from)
		r = zero_part(q, offset, from - offset);
	if (r == 0 && q->header.version < 3 && from < backing_bytes(q)) {
		uint64_t hidden = MIN(MIN(to, end), (backing_bytes(q) + q->cluster_size - 1) &
							    ~(uint64_t)(q->cluster_size - 1));

		r = write_zeros(q, from, hidden - from);
		from = hidden;
	}
	if (r == 0 && from < to)
		r = empty_clusters(q, from, to, how);
	if (r == 0 && to < end)
		r = zero_part(q, to, end - to);
	return finish(q, r);
}
