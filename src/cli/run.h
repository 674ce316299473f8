/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * `lodge run` in three steps: options (run.c), a description with everything open (run-describe.c,
 * run-net.c), and a lodge-vmm with its terminal (run-launch.c, terminal.c). One thread.
 */

struct run_options {
	char *kernel, *initrd, *append, *firmware;
	uint64_t memory_bytes;
	unsigned cpus;
	GPtrArray *disks, *nets, *ports; /* char *, or NULL */
	char *accel, *serial, *console, *control, *name, *uuid, *status_json, *debug_log;
	bool no_reboot, huge_pages, shared_memory, mergeable, rng, packed, paused, no_sandbox;
	bool dry_run, help;
};

/* What a described guest holds on the host. */
struct guest {
	GString *json;
	GArray *fds;       /* int: what lodge-vmm inherits; the json names them */
	GPtrArray *remove; /* char *: files to remove at the end */
	GPtrArray *notes;  /* char *: what the user should know before the guest starts */
	bool has_stdio;
	int terminal;  /* our end of the serial port on stdio, -1: none */
	int status_fd; /* a memory file that lodge-vmm writes its last status to, -1: none */
};

/* Opens all that @options name. On failure everything is closed and removed again. */
struct guest *guest_describe(const struct run_options *options, GError **error);
/* Adds the "nics" of @nets to the description. */
bool guest_add_nics(struct guest *guest, const GPtrArray *nets, GError **error);
/* Notes @fd as one that lodge-vmm gets, and takes it over. Returns it. */
int guest_give_fd(struct guest *guest, int fd);
/* Closes what lodge-vmm has by now: our copies would keep locks and connections alive. */
void guest_close_fds(struct guest *guest);
/* Removes files, closes. NULL is none. */
void guest_free(struct guest *guest);

/* Starts lodge-vmm and stays with it until it ends: relays the terminal, passes signals on.
 * Returns the exit status (vmm/exit.h), or -1 with @error when it could not be started. */
int guest_run(struct guest *guest, GError **error);
