// SPDX-License-Identifier: GPL-2.0-or-later
/* Shared pieces of the block tests. */
#include "common.h"

#include <errno.h>

#include <string.h>

static char *folder;

const char *scratch(void)
{
	if (!folder) {
		GError *error = NULL;

		folder = g_dir_make_tmp("lodge-block-XXXXXX", &error);
		g_assert_no_error(error);
	}
	return folder;
}

char *scratch_path(const char *name)
{
	return g_build_filename(scratch(), name, NULL);
}

void scratch_clean(void)
{
	if (folder)
		run(NULL, "rm -rf %s", folder);
	g_clear_pointer(&folder, g_free);
}

bool have_qemu(void)
{
	g_autofree char *img = g_find_program_in_path("qemu-img");
	g_autofree char *io = g_find_program_in_path("qemu-io");

	if (img && io)
		return true;
	g_test_skip("qemu-img and qemu-io are not installed");
	return false;
}

bool have_judge(void)
{
	g_autofree char *img = g_find_program_in_path("qemu-img");

	return img != NULL;
}

static int run_line(char **output, const char *line)
{
	g_auto(GStrv) argv = NULL;
	g_autofree char *out = NULL;
	g_autofree char *err = NULL;
	GError *error = NULL;
	int status;

	g_assert_true(g_shell_parse_argv(line, NULL, &argv, &error));
	g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
		     &error);
	g_assert_no_error(error);
	if (output)
		*output = g_strconcat(out, err, NULL);
	return g_spawn_check_wait_status(status, NULL) ? 0 : (status >> 8 & 0xff);
}

int run(char **output, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	g_autofree char *line = g_strdup_vprintf(format, list);

	va_end(list);
	return run_line(output, line);
}

void run_ok(const char *format, ...)
{
	g_autofree char *output = NULL;
	va_list list;

	va_start(list, format);
	g_autofree char *line = g_strdup_vprintf(format, list);

	va_end(list);
	if (run_line(&output, line) != 0)
		g_error("%s: %s", line, output);
}

void judge(const char *path, bool leaks_allowed)
{
	g_autofree char *output = NULL;
	int status = run(&output, "qemu-img check -f qcow2 %s", path);

	if (status != 0 && !(leaks_allowed && status == 3))
		g_error("qemu-img check %s says %d: %s", path, status, output);
}

struct block *open_ok(const struct block_options *options)
{
	GError *error = NULL;
	struct block *b = block_open(options, &error);

	g_assert_no_error(error);
	g_assert_nonnull(b);
	return b;
}

void open_fails(const struct block_options *options, const char *words)
{
	GError *error = NULL;
	struct block *b = block_open(options, &error);

	g_assert_null(b);
	g_assert_nonnull(error);
	if (!strstr(error->message, words) || !strstr(error->message, options->file) ||
	    strchr(error->message, '\n'))
		g_error("wanted '%s' and the file in: %s", words, error->message);
	g_error_free(error);
}

void fill_pattern(uint8_t *buffer, uint64_t offset, size_t length, uint32_t seed)
{
	for (size_t i = 0; i < length; i++) {
		uint64_t x = (offset + i + 1) * UINT64_C(0x9e3779b97f4a7c15) + seed;

		buffer[i] = (uint8_t)(x >> 32) | 1;
	}
}

void store_init(struct store *s, const char *path)
{
	GError *error = NULL;
	char *data;
	gsize length;

	memset(s, 0, sizeof(*s));
	g_file_get_contents(path, &data, &length, &error);
	g_assert_no_error(error);
	s->bytes = g_byte_array_new_take((guint8 *)data, length);
	s->context = g_main_context_new();
}

void store_fini(struct store *s)
{
	g_byte_array_unref(s->bytes);
	if (s->log)
		g_array_unref(s->log);
	g_main_context_unref(s->context);
}

static struct block_file *store_file(void *opaque, const char *path,
				     const struct block_file_mode *mode, GError **error)
{
	struct store *s = opaque;
	struct block_file *memory =
		block_file_new_memory(path, s->bytes->data, s->bytes->len, 256 << 20);

	s->debug = block_file_new_debug(memory);
	block_file_debug_record(s->debug);
	return s->debug;
}

struct block *store_open(struct store *s, bool discard, GError **error)
{
	struct block_options options = {
		.file = "store", .format = "qcow2", .discard = discard, .context = s->context};
	struct image_env env = {.file = store_file, .file_opaque = s, .discard = discard};
	struct block *b = block_open_env(&options, &env, error);

	g_clear_pointer(&s->log, g_array_unref);
	if (b)
		s->log = g_array_ref(block_file_debug_log(s->debug));
	return b;
}

static void bytes_reach(GByteArray *bytes, uint64_t end)
{
	guint old = bytes->len;

	if (end <= old)
		return;
	g_byte_array_set_size(bytes, (guint)end);
	memset(bytes->data + old, 0, (size_t)end - old);
}

void store_apply(GByteArray *bytes, const struct debug_event *event, size_t from, size_t to)
{
	if (event->op == DEBUG_WRITE) {
		bytes_reach(bytes, event->offset + to);
		memcpy(bytes->data + event->offset + from, event->data + from, to - from);
	} else if (event->op == DEBUG_ZERO && event->offset + from < bytes->len) {
		to = MIN(to, bytes->len - event->offset);
		memset(bytes->data + event->offset + from, 0, to - from);
	} else if (event->op == DEBUG_TRUNCATE && event->offset > bytes->len) {
		bytes_reach(bytes, event->offset);
	} else if (event->op == DEBUG_TRUNCATE) {
		g_byte_array_set_size(bytes, (guint)event->offset);
	}
}

int store_close(struct store *s, struct block *b)
{
	int r = block_close(b);

	for (unsigned i = 0; i < s->log->len; i++) {
		const struct debug_event *event = &g_array_index(s->log, struct debug_event, i);

		store_apply(s->bytes, event, 0, event->length);
	}
	s->debug = NULL;
	return r;
}
