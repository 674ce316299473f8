// SPDX-License-Identifier: GPL-2.0-or-later
/* Saved state of all chips: saved, loaded into a fresh machine and saved again it is the same;
 * what is cut off, of another version or machine, or random is refused or harmless. */
#include <stdlib.h>
#include <string.h>

#include "tests/dev/bench.h"

enum { CPUS = 2 };

static struct bench *used_machine(unsigned seed, unsigned pokes)
{
	struct bench *b = bench_new(CPUS);
	GRand *rand = g_rand_new_with_seed(seed);
	pic_start(b);
	apic_out(b, 0, 0xf0, 0x1ff);
	apic_out(b, 1, 0xf0, 0x1ff);
	for (unsigned i = 0; i < pokes; i++)
		bench_poke(b, rand);
	g_rand_free(rand);
	return b;
}

static int64_t clock_of(struct bench *b)
{
	return vm_clock_ns(b->vm);
}

/* Offset of each device's section, from a walk over the headers. */
static GArray *sections(const GByteArray *saved)
{
	GArray *at = g_array_new(FALSE, FALSE, sizeof(guint));
	for (guint i = 0; i < saved->len;) {
		g_array_append_val(at, i);
		guint name = saved->data[i] | (guint)saved->data[i + 1] << 8;
		uint32_t length;
		memcpy(&length, saved->data + i + 2 + name + 2, 4);
		i += 2 + name + 2 + 4 + length;
	}
	return at;
}

/* The same bytes, or the name of the first device that differs. */
static void assert_same(const GByteArray *a, const GByteArray *b)
{
	g_autoptr(GArray) at = sections(a);
	g_assert_cmpuint(a->len, ==, b->len);
	for (guint i = 0; i < at->len; i++) {
		guint start = g_array_index(at, guint, i);
		guint end = i + 1 < at->len ? g_array_index(at, guint, i + 1) : a->len;
		guint name = a->data[start];
		for (guint n = start; n < end; n++) {
			if (a->data[n] != b->data[n])
				g_error("%.*s differs in byte %u of %u: %02x %02x", (int)name,
					(const char *)a->data + start + 2, n - start - name - 8,
					end - start - name - 8, a->data[n], b->data[n]);
		}
	}
}

static void round_trips(void)
{
	for (unsigned seed = 1; seed <= 30; seed++) {
		struct bench *a = used_machine(seed, seed * 100), *b = bench_new(CPUS);
		g_autoptr(GByteArray) first = bench_save(a);
		g_autoptr(GError) error = NULL;
		bench_load(b, clock_of(a), first->data, first->len, &error);
		g_assert_no_error(error);
		g_autoptr(GByteArray) second = bench_save(b);
		assert_same(first, second);
		bench_free(a);
		bench_free(b);
	}
}

/* After loading, the machine behaves as the one that was saved. */
static void goes_on_alike(void)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct bench *a = used_machine(seed, 1000), *b = bench_new(CPUS);
		g_autoptr(GByteArray) saved = bench_save(a);
		g_assert_true(bench_load(b, clock_of(a), saved->data, saved->len, NULL));
		GRand *ra = g_rand_new_with_seed(seed + 99), *rb = g_rand_new_with_seed(seed + 99);
		for (unsigned i = 0; i < 200; i++) {
			bench_poke(a, ra);
			bench_poke(b, rb);
		}
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			g_assert_cmpint(take(a, cpu), ==, take(b, cpu));
		g_autoptr(GByteArray) at_a = bench_save(a), at_b = bench_save(b);
		assert_same(at_a, at_b);
		g_rand_free(ra);
		g_rand_free(rb);
		bench_free(a);
		bench_free(b);
	}
}

static void refuse(const GByteArray *bytes, guint length, int64_t clock)
{
	struct bench *b = bench_new(CPUS);
	g_autoptr(GError) error = NULL;
	g_assert_false(bench_load(b, clock, bytes->data, length, &error));
	g_assert_nonnull(error);
	bench_free(b);
}

static void cut_off(void)
{
	struct bench *a = used_machine(7, 500);
	g_autoptr(GByteArray) saved = bench_save(a);
	g_autoptr(GArray) at = sections(saved);
	for (guint i = 0; i < at->len; i++) {
		guint start = g_array_index(at, guint, i);
		refuse(saved, start, clock_of(a));
		refuse(saved, start + 1, clock_of(a));
		refuse(saved, start + 9, clock_of(a));
	}
	refuse(saved, saved->len - 1, clock_of(a));
	g_byte_array_append(saved, (const uint8_t *)"", 1);
	refuse(saved, saved->len, clock_of(a));
	bench_free(a);
}

static void other_versions(void)
{
	struct bench *a = used_machine(8, 500);
	g_autoptr(GByteArray) saved = bench_save(a);
	g_autoptr(GArray) at = sections(saved);
	for (guint i = 0; i < at->len; i++) {
		uint8_t *section = saved->data + g_array_index(at, guint, i);
		uint8_t *version = section + 2 + (section[0] | section[1] << 8);
		uint8_t real = *version;
		*version = (uint8_t)(real + 1);
		refuse(saved, saved->len, clock_of(a));
		*version = 0;
		refuse(saved, saved->len, clock_of(a));
		*version = real;
		section[2] ^= 1; /* another device */
		refuse(saved, saved->len, clock_of(a));
		section[2] ^= 1;
	}
	bench_free(a);
}

static void other_machine(void)
{
	struct bench *a = used_machine(9, 100), *b = bench_new(CPUS + 1);
	g_autoptr(GByteArray) saved = bench_save(a);
	g_autoptr(GError) error = NULL;
	g_assert_false(bench_load(b, clock_of(a), saved->data, saved->len, &error));
	g_assert_nonnull(strstr(error->message, "local-apic-3"));
	bench_free(a);
	bench_free(b);
	/* A PCI function that was another one. */
	a = bench_new(CPUS);
	a->card->config[0] ^= 1;
	g_autoptr(GByteArray) foreign = bench_save(a);
	refuse(foreign, foreign->len, clock_of(a));
	bench_free(a);
}

/* Damaged bytes: refused, or taken as a state in which the machine can go on. */
static void damaged(void)
{
	unsigned rounds = g_getenv("LODGE_LONG") ? 20000 : 400, taken = 0;
	struct bench *a = used_machine(10, 2000);
	g_autoptr(GByteArray) saved = bench_save(a);
	GRand *rand = g_rand_new_with_seed(1);
	for (unsigned round = 0; round < rounds; round++) {
		g_autofree uint8_t *copy = g_memdup2(saved->data, saved->len);
		struct bench *b = bench_new(CPUS);
		for (int n = g_rand_int_range(rand, 1, 20); n > 0; n--)
			copy[g_rand_int(rand) % saved->len] = (uint8_t)g_rand_int(rand);
		if (bench_load(b, clock_of(a), copy, saved->len, NULL)) {
			taken++;
			for (unsigned i = 0; i < 100; i++)
				bench_poke(b, rand);
			advance(b, 10000000);
			g_byte_array_unref(bench_save(b));
		}
		bench_free(b);
	}
	g_test_message("%u of %u taken", taken, rounds);
	g_rand_free(rand);
	bench_free(a);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/state/round-trips", round_trips);
	g_test_add_func("/state/goes-on-alike", goes_on_alike);
	g_test_add_func("/state/cut-off", cut_off);
	g_test_add_func("/state/other-versions", other_versions);
	g_test_add_func("/state/other-machine", other_machine);
	g_test_add_func("/state/damaged", damaged);
	return g_test_run();
}
