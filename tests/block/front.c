// SPDX-License-Identifier: GPL-2.0-or-later
/* The front: completions come in the context and never inside a call, from whatever thread the
 * request came; overlapping requests keep the image whole; odd requests get their errors. */
#include "common.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { SIZE = 8 << 20, THREADS = 3, ROUNDS = 300 };

static char *make(const char *name, uint32_t cluster_bits)
{
	char *path = scratch_path(name);
	struct block_create_options create = {
		.file = path, .format = "qcow2", .size_bytes = SIZE, .cluster_bits = cluster_bits};
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	return path;
}

struct tally {
	GThread *home;
	int done, failed, last;
	bool calling;
};

static void count_done(void *opaque, int result)
{
	struct tally *t = opaque;

	g_assert_false(t->calling);
	g_assert_true(g_thread_self() == t->home);
	t->done++;
	t->failed += result < 0;
	t->last = result;
}

static void test_errors(void)
{
	g_autofree char *path = make("errors.qcow2", 16);
	struct block_options options = {.file = path, .format = "qcow2"};
	struct tally t = {.home = g_thread_self()};
	uint8_t byte = 0;
	struct iovec iov = {&byte, 1};
	struct block *b = open_ok(&options);

	t.calling = true;
	block_preadv(b, SIZE, &iov, 1, count_done, &t);
	block_pwritev(b, UINT64_MAX, &iov, 1, count_done, &t);
	block_discard(b, SIZE - 1, 2, count_done, &t);
	block_write_zeroes(b, 1, UINT64_MAX, false, count_done, &t);
	t.calling = false;
	block_drain(b);
	g_assert_cmpint(t.failed, ==, 4);
	g_assert_cmpint(t.last, ==, -EINVAL);
	t.calling = true;
	block_preadv(b, SIZE, NULL, 0, count_done, &t);
	block_flush(b, count_done, &t);
	t.calling = false;
	while (t.done < 6)
		g_main_context_iteration(NULL, TRUE);
	g_assert_cmpint(t.failed, ==, 4);
	block_close(b);
	options.read_only = true;
	b = open_ok(&options);
	g_assert_cmpint(block_pwrite_sync(b, 0, &byte, 1), ==, -EROFS);
	g_assert_cmpint(block_write_zeroes_sync(b, 0, 1, false), ==, -EROFS);
	g_assert_cmpint(block_pread_sync(b, 0, &byte, 1), ==, 0);
	g_assert_cmpint(block_close(b), ==, 0);
}

struct writer {
	struct block *b;
	unsigned number;
	GMutex lock;
	GCond cond;
	bool done;
	int result;
	uint8_t *model; /* its part of the disk */
};

static void writer_done(void *opaque, int result)
{
	struct writer *w = opaque;

	g_mutex_lock(&w->lock);
	w->result = result;
	w->done = true;
	g_cond_signal(&w->cond);
	g_mutex_unlock(&w->lock);
}

static void wait_done(struct writer *w)
{
	g_mutex_lock(&w->lock);
	while (!w->done)
		g_cond_wait(&w->cond, &w->lock);
	w->done = false;
	g_mutex_unlock(&w->lock);
	g_assert_cmpint(w->result, ==, 0);
}

/* Each thread writes pieces that interleave with the others' in the same clusters. */
static void *writer_thread(void *opaque)
{
	struct writer *w = opaque;
	uint8_t data[2048], back[2048];
	struct iovec iov = {data, sizeof(data)};
	GRand *rand = g_rand_new_with_seed(w->number);

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t slot = (uint64_t)g_rand_int_range(rand, 0, 400);
		uint64_t at = (slot * THREADS + w->number) * sizeof(data);

		fill_pattern(data, at, sizeof(data), (uint32_t)i);
		if (i % 3 == 0) {
			g_assert_cmpint(block_pwrite_sync(w->b, at, data, sizeof(data)), ==, 0);
		} else {
			block_pwritev(w->b, at, &iov, 1, writer_done, w);
			wait_done(w);
		}
		if (i % 16 == 15) {
			block_flush(w->b, writer_done, w);
			wait_done(w);
		}
		memcpy(w->model + slot * sizeof(data), data, sizeof(data));
		g_assert_cmpint(block_pread_sync(w->b, at, back, sizeof(back)), ==, 0);
		g_assert_cmpmem(data, sizeof(data), back, sizeof(back));
	}
	g_rand_free(rand);
	return NULL;
}

static void *loop_thread(void *loop)
{
	g_main_context_push_thread_default(g_main_loop_get_context(loop));
	g_main_loop_run(loop);
	g_main_context_pop_thread_default(g_main_loop_get_context(loop));
	return NULL;
}

static void test_threads(const void *opaque)
{
	const bool *no_io_uring = opaque;
	g_autofree char *path = make("threads.qcow2", 12);
	GMainContext *context = g_main_context_new();
	GMainLoop *loop = g_main_loop_new(context, FALSE);
	struct block_options options = {
		.file = path, .format = "qcow2", .context = context, .no_io_uring = *no_io_uring};
	struct block *b = open_ok(&options);
	GThread *home = g_thread_new("loop", loop_thread, loop);
	struct writer writers[THREADS];
	GThread *threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){.b = b, .number = i, .model = g_malloc0(400 * 2048)};
		g_mutex_init(&writers[i].lock);
		g_cond_init(&writers[i].cond);
		threads[i] = g_thread_new("writer", writer_thread, &writers[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		g_thread_join(threads[i]);
	block_drain(b);
	for (unsigned i = 0; i < THREADS; i++) {
		for (uint64_t slot = 0; slot < 400; slot++) {
			uint8_t back[2048];

			g_assert_cmpint(
				block_pread_sync(b, (slot * THREADS + i) * 2048, back, 2048), ==,
				0);
			g_assert_cmpmem(back, 2048, writers[i].model + slot * 2048, 2048);
		}
		g_free(writers[i].model);
		g_mutex_clear(&writers[i].lock);
		g_cond_clear(&writers[i].cond);
	}
	g_main_loop_quit(loop);
	g_main_context_wakeup(context);
	g_thread_join(home);
	g_assert_cmpint(block_close(b), ==, 0);
	g_main_loop_unref(loop);
	g_main_context_unref(context);
	if (have_judge())
		judge(path, false);
}

/* Synchronous calls in the context's own thread do not wait for that thread. */
static gboolean sync_inside(void *opaque)
{
	struct tally *t = ((void **)opaque)[0];
	struct block *b = ((void **)opaque)[1];
	uint8_t data[4096] = {1}, back[4096];
	struct iovec iov = {data, sizeof(data)};

	for (int i = 0; i < 20; i++) {
		block_pwritev(b, 4096, &iov, 1, count_done, t);
		block_pwritev(b, 6000, &iov, 1, count_done, t);
		g_assert_cmpint(block_pwrite_sync(b, 4096, data, sizeof(data)), ==, 0);
		g_assert_cmpint(block_pread_sync(b, 4096, back, 1904), ==, 0);
		g_assert_cmpmem(back, 1904, data, 1904);
	}
	g_assert_cmpint(t->done, ==, 0);
	block_drain(b);
	g_assert_cmpint(t->done, ==, 40);
	return G_SOURCE_REMOVE;
}

static void test_sync_inside(void)
{
	g_autofree char *path = make("inside.qcow2", 16);
	struct block_options options = {.file = path, .format = "qcow2"};
	struct tally t = {.home = g_thread_self()};
	struct block *b = open_ok(&options);
	void *both[2] = {&t, b};

	g_idle_add(sync_inside, both);
	while (t.done < 40)
		g_main_context_iteration(NULL, TRUE);
	g_assert_cmpint(t.failed, ==, 0);
	g_assert_cmpint(block_close(b), ==, 0);
}

static void test_stats(void)
{
	g_autofree char *path = make("stats.qcow2", 16);
	struct block_options options = {.file = path, .format = "qcow2", .discard = true};
	struct tally t = {.home = g_thread_self()};
	struct block *b = open_ok(&options);
	uint8_t data[8192] = {3};
	struct iovec iov = {data, sizeof(data)};
	struct block_stats stats;
	struct block_info info;

	block_get_info(b, &info);
	g_assert_true(info.discard);
	g_assert_false(info.read_only);
	g_assert_cmpuint(info.discard_granularity_bytes, ==, 65536);
	g_assert_cmpint(block_pwrite_sync(b, 0, data, sizeof(data)), ==, 0);
	block_preadv(b, 0, &iov, 1, count_done, &t);
	block_drain(b);
	g_assert_cmpint(block_pread_sync(b, SIZE, data, 1), ==, -EINVAL);
	block_get_stats(b, &stats);
	g_assert_cmpuint(stats.kind[BLOCK_WRITE].ops, ==, 1);
	g_assert_cmpuint(stats.kind[BLOCK_WRITE].bytes, ==, 8192);
	g_assert_cmpuint(stats.kind[BLOCK_WRITE].ns, >, 0);
	g_assert_cmpuint(stats.kind[BLOCK_READ].ops, ==, 1);
	block_close(b);
}

static int named_open(void *opaque, const char *path, int flags, GError **error)
{
	GPtrArray *asked = opaque;

	g_ptr_array_add(asked, g_strdup(path));
	g_assert_true((flags & O_CLOEXEC) != 0);
	if (strstr(path, "base")) {
		g_assert_cmpint(flags & O_ACCMODE, ==, O_RDONLY);
		error_set(error, LODGE_ERROR_FAILED, "%s: was not handed over", path);
		return -1;
	}
	return open(path, flags);
}

static void test_opener(void)
{
	g_autofree char *base = make("base.qcow2", 16);
	g_autofree char *top = scratch_path("opener.qcow2");
	struct block_create_options create = {
		.file = top, .format = "qcow2", .backing_file = base, .backing_format = "qcow2"};
	g_autoptr(GPtrArray) asked = g_ptr_array_new_with_free_func(g_free);
	struct block_options options = {
		.file = top, .format = "qcow2", .open = named_open, .open_opaque = asked};
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	g_assert_null(block_open(&options, &error));
	g_assert_nonnull(strstr(error->message, "was not handed over"));
	g_error_free(error);
	g_assert_cmpuint(asked->len, ==, 2);
	g_assert_cmpstr(asked->pdata[0], ==, top);
	g_assert_cmpstr(asked->pdata[1], ==, base);
}

int main(int argc, char **argv)
{
	static const bool ring = false, pool = true;

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/front/errors", test_errors);
	g_test_add_data_func("/block/front/threads", &ring, test_threads);
	g_test_add_data_func("/block/front/threads-pool", &pool, test_threads);
	g_test_add_func("/block/front/sync-inside", test_sync_inside);
	g_test_add_func("/block/front/stats", test_stats);
	g_test_add_func("/block/front/opener", test_opener);
	int status = g_test_run();

	scratch_clean();
	return status;
}
