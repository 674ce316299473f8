// SPDX-License-Identifier: GPL-2.0-or-later
/* The launcher's half of character back ends: opens what a user names. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "host/char.h"

static int open_pty(char **where, GError **error)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char name[128];
	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, name, sizeof(name)) != 0) {
		error_set_errno(error, errno, "cannot make a pseudo terminal");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	struct termios mode;
	if (tcgetattr(fd, &mode) == 0) {
		cfmakeraw(&mode);
		tcsetattr(fd, TCSANOW, &mode);
	}
	*where = g_strdup(name);
	return fd;
}

static int open_unix(const char *path, bool server, GError **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path)) {
		error_set(error, LODGE_ERROR_INVALID,
			  "the socket path '%s' is longer than %zu bytes", path,
			  sizeof(address.sun_path) - 1);
		return -1;
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;
	if (server) {
		unlink(path);
		ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		     listen(fd, 4) == 0;
	} else {
		ok = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	}
	if (ok)
		return fd;
	error_set_errno(error, errno, server ? "cannot listen on '%s'" : "cannot connect to '%s'",
			path);
	if (fd >= 0)
		close(fd);
	return -1;
}

static int try_address(const struct addrinfo *a, bool server)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	bool ok = server ? bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 4) == 0
			 : connect(fd, a->ai_addr, a->ai_addrlen) == 0;
	if (ok)
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

static int open_tcp(const char *address, bool server, GError **error)
{
	const char *colon = strrchr(address, ':');
	if (!colon) {
		error_set(error, LODGE_ERROR_INVALID, "'%s' is not HOST:PORT", address);
		return -1;
	}
	g_autofree char *host = g_strndup(address, (gsize)(colon - address));
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = server ? AI_PASSIVE : 0};
	struct addrinfo *list = NULL;
	int ret = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &list);
	if (ret != 0) {
		error_set(error, LODGE_ERROR_INVALID, "'%s': %s", address, gai_strerror(ret));
		return -1;
	}
	int fd = -1;
	for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
		fd = try_address(a, server);
	if (fd < 0)
		error_set_errno(error, errno,
				server ? "cannot listen on '%s'" : "cannot connect to '%s'",
				address);
	freeaddrinfo(list);
	return fd;
}

static int open_file(const char *path, GError **error)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		error_set_errno(error, errno, "cannot open '%s'", path);
	else
		lseek(fd, 0, SEEK_END);
	return fd;
}

char *char_prepare(const char *spec, int *fd, char **where, GError **error)
{
	g_autofree char *copy = g_strdup(spec);
	char *comma = strrchr(copy, ',');
	bool server = comma && strcmp(comma, ",server") == 0;
	const char *kind = server ? "listen" : "fd";
	*fd = -1;
	*where = NULL;
	if (server)
		*comma = '\0';
	if (strcmp(copy, "null") == 0 || strcmp(copy, "none") == 0)
		return g_strdup("null");
	if (strcmp(copy, "pty") == 0) {
		kind = "pty";
		*fd = open_pty(where, error);
	} else if (g_str_has_prefix(copy, "file:")) {
		*fd = open_file(copy + 5, error);
	} else if (g_str_has_prefix(copy, "unix:")) {
		*fd = open_unix(copy + 5, server, error);
	} else if (g_str_has_prefix(copy, "tcp:")) {
		*fd = open_tcp(copy + 4, server, error);
	} else {
		error_set(error, LODGE_ERROR_INVALID,
			  "'%s' is no back end: say stdio, none, pty, file:PATH, "
			  "unix:PATH[,server] or "
			  "tcp:HOST:PORT[,server]",
			  spec);
	}
	if (*fd < 0)
		return NULL;
	if (!*where)
		*where = g_strdup(copy);
	return g_strdup_printf("%s:%d", kind, *fd);
}
