// SPDX-License-Identifier: GPL-2.0-or-later
/* Images that lie: each header field out of range is refused with one line that names the file and
 * the fault; damage found later fails the request, marks the image, and stops all writing. */
#include "common.h"

#include <errno.h>
#include <string.h>

struct lie {
	const char *name;
	unsigned offset, width;
	uint64_t value;
	const char *words;
	const char *only; /* "write": it can still be read */
};

static const struct lie lies[] = {
	{"magic", 0, 4, 0x12345678, "not a qcow2 image", NULL},
	{"version", 4, 4, 9, "version 9", NULL},
	{"backing-far", 12, 8, UINT64_C(0x10000000000005), "backing file name", NULL},
	{"cluster-bits", 20, 4, 40, "cluster size", NULL},
	{"size", 24, 8, UINT64_MAX, "disk size is out of range", NULL},
	{"size-l1", 24, 8, UINT64_C(1) << 50, "L1 table is too small", NULL},
	{"encrypted", 32, 4, 1, "encrypted", NULL},
	{"luks", 32, 4, 2, "LUKS", NULL},
	{"l1-large", 36, 4, 0xffffffff, "L1 table is too large", NULL},
	{"l1-unaligned", 40, 8, 513, "the L1 table does not begin on a cluster", NULL},
	{"l1-beyond", 40, 8, UINT64_C(1) << 40, "the L1 table lies beyond", NULL},
	{"l1-header", 40, 8, 0, "the L1 table lies over the header", NULL},
	{"reftable-beyond", 48, 8, UINT64_C(1) << 40, "the refcount table lies beyond", NULL},
	{"reftable-large", 56, 4, 0xffffff, "refcount table is too large", NULL},
	{"reftable-none", 56, 4, 0, "no refcount table", NULL},
	{"snapshots", 60, 4, 0xffffff, "too many snapshots", NULL},
	{"snapshot-table", 60, 4, 3, "the snapshot table lies over the header", NULL},
	{"data-file", 72, 8, 4, "external data file", NULL},
	{"feature", 72, 8, UINT64_C(1) << 40, "bit 40", NULL},
	{"ext-small", 72, 8, 16, "extended L2", NULL},
	{"refcount-width", 96, 4, 7, "wider than 64", NULL},
	{"header-length", 100, 4, 1001, "header length", NULL},
	{"compression", 104, 4, 0x05000000, "compression type 5", NULL},
	{"compression-bit", 104, 4, 0x01000000, "contradicts its feature", NULL},
	{"extension", 116, 4, 0x7fffffff, "extension is longer", NULL},
	{"marked", 72, 8, 2, "marked corrupt", "write"},
};

static char *make(const char *name)
{
	char *path = scratch_path(name);
	struct block_create_options create = {
		.file = path, .format = "qcow2", .size_bytes = 1 << 20, .cluster_bits = 12};
	struct block_options options = {.file = path, .format = "qcow2"};
	uint8_t data[20000];
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	struct block *b = open_ok(&options);

	fill_pattern(data, 0, sizeof(data), 1);
	g_assert_cmpint(block_pwrite_sync(b, 0, data, sizeof(data)), ==, 0);
	g_assert_cmpint(block_close(b), ==, 0);
	return path;
}

static void poke(const char *path, uint64_t offset, unsigned width, uint64_t value)
{
	g_autofree char *bytes = NULL;
	gsize length;
	GError *error = NULL;

	g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
	g_assert_cmpuint(offset + width, <=, length);
	for (unsigned i = 0; i < width; i++)
		bytes[offset + i] = (char)(value >> (8 * (width - 1 - i)));
	g_assert_true(g_file_set_contents(path, bytes, (gssize)length, &error));
}

static uint64_t peek(const char *path, uint64_t offset)
{
	g_autofree char *bytes = NULL;
	gsize length;
	uint64_t value;

	g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
	g_assert_cmpuint(offset + 8, <=, length);
	memcpy(&value, bytes + offset, 8);
	return GUINT64_FROM_BE(value);
}

static void test_lie(const void *opaque)
{
	const struct lie *lie = opaque;
	g_autofree char *path = make("lie.qcow2");
	g_autofree char *before = NULL;
	g_autofree char *after = NULL;
	struct block_options options = {.file = path, .format = "qcow2"};
	gsize before_length, after_length;

	if (strcmp(lie->name, "extension") == 0)
		poke(path, 112, 4, 0x11223344);
	poke(path, lie->offset, lie->width, lie->value);
	g_assert_true(g_file_get_contents(path, &before, &before_length, NULL));
	open_fails(&options, lie->words);
	options.read_only = true;
	if (lie->only)
		block_close(open_ok(&options));
	else
		open_fails(&options, lie->words);
	g_assert_true(g_file_get_contents(path, &after, &after_length, NULL));
	g_assert_cmpmem(before, before_length, after, after_length);
}

static void test_truncated(void)
{
	g_autofree char *path = make("short.qcow2");
	struct block_options options = {.file = path, .format = "qcow2"};
	GError *error = NULL;
	g_autofree char *bytes = NULL;

	g_assert_true(g_file_get_contents(path, &bytes, NULL, NULL));
	for (gssize length = 4; length < 104; length += 20) {
		g_file_set_contents(path, bytes, length, &error);
		g_assert_no_error(error);
		open_fails(&options, "");
	}
	g_file_set_contents(path, bytes, 4096, &error);
	open_fails(&options, "beyond the end of the file");
}

/* Damage behind the header: the request fails, the corrupt bit is set, and nothing more is written.
 */
static void damage(uint64_t (*where)(const char *path), uint64_t value, bool write,
		   const char *words)
{
	g_autofree char *path = make("damaged.qcow2");
	struct block_options options = {.file = path, .format = "qcow2"};
	uint8_t byte = 9;

	poke(path, where(path), 8, value);
	struct block *b = open_ok(&options);

	g_test_expect_message(NULL, G_LOG_LEVEL_MESSAGE, words);
	if (write)
		g_assert_cmpint(block_pwrite_sync(b, 0, &byte, 1), ==, -EIO);
	else
		g_assert_cmpint(block_pread_sync(b, 0, &byte, 1), ==, -EIO);
	g_test_assert_expected_messages();
	g_assert_cmpint(block_pwrite_sync(b, 500000, &byte, 1), ==, -EIO);
	g_assert_cmpint(block_write_zeroes_sync(b, 0, 4096, false), ==, -EIO);
	g_assert_cmpint(block_discard_sync(b, 0, 4096) == 0, ==, true);
	g_assert_cmpint(block_flush_sync(b), ==, -EIO);
	block_close(b);
	g_assert_cmpuint(peek(path, 72) & 2, ==, 2);
	open_fails(&options, "marked corrupt");
}

static uint64_t first_l2(const char *path)
{
	return peek(path, peek(path, 40)) & UINT64_C(0x00fffffffffffe00);
}

static void test_damage(void)
{
	uint64_t copied = UINT64_C(1) << 63;

	damage(first_l2, copied | 0x1200, false, "*contradicts itself*");
	damage(first_l2, copied | (UINT64_C(1) << 40), false, "*beyond the end of the file*");
	damage(first_l2, copied | 4096, true, "*guest data lies over metadata*");
	damage(first_l2, copied | (UINT64_C(1) << 62) | 600, false, "*compressed cluster*damaged*");
}

static uint64_t first_l1(const char *path)
{
	return peek(path, 40);
}

static uint64_t first_block(const char *path)
{
	return peek(path, 48);
}

static void open_refused_for_writing(uint64_t (*where)(const char *path), uint64_t value,
				     const char *words)
{
	g_autofree char *path = make("tables.qcow2");
	struct block_options options = {.file = path, .format = "qcow2"};

	poke(path, where(path), 8, value);
	open_fails(&options, words);
}

static void test_tables(void)
{
	uint64_t copied = UINT64_C(1) << 63;

	open_refused_for_writing(first_l1, copied | 0x1200, "L2 table 0 does not begin");
	open_refused_for_writing(first_l1, copied | (UINT64_C(1) << 40), "L2 table 0 lies beyond");
	open_refused_for_writing(first_l1, copied | 4096, "L2 table 0 lies over other metadata");
	open_refused_for_writing(first_block, 0x200, "refcount block 0 does not begin");
	open_refused_for_writing(first_block, UINT64_C(1) << 40, "refcount block 0 lies beyond");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
		g_autofree char *name = g_strdup_printf("/block/corrupt/%s", lies[i].name);

		g_test_add_data_func(name, &lies[i], test_lie);
	}
	g_test_add_func("/block/corrupt/truncated", test_truncated);
	g_test_add_func("/block/corrupt/damage", test_damage);
	g_test_add_func("/block/corrupt/tables", test_tables);
	int status = g_test_run();

	scratch_clean();
	return status;
}
