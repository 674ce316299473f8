// SPDX-License-Identifier: GPL-2.0-or-later
/* Multiboot kernels (Multiboot specification 0.6.96, sections 3.1 to 3.3). */
#include "vmm/multiboot.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { HEADER_SEARCH = 8192, HEADER_MAGIC = 0x1badb002, ENTRY_MAGIC = 0x2badb002 };
enum { HEADER_ALIGN_MODULES = 1, HEADER_HAS_ADDRESSES = 1 << 16 };
enum {
	INFO_MEMORY = 1 << 0,
	INFO_COMMAND_LINE = 1 << 2,
	INFO_MODULES = 1 << 3,
	INFO_MEMORY_MAP = 1 << 6,
	INFO_LOADER_NAME = 1 << 9,
};
/* Where the pieces lie: from 0x8000 on, or behind a kernel that loads below 1 MiB itself. */
enum {
	LOW_BASE = 0x8000,
	AT_GDT = 0,
	AT_INFO = 0x100,
	AT_MODULE = 0x200,
	AT_LOADER_NAME = 0x300,
	AT_MEMORY_MAP = 0x400,
	AT_COMMAND_LINE = 0x1000,
	AREA_BYTES = 0x11000,
};
enum { PAGE = 4096, SEGMENTS_MAX = 64 };

struct header { /* as it is in the file */
	uint32_t magic, flags, checksum;
	uint32_t header_address, load_address, load_end, bss_end, entry;
};

struct info { /* as the kernel gets it */
	uint32_t flags, mem_lower, mem_upper, boot_device, command_line, module_count, modules;
	uint32_t symbols[4];
	uint32_t map_bytes, map, drive_bytes, drives, config_table, loader_name, apm;
};

struct module {
	uint32_t start, end, text, reserved;
};

struct map_entry {
	uint32_t size;
	uint64_t start, length;
	uint32_t type;
} __attribute__((packed));

/* A piece of the file and where it goes. */
struct segment {
	uint64_t offset, file_bytes, address, memory_bytes;
};

struct multiboot_image {
	uint8_t *file, *module;
	size_t file_size, module_size;
	char *command_line;
	struct segment segments[SEGMENTS_MAX];
	unsigned segment_count;
	uint32_t entry;
	uint64_t start, end; /* of what the kernel occupies */
	uint32_t area;       /* where the boot information goes */
};

/* The offset of the header, or -1. */
static int64_t find_header(const uint8_t *data, size_t size, struct header *header)
{
	for (size_t at = 0; at + 12 <= MIN(size, (size_t)HEADER_SEARCH); at += 4) {
		memset(header, 0, sizeof(*header));
		memcpy(header, data + at, MIN(sizeof(*header), size - at));
		if (header->magic == HEADER_MAGIC &&
		    header->magic + header->flags + header->checksum == 0)
			return (int64_t)at;
	}
	return -1;
}

bool multiboot_probe(int fd)
{
	uint8_t data[HEADER_SEARCH];
	struct header header;
	ssize_t n = pread(fd, data, sizeof(data), 0);
	if (n < 12 || (n > 0x206 && memcmp(data + 0x202, "HdrS", 4) == 0))
		return false;
	return find_header(data, (size_t)n, &header) >= 0;
}

/* --- What goes where --- */

static bool add_segment(struct multiboot_image *image, const struct segment *segment,
			const char *name, GError **error)
{
	if (segment->memory_bytes == 0)
		return true;
	if (image->segment_count == SEGMENTS_MAX || segment->offset > image->file_size ||
	    segment->file_bytes > image->file_size - segment->offset ||
	    segment->file_bytes > segment->memory_bytes || segment->address > UINT32_MAX ||
	    segment->memory_bytes > UINT32_MAX - segment->address)
		return error_set(error, LODGE_ERROR_CORRUPT,
				 "'%s' is cut short or damaged: a segment is outside of it", name);
	image->segments[image->segment_count++] = *segment;
	image->start =
		image->segment_count == 1 ? segment->address : MIN(image->start, segment->address);
	image->end = MAX(image->end, segment->address + segment->memory_bytes);
	return true;
}

static bool scan_addresses(struct multiboot_image *image, const struct header *h, uint64_t at,
			   const char *name, GError **error)
{
	uint64_t before = (uint64_t)h->header_address - h->load_address;
	struct segment segment = {.address = h->load_address};
	if (h->load_address > h->header_address || before > at)
		return error_set(error, LODGE_ERROR_CORRUPT,
				 "'%s' has a Multiboot header with impossible addresses", name);
	segment.offset = at - before;
	uint64_t rest = image->file_size - segment.offset;
	segment.file_bytes = h->load_end ? (uint64_t)h->load_end - h->load_address : rest;
	segment.memory_bytes = segment.file_bytes;
	if (h->bss_end)
		segment.memory_bytes = (uint64_t)h->bss_end - h->load_address;
	image->entry = h->entry;
	return add_segment(image, &segment, name, error);
}

static bool scan_elf32(struct multiboot_image *image, const char *name, GError **error)
{
	Elf32_Ehdr ehdr;
	memcpy(&ehdr, image->file, sizeof(ehdr));
	if (ehdr.e_phentsize != sizeof(Elf32_Phdr) || ehdr.e_phoff > image->file_size ||
	    ehdr.e_phnum * sizeof(Elf32_Phdr) > image->file_size - ehdr.e_phoff)
		return error_set(error, LODGE_ERROR_CORRUPT, "'%s' has a damaged ELF header", name);
	for (unsigned i = 0; i < ehdr.e_phnum; i++) {
		Elf32_Phdr phdr;
		memcpy(&phdr, image->file + ehdr.e_phoff + i * sizeof(phdr), sizeof(phdr));
		const struct segment segment = {phdr.p_offset, phdr.p_filesz, phdr.p_paddr,
						phdr.p_memsz};
		if (phdr.p_type == PT_LOAD && !add_segment(image, &segment, name, error))
			return false;
	}
	image->entry = ehdr.e_entry;
	return true;
}

static bool scan_elf64(struct multiboot_image *image, const char *name, GError **error)
{
	Elf64_Ehdr ehdr;
	memcpy(&ehdr, image->file, sizeof(ehdr));
	if (ehdr.e_phentsize != sizeof(Elf64_Phdr) || ehdr.e_phoff > image->file_size ||
	    ehdr.e_phnum * sizeof(Elf64_Phdr) > image->file_size - ehdr.e_phoff ||
	    ehdr.e_entry > UINT32_MAX)
		return error_set(error, LODGE_ERROR_CORRUPT, "'%s' has a damaged ELF header", name);
	for (unsigned i = 0; i < ehdr.e_phnum; i++) {
		Elf64_Phdr phdr;
		memcpy(&phdr, image->file + ehdr.e_phoff + i * sizeof(phdr), sizeof(phdr));
		const struct segment segment = {phdr.p_offset, phdr.p_filesz, phdr.p_paddr,
						phdr.p_memsz};
		if (phdr.p_type == PT_LOAD && !add_segment(image, &segment, name, error))
			return false;
	}
	image->entry = (uint32_t)ehdr.e_entry;
	return true;
}

static bool scan(struct multiboot_image *image, const char *name, GError **error)
{
	struct header header;
	int64_t at = find_header(image->file, image->file_size, &header);
	const uint8_t *ident = image->file;
	bool ok;
	if (at < 0)
		return error_set(error, LODGE_ERROR_INVALID, "'%s' has no Multiboot header", name);
	if (header.flags & HEADER_HAS_ADDRESSES)
		ok = scan_addresses(image, &header, (uint64_t)at, name, error);
	else if (image->file_size < sizeof(Elf64_Ehdr) || memcmp(ident, ELFMAG, SELFMAG) != 0)
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%s' is no ELF file and its Multiboot header has no addresses",
				 name);
	else if (ident[EI_CLASS] == ELFCLASS64)
		ok = scan_elf64(image, name, error);
	else
		ok = scan_elf32(image, name, error);
	if (ok && image->segment_count == 0)
		ok = error_set(error, LODGE_ERROR_CORRUPT, "'%s' has nothing to load", name);
	image->area = image->start >= LOW_BASE + AREA_BYTES
			      ? LOW_BASE
			      : (uint32_t)((image->end + PAGE - 1) & ~(uint64_t)(PAGE - 1));
	return ok;
}

struct multiboot_image *multiboot_image_new(int kernel_fd, const char *kernel_name, int module_fd,
					    const char *module_name, const char *command_line,
					    GError **error)
{
	struct multiboot_image *image = g_new0(struct multiboot_image, 1);
	/* As other loaders give it: the kernel's name first. */
	image->command_line =
		g_strdup_printf("%s %s", kernel_name, command_line ? command_line : "");
	image->file = boot_file_read(kernel_fd, kernel_name, &image->file_size, error);
	bool ok = image->file && scan(image, kernel_name, error);
	if (ok && module_fd >= 0) {
		image->module = boot_file_read(module_fd, module_name, &image->module_size, error);
		ok = image->module != NULL;
	}
	if (ok && strlen(image->command_line) >= AREA_BYTES - AT_COMMAND_LINE)
		ok = error_set(error, LODGE_ERROR_INVALID,
			       "the kernel's command line is longer than %d bytes",
			       AREA_BYTES - AT_COMMAND_LINE - 1);
	if (ok)
		return image;
	multiboot_image_free(image);
	return NULL;
}

void multiboot_image_free(struct multiboot_image *image)
{
	if (!image)
		return;
	g_free(image->file);
	g_free(image->module);
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

static bool put_segments(struct vm *vm, const struct multiboot_image *image, GError **error)
{
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct segment *s = &image->segments[i];
		uint8_t *at = dma_map(vm, s->address, s->memory_bytes, true);
		if (!at)
			return put(vm, UINT64_MAX - PAGE, "", 1, error);
		memcpy(at, image->file + s->offset, s->file_bytes);
		memset(at + s->file_bytes, 0, s->memory_bytes - s->file_bytes);
		dma_written(vm, s->address, s->memory_bytes);
	}
	return true;
}

static bool put_module(struct vm *vm, const struct multiboot_image *image, struct info *info,
		       GError **error)
{
	uint64_t end = MAX(image->end, (uint64_t)image->area + AREA_BYTES);
	uint64_t at = (end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	struct module module = {.start = (uint32_t)at, .text = image->area + AT_COMMAND_LINE};
	if (!image->module)
		return true;
	module.end = (uint32_t)(at + image->module_size);
	info->flags |= INFO_MODULES;
	info->module_count = 1;
	info->modules = image->area + AT_MODULE;
	return put(vm, image->area + AT_MODULE, &module, sizeof(module), error) &&
	       put(vm, at, image->module, image->module_size, error);
}

static bool put_info(struct vm *vm, const struct multiboot_image *image,
		     const struct boot_memory *memory, GError **error)
{
	static const char loader[] = "Lodge";
	struct map_entry map[32];
	g_assert(memory->map_count <= G_N_ELEMENTS(map));
	struct info info = {.flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP |
				     INFO_LOADER_NAME,
			    .mem_lower = 639,
			    .mem_upper = (uint32_t)((memory->low_bytes - (1 << 20)) >> 10),
			    .command_line = image->area + AT_COMMAND_LINE,
			    .map = image->area + AT_MEMORY_MAP,
			    .map_bytes = memory->map_count * (uint32_t)sizeof(map[0]),
			    .loader_name = image->area + AT_LOADER_NAME};
	for (unsigned i = 0; i < memory->map_count; i++)
		map[i] = (struct map_entry){sizeof(map[0]) - 4, memory->map[i].start,
					    memory->map[i].size, memory->map[i].type};
	return put_module(vm, image, &info, error) &&
	       put(vm, image->area + AT_INFO, &info, sizeof(info), error) &&
	       put(vm, image->area + AT_MEMORY_MAP, map, info.map_bytes, error) &&
	       put(vm, image->area + AT_LOADER_NAME, loader, sizeof(loader), error) &&
	       put(vm, image->area + AT_COMMAND_LINE, image->command_line,
		   strlen(image->command_line) + 1, error);
}

/*
 * What a PC's firmware leaves behind: real-mode interrupt vectors whose handlers only acknowledge
 * (at the top of the BIOS area), the 8259 pair at vectors 0x08 and 0x70 with timer and cascade let
 * through, and the timer at 18.2 Hz.
 */
static bool put_firmware_traces(struct vm *vm, GError **error)
{
	enum { HANDLERS = 0xfff00, MASTER = HANDLERS, SLAVE = HANDLERS + 0x10 };
	/* push ax; mov al,20h; out a0h,al (slave only); out 20h,al; pop ax; iret */
	static const uint8_t master[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
	static const uint8_t slave[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf};
	static const uint8_t ports[][2] = {{0x20, 0x11}, {0x21, 0x08}, {0x21, 4},    {0x21, 1},
					   {0xa0, 0x11}, {0xa1, 0x70}, {0xa1, 2},    {0xa1, 1},
					   {0x21, 0xfa}, {0xa1, 0xff}, {0x43, 0x34}, {0x40, 0},
					   {0x40, 0}};
	uint32_t vectors[256];
	for (unsigned i = 0; i < G_N_ELEMENTS(vectors); i++) {
		bool is_master = i >= 0x08 && i < 0x10, is_slave = i >= 0x70 && i < 0x78;
		uint32_t to = is_master ? MASTER : is_slave ? SLAVE : SLAVE + sizeof(slave) - 1;
		vectors[i] = 0xf000u << 16 | (to & 0xffff);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(ports); i++)
		vm_window_write(vm, WINDOW_PORT, ports[i][0], ports[i][1], 1);
	return put(vm, 0, vectors, sizeof(vectors), error) &&
	       put(vm, MASTER, master, sizeof(master), error) &&
	       put(vm, SLAVE, slave, sizeof(slave), error);
}

static bool put_descriptors(struct vm *vm, uint32_t at, struct cpu_state *state, GError **error)
{
	static const uint64_t gdt[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	uint16_t common = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED;
	state->gdtr = (struct cpu_table){.base = at, .limit = sizeof(gdt) - 1};
	for (unsigned i = SEG_ES; i <= SEG_GS; i++)
		state->seg[i] =
			(struct cpu_segment){.limit = UINT32_MAX, .selector = 0x18, .attr = common};
	state->seg[SEG_CS] = (struct cpu_segment){
		.limit = UINT32_MAX, .selector = 0x10, .attr = common | SEG_CODE};
	return put(vm, at, gdt, sizeof(gdt), error);
}

bool multiboot_image_load(struct vm *vm, const struct multiboot_image *image,
			  const struct boot_memory *memory, struct cpu_state *state, GError **error)
{
	cpu_state_reset(state, true);
	if (!put_firmware_traces(vm, error) || !put_segments(vm, image, error) ||
	    !put_info(vm, image, memory, error) ||
	    !put_descriptors(vm, image->area + AT_GDT, state, error))
		return false;
	state->rip = image->entry;
	state->regs[CPU_RAX] = ENTRY_MAGIC;
	state->regs[CPU_RBX] = image->area + AT_INFO;
	state->rflags = 2;
	state->cr0 = 0x11;
	return true;
}
