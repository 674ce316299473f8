// SPDX-License-Identifier: GPL-2.0-or-later
/* Tap interfaces through /dev/net/tun, and their bridges through the interface ioctls. */
#include "host/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **tap_list_bridges(void)
{
	GPtrArray *names = g_ptr_array_new();
	GDir *dir = g_dir_open("/sys/class/net", 0, NULL);
	const char *name;
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename("/sys/class/net", name, "bridge", NULL);
		if (g_file_test(path, G_FILE_TEST_IS_DIR))
			g_ptr_array_add(names, g_strdup(name));
	}
	if (dir)
		g_dir_close(dir);
	if (names->len)
		qsort(names->pdata, names->len, sizeof(char *), compare);
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(names, FALSE);
}

static bool check_name(const char *kind, const char *name, GError **error)
{
	if (name[0] && strlen(name) < IFNAMSIZ && !strpbrk(name, "/ %"))
		return true;
	return error_set(error, LODGE_ERROR_INVALID,
			 "'%s' is no name for a %s (1 to %d characters)", name, kind, IFNAMSIZ - 1);
}

/* Says what there is where a bridge is not. */
static bool no_bridge(const char *bridge, GError **error)
{
	char **names = tap_list_bridges();
	g_autofree char *list = g_strjoinv(", ", names);
	bool any = names[0] != NULL;
	g_strfreev(names);
	if (any)
		return error_set(error, LODGE_ERROR_INVALID,
				 "there is no bridge '%s'; this host has: %s", bridge, list);
	return error_set(error, LODGE_ERROR_INVALID,
			 "there is no bridge '%s', and this host has none at all: make one with "
			 "`ip link add %s type bridge && ip link set %s up`, or use --net user",
			 bridge, bridge, bridge);
}

static bool join_bridge(int control, const char *bridge, const char *tap, GError **error)
{
	struct ifreq request = {.ifr_ifindex = (int)if_nametoindex(tap)};
	g_autofree char *path = g_build_filename("/sys/class/net", bridge, "bridge", NULL);
	if (!if_nametoindex(bridge) || !g_file_test(path, G_FILE_TEST_IS_DIR))
		return no_bridge(bridge, error);
	g_strlcpy(request.ifr_name, bridge, IFNAMSIZ);
	/* EBUSY: an existing tap that is a port already. */
	if (ioctl(control, SIOCBRADDIF, &request) == 0 || errno == EBUSY)
		return true;
	return error_set_errno(error, errno, "cannot put '%s' into the bridge '%s'", tap, bridge);
}

static bool bring_up(int control, const char *tap, GError **error)
{
	struct ifreq request = {0};
	g_strlcpy(request.ifr_name, tap, IFNAMSIZ);
	if (ioctl(control, SIOCGIFFLAGS, &request) == 0) {
		if (request.ifr_flags & IFF_UP)
			return true;
		request.ifr_flags |= IFF_UP;
		if (ioctl(control, SIOCSIFFLAGS, &request) == 0)
			return true;
	}
	return error_set_errno(error, errno, "cannot bring up the interface '%s'", tap);
}

static bool attach(int fd, const char *name, struct ifreq *request, GError **error)
{
	request->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	g_strlcpy(request->ifr_name, name ? name : "lodge%d", IFNAMSIZ);
	if (ioctl(fd, TUNSETIFF, request) == 0)
		return true;
	if (errno == EPERM)
		return error_set_errno(
			error, errno,
			"no permission to open the tap '%s': it takes root, or a tap "
			"made for you with `ip tuntap add %s mode tap user ...`; --net "
			"user needs neither",
			request->ifr_name, request->ifr_name);
	if (errno == EBUSY)
		return error_set_errno(error, errno, "another program has the tap '%s' open",
				       request->ifr_name);
	return error_set_errno(error, errno, "cannot open the tap '%s'", request->ifr_name);
}

static bool set_up(int fd, const char *name, const char *bridge, char **name_out, GError **error)
{
	struct ifreq request = {0};
	if (!attach(fd, name, &request, error))
		return false;
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0)
		return error_set_errno(error, errno, "cannot open a socket");
	bool ok = (!bridge || join_bridge(control, bridge, request.ifr_name, error)) &&
		  bring_up(control, request.ifr_name, error);
	close(control);
	if (ok)
		*name_out = g_strndup(request.ifr_name, IFNAMSIZ);
	return ok;
}

int tap_open(const char *name, const char *bridge, char **name_out, GError **error)
{
	if ((name && !check_name("tap", name, error)) ||
	    (bridge && !check_name("bridge", bridge, error)))
		return -1;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		error_set_errno(error, errno, "cannot open /dev/net/tun");
		return -1;
	}
	if (set_up(fd, name, bridge, name_out, error))
		return fd;
	close(fd);
	return -1;
}
