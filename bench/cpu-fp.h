/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

enum cpu_fp_kernel { CPU_FP_MATMUL, CPU_FP_NBODY, CPU_FP_X87, CPU_FP_SIMDINT, CPU_FP_KERNELS };

/* Runs as guest code and, for comparison, on the host; @memory has 256 KiB of which the first
 * KiB holds doubles (constants: code that is copied has no data of its own). Returns a checksum. */
uint64_t guest_fp(uint8_t *memory, enum cpu_fp_kernel kernel, uint64_t rounds);
