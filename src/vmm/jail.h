/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * Locks this process in, before the guest's first instruction and with all that it needs already
 * open: no new privileges, no capabilities, an unprivileged user where it was root, no core files,
 * and a filter of system calls (jail-filter.c has the list). Opening a file fails with EACCES
 * afterwards; starting a program, making a socket or a process, and all else that a machine never
 * does ends the process with SIGSYS and a message. Source: seccomp(2), capabilities(7).
 */

/* Drops capabilities that a user other than root may have been given. Before there are threads. */
void jail_drop_capabilities(void);

/* Where this is root, becomes @uid and @gid, in all threads, without capabilities. */
bool jail_leave_root(uid_t uid, gid_t gid, GError **error);
/* The rest, for all threads that exist. For good. */
bool jail_enter(GError **error);
