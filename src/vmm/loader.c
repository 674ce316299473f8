// SPDX-License-Identifier: GPL-2.0-or-later
/* Linux kernels without firmware (Linux Documentation/x86/boot.rst; ELF-64 specification). */
#include "vmm/loader.h"

#include <elf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

enum {
	HDR_SETUP_SECTS = 0x1f1,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP = 0x201,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_TYPE_OF_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_RAMDISK = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE = 0x228,
	HDR_INITRD_MAX = 0x22c,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PAYLOAD = 0x248,
	HDR_PAYLOAD_SIZE = 0x24c,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
};
enum { ZP_RSDP = 0x70, ZP_E820_COUNT = 0x1e8, ZP_E820 = 0x2d0, ZP_E820_MAX = 128 };

/* Where the pieces lie in guest memory, all below the kernel. */
enum {
	AT_ZERO_PAGE = 0x7000,
	AT_GDT = 0x8000,
	AT_PAGE_TABLES = 0x9000, /* six pages */
	AT_STACK_TOP = 0x7000,
	AT_COMMAND_LINE = 0x20000,
};
enum { PAGE = 4096, FILE_MAX = 1 << 30, COMMAND_LINE_MAX = 0x10000 };

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return v;
}

static void set32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

static void set64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, 8);
}

uint8_t *boot_file_read(int fd, const char *name, size_t *size, GError **error)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		error_set(error, LODGE_ERROR_INVALID, "'%s' is not a regular file", name);
		return NULL;
	}
	if (st.st_size == 0 || st.st_size > FILE_MAX) {
		error_set(error, LODGE_ERROR_INVALID, "'%s' is empty or larger than 1 GiB", name);
		return NULL;
	}
	uint8_t *data = g_malloc((gsize)st.st_size);
	int ret = file_pread_all(fd, data, (size_t)st.st_size, 0);
	if (ret < 0) {
		g_free(data);
		error_set_errno(error, -ret, "cannot read '%s'", name);
		return NULL;
	}
	*size = (size_t)st.st_size;
	return data;
}

/* --- What kind of kernel --- */

/* Checks the program headers of image->vmlinux against its size and finds what it occupies. */
static bool scan_elf(struct linux_image *image, const char *name, GError **error)
{
	const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)(const void *)image->vmlinux;
	size_t size = image->vmlinux_size;
	if (size < sizeof(*ehdr) || memcmp(ehdr->e_ident, ELFMAG, SELFMAG) != 0 ||
	    ehdr->e_ident[EI_CLASS] != ELFCLASS64 || ehdr->e_machine != EM_X86_64)
		return error_set(error, LODGE_ERROR_INVALID, "'%s' holds no 64-bit x86 kernel",
				 name);
	if (ehdr->e_phentsize != sizeof(Elf64_Phdr) || ehdr->e_phnum > 64 || ehdr->e_phoff > size ||
	    ehdr->e_phoff % 8 || ehdr->e_phnum * sizeof(Elf64_Phdr) > size - ehdr->e_phoff)
		return error_set(error, LODGE_ERROR_CORRUPT, "'%s' has a damaged ELF header", name);
	const Elf64_Phdr *phdr = (const Elf64_Phdr *)(const void *)(image->vmlinux + ehdr->e_phoff);
	uint64_t low = UINT64_MAX, high = 0;
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		if (phdr[i].p_type != PT_LOAD)
			continue;
		if (phdr[i].p_offset > size || phdr[i].p_filesz > size - phdr[i].p_offset ||
		    phdr[i].p_filesz > phdr[i].p_memsz || phdr[i].p_memsz > UINT32_MAX ||
		    phdr[i].p_paddr > UINT32_MAX)
			return error_set(error, LODGE_ERROR_CORRUPT,
					 "'%s' is cut short: segment %u is beyond its end", name,
					 i);
		low = MIN(low, phdr[i].p_paddr);
		high = MAX(high, phdr[i].p_paddr + phdr[i].p_memsz);
	}
	if (high == 0 || ehdr->e_entry < low || ehdr->e_entry >= high || low < 0x100000)
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%s' is no kernel that loads at 1 MiB or above", name);
	image->load_address = low;
	image->image_bytes = MAX(high - low, image->image_bytes);
	return true;
}

static bool scan_bzimage(struct linux_image *image, const char *name, GError **error)
{
	const uint8_t *f = image->file;
	if (image->file_size < 0x400 || get32(f + HDR_MAGIC) != 0x53726448 ||
	    f[HDR_BOOT_FLAG] != 0x55 || f[HDR_BOOT_FLAG + 1] != 0xaa)
		return error_set(
			error, LODGE_ERROR_INVALID,
			"'%s' is not a Linux kernel (neither a bzImage nor an ELF vmlinux)", name);
	unsigned version = f[HDR_VERSION] | (unsigned)f[HDR_VERSION + 1] << 8;
	if (version < 0x20c || !(f[HDR_XLOADFLAGS] & 1))
		return error_set(
			error, LODGE_ERROR_UNSUPPORTED,
			"'%s' has no 64-bit entry (boot protocol %u.%02u): a 64-bit kernel "
			"of Linux 3.8 or later is needed; boot others through a firmware",
			name, version >> 8, version & 0xff);
	unsigned sectors = f[HDR_SETUP_SECTS] ? f[HDR_SETUP_SECTS] : 4;
	uint64_t code = (sectors + 1) * 512;
	uint64_t payload = code + get32(f + HDR_PAYLOAD),
		 payload_size = get32(f + HDR_PAYLOAD_SIZE);
	uint64_t code_size = (uint64_t)get32(f + 0x1f4) * 16;
	if (code >= image->file_size || payload + payload_size > image->file_size ||
	    code + code_size > image->file_size + 15)
		return error_set(error, LODGE_ERROR_CORRUPT,
				 "'%s' is cut short: it has %zu bytes, its header speaks of "
				 "%" G_GUINT64_FORMAT,
				 name, image->file_size,
				 MAX(payload + payload_size, code + code_size));
	size_t header = HDR_MAGIC + f[HDR_JUMP];
	memcpy(image->setup + HDR_SETUP_SECTS, f + HDR_SETUP_SECTS, header - HDR_SETUP_SECTS);
	image->load_address = get64(f + HDR_PREF_ADDRESS);
	image->image_bytes = get32(f + HDR_INIT_SIZE);
	if (image->load_address < 0x100000 || image->load_address > UINT32_MAX)
		return error_set(error, LODGE_ERROR_INVALID, "'%s' has an impossible load address",
				 name);
	g_autoptr(GError) broken = NULL;
	image->vmlinux = payload_unpack(f + payload, payload_size, &image->vmlinux_size, &broken);
	if (broken) {
		g_propagate_prefixed_error(error, g_steal_pointer(&broken), "'%s': ", name);
		return false;
	}
	return !image->vmlinux || scan_elf(image, name, error);
}

static bool prepare(struct linux_image *image, const char *name, GError **error)
{
	if (image->file_size >= SELFMAG && memcmp(image->file, ELFMAG, SELFMAG) == 0) {
		image->vmlinux = g_steal_pointer(&image->file);
		image->vmlinux_size = image->file_size;
		/* A bare vmlinux has no setup header; this is what its loader must supply. */
		image->setup[HDR_BOOT_FLAG] = 0x55;
		image->setup[HDR_BOOT_FLAG + 1] = 0xaa;
		set32(image->setup + HDR_MAGIC, 0x53726448);
		image->setup[HDR_VERSION + 1] = 2;
		image->setup[HDR_VERSION] = 0x0f;
		image->setup[HDR_LOADFLAGS] = 1;
		set32(image->setup + HDR_INITRD_MAX, 0x7fffffff);
		set32(image->setup + HDR_CMDLINE_SIZE, 2047);
		return scan_elf(image, name, error);
	}
	return scan_bzimage(image, name, error);
}

struct linux_image *linux_image_new(int kernel_fd, const char *kernel_name, int initrd_fd,
				    const char *initrd_name, const char *command_line,
				    GError **error)
{
	struct linux_image *image = g_new0(struct linux_image, 1);
	image->command_line = g_strdup(command_line ? command_line : "");
	image->file = boot_file_read(kernel_fd, kernel_name, &image->file_size, error);
	bool ok = image->file && prepare(image, kernel_name, error);
	if (ok && initrd_fd >= 0) {
		image->initrd = boot_file_read(initrd_fd, initrd_name, &image->initrd_size, error);
		ok = image->initrd != NULL;
	}
	uint32_t limit = MAX(get32(image->setup + HDR_CMDLINE_SIZE), 255);
	if (ok && strlen(image->command_line) > MIN(limit, COMMAND_LINE_MAX - 1))
		ok = error_set(error, LODGE_ERROR_INVALID,
			       "the kernel's command line is longer than the %u bytes it takes",
			       limit);
	if (ok)
		return image;
	linux_image_free(image);
	return NULL;
}

void linux_image_free(struct linux_image *image)
{
	if (!image)
		return;
	g_free(image->file);
	g_free(image->vmlinux);
	g_free(image->initrd);
	g_free(image->command_line);
	g_free(image);
}

/* --- Into guest memory --- */

static bool put(struct vm *vm, uint64_t gpa, const void *data, uint64_t size, GError **error)
{
	if (size == 0 || dma_write(vm, gpa, data, size))
		return true;
	return error_set(
		error, LODGE_ERROR_INVALID,
		"the guest has too little memory for its kernel: give it more with --memory");
}

static bool put_elf(struct vm *vm, const struct linux_image *image, uint64_t *entry, GError **error)
{
	const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)(const void *)image->vmlinux;
	const Elf64_Phdr *phdr = (const Elf64_Phdr *)(const void *)(image->vmlinux + ehdr->e_phoff);
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		if (phdr[i].p_type != PT_LOAD)
			continue;
		if (!put(vm, phdr[i].p_paddr, image->vmlinux + phdr[i].p_offset, phdr[i].p_filesz,
			 error))
			return false;
		uint64_t bss = phdr[i].p_memsz - phdr[i].p_filesz;
		void *at = bss ? dma_map(vm, phdr[i].p_paddr + phdr[i].p_filesz, bss, true) : NULL;
		if (bss && !at)
			return put(vm, UINT64_MAX - PAGE, "", 1, error);
		if (bss) {
			memset(at, 0, bss);
			dma_written(vm, phdr[i].p_paddr + phdr[i].p_filesz, bss);
		}
	}
	*entry = ehdr->e_entry;
	return true;
}

static bool put_kernel(struct vm *vm, const struct linux_image *image, uint64_t *entry,
		       GError **error)
{
	if (image->vmlinux)
		return put_elf(vm, image, entry, error);
	unsigned sectors = image->file[HDR_SETUP_SECTS] ? image->file[HDR_SETUP_SECTS] : 4;
	size_t code = (sectors + 1) * 512;
	*entry = image->load_address + 0x200;
	return put(vm, image->load_address, image->file + code, image->file_size - code, error);
}

static bool put_initrd(struct vm *vm, const struct linux_image *image,
		       const struct boot_memory *memory, uint8_t *zero_page, GError **error)
{
	uint64_t top = MIN(memory->low_bytes, (uint64_t)get32(image->setup + HDR_INITRD_MAX) + 1);
	uint64_t kernel_end = image->load_address + image->image_bytes;
	if (!image->initrd)
		return true;
	uint64_t at =
		top > image->initrd_size ? (top - image->initrd_size) & ~(uint64_t)(PAGE - 1) : 0;
	if (at < kernel_end)
		return error_set(error, LODGE_ERROR_INVALID,
				 "the guest has too little memory for kernel and initrd: at least "
				 "%" G_GUINT64_FORMAT " MiB are needed",
				 ((kernel_end + image->initrd_size) >> 20) + 16);
	set32(zero_page + HDR_RAMDISK, (uint32_t)at);
	set32(zero_page + HDR_RAMDISK_SIZE, (uint32_t)image->initrd_size);
	return put(vm, at, image->initrd, image->initrd_size, error);
}

static bool put_zero_page(struct vm *vm, const struct linux_image *image,
			  const struct boot_memory *memory, GError **error)
{
	uint8_t page[PAGE];
	memcpy(page, image->setup, sizeof(page));
	if (!put_initrd(vm, image, memory, page, error))
		return false;
	page[HDR_TYPE_OF_LOADER] = 0xff;
	set32(page + HDR_CMD_LINE, AT_COMMAND_LINE);
	set64(page + ZP_RSDP, memory->rsdp);
	g_assert(memory->map_count <= ZP_E820_MAX);
	page[ZP_E820_COUNT] = (uint8_t)memory->map_count;
	for (unsigned i = 0; i < memory->map_count; i++) {
		uint8_t *entry = page + ZP_E820 + i * 20;
		set64(entry, memory->map[i].start);
		set64(entry + 8, memory->map[i].size);
		set32(entry + 16, memory->map[i].type);
	}
	return put(vm, AT_ZERO_PAGE, page, sizeof(page), error) &&
	       put(vm, AT_COMMAND_LINE, image->command_line, strlen(image->command_line) + 1,
		   error);
}

/* Identity mapping of 4 GiB with 2 MiB pages: one PML4, one PDPT, four page directories. */
static bool put_page_tables(struct vm *vm, GError **error)
{
	uint64_t table[6][512] = {0};
	table[0][0] = (AT_PAGE_TABLES + PAGE) | 3;
	for (unsigned i = 0; i < 4; i++) {
		table[1][i] = (AT_PAGE_TABLES + (2 + i) * PAGE) | 3;
		for (unsigned j = 0; j < 512; j++)
			table[2 + i][j] = ((uint64_t)i << 30 | (uint64_t)j << 21) | 0x83;
	}
	return put(vm, AT_PAGE_TABLES, table, sizeof(table), error);
}

static struct cpu_segment flat_segment(uint16_t selector, uint16_t attr)
{
	return (struct cpu_segment){.limit = UINT32_MAX, .selector = selector, .attr = attr};
}

static bool put_descriptors(struct vm *vm, struct cpu_state *state, GError **error)
{
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	state->gdtr = (struct cpu_table){.base = AT_GDT, .limit = sizeof(gdt) - 1};
	for (unsigned i = SEG_ES; i <= SEG_GS; i++)
		state->seg[i] =
			flat_segment(0x18, SEG_G | SEG_DB | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED);
	state->seg[SEG_CS] = flat_segment(0x10, SEG_G | SEG_L | SEG_P | SEG_S | SEG_CODE | SEG_RW |
							SEG_ACCESSED);
	return put(vm, AT_GDT, gdt, sizeof(gdt), error);
}

bool linux_image_load(struct vm *vm, const struct linux_image *image,
		      const struct boot_memory *memory, struct cpu_state *state, GError **error)
{
	uint64_t entry = 0;
	if (image->load_address + image->image_bytes > memory->low_bytes)
		return error_set(
			error, LODGE_ERROR_INVALID,
			"the guest has too little memory: this kernel needs %" G_GUINT64_FORMAT
			" MiB to start",
			((image->load_address + image->image_bytes) >> 20) + 1);
	cpu_state_reset(state, true);
	if (!put_kernel(vm, image, &entry, error) || !put_zero_page(vm, image, memory, error) ||
	    !put_page_tables(vm, error) || !put_descriptors(vm, state, error))
		return false;
	state->rip = entry;
	state->regs[CPU_RSI] = AT_ZERO_PAGE;
	state->regs[CPU_RSP] = AT_STACK_TOP;
	state->rflags = 2;
	state->cr0 = 0x80000011;
	state->cr3 = AT_PAGE_TABLES;
	state->cr4 = 0x20;
	state->efer = 0x500;
	return true;
}
