/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * JSON (RFC 8259) for programs that must start fast and stay small: lodge-vmm links no GObject,
 * which json-glib needs. Values are trees owned by their root; numbers that are integers keep 64
 * bits.
 */

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_INTEGER,
	JSON_DOUBLE,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
};

struct json {
	enum json_type type;
	union {
		bool boolean;
		int64_t integer;
		double number;
		char *string;
		GPtrArray *items; /* struct json; of an object: the values */
	};
	GPtrArray *keys; /* of an object: char *, beside items */
};

/* Parses exactly one value (white space around it). At most 64 levels deep; duplicate keys, invalid
 * UTF-8 and NUL in strings are refused. The message names the byte. */
struct json *json_parse(const char *text, size_t length, GError **error);
void json_free(struct json *json);

/* The member, or NULL (also where @object is no object). */
const struct json *json_member(const struct json *object, const char *key);

/* Checked members: true and *out set; where the member is absent true with *out untouched, unless
 * @required; false with @error for a wrong type or range. Strings stay the tree's. */
bool json_get_string(const struct json *object, const char *key, bool required, const char **out,
		     GError **error);
bool json_get_int(const struct json *object, const char *key, bool required, int64_t min,
		  int64_t max, int64_t *out, GError **error);
bool json_get_bool(const struct json *object, const char *key, bool required, bool *out,
		   GError **error);
bool json_get_array(const struct json *object, const char *key, bool required,
		    const struct json **out, GError **error);
bool json_get_object(const struct json *object, const char *key, bool required,
		     const struct json **out, GError **error);
/* Refuses members of @object that are not among the NULL-terminated @known. */
bool json_check_keys(const struct json *object, const char *const *known, GError **error);

/* Appends a quoted and escaped string, or any value, without white space. */
void json_append_string(GString *to, const char *text);
void json_append(GString *to, const struct json *value);

/* Writing objects piece by piece: "{" and "}" come from the caller; these put the comma before
 * every member but the first, then the key, then the value. */
void json_append_key(GString *to, const char *key);
void json_append_member_string(GString *to, const char *key, const char *value); /* NULL: nothing */
void json_append_member_int(GString *to, const char *key, int64_t value);
void json_append_member_bool(GString *to, const char *key, bool value);
