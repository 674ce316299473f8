/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* CODE(name, bits, "instructions"): guest code written in place; Intel syntax, `;` between
 * instructions. Labels must be unique in the file. name_start and name_end bound the bytes. */
#define CODE(name, bits, text)                                                                     \
	__asm__(".pushsection .rodata\n.intel_syntax noprefix\n.code" #bits "\n" #name             \
		"_start:\n" text "\n" #name "_end:\n.code64\n.att_syntax\n.popsection");           \
	extern const uint8_t name##_start[], name##_end[]
#define CODE_SIZE(name)               ((size_t)(name##_end - name##_start))
#define RUN(bench, bits, name, state) bench_code(bench, bits, name##_start, CODE_SIZE(name), state)
