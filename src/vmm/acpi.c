// SPDX-License-Identifier: GPL-2.0-or-later
/* ACPI tables (ACPI 6.3, chapter 5 and 6). */
#include "vmm/acpi.h"

#include <string.h>

#include "dev/acpi-pm.h"
#include "dev/pci-host.h"
#include "vmm/aml.h"

enum { HEADER = 36, RSDP_BYTES = 36 };

static void put(GByteArray *to, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		g_byte_array_append(to, &byte, 1);
	}
}

static void poke(GByteArray *to, guint at, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		to->data[at + i] = (uint8_t)(value >> (8 * i));
}

static void checksum(GByteArray *to, guint start, guint length, guint at)
{
	uint8_t sum = 0;
	to->data[at] = 0;
	for (guint i = 0; i < length; i++)
		sum = (uint8_t)(sum + to->data[start + i]);
	to->data[at] = (uint8_t)-sum;
}

static guint table_begin(GByteArray *to, const char *signature, uint8_t revision)
{
	while (to->len % 64)
		put(to, 0, 1);
	guint start = to->len;
	g_byte_array_append(to, (const uint8_t *)signature, 4);
	put(to, 0, 4);
	put(to, revision, 1);
	put(to, 0, 1);
	g_byte_array_append(to, (const uint8_t *)"LODGE LODGEPC ", 14);
	put(to, 1, 4);
	g_byte_array_append(to, (const uint8_t *)"LDGE", 4);
	put(to, 1, 4);
	return start;
}

static void table_end(GByteArray *to, guint start)
{
	poke(to, start + 4, to->len - start, 4);
	checksum(to, start, to->len - start, start + 9);
}

/* --- DSDT --- */

static void isa_device(aml *to, const char *name, const char *id, unsigned uid, uint16_t port,
		       uint8_t length, int irq)
{
	guint device = aml_device(to, name);
	aml_name(to, "_HID");
	aml_eisaid(to, id);
	aml_name(to, "_UID");
	aml_integer(to, uid);
	aml_name(to, "_CRS");
	struct aml_resources r = aml_resources(to);
	if (port)
		aml_io(to, port, length);
	if (strcmp(id, "PNP0303") == 0)
		aml_io(to, 0x64, 1);
	if (irq >= 0)
		aml_irq(to, (unsigned)irq);
	aml_close_resources(to, r);
	aml_close(to, device);
}

/* A device that is found by a string id and needs only a port. */
static void port_device(aml *to, const char *name, const char *hid, uint16_t port, uint8_t length)
{
	guint device = aml_device(to, name);
	aml_name(to, "_HID");
	aml_string(to, hid);
	aml_name(to, "_STA");
	aml_integer(to, 0x0b);
	aml_name(to, "_CRS");
	struct aml_resources r = aml_resources(to);
	aml_io(to, port, length);
	aml_close_resources(to, r);
	aml_close(to, device);
}

static void interrupt_routing(aml *to)
{
	enum { SLOTS = 32, PINS = 4 };
	aml_name(to, "_PRT");
	guint package = aml_package(to, SLOTS * PINS);
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		for (unsigned pin = 0; pin < PINS; pin++) {
			guint entry = aml_package(to, 4);
			aml_integer(to, slot << 16 | 0xffff);
			aml_integer(to, pin);
			aml_integer(to, 0);
			aml_integer(to, pci_host_gsi((uint8_t)(slot << 3), pin));
			aml_close(to, entry);
		}
	}
	aml_close(to, package);
}

/* _OSC: the operating system asks for PCI Express features; it is granted all it asks for. The
 * method returns its fourth argument, the capabilities buffer, unchanged. */
static void osc_method(aml *to)
{
	guint method = aml_method(to, "_OSC", 4);
	aml_byte(to, 0xa4); /* Return */
	aml_byte(to, 0x6b); /* Arg3 */
	aml_close(to, method);
}

static void pci_root(aml *to, const struct acpi_config *config)
{
	guint device = aml_device(to, "PCI0");
	aml_name(to, "_HID");
	aml_eisaid(to, "PNP0A08");
	aml_name(to, "_CID");
	aml_eisaid(to, "PNP0A03");
	aml_name(to, "_UID");
	aml_integer(to, 0);
	aml_name(to, "_BBN");
	aml_integer(to, 0);
	aml_name(to, "_CRS");
	struct aml_resources r = aml_resources(to);
	aml_window(to, AML_BUS, 0, 0);
	aml_io(to, 0xcf8, 8);
	aml_window(to, AML_IO, 0, 0xcf7);
	aml_window(to, AML_IO, 0xd00, 0xffff);
	aml_window(to, AML_MEMORY, 0xa0000, 0xbffff);
	aml_window(to, AML_MEMORY, config->pci_window_start, config->pci_window_end);
	if (config->pci_window64_end)
		aml_window(to, AML_MEMORY, config->pci_window64_start, config->pci_window64_end);
	aml_close_resources(to, r);
	osc_method(to);
	interrupt_routing(to);
	aml_close(to, device);
}

static void legacy_devices(aml *to, const struct acpi_config *config)
{
	if (config->serial)
		isa_device(to, "COM1", "PNP0501", 1, 0x3f8, 8, 4);
	if (config->i8042) {
		isa_device(to, "KBD", "PNP0303", 1, 0x60, 1, 1);
		isa_device(to, "MOU", "PNP0F13", 1, 0, 0, 12);
	}
	isa_device(to, "RTC", "PNP0B00", 1, 0x70, 2, 8);
	if (config->fw_cfg)
		port_device(to, "FWCF", "QEMU0002", 0x510, 12);
	if (config->pvpanic)
		port_device(to, "PEVT", "QEMU0001", 0x505, 1);
}

static void reserved_memory(aml *to)
{
	guint device = aml_device(to, "MCH");
	aml_name(to, "_HID");
	aml_eisaid(to, "PNP0C02");
	aml_name(to, "_CRS");
	struct aml_resources r = aml_resources(to);
	aml_memory32(to, (uint32_t)PCI_ECAM_BASE, (uint32_t)PCI_ECAM_SIZE);
	aml_close_resources(to, r);
	aml_close(to, device);
}

static void processors(aml *to, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[5];
		g_snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		guint device = aml_device(to, name);
		aml_name(to, "_HID");
		aml_string(to, "ACPI0007");
		aml_name(to, "_UID");
		aml_integer(to, i);
		aml_close(to, device);
	}
}

static guint build_dsdt(GByteArray *to, const struct acpi_config *config)
{
	guint start = table_begin(to, "DSDT", 2);
	aml_name(to, "_S5");
	guint package = aml_package(to, 4);
	for (unsigned i = 0; i < 4; i++)
		aml_integer(to, 0);
	aml_close(to, package);
	guint scope = aml_scope(to, "\\_SB");
	pci_root(to, config);
	legacy_devices(to, config);
	reserved_memory(to);
	processors(to, config->cpu_count);
	aml_close(to, scope);
	table_end(to, start);
	return start;
}

/* --- The other tables --- */

static guint build_facs(GByteArray *to)
{
	while (to->len % 64)
		put(to, 0, 1);
	guint start = to->len;
	g_byte_array_append(to, (const uint8_t *)"FACS", 4);
	put(to, 64, 4);
	for (unsigned i = 8; i < 64; i++)
		put(to, i == 32 ? 2 : 0, 1);
	return start;
}

/* Generic address structure in port space (5.2.3.2). */
static void poke_gas(GByteArray *to, guint at, uint16_t port, uint8_t bits, uint8_t access)
{
	poke(to, at, 1, 1);
	poke(to, at + 1, bits, 1);
	poke(to, at + 3, access, 1);
	poke(to, at + 4, port, 8);
}

static guint build_fadt(GByteArray *to, const struct acpi_config *config, uint32_t facs,
			uint32_t dsdt)
{
	guint start = table_begin(to, "FACP", 6);
	g_byte_array_set_size(to, start + 276);
	uint8_t *f = to->data + start; /* offsets as the specification counts them */
	memset(f + HEADER, 0, 276 - HEADER);
	poke(to, start + 36, facs, 4);
	poke(to, start + 40, dsdt, 4);
	f[45] = 0; /* preferred profile: unspecified */
	poke(to, start + 46, ACPI_SCI, 2);
	poke(to, start + 56, ACPI_PM1_EVENT, 4);
	poke(to, start + 64, ACPI_PM1_CONTROL, 4);
	poke(to, start + 76, ACPI_PM_TIMER, 4);
	poke(to, start + 80, ACPI_GPE0, 4);
	f[88] = 4;
	f[89] = 2;
	f[91] = 4;
	f[92] = ACPI_GPE0_BYTES;
	poke(to, start + 96, 0xfff, 2); /* no C2 */
	poke(to, start + 98, 0xfff, 2); /* no C3 */
	f[108] = 0x32;                  /* century */
	/* 8042 present or not, no VGA, no ASPM control by the OS */
	poke(to, start + 109, (config->i8042 ? 2u : 0u) | 1u, 2);
	/* WBINVD, C1, sleep button is none, RTC wakes no S4, reset register, platform clock */
	poke(to, start + 112, 0x00008425, 4);
	f[116] = 1; /* reset register: port space */
	f[117] = 8;
	f[119] = 1;
	poke(to, start + 120, ACPI_RESET_PORT, 8);
	f[128] = ACPI_RESET_VALUE;
	f[131] = 3; /* minor version */
	poke(to, start + 132, facs, 8);
	poke(to, start + 140, dsdt, 8);
	poke_gas(to, start + 148, ACPI_PM1_EVENT, 32, 2);
	poke_gas(to, start + 172, ACPI_PM1_CONTROL, 16, 2);
	poke_gas(to, start + 208, ACPI_PM_TIMER, 32, 3);
	poke_gas(to, start + 220, ACPI_GPE0, ACPI_GPE0_BYTES * 8, 1);
	table_end(to, start);
	return start;
}

static void override(GByteArray *to, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	put(to, 2, 1);
	put(to, 10, 1);
	put(to, 0, 1);
	put(to, irq, 1);
	put(to, gsi, 4);
	put(to, flags, 2);
}

static guint build_madt(GByteArray *to, const struct acpi_config *config)
{
	guint start = table_begin(to, "APIC", 5);
	put(to, 0xfee00000, 4);
	put(to, 1, 4); /* there is an 8259 pair */
	for (unsigned i = 0; i < config->cpu_count; i++) {
		bool wide = i >= 255;
		put(to, wide ? 9 : 0, 1);
		put(to, wide ? 16 : 8, 1);
		if (wide) {
			put(to, 0, 2);
			put(to, i, 4);
			put(to, 1, 4);
			put(to, i, 4);
		} else {
			put(to, i, 1);
			put(to, i, 1);
			put(to, 1, 4);
		}
	}
	put(to, 1, 1); /* IOAPIC */
	put(to, 12, 1);
	put(to, 0, 2);
	put(to, 0xfec00000, 4);
	put(to, 0, 4);
	override(to, 0, 2, 0);
	override(to, ACPI_SCI, ACPI_SCI, 0x0d); /* level, active high */
	put(to, 4, 1);                          /* LINT1 of all is NMI */
	put(to, 6, 1);
	put(to, 0xff, 1);
	put(to, 0, 2);
	put(to, 1, 1);
	table_end(to, start);
	return start;
}

static guint build_mcfg(GByteArray *to)
{
	guint start = table_begin(to, "MCFG", 1);
	put(to, 0, 8);
	put(to, PCI_ECAM_BASE, 8);
	put(to, 0, 2);
	put(to, 0, 1);
	put(to, 0xff, 1);
	put(to, 0, 4);
	table_end(to, start);
	return start;
}

static guint build_hpet(GByteArray *to)
{
	guint start = table_begin(to, "HPET", 1);
	put(to, 0x8086a201, 4);
	put(to, 0, 1); /* memory space */
	put(to, 64, 1);
	put(to, 0, 1);
	put(to, 0, 1);
	put(to, 0xfed00000, 8);
	put(to, 0, 1);
	put(to, 0, 2);
	put(to, 0, 1);
	table_end(to, start);
	return start;
}

/* Windows: the RTC needs no second reading, the PM timer none either. */
static guint build_waet(GByteArray *to)
{
	guint start = table_begin(to, "WAET", 1);
	put(to, 3, 4);
	table_end(to, start);
	return start;
}

static void write_rsdp(GByteArray *to, uint32_t xsdt)
{
	memcpy(to->data, "RSD PTR ", 8);
	memcpy(to->data + 9, "LODGE ", 6);
	to->data[15] = 2;
	poke(to, 20, RSDP_BYTES, 4);
	poke(to, 24, xsdt, 8);
	checksum(to, 0, 20, 8);
	checksum(to, 0, RSDP_BYTES, 32);
}

GByteArray *acpi_build(const struct acpi_config *config, uint32_t base)
{
	GByteArray *to = g_byte_array_new();
	guint tables[8];
	unsigned count = 0;
	put(to, 0, 8);
	g_byte_array_set_size(to, RSDP_BYTES);
	memset(to->data, 0, RSDP_BYTES);
	guint facs = build_facs(to);
	guint dsdt = build_dsdt(to, config);
	tables[count++] = build_fadt(to, config, base + facs, base + dsdt);
	tables[count++] = build_madt(to, config);
	tables[count++] = build_mcfg(to);
	if (config->hpet)
		tables[count++] = build_hpet(to);
	tables[count++] = build_waet(to);
	guint xsdt = table_begin(to, "XSDT", 1);
	for (unsigned i = 0; i < count; i++)
		put(to, base + tables[i], 8);
	table_end(to, xsdt);
	write_rsdp(to, base + xsdt);
	return to;
}
