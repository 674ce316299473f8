// SPDX-License-Identifier: GPL-2.0-or-later
/* Opens the bytes as a qcow2 image in memory, for writing if it lets us, and reads, writes, zeroes
 * and discards here and there. The first byte after the image's 112-byte header does double duty as
 * the choice of places. */
#include "block/image.h"

#include <string.h>

enum { FILE_MAX = 4 << 20, PIECE = 70000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

struct input {
	const uint8_t *data;
	size_t length;
};

static struct block_file *input_file(void *opaque, const char *path,
				     const struct block_file_mode *mode, GError **error)
{
	const struct input *in = opaque;

	return block_file_new_memory(path, in->data, in->length, FILE_MAX);
}

static void silence(const char *domain, GLogLevelFlags level, const char *message, void *opaque)
{
}

/* Each step leaves its mark in @seen, so that reads count. */
static uint8_t use(struct image *image, uint64_t at, uint8_t *buffer)
{
	uint64_t size = image->size_bytes;
	struct extent extent;

	if (at >= size)
		return 0;
	uint64_t n = MIN(size - at, (uint64_t)PIECE);
	struct iovec iov = {buffer, (size_t)n};

	image->ops->map(image, at, n, false, &extent);
	image->ops->preadv(image, at, &iov, 1);
	if (image->read_only)
		return buffer[0];
	image->ops->pwritev(image, at, &iov, 1);
	image->ops->map(image, at, n, true, &extent);
	image->ops->zero(image, at + n / 4, n / 2, at & 1);
	image->ops->discard(image, at + n / 3, n / 3);
	image->ops->preadv(image, at, &iov, 1);
	return buffer[n - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const char *const path = "fuzz.qcow2";
	struct input in = {data, length};
	struct image_env env = {
		.file = input_file, .file_opaque = &in, .no_backing = true, .discard = true};
	g_autofree uint8_t *buffer = g_malloc0(PIECE);

	if (length > FILE_MAX)
		return 0;
	g_log_set_default_handler(silence, NULL);
	for (int read_only = 0; read_only < 2; read_only++) {
		g_autoptr(GError) error = NULL;
		struct image *image = image_open(&env, path, "qcow2", read_only, &error);

		if (!image) {
			g_assert(error && strstr(error->message, path));
			continue;
		}
		uint64_t size = image->size_bytes;
		uint64_t odd = length > 112 ? (uint64_t)data[112] * 4099 : 1;

		use(image, 0, buffer);
		use(image, odd, buffer);
		use(image, size / 2, buffer);
		use(image, size > 1000 ? size - 1000 : 0, buffer);
		image->ops->flush(image);
		use(image, odd + 65536, buffer);
		image_close(image);
	}
	return 0;
}
