/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* Helpers over scattered buffers. Offsets and lengths are bytes and must lie inside the vector. */
size_t iov_size(const struct iovec *iov, int count);

/* Describes bytes [skip, skip + length) of @iov in @out, which has room for @count elements.
 * Returns how many were used. */
int iov_slice(struct iovec *out, const struct iovec *iov, int count, size_t skip, size_t length);

void iov_read(const struct iovec *iov, int count, size_t skip, void *buffer, size_t length);
void iov_write(const struct iovec *iov, int count, size_t skip, const void *buffer, size_t length);
void iov_zero(const struct iovec *iov, int count, size_t skip, size_t length);
bool iov_is_zero(const struct iovec *iov, int count);
bool iov_is_aligned(const struct iovec *iov, int count, size_t alignment);
bool buffer_is_zero(const void *buffer, size_t length);
