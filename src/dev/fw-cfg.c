// SPDX-License-Identifier: GPL-2.0-or-later
/* Firmware configuration interface (QEMU docs/specs/fw_cfg.rst). All numbers of the interface
 * itself are big-endian; what items hold is their own matter. */
#include "dev/fw-cfg.h"

#include <string.h>

#include "base/error.h"

enum { PORT = 0x510, PORTS = 12, OFFSET_SELECT = 0, OFFSET_DATA = 1, OFFSET_DMA = 4 };
enum { NAME_BYTES = 56, ENTRY_BYTES = 64, ITEMS = 0x400 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
static const uint8_t dma_signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};

struct file {
	char name[NAME_BYTES];
	GBytes *content;
};

struct fw_cfg {
	struct device device;
	GBytes *items[FW_CFG_FIRST_FILE];
	GPtrArray *files; /* struct file by name; their index + FW_CFG_FIRST_FILE is the key */
	uint16_t key;
	uint32_t offset;
	uint64_t dma_address;
	struct window window;
};

static void put_be(GByteArray *to, uint64_t value, unsigned size)
{
	for (unsigned i = size; i-- > 0;) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		g_byte_array_append(to, &byte, 1);
	}
}

static const uint8_t *item(const struct fw_cfg *fw, gsize *size)
{
	unsigned key = fw->key & 0x3fff; /* bit 14 asked to write once, bit 15: per architecture */
	GBytes *bytes = NULL;
	*size = 0;
	if (fw->key & 0x8000)
		return NULL;
	if (key < FW_CFG_FIRST_FILE)
		bytes = fw->items[key];
	else if (key - FW_CFG_FIRST_FILE < fw->files->len)
		bytes = ((struct file *)fw->files->pdata[key - FW_CFG_FIRST_FILE])->content;
	return bytes ? g_bytes_get_data(bytes, size) : NULL;
}

static uint8_t next_byte(struct fw_cfg *fw)
{
	gsize size;
	const uint8_t *data = item(fw, &size);
	return fw->offset < size ? data[fw->offset++] : 0;
}

/* --- Access by DMA --- */

/* Copies to guest memory; behind the item's end are zeros. */
static bool dma_out(struct fw_cfg *fw, uint64_t address, uint32_t length)
{
	static const uint8_t zeros[4096];
	gsize size;
	const uint8_t *data = item(fw, &size);
	uint32_t there = fw->offset < size ? (uint32_t)MIN(size - fw->offset, length) : 0;
	if (there && !dma_write(fw->device.vm, address, data + fw->offset, there))
		return false;
	fw->offset += there;
	for (uint32_t done = there; done < length;) {
		uint32_t part = MIN(length - done, (uint32_t)sizeof(zeros));
		if (!dma_write(fw->device.vm, address + done, zeros, part))
			return false;
		done += part;
	}
	return true;
}

static void dma_run(struct fw_cfg *fw)
{
	struct vm *vm = fw->device.vm;
	uint64_t at = fw->dma_address;
	uint8_t raw[16];
	uint32_t control, length;
	uint64_t address;
	fw->dma_address = 0;
	if (!dma_read(vm, at, raw, sizeof(raw)))
		return;
	memcpy(&control, raw, 4);
	memcpy(&length, raw + 4, 4);
	memcpy(&address, raw + 8, 8);
	control = GUINT32_FROM_BE(control);
	length = GUINT32_FROM_BE(length);
	address = GUINT64_FROM_BE(address);
	bool ok = true;
	if (control & DMA_SELECT) {
		fw->key = (uint16_t)(control >> 16);
		fw->offset = 0;
	}
	if (control & DMA_READ) {
		ok = dma_out(fw, address, length);
	} else if (control & DMA_WRITE) {
		ok = false; /* no item takes writes */
	} else if (control & DMA_SKIP) {
		gsize size;
		item(fw, &size);
		fw->offset = (uint32_t)MIN((uint64_t)fw->offset + length, size);
	}
	uint32_t result = GUINT32_TO_BE(ok ? 0 : DMA_ERROR);
	dma_write(vm, at, &result, sizeof(result));
}

/* --- Ports --- */

static uint64_t port_read(void *device, uint64_t offset, unsigned size)
{
	struct fw_cfg *fw = device;
	uint64_t value = 0;
	if (offset == OFFSET_DATA && size == 1)
		return next_byte(fw);
	if (offset < OFFSET_DMA)
		return offset == OFFSET_SELECT ? fw->key : 0;
	for (unsigned i = 0; i < size && offset - OFFSET_DMA + i < 8; i++)
		value |= (uint64_t)dma_signature[offset - OFFSET_DMA + i] << (8 * i);
	return value;
}

static void port_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct fw_cfg *fw = device;
	uint32_t big = GUINT32_SWAP_LE_BE((uint32_t)value);
	if (offset == OFFSET_SELECT && size == 2) {
		fw->key = (uint16_t)value;
		fw->offset = 0;
	} else if (offset == OFFSET_DMA && size == 4) {
		fw->dma_address = (uint64_t)big << 32;
	} else if (offset == OFFSET_DMA + 4 && size == 4) {
		fw->dma_address = (fw->dma_address & ~UINT64_C(0xffffffff)) | big;
		dma_run(fw);
	}
}

static const struct window_ops window_ops = {.read = port_read, .write = port_write};

/* --- Items --- */

void fw_cfg_set(struct fw_cfg *fw, unsigned key, const void *data, size_t size)
{
	g_assert(key < FW_CFG_FIRST_FILE);
	if (fw->items[key])
		g_bytes_unref(fw->items[key]);
	fw->items[key] = g_bytes_new(data, size);
}

void fw_cfg_set_integer(struct fw_cfg *fw, unsigned key, uint64_t value, unsigned size)
{
	uint64_t little = GUINT64_TO_LE(value);
	fw_cfg_set(fw, key, &little, size);
}

static void file_free(gpointer data)
{
	struct file *file = data;
	g_bytes_unref(file->content);
	g_free(file);
}

static void make_directory(struct fw_cfg *fw)
{
	g_autoptr(GByteArray) list = g_byte_array_new();
	put_be(list, fw->files->len, 4);
	for (guint i = 0; i < fw->files->len; i++) {
		const struct file *file = fw->files->pdata[i];
		put_be(list, g_bytes_get_size(file->content), 4);
		put_be(list, FW_CFG_FIRST_FILE + i, 2);
		put_be(list, 0, 2);
		g_byte_array_append(list, (const uint8_t *)file->name, NAME_BYTES);
	}
	fw_cfg_set(fw, FW_CFG_DIRECTORY, list->data, list->len);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
	const struct file *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

void fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, size_t size)
{
	g_assert(strlen(name) < NAME_BYTES && fw->files->len < ITEMS);
	struct file *file = g_new0(struct file, 1);
	memcpy(file->name, name, strlen(name));
	file->content = g_bytes_new(data, size);
	g_ptr_array_add(fw->files, file);
	g_ptr_array_sort(fw->files, by_name);
	make_directory(fw);
}

/* --- The device --- */

static void reset(struct device *device)
{
	struct fw_cfg *fw = (struct fw_cfg *)device;
	fw->key = 0;
	fw->offset = 0;
	fw->dma_address = 0;
}

static const struct state_field fields[] = {
	STATE_SCALAR(struct fw_cfg, key),
	STATE_SCALAR(struct fw_cfg, offset),
	STATE_SCALAR(struct fw_cfg, dma_address),
};
static const struct state_table state = {
	.version = 1, .min_version = 1, .fields = fields, .field_count = G_N_ELEMENTS(fields)};

static void fw_cfg_free(struct device *device)
{
	struct fw_cfg *fw = (struct fw_cfg *)device;
	window_unmap(device->vm, &fw->window);
	for (unsigned i = 0; i < FW_CFG_FIRST_FILE; i++)
		g_clear_pointer(&fw->items[i], g_bytes_unref);
	g_ptr_array_free(fw->files, TRUE);
	g_free(fw);
}

static const struct device_class class = {
	.name = "fw-cfg", .reset = reset, .free = fw_cfg_free, .state = &state};

struct fw_cfg *fw_cfg_new(struct vm *vm)
{
	struct fw_cfg *fw = g_new0(struct fw_cfg, 1);
	device_add(vm, &fw->device, &class, NULL);
	fw->files = g_ptr_array_new_with_free_func(file_free);
	fw_cfg_set(fw, FW_CFG_SIGNATURE, dma_signature, 4);
	fw_cfg_set_integer(fw, FW_CFG_ID, 3, 4); /* bit 0: this interface, bit 1: DMA */
	make_directory(fw);
	window_init(&fw->window, WINDOW_PORT, &window_ops, fw, PORTS);
	window_map(vm, &fw->window, PORT);
	reset(&fw->device);
	return fw;
}
