// SPDX-License-Identifier: GPL-2.0-or-later
/* Rings, split and packed: order, wrapping, notification, and drivers that mean harm. The rng
 * device, the plainest, stands behind the queue. */
#include <string.h>

#include "driver.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

enum { NEEDS_RESET = 0x40, SIZE = 16 };

struct fixture {
	struct rig rig;
	struct driver driver;
	struct queue *queue;
};

static void setup(struct fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	bool packed = GPOINTER_TO_INT(data);
	rig_init(&f->rig);
	struct device *device = virtio_rng_new(f->rig.vm, f->rig.bus, true, &error);
	g_assert_no_error(error);
	rig_start(&f->rig);
	driver_init(&f->driver, &f->rig, (struct pci_function *)device,
		    FEATURE_BASE | (packed ? FEATURE_PACKED : 0), SIZE);
	f->queue = &((struct virtio *)device)->queues[0];
}

static void teardown(struct fixture *f, gconstpointer data)
{
	rig_fini(&f->rig);
}

/* Three times round the ring, elements of one to three pieces, one over the seam of two mappings.
 */
static void test_round(struct fixture *f, gconstpointer data)
{
	uint64_t buffer = RIG_RAM_BYTES / 2 - 20;
	for (unsigned i = 0; i < 3 * SIZE; i++) {
		struct piece pieces[3] = {{buffer, 40, true}, {0x2000, 8, true}, {0x3000, 1, true}};
		unsigned count = 1 + i % 3;
		memset(rig_host(&f->rig, buffer), 0, 40);
		uint32_t expected = 0;
		for (unsigned k = 0; k < count; k++)
			expected += pieces[k].length;
		g_assert_cmpuint(driver_do(&f->driver, 0, pieces, count), ==, expected);
		unsigned zeros = 0;
		for (unsigned k = 0; k < 40; k++)
			zeros += ((uint8_t *)rig_host(&f->rig, buffer))[k] == 0;
		g_assert_cmpuint(zeros, <, 10);
		g_assert_cmphex(driver_status(&f->driver), ==, 0xf);
	}
	rig_check_state(&f->rig);
}

/* Several at once come back in order. */
static void test_burst(struct fixture *f, gconstpointer data)
{
	struct piece piece = {0x2000, 4, true};
	uint16_t ids[SIZE], id;
	uint32_t length;
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			ids[i] = driver_add(&f->driver, 0, &piece, 1);
		driver_notify(&f->driver, 0);
		for (unsigned i = 0; i < SIZE; i++) {
			g_assert_true(driver_used(&f->driver, 0, &id, &length));
			g_assert_cmpuint(id, ==, ids[i]);
		}
		g_assert_false(driver_used(&f->driver, 0, &id, &length));
	}
}

static void test_indirect(struct fixture *f, gconstpointer data)
{
	struct driver *d = &f->driver;
	struct piece table = {0x4000, 48, false};
	uint8_t *host = rig_host(&f->rig, 0x4000);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t address = 0x5000 + 64 * i;
		uint32_t length = 10;
		uint16_t flags = i < 2 && !GPOINTER_TO_INT(data) ? 3 : 2, next = (uint16_t)(i + 1);
		memcpy(host + 16 * i, &address, 8);
		memcpy(host + 16 * i + 8, &length, 4);
		memcpy(host + 16 * i + (GPOINTER_TO_INT(data) ? 14 : 12), &flags, 2);
		if (!GPOINTER_TO_INT(data))
			memcpy(host + 16 * i + 14, &next, 2);
	}
	uint16_t at = d->queues[0].packed ? d->queues[0].avail : d->queues[0].next_desc;
	uint16_t id = driver_add(d, 0, &table, 1), used_id;
	uint8_t *flags = (uint8_t *)rig_host(&f->rig, d->queues[0].desc + 16u * at) +
			 (GPOINTER_TO_INT(data) ? 14 : 12);
	*flags |= 4;
	driver_notify(d, 0);
	uint32_t length = 0;
	g_assert_true(driver_used(d, 0, &used_id, &length));
	g_assert_cmpuint(used_id, ==, id);
	g_assert_cmpuint(length, ==, 30);
}

/* The device interrupts when the event index is reached, and not before. */
static void test_event_index(struct fixture *f, gconstpointer data)
{
	struct piece piece = {0x2000, 4, true};
	struct driver_queue *q = &f->driver.queues[0];
	pci_bus_config_write(f->rig.bus, f->driver.function->devfn,
			     f->driver.function->msix.cap + 2, 0x8000, 2);
	uint64_t table = pci_bar_address(f->driver.function, 1);
	vm_window_write(f->rig.vm, WINDOW_MMIO, table + 8, 77, 4);
	vm_window_write(f->rig.vm, WINDOW_MMIO, table + 12, 0, 4);
	if (q->packed) {
		uint16_t event[2] = {4 | 0x8000, 2}; /* tell me at slot 4 */
		memcpy(rig_host(&f->rig, q->driver), event, 4);
	} else {
		uint16_t event = 4;
		memcpy(rig_host(&f->rig, q->driver + 4 + 2 * SIZE), &event, 2);
	}
	driver_write(&f->driver, 0, 0x16, 0, 2);
	driver_write(&f->driver, 0, 0x1a, 0, 2);
	for (unsigned i = 0; i < 8; i++) {
		driver_add(&f->driver, 0, &piece, 1);
		driver_notify(&f->driver, 0);
		g_assert_cmpuint(f->rig.msis, ==, i < 4 ? 0 : 1);
	}
	g_assert_cmpuint(f->rig.last_msi, ==, 77);
}

/* --- Harm --- */

static unsigned warnings;

static void count_warning(const char *domain, GLogLevelFlags level, const char *message,
			  void *opaque)
{
	warnings++;
}

static void expect_needs_reset(struct fixture *f)
{
	uint16_t id;
	uint32_t length;
	driver_notify(&f->driver, 0);
	g_assert_cmphex(driver_status(&f->driver), ==, 0xf | NEEDS_RESET);
	g_assert_cmphex(driver_read(&f->driver, 1, 0, 1) & 2, ==, 2); /* a config interrupt */
	/* It stays dead and quiet, and a reset brings it back. */
	driver_notify(&f->driver, 0);
	g_assert_false(driver_used(&f->driver, 0, &id, &length));
	driver_init(&f->driver, &f->rig, f->driver.function, f->driver.features, SIZE);
	struct piece good = {0x2000, 4, true};
	g_assert_cmpuint(driver_do(&f->driver, 0, &good, 1), ==, 4);
}

static void test_outside_memory(struct fixture *f, gconstpointer data)
{
	static const struct piece bad[] = {
		{RIG_HOLE, 16, true},          /* a hole */
		{RIG_RAM_BYTES - 8, 16, true}, /* runs out of memory */
		{UINT64_MAX - 7, 16, true},    /* wraps */
		{0x1000, UINT32_MAX, true},    /* larger than memory */
		{UINT64_C(1) << 63, 16, false},
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		driver_add(&f->driver, 0, &bad[i], 1);
		expect_needs_reset(f);
	}
}

/* A driver that does wrong again and again does not fill the log. */
static void test_rate(struct fixture *f, gconstpointer data)
{
	static const struct piece bad = {RIG_HOLE, 16, true};
	unsigned before = warnings;
	gint64 start = g_get_monotonic_time();
	for (unsigned i = 0; i < 100; i++) {
		driver_add(&f->driver, 0, &bad, 1);
		expect_needs_reset(f);
	}
	gint64 seconds = (g_get_monotonic_time() - start) / G_USEC_PER_SEC;
	g_assert_cmpuint(warnings, >, before);
	g_assert_cmpint(warnings - before, <=, seconds + 2);
}

static void test_order(struct fixture *f, gconstpointer data)
{
	static const struct piece bad[] = {{0x2000, 4, true}, {0x3000, 4, false}};
	driver_add(&f->driver, 0, bad, 2);
	expect_needs_reset(f);
}

/* Every descriptor says that another follows. */
static void test_loop(struct fixture *f, gconstpointer data)
{
	struct piece pieces[SIZE];
	for (unsigned i = 0; i < SIZE; i++)
		pieces[i] = (struct piece){0x2000, 4, true};
	driver_add(&f->driver, 0, pieces, SIZE);
	struct driver_queue *q = &f->driver.queues[0];
	uint8_t *last = rig_host(&f->rig, q->desc + 16 * (SIZE - 1));
	last[q->packed ? 14 : 12] |= 1; /* of a split ring it leads back to 0 */
	expect_needs_reset(f);
}

static void test_indexes(struct fixture *f, gconstpointer data)
{
	struct driver_queue *q = &f->driver.queues[0];
	struct piece piece = {0x2000, 4, true};
	if (q->packed) {
		g_test_skip("packed rings have no indexes");
		return;
	}
	uint16_t bad = SIZE + 1; /* available index ahead of the ring */
	memcpy(rig_host(&f->rig, q->driver + 2), &bad, 2);
	expect_needs_reset(f);
	driver_add(&f->driver, 0, &piece, 1); /* head outside the table */
	q = &f->driver.queues[0];
	bad = SIZE;
	memcpy(rig_host(&f->rig, q->driver + 4 + 2 * ((q->avail - 1) % SIZE)), &bad, 2);
	expect_needs_reset(f);
	q = &f->driver.queues[0];
	struct piece two[2] = {piece, piece}; /* next outside the table */
	uint16_t head = driver_add(&f->driver, 0, two, 2);
	bad = 0x7fff;
	memcpy(rig_host(&f->rig, q->desc + 16u * head + 14), &bad, 2);
	expect_needs_reset(f);
}

static void test_bad_indirect(struct fixture *f, gconstpointer data)
{
	/* Length no multiple of 16; empty; outside memory; a table in a table. */
	static const struct piece bad[] = {{0x4000, 24, false},
					   {0x4000, 0, false},
					   {RIG_HOLE, 16, false},
					   {0x6000, 16, false}};
	unsigned flags_at = GPOINTER_TO_INT(data) ? 14 : 12;
	memset(rig_host(&f->rig, 0x6000), 0, 16);
	((uint8_t *)rig_host(&f->rig, 0x6000))[flags_at] = 4;
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		struct driver_queue *q = &f->driver.queues[0];
		uint16_t at = q->packed ? q->avail : q->next_desc;
		driver_add(&f->driver, 0, &bad[i], 1);
		((uint8_t *)rig_host(&f->rig, q->desc + 16u * at))[flags_at] |= 4;
		expect_needs_reset(f);
	}
}

static void test_bad_rings(struct fixture *f, gconstpointer data)
{
	static const uint32_t bad[] = {8, RIG_HOLE, RIG_RAM_BYTES - 16, 0xfffffff0};
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		driver_negotiate(&f->driver, f->driver.features);
		driver_write(&f->driver, 0, 0x16, 0, 2);
		driver_write(&f->driver, 0, 0x18, SIZE, 2);
		driver_write(&f->driver, 0, 0x20, bad[i], 4);
		driver_write(&f->driver, 0, 0x28, 0x1000, 4);
		driver_write(&f->driver, 0, 0x30, 0x2000, 4);
		driver_write(&f->driver, 0, 0x1c, 1, 2);
		driver_write(&f->driver, 0, 0x14, 0xf, 1);
		g_assert_cmphex(driver_status(&f->driver) & NEEDS_RESET, ==, NEEDS_RESET);
		driver_notify(&f->driver, 0);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(struct fixture *f, gconstpointer data);
	} tests[] = {
		{"round", test_round},
		{"burst", test_burst},
		{"indirect", test_indirect},
		{"event-index", test_event_index},
		{"outside-memory", test_outside_memory},
		{"rate", test_rate},
		{"order", test_order},
		{"loop", test_loop},
		{"indexes", test_indexes},
		{"bad-indirect", test_bad_indirect},
		{"bad-rings", test_bad_rings},
	};
	g_test_init(&argc, &argv, NULL);
	g_log_set_always_fatal(G_LOG_FATAL_MASK);
	g_log_set_default_handler(count_warning, NULL);
	for (int packed = 0; packed < 2; packed++) {
		for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
			g_autofree char *path = g_strdup_printf(
				"/virtio/queue/%s/%s", packed ? "packed" : "split", tests[i].name);
			g_test_add(path, struct fixture, GINT_TO_POINTER(packed), setup,
				   tests[i].fn, teardown);
		}
	}
	return g_test_run();
}
