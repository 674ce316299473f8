// SPDX-License-Identifier: GPL-2.0-or-later
/* The jail: each attempt runs in a process of its own that locks itself in first. */
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

/* What a locked-in process tries. Returns 0 when that went as it should (where it returns). */
typedef int attempt_fn(void);

static int try_exec(void)
{
	char *const words[] = {NULL};
	execve("/bin/true", words, words);
	return 1;
}

static int try_socket(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
	return 1;
}

static int try_fork(void)
{
	return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) == 0 ? 0 : 1;
}

static int try_kill(void)
{
	kill(getppid(), 0);
	return 1;
}

static int try_tgkill(void)
{
	syscall(SYS_tgkill, getppid(), getppid(), 0);
	return 1;
}

static int try_ptrace(void)
{
	syscall(SYS_ptrace, 0, 0, NULL, NULL);
	return 1;
}

static int try_executable_memory(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return 1;
}

static int try_tiocsti(void)
{
	syscall(SYS_ioctl, 0, 0x5412, "x");
	return 1;
}

static int open_is_refused(void)
{
	return open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES ? 0 : 1;
}

static int new_ring_is_refused(void)
{
	return syscall(SYS_io_uring_setup, 8, NULL) == -1 && errno == EPERM ? 0 : 1;
}

static int no_privileges(void)
{
	return getuid() != 0 && geteuid() != 0 && prctl(PR_SET_NAME, "jailed") == 0 ? 0 : 1;
}

static gpointer add_one(gpointer data)
{
	return GINT_TO_POINTER(GPOINTER_TO_INT(data) + 1);
}

static int new_thread_works(void)
{
	GThread *thread = g_thread_new("late", add_one, GINT_TO_POINTER(41));
	return GPOINTER_TO_INT(g_thread_join(thread)) == 42 ? 0 : 1;
}

static int memory_works(void)
{
	uint8_t *p = malloc(8 << 20);
	p[5 << 20] = 1;
	int ok = p[5 << 20] == 1;
	free(p);
	return ok ? 0 : 1;
}

static int abort_works(void)
{
	abort();
}

static GMutex wait_lock;

static gpointer open_when_told(gpointer data)
{
	g_mutex_lock(&wait_lock);
	g_mutex_unlock(&wait_lock);
	return GINT_TO_POINTER(open_is_refused());
}

/* Runs @attempt in a locked-in child; returns its wait status. */
static int locked_in(attempt_fn *attempt)
{
	pid_t pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		g_autoptr(GError) error = NULL;
		close(STDERR_FILENO); /* the refusal's message */
		open("/dev/null", O_WRONLY);
		jail_drop_capabilities();
		if (!jail_leave_root(NOBODY, NOBODY, &error) || !jail_enter(&error))
			_exit(99);
		_exit(attempt());
	}
	int status = 0;
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return status;
}

static void test_killed(gconstpointer data)
{
	int status = locked_in(*(attempt_fn *const *)data);
	g_assert_true(WIFSIGNALED(status));
	g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
}

static void test_fine(gconstpointer data)
{
	int status = locked_in(*(attempt_fn *const *)data);
	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static void test_abort(void)
{
	int status = locked_in(abort_works);
	g_assert_true(WIFSIGNALED(status));
	g_assert_cmpint(WTERMSIG(status), ==, SIGABRT);
}

/* A thread that was there before is locked in as well. */
static void test_older_thread(void)
{
	pid_t pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		g_mutex_lock(&wait_lock);
		GThread *thread = g_thread_new("early", open_when_told, NULL);
		if (!jail_leave_root(NOBODY, NOBODY, NULL) || !jail_enter(NULL))
			_exit(99);
		g_mutex_unlock(&wait_lock);
		_exit(GPOINTER_TO_INT(g_thread_join(thread)));
	}
	int status = 0;
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

static void test_root_is_refused(void)
{
	g_autoptr(GError) error = NULL;
	if (geteuid() != 0) {
		g_test_skip("not started by root");
		return;
	}
	g_assert_false(jail_leave_root(0, 0, &error));
	g_assert_nonnull(error);
}

static const struct {
	const char *name;
	attempt_fn *attempt;
	bool killed;
} attempts[] = {
	{"exec", try_exec, true},
	{"socket", try_socket, true},
	{"fork", try_fork, true},
	{"kill", try_kill, true},
	{"tgkill", try_tgkill, true},
	{"ptrace", try_ptrace, true},
	{"executable-memory", try_executable_memory, true},
	{"tiocsti", try_tiocsti, true},
	{"open", open_is_refused, false},
	{"new-ring", new_ring_is_refused, false},
	{"no-privileges", no_privileges, false},
	{"new-thread", new_thread_works, false},
	{"memory", memory_works, false},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(attempts); i++) {
		g_autofree char *path = g_strdup_printf("/vmm/jail/%s", attempts[i].name);
		g_test_add_data_func(path, &attempts[i].attempt,
				     attempts[i].killed ? test_killed : test_fine);
	}
	g_test_add_func("/vmm/jail/abort", test_abort);
	g_test_add_func("/vmm/jail/older-thread", test_older_thread);
	g_test_add_func("/vmm/jail/root", test_root_is_refused);
	return g_test_run();
}
