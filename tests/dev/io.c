// SPDX-License-Identifier: GPL-2.0-or-later
/* Serial port, keyboard controller, fw_cfg, PCI, power management and the small ports. */
#include <string.h>
#include <unistd.h>

#include "dev/acpi-pm.h"
#include "tests/dev/bench.h"

/* Lets the main loop move bytes until @condition, for at most two seconds. */
#define WAIT_FOR(condition)                                                                        \
	do {                                                                                       \
		gint64 end = g_get_monotonic_time() + 2000000;                                     \
		while (!(condition) && g_get_monotonic_time() < end)                               \
			g_main_context_iteration(NULL, FALSE);                                     \
		g_assert_true(condition);                                                          \
	} while (0)

/* --- 16550 --- */

enum { DATA = 0x3f8, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH };

static void serial_registers(void)
{
	struct bench *b = bench_new(1);
	out8(b, LCR, 0x80);
	out8(b, DATA, 0x34);
	out8(b, IER, 0x12);
	g_assert_cmphex(in8(b, DATA), ==, 0x34);
	g_assert_cmphex(in8(b, IER), ==, 0x12);
	out8(b, LCR, 3);
	out8(b, IER, 0xff);
	g_assert_cmphex(in8(b, IER), ==, 0x0f);
	out8(b, SCRATCH, 0xa5);
	g_assert_cmphex(in8(b, SCRATCH), ==, 0xa5);
	g_assert_cmphex(in8(b, LSR), ==, 0x60);
	out8(b, IIR, 1);
	g_assert_cmphex(in8(b, IIR) & 0xc0, ==, 0xc0);
	out8(b, MCR, 0x1a); /* loop: the modem's outputs are its inputs */
	g_assert_cmphex(in8(b, MSR) & 0xf0, ==, 0x90);
	bench_free(b);
}

static void serial_loopback(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	out8(b, MCR, 0x18);
	out8(b, IIR, 0x41); /* FIFOs, trigger at four */
	out8(b, IER, 1);
	for (unsigned i = 0; i < 3; i++)
		out8(b, DATA, (uint8_t)('a' + i));
	g_assert_cmphex(in8(b, IIR) & 15, ==, 1);
	advance(b, 1000000); /* below the trigger level: time-out */
	g_assert_cmphex(in8(b, IIR) & 15, ==, 12);
	g_assert_cmpint(take(b, 0), ==, 0x24);
	out8(b, DATA, 'd');
	g_assert_cmphex(in8(b, IIR) & 15, ==, 4);
	for (unsigned i = 0; i < 4; i++)
		g_assert_cmpint(in8(b, DATA), ==, 'a' + (int)i);
	g_assert_cmphex(in8(b, IIR) & 15, ==, 1);
	for (unsigned i = 0; i < 17; i++)
		out8(b, DATA, 'x');
	out8(b, IER, 4);
	g_assert_cmphex(in8(b, IIR) & 15, ==, 6);
	g_assert_cmphex(in8(b, LSR) & 3, ==, 3); /* overrun */
	g_assert_cmphex(in8(b, LSR) & 3, ==, 1);
	bench_free(b);
}

/* Adds what the other end of the line has to @got; how much there is. */
static size_t receive(struct bench *b, char got[8])
{
	size_t have = strlen(got);
	ssize_t n = read(b->serial, got + have, 7 - have);
	return have + (n > 0 ? (size_t)n : 0);
}

static void serial_line(void)
{
	struct bench *b = bench_new(1);
	char got[8] = "";
	pic_start(b);
	out8(b, IER, 2);
	g_assert_cmphex(in8(b, IIR), ==, 2);
	g_assert_cmphex(in8(b, IIR), ==, 1); /* reading acknowledges */
	out8(b, DATA, 'h');
	out8(b, DATA, 'i');
	g_assert_cmphex(in8(b, IIR), ==, 2);
	WAIT_FOR(receive(b, got) == 2);
	g_assert_cmpstr(got, ==, "hi");
	out8(b, IER, 1);
	g_assert_cmpint(write(b->serial, "yo", 2), ==, 2);
	WAIT_FOR(in8(b, LSR) & 1);
	g_assert_cmpint(in8(b, DATA), ==, 'y');
	WAIT_FOR(in8(b, LSR) & 1);
	g_assert_cmpint(in8(b, DATA), ==, 'o');
	bench_free(b);
}

/* --- 8042 --- */

static uint8_t kbd(struct bench *b)
{
	g_assert_cmphex(in8(b, 0x64) & 0x21, ==, 0x01);
	return in8(b, 0x60);
}

static uint8_t aux(struct bench *b)
{
	g_assert_cmphex(in8(b, 0x64) & 0x21, ==, 0x21);
	return in8(b, 0x60);
}

static void mouse(struct bench *b, uint8_t byte)
{
	out8(b, 0x64, 0xd4);
	out8(b, 0x60, byte);
	g_assert_cmphex(aux(b), ==, 0xfa);
}

/* Injection from a display: the machine lock is held. */
static void key(struct bench *b, unsigned code, bool down)
{
	g_mutex_lock(&b->vm->lock);
	i8042_key(b->keyboard, code, down);
	g_mutex_unlock(&b->vm->lock);
}

static void pointer(struct bench *b, int dx, int dy, int dz, uint8_t buttons)
{
	g_mutex_lock(&b->vm->lock);
	i8042_pointer(b->keyboard, dx, dy, dz, buttons);
	g_mutex_unlock(&b->vm->lock);
}

static void controller(void)
{
	struct bench *b = bench_new(1);
	out8(b, 0x64, 0xaa);
	g_assert_cmphex(kbd(b), ==, 0x55);
	out8(b, 0x64, 0xab);
	g_assert_cmphex(kbd(b), ==, 0);
	out8(b, 0x64, 0x20);
	g_assert_cmphex(kbd(b), ==, 0x44);
	out8(b, 0x64, 0x60);
	g_assert_cmphex(in8(b, 0x64) & 8, ==, 8);
	out8(b, 0x60, 0x47);
	out8(b, 0x64, 0x20);
	g_assert_cmphex(kbd(b), ==, 0x47);
	out8(b, 0x64, 0xd3);
	out8(b, 0x60, 0x99);
	g_assert_cmphex(aux(b), ==, 0x99);
	out8(b, 0x64, 0xdd);
	g_assert_cmphex(in8(b, 0x92), ==, 0);
	out8(b, 0x92, 2);
	out8(b, 0x64, 0xd0);
	g_assert_cmphex(kbd(b) & 3, ==, 3);
	g_assert_cmphex(in8(b, 0x64) & 1, ==, 0);
	bench_free(b);
}

static void keyboard(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	out8(b, 0x64, 0x60);
	out8(b, 0x60, 0x45); /* translate, interrupt 1 */
	key(b, 0x1e, true);
	g_assert_cmpint(take(b, 0), ==, 0x21);
	out8(b, 0x20, 0x20);
	g_assert_cmphex(kbd(b), ==, 0x1e);
	key(b, 0x1e, false);
	g_assert_cmpint(take(b, 0), ==, 0x21);
	g_assert_cmphex(kbd(b), ==, 0x9e);
	key(b, 0x148, true); /* cursor up */
	key(b, 0x148, false);
	static const uint8_t up[] = {0xe0, 0x48, 0xe0, 0xc8};
	for (unsigned i = 0; i < 4; i++)
		g_assert_cmphex(kbd(b), ==, up[i]);
	out8(b, 0x64, 0x60);
	out8(b, 0x60, 0x05); /* untranslated: set 2 */
	key(b, 0x1e, true);
	key(b, 0x1e, false);
	static const uint8_t a[] = {0x1c, 0xf0, 0x1c};
	for (unsigned i = 0; i < 3; i++)
		g_assert_cmphex(kbd(b), ==, a[i]);
	static const uint8_t commands[][4] = {{0xf2, 0xfa, 0xab, 0x83}, {0xff, 0xfa, 0xaa, 0},
					      {0xee, 0xee, 0, 0},       {0xed, 0xfa, 0, 0},
					      {0x07, 0xfa, 0, 0},       {0xf5, 0xfa, 0, 0}};
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
		out8(b, 0x60, commands[i][0]);
		for (unsigned n = 1; n < 4 && commands[i][n]; n++)
			g_assert_cmphex(kbd(b), ==, commands[i][n]);
	}
	key(b, 0x1e, true); /* scanning is off */
	g_assert_cmphex(in8(b, 0x64) & 1, ==, 0);
	bench_free(b);
}

static void mouse_reports(void)
{
	struct bench *b = bench_new(1);
	mouse(b, 0xff);
	g_assert_cmphex(aux(b), ==, 0xaa);
	g_assert_cmphex(aux(b), ==, 0);
	pointer(b, 5, 5, 0, 1);
	g_assert_cmphex(in8(b, 0x64) & 1, ==, 0); /* not enabled yet */
	static const uint8_t knock[] = {0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2};
	for (unsigned i = 0; i < G_N_ELEMENTS(knock); i++)
		mouse(b, knock[i]);
	g_assert_cmphex(aux(b), ==, 3); /* with a wheel now */
	mouse(b, 0xf4);
	pointer(b, 10, 3, -1, 1);
	static const uint8_t report[] = {0x29, 10, 0xfd, 0xff};
	for (unsigned i = 0; i < 4; i++)
		g_assert_cmphex(aux(b), ==, report[i]);
	g_assert_cmphex(in8(b, 0x64) & 1, ==, 0);
	for (unsigned i = 0; i < 1000; i++) /* nobody reads: whole reports are dropped */
		pointer(b, 1, 0, 0, 0);
	for (unsigned i = 0; in8(b, 0x64) & 1; i++) {
		uint8_t byte = in8(b, 0x60);
		if (i % 4 == 0)
			g_assert_cmphex(byte & 8, ==, 8);
	}
	bench_free(b);
}

/* --- fw_cfg --- */

static void fw_cfg_ports(void)
{
	struct bench *b = bench_new(3);
	out(b, 0x510, 0, 2);
	g_assert_cmpint(in8(b, 0x511), ==, 'Q');
	g_assert_cmpint(in8(b, 0x511), ==, 'E');
	out(b, 0x510, 5, 2);
	g_assert_cmpint(in8(b, 0x511), ==, 3);
	g_assert_cmpint(in8(b, 0x511), ==, 0);
	g_assert_cmpint(in8(b, 0x511), ==, 0); /* beyond the end */
	g_assert_cmphex(in(b, 0x514, 4), ==, 0x554d4551);
	g_assert_cmphex(in(b, 0x518, 4), ==, 0x47464320);
	out(b, 0x510, 0x19, 2);
	uint8_t directory[4 + 128];
	for (unsigned i = 0; i < sizeof(directory); i++)
		directory[i] = in8(b, 0x511);
	g_assert_cmpint(directory[3], ==, 2);
	g_assert_cmpint(directory[7], ==, 5);
	g_assert_cmpint(directory[9], ==, 0x20);
	g_assert_cmpstr((const char *)directory + 12, ==, "etc/first"); /* by name */
	g_assert_cmpint(directory[64 + 9], ==, 0x21);
	bench_free(b);
}

static uint32_t fw_cfg_dma(struct bench *b, uint32_t control, uint32_t length, uint64_t address)
{
	uint32_t c = GUINT32_TO_BE(control), l = GUINT32_TO_BE(length);
	uint64_t a = GUINT64_TO_BE(address);
	dma_write(b->vm, 0x1000, &c, 4);
	dma_write(b->vm, 0x1004, &l, 4);
	dma_write(b->vm, 0x1008, &a, 8);
	out(b, 0x514, 0, 4);
	out(b, 0x518, GUINT32_SWAP_LE_BE(0x1000u), 4);
	dma_read(b->vm, 0x1000, &c, 4);
	return GUINT32_FROM_BE(c);
}

static void fw_cfg_by_dma(void)
{
	struct bench *b = bench_new(1);
	char text[8];
	memset(text, 'x', sizeof(text));
	dma_write(b->vm, 0x2000, text, sizeof(text));
	g_assert_cmphex(fw_cfg_dma(b, 0x20 << 16 | 8 | 2, 7, 0x2000), ==, 0);
	dma_read(b->vm, 0x2000, text, sizeof(text));
	g_assert_cmpmem(text, 8, "first\0\0x", 8);
	g_assert_cmphex(fw_cfg_dma(b, 0x20 << 16 | 8 | 4, 3, 0), ==, 0);
	g_assert_cmphex(fw_cfg_dma(b, 2, 2, 0x2000), ==, 0);
	dma_read(b->vm, 0x2000, text, 2);
	g_assert_cmpmem(text, 2, "st", 2);
	g_assert_cmphex(fw_cfg_dma(b, 0x20 << 16 | 8 | 16, 1, 0x2000), ==, 1); /* no writing */
	g_assert_cmphex(fw_cfg_dma(b, 0x20 << 16 | 8 | 2, 5, UINT64_C(1) << 60), ==, 1);
	g_assert_cmphex(fw_cfg_dma(b, 2, 0xffffffff, 0x2000), ==, 1); /* ends outside of memory */
	bench_free(b);
}

/* --- PCI --- */

static uint32_t config(struct bench *b, unsigned devfn, unsigned reg)
{
	out(b, 0xcf8, 0x80000000 | devfn << 8 | reg, 4);
	return in(b, 0xcfc, 4);
}

static void config_set(struct bench *b, unsigned devfn, unsigned reg, uint32_t value)
{
	out(b, 0xcf8, 0x80000000 | devfn << 8 | reg, 4);
	out(b, 0xcfc, value, 4);
}

static void pci_config(void)
{
	struct bench *b = bench_new(1);
	g_assert_cmphex(config(b, 0, 0), ==, 0x29c08086);
	g_assert_cmphex(config(b, 8, 0), ==, 0x56781234);
	g_assert_cmphex(config(b, 16, 0), ==, 0xffffffff);
	g_assert_cmphex(in(b, 0xcfe, 2), ==, 0xffff);
	g_assert_cmphex(mmio_in(b, PCI_ECAM_BASE + 0x8000, 4), ==, 0x56781234);
	g_assert_cmphex(mmio_in(b, PCI_ECAM_BASE + 0x8002, 2), ==, 0x5678);
	g_assert_cmphex(mmio_in(b, PCI_ECAM_BASE + 0x8100, 4), ==, 0);
	g_assert_cmphex(mmio_in(b, PCI_ECAM_BASE + 0x108000, 4), ==, 0xffffffff);
	config_set(b, 8, 0, 0);
	g_assert_cmphex(config(b, 8, 0), ==, 0x56781234);
	/* ECAM moves with PCIEXBAR. */
	config_set(b, 0, 0x60, 0xe0000001);
	g_assert_cmphex(mmio_in(b, UINT64_C(0xe0008000), 4), ==, 0x56781234);
	g_assert_cmphex(mmio_in(b, PCI_ECAM_BASE + 0x8000, 4), ==, 0xffffffff);
	bench_free(b);
}

static void pci_bars(void)
{
	struct bench *b = bench_new(1);
	config_set(b, 8, 0x10, 0xffffffff);
	config_set(b, 8, 0x14, 0xffffffff);
	g_assert_cmphex(config(b, 8, 0x10), ==, 0xfffff004);
	g_assert_cmphex(config(b, 8, 0x14), ==, 0xffffffff);
	config_set(b, 8, 0x18, 0xffffffff);
	g_assert_cmphex(config(b, 8, 0x18), ==, 0xfffffff1);
	config_set(b, 8, 0x10, 0xc0000000);
	config_set(b, 8, 0x14, 1);
	config_set(b, 8, 0x18, 0xc000);
	g_assert_cmphex(mmio_in(b, UINT64_C(0x1c0000000), 4), ==, 0xffffffff);
	config_set(b, 8, 4, 3);
	g_assert_cmphex(mmio_in(b, UINT64_C(0x1c0000000), 4), ==, 0x11223344);
	g_assert_cmphex(in(b, 0xc00c, 4), ==, 0x11223344);
	config_set(b, 8, 0x18, 0x60); /* over the keyboard controller: the chip wins */
	g_assert_cmphex(in8(b, 0x64), !=, 0x44);
	config_set(b, 8, 4, 0);
	g_assert_cmphex(mmio_in(b, UINT64_C(0x1c0000000), 4), ==, 0xffffffff);
	bench_free(b);
}

static void pci_intx(void)
{
	struct bench *b = bench_new(1);
	unsigned gsi = pci_host_gsi(8, 0);
	apic_out(b, 0, 0xf0, 0x1ff);
	mmio_out(b, 0xfec00000, 0x10 + 2 * gsi, 4);
	mmio_out(b, 0xfec00010, 0x8055, 4);
	config_set(b, 8, 0x10, 0xc0000000);
	config_set(b, 8, 4, 2);
	mmio_out(b, 0xc0000000, 1, 4);
	g_assert_cmphex(config(b, 8, 4) >> 16 & 8, ==, 8);
	g_assert_cmpint(take(b, 0), ==, 0x55);
	config_set(b, 8, 4, 0x402); /* switched off: the line falls, the status stays */
	apic_out(b, 0, 0xb0, 0);
	g_assert_cmpint(take(b, 0), ==, -1);
	g_assert_cmphex(config(b, 8, 4) >> 16 & 8, ==, 8);
	config_set(b, 8, 4, 2);
	g_assert_cmpint(take(b, 0), ==, 0x55);
	mmio_out(b, 0xc0000000, 0, 4);
	apic_out(b, 0, 0xb0, 0);
	g_assert_cmpint(take(b, 0), ==, -1);
	bench_free(b);
}

static void pci_msix(void)
{
	struct bench *b = bench_new(1);
	apic_out(b, 0, 0xf0, 0x1ff);
	config_set(b, 8, 0x20, 0xc0010000);
	config_set(b, 8, 4, 6);
	unsigned cap = config(b, 8, 0x34) & 0xff;
	g_assert_cmphex(config(b, 8, cap) & 0xffff, ==, 0x11);
	g_assert_cmphex(config(b, 8, cap) >> 16, ==, 3); /* four vectors */
	mmio_out(b, 0xc0010010, 0xfee00000, 8);
	mmio_out(b, 0xc0010018, 0x44, 4);
	pci_msix_send(b->card, 1);
	g_assert_cmpint(take(b, 0), ==, -1); /* not enabled */
	config_set(b, 8, cap, UINT32_C(0x80000000));
	pci_msix_send(b->card, 1);
	g_assert_cmpint(take(b, 0), ==, -1); /* masked: pending */
	g_assert_cmphex(mmio_in(b, 0xc0010800, 8), ==, 2);
	mmio_out(b, 0xc001001c, 0, 4);
	g_assert_cmpint(take(b, 0), ==, 0x44);
	g_assert_cmphex(mmio_in(b, 0xc0010800, 8), ==, 0);
	apic_out(b, 0, 0xb0, 0);
	config_set(b, 8, cap, UINT32_C(0xc0000000)); /* the function's mask */
	pci_msix_send(b->card, 1);
	g_assert_cmpint(take(b, 0), ==, -1);
	config_set(b, 8, cap, UINT32_C(0x80000000));
	g_assert_cmpint(take(b, 0), ==, 0x44);
	pci_msix_send(b->card, 100); /* no such vector */
	bench_free(b);
}

/* --- Power, and ports that end the machine --- */

static const char *asked;

static void listen(void *opaque, enum vm_event_kind kind, const char *detail)
{
	if (kind == VM_EVENT_RESET || kind == VM_EVENT_SHUTDOWN)
		asked = detail;
}

static void expect(uint16_t port, uint32_t value, unsigned size, const char *detail)
{
	struct bench *b = bench_new(1);
	vm_add_listener(b->vm, listen, NULL);
	asked = NULL;
	out(b, port, value, size);
	for (unsigned i = 0; i < 100 && !asked; i++)
		g_main_context_iteration(NULL, FALSE);
	g_assert_cmpstr(asked, ==, detail);
	bench_free(b);
}

static void endings(void)
{
	expect(0xcf9, 6, 1, "guest-reset");
	expect(0x64, 0xfe, 1, "guest-reset");
	expect(0x92, 1, 1, "guest-reset");
	expect(0x604, 0x2000, 2, "guest-shutdown");
	expect(0xf4, 0, 4, "debug-exit");
	expect(0x604, 0x1c00, 2, NULL); /* no SLP_EN */
	expect(0xcf9, 2, 1, NULL);
}

static void acpi_button(void)
{
	struct bench *b = bench_new(1);
	pic_start(b);
	out8(b, 0x4d1, 2); /* the SCI is level-triggered */
	g_assert_cmphex(in(b, 0x604, 2) & 1, ==, 1);
	vm_powerdown(b->vm);
	g_assert_cmphex(in(b, 0x600, 2), ==, 0x100);
	g_assert_cmpint(take(b, 0), ==, -1);
	out(b, 0x602, 0x100, 2);
	g_assert_cmpint(take(b, 0), ==, 0x29);
	out(b, 0x600, 0x100, 2);
	out8(b, 0xa0, 0x20);
	out8(b, 0x20, 0x20);
	g_assert_cmpint(take(b, 0), ==, -1);
	bench_free(b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/serial/registers", serial_registers);
	g_test_add_func("/serial/loopback", serial_loopback);
	g_test_add_func("/serial/line", serial_line);
	g_test_add_func("/i8042/controller", controller);
	g_test_add_func("/i8042/keyboard", keyboard);
	g_test_add_func("/i8042/mouse", mouse_reports);
	g_test_add_func("/fw-cfg/ports", fw_cfg_ports);
	g_test_add_func("/fw-cfg/dma", fw_cfg_by_dma);
	g_test_add_func("/pci/config", pci_config);
	g_test_add_func("/pci/bars", pci_bars);
	g_test_add_func("/pci/intx", pci_intx);
	g_test_add_func("/pci/msix", pci_msix);
	g_test_add_func("/power/endings", endings);
	g_test_add_func("/power/button", acpi_button);
	return g_test_run();
}
