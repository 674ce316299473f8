// SPDX-License-Identifier: GPL-2.0-or-later
/* Images of all kinds made by qemu-img are read and changed here, and the other way round; and what
 * the header says is kept or refused as it should be. */
#include "common.h"

#include <glib/gstdio.h>
#include <string.h>

enum { SIZE = 6 << 20 };

struct foreign {
	const char *name;
	const char *options; /* of qemu-img convert */
};

static const struct foreign foreigns[] = {
	{"cluster-512", "-o cluster_size=512"},
	{"cluster-1k", "-o cluster_size=1k"},
	{"cluster-2k", "-o cluster_size=2k"},
	{"cluster-4k", "-o cluster_size=4k"},
	{"cluster-8k", "-o cluster_size=8k"},
	{"cluster-16k", "-o cluster_size=16k"},
	{"cluster-32k", "-o cluster_size=32k"},
	{"cluster-64k", "-o cluster_size=64k"},
	{"cluster-128k", "-o cluster_size=128k"},
	{"cluster-256k", "-o cluster_size=256k"},
	{"cluster-512k", "-o cluster_size=512k"},
	{"cluster-1m", "-o cluster_size=1M"},
	{"cluster-2m", "-o cluster_size=2M"},
	{"refcount-1", "-o refcount_bits=1"},
	{"refcount-2", "-o refcount_bits=2"},
	{"refcount-4", "-o refcount_bits=4"},
	{"refcount-8", "-o refcount_bits=8"},
	{"refcount-32", "-o refcount_bits=32"},
	{"refcount-64", "-o refcount_bits=64,cluster_size=512"},
	{"v2", "-o compat=0.10"},
	{"zlib", "-c"},
	{"zlib-4k", "-c -o cluster_size=4k"},
	{"zlib-2m", "-c -o cluster_size=2M"},
	{"zlib-v2", "-c -o compat=0.10"},
	{"zstd", "-c -o compression_type=zstd"},
	{"zstd-16k", "-c -o compression_type=zstd,cluster_size=16k"},
	{"ext", "-o extended_l2=on"},
	{"ext-zstd", "-c -o extended_l2=on,compression_type=zstd"},
	{"ext-128k-zlib", "-c -o extended_l2=on,cluster_size=128k"},
	{"lazy", "-o lazy_refcounts=on"},
	{"prealloc-metadata", "-o preallocation=metadata"},
	{"prealloc-falloc", "-o preallocation=falloc"},
};

/* A disk of text, noise, and nothing. */
static uint8_t *make_content(const char *path)
{
	uint8_t *data = g_malloc0(SIZE);
	GError *error = NULL;

	for (unsigned at = 0; at < SIZE; at++) {
		unsigned kind = (at >> 16) % 4;

		if (kind == 0)
			data[at] = (uint8_t)("The quick brown fox. "[at % 21]);
		else if (kind == 1)
			fill_pattern(data + at, at, 1, 4);
	}
	g_file_set_contents(path, (const char *)data, SIZE, &error);
	g_assert_no_error(error);
	return data;
}

static void expect_content(const char *path, bool read_only, const uint8_t *data)
{
	struct block_options options = {.file = path, .format = "qcow2", .read_only = read_only};
	struct block *b = open_ok(&options);
	g_autofree uint8_t *now = g_malloc(SIZE);

	g_assert_cmpint(block_pread_sync(b, 0, now, SIZE), ==, 0);
	g_assert_cmpint(memcmp(now, data, SIZE), ==, 0);
	for (unsigned at = 5000; at + 9000 < SIZE; at += 333333) {
		g_assert_cmpint(block_pread_sync(b, at, now, 9000), ==, 0);
		g_assert_cmpint(memcmp(now, data + at, 9000), ==, 0);
	}
	g_assert_cmpint(block_close(b), ==, 0);
}

static void change_content(const char *path, uint8_t *data)
{
	struct block_options options = {.file = path, .format = "qcow2", .discard = true};
	struct block *b = open_ok(&options);

	for (unsigned at = 3000; at + 50000 < SIZE; at += 411111) {
		fill_pattern(data + at, at, 20000, 8);
		g_assert_cmpint(block_pwrite_sync(b, at, data + at, 20000), ==, 0);
		g_assert_cmpint(block_write_zeroes_sync(b, at + 25000, 20000, true), ==, 0);
		memset(data + at + 25000, 0, 20000);
	}
	g_assert_cmpint(block_close(b), ==, 0);
}

static void test_foreign(const void *opaque)
{
	const struct foreign *f = opaque;
	g_autofree char *raw = scratch_path("content.raw");
	g_autofree char *path = scratch_path("foreign.qcow2");
	GError *error = NULL;

	if (!have_qemu())
		return;
	g_autofree uint8_t *data = make_content(raw);

	run_ok("qemu-img convert -f raw -O qcow2 %s %s %s", f->options, raw, path);
	expect_content(path, true, data);
	change_content(path, data);
	expect_content(path, false, data);
	judge(path, false);
	g_file_set_contents(raw, (const char *)data, SIZE, &error);
	g_assert_no_error(error);
	run_ok("qemu-img compare -f raw -F qcow2 %s %s", raw, path);
}

/* Every legal shape that we can make passes QEMU's check and keeps its numbers. */
static void test_create(void)
{
	g_autofree char *path = scratch_path("made.qcow2");

	if (!have_qemu())
		return;
	for (uint32_t bits = 9; bits <= 21; bits++) {
		for (uint32_t order = 0; order <= 6; order++) {
			struct block_create_options create = {
				.file = path,
				.format = "qcow2",
				.size_bytes = UINT64_C(3) << 30,
				.cluster_bits = bits,
				.refcount_bits = 1U << order,
				.extended_l2 = bits >= 14 && order == 4,
				.zstd = order == 5,
				.lazy_refcounts = order == 3,
			};
			GError *error = NULL;
			g_autofree char *info = NULL;
			g_autofree char *size = g_strdup_printf("cluster_size: %u\n", 1U << bits);
			g_autofree char *refs = g_strdup_printf("refcount bits: %u\n", 1U << order);

			g_assert_true(block_create(&create, &error));
			judge(path, false);
			g_assert_cmpint(run(&info, "qemu-img info -f qcow2 %s", path), ==, 0);
			g_assert_nonnull(strstr(info, size));
			g_assert_nonnull(strstr(info, refs));
			g_assert_nonnull(strstr(info, "3 GiB (3221225472 bytes)"));
		}
	}
}

static void test_create_refused(void)
{
	g_autofree char *path = scratch_path("never.qcow2");
	struct block_create_options cases[] = {
		{.format = "qcow2", .cluster_bits = 8},
		{.format = "qcow2", .cluster_bits = 22},
		{.format = "qcow2", .refcount_bits = 3},
		{.format = "qcow2", .version = 4},
		{.format = "qcow2", .version = 2, .extended_l2 = true},
		{.format = "qcow2", .cluster_bits = 12, .extended_l2 = true},
		{.format = "qcow2", .cluster_bits = 9, .size_bytes = UINT64_C(1) << 50},
		{.format = "qcow2", .backing_file = "x"},
		{.format = "raw", .backing_file = "x", .backing_format = "raw"},
		{.format = "vmdk"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		GError *error = NULL;

		cases[i].file = path;
		if (cases[i].size_bytes == 0)
			cases[i].size_bytes = 1 << 20;
		g_assert_false(block_create(&cases[i], &error));
		g_assert_nonnull(strstr(error->message, path));
		g_clear_error(&error);
	}
}

/* An image left dirty (lazy refcounts, killed writer): its refcounts are put right at open. */
static void test_dirty(void)
{
	g_autofree char *path = scratch_path("dirty.qcow2");
	g_autofree char *info = NULL;

	if (!have_qemu())
		return;
	run_ok("qemu-img create -f qcow2 -o lazy_refcounts=on,cluster_size=4k %s 6M", path);
	run(NULL,
	    "qemu-io -f qcow2 -c 'write -P 7 0 1M' -c 'write -P 9 3M 100k' -c flush -c abort %s",
	    path);
	g_assert_cmpint(run(&info, "qemu-img check -f qcow2 %s", path), !=, 0);

	g_autofree uint8_t *data = g_malloc0(SIZE);

	memset(data, 7, 1 << 20);
	memset(data + (3 << 20), 9, 100 << 10);
	expect_content(path, true, data);
	expect_content(path, false, data);
	judge(path, false);
	change_content(path, data);
	expect_content(path, true, data);
	judge(path, false);
}

static uint64_t header_field(const char *path, unsigned at)
{
	g_autofree char *bytes = NULL;
	gsize length;
	uint64_t value;

	g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
	memcpy(&value, bytes + at, 8);
	return GUINT64_FROM_BE(value);
}

/* Bitmaps that we do not keep up must not be believed after we wrote; reading leaves them. */
static void test_autoclear(void)
{
	g_autofree char *path = scratch_path("bitmap.qcow2");
	struct block_options options = {.file = path, .format = "qcow2"};
	uint8_t byte = 1;

	if (!have_qemu())
		return;
	run_ok("qemu-img create -f qcow2 %s 6M", path);
	run_ok("qemu-img bitmap --add %s b0", path);
	g_assert_cmpuint(header_field(path, 88), ==, 1);
	struct block *b = open_ok(&options);

	g_assert_cmpint(block_pread_sync(b, 0, &byte, 1), ==, 0);
	g_assert_cmpint(block_close(b), ==, 0);
	g_assert_cmpuint(header_field(path, 88), ==, 1);
	b = open_ok(&options);
	g_assert_cmpint(block_pwrite_sync(b, 0, &byte, 1), ==, 0);
	g_assert_cmpuint(header_field(path, 88), ==, 0);
	g_assert_cmpint(block_close(b), ==, 0);
	judge(path, true);
}

/* Several snapshots, each after more writing by us; each keeps what it saw. */
static void test_snapshots(void)
{
	g_autofree char *path = scratch_path("snapshots.qcow2");
	g_autofree char *raw = scratch_path("content.raw");
	g_autofree char *out = scratch_path("out.raw");
	g_autofree uint8_t *data = NULL;
	uint8_t *kept[3];

	if (!have_qemu())
		return;
	data = make_content(raw);
	run_ok("qemu-img convert -c -f raw -O qcow2 %s %s", raw, path);
	for (unsigned i = 0; i < 3; i++) {
		kept[i] = g_memdup2(data, SIZE);
		run_ok("qemu-img snapshot -c s%u %s", i, path);
		struct block_options options = {.file = path, .format = "qcow2", .discard = true};
		struct block *b = open_ok(&options);

		for (unsigned at = i * 10000; at + 50000 < SIZE; at += 500000 + i * 100000) {
			fill_pattern(data + at, at, 50000, i + 40);
			g_assert_cmpint(block_pwrite_sync(b, at, data + at, 50000), ==, 0);
		}
		g_assert_cmpint(block_discard_sync(b, 1 << 20, 1 << 20), ==, 0);
		g_assert_cmpint(block_pread_sync(b, 1 << 20, data + (1 << 20), 1 << 20), ==, 0);
		g_assert_cmpint(block_close(b), ==, 0);
		judge(path, false);
	}
	expect_content(path, false, data);
	for (unsigned i = 0; i < 3; i++) {
		g_autofree char *bytes = NULL;

		run_ok("qemu-img convert -l s%u -f qcow2 -O raw %s %s", i, path, out);
		g_assert_true(g_file_get_contents(out, &bytes, NULL, NULL));
		g_assert_cmpint(memcmp(bytes, kept[i], SIZE), ==, 0);
		g_free(kept[i]);
	}
}

static void test_chain(void)
{
	g_autofree char *base = scratch_path("base.raw");
	g_autofree char *middle = scratch_path("middle.qcow2");
	g_autofree char *top = scratch_path("top.qcow2");
	g_autofree uint8_t *data = make_content(base);
	struct block_create_options create = {.file = middle,
					      .format = "qcow2",
					      .backing_file = "base.raw",
					      .backing_format = "raw"};
	struct block_options options = {.file = top, .format = "qcow2"};
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	create.file = top;
	create.backing_file = "middle.qcow2";
	create.backing_format = "qcow2";
	g_assert_true(block_create(&create, &error));
	change_content(middle, data);
	expect_content(top, false, data);
	change_content(top, data);
	expect_content(top, false, data);

	g_autoptr(GPtrArray) chain = block_chain_files(&options, &error);

	g_assert_no_error(error);
	g_assert_cmpuint(chain->len, ==, 3);
	for (unsigned i = 0; i < 3; i++) {
		const struct block_chain_file *f = chain->pdata[i];
		const char *path = i == 0 ? top : i == 1 ? middle : base;

		g_assert_cmpstr(f->path, ==, path);
		g_assert_cmpstr(f->format, ==, i == 2 ? "raw" : "qcow2");
		g_assert_true(f->read_only == (i > 0));
	}
}

static void test_chain_refused(void)
{
	g_autofree char *a = scratch_path("loop-a.qcow2");
	g_autofree char *b = scratch_path("loop-b.qcow2");
	struct block_create_options create = {.file = a,
					      .format = "qcow2",
					      .size_bytes = 1 << 20,
					      .backing_file = "loop-b.qcow2",
					      .backing_format = "qcow2"};
	struct block_options options = {.file = a, .format = "qcow2", .unlocked = true};
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	create.file = b;
	create.backing_file = "loop-a.qcow2";
	g_assert_true(block_create(&create, &error));
	options.read_only = true;
	open_fails(&options, "comes back");
	g_assert_null(block_chain_files(&options, &error));
	g_assert_nonnull(strstr(error->message, "comes back"));
	g_clear_error(&error);

	for (unsigned i = 0; i < 205; i++) {
		g_autofree char *name = g_strdup_printf("long-%u.qcow2", i);
		g_autofree char *below = g_strdup_printf("long-%u.qcow2", i + 1);
		g_autofree char *path = scratch_path(name);

		create.file = path;
		create.backing_file = below;
		create.cluster_bits = 12;
		g_assert_true(block_create(&create, &error));
	}
	g_autofree char *first = scratch_path("long-0.qcow2");

	options.file = first;
	g_assert_null(block_chain_files(&options, &error));
	g_assert_nonnull(strstr(error->message, "more than 200"));
	g_clear_error(&error);
	g_assert_null(block_open(&options, &error));
	g_assert_nonnull(strstr(error->message, "more than 200"));
	g_clear_error(&error);
	create.backing_file = "nbd://host/disk";
	create.file = a;
	g_assert_true(block_create(&create, &error));
	options.file = a;
	open_fails(&options, "not a plain file name");
}

static void test_probe(void)
{
	g_autofree char *raw = scratch_path("probe.raw");
	g_autofree char *qcow2 = scratch_path("probe.qcow2");
	struct block_create_options create = {.file = raw, .format = "raw", .size_bytes = 1 << 20};
	struct block_options options = {.file = raw};
	struct block_info info;
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	create.file = qcow2;
	create.format = "qcow2";
	g_assert_true(block_create(&create, &error));
	struct block *b = open_ok(&options);

	block_get_info(b, &info);
	g_assert_cmpstr(info.format, ==, "raw");
	block_close(b);
	options.file = qcow2;
	b = open_ok(&options);
	block_get_info(b, &info);
	g_assert_cmpstr(info.format, ==, "qcow2");
	g_assert_cmpuint(info.size_bytes, ==, 1 << 20);
	block_close(b);
	options.format = "vdi";
	open_fails(&options, "formats are raw and qcow2");
	options.file = raw;
	options.format = "qcow2";
	open_fails(&options, "not a qcow2 image");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(foreigns); i++) {
		g_autofree char *name = g_strdup_printf("/block/formats/%s", foreigns[i].name);

		g_test_add_data_func(name, &foreigns[i], test_foreign);
	}
	g_test_add_func("/block/formats/create", test_create);
	g_test_add_func("/block/formats/create-refused", test_create_refused);
	g_test_add_func("/block/formats/dirty", test_dirty);
	g_test_add_func("/block/formats/autoclear", test_autoclear);
	g_test_add_func("/block/formats/snapshots", test_snapshots);
	g_test_add_func("/block/formats/chain", test_chain);
	g_test_add_func("/block/formats/chain-refused", test_chain_refused);
	g_test_add_func("/block/formats/probe", test_probe);
	int status = g_test_run();

	scratch_clean();
	return status;
}
