// SPDX-License-Identifier: GPL-2.0-or-later
/* Scattered buffers: measuring, cutting, copying. */
#include "block/iov.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

size_t iov_size(const struct iovec *iov, int count)
{
	size_t total = 0;

	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	return total;
}

int iov_slice(struct iovec *out, const struct iovec *iov, int count, size_t skip, size_t length)
{
	int used = 0;

	for (int i = 0; i < count && length; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		size_t n = MIN(iov[i].iov_len - skip, length);

		out[used].iov_base = (char *)iov[i].iov_base + skip;
		out[used++].iov_len = n;
		length -= n;
		skip = 0;
	}
	g_assert(length == 0);
	return used;
}

enum iov_action { IOV_READ, IOV_WRITE, IOV_ZERO };

static void iov_walk(const struct iovec *iov, int count, size_t skip, char *buffer, size_t length,
		     enum iov_action action)
{
	for (int i = 0; i < count && length; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		size_t n = MIN(iov[i].iov_len - skip, length);
		char *at = (char *)iov[i].iov_base + skip;

		if (action == IOV_READ)
			memcpy(buffer, at, n);
		else if (action == IOV_WRITE)
			memcpy(at, buffer, n);
		else
			memset(at, 0, n);
		if (action != IOV_ZERO)
			buffer += n;
		length -= n;
		skip = 0;
	}
	g_assert(length == 0);
}

void iov_read(const struct iovec *iov, int count, size_t skip, void *buffer, size_t length)
{
	iov_walk(iov, count, skip, buffer, length, IOV_READ);
}

void iov_write(const struct iovec *iov, int count, size_t skip, const void *buffer, size_t length)
{
	iov_walk(iov, count, skip, (char *)(uintptr_t)buffer, length, IOV_WRITE);
}

void iov_zero(const struct iovec *iov, int count, size_t skip, size_t length)
{
	iov_walk(iov, count, skip, NULL, length, IOV_ZERO);
}

bool buffer_is_zero(const void *buffer, size_t length)
{
	const unsigned char *p = buffer;

	if (length == 0)
		return true;
	return p[0] == 0 && memcmp(p, p + 1, length - 1) == 0;
}

bool iov_is_zero(const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++) {
		if (!buffer_is_zero(iov[i].iov_base, iov[i].iov_len))
			return false;
	}
	return true;
}

bool iov_is_aligned(const struct iovec *iov, int count, size_t alignment)
{
	for (int i = 0; i < count; i++) {
		if ((((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (alignment - 1)) != 0)
			return false;
	}
	return true;
}
