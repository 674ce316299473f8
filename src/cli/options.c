// SPDX-License-Identifier: GPL-2.0-or-later
/* Command line options from a table. */
#include "cli/options.h"

#include <string.h>

#include "base/error.h"
#include "base/units.h"

enum { HELP_COLUMN = 26, HELP_WIDTH = 80 };

static const struct option *find(const struct option *table, const char *name, size_t length)
{
	for (; table->name; table++) {
		if (strlen(table->name) == length && strncmp(table->name, name, length) == 0)
			return table;
	}
	return NULL;
}

/* --- Storing a value --- */

static void *place(const struct option *option, void *into)
{
	return (char *)into + option->offset;
}

static void set_string(const struct option *option, const char *value, void *into)
{
	char **string = place(option, into);
	g_free(*string);
	*string = g_strdup(value);
}

static bool set_choice(const struct option *option, const char *what, const char *value, void *into,
		       GError **error)
{
	g_auto(GStrv) words = g_strsplit(option->argument, "|", -1);
	if (!g_strv_contains((const char *const *)words, value))
		return error_set(error, LODGE_ERROR_INVALID, "%s cannot be '%s': say one of %s",
				 what, value, option->argument);
	set_string(option, value, into);
	return true;
}

static bool set_flag(const struct option *option, const char *what, const char *value, void *into,
		     GError **error)
{
	bool *flag = place(option, into);
	if (!value || strcmp(value, "on") == 0 || strcmp(value, "yes") == 0)
		*flag = true;
	else if (strcmp(value, "off") == 0 || strcmp(value, "no") == 0)
		*flag = false;
	else
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s is a switch: '%s' is not on or off", what, value);
	return true;
}

static bool set_number(const struct option *option, const char *what, const char *value, void *into,
		       GError **error)
{
	guint64 number;
	if (option->kind == OPTION_SIZE) {
		if (units_parse_size(value, 1 << 20, place(option, into), error))
			return true;
		g_prefix_error(error, "%s: ", what);
		return false;
	}
	if (!g_ascii_string_to_unsigned(value, 10, 1, 100000, &number, NULL))
		return error_set(error, LODGE_ERROR_INVALID,
				 "%s must be a whole number from 1 on, not '%s'", what, value);
	*(unsigned *)place(option, into) = (unsigned)number;
	return true;
}

/* @value is NULL where none was given; kinds that need one are checked by the callers. */
static bool set(const struct option *option, const char *what, const char *value, void *into,
		GError **error)
{
	switch (option->kind) {
	case OPTION_FLAG:
		return set_flag(option, what, value, into, error);
	case OPTION_OPTIONAL:
		set_string(option, value ? value : "", into);
		return true;
	case OPTION_STRING:
		set_string(option, value, into);
		return true;
	case OPTION_CHOICE:
		return set_choice(option, what, value, into, error);
	case OPTION_LIST: {
		GPtrArray **list = place(option, into);
		if (!*list)
			*list = g_ptr_array_new_with_free_func(g_free);
		g_ptr_array_add(*list, g_strdup(value));
		return true;
	}
	case OPTION_SIZE:
	case OPTION_COUNT:
		return set_number(option, what, value, into, error);
	}
	g_assert_not_reached();
}

static bool wants_value(const struct option *option)
{
	return option->kind != OPTION_FLAG && option->kind != OPTION_OPTIONAL;
}

/* --- Command lines --- */

/* Takes the option at argv[*i], and its value from the next word if it stands there. */
static bool take_option(const struct option *table, int argc, char **argv, int *i, void *into,
			GError **error)
{
	const char *name = argv[*i] + 2, *equals = strchr(name, '=');
	size_t length = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *option = find(table, name, length);
	const char *value = equals ? equals + 1 : NULL;
	g_autofree char *what = g_strdup_printf("--%.*s", (int)length, name);
	if (!option)
		return error_set(error, LODGE_ERROR_INVALID,
				 "there is no option '%s': `%s --help` lists them", what, argv[0]);
	if (option->kind == OPTION_FLAG && value)
		return error_set(error, LODGE_ERROR_INVALID, "%s takes no value", what);
	if (wants_value(option) && !value) {
		if (*i + 1 >= argc)
			return error_set(error, LODGE_ERROR_INVALID, "%s needs a value: %s", what,
					 option->argument);
		value = argv[++*i];
	}
	return set(option, what, value, into, error);
}

bool options_parse(const struct option *table, int argc, char **argv, void *into, GPtrArray *rest,
		   GError **error)
{
	bool ended = false;
	for (int i = 1; i < argc; i++) {
		if (!ended && strcmp(argv[i], "--") == 0) {
			ended = true;
		} else if (!ended && g_str_has_prefix(argv[i], "--")) {
			if (!take_option(table, argc, argv, &i, into, error))
				return false;
		} else if (!ended && argv[i][0] == '-' && argv[i][1]) {
			return error_set(error, LODGE_ERROR_INVALID,
					 "there is no option '%s': `%s --help` lists them", argv[i],
					 argv[0]);
		} else if (rest) {
			g_ptr_array_add(rest, argv[i]);
		} else {
			return error_set(error, LODGE_ERROR_INVALID,
					 "'%s' is no option: `%s --help` lists them", argv[i],
					 argv[0]);
		}
	}
	return true;
}

/* --- Parts --- */

/* Splits at single commas; a doubled one stands for itself. */
static GPtrArray *split_parts(const char *text)
{
	GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
	GString *part = g_string_new(NULL);
	for (const char *p = text;; p++) {
		if (p[0] == ',' && p[1] == ',') {
			g_string_append_c(part, ',');
			p++;
		} else if (*p == ',' || *p == '\0') {
			g_ptr_array_add(parts, g_string_free(part, FALSE));
			if (*p == '\0')
				return parts;
			part = g_string_new(NULL);
		} else {
			g_string_append_c(part, *p);
		}
	}
}

static char *known_names(const struct option *table)
{
	GString *names = g_string_new(NULL);
	for (const struct option *o = table; o->name; o++)
		g_string_append_printf(names, "%s%s", names->len ? ", " : "", o->name);
	return g_string_free(names, FALSE);
}

static bool take_part(const struct option *table, const char *what, const char *part, void *into,
		      GError **error)
{
	const char *equals = strchr(part, '=');
	size_t length = equals ? (size_t)(equals - part) : strlen(part);
	const struct option *option = find(table, part, length);
	if (!option) {
		g_autofree char *names = known_names(table);
		return error_set(error, LODGE_ERROR_INVALID, "%s has no part '%.*s': it has %s",
				 what, (int)length, part, names);
	}
	g_autofree char *full = g_strdup_printf("%s: %s", what, option->name);
	if (wants_value(option) && !equals)
		return error_set(error, LODGE_ERROR_INVALID, "%s needs a value: %s=%s", full,
				 option->name, option->argument);
	return set(option, full, equals ? equals + 1 : NULL, into, error);
}

bool options_parse_parts(const struct option *table, const char *what, const char *text, void *into,
			 char **first, GError **error)
{
	g_autoptr(GPtrArray) parts = split_parts(text);
	guint i = 0;
	if (first) {
		const char *part = parts->pdata[i++];
		if (!*part)
			return error_set(error, LODGE_ERROR_INVALID, "%s begins with nothing: '%s'",
					 what, text);
		*first = g_strdup(part);
	}
	for (; i < parts->len; i++) {
		if (!take_part(table, what, parts->pdata[i], into, error))
			return false;
	}
	return true;
}

void options_free(const struct option *table, void *into)
{
	for (; table->name; table++) {
		char **string = place(table, into);
		GPtrArray **list = place(table, into);
		switch (table->kind) {
		case OPTION_STRING:
		case OPTION_OPTIONAL:
		case OPTION_CHOICE:
			g_clear_pointer(string, g_free);
			break;
		case OPTION_LIST:
			g_clear_pointer(list, g_ptr_array_unref);
			break;
		case OPTION_FLAG:
		case OPTION_SIZE:
		case OPTION_COUNT:
			break;
		}
	}
}

/* --- Help --- */

static void append_wrapped(GString *to, const char *text)
{
	g_auto(GStrv) words = g_strsplit(text, " ", -1);
	int column = HELP_COLUMN;
	for (char **word = words; *word; word++) {
		int length = (int)strlen(*word);
		if (word != words && column + 1 + length > HELP_WIDTH) {
			g_string_append_printf(to, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		} else if (word != words) {
			g_string_append_c(to, ' ');
			column++;
		}
		g_string_append(to, *word);
		column += length;
	}
	g_string_append_c(to, '\n');
}

char *options_help(const struct option *table)
{
	GString *help = g_string_new(NULL);
	for (; table->name; table++) {
		g_autoptr(GString) head = g_string_new("  --");
		g_string_append(head, table->name);
		if (table->kind == OPTION_OPTIONAL)
			g_string_append_printf(head, "[=%s]", table->argument);
		else if (table->argument)
			g_string_append_printf(head, " %s", table->argument);
		if (head->len + 2 > HELP_COLUMN)
			g_string_append_printf(help, "%s\n%*s", head->str, HELP_COLUMN, "");
		else
			g_string_append_printf(help, "%-*s", HELP_COLUMN, head->str);
		append_wrapped(help, table->help);
	}
	return g_string_free(help, FALSE);
}
