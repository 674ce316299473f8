// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/dev/bench.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev/acpi-pm.h"
#include "dev/debug-exit.h"
#include "dev/fw-cfg.h"
#include "dev/hpet.h"
#include "dev/i8254.h"
#include "dev/i8259.h"
#include "dev/mc146818.h"
#include "dev/ns16550.h"
#include "dev/pvpanic.h"
#include "dev/test-device.h"

enum { RAM_BYTES = 1 << 20 };

/* --- The card: a PCI function with one memory BAR of 4 KiB, one of ports, and four MSI-X vectors
 * --- */

static uint64_t card_read(void *device, uint64_t offset, unsigned size)
{
	return 0x11223344;
}

static void card_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	pci_intx_set(device, value & 1);
}

static const struct window_ops card_ops = {.read = card_read, .write = card_write};

static void card_reset(struct device *device)
{
	pci_function_reset((struct pci_function *)device);
}

static void card_free(struct device *device)
{
	pci_function_remove((struct pci_function *)device);
	g_free(device);
}

static const struct device_class card_class = {
	.name = "test-card", .reset = card_reset, .free = card_free, .state = &pci_state};

static struct pci_function *card_new(struct bench *bench)
{
	static const struct pci_id id = {
		.vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000};
	struct pci_function *card = g_new0(struct pci_function, 1);
	device_add(bench->vm, &card->device, &card_class, NULL);
	g_assert_true(pci_function_add(pci_host_bus(bench->pci), card, &id, NULL, -1, NULL));
	card->config[0x3d] = 1;
	pci_bar_add(card, 0, WINDOW_MMIO, 4096, true, false, &card_ops, card);
	pci_bar_add(card, 2, WINDOW_PORT, 16, false, false, &card_ops, card);
	pci_msix_add(card, 4, 4);
	return card;
}

/* --- The machine --- */

static void add_chips(struct bench *b)
{
	struct vm *vm = b->vm;
	b->lapics = lapic_bus_new(vm, 1000000000);
	b->pic = i8259_new(vm, lapic_bus_lint0(b->lapics));
	b->ioapic = ioapic_new(vm);
	lapic_bus_connect(b->lapics, b->pic, b->ioapic);
	b->gsi = gsi_new(vm, b->pic, b->ioapic);
	struct hpet *hpet = hpet_new(vm, b->gsi);
	i8254_new(vm, hpet_pit_input(hpet));
	mc146818_new(vm, hpet_rtc_input(hpet));
	acpi_pm_new(vm, gsi_line(b->gsi, ACPI_SCI));
	b->pci = pci_host_new(vm, b->gsi, true);
	b->card = card_new(b);
	b->keyboard = i8042_new(vm, gsi_line(b->gsi, 1), gsi_line(b->gsi, 12));
	struct fw_cfg *fw = fw_cfg_new(vm);
	fw_cfg_set_integer(fw, FW_CFG_CPU_COUNT, vm->vcpu_count, 2);
	fw_cfg_add_file(fw, "etc/second", "22", 2);
	fw_cfg_add_file(fw, "etc/first", "first", 5);
	debug_exit_new(vm, 0xf4, &b->exit_status);
	pvpanic_new(vm, 0x505);
	test_device_new(vm, b->gsi);
	ns16550_new(vm, 0x3f8, gsi_line(b->gsi, 4), b->chardev);
}

struct bench *bench_new(unsigned cpus)
{
	struct bench *b = g_new0(struct bench, 1);
	int ends[2];
	b->vm = vm_new(&accel_test, NULL, NULL);
	struct ram *ram = ram_new(b->vm, "ram", RAM_BYTES, 0, NULL);
	g_assert_true(ram && ram_map(b->vm, ram, 0, 0, RAM_BYTES, false, NULL));
	g_assert_true(vm_add_vcpus(b->vm, cpus, NULL));
	g_assert_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	g_autofree char *spec = g_strdup_printf("fd:%d", ends[0]);
	b->chardev = char_open(spec, NULL, NULL);
	b->serial = ends[1];
	g_assert_true(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
	g_assert_nonnull(b->chardev);
	add_chips(b);
	g_assert_true(vm_reset(b->vm, NULL));
	return b;
}

void bench_free(struct bench *b)
{
	vm_free(b->vm);
	char_free(b->chardev);
	close(b->serial);
	g_free(b);
}

uint32_t in(struct bench *b, uint16_t port, unsigned size)
{
	return (uint32_t)vm_window_read(b->vm, WINDOW_PORT, port, size);
}

void out(struct bench *b, uint16_t port, uint32_t value, unsigned size)
{
	vm_window_write(b->vm, WINDOW_PORT, port, value, size);
}

uint64_t mmio_in(struct bench *b, uint64_t gpa, unsigned size)
{
	return vm_window_read(b->vm, WINDOW_MMIO, gpa, size);
}

void mmio_out(struct bench *b, uint64_t gpa, uint64_t value, unsigned size)
{
	vm_window_write(b->vm, WINDOW_MMIO, gpa, value, size);
}

int take(struct bench *b, unsigned cpu)
{
	struct vcpu *vcpu = b->vm->vcpus[cpu];
	return vcpu->intc->ack(vcpu->intc_data);
}

uint64_t apic_in(struct bench *b, unsigned cpu, unsigned reg)
{
	struct vcpu *vcpu = b->vm->vcpus[cpu];
	return vcpu->intc->mmio_read(vcpu->intc_data, reg, 4);
}

void apic_out(struct bench *b, unsigned cpu, unsigned reg, uint64_t value)
{
	struct vcpu *vcpu = b->vm->vcpus[cpu];
	vcpu->intc->mmio_write(vcpu->intc_data, reg, value, 4);
}

bool msr_in(struct bench *b, unsigned cpu, uint32_t index, uint64_t *value)
{
	struct vcpu *vcpu = b->vm->vcpus[cpu];
	return vcpu->intc->msr_read(vcpu->intc_data, index, value);
}

bool msr_out(struct bench *b, unsigned cpu, uint32_t index, uint64_t value)
{
	struct vcpu *vcpu = b->vm->vcpus[cpu];
	return vcpu->intc->msr_write(vcpu->intc_data, index, value);
}

void gsi_set(struct bench *b, unsigned gsi, bool level)
{
	g_mutex_lock(&b->vm->lock);
	irq_set(gsi_line(b->gsi, gsi), level);
	g_mutex_unlock(&b->vm->lock);
}

void advance(struct bench *b, int64_t ns)
{
	vm_clock_advance(b->vm, ns);
}

void pic_start(struct bench *b)
{
	static const uint8_t writes[][2] = {
		{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11},
		{0xa1, 0x28}, {0xa1, 2},    {0xa1, 1}, {0x21, 0}, {0xa1, 0},
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++)
		out8(b, writes[i][0], writes[i][1]);
}

/* --- State --- */

GByteArray *bench_save(struct bench *b)
{
	GByteArray *to = g_byte_array_new();
	vm_devices_save(b->vm, to);
	return to;
}

bool bench_load(struct bench *b, int64_t clock_ns, const uint8_t *data, size_t length,
		GError **error)
{
	atomic_store(&b->vm->clock_frozen, clock_ns);
	return vm_devices_load(b->vm, data, length, error);
}

void bench_poke(struct bench *b, GRand *rand)
{
	static const uint16_t ports[][2] = {
		{0x20, 2},   {0xa0, 2},   {0x4d0, 2}, {0x40, 4}, {0x61, 1},  {0x70, 2}, {0x3f8, 8},
		{0x600, 12}, {0x620, 16}, {0xcf8, 8}, {0x60, 1}, {0x64, 1},  {0x92, 1}, {0x510, 12},
		{0xe0, 12},  {0x200d, 3}, {0x505, 1}, {0xf4, 1}, {0xcf9, 1},
	};
	static const uint64_t areas[][2] = {
		{0xfec00000, 0x50},    {0xfed00000, 0x400},  {PCI_ECAM_BASE, 0x10000},
		{0xff000000, 0x10000}, {0xc0000000, 0x2000},
	};
	static const uint8_t sizes[] = {1, 1, 2, 4, 8};
	unsigned size = sizes[g_rand_int_range(rand, 0, 5)], cpu = 0;
	unsigned which =
		(unsigned)g_rand_int_range(rand, 0, G_N_ELEMENTS(ports) + G_N_ELEMENTS(areas) + 4);
	uint64_t value =
		g_rand_boolean(rand) ? g_rand_int(rand) : (uint64_t)g_rand_int_range(rand, 0, 256);
	bool write = g_rand_boolean(rand);
	cpu = (unsigned)g_rand_int_range(rand, 0, (gint32)b->vm->vcpu_count);
	if (which < G_N_ELEMENTS(ports)) {
		uint16_t port =
			(uint16_t)(ports[which][0] + g_rand_int_range(rand, 0, ports[which][1]));
		size = MIN(size, 4u);
		if (write)
			out(b, port, (uint32_t)value, size);
		else
			in(b, port, size);
	} else if (which < G_N_ELEMENTS(ports) + G_N_ELEMENTS(areas)) {
		const uint64_t *area = areas[which - G_N_ELEMENTS(ports)];
		uint64_t gpa = area[0] + (uint64_t)g_rand_int(rand) % area[1];
		if (g_rand_boolean(rand))
			gpa &= ~(uint64_t)(size - 1);
		if (write)
			mmio_out(b, gpa, value, size);
		else
			mmio_in(b, gpa, size);
	} else if (write) {
		apic_out(b, cpu, (unsigned)g_rand_int_range(rand, 0, 64) << 4, value);
	} else {
		uint64_t unused;
		apic_in(b, cpu, (unsigned)g_rand_int_range(rand, 0, 64) << 4);
		take(b, cpu);
		msr_in(b, cpu, 0x800 + (uint32_t)g_rand_int_range(rand, 0, 64), &unused);
	}
	if (g_rand_int_range(rand, 0, 16) == 0)
		advance(b, g_rand_int_range(rand, 0, 1000000));
}
