// SPDX-License-Identifier: GPL-2.0-or-later
/* The front of an image: requests from any thread, their order, and their completion in one
 * context.
 *
 * A request is started in the context's thread. If the image can say from memory where its bytes
 * live, they go straight to io_uring (the fast way); otherwise the format's synchronous code runs
 * in a worker thread (the slow way).
 *
 * Invariants, all under the lock:
 * 1. A slow write, discard or zero is exclusive: no other active request shares a cluster with it.
 *    So a mapping that the fast way relies on stays true until its data has moved.
 * 2. Requests that wait start in the order they came, as far as they overlap.
 * 3. Completions run only from the source's dispatch or block_drain, without the lock. */
#include "block/block.h"

#include "base/error.h"
#include "block/engine.h"
#include "block/image.h"
#include "block/iov.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
	RING_DEPTH = 128,
	WORKERS = 4,
	PARTS = 8,
	INLINE_IOV = 4,
	FAST_BYTES_MAX = 1 << 30,
	POLL_MS = 1,
};

/* A piece of a request that is contiguous in a file. */
struct part {
	struct engine_op op;
	struct request *request;
	struct extent extent;
};

struct request {
	struct request *next, *previous;
	struct block *b;
	enum block_kind kind;
	bool unmap, as_zeroes, exclusive, redo;
	uint64_t offset, length;
	uint64_t start, end; /* the range in whole clusters */
	struct iovec *iov;
	int iov_count;
	struct iovec inline_iov[INLINE_IOV];
	struct iovec *slices; /* what the parts point to, when there are several */
	struct part parts[PARTS];
	int pending;
	int result;
	uint64_t begun_ns;
	block_done_fn done;
	void *opaque;
};

struct request_list {
	struct request *first, *last;
	unsigned length;
};

struct block_source {
	GSource source;
	struct block *b;
};

struct block {
	struct image *image;
	GMainContext *context;
	struct block_source *source;
	GThreadPool *pool;
	bool discard, detect_zeroes, ignore_flush;

	GMutex incoming_lock;
	struct request_list incoming;

	GMutex lock;
	GCond changed; /* something finished */
	struct engine *engine;
	struct request_list active, waiting, finished;
	unsigned exclusive; /* active and exclusive */
	unsigned in_flight; /* asynchronous, until their completion ran */
	unsigned ring_in_flight;
	struct block_stats stats;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void list_push(struct request_list *list, struct request *r)
{
	r->next = NULL;
	r->previous = list->last;
	if (list->last)
		list->last->next = r;
	else
		list->first = r;
	list->last = r;
	list->length++;
}

static void list_remove(struct request_list *list, struct request *r)
{
	if (r->previous)
		r->previous->next = r->next;
	else
		list->first = r->next;
	if (r->next)
		r->next->previous = r->previous;
	else
		list->last = r->previous;
	list->length--;
}

static void request_free(struct request *r)
{
	if (r->iov != r->inline_iov)
		g_free(r->iov);
	g_free(r->slices);
	g_free(r);
}

static bool overlaps(const struct request *a, const struct request *b)
{
	return a->start < b->end && b->start < a->end;
}

static bool changes_content(const struct request *r)
{
	return r->kind == BLOCK_WRITE || r->kind == BLOCK_DISCARD || r->kind == BLOCK_ZEROES;
}

/* Whether @r must wait: for an active request, or for one that waits before @until in the queue. */
static bool must_wait_locked(const struct block *b, const struct request *r, bool exclusive,
			     const struct request *until)
{
	if (b->exclusive || exclusive) {
		for (const struct request *a = b->active.first; a; a = a->next) {
			if ((a->exclusive || exclusive) && overlaps(a, r))
				return true;
		}
	}
	for (const struct request *w = b->waiting.first; w && w != until; w = w->next) {
		if (overlaps(w, r))
			return true;
	}
	return false;
}

/* The format's own code, in whatever thread. */
static int run_slow(const struct request *r)
{
	struct image *image = r->b->image;

	switch (r->kind) {
	case BLOCK_READ:
		return image->ops->preadv(image, r->offset, r->iov, r->iov_count);
	case BLOCK_WRITE:
		if (r->as_zeroes)
			return image->ops->zero(image, r->offset, r->length, true);
		return image->ops->pwritev(image, r->offset, r->iov, r->iov_count);
	case BLOCK_FLUSH:
		return image->ops->flush(image);
	case BLOCK_DISCARD:
		return image->ops->discard(image, r->offset, r->length);
	case BLOCK_ZEROES:
		return image->ops->zero(image, r->offset, r->length, r->unmap);
	case BLOCK_KINDS:
		break;
	}
	g_assert_not_reached();
}

static void start_waiting_locked(struct block *b);

static void account_locked(struct block *b, const struct request *r)
{
	b->stats.kind[r->kind].ops++;
	b->stats.kind[r->kind].bytes += r->length;
	b->stats.kind[r->kind].ns += now_ns() - r->begun_ns;
	if (r->result < 0)
		b->stats.kind[r->kind].errors++;
}

static void leave_locked(struct block *b, struct request *r, int result)
{
	r->result = result;
	account_locked(b, r);
	list_remove(&b->active, r);
	if (r->exclusive)
		b->exclusive--;
}

static void finish_locked(struct block *b, struct request *r, int result)
{
	leave_locked(b, r, result);
	/* The context's own thread looks at the list before it sleeps. */
	if (!b->finished.first && !g_main_context_is_owner(b->context))
		g_main_context_wakeup(b->context);
	list_push(&b->finished, r);
	start_waiting_locked(b);
	g_cond_broadcast(&b->changed);
}

static void work(void *data, void *opaque)
{
	struct request *r = data;
	struct block *b = opaque;
	int result = run_slow(r);

	g_mutex_lock(&b->lock);
	finish_locked(b, r, result);
	g_mutex_unlock(&b->lock);
}

static void part_over_locked(struct request *r)
{
	struct block *b = r->b;

	if (--r->pending > 0)
		return;
	if (r->result < 0 || !r->redo)
		finish_locked(b, r, r->result);
	else
		g_thread_pool_push(b->pool, r, NULL);
}

static void part_done(struct engine_op *op, int result)
{
	struct part *part = (struct part *)op;
	struct request *r = part->request;

	r->b->ring_in_flight--;
	if (result >= 0 && (uint64_t)result != part->extent.length)
		r->redo = true; /* the file ends here, or the kernel stopped half-way */
	else if (result == -EAGAIN || result == -EINTR || result == -EINVAL ||
		 result == -ECANCELED || result == -EOPNOTSUPP)
		r->redo = true;
	else if (result < 0)
		r->result = result;
	part_over_locked(r);
}

static bool can_go_direct(const struct request *r, const struct extent *e)
{
	const struct block_file *f = e->file;

	if (!f)
		return r->kind == BLOCK_READ;
	if (f->fd < 0)
		return false;
	if (f->alignment <= 1)
		return true;
	return ((e->offset | e->length) & (f->alignment - 1)) == 0 &&
	       iov_is_aligned(r->iov, r->iov_count, f->alignment);
}

/* Finds where all of the request lives. Returns how many parts, or 0 when the fast way is closed.
 */
static int map_locked(struct block *b, struct request *r)
{
	uint64_t at = 0;
	int n = 0;

	if (!b->engine || (r->kind != BLOCK_READ && r->kind != BLOCK_WRITE) || r->as_zeroes ||
	    r->length == 0 || r->length > FAST_BYTES_MAX)
		return 0;
	for (; at < r->length; n++) {
		struct extent *e = &r->parts[n == PARTS ? 0 : n].extent;

		if (n == PARTS ||
		    !b->image->ops->map(b->image, r->offset + at, r->length - at,
					r->kind == BLOCK_WRITE, e) ||
		    !can_go_direct(r, e))
			return 0;
		at += e->length;
	}
	return n;
}

static void start_fast_locked(struct block *b, struct request *r, int parts)
{
	struct iovec *slice = NULL;
	size_t skip = 0;

	if (parts > 1)
		slice = r->slices = g_new(struct iovec, r->iov_count + parts * 2);
	b->stats.direct_ops++;
	r->pending = parts + 1;
	for (int i = 0; i < parts; i++) {
		struct part *p = &r->parts[i];
		size_t length = (size_t)p->extent.length;
		struct iovec *iov = r->iov;
		int count = r->iov_count;

		p->request = r;
		p->op.done = part_done;
		if (p->extent.file && parts > 1) {
			iov = slice;
			count = iov_slice(slice, r->iov, r->iov_count, skip, length);
			slice += count;
		}
		if (p->extent.file) {
			b->ring_in_flight++;
			engine_queue(b->engine, p->extent.file, r->kind == BLOCK_WRITE,
				     b->image->sync_writes, p->extent.offset, iov, count, &p->op);
		} else {
			iov_zero(r->iov, r->iov_count, skip, length);
			r->pending--;
		}
		skip += length;
	}
	part_over_locked(r);
}

/* Starts @r, or returns false when it must wait for others. */
static bool try_start_locked(struct block *b, struct request *r, const struct request *until)
{
	if ((b->exclusive || b->waiting.first) && must_wait_locked(b, r, false, until))
		return false;
	int parts = map_locked(b, r);

	r->exclusive = parts == 0 && changes_content(r);
	if (r->exclusive && must_wait_locked(b, r, true, until))
		return false;
	if (until)
		list_remove(&b->waiting, r);
	list_push(&b->active, r);
	if (r->exclusive)
		b->exclusive++;
	if (parts)
		start_fast_locked(b, r, parts);
	else
		g_thread_pool_push(b->pool, r, NULL);
	return true;
}

static void start_waiting_locked(struct block *b)
{
	struct request *next;

	for (struct request *r = b->waiting.first; r; r = next) {
		next = r->next;
		if (try_start_locked(b, r, r)) {
			/* Starting may have finished it at once and started others: look anew. */
			next = b->waiting.first;
		}
	}
}

static void start_locked(struct block *b, struct request *r)
{
	if (!try_start_locked(b, r, NULL))
		list_push(&b->waiting, r);
}

/* Starts what other threads handed in, and gives the kernel all there is. Returns whether there is
 * something left that the kernel did not take. */
static bool pump_locked(struct block *b)
{
	bool left = false;

	g_mutex_lock(&b->incoming_lock);
	struct request *r = b->incoming.first;

	memset(&b->incoming, 0, sizeof(b->incoming));
	g_mutex_unlock(&b->incoming_lock);
	while (r) {
		struct request *next = r->next;

		start_locked(b, r);
		r = next;
	}
	if (b->engine) {
		left = engine_submit(b->engine);
		engine_reap(b->engine);
		if (engine_submit(b->engine))
			left = true;
	}
	return left;
}

/* Runs completions. The lock is not held. */
static void complete(struct block *b)
{
	unsigned count = 0;

	g_mutex_lock(&b->lock);
	if (b->engine)
		engine_reap(b->engine);
	struct request *r = b->finished.first;

	memset(&b->finished, 0, sizeof(b->finished));
	g_mutex_unlock(&b->lock);
	while (r) {
		struct request *next = r->next;

		r->done(r->opaque, r->result);
		request_free(r);
		count++;
		r = next;
	}
	g_mutex_lock(&b->lock);
	b->in_flight -= count;
	g_cond_broadcast(&b->changed);
	g_mutex_unlock(&b->lock);
}

static gboolean source_prepare(GSource *source, int *timeout)
{
	struct block *b = ((struct block_source *)source)->b;

	g_mutex_lock(&b->lock);
	*timeout = pump_locked(b) ? POLL_MS : -1;
	bool ready = b->finished.first != NULL;

	g_mutex_unlock(&b->lock);
	return ready;
}

static gboolean source_check(GSource *source)
{
	struct block *b = ((struct block_source *)source)->b;

	g_mutex_lock(&b->lock);
	if (b->engine)
		engine_reap(b->engine);
	bool ready = b->finished.first != NULL;

	g_mutex_unlock(&b->lock);
	return ready;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, void *opaque)
{
	complete(((struct block_source *)source)->b);
	return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {
	.prepare = source_prepare,
	.check = source_check,
	.dispatch = source_dispatch,
};

static int check_request(const struct block *b, const struct request *r)
{
	uint64_t size = b->image->size_bytes;

	if (r->offset > size || r->length > size - r->offset)
		return -EINVAL;
	return changes_content(r) && b->image->read_only ? -EROFS : 0;
}

static void set_range(const struct block *b, struct request *r)
{
	uint64_t mask = (uint64_t)b->image->granularity - 1;

	r->begun_ns = now_ns();
	if (r->length == 0)
		return;
	r->start = r->offset & ~mask;
	r->end = (r->offset + r->length + mask) & ~mask;
}

/* Nothing to do for the image; only the completion is owed. */
static bool is_idle(const struct block *b, const struct request *r)
{
	if (r->kind == BLOCK_FLUSH)
		return b->ignore_flush || b->image->read_only;
	return r->length == 0 || (r->kind == BLOCK_DISCARD && !b->discard);
}

static void submit(struct block *b, struct request *r)
{
	int result = check_request(b, r);

	r->b = b;
	set_range(b, r);
	if (result == 0 && r->kind == BLOCK_WRITE && b->detect_zeroes && r->length)
		r->as_zeroes = iov_is_zero(r->iov, r->iov_count);
	if (result < 0 || is_idle(b, r)) {
		g_mutex_lock(&b->lock);
		b->in_flight++;
		list_push(&b->active, r);
		r->exclusive = false;
		finish_locked(b, r, result);
		g_mutex_unlock(&b->lock);
		return;
	}
	if (g_main_context_is_owner(b->context)) {
		g_mutex_lock(&b->lock);
		b->in_flight++;
		start_locked(b, r);
		g_mutex_unlock(&b->lock);
		return;
	}
	g_mutex_lock(&b->lock);
	b->in_flight++;
	g_mutex_unlock(&b->lock);
	g_mutex_lock(&b->incoming_lock);
	bool first = !b->incoming.first;

	list_push(&b->incoming, r);
	g_mutex_unlock(&b->incoming_lock);
	if (first)
		g_main_context_wakeup(b->context);
}

static struct request *request_new(enum block_kind kind, uint64_t offset, uint64_t length,
				   const struct iovec *iov, int iov_count, block_done_fn done,
				   void *opaque)
{
	struct request *r = g_malloc(sizeof(*r));

	memset(r, 0, G_STRUCT_OFFSET(struct request, inline_iov));
	r->slices = NULL;
	r->pending = 0;
	r->result = 0;
	r->kind = kind;
	r->offset = offset;
	r->length = length;
	r->iov_count = iov_count;
	r->iov = iov_count <= INLINE_IOV ? r->inline_iov : g_new(struct iovec, iov_count);
	if (iov_count)
		memcpy(r->iov, iov, sizeof(*iov) * (size_t)iov_count);
	r->done = done;
	r->opaque = opaque;
	return r;
}

void block_preadv(struct block *b, uint64_t offset, const struct iovec *iov, int iov_count,
		  block_done_fn done, void *opaque)
{
	submit(b, request_new(BLOCK_READ, offset, iov_size(iov, iov_count), iov, iov_count, done,
			      opaque));
}

void block_pwritev(struct block *b, uint64_t offset, const struct iovec *iov, int iov_count,
		   block_done_fn done, void *opaque)
{
	submit(b, request_new(BLOCK_WRITE, offset, iov_size(iov, iov_count), iov, iov_count, done,
			      opaque));
}

void block_flush(struct block *b, block_done_fn done, void *opaque)
{
	submit(b, request_new(BLOCK_FLUSH, 0, 0, NULL, 0, done, opaque));
}

void block_discard(struct block *b, uint64_t offset, uint64_t length, block_done_fn done,
		   void *opaque)
{
	submit(b, request_new(BLOCK_DISCARD, offset, length, NULL, 0, done, opaque));
}

void block_write_zeroes(struct block *b, uint64_t offset, uint64_t length, bool unmap,
			block_done_fn done, void *opaque)
{
	struct request *r = request_new(BLOCK_ZEROES, offset, length, NULL, 0, done, opaque);

	r->unmap = unmap;
	submit(b, r);
}

/* Lets what is in the way of a synchronous request, or of draining, make progress. */
static void wait_locked(struct block *b)
{
	if (b->engine && b->ring_in_flight) {
		GPollFD fd = {.fd = engine_fd(b->engine), .events = G_IO_IN};

		engine_submit(b->engine);
		g_mutex_unlock(&b->lock);
		g_poll(&fd, 1, POLL_MS);
		g_mutex_lock(&b->lock);
		engine_reap(b->engine);
		return;
	}
	g_cond_wait_until(&b->changed, &b->lock, g_get_monotonic_time() + POLL_MS * 1000);
}

static int run_sync(struct block *b, struct request *r)
{
	int result = check_request(b, r);

	r->b = b;
	set_range(b, r);
	if (result < 0 || is_idle(b, r))
		return result;
	r->exclusive = changes_content(r);
	g_mutex_lock(&b->lock);
	/* Requests that only wait do not count here: they may need this very thread. */
	while (must_wait_locked(b, r, r->exclusive, b->waiting.first))
		wait_locked(b);
	list_push(&b->active, r);
	if (r->exclusive)
		b->exclusive++;
	g_mutex_unlock(&b->lock);
	result = run_slow(r);
	g_mutex_lock(&b->lock);
	leave_locked(b, r, result);
	if (b->waiting.first) {
		start_waiting_locked(b);
		g_main_context_wakeup(b->context);
	}
	g_cond_broadcast(&b->changed);
	g_mutex_unlock(&b->lock);
	return result;
}

static int transfer_sync(struct block *b, enum block_kind kind, uint64_t offset, void *buffer,
			 uint64_t length, bool unmap)
{
	struct request r = {.kind = kind, .offset = offset, .length = length, .unmap = unmap};

	r.iov = r.inline_iov;
	r.iov_count = buffer ? 1 : 0;
	r.inline_iov[0] = (struct iovec){buffer, (size_t)length};
	return run_sync(b, &r);
}

int block_pread_sync(struct block *b, uint64_t offset, void *buffer, size_t length)
{
	return transfer_sync(b, BLOCK_READ, offset, buffer, length, false);
}

int block_pwrite_sync(struct block *b, uint64_t offset, const void *buffer, size_t length)
{
	return transfer_sync(b, BLOCK_WRITE, offset, (void *)(uintptr_t)buffer, length, false);
}

int block_flush_sync(struct block *b)
{
	return transfer_sync(b, BLOCK_FLUSH, 0, NULL, 0, false);
}

int block_discard_sync(struct block *b, uint64_t offset, uint64_t length)
{
	return transfer_sync(b, BLOCK_DISCARD, offset, NULL, length, false);
}

int block_write_zeroes_sync(struct block *b, uint64_t offset, uint64_t length, bool unmap)
{
	return transfer_sync(b, BLOCK_ZEROES, offset, NULL, length, unmap);
}

void block_drain(struct block *b)
{
	bool mine = g_main_context_acquire(b->context);

	g_mutex_lock(&b->lock);
	while (b->in_flight) {
		if (mine)
			pump_locked(b);
		if (mine && b->finished.first) {
			g_mutex_unlock(&b->lock);
			complete(b);
			g_mutex_lock(&b->lock);
		} else {
			wait_locked(b);
		}
	}
	g_mutex_unlock(&b->lock);
	if (mine)
		g_main_context_release(b->context);
}

void block_get_info(struct block *b, struct block_info *info)
{
	const struct image *image = b->image;

	*info = (struct block_info){
		.format = image->ops->name,
		.size_bytes = image->size_bytes,
		.read_only = image->read_only,
		.discard = b->discard && !image->read_only,
		.discard_granularity_bytes = MAX(image->granularity, 4096),
		.zero_granularity_bytes = image->zero_granularity,
	};
	for (; image; image = image->backing)
		info->alignment_bytes = MAX(info->alignment_bytes, image->file->alignment);
}

uint64_t block_size_bytes(struct block *b)
{
	return b->image->size_bytes;
}

void block_get_stats(struct block *b, struct block_stats *stats)
{
	g_mutex_lock(&b->lock);
	*stats = b->stats;
	g_mutex_unlock(&b->lock);
}

struct image *block_image(struct block *b)
{
	return b->image;
}

struct block *block_open_env(const struct block_options *options, const struct image_env *env,
			     GError **error)
{
	struct image *image =
		image_open(env, options->file, options->format, options->read_only, error);

	if (!image)
		return NULL;
	struct block *b = g_new0(struct block, 1);

	b->image = image;
	b->discard = options->discard;
	b->detect_zeroes = options->detect_zeroes;
	b->ignore_flush = options->cache == BLOCK_CACHE_UNSAFE;
	b->context = options->context ? g_main_context_ref(options->context)
				      : g_main_context_ref(g_main_context_default());
	g_mutex_init(&b->incoming_lock);
	g_mutex_init(&b->lock);
	g_cond_init(&b->changed);
	b->engine = options->no_io_uring || image->file->fd < 0 ? NULL : engine_new(RING_DEPTH);
	b->pool = g_thread_pool_new(work, b, WORKERS, FALSE, NULL);
	b->source = (struct block_source *)g_source_new(&source_funcs, sizeof(*b->source));
	b->source->b = b;
	if (b->engine)
		g_source_add_unix_fd(&b->source->source, engine_fd(b->engine), G_IO_IN);
	g_source_set_name(&b->source->source, "block");
	g_source_attach(&b->source->source, b->context);
	return b;
}

struct block *block_open(const struct block_options *options, GError **error)
{
	struct image_env env = {
		.open = options->open,
		.open_opaque = options->open_opaque,
		.cache = options->cache,
		.unlocked = options->unlocked,
		.discard = options->discard,
	};

	return block_open_env(options, &env, error);
}

int block_close(struct block *b)
{
	block_drain(b);
	g_source_destroy(&b->source->source);
	g_source_unref(&b->source->source);
	g_thread_pool_free(b->pool, FALSE, TRUE);
	engine_free(b->engine);
	int result = image_close(b->image);

	g_main_context_unref(b->context);
	g_mutex_clear(&b->incoming_lock);
	g_mutex_clear(&b->lock);
	g_cond_clear(&b->changed);
	g_free(b);
	return result;
}
