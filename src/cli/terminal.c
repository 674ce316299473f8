// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's serial port on standard input and output. */
#include "cli/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A guest that prints faster than the output takes is held up beyond OUT_MAX. A write of what
 * poll(2) promises room for must not block: terminals promise less than pipes. */
enum { OUT_MAX = 16 << 20, IN_MAX = 4096, READ_MAX = 65536, TTY_CHUNK = 256, PIPE_CHUNK = 4096 };

/* For the crash handler, which knows no struct. */
static struct termios saved_mode;
static volatile sig_atomic_t mode_saved;

static void set_mode(const struct termios *mode)
{
	sigset_t block, old;
	sigemptyset(&block);
	sigaddset(&block, SIGTTOU); /* restoring from the background must not stop us */
	sigprocmask(SIG_BLOCK, &block, &old);
	tcsetattr(STDIN_FILENO, TCSADRAIN, mode);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void on_crash(int signal)
{
	if (mode_saved)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved_mode);
	raise(signal); /* SA_RESETHAND: the default action */
}

static void catch_crashes(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS};
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_RESETHAND | SA_NODEFER};
	for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
		sigaction(signals[i], &action, NULL);
}

void terminal_make_raw(struct terminal *t)
{
	struct termios raw;
	if (t->guest < 0 || !t->is_tty || tcgetpgrp(STDIN_FILENO) != getpgrp() ||
	    tcgetattr(STDIN_FILENO, &raw) < 0)
		return;
	if (!mode_saved) {
		saved_mode = raw;
		mode_saved = 1;
		catch_crashes();
	}
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* messages of ours end with a plain newline */
	set_mode(&raw);
	t->is_raw = true;
}

void terminal_restore(struct terminal *t)
{
	if (t->is_raw)
		set_mode(&saved_mode);
	t->is_raw = false;
}

void terminal_init(struct terminal *t, int guest)
{
	*t = (struct terminal){.guest = guest,
			       .input = guest >= 0,
			       .is_tty = isatty(STDIN_FILENO),
			       .out = g_byte_array_new(),
			       .in = g_byte_array_new()};
	if (guest >= 0)
		fcntl(guest, F_SETFL, fcntl(guest, F_GETFL) | O_NONBLOCK);
	terminal_make_raw(t);
	if (t->is_tty && !t->is_raw)
		t->input = false; /* in the background: the terminal is the shell's */
}

static void close_guest(struct terminal *t)
{
	close(t->guest);
	t->guest = -1;
	t->input = false;
}

static size_t out_chunk(void)
{
	return isatty(STDOUT_FILENO) ? TTY_CHUNK : PIPE_CHUNK;
}

static void write_out(struct terminal *t)
{
	ssize_t n = write(STDOUT_FILENO, t->out->data, MIN(t->out->len, out_chunk()));
	if (n > 0) {
		g_byte_array_remove_range(t->out, 0, (guint)n);
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		t->lost = true;
		g_byte_array_set_size(t->out, 0);
	}
}

void terminal_fini(struct terminal *t)
{
	while (t->out->len > 0) {
		struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
		if (poll(&p, 1, 5000) <= 0)
			break;
		write_out(t);
	}
	terminal_restore(t);
	if (t->guest >= 0)
		close_guest(t);
	g_byte_array_free(t->out, TRUE);
	g_byte_array_free(t->in, TRUE);
}

void terminal_prepare(const struct terminal *t, struct pollfd polls[TERMINAL_POLLS])
{
	bool room = t->out->len < OUT_MAX;
	polls[0] = (struct pollfd){.fd = t->input && t->in->len < IN_MAX ? STDIN_FILENO : -1,
				   .events = POLLIN};
	polls[1] = (struct pollfd){
		.fd = room || t->in->len ? t->guest : -1,
		.events = (short)((room ? POLLIN : 0) | (t->in->len ? POLLOUT : 0))};
	polls[2] = (struct pollfd){.fd = t->out->len ? STDOUT_FILENO : -1, .events = POLLOUT};
}

static void read_input(struct terminal *t)
{
	uint8_t buffer[IN_MAX];
	ssize_t n = read(STDIN_FILENO, buffer, IN_MAX - t->in->len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		t->input = false;
		return;
	}
	/* Only a person types the escape character; in a pipe it is a byte like others. */
	const uint8_t *escape = t->is_tty ? memchr(buffer, TERMINAL_ESCAPE, (size_t)n) : NULL;
	t->left = t->left || escape;
	g_byte_array_append(t->in, buffer, (guint)(escape ? escape - buffer : n));
}

static void read_guest(struct terminal *t)
{
	uint8_t buffer[READ_MAX];
	ssize_t n = read(t->guest, buffer, sizeof(buffer));
	if (n > 0 && !t->lost)
		g_byte_array_append(t->out, buffer, (guint)n);
	else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_guest(t);
}

static void write_guest(struct terminal *t)
{
	ssize_t n = send(t->guest, t->in->data, t->in->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		g_byte_array_remove_range(t->in, 0, (guint)n);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		g_byte_array_set_size(t->in, 0); /* the guest is gone: reading tells */
}

void terminal_serve(struct terminal *t, const struct pollfd polls[TERMINAL_POLLS])
{
	if (polls[0].fd >= 0 && polls[0].revents)
		read_input(t);
	if (polls[1].fd >= 0 && (polls[1].revents & POLLOUT))
		write_guest(t);
	if (polls[1].fd >= 0 && (polls[1].revents & (POLLIN | POLLHUP | POLLERR)))
		read_guest(t);
	if (polls[2].fd >= 0 && polls[2].revents)
		write_out(t);
}
