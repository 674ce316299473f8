/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/json.h"
#include "vmm/board.h"
#include "vmm/status.h"

/*
 * The control socket: JSON in QMP's form (qemu.org, "QEMU Machine Protocol Specification"), several
 * clients at a time. Main thread. A client is cut off when it does not read its answers; nobody
 * waits for it.
 *
 * Each client first gets a greeting, must send qmp_capabilities, and then sends objects
 * {"execute": NAME, "arguments": {...}, "id": ANY}; each gets {"return": ...} or {"error":
 * {"class", "desc"}}, with its id. Events go to every client that has negotiated.
 */

struct control;

/* Serves @listener (not taken over) until control_free. */
struct control *control_new(struct board *board, int listener);
/* Gives clients a moment to take what was sent; closes. NULL is none. */
void control_free(struct control *control);
/* Passes an event of the machine on. */
void control_event(struct control *control, enum vm_event_kind kind, const char *detail);

/* --- Between control.c and control-commands.c --- */

struct control_argument {
	const char *name; /* NULL ends the list */
	enum json_type type;
	bool required;
};

struct control_session {
	struct board *board;
	struct status_mark mark;
	bool negotiated;
};

struct control_command {
	const char *name;
	const struct control_argument *arguments; /* NULL: takes none */
	/* Appends the value of "return" (nothing: an empty object). False with @error. The
	 * arguments were checked against the table; NULL where none were given. */
	bool (*run)(struct control_session *session, const struct json *arguments, GString *value,
		    GError **error);
};

const struct control_command *control_command_find(const char *name);
/* The event's name in the protocol, and its data appended to @data ("" for none). */
const char *control_event_name(struct vm *vm, enum vm_event_kind kind, const char *detail,
			       GString *data);
/* {"major":0,"minor":1,"micro":0} and the package name. */
void control_append_version(GString *to);
