/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The one error domain of Lodge; the message is what matters, the code tells programs the kind. */
#define LODGE_ERROR (lodge_error_quark())

enum lodge_error {
	LODGE_ERROR_FAILED,      /* anything without a kind of its own */
	LODGE_ERROR_INVALID,     /* bad input: a file, a peer or a person */
	LODGE_ERROR_SYSTEM,      /* a system call failed */
	LODGE_ERROR_BUSY,        /* in use by somebody else (locks) */
	LODGE_ERROR_UNSUPPORTED, /* understood, but not something Lodge does */
	LODGE_ERROR_CORRUPT,     /* an image or a stream contradicts itself */
};

GQuark lodge_error_quark(void);

/* Sets @error to "<message>: <strerror(err)>" with code LODGE_ERROR_SYSTEM; @err is a positive
 * errno value. Always returns false, so that a caller can write `return error_set_errno(...)`. */
bool error_set_errno(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* As above for any code, without an errno. Always returns false. */
bool error_set(GError **error, enum lodge_error code, const char *format, ...) G_GNUC_PRINTF(3, 4);
