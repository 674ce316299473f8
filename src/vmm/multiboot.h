/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "vmm/loader.h"

/*
 * Starting kernels that follow the Multiboot specification 0.6.96: ELF files (32 or 64 bits) and
 * files whose header says where to load them. They are entered in 32-bit protected mode with EAX
 * the magic number and EBX at the boot information: memory sizes and map, command line, the initrd
 * as the one module.
 */

struct multiboot_image;

/* Whether the file has a Multiboot header and is no Linux kernel. */
bool multiboot_probe(int fd);

struct multiboot_image *multiboot_image_new(int kernel_fd, const char *kernel_name, int module_fd,
					    const char *module_name, const char *command_line,
					    GError **error);
void multiboot_image_free(struct multiboot_image *image);

/* Puts the image into guest memory and fills @state of the first processor. */
bool multiboot_image_load(struct vm *vm, const struct multiboot_image *image,
			  const struct boot_memory *memory, struct cpu_state *state,
			  GError **error);
