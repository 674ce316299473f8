// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unpacking of kernel payloads. The decompressors are opened when one is needed, so that a guest
 * with a firmware or a plain ELF kernel does not carry them. The payload of a bzImage ends with
 * four bytes that hold the unpacked size.
 */
#include <dlfcn.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "vmm/loader.h"

enum { UNPACK_MAX = 1 << 30, LZ4_BLOCK = 8 << 20 };

static void *find_function(const char *library, const char *name, GError **error)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	void *function = handle ? dlsym(handle, name) : NULL;
	if (!function)
		error_set(error, LODGE_ERROR_FAILED,
			  "the kernel is packed in a way that needs %s: %s", library, dlerror());
	return function;
}

static uint8_t *unpack_gzip(const uint8_t *data, size_t size, size_t expected, GError **error)
{
	int (*init)(z_streamp, int, const char *, int) =
		find_function("libz.so.1", "inflateInit2_", error);
	int (*run)(z_streamp, int) = init ? find_function("libz.so.1", "inflate", error) : NULL;
	int (*end)(z_streamp) = run ? find_function("libz.so.1", "inflateEnd", error) : NULL;
	if (!end)
		return NULL;
	g_autofree uint8_t *out = g_malloc(expected);
	z_stream stream = {.next_in = (Bytef *)(uintptr_t)data,
			   .avail_in = (uInt)size,
			   .next_out = out,
			   .avail_out = (uInt)expected};
	if (init(&stream, 31, ZLIB_VERSION, (int)sizeof(stream)) != Z_OK)
		return NULL;
	int ret = run(&stream, Z_FINISH);
	end(&stream);
	return ret == Z_STREAM_END && stream.total_out == expected ? g_steal_pointer(&out) : NULL;
}

static uint8_t *unpack_xz(const uint8_t *data, size_t size, size_t expected, GError **error)
{
	lzma_ret (*decode)(uint64_t *, uint32_t, const lzma_allocator *, const uint8_t *, size_t *,
			   size_t, uint8_t *, size_t *, size_t) =
		find_function("liblzma.so.5", "lzma_stream_buffer_decode", error);
	if (!decode)
		return NULL;
	g_autofree uint8_t *out = g_malloc(expected);
	uint64_t limit = UNPACK_MAX;
	size_t in_at = 0, out_at = 0;
	lzma_ret ret = decode(&limit, 0, NULL, data, &in_at, size, out, &out_at, expected);
	return ret == LZMA_OK && out_at == expected ? g_steal_pointer(&out) : NULL;
}

static uint8_t *unpack_lz4(const uint8_t *data, size_t size, size_t expected, GError **error)
{
	int (*decode)(const char *, char *, int, int) =
		find_function("liblz4.so.1", "LZ4_decompress_safe", error);
	if (!decode)
		return NULL;
	g_autofree uint8_t *out = g_malloc(expected);
	size_t at = 4, out_at = 0;
	while (out_at < expected && size - at >= 4) {
		uint32_t block;
		memcpy(&block, data + at, 4);
		at += 4;
		if (block > size - at || block > LZ4_COMPRESSBOUND(LZ4_BLOCK))
			return NULL;
		int room = (int)MIN(expected - out_at, (size_t)LZ4_BLOCK);
		int n = decode((const char *)data + at, (char *)out + out_at, (int)block, room);
		if (n <= 0)
			return NULL;
		at += block;
		out_at += (size_t)n;
	}
	return out_at == expected ? g_steal_pointer(&out) : NULL;
}

static uint8_t *unpack_zstd(const uint8_t *data, size_t size, size_t expected, GError **error)
{
	size_t (*decode)(void *, size_t, const void *, size_t) =
		find_function("libzstd.so.1", "ZSTD_decompress", error);
	size_t (*frame_size)(const void *, size_t) =
		decode ? find_function("libzstd.so.1", "ZSTD_findFrameCompressedSize", error)
		       : NULL;
	unsigned (*is_error)(size_t) =
		frame_size ? find_function("libzstd.so.1", "ZSTD_isError", error) : NULL;
	if (!is_error)
		return NULL;
	g_autofree uint8_t *out = g_malloc(expected);
	size_t frame = frame_size(data, size);
	if (is_error(frame))
		return NULL;
	return decode(out, expected, data, frame) == expected ? g_steal_pointer(&out) : NULL;
}

uint8_t *payload_unpack(const uint8_t *data, size_t size, size_t *unpacked, GError **error)
{
	static const struct {
		uint8_t magic[4];
		uint8_t length;
		uint8_t *(*unpack)(const uint8_t *, size_t, size_t, GError **);
	} formats[] = {
		{{0x1f, 0x8b}, 2, unpack_gzip},
		{{0xfd, '7', 'z', 'X'}, 4, unpack_xz},
		{{0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
		{{0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
	};
	for (unsigned i = 0; size > 8 && i < G_N_ELEMENTS(formats); i++) {
		uint32_t expected;
		if (memcmp(data, formats[i].magic, formats[i].length) != 0)
			continue;
		memcpy(&expected, data + size - 4, 4);
		uint8_t *out = NULL;
		if (expected > 0 && expected <= UNPACK_MAX)
			out = formats[i].unpack(data, size - 4, expected, error);
		if (!out && error && !*error)
			error_set(error, LODGE_ERROR_CORRUPT,
				  "the kernel's payload is damaged and does not unpack");
		*unpacked = expected;
		return out;
	}
	return NULL;
}
