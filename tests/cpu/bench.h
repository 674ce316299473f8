/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/cpu.h"

/*
 * A machine with nothing but RAM at 0, one processor (more by bench_add_cpu) and a bus that records
 * what happens. Reads of ports and MMIO answer from `answer`; HLT ends a program.
 */

enum bench_kind {
	BENCH_PORT_READ,
	BENCH_PORT_WRITE,
	BENCH_MMIO_READ,
	BENCH_MMIO_WRITE,
	BENCH_MSR_READ,
	BENCH_MSR_WRITE,
	BENCH_ACK,
};

struct bench_event {
	enum bench_kind kind;
	uint64_t address, value;
	unsigned size;
};

enum { BENCH_EVENTS = 256, BENCH_CPUS = 4, BENCH_TABLES = 0x70000 };

struct bench {
	struct cpu_system *system;
	struct cpu *cpu, *cpus[BENCH_CPUS];
	unsigned cpu_count;
	uint8_t *ram;
	uint64_t size;
	int slot;
	uint64_t dirty[64];
	struct bench_event event[BENCH_EVENTS]; /* the first ones; event_count goes on */
	unsigned event_count;
	uint64_t answer; /* what port and MMIO reads return */
	int vector;      /* what interrupt_ack returns; -1 for none */
	struct cpu_bus bus;
};

/* @size is a multiple of 4 KiB, at most 1 MiB where dirty logging is wanted for all of it. */
struct bench *bench_new(uint64_t size);
void bench_free(struct bench *bench);
struct cpu *bench_add_cpu(struct bench *bench);
/* Copies bytes to RAM and tells the system. */
void bench_load(struct bench *bench, uint64_t gpa, const void *bytes, size_t size);
/* Sets @cpu to run at @rip in privileged code of 16 bits (real mode), 32 bits (flat, no paging) or
 * 64 bits (identity mapping of the first 4 GiB by 1 GiB pages; tables at BENCH_TABLES). The other
 * registers are zero but RSP, which is @rsp. */
void bench_mode(struct bench *bench, struct cpu *cpu, unsigned bits, uint64_t rip, uint64_t rsp);
/* Loads @code at @rip, enters it with bench_mode, runs to HLT (or at most a million instructions)
 * and fetches the state. */
enum cpu_exit bench_code(struct bench *bench, unsigned bits, const void *code, size_t size,
			 struct cpu_state *state);
