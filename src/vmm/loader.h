/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/state.h"
#include "vm/vm.h"

/*
 * Starting a Linux kernel without firmware: a bzImage is unpacked on the host and entered at the
 * 64-bit entry of its vmlinux; an ELF vmlinux likewise; a bzImage packed in a way we do not know is
 * entered at its own 64-bit entry and unpacks itself. Source: Linux Documentation/x86/boot.rst.
 */

/* The whole of a regular file of at most 1 GiB; the caller frees it. */
uint8_t *boot_file_read(int fd, const char *name, size_t *size, GError **error);

/* The files, read when the machine is made and kept for resets. */
struct linux_image {
	uint8_t *file; /* the whole kernel file */
	size_t file_size;
	uint8_t *initrd;
	size_t initrd_size;
	char *command_line;
	/* found by linux_image_prepare */
	uint8_t *vmlinux; /* unpacked, or NULL: entered as a bzImage */
	size_t vmlinux_size;
	uint8_t setup[4096];                /* setup header at its place (0x1f1), the rest zero */
	uint64_t load_address, image_bytes; /* what the running kernel needs */
};

struct linux_image *linux_image_new(int kernel_fd, const char *kernel_name, int initrd_fd,
				    const char *initrd_name, const char *command_line,
				    GError **error);
void linux_image_free(struct linux_image *image);

/* A range of the memory map that the guest is given. */
struct e820_entry {
	uint64_t start, size;
	uint32_t type; /* 1 RAM, 2 reserved */
};

struct boot_memory {
	const struct e820_entry *map;
	unsigned map_count;
	uint64_t low_bytes; /* RAM from 0 */
	uint32_t rsdp;      /* address of the ACPI root pointer */
};

/* Puts the image into guest memory and fills @state of the first processor: 64-bit mode, identity
 * mapping of the first 4 GiB, RSI at the boot parameters. */
bool linux_image_load(struct vm *vm, const struct linux_image *image,
		      const struct boot_memory *memory, struct cpu_state *state, GError **error);

/* Unpacks @size bytes (gzip, xz, lz4 legacy frame or zstd, by magic). NULL without @error when the
 * format is not known, NULL with @error when it is broken. Caller frees with g_free. */
uint8_t *payload_unpack(const uint8_t *data, size_t size, size_t *unpacked, GError **error);
