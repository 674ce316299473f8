/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * Tap interfaces: Ethernet ports of the host whose other end is a descriptor. For launchers; a
 * machine gets the descriptor. Source: Linux Documentation/networking/tuntap.rst.
 */

/* Opens the tap @name, which is made when it does not exist (NULL: the first free "lodge<N>"),
 * brings it up and, unless @bridge is NULL, makes it a port of that bridge. Frames carry the header
 * of struct virtio_net_hdr in front, and no packet information. Returns the descriptor,
 * close-on-exec; -1 with @error. Sets *name_out (caller frees). A tap that was made here vanishes
 * with the last copy of its descriptor; one that was there before stays. */
int tap_open(const char *name, const char *bridge, char **name_out, GError **error);

/* The host's bridges, sorted; NULL-terminated; caller frees with g_strfreev. */
char **tap_list_bridges(void);
