// SPDX-License-Identifier: GPL-2.0-or-later
/* The error domain that all rooms share. */
#include "base/error.h"

GQuark lodge_error_quark(void)
{
	return g_quark_from_static_string("lodge-error");
}

bool error_set_errno(GError **error, int err, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *what = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, LODGE_ERROR, LODGE_ERROR_SYSTEM, "%s: %s", what, g_strerror(err));
	return false;
}

bool error_set(GError **error, enum lodge_error code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *what = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, LODGE_ERROR, code, what);
	return false;
}
