// SPDX-License-Identifier: GPL-2.0-or-later
/* Puts a machine together from its description. */
#include "vmm/board.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/units.h"
#include "vmm/acpi.h"
#include "vmm/board-chips.h"
#include "vmm/board-devices.h"
#include "vmm/smbios.h"

#define MIB              (UINT64_C(1) << 20)
#define GIB              (UINT64_C(1) << 30)
#define LOW_RAM_MAX      UINT64_C(0xb0000000)
#define LOW_RAM_SPLIT    UINT64_C(0x80000000)
#define PCI_WINDOW_START UINT64_C(0xc0000000)
#define PCI_WINDOW_END   UINT64_C(0xfebfffff)

enum {
	ACPI_BASE = 0xe0000,
	SMBIOS_BASE = 0xf0000,
	BIOS_AREA = 0xe0000,
	BIOS_AREA_BYTES = 0x20000,
	PCI_PORTS = 0xc000
};

/* --- Memory --- */

static bool check_memory_size(uint64_t bytes, GError **error)
{
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	if (bytes <= host)
		return true;
	g_autofree char *wanted = units_format_size(bytes), *have = units_format_size(host);
	return error_set(
		error, LODGE_ERROR_INVALID,
		"%s of guest memory is more than this host has (%s): give a smaller --memory",
		wanted, have);
}

static void add_e820(struct board *board, uint64_t start, uint64_t size, uint32_t type)
{
	if (size)
		board->e820[board->e820_count++] = (struct e820_entry){start, size, type};
}

static bool add_memory(struct board *board, GError **error)
{
	const struct machine_config *config = board->config;
	unsigned flags = (config->huge_pages ? RAM_HUGETLB : 0) |
			 (config->shared_memory ? RAM_SHARED : 0) |
			 (config->mergeable ? RAM_MERGEABLE : 0);
	uint64_t total = config->memory_bytes;
	board->low_bytes = total > LOW_RAM_MAX ? LOW_RAM_SPLIT : total;
	board->high_bytes = total - board->low_bytes;
	if (!check_memory_size(total, error))
		return false;
	struct ram *ram = ram_new(board->vm, "ram", total, flags, error);
	if (!ram || !ram_map(board->vm, ram, 0, 0, board->low_bytes, false, error))
		return false;
	if (board->high_bytes &&
	    !ram_map(board->vm, ram, 4 * GIB, board->low_bytes, board->high_bytes, false, error))
		return false;
	add_e820(board, 0, 0x9fc00, 1);
	add_e820(board, 0x9fc00, MIB - 0x9fc00, 2);
	add_e820(board, MIB, board->low_bytes - MIB, 1);
	add_e820(board, PCI_ECAM_BASE, PCI_ECAM_SIZE, 2);
	add_e820(board, 4 * GIB, board->high_bytes, 1);
	return true;
}

/* A flat firmware image ends at 4 GiB; its last 128 KiB are also below 1 MiB. */
static bool add_rom(struct board *board, GError **error)
{
	const struct machine_file *file = &board->config->firmware;
	struct stat st;
	if (file->fd < 0)
		return true;
	if (fstat(file->fd, &st) < 0 || st.st_size < 1 || st.st_size > 16 * (off_t)MIB)
		return error_set(error, LODGE_ERROR_INVALID,
				 "the firmware '%s' must be a file of at most 16 MiB", file->name);
	uint64_t size = ((uint64_t)st.st_size + 0xffff) & ~UINT64_C(0xffff);
	board->rom = ram_new(board->vm, "rom", size, 0, error);
	if (!board->rom)
		return false;
	board->rom->volatile_content = true;
	int ret = file_pread_all(file->fd, board->rom->host + (size - (uint64_t)st.st_size),
				 (size_t)st.st_size, 0);
	if (ret < 0)
		return error_set_errno(error, -ret, "cannot read the firmware '%s'", file->name);
	return ram_map(board->vm, board->rom, 4 * GIB - size, 0, size, true, error) != NULL;
}

/* --- Start state --- */

static bool write_tables(struct board *board, GError **error)
{
	const GByteArray *acpi = board->acpi_tables, *smbios = board->smbios_tables;
	g_assert(ACPI_BASE + acpi->len <= SMBIOS_BASE);
	if (dma_write(board->vm, ACPI_BASE, acpi->data, acpi->len) &&
	    dma_write(board->vm, SMBIOS_BASE, smbios->data, smbios->len))
		return true;
	return error_set(error, LODGE_ERROR_INVALID, "the guest has no memory below 1 MiB");
}

static bool load_kernel(struct board *board, struct cpu_state *state, GError **error)
{
	struct boot_memory memory = {.map = board->e820,
				     .map_count = board->e820_count,
				     .low_bytes = board->low_bytes,
				     .rsdp = ACPI_BASE};
	if (!pci_bus_assign(pci_host_bus(board->pci), PCI_WINDOW_START, PCI_WINDOW_END + 1,
			    PCI_PORTS, error) ||
	    !write_tables(board, error))
		return false;
	if (board->multiboot)
		return multiboot_image_load(board->vm, board->multiboot, &memory, state, error);
	return linux_image_load(board->vm, board->image, &memory, state, error);
}

static bool load_rom(struct board *board, GError **error)
{
	if (!board->rom)
		return true;
	uint64_t size = MIN(board->rom->size, (uint64_t)BIOS_AREA_BYTES);
	if (dma_write(board->vm, MIB - size, board->rom->host + board->rom->size - size, size))
		return true;
	return error_set(error, LODGE_ERROR_INVALID, "the guest has no memory below 1 MiB");
}

static bool load_start_state(void *opaque, GError **error)
{
	struct board *board = opaque;
	struct vm *vm = board->vm;
	struct cpu_state *state = g_aligned_alloc0(1, sizeof(*state), 64);
	bool direct = board->image || board->multiboot, ok = true;
	for (unsigned i = 0; ok && i < vm->vcpu_count; i++) {
		cpu_state_reset(state, i == 0);
		if (i == 0)
			ok = direct ? load_kernel(board, state, error) : load_rom(board, error);
		/* What a firmware leaves on each: MTRRs on, memory write-back. */
		if (direct)
			state->msr.mtrr_def_type = 0xc06;
		ok = ok && vm->accel->set_state(vm->vcpus[i], state, error);
	}
	g_aligned_free(state);
	return ok;
}

/* --- The whole --- */

static bool add_processors(struct board *board, GError **error)
{
	struct cpu_model model = {.cpu_count = board->config->cpus,
				  .tsc_hz = board->vm->tsc_hz,
				  .apic_timer_hz = board_apic_timer_hz()};
	return accel_set_model(board->vm, &model, error) &&
	       vm_add_vcpus(board->vm, board->config->cpus, error);
}

static void make_acpi_tables(struct board *board)
{
	struct acpi_config acpi = {.cpu_count = board->config->cpus,
				   .pci_window_start = (uint32_t)PCI_WINDOW_START,
				   .pci_window_end = (uint32_t)PCI_WINDOW_END};
	board_describe_chips(&acpi);
	board_describe_devices(board, &acpi);
	board->acpi_tables = acpi_build(&acpi, ACPI_BASE);
}

static void make_smbios_tables(struct board *board)
{
	const struct machine_config *config = board->config;
	struct smbios_config smbios = {.cpu_count = config->cpus,
				       .memory_bytes = config->memory_bytes,
				       .low_bytes = board->low_bytes,
				       .cpu_mhz = (uint32_t)(board->vm->tsc_hz / 1000000)};
	memcpy(smbios.uuid, config->uuid, sizeof(smbios.uuid));
	board->smbios_tables = smbios_build(&smbios, SMBIOS_BASE);
}

static bool read_kernel(struct board *board, GError **error)
{
	const struct machine_config *config = board->config;
	const struct machine_file *kernel = &config->kernel, *initrd = &config->initrd;
	if (kernel->fd < 0)
		return true;
	if (multiboot_probe(kernel->fd))
		board->multiboot = multiboot_image_new(kernel->fd, kernel->name, initrd->fd,
						       initrd->name, config->append, error);
	else
		board->image = linux_image_new(kernel->fd, kernel->name, initrd->fd, initrd->name,
					       config->append, error);
	return board->multiboot || board->image;
}

static bool build(struct board *board, GMainContext *context, GError **error)
{
	const struct machine_config *config = board->config;
	if (!accel_choose(config->accel, &board->accel, error))
		return false;
	board->vm = vm_new(board->accel.accel, context, error);
	if (!board->vm)
		return false;
	board->vm->fallback = board->accel.fallback;
	board->vm->switch_accel = accel_switch;
	board->vm->no_reboot = config->no_reboot;
	board->vm->load = load_start_state;
	board->vm->load_opaque = board;
	if (!read_kernel(board, error))
		return false;
	if (!add_memory(board, error) || !add_rom(board, error) || !add_processors(board, error) ||
	    !board_add_chips(board, error) || !board_add_devices(board, error))
		return false;
	make_acpi_tables(board);
	make_smbios_tables(board);
	return vm_reset(board->vm, error);
}

struct board *board_new(const struct machine_config *config, GMainContext *context, GError **error)
{
	struct board *board = g_new0(struct board, 1);
	board->config = config;
	board->debug_exit_status = -1;
	board->made_us = g_get_monotonic_time();
	board->chardevs = g_ptr_array_new_with_free_func((GDestroyNotify)char_free);
	board->blocks = g_ptr_array_new();
	if (build(board, context, error))
		return board;
	board_free(board);
	return NULL;
}

void board_free(struct board *board)
{
	if (board->vm)
		vm_free(board->vm);
	board_free_devices(board);
	g_ptr_array_free(board->chardevs, TRUE);
	g_ptr_array_free(board->blocks, TRUE);
	linux_image_free(board->image);
	multiboot_image_free(board->multiboot);
	g_clear_pointer(&board->acpi_tables, g_byte_array_unref);
	g_clear_pointer(&board->smbios_tables, g_byte_array_unref);
	g_free(board->accel.reason);
	g_free(board);
}
