// SPDX-License-Identifier: GPL-2.0-or-later
/* Locks the machine in. The filter was compiled at build time (jail-filter.c): loading libseccomp
 * and compiling it here would cost more than the rest of the start. */
#include "vmm/jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/jail-filter.h"

static const struct sock_filter compiled[] = {
#include "jail-filter.inc"
};

void jail_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	if (geteuid() != 0)
		syscall(SYS_capset, &header, none); /* giving up is always allowed */
}

/* Names the call that was refused. Async-signal-safe. */
static void on_refused(int number, siginfo_t *info, void *context)
{
	static const char text[] = "lodge-vmm: the sandbox refused system call ";
	char line[sizeof(text) + 16], digits[12];
	size_t length = sizeof(text) - 1, count = 0;
	unsigned call = (unsigned)info->si_syscall;
	memcpy(line, text, length);
	do {
		digits[count++] = (char)('0' + call % 10);
		call /= 10;
	} while (call);
	while (count)
		line[length++] = digits[--count];
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, length) < 0)
		_exit(128 + SIGSYS);
	signal(SIGSYS, SIG_DFL);
	raise(SIGSYS); /* taken when this handler returns */
}

bool jail_leave_root(uid_t uid, gid_t gid, GError **error)
{
	if (geteuid() != 0)
		return true;
	if (uid == 0 || gid == 0)
		return error_set(error, LODGE_ERROR_INVALID,
				 "a machine does not run as root: give another uid and gid");
	/* Without CAP_SETGID (a container may withhold it) there are no groups worth keeping. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(error, errno, "cannot drop supplementary groups");
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return error_set_errno(error, errno, "cannot become user %u, group %u",
				       (unsigned)uid, (unsigned)gid);
	return true;
}

static bool set_filter(GError **error)
{
	g_autofree struct sock_filter *filter = g_memdup2(compiled, sizeof(compiled));
	struct sock_fprog program = {G_N_ELEMENTS(compiled), filter};
	/* Only now is it known who may be signalled: this process. */
	for (unsigned i = 0; i < G_N_ELEMENTS(compiled); i++) {
		if (filter[i].k == JAIL_OWN_PID)
			filter[i].k = (uint32_t)getpid();
	}
	long ret =
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	if (ret == 0)
		return true;
	return error_set_errno(error, ret < 0 ? errno : EAGAIN,
			       "cannot set the system call filter (run with --no-sandbox to do "
			       "without)");
}

bool jail_enter(GError **error)
{
	struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
	struct rlimit no_core = {0, 0};
	sigaction(SIGSYS, &action, NULL);
	setrlimit(RLIMIT_CORE, &no_core); /* guest memory stays out of files */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(error, errno, "cannot renounce new privileges");
	return set_filter(error);
}
