// SPDX-License-Identifier: GPL-2.0-or-later
/* The qcow2 header and its extensions. Source: the qcow2 specification (docs/interop/qcow2.txt of
 * the QEMU project); limits are those that QEMU keeps too, so that what opens here opens there. */
#include "block/qcow2.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

enum {
	HEADER_V2_BYTES = 72,
	HEADER_V3_BYTES = 104,
	EXT_END = 0,
	BACKING_NAME_MAX = 1023,
};

#define EXT_BACKING_FORMAT UINT32_C(0xe2792aca)
#define EXT_FEATURE_NAMES  UINT32_C(0x6803f857)
#define EXT_BITMAPS        UINT32_C(0x23852875)
#define EXT_LUKS           UINT32_C(0x0537be77)
#define EXT_DATA_FILE      UINT32_C(0x44415441)

static bool corrupt(struct image *image, GError **error, const char *what)
{
	return error_set(error, LODGE_ERROR_CORRUPT, "%s: corrupt qcow2 image: %s", image->path,
			 what);
}

static bool unsupported(struct image *image, GError **error, const char *what, const char *remedy)
{
	return error_set(error, LODGE_ERROR_UNSUPPORTED, "%s: %s is not supported; %s", image->path,
			 what, remedy);
}

/* The name of an incompatible feature bit: the image's own table knows it, or we do. */
static char *feature_name(const uint8_t *table, uint32_t length, unsigned bit)
{
	static const char *const known[] = {"dirty bit", "corrupt bit", "external data file",
					    "compression type", "extended L2 entries"};

	for (uint32_t at = 0; table && length - at >= 48; at += 48) {
		if (table[at] == 0 && table[at + 1] == bit) {
			g_autofree char *raw = g_strndup((const char *)table + at + 2, 46);

			return g_strescape(raw, NULL);
		}
	}
	if (bit < G_N_ELEMENTS(known))
		return g_strdup(known[bit]);
	return g_strdup_printf("bit %u", bit);
}

static bool check_features(struct image *image, const struct qcow2_header *h, const uint8_t *names,
			   uint32_t names_length, GError **error)
{
	uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT |
			 QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_EXTENDED_L2;
	uint64_t unknown = h->incompat & ~known;

	if (h->incompat & QCOW2_INCOMPAT_DATA_FILE)
		return unsupported(image, error, "an external data file",
				   "convert the image with 'qemu-img convert -O qcow2'");
	if (unknown) {
		g_autofree char *name =
			feature_name(names, names_length, (unsigned)__builtin_ctzll(unknown));

		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "%s: needs a qcow2 feature that is not supported here: %s",
				 image->path, name);
	}
	return true;
}

/* Walks the extensions between the header and the backing file's name. */
static bool read_extensions(struct image *image, struct qcow2_header *h, const uint8_t *cluster,
			    uint64_t end, GError **error)
{
	const uint8_t *names = NULL;
	uint32_t names_length = 0;
	uint64_t at = h->header_length;

	while (end - at >= 8) {
		uint32_t type = qcow2_get32(cluster + at);
		uint32_t length = qcow2_get32(cluster + at + 4);

		at += 8;
		if (type == EXT_END)
			break;
		if (length > end - at)
			return corrupt(image, error,
				       "a header extension is longer than the header");
		if (type == EXT_BACKING_FORMAT) {
			g_free(image->backing_format);
			image->backing_format = g_strndup((const char *)cluster + at, length);
		} else if (type == EXT_FEATURE_NAMES) {
			names = cluster + at;
			names_length = length;
		} else if (type == EXT_BITMAPS) {
			h->bitmaps = true;
		} else if (type == EXT_LUKS) {
			return unsupported(image, error, "an encrypted image (LUKS)",
					   "decrypt it with 'qemu-img convert'");
		} else if (type == EXT_DATA_FILE && (h->incompat & QCOW2_INCOMPAT_DATA_FILE)) {
			return check_features(image, h, NULL, 0, error);
		}
		uint64_t padded = ((uint64_t)length + 7) & ~UINT64_C(7);

		if (padded > end - at)
			break;
		at += padded;
	}
	return check_features(image, h, names, names_length, error);
}

static void parse_fields(struct qcow2_header *h, const uint8_t *p)
{
	h->version = qcow2_get32(p + 4);
	h->cluster_bits = qcow2_get32(p + 20);
	h->size = qcow2_get64(p + 24);
	h->l1_entries = qcow2_get32(p + 36);
	h->l1_offset = qcow2_get64(p + 40);
	h->reftable_offset = qcow2_get64(p + 48);
	h->reftable_clusters = qcow2_get32(p + 56);
	h->snapshots = qcow2_get32(p + 60);
	h->snapshot_offset = qcow2_get64(p + 64);
	h->refcount_order = 4;
	h->header_length = HEADER_V2_BYTES;
	if (h->version < 3)
		return;
	h->incompat = qcow2_get64(p + 72);
	h->compat = qcow2_get64(p + 80);
	h->autoclear = qcow2_get64(p + 88);
	h->refcount_order = qcow2_get32(p + 96);
	h->header_length = qcow2_get32(p + 100);
	if (h->header_length > HEADER_V3_BYTES)
		h->compression = p[104];
}

/* A table must begin on a cluster, inside the file, and end before the file's last cluster does. */
static bool check_table(struct image *image, const char *what, uint64_t offset, uint64_t bytes,
			uint64_t cluster_size, uint64_t file_size, GError **error)
{
	uint64_t room = (file_size + cluster_size - 1) & ~(cluster_size - 1);
	const char *how = NULL;

	if (bytes == 0)
		return true;
	if (offset & (cluster_size - 1))
		how = "does not begin on a cluster";
	else if (offset == 0)
		how = "lies over the header";
	else if (offset >= file_size || bytes > room - offset)
		how = "lies beyond the end of the file";
	if (!how)
		return true;
	return error_set(error, LODGE_ERROR_CORRUPT, "%s: corrupt qcow2 image: %s %s", image->path,
			 what, how);
}

static bool check_sizes(struct image *image, const struct qcow2_header *h, uint64_t file_size,
			GError **error)
{
	uint64_t cluster_size = UINT64_C(1) << h->cluster_bits;
	uint32_t entry_bits = h->incompat & QCOW2_INCOMPAT_EXTENDED_L2 ? 4 : 3;
	uint32_t l2_span_bits = h->cluster_bits * 2 - entry_bits;
	uint64_t l1_bytes = (uint64_t)h->l1_entries * 8;
	uint64_t reftable_bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;

	if (h->size > INT64_MAX - cluster_size)
		return corrupt(image, error, "its disk size is out of range");
	uint64_t needed =
		(h->size >> l2_span_bits) + ((h->size & ((UINT64_C(1) << l2_span_bits) - 1)) != 0);

	if (l1_bytes > QCOW2_MAX_L1_BYTES)
		return corrupt(image, error, "its L1 table is too large");
	if (h->l1_entries < needed)
		return corrupt(image, error, "its L1 table is too small for its disk size");
	if (h->reftable_clusters == 0)
		return corrupt(image, error, "it has no refcount table");
	if (reftable_bytes > QCOW2_MAX_REFTABLE_BYTES)
		return corrupt(image, error, "its refcount table is too large");
	if (h->snapshots > QCOW2_MAX_SNAPSHOTS)
		return corrupt(image, error, "it has too many snapshots");
	return check_table(image, "the L1 table", h->l1_offset, l1_bytes, cluster_size, file_size,
			   error) &&
	       check_table(image, "the refcount table", h->reftable_offset, reftable_bytes,
			   cluster_size, file_size, error) &&
	       check_table(image, "the snapshot table", h->snapshot_offset,
			   (uint64_t)h->snapshots * 40, cluster_size, file_size, error);
}

static bool check_numbers(struct image *image, const struct qcow2_header *h, uint32_t crypt,
			  GError **error)
{
	if (crypt)
		return unsupported(image, error,
				   crypt == 2 ? "an encrypted image (LUKS)" : "an encrypted image",
				   "decrypt it with 'qemu-img convert'");
	if (h->version < 3)
		return true;
	if (h->header_length < HEADER_V3_BYTES || h->header_length % 8 != 0 ||
	    h->header_length > (1U << h->cluster_bits))
		return corrupt(image, error, "its header length is impossible");
	if (h->refcount_order > 6)
		return corrupt(image, error, "its refcounts are wider than 64 bits");
	if (h->compression > 1)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "%s: compression type %u is not supported (zlib and zstd are)",
				 image->path, h->compression);
	if ((h->compression != 0) != ((h->incompat & QCOW2_INCOMPAT_COMPRESSION) != 0))
		return corrupt(image, error, "its compression type contradicts its feature bits");
	if ((h->incompat & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits < 14)
		return corrupt(image, error, "extended L2 entries with clusters below 16 KiB");
	return true;
}

static bool read_backing(struct image *image, const struct qcow2_header *h, const uint8_t *cluster,
			 uint64_t available, uint64_t *end, GError **error)
{
	uint64_t offset = qcow2_get64(cluster + 8);
	uint32_t length = qcow2_get32(cluster + 16);

	*end = available;
	if (offset == 0 || length == 0)
		return true;
	if (length > BACKING_NAME_MAX || offset < h->header_length || offset > available ||
	    length > available - offset)
		return corrupt(image, error, "its backing file name lies outside the header");
	image->backing_path = g_strndup((const char *)cluster + offset, length);
	*end = offset;
	if (image->backing_path[0] == '\0')
		return corrupt(image, error, "its backing file name is empty");
	return true;
}

bool qcow2_header_read(struct image *image, struct qcow2_header *h, GError **error)
{
	uint8_t first[HEADER_V3_BYTES + 8] = {0};
	uint64_t file_size, end;
	int r = block_file_size(image->file, &file_size);

	if (r == 0)
		r = block_file_pread(image->file, 0, first, sizeof(first));
	if (r < 0)
		return error_set_errno(error, -r, "%s: cannot read the image header", image->path);
	if (memcmp(first, "QFI\xfb", 4) != 0)
		return error_set(error, LODGE_ERROR_INVALID, "%s: not a qcow2 image", image->path);
	memset(h, 0, sizeof(*h));
	parse_fields(h, first);
	if (h->version != 2 && h->version != 3)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "%s: qcow2 version %u is not supported (2 and 3 are)", image->path,
				 h->version);
	if (file_size < HEADER_V2_BYTES || (h->version == 3 && file_size < HEADER_V3_BYTES))
		return corrupt(image, error, "the file ends inside the header");
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return corrupt(image, error, "its cluster size is out of range");
	if (!check_numbers(image, h, qcow2_get32(first + 32), error))
		return false;

	uint64_t cluster_size = UINT64_C(1) << h->cluster_bits;
	g_autofree uint8_t *cluster = g_malloc0(cluster_size);

	r = block_file_pread(image->file, 0, cluster, cluster_size);
	if (r < 0)
		return error_set_errno(error, -r, "%s: cannot read the image header", image->path);
	return read_backing(image, h, cluster, MIN(cluster_size, file_size), &end, error) &&
	       read_extensions(image, h, cluster, MAX(end, h->header_length), error) &&
	       check_sizes(image, h, file_size, error);
}
