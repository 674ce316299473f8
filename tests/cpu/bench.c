// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

static void record(struct bench *bench, enum bench_kind kind, uint64_t address, uint64_t value,
		   unsigned size)
{
	if (bench->event_count < BENCH_EVENTS)
		bench->event[bench->event_count] = (struct bench_event){kind, address, value, size};
	bench->event_count++;
}

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
	struct bench *bench = opaque;

	record(bench, BENCH_MMIO_READ, gpa, bench->answer, size);
	return size == 8 ? bench->answer : bench->answer & ((UINT64_C(1) << 8 * size) - 1);
}

static void mmio_write(void *opaque, uint64_t gpa, uint64_t value, unsigned size)
{
	record(opaque, BENCH_MMIO_WRITE, gpa, value, size);
}

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
	struct bench *bench = opaque;

	record(bench, BENCH_PORT_READ, port, bench->answer, size);
	return (uint32_t)(bench->answer & ((UINT64_C(1) << 8 * size) - 1));
}

static void port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	record(opaque, BENCH_PORT_WRITE, port, value, size);
}

static int interrupt_ack(void *opaque)
{
	struct bench *bench = opaque;

	record(bench, BENCH_ACK, 0, (uint64_t)bench->vector, 0);
	for (unsigned i = 0; i < bench->cpu_count; i++)
		cpu_set_intr(bench->cpus[i], false);
	return bench->vector;
}

static bool msr_read(void *opaque, uint32_t index, uint64_t *value)
{
	record(opaque, BENCH_MSR_READ, index, 0, 8);
	*value = 0;
	return index == 0x1b;
}

static bool msr_write(void *opaque, uint32_t index, uint64_t value)
{
	record(opaque, BENCH_MSR_WRITE, index, value, 8);
	return index == 0x1b;
}

static uint64_t tpr_read(void *opaque)
{
	return 0;
}

static void tpr_write(void *opaque, uint64_t value)
{
}

struct cpu *bench_add_cpu(struct bench *bench)
{
	struct cpu_model model = {.apic_id = bench->cpu_count,
				  .cpu_count = BENCH_CPUS,
				  .tsc_hz = 1000000000,
				  .apic_timer_hz = 1000000000};

	g_assert(bench->cpu_count < BENCH_CPUS);
	return bench->cpus[bench->cpu_count++] = cpu_new(bench->system, &model, &bench->bus, bench);
}

struct bench *bench_new(uint64_t size)
{
	struct bench *bench = g_new0(struct bench, 1);

	bench->bus = (struct cpu_bus){.mmio_read = mmio_read,
				      .mmio_write = mmio_write,
				      .port_read = port_read,
				      .port_write = port_write,
				      .interrupt_ack = interrupt_ack,
				      .msr_read = msr_read,
				      .msr_write = msr_write,
				      .tpr_read = tpr_read,
				      .tpr_write = tpr_write};
	bench->size = size;
	bench->vector = -1;
	bench->ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert(bench->ram != MAP_FAILED);
	bench->system = cpu_system_new();
	bench->slot =
		cpu_system_map(bench->system, 0, size, bench->ram, false,
			       size >> 12 <= 64 * G_N_ELEMENTS(bench->dirty) ? bench->dirty : NULL);
	bench->cpu = bench_add_cpu(bench);
	return bench;
}

void bench_free(struct bench *bench)
{
	for (unsigned i = 0; i < bench->cpu_count; i++)
		cpu_free(bench->cpus[i]);
	cpu_system_free(bench->system);
	munmap(bench->ram, bench->size);
	g_free(bench);
}

void bench_load(struct bench *bench, uint64_t gpa, const void *bytes, size_t size)
{
	g_assert(gpa + size <= bench->size);
	memcpy(bench->ram + gpa, bytes, size);
	cpu_system_ram_written(bench->system, gpa, size);
}

static void identity_tables(struct bench *bench)
{
	uint64_t top = BENCH_TABLES + 0x1000 + 7;

	bench_load(bench, BENCH_TABLES, &top, 8);
	for (uint64_t i = 0; i < 4; i++) {
		uint64_t entry = i << 30 | 0xe7; /* 1 GiB, dirty, accessed, user, writable */

		bench_load(bench, BENCH_TABLES + 0x1000 + 8 * i, &entry, 8);
	}
}

static void flat(struct cpu_state *state, uint16_t extra)
{
	for (unsigned i = 0; i <= SEG_GS; i++)
		state->seg[i] = (struct cpu_segment){.limit = UINT32_MAX,
						     .selector = 16,
						     .attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED |
							     SEG_G | SEG_DB};
	state->seg[SEG_CS].selector = 8;
	state->seg[SEG_CS].attr = SEG_P | SEG_S | SEG_RW | SEG_CODE | SEG_ACCESSED | SEG_G | extra;
	state->seg[SEG_TR].attr = SEG_P | 11;
	state->seg[SEG_TR].limit = 0x67;
}

void bench_mode(struct bench *bench, struct cpu *cpu, unsigned bits, uint64_t rip, uint64_t rsp)
{
	struct cpu_state state;
	GError *error = NULL;

	cpu_reset(cpu, true);
	cpu_get_state(cpu, &state);
	memset(state.regs, 0, sizeof(state.regs));
	state.regs[CPU_RSP] = rsp;
	state.rip = rip;
	state.rflags = 2;
	if (bits == 16) {
		state.seg[SEG_CS].base = 0;
		state.seg[SEG_CS].selector = 0;
	} else if (bits == 32) {
		state.cr0 |= 1;
		flat(&state, SEG_DB);
	} else {
		identity_tables(bench);
		state.cr0 |= UINT64_C(0x80000001);
		state.cr3 = BENCH_TABLES;
		state.cr4 |= 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
		state.efer = 0x500;
		flat(&state, SEG_L);
	}
	if (!cpu_set_state(cpu, &state, &error))
		g_error("bench: %s", error->message);
}

enum cpu_exit bench_code(struct bench *bench, unsigned bits, const void *code, size_t size,
			 struct cpu_state *state)
{
	enum cpu_exit exit;

	bench_load(bench, 0x1000, code, size);
	bench_mode(bench, bench->cpu, bits, 0x1000, 0x8000);
	exit = cpu_run(bench->cpu, 1000000);
	cpu_get_state(bench->cpu, state);
	return exit;
}
