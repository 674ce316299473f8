/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "block/block.h"
#include "block/image.h"

/* What the block tests share: a scratch folder, QEMU's tools as an independent judge, and waiting.
 */

/* A new folder for this test program; removed by scratch_clean. */
const char *scratch(void);
char *scratch_path(const char *name);
void scratch_clean(void);

/* Whether qemu-img (and qemu-io) is there; otherwise marks the test as skipped. */
bool have_qemu(void);

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
