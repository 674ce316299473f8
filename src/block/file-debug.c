// SPDX-License-Identifier: GPL-2.0-or-later
/* Fault injection and recording for tests of the block room. */
#include "block/file-debug.h"

#include "block/iov.h"

#include <errno.h>

struct debug_file {
	struct block_file file;
	struct block_file *under;
	GMutex lock;
	unsigned count[DEBUG_OPS];
	unsigned fail_at[DEBUG_OPS];
	int fail_with[DEBUG_OPS];
	bool sticky[DEBUG_OPS];
	GArray *log;
};

static int debug_enter(struct debug_file *d, enum debug_op op)
{
	int r = 0;

	g_mutex_lock(&d->lock);
	unsigned n = ++d->count[op];

	if (d->fail_at[op] && (n == d->fail_at[op] || (d->sticky[op] && n > d->fail_at[op])))
		r = -d->fail_with[op];
	g_mutex_unlock(&d->lock);
	return r;
}

static void debug_note(struct debug_file *d, enum debug_op op, uint64_t offset, uint64_t length,
		       const struct iovec *iov, int count)
{
	struct debug_event event = {.op = op, .offset = offset, .length = length};

	g_mutex_lock(&d->lock);
	if (d->log) {
		if (iov) {
			event.data = g_malloc(MAX(length, 1));
			iov_read(iov, count, 0, event.data, length);
		}
		g_array_append_val(d->log, event);
	}
	g_mutex_unlock(&d->lock);
}

static int debug_preadv(struct block_file *f, uint64_t offset, const struct iovec *iov, int count)
{
	struct debug_file *d = (struct debug_file *)f;
	int r = debug_enter(d, DEBUG_READ);

	return r < 0 ? r : d->under->ops->preadv(d->under, offset, iov, count);
}

static int debug_pwritev(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
			 bool sync)
{
	struct debug_file *d = (struct debug_file *)f;
	int r = debug_enter(d, DEBUG_WRITE);

	if (r == 0)
		r = d->under->ops->pwritev(d->under, offset, iov, count, sync);
	if (r == 0)
		debug_note(d, DEBUG_WRITE, offset, iov_size(iov, count), iov, count);
	return r;
}

static int debug_flush(struct block_file *f)
{
	struct debug_file *d = (struct debug_file *)f;
	int r = debug_enter(d, DEBUG_FLUSH);

	if (r == 0)
		r = d->under->ops->flush(d->under);
	if (r == 0)
		debug_note(d, DEBUG_FLUSH, 0, 0, NULL, 0);
	return r;
}

static int debug_zero(struct block_file *f, uint64_t offset, uint64_t length, bool unmap)
{
	struct debug_file *d = (struct debug_file *)f;
	int r = debug_enter(d, DEBUG_ZERO);

	if (r == 0)
		r = d->under->ops->zero(d->under, offset, length, unmap);
	if (r == 0)
		debug_note(d, DEBUG_ZERO, offset, length, NULL, 0);
	return r;
}

static int debug_truncate(struct block_file *f, uint64_t size)
{
	struct debug_file *d = (struct debug_file *)f;
	int r = debug_enter(d, DEBUG_TRUNCATE);

	if (r == 0)
		r = d->under->ops->truncate(d->under, size);
	if (r == 0)
		debug_note(d, DEBUG_TRUNCATE, size, 0, NULL, 0);
	return r;
}

static int debug_size(struct block_file *f, uint64_t *size)
{
	struct debug_file *d = (struct debug_file *)f;

	return d->under->ops->size(d->under, size);
}

static void debug_close(struct block_file *f)
{
	struct debug_file *d = (struct debug_file *)f;

	block_file_close(d->under);
	if (d->log)
		g_array_unref(d->log);
	g_mutex_clear(&d->lock);
	g_mutex_clear(&f->edge);
	g_free(f->path);
	g_free(d);
}

static const struct block_file_ops debug_ops = {
	.preadv = debug_preadv,
	.pwritev = debug_pwritev,
	.flush = debug_flush,
	.zero = debug_zero,
	.truncate = debug_truncate,
	.size = debug_size,
	.close = debug_close,
};

struct block_file *block_file_new_debug(struct block_file *under)
{
	struct debug_file *d = g_new0(struct debug_file, 1);

	d->file.ops = &debug_ops;
	d->file.path = g_strdup(under->path);
	d->file.fd = -1;
	d->file.alignment = 1;
	d->file.read_only = under->read_only;
	d->file.regular = under->regular;
	d->under = under;
	g_mutex_init(&d->lock);
	g_mutex_init(&d->file.edge);
	return &d->file;
}

struct block_file *block_file_debug_under(struct block_file *f)
{
	return ((struct debug_file *)f)->under;
}

void block_file_debug_fail(struct block_file *f, enum debug_op op, unsigned nth, int err,
			   bool sticky)
{
	struct debug_file *d = (struct debug_file *)f;

	g_mutex_lock(&d->lock);
	d->fail_at[op] = nth ? d->count[op] + nth : 0;
	d->fail_with[op] = err;
	d->sticky[op] = sticky;
	g_mutex_unlock(&d->lock);
}

unsigned block_file_debug_count(struct block_file *f, enum debug_op op)
{
	struct debug_file *d = (struct debug_file *)f;

	g_mutex_lock(&d->lock);
	unsigned n = d->count[op];

	g_mutex_unlock(&d->lock);
	return n;
}

static void event_clear(void *event)
{
	g_free(((struct debug_event *)event)->data);
}

void block_file_debug_record(struct block_file *f)
{
	struct debug_file *d = (struct debug_file *)f;

	if (d->log)
		g_array_unref(d->log);
	d->log = g_array_new(FALSE, FALSE, sizeof(struct debug_event));
	g_array_set_clear_func(d->log, event_clear);
}

GArray *block_file_debug_log(struct block_file *f)
{
	return ((struct debug_file *)f)->log;
}

GArray *block_file_debug_steal_log(struct block_file *f)
{
	return g_steal_pointer(&((struct debug_file *)f)->log);
}

void block_file_debug_replay(struct block_file *f, const struct debug_event *event)
{
	int r = 0;

	if (event->op == DEBUG_WRITE)
		r = block_file_pwrite(f, event->offset, event->data, event->length);
	else if (event->op == DEBUG_ZERO)
		r = block_file_zero(f, event->offset, event->length, true);
	else if (event->op == DEBUG_TRUNCATE)
		r = f->ops->truncate(f, event->offset);
	g_assert_cmpint(r, ==, 0);
}
