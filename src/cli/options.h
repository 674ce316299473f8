/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Command line options from one table: it parses, checks, and writes the help text. An option's
 * value goes into a struct of the command, at `offset`, with the type that `kind` says. The same
 * table form serves the comma-separated parts of an option (`--disk f.qcow2,cache=none`).
 */

enum option_kind {
	OPTION_FLAG,     /* bool; in parts also name=on|off */
	OPTION_STRING,   /* char *, owned */
	OPTION_OPTIONAL, /* char *, owned; "" when given without a value. `--name=VALUE` only */
	OPTION_SIZE,     /* uint64_t bytes; a plain number is MiB */
	OPTION_COUNT,    /* unsigned, from 1 */
	OPTION_CHOICE,   /* char *, owned; one of the words of `argument`, which are split by | */
	OPTION_LIST,     /* GPtrArray * of char *: may be given again and again */
};

struct option {
	const char *name; /* without dashes; the end of a table: NULL */
	enum option_kind kind;
	size_t offset;
	const char *argument; /* what stands for the value in the help text */
	const char *help;
};

/* Parses argv[1] on. Options are `--name VALUE`, `--name=VALUE`, anywhere; `--` ends them.
 * What is left goes to @rest (char *, not copied; NULL: nothing may be left). Strings that are
 * already in the struct are freed when they are replaced. */
bool options_parse(const struct option *table, int argc, char **argv, void *into, GPtrArray *rest,
		   GError **error);

/* Parses "first,name=value,flag,...". The first part, which may be empty where @first is NULL, goes
 * to *@first (owned). A doubled comma stands for one. @what names the option in messages. */
bool options_parse_parts(const struct option *table, const char *what, const char *text, void *into,
			 char **first, GError **error);

/* Frees the strings and lists of @table in @into. */
void options_free(const struct option *table, void *into);

/* The table as help text: one paragraph an option, wrapped. Caller frees. */
char *options_help(const struct option *table);
