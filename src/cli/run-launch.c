// SPDX-License-Identifier: GPL-2.0-or-later
/* Starts lodge-vmm, and stays as its parent: terminal, signals, exit status. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/run.h"
#include "cli/terminal.h"
#include "vmm/exit.h"

/* How long a guest's lodge-vmm may take to write its disks out when it is told to end. */
#define END_LIMIT_US (10 * G_USEC_PER_SEC)

struct launch {
	pid_t pid;
	int signal_fd;
	struct terminal terminal;
	bool running, told; /* told: to end */
	int wait_status;
	gint64 kill_at; /* 0: not yet */
};

/* --- Finding and starting --- */

/* Beside this program, in the build tree, or where it is installed. */
static char *find_vmm(GError **error)
{
	static const char *const places[] = {"lodge-vmm", "../vmm/lodge-vmm",
					     "../libexec/lodge/lodge-vmm", NULL};
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = g_path_get_dirname(self ? self : LODGE_LIBEXECDIR);
	for (const char *const *place = places; *place; place++) {
		g_autofree char *path = g_build_filename(folder, *place, NULL);
		if (access(path, X_OK) == 0)
			return g_steal_pointer(&path);
	}
	if (access(LODGE_LIBEXECDIR "/lodge-vmm", X_OK) == 0)
		return g_strdup(LODGE_LIBEXECDIR "/lodge-vmm");
	error_set(error, LODGE_ERROR_FAILED,
		  "cannot find lodge-vmm, neither in %s nor in %s: is Lodge installed completely?",
		  folder, LODGE_LIBEXECDIR);
	return NULL;
}

static int open_description(const struct guest *guest, GError **error)
{
	int fd = memfd_create("machine", MFD_CLOEXEC);
	int ret = fd < 0 ? -errno : file_pwrite_all(fd, guest->json->str, guest->json->len, 0);
	if (ret == 0)
		return fd;
	error_set_errno(error, -ret, "cannot write the machine description");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* In the new process, up to exec: async-signal-safe calls only. */
static void become_vmm(const struct guest *guest, char *const *words, int description, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_LEFT);
	setpgid(0, 0); /* the terminal's signals are ours to pass on */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	fcntl(description, F_SETFD, 0);
	for (guint i = 0; i < guest->fds->len; i++)
		fcntl(g_array_index(guest->fds, int, i), F_SETFD, 0);
	execv(words[0], words);
	_exit(127);
}

static bool start(struct launch *launch, struct guest *guest, GError **error)
{
	g_autofree char *path = find_vmm(error);
	int description = path ? open_description(guest, error) : -1;
	if (description < 0)
		return false;
	g_autofree char *number = g_strdup_printf("%d", description);
	char option[] = "--machine";
	char *words[] = {path, option, number, NULL};
	pid_t parent = getpid();
	launch->pid = fork();
	if (launch->pid == 0)
		become_vmm(guest, words, description, parent);
	close(description);
	if (launch->pid < 0)
		return error_set_errno(error, errno, "cannot start %s", path);
	launch->running = true;
	guest_close_fds(guest);
	return true;
}

/* --- While it runs --- */

static void tell_to_end(struct launch *launch)
{
	if (!launch->running)
		return;
	kill(launch->pid, launch->told ? SIGKILL : SIGTERM);
	if (!launch->told)
		launch->kill_at = g_get_monotonic_time() + END_LIMIT_US;
	launch->told = true;
}

static void stop_self(struct launch *launch)
{
	terminal_restore(&launch->terminal);
	raise(SIGSTOP);
	terminal_make_raw(&launch->terminal);
}

static void on_signal(struct launch *launch)
{
	struct signalfd_siginfo info;
	if (read(launch->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGTSTP)
		stop_self(launch);
	else if (info.ssi_signo != SIGCHLD)
		tell_to_end(launch);
	else if (waitpid(launch->pid, &launch->wait_status, WNOHANG) == launch->pid)
		launch->running = false;
}

static int time_left(const struct launch *launch)
{
	if (!launch->kill_at)
		return -1;
	return (int)(MAX(0, launch->kill_at - g_get_monotonic_time()) / 1000) + 1;
}

/* Until lodge-vmm has ended and its last output was read. */
static void relay(struct launch *launch)
{
	struct pollfd polls[TERMINAL_POLLS + 1];
	while (launch->running || launch->terminal.guest >= 0) {
		terminal_prepare(&launch->terminal, polls);
		polls[TERMINAL_POLLS] = (struct pollfd){.fd = launch->signal_fd, .events = POLLIN};
		if (poll(polls, TERMINAL_POLLS + 1, time_left(launch)) < 0 && errno != EINTR)
			break;
		if (polls[TERMINAL_POLLS].revents)
			on_signal(launch);
		terminal_serve(&launch->terminal, polls);
		if ((launch->terminal.left || launch->terminal.lost) && !launch->told)
			tell_to_end(launch);
		if (launch->kill_at && g_get_monotonic_time() >= launch->kill_at) {
			launch->kill_at = 0;
			tell_to_end(launch);
		}
	}
}

static int exit_status(const struct launch *launch)
{
	int status = launch->wait_status;
	if (WIFEXITED(status) && WEXITSTATUS(status) != 127)
		return WEXITSTATUS(status);
	if (WIFEXITED(status)) {
		fprintf(stderr, "lodge: lodge-vmm could not be executed\n");
		return EXIT_NOT_STARTED;
	}
	/* SIGTERM: it had not begun to watch for signals. */
	if (launch->told && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM))
		return EXIT_LEFT;
	fprintf(stderr, "lodge: lodge-vmm was ended by signal %d (%s)%s\n", WTERMSIG(status),
		strsignal(WTERMSIG(status)),
		WTERMSIG(status) == SIGSYS ? ": its sandbox refused a system call" : "");
	return EXIT_MACHINE_FAILED;
}

int guest_run(struct guest *guest, GError **error)
{
	static const int watched[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP};
	struct launch launch = {0};
	sigset_t set;
	sigemptyset(&set);
	for (unsigned i = 0; i < G_N_ELEMENTS(watched); i++)
		sigaddset(&set, watched[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	launch.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (launch.signal_fd < 0) {
		error_set_errno(error, errno, "cannot watch for signals");
		return -1;
	}
	if (!start(&launch, guest, error)) {
		close(launch.signal_fd);
		return -1;
	}
	terminal_init(&launch.terminal, guest->terminal);
	guest->terminal = -1;
	relay(&launch);
	terminal_fini(&launch.terminal);
	close(launch.signal_fd);
	return exit_status(&launch);
}
