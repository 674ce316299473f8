/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/block.h"
#include "block/file.h"

/* Formats. An image is one file read in one format, with its backing image under it.
 *
 * Calls are synchronous and may come from several threads at once, but the caller (the front's
 * range tracker) keeps a write, discard or zero that changes mappings from overlapping any other
 * call, rounded to the image's granularity. */
struct image;

/* Where bytes live: @length bytes at @offset of @file, or zeros where @file is NULL. */
struct extent {
	struct block_file *file;
	uint64_t offset, length;
};

struct image_ops {
	const char *name;
	/* Reads and checks the header and tables. Sets size_bytes, granularities, backing names. */
	bool (*open)(struct image *image, GError **error);
	/* Writes everything out where the image is writable, frees the state. */
	int (*close)(struct image *image);
	/* Answers from memory alone, without waiting: where [offset, offset + length) begins to
	 * live, for reading, or for writing in place. False when that takes more. */
	bool (*map)(struct image *image, uint64_t offset, uint64_t length, bool write,
		    struct extent *extent);
	int (*preadv)(struct image *image, uint64_t offset, const struct iovec *iov, int count);
	int (*pwritev)(struct image *image, uint64_t offset, const struct iovec *iov, int count);
	int (*flush)(struct image *image);
	int (*discard)(struct image *image, uint64_t offset, uint64_t length);
	int (*zero)(struct image *image, uint64_t offset, uint64_t length, bool unmap);
};

/* How the files of a chain are opened. */
struct image_env {
	block_open_fn open;
	void *open_opaque;
	/* Instead of @open where set (tests): returns the store itself. */
	struct block_file *(*file)(void *opaque, const char *path,
				   const struct block_file_mode *mode, GError **error);
	void *file_opaque;
	enum block_cache cache;
	bool unlocked;
	bool discard;
	bool no_backing; /* do not open backing files (listing a chain) */
};

struct image {
	const struct image_ops *ops;
	struct block_file *file;
	struct image *backing; /* or NULL */
	const char *path;      /* the file's */
	bool read_only;
	bool discard;     /* give freed space back to the host */
	bool sync_writes; /* every write durable when done */
	uint64_t size_bytes;
	uint32_t granularity;      /* of mappings: what the range tracker rounds to */
	uint32_t zero_granularity; /* 1: any range */
	char *backing_path;        /* resolved, or NULL */
	char *backing_format;      /* or NULL: not stored */
	void *state;
};

extern const struct image_ops raw_ops;
extern const struct image_ops qcow2_ops;

enum { IMAGE_CHAIN_MAX = 200 };

struct image *image_open(const struct image_env *env, const char *path, const char *format,
			 bool read_only, GError **error);
/* Closes the whole chain. Returns the first -errno met in writing out the top image. */
int image_close(struct image *image);

/* Reads @length bytes into @iov at byte @skip of it; beyond the image's end are zeros. */
int image_read(struct image *image, uint64_t offset, const struct iovec *iov, int count,
	       size_t skip, size_t length);

/* block_open with an environment of the caller's; tests give stores of their own. */
struct block *block_open_env(const struct block_options *options, const struct image_env *env,
			     GError **error);

/* The image under a front, for tests. */
struct image *block_image(struct block *b);
