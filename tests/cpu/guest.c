// SPDX-License-Identifier: GPL-2.0-or-later
// The same on Lodge's processor: a machine with paging that maps the test's pages at the same
// addresses, CPL 3, and exception handlers that only halt.
#include "cpu/internal.h"
#include "diff.h"

#include <string.h>

enum {
	RAM_SIZE = 4 << 20,
	TABLES = 0x10000, /* page tables grow from here */
	CODE_AT = 0x100000,
	DATA_AT = 0x180000, /* the first data page; the second is somewhere else */
	DATA2_AT = 0x1a5000,
	KERNEL_AT = 0x200000, /* 16 pages */
	KERNEL_PAGES = 16,
	/* offsets from DIFF_KERNEL */
	GDT_AT = 0,
	TSS_AT = 0x400,
	LDT_AT = 0x800,
	IDT_AT = 0x1000,
	HANDLERS_AT = 0x2000, /* 16 bytes each */
	STACK_AT = 0x8000,
	WARM_AT = 0xf00, /* offset from DIFF_CODE: no test goes there */
	WARM_COUNT = 5,
};

struct diff_guest {
	struct cpu_system *system;
	struct cpu *cpu;
	uint8_t *ram;
	uint32_t next_table;
	struct cpu_state base;
};

/* The instruction under test may do nothing outside of the processor. */
static uint64_t no_mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
	return UINT64_MAX;
}
static void no_mmio_write(void *opaque, uint64_t gpa, uint64_t value, unsigned size)
{
}
static uint32_t no_port_read(void *opaque, uint16_t port, unsigned size)
{
	return UINT32_MAX;
}
static void no_port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
}
static int no_interrupt(void *opaque)
{
	return -1;
}
static bool no_msr_read(void *opaque, uint32_t index, uint64_t *value)
{
	return false;
}
static bool no_msr_write(void *opaque, uint32_t index, uint64_t value)
{
	return false;
}
static uint64_t no_tpr_read(void *opaque)
{
	return 0;
}
static void no_tpr_write(void *opaque, uint64_t value)
{
}

static const struct cpu_bus bus = {
	.mmio_read = no_mmio_read,
	.mmio_write = no_mmio_write,
	.port_read = no_port_read,
	.port_write = no_port_write,
	.interrupt_ack = no_interrupt,
	.msr_read = no_msr_read,
	.msr_write = no_msr_write,
	.tpr_read = no_tpr_read,
	.tpr_write = no_tpr_write,
};

static void put64(struct diff_guest *guest, uint64_t at, uint64_t value)
{
	memcpy(guest->ram + at, &value, 8);
}

static uint64_t get64(const struct diff_guest *guest, uint64_t at)
{
	uint64_t value;

	memcpy(&value, guest->ram + at, 8);
	return value;
}

static void map_page(struct diff_guest *guest, uint64_t linear, uint64_t gpa, uint64_t rights)
{
	uint64_t table = TABLES;

	for (unsigned level = 4; level > 1; level--) {
		uint64_t entry_at = table + 8 * (linear >> (12 + 9 * (level - 1)) & 511);
		if (!get64(guest, entry_at)) {
			put64(guest, entry_at, guest->next_table | 7);
			guest->next_table += DIFF_PAGE;
		}
		table = get64(guest, entry_at) & ~UINT64_C(0xfff);
	}
	put64(guest, table + 8 * (linear >> 12 & 511), gpa | rights);
}

static void make_tables(struct diff_guest *guest)
{
	enum { P = 1, W = 2, U = 4 };
	const uint64_t nx = UINT64_C(1) << 63;

	guest->next_table = TABLES + DIFF_PAGE;
	map_page(guest, DIFF_CODE, CODE_AT, P | W | U);
	map_page(guest, DIFF_CODE + DIFF_PAGE, CODE_AT + DIFF_PAGE, P | W | U);
	map_page(guest, DIFF_DATA, DATA_AT, P | W | U | nx);
	map_page(guest, DIFF_DATA + DIFF_PAGE, DATA2_AT, P | W | U | nx);
	for (unsigned i = 0; i < KERNEL_PAGES; i++)
		map_page(guest, DIFF_KERNEL + i * DIFF_PAGE, KERNEL_AT + i * DIFF_PAGE, P | W);
}

static void make_system_segments(struct diff_guest *guest)
{
	uint64_t kernel = KERNEL_AT, rsp0 = DIFF_KERNEL + STACK_AT;
	const uint16_t no_io_bitmap = 0x68;

	put64(guest, kernel + GDT_AT + 0x10, UINT64_C(0x00af9b000000ffff));
	put64(guest, kernel + GDT_AT + 0x18, UINT64_C(0x00cf93000000ffff));
	put64(guest, kernel + GDT_AT + 0x20, UINT64_C(0x00cffb000000ffff));
	put64(guest, kernel + GDT_AT + 0x28, UINT64_C(0x00cff3000000ffff));
	put64(guest, kernel + GDT_AT + 0x30, UINT64_C(0x00affb000000ffff));
	memcpy(guest->ram + kernel + TSS_AT + 4, &rsp0, 8);
	memcpy(guest->ram + kernel + TSS_AT + 0x66, &no_io_bitmap, 2);
	for (unsigned vector = 0; vector < 256; vector++) {
		uint64_t handler = DIFF_KERNEL + HANDLERS_AT + 16 * vector;
		uint64_t dpl = vector == 3 || vector == 4 ? 3 : 0;
		put64(guest, kernel + IDT_AT + 16 * vector,
		      (handler & 0xffff) | 0x10 << 16 | (UINT64_C(0x8e00) | dpl << 13) << 32 |
			      (handler >> 16 & 0xffff) << 48);
		put64(guest, kernel + IDT_AT + 16 * vector + 8, handler >> 32);
		guest->ram[kernel + HANDLERS_AT + 16 * vector] = 0xf4; /* HLT */
	}
}

static struct cpu_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint16_t attr)
{
	return (struct cpu_segment){
		.base = base, .limit = limit, .selector = selector, .attr = attr};
}

static void make_state(struct diff_guest *guest, const struct diff_case *test)
{
	enum { USER = SEG_P | SEG_S | SEG_DPL | SEG_ACCESSED | SEG_RW };
	struct cpu_state *s = &guest->base;
	struct cpu_segment data = segment(0x2b, 0, UINT32_MAX, USER | SEG_DB | SEG_G);

	s->seg[SEG_CS] = test->mode == DIFF_64
				 ? segment(0x33, 0, UINT32_MAX, USER | SEG_CODE | SEG_L | SEG_G)
			 : test->mode == DIFF_32
				 ? segment(0x23, 0, UINT32_MAX, USER | SEG_CODE | SEG_DB | SEG_G)
				 : segment(DIFF_CODE16, DIFF_CODE, 0xffff, USER | SEG_CODE);
	if (test->mode == DIFF_16)
		data = segment(DIFF_DATA16, DIFF_DATA - DIFF_PAGE, 0xffff, USER);
	s->seg[SEG_SS] = s->seg[SEG_DS] = s->seg[SEG_ES] = data;
	s->seg[SEG_FS] = segment(0, test->fs_base, 0, SEG_UNUSABLE);
	s->seg[SEG_GS] = segment(0, test->gs_base, 0, SEG_UNUSABLE);
	memcpy(s->regs, test->start.regs, sizeof(s->regs));
	s->rip = test->start.rip;
	s->rflags = test->start.rflags;
	s->cr2 = 0;
	memcpy(s->fxsave, test->start.fx, sizeof(s->fxsave));
	s->activity = CPU_ACTIVE;
}

struct diff_guest *guest_new(void)
{
	static const struct cpu_model model = {.cpu_count = 1, .tsc_hz = 1000000000};
	struct diff_guest *guest = g_new0(struct diff_guest, 1);
	struct cpu_state *s = &guest->base;

	guest->ram = g_aligned_alloc0(1, RAM_SIZE, DIFF_PAGE);
	make_tables(guest);
	make_system_segments(guest);
	guest->system = cpu_system_new();
	cpu_system_map(guest->system, 0, RAM_SIZE, guest->ram, false, NULL);
	guest->cpu = cpu_new(guest->system, &model, &bus, NULL);
	cpu_reset(guest->cpu, true);
	cpu_get_state(guest->cpu, s);
	s->cr0 = CR0_PG | CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM;
	s->cr3 = TABLES;
	s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE;
	s->xcr0 = 3;
	s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	s->gdtr = (struct cpu_table){DIFF_KERNEL + GDT_AT, 0xff};
	s->idtr = (struct cpu_table){DIFF_KERNEL + IDT_AT, 0xfff};
	s->seg[SEG_TR] = segment(0x40, DIFF_KERNEL + TSS_AT, 0x67, SEG_P | 0xb);
	s->seg[SEG_LDTR] = segment(0x50, DIFF_KERNEL + LDT_AT, 0xfff, SEG_P | 2);
	return guest;
}

void guest_free(struct diff_guest *guest)
{
	cpu_free(guest->cpu);
	cpu_system_free(guest->system);
	g_aligned_free(guest->ram);
	g_free(guest);
}

struct cpu_state *guest_base(struct diff_guest *guest)
{
	return &guest->base;
}

void guest_get_data(struct diff_guest *guest, uint8_t *to)
{
	memcpy(to, guest->ram + DATA_AT, DIFF_PAGE);
	memcpy(to + DIFF_PAGE, guest->ram + DATA2_AT, DIFF_PAGE);
}

static void put_memory(struct diff_guest *guest, const struct diff_case *test)
{
	uint64_t base = test->mode == DIFF_16 ? DIFF_CODE : 0;
	uint64_t at = base + test->start.rip - DIFF_CODE;

	memset(guest->ram + CODE_AT, 0xcc, DIFF_CODE_SIZE);
	memcpy(guest->ram + CODE_AT + at, test->bytes, MIN(test->length, DIFF_CODE_SIZE - at));
	memcpy(guest->ram + DATA_AT, test->data, DIFF_PAGE);
	memcpy(guest->ram + DATA2_AT, test->data + DIFF_PAGE, DIFF_PAGE);
	cpu_system_ram_written(guest->system, CODE_AT, DIFF_CODE_SIZE);
}

/* Instructions that go before the test and change nothing: NOT twice of a byte in each page, which
 * fetches both into the TLB for reading and writing; then a jump to the test. */
static void put_warm_up(struct diff_guest *guest, const struct diff_case *test)
{
	uint8_t *at = guest->ram + CODE_AT + WARM_AT, *start = at;
	uint32_t base = test->mode == DIFF_16 ? DIFF_DATA - DIFF_PAGE : 0;
	int32_t distance;

	for (unsigned i = 0; i < 4; i++) {
		uint32_t address = DIFF_DATA - base + (i & 1) * DIFF_PAGE;
		if (test->mode == DIFF_16)
			*at++ = 0x67;
		*at++ = 0xf6;
		*at++ = test->mode == DIFF_64 ? 0x14 : 0x15;
		if (test->mode == DIFF_64)
			*at++ = 0x25;
		memcpy(at, &address, 4);
		at += 4;
	}
	*at++ = 0xe9;
	distance = -(int32_t)(WARM_AT + (at - start) + (test->mode == DIFF_16 ? 2 : 4));
	distance += (int32_t)(test->start.rip - (test->mode == DIFF_16 ? 0 : DIFF_CODE));
	memcpy(at, &distance, test->mode == DIFF_16 ? 2 : 4);
	guest->base.rip = (test->mode == DIFF_16 ? 0 : DIFF_CODE) + WARM_AT;
}

/* The frame that the exception pushed: error code (or not), RIP, CS, RFLAGS, RSP, SS. */
static void read_frame(struct diff_guest *guest, const struct cpu_state *state,
		       struct diff_outcome *outcome)
{
	static const uint32_t with_error = 1u << 8 | 0x1fu << 10 | 1u << 17;
	uint64_t at = KERNEL_AT + state->regs[CPU_RSP] - DIFF_KERNEL;

	outcome->vector = (int)((state->rip - DIFF_KERNEL - HANDLERS_AT) / 16);
	if (outcome->vector < 32 && with_error >> outcome->vector & 1) {
		outcome->error = (uint32_t)get64(guest, at);
		at += 8;
	}
	outcome->state.rip = get64(guest, at);
	outcome->state.rflags = get64(guest, at + 16);
	outcome->state.regs[CPU_RSP] = get64(guest, at + 24);
}

void guest_run(struct diff_guest *guest, const struct diff_case *test, struct diff_outcome *outcome)
{
	g_autoptr(GError) error = NULL;
	struct cpu_state state;
	unsigned left = test->count;

	put_memory(guest, test);
	make_state(guest, test);
	if (test->warm) {
		put_warm_up(guest, test);
		left += WARM_COUNT;
	}
	if (!cpu_set_state(guest->cpu, &guest->base, &error))
		g_error("state refused: %s", error->message);
	cpu_run(guest->cpu, left);
	cpu_get_state(guest->cpu, &state);
	for (unsigned i = 0; test->repeats && i < 200 && state.rip == test->start.rip; i++) {
		cpu_run(guest->cpu, 1);
		cpu_get_state(guest->cpu, &state);
	}
	memcpy(outcome->state.regs, state.regs, sizeof(state.regs));
	memcpy(outcome->state.fx, state.fxsave, sizeof(state.fxsave));
	outcome->state.rip = state.rip;
	outcome->state.rflags = state.rflags;
	outcome->vector = -1;
	outcome->error = 0;
	outcome->cr2 = state.cr2;
	if ((state.seg[SEG_CS].selector & 3) == 0)
		read_frame(guest, &state, outcome);
}
