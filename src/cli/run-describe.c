// SPDX-License-Identifier: GPL-2.0-or-later
/* Opens what a guest needs and writes its description (docs/lodge-vmm.8.md). */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "block/block.h"
#include "cli/options.h"
#include "cli/run.h"
#include "host/char.h"

int guest_give_fd(struct guest *guest, int fd)
{
	g_array_append_val(guest->fds, fd);
	return fd;
}

/* --- Files --- */

static void append_file(struct guest *guest, const char *key, int fd, const char *name)
{
	GString *json = guest->json;
	if (key)
		json_append_key(json, key);
	g_string_append_c(json, '{');
	json_append_member_int(json, "fd", guest_give_fd(guest, fd));
	json_append_member_string(json, "name", name);
	g_string_append_c(json, '}');
}

static bool add_file(struct guest *guest, const char *key, const char *path, GError **error)
{
	struct stat st;
	if (!path)
		return true;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(error, errno, "cannot open '%s' (--%s)", path, key);
	append_file(guest, key, fd, path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set(error, LODGE_ERROR_INVALID, "'%s' (--%s) is no regular file", path,
				 key);
	return true;
}

/* --- Disks --- */

struct disk_options {
	char *cache, *format, *serial;
	bool read_only, discard;
	unsigned queues;
};

static const struct option disk_parts[] = {
	{"cache", OPTION_CHOICE, offsetof(struct disk_options, cache),
	 "none|writethrough|writeback|directsync|unsafe", NULL},
	{"format", OPTION_CHOICE, offsetof(struct disk_options, format), "raw|qcow2", NULL},
	{"readonly", OPTION_FLAG, offsetof(struct disk_options, read_only), NULL, NULL},
	{"serial", OPTION_STRING, offsetof(struct disk_options, serial), "TEXT", NULL},
	{"discard", OPTION_FLAG, offsetof(struct disk_options, discard), NULL, NULL},
	{"queues", OPTION_COUNT, offsetof(struct disk_options, queues), "N", NULL},
	{NULL},
};

static bool add_image(struct guest *guest, const struct block_chain_file *file, GError **error)
{
	GString *json = guest->json;
	int fd = open(file->path, (file->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(error, errno, "cannot open the disk '%s' for %s%s",
				       file->path, file->read_only ? "reading" : "writing",
				       file->read_only ? "" : " (add ,readonly to only read it)");
	if (json->str[json->len - 1] != '[')
		g_string_append_c(json, ',');
	g_string_append_c(json, '{');
	append_file(guest, "file", fd, file->path);
	json_append_member_string(json, "format", file->format);
	if (file->read_only)
		json_append_member_bool(json, "readonly", true);
	g_string_append_c(json, '}');
	return true;
}

static bool check_disk_file(const char *path, GError **error)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return error_set_errno(error, errno, "cannot open the disk '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(error, LODGE_ERROR_INVALID,
				 "the disk '%s' is neither a file nor a block device", path);
	return true;
}

static bool add_opened_disk(struct guest *guest, const char *path, const struct disk_options *disk,
			    GError **error)
{
	GString *json = guest->json;
	const struct block_options options = {
		.file = path, .format = disk->format, .read_only = disk->read_only};
	if (!check_disk_file(path, error))
		return false;
	g_autoptr(GPtrArray) chain = block_chain_files(&options, error);
	if (!chain)
		return false;
	if (json->str[json->len - 1] != '[')
		g_string_append_c(json, ',');
	g_string_append(json, "{\"images\":[");
	for (guint i = 0; i < chain->len; i++) {
		if (!add_image(guest, chain->pdata[i], error))
			return false;
	}
	g_string_append_c(json, ']');
	json_append_member_string(json, "cache", disk->cache);
	json_append_member_string(json, "serial", disk->serial);
	if (disk->read_only)
		json_append_member_bool(json, "readonly", true);
	if (disk->discard)
		json_append_member_bool(json, "discard", true);
	if (disk->queues)
		json_append_member_int(json, "queues", disk->queues);
	g_string_append_c(json, '}');
	return true;
}

static bool add_disks(struct guest *guest, const GPtrArray *disks, GError **error)
{
	bool ok = true;
	if (!disks)
		return true;
	json_append_key(guest->json, "disks");
	g_string_append_c(guest->json, '[');
	for (guint i = 0; ok && i < disks->len; i++) {
		struct disk_options disk = {0};
		g_autofree char *path = NULL;
		ok = options_parse_parts(disk_parts, "--disk", disks->pdata[i], &disk, &path,
					 error) &&
		     add_opened_disk(guest, path, &disk, error);
		options_free(disk_parts, &disk);
	}
	g_string_append_c(guest->json, ']');
	return ok;
}

/* --- Character back ends --- */

static char *open_stdio(struct guest *guest, const char *what, GError **error)
{
	int ends[2];
	if (guest->has_stdio) {
		error_set(error, LODGE_ERROR_INVALID,
			  "--%s stdio: standard input and output are already in use: give "
			  "another back end to one of the two (--serial none)",
			  what);
		return NULL;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		error_set_errno(error, errno, "cannot make a socket pair");
		return NULL;
	}
	guest->has_stdio = true;
	guest->terminal = ends[0];
	return g_strdup_printf("fd:%d", guest_give_fd(guest, ends[1]));
}

/* Removes a left-over socket; refuses one that somebody serves, and other files. */
static bool clear_socket_path(const char *path, GError **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(error, LODGE_ERROR_INVALID,
				 "the socket path '%s' is longer than %zu bytes", path,
				 sizeof(address.sun_path) - 1);
	if (lstat(path, &st) < 0)
		return true;
	if (!S_ISSOCK(st.st_mode))
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%s' exists and is no socket: name another path", path);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret = connect(fd, (struct sockaddr *)&address, sizeof(address));
	bool served = ret == 0 || errno == EAGAIN;
	close(fd);
	if (served)
		return error_set(
			error, LODGE_ERROR_BUSY,
			"the socket '%s' is in use by a running program: name another path", path);
	unlink(path);
	return true;
}

/* Path of "unix:PATH,server", or NULL. Caller frees. */
static char *server_path(const char *spec)
{
	if (!g_str_has_prefix(spec, "unix:") || !g_str_has_suffix(spec, ",server"))
		return NULL;
	return g_strndup(spec + 5, strlen(spec) - 5 - strlen(",server"));
}

/* The description's word for the back end @spec that the user named, or NULL. Caller frees. */
static char *open_backend(struct guest *guest, const char *what, const char *spec, GError **error)
{
	g_autofree char *path = server_path(spec), *where = NULL;
	int fd = -1;
	if (strcmp(spec, "stdio") == 0)
		return open_stdio(guest, what, error);
	if (path && !clear_socket_path(path, error))
		return NULL;
	char *word = char_prepare(spec, &fd, &where, error);
	if (!word) {
		g_prefix_error(error, "--%s: ", what);
		return NULL;
	}
	if (fd >= 0)
		guest_give_fd(guest, fd);
	if (path)
		g_ptr_array_add(guest->remove, g_steal_pointer(&path));
	if (strcmp(spec, "pty") == 0)
		g_ptr_array_add(guest->notes, g_strdup_printf("%s is on %s", what, where));
	return word;
}

static bool add_backend(struct guest *guest, const char *key, const char *spec, GError **error)
{
	g_autofree char *word = spec ? open_backend(guest, key, spec, error) : NULL;
	if (spec && !word)
		return false;
	json_append_member_string(guest->json, key, word);
	return true;
}

static bool add_ports(struct guest *guest, const GPtrArray *ports, GError **error)
{
	GString *json = guest->json;
	if (!ports)
		return true;
	json_append_key(json, "ports");
	g_string_append_c(json, '[');
	for (guint i = 0; i < ports->len; i++) {
		const char *port = ports->pdata[i], *equals = strchr(port, '=');
		if (!equals || equals == port)
			return error_set(error, LODGE_ERROR_INVALID,
					 "--port '%s' is not NAME=BACKEND, such as "
					 "org.example.0=unix:/run/example.sock,server",
					 port);
		g_autofree char *name = g_strndup(port, (gsize)(equals - port));
		g_autofree char *word = open_backend(guest, name, equals + 1, error);
		if (!word)
			return false;
		g_string_append(json, i ? ",{" : "{");
		json_append_member_string(json, "name", name);
		json_append_member_string(json, "backend", word);
		g_string_append_c(json, '}');
	}
	g_string_append_c(json, ']');
	return true;
}

/* --- Control socket and status --- */

static bool add_control(struct guest *guest, const char *path, GError **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (!path)
		return true;
	if (!clear_socket_path(path, error))
		return false;
	strcpy(address.sun_path, path);
	mode_t mask = umask(0077); /* whoever may write to it rules the guest */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	int err = errno;
	umask(mask);
	if (ok)
		g_ptr_array_add(guest->remove, g_strdup(path));
	if (fd >= 0)
		append_file(guest, "control", fd, path);
	if (!ok || listen(fd, 16) < 0)
		return error_set_errno(error, ok ? errno : err, "cannot listen on '%s' (--control)",
				       path);
	return true;
}

static bool add_status(struct guest *guest, GError **error)
{
	guest->status_fd = memfd_create("status", MFD_CLOEXEC);
	int copy = guest->status_fd < 0 ? -1 : fcntl(guest->status_fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return error_set_errno(error, errno, "cannot make a file for --status-json");
	append_file(guest, "status", copy, "status");
	return true;
}

static bool add_debug_log(struct guest *guest, const char *path, GError **error)
{
	if (!path)
		return true;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_set_errno(error, errno, "cannot write to '%s' (--debug-log)", path);
	append_file(guest, "debug_log", fd, path);
	return true;
}

/* --- The whole --- */

/* Whom a machine that root starts becomes: the user that an installation made for it. Without one
 * lodge-vmm takes `nobody`. */
static void add_user(GString *json)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam("lodge") : NULL;
	if (user && user->pw_uid != 0 && user->pw_gid != 0) {
		json_append_member_int(json, "uid", user->pw_uid);
		json_append_member_int(json, "gid", user->pw_gid);
	}
}

static bool add_scalars(struct guest *guest, const struct run_options *o, GError **error)
{
	GString *json = guest->json;
	g_autofree char *uuid = o->uuid ? g_strdup(o->uuid) : g_uuid_string_random();
	if (!g_uuid_string_is_valid(uuid))
		return error_set(error, LODGE_ERROR_INVALID,
				 "--uuid '%s' is not like 12345678-9abc-def0-1234-56789abcdef0",
				 uuid);
	if (o->memory_bytes % 4096 || o->memory_bytes < 1 << 20)
		return error_set(error, LODGE_ERROR_INVALID,
				 "--memory must be whole pages of 4 KiB and at least 1 MiB");
	json_append_member_string(json, "name", o->name);
	json_append_member_string(json, "uuid", uuid);
	json_append_member_int(json, "memory_bytes", (int64_t)o->memory_bytes);
	json_append_member_int(json, "cpus", o->cpus);
	json_append_member_string(json, "accel", o->accel);
	json_append_member_string(json, "append", o->append);
	add_user(json);
	const struct {
		const char *key;
		bool value;
	} flags[] = {
		{"no_reboot", o->no_reboot},
		{"huge_pages", o->huge_pages},
		{"shared_memory", o->shared_memory},
		{"mergeable", o->mergeable},
		{"rng", o->rng},
		{"packed", o->packed},
		{"paused", o->paused},
		{"no_sandbox", o->no_sandbox},
		{"end_with_parent", true},
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
		if (flags[i].value)
			json_append_member_bool(json, flags[i].key, true);
	}
	return true;
}

static bool describe(struct guest *guest, const struct run_options *o, GError **error)
{
	g_string_append_c(guest->json, '{');
	bool ok = add_scalars(guest, o, error) && add_file(guest, "kernel", o->kernel, error) &&
		  add_file(guest, "initrd", o->initrd, error) &&
		  add_file(guest, "firmware", o->firmware, error) &&
		  add_disks(guest, o->disks, error) &&
		  add_backend(guest, "serial", o->serial, error) &&
		  add_backend(guest, "console", o->console, error) &&
		  add_ports(guest, o->ports, error) && add_debug_log(guest, o->debug_log, error) &&
		  (!o->status_json || add_status(guest, error)) &&
		  add_control(guest, o->control, error) && guest_add_nics(guest, o->nets, error);
	g_string_append_c(guest->json, '}');
	return ok;
}

struct guest *guest_describe(const struct run_options *options, GError **error)
{
	struct guest *guest = g_new0(struct guest, 1);
	guest->json = g_string_new(NULL);
	guest->fds = g_array_new(FALSE, FALSE, sizeof(int));
	guest->remove = g_ptr_array_new_with_free_func(g_free);
	guest->notes = g_ptr_array_new_with_free_func(g_free);
	guest->terminal = guest->status_fd = -1;
	if (describe(guest, options, error))
		return guest;
	guest_free(guest);
	return NULL;
}

void guest_close_fds(struct guest *guest)
{
	for (guint i = 0; i < guest->fds->len; i++)
		close(g_array_index(guest->fds, int, i));
	g_array_set_size(guest->fds, 0);
}

void guest_free(struct guest *guest)
{
	if (!guest)
		return;
	guest_close_fds(guest);
	for (guint i = 0; i < guest->remove->len; i++)
		unlink(guest->remove->pdata[i]);
	if (guest->terminal >= 0)
		close(guest->terminal);
	if (guest->status_fd >= 0)
		close(guest->status_fd);
	g_ptr_array_free(guest->remove, TRUE);
	g_ptr_array_free(guest->notes, TRUE);
	g_array_free(guest->fds, TRUE);
	g_string_free(guest->json, TRUE);
	g_free(guest);
}
