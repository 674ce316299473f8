// SPDX-License-Identifier: GPL-2.0-or-later
/* Making empty images. A qcow2 image begins with the header, its refcount table, the refcount
 * blocks, and an L1 table of zeros, in this order. */
#include "block/qcow2.h"

#include "base/error.h"
#include "block/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 112, HEADER_V2_BYTES = 72 };

#define EXT_BACKING_FORMAT UINT32_C(0xe2792aca)

struct layout {
	uint32_t cluster_bits, refcount_order, version;
	uint64_t size, l1_entries;
	uint64_t reftable_clusters, blocks, l1_clusters;
};

static uint64_t divide_up(uint64_t value, uint64_t by)
{
	return value / by + (value % by != 0);
}

static bool plan_layout(const struct block_create_options *o, struct layout *l, GError **error)
{
	uint32_t bits = o->refcount_bits ? o->refcount_bits : 16;

	l->cluster_bits = o->cluster_bits ? o->cluster_bits : 16;
	l->version = o->version ? o->version : 3;
	if (l->cluster_bits < QCOW2_MIN_CLUSTER_BITS || l->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: the cluster size must be a power of two from 512 to 2M",
				 o->file);
	if (bits > 64 || (bits & (bits - 1)))
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: refcounts must have 1, 2, 4, 8, 16, 32 or 64 bits", o->file);
	l->refcount_order = (uint32_t)__builtin_ctz(bits);
	if (l->version != 2 && l->version != 3)
		return error_set(error, LODGE_ERROR_INVALID, "%s: qcow2 versions are 2 and 3",
				 o->file);
	if (l->version == 2 && (bits != 16 || o->extended_l2 || o->lazy_refcounts || o->zstd))
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: these features need qcow2 version 3", o->file);
	if (o->extended_l2 && l->cluster_bits < 14)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: extended L2 entries need clusters of at least 16K", o->file);
	uint64_t cluster = UINT64_C(1) << l->cluster_bits;
	uint64_t l2_span = cluster / (o->extended_l2 ? 16 : 8) * cluster;
	uint64_t per_block = cluster * 8 / bits, total = 1;

	l->l1_entries = divide_up(l->size, l2_span);
	if (l->l1_entries * 8 > QCOW2_MAX_L1_BYTES)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: too large for its cluster size; use larger clusters",
				 o->file);
	l->l1_clusters = divide_up(l->l1_entries * 8, cluster);
	for (uint64_t before = 0; before != total;) {
		before = total;
		l->blocks = divide_up(total, per_block);
		l->reftable_clusters = divide_up(l->blocks * 8, cluster);
		total = 1 + l->reftable_clusters + l->blocks + l->l1_clusters;
	}
	return true;
}

static bool fill_header(const struct block_create_options *o, const struct layout *l, uint8_t *p,
			GError **error)
{
	uint64_t cluster = UINT64_C(1) << l->cluster_bits;
	uint64_t at = l->version == 2 ? HEADER_V2_BYTES : HEADER_BYTES;
	size_t name = o->backing_file ? strlen(o->backing_file) : 0;
	size_t format = o->backing_format ? strlen(o->backing_format) : 0;

	memcpy(p, "QFI\xfb", 4);
	qcow2_put32(p + 4, l->version);
	qcow2_put32(p + 20, l->cluster_bits);
	qcow2_put64(p + 24, l->size);
	qcow2_put32(p + 36, (uint32_t)l->l1_entries);
	qcow2_put64(p + 40, (1 + l->reftable_clusters + l->blocks) * cluster);
	qcow2_put64(p + 48, cluster);
	qcow2_put32(p + 56, (uint32_t)l->reftable_clusters);
	if (l->version >= 3) {
		qcow2_put64(p + 72, (o->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0) |
					    (o->extended_l2 ? QCOW2_INCOMPAT_EXTENDED_L2 : 0));
		qcow2_put64(p + 80, o->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
		qcow2_put32(p + 96, l->refcount_order);
		qcow2_put32(p + 100, HEADER_BYTES);
		p[104] = o->zstd;
	}
	if (name > 1023 || at + 8 + ((format + 7) & ~(size_t)7) + 8 + name > cluster)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: the backing file's name is too long for its clusters",
				 o->file);
	if (format) {
		qcow2_put32(p + at, EXT_BACKING_FORMAT);
		qcow2_put32(p + at + 4, (uint32_t)format);
		memcpy(p + at + 8, o->backing_format, format);
		at += 8 + ((format + 7) & ~(size_t)7);
	}
	at += 8; /* the end mark: type 0, length 0 */
	if (name) {
		memcpy(p + at, o->backing_file, name);
		qcow2_put64(p + 8, at);
		qcow2_put32(p + 16, (uint32_t)name);
	}
	return true;
}

static int write_tables(struct block_file *f, const struct layout *l, const uint8_t *header)
{
	uint64_t cluster = UINT64_C(1) << l->cluster_bits;
	uint64_t total = 1 + l->reftable_clusters + l->blocks + l->l1_clusters;
	uint64_t per_block = (cluster * 8) >> l->refcount_order;
	g_autofree uint8_t *table = g_malloc0(l->reftable_clusters * cluster);
	g_autofree uint8_t *block = g_malloc(cluster);
	int r = 0;

	for (uint64_t i = 0; i < l->blocks && r == 0; i++) {
		uint64_t used = MIN(per_block, total - i * per_block);

		memset(block, 0, cluster);
		for (uint64_t j = 0; j < used; j++)
			qcow2_refcount_write(block, j, l->refcount_order, 1);
		qcow2_put64(table + i * 8, (1 + l->reftable_clusters + i) * cluster);
		r = block_file_pwrite(f, (1 + l->reftable_clusters + i) * cluster, block, cluster);
	}
	if (r == 0)
		r = block_file_pwrite(f, cluster, table, l->reftable_clusters * cluster);
	if (r == 0)
		r = f->ops->truncate(f, total * cluster);
	if (r == 0)
		r = block_file_flush(f);
	/* Until its header is there the file is no image. */
	if (r == 0)
		r = block_file_pwrite(f, 0, header, cluster);
	return r == 0 ? block_file_flush(f) : r;
}

static bool create_qcow2(const struct block_create_options *o, struct block_file *f, uint64_t size,
			 GError **error)
{
	struct layout l = {.size = size};

	if (!plan_layout(o, &l, error))
		return false;
	g_autofree uint8_t *header = g_malloc0((size_t)1 << l.cluster_bits);

	if (!fill_header(o, &l, header, error))
		return false;
	int r = f->ops->truncate(f, 0);

	if (r == 0)
		r = write_tables(f, &l, header);
	return r == 0 || error_set_errno(error, -r, "%s: cannot write the new image", o->file);
}

static bool create_raw(const struct block_create_options *o, struct block_file *f, uint64_t size,
		       GError **error)
{
	int r = f->ops->truncate(f, 0);

	if (r == 0)
		r = f->ops->truncate(f, size);
	return r == 0 || error_set_errno(error, -r, "%s: cannot give it its size", o->file);
}

/* The size that a new overlay has when none is given. */
static bool backing_size(const struct block_create_options *o, uint64_t *size, GError **error)
{
	struct image_env env = {.unlocked = true};
	g_autofree char *folder = g_path_get_dirname(o->file);
	g_autofree char *path = g_path_is_absolute(o->backing_file)
					? g_strdup(o->backing_file)
					: g_build_filename(folder, o->backing_file, NULL);
	struct image *image = image_open(&env, path, o->backing_format, true, error);

	if (!image)
		return false;
	*size = image->size_bytes;
	image_close(image);
	return true;
}

static bool check_options(const struct block_create_options *o, GError **error)
{
	bool qcow2 = strcmp(o->format, "qcow2") == 0;

	if (!qcow2 && strcmp(o->format, "raw") != 0)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "%s: cannot create format '%s'; formats are raw and qcow2",
				 o->file, o->format);
	if (!qcow2 && o->backing_file)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: a raw image cannot have a backing file", o->file);
	if (o->backing_file && !o->backing_format)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: say which format the backing file %s has", o->file,
				 o->backing_file);
	if (o->size_bytes > INT64_MAX - (1 << 21))
		return error_set(error, LODGE_ERROR_INVALID, "%s: the size is out of range",
				 o->file);
	return true;
}

bool block_create(const struct block_create_options *o, GError **error)
{
	struct block_file_mode mode = {0};
	uint64_t size = o->size_bytes;

	if (!check_options(o, error))
		return false;
	if (o->backing_file && size == 0 && !backing_size(o, &size, error))
		return false;
	int fd = open(o->file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return error_set_errno(error, errno, "cannot create %s", o->file);
	struct block_file *f = block_file_from_fd(fd, o->file, &mode, error);

	if (!f)
		return false;
	bool ok = block_lock(f->fd, o->file, true, error) &&
		  (strcmp(o->format, "raw") == 0 ? create_raw(o, f, size, error)
						 : create_qcow2(o, f, size, error));

	block_file_close(f);
	return ok;
}
