// SPDX-License-Identifier: GPL-2.0-or-later
/* 8254, local APIC timer, HPET, RTC and ACPI timer, on a clock that the test moves. */
#include "tests/dev/bench.h"

#define MS   INT64_C(1000000)
#define HPET UINT64_C(0xfed00000)
enum {
	EOI = 0xb0,
	SVR = 0xf0,
	LVT_TIMER = 0x320,
	INITIAL = 0x380,
	CURRENT = 0x390,
	DIVIDE = 0x3e0
};

/* How often IRQ @irq of the 8259 comes within @ns, looked at each @step. */
static unsigned count_irq(struct bench *b, unsigned irq, int64_t ns, int64_t step)
{
	unsigned count = 0;
	for (int64_t t = 0; t < ns; t += step) {
		advance(b, step);
		int vector = take(b, 0);
		if (vector == (int)(0x20 + irq))
			count++;
		if (vector >= 0x28)
			out8(b, 0xa0, 0x20);
		if (vector >= 0)
			out8(b, 0x20, 0x20);
	}
	return count;
}

/* --- 8254 --- */

static unsigned pit_count(struct bench *b, unsigned channel)
{
	out8(b, 0x43, (uint8_t)(channel << 6));
	unsigned low = in8(b, (uint16_t)(0x40 + channel));
	return low | (unsigned)in8(b, (uint16_t)(0x40 + channel)) << 8;
}

static void pit_set(struct bench *b, unsigned channel, unsigned mode, unsigned count)
{
	out8(b, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
	out8(b, (uint16_t)(0x40 + channel), (uint8_t)count);
	out8(b, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

/* Without the edge that the mode's own output may make. */
static void pit_set_quietly(struct bench *b, unsigned mode, unsigned count)
{
	pit_set(b, 0, mode, count);
	if (take(b, 0) == 0x20)
		out8(b, 0x20, 0x20);
}

static bool pit_out2(struct bench *b)
{
	return in8(b, 0x61) & 0x20;
}

static void pit_rate(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	pit_set_quietly(b, 2, 1193); /* 1000.15 Hz */
	g_assert_cmpuint(count_irq(b, 0, 100 * MS, MS / 10), ==, 100);
	pit_set_quietly(b, 3, 1193 * 2);
	g_assert_cmpuint(count_irq(b, 0, 100 * MS, MS / 10), ==, 50);
	pit_set_quietly(b, 0, 1193);
	g_assert_cmpuint(count_irq(b, 0, 100 * MS, MS / 10), ==, 1);
	pit_set_quietly(b, 4, 1193);
	g_assert_cmpuint(count_irq(b, 0, 100 * MS, MS / 10), ==, 1);
	bench_free(b);
}

static void pit_counts(void)
{
	struct bench *b = bench_new(1);
	pit_set(b, 0, 2, 10000);
	advance(b, MS);
	unsigned at = pit_count(b, 0);
	g_assert_cmpuint(at, >=, 10000 - 1194);
	g_assert_cmpuint(at, <=, 10000 - 1193);
	/* A latched count stays until it is read; a second latch changes nothing. */
	out8(b, 0x43, 0);
	advance(b, MS);
	out8(b, 0x43, 0);
	unsigned low = in8(b, 0x40);
	g_assert_cmpuint(low | (unsigned)in8(b, 0x40) << 8, ==, at);
	g_assert_cmpuint(pit_count(b, 0), <, at);
	/* Mode 3 counts by two. */
	pit_set(b, 0, 3, 10000);
	advance(b, MS);
	g_assert_cmpuint(pit_count(b, 0), <=, 10000 - 2 * 1193);
	g_assert_cmpuint(pit_count(b, 0), >=, 10000 - 2 * 1194);
	/* BCD: 0 counts 10000 down from 9999. */
	out8(b, 0x43, 0x35);
	out8(b, 0x40, 0);
	out8(b, 0x40, 0);
	advance(b, MS);
	g_assert_cmphex(pit_count(b, 0) >> 8, ==, 0x88);
	/* One byte only. */
	out8(b, 0x43, 0x14);
	out8(b, 0x40, 200);
	g_assert_cmpuint(in8(b, 0x40), ==, 200);
	bench_free(b);
}

static void pit_read_back(void)
{
	struct bench *b = bench_new(1);
	pit_set(b, 0, 2, 0x1234);
	out8(b, 0x43, 0xc2); /* status and count of channel 0 */
	g_assert_cmphex(in8(b, 0x40), ==, 0x80 | 0x30 | 2 << 1);
	g_assert_cmphex(in8(b, 0x40), ==, 0x34);
	g_assert_cmphex(in8(b, 0x40), ==, 0x12);
	out8(b, 0x43, 0x30);
	out8(b, 0x43, 0xe2);
	g_assert_cmphex(in8(b, 0x40), ==, 0x40 | 0x30); /* no count yet, output low */
	bench_free(b);
}

/* A count written while the counter runs takes effect after the period. */
static void pit_new_count(void)
{
	struct bench *b = bench_new(1);
	pit_set(b, 0, 2, 11932); /* 10 ms */
	advance(b, 5 * MS);
	out8(b, 0x40, 1193 & 0xff);
	out8(b, 0x40, 1193 >> 8);
	g_assert_cmpuint(pit_count(b, 0), >, 5000);
	advance(b, 6 * MS);
	g_assert_cmpuint(pit_count(b, 0), <=, 1193);
	bench_free(b);
}

static void pit_gate(void)
{
	struct bench *b = bench_new(1);
	/* Mode 0: counts while the gate is high. */
	out8(b, 0x61, 0);
	pit_set(b, 2, 0, 2386);
	advance(b, 5 * MS);
	g_assert_false(pit_out2(b));
	g_assert_cmpuint(pit_count(b, 2), ==, 2386);
	out8(b, 0x61, 1);
	advance(b, MS);
	out8(b, 0x61, 0);
	unsigned held = pit_count(b, 2);
	advance(b, 5 * MS);
	g_assert_cmpuint(pit_count(b, 2), ==, held);
	g_assert_false(pit_out2(b));
	out8(b, 0x61, 1);
	advance(b, MS + MS / 10);
	g_assert_true(pit_out2(b));
	/* Mode 1: the rising gate starts a pulse, again and again. */
	out8(b, 0x61, 0);
	pit_set(b, 2, 1, 1193);
	g_assert_true(pit_out2(b));
	out8(b, 0x61, 1);
	g_assert_false(pit_out2(b));
	advance(b, MS / 2);
	out8(b, 0x61, 0);
	out8(b, 0x61, 1);
	advance(b, MS * 3 / 4);
	g_assert_false(pit_out2(b));
	advance(b, MS / 2);
	g_assert_true(pit_out2(b));
	/* Mode 3: high for the first half; without gate high for good. */
	pit_set(b, 2, 3, 2386);
	g_assert_true(pit_out2(b));
	advance(b, MS * 3 / 2);
	g_assert_false(pit_out2(b));
	out8(b, 0x61, 2);
	g_assert_true(pit_out2(b));
	g_assert_cmphex(in8(b, 0x61) & 3, ==, 2);
	bench_free(b);
}

/* --- Local APIC timer: 1 GHz --- */

static void apic_one_shot(void)
{
	struct bench *b = bench_new(1);
	apic_out(b, 0, SVR, 0x1ff);
	apic_out(b, 0, DIVIDE, 0xb);
	apic_out(b, 0, LVT_TIMER, 0x40);
	apic_out(b, 0, INITIAL, 1000000);
	advance(b, MS / 4);
	g_assert_cmpuint(apic_in(b, 0, CURRENT), ==, 750000);
	apic_out(b, 0, DIVIDE, 0); /* by two: the rest takes twice the time */
	g_assert_cmpuint(apic_in(b, 0, CURRENT), ==, 750000);
	advance(b, MS);
	g_assert_cmpuint(apic_in(b, 0, CURRENT), ==, 250000);
	g_assert_cmpint(take(b, 0), ==, -1);
	advance(b, MS / 2);
	g_assert_cmpint(take(b, 0), ==, 0x40);
	g_assert_cmpuint(apic_in(b, 0, CURRENT), ==, 0);
	apic_out(b, 0, EOI, 0);
	/* Over stays over, whatever the mode becomes. */
	apic_out(b, 0, LVT_TIMER, 0x20040);
	advance(b, 10 * MS);
	g_assert_cmpint(take(b, 0), ==, -1);
	g_assert_cmpuint(apic_in(b, 0, INITIAL), ==, 1000000);
	bench_free(b);
}

static void apic_periodic(void)
{
	struct bench *b = bench_new(1);
	apic_out(b, 0, SVR, 0x1ff);
	apic_out(b, 0, DIVIDE, 0xb);
	apic_out(b, 0, LVT_TIMER, 0x20040);
	apic_out(b, 0, INITIAL, 1000000);
	for (unsigned i = 0; i < 20; i++) {
		advance(b, MS);
		g_assert_cmpint(take(b, 0), ==, 0x40);
		apic_out(b, 0, EOI, 0);
	}
	apic_out(b, 0, LVT_TIMER, 0x30040); /* masked: counts on in silence */
	advance(b, MS + MS / 2);
	g_assert_cmpint(take(b, 0), ==, -1);
	g_assert_cmpuint(apic_in(b, 0, CURRENT), ==, 500000);
	apic_out(b, 0, INITIAL, 0);
	apic_out(b, 0, LVT_TIMER, 0x20040);
	advance(b, 5 * MS);
	g_assert_cmpint(take(b, 0), ==, -1);
	bench_free(b);
}

static void apic_deadline(void)
{
	struct bench *b = bench_new(1);
	uint64_t value;
	apic_out(b, 0, SVR, 0x1ff);
	g_assert_true(msr_out(b, 0, 0x6e0, vm_tsc(b->vm) + 1));
	g_assert_true(msr_in(b, 0, 0x6e0, &value) && value == 0); /* not in that mode */
	apic_out(b, 0, LVT_TIMER, 0x40040);
	uint64_t deadline = vm_tsc(b->vm) + b->vm->tsc_hz / 1000;
	g_assert_true(msr_out(b, 0, 0x6e0, deadline));
	g_assert_true(msr_in(b, 0, 0x6e0, &value) && value == deadline);
	apic_out(b, 0, INITIAL, 5); /* ignored */
	g_assert_cmpuint(apic_in(b, 0, CURRENT), ==, 0);
	advance(b, MS * 9 / 10);
	g_assert_cmpint(take(b, 0), ==, -1);
	advance(b, MS / 5);
	g_assert_cmpint(take(b, 0), ==, 0x40);
	g_assert_true(msr_in(b, 0, 0x6e0, &value) && value == 0);
	apic_out(b, 0, EOI, 0);
	msr_out(b, 0, 0x6e0, 1); /* long past: at once */
	advance(b, 1);
	g_assert_cmpint(take(b, 0), ==, 0x40);
	apic_out(b, 0, EOI, 0);
	msr_out(b, 0, 0x6e0, vm_tsc(b->vm) + b->vm->tsc_hz / 1000);
	apic_out(b, 0, LVT_TIMER, 0x40); /* another mode disarms */
	advance(b, 5 * MS);
	g_assert_cmpint(take(b, 0), ==, -1);
	bench_free(b);
}

/* --- HPET --- */

static void hpet_counter(void)
{
	struct bench *b = bench_new(1);
	g_assert_cmphex(mmio_in(b, HPET, 8), ==, UINT64_C(0x009896808086a201));
	g_assert_cmphex(mmio_in(b, HPET + 4, 4), ==, 10000000);
	mmio_out(b, HPET + 0xf0, 1000, 8);
	advance(b, MS);
	g_assert_cmpuint(mmio_in(b, HPET + 0xf0, 8), ==, 1000);
	mmio_out(b, HPET + 0x10, 1, 8);
	advance(b, MS);
	g_assert_cmpuint(mmio_in(b, HPET + 0xf0, 8), ==, 101000);
	mmio_out(b, HPET + 0xf4, 1, 4); /* the upper half alone */
	g_assert_cmphex(mmio_in(b, HPET + 0xf0, 8), ==, UINT64_C(0x100000000) + 101000);
	mmio_out(b, HPET + 0x10, 0, 8);
	advance(b, MS);
	g_assert_cmphex(mmio_in(b, HPET + 0xf4, 4), ==, 1);
	g_assert_cmpuint(mmio_in(b, HPET + 0xf0, 4), ==, 101000);
	bench_free(b);
}

static void hpet_one_shot(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	mmio_out(b, HPET + 0x10, 1, 8);
	/* Timer 2, edge, routed to GSI 10. */
	mmio_out(b, HPET + 0x140, 10 << 9 | 4, 8);
	mmio_out(b, HPET + 0x148, mmio_in(b, HPET + 0xf0, 8) + 100000, 8);
	g_assert_cmpuint(count_irq(b, 10, 10 * MS, MS / 4), ==, 1);
	/* Level: stays until the status bit is cleared. */
	out8(b, 0x4d1, 4);
	mmio_out(b, HPET + 0x140, 10 << 9 | 6, 8);
	mmio_out(b, HPET + 0x148, mmio_in(b, HPET + 0xf0, 8) + 100000, 8);
	advance(b, 2 * MS);
	g_assert_cmphex(mmio_in(b, HPET + 0x20, 8), ==, 4);
	g_assert_cmpint(take(b, 0), ==, 0x2a);
	mmio_out(b, HPET + 0x20, 4, 8);
	out8(b, 0xa0, 0x20);
	out8(b, 0x20, 0x20);
	g_assert_cmpint(take(b, 0), ==, -1);
	/* As a message. */
	apic_out(b, 0, SVR, 0x1ff);
	mmio_out(b, HPET + 0x150, UINT64_C(0xfee00000) << 32 | 0x77, 8);
	mmio_out(b, HPET + 0x140, 1 << 14 | 4, 8);
	mmio_out(b, HPET + 0x148, mmio_in(b, HPET + 0xf0, 8) + 100000, 8);
	advance(b, 2 * MS);
	g_assert_cmpint(take(b, 0), ==, 0x77);
	bench_free(b);
}

static void hpet_legacy(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	pit_set(b, 0, 2, 1193);
	mmio_out(b, HPET + 0x10, 3, 8);
	/* The 8254 is silent; timer 0 is IRQ 0, periodic. */
	g_assert_cmpuint(count_irq(b, 0, 20 * MS, MS / 4), <=, 1);
	mmio_out(b, HPET + 0x100, 1 << 6 | 8 | 4, 8);
	mmio_out(b, HPET + 0x108, mmio_in(b, HPET + 0xf0, 8) + 1000, 8);
	mmio_out(b, HPET + 0x108, 200000, 8);
	g_assert_cmpuint(count_irq(b, 0, 100 * MS, MS / 4), ==, 50);
	mmio_out(b, HPET + 0x10, 1, 8);
	g_assert_cmpuint(count_irq(b, 0, 100 * MS, MS / 10), >=, 99);
	bench_free(b);
}

/* --- RTC --- */

static uint8_t cmos(struct bench *b, uint8_t index)
{
	out8(b, 0x70, index);
	return in8(b, 0x71);
}

static void cmos_set(struct bench *b, uint8_t index, uint8_t value)
{
	out8(b, 0x70, index);
	out8(b, 0x71, value);
}

static void rtc_assert(struct bench *b, const uint8_t expected[7])
{
	static const uint8_t registers[] = {0x32, 9, 8, 7, 4, 2, 0};
	for (unsigned i = 0; i < 7; i++)
		g_assert_cmphex(cmos(b, registers[i]), ==, expected[i]);
}

static void rtc_time(void)
{
	struct bench *b = bench_new(1);
	rtc_assert(b, (const uint8_t[]){0x20, 0, 1, 1, 0, 0, 0}); /* the bench's 2000-01-01 */
	g_assert_cmpuint(cmos(b, 6), ==, 7);                      /* a Saturday */
	advance(b, 3661 * 1000 * MS);
	rtc_assert(b, (const uint8_t[]){0x20, 0, 1, 1, 1, 1, 1});
	/* Set to 2026-12-31 23:59:58, stopped while it is set. */
	static const uint8_t set[][2] = {{0x32, 0x20}, {9, 0x26}, {8, 0x12}, {7, 0x31},
					 {4, 0x23},    {2, 0x59}, {0, 0x58}};
	cmos_set(b, 11, 0x82);
	for (unsigned i = 0; i < G_N_ELEMENTS(set); i++)
		cmos_set(b, set[i][0], set[i][1]);
	advance(b, 5000 * MS);
	rtc_assert(b, (const uint8_t[]){0x20, 0x26, 0x12, 0x31, 0x23, 0x59, 0x58});
	cmos_set(b, 11, 0x02);
	advance(b, 1500 * MS);
	rtc_assert(b, (const uint8_t[]){0x20, 0x26, 0x12, 0x31, 0x23, 0x59, 0x59});
	advance(b, 1000 * MS);
	rtc_assert(b, (const uint8_t[]){0x20, 0x27, 1, 1, 0, 0, 0});
	/* Binary and 12 hours. */
	advance(b, INT64_C(12) * 3600 * 1000 * MS);
	cmos_set(b, 11, 0x04);
	g_assert_cmphex(cmos(b, 4), ==, 0x80 | 12);
	g_assert_cmpuint(cmos(b, 9), ==, 27);
	cmos_set(b, 4, 0x80 | 11);
	cmos_set(b, 11, 0x06);
	g_assert_cmpuint(cmos(b, 4), ==, 23);
	bench_free(b);
}

static void rtc_interrupts(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	g_assert_cmphex(cmos(b, 13), ==, 0x80);
	/* Periodic, 1024 a second. */
	cmos_set(b, 11, 0x42);
	unsigned count = 0;
	for (unsigned i = 0; i < 10000; i++) {
		advance(b, MS / 10);
		if (take(b, 0) == 0x28) {
			count++;
			g_assert_cmphex(cmos(b, 12) & 0xc0, ==, 0xc0);
			out8(b, 0xa0, 0x20);
			out8(b, 0x20, 0x20);
		}
	}
	g_assert_cmpuint(count, >=, 1022);
	g_assert_cmpuint(count, <=, 1024);
	/* After each second. */
	cmos_set(b, 11, 0x12);
	cmos(b, 12);
	advance(b, 1100 * MS);
	g_assert_cmpint(take(b, 0), ==, 0x28);
	g_assert_cmphex(cmos(b, 12), ==, 0x90);
	g_assert_cmphex(cmos(b, 12), ==, 0);
	out8(b, 0xa0, 0x20);
	out8(b, 0x20, 0x20);
	/* An alarm at second 30, any minute and hour. */
	cmos_set(b, 1, 0x30);
	cmos_set(b, 3, 0xff);
	cmos_set(b, 5, 0xff);
	cmos_set(b, 11, 0x22);
	unsigned waited = 0;
	while (take(b, 0) != 0x28 && waited++ < 61)
		advance(b, 1000 * MS);
	g_assert_cmpuint(waited, <=, 60);
	g_assert_cmphex(cmos(b, 0), ==, 0x30);
	g_assert_cmphex(cmos(b, 12) & 0xa0, ==, 0xa0);
	/* CMOS memory. */
	cmos_set(b, 0x40, 0x5a);
	g_assert_true(vm_reset(b->vm, NULL));
	g_assert_cmphex(cmos(b, 0x40), ==, 0x5a);
	g_assert_cmphex(cmos(b, 11), ==, 0x02);
	bench_free(b);
}

/* --- ACPI --- */

static void acpi_timer(void)
{
	struct bench *b = bench_new(1);
	uint32_t start = in(b, 0x608, 4);
	advance(b, 1000 * MS);
	uint32_t passed = (in(b, 0x608, 4) - start) & 0xffffff;
	g_assert_cmpuint(passed, >=, 3579544);
	g_assert_cmpuint(passed, <=, 3579546);
	out(b, 0x602, 1, 2);
	advance(b, 2500 * MS); /* bit 23 turns each 2.34 s */
	g_assert_cmphex(in(b, 0x600, 2) & 1, ==, 1);
	out(b, 0x600, 1, 2);
	g_assert_cmphex(in(b, 0x600, 2) & 1, ==, 0);
	bench_free(b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/i8254/rate", pit_rate);
	g_test_add_func("/i8254/counts", pit_counts);
	g_test_add_func("/i8254/read-back", pit_read_back);
	g_test_add_func("/i8254/new-count", pit_new_count);
	g_test_add_func("/i8254/gate", pit_gate);
	g_test_add_func("/lapic/one-shot", apic_one_shot);
	g_test_add_func("/lapic/periodic", apic_periodic);
	g_test_add_func("/lapic/deadline", apic_deadline);
	g_test_add_func("/hpet/counter", hpet_counter);
	g_test_add_func("/hpet/one-shot", hpet_one_shot);
	g_test_add_func("/hpet/legacy", hpet_legacy);
	g_test_add_func("/rtc/time", rtc_time);
	g_test_add_func("/rtc/interrupts", rtc_interrupts);
	g_test_add_func("/acpi/timer", acpi_timer);
	return g_test_run();
}
