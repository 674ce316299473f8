// SPDX-License-Identifier: GPL-2.0-or-later
/* The control socket: clients, framing, replies. The commands are in control-commands.c. */
#include "vmm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

enum {
	CLIENTS_MAX = 16,
	MESSAGE_MAX = 64 << 10,
	OUTPUT_MAX = 1 << 20,
	READ_MAX = 4096,
	MEMBERS_DEPTH_MAX = 32,
	DRAIN_MS = 200,
	PARSER_RESET = 0xff, /* what a client sends to begin anew */
};

/* Messages are found by counting brackets, since neither end of a message needs a newline. */
struct framer {
	GByteArray *message;
	unsigned depth;
	bool in_string, escaped;
	bool skipping; /* what follows an error, up to the end of the line */
};

struct client {
	struct control *control;
	int fd;
	struct framer framer;
	GByteArray *out;
	GSource *readable, *writable;
	struct control_session session;
	bool dead;
};

struct control {
	struct board *board;
	int listener;
	GSource *acceptor;
	GPtrArray *clients;
};

static void drop_source(GSource **source)
{
	if (*source) {
		g_source_destroy(*source);
		g_source_unref(*source);
		*source = NULL;
	}
}

static GSource *watch(struct control *control, int fd, GIOCondition condition, GUnixFDSourceFunc fn,
		      void *opaque)
{
	GSource *source = g_unix_fd_source_new(fd, condition);
	g_source_set_callback(source, G_SOURCE_FUNC(fn), opaque, NULL);
	g_source_attach(source, control->board->vm->context);
	return source;
}

static void client_free(gpointer data)
{
	struct client *client = data;
	drop_source(&client->readable);
	drop_source(&client->writable);
	close(client->fd);
	g_byte_array_free(client->framer.message, TRUE);
	g_byte_array_free(client->out, TRUE);
	g_free(client);
}

/* --- Output --- */

/* Marks a client as gone; it is freed by whoever holds no reference to it any more. */
static void client_kill(struct client *client)
{
	client->dead = true;
	drop_source(&client->writable);
	shutdown(client->fd, SHUT_RDWR); /* its readable source sees the end and frees it */
}

static void client_write_now(struct client *client)
{
	ssize_t n =
		send(client->fd, client->out->data, client->out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		g_byte_array_remove_range(client->out, 0, (guint)n);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		client_kill(client);
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer data)
{
	struct client *client = data;
	client_write_now(client);
	if (client->out->len > 0 && !client->dead)
		return G_SOURCE_CONTINUE;
	drop_source(&client->writable);
	return G_SOURCE_REMOVE;
}

static void client_send(struct client *client, const GString *line)
{
	if (client->dead)
		return;
	if (client->out->len + line->len > OUTPUT_MAX) {
		client_kill(client);
		return;
	}
	g_byte_array_append(client->out, (const guint8 *)line->str, (guint)line->len);
	g_byte_array_append(client->out, (const guint8 *)"\r\n", 2);
	if (!client->writable)
		client_write_now(client);
	if (!client->dead && client->out->len > 0 && !client->writable)
		client->writable =
			watch(client->control, client->fd, G_IO_OUT, on_writable, client);
}

static void send_error(struct client *client, const char *class, const char *text,
		       const struct json *id)
{
	g_autoptr(GString) line = g_string_new("{\"error\":{");
	json_append_member_string(line, "class", class);
	json_append_member_string(line, "desc", text);
	g_string_append_c(line, '}');
	if (id) {
		json_append_key(line, "id");
		json_append(line, id);
	}
	g_string_append_c(line, '}');
	client_send(client, line);
}

static void send_greeting(struct client *client)
{
	g_autoptr(GString) line = g_string_new("{\"QMP\":{\"version\":");
	control_append_version(line);
	g_string_append(line, ",\"capabilities\":[]}}");
	client_send(client, line);
}

/* --- Messages --- */

static const char *type_name(enum json_type type)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",     [JSON_BOOL] = "boolean",  [JSON_INTEGER] = "integer",
		[JSON_DOUBLE] = "number", [JSON_STRING] = "string", [JSON_ARRAY] = "array",
		[JSON_OBJECT] = "object"};
	return names[type];
}

static bool check_arguments(const struct control_command *command, const struct json *arguments,
			    GError **error)
{
	static const struct control_argument none[] = {{NULL}};
	const struct control_argument *list = command->arguments ? command->arguments : none;
	for (guint i = 0; arguments && i < arguments->keys->len; i++) {
		const char *key = arguments->keys->pdata[i];
		const struct control_argument *a = list;
		while (a->name && strcmp(a->name, key) != 0)
			a++;
		if (!a->name)
			return error_set(error, LODGE_ERROR_INVALID, "Parameter '%s' is unexpected",
					 key);
	}
	for (const struct control_argument *a = list; a->name; a++) {
		const struct json *value = arguments ? json_member(arguments, a->name) : NULL;
		if (!value && a->required)
			return error_set(error, LODGE_ERROR_INVALID, "Parameter '%s' is missing",
					 a->name);
		if (value && value->type != a->type)
			return error_set(error, LODGE_ERROR_INVALID,
					 "Invalid parameter type for '%s', expected: %s", a->name,
					 type_name(a->type));
	}
	return true;
}

static void execute(struct client *client, const struct control_command *command,
		    const struct json *arguments, const struct json *id)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GString) value = g_string_new(NULL);
	if (!check_arguments(command, arguments, &error) ||
	    !command->run(&client->session, arguments, value, &error)) {
		send_error(client, "GenericError", error->message, id);
		return;
	}
	g_autoptr(GString) line = g_string_new("{\"return\":");
	g_string_append(line, value->len ? value->str : "{}");
	if (id) {
		json_append_key(line, "id");
		json_append(line, id);
	}
	g_string_append_c(line, '}');
	client_send(client, line);
}

/* Checks the outer object; NULL with @error where it is none of ours. */
static const char *message_command(const struct json *message, GError **error)
{
	static const char *const known[] = {"execute", "arguments", "id", NULL};
	if (message->type != JSON_OBJECT) {
		error_set(error, LODGE_ERROR_INVALID, "QMP input must be a JSON object");
		return NULL;
	}
	for (guint i = 0; i < message->keys->len; i++) {
		if (g_strv_contains(known, message->keys->pdata[i]))
			continue;
		error_set(error, LODGE_ERROR_INVALID, "QMP input member '%s' is unexpected",
			  (char *)message->keys->pdata[i]);
		return NULL;
	}
	const struct json *name = json_member(message, "execute");
	const struct json *arguments = json_member(message, "arguments");
	if (!name)
		error_set(error, LODGE_ERROR_INVALID, "QMP input lacks member 'execute'");
	else if (name->type != JSON_STRING)
		error_set(error, LODGE_ERROR_INVALID,
			  "QMP input member 'execute' must be a string");
	else if (arguments && arguments->type != JSON_OBJECT)
		error_set(error, LODGE_ERROR_INVALID,
			  "QMP input member 'arguments' must be an object");
	else
		return name->string;
	return NULL;
}

static void run_message(struct client *client, const struct json *message)
{
	g_autoptr(GError) error = NULL;
	const struct json *id = json_member(message, "id");
	const char *name = message_command(message, &error);
	if (!name) {
		send_error(client, "GenericError", error->message, id);
		return;
	}
	bool negotiation = strcmp(name, "qmp_capabilities") == 0;
	const struct control_command *command = control_command_find(name);
	if (!client->session.negotiated && !negotiation) {
		send_error(client, "CommandNotFound",
			   "Expecting capabilities negotiation with 'qmp_capabilities'", id);
	} else if (client->session.negotiated && negotiation) {
		send_error(client, "CommandNotFound",
			   "Capabilities negotiation is already complete, command ignored", id);
	} else if (!command) {
		g_autofree char *text = g_strdup_printf("The command %s has not been found", name);
		send_error(client, "CommandNotFound", text, id);
	} else {
		execute(client, command, json_member(message, "arguments"), id);
	}
}

static void framer_reset(struct framer *framer)
{
	g_byte_array_set_size(framer->message, 0);
	framer->depth = 0;
	framer->in_string = framer->escaped = false;
}

static void take_message(struct client *client)
{
	g_autoptr(GError) error = NULL;
	struct framer *framer = &client->framer;
	struct json *message =
		json_parse((const char *)framer->message->data, framer->message->len, &error);
	framer_reset(framer);
	if (message) {
		run_message(client, message);
		json_free(message);
	} else {
		send_error(client, "GenericError", error->message, NULL);
	}
}

static void refuse(struct client *client, const char *text)
{
	framer_reset(&client->framer);
	client->framer.skipping = true;
	send_error(client, "GenericError", text, NULL);
}

/* Follows strings and brackets. True when @byte completes a message. */
static bool frame_byte(struct framer *framer, uint8_t byte)
{
	if (framer->in_string) {
		if (framer->escaped)
			framer->escaped = false;
		else if (byte == '\\')
			framer->escaped = true;
		else if (byte == '"')
			framer->in_string = false;
		return false;
	}
	if (byte == '"')
		framer->in_string = true;
	else if (byte == '{' || byte == '[')
		framer->depth++;
	else if (byte == '}' || byte == ']')
		return --framer->depth == 0;
	return false;
}

static void take_byte(struct client *client, uint8_t byte)
{
	struct framer *framer = &client->framer;
	if (byte == PARSER_RESET) {
		framer_reset(framer);
		framer->skipping = false;
		return;
	}
	if (framer->skipping) {
		framer->skipping = byte != '\n';
		return;
	}
	if (framer->depth == 0 && strchr(" \t\r\n", byte) && byte)
		return;
	if (framer->depth == 0 && byte != '{' && byte != '[') {
		refuse(client, "Invalid JSON syntax");
		return;
	}
	g_byte_array_append(framer->message, &byte, 1);
	if (frame_byte(framer, byte))
		take_message(client);
	else if (framer->message->len >= MESSAGE_MAX)
		refuse(client, "the message is longer than 64 KiB");
	else if (framer->depth > MEMBERS_DEPTH_MAX)
		refuse(client, "the message is nested too deeply");
}

/* --- Clients --- */

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
	struct client *client = data;
	uint8_t buffer[READ_MAX];
	ssize_t n = client->dead ? 0 : recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return G_SOURCE_CONTINUE;
	for (ssize_t i = 0; i < n && !client->dead; i++)
		take_byte(client, buffer[i]);
	if (n > 0 && !client->dead)
		return G_SOURCE_CONTINUE;
	g_ptr_array_remove_fast(client->control->clients, client);
	return G_SOURCE_REMOVE;
}

static gboolean on_acceptable(gint fd, GIOCondition condition, gpointer data)
{
	static const char full[] = "{\"error\":{\"class\":\"GenericError\",\"desc\":"
				   "\"too many clients are connected\"}}\r\n";
	struct control *control = data;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer < 0)
		return G_SOURCE_CONTINUE;
	if (control->clients->len >= CLIENTS_MAX) {
		send(peer, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(peer);
		return G_SOURCE_CONTINUE;
	}
	struct client *client = g_new0(struct client, 1);
	client->control = control;
	client->fd = peer;
	client->framer.message = g_byte_array_new();
	client->out = g_byte_array_new();
	client->session.board = control->board;
	g_ptr_array_add(control->clients, client);
	client->readable = watch(control, peer, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, client);
	send_greeting(client);
	return G_SOURCE_CONTINUE;
}

void control_event(struct control *control, enum vm_event_kind kind, const char *detail)
{
	g_autoptr(GString) data = g_string_new(NULL);
	g_autoptr(GString) line = g_string_new("{");
	gint64 now = g_get_real_time();
	json_append_member_string(line, "event",
				  control_event_name(control->board->vm, kind, detail, data));
	if (data->len) {
		json_append_key(line, "data");
		g_string_append(line, data->str);
	}
	json_append_key(line, "timestamp");
	g_string_append_c(line, '{');
	json_append_member_int(line, "seconds", now / G_USEC_PER_SEC);
	json_append_member_int(line, "microseconds", now % G_USEC_PER_SEC);
	g_string_append(line, "}}");
	for (guint i = 0; i < control->clients->len; i++) {
		struct client *client = control->clients->pdata[i];
		if (client->session.negotiated)
			client_send(client, line);
	}
}

struct control *control_new(struct board *board, int listener)
{
	struct control *control = g_new0(struct control, 1);
	control->board = board;
	control->listener = listener;
	control->clients = g_ptr_array_new_with_free_func(client_free);
	fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
	control->acceptor = watch(control, listener, G_IO_IN, on_acceptable, control);
	return control;
}

static void drain(struct client *client, gint64 end)
{
	while (client->out->len > 0 && !client->dead) {
		struct pollfd p = {.fd = client->fd, .events = POLLOUT};
		gint64 left = end - g_get_monotonic_time();
		if (left <= 0 || poll(&p, 1, (int)(left / 1000) + 1) <= 0)
			return;
		client_write_now(client);
	}
}

void control_free(struct control *control)
{
	if (!control)
		return;
	gint64 end = g_get_monotonic_time() + DRAIN_MS * 1000;
	for (guint i = 0; i < control->clients->len; i++)
		drain(control->clients->pdata[i], end);
	drop_source(&control->acceptor);
	g_ptr_array_free(control->clients, TRUE);
	g_free(control);
}
