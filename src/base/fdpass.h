/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Sends one file descriptor with one byte of data over the unix socket @socket; @fd stays open
 * here. Blocks until sent. Source: unix(7), SCM_RIGHTS. */
bool fdpass_send(int socket, int fd, GError **error);

/* Receives one descriptor sent by fdpass_send; the new descriptor is close-on-exec. Returns it,
 * or -1 with @error set (also when the peer closed or sent none). */
int fdpass_receive(int socket, GError **error);
