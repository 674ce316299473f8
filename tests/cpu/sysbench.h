/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <string.h>

#include "cpu/cpu.h"
#include "cpu/internal.h"

/*
 * A bare machine for tests of the system side: 2 MiB of RAM, one processor, descriptor tables, page
 * tables (identity) and an IDT whose every handler is a HLT, so that a run ends where the first
 * exception was delivered and the test can look at its frame.
 */

enum bench_mode { BENCH_REAL, BENCH_PROT32, BENCH_LEGACY32, BENCH_PAE32, BENCH_COMPAT, BENCH_LONG };

enum { /* where things are */
       AT_GDT = 0x1000,
       AT_LDT = 0x1800,
       AT_IDT = 0x2000,
       AT_TSS = 0x3000,  /* the present task; its I/O bitmap from 0x68 */
       AT_TSS2 = 0x3400, /* 32-bit, for task switches */
       AT_TSS16 = 0x3800,
       AT_HANDLERS = 0x4000, /* eight bytes each */
       AT_PML4 = 0x6000,
       AT_PDPT = 0x7000,
       AT_PD = 0x8000,
       AT_PT = 0x9000, /* the first 2 MiB in 4 KiB pages */
       AT_PD32 = 0xa000,
       AT_PT32 = 0xb000,
       AT_PAE = 0xc000,
       AT_CODE = 0x10000,
       AT_DATA = 0x30000,
       TOP_RING0 = 0x20000,
       TOP_RING3 = 0x24000,
       TOP_TSS0 = 0x28000, /* ring 0 stack by the TSS */
       TOP_TSS1 = 0x2a000,
       TOP_IST1 = 0x2c000,
       TOP_TASK2 = 0x2e000,
       RAM_SIZE = 0x200000,
};

enum { /* selectors */
       SEL_CODE64 = 0x08,
       SEL_DATA = 0x10,
       SEL_CODE32 = 0x18,
       SEL_USER32 = 0x20 | 3,
       SEL_USER_DATA = 0x28 | 3,
       SEL_USER64 = 0x30 | 3,
       SEL_CODE16 = 0x38,
       SEL_DATA16 = 0x40,
       SEL_TSS = 0x48,
       SEL_LDT = 0x58,
       SEL_CONFORMING = 0x68,
       SEL_CODE_DPL1 = 0x70,
       SEL_TSS2 = 0x78,
       SEL_TSS16 = 0x80,
       SEL_GATE = 0x88, /* 16 bytes, set by the test */
       SEL_ABSENT = 0x98,
       SEL_READONLY = 0xa0,
       SEL_EXECONLY = 0xa8,
       SEL_DOWN = 0xb0,
       SEL_TASK_GATE = 0xb8,
       SEL_SMALL = 0xc0,
       SEL_DATA_DPL1 = 0xc8,
       SEL_LAST = 0xf8,
};

struct bench {
	struct cpu_system *system;
	struct cpu *cpu;
	uint8_t *ram;
	struct cpu_state state; /* what the next run begins with */
	enum bench_mode mode;
	/* The bus. */
	uint64_t tpr;
	int interrupt; /* vector for interrupt_ack, or -1 */
	unsigned port_writes, port_reads;
	uint16_t port;
	uint32_t port_value;
};

struct outcome {
	enum cpu_exit exit;
	int vector; /* -1: HLT elsewhere, or another kind of exit */
	uint32_t error;
	uint64_t rip, cs, flags, rsp, ss; /* of the frame */
	struct cpu_state state;
};

/* Guest code in assembler: CODE(name, 64, "..."), then name and name_end. */
#define CODE(name, bits, text)                                                                     \
	extern const uint8_t name[], name##_end[];                                                 \
	__asm__(".pushsection .rodata\n.code" #bits "\n.globl " #name ", " #name "_end\n" #name    \
		":\n" text "\n" #name "_end:\n.code64\n.popsection\n")
#define RUN(bench, name) bench_run(bench, name, (size_t)(name##_end - name))

struct bench *bench_new(enum bench_mode mode, unsigned cpl);
void bench_free(struct bench *bench);
/* Puts the state for @mode and @cpl into bench->state, and the tables into memory. */
void bench_setup(struct bench *bench, enum bench_mode mode, unsigned cpl);
/* Copies the code to AT_CODE, followed by HLT, and runs bench->state from there. */
struct outcome bench_run(struct bench *bench, const uint8_t *code, size_t size);
/* Goes on from what the processor holds, and reads the frame where it stops. */
struct outcome bench_continue(struct bench *bench, uint64_t max_insns);

void bench_set_desc(struct bench *bench, unsigned selector, uint32_t base, uint32_t limit,
		    uint16_t attr);
void bench_set_gate(struct bench *bench, unsigned vector, uint16_t selector, uint64_t offset,
		    unsigned type, unsigned dpl, unsigned ist);
uint64_t bench_get(const struct bench *bench, uint64_t at, unsigned size);
void bench_put(struct bench *bench, uint64_t at, uint64_t value, unsigned size);
/* The PTE of a 4 KiB page under 4-level paging. */
uint64_t *bench_pte(struct bench *bench, uint64_t linear);

/* Checks that a fault or trap came: name it by vector, error code and RIP relative to AT_CODE. */
#define ASSERT_FAULT(o, v, e, offset)                                                              \
	do {                                                                                       \
		g_assert_cmpint((o).exit, ==, CPU_EXIT_HALT);                                      \
		g_assert_cmpint((o).vector, ==, v);                                                \
		g_assert_cmphex((o).error, ==, e);                                                 \
		g_assert_cmphex((o).rip, ==, AT_CODE + (offset));                                  \
	} while (0)
#define ASSERT_CLEAN(o)                                                                            \
	do {                                                                                       \
		g_assert_cmpint((o).exit, ==, CPU_EXIT_HALT);                                      \
		g_assert_cmpint((o).vector, ==, -1);                                               \
	} while (0)
