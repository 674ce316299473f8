// SPDX-License-Identifier: GPL-2.0-or-later
/* Compressed clusters: raw deflate streams (RFC 1951) or zstd frames (RFC 8878), packed at any byte
 * of the file. A few unpacked clusters are kept, as guests read them in small pieces. */
#include "block/qcow2.h"

#include "block/iov.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { UNPACKED_MAX = 4 };

struct unpacked {
	uint64_t word;
	uint8_t *data;
};

static void unpacked_free(struct unpacked *u)
{
	g_free(u->data);
	g_free(u);
}

void qcow2_forget_unpacked(struct qcow2 *q)
{
	struct unpacked *u;

	g_mutex_lock(&q->zip);
	while ((u = g_queue_pop_head(&q->unpacked)))
		unpacked_free(u);
	g_mutex_unlock(&q->zip);
}

static bool find_unpacked(struct qcow2 *q, uint64_t word, uint32_t from, const struct iovec *iov,
			  int count, size_t skip, size_t length)
{
	bool found = false;

	g_mutex_lock(&q->zip);
	for (GList *at = q->unpacked.head; at && !found; at = at->next) {
		const struct unpacked *u = at->data;

		if (u->word == word) {
			iov_write(iov, count, skip, u->data + from, length);
			found = true;
		}
	}
	g_mutex_unlock(&q->zip);
	return found;
}

static int unpack_zlib(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes)
{
	z_stream stream = {
		.next_in = (Bytef *)(uintptr_t)packed,
		.avail_in = (uInt)packed_bytes,
		.next_out = out,
		.avail_out = (uInt)out_bytes,
	};

	if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
		return -ENOMEM;
	int r = inflate(&stream, Z_FINISH);

	inflateEnd(&stream);
	/* What follows the stream in its last sector belongs to others: Z_BUF_ERROR with all of the
	 * output there is as good as the stream's end. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && stream.avail_out == 0 ? 0 : -EIO;
}

static int unpack_zstd(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer in = {packed, packed_bytes, 0};
	ZSTD_outBuffer to = {out, out_bytes, 0};
	int result = -EIO;

	while (context && to.pos < to.size) {
		size_t before = in.pos + to.pos;
		size_t r = ZSTD_decompressStream(context, &to, &in);

		if (ZSTD_isError(r) || in.pos + to.pos == before)
			break;
	}
	if (to.pos == to.size)
		result = 0;
	ZSTD_freeDCtx(context);
	return result;
}

int qcow2_read_packed(struct qcow2 *q, uint64_t word, uint32_t from, const struct iovec *iov,
		      int count, size_t skip, size_t length)
{
	uint64_t offset, bytes;

	if (find_unpacked(q, word, from, iov, count, skip, length))
		return 0;
	qcow2_packed_place(q, word, &offset, &bytes);
	g_autofree uint8_t *packed = g_malloc(bytes);
	g_autofree uint8_t *data = g_malloc(q->cluster_size);
	int r = block_file_pread(q->file, offset, packed, bytes);

	if (r == 0)
		r = q->header.compression ? unpack_zstd(packed, bytes, data, q->cluster_size)
					  : unpack_zlib(packed, bytes, data, q->cluster_size);
	if (r < 0)
		return r;
	iov_write(iov, count, skip, data + from, length);

	struct unpacked *u = g_new(struct unpacked, 1);

	u->word = word;
	u->data = g_steal_pointer(&data);
	g_mutex_lock(&q->zip);
	g_queue_push_head(&q->unpacked, u);
	if (q->unpacked.length > UNPACKED_MAX)
		unpacked_free(g_queue_pop_tail(&q->unpacked));
	g_mutex_unlock(&q->zip);
	return 0;
}
