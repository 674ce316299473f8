/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* What formats stack over: a file of bytes, synchronous, callable from any thread at once. The
 * engine goes round these calls, straight to @fd, where there is one. Reads beyond the end give
 * zeros. All return 0 or -errno. */
struct block_file;

struct block_file_ops {
	int (*preadv)(struct block_file *f, uint64_t offset, const struct iovec *iov, int count);
	/* @sync: the data is durable when this returns. */
	int (*pwritev)(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
		       bool sync);
	int (*flush)(struct block_file *f);
	/* Makes the range read as zeros without writing it, or -EOPNOTSUPP. */
	int (*zero)(struct block_file *f, uint64_t offset, uint64_t length, bool unmap);
	int (*truncate)(struct block_file *f, uint64_t size);
	int (*size)(struct block_file *f, uint64_t *size);
	void (*close)(struct block_file *f);
};

struct block_file {
	const struct block_file_ops *ops;
	char *path;         /* for messages and for finding relative backing files */
	int fd;             /* -1: not a plain descriptor */
	uint32_t alignment; /* of offsets, lengths and memory for direct use of @fd; 1 = none */
	bool read_only;
	bool regular;      /* fresh space beyond the end reads as zeros */
	bool ignore_flush; /* cache mode unsafe */
	bool fixed_size;   /* raw image: must not grow by rounding */
	uint64_t fixed_size_bytes;
	GMutex edge; /* serializes read-modify-write of partial blocks */
};

/* Opens @path through the opener with the flags for these modes. */
struct block_file_mode {
	bool read_only;
	bool direct;
	bool unsafe;
};

/* Takes ownership of @fd, also on failure. */
struct block_file *block_file_from_fd(int fd, const char *path, const struct block_file_mode *mode,
				      GError **error);

/* A file in memory, for tests and fuzzing. Grows up to @limit bytes, then -ENOSPC. */
struct block_file *block_file_new_memory(const char *path, const void *data, size_t length,
					 uint64_t limit);
/* The content as it is now; valid until the next write. */
const void *block_file_memory(struct block_file *f, size_t *length);

/* Frees @f through its ops. NULL is allowed. */
void block_file_close(struct block_file *f);

int block_file_pread(struct block_file *f, uint64_t offset, void *buffer, size_t length);
int block_file_pwrite(struct block_file *f, uint64_t offset, const void *buffer, size_t length);
int block_file_flush(struct block_file *f); /* nothing in mode unsafe */
int block_file_size(struct block_file *f, uint64_t *size);

/* Writes zeros, by the file system's means where it has any. */
int block_file_zero(struct block_file *f, uint64_t offset, uint64_t length, bool unmap);
