/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Reads a size as people write it: a decimal number with an optional fraction and one of the
 * suffixes K M G T P E (powers of 1024, either case, optionally followed by "iB" or "B"). Without
 * a suffix the number counts @unit bytes (1 for bytes, 1 << 20 for MiB). Sets @bytes on success;
 * fails on signs, rubbish, and values beyond INT64_MAX. */
bool units_parse_size(const char *text, uint64_t unit, uint64_t *bytes, GError **error);

/* "512 MiB", "1.5 GiB": the largest unit that keeps the value at or above 1. Caller frees. */
char *units_format_size(uint64_t bytes);
