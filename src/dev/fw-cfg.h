/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vm/vm.h"

/*
 * fw_cfg: numbered items and named files that the machine gives to its firmware, at ports
 * 0x510-0x51b, read byte by byte or by DMA. Items are set before the machine runs and are not part
 * of saved state: the machine that loads it has the same ones. Machine lock held, or no vCPU yet.
 * Source: the interface's specification (QEMU docs/specs/fw_cfg.rst).
 */

enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00,
	FW_CFG_ID = 0x01,
	FW_CFG_UUID = 0x02,
	FW_CFG_RAM_SIZE = 0x03,
	FW_CFG_NOGRAPHIC = 0x04,
	FW_CFG_CPU_COUNT = 0x05,
	FW_CFG_NUMA = 0x0d,
	FW_CFG_BOOT_MENU = 0x0e,
	FW_CFG_MAX_CPUS = 0x0f,
	FW_CFG_DIRECTORY = 0x19,
	FW_CFG_FIRST_FILE = 0x20,
};

struct fw_cfg;

struct fw_cfg *fw_cfg_new(struct vm *vm);
/* Item @key becomes a copy of @data. */
void fw_cfg_set(struct fw_cfg *fw, unsigned key, const void *data, size_t size);
void fw_cfg_set_integer(struct fw_cfg *fw, unsigned key, uint64_t value, unsigned size);
/* File @name (at most 55 bytes, not yet there) with a copy of @data. Keys follow the order of
 * names.
 */
void fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, size_t size);
