// SPDX-License-Identifier: GPL-2.0-or-later
/* Sizes, JSON, whole-file writes and descriptor passing. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdpass.h"
#include "base/file.h"
#include "base/json.h"
#include "base/units.h"

static void test_sizes(void)
{
	static const struct {
		const char *text;
		uint64_t unit, bytes;
	} good[] = {
		{"0", 1, 0},
		{"512", UINT64_C(1) << 20, UINT64_C(512) << 20},
		{"512M", 1, UINT64_C(512) << 20},
		{"1.5G", 1, UINT64_C(1536) << 20},
		{"2GiB", 1, UINT64_C(2) << 30},
		{"7k", 1, 7168},
		{"100B", UINT64_C(1) << 20, 100},
		{"0.5T", 1, UINT64_C(1) << 39},
		{"7E", 1, UINT64_C(7) << 60},
	};
	static const char *const bad[] = {"",     "-1",   "+1", " 1",  "1 ", "1X",
					  "M",    "1.",   ".5", "1MM", "8E", "99999999999999999999",
					  "0x10", "1GiBB"};
	for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
		uint64_t bytes = 1;
		g_autoptr(GError) error = NULL;
		g_assert_true(units_parse_size(good[i].text, good[i].unit, &bytes, &error));
		g_assert_cmpuint(bytes, ==, good[i].bytes);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		uint64_t bytes = 42;
		g_autoptr(GError) error = NULL;
		g_assert_false(units_parse_size(bad[i], 1, &bytes, &error));
		g_assert_error(error, LODGE_ERROR, LODGE_ERROR_INVALID);
		g_assert_cmpuint(bytes, ==, 42);
	}
	g_autofree char *text = units_format_size(UINT64_C(1536) << 20);
	g_assert_cmpstr(text, ==, "1.5 GiB");
}

static void test_json_round_trip(void)
{
	static const char *const texts[] = {
		"null",
		"[true,false,null]",
		"{\"a\":1,\"b\":[-9223372036854775808,9223372036854775807],\"c\":{}}",
		"\"q\\\"\\\\\\n\\u0001 \\u00e9\"",
		"[[[[]]]]",
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;
		struct json *json = json_parse(texts[i], strlen(texts[i]), &error);
		g_assert_no_error(error);
		GString *out = g_string_new(NULL);
		json_append(out, json);
		struct json *again = json_parse(out->str, out->len, &error);
		g_assert_no_error(error);
		GString *second = g_string_new(NULL);
		json_append(second, again);
		g_assert_cmpstr(out->str, ==, second->str);
		json_free(json);
		json_free(again);
		g_string_free(out, TRUE);
		g_string_free(second, TRUE);
	}
}

static void test_json_refused(void)
{
	static const char *const texts[] = {"",
					    "{",
					    "[1,]",
					    "{\"a\":}",
					    "{\"a\":1,\"a\":2}",
					    "01",
					    "1.",
					    "nul",
					    "\"\\x\"",
					    "\"\\u12\"",
					    "\"\xff\"",
					    "\"\\ud800\"",
					    "1 2",
					    "[1 2]",
					    "{1:2}",
					    "\"\t\"",
					    "1e999",
					    "--1",
					    "{\"a\" 1}",
					    "\"a",
					    "[",
					    "\"\\u0000\"",
					    "99999999999999999999"};
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;
		struct json *json = json_parse(texts[i], strlen(texts[i]), &error);
		if (json)
			g_error("accepted: %s", texts[i]);
		g_assert_error(error, LODGE_ERROR, LODGE_ERROR_INVALID);
	}
	GString *deep = g_string_new(NULL);
	for (unsigned i = 0; i < 100000; i++)
		g_string_append_c(deep, '[');
	g_autoptr(GError) error = NULL;
	g_assert_null(json_parse(deep->str, deep->len, &error));
	g_assert_nonnull(strstr(error->message, "deep"));
	g_string_free(deep, TRUE);
}

/* Any bytes: no crash, and what is accepted prints and parses again. */
static void test_json_random(void)
{
	static const char alphabet[] = "{}[]\",:\\u0123456789eE+-.truefalsn \n\xc3\xa9";
	for (unsigned i = 0; i < 200000; i++) {
		char text[24];
		gint length = g_test_rand_int_range(0, sizeof(text));
		for (gint j = 0; j < length; j++)
			text[j] = alphabet[g_test_rand_int_range(0, sizeof(alphabet) - 1)];
		struct json *json = json_parse(text, (size_t)length, NULL);
		if (!json)
			continue;
		GString *out = g_string_new(NULL);
		json_append(out, json);
		struct json *again = json_parse(out->str, out->len, NULL);
		g_assert_nonnull(again);
		json_free(again);
		json_free(json);
		g_string_free(out, TRUE);
	}
}

static void test_json_members(void)
{
	static const char text[] = "{\"name\":\"x\",\"n\":5,\"on\":true,\"list\":[1]}";
	static const char *const known[] = {"name", "n", "on", NULL};
	const char *name = NULL;
	int64_t n = 0;
	bool on = false;
	g_autoptr(GError) error = NULL;
	struct json *json = json_parse(text, strlen(text), NULL);
	g_assert_true(json_get_string(json, "name", true, &name, NULL));
	g_assert_cmpstr(name, ==, "x");
	g_assert_true(json_get_int(json, "n", true, 0, 5, &n, NULL));
	g_assert_cmpint(n, ==, 5);
	g_assert_true(json_get_bool(json, "on", true, &on, NULL));
	g_assert_true(on);
	g_assert_true(json_get_int(json, "absent", false, 0, 1, &n, NULL));
	g_assert_cmpint(n, ==, 5);
	g_assert_false(json_get_int(json, "n", true, 6, 9, &n, &error));
	g_assert_nonnull(strstr(error->message, "must be 6 to 9"));
	g_clear_error(&error);
	g_assert_false(json_get_string(json, "n", true, &name, &error));
	g_clear_error(&error);
	g_assert_false(json_get_string(json, "absent", true, &name, &error));
	g_clear_error(&error);
	g_assert_false(json_check_keys(json, known, &error));
	g_assert_nonnull(strstr(error->message, "list"));
	json_free(json);
}

static void test_atomic_write(void)
{
	g_autofree char *dir = g_dir_make_tmp("lodge-base-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "f", NULL);
	g_autofree char *missing = g_build_filename(dir, "no", "f", NULL);
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	struct stat st;
	g_assert_true(file_write_atomic(path, "one", 3, 0640, &error));
	g_assert_true(file_write_atomic(path, "second", 6, 0600, &error));
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	g_assert_cmpstr(text, ==, "second");
	g_assert_cmpint(stat(path, &st), ==, 0);
	g_assert_cmpint(st.st_mode & 0777, ==, 0600);
	g_assert_false(file_write_atomic(missing, "x", 1, 0600, &error));
	g_assert_nonnull(strstr(error->message, missing));
	g_unlink(path);
	g_assert_cmpint(rmdir(dir), ==, 0); /* no temporary file is left */
}

static void test_descriptors(void)
{
	int pair[2];
	char byte = 0;
	g_autoptr(GError) error = NULL;
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
	int fd = open("/dev/zero", O_RDONLY);
	g_assert_true(fdpass_send(pair[0], fd, &error));
	close(fd);
	int got = fdpass_receive(pair[1], &error);
	g_assert_cmpint(got, >=, 0);
	g_assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
	g_assert_cmpint(read(got, &byte, 1), ==, 1);
	close(got);
	g_assert_cmpint(write(pair[0], "x", 1), ==, 1);
	g_assert_cmpint(fdpass_receive(pair[1], &error), ==, -1);
	g_assert_nonnull(error);
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/sizes", test_sizes);
	g_test_add_func("/base/json/round-trip", test_json_round_trip);
	g_test_add_func("/base/json/refused", test_json_refused);
	g_test_add_func("/base/json/random", test_json_random);
	g_test_add_func("/base/json/members", test_json_members);
	g_test_add_func("/base/file/atomic", test_atomic_write);
	g_test_add_func("/base/fdpass", test_descriptors);
	return g_test_run();
}
