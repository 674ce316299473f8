/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

/*
 * The description of one machine, as lodge-vmm gets it (docs/lodge-vmm.md has the JSON), parsed
 * into checked structs. Files come as descriptors that the launcher has opened: `fd`, with the name
 * only for messages.
 */

struct machine_file {
	int fd; /* -1: none */
	char *name;
};

/* One image file of a disk's chain; the first is the top. */
struct machine_image {
	struct machine_file file;
	char *format; /* NULL: look at the file (top image only) */
	bool read_only;
};

struct machine_disk {
	GPtrArray *images; /* struct machine_image */
	char *cache;       /* none, writethrough, writeback, directsync, unsafe */
	char *serial;      /* up to 20 characters, or NULL */
	bool read_only, discard;
	unsigned queues;
};

struct machine_nic {
	int fd; /* tap, or a connected stream socket of passt */
	bool is_tap;
	uint8_t mac[6];
};

struct machine_config {
	char *name;
	uint8_t uuid[16];
	uint64_t memory_bytes;
	bool huge_pages, shared_memory, mergeable;
	unsigned cpus;
	char *accel; /* auto, kvm, soft, kvm,soft */
	bool no_reboot, paused;
	bool no_sandbox;      /* for debugging: see jail.h */
	unsigned uid, gid;    /* whom to become instead of root */
	bool end_with_parent; /* when the process that started this one ends */
	bool test_device;     /* the ports that test guests want */
	struct machine_file kernel, initrd, firmware;
	char *append;
	char *serial;     /* a character back end: see host/char.h */
	char *console;    /* of the virtio console, NULL: none */
	GPtrArray *ports; /* further virtio-console ports: struct machine_port */
	GPtrArray *disks, *nics;
	bool rng;
	bool packed;                   /* virtio devices offer packed rings */
	struct machine_file control;   /* a listening unix socket */
	struct machine_file debug_log; /* where bytes written to port 0x402 go */
	struct machine_file status;    /* gets one line of JSON at the end */
};

struct machine_port {
	char *name, *backend;
};

/* NULL with @error for anything that is unknown, missing or out of range. */
struct machine_config *machine_config_parse(const struct json *json, GError **error);
void machine_config_free(struct machine_config *config);
