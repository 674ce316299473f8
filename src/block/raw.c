// SPDX-License-Identifier: GPL-2.0-or-later
/* Raw images: the file is the disk. */
#include "block/image.h"

#include "base/error.h"
#include "block/iov.h"

#include <errno.h>

static bool raw_open(struct image *image, GError **error)
{
	int r = block_file_size(image->file, &image->size_bytes);

	if (r < 0)
		return error_set_errno(error, -r, "%s: cannot find its size", image->path);
	image->granularity = MAX(image->file->alignment, 1);
	image->zero_granularity = 1;
	image->file->fixed_size = image->file->regular;
	image->file->fixed_size_bytes = image->size_bytes;
	return true;
}

static int raw_close(struct image *image)
{
	return image->read_only ? 0 : block_file_flush(image->file);
}

static bool raw_map(struct image *image, uint64_t offset, uint64_t length, bool write,
		    struct extent *extent)
{
	extent->file = image->file;
	extent->offset = offset;
	extent->length = length;
	return true;
}

static int raw_preadv(struct image *image, uint64_t offset, const struct iovec *iov, int count)
{
	return image->file->ops->preadv(image->file, offset, iov, count);
}

static int raw_pwritev(struct image *image, uint64_t offset, const struct iovec *iov, int count)
{
	return image->file->ops->pwritev(image->file, offset, iov, count, image->sync_writes);
}

static int raw_flush(struct image *image)
{
	return block_file_flush(image->file);
}

static int raw_discard(struct image *image, uint64_t offset, uint64_t length)
{
	int r = image->file->ops->zero(image->file, offset, length, true);

	return r == -EOPNOTSUPP ? 0 : r;
}

static int raw_zero(struct image *image, uint64_t offset, uint64_t length, bool unmap)
{
	int r = block_file_zero(image->file, offset, length, unmap && image->discard);

	if (r == 0 && image->sync_writes)
		r = block_file_flush(image->file);
	return r;
}

const struct image_ops raw_ops = {
	.name = "raw",
	.open = raw_open,
	.close = raw_close,
	.map = raw_map,
	.preadv = raw_preadv,
	.pwritev = raw_pwritev,
	.flush = raw_flush,
	.discard = raw_discard,
	.zero = raw_zero,
};
