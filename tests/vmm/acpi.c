// SPDX-License-Identifier: GPL-2.0-or-later
/* The ACPI tables as a guest gets them: linked and summed right, and judged by iasl, which takes
 * them apart and compiles the result again without an error. */
#include <glib/gstdio.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/smbios.h"

enum { BASE = 0xe0000 };

static const struct acpi_config configs[] = {
	{.cpu_count = 1, .pci_window_start = 0xc0000000, .pci_window_end = 0xfebfffff},
	{.cpu_count = 4,
	 .pci_window_start = 0xc0000000,
	 .pci_window_end = 0xfebfffff,
	 .pci_window64_start = UINT64_C(0x800000000),
	 .pci_window64_end = UINT64_C(0xfffffffff),
	 .hpet = true,
	 .i8042 = true,
	 .serial = true,
	 .fw_cfg = true,
	 .pvpanic = true},
	{.cpu_count = 255,
	 .pci_window_start = 0xc0000000,
	 .pci_window_end = 0xfebfffff,
	 .hpet = true,
	 .serial = true},
};

static uint64_t get(const GByteArray *tables, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;
	g_assert_cmpuint(gpa, >=, BASE);
	g_assert_cmpuint(gpa - BASE + size, <=, tables->len);
	memcpy(&value, tables->data + (gpa - BASE), size);
	return value;
}

static void assert_sum(const GByteArray *tables, uint64_t gpa, uint64_t length)
{
	uint8_t sum = 0;
	for (uint64_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + get(tables, gpa + i, 1));
	g_assert_cmpuint(sum, ==, 0);
}

/* The addresses of all tables with a standard header; the DSDT is the last. */
static GArray *find_tables(const GByteArray *tables)
{
	GArray *found = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	uint64_t xsdt = get(tables, BASE + 24, 8), dsdt = 0;
	g_assert_cmpmem(tables->data, 8, "RSD PTR ", 8);
	assert_sum(tables, BASE, 20);
	assert_sum(tables, BASE, 36);
	assert_sum(tables, xsdt, get(tables, xsdt + 4, 4));
	for (uint64_t at = xsdt + 36; at < xsdt + get(tables, xsdt + 4, 4); at += 8) {
		uint64_t table = get(tables, at, 8);
		g_array_append_val(found, table);
		if (get(tables, table, 4) == 0x50434146) /* FACP */
			dsdt = get(tables, table + 140, 8);
	}
	g_assert_cmpuint(dsdt, !=, 0);
	g_array_append_val(found, dsdt);
	return found;
}

static void linked(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
		GByteArray *tables = acpi_build(&configs[i], BASE);
		g_autoptr(GArray) found = find_tables(tables);
		g_assert_cmpuint(tables->len, <=, 0x10000); /* SMBIOS follows */
		for (guint n = 0; n < found->len; n++) {
			uint64_t table = g_array_index(found, uint64_t, n);
			assert_sum(tables, table, get(tables, table + 4, 4));
		}
		g_byte_array_unref(tables);
	}
}

static void run_iasl(const char *folder, const char *option, const char *file)
{
	const char *argv[] = {"iasl", option, file, NULL};
	g_autofree char *out = NULL, *err = NULL;
	g_autoptr(GError) error = NULL;
	int status = 0;
	g_spawn_sync(folder, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
		     &err, &status, &error);
	g_assert_no_error(error);
	if (status != 0 || (strcmp(option, "-d") != 0 && !strstr(out, " 0 Errors")))
		g_error("iasl %s %s: %s%s", option, file, out, err);
}

static void judged_by_iasl(void)
{
	g_autofree char *iasl = g_find_program_in_path("iasl");
	if (!iasl) {
		g_test_skip("iasl is not installed (package acpica-tools)");
		return;
	}
	g_autofree char *folder = g_dir_make_tmp("lodge-acpi-XXXXXX", NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(configs); i++) {
		GByteArray *tables = acpi_build(&configs[i], BASE);
		g_autoptr(GArray) found = find_tables(tables);
		for (guint n = 0; n < found->len; n++) {
			uint64_t at = g_array_index(found, uint64_t, n);
			const char *data = (const char *)tables->data + (at - BASE);
			g_autofree char *path = g_build_filename(folder, "t.dat", NULL);
			g_autofree char *source = g_build_filename(folder, "t.dsl", NULL);
			g_autofree char *binary = g_build_filename(folder, "t.aml", NULL);
			g_assert_true(g_file_set_contents(path, data,
							  (gssize)get(tables, at + 4, 4), NULL));
			run_iasl(folder, "-d", "t.dat");
			run_iasl(folder, "-vs", "t.dsl");
			g_unlink(path);
			g_unlink(source);
			g_unlink(binary);
		}
		g_byte_array_unref(tables);
	}
	g_rmdir(folder);
}

static void smbios(void)
{
	struct smbios_config config = {.cpu_count = 2,
				       .memory_bytes = UINT64_C(5) << 30,
				       .low_bytes = UINT64_C(2) << 30,
				       .cpu_mhz = 2000};
	for (unsigned i = 0; i < 16; i++)
		config.uuid[i] = (uint8_t)(i + 1);
	GByteArray *tables = smbios_build(&config, 0xf0000);
	const uint8_t *p = tables->data;
	uint8_t sum = 0;
	unsigned types = 0, last = 0;
	g_assert_cmpmem(p, 5, "_SM3_", 5);
	for (unsigned i = 0; i < SMBIOS_ANCHOR_BYTES; i++)
		sum = (uint8_t)(sum + p[i]);
	g_assert_cmpuint(sum, ==, 0);
	guint at = SMBIOS_TABLES_AT;
	while (at < tables->len) {
		last = p[at];
		types++;
		if (last == 1)
			g_assert_cmpmem(p + at + 8, 6, "\4\3\2\1\6\5", 6);
		at += p[at + 1];
		while (p[at] || p[at + 1])
			at++;
		at += 2;
	}
	g_assert_cmpuint(at, ==, tables->len);
	g_assert_cmpuint(last, ==, 127);
	g_assert_cmpuint(types, ==, 10); /* two ranges of memory */
	g_byte_array_unref(tables);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/linked", linked);
	g_test_add_func("/acpi/iasl", judged_by_iasl);
	g_test_add_func("/smbios", smbios);
	return g_test_run();
}
