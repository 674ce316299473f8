// SPDX-License-Identifier: GPL-2.0-or-later
/* Failing files: each write, flush or read of a workload fails in turn; the request that met it
 * reports it, the others go on, and the image stays whole. */
#include "common.h"

#include <errno.h>
#include <string.h>

enum { SIZE = 1 << 20, OPS = 40 };

struct fault {
	const char *name;
	enum debug_op op;
	int err;
	bool sticky;
	struct block_create_options create;
};

static const struct fault faults[] = {
	{"enospc", DEBUG_WRITE, ENOSPC, false, {0}},
	{"enospc-512", DEBUG_WRITE, ENOSPC, false, {.cluster_bits = 9, .refcount_bits = 64}},
	{"enospc-stays", DEBUG_WRITE, ENOSPC, true, {.cluster_bits = 12}},
	{"eio-write-ext", DEBUG_WRITE, EIO, false, {.cluster_bits = 14, .extended_l2 = true}},
	{"eio-flush", DEBUG_FLUSH, EIO, false, {.cluster_bits = 12}},
	{"eio-read", DEBUG_READ, EIO, false, {.cluster_bits = 12}},
};

/* The disk as it should be. */
struct shadow {
	uint8_t value[SIZE];
};

/* A request that failed may have done part of its work: each byte is as before or as asked. */
static void expect(struct shadow *s, struct block *b, uint64_t offset, const uint8_t *data,
		   uint64_t length, int r, int err)
{
	g_autofree uint8_t *now = g_malloc(length);
	uint8_t *value = s->value + offset;

	g_assert_true(r == 0 || r == -err);
	if (r < 0)
		g_assert_cmpint(block_pread_sync(b, offset, now, length), ==, 0);
	for (uint64_t i = 0; i < length; i++) {
		uint8_t wanted = data ? data[i] : 0;

		if (r < 0 && now[i] != wanted && now[i] != value[i])
			g_error("byte %" PRIu64 " is %02x, expected %02x or %02x", offset + i,
				now[i], value[i], wanted);
		value[i] = r < 0 ? now[i] : wanted;
	}
}

static void compare(struct shadow *s, struct block *b)
{
	g_autofree uint8_t *now = g_malloc(SIZE);

	g_assert_cmpint(block_pread_sync(b, 0, now, SIZE), ==, 0);
	for (unsigned i = 0; i < SIZE; i++) {
		if (now[i] != s->value[i])
			g_error("byte %u is %02x, expected %02x", i, now[i], s->value[i]);
	}
}

/* Returns whether any request failed. */
static bool workload(GRand *rand, struct block *b, struct shadow *s, int err)
{
	g_autofree uint8_t *data = g_malloc(SIZE);
	bool failed = false;

	for (int i = 0; i < OPS; i++) {
		uint64_t length = (uint64_t)g_rand_int_range(rand, 1, 70000);
		uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, SIZE - (int)length);
		int r;

		if (i % 8 == 7) {
			r = block_flush_sync(b);
			g_assert_true(r == 0 || r == -err);
		} else if (i % 8 == 3) {
			r = block_write_zeroes_sync(b, offset, length, true);
			expect(s, b, offset, NULL, length, r, err);
		} else {
			fill_pattern(data, offset, length, g_rand_int(rand));
			r = block_pwrite_sync(b, offset, data, length);
			expect(s, b, offset, data, length, r, err);
		}
		failed = failed || r < 0;
	}
	return failed;
}

static bool one_fault(const struct fault *f, const char *path, unsigned nth)
{
	g_autofree struct shadow *shadow = g_new0(struct shadow, 1);
	g_autofree char *after = scratch_path("after.qcow2");
	GRand *rand = g_rand_new_with_seed(nth + 1);
	GError *error = NULL;
	struct store s;

	store_init(&s, path);
	struct block *b = store_open(&s, true, &error);

	g_assert_no_error(error);
	block_file_debug_fail(s.debug, f->op, nth, f->err, f->sticky);
	unsigned before = block_file_debug_count(s.debug, f->op);
	bool failed = workload(rand, b, shadow, f->err);
	bool reached = block_file_debug_count(s.debug, f->op) >= before + nth;

	g_assert_false(failed && !reached);
	block_file_debug_fail(s.debug, f->op, 0, 0, false);
	compare(shadow, b);
	/* Once there is room again everything works. */
	g_assert_false(workload(rand, b, shadow, 0));
	compare(shadow, b);
	g_assert_cmpint(store_close(&s, b), ==, 0);

	if (have_judge() && nth % 4 == 1) {
		g_file_set_contents(after, (const char *)s.bytes->data, s.bytes->len, &error);
		g_assert_no_error(error);
		judge(after, true);
	}
	b = store_open(&s, true, &error);
	g_assert_no_error(error);
	compare(shadow, b);
	g_assert_cmpint(store_close(&s, b), ==, 0);
	store_fini(&s);
	g_rand_free(rand);
	return reached;
}

static void test_fault(const void *opaque)
{
	const struct fault *f = opaque;
	g_autofree char *path = scratch_path("fault.qcow2");
	struct block_create_options create = f->create;
	GError *error = NULL;
	unsigned nth = 1, step = g_getenv("LODGE_LONG") ? 1 : 3;

	create.file = path;
	create.format = "qcow2";
	create.size_bytes = SIZE;
	g_assert_true(block_create(&create, &error));
	while (nth < 400 && one_fault(f, path, nth))
		nth += step;
	g_assert_cmpuint(nth, >, 1);
}

/* A file that may not grow: allocation stops with ENOSPC, what is there stays good. */
static void test_full(void)
{
	g_autofree char *path = scratch_path("full.qcow2");
	struct block_create_options create = {
		.file = path, .format = "qcow2", .size_bytes = SIZE, .cluster_bits = 12};
	g_autofree uint8_t *data = g_malloc(SIZE);
	GError *error = NULL;
	struct store s;

	g_assert_true(block_create(&create, &error));
	store_init(&s, path);
	struct block *b = store_open(&s, false, &error);

	g_assert_no_error(error);
	fill_pattern(data, 0, SIZE, 3);
	g_assert_cmpint(block_pwrite_sync(b, 0, data, 40000), ==, 0);
	block_file_debug_fail(s.debug, DEBUG_WRITE, 1, ENOSPC, true);
	for (uint64_t at = 65536; at < SIZE; at += 65536)
		g_assert_cmpint(block_pwrite_sync(b, at, data + at, 65536), ==, -ENOSPC);
	g_assert_cmpint(block_flush_sync(b), ==, -ENOSPC);
	block_file_debug_fail(s.debug, DEBUG_WRITE, 0, 0, false);
	g_assert_cmpint(block_flush_sync(b), ==, 0);
	for (uint64_t at = 65536; at < SIZE; at += 65536)
		g_assert_cmpint(block_pwrite_sync(b, at, data + at, 65536), ==, 0);
	g_assert_cmpint(store_close(&s, b), ==, 0);
	store_fini(&s);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
		g_autofree char *name = g_strdup_printf("/block/fault/%s", faults[i].name);

		g_test_add_data_func(name, &faults[i], test_fault);
	}
	g_test_add_func("/block/fault/full", test_full);
	int status = g_test_run();

	scratch_clean();
	return status;
}
