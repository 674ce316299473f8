/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* The front of the block room: one open disk image, whatever its format and however long its
 * backing chain, as a flat array of bytes. docs/block.md tells the life of a request.
 *
 * Threads: the asynchronous calls, the synchronous ones and block_drain may be called from any
 * thread, with no lock of the caller's that a completion also takes. Completions run in the
 * GMainContext given at open, never inside the submitting call. block_close must be the last call,
 * from the thread that runs the context (or while none does), and not from a completion.
 *
 * Requests that overlap are carried out in some order, as on any disk; a request that changes the
 * mapping of a cluster never overlaps another on that cluster. */
struct block;

enum block_cache {
	BLOCK_CACHE_WRITEBACK,    /* host page cache, durable after a flush */
	BLOCK_CACHE_NONE,         /* O_DIRECT, durable after a flush */
	BLOCK_CACHE_WRITETHROUGH, /* host page cache, every write durable when it completes */
	BLOCK_CACHE_DIRECTSYNC,   /* O_DIRECT, every write durable when it completes */
	BLOCK_CACHE_UNSAFE,       /* host page cache, flushes ignored */
};

enum block_kind {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD,
	BLOCK_ZEROES,
	BLOCK_KINDS,
};

/* Opens @path with open(2) @flags (O_CLOEXEC included); returns a descriptor that the block room
 * then owns, or -1 with the error set. A sandboxed caller hands out what it was given by name. */
typedef int (*block_open_fn)(void *opaque, const char *path, int flags, GError **error);

/* @result is 0 or -errno. -EIO also stands for an image found to be corrupt. */
typedef void (*block_done_fn)(void *opaque, int result);

struct block_options {
	const char *file;
	/* "raw", "qcow2", or NULL to look at the content. Looking is dangerous for a raw image that
	 * a guest can write: the guest may put a qcow2 header there that names any host file as its
	 * backing file. Give the format whenever it is known. */
	const char *format;
	enum block_cache cache;
	bool read_only;
	bool unlocked;         /* take no locks (reading an image that somebody else has open) */
	bool no_io_uring;      /* thread pool only */
	bool discard;          /* discards free space in the file; otherwise they do nothing */
	bool detect_zeroes;    /* writes of nothing but zeros become block_write_zeroes */
	GMainContext *context; /* NULL: the default one */
	block_open_fn open;    /* NULL: open(2) */
	void *open_opaque;
};

struct block_info {
	const char *format;
	uint64_t size_bytes;
	bool read_only;
	bool discard;
	uint32_t discard_granularity_bytes; /* smaller or unaligned parts are left as they are */
	uint32_t zero_granularity_bytes;    /* what can be zeroed without writing zeros */
	uint32_t alignment_bytes; /* requests and buffers aligned so avoid a copy; never required */
};

struct block_stats {
	struct {
		uint64_t ops, bytes, ns, errors;
	} kind[BLOCK_KINDS];
	uint64_t direct_ops; /* of these, went to io_uring without a worker thread */
};

struct block *block_open(const struct block_options *options, GError **error);

/* Waits for all requests, writes everything out (durably) and frees @b. Returns 0, or the first
 * -errno met in writing out. */
int block_close(struct block *b);

void block_get_info(struct block *b, struct block_info *info);
uint64_t block_size_bytes(struct block *b);
void block_get_stats(struct block *b, struct block_stats *stats);

/* Bytes need no alignment. @iov is copied; the memory it points to must stay until @done. */
void block_preadv(struct block *b, uint64_t offset, const struct iovec *iov, int iov_count,
		  block_done_fn done, void *opaque);
void block_pwritev(struct block *b, uint64_t offset, const struct iovec *iov, int iov_count,
		   block_done_fn done, void *opaque);

/* Makes durable every write that completed before this call. */
void block_flush(struct block *b, block_done_fn done, void *opaque);

/* The range may read as anything that was in it, or zeros, afterwards. */
void block_discard(struct block *b, uint64_t offset, uint64_t length, block_done_fn done,
		   void *opaque);

/* @unmap: host space may be given back (only with the discard option). */
void block_write_zeroes(struct block *b, uint64_t offset, uint64_t length, bool unmap,
			block_done_fn done, void *opaque);

/* Returns when every request submitted before has completed. In a thread that owns the context (or
 * when no thread does) it runs the completions itself, and nothing else of the context; otherwise
 * the thread that runs the context must go on running. */
void block_drain(struct block *b);

/* The same operations for tools and loaders: done when they return, 0 or -errno. */
int block_pread_sync(struct block *b, uint64_t offset, void *buffer, size_t length);
int block_pwrite_sync(struct block *b, uint64_t offset, const void *buffer, size_t length);
int block_flush_sync(struct block *b);
int block_discard_sync(struct block *b, uint64_t offset, uint64_t length);
int block_write_zeroes_sync(struct block *b, uint64_t offset, uint64_t length, bool unmap);

/* One file of a backing chain, top first. */
struct block_chain_file {
	char *path;
	char *format;
	bool read_only;
};

/* Lists the files that block_open would open for these options (file, format, read_only, open), so
 * that a launcher can open them beforehand. Chains that loop or are longer than 200 are refused.
 * Returns an array of struct block_chain_file * that frees its elements. */
GPtrArray *block_chain_files(const struct block_options *options, GError **error);

struct block_create_options {
	const char *file;
	const char *format;         /* "raw" or "qcow2" */
	uint64_t size_bytes;        /* 0 with a backing file: the backing file's */
	const char *backing_file;   /* qcow2 only, stored as given */
	const char *backing_format; /* required with backing_file */
	uint32_t cluster_bits;      /* 0: 16 */
	uint32_t refcount_bits;     /* 0: 16 */
	uint32_t version;           /* 0: 3; 2 for the old "compat 0.10" */
	bool extended_l2;
	bool lazy_refcounts;
	bool zstd; /* compression type of the image */
};

/* Creates an empty image, replacing what is there. Refuses a file that somebody has open. */
bool block_create(const struct block_create_options *options, GError **error);
