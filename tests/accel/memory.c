// SPDX-License-Identifier: GPL-2.0-or-later
/* The dirty log is exact under every accelerator, and over a move. */
#include <string.h>

#include "bench.h"

GUEST(dirty);

static void fetch(struct bench *b, uint64_t *bitmap)
{
	g_autoptr(GError) error = NULL;
	memset(bitmap, 0, b->ram->size / 4096 / 8);
	g_assert_true(ram_log_fetch(b->vm, b->ram, bitmap, &error));
}

static void assert_pages(const struct bench *b, const uint64_t *bitmap, const unsigned *pages,
			 unsigned count)
{
	for (unsigned page = 0; page < b->ram->size / 4096; page++) {
		bool wanted = false;
		for (unsigned i = 0; i < count; i++)
			wanted |= pages[i] == page;
		if ((bitmap[page / 64] >> (page % 64) & 1) != wanted)
			g_test_message("page 0x%x", page);
		g_assert_cmpint(bitmap[page / 64] >> (page % 64) & 1, ==, wanted);
	}
}

static void test_exact(const struct accel_ops *accel)
{
	static const unsigned pages[] = {0x40, 0x42, 0x45, 0x46, 0x80}, by_device[] = {0x99};
	g_autoptr(GError) error = NULL;
	uint64_t bitmap[16];
	struct bench *b = bench_new(accel, NULL, 1, true);
	if (!b)
		return;
	BENCH_LOAD(b, dirty, BENCH_LONG);
	g_assert_true(ram_log_start(b->vm, &error));
	fetch(b, bitmap);
	if (bench_run(b, 20)) {
		fetch(b, bitmap);
		assert_pages(b, bitmap, pages, G_N_ELEMENTS(pages));
		fetch(b, bitmap);
		assert_pages(b, bitmap, NULL, 0);
		g_assert_true(dma_write(b->vm, 0x99123, "x", 1));
		fetch(b, bitmap);
		assert_pages(b, bitmap, by_device, 1);
	}
	ram_log_stop(b->vm);
	bench_free(b);
}

/* What was written before a move is reported after it, and logging goes on. */
static void test_move(const struct accel_ops *accel)
{
	static const unsigned pages[] = {0x40, 0x42, 0x45, 0x46, 0x80};
	const struct accel_ops *other = accel == &accel_soft ? &accel_kvm : &accel_soft;
	g_autoptr(GError) error = NULL;
	uint64_t bitmap[16];
	struct bench *b = bench_new(accel, other, 1, true);
	if (!b)
		return;
	BENCH_LOAD(b, dirty, BENCH_LONG);
	g_assert_true(ram_log_start(b->vm, &error));
	fetch(b, bitmap);
	if (bench_run(b, 20)) {
		b->vm->fallback = other;
		accel_switch(b->vm, &error);
		g_assert_no_error(error);
		fetch(b, bitmap);
		assert_pages(b, bitmap, pages, G_N_ELEMENTS(pages));
		BENCH_LOAD(b, dirty, BENCH_LONG);
		fetch(b, bitmap);
		if (bench_run(b, 20)) {
			fetch(b, bitmap);
			assert_pages(b, bitmap, pages, G_N_ELEMENTS(pages));
		}
	}
	ram_log_stop(b->vm);
	bench_free(b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	bench_add("/accel/dirty/exact", test_exact);
	bench_add("/accel/dirty/move", test_move);
	return g_test_run();
}
