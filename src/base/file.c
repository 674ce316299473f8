// SPDX-License-Identifier: GPL-2.0-or-later
/* Whole-file and whole-buffer operations on files. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

int file_pread_all(int fd, void *buffer, size_t length, off_t offset)
{
	char *p = buffer;
	while (length > 0) {
		ssize_t n = pread(fd, p, length, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		length -= (size_t)n;
		offset += n;
	}
	return 0;
}

int file_pwrite_all(int fd, const void *buffer, size_t length, off_t offset)
{
	const char *p = buffer;
	while (length > 0) {
		ssize_t n = pwrite(fd, p, length, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		length -= (size_t)n;
		offset += n;
	}
	return 0;
}

static int sync_directory(const char *path)
{
	g_autofree char *dir = g_path_get_dirname(path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int ret = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

bool file_write_atomic(const char *path, const void *data, size_t length, mode_t mode,
		       GError **error)
{
	g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
	int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_errno(error, errno, "cannot create a file beside '%s'", path);
	int ret = file_pwrite_all(fd, data, length, 0);
	if (ret == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		ret = -errno;
	if (close(fd) < 0 && ret == 0)
		ret = -errno;
	if (ret == 0 && rename(temporary, path) < 0)
		ret = -errno;
	if (ret < 0) {
		unlink(temporary);
		return error_set_errno(error, -ret, "cannot write '%s'", path);
	}
	ret = sync_directory(path);
	if (ret < 0)
		return error_set_errno(error, -ret, "cannot make '%s' durable", path);
	return true;
}
