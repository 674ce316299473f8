// SPDX-License-Identifier: GPL-2.0-or-later
/* Sizes as people type them and read them. */
#include "base/units.h"

#include <string.h>

#include "base/error.h"

static const char unit_letters[] = "KMGTPE";

/* Digits of @text up to @end into @whole and the fraction as @numerator / @denominator. */
static bool parse_number(const char **text, uint64_t *whole, uint64_t *numerator,
			 uint64_t *denominator)
{
	const char *p = *text;
	*whole = *numerator = 0;
	*denominator = 1;
	if (!g_ascii_isdigit(*p))
		return false;
	for (; g_ascii_isdigit(*p); p++) {
		if (__builtin_mul_overflow(*whole, 10, whole) ||
		    __builtin_add_overflow(*whole, (uint64_t)(*p - '0'), whole))
			return false;
	}
	if (*p == '.') {
		if (!g_ascii_isdigit(*++p))
			return false;
		for (; g_ascii_isdigit(*p); p++) {
			if (*denominator < 1000000) {
				*denominator *= 10;
				*numerator = *numerator * 10 + (uint64_t)(*p - '0');
			}
		}
	}
	*text = p;
	return true;
}

static bool parse_suffix(const char *p, uint64_t *unit)
{
	if (*p == '\0')
		return true;
	if (g_ascii_toupper(*p) == 'B' && p[1] == '\0') {
		*unit = 1;
		return true;
	}
	const char *letter = strchr(unit_letters, g_ascii_toupper(*p));
	if (!letter)
		return false;
	*unit = UINT64_C(1) << (10 * (letter - unit_letters + 1));
	p++;
	return *p == '\0' || g_ascii_strcasecmp(p, "B") == 0 || g_ascii_strcasecmp(p, "iB") == 0;
}

bool units_parse_size(const char *text, uint64_t unit, uint64_t *bytes, GError **error)
{
	const char *p = text;
	uint64_t whole, numerator, denominator, part, total;
	if (!parse_number(&p, &whole, &numerator, &denominator) || !parse_suffix(p, &unit))
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%s' is not a size: write a number and K, M, G or T, as in 512M",
				 text);
	part = (uint64_t)((unsigned __int128)numerator * unit / denominator);
	if (__builtin_mul_overflow(whole, unit, &total) ||
	    __builtin_add_overflow(total, part, &total) || total > INT64_MAX)
		return error_set(error, LODGE_ERROR_INVALID, "the size '%s' is too large", text);
	*bytes = total;
	return true;
}

char *units_format_size(uint64_t bytes)
{
	int power = 0;
	while (power < 6 && bytes >> (10 * (power + 1)))
		power++;
	if (power == 0)
		return g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes);
	double value = (double)bytes / (double)(UINT64_C(1) << (10 * power));
	return g_strdup_printf("%.3g %ciB", value, unit_letters[power - 1]);
}
