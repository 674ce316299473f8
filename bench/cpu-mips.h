/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Runs as guest code and, for comparison, on the host; @memory has 256 KiB. */
uint64_t guest_main(uint8_t *memory, uint64_t rounds);
