// SPDX-License-Identifier: GPL-2.0-or-later
/* Network cards of `lodge run`. */
#include <string.h>

#include "base/error.h"
#include "cli/run.h"

bool guest_add_nics(struct guest *guest, const GPtrArray *nets, GError **error)
{
	for (guint i = 0; nets && i < nets->len; i++) {
		if (strcmp(nets->pdata[i], "none") != 0)
			return error_set(error, LODGE_ERROR_UNSUPPORTED,
					 "--net '%s': only 'none' is known",
					 (char *)nets->pdata[i]);
	}
	return true;
}
