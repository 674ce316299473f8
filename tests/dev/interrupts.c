// SPDX-License-Identifier: GPL-2.0-or-later
/* 8259 pair, IOAPIC, local APICs and the bus between them. */
#include "dev/i8259.h"
#include "dev/ioapic.h"
#include "tests/dev/bench.h"

enum { ID = 0x20, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0 };
enum { ISR = 0x100, TMR = 0x180, IRR = 0x200, ESR = 0x280, ICR = 0x300, ICR2 = 0x310 };
enum { LVT_TIMER = 0x320, LVT_LINT0 = 0x350, LVT_ERROR = 0x370 };
#define IOAPIC UINT64_C(0xfec00000)

static void pulse(struct bench *b, unsigned gsi)
{
	gsi_set(b, gsi, true);
	gsi_set(b, gsi, false);
}

/* --- 8259 --- */

static void pic_priorities(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	pulse(b, 7);
	pulse(b, 3);
	pulse(b, 14);
	g_assert_cmpint(take(b, 0), ==, 0x2e); /* the slave is at input 2 */
	g_assert_cmpint(take(b, 0), ==, -1);   /* lower ones wait for the end of interrupt */
	pulse(b, 1);
	g_assert_cmpint(take(b, 0), ==, 0x21); /* a higher one does not */
	out8(b, 0x20, 0x20);
	out8(b, 0xa0, 0x20);
	out8(b, 0x20, 0x20);
	g_assert_cmpint(take(b, 0), ==, 0x23);
	out8(b, 0x20, 0x63); /* specific */
	g_assert_cmpint(take(b, 0), ==, 0x27);
	out8(b, 0x20, 0x0b);
	g_assert_cmphex(in8(b, 0x20), ==, 0x80); /* in service */
	out8(b, 0x20, 0x0a);
	g_assert_cmphex(in8(b, 0x20), ==, 0); /* requested */
	bench_free(b);
}

static void pic_masks(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	out8(b, 0x21, 0x08);
	g_assert_cmphex(in8(b, 0x21), ==, 0x08);
	pulse(b, 3);
	g_assert_cmpint(take(b, 0), ==, -1);
	out8(b, 0x21, 0);
	g_assert_cmpint(take(b, 0), ==, 0x23);
	/* Special mask mode: masking the one in service lets lower ones through. */
	pulse(b, 5);
	g_assert_cmpint(take(b, 0), ==, -1);
	out8(b, 0x20, 0x68);
	out8(b, 0x21, 0x08);
	g_assert_cmpint(take(b, 0), ==, 0x25);
	out8(b, 0x20, 0x20); /* ends 5, not the masked 3 */
	out8(b, 0x20, 0x0b);
	g_assert_cmphex(in8(b, 0x20), ==, 0x08);
	bench_free(b);
}

static void pic_rotation(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	out8(b, 0x20, 0xc4); /* lowest priority: 4, so 5 is the highest */
	pulse(b, 0);
	pulse(b, 5);
	g_assert_cmpint(take(b, 0), ==, 0x25);
	out8(b, 0x20, 0xa0); /* end of interrupt that makes 5 the lowest */
	pulse(b, 5);
	g_assert_cmpint(take(b, 0), ==, 0x20);
	out8(b, 0x20, 0x20);
	g_assert_cmpint(take(b, 0), ==, 0x25);
	bench_free(b);
}

static void pic_rotation_auto(void)
{
	struct bench *b = bench_new(1);
	static const uint8_t icw[] = {0x20, 4, 3}; /* automatic end of interrupt */
	out8(b, 0x20, 0x11);
	for (unsigned i = 0; i < 3; i++)
		out8(b, 0x21, icw[i]);
	out8(b, 0x21, 0);
	out8(b, 0x20, 0x80); /* and rotation with it */
	pulse(b, 3);
	pulse(b, 4);
	g_assert_cmpint(take(b, 0), ==, 0x23);
	pulse(b, 3);
	g_assert_cmpint(take(b, 0), ==, 0x24);
	g_assert_cmpint(take(b, 0), ==, 0x23);
	bench_free(b);
}

static void pic_poll_and_spurious(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	pulse(b, 6);
	out8(b, 0x20, 0x0c);
	g_assert_cmphex(in8(b, 0x20), ==, 0x86);
	out8(b, 0x20, 0x0c);
	g_assert_cmphex(in8(b, 0x20) & 0x80, ==, 0);
	out8(b, 0x20, 0x20);
	g_mutex_lock(&b->vm->lock);
	g_assert_cmphex(i8259_acknowledge(b->pic), ==, 0x27);
	g_mutex_unlock(&b->vm->lock);
	out8(b, 0x20, 0x0b);
	g_assert_cmphex(in8(b, 0x20), ==, 0); /* a spurious one is not in service */
	/* Single mode takes no ICW3. */
	out8(b, 0x20, 0x12);
	out8(b, 0x21, 0x40);
	out8(b, 0x21, 0x00);
	g_assert_cmphex(in8(b, 0x21), ==, 0);
	bench_free(b);
}

static void pic_levels(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	out8(b, 0x4d0, 0xff);
	out8(b, 0x4d1, 0xff);
	g_assert_cmphex(in8(b, 0x4d0), ==, 0xf8);
	g_assert_cmphex(in8(b, 0x4d1), ==, 0xde);
	gsi_set(b, 11, true);
	for (unsigned i = 0; i < 3; i++) { /* again and again while the line is high */
		g_assert_cmpint(take(b, 0), ==, 0x2b);
		out8(b, 0xa0, 0x20);
		out8(b, 0x20, 0x20);
	}
	gsi_set(b, 11, false);
	g_assert_cmpint(take(b, 0), ==, -1);
	gsi_set(b, 14, true); /* an edge stays although its line falls */
	gsi_set(b, 14, false);
	bench_free(b);
}

/* Two requests at the slave with automatic end of interrupt: both arrive. */
static void pic_slave_edges(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	static const uint8_t icw[] = {0x28, 2, 3};
	out8(b, 0xa0, 0x11);
	for (unsigned i = 0; i < 3; i++)
		out8(b, 0xa1, icw[i]);
	out8(b, 0xa1, 0);
	pulse(b, 14);
	pulse(b, 15);
	g_assert_cmpint(take(b, 0), ==, 0x2e);
	out8(b, 0x20, 0x20);
	g_assert_cmpint(take(b, 0), ==, 0x2f);
	bench_free(b);
}

/* --- IOAPIC --- */

static void ioapic_write(struct bench *b, uint8_t reg, uint32_t value)
{
	mmio_out(b, IOAPIC, reg, 4);
	mmio_out(b, IOAPIC + 0x10, value, 4);
}

static uint32_t ioapic_read(struct bench *b, uint8_t reg)
{
	mmio_out(b, IOAPIC, reg, 4);
	return (uint32_t)mmio_in(b, IOAPIC + 0x10, 4);
}

static struct bench *apic_bench(unsigned cpus)
{
	struct bench *b = bench_new(cpus);
	for (unsigned i = 0; i < cpus; i++)
		apic_out(b, i, SVR, 0x1ff);
	return b;
}

static void ioapic_registers(void)
{
	struct bench *b = apic_bench(1);
	g_assert_cmphex(ioapic_read(b, 1), ==, 0x00170020);
	ioapic_write(b, 0, 0xffffffff);
	g_assert_cmphex(ioapic_read(b, 0), ==, 0x0f000000);
	g_assert_cmphex(ioapic_read(b, 0x10), ==, 0x10000);
	ioapic_write(b, 0x12, 0xffffffff);
	g_assert_cmphex(ioapic_read(b, 0x12), ==, 0x1afff); /* status bits are read-only */
	ioapic_write(b, 0x13, 0xffffffff);
	g_assert_cmphex(ioapic_read(b, 0x13), ==, 0xff000000);
	g_assert_cmphex(ioapic_read(b, 0x40), ==, 0);
	bench_free(b);
}

static void ioapic_edges(void)
{
	struct bench *b = apic_bench(2);
	ioapic_write(b, 0x10 + 2 * 14 + 1, 1 << 24);
	ioapic_write(b, 0x10 + 2 * 14, 0x51);
	pulse(b, 14);
	g_assert_cmpint(take(b, 0), ==, -1);
	g_assert_cmpint(take(b, 1), ==, 0x51);
	apic_out(b, 1, EOI, 0);
	ioapic_write(b, 0x10 + 2 * 14, 0x10051);
	pulse(b, 14); /* lost: masked */
	ioapic_write(b, 0x10 + 2 * 14, 0x51);
	g_assert_cmpint(take(b, 1), ==, -1);
	/* Edges of a level-triggered pin are not remembered for its time as an edge pin. */
	ioapic_write(b, 0x10 + 2 * 14, 0x8051);
	pulse(b, 14);
	g_assert_cmpint(take(b, 1), ==, 0x51);
	apic_out(b, 1, EOI, 0);
	ioapic_write(b, 0x10 + 2 * 14, 0x51);
	g_assert_cmpint(take(b, 1), ==, -1);
	/* GSI 0 arrives at pin 2. */
	ioapic_write(b, 0x14, 0x42);
	pulse(b, 0);
	g_assert_cmpint(take(b, 0), ==, 0x42);
	bench_free(b);
}

static void ioapic_levels(void)
{
	struct bench *b = apic_bench(1);
	uint8_t low = 0x10 + 2 * 15;
	ioapic_write(b, low, 0x8061);
	gsi_set(b, 15, true);
	g_assert_cmphex(ioapic_read(b, low), ==, 0xc061); /* remote IRR */
	g_assert_cmpint(take(b, 0), ==, 0x61);
	g_assert_cmphex(apic_in(b, 0, TMR + 0x30), ==, 1u << 1);
	g_assert_cmpint(take(b, 0), ==, -1);
	apic_out(b, 0, EOI, 0); /* still high: comes again */
	g_assert_cmpint(take(b, 0), ==, 0x61);
	gsi_set(b, 15, false);
	apic_out(b, 0, EOI, 0);
	g_assert_cmphex(ioapic_read(b, low), ==, 0x8061);
	g_assert_cmpint(take(b, 0), ==, -1);
	/* Masked while high, and let through. */
	ioapic_write(b, low, 0x18061);
	gsi_set(b, 15, true);
	g_assert_cmpint(take(b, 0), ==, -1);
	ioapic_write(b, low, 0x8061);
	g_assert_cmpint(take(b, 0), ==, 0x61);
	gsi_set(b, 15, false);
	mmio_out(b, IOAPIC + 0x40, 0x61, 4); /* its own EOI register */
	g_assert_cmphex(ioapic_read(b, low), ==, 0x8061);
	bench_free(b);
}

/* --- Local APIC --- */

static void apic_registers(void)
{
	struct bench *b = bench_new(2);
	uint64_t value;
	g_assert_cmphex(apic_in(b, 1, ID), ==, 1 << 24);
	g_assert_cmphex(apic_in(b, 0, 0x30), ==, 0x00050014);
	g_assert_cmphex(apic_in(b, 0, SVR), ==, 0xff);
	g_assert_cmphex(apic_in(b, 0, DFR), ==, 0xffffffff);
	apic_out(b, 0, DFR, 0);
	g_assert_cmphex(apic_in(b, 0, DFR), ==, 0x0fffffff);
	apic_out(b, 0, LVT_TIMER, 0x20030);
	g_assert_cmphex(apic_in(b, 0, LVT_TIMER), ==, 0x30030); /* masked while it is off */
	apic_out(b, 0, SVR, 0x1ff);
	apic_out(b, 0, LVT_TIMER, 0xffffffff);
	g_assert_cmphex(apic_in(b, 0, LVT_TIMER), ==, 0x700ff);
	apic_out(b, 0, SVR, 0xff);
	g_assert_cmphex(apic_in(b, 0, LVT_TIMER) & 0x10000, ==, 0x10000);
	apic_out(b, 0, SVR, 0x1ff);
	apic_out(b, 0, 0x40, 0); /* no such register */
	apic_out(b, 0, ESR, 0);
	g_assert_cmphex(apic_in(b, 0, ESR), ==, 0x80);
	apic_out(b, 0, ESR, 0);
	g_assert_cmphex(apic_in(b, 0, ESR), ==, 0);
	g_assert_true(msr_in(b, 0, 0x1b, &value));
	g_assert_cmphex(value, ==, 0xfee00900);
	g_assert_false(msr_in(b, 0, 0x802, &value)); /* not in x2APIC mode */
	bench_free(b);
}

static void x2apic_registers(void)
{
	struct bench *b = apic_bench(2);
	uint64_t value;
	g_assert_true(msr_out(b, 1, 0x1b, 0xfee00c00));
	g_assert_true(b->vm->vcpus[1]->intc->mmio_base(b->vm->vcpus[1]->intc_data) == UINT64_MAX);
	g_assert_true(msr_in(b, 1, 0x802, &value) && value == 1);
	g_assert_true(msr_in(b, 1, 0x80d, &value) && value == 2);
	g_assert_false(msr_out(b, 1, 0x802, 5)); /* read-only */
	g_assert_false(msr_out(b, 1, 0x80d, 5));
	g_assert_false(msr_in(b, 1, 0x80e, &value)); /* there is no DFR */
	g_assert_false(msr_in(b, 1, 0x831, &value)); /* ICR is one register */
	g_assert_false(msr_out(b, 1, 0x80b, 1));     /* EOI takes only 0 */
	g_assert_true(msr_out(b, 1, 0x80b, 0));
	g_assert_false(msr_in(b, 1, 0x80b, &value));
	g_assert_false(msr_out(b, 1, 0x808, 0x100));
	g_assert_true(msr_out(b, 1, 0x83f, 0x55)); /* self IPI */
	g_assert_cmpint(take(b, 1), ==, 0x55);
	/* Not straight from x2APIC to xAPIC, nor from off to x2APIC. */
	g_assert_false(msr_out(b, 1, 0x1b, 0xfee00800));
	g_assert_true(msr_out(b, 1, 0x1b, 0xfee00000));
	g_assert_false(msr_out(b, 1, 0x1b, 0xfee00c00));
	g_assert_false(msr_out(b, 1, 0x1b, UINT64_C(1) << 50 | 0xfee00800));
	g_assert_true(msr_out(b, 1, 0x1b, 0xfee00800));
	g_assert_cmphex(apic_in(b, 1, ID), ==, 1 << 24);
	bench_free(b);
}

static void apic_priorities(void)
{
	struct bench *b = apic_bench(1);
	apic_out(b, 0, ICR, 0x40000 | 0x51);
	apic_out(b, 0, ICR, 0x40000 | 0x71);
	apic_out(b, 0, ICR, 0x40000 | 0x72);
	g_assert_cmphex(apic_in(b, 0, IRR + 0x30), ==, 3u << 17);
	g_assert_cmpint(take(b, 0), ==, 0x72);
	g_assert_cmphex(apic_in(b, 0, PPR), ==, 0x70);
	g_assert_cmpint(take(b, 0), ==, -1); /* the same class waits */
	apic_out(b, 0, ICR, 0x40000 | 0x80);
	g_assert_cmpint(take(b, 0), ==, 0x80);
	g_assert_cmphex(apic_in(b, 0, ISR + 0x40), ==, 1);
	apic_out(b, 0, EOI, 0);
	apic_out(b, 0, EOI, 0);
	apic_out(b, 0, TPR, 0x60);
	g_assert_cmpint(take(b, 0), ==, 0x71);
	apic_out(b, 0, EOI, 0);
	g_assert_cmpint(take(b, 0), ==, -1);
	b->vm->vcpus[0]->intc->tpr_write(b->vm->vcpus[0]->intc_data, 4);
	g_assert_cmphex(apic_in(b, 0, TPR), ==, 0x40);
	g_assert_cmpint(take(b, 0), ==, 0x51);
	/* Vectors below 16 are illegal. */
	apic_out(b, 0, EOI, 0);
	apic_out(b, 0, TPR, 0);
	apic_out(b, 0, ICR, 0x40000 | 0x0f);
	g_assert_cmpint(take(b, 0), ==, -1);
	apic_out(b, 0, ESR, 0);
	g_assert_cmphex(apic_in(b, 0, ESR) & 0x60, !=, 0);
	bench_free(b);
}

static unsigned who_takes(struct bench *b, int vector)
{
	unsigned mask = 0;
	for (unsigned i = 0; i < b->vm->vcpu_count; i++) {
		if (take(b, i) == vector) {
			mask |= 1u << i;
			apic_out(b, i, EOI, 0);
		}
	}
	return mask;
}

static void apic_ipis(void)
{
	struct bench *b = apic_bench(4);
	apic_out(b, 0, ICR2, 2u << 24);
	apic_out(b, 0, ICR, 0x61);
	g_assert_cmphex(who_takes(b, 0x61), ==, 4);
	apic_out(b, 1, ICR, 0x80000 | 0x62);
	g_assert_cmphex(who_takes(b, 0x62), ==, 0xf);
	apic_out(b, 1, ICR, 0xc0000 | 0x63);
	g_assert_cmphex(who_takes(b, 0x63), ==, 0xd);
	apic_out(b, 0, ICR2, 0xffu << 24);
	apic_out(b, 0, ICR, 0x64);
	g_assert_cmphex(who_takes(b, 0x64), ==, 0xf);
	/* Logical destinations, flat and clusters. */
	for (unsigned i = 0; i < 4; i++)
		apic_out(b, i, LDR, 1u << (24 + i));
	apic_out(b, 0, ICR2, 0x0au << 24);
	apic_out(b, 0, ICR, 0x800 | 0x65);
	g_assert_cmphex(who_takes(b, 0x65), ==, 0xa);
	for (unsigned i = 0; i < 4; i++) {
		apic_out(b, i, DFR, 0x0fffffff);
		apic_out(b, i, LDR, (i / 2) << 28 | 1u << (24 + i % 2));
	}
	apic_out(b, 0, ICR2, 0x13u << 24);
	apic_out(b, 0, ICR, 0x800 | 0x66);
	g_assert_cmphex(who_takes(b, 0x66), ==, 0xc);
	/* Lowest priority: exactly one. */
	apic_out(b, 0, ICR2, 0x13u << 24);
	apic_out(b, 0, ICR, 0x900 | 0x67);
	g_assert_cmpint(__builtin_popcount(who_takes(b, 0x67)), ==, 1);
	/* MSIs. */
	vm_send_msi(b->vm, 0xfee03000, 0x68);
	g_assert_cmphex(who_takes(b, 0x68), ==, 8);
	vm_send_msi(b->vm, 0xfed03000, 0x69);
	g_assert_cmphex(who_takes(b, 0x69), ==, 0);
	/* One that is off takes none. */
	apic_out(b, 2, SVR, 0xff);
	apic_out(b, 0, ICR, 0x80000 | 0x6a);
	g_assert_cmphex(who_takes(b, 0x6a), ==, 0xb);
	bench_free(b);
}

static void apic_init_resets(void)
{
	struct bench *b = apic_bench(2);
	apic_out(b, 1, TPR, 0x50);
	apic_out(b, 0, ICR2, 1u << 24);
	apic_out(b, 0, ICR, 0x4500);
	g_assert_cmphex(apic_in(b, 1, SVR), ==, 0xff);
	g_assert_cmphex(apic_in(b, 1, TPR), ==, 0);
	g_assert_cmphex(apic_in(b, 1, ID), ==, 1 << 24);
	bench_free(b);
}

static void apic_lint0(void)
{
	struct bench *b = apic_bench(1);
	pic_start(b);
	apic_out(b, 0, LVT_LINT0, 0x10700);
	pulse(b, 1);
	g_assert_cmpint(take(b, 0), ==, -1);
	apic_out(b, 0, LVT_LINT0, 0x700);
	g_assert_cmpint(take(b, 0), ==, 0x21);
	bench_free(b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/i8259/priorities", pic_priorities);
	g_test_add_func("/i8259/masks", pic_masks);
	g_test_add_func("/i8259/rotation", pic_rotation);
	g_test_add_func("/i8259/rotation-auto", pic_rotation_auto);
	g_test_add_func("/i8259/poll-spurious", pic_poll_and_spurious);
	g_test_add_func("/i8259/levels", pic_levels);
	g_test_add_func("/i8259/slave-edges", pic_slave_edges);
	g_test_add_func("/ioapic/registers", ioapic_registers);
	g_test_add_func("/ioapic/edges", ioapic_edges);
	g_test_add_func("/ioapic/levels", ioapic_levels);
	g_test_add_func("/lapic/registers", apic_registers);
	g_test_add_func("/lapic/x2apic", x2apic_registers);
	g_test_add_func("/lapic/priorities", apic_priorities);
	g_test_add_func("/lapic/ipis", apic_ipis);
	g_test_add_func("/lapic/init", apic_init_resets);
	g_test_add_func("/lapic/lint0", apic_lint0);
	return g_test_run();
}
