// SPDX-License-Identifier: GPL-2.0-or-later
/* The transport: capabilities, BARs, feature negotiation, the access window in configuration space,
 * interrupts of both kinds. */
#include <string.h>

#include "driver.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

struct fixture {
	struct rig rig;
	struct driver driver;
	struct pci_function *function;
};

static void setup(struct fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	rig_init(&f->rig);
	f->function = (struct pci_function *)virtio_rng_new(f->rig.vm, f->rig.bus, true, &error);
	g_assert_no_error(error);
	rig_start(&f->rig);
	driver_init(&f->driver, &f->rig, f->function, FEATURE_BASE, 16);
}

static void teardown(struct fixture *f, gconstpointer data)
{
	rig_fini(&f->rig);
}

static uint32_t config(struct fixture *f, unsigned offset, unsigned size)
{
	return pci_bus_config_read(f->rig.bus, f->function->devfn, offset, size);
}

static void set_config(struct fixture *f, unsigned offset, uint32_t value, unsigned size)
{
	pci_bus_config_write(f->rig.bus, f->function->devfn, offset, value, size);
}

/* The capability of vendor type @kind, or MSI-X for 0; 0 when there is none. */
static unsigned find_cap(struct fixture *f, unsigned kind)
{
	for (unsigned at = config(f, 0x34, 1), i = 0; at && i < 48;
	     at = config(f, at + 1, 1), i++) {
		unsigned id = config(f, at, 1);
		if (kind == 0 ? id == 0x11 : id == 9 && config(f, at + 3, 1) == kind)
			return at;
	}
	return 0;
}

static void test_layout(struct fixture *f, gconstpointer data)
{
	g_assert_cmphex(config(f, 0, 4), ==, 0x10441af4);
	g_assert_cmphex(config(f, 8, 1), >=, 1);
	g_assert_cmphex(config(f, 0x3d, 1), ==, 1);
	static const uint32_t offsets[] = {[1] = 0, [2] = 0x3000, [3] = 0x1000};
	for (unsigned kind = 1; kind <= 3; kind++) {
		unsigned cap = find_cap(f, kind);
		g_assert_cmpuint(cap, !=, 0);
		g_assert_cmpuint(config(f, cap + 4, 1), ==, 4);
		g_assert_cmphex(config(f, cap + 8, 4), ==, offsets[kind]);
	}
	g_assert_cmpuint(config(f, find_cap(f, 2) + 16, 4), ==, 4);
	g_assert_cmpuint(find_cap(f, 0), !=, 0);
	g_assert_cmpuint(find_cap(f, 5), !=, 0);
	/* BAR 4: 64 bits, prefetchable, 16 KiB. */
	g_assert_cmphex(config(f, 0x20, 4) & 15, ==, 12);
	set_config(f, 0x20, UINT32_MAX, 4);
	g_assert_cmphex(config(f, 0x20, 4), ==, 0xffffc00c);
}

static void test_features(struct fixture *f, gconstpointer data)
{
	/* Refused: without VERSION_1, and what is not offered. */
	g_assert_cmphex(driver_negotiate(&f->driver, 0), ==, 3);
	g_assert_cmphex(driver_negotiate(&f->driver, FEATURE_BASE | 1), ==, 3);
	/* DRIVER_OK without FEATURES_OK does not hold either. */
	driver_write(&f->driver, 0, 0x14, 7, 1);
	g_assert_cmphex(driver_status(&f->driver), ==, 3);
	g_assert_cmphex(driver_negotiate(&f->driver, FEATURE_BASE), ==, 0xb);
	/* Fixed from here on. */
	driver_write(&f->driver, 0, 0x08, 1, 4);
	driver_write(&f->driver, 0, 0x0c, 0, 4);
	g_assert_cmphex(driver_read(&f->driver, 0, 0x0c, 4), ==, 1);
	/* Queues that are not there. */
	driver_write(&f->driver, 0, 0x16, 1, 2);
	g_assert_cmpuint(driver_read(&f->driver, 0, 0x18, 2), ==, 0);
	/* A queue's size cannot grow. */
	driver_write(&f->driver, 0, 0x16, 0, 2);
	unsigned max = driver_read(&f->driver, 0, 0x18, 2);
	driver_write(&f->driver, 0, 0x18, 2 * max, 2);
	g_assert_cmpuint(driver_read(&f->driver, 0, 0x18, 2), ==, max);
	g_assert_cmpuint(driver_read(&f->driver, 0, 0x1c, 2), ==, 0);
}

static void test_intx(struct fixture *f, gconstpointer data)
{
	struct piece piece = {0x2000, 4, true};
	driver_do(&f->driver, 0, &piece, 1);
	g_assert_true(f->rig.intx);
	rig_check_state(&f->rig);
	g_assert_true(f->rig.intx);
	set_config(f, 4, config(f, 4, 2) | 0x400, 2); /* INTx off */
	g_assert_false(f->rig.intx);
	set_config(f, 4, config(f, 4, 2) & ~0x400u, 2);
	g_assert_true(f->rig.intx);
	g_assert_cmphex(driver_read(&f->driver, 1, 0, 1), ==, 1);
	g_assert_false(f->rig.intx);
	g_assert_cmphex(driver_read(&f->driver, 1, 0, 1), ==, 0);
	/* No interrupt where none is wanted. */
	driver_negotiate(&f->driver, UINT64_C(1) << 32);
	driver_setup_queue(&f->driver, 0, 16);
	driver_write(&f->driver, 0, 0x14, 0xf, 1);
	*(uint8_t *)rig_host(&f->rig, f->driver.queues[0].driver) = 1;
	driver_do(&f->driver, 0, &piece, 1);
	g_assert_false(f->rig.intx);
}

static void test_msix(struct fixture *f, gconstpointer data)
{
	struct piece piece = {0x2000, 4, true};
	unsigned cap = find_cap(f, 0);
	uint64_t table = pci_bar_address(f->function, 1);
	set_config(f, cap + 2, 0x8000, 2);
	for (unsigned i = 0; i < 2; i++)
		vm_window_write(f->rig.vm, WINDOW_MMIO, table + 16 * i + 8, 40 + i, 4);
	driver_write(&f->driver, 0, 0x16, 0, 2);
	driver_write(&f->driver, 0, 0x1a, 1, 2);
	g_assert_cmpuint(driver_read(&f->driver, 0, 0x1a, 2), ==, 1);
	driver_do(&f->driver, 0, &piece, 1); /* masked: pending */
	g_assert_cmpuint(f->rig.msis, ==, 0);
	vm_window_write(f->rig.vm, WINDOW_MMIO, table + 16 + 12, 0, 4);
	g_assert_cmpuint(f->rig.msis, ==, 1);
	g_assert_cmpuint(f->rig.last_msi, ==, 41);
	g_assert_false(f->rig.intx);
	/* A vector that is not there. */
	driver_write(&f->driver, 0, 0x1a, 99, 2);
	g_assert_cmphex(driver_read(&f->driver, 0, 0x1a, 2), ==, 0xffff);
	driver_do(&f->driver, 0, &piece, 1);
	g_assert_cmpuint(f->rig.msis, ==, 1);
}

static void test_config_window(struct fixture *f, gconstpointer data)
{
	unsigned cap = find_cap(f, 5);
	set_config(f, cap + 4, 4, 1);
	set_config(f, cap + 8, 0x12, 4); /* number of queues */
	set_config(f, cap + 12, 2, 4);
	g_assert_cmpuint(config(f, cap + 16, 2), ==, 1);
	set_config(f, cap + 8, 0x14, 4); /* status */
	set_config(f, cap + 12, 1, 4);
	g_assert_cmphex(config(f, cap + 16, 1), ==, 0xf);
	set_config(f, cap + 16, 0, 1);
	g_assert_cmphex(driver_status(&f->driver), ==, 0);
	/* Another BAR, an odd length, beyond the end: nothing happens. */
	set_config(f, cap + 8, 0x3fff, 4);
	set_config(f, cap + 12, 4, 4);
	set_config(f, cap + 16, 1, 4);
	set_config(f, cap + 8, 0xfffffffc, 4);
	config(f, cap + 16, 4);
	set_config(f, cap + 12, 3, 4);
	config(f, cap + 16, 4);
}

/* A machine reset makes everything new. */
static void test_reset(struct fixture *f, gconstpointer data)
{
	g_assert_true(vm_reset(f->rig.vm, NULL));
	g_assert_cmphex(config(f, 4, 2), ==, 0);
	g_assert_true(pci_bus_assign(f->rig.bus, 0xc0000000, 0xd0000000, 0xc000, NULL));
	g_assert_cmphex(driver_status(&f->driver), ==, 0);
	driver_init(&f->driver, &f->rig, f->function, FEATURE_BASE, 16);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(struct fixture *f, gconstpointer data);
	} tests[] = {
		{"/virtio/pci/layout", test_layout},
		{"/virtio/pci/features", test_features},
		{"/virtio/pci/intx", test_intx},
		{"/virtio/pci/msix", test_msix},
		{"/virtio/pci/config-window", test_config_window},
		{"/virtio/pci/reset", test_reset},
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].name, struct fixture, NULL, setup, tests[i].fn, teardown);
	return g_test_run();
}
