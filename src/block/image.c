// SPDX-License-Identifier: GPL-2.0-or-later
/* Opening images: the file, its lock, its format, and the backing chain under it. */
#include "block/image.h"

#include "base/error.h"
#include "block/iov.h"
#include "block/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* What is open so far in a chain, to refuse loops. */
struct trail {
	const struct trail *above;
	const struct image *image;
	unsigned depth;
};

static int open_by_path(void *opaque, const char *path, int flags, GError **error)
{
	int fd = open(path, flags);

	if (fd < 0)
		error_set_errno(error, errno, "cannot open %s", path);
	return fd;
}

static struct block_file *file_open(const struct image_env *env, const char *path, bool read_only,
				    GError **error)
{
	bool direct = env->cache == BLOCK_CACHE_NONE || env->cache == BLOCK_CACHE_DIRECTSYNC;
	struct block_file_mode mode = {
		.read_only = read_only,
		.direct = direct,
		.unsafe = env->cache == BLOCK_CACHE_UNSAFE,
	};

	if (env->file)
		return env->file(env->file_opaque, path, &mode, error);
	int flags = O_CLOEXEC | (read_only ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0);
	int fd = env->open ? env->open(env->open_opaque, path, flags, error)
			   : open_by_path(NULL, path, flags, error);

	if (fd < 0) {
		if (error && !*error)
			error_set(error, LODGE_ERROR_SYSTEM, "cannot open %s", path);
		return NULL;
	}
	struct block_file *f = block_file_from_fd(fd, path, &mode, error);

	if (f && !env->unlocked && !block_lock(f->fd, path, !read_only, error)) {
		block_file_close(f);
		return NULL;
	}
	return f;
}

static const struct image_ops *find_format(struct block_file *f, const char *format, GError **error)
{
	static const struct image_ops *const formats[] = {&raw_ops, &qcow2_ops};
	char magic[4] = {0};

	if (!format) {
		int r = block_file_pread(f, 0, magic, sizeof(magic));

		if (r < 0) {
			error_set_errno(error, -r, "%s: cannot read its first bytes", f->path);
			return NULL;
		}
		return memcmp(magic, "QFI\xfb", 4) == 0 ? &qcow2_ops : &raw_ops;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
		if (strcmp(formats[i]->name, format) == 0)
			return formats[i];
	}
	error_set(error, LODGE_ERROR_UNSUPPORTED,
		  "%s: disk format '%s' is not supported; formats are raw and qcow2", f->path,
		  format);
	return NULL;
}

/* A backing name as stored in an image is relative to that image's folder. */
static bool resolve_backing(struct image *image, GError **error)
{
	const char *name = image->backing_path;

	if (g_str_has_prefix(name, "file:"))
		name += strlen("file:");
	const char *colon = strchr(name, ':');
	const char *slash = strchr(name, '/');

	if (colon && (!slash || colon < slash) && name == image->backing_path)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "%s: its backing file '%s' is not a plain file name; write it "
				 "anew with 'qemu-img rebase -u'",
				 image->path, name);
	char *resolved;

	if (g_path_is_absolute(name)) {
		resolved = g_strdup(name);
	} else {
		g_autofree char *folder = g_path_get_dirname(image->path);

		resolved = g_build_filename(folder, name, NULL);
	}
	g_free(image->backing_path);
	image->backing_path = resolved;
	return true;
}

static bool same_file(const struct image *a, const struct image *b)
{
	struct stat sa, sb;

	if (a->file->fd >= 0 && b->file->fd >= 0 && fstat(a->file->fd, &sa) == 0 &&
	    fstat(b->file->fd, &sb) == 0)
		return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
	return strcmp(a->path, b->path) == 0;
}

static bool check_trail(const struct image *image, const struct trail *above, GError **error)
{
	if (above && above->depth >= IMAGE_CHAIN_MAX)
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s: more than %d backing files in a chain; merge some of them",
				 image->path, IMAGE_CHAIN_MAX);
	for (; above; above = above->above) {
		if (same_file(above->image, image))
			return error_set(error, LODGE_ERROR_INVALID,
					 "%s: the backing chain comes back to this file",
					 image->path);
	}
	return true;
}

static void image_free(struct image *image)
{
	block_file_close(image->file);
	g_free(image->backing_path);
	g_free(image->backing_format);
	g_free(image);
}

static struct image *open_below(const struct image_env *env, const char *path, const char *format,
				bool read_only, const struct trail *above, GError **error)
{
	struct image *image = g_new0(struct image, 1);

	image->file = file_open(env, path, read_only, error);
	if (!image->file) {
		image_free(image);
		return NULL;
	}
	image->path = image->file->path;
	image->read_only = read_only;
	image->discard = env->discard;
	image->sync_writes =
		env->cache == BLOCK_CACHE_WRITETHROUGH || env->cache == BLOCK_CACHE_DIRECTSYNC;
	image->ops = find_format(image->file, format, error);
	if (!image->ops || !check_trail(image, above, error) || !image->ops->open(image, error)) {
		image_free(image);
		return NULL;
	}
	if (!image->backing_path)
		return image;

	struct trail trail = {above, image, above ? above->depth + 1 : 1};

	if (!resolve_backing(image, error) ||
	    (!env->no_backing &&
	     !(image->backing = open_below(env, image->backing_path, image->backing_format, true,
					   &trail, error)))) {
		image->ops->close(image);
		image_free(image);
		return NULL;
	}
	return image;
}

struct image *image_open(const struct image_env *env, const char *path, const char *format,
			 bool read_only, GError **error)
{
	return open_below(env, path, format, read_only, NULL, error);
}

int image_close(struct image *image)
{
	int result = image->ops->close(image);

	for (struct image *next; image; image = next) {
		next = image->backing;
		image_free(image);
		if (next)
			next->ops->close(next);
	}
	return result;
}

int image_read(struct image *image, uint64_t offset, const struct iovec *iov, int count,
	       size_t skip, size_t length)
{
	size_t inside = 0;

	if (image && offset < image->size_bytes)
		inside = (size_t)MIN((uint64_t)length, image->size_bytes - offset);
	if (inside < length)
		iov_zero(iov, count, skip + inside, length - inside);
	if (!inside)
		return 0;
	g_autofree struct iovec *part = g_new(struct iovec, count);
	int n = iov_slice(part, iov, count, skip, inside);

	return image->ops->preadv(image, offset, part, n);
}

static void chain_file_free(void *data)
{
	struct block_chain_file *f = data;

	g_free(f->path);
	g_free(f->format);
	g_free(f);
}

static bool chain_has(GPtrArray *chain, const char *path)
{
	g_autofree char *wanted = g_canonicalize_filename(path, NULL);

	for (unsigned i = 0; i < chain->len; i++) {
		const struct block_chain_file *f = g_ptr_array_index(chain, i);
		g_autofree char *have = g_canonicalize_filename(f->path, NULL);

		if (strcmp(have, wanted) == 0)
			return true;
	}
	return false;
}

GPtrArray *block_chain_files(const struct block_options *options, GError **error)
{
	struct image_env env = {
		.open = options->open,
		.open_opaque = options->open_opaque,
		.unlocked = true,
		.no_backing = true,
	};
	g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func(chain_file_free);
	g_autofree char *path = g_strdup(options->file);
	g_autofree char *format = g_strdup(options->format);

	while (path) {
		if (chain_has(chain, path)) {
			error_set(error, LODGE_ERROR_INVALID,
				  "%s: the backing chain comes back to this file", path);
			return NULL;
		}
		if (chain->len > IMAGE_CHAIN_MAX) {
			error_set(error, LODGE_ERROR_INVALID,
				  "%s: more than %d backing files in a chain; merge some of them",
				  options->file, IMAGE_CHAIN_MAX);
			return NULL;
		}
		struct image *image = image_open(&env, path, format, true, error);

		if (!image)
			return NULL;
		struct block_chain_file *f = g_new0(struct block_chain_file, 1);

		f->path = g_steal_pointer(&path);
		f->format = g_strdup(image->ops->name);
		f->read_only = chain->len > 0 || options->read_only;
		g_ptr_array_add(chain, f);
		g_free(format);
		path = g_steal_pointer(&image->backing_path);
		format = g_steal_pointer(&image->backing_format);
		image_close(image);
	}
	return g_steal_pointer(&chain);
}
