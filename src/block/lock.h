/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Locks an open image against other users of it, ours and QEMU's alike: open-file-description locks
 * on single bytes. A user holds, shared, byte 100 + p for each right p it uses (0 read, 1 write,
 * 3 resize) and byte 200 + p for each right it grants nobody else; it is refused when somebody
 * holds the opposite byte. docs/block.md has the table. The locks go with the descriptor.
 * False with LODGE_ERROR_BUSY and the holder's name. File systems without locks pass. */
bool block_lock(int fd, const char *path, bool writable, GError **error);
