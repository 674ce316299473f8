// SPDX-License-Identifier: GPL-2.0-or-later
/* Random requests against a plain model in memory, many in flight, over many kinds of image; the
 * image is reopened now and then, and judged by qemu-img where there is one. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 24, LENGTH_MAX = 200 << 10 };

struct setup {
	const char *name;
	const char *format;
	uint32_t cluster_bits, refcount_bits, version;
	bool extended_l2;
	const char *backing; /* "raw", "qcow2" or NULL */
	enum block_cache cache;
	bool no_io_uring, discard, detect_zeroes, by_qemu, snapshot;
	uint64_t size;
};

#define MB(x) ((uint64_t)(x) << 20)

static const struct setup setups[] = {
	{"raw", "raw", .size = MB(4) + 512},
	{"raw/direct", "raw", .cache = BLOCK_CACHE_NONE, .size = MB(4) + 512},
	{"raw/threads", "raw", .no_io_uring = true, .discard = true, .size = MB(4) + 1536},
	{"raw/directsync", "raw", .cache = BLOCK_CACHE_DIRECTSYNC, .size = MB(2)},
	{"qcow2", "qcow2", .size = MB(16) + 512},
	{"qcow2/direct", "qcow2", .cache = BLOCK_CACHE_NONE, .discard = true, .size = MB(16) + 512},
	{"qcow2/writethrough", "qcow2", .cache = BLOCK_CACHE_WRITETHROUGH, .size = MB(8)},
	{"qcow2/directsync", "qcow2", .cache = BLOCK_CACHE_DIRECTSYNC, .size = MB(8)},
	{"qcow2/unsafe", "qcow2", .cache = BLOCK_CACHE_UNSAFE, .discard = true, .size = MB(8)},
	{"qcow2/threads", "qcow2", .no_io_uring = true, .discard = true, .size = MB(8)},
	{"qcow2/v2", "qcow2", .version = 2, .discard = true, .size = MB(8)},
	{"qcow2/v2-backing", "qcow2", .version = 2, .backing = "raw", .discard = true,
	 .size = MB(8)},
	{"qcow2/512", "qcow2", .cluster_bits = 9, .refcount_bits = 64, .discard = true,
	 .size = MB(4)},
	{"qcow2/512-direct", "qcow2", .cluster_bits = 9, .refcount_bits = 32,
	 .cache = BLOCK_CACHE_NONE, .size = MB(2)},
	{"qcow2/1k-1bit", "qcow2", .cluster_bits = 10, .refcount_bits = 1, .size = MB(4)},
	{"qcow2/4k-2bit", "qcow2", .cluster_bits = 12, .refcount_bits = 2, .discard = true,
	 .size = MB(8)},
	{"qcow2/8k-4bit", "qcow2", .cluster_bits = 13, .refcount_bits = 4, .size = MB(8)},
	{"qcow2/32k-8bit", "qcow2", .cluster_bits = 15, .refcount_bits = 8, .size = MB(8)},
	{"qcow2/2m", "qcow2", .cluster_bits = 21, .discard = true, .size = MB(24) + 512},
	{"qcow2/backing-raw", "qcow2", .backing = "raw", .discard = true, .size = MB(12)},
	{"qcow2/backing-qcow2", "qcow2", .backing = "qcow2", .detect_zeroes = true, .size = MB(12)},
	{"qcow2/ext", "qcow2", .extended_l2 = true, .discard = true, .size = MB(12)},
	{"qcow2/ext-16k", "qcow2", .extended_l2 = true, .cluster_bits = 14, .backing = "qcow2",
	 .discard = true, .size = MB(12)},
	{"qcow2/ext-2m", "qcow2", .extended_l2 = true, .cluster_bits = 21, .backing = "raw",
	 .cache = BLOCK_CACHE_NONE, .size = MB(16)},
	{"qcow2/by-qemu", "qcow2", .by_qemu = true, .snapshot = true, .discard = true,
	 .size = MB(8)},
	{"qcow2/by-qemu-ext", "qcow2", .by_qemu = true, .extended_l2 = true, .snapshot = true,
	 .discard = true, .size = MB(8)},
	{"qcow2/by-qemu-4k", "qcow2", .by_qemu = true, .cluster_bits = 12, .snapshot = true,
	 .backing = "raw", .size = MB(8)},
};

struct world {
	const struct setup *setup;
	GRand *rand;
	char *path, *base;
	struct block *b;
	uint8_t *model;
	uint32_t serial;
};

struct job {
	enum block_kind kind;
	uint64_t offset, length;
	uint8_t *buffer;
	bool zeroes;
	int result;
	bool done;
};

static void job_done(void *opaque, int result)
{
	struct job *job = opaque;

	g_assert_false(job->done);
	job->result = result;
	job->done = true;
}

static void open_world(struct world *w)
{
	const struct setup *s = w->setup;
	struct block_options options = {
		.file = w->path,
		.format = s->format,
		.cache = s->cache,
		.no_io_uring = s->no_io_uring,
		.discard = s->discard,
		.detect_zeroes = s->detect_zeroes,
	};

	w->b = open_ok(&options);
	g_assert_cmpuint(block_size_bytes(w->b), ==, s->size);
}

/* A backing file, shorter than the disk, with some content; the model gets it too. */
static void make_backing(struct world *w)
{
	const struct setup *s = w->setup;
	uint64_t size = s->size / 4 * 3 + 512;
	struct block_create_options create = {
		.file = w->base, .format = s->backing, .size_bytes = size, .cluster_bits = 13};
	struct block_options options = {.file = w->base, .format = s->backing};
	GError *error = NULL;

	if (strcmp(s->backing, "raw") == 0)
		create.cluster_bits = 0;
	g_assert_true(block_create(&create, &error));
	struct block *b = open_ok(&options);

	for (uint64_t at = 0; at + 300000 < size; at += 700000) {
		fill_pattern(w->model + at, at, 300000, 1);
		g_assert_cmpint(block_pwrite_sync(b, at, w->model + at, 300000), ==, 0);
	}
	g_assert_cmpint(block_close(b), ==, 0);
}

static void make_image(struct world *w)
{
	const struct setup *s = w->setup;
	struct block_create_options create = {
		.file = w->path,
		.format = s->format,
		.size_bytes = s->size,
		.cluster_bits = s->cluster_bits,
		.refcount_bits = s->refcount_bits,
		.version = s->version,
		.extended_l2 = s->extended_l2,
		.backing_file = s->backing ? w->base : NULL,
		.backing_format = s->backing,
	};
	GError *error = NULL;

	if (s->backing)
		make_backing(w);
	if (!s->by_qemu) {
		g_assert_true(block_create(&create, &error));
		return;
	}
	g_autofree char *backing =
		s->backing ? g_strdup_printf("-b %s -F %s", w->base, s->backing) : g_strdup("");

	run_ok("qemu-img create -f qcow2 -o cluster_size=%u,extended_l2=%s %s %s %" PRIu64,
	       1U << (s->cluster_bits ? s->cluster_bits : 16), s->extended_l2 ? "on" : "off",
	       backing, w->path, s->size);
	for (uint64_t at = 1 << 18; at + (1 << 17) < s->size; at += 1 << 20) {
		run_ok("qemu-io -f qcow2 -c 'write -P %u %" PRIu64 " 128k' %s",
		       (unsigned)(at >> 20) + 3, at, w->path);
		memset(w->model + at, (int)(at >> 20) + 3, 128 << 10);
	}
	if (s->snapshot)
		run_ok("qemu-img snapshot -c before %s", w->path);
}

static bool collides(const struct job *jobs, int count, uint64_t offset, uint64_t length)
{
	for (int i = 0; i < count; i++) {
		if (jobs[i].offset < offset + length && offset < jobs[i].offset + jobs[i].length)
			return true;
	}
	return false;
}

static uint64_t random_length(struct world *w)
{
	switch (g_rand_int_range(w->rand, 0, 6)) {
	case 0:
		return (uint64_t)g_rand_int_range(w->rand, 1, 5000);
	case 1:
		return (uint64_t)g_rand_int_range(w->rand, 1, LENGTH_MAX);
	case 2:
		return (uint64_t)g_rand_int_range(w->rand, 1, 40) * 4096;
	default:
		return (uint64_t)g_rand_int_range(w->rand, 1, 17) * 512;
	}
}

static bool make_job(struct world *w, struct job *job, const struct job *others, int count)
{
	uint64_t length = MIN(random_length(w), w->setup->size);
	uint64_t offset = (((uint64_t)g_rand_int(w->rand) << 16) | 0xffff) % (w->setup->size);
	int dice = g_rand_int_range(w->rand, 0, 100);

	if (g_rand_boolean(w->rand))
		offset &= ~UINT64_C(511);
	/* Half of all requests gather in one corner, to meet each other there. */
	if (g_rand_boolean(w->rand))
		offset %= 1 << 20;
	length = MIN(length, w->setup->size - offset);
	if (length == 0 || collides(others, count, offset, length))
		return false;
	*job = (struct job){.offset = offset, .length = length};
	job->kind = dice < 35   ? BLOCK_READ
		    : dice < 80 ? BLOCK_WRITE
		    : dice < 88 ? BLOCK_DISCARD
		    : dice < 97 ? BLOCK_ZEROES
				: BLOCK_FLUSH;
	job->buffer = NULL;
	if (posix_memalign((void **)&job->buffer, 4096, length) != 0)
		return false;
	memset(job->buffer, 0xee, length);
	if (job->kind == BLOCK_WRITE && dice < 40)
		memset(job->buffer, 0, length);
	else if (job->kind == BLOCK_WRITE)
		fill_pattern(job->buffer, offset, length, ++w->serial * 77);
	return true;
}

static void start_job(struct world *w, struct job *job)
{
	uint64_t half = job->length / 2;
	struct iovec iov[2] = {{job->buffer, half}, {job->buffer + half, job->length - half}};

	switch (job->kind) {
	case BLOCK_READ:
		block_preadv(w->b, job->offset, iov, 2, job_done, job);
		break;
	case BLOCK_WRITE:
		block_pwritev(w->b, job->offset, iov, 2, job_done, job);
		break;
	case BLOCK_DISCARD:
		block_discard(w->b, job->offset, job->length, job_done, job);
		break;
	case BLOCK_ZEROES:
		block_write_zeroes(w->b, job->offset, job->length, job->length & 1, job_done, job);
		break;
	default:
		block_flush(w->b, job_done, job);
	}
	g_assert_false(job->done);
}

static void settle_job(struct world *w, struct job *job)
{
	uint8_t *model = w->model + job->offset;

	g_assert_true(job->done);
	g_assert_cmpint(job->result, ==, 0);
	if (job->kind == BLOCK_READ) {
		for (uint64_t i = 0; i < job->length; i++) {
			if (job->buffer[i] != model[i])
				g_error("%s: read at %" PRIu64 " gives %02x instead of %02x",
					w->setup->name, job->offset + i, job->buffer[i], model[i]);
		}
	} else if (job->kind == BLOCK_WRITE) {
		memcpy(model, job->buffer, job->length);
	} else if (job->kind == BLOCK_ZEROES) {
		memset(model, 0, job->length);
	} else if (job->kind == BLOCK_DISCARD) {
		int r = block_pread_sync(w->b, job->offset, job->buffer, job->length);

		g_assert_cmpint(r, ==, 0);
		for (uint64_t i = 0; i < job->length; i++)
			g_assert_true(job->buffer[i] == 0 || job->buffer[i] == model[i]);
		memcpy(model, job->buffer, job->length);
	}
	free(job->buffer);
}

static void check_everything(struct world *w)
{
	g_autofree uint8_t *all = g_malloc(w->setup->size);

	g_assert_cmpint(block_pread_sync(w->b, 0, all, w->setup->size), ==, 0);
	for (uint64_t i = 0; i < w->setup->size; i++) {
		if (all[i] != w->model[i])
			g_error("%s: byte %" PRIu64 " is %02x instead of %02x", w->setup->name, i,
				all[i], w->model[i]);
	}
}

static void judge_world(struct world *w)
{
	g_autofree char *plain = scratch_path("plain.raw");
	GError *error = NULL;

	if (!have_judge())
		return;
	g_file_set_contents(plain, (const char *)w->model, (gssize)w->setup->size, &error);
	g_assert_no_error(error);
	if (strcmp(w->setup->format, "qcow2") == 0)
		judge(w->path, false);
	run_ok("qemu-img compare -f %s -F raw %s %s", w->setup->format, w->path, plain);
	if (w->setup->snapshot)
		run_ok("qemu-img convert -l before -f qcow2 -O raw %s %s", w->path, plain);
}

static void test_random(const void *opaque)
{
	struct world w = {.setup = opaque};
	int batches = g_getenv("LODGE_LONG") ? 600 : 60;

	if (w.setup->by_qemu && !have_qemu())
		return;
	w.rand = g_rand_new_with_seed((guint32)g_str_hash(w.setup->name));
	w.path = scratch_path("disk");
	w.base = scratch_path("base");
	w.model = g_malloc0(w.setup->size);
	make_image(&w);
	open_world(&w);
	for (int i = 0; i < batches; i++) {
		struct job jobs[BATCH_MAX];
		int count = 0;

		for (int tries = 0; tries < BATCH_MAX; tries++)
			count += make_job(&w, &jobs[count], jobs, count);
		for (int j = 0; j < count; j++)
			start_job(&w, &jobs[j]);
		block_drain(w.b);
		for (int j = 0; j < count; j++)
			settle_job(&w, &jobs[j]);
		if (i % 20 == 19) {
			check_everything(&w);
			g_assert_cmpint(block_close(w.b), ==, 0);
			if (i % 40 == 39)
				judge_world(&w);
			open_world(&w);
		}
	}
	check_everything(&w);
	g_assert_cmpint(block_close(w.b), ==, 0);
	judge_world(&w);
	g_free(w.model);
	g_free(w.path);
	g_free(w.base);
	g_rand_free(w.rand);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(setups); i++) {
		g_autofree char *name = g_strdup_printf("/block/random/%s", setups[i].name);

		g_test_add_data_func(name, &setups[i], test_random);
	}
	int status = g_test_run();

	scratch_clean();
	return status;
}
