// SPDX-License-Identifier: GPL-2.0-or-later
/* io_uring as the engine under images: submission in batches, completion by polling the ring's own
 * descriptor. */
#include "block/engine.h"

#include <errno.h>
#include <liburing.h>

struct engine {
	struct io_uring ring;
	unsigned queued;
	unsigned depth;
};

struct engine *engine_new(unsigned depth)
{
	struct engine *e = g_new0(struct engine, 1);

	/* Completions wait until we enter the kernel anyway; older kernels do not know the flag. */
	if (io_uring_queue_init(depth, &e->ring, IORING_SETUP_COOP_TASKRUN) < 0 &&
	    io_uring_queue_init(depth, &e->ring, 0) < 0) {
		g_free(e);
		return NULL;
	}
	e->depth = depth;
	return e;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	io_uring_queue_exit(&e->ring);
	g_free(e);
}

int engine_fd(struct engine *e)
{
	return e->ring.ring_fd;
}

void engine_queue(struct engine *e, struct block_file *f, bool write, bool sync, uint64_t offset,
		  const struct iovec *iov, int count, struct engine_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);

	if (!sqe) {
		engine_submit(e);
		sqe = io_uring_get_sqe(&e->ring);
	}
	if (!sqe) {
		op->done(op,
			 -EAGAIN); /* the kernel takes no more now: the caller has another way */
		return;
	}
	if (count == 1 && write)
		io_uring_prep_write(sqe, f->fd, iov->iov_base, (unsigned)iov->iov_len, offset);
	else if (count == 1)
		io_uring_prep_read(sqe, f->fd, iov->iov_base, (unsigned)iov->iov_len, offset);
	else if (write)
		io_uring_prep_writev(sqe, f->fd, iov, (unsigned)count, offset);
	else
		io_uring_prep_readv(sqe, f->fd, iov, (unsigned)count, offset);
	if (write && sync)
		sqe->rw_flags = RWF_DSYNC;
	io_uring_sqe_set_data(sqe, op);
	if (++e->queued >= e->depth / 2)
		engine_submit(e);
}

bool engine_submit(struct engine *e)
{
	while (e->queued) {
		int n = io_uring_submit(&e->ring);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return true; /* EAGAIN or EBUSY */
		e->queued -= MIN((unsigned)n, e->queued);
	}
	return false;
}

void engine_reap(struct engine *e)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&e->ring, &cqe) == 0) {
		struct engine_op *op = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&e->ring, cqe);
		op->done(op, result);
	}
}
