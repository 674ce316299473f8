// SPDX-License-Identifier: GPL-2.0-or-later
/* How fast 4 KiB requests go through the block layer at queue depth 32, in the pseudo-random stride
 * of `qemu-img bench -S`: fully written images, then writes that allocate. `meson test
 * --benchmark`. Figures go to standard output; nothing is judged. */
#include "common.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { DEPTH = 32, PIECE = 4096, COUNT = 200000 };

#define DISK (UINT64_C(256) << 20)
#define STEP UINT64_C(50335744)

struct run_state {
	struct block *b;
	bool write;
	uint64_t next, step;
	unsigned left, running;
	uint8_t *buffers;
};

struct slot {
	struct run_state *state;
	struct iovec iov;
};

static void submit(struct slot *slot);

static void done(void *opaque, int result)
{
	struct slot *slot = opaque;

	g_assert_cmpint(result, ==, 0);
	slot->state->running--;
	submit(slot);
}

static void submit(struct slot *slot)
{
	struct run_state *s = slot->state;

	if (!s->left)
		return;
	s->left--;
	s->running++;
	if (s->write)
		block_pwritev(s->b, s->next, &slot->iov, 1, done, slot);
	else
		block_preadv(s->b, s->next, &slot->iov, 1, done, slot);
	s->next = (s->next + s->step) % DISK;
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void measure(const char *name, struct block *b, bool write, uint64_t step, unsigned count)
{
	struct run_state s = {.b = b, .write = write, .step = step, .left = count};
	struct slot slots[DEPTH];
	struct block_stats stats;

	if (posix_memalign((void **)&s.buffers, 4096, DEPTH * PIECE) != 0)
		return;
	memset(s.buffers, 7, DEPTH * PIECE);
	int64_t begun = g_get_monotonic_time();
	double cpu = cpu_seconds();

	for (unsigned i = 0; i < DEPTH; i++) {
		slots[i] = (struct slot){&s, {s.buffers + i * PIECE, PIECE}};
		submit(&slots[i]);
	}
	while (s.running)
		g_main_context_iteration(NULL, TRUE);
	double seconds = (double)(g_get_monotonic_time() - begun) / 1e6;

	block_get_stats(b, &stats);
	g_print("%-28s %8.1f kIOPS %6.2f us CPU each (direct %" PRIu64 ")\n", name,
		count / seconds / 1000, (cpu_seconds() - cpu) * 1e6 / count, stats.direct_ops);
	free(s.buffers);
}

static void bench(const char *format, enum block_cache cache, const char *words)
{
	g_autofree char *path = scratch_path("bench");
	g_autofree char *name = g_strdup_printf("%s %s", format, words);
	g_autofree char *reading = g_strconcat(name, " read", NULL);
	g_autofree char *writing = g_strconcat(name, " write", NULL);
	g_autofree char *allocating = g_strconcat(name, " allocate", NULL);
	struct block_create_options create = {.file = path, .format = format, .size_bytes = DISK};
	struct block_options options = {.file = path, .format = format, .cache = cache};
	g_autofree uint8_t *data = g_malloc(1 << 20);
	unsigned count = cache == BLOCK_CACHE_NONE ? COUNT / 5 : COUNT;
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	struct block *b = open_ok(&options);

	measure(allocating, b, true, 65536, DISK / 65536);
	memset(data, 5, 1 << 20);
	for (uint64_t at = 0; at < DISK; at += 1 << 20)
		g_assert_cmpint(block_pwrite_sync(b, at, data, 1 << 20), ==, 0);
	g_assert_cmpint(block_flush_sync(b), ==, 0);
	measure(reading, b, false, STEP, count);
	measure(writing, b, true, STEP, count);
	block_close(b);
}

int main(void)
{
	bench("raw", BLOCK_CACHE_WRITEBACK, "writeback");
	bench("qcow2", BLOCK_CACHE_WRITEBACK, "writeback");
	bench("raw", BLOCK_CACHE_NONE, "none");
	bench("qcow2", BLOCK_CACHE_NONE, "none");
	scratch_clean();
	return 0;
}
