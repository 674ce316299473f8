// SPDX-License-Identifier: GPL-2.0-or-later
/* Starts passt(1) and connects to it. */
#include "host/passt.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

/* A directory of our own for the socket. Started by root, passt becomes `nobody`. */
static char *make_directory(GError **error)
{
	g_autofree char *path = g_build_filename(g_get_tmp_dir(), "lodge-passt-XXXXXX", NULL);
	const struct passwd *nobody = geteuid() == 0 ? getpwnam("nobody") : NULL;
	if (!g_mkdtemp_full(path, 0700)) {
		error_set_errno(error, errno, "cannot make a directory in %s", g_get_tmp_dir());
		return NULL;
	}
	if (nobody && chown(path, nobody->pw_uid, nobody->pw_gid) < 0) {
		error_set_errno(error, errno, "cannot give %s to 'nobody'", path);
		g_rmdir(path);
		return NULL;
	}
	return g_steal_pointer(&path);
}

static void add_forwards(GPtrArray *args, const struct passt_forward *forwards, unsigned count,
			 bool udp)
{
	GString *list = g_string_new(NULL);
	for (unsigned i = 0; i < count; i++) {
		if (forwards[i].udp == udp)
			g_string_append_printf(list, "%s%u:%u", list->len ? "," : "",
					       forwards[i].host_port, forwards[i].guest_port);
	}
	if (list->len) {
		g_ptr_array_add(args, g_strdup(udp ? "-u" : "-t"));
		g_ptr_array_add(args, g_string_free(list, FALSE));
	} else {
		g_string_free(list, TRUE);
	}
}

/* Errors of passt are sentences; what it says about the system log is not one of them. */
static char *last_words(const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	const char *last = "it gave no reason";
	for (unsigned i = 0; lines[i]; i++) {
		if (*g_strstrip(lines[i]) && !strstr(lines[i], "syslog"))
			last = lines[i];
	}
	return g_strdup(last);
}

/* Returns when passt listens: it goes to the background then. */
static bool spawn(const char *socket_path, const struct passt_forward *forwards, unsigned count,
		  GError **error)
{
	static const char *const fixed[] = {
		"passt",         "-q", "-1",       "-a", "10.0.2.15", "-n",
		"255.255.255.0", "-g", "10.0.2.2", "-s"};
	g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *said = NULL;
	g_autoptr(GError) failure = NULL;
	int status = 0;
	for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++)
		g_ptr_array_add(args, g_strdup(fixed[i]));
	g_ptr_array_add(args, g_strdup(socket_path));
	add_forwards(args, forwards, count, false);
	add_forwards(args, forwards, count, true);
	g_ptr_array_add(args, NULL);
	if (!g_spawn_sync("/", (char **)args->pdata, NULL,
			  G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &said,
			  &status, &failure)) {
		if (g_error_matches(failure, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT))
			return error_set(error, LODGE_ERROR_SYSTEM,
					 "the user network needs passt: install the package "
					 "'passt', or use --net bridge=NAME or --net none");
		return error_set(error, LODGE_ERROR_SYSTEM, "cannot start passt: %s",
				 failure->message);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	g_autofree char *words = last_words(said);
	return error_set(error, LODGE_ERROR_SYSTEM, "passt cannot start: %s", words);
}

static int connect_to(const char *path, GError **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert(strlen(path) < sizeof(address.sun_path));
	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error_set_errno(error, errno, "cannot connect to passt at %s", path);
	if (fd >= 0)
		close(fd);
	return -1;
}

int passt_start(const struct passt_forward *forwards, unsigned count, GError **error)
{
	g_autofree char *directory = make_directory(error);
	int fd = -1;
	if (!directory)
		return -1;
	g_autofree char *path = g_build_filename(directory, "socket", NULL);
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		error_set(error, LODGE_ERROR_INVALID,
			  "the path %s is too long for a socket: set TMPDIR to a shorter one",
			  path);
	else if (spawn(path, forwards, count, error))
		fd = connect_to(path, error);
	g_unlink(path);
	g_rmdir(directory);
	return fd;
}
