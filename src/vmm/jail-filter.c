// SPDX-License-Identifier: GPL-2.0-or-later
/* A build-time program: compiles the list of system calls that a machine may make with libseccomp
 * and prints it as BPF instructions in C. */
#include "vmm/jail-filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CALL(name) SCMP_SYS(name)
#define KVM_TYPE   0xae00u /* the second byte of every KVM request */

/* What a machine does while it runs. */
static const int allowed[] = {
	/* descriptors it has: disks, sockets, taps, terminals */
	CALL(read),
	CALL(write),
	CALL(readv),
	CALL(writev),
	CALL(pread64),
	CALL(pwrite64),
	CALL(preadv),
	CALL(pwritev),
	CALL(preadv2),
	CALL(pwritev2),
	CALL(close),
	CALL(lseek),
	CALL(fstat),
	CALL(newfstatat),
	CALL(fsync),
	CALL(fdatasync),
	CALL(ftruncate),
	CALL(fallocate),
	CALL(fcntl),
	CALL(poll),
	CALL(ppoll),
	CALL(eventfd2),
	CALL(accept4),
	CALL(sendto),
	CALL(sendmsg),
	CALL(recvfrom),
	CALL(recvmsg),
	CALL(shutdown),
	CALL(getsockopt),
	CALL(getpeername),
	CALL(getsockname),
	CALL(io_uring_enter),
	/* time and sleep */
	CALL(futex),
	CALL(clock_gettime),
	CALL(clock_getres),
	CALL(clock_nanosleep),
	CALL(nanosleep),
	CALL(gettimeofday),
	CALL(timerfd_create),
	CALL(timerfd_settime),
	CALL(timerfd_gettime),
	CALL(timer_create),
	CALL(timer_settime),
	CALL(timer_gettime),
	CALL(timer_getoverrun),
	CALL(timer_delete),
	CALL(sched_yield),
	/* memory */
	CALL(munmap),
	CALL(mremap),
	CALL(madvise),
	CALL(brk),
	CALL(membarrier),
	/* threads and signals */
	CALL(exit),
	CALL(exit_group),
	CALL(restart_syscall),
	CALL(rseq),
	CALL(set_robust_list),
	CALL(set_tid_address),
	CALL(gettid),
	CALL(getpid),
	CALL(getppid),
	CALL(getuid),
	CALL(geteuid),
	CALL(getgid),
	CALL(getegid),
	CALL(sched_getaffinity),
	CALL(sched_getattr),
	CALL(sched_setattr),
	CALL(getcpu),
	CALL(rt_sigaction),
	CALL(rt_sigprocmask),
	CALL(rt_sigreturn),
	CALL(rt_sigpending),
	CALL(sigaltstack),
	CALL(arch_prctl),
	/* harmless knowledge */
	CALL(getrandom),
	CALL(sysinfo),
	CALL(uname),
	CALL(getrusage),
};

/* What libraries try and can do without. */
static const struct {
	int call, error;
} refused[] = {
	{CALL(open), EACCES},
	{CALL(openat), EACCES},
	{CALL(access), EACCES},
	{CALL(faccessat), EACCES},
	{CALL(stat), EACCES},
	{CALL(statx), ENOSYS},
	{CALL(readlink), EACCES},
	{CALL(readlinkat), EACCES},
	{CALL(getcwd), EACCES},
	{CALL(prlimit64), EPERM},
	{CALL(setrlimit), EPERM},
	{CALL(io_uring_setup), EPERM},
	{CALL(io_uring_register), EPERM},
	{CALL(clone3), ENOSYS}, /* its flags cannot be seen here: glibc then uses clone */
};

/* Calls that depend on an argument: (argument & mask) == value. */
static const struct {
	int call;
	unsigned argument;
	scmp_datum_t mask, value;
} masked[] = {
	{CALL(ioctl), 1, 0xff00, KVM_TYPE},          {CALL(ioctl), 1, 0xffffffff, TUNSETOFFLOAD},
	{CALL(ioctl), 1, 0xffffffff, BLKGETSIZE64},  {CALL(ioctl), 1, 0xffffffff, BLKDISCARD},
	{CALL(ioctl), 1, 0xffffffff, BLKZEROOUT},    {CALL(ioctl), 1, 0xffffffff, TCGETS},
	{CALL(ioctl), 1, 0xffffffff, FIONREAD},      {CALL(mmap), 2, PROT_EXEC, 0},
	{CALL(mprotect), 2, PROT_EXEC, 0},           {CALL(clone), 0, CLONE_THREAD, CLONE_THREAD},
	{CALL(tgkill), 0, 0xffffffff, JAIL_OWN_PID}, {CALL(prctl), 0, 0xffffffff, PR_SET_NAME},
	{CALL(prctl), 0, 0xffffffff, PR_SET_VMA},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool add_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < COUNT(allowed); i++) {
		if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0) < 0)
			return false;
	}
	for (size_t i = 0; i < COUNT(refused); i++) {
		if (seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)refused[i].error),
				     refused[i].call, 0) < 0)
			return false;
	}
	for (size_t i = 0; i < COUNT(masked); i++) {
		if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, masked[i].call, 1,
				     SCMP_CMP(masked[i].argument, SCMP_CMP_MASKED_EQ,
					      masked[i].mask, masked[i].value)) < 0)
			return false;
	}
	return true;
}

static bool print_filter(scmp_filter_ctx filter)
{
	struct sock_filter line;
	FILE *file = tmpfile();
	if (!file || seccomp_export_bpf(filter, fileno(file)) < 0)
		return false;
	rewind(file);
	while (fread(&line, sizeof(line), 1, file) == 1)
		printf("{0x%02x, %u, %u, 0x%08x},\n", line.code, line.jt, line.jf, line.k);
	return fclose(file) == 0;
}

int main(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	/* A tree, not a list: some calls are made thousands of times a second. */
	bool ok = filter && seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 &&
		  add_rules(filter) && print_filter(filter);
	if (!ok)
		fprintf(stderr, "the system call filter cannot be compiled\n");
	seccomp_release(filter);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
