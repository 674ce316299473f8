// SPDX-License-Identifier: GPL-2.0-or-later
/* Options from a table: every kind, both forms, and what is refused. */
#include "cli/options.h"

#include <string.h>

struct values {
	bool flag;
	char *text, *optional, *choice;
	uint64_t size;
	unsigned count;
	GPtrArray *list;
};

static const struct option table[] = {
	{"flag", OPTION_FLAG, offsetof(struct values, flag), NULL, "A switch."},
	{"text", OPTION_STRING, offsetof(struct values, text), "TEXT", "Some text."},
	{"optional", OPTION_OPTIONAL, offsetof(struct values, optional), "FILE", "Or nothing."},
	{"choice", OPTION_CHOICE, offsetof(struct values, choice), "one|two", "One of two."},
	{"size", OPTION_SIZE, offsetof(struct values, size), "SIZE", "Bytes."},
	{"count", OPTION_COUNT, offsetof(struct values, count), "N", "How many."},
	{"list", OPTION_LIST, offsetof(struct values, list), "ITEM", "Many."},
	{NULL},
};

/* Parses the words of @line, which are split at blanks. */
static bool parse(const char *line, struct values *values, GPtrArray *rest, GError **error)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	return options_parse(table, (int)g_strv_length(words), words, values, rest, error);
}

static void test_kinds(void)
{
	struct values v = {0};
	g_autoptr(GError) error = NULL;
	g_assert_true(
		parse("cmd --flag --text a --text=b --optional --choice two --size 1G --count 7 "
		      "--list x --list=y=z",
		      &v, NULL, &error));
	g_assert_no_error(error);
	g_assert_true(v.flag);
	g_assert_cmpstr(v.text, ==, "b");
	g_assert_cmpstr(v.optional, ==, "");
	g_assert_cmpstr(v.choice, ==, "two");
	g_assert_cmpuint(v.size, ==, UINT64_C(1) << 30);
	g_assert_cmpuint(v.count, ==, 7);
	g_assert_cmpuint(v.list->len, ==, 2);
	g_assert_cmpstr(v.list->pdata[1], ==, "y=z");
	options_free(table, &v);
	g_assert_null(v.text);
	g_assert_null(v.list);
}

static void test_plain_size_is_mib(void)
{
	struct values v = {0};
	g_assert_true(parse("cmd --size 512", &v, NULL, NULL));
	g_assert_cmpuint(v.size, ==, UINT64_C(512) << 20);
}

static void test_rest(void)
{
	struct values v = {0};
	g_autoptr(GError) error = NULL;
	g_auto(GStrv) words = g_strsplit("cmd a --flag - -- --text b", " ", -1);
	g_autoptr(GPtrArray) rest = g_ptr_array_new();
	g_assert_true(options_parse(table, (int)g_strv_length(words), words, &v, rest, &error));
	g_assert_cmpuint(rest->len, ==, 4);
	g_assert_cmpstr(rest->pdata[2], ==, "--text");
	g_assert_null(v.text);
}

static void test_refused(void)
{
	static const struct {
		const char *line, *word;
	} cases[] = {
		{"cmd --nothing", "--nothing"},
		{"cmd --fla", "--fla"},
		{"cmd -x", "-x"},
		{"cmd extra", "extra"},
		{"cmd --flag=yes", "--flag"},
		{"cmd --text", "--text"},
		{"cmd --choice three", "one|two"},
		{"cmd --size 12Q", "--size"},
		{"cmd --size -1", "--size"},
		{"cmd --count 0", "--count"},
		{"cmd --count 1.5", "--count"},
		{"cmd --count 99999999999999999999", "--count"},
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct values v = {0};
		g_autoptr(GError) error = NULL;
		g_assert_false(parse(cases[i].line, &v, NULL, &error));
		g_assert_nonnull(error);
		g_assert_nonnull(strstr(error->message, cases[i].word));
		g_assert_null(strchr(error->message, '\n'));
		options_free(table, &v);
	}
}

static void test_parts(void)
{
	struct values v = {0};
	g_autoptr(GError) error = NULL;
	g_autofree char *first = NULL;
	g_assert_true(options_parse_parts(table, "--disk", "a,,b.img,flag,text=x,,y,count=3", &v,
					  &first, &error));
	g_assert_cmpstr(first, ==, "a,b.img");
	g_assert_true(v.flag);
	g_assert_cmpstr(v.text, ==, "x,y");
	g_assert_cmpuint(v.count, ==, 3);
	options_free(table, &v);
}

static void test_parts_refused(void)
{
	static const char *const cases[] = {"",   ",flag",        "a,nothing", "a,text",
					    "a,", "a,flag=maybe", "a,count=x", "a,choice="};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct values v = {0};
		g_autoptr(GError) error = NULL;
		g_autofree char *first = NULL;
		g_assert_false(options_parse_parts(table, "--disk", cases[i], &v, &first, &error));
		g_assert_nonnull(strstr(error->message, "--disk"));
		options_free(table, &v);
	}
}

static void test_help(void)
{
	g_autofree char *help = options_help(table);
	g_auto(GStrv) lines = g_strsplit(help, "\n", -1);
	g_assert_nonnull(strstr(help, "--optional[=FILE]"));
	for (const struct option *o = table; o->name; o++)
		g_assert_nonnull(strstr(help, o->name));
	for (char **line = lines; *line; line++)
		g_assert_cmpuint(strlen(*line), <=, 80);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cli/options/kinds", test_kinds);
	g_test_add_func("/cli/options/plain-size", test_plain_size_is_mib);
	g_test_add_func("/cli/options/rest", test_rest);
	g_test_add_func("/cli/options/refused", test_refused);
	g_test_add_func("/cli/options/parts", test_parts);
	g_test_add_func("/cli/options/parts-refused", test_parts_refused);
	g_test_add_func("/cli/options/help", test_help);
	return g_test_run();
}
