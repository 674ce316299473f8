// SPDX-License-Identifier: GPL-2.0-or-later
/* Character back ends over descriptors: streams, listening sockets, pty masters. */
#include "host/char.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

enum { QUEUE_MAX = 64 << 10, READ_MAX = 4096, PTY_RETRY_MS = 100 };

enum char_kind { CHAR_NULL, CHAR_STREAM, CHAR_LISTEN, CHAR_PTY };

struct chardev {
	enum char_kind kind;
	GMainContext *context;
	GMutex lock; /* fd, queue and sources; a leaf */
	int fd;      /* the stream, -1: no peer */
	int listener;
	bool write_only;   /* a regular file: nothing to read */
	GByteArray *queue; /* bytes the peer has not taken */
	const struct char_front *front;
	void *opaque;
	GSource *readable, *writable, *acceptor, *retry;
};

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data);
static gboolean on_writable(gint fd, GIOCondition condition, gpointer data);

static GSource *attach_fd(struct chardev *c, int fd, GIOCondition condition, GUnixFDSourceFunc fn)
{
	GSource *source = g_unix_fd_source_new(fd, condition);
	g_source_set_callback(source, G_SOURCE_FUNC(fn), c, NULL);
	g_source_attach(source, c->context);
	return source;
}

static void drop_source(GSource **source)
{
	if (*source) {
		g_source_destroy(*source);
		g_source_unref(*source);
		*source = NULL;
	}
}

static void watch_input_locked(struct chardev *c)
{
	if (c->fd >= 0 && !c->readable && c->front && !c->write_only)
		c->readable = attach_fd(c, c->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable);
}

static void notify_open(struct chardev *c, bool open)
{
	if (c->front && c->front->opened)
		c->front->opened(c->opaque, open);
}

static gboolean on_retry(gpointer data)
{
	struct chardev *c = data;
	g_mutex_lock(&c->lock);
	drop_source(&c->retry);
	watch_input_locked(c);
	g_mutex_unlock(&c->lock);
	return G_SOURCE_REMOVE;
}

/* The peer is gone. A pty's master stays: somebody may open the slave again. */
static void peer_lost(struct chardev *c)
{
	g_mutex_lock(&c->lock);
	drop_source(&c->readable);
	drop_source(&c->writable);
	g_byte_array_set_size(c->queue, 0);
	if (c->kind == CHAR_PTY) {
		c->retry = g_timeout_source_new(PTY_RETRY_MS);
		g_source_set_callback(c->retry, on_retry, c, NULL);
		g_source_attach(c->retry, c->context);
	} else {
		close(c->fd);
		c->fd = -1;
	}
	g_mutex_unlock(&c->lock);
	notify_open(c, false);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
	struct chardev *c = data;
	uint8_t buffer[READ_MAX];
	size_t room = READ_MAX;
	if (c->front && c->front->can_receive)
		room = MIN(room, c->front->can_receive(c->opaque));
	if (room == 0) {
		/* The device is full: it calls char_accept_input when it is not. */
		g_mutex_lock(&c->lock);
		drop_source(&c->readable);
		g_mutex_unlock(&c->lock);
		/* It may have made room between the question and now. */
		if (c->front && c->front->can_receive && c->front->can_receive(c->opaque) > 0)
			char_accept_input(c);
		return G_SOURCE_REMOVE;
	}
	ssize_t n = read(fd, buffer, room);
	if (n > 0) {
		if (c->front && c->front->receive)
			c->front->receive(c->opaque, buffer, (size_t)n);
		return G_SOURCE_CONTINUE;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return G_SOURCE_CONTINUE;
	peer_lost(c);
	return G_SOURCE_REMOVE;
}

static ssize_t write_now(struct chardev *c, const uint8_t *data, size_t size)
{
	ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == ENOTSOCK)
		n = write(c->fd, data, size);
	return n < 0 && (errno == EAGAIN || errno == EINTR || errno == EIO) ? 0 : n;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer data)
{
	struct chardev *c = data;
	g_mutex_lock(&c->lock);
	ssize_t n = c->fd >= 0 ? write_now(c, c->queue->data, c->queue->len) : -1;
	if (n > 0)
		g_byte_array_remove_range(c->queue, 0, (guint)n);
	else if (n < 0)
		g_byte_array_set_size(c->queue, 0);
	bool more = c->queue->len > 0;
	if (!more)
		drop_source(&c->writable);
	g_mutex_unlock(&c->lock);
	return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

size_t char_write(struct chardev *c, const uint8_t *data, size_t size)
{
	g_mutex_lock(&c->lock);
	ssize_t n = 0;
	if (c->fd >= 0 && c->queue->len == 0)
		n = write_now(c, data, size);
	if (n >= 0 && c->fd >= 0 && (size_t)n < size) {
		size_t rest = MIN(size - (size_t)n, QUEUE_MAX - c->queue->len);
		g_byte_array_append(c->queue, data + n, (guint)rest);
		if (!c->writable && c->queue->len)
			c->writable = attach_fd(c, c->fd, G_IO_OUT, on_writable);
	}
	g_mutex_unlock(&c->lock);
	return size;
}

void char_drain(struct chardev *c, int timeout_ms)
{
	gint64 end = g_get_monotonic_time() + timeout_ms * 1000;
	g_mutex_lock(&c->lock);
	while (c->fd >= 0 && c->queue->len > 0 && g_get_monotonic_time() < end) {
		struct pollfd p = {.fd = c->fd, .events = POLLOUT};
		poll(&p, 1, 10);
		ssize_t n = write_now(c, c->queue->data, c->queue->len);
		if (n < 0)
			break;
		g_byte_array_remove_range(c->queue, 0, (guint)n);
	}
	g_mutex_unlock(&c->lock);
}

void char_accept_input(struct chardev *c)
{
	g_mutex_lock(&c->lock);
	if (!c->retry) /* attaching a source is safe from any thread */
		watch_input_locked(c);
	g_mutex_unlock(&c->lock);
}

static gboolean on_acceptable(gint fd, GIOCondition condition, gpointer data)
{
	struct chardev *c = data;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer < 0)
		return G_SOURCE_CONTINUE;
	g_mutex_lock(&c->lock);
	bool taken = c->fd >= 0;
	if (!taken) {
		c->fd = peer;
		watch_input_locked(c);
	}
	g_mutex_unlock(&c->lock);
	if (taken) {
		static const char busy[] = "another client is connected\r\n";
		(void)!write(peer, busy, sizeof(busy) - 1);
		close(peer);
	} else {
		notify_open(c, true);
	}
	return G_SOURCE_CONTINUE;
}

static bool parse_fd(const char *text, int *fd, GError **error)
{
	guint64 n;
	if (!g_ascii_string_to_unsigned(text, 10, 0, INT_MAX, &n, NULL) ||
	    fcntl((int)n, F_GETFD) < 0)
		return error_set(error, LODGE_ERROR_INVALID, "'%s' is no open descriptor", text);
	*fd = (int)n;
	return true;
}

struct chardev *char_open(const char *spec, GMainContext *context, GError **error)
{
	static const struct {
		const char *prefix;
		enum char_kind kind;
	} kinds[] = {{"fd:", CHAR_STREAM}, {"listen:", CHAR_LISTEN}, {"pty:", CHAR_PTY}};
	enum char_kind kind = CHAR_NULL;
	int fd = -1;
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		if (!g_str_has_prefix(spec, kinds[i].prefix))
			continue;
		kind = kinds[i].kind;
		if (!parse_fd(spec + strlen(kinds[i].prefix), &fd, error))
			return NULL;
	}
	if (kind == CHAR_NULL && strcmp(spec, "null") != 0) {
		error_set(error, LODGE_ERROR_INVALID, "'%s' is no character back end", spec);
		return NULL;
	}
	struct chardev *c = g_new0(struct chardev, 1);
	g_mutex_init(&c->lock);
	c->kind = kind;
	c->context = context;
	c->queue = g_byte_array_new();
	c->fd = c->listener = -1;
	struct stat st;
	if (fd >= 0) {
		c->write_only = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	}
	if (kind == CHAR_LISTEN) {
		c->listener = fd;
		c->acceptor = attach_fd(c, fd, G_IO_IN, on_acceptable);
	} else {
		c->fd = fd;
	}
	return c;
}

void char_attach(struct chardev *c, const struct char_front *front, void *opaque)
{
	g_mutex_lock(&c->lock);
	c->front = front;
	c->opaque = opaque;
	if (!front)
		drop_source(&c->readable);
	else
		watch_input_locked(c);
	bool open = c->fd >= 0;
	g_mutex_unlock(&c->lock);
	if (open)
		notify_open(c, true);
}

bool char_is_open(struct chardev *c)
{
	g_mutex_lock(&c->lock);
	bool open = c->fd >= 0;
	g_mutex_unlock(&c->lock);
	return open;
}

void char_free(struct chardev *c)
{
	if (!c)
		return;
	char_drain(c, 200);
	drop_source(&c->readable);
	drop_source(&c->writable);
	drop_source(&c->acceptor);
	drop_source(&c->retry);
	if (c->fd >= 0)
		close(c->fd);
	if (c->listener >= 0)
		close(c->listener);
	g_byte_array_free(c->queue, TRUE);
	g_mutex_clear(&c->lock);
	g_free(c);
}
