// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/mman.h>

#include "sysbench.h"

/* --- The bus --- */

static uint64_t no_read(void *opaque, uint64_t gpa, unsigned size)
{
	return UINT64_MAX;
}

static void no_write(void *opaque, uint64_t gpa, uint64_t value, unsigned size)
{
}

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
	struct bench *bench = opaque;

	bench->port = port;
	return 0x11111111u * (bench->port_reads++ % 15 + 1);
}

static void port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct bench *bench = opaque;

	bench->port_writes++;
	bench->port = port;
	bench->port_value = value;
}

static int interrupt_ack(void *opaque)
{
	struct bench *bench = opaque;
	int vector = bench->interrupt;

	bench->interrupt = -1;
	cpu_set_intr(bench->cpu, false);
	return vector;
}

static bool no_msr_read(void *opaque, uint32_t index, uint64_t *value)
{
	return false;
}

static bool no_msr_write(void *opaque, uint32_t index, uint64_t value)
{
	return false;
}

static uint64_t tpr_read(void *opaque)
{
	return ((struct bench *)opaque)->tpr;
}

static void tpr_write(void *opaque, uint64_t value)
{
	((struct bench *)opaque)->tpr = value;
}

static int64_t hypercall(void *opaque, uint64_t number, const uint64_t args[4])
{
	return (int64_t)(number + args[0] + args[3]);
}

static const struct cpu_bus bus = {
	.mmio_read = no_read,
	.mmio_write = no_write,
	.port_read = port_read,
	.port_write = port_write,
	.interrupt_ack = interrupt_ack,
	.msr_read = no_msr_read,
	.msr_write = no_msr_write,
	.tpr_read = tpr_read,
	.tpr_write = tpr_write,
	.hypercall = hypercall,
};

/* --- Memory --- */

uint64_t bench_get(const struct bench *bench, uint64_t at, unsigned size)
{
	uint64_t value = 0;

	g_assert(at + size <= RAM_SIZE);
	memcpy(&value, bench->ram + at, size);
	return value;
}

void bench_put(struct bench *bench, uint64_t at, uint64_t value, unsigned size)
{
	g_assert(at + size <= RAM_SIZE);
	memcpy(bench->ram + at, &value, size);
}

uint64_t *bench_pte(struct bench *bench, uint64_t linear)
{
	return (uint64_t *)(bench->ram + AT_PT) + (linear >> 12 & 511);
}

void bench_set_desc(struct bench *bench, unsigned selector, uint32_t base, uint32_t limit,
		    uint16_t attr)
{
	uint32_t units = attr & SEG_G ? limit >> 12 : limit;
	uint32_t low = (units & 0xffff) | base << 16;
	uint32_t high =
		(base >> 16 & 0xff) | (uint32_t)attr << 8 | (units & 0xf0000) | (base & 0xff000000);

	bench_put(bench, AT_GDT + (selector & 0xfff8), low, 4);
	bench_put(bench, AT_GDT + (selector & 0xfff8) + 4, high, 4);
}

void bench_set_gate(struct bench *bench, unsigned vector, uint16_t selector, uint64_t offset,
		    unsigned type, unsigned dpl, unsigned ist)
{
	bool wide = bench->mode >= BENCH_COMPAT;
	uint64_t at = AT_IDT + vector * (wide ? 16 : 8);

	bench_put(bench, at, (offset & 0xffff) | (uint64_t)selector << 16, 4);
	bench_put(bench, at + 4, (offset & 0xffff0000) | ist | (type | dpl << 5 | 0x80) << 8, 4);
	if (wide)
		bench_put(bench, at + 8, offset >> 32, 8);
}

static void setup_gdt(struct bench *bench)
{
	const uint16_t code = SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED;
	const uint16_t data = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED, user = SEG_DPL;
	const uint16_t big = SEG_DB | SEG_G;

	memset(bench->ram + AT_GDT, 0, 0x800);
	bench_set_desc(bench, SEL_CODE64, 0, UINT32_MAX, code | SEG_L | SEG_G);
	bench_set_desc(bench, SEL_DATA, 0, UINT32_MAX, data | big);
	bench_set_desc(bench, SEL_CODE32, 0, UINT32_MAX, code | big);
	bench_set_desc(bench, SEL_USER32, 0, UINT32_MAX, code | big | user);
	bench_set_desc(bench, SEL_USER_DATA, 0, UINT32_MAX, data | big | user);
	bench_set_desc(bench, SEL_USER64, 0, UINT32_MAX, code | SEG_L | SEG_G | user);
	bench_set_desc(bench, SEL_CODE16, 0, 0xfffff, code);
	bench_set_desc(bench, SEL_DATA16, 0, 0xffff, data);
	bench_set_desc(bench, SEL_LDT, AT_LDT, 0x1ff, SEG_P | 2);
	bench_set_desc(bench, SEL_CONFORMING, 0, UINT32_MAX, code | SEG_DC | big);
	bench_set_desc(bench, SEL_ABSENT, 0, UINT32_MAX, (data | big) & ~SEG_P);
	bench_set_desc(bench, SEL_READONLY, 0, UINT32_MAX, (data | big) & ~SEG_RW);
	bench_set_desc(bench, SEL_EXECONLY, 0, UINT32_MAX, (code | big) & ~SEG_RW);
	bench_set_desc(bench, SEL_DOWN, 0, 0xfff, (data | SEG_DC | SEG_DB) & ~SEG_ACCESSED);
	bench_set_desc(bench, SEL_SMALL, 0, 0xff, data | SEG_DB);
	bench_set_desc(bench, SEL_CODE_DPL1, 0, UINT32_MAX, code | big | 1 << SEG_DPL_SHIFT);
	bench_set_desc(bench, SEL_DATA_DPL1, 0, UINT32_MAX, data | big | 1 << SEG_DPL_SHIFT);
	if (bench->mode < BENCH_COMPAT) {
		bench_set_desc(bench, SEL_TSS2, AT_TSS2, 0x67, SEG_P | 9);
		bench_set_desc(bench, SEL_TSS16, AT_TSS16, 0x2b, SEG_P | 1);
	}
	bench_set_desc(bench, SEL_TSS, AT_TSS, 0x3ff, SEG_P | 11);
	if (bench->mode >= BENCH_COMPAT) /* the second halves */
		bench_put(bench, AT_GDT + SEL_TSS + 8, 0, 8);
}

static void setup_idt(struct bench *bench)
{
	uint16_t code = bench->mode >= BENCH_COMPAT ? SEL_CODE64 : SEL_CODE32;

	memset(bench->ram + AT_HANDLERS, 0xf4, 0x800);
	for (unsigned i = 0; i < 256; i++) {
		if (bench->mode == BENCH_REAL)
			bench_put(bench, i * 4, AT_HANDLERS + i * 8, 4);
		else
			bench_set_gate(bench, i, code, AT_HANDLERS + i * 8, 14,
				       i == 0x80 || i == 3 || i == 4 ? 3 : 0, 0);
	}
}

static void setup_tss(struct bench *bench)
{
	memset(bench->ram + AT_TSS, 0, 0x1000);
	memset(bench->ram + AT_TSS + 0x68, 0xff, 0x398);
	bench_put(bench, AT_TSS + 0x66, 0x68, 2);
	if (bench->mode >= BENCH_COMPAT) {
		bench_put(bench, AT_TSS + 4, TOP_TSS0, 8);
		bench_put(bench, AT_TSS + 12, TOP_TSS1, 8);
		bench_put(bench, AT_TSS + 36, TOP_IST1, 8);
		return;
	}
	bench_put(bench, AT_TSS + 4, TOP_TSS0, 4);
	bench_put(bench, AT_TSS + 8, SEL_DATA, 4);
	bench_put(bench, AT_TSS + 12, TOP_TSS1, 4);
	bench_put(bench, AT_TSS + 16, SEL_DATA_DPL1 | 1, 4);
}

static void setup_pages(struct bench *bench)
{
	memset(bench->ram + AT_PML4, 0, 0x8000);
	bench_put(bench, AT_PML4, AT_PDPT | 7, 8);
	bench_put(bench, AT_PDPT, AT_PD | 7, 8);
	bench_put(bench, AT_PAE, AT_PD | 1, 8);
	bench_put(bench, AT_PD, AT_PT | 7, 8);
	bench_put(bench, AT_PD32, AT_PT32 | 7, 4);
	for (unsigned i = 0; i < 512; i++) {
		bench_put(bench, AT_PT + i * 8, i << 12 | 7, 8);
		bench_put(bench, AT_PT32 + i * 4, i << 12 | 7, 4);
	}
}

/* --- The processor --- */

static void load_segment(struct bench *bench, unsigned segment, uint16_t selector)
{
	uint64_t raw = bench_get(bench, AT_GDT + (selector & 0xfff8), 8);
	struct cpu_segment *seg = &bench->state.seg[segment];

	seg->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
	seg->limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
	seg->selector = selector;
	seg->attr = raw >> 40 & 0xf0ff;
	if (seg->attr & SEG_G)
		seg->limit = seg->limit << 12 | 0xfff;
}

static void setup_state(struct bench *bench, unsigned cpl)
{
	struct cpu_state *s = &bench->state;
	enum bench_mode mode = bench->mode;
	static const uint16_t code[4][2] = {
		{SEL_CODE32, SEL_CODE64}, {SEL_CODE_DPL1 | 1, 0}, {0, 0}, {SEL_USER32, SEL_USER64}};
	uint16_t data = cpl == 3 ? SEL_USER_DATA : cpl == 1 ? SEL_DATA_DPL1 | 1 : SEL_DATA;

	cpu_state_reset(s, true);
	s->rip = AT_CODE;
	s->regs[CPU_RSP] = cpl == 3 ? TOP_RING3 : TOP_RING0;
	s->cr0 = CR0_ET | CR0_NE;
	s->xcr0 = 3;
	if (mode == BENCH_REAL) {
		s->seg[SEG_CS].base = 0;
		s->seg[SEG_CS].selector = 0;
		s->seg[SEG_CS].limit = 0xfffff;
		s->regs[CPU_RSP] = 0xfff0;
		s->idtr.limit = 0x3ff;
		return;
	}
	s->cr0 |= CR0_PE;
	s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	s->gdtr = (struct cpu_table){.base = AT_GDT, .limit = 0xff};
	s->idtr = (struct cpu_table){.base = AT_IDT, .limit = 0xfff};
	load_segment(bench, SEG_CS, code[cpl][mode == BENCH_LONG]);
	for (unsigned i = 0; i < 6; i++)
		if (i != SEG_CS)
			load_segment(bench, i, data);
	load_segment(bench, SEG_TR, SEL_TSS);
	load_segment(bench, SEG_LDTR, SEL_LDT);
	if (mode == BENCH_PROT32)
		return;
	s->cr0 |= CR0_PG | CR0_WP;
	s->cr3 = mode == BENCH_LEGACY32 ? AT_PD32 : mode == BENCH_PAE32 ? AT_PAE : AT_PML4;
	if (mode >= BENCH_PAE32)
		s->cr4 |= CR4_PAE;
	if (mode >= BENCH_COMPAT)
		s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
}

void bench_setup(struct bench *bench, enum bench_mode mode, unsigned cpl)
{
	memset(bench->ram, 0, RAM_SIZE);
	bench->mode = mode;
	setup_gdt(bench);
	setup_idt(bench);
	setup_tss(bench);
	setup_pages(bench);
	setup_state(bench, cpl);
	bench->interrupt = -1;
	cpu_system_ram_written(bench->system, 0, RAM_SIZE);
}

struct bench *bench_new(enum bench_mode mode, unsigned cpl)
{
	static const struct cpu_model model = {
		.cpu_count = 1, .tsc_hz = 2000000000, .apic_timer_hz = 1000000000};
	struct bench *bench = g_new0(struct bench, 1);

	bench->ram =
		mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert(bench->ram != MAP_FAILED);
	bench->system = cpu_system_new();
	cpu_system_map(bench->system, 0, RAM_SIZE, bench->ram, false, NULL);
	bench->cpu = cpu_new(bench->system, &model, &bus, bench);
	bench_setup(bench, mode, cpl);
	return bench;
}

void bench_free(struct bench *bench)
{
	cpu_free(bench->cpu);
	cpu_system_free(bench->system);
	munmap(bench->ram, RAM_SIZE);
	g_free(bench);
}

static bool vector_has_error(int vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static void read_frame(struct bench *bench, struct outcome *o)
{
	const struct cpu_state *s = &o->state;
	unsigned size = s->efer & EFER_LMA ? 8 : s->cr0 & CR0_PE ? 4 : 2;
	uint64_t at = s->regs[CPU_RSP], values[5];

	if (size == 2)
		at = s->seg[SEG_SS].base + (uint16_t)at;
	if (size > 2 && vector_has_error(o->vector)) {
		o->error = bench_get(bench, at, size);
		at += size;
	}
	for (unsigned i = 0; i < 5; i++)
		values[i] = bench_get(bench, at + i * size, size);
	o->rip = values[0];
	o->cs = values[1];
	o->flags = values[2];
	o->rsp = values[3];
	o->ss = values[4];
}

struct outcome bench_continue(struct bench *bench, uint64_t max_insns)
{
	struct outcome o = {.vector = -1};
	uint64_t rip;

	o.exit = cpu_run(bench->cpu, max_insns);
	cpu_get_state(bench->cpu, &o.state);
	rip = o.state.rip - 1;
	if (o.exit == CPU_EXIT_HALT && rip >= AT_HANDLERS && rip < AT_HANDLERS + 0x800) {
		o.vector = (int)(rip - AT_HANDLERS) / 8;
		read_frame(bench, &o);
	}
	return o;
}

struct outcome bench_run(struct bench *bench, const uint8_t *code, size_t size)
{
	g_autoptr(GError) error = NULL;
	bool ok;

	memcpy(bench->ram + AT_CODE, code, size);
	bench->ram[AT_CODE + size] = 0xf4;
	cpu_system_ram_written(bench->system, 0, RAM_SIZE);
	ok = cpu_set_state(bench->cpu, &bench->state, &error);
	g_assert_no_error(error);
	g_assert_true(ok);
	return bench_continue(bench, 100000);
}
