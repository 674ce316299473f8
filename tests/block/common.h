/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/block.h"

#include "block/file-debug.h"
#include "block/image.h"

/* What the block tests share: a scratch folder, QEMU's tools as an independent judge, and waiting.
 */

/* A new folder for this test program; removed by scratch_clean. */
const char *scratch(void);
char *scratch_path(const char *name);
void scratch_clean(void);

/* Whether qemu-img (and qemu-io) is there; otherwise marks the test as skipped. */
bool have_qemu(void);

/* Whether qemu-img is there to judge what else is tested. */
bool have_judge(void);

/* Runs a command line through the shell-free splitter. Returns its exit status; what it printed is
 * in *@output if that is not NULL. */
int run(char **output, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Runs and insists on exit status 0. */
void run_ok(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* qemu-img check finds nothing wrong; leaks count as wrong unless allowed. */
void judge(const char *path, bool leaks_allowed);

struct block *open_ok(const struct block_options *options);

/* Opening fails, with @words in the message and the file's name too. */
void open_fails(const struct block_options *options, const char *words);

/* Deterministic filling: byte i of the disk under @seed. */
void fill_pattern(uint8_t *buffer, uint64_t offset, size_t length, uint32_t seed);

/* An image kept in memory over a recording, failing file, so that tests can see every write and
 * open what a power cut would leave. */
struct store {
	GByteArray *bytes;        /* what the next open begins with */
	struct block_file *debug; /* while open */
	GArray *log;              /* of struct debug_event, since the last store_open */
	GMainContext *context;
};

/* Takes the bytes of a file. */
void store_init(struct store *s, const char *path);
void store_fini(struct store *s);
struct block *store_open(struct store *s, bool discard, GError **error);
/* Closes and makes what was written the new bytes. Returns what block_close does. */
int store_close(struct store *s, struct block *b);
/* Carries out one event of the log on @bytes. */
void store_apply(GByteArray *bytes, const struct debug_event *event, size_t from, size_t to);
