// SPDX-License-Identifier: GPL-2.0-or-later
/* A file held in memory: the store under fuzzing and under the power-cut tests. */
#include "block/file.h"

#include "block/iov.h"

#include <errno.h>
#include <string.h>

struct memory_file {
	struct block_file file;
	GMutex lock;
	GByteArray *data;
	uint64_t limit;
};

static int memory_preadv(struct block_file *f, uint64_t offset, const struct iovec *iov, int count)
{
	struct memory_file *m = (struct memory_file *)f;
	size_t total = iov_size(iov, count), n = 0;

	g_mutex_lock(&m->lock);
	if (offset < m->data->len) {
		n = (size_t)MIN((uint64_t)total, m->data->len - offset);
		iov_write(iov, count, 0, m->data->data + offset, n);
	}
	g_mutex_unlock(&m->lock);
	iov_zero(iov, count, n, total - n);
	return 0;
}

/* Grows with zeros. False when the limit is in the way. */
static bool memory_reach(struct memory_file *m, uint64_t end)
{
	guint old = m->data->len;

	if (end <= old)
		return true;
	if (end > m->limit)
		return false;
	g_byte_array_set_size(m->data, (guint)end);
	memset(m->data->data + old, 0, (size_t)(end - old));
	return true;
}

static int memory_pwritev(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
			  bool sync)
{
	struct memory_file *m = (struct memory_file *)f;
	size_t total = iov_size(iov, count);
	int r = 0;

	g_mutex_lock(&m->lock);
	if (total > m->limit || offset > m->limit - total || !memory_reach(m, offset + total))
		r = -ENOSPC;
	else
		iov_read(iov, count, 0, m->data->data + offset, total);
	g_mutex_unlock(&m->lock);
	return r;
}

static int memory_flush(struct block_file *f)
{
	return 0;
}

static int memory_zero(struct block_file *f, uint64_t offset, uint64_t length, bool unmap)
{
	struct memory_file *m = (struct memory_file *)f;

	g_mutex_lock(&m->lock);
	if (offset < m->data->len)
		memset(m->data->data + offset, 0, (size_t)MIN(length, m->data->len - offset));
	g_mutex_unlock(&m->lock);
	return 0;
}

static int memory_truncate(struct block_file *f, uint64_t size)
{
	struct memory_file *m = (struct memory_file *)f;
	int r = 0;

	g_mutex_lock(&m->lock);
	if (size <= m->data->len)
		g_byte_array_set_size(m->data, (guint)size);
	else if (!memory_reach(m, size))
		r = -ENOSPC;
	g_mutex_unlock(&m->lock);
	return r;
}

static int memory_size(struct block_file *f, uint64_t *size)
{
	struct memory_file *m = (struct memory_file *)f;

	g_mutex_lock(&m->lock);
	*size = m->data->len;
	g_mutex_unlock(&m->lock);
	return 0;
}

static void memory_close(struct block_file *f)
{
	struct memory_file *m = (struct memory_file *)f;

	g_byte_array_unref(m->data);
	g_mutex_clear(&m->lock);
	g_mutex_clear(&f->edge);
	g_free(f->path);
	g_free(m);
}

static const struct block_file_ops memory_ops = {
	.preadv = memory_preadv,
	.pwritev = memory_pwritev,
	.flush = memory_flush,
	.zero = memory_zero,
	.truncate = memory_truncate,
	.size = memory_size,
	.close = memory_close,
};

struct block_file *block_file_new_memory(const char *path, const void *data, size_t length,
					 uint64_t limit)
{
	struct memory_file *m = g_new0(struct memory_file, 1);

	m->file.ops = &memory_ops;
	m->file.path = g_strdup(path);
	m->file.fd = -1;
	m->file.alignment = 1;
	m->file.regular = true;
	m->limit = MIN(limit, (uint64_t)1 << 30);
	m->data = g_byte_array_new();
	if (length)
		g_byte_array_append(m->data, data, (guint)length);
	g_mutex_init(&m->lock);
	g_mutex_init(&m->file.edge);
	return &m->file;
}

const void *block_file_memory(struct block_file *f, size_t *length)
{
	struct memory_file *m = (struct memory_file *)f;

	g_assert(f->ops == &memory_ops);
	*length = m->data->len;
	return m->data->data;
}
