// SPDX-License-Identifier: GPL-2.0-or-later
/* The same freestanding guests under the software processor and under KVM: serial port, timers,
 * interrupt controllers, messages, event descriptors, two processors, run states. */
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "virtio/rng.h"

GUEST(real);
GUEST(protected);
GUEST(long);
GUEST(smp);
GUEST(forever);
GUEST(queue);

static void test_real(const struct accel_ops *accel)
{
	struct bench *b = bench_new(accel, NULL, 1, true);
	char text[64] = "";
	if (!b)
		return;
	BENCH_LOAD(b, real, BENCH_REAL);
	int64_t start = g_get_monotonic_time();
	if (bench_run(b, 20)) {
		int64_t us = g_get_monotonic_time() - start;
		g_assert_cmpuint(bench_log(b, 0), ==, 36); /* 1 to 8 by REP INSW */
		g_assert_cmpuint(bench_log(b, 1), ==, 50); /* ticks */
		g_assert_cmpint(us, >=, 49000);
		bench_serve(b, 10, NULL);
		g_assert_cmpint(read(b->serial_fd, text, sizeof(text) - 1), >, 0);
		g_assert_cmpstr(text, ==, "hello from real mode\n");
	}
	bench_free(b);
}

static void test_protected(const struct accel_ops *accel)
{
	struct bench *b = bench_new(accel, NULL, 1, true);
	if (!b)
		return;
	BENCH_LOAD(b, protected, BENCH_PROTECTED);
	if (bench_run(b, 20)) {
		g_assert_cmpuint(bench_log(b, 0), >=, 40); /* edges */
		/* Interrupts beyond one for each level. Some kernels' ring-0 emulator takes a level
		 * a second time after its end of interrupt. */
		g_assert_cmpuint(bench_log(b, 1), <=, accel == &accel_kvm ? bench_log(b, 0) : 0);
		g_assert_cmphex(bench_log(b, 2), ==, 0x11223344);
		g_assert_cmphex(bench_log(b, 3), ==, 0x5566);
		g_assert_cmphex(bench_log(b, 4), ==, 0x04040404);
		g_assert_false(b->level->level);
	}
	bench_free(b);
}

static void test_long(const struct accel_ops *accel)
{
	struct bench *b = bench_new(accel, NULL, 1, true);
	if (!b)
		return;
	BENCH_LOAD(b, long, BENCH_LONG);
	if (bench_run(b, 20)) {
		g_assert_cmpuint(bench_log(b, 0), ==, 10); /* APIC timer */
		g_assert_cmpuint(bench_log(b, 1), ==, 0);  /* deadline after it fired */
		g_assert_cmpuint(bench_log(b, 2), ==, 4);  /* itself, MSI, two answers to bells */
		g_assert_cmpuint(b->doorbells, ==, 2 * DOORBELLS);
	}
	bench_free(b);
}

static void test_smp(const struct accel_ops *accel)
{
	struct bench *b = bench_new(accel, NULL, 2, true);
	if (!b)
		return;
	BENCH_LOAD(b, smp, BENCH_LONG);
	if (bench_run(b, 20)) {
		g_assert_cmphex(bench_log(b, 0), ==, 0x5a5a);
		g_assert_cmpuint(bench_log(b, 1), ==, 1);
	}
	bench_free(b);
}

static void test_queue(const struct accel_ops *accel)
{
	static const uint8_t zeros[64];
	g_autoptr(GError) error = NULL;
	struct bench *b = bench_new(accel, NULL, 1, true);
	if (!b)
		return;
	struct device *rng = virtio_rng_new(b->vm, pci_host_bus(b->pci), false, &error);
	g_assert_no_error(error);
	BENCH_LOAD(b, queue, BENCH_LONG);
	pci_bus_assign(pci_host_bus(b->pci), PCI_START, PCI_START + 0x100000, 0xc000, &error);
	g_assert_no_error(error);
	uint32_t at = (uint32_t)pci_bar_address(&((struct virtio *)rng)->pci, 4);
	g_assert_true(dma_write(b->vm, GUEST_DATA, &at, sizeof(at)));
	if (bench_run(b, 20)) {
		g_assert_cmpuint(bench_log(b, 0), ==, 64);
		g_assert_cmpuint(bench_log(b, 1), ==, 8);
		g_assert_cmpint(memcmp(b->ram->host + GUEST_RING + 0x1000, zeros, 64), !=, 0);
	}
	bench_free(b);
}

/* --- Run states --- */

static uint32_t ticks(const struct bench *b)
{
	return bench_read32(b, GUEST_DATA);
}

static bool has_ticked(struct bench *b)
{
	return ticks(b) >= 10;
}

static void test_pause(const struct accel_ops *accel)
{
	g_autoptr(GError) error = NULL;
	struct bench *b = bench_new(accel, NULL, 1, true);
	if (!b)
		return;
	BENCH_LOAD(b, forever, BENCH_LONG);
	g_assert_true(vm_start(b->vm, &error));
	bench_serve(b, 20000, has_ticked);
	g_assert_cmpuint(ticks(b), >=, 10);
	for (unsigned i = 0; i < 20; i++) {
		bench_serve(b, 5, NULL);
		int64_t asked = g_get_monotonic_time();
		vm_stop(b->vm, RUN_PAUSED);
		int64_t us = g_get_monotonic_time() - asked;
		uint32_t seen = ticks(b), loops = bench_read32(b, GUEST_DATA + 8);
		uint64_t tsc = vm_tsc(b->vm);
		g_assert_cmpint(us, <,
				2000000); /* a kick gets through at once; the host is shared */
		bench_serve(b, 20, NULL);
		g_assert_cmpuint(ticks(b), ==, seen);
		g_assert_cmpuint(bench_read32(b, GUEST_DATA + 8), ==, loops);
		g_assert_cmpuint(vm_tsc(b->vm), ==, tsc);
		int64_t resumed = g_get_monotonic_time();
		g_assert_true(vm_start(b->vm, &error));
		bench_serve(b, 30, NULL);
		/* Ticks of the pause do not come later; 1 ms each, with one that was under way. */
		int64_t ran_ms = (g_get_monotonic_time() - resumed) / 1000;
		g_assert_cmpuint(ticks(b), >, seen);
		g_assert_cmpint(ticks(b) - seen, <=, ran_ms + 3);
	}
	bench_free(b);
}

/* After a reset nothing of the chips' programming is left, in the kernel's either. */
static void test_reset(const struct accel_ops *accel)
{
	g_autoptr(GError) error = NULL;
	struct bench *b = bench_new(accel, NULL, 1, true);
	if (!b)
		return;
	g_autoptr(GByteArray) fresh = g_byte_array_new(), used = g_byte_array_new();
	BENCH_LOAD(b, forever, BENCH_LONG);
	vm_devices_save(b->vm, fresh);
	g_assert_true(vm_start(b->vm, &error));
	bench_serve(b, 20000, has_ticked);
	g_assert_true(vm_reset(b->vm, &error));
	vm_stop(b->vm, RUN_PAUSED);
	BENCH_LOAD(b, real, BENCH_REAL);
	vm_devices_save(b->vm, used);
	g_assert_cmpuint(used->len, ==, fresh->len);
	g_assert_null(strstr(b->events->str, "KVM"));
	if (bench_run(b, 20))
		g_assert_cmpuint(bench_log(b, 1), ==, 50);
	bench_free(b);
}

/* What is saved does not tell which accelerator it came from. */
static void test_saved_form(void)
{
	struct bench *soft = bench_new(&accel_soft, NULL, 1, true);
	struct bench *kvm = bench_new(&accel_kvm, NULL, 1, true);
	g_autoptr(GByteArray) a = g_byte_array_new(), b = g_byte_array_new();
	if (soft && kvm) {
		BENCH_LOAD(soft, real, BENCH_REAL);
		BENCH_LOAD(kvm, real, BENCH_REAL);
		vm_devices_save(soft->vm, a);
		vm_devices_save(kvm->vm, b);
		g_assert_cmpuint(a->len, ==, b->len);
		g_assert_null(g_strstr_len((const char *)b->data, b->len, "kvm-"));
	}
	if (soft)
		bench_free(soft);
	if (kvm)
		bench_free(kvm);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	bench_add("/accel/real", test_real);
	bench_add("/accel/protected", test_protected);
	bench_add("/accel/long", test_long);
	bench_add("/accel/smp", test_smp);
	bench_add("/accel/queue", test_queue);
	bench_add("/accel/pause", test_pause);
	bench_add("/accel/reset", test_reset);
	g_test_add_func("/accel/saved-form", test_saved_form);
	return g_test_run();
}
