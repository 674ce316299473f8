// SPDX-License-Identifier: GPL-2.0-or-later
/* The page walker against an independent reference, over random tables in all paging modes. The
 * walker is linked alone: memory and the way out of a fault are this file's. */
#include <stdlib.h>
#include <string.h>

#include "cpu/sys.h"

enum { PAGES = 16, PHYS_BITS = 40 };

static uint64_t memory[PAGES * 512];
static sigjmp_buf landed;

/* Someone else's write to a table: one bit of the entry changes before an exchange. */
static struct {
	bool armed, done;
	unsigned bit;
	uint64_t memory[PAGES * 512]; /* as it was right after */
} intruder;

uint64_t phys_read(struct cpu *cpu, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	if (gpa + size <= sizeof(memory))
		memcpy(&value, (uint8_t *)memory + gpa, size);
	return value;
}

bool phys_cmpxchg(struct cpu *cpu, uint64_t gpa, uint64_t expected, uint64_t desired, unsigned size)
{
	uint8_t *at = (uint8_t *)memory + gpa;

	g_assert(gpa + size <= sizeof(memory));
	if (intruder.armed && !intruder.done) {
		at[intruder.bit / 8 % size] ^= 1 << intruder.bit % 8;
		memcpy(intruder.memory, memory, sizeof(memory));
		intruder.done = true;
	}
	if (memcmp(at, &expected, size))
		return false;
	memcpy(at, &desired, size);
	return true;
}

void cpu_raise_error(struct cpu *cpu, uint8_t vector, uint32_t error)
{
	cpu->raised_vector = vector;
	cpu->raised_error = error;
	siglongjmp(landed, 1);
}

void cpu_raise_page_fault(struct cpu *cpu, uint64_t linear, uint32_t error)
{
	cpu->cr2 = linear;
	cpu_raise_error(cpu, EXC_PF, error);
}

/* --- The reference: recursive, one table format description per mode --- */

struct question {
	bool pae, lma, pse, pge, wp, smep, smap, nxe, ac;
	uint64_t cr3, linear;
	enum mem_access access;
	bool user, implicit;
	uint64_t pdpte[4];
};

struct answer {
	bool fault;
	uint32_t error;
	uint64_t gpa;
	bool user, writable, executable, global, dirty;
};

static uint64_t bits(unsigned high, unsigned low)
{
	return (high == 63 ? UINT64_MAX : (UINT64_C(1) << (high + 1)) - 1) &
	       ~((UINT64_C(1) << low) - 1);
}

static bool finish(const struct question *q, uint64_t entry, unsigned shift, uint64_t base,
		   uint64_t and_bits, bool nx, struct answer *a)
{
	bool can_write, supervisor = !q->user;

	a->user = and_bits & 4;
	a->writable = and_bits & 2;
	a->executable = !nx;
	a->global = (entry & 0x100) && q->pge;
	a->gpa = base + (q->linear & bits(shift - 1, 0) & ~UINT64_C(0xfff));
	can_write = a->writable || (supervisor && !q->wp);
	if (q->user && !a->user)
		return false;
	if (q->access == MEM_FETCH)
		return !nx && !(supervisor && a->user && q->smep);
	if (supervisor && a->user && q->smap && (q->implicit || !q->ac))
		return false;
	return q->access == MEM_READ || can_write;
}

/* Walks the entry at @at; on success sets its A (and D) bit on the way back. */
static bool visit(const struct question *q, uint64_t at, unsigned level, uint64_t and_bits, bool nx,
		  struct answer *a)
{
	unsigned size = q->pae || q->lma ? 8 : 4, per = size == 8 ? 9 : 10;
	unsigned shift = 12 + per * (level - 1);
	uint64_t entry = 0, reserved = 0, base, next;
	bool ps, ok;

	if (at + size > sizeof(memory)) /* reads as zero */
		return false;
	memcpy(&entry, (uint8_t *)memory + at, size);
	if (!(entry & 1))
		return false;
	ps = (entry & 0x80) && level > 1;
	if (size == 4) {
		ps &= q->pse;
		reserved = ps ? bits(21, 21) : 0;
		base = ps ? (entry & bits(31, 22)) | (entry & bits(20, 13)) << 19
			  : entry & bits(31, 12);
	} else {
		reserved = bits(51, PHYS_BITS) | (q->nxe ? 0 : bits(63, 63)) |
			   (q->lma ? 0 : bits(62, 52));
		if (level == 4)
			reserved |= 0x80;
		else if (ps)
			reserved |= bits(shift - 1, 13);
		base = entry & bits(51, ps ? shift : 12);
		nx |= q->nxe && entry >> 63;
	}
	a->error |= PF_P;
	if (entry & reserved) {
		a->error |= PF_RSVD;
		return false;
	}
	and_bits &= entry;
	if (level == 1 || ps) {
		ok = finish(q, entry, shift, base, and_bits, nx, a);
		entry |= 0x20 | (q->access == MEM_WRITE ? 0x40 : 0);
		a->dirty = entry & 0x40;
	} else {
		next = base + (q->linear >> (shift - per) & ((1 << per) - 1)) * size;
		a->error &= ~PF_P;
		ok = visit(q, next, level - 1, and_bits, nx, a);
		if (ok) /* the entry may be its own table */
			memcpy(&entry, (uint8_t *)memory + at, size);
		entry |= 0x20;
	}
	if (ok)
		memcpy((uint8_t *)memory + at, &entry, size);
	return ok;
}

static void reference(const struct question *q, struct answer *a)
{
	bool ok;

	*a = (struct answer){0};
	if (q->lma) {
		ok = visit(q, (q->cr3 & bits(51, 12)) + (q->linear >> 39 & 511) * 8, 4, 7, false,
			   a);
	} else if (q->pae) {
		uint64_t pointer = q->pdpte[q->linear >> 30 & 3];

		ok = (pointer & 1) &&
		     visit(q, (pointer & bits(51, 12)) + (q->linear >> 21 & 511) * 8, 2, 7, false,
			   a);
	} else {
		ok = visit(q, (q->cr3 & bits(31, 12)) + (q->linear >> 22 & 1023) * 4, 2, 7, false,
			   a);
	}
	a->fault = !ok;
	if (q->access == MEM_WRITE)
		a->error |= PF_W;
	if (q->user)
		a->error |= PF_U;
	if (q->access == MEM_FETCH && (q->smep || (q->nxe && (q->pae || q->lma))))
		a->error |= PF_I;
}

/* --- Random cases --- */

static bool chance(unsigned percent)
{
	return (unsigned)g_test_rand_int_range(0, 100) < percent;
}

static uint64_t random_entry(void)
{
	uint64_t entry = (uint64_t)g_test_rand_int_range(0, PAGES) << 12;

	entry |= chance(95) ? 1 : 0;
	entry |= chance(75) ? 2 : 0;
	entry |= chance(75) ? 4 : 0;
	entry |= chance(50) ? 0x20 : 0;
	entry |= chance(50) ? 0x40 : 0;
	entry |= chance(15) ? 0x80 : 0;
	entry |= chance(30) ? 0x100 : 0;
	if (entry & 0x80 && chance(70))
		entry &= bits(63, 22) | 0xfff;
	if (entry & 0x80 && chance(30))
		entry |= (uint64_t)g_test_rand_int_range(0, 0x200) << 13;
	if (chance(10))
		entry |= UINT64_C(1) << g_test_rand_int_range(0, 64);
	if (chance(15))
		entry |= UINT64_C(1) << 63;
	return entry;
}

static uint64_t random_linear(bool lma)
{
	uint64_t linear = (uint64_t)(uint32_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int();

	return lma ? (uint64_t)((int64_t)(linear << 16) >> 16) : (uint32_t)linear;
}

static void random_question(struct question *q)
{
	unsigned mode = g_test_rand_int_range(0, 4);

	*q = (struct question){
		.lma = mode >= 2,
		.pae = mode >= 1,
		.pse = chance(70),
		.pge = chance(50),
		.wp = chance(50),
		.smep = chance(50),
		.smap = chance(50),
		.nxe = chance(60),
		.ac = chance(50),
		.user = chance(50),
		.access = (enum mem_access)g_test_rand_int_range(0, 3),
		.cr3 = (uint64_t)g_test_rand_int_range(0, PAGES) << 12,
	};
	if (!q->user)
		q->implicit = chance(30);
	q->linear = random_linear(q->lma);
	for (unsigned i = 0; i < 4; i++)
		q->pdpte[i] = ((uint64_t)g_test_rand_int_range(0, PAGES) << 12) | chance(90);
}

static void setup_cpu(struct cpu *cpu, const struct question *q)
{
	memset(cpu, 0, sizeof(*cpu));
	cpu->model.phys_bits = PHYS_BITS;
	cpu->cr0 = CR0_PE | CR0_PG | (q->wp ? CR0_WP : 0);
	cpu->cr3 = q->cr3;
	cpu->cr4 = (q->pae ? CR4_PAE : 0) | (q->pse ? CR4_PSE : 0) | (q->pge ? CR4_PGE : 0) |
		   (q->smep ? CR4_SMEP : 0) | (q->smap ? CR4_SMAP : 0);
	cpu->efer = (q->lma ? EFER_LMA | EFER_LME : 0) | (q->nxe ? EFER_NXE : 0);
	cpu->rflags = q->ac ? FL_AC : 0;
	cpu->pdpte_loaded = true;
	memcpy(cpu->pdpte, q->pdpte, sizeof(q->pdpte));
}

/* How often each kind of end was seen, by mode: a test that never faults proves little. */
static unsigned seen[3][4]; /* [2-level, PAE, 4-level][translated, absent, reserved, forbidden] */

static void one_case(struct cpu *cpu)
{
	static uint64_t before[PAGES * 512], after[PAGES * 512];
	volatile bool fault = false;
	struct walk_result result;
	struct question q;
	struct answer want;

	random_question(&q);
	setup_cpu(cpu, &q);
	memcpy(before, memory, sizeof(memory));
	intruder.done = false;
	intruder.armed = chance(10);
	intruder.bit = g_test_rand_int_range(0, 8);
	memset(&result, 0, sizeof(result));
	if (!sigsetjmp(landed, 0))
		page_walk(cpu, q.linear, q.access,
			  q.user       ? 3
			  : q.implicit ? 3
				       : 0,
			  q.implicit, &result);
	else
		fault = true;
	memcpy(after, memory, sizeof(memory));
	memcpy(memory, intruder.done ? intruder.memory : before, sizeof(memory));
	reference(&q, &want);
	seen[q.lma + q.pae][!want.fault                   ? 0
			    : !(want.error & PF_P)        ? 1
			    : (want.error & PF_RSVD) != 0 ? 2
							  : 3]++;
	g_assert_cmpint(fault, ==, want.fault);
	g_assert_cmpmem(memory, sizeof(memory), after, sizeof(after));
	if (fault) {
		g_assert_cmphex(cpu->raised_error, ==, want.error);
		g_assert_cmphex(cpu->cr2, ==, q.linear);
		return;
	}
	g_assert_cmphex(result.gpa, ==, want.gpa);
	g_assert_cmpint(result.user, ==, want.user);
	g_assert_cmpint(result.writable, ==, want.writable);
	g_assert_cmpint(result.executable, ==, want.executable);
	g_assert_cmpint(result.global, ==, want.global);
	g_assert_cmpint(result.dirty, ==, want.dirty);
}

/* Enough entries that a walk finds something wherever it goes: all of them are random. */
static void fill_memory(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(memory); i++)
		memory[i] = random_entry();
}

static void fill_memory_narrow(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(memory); i++)
		memory[i] = (uint32_t)random_entry() | random_entry() << 32;
}

static void test_random(void)
{
	struct cpu *cpu = aligned_alloc(64, (sizeof(struct cpu) + 63) & ~UINT64_C(63));
	unsigned rounds = g_getenv("LODGE_LONG") ? 2000 : 40;

	for (unsigned round = 0; round < rounds; round++) {
		if (round % 4)
			fill_memory();
		else
			fill_memory_narrow();
		for (unsigned i = 0; i < 500; i++)
			one_case(cpu);
	}
	for (unsigned mode = 0; mode < 3; mode++)
		g_test_message("mode %u: %u %u %u %u", mode, seen[mode][0], seen[mode][1],
			       seen[mode][2], seen[mode][3]);
	for (unsigned mode = 0; mode < 3; mode++)
		for (unsigned end = 0; end < 4; end++)
			g_assert_cmpuint(seen[mode][end], >, rounds / 4);
	free(cpu);
}

static void test_no_paging(void)
{
	struct cpu *cpu = aligned_alloc(64, (sizeof(struct cpu) + 63) & ~UINT64_C(63));
	struct walk_result result;

	memset(cpu, 0, sizeof(*cpu));
	page_walk(cpu, 0xfffff123, MEM_WRITE, 3, false, &result);
	g_assert_cmphex(result.gpa, ==, 0xfffff000);
	g_assert_true(result.writable && result.user && result.executable && result.dirty);
	free(cpu);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/paging/random", test_random);
	g_test_add_func("/cpu/paging/off", test_no_paging);
	return g_test_run();
}
