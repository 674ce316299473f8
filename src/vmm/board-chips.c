// SPDX-License-Identifier: GPL-2.0-or-later
/* The chips that every machine has, and what they tell a firmware. */
#include "vmm/board-chips.h"

#include "dev/debug-console.h"
#include "dev/debug-exit.h"
#include "dev/fw-cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/i8254.h"
#include "dev/mc146818.h"
#include "dev/ns16550.h"
#include "dev/pvpanic.h"
#include "dev/test-device.h"

#define APIC_TIMER_HZ UINT64_C(1000000000)

static bool add_serial(struct board *board, GError **error)
{
	struct chardev *chardev = NULL;
	if (board->config->serial) {
		chardev = char_open(board->config->serial, board->vm->context, error);
		if (!chardev)
			return false;
		g_ptr_array_add(board->chardevs, chardev);
	}
	ns16550_new(board->vm, 0x3f8, gsi_line(board->gsi, 4), chardev);
	return true;
}

static void add_fw_cfg(struct board *board)
{
	const struct machine_config *config = board->config;
	struct fw_cfg *fw = fw_cfg_new(board->vm);
	fw_cfg_set(fw, FW_CFG_UUID, config->uuid, sizeof(config->uuid));
	fw_cfg_set_integer(fw, FW_CFG_RAM_SIZE, config->memory_bytes, 8);
	fw_cfg_set_integer(fw, FW_CFG_NOGRAPHIC, 1, 2);
	fw_cfg_set_integer(fw, FW_CFG_CPU_COUNT, config->cpus, 2);
	fw_cfg_set_integer(fw, FW_CFG_NUMA, 0, 8);
	fw_cfg_set_integer(fw, FW_CFG_BOOT_MENU, 0, 2);
	fw_cfg_set_integer(fw, FW_CFG_MAX_CPUS, config->cpus, 2);
	board->fw_cfg = fw;
}

bool board_add_chips(struct board *board, GError **error)
{
	struct vm *vm = board->vm;
	const struct machine_config *config = board->config;
	board->lapics = lapic_bus_new(vm, APIC_TIMER_HZ);
	struct i8259 *pic = i8259_new(vm, lapic_bus_lint0(board->lapics));
	struct ioapic *ioapic = ioapic_new(vm);
	lapic_bus_connect(board->lapics, pic, ioapic);
	board->gsi = gsi_new(vm, pic, ioapic);
	struct hpet *hpet = hpet_new(vm, board->gsi);
	i8254_new(vm, hpet_pit_input(hpet));
	mc146818_new(vm, hpet_rtc_input(hpet));
	board->acpi = acpi_pm_new(vm, gsi_line(board->gsi, ACPI_SCI));
	board->pci = pci_host_new(vm, board->gsi, board->image || board->multiboot);
	board->keyboard = i8042_new(vm, gsi_line(board->gsi, 1), gsi_line(board->gsi, 12));
	add_fw_cfg(board);
	debug_exit_new(vm, 0xf4, &board->debug_exit_status);
	pvpanic_new(vm, 0x505);
	if (config->debug_log.fd >= 0)
		debug_console_new(vm, 0x402, config->debug_log.fd);
	if (config->test_device)
		test_device_new(vm, board->gsi);
	return add_serial(board, error);
}

void board_describe_chips(struct acpi_config *acpi)
{
	acpi->serial = acpi->hpet = acpi->i8042 = acpi->fw_cfg = acpi->pvpanic = true;
}

uint64_t board_apic_timer_hz(void)
{
	return APIC_TIMER_HZ;
}
