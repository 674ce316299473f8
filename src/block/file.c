// SPDX-License-Identifier: GPL-2.0-or-later
/* Host files and block devices as stores of bytes. With O_DIRECT the kernel wants offsets, lengths
 * and memory aligned; whatever is not is carried through an aligned bounce buffer here, partial
 * blocks by read-modify-write under one lock. */
#include "block/file.h"

#include "base/error.h"
#include "block/iov.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BOUNCE_BYTES = 1 << 20, DIRECT_ALIGNMENT = 4096, IOV_BATCH = 256 };

typedef ssize_t (*transfer_fn)(int fd, const struct iovec *iov, int count, off_t offset, int flags);

/* Moves all of @iov, whatever the kernel does in one go. Sets @left to what a read did not get
 * because the file ended. */
static int transfer(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
		    transfer_fn fn, int flags, size_t *left)
{
	size_t total = iov_size(iov, count), done = 0;
	struct iovec part[IOV_BATCH];

	*left = 0;
	while (done < total) {
		size_t skip = done;
		int n = 0;

		for (int i = 0; i < count && n < IOV_BATCH; i++) {
			if (skip >= iov[i].iov_len) {
				skip -= iov[i].iov_len;
				continue;
			}
			part[n].iov_base = (char *)iov[i].iov_base + skip;
			part[n].iov_len = iov[i].iov_len - skip;
			n++;
			skip = 0;
		}
		ssize_t got = fn(f->fd, part, n, (off_t)(offset + done), flags);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0) {
			*left = total - done;
			return 0;
		}
		done += (size_t)got;
		if (f->alignment > 1 && done % f->alignment != 0) {
			*left = total - done; /* O_DIRECT stops so only at the end of the file */
			return 0;
		}
	}
	return 0;
}

static int read_aligned(struct block_file *f, uint64_t offset, const struct iovec *iov, int count)
{
	size_t left;
	int r = transfer(f, offset, iov, count, preadv2, 0, &left);

	if (r == 0 && left)
		iov_zero(iov, count, iov_size(iov, count) - left, left);
	return r;
}

static int write_aligned(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
			 bool sync)
{
	size_t left;
	int r = transfer(f, offset, iov, count, pwritev2, sync ? RWF_DSYNC : 0, &left);

	return r == 0 && left ? -EIO : r;
}

static void *bounce_new(struct block_file *f, size_t length)
{
	void *memory = NULL;

	if (posix_memalign(&memory, MAX(f->alignment, sizeof(void *)), length) != 0)
		g_error("out of memory for a bounce buffer of %zu bytes", length);
	return memory;
}

static bool is_aligned(struct block_file *f, uint64_t offset, const struct iovec *iov, int count)
{
	return f->alignment <= 1 ||
	       (offset % f->alignment == 0 && iov_is_aligned(iov, count, f->alignment));
}

/* Calls @step for pieces of at most BOUNCE_BYTES, each with its surrounding blocks. */
static int bounce_read(struct block_file *f, uint64_t offset, const struct iovec *iov, int count)
{
	size_t total = iov_size(iov, count), done = 0;
	uint64_t mask = f->alignment - 1;
	int r = 0;

	if (total == 0)
		return 0;
	uint64_t span = ((offset + total + mask) & ~mask) - (offset & ~mask);
	size_t room = (size_t)MIN(span, (uint64_t)BOUNCE_BYTES);
	char *bounce = bounce_new(f, room);

	while (done < total && r == 0) {
		uint64_t start = (offset + done) & ~mask;
		size_t head = (size_t)(offset + done - start);
		size_t n = MIN(total - done, room - head);
		struct iovec one = {bounce, (head + n + mask) & ~mask};

		r = read_aligned(f, start, &one, 1);
		if (r == 0)
			iov_write(iov, count, done, bounce + head, n);
		done += n;
	}
	free(bounce);
	return r;
}

static int bounce_piece(struct block_file *f, uint64_t start, char *bounce, size_t head, size_t n,
			const struct iovec *iov, int count, size_t done, bool sync)
{
	uint64_t mask = f->alignment - 1;
	size_t span = (head + n + mask) & ~mask;
	struct iovec first = {bounce, f->alignment};
	struct iovec last = {bounce + span - f->alignment, f->alignment};
	struct iovec all = {bounce, span};
	int r = 0;

	if (head)
		r = read_aligned(f, start, &first, 1);
	if (r == 0 && (head + n) != span && (span > f->alignment || !head))
		r = read_aligned(f, start + span - f->alignment, &last, 1);
	if (r < 0)
		return r;
	iov_read(iov, count, done, bounce + head, n);
	r = write_aligned(f, start, &all, 1, sync);
	if (r == 0 && f->fixed_size && start + span > f->fixed_size_bytes &&
	    ftruncate(f->fd, (off_t)f->fixed_size_bytes) < 0)
		r = -errno;
	return r;
}

static int bounce_write(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
			bool sync)
{
	size_t total = iov_size(iov, count), done = 0;
	uint64_t mask = f->alignment - 1;
	int r = 0;

	if (total == 0)
		return 0;
	uint64_t whole = ((offset + total + mask) & ~mask) - (offset & ~mask);
	size_t room = (size_t)MIN(whole, (uint64_t)BOUNCE_BYTES);
	char *bounce = bounce_new(f, room);

	while (done < total && r == 0) {
		uint64_t start = (offset + done) & ~mask;
		size_t head = (size_t)(offset + done - start);
		size_t n = MIN(total - done, room - head);
		bool partial = ((head | (head + n)) & mask) != 0;

		if (partial)
			g_mutex_lock(&f->edge);
		r = bounce_piece(f, start, bounce, head, n, iov, count, done, sync);
		if (partial)
			g_mutex_unlock(&f->edge);
		done += n;
	}
	free(bounce);
	return r;
}

static int posix_preadv(struct block_file *f, uint64_t offset, const struct iovec *iov, int count)
{
	if (is_aligned(f, offset, iov, count))
		return read_aligned(f, offset, iov, count);
	return bounce_read(f, offset, iov, count);
}

static int posix_pwritev(struct block_file *f, uint64_t offset, const struct iovec *iov, int count,
			 bool sync)
{
	if (is_aligned(f, offset, iov, count))
		return write_aligned(f, offset, iov, count, sync);
	return bounce_write(f, offset, iov, count, sync);
}

static int posix_flush(struct block_file *f)
{
	return fdatasync(f->fd) < 0 ? -errno : 0;
}

static int posix_zero(struct block_file *f, uint64_t offset, uint64_t length, bool unmap)
{
	int mode = unmap ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
			 : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

	for (;;) {
		if (fallocate(f->fd, mode, (off_t)offset, (off_t)length) == 0)
			return 0;
		if (errno != EINTR)
			break;
	}
	return errno == ENOSYS || errno == ENODEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
}

static int posix_truncate(struct block_file *f, uint64_t size)
{
	return ftruncate(f->fd, (off_t)size) < 0 ? -errno : 0;
}

static int posix_size(struct block_file *f, uint64_t *size)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(f->fd, BLKGETSIZE64, size) < 0)
		return -errno;
	return 0;
}

static void posix_close(struct block_file *f)
{
	close(f->fd);
	g_free(f->path);
	g_mutex_clear(&f->edge);
	g_free(f);
}

static const struct block_file_ops posix_ops = {
	.preadv = posix_preadv,
	.pwritev = posix_pwritev,
	.flush = posix_flush,
	.zero = posix_zero,
	.truncate = posix_truncate,
	.size = posix_size,
	.close = posix_close,
};

/* The smallest alignment that the file accepts for O_DIRECT: 512 where a read says so. */
static uint32_t probe_alignment(int fd, uint64_t size)
{
	uint32_t alignment = DIRECT_ALIGNMENT;
	void *memory = NULL;

	if (size < DIRECT_ALIGNMENT || posix_memalign(&memory, DIRECT_ALIGNMENT, 1024) != 0)
		return alignment;
	if (pread(fd, (char *)memory + 512, 512, 512) == 512)
		alignment = 512;
	free(memory);
	return alignment;
}

struct block_file *block_file_from_fd(int fd, const char *path, const struct block_file_mode *mode,
				      GError **error)
{
	struct stat st;
	uint64_t size = 0;

	if (fstat(fd, &st) < 0) {
		error_set_errno(error, errno, "%s: cannot look at the file", path);
		close(fd);
		return NULL;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		error_set(error, LODGE_ERROR_INVALID,
			  "%s: neither a regular file nor a block device", path);
		close(fd);
		return NULL;
	}
	struct block_file *f = g_new0(struct block_file, 1);

	f->ops = &posix_ops;
	f->path = g_strdup(path);
	f->fd = fd;
	f->read_only = mode->read_only;
	f->regular = S_ISREG(st.st_mode);
	f->ignore_flush = mode->unsafe;
	f->alignment = 1;
	g_mutex_init(&f->edge);
	int r = posix_size(f, &size);

	if (r < 0) {
		error_set_errno(error, -r, "%s: cannot find its size", path);
		posix_close(f);
		return NULL;
	}
	if (mode->direct && (fcntl(fd, F_GETFL) & O_DIRECT))
		f->alignment = probe_alignment(fd, size);
	return f;
}

void block_file_close(struct block_file *f)
{
	if (f)
		f->ops->close(f);
}

int block_file_pread(struct block_file *f, uint64_t offset, void *buffer, size_t length)
{
	struct iovec iov = {buffer, length};

	return f->ops->preadv(f, offset, &iov, 1);
}

int block_file_pwrite(struct block_file *f, uint64_t offset, const void *buffer, size_t length)
{
	struct iovec iov = {(void *)(uintptr_t)buffer, length};

	return f->ops->pwritev(f, offset, &iov, 1, false);
}

int block_file_flush(struct block_file *f)
{
	return f->ignore_flush ? 0 : f->ops->flush(f);
}

int block_file_size(struct block_file *f, uint64_t *size)
{
	return f->ops->size(f, size);
}

int block_file_zero(struct block_file *f, uint64_t offset, uint64_t length, bool unmap)
{
	int r = f->ops->zero(f, offset, length, unmap);

	if (r == -EOPNOTSUPP && !unmap)
		r = f->ops->zero(f, offset, length, true);
	if (r != -EOPNOTSUPP)
		return r;
	size_t room = (size_t)MIN(length, (uint64_t)BOUNCE_BYTES);
	char *zeros = bounce_new(f, MAX(room, 1));

	memset(zeros, 0, room);
	for (r = 0; length && r == 0;) {
		size_t n = (size_t)MIN(length, (uint64_t)room);

		r = block_file_pwrite(f, offset, zeros, n);
		offset += n;
		length -= n;
	}
	free(zeros);
	return r;
}
