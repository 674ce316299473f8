// SPDX-License-Identifier: GPL-2.0-or-later
/* L2 entries: what they mean, finding them, and making L2 tables ours to change. An entry of a
 * standard image is treated as one with a single subcluster. */
#include "block/qcow2.h"

#include <errno.h>
#include <string.h>

struct qcow2_entry qcow2_entry_get(const struct qcow2 *q, const struct qcow2_table *table,
				   uint32_t index)
{
	const uint8_t *at = table->data + (size_t)index * q->l2_entry_size;
	struct qcow2_entry entry = {.word = qcow2_get64(at)};

	if (q->l2_entry_size == 16)
		entry.bits = qcow2_get64(at + 8);
	return entry;
}

void qcow2_entry_set_locked(struct qcow2 *q, struct qcow2_table *table, uint32_t index,
			    struct qcow2_entry entry)
{
	uint32_t from = index * q->l2_entry_size;
	uint8_t *at = table->data + from;

	qcow2_put64(at, entry.word);
	if (q->l2_entry_size == 16)
		qcow2_put64(at + 8, entry.bits);
	qcow2_cache_dirty_locked(&q->l2, table, from, from + q->l2_entry_size);
}

enum qcow2_kind qcow2_entry_kind(const struct qcow2 *q, struct qcow2_entry entry, uint32_t sub)
{
	uint64_t host = entry.word & QCOW2_OFFSET;

	if (entry.word & QCOW2_COMPRESSED)
		return entry.bits ? QCOW2_INVALID : QCOW2_PACKED;
	if (host & (q->cluster_size - 1))
		return QCOW2_INVALID;
	if (q->sub_count > 1) {
		bool allocated = entry.bits >> sub & 1, zero = entry.bits >> (32 + sub) & 1;

		if (allocated && (zero || !host))
			return QCOW2_INVALID;
		if (zero)
			return QCOW2_ZEROES;
		return allocated ? QCOW2_DATA : QCOW2_UNALLOCATED;
	}
	if (entry.word & QCOW2_ZERO)
		return q->header.version < 3 ? QCOW2_INVALID : QCOW2_ZEROES;
	return host ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

void qcow2_packed_place(const struct qcow2 *q, uint64_t word, uint64_t *offset, uint64_t *bytes)
{
	uint32_t split = 62 - (q->cluster_bits - 8);
	uint64_t sectors = ((word >> split) & ((UINT64_C(1) << (q->cluster_bits - 8)) - 1)) + 1;

	*offset = word & ((UINT64_C(1) << split) - 1);
	*bytes = sectors * 512 - (*offset & 511);
}

void qcow2_entry_free_later_locked(struct qcow2 *q, struct qcow2_entry entry)
{
	uint64_t host = entry.word & QCOW2_OFFSET;

	if (entry.word & QCOW2_COMPRESSED) {
		uint64_t offset, bytes;

		qcow2_packed_place(q, entry.word, &offset, &bytes);
		uint64_t first = offset >> q->cluster_bits;
		uint64_t last = (offset + bytes - 1) >> q->cluster_bits;

		qcow2_free_later_locked(q, first, last - first + 1);
		qcow2_forget_unpacked(q);
	} else if (host) {
		qcow2_free_later_locked(q, host >> q->cluster_bits, 1);
	}
}

/* Checks the L2 table that an L1 entry names; 0 with *@offset 0 when it names none. */
static int l2_offset_locked(struct qcow2 *q, uint64_t l1_index, uint64_t *offset)
{
	if (l1_index >= q->header.l1_entries)
		return -EIO;
	*offset = q->l1[l1_index] & QCOW2_OFFSET;
	if (*offset == 0)
		return 0;
	if ((*offset & (q->cluster_size - 1)) || *offset >> q->cluster_bits >= q->end)
		return qcow2_corrupt_locked(
			q, "L2 table %" PRIu64 " is at %#" PRIx64 ", not a cluster of the file",
			l1_index, *offset);
	return 0;
}

/* Whether @run may go on with subcluster @sub of @entry, @at guest bytes after its start. */
static bool continues(const struct qcow2 *q, const struct qcow2_run *run, uint64_t first_host,
		      struct qcow2_entry entry, uint32_t sub, uint64_t at)
{
	if (qcow2_entry_kind(q, entry, sub) != run->kind || run->kind == QCOW2_PACKED)
		return false;
	if (run->kind != QCOW2_DATA)
		return true;
	return ((entry.word & QCOW2_COPIED) != 0) == run->copied &&
	       (entry.word & QCOW2_OFFSET) + ((uint64_t)sub << q->sub_bits) == first_host + at;
}

static int check_run_locked(struct qcow2 *q, uint64_t offset, const struct qcow2_run *run)
{
	if (run->kind == QCOW2_INVALID)
		return qcow2_corrupt_locked(
			q, "the mapping of guest offset %#" PRIx64 " contradicts itself", offset);
	if (run->kind == QCOW2_DATA && (run->host + run->length - 1) >> q->cluster_bits >= q->end)
		return qcow2_corrupt_locked(q,
					    "guest offset %#" PRIx64 " lies at %#" PRIx64
					    ", beyond the end of the file",
					    offset, run->host);
	return 0;
}

static void measure_run(const struct qcow2 *q, const struct qcow2_table *table, uint64_t offset,
			uint64_t length, struct qcow2_run *run)
{
	uint32_t index = (uint32_t)(offset >> q->cluster_bits) & ((1U << q->l2_bits) - 1);
	uint32_t sub = (uint32_t)(offset & (q->cluster_size - 1)) >> q->sub_bits;
	uint32_t inside = (uint32_t)offset & ((1U << q->sub_bits) - 1);
	struct qcow2_entry entry = qcow2_entry_get(q, table, index);
	uint64_t first = (entry.word & QCOW2_OFFSET) + ((uint64_t)sub << q->sub_bits);
	uint64_t at = 0;

	run->kind = qcow2_entry_kind(q, entry, sub);
	run->copied = (entry.word & QCOW2_COPIED) != 0;
	run->host = first + inside;
	run->word = entry.word;
	if (run->kind == QCOW2_PACKED) {
		run->length = MIN(length, q->cluster_size - (offset & (q->cluster_size - 1)));
		return;
	}
	do {
		at += UINT64_C(1) << q->sub_bits;
		if (at - inside >= length)
			break;
		if (++sub == q->sub_count) {
			sub = 0;
			if (++index == 1U << q->l2_bits)
				break;
			entry = qcow2_entry_get(q, table, index);
		}
	} while (continues(q, run, first, entry, sub, at));
	run->length = MIN(length, at - inside);
}

int qcow2_lookup_locked(struct qcow2 *q, uint64_t offset, uint64_t length, bool load,
			struct qcow2_run *run)
{
	uint32_t span_bits = q->l2_bits + q->cluster_bits;
	uint64_t span = (UINT64_C(1) << span_bits) - (offset & ((UINT64_C(1) << span_bits) - 1));
	struct qcow2_table *table;
	uint64_t l2_offset;

	for (;;) {
		int r = l2_offset_locked(q, offset >> span_bits, &l2_offset);

		if (r < 0)
			return r;
		length = MIN(length, span);
		if (l2_offset == 0) {
			run->kind = QCOW2_UNALLOCATED;
			run->length = length;
			return 0;
		}
		table = qcow2_cache_find_locked(&q->l2, l2_offset);
		if (table)
			break;
		if (!load)
			return -EAGAIN;
		r = qcow2_cache_load_locked(q, &q->l2, l2_offset, true, &table);
		if (r < 0)
			return r;
		if ((q->l1[offset >> span_bits] & QCOW2_OFFSET) == l2_offset)
			break;
	}
	measure_run(q, table, offset, length, run);
	return check_run_locked(q, offset, run);
}

/* A new L2 table with the content of @old, if any; the L1 entry turns to it. */
static int new_l2_locked(struct qcow2 *q, uint64_t l1_index, const struct qcow2_table *old,
			 struct qcow2_table **table)
{
	g_autofree uint8_t *copy = old ? g_memdup2(old->data, q->cluster_size) : NULL;
	uint64_t first, count, old_offset = old ? old->offset : 0;
	bool fresh;
	int r = qcow2_alloc_locked(q, 1, &first, &count, &fresh);

	if (r < 0)
		return r;
	uint64_t offset = first << q->cluster_bits;

	*table = qcow2_cache_add_locked(q, &q->l2, offset);
	if (copy)
		memcpy((*table)->data, copy, q->cluster_size);
	g_hash_table_add(q->owned, GSIZE_TO_POINTER(first));
	q->l1[l1_index] = offset | QCOW2_COPIED;
	qcow2_span_add(&q->l1_dirty, l1_index, l1_index + 1);
	if (old_offset)
		qcow2_free_later_locked(q, old_offset >> q->cluster_bits, 1);
	return 0;
}

int qcow2_l2_for_write_locked(struct qcow2 *q, uint64_t offset, struct qcow2_table **table)
{
	uint64_t l1_index = offset >> (q->l2_bits + q->cluster_bits);

	for (;;) {
		uint64_t l2_offset;
		int r = l2_offset_locked(q, l1_index, &l2_offset);

		if (r < 0)
			return r;
		if (l2_offset == 0)
			return new_l2_locked(q, l1_index, NULL, table);
		r = qcow2_cache_load_locked(q, &q->l2, l2_offset, true, table);
		if (r < 0)
			return r;
		if ((q->l1[l1_index] & QCOW2_OFFSET) != l2_offset)
			continue; /* replaced while meta was free */
		if (q->l1[l1_index] & QCOW2_COPIED)
			return 0;
		return new_l2_locked(q, l1_index, *table, table);
	}
}
