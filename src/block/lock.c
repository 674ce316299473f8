// SPDX-License-Identifier: GPL-2.0-or-later
/* Image locks in QEMU's layout, by fcntl(2) open-file-description locks. */
#include "block/lock.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USED = 100, REFUSED = 200, RIGHT_READ = 0, RIGHT_WRITE = 1, RIGHT_RESIZE = 3 };

static int lock_byte(int fd, int type, off_t byte)
{
	struct flock lock = {
		.l_type = (short)type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Somebody else holds @byte, in any mode. */
static bool byte_is_held(int fd, off_t byte)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Whether this fdinfo text tells of a lock on @byte. */
static bool fdinfo_has_lock(const char *text, off_t byte)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (char **line = lines; *line; line++) {
		long long first, last;

		if (!g_str_has_prefix(*line, "lock:"))
			continue;
		/* lock:\t1: OFDLCK ADVISORY READ -1 08:01:123 100 100 */
		char *end = strrchr(*line, ' ');

		if (!end || end == *line)
			continue;
		last = strcmp(end + 1, "EOF") == 0 ? G_MAXINT64
						   : g_ascii_strtoll(end + 1, NULL, 10);
		*end = '\0';
		char *start = strrchr(*line, ' ');

		if (!start)
			continue;
		first = g_ascii_strtoll(start + 1, NULL, 10);
		if (first <= byte && byte <= last)
			return true;
	}
	return false;
}

/* "name (process N)" if the process @pid holds @byte of the file by a descriptor other than @self.
 */
static char *holder_in_process(const char *pid, const struct stat *file, off_t byte, int self)
{
	g_autofree char *folder = g_strdup_printf("/proc/%s/fd", pid);
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	bool own = strtol(pid, NULL, 10) == (long)getpid();
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *link = g_strdup_printf("%s/%s", folder, name);
		g_autofree char *info = g_strdup_printf("/proc/%s/fdinfo/%s", pid, name);
		g_autofree char *comm = g_strdup_printf("/proc/%s/comm", pid);
		g_autofree char *text = NULL;
		g_autofree char *command = NULL;
		struct stat st;

		if (own && strtol(name, NULL, 10) == self)
			continue;
		if (stat(link, &st) < 0 || st.st_dev != file->st_dev || st.st_ino != file->st_ino)
			continue;
		if (!g_file_get_contents(info, &text, NULL, NULL) || !fdinfo_has_lock(text, byte))
			continue;
		if (g_file_get_contents(comm, &command, NULL, NULL))
			g_strchomp(command);
		return g_strdup_printf("%s (process %s)", command ? command : "?", pid);
	}
	return NULL;
}

static char *find_holder(int fd, off_t byte)
{
	g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
	struct stat file;
	const char *name;

	if (fstat(fd, &file) < 0)
		return g_strdup("another process");
	while (proc && (name = g_dir_read_name(proc))) {
		if (!g_ascii_isdigit(name[0]))
			continue;
		char *holder = holder_in_process(name, &file, byte, fd);

		if (holder)
			return holder;
	}
	return g_strdup("another process");
}

static void unlock_all(int fd)
{
	for (off_t right = 0; right <= RIGHT_RESIZE; right++) {
		lock_byte(fd, F_UNLCK, USED + right);
		lock_byte(fd, F_UNLCK, REFUSED + right);
	}
}

bool block_lock(int fd, const char *path, bool writable, GError **error)
{
	static const off_t used[] = {RIGHT_READ, RIGHT_WRITE, RIGHT_RESIZE};
	static const off_t refused[] = {RIGHT_WRITE, RIGHT_RESIZE};
	unsigned used_count = writable ? G_N_ELEMENTS(used) : 1;
	off_t busy = 0;
	int r = 0;

	for (unsigned i = 0; i < used_count && r == 0; i++)
		r = lock_byte(fd, F_RDLCK, USED + used[i]);
	for (unsigned i = 0; i < G_N_ELEMENTS(refused) && r == 0; i++)
		r = lock_byte(fd, F_RDLCK, REFUSED + refused[i]);
	if (r < 0 && r != -EAGAIN && r != -EACCES)
		return true; /* no locks on this file system */
	for (unsigned i = 0; i < used_count && !busy; i++) {
		if (byte_is_held(fd, REFUSED + used[i]))
			busy = REFUSED + used[i];
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(refused) && !busy; i++) {
		if (byte_is_held(fd, USED + refused[i]))
			busy = USED + refused[i];
	}
	if (r == 0 && !busy)
		return true;
	if (!busy) /* an exclusive lock of somebody else's kept us from taking ours */
		busy = USED;
	g_autofree char *holder = find_holder(fd, busy);

	unlock_all(fd);
	return error_set(error, LODGE_ERROR_BUSY,
			 "%s: in use by %s, which %s; stop that program first%s", path, holder,
			 busy < REFUSED ? "writes to it" : "lets nobody else write to it",
			 writable ? ", or open the image read-only where it only reads" : "");
}
