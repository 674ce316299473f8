// SPDX-License-Identifier: GPL-2.0-or-later
/* JSON (RFC 8259): a recursive-descent reader with bounds, and the writing of strings. */
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

enum { JSON_DEPTH = 64 };

struct reader {
	const char *start, *p, *end;
	unsigned depth;
	GError **error;
};

static struct json *json_new(enum json_type type)
{
	struct json *json = g_new0(struct json, 1);
	json->type = type;
	return json;
}

void json_free(struct json *json)
{
	if (!json)
		return;
	if (json->type == JSON_STRING)
		g_free(json->string);
	if (json->type == JSON_ARRAY || json->type == JSON_OBJECT) {
		for (guint i = 0; i < json->items->len; i++)
			json_free(json->items->pdata[i]);
		g_ptr_array_free(json->items, TRUE);
	}
	if (json->keys)
		g_ptr_array_free(json->keys, TRUE);
	g_free(json);
}

static bool fail(struct reader *r, const char *what)
{
	return error_set(r->error, LODGE_ERROR_INVALID, "JSON: %s at byte %zu", what,
			 (size_t)(r->p - r->start));
}

static void skip_space(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
		r->p++;
}

static bool read_hex4(struct reader *r, unsigned *value)
{
	if (r->end - r->p < 4)
		return fail(r, "short \\u escape");
	*value = 0;
	for (unsigned i = 0; i < 4; i++) {
		int digit = g_ascii_xdigit_value(*r->p);
		if (digit < 0)
			return fail(r, "bad \\u escape");
		*value = *value << 4 | (unsigned)digit;
		r->p++;
	}
	return true;
}

static bool read_unicode(struct reader *r, GString *out)
{
	unsigned code, low;
	if (!read_hex4(r, &code))
		return false;
	if (code >= 0xd800 && code < 0xdc00) {
		if (r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u')
			return fail(r, "lone surrogate");
		r->p += 2;
		if (!read_hex4(r, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return fail(r, "lone surrogate");
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	if (code == 0 || (code >= 0xdc00 && code < 0xe000))
		return fail(r, "a character that no string can hold");
	g_string_append_unichar(out, code);
	return true;
}

static bool read_escape(struct reader *r, GString *out)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	if (r->p >= r->end)
		return fail(r, "unfinished escape");
	char c = *r->p++;
	if (c == 'u')
		return read_unicode(r, out);
	const char *at = c ? strchr(names, c) : NULL;
	if (!at)
		return fail(r, "unknown escape");
	g_string_append_c(out, values[at - names]);
	return true;
}

static char *read_string(struct reader *r)
{
	g_autoptr(GString) out = g_string_new(NULL);
	r->p++;
	while (r->p < r->end && *r->p != '"') {
		if ((unsigned char)*r->p < 0x20) {
			fail(r, "control character in a string");
			return NULL;
		}
		if (*r->p != '\\') {
			g_string_append_c(out, *r->p++);
			continue;
		}
		r->p++;
		if (!read_escape(r, out))
			return NULL;
	}
	if (r->p >= r->end) {
		fail(r, "unfinished string");
		return NULL;
	}
	r->p++;
	if (!g_utf8_validate(out->str, (gssize)out->len, NULL)) {
		fail(r, "invalid UTF-8");
		return NULL;
	}
	return g_strdup(out->str);
}

static bool skip_digits(struct reader *r)
{
	const char *start = r->p;
	while (r->p < r->end && g_ascii_isdigit(*r->p))
		r->p++;
	return r->p > start;
}

/* Moves over a number as RFC 8259 section 6 writes it; *integer: it has neither fraction nor
 * exponent. */
static bool skip_number(struct reader *r, bool *integer)
{
	*integer = true;
	if (r->p < r->end && *r->p == '-')
		r->p++;
	const char *digits = r->p;
	if (!skip_digits(r) || (*digits == '0' && r->p - digits > 1))
		return false;
	if (r->p < r->end && *r->p == '.') {
		*integer = false;
		r->p++;
		if (!skip_digits(r))
			return false;
	}
	if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
		*integer = false;
		r->p++;
		if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
			r->p++;
		return skip_digits(r);
	}
	return true;
}

static struct json *read_number(struct reader *r)
{
	const char *start = r->p;
	bool integer;
	if (!skip_number(r, &integer)) {
		fail(r, "bad number");
		return NULL;
	}
	if (r->p - start > 40) {
		fail(r, "a number too long");
		return NULL;
	}
	g_autofree char *text = g_strndup(start, (gsize)(r->p - start));
	char *stop;
	errno = 0;
	struct json *json = json_new(integer ? JSON_INTEGER : JSON_DOUBLE);
	if (integer)
		json->integer = g_ascii_strtoll(text, &stop, 10);
	else
		json->number = g_ascii_strtod(text, &stop);
	if (errno || *stop || (!integer && !isfinite(json->number))) {
		g_free(json);
		fail(r, "a number out of range");
		return NULL;
	}
	return json;
}

static struct json *read_value(struct reader *r);

/* Reads one member's key and the colon into @object. */
static bool read_key(struct reader *r, struct json *object)
{
	skip_space(r);
	if (r->p >= r->end || *r->p != '"')
		return fail(r, "a key is missing");
	char *key = read_string(r);
	if (!key)
		return false;
	for (guint i = 0; i < object->keys->len; i++) {
		if (strcmp(object->keys->pdata[i], key) == 0) {
			g_free(key);
			return fail(r, "the same key twice");
		}
	}
	g_ptr_array_add(object->keys, key);
	skip_space(r);
	if (r->p >= r->end || *r->p != ':')
		return fail(r, "a colon is missing");
	r->p++;
	return true;
}

static bool read_items(struct reader *r, struct json *json, char close)
{
	r->p++;
	skip_space(r);
	if (r->p < r->end && *r->p == close) {
		r->p++;
		return true;
	}
	for (;;) {
		if (json->type == JSON_OBJECT && !read_key(r, json))
			return false;
		struct json *item = read_value(r);
		if (!item)
			return false;
		g_ptr_array_add(json->items, item);
		skip_space(r);
		if (r->p >= r->end || (*r->p != ',' && *r->p != close))
			return fail(r, "a comma or bracket is missing");
		if (*r->p++ == close)
			return true;
	}
}

static struct json *read_container(struct reader *r, enum json_type type)
{
	struct json *json = json_new(type);
	json->items = g_ptr_array_new();
	if (type == JSON_OBJECT)
		json->keys = g_ptr_array_new_with_free_func(g_free);
	bool ok = ++r->depth <= JSON_DEPTH ? read_items(r, json, type == JSON_OBJECT ? '}' : ']')
					   : fail(r, "nested too deeply");
	r->depth--;
	if (ok)
		return json;
	json_free(json);
	return NULL;
}

static struct json *read_word(struct reader *r)
{
	static const struct {
		const char *word;
		enum json_type type;
		bool value;
	} words[] = {
		{"true", JSON_BOOL, true}, {"false", JSON_BOOL, false}, {"null", JSON_NULL, false}};
	for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
		size_t length = strlen(words[i].word);
		if ((size_t)(r->end - r->p) >= length && memcmp(r->p, words[i].word, length) == 0) {
			struct json *json = json_new(words[i].type);
			json->boolean = words[i].value;
			r->p += length;
			return json;
		}
	}
	fail(r, "not a value");
	return NULL;
}

static struct json *read_value(struct reader *r)
{
	skip_space(r);
	if (r->p >= r->end) {
		fail(r, "the text ends");
		return NULL;
	}
	switch (*r->p) {
	case '{':
		return read_container(r, JSON_OBJECT);
	case '[':
		return read_container(r, JSON_ARRAY);
	case '"': {
		char *string = read_string(r);
		if (!string)
			return NULL;
		struct json *json = json_new(JSON_STRING);
		json->string = string;
		return json;
	}
	default:
		return *r->p == '-' || g_ascii_isdigit(*r->p) ? read_number(r) : read_word(r);
	}
}

struct json *json_parse(const char *text, size_t length, GError **error)
{
	struct reader r = {.start = text, .p = text, .end = text + length, .error = error};
	struct json *json = read_value(&r);
	if (!json)
		return NULL;
	skip_space(&r);
	if (r.p == r.end)
		return json;
	json_free(json);
	fail(&r, "something follows the value");
	return NULL;
}

const struct json *json_member(const struct json *object, const char *key)
{
	if (!object || object->type != JSON_OBJECT)
		return NULL;
	for (guint i = 0; i < object->keys->len; i++) {
		if (strcmp(object->keys->pdata[i], key) == 0)
			return object->items->pdata[i];
	}
	return NULL;
}

/* 1: there and of @type; 0: absent and allowed to be; -1: error set. */
static int find(const struct json *object, const char *key, bool required, enum json_type type,
		const struct json **out, GError **error)
{
	static const char *const names[] = {"null",     "a boolean", "an integer", "a number",
					    "a string", "an array",  "an object"};
	const struct json *member = json_member(object, key);
	if (!member) {
		if (required)
			error_set(error, LODGE_ERROR_INVALID, "'%s' is missing", key);
		return required ? -1 : 0;
	}
	if (member->type != type) {
		error_set(error, LODGE_ERROR_INVALID, "'%s' must be %s", key, names[type]);
		return -1;
	}
	*out = member;
	return 1;
}

bool json_get_string(const struct json *object, const char *key, bool required, const char **out,
		     GError **error)
{
	const struct json *member;
	int found = find(object, key, required, JSON_STRING, &member, error);
	if (found > 0)
		*out = member->string;
	return found >= 0;
}

bool json_get_int(const struct json *object, const char *key, bool required, int64_t min,
		  int64_t max, int64_t *out, GError **error)
{
	const struct json *member;
	int found = find(object, key, required, JSON_INTEGER, &member, error);
	if (found <= 0)
		return found == 0;
	if (member->integer < min || member->integer > max)
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%s' is %" G_GINT64_FORMAT ", must be %" G_GINT64_FORMAT
				 " to %" G_GINT64_FORMAT,
				 key, member->integer, min, max);
	*out = member->integer;
	return true;
}

bool json_get_bool(const struct json *object, const char *key, bool required, bool *out,
		   GError **error)
{
	const struct json *member;
	int found = find(object, key, required, JSON_BOOL, &member, error);
	if (found > 0)
		*out = member->boolean;
	return found >= 0;
}

bool json_get_array(const struct json *object, const char *key, bool required,
		    const struct json **out, GError **error)
{
	return find(object, key, required, JSON_ARRAY, out, error) >= 0;
}

bool json_get_object(const struct json *object, const char *key, bool required,
		     const struct json **out, GError **error)
{
	return find(object, key, required, JSON_OBJECT, out, error) >= 0;
}

bool json_check_keys(const struct json *object, const char *const *known, GError **error)
{
	for (guint i = 0; object->keys && i < object->keys->len; i++) {
		if (!g_strv_contains(known, object->keys->pdata[i]))
			return error_set(error, LODGE_ERROR_INVALID, "'%s' is not known here",
					 (const char *)object->keys->pdata[i]);
	}
	return true;
}

void json_append_string(GString *to, const char *text)
{
	static const char names[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
	g_string_append_c(to, '"');
	for (const char *p = text; *p; p++) {
		const char *at = strchr(values, *p);
		if (at)
			g_string_append_printf(to, "\\%c", names[at - values]);
		else if ((unsigned char)*p < 0x20 || *p == 0x7f)
			g_string_append_printf(to, "\\u%04x", (unsigned)*p);
		else
			g_string_append_c(to, *p);
	}
	g_string_append_c(to, '"');
}

static void append_items(GString *to, const struct json *value)
{
	bool object = value->type == JSON_OBJECT;
	g_string_append_c(to, object ? '{' : '[');
	for (guint i = 0; i < value->items->len; i++) {
		if (i)
			g_string_append_c(to, ',');
		if (object) {
			json_append_string(to, value->keys->pdata[i]);
			g_string_append_c(to, ':');
		}
		json_append(to, value->items->pdata[i]);
	}
	g_string_append_c(to, object ? '}' : ']');
}

void json_append(GString *to, const struct json *value)
{
	char buffer[G_ASCII_DTOSTR_BUF_SIZE];
	switch (value->type) {
	case JSON_NULL:
		g_string_append(to, "null");
		break;
	case JSON_BOOL:
		g_string_append(to, value->boolean ? "true" : "false");
		break;
	case JSON_INTEGER:
		g_string_append_printf(to, "%" G_GINT64_FORMAT, value->integer);
		break;
	case JSON_DOUBLE:
		g_string_append(to, g_ascii_dtostr(buffer, sizeof(buffer), value->number));
		break;
	case JSON_STRING:
		json_append_string(to, value->string);
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		append_items(to, value);
		break;
	}
}

void json_append_key(GString *to, const char *key)
{
	char last = to->len ? to->str[to->len - 1] : '\0';
	if (last != '{')
		g_string_append_c(to, ',');
	json_append_string(to, key);
	g_string_append_c(to, ':');
}

void json_append_member_string(GString *to, const char *key, const char *value)
{
	if (!value)
		return;
	json_append_key(to, key);
	json_append_string(to, value);
}

void json_append_member_int(GString *to, const char *key, int64_t value)
{
	json_append_key(to, key);
	g_string_append_printf(to, "%" G_GINT64_FORMAT, value);
}

void json_append_member_bool(GString *to, const char *key, bool value)
{
	json_append_key(to, key);
	g_string_append(to, value ? "true" : "false");
}
