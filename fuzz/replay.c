// SPDX-License-Identifier: GPL-2.0-or-later
/* Stands in for libFuzzer in the normal test run: feeds each file named on the command line (or
 * each file of a folder) to the fuzzer's function, and then seeded mutations of it: bytes set,
 * copied, and big-endian numbers replaced by awkward ones. The first argument is how many per file.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void mutate(GRand *rand, uint8_t *data, size_t length)
{
	static const uint64_t awkward[] = {0, 1, UINT64_MAX, INT64_MAX, 1 << 16, 0xfff, 1ULL << 63};
	int count = g_rand_int_range(rand, 1, 6);

	for (int i = 0; i < count && length >= 16; i++) {
		/* Heads are where formats keep their numbers. */
		size_t room = g_rand_boolean(rand) ? MIN(length, 128) : length;
		size_t at = g_rand_int(rand) % room;
		uint64_t value = awkward[g_rand_int(rand) % G_N_ELEMENTS(awkward)];
		size_t wanted = (size_t)1 << g_rand_int_range(rand, 0, 4);
		size_t width = MIN(length - at, wanted);

		if (g_rand_boolean(rand)) {
			data[at] = (uint8_t)g_rand_int(rand);
		} else if (g_rand_boolean(rand)) {
			size_t from = g_rand_int(rand) % (length - width + 1);

			memmove(data + at, data + from, width);
		} else {
			for (size_t j = 0; j < width; j++)
				data[at + j] = (uint8_t)(value >> (8 * (width - 1 - j)));
		}
	}
}

static bool replay_file(const char *path, int mutations)
{
	g_autofree char *data = NULL;
	gsize length;

	if (!g_file_get_contents(path, &data, &length, NULL))
		return false;
	GRand *rand = g_rand_new_with_seed((guint32)length);

	LLVMFuzzerTestOneInput((const uint8_t *)data, length);
	for (int i = 0; i < mutations; i++) {
		g_autofree uint8_t *copy = g_memdup2(data, length);

		mutate(rand, copy, length);
		LLVMFuzzerTestOneInput(copy, length);
	}
	g_rand_free(rand);
	return true;
}

static int replay_folder(const char *path, int mutations)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name;
	int count = 0;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(path, name, NULL);

		count += replay_file(file, mutations);
	}
	return count;
}

int main(int argc, char **argv)
{
	int mutations = argc > 1 ? atoi(argv[1]) : 0;
	int count = 0;

	for (int i = 2; i < argc; i++) {
		if (g_file_test(argv[i], G_FILE_TEST_IS_DIR))
			count += replay_folder(argv[i], mutations);
		else
			count += replay_file(argv[i], mutations);
	}
	printf("%d inputs, %d mutations each\n", count, mutations);
	return count ? 0 : 1;
}
