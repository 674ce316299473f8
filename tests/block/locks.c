// SPDX-License-Identifier: GPL-2.0-or-later
/* One writer at a time, whoever it is: among ourselves, and between QEMU's programs and us. */
#include "common.h"

#include "base/error.h"

#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

static char *make(const char *name, const char *backing)
{
	char *path = scratch_path(name);
	struct block_create_options create = {.file = path,
					      .format = "qcow2",
					      .size_bytes = 1 << 20,
					      .backing_file = backing,
					      .backing_format = backing ? "qcow2" : NULL};
	GError *error = NULL;

	g_assert_true(block_create(&create, &error));
	return path;
}

static void test_ourselves(void)
{
	g_autofree char *path = make("own.qcow2", NULL);
	struct block_options writer = {.file = path, .format = "qcow2"};
	struct block_options reader = {.file = path, .format = "qcow2", .read_only = true};
	struct block_options peeker = {
		.file = path, .format = "qcow2", .read_only = true, .unlocked = true};
	struct block_create_options create = {.file = path, .format = "raw", .size_bytes = 512};
	g_autofree char *self = g_strdup_printf("(process %d)", (int)getpid());
	GError *error = NULL;
	struct block *b = open_ok(&writer);

	open_fails(&writer, "in use by");
	open_fails(&writer, self);
	open_fails(&reader, "writes to it");
	g_assert_false(block_create(&create, &error));
	g_assert_error(error, LODGE_ERROR, LODGE_ERROR_BUSY);
	g_clear_error(&error);
	block_close(open_ok(&peeker));
	block_close(b);
	b = open_ok(&reader);
	struct block *second = open_ok(&reader);

	open_fails(&writer, "lets nobody else write");
	block_close(b);
	block_close(second);
	block_close(open_ok(&writer));
}

/* A backing file may be shared by overlays, but not written under them. */
static void test_backing(void)
{
	g_autofree char *base = make("base.qcow2", NULL);
	g_autofree char *one = make("one.qcow2", "base.qcow2");
	g_autofree char *two = make("two.qcow2", "base.qcow2");
	struct block_options base_options = {.file = base, .format = "qcow2"};
	struct block_options one_options = {.file = one, .format = "qcow2"};
	struct block_options two_options = {.file = two, .format = "qcow2"};
	struct block *a = open_ok(&one_options), *b = open_ok(&two_options);

	open_fails(&base_options, "in use by");
	block_close(a);
	block_close(b);
	a = open_ok(&base_options);
	GError *error = NULL;

	g_assert_null(block_open(&one_options, &error));
	g_assert_nonnull(strstr(error->message, base));
	g_error_free(error);
	block_close(a);
}

static void test_qemu_refuses(void)
{
	g_autofree char *path = make("ours.qcow2", NULL);
	g_autofree char *output = NULL;
	g_autofree char *info = NULL;
	struct block_options options = {.file = path, .format = "qcow2"};

	if (!have_qemu())
		return;
	struct block *b = open_ok(&options);

	g_assert_cmpint(run(&output, "qemu-io -f qcow2 -c 'write 0 512' %s", path), !=, 0);
	g_assert_nonnull(strstr(output, "lock"));
	g_assert_cmpint(run(&info, "qemu-img info %s", path), !=, 0);
	g_assert_nonnull(strstr(info, "lock"));
	run_ok("qemu-img info -U %s", path);
	block_close(b);
	options.read_only = true;
	b = open_ok(&options);
	run_ok("qemu-img info %s", path);
	g_free(g_steal_pointer(&output));
	g_assert_cmpint(run(&output, "qemu-io -f qcow2 -c 'write 0 512' %s", path), !=, 0);
	block_close(b);
	run_ok("qemu-io -f qcow2 -c 'write 0 512' %s", path);
}

/* qemu-io holds the image while it waits for commands; its prompt tells that it has it. */
static GSubprocess *qemu_holding(const char *path, const char *mode)
{
	GError *error = NULL;
	GSubprocess *process =
		g_subprocess_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE,
				 &error, "qemu-io", "-f", "qcow2", mode, path, NULL);
	char prompt[8];

	g_assert_no_error(error);
	g_assert_cmpint(g_input_stream_read(g_subprocess_get_stdout_pipe(process), prompt,
					    sizeof(prompt), NULL, &error),
			>, 0);
	g_assert_no_error(error);
	return process;
}

static void let_go(GSubprocess *process)
{
	GError *error = NULL;

	g_assert_true(g_output_stream_close(g_subprocess_get_stdin_pipe(process), NULL, &error));
	g_assert_true(g_subprocess_wait(process, NULL, &error));
	g_object_unref(process);
}

static void test_we_refuse(void)
{
	g_autofree char *path = make("theirs.qcow2", NULL);
	struct block_options writer = {.file = path, .format = "qcow2"};
	struct block_options reader = {.file = path, .format = "qcow2", .read_only = true};

	if (!have_qemu())
		return;
	GSubprocess *process = qemu_holding(path, "-n");
	g_autofree char *pid =
		g_strdup_printf("qemu-io (process %s)", g_subprocess_get_identifier(process));

	open_fails(&writer, pid);
	open_fails(&reader, pid);
	let_go(process);
	process = qemu_holding(path, "-r");
	open_fails(&writer, "lets nobody else write");
	block_close(open_ok(&reader));
	let_go(process);
	block_close(open_ok(&writer));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/locks/ourselves", test_ourselves);
	g_test_add_func("/block/locks/backing", test_backing);
	g_test_add_func("/block/locks/qemu-refuses", test_qemu_refuses);
	g_test_add_func("/block/locks/we-refuse", test_we_refuse);
	int status = g_test_run();

	scratch_clean();
	return status;
}
