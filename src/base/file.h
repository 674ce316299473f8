/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Replaces @path by @length bytes of @data so that a reader, also after a power cut, sees either
 * the old file or the whole new one: temporary file beside it, fsync, rename, fsync of the
 * directory. @mode is the new file's. */
bool file_write_atomic(const char *path, const void *data, size_t length, mode_t mode,
		       GError **error);

/* Reads or writes all of @length bytes at @offset, retrying on short counts and EINTR. Returns 0,
 * or -errno; a read beyond the end of the file is -ENODATA. */
int file_pread_all(int fd, void *buffer, size_t length, off_t offset);
int file_pwrite_all(int fd, const void *buffer, size_t length, off_t offset);
