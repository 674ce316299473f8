// SPDX-License-Identifier: GPL-2.0-or-later
// The differential test: makes cases, runs each on the host's processor and on ours, compares.
// Environment: LODGE_LONG=1 for at least ten million cases; LODGE_SEED=n; LODGE_CASE=n for one case
// of that seed alone (LODGE_SEQUENCE=n where it was a sequence); LODGE_CASES=n.
#include "diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 40, FLAGS_COMPARED = 0x254fd5, ARITHMETIC = 0x8d5 };

struct tally {
	uint64_t cases, skipped, faults, extensions, mismatches, undefined_differ;
	GHashTable *names;     /* mnemonic -> cases */
	GHashTable *bad_names; /* mnemonic -> mismatches */
};

static uint8_t data_native[DIFF_DATA_SIZE], data_guest[DIFF_DATA_SIZE];

static uint64_t number_from(const char *name, uint64_t fallback)
{
	const char *text = g_getenv(name);

	return text ? g_ascii_strtoull(text, NULL, 0) : fallback;
}

/* --- Comparison: appends what differs to @out --- */

static void compare_fx(const uint8_t *host, const uint8_t *ours, uint32_t mxcsr_hidden,
		       GString *out)
{
	uint32_t mxcsr[2];

	if (memcmp(host, ours, 2) != 0)
		g_string_append_printf(out, " fcw %02x%02x/%02x%02x", host[1], host[0], ours[1],
				       ours[0]);
	if (memcmp(host + 2, ours + 2, 2) != 0)
		g_string_append_printf(out, " fsw %02x%02x/%02x%02x", host[3], host[2], ours[3],
				       ours[2]);
	if (host[4] != ours[4])
		g_string_append_printf(out, " ftw %02x/%02x", host[4], ours[4]);
	memcpy(&mxcsr[0], host + 24, 4);
	memcpy(&mxcsr[1], ours + 24, 4);
	if ((mxcsr[0] ^ mxcsr[1]) & ~mxcsr_hidden)
		g_string_append_printf(out, " mxcsr %x/%x", mxcsr[0], mxcsr[1]);
	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *a = host + 32 + 16 * i, *b = ours + 32 + 16 * i;
		uint64_t m[2];
		uint16_t e[2];
		memcpy(&m[0], a, 8);
		memcpy(&m[1], b, 8);
		memcpy(&e[0], a + 8, 2);
		memcpy(&e[1], b + 8, 2);
		if (m[0] != m[1] || e[0] != e[1])
			g_string_append_printf(out, " st%u %04x:%016lx/%04x:%016lx", i, e[0], m[0],
					       e[1], m[1]);
	}
	for (unsigned i = 0; i < 16; i++) {
		uint64_t a[2], b[2];
		memcpy(a, host + 160 + 16 * i, 16);
		memcpy(b, ours + 160 + 16 * i, 16);
		if (a[0] != b[0] || a[1] != b[1])
			g_string_append_printf(out, " xmm%u %016lx%016lx/%016lx%016lx", i, a[1],
					       a[0], b[1], b[0]);
	}
}

static void compare_data(GString *out)
{
	unsigned shown = 0;

	if (memcmp(data_native, data_guest, DIFF_DATA_SIZE) == 0)
		return;
	for (unsigned i = 0; i < DIFF_DATA_SIZE && shown < 12; i++) {
		if (data_native[i] != data_guest[i]) {
			g_string_append_printf(out, " [%x] %02x/%02x", DIFF_DATA + i,
					       data_native[i], data_guest[i]);
			shown++;
		}
	}
}

static uint64_t known_flags(const struct diff_traits *traits)
{
	return FLAGS_COMPARED & ~(uint64_t)traits->undefined_flags;
}

/* Linux shows faults beyond user space as faults on present pages. */
static uint32_t hidden_error_bits(const struct diff_outcome *host)
{
	return host->vector == 14 && host->cr2 >= UINT64_C(0x7ffffffff000) ? 1 : 0;
}

/* Unmasked underflow and overflow: PE belongs to the result with unbounded exponent, see
 * docs/cpu-fp.md. */
static uint32_t hidden_mxcsr_bits(const struct diff_outcome *host, const struct diff_traits *traits)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, host->state.fx + 24, 4);
	if (host->vector != 19)
		return 0;
	return traits->free_flags                                ? 0x3f
	       : (mxcsr & 0x810) == 0x10 || (mxcsr & 0x408) == 8 ? 0x20
								 : 0;
}

/* AMD's MXCSR has a bit 17; ours, like Intel's, refuses it. */
static bool has_misaligned_mask(const struct diff_outcome *host)
{
	return host->vector < 0 && (host->state.fx[26] & 2);
}

static void compare(const struct diff_case *test, const struct diff_traits *traits,
		    const struct diff_outcome *host, const struct diff_outcome *ours, GString *out)
{
	bool faulted = host->vector >= 0;
	uint64_t flags = faulted ? FLAGS_COMPARED : known_flags(traits);

	if (host->vector != ours->vector) {
		if (traits->free_order && faulted && ours->vector >= 0)
			return;
		if (has_misaligned_mask(host) && ours->vector == 13)
			return;
		g_string_append_printf(out, " vector %d/%d", host->vector, ours->vector);
		return;
	}
	if (host->vector >= 0 && ((host->error ^ ours->error) & ~hidden_error_bits(host)))
		g_string_append_printf(out, " error %x/%x", host->error, ours->error);
	if (host->vector == 14 && host->cr2 != ours->cr2 && !traits->free_order)
		g_string_append_printf(out, " cr2 %lx/%lx", host->cr2, ours->cr2);
	for (unsigned i = 0; i < 16 && !(faulted && traits->free_registers); i++)
		if (host->state.regs[i] != ours->state.regs[i])
			g_string_append_printf(out, " r%u %lx/%lx", i, host->state.regs[i],
					       ours->state.regs[i]);
	if (host->state.rip != ours->state.rip)
		g_string_append_printf(out, " rip %lx/%lx", host->state.rip, ours->state.rip);
	if ((host->state.rflags ^ ours->state.rflags) & flags)
		g_string_append_printf(out, " rflags %lx/%lx", host->state.rflags & flags,
				       ours->state.rflags & flags);
	if (!faulted || !traits->free_mmx_state)
		compare_fx(host->state.fx, ours->state.fx, hidden_mxcsr_bits(host, traits), out);
	compare_data(out);
}

/* --- What legitimately differs --- */

/* The pointers to the last x87 instruction and operand, and the mask of MXCSR bits, in an image
 * that the instruction stored. */
static void mask_image(const struct diff_traits *traits, uint8_t *data)
{
	uint64_t at = traits->image - DIFF_DATA;
	unsigned from = traits->image_size == 512 ? 6 : traits->image_size == 28 ? 12 : 6;
	unsigned to = traits->image_size == 512 ? 24 : traits->image_size;

	if (traits->image < DIFF_DATA || at + traits->image_size > DIFF_DATA_SIZE)
		return;
	memset(data + at + from, 0, to - from);
	if (traits->image_size == 512)
		memset(data + at + 28, 0, 4);
}

static void report(const struct diff_case *test, const struct diff_traits *traits, uint64_t seed,
		   uint64_t index, unsigned sequence, const char *text)
{
	static const char *const modes[DIFF_MODES] = {"64", "32", "16"};
	g_autoptr(GString) bytes = g_string_new(NULL);

	for (unsigned i = 0; i < test->length; i++)
		g_string_append_printf(bytes, "%02x", test->bytes[i]);
	g_test_message("LODGE_SEED=%lu LODGE_CASE=%lu LODGE_SEQUENCE=%u: %s-bit %s %s "
		       "(rsp %lx rflags %lx): host/ours:%s",
		       seed, index, sequence, modes[test->mode], traits->name, bytes->str,
		       test->start.regs[4], test->start.rflags, text);
}

static void count(GHashTable *table, const char *name)
{
	gpointer key = g_strdup(name);
	uint64_t n = GPOINTER_TO_UINT(g_hash_table_lookup(table, name));

	g_hash_table_replace(table, key, GUINT_TO_POINTER(n + 1));
}

static void run_case(struct diff_guest *guest, struct tally *tally, uint64_t seed, uint64_t index,
		     unsigned sequence, GString *text)
{
	static struct diff_case test;
	static struct diff_outcome host, ours;
	struct diff_traits traits;

	test.mode = (enum diff_mode)(index % DIFF_MODES);
	if (!native_has_mode(test.mode) || !generate_case(seed, index, sequence, &test, &traits)) {
		tally->skipped++;
		return;
	}
	g_string_truncate(text, 0);
	guest_run(guest, &test, &ours);
	guest_get_data(guest, data_guest);
	if (traits.extension) {
		tally->extensions++;
		if (ours.vector != 6)
			g_string_append_printf(text, " vector #UD/%d", ours.vector);
	} else {
		native_run(&test, &host);
		memcpy(data_native, native_data(), DIFF_DATA_SIZE);
		if (traits.image_size) {
			mask_image(&traits, data_native);
			mask_image(&traits, data_guest);
		}
		compare(&test, &traits, &host, &ours, text);
		tally->faults += host.vector >= 0;
		if (!text->len && host.vector < 0 &&
		    ((host.state.rflags ^ ours.state.rflags) & ARITHMETIC))
			tally->undefined_differ++;
	}
	tally->cases++;
	count(tally->names, traits.name);
	if (text->len) {
		if (tally->mismatches++ < SHOWN ||
		    !g_hash_table_contains(tally->bad_names, traits.name))
			report(&test, &traits, seed, index, sequence, text->str);
		count(tally->bad_names, traits.name);
	}
}

static void print_bad(gpointer key, gpointer value, gpointer opaque)
{
	g_test_message("%u mismatches: %s", GPOINTER_TO_UINT(value), (const char *)key);
}

static void run_series(uint64_t cases, unsigned sequence)
{
	uint64_t seed = number_from("LODGE_SEED", 1);
	uint64_t only = number_from("LODGE_CASE", UINT64_MAX);
	const char *why = NULL;
	struct tally tally = {.names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
			      .bad_names =
				      g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
	g_autoptr(GString) text = g_string_new(NULL);
	struct diff_guest *guest;
	static bool ready;

	if (only != UINT64_MAX && number_from("LODGE_SEQUENCE", 0) != sequence)
		return;
	if (!ready && !native_init(&why)) {
		g_test_skip(why);
		return;
	}
	ready = true;
	generate_init();
	guest = guest_new();
	if (!native_has_mode(DIFF_16))
		g_test_message("no 16-bit code: modify_ldt is refused");
	for (uint64_t i = 0; only == UINT64_MAX && tally.cases < cases; i++)
		run_case(guest, &tally, seed, i, sequence, text);
	if (only != UINT64_MAX)
		run_case(guest, &tally, seed, only, sequence, text);
	guest_free(guest);
	g_test_message("seed %lu: %lu cases of %u instructions' names, %lu raised an exception, "
		       "%lu must be #UD, %lu not usable, %lu differ in undefined flags only, "
		       "%lu mismatches",
		       seed, tally.cases, g_hash_table_size(tally.names), tally.faults,
		       tally.extensions, tally.skipped, tally.undefined_differ, tally.mismatches);
	g_hash_table_foreach(tally.bad_names, print_bad, NULL);
	g_assert_cmpuint(tally.mismatches, ==, 0);
	g_hash_table_unref(tally.names);
	g_hash_table_unref(tally.bad_names);
}

static bool is_long(void)
{
	return number_from("LODGE_LONG", 0) != 0;
}

static void test_instructions(void)
{
	run_series(number_from("LODGE_CASES", is_long() ? 10000000 : 300000), 0);
}

static void test_short_sequences(void)
{
	run_series(number_from("LODGE_CASES", is_long() ? 1000000 : 10000), 4);
}

static void test_long_sequences(void)
{
	run_series(number_from("LODGE_CASES", is_long() ? 200000 : 2000), 24);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/diff/instructions", test_instructions);
	g_test_add_func("/cpu/diff/sequences-of-4", test_short_sequences);
	g_test_add_func("/cpu/diff/sequences-of-24", test_long_sequences);
	return g_test_run();
}
