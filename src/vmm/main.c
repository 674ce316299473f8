// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge-vmm: one machine. `lodge-vmm --machine FD` reads the description (JSON) from the
 * descriptor. */
#include <dlfcn.h>
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/board.h"
#include "vmm/control.h"
#include "vmm/exit.h"
#include "vmm/jail.h"
#include "vmm/status.h"

enum { DESCRIPTION_MAX = 4 << 20 };

struct process {
	GMainLoop *loop;
	struct board *board;
	struct control *control; /* NULL: none, or already closed */
	GSource *signals;
	int signal_fd;
	int status;
};

static struct json *read_description(int fd, GError **error)
{
	g_autoptr(GByteArray) text = g_byte_array_new();
	uint8_t buffer[4096];
	ssize_t n;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0 && text->len <= DESCRIPTION_MAX)
		g_byte_array_append(text, buffer, (guint)n);
	if (n < 0 || text->len > DESCRIPTION_MAX) {
		error_set_errno(error, n < 0 ? errno : EFBIG,
				"cannot read the machine description");
		return NULL;
	}
	close(fd);
	struct json *json = json_parse((const char *)text->data, text->len, error);
	if (!json)
		g_prefix_error(error, "the machine description is wrong: ");
	return json;
}

static void end(struct process *process, int status)
{
	process->status = status;
	g_main_loop_quit(process->loop);
}

static void on_event(void *opaque, enum vm_event_kind kind, const char *detail)
{
	struct process *process = opaque;
	int exit_port = process->board->debug_exit_status;
	if (process->control)
		control_event(process->control, kind, detail);
	switch (kind) {
	case VM_EVENT_SHUTDOWN:
		if (detail && g_str_has_prefix(detail, "host-"))
			end(process, EXIT_LEFT);
		else
			end(process, exit_port >= 0 ? exit_port : EXIT_GUEST_SHUTDOWN);
		break;
	case VM_EVENT_GUEST_PANICKED:
		fprintf(stderr, "lodge-vmm: the guest has crashed (%s)\n", detail);
		end(process, EXIT_GUEST_PANICKED);
		break;
	case VM_EVENT_ERROR:
		fprintf(stderr, "lodge-vmm: %s\n", detail);
		if (process->board->vm->state == RUN_INTERNAL_ERROR)
			end(process, EXIT_MACHINE_FAILED);
		break;
	case VM_EVENT_HANDOVER:
		fprintf(stderr, "lodge-vmm: %s\n", detail);
		break;
	default:
		break;
	}
}

/* --- Signals: the end from outside --- */

static sigset_t end_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

static gboolean on_signal(gint fd, GIOCondition condition, gpointer data)
{
	struct process *process = data;
	struct signalfd_siginfo info;
	if (read(fd, &info, sizeof(info)) == sizeof(info))
		vm_request_shutdown(process->board->vm, "host-signal");
	return G_SOURCE_CONTINUE;
}

static bool watch_signals(struct process *process, GError **error)
{
	sigset_t set = end_signals();
	process->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (process->signal_fd < 0)
		return error_set_errno(error, errno, "cannot watch for signals");
	process->signals = g_unix_fd_source_new(process->signal_fd, G_IO_IN);
	g_source_set_callback(process->signals, G_SOURCE_FUNC(on_signal), process, NULL);
	g_source_attach(process->signals, NULL);
	return true;
}

static void unwatch_signals(struct process *process)
{
	if (process->signals) {
		g_source_destroy(process->signals);
		g_source_unref(process->signals);
	}
	if (process->signal_fd >= 0)
		close(process->signal_fd);
}

/* The parent's death is told by a signal, which a change of user has cancelled. */
static bool watch_parent(pid_t parent, GError **error)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	return getppid() == parent ||
	       error_set(error, LODGE_ERROR_FAILED, "the program that started this one has ended");
}

static bool lock_in(const struct machine_config *config, const struct board *board, pid_t parent,
		    GError **error)
{
	/* Its name for the instruction on which KVM gives up could not be loaded later. */
	if (board->accel.accel == &accel_kvm && !config->no_sandbox)
		dlopen("libZydis.so.4.0", RTLD_LAZY | RTLD_LOCAL);
	if (config->no_sandbox)
		return !config->end_with_parent || watch_parent(parent, error);
	return jail_leave_root(config->uid, config->gid, error) &&
	       (!config->end_with_parent || watch_parent(parent, error)) && jail_enter(error);
}

static int run(const struct machine_config *config, pid_t parent, GError **error)
{
	struct process process = {.loop = g_main_loop_new(NULL, FALSE), .signal_fd = -1};
	process.board = board_new(config, NULL, error);
	if (!process.board) {
		g_main_loop_unref(process.loop);
		return EXIT_NOT_STARTED;
	}
	if (process.board->accel.reason)
		fprintf(stderr, "lodge-vmm: accelerator %s: %s\n", process.board->accel.accel->name,
			process.board->accel.reason);
	vm_add_listener(process.board->vm, on_event, &process);
	if (config->control.fd >= 0)
		process.control = control_new(process.board, config->control.fd);
	if (watch_signals(&process, error) && lock_in(config, process.board, parent, error) &&
	    (config->paused || vm_start(process.board->vm, error)))
		g_main_loop_run(process.loop);
	else
		process.status = EXIT_NOT_STARTED;
	if (config->status.fd >= 0)
		status_write(config->status.fd, process.board, process.status);
	g_clear_pointer(&process.control, control_free);
	board_free(process.board);
	unwatch_signals(&process);
	g_main_loop_unref(process.loop);
	return process.status;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	pid_t parent = getppid();
	guint64 fd;
	if (argc != 3 || strcmp(argv[1], "--machine") != 0 ||
	    !g_ascii_string_to_unsigned(argv[2], 10, 0, INT_MAX, &fd, NULL)) {
		fprintf(stderr,
			"usage: lodge-vmm --machine FD\n"
			"Reads a machine description from the descriptor; started by lodge and "
			"lodged. To run a guest by hand use `lodge run`.\n");
		return EXIT_NOT_STARTED;
	}
	sigset_t set = end_signals();
	sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread: they inherit it */
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_TIMERSLACK, 1);
	jail_drop_capabilities();
	struct json *json = read_description((int)fd, &error);
	struct machine_config *config = json ? machine_config_parse(json, &error) : NULL;
	json_free(json);
	int status = config ? run(config, parent, &error) : EXIT_NOT_STARTED;
	if (config)
		machine_config_free(config);
	if (error)
		fprintf(stderr, "lodge-vmm: %s\n", error->message);
	return status;
}
