// SPDX-License-Identifier: GPL-2.0-or-later
/* The commands of the control socket, in one table, and the names of events. */
#include <string.h>

#include "base/error.h"
#include "block/block.h"
#include "vmm/control.h"

/* --- The protocol itself --- */

static const struct control_argument capabilities_arguments[] = {{"enable", JSON_ARRAY, false},
								 {NULL}};

static bool qmp_capabilities(struct control_session *session, const struct json *arguments,
			     GString *value, GError **error)
{
	const struct json *enable = arguments ? json_member(arguments, "enable") : NULL;
	if (enable && enable->items->len > 0)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "there are no capabilities that could be enabled");
	session->negotiated = true;
	return true;
}

void control_append_version(GString *to)
{
	int major = 0, minor = 0, micro = 0;
	g_auto(GStrv) parts = g_strsplit(LODGE_VERSION, ".", 3);
	int *numbers[] = {&major, &minor, &micro};
	for (unsigned i = 0; i < 3 && parts[i]; i++)
		*numbers[i] = (int)g_ascii_strtoll(parts[i], NULL, 10);
	g_string_append(to, "{\"lodge\":{");
	json_append_member_int(to, "major", major);
	json_append_member_int(to, "minor", minor);
	json_append_member_int(to, "micro", micro);
	g_string_append(to, "},\"package\":\"lodge-" LODGE_VERSION "\"}");
}

static bool query_version(struct control_session *session, const struct json *arguments,
			  GString *value, GError **error)
{
	control_append_version(value);
	return true;
}

/* [{"name":...},...] */
static void append_name(GString *to, const char *name)
{
	g_string_append(to, to->str[to->len - 1] == '[' ? "{" : ",{");
	json_append_member_string(to, "name", name);
	g_string_append_c(to, '}');
}

static const char *const event_names[] = {
	[VM_EVENT_RESUME] = "RESUME",       [VM_EVENT_STOP] = "STOP",
	[VM_EVENT_RESET] = "RESET",         [VM_EVENT_SHUTDOWN] = "SHUTDOWN",
	[VM_EVENT_POWERDOWN] = "POWERDOWN", [VM_EVENT_GUEST_PANICKED] = "GUEST_PANICKED",
	[VM_EVENT_ERROR] = "X_LODGE_ERROR", [VM_EVENT_HANDOVER] = "X_LODGE_HANDOVER",
};
#define BLOCK_IO_ERROR "BLOCK_IO_ERROR"

static bool query_events(struct control_session *session, const struct json *arguments,
			 GString *value, GError **error)
{
	g_string_append_c(value, '[');
	for (unsigned i = 0; i < G_N_ELEMENTS(event_names); i++)
		append_name(value, event_names[i]);
	append_name(value, BLOCK_IO_ERROR);
	g_string_append_c(value, ']');
	return true;
}

/* --- Run state --- */

static bool query_status(struct control_session *session, const struct json *arguments,
			 GString *value, GError **error)
{
	enum run_state state = session->board->vm->state;
	g_string_append_c(value, '{');
	json_append_member_string(value, "status", run_state_name(state));
	json_append_member_bool(value, "running", state == RUN_RUNNING);
	g_string_append_c(value, '}');
	return true;
}

static bool stop(struct control_session *session, const struct json *arguments, GString *value,
		 GError **error)
{
	if (session->board->vm->state == RUN_RUNNING)
		vm_stop(session->board->vm, RUN_PAUSED);
	return true;
}

static bool cont(struct control_session *session, const struct json *arguments, GString *value,
		 GError **error)
{
	return vm_start(session->board->vm, error);
}

static bool system_powerdown(struct control_session *session, const struct json *arguments,
			     GString *value, GError **error)
{
	vm_powerdown(session->board->vm);
	return true;
}

static bool system_reset(struct control_session *session, const struct json *arguments,
			 GString *value, GError **error)
{
	vm_request_reset(session->board->vm, "host-qmp-system-reset");
	return true;
}

static bool quit(struct control_session *session, const struct json *arguments, GString *value,
		 GError **error)
{
	vm_request_shutdown(session->board->vm, "host-qmp-quit");
	return true;
}

/* --- The machine --- */

static bool query_name(struct control_session *session, const struct json *arguments,
		       GString *value, GError **error)
{
	g_string_append_c(value, '{');
	json_append_member_string(value, "name", session->board->config->name);
	g_string_append_c(value, '}');
	return true;
}

static bool query_uuid(struct control_session *session, const struct json *arguments,
		       GString *value, GError **error)
{
	char text[40], *p = text;
	for (unsigned i = 0; i < 16; i++) {
		const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
		p += g_snprintf(p, 4, "%s%02x", dash, session->board->config->uuid[i]);
	}
	g_string_append_c(value, '{');
	json_append_member_string(value, "UUID", text);
	g_string_append_c(value, '}');
	return true;
}

static bool query_cpus_fast(struct control_session *session, const struct json *arguments,
			    GString *value, GError **error)
{
	const struct vm *vm = session->board->vm;
	g_string_append_c(value, '[');
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		g_string_append(value, i ? ",{" : "{");
		json_append_member_int(value, "cpu-index", i);
		json_append_member_int(value, "thread-id", vm->vcpus[i]->tid);
		json_append_member_string(value, "target", "x86_64");
		g_autofree char *path = g_strdup_printf("/machine/cpu[%u]", i);
		json_append_member_string(value, "qom-path", path);
		g_string_append_c(value, '}');
	}
	g_string_append_c(value, ']');
	return true;
}

static bool query_accelerator(struct control_session *session, const struct json *arguments,
			      GString *value, GError **error)
{
	const struct board *board = session->board;
	g_string_append_c(value, '{');
	json_append_member_string(value, "name", board->vm->accel->name);
	json_append_member_string(value, "requested", board->config->accel);
	json_append_member_string(value, "reason", board->accel.reason);
	json_append_member_string(value, "fallback",
				  board->vm->fallback ? board->vm->fallback->name : NULL);
	g_string_append_c(value, '}');
	return true;
}

static bool lodge_status(struct control_session *session, const struct json *arguments,
			 GString *value, GError **error)
{
	status_append(value, session->board, &session->mark);
	return true;
}

/* --- Disks --- */

static const char *disk_file(const struct machine_disk *disk)
{
	const struct machine_image *top = disk->images->pdata[0];
	return top->file.name;
}

static void append_disk(GString *to, unsigned index, const struct machine_disk *disk,
			struct block *block)
{
	struct block_info info;
	block_get_info(block, &info);
	g_autofree char *device = g_strdup_printf("disk%u", index);
	json_append_member_string(to, "device", device);
	json_append_member_string(to, "type", "unknown");
	json_append_member_bool(to, "removable", false);
	json_append_member_bool(to, "locked", false);
	json_append_key(to, "inserted");
	g_string_append_c(to, '{');
	json_append_member_string(to, "file", disk_file(disk));
	json_append_member_string(to, "drv", info.format);
	json_append_member_bool(to, "ro", info.read_only);
	json_append_member_int(to, "backing_file_depth", disk->images->len - 1);
	json_append_member_string(to, "x-lodge-cache", disk->cache);
	json_append_key(to, "image");
	g_string_append_c(to, '{');
	json_append_member_string(to, "filename", disk_file(disk));
	json_append_member_string(to, "format", info.format);
	json_append_member_int(to, "virtual-size", (int64_t)info.size_bytes);
	g_string_append(to, "}}");
}

static void append_stats(GString *to, unsigned index, const struct machine_disk *disk,
			 struct block *block)
{
	static const struct {
		enum block_kind kind;
		const char *name;
	} kinds[] = {{BLOCK_READ, "rd"},
		     {BLOCK_WRITE, "wr"},
		     {BLOCK_FLUSH, "flush"},
		     {BLOCK_DISCARD, "unmap"}};
	struct block_stats stats;
	block_get_stats(block, &stats);
	g_autofree char *device = g_strdup_printf("disk%u", index);
	json_append_member_string(to, "device", device);
	json_append_key(to, "stats");
	g_string_append_c(to, '{');
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		char key[40];
		const char *name = kinds[i].name;
		enum block_kind kind = kinds[i].kind;
		g_snprintf(key, sizeof(key), "%s_operations", name);
		json_append_member_int(to, key, (int64_t)stats.kind[kind].ops);
		g_snprintf(key, sizeof(key), "%s_total_time_ns", name);
		json_append_member_int(to, key, (int64_t)stats.kind[kind].ns);
		g_snprintf(key, sizeof(key), "failed_%s_operations", name);
		json_append_member_int(to, key, (int64_t)stats.kind[kind].errors);
		if (kind == BLOCK_FLUSH)
			continue;
		g_snprintf(key, sizeof(key), "%s_bytes", name);
		json_append_member_int(to, key, (int64_t)stats.kind[kind].bytes);
	}
	g_string_append_c(to, '}');
}

static void append_disks(GString *to, const struct board *board,
			 void (*append)(GString *, unsigned, const struct machine_disk *,
					struct block *))
{
	g_string_append_c(to, '[');
	for (guint i = 0; i < board->blocks->len; i++) {
		g_string_append(to, i ? ",{" : "{");
		append(to, i, board->config->disks->pdata[i], board->blocks->pdata[i]);
		g_string_append_c(to, '}');
	}
	g_string_append_c(to, ']');
}

static bool query_block(struct control_session *session, const struct json *arguments,
			GString *value, GError **error)
{
	append_disks(value, session->board, append_disk);
	return true;
}

static const struct control_argument blockstats_arguments[] = {{"query-nodes", JSON_BOOL, false},
							       {NULL}};

static bool query_blockstats(struct control_session *session, const struct json *arguments,
			     GString *value, GError **error)
{
	append_disks(value, session->board, append_stats);
	return true;
}

/* --- The table --- */

static bool query_commands(struct control_session *session, const struct json *arguments,
			   GString *value, GError **error);

static const struct control_command commands[] = {
	{"qmp_capabilities", capabilities_arguments, qmp_capabilities},
	{"query-version", NULL, query_version},
	{"query-commands", NULL, query_commands},
	{"query-events", NULL, query_events},
	{"query-status", NULL, query_status},
	{"stop", NULL, stop},
	{"cont", NULL, cont},
	{"system_powerdown", NULL, system_powerdown},
	{"system_reset", NULL, system_reset},
	{"quit", NULL, quit},
	{"query-name", NULL, query_name},
	{"query-uuid", NULL, query_uuid},
	{"query-cpus-fast", NULL, query_cpus_fast},
	{"query-accelerator", NULL, query_accelerator},
	{"x-lodge-status", NULL, lodge_status},
	{"query-block", NULL, query_block},
	{"query-blockstats", blockstats_arguments, query_blockstats},
};

static bool query_commands(struct control_session *session, const struct json *arguments,
			   GString *value, GError **error)
{
	g_string_append_c(value, '[');
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
		append_name(value, commands[i].name);
	g_string_append_c(value, ']');
	return true;
}

const struct control_command *control_command_find(const char *name)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* --- Events --- */

static void append_cause(GString *to, const char *detail)
{
	const char *reason =
		detail && strcmp(detail, "debug-exit") != 0 ? detail : "guest-shutdown";
	g_string_append_c(to, '{');
	json_append_member_bool(to, "guest", g_str_has_prefix(reason, "guest-"));
	json_append_member_string(to, "reason", reason);
	g_string_append_c(to, '}');
}

const char *control_event_name(struct vm *vm, enum vm_event_kind kind, const char *detail,
			       GString *data)
{
	bool disk = kind == VM_EVENT_ERROR && vm->state == RUN_IO_ERROR;
	if (kind == VM_EVENT_RESET || kind == VM_EVENT_SHUTDOWN) {
		append_cause(data, detail);
	} else if (kind == VM_EVENT_GUEST_PANICKED || disk) {
		g_string_append_c(data, '{');
		json_append_member_string(data, "action", disk ? "stop" : "pause");
		json_append_member_string(data, "reason", detail);
		g_string_append_c(data, '}');
	} else if (kind == VM_EVENT_ERROR || kind == VM_EVENT_HANDOVER) {
		g_string_append_c(data, '{');
		json_append_member_string(data, "reason", detail);
		g_string_append_c(data, '}');
	}
	return disk ? BLOCK_IO_ERROR : event_names[kind];
}
