// SPDX-License-Identifier: GPL-2.0-or-later
/* Power cuts: the writes of a busy image are recorded; every prefix of them, and prefixes with an
 * arbitrary part of what was not flushed, must open, check without corruption, and hold all that
 * had been flushed. Bytes written since are old or new, never anything else. */
#include "common.h"

#include <string.h>

enum { SIZE = 2 << 20, OPS = 120, PER_FLUSH = 10 };

struct change {
	uint64_t offset, length;
	uint8_t *data; /* NULL: zeros */
	bool discard;
};

/* What holds after a flush: the content then, and what changed from there to the next one. */
struct epoch {
	unsigned log_length;
	uint8_t *content;
	GArray *changes;
};

struct variant {
	const char *name;
	struct block_create_options create;
	bool snapshot;
};

static const struct variant variants[] = {
	{"64k", {0}, false},
	{"512-64bit", {.cluster_bits = 9, .refcount_bits = 64}, false},
	{"4k", {.cluster_bits = 12}, false},
	{"ext-16k", {.cluster_bits = 14, .extended_l2 = true}, false},
	{"v2", {.version = 2, .cluster_bits = 12}, false},
	{"4k-snapshot", {.cluster_bits = 12}, true},
	{"ext-snapshot", {.cluster_bits = 14, .extended_l2 = true}, true},
};

static void change_clear(void *data)
{
	g_free(((struct change *)data)->data);
}

static struct epoch *epoch_new(unsigned log_length, const uint8_t *model)
{
	struct epoch *e = g_new0(struct epoch, 1);

	e->log_length = log_length;
	e->content = g_memdup2(model, SIZE);
	e->changes = g_array_new(FALSE, FALSE, sizeof(struct change));
	g_array_set_clear_func(e->changes, change_clear);
	return e;
}

static void epoch_free(void *data)
{
	struct epoch *e = data;

	g_free(e->content);
	g_array_unref(e->changes);
	g_free(e);
}

static void make(const struct variant *v, const char *path, uint8_t *model)
{
	struct block_create_options create = v->create;
	struct block_options options = {.file = path, .format = "qcow2"};
	GError *error = NULL;

	create.file = path;
	create.format = "qcow2";
	create.size_bytes = SIZE;
	g_assert_true(block_create(&create, &error));
	if (!v->snapshot)
		return;
	struct block *b = open_ok(&options);

	fill_pattern(model + 100000, 0, 700000, 5);
	g_assert_cmpint(block_pwrite_sync(b, 100000, model + 100000, 700000), ==, 0);
	g_assert_cmpint(block_close(b), ==, 0);
	run_ok("qemu-img snapshot -c one %s", path);
}

/* One random change, sent to the image and noted in the epoch. */
static void change_something(GRand *rand, struct block *b, struct epoch *e, uint8_t *model,
			     uint32_t seed)
{
	struct change c = {.length = (uint64_t)g_rand_int_range(rand, 1, 60000)};
	int dice = g_rand_int_range(rand, 0, 10);

	if (dice & 1)
		c.length = (c.length + 4095) & ~UINT64_C(4095);
	c.offset = (uint64_t)g_rand_int_range(rand, 0, SIZE - (int)c.length);
	if (dice & 2)
		c.offset &= ~UINT64_C(4095);
	if (dice < 7) {
		c.data = g_malloc(c.length);
		fill_pattern(c.data, c.offset, c.length, seed);
		g_assert_cmpint(block_pwrite_sync(b, c.offset, c.data, c.length), ==, 0);
		memcpy(model + c.offset, c.data, c.length);
	} else if (dice < 9) {
		g_assert_cmpint(block_write_zeroes_sync(b, c.offset, c.length, true), ==, 0);
		memset(model + c.offset, 0, c.length);
	} else {
		c.discard = true;
		g_assert_cmpint(block_discard_sync(b, c.offset, c.length), ==, 0);
		g_assert_cmpint(block_pread_sync(b, c.offset, model + c.offset, c.length), ==, 0);
	}
	g_array_append_val(e->changes, c);
}

static bool explained(const struct epoch *e, uint64_t at, uint8_t value)
{
	if (value == e->content[at])
		return true;
	for (unsigned i = 0; i < e->changes->len; i++) {
		const struct change *c = &g_array_index(e->changes, struct change, i);

		if (at < c->offset || at >= c->offset + c->length)
			continue;
		if (value == (c->data ? c->data[at - c->offset] : 0))
			return true;
	}
	return false;
}

static void check_state(GByteArray *bytes, const struct epoch *e, unsigned cut, bool use_qemu)
{
	struct store s = {.bytes = bytes, .context = g_main_context_new()};
	g_autofree char *path = scratch_path("cut.qcow2");
	g_autofree uint8_t *now = g_malloc(SIZE);
	GError *error = NULL;

	if (use_qemu) {
		g_file_set_contents(path, (const char *)bytes->data, bytes->len, &error);
		g_assert_no_error(error);
		judge(path, true);
	}
	struct block *b = store_open(&s, false, &error);

	g_assert_no_error(error);
	g_assert_cmpint(block_pread_sync(b, 0, now, SIZE), ==, 0);
	for (uint64_t i = 0; i < SIZE; i++) {
		if (!explained(e, i, now[i]))
			g_error("cut after %u writes: byte %" PRIu64 " is %02x, was %02x", cut, i,
				now[i], e->content[i]);
	}
	block_close(b);
	g_array_unref(s.log);
	g_main_context_unref(s.context);
}

/* Of the writes since the last flush any part may have reached the disk, in any order, sector by
 * sector. */
static void apply_some(GRand *rand, GByteArray *bytes, GArray *log, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		const struct debug_event *event = &g_array_index(log, struct debug_event, i);
		int luck = g_rand_int_range(rand, 0, 3);
		uint64_t sector = 512 - (event->offset & 511);

		if (luck == 0)
			continue;
		for (uint64_t at = 0; at < event->length; at += sector, sector = 512) {
			if (luck == 1 || g_rand_boolean(rand))
				store_apply(bytes, event, at, MIN(at + sector, event->length));
		}
	}
}

static void replay(GRand *rand, const GByteArray *initial, GArray *log, GPtrArray *epochs)
{
	GByteArray *whole = g_byte_array_new(), *flushed = g_byte_array_new();
	bool qemu = have_judge();
	unsigned epoch = 0, last_flush = 0, every = g_getenv("LODGE_LONG") ? 1 : 11;

	g_byte_array_append(whole, initial->data, initial->len);
	g_byte_array_append(flushed, initial->data, initial->len);
	for (unsigned cut = 0; cut <= log->len; cut++) {
		while (epoch + 1 < epochs->len &&
		       ((struct epoch *)epochs->pdata[epoch + 1])->log_length <= cut)
			epoch++;
		if (cut % every == 0 || cut == log->len) {
			GByteArray *some = g_byte_array_new();

			check_state(whole, epochs->pdata[epoch], cut, qemu);
			g_byte_array_append(some, flushed->data, flushed->len);
			apply_some(rand, some, log, last_flush, cut);
			check_state(some, epochs->pdata[epoch], cut, qemu);
			g_byte_array_unref(some);
		}
		if (cut == log->len)
			break;
		const struct debug_event *event = &g_array_index(log, struct debug_event, cut);

		store_apply(whole, event, 0, event->length);
		if (event->op == DEBUG_FLUSH) {
			last_flush = cut + 1;
			g_byte_array_set_size(flushed, 0);
			g_byte_array_append(flushed, whole->data, whole->len);
		}
	}
	g_byte_array_unref(whole);
	g_byte_array_unref(flushed);
}

static void test_power_cut(const void *opaque)
{
	const struct variant *v = opaque;
	g_autofree char *path = scratch_path("made.qcow2");
	g_autofree uint8_t *model = g_malloc0(SIZE);
	g_autoptr(GPtrArray) epochs = g_ptr_array_new_with_free_func(epoch_free);
	GRand *rand = g_rand_new_with_seed((guint32)g_str_hash(v->name));
	GError *error = NULL;
	struct store s;

	if (v->snapshot && !have_qemu())
		return;
	make(v, path, model);
	store_init(&s, path);
	struct block *b = store_open(&s, true, &error);

	g_assert_no_error(error);
	g_ptr_array_add(epochs, epoch_new(0, model));
	for (int i = 0; i < OPS; i++) {
		struct epoch *e = epochs->pdata[epochs->len - 1];

		change_something(rand, b, e, model, (uint32_t)i * 31 + 9);
		if (i % PER_FLUSH != PER_FLUSH - 1)
			continue;
		g_assert_cmpint(block_flush_sync(b), ==, 0);
		g_ptr_array_add(epochs, epoch_new(s.log->len, model));
	}
	g_autoptr(GByteArray) initial = g_byte_array_new();

	g_byte_array_append(initial, s.bytes->data, s.bytes->len);
	g_assert_cmpint(store_close(&s, b), ==, 0);
	replay(rand, initial, s.log, epochs);
	store_fini(&s);
	g_rand_free(rand);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(variants); i++) {
		g_autofree char *name = g_strdup_printf("/block/power-cut/%s", variants[i].name);

		g_test_add_data_func(name, &variants[i], test_power_cut);
	}
	int status = g_test_run();

	scratch_clean();
	return status;
}
