// SPDX-License-Identifier: GPL-2.0-or-later
/* The choice of an accelerator: what "auto" finds, what it costs, and what is said when /dev/kvm
 * cannot be had. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "accel/kvm-internal.h"

static void test_names(void)
{
	struct accel_choice choice;
	g_autoptr(GError) error = NULL;
	g_assert_true(accel_choose("soft", &choice, &error));
	g_assert_true(choice.accel == &accel_soft && !choice.fallback && !choice.reason);
	g_assert_true(accel_choose("kvm,soft", &choice, &error));
	g_assert_true(choice.accel == &accel_kvm && choice.fallback == &accel_soft);
	g_assert_false(accel_choose("xen", &choice, &error));
	g_assert_nonnull(strstr(error->message, "auto, kvm, soft or kvm,soft"));
}

static void test_auto(void)
{
	struct accel_choice choice;
	struct accel_probe probe;
	g_autoptr(GError) error = NULL;
	int64_t start = g_get_monotonic_time();
	accel_probe_kvm(&probe);
	int64_t us = g_get_monotonic_time() - start;
	g_test_message("probe: %d ms, %.1f MIPS, %s", (int)(us / 1000), probe.ring0_mips,
		       probe.obstacle ? probe.obstacle : "usable");
	g_assert_cmpint(us, <, 1000000);
	g_assert_true(accel_choose("auto", &choice, &error));
	g_assert_nonnull(choice.reason);
	g_assert_null(strchr(choice.reason, '\n'));
	g_assert_null(choice.fallback);
	if (!probe.usable)
		g_assert_true(choice.accel == &accel_soft && probe.obstacle);
	g_test_message("%s: %s", choice.accel->name, choice.reason);
	g_free(probe.obstacle);
	g_free(choice.reason);
}

/* Runs @prepare in a child process, which then opens /dev/kvm; the message. NULL: it could not be
 * prepared. */
static char *message_when(bool (*prepare)(void))
{
	char text[1024] = "";
	int fds[2], status = 0;
	g_assert_cmpint(pipe(fds), ==, 0);
	pid_t child = fork();
	if (child == 0) {
		g_autoptr(GError) error = NULL;
		if (!prepare())
			_exit(2);
		if (kvm_device_open(&error) >= 0)
			_exit(3);
		ssize_t n = write(fds[1], error->message, strlen(error->message));
		_exit(n < 0);
	}
	close(fds[1]);
	ssize_t n = read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	g_assert_cmpint(waitpid(child, &status, 0), ==, child);
	return n > 0 ? g_strdup(text) : NULL;
}

static bool become_nobody(void)
{
	return setgid(65534) == 0 && setuid(65534) == 0 && access("/dev/kvm", F_OK) == 0 &&
	       access("/dev/kvm", R_OK | W_OK) < 0 && errno == EACCES;
}

static bool hide_dev(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/dev", "tmpfs", 0, NULL) == 0;
}

static void test_no_permission(void)
{
	g_autofree char *text = message_when(become_nobody);
	if (!text) {
		g_test_skip("this needs root, and a /dev/kvm that others may not open");
		return;
	}
	g_test_message("%s", text);
	g_assert_nonnull(strstr(text, "no permission to open /dev/kvm"));
	g_assert_nonnull(strstr(text, "--accel soft"));
}

static void test_no_device(void)
{
	g_autofree char *text = message_when(hide_dev);
	if (!text) {
		g_test_skip("this needs the right to mount");
		return;
	}
	g_test_message("%s", text);
	g_assert_nonnull(strstr(text, "this host has no /dev/kvm"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/accel/choice/names", test_names);
	g_test_add_func("/accel/choice/auto", test_auto);
	g_test_add_func("/accel/choice/no-permission", test_no_permission);
	g_test_add_func("/accel/choice/no-device", test_no_device);
	return g_test_run();
}
