/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/image.h"

/* qcow2 versions 2 and 3, inside the block room. The ordering rules (R1 to R8) that keep an image
 * whole through a power cut are in docs/block.md and are named where the code keeps them.
 *
 * Locks, in this order: commit (one write-out of metadata at a time), then meta (everything in
 * memory: tables, caches, counters). No data moves while meta is held. Functions that end in
 * _locked want meta held; those marked "drops" may let it go and take it again. */

#define QCOW2_COPIED     (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO       UINT64_C(1)
#define QCOW2_OFFSET     UINT64_C(0x00fffffffffffe00)

enum {
	QCOW2_INCOMPAT_DIRTY = 1 << 0,
	QCOW2_INCOMPAT_CORRUPT = 1 << 1,
	QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
	QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
	QCOW2_INCOMPAT_EXTENDED_L2 = 1 << 4,
	QCOW2_COMPAT_LAZY_REFCOUNTS = 1 << 0,
	QCOW2_AUTOCLEAR_BITMAPS = 1 << 0,
	QCOW2_MIN_CLUSTER_BITS = 9,
	QCOW2_MAX_CLUSTER_BITS = 21,
	QCOW2_MAX_L1_BYTES = 32 << 20,
	QCOW2_MAX_REFTABLE_BYTES = 8 << 20,
	QCOW2_MAX_SNAPSHOTS = 65536,
	QCOW2_MAX_SNAPSHOT_BYTES = 64 << 20,
};

/* The header after every check that needs nothing but the header. */
struct qcow2_header {
	uint32_t version, cluster_bits, refcount_order, header_length, compression;
	uint64_t size, l1_offset, reftable_offset, snapshot_offset;
	uint32_t l1_entries, reftable_clusters, snapshots;
	uint64_t incompat, compat, autoclear;
	bool bitmaps; /* the header lists persistent bitmaps */
};

/* One table (L2 or refcount block) of one cluster, as it is in the file, big-endian. */
struct qcow2_table {
	GList link; /* in the cache's order of use; data is the table */
	uint64_t offset;
	uint8_t *data;
	uint32_t dirty_from, dirty_to; /* bytes that the file has not; none if equal */
	bool staged;                   /* a write-out is on its way: must stay */
};

struct qcow2_cache {
	GHashTable *tables; /* by offset */
	GQueue order;       /* most recently used first */
	uint32_t capacity;  /* wanted; dirty tables may go beyond it for a while */
	uint32_t dirty;
	uint64_t evictions;
};

/* A range of entries of the L1 or refcount table that the file has not. */
struct qcow2_span {
	uint64_t from, to;
};

struct qcow2_freed {
	uint64_t cluster; /* host cluster number */
	uint64_t count;
};

struct qcow2 {
	struct image *image;
	struct block_file *file;
	struct qcow2_header header;
	uint32_t cluster_bits, cluster_size;
	uint32_t l2_bits;       /* log2 of the entries of one L2 table */
	uint32_t l2_entry_size; /* 8, or 16 with extended L2 */
	uint32_t sub_count;     /* subclusters in a cluster: 32, or 1 */
	uint32_t sub_bits;      /* log2 of their bytes */
	uint32_t ref_bits;      /* log2 of the entries of one refcount block */

	GMutex commit;
	GMutex meta;
	uint64_t *l1; /* host byte order */
	struct qcow2_span l1_dirty;
	uint64_t *reftable;
	uint64_t reftable_entries;
	struct qcow2_span reftable_dirty;
	struct qcow2_cache l2, refs;
	GArray *freed;      /* struct qcow2_freed: let go of when nothing on disk refers to them */
	GHashTable *owned;  /* host clusters that hold metadata, by number */
	uint64_t free_hint; /* no free cluster lies before this one */
	uint64_t end;       /* no cluster at or after this one is in use */
	uint64_t fresh;     /* at and after this byte the file never held anything */
	bool ready;         /* autoclear bits are cleared: the image may change */
	bool corrupt;       /* found corrupt: no more writes */

	GMutex zip; /* of the cache below */
	GQueue unpacked;
};

enum qcow2_kind {
	QCOW2_UNALLOCATED, /* the backing file's content, or zeros */
	QCOW2_ZEROES,
	QCOW2_DATA,
	QCOW2_PACKED, /* a compressed cluster */
	QCOW2_INVALID,
};

struct qcow2_entry {
	uint64_t word;
	uint64_t bits; /* extended L2: allocated subclusters low, zero subclusters high */
};

/* A stretch of guest bytes of one kind. */
struct qcow2_run {
	enum qcow2_kind kind;
	uint64_t host; /* data: byte in the file */
	uint64_t length;
	bool copied;   /* data: nobody else refers to the clusters, write in place */
	uint64_t word; /* packed: the L2 entry */
};

/* qcow2-header.c: reads and checks the header; sets the image's backing names. */
bool qcow2_header_read(struct image *image, struct qcow2_header *h, GError **error);

/* qcow2-open.c */
/* The image contradicts itself: says so once, marks it in the file where it can, and stops writing.
 * Returns -EIO. */
int qcow2_corrupt_locked(struct qcow2 *q, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Before the first change of any kind: clears autoclear bits that we do not keep true. */
int qcow2_prepare_write(struct qcow2 *q);

/* qcow2-cache.c */
void qcow2_cache_init(struct qcow2_cache *cache, uint32_t capacity);
void qcow2_cache_fini(struct qcow2_cache *cache);
struct qcow2_table *qcow2_cache_find_locked(struct qcow2_cache *cache, uint64_t offset);
/* A table of zeros that is not in the file yet. */
struct qcow2_table *qcow2_cache_add_locked(struct qcow2 *q, struct qcow2_cache *cache,
					   uint64_t offset);
/* Reads the table if it is not there. Drops meta when @drop. */
int qcow2_cache_load_locked(struct qcow2 *q, struct qcow2_cache *cache, uint64_t offset, bool drop,
			    struct qcow2_table **table);
void qcow2_cache_dirty_locked(struct qcow2_cache *cache, struct qcow2_table *table, uint32_t from,
			      uint32_t to);
void qcow2_cache_drop_locked(struct qcow2_cache *cache, uint64_t offset);
void qcow2_span_add(struct qcow2_span *span, uint64_t from, uint64_t to);
/* Writes all metadata that changed so far in crash-safe order; with @durable everything, data too,
 * is on stable storage afterwards. Takes both locks. */
int qcow2_commit(struct qcow2 *q, bool durable);
/* Commits when so much has changed that memory would grow. Takes both locks. */
int qcow2_make_room(struct qcow2 *q);
bool qcow2_is_dirty_locked(struct qcow2 *q);
/* Writes one table's changes at once, for growing the refcount table. Both locks held. */
int qcow2_write_dirty_locked(struct qcow2 *q, struct qcow2_cache *cache);

/* qcow2-refcount.c */
int qcow2_refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *value);
int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value);
uint64_t qcow2_refcount_read(const uint8_t *block, uint64_t index, uint32_t order);
void qcow2_refcount_write(uint8_t *block, uint64_t index, uint32_t order, uint64_t value);
/* Takes up to @want free clusters in a row (at least one). -EAGAIN: the refcount table is too
 * small, call qcow2_grow without locks and try again. */
int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, uint64_t *first, uint64_t *count,
		       bool *fresh);
/* Lets go of clusters at once: they were never referred to, or no longer are on disk. */
void qcow2_release_locked(struct qcow2 *q, uint64_t first, uint64_t count);
/* Lets go of clusters once the next commit made their last reference vanish (rule R5). */
void qcow2_free_later_locked(struct qcow2 *q, uint64_t first, uint64_t count);
int qcow2_grow(struct qcow2 *q);
/* Whether this host cluster holds metadata, which data must never overwrite. */
bool qcow2_is_metadata_locked(struct qcow2 *q, uint64_t cluster);

/* qcow2-cluster.c */
struct qcow2_entry qcow2_entry_get(const struct qcow2 *q, const struct qcow2_table *table,
				   uint32_t index);
void qcow2_entry_set_locked(struct qcow2 *q, struct qcow2_table *table, uint32_t index,
			    struct qcow2_entry entry);
enum qcow2_kind qcow2_entry_kind(const struct qcow2 *q, struct qcow2_entry entry, uint32_t sub);
/* What is at @offset. Without @load, -EAGAIN when the L2 table is not in memory. Drops meta. */
int qcow2_lookup_locked(struct qcow2 *q, uint64_t offset, uint64_t length, bool load,
			struct qcow2_run *run);
/* The L2 table of @offset, ours to change; made or copied if need be. Drops meta. */
int qcow2_l2_for_write_locked(struct qcow2 *q, uint64_t offset, struct qcow2_table **table);
/* Frees what an entry refers to, later. */
void qcow2_entry_free_later_locked(struct qcow2 *q, struct qcow2_entry entry);
/* The host clusters that a compressed entry touches. */
void qcow2_packed_place(const struct qcow2 *q, uint64_t word, uint64_t *offset, uint64_t *bytes);

/* qcow2-compressed.c */
int qcow2_read_packed(struct qcow2 *q, uint64_t word, uint32_t from, const struct iovec *iov,
		      int count, size_t skip, size_t length);
void qcow2_forget_unpacked(struct qcow2 *q);

/* qcow2-io.c */
bool qcow2_map(struct image *image, uint64_t offset, uint64_t length, bool write,
	       struct extent *extent);
int qcow2_preadv(struct image *image, uint64_t offset, const struct iovec *iov, int count);
int qcow2_pwritev(struct image *image, uint64_t offset, const struct iovec *iov, int count);
int qcow2_flush(struct image *image);
int qcow2_discard(struct image *image, uint64_t offset, uint64_t length);
int qcow2_zero(struct image *image, uint64_t offset, uint64_t length, bool unmap);

/* qcow2-rebuild.c: counts every reference anew and corrects the refcounts, then clears the dirty
 * bit. For an image that was not closed and kept its refcounts lazily. */
bool qcow2_rebuild_refcounts(struct qcow2 *q, GError **error);

static inline uint64_t qcow2_get64(const void *p)
{
	uint64_t value;

	__builtin_memcpy(&value, p, sizeof(value));
	return __builtin_bswap64(value);
}

static inline void qcow2_put64(void *p, uint64_t value)
{
	value = __builtin_bswap64(value);
	__builtin_memcpy(p, &value, sizeof(value));
}

static inline uint32_t qcow2_get32(const void *p)
{
	uint32_t value;

	__builtin_memcpy(&value, p, sizeof(value));
	return __builtin_bswap32(value);
}

static inline void qcow2_put32(void *p, uint32_t value)
{
	value = __builtin_bswap32(value);
	__builtin_memcpy(p, &value, sizeof(value));
}
