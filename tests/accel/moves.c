// SPDX-License-Identifier: GPL-2.0-or-later
/* Guests go back and forth between the software processor and KVM: at any instruction while they
 * compute, with all chips while interrupts arrive, and where KVM lacks an instruction. */
#include <string.h>
#include <sys/ioctl.h>

#include "accel/kvm-internal.h"
#include "bench.h"

GUEST(compute16);
GUEST(compute32);
GUEST(compute64);
GUEST(forever);
GUEST(odd);
extern const uint8_t guest_odd_here[];

/* --- At any instruction --- */

struct compute {
	const uint8_t *code, *end;
	enum bench_mode mode;
};

static void fill_registers(struct cpu_state *s, enum bench_mode mode)
{
	for (unsigned i = 0; i < 256; i++) /* XMM0 to XMM15 */
		s->fxsave[160 + i] = (uint8_t)(i * 7 + 1);
	for (unsigned i = 0; i < 10; i++) /* ST0 */
		s->fxsave[32 + i] = (uint8_t)(i + 0x31);
	s->fxsave[4] = 0x80;  /* TOP is 0; only register 7 is valid */
	s->fxsave[3] = 0x38;  /* TOP 7 */
	s->fxsave[25] = 0x3f; /* MXCSR: rounds up... */
	s->msr.star = 0x0023001000000000;
	s->msr.lstar = 0xffffffff81000000;
	s->msr.cstar = 0xffffffff82000000;
	s->msr.sfmask = 0x47700;
	s->msr.kernel_gs_base = 0xffff888012345000;
	s->msr.sysenter_cs = 0x10;
	s->msr.sysenter_esp = 0xfffffe0000001000;
	s->msr.sysenter_eip = 0xffffffff83000000;
	s->dr[0] = 0x123450;
	s->dr[3] = 0x678900;
	if (mode == BENCH_LONG) {
		s->seg[SEG_FS].base = 0x00007f1234567000;
		s->seg[SEG_GS].base = 0xffff88800f800000;
	}
}

static void assert_same(const struct cpu_state *a, const struct cpu_state *b)
{
	g_assert_cmpmem(a->regs, sizeof(a->regs), b->regs, sizeof(b->regs));
	g_assert_cmphex(a->rip, ==, b->rip);
	g_assert_cmphex(a->rflags, ==, b->rflags);
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		g_assert_cmphex(a->seg[i].base, ==, b->seg[i].base);
		g_assert_cmphex(a->seg[i].limit, ==, b->seg[i].limit);
		g_assert_cmphex(a->seg[i].selector, ==, b->seg[i].selector);
		g_assert_cmphex(a->seg[i].attr, ==, b->seg[i].attr);
	}
	g_assert_cmphex(a->gdtr.base, ==, b->gdtr.base);
	g_assert_cmphex(a->idtr.limit, ==, b->idtr.limit);
	g_assert_cmphex(a->cr0, ==, b->cr0);
	g_assert_cmphex(a->cr3, ==, b->cr3);
	g_assert_cmphex(a->cr4, ==, b->cr4);
	g_assert_cmphex(a->efer, ==, b->efer);
	g_assert_cmphex(a->xcr0, ==, b->xcr0);
	g_assert_cmpmem(a->dr, sizeof(a->dr), b->dr, sizeof(b->dr));
	g_assert_cmphex(a->dr6, ==, b->dr6);
	g_assert_cmphex(a->dr7, ==, b->dr7);
	g_assert_cmpmem(a->fxsave, 416, b->fxsave, 416);
	g_assert_cmpint(a->event.pending, ==, b->event.pending);
	g_assert_cmpint(a->sti_shadow, ==, b->sti_shadow);
	g_assert_cmpint(a->movss_shadow, ==, b->movss_shadow);
	g_assert_cmpint(a->nmi_blocked, ==, b->nmi_blocked);
	g_assert_cmpint(a->activity, ==, b->activity);
	g_assert_cmphex(a->msr.star, ==, b->msr.star);
	g_assert_cmphex(a->msr.lstar, ==, b->msr.lstar);
	g_assert_cmphex(a->msr.sfmask, ==, b->msr.sfmask);
	g_assert_cmphex(a->msr.kernel_gs_base, ==, b->msr.kernel_gs_base);
	g_assert_cmphex(a->msr.sysenter_cs, ==, b->msr.sysenter_cs);
	g_assert_cmphex(a->msr.sysenter_eip, ==, b->msr.sysenter_eip);
	g_assert_cmphex(a->msr.pat, ==, b->msr.pat);
}

static void get(struct bench *b, struct cpu_state *state)
{
	g_autoptr(GError) error = NULL;
	g_assert_true(b->vm->accel->get_state(b->vm->vcpus[0], state, &error));
}

/* Whether the next instruction is the HLT at the end. */
static bool at_end(const struct bench *b, uint64_t rip)
{
	return b->ram->host[rip] == 0xf4;
}

/* Up to @count instructions. */
static bool step_soft(struct bench *b, unsigned count)
{
	struct cpu_state *state = g_aligned_alloc0(1, sizeof(*state), 64);
	bool end = false;
	for (unsigned i = 0; i < count && !end; i++) {
		g_assert_cmpint(cpu_run(b->vm->vcpus[0]->accel_data, 1), ==, CPU_EXIT_BUDGET);
		get(b, state);
		end = at_end(b, state->rip);
	}
	g_aligned_free(state);
	return end;
}

static bool step_kvm(struct bench *b, unsigned count, bool *failed)
{
	struct kvm_vcpu *k = kvm_vcpu_of(b->vm->vcpus[0]);
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
	struct kvm_regs regs = {0};
	bool end = false;
	g_assert_cmpint(ioctl(k->fd, KVM_SET_GUEST_DEBUG, &debug), ==, 0);
	for (unsigned i = 0; i < count && !end && !*failed; i++) {
		g_assert_cmpint(ioctl(k->fd, KVM_RUN, 0), ==, 0);
		*failed = k->run->exit_reason != KVM_EXIT_DEBUG;
		g_assert_cmpint(ioctl(k->fd, KVM_GET_REGS, &regs), ==, 0);
		end = at_end(b, regs.rip);
	}
	if (*failed) {
		g_autofree char *where = kvm_describe_instruction(b->vm->vcpus[0]);
		g_autofree char *text = g_strdup_printf(
			"KVM does not single-step here: exit %u at %s", k->run->exit_reason, where);
		g_test_skip(text);
	}
	debug.control = 0;
	g_assert_cmpint(ioctl(k->fd, KVM_SET_GUEST_DEBUG, &debug), ==, 0);
	return end;
}

static void move(struct bench *b)
{
	g_autoptr(GError) error = NULL;
	struct cpu_state *states = g_aligned_alloc0(3, sizeof(*states), 64);
	b->vm->fallback = b->vm->accel == &accel_soft ? &accel_kvm : &accel_soft;
	get(b, &states[0]);
	get(b, &states[1]);
	assert_same(&states[0], &states[1]);
	accel_switch(b->vm, &error);
	g_assert_no_error(error);
	get(b, &states[2]);
	assert_same(&states[0], &states[2]);
	g_aligned_free(states);
}

static bool start(struct bench *b, const struct compute *c)
{
	g_autoptr(GError) error = NULL;
	struct cpu_state *state = g_aligned_alloc0(1, sizeof(*state), 64);
	bench_load(b, c->code, c->end, c->mode);
	get(b, state);
	fill_registers(state, c->mode);
	bool ok = b->vm->accel->set_state(b->vm->vcpus[0], state, &error);
	g_assert_no_error(error);
	g_aligned_free(state);
	return ok;
}

static void run_moved(const struct compute *c, struct cpu_state *expected, struct cpu_state *result)
{
	uint8_t memory[2][0x100];
	struct bench *b = bench_new(&accel_soft, &accel_kvm, 1, false);
	bool failed = false, end = false;
	unsigned moves = 0;
	if (!b)
		return;
	uint64_t data = c->mode == BENCH_REAL ? 0x700 : GUEST_DATA;
	start(b, c);
	while (!step_soft(b, 1000000))
		;
	get(b, expected);
	memcpy(memory[0], b->ram->host + data, sizeof(memory[0]));
	start(b, c);
	while (!end && !failed) {
		unsigned count = (unsigned)g_test_rand_int_range(1, 60);
		end = b->vm->accel == &accel_soft ? step_soft(b, count)
						  : step_kvm(b, count, &failed);
		move(b);
		moves++;
	}
	if (!failed) {
		get(b, result);
		memcpy(memory[1], b->ram->host + data, sizeof(memory[1]));
		assert_same(expected, result);
		g_assert_cmpmem(memory[0], sizeof(memory[0]), memory[1], sizeof(memory[1]));
		g_test_message("%u moves", moves);
	}
	bench_free(b);
}

static void test_compute(gconstpointer data)
{
	struct cpu_state *states = g_aligned_alloc0(2, sizeof(*states), 64);
	run_moved(data, &states[0], &states[1]);
	g_aligned_free(states);
}

/* --- The whole machine --- */

static uint32_t seen_ticks;

static bool has_ticked_on(struct bench *b)
{
	return bench_read32(b, GUEST_DATA) >= seen_ticks + 3;
}

static void swap(struct bench *b)
{
	g_autoptr(GError) error = NULL;
	vm_stop(b->vm, RUN_PAUSED);
	b->vm->fallback = b->vm->accel == &accel_soft ? &accel_kvm : &accel_soft;
	accel_switch(b->vm, &error);
	g_assert_no_error(error);
	g_assert_true(vm_start(b->vm, &error));
}

/* Ticks go on after each move, as many as before, and none is stuck. */
static void test_ticking(void)
{
	g_autoptr(GError) error = NULL;
	struct bench *b = bench_new(&accel_soft, &accel_kvm, 1, true);
	if (!b)
		return;
	BENCH_LOAD(b, forever, BENCH_LONG);
	g_assert_true(vm_start(b->vm, &error));
	for (unsigned i = 0; i < 40 && !b->failure; i++) {
		uint64_t tsc = vm_tsc(b->vm);
		seen_ticks = bench_read32(b, GUEST_DATA);
		bench_serve(b, 20000, has_ticked_on);
		if (!b->failure)
			g_assert_cmpuint(bench_read32(b, GUEST_DATA), >=, seen_ticks + 3);
		swap(b);
		g_assert_cmpuint(vm_tsc(b->vm), >, tsc);
	}
	if (b->failure)
		g_test_skip(b->failure);
	bench_free(b);
}

/* The bytes of one device's section. */
static void assert_section(const GByteArray *a, const GByteArray *b, const char *name)
{
	const uint8_t *p = memmem(a->data, a->len, name, strlen(name));
	const uint8_t *q = memmem(b->data, b->len, name, strlen(name));
	uint32_t length;
	g_assert_nonnull(p);
	g_assert_nonnull(q);
	memcpy(&length, p + strlen(name) + 2, sizeof(length));
	g_assert_cmpmem(p, strlen(name) + 6 + length, q, strlen(name) + 6 + length);
}

/* A line that is high stays high, a latched interrupt stays latched, masks and vectors stay. */
static void test_chips(void)
{
	g_autoptr(GError) error = NULL;
	struct bench *b = bench_new(&accel_soft, &accel_kvm, 2, true);
	static const char *const same[] = {"ioapic", "i8259", "ns16550"};
	if (!b)
		return;
	BENCH_LOAD(b, forever, BENCH_LONG);
	g_assert_true(vm_start(b->vm, &error));
	seen_ticks = 0;
	bench_serve(b, 20000, has_ticked_on);
	vm_stop(b->vm, RUN_PAUSED);
	vm_window_write(b->vm, WINDOW_MMIO, 0xfec00000, 0x24, 4);
	vm_window_write(b->vm, WINDOW_MMIO, 0xfec00010, 0x18000 + VECTOR_LEVEL, 4);
	irq_set(b->level, true);
	for (unsigned i = 0; i < 4; i++) {
		g_autoptr(GByteArray) before = g_byte_array_new(), after = g_byte_array_new();
		vm_devices_save(b->vm, before);
		b->vm->fallback = b->vm->accel == &accel_soft ? &accel_kvm : &accel_soft;
		accel_switch(b->vm, &error);
		g_assert_no_error(error);
		vm_devices_save(b->vm, after);
		/* The kernel's PIT gives pulses where ours holds its line: so the first time they
		 * differ in that. */
		for (unsigned n = 0; n < G_N_ELEMENTS(same) && i > 0; n++)
			assert_section(before, after, same[n]);
		g_assert_cmpuint(before->len, ==, after->len);
	}
	irq_set(b->level, false);
	g_autoptr(GByteArray) low = g_byte_array_new();
	vm_devices_save(b->vm, low);
	bench_free(b);
}

/* --- Where KVM gives up --- */

static const struct {
	const char *name;
	uint8_t length, code[8];
} odd_ones[] = {
	{"cmpxchg16b", 5, {0xf0, 0x48, 0x0f, 0xc7, 0x0e}},
	{"popcnt", 5, {0xf3, 0x48, 0x0f, 0xb8, 0xc0}},
	{"pxor", 4, {0x66, 0x0f, 0xef, 0xc0}},
	{"fld1", 4, {0xd9, 0xe8, 0xdd, 0xd8}},
	{"emms", 2, {0x0f, 0x77}},
};

static struct bench *load_odd(const struct accel_ops *fallback, unsigned index, GByteArray *code)
{
	struct bench *b = bench_new(&accel_kvm, fallback, 1, true);
	size_t at = (size_t)(guest_odd_here - guest_odd);
	if (!b)
		return NULL;
	g_byte_array_set_size(code, 0);
	g_byte_array_append(code, guest_odd, (guint)(guest_odd_end - guest_odd));
	memcpy(code->data + at, odd_ones[index].code, odd_ones[index].length);
	bench_load(b, code->data, code->data + code->len, BENCH_LONG);
	memset(b->ram->host + GUEST_DATA + 64, 0xa5, 16);
	return b;
}

/* Under "kvm" alone the machine ends with one line that names the instruction. */
static bool refuses(unsigned index)
{
	g_autoptr(GByteArray) code = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	struct bench *b = load_odd(NULL, index, code);
	if (!b)
		return false;
	g_assert_true(vm_start(b->vm, &error));
	bench_serve(b, 20000, NULL);
	g_assert_true(b->done);
	bool refused = b->failure != NULL;
	if (refused) {
		g_test_message("%s", b->failure);
		g_assert_nonnull(strstr(b->failure, "KVM cannot go on ("));
		g_assert_null(strchr(b->failure, '\n'));
		g_assert_cmpint(b->vm->state, ==, RUN_INTERNAL_ERROR);
		if (strchr(b->failure, '`')) /* Zydis is there */
			g_assert_nonnull(strstr(b->failure, odd_ones[index].name));
		g_assert_false(vm_start(b->vm, &error)); /* only a reset helps */
	}
	bench_free(b);
	return refused;
}

static void test_handover(void)
{
	g_autoptr(GByteArray) code = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	unsigned index = 0;
	while (index < G_N_ELEMENTS(odd_ones) && !refuses(index))
		index++;
	if (index == G_N_ELEMENTS(odd_ones)) {
		g_test_skip("KVM here runs all instructions that were tried, or is not there");
		return;
	}
	struct bench *b = load_odd(&accel_soft, index, code);
	g_assert_nonnull(b);
	g_assert_true(vm_start(b->vm, &error));
	bench_serve(b, 20000, NULL);
	g_assert_cmpstr(b->failure, ==, NULL);
	g_assert_cmpint(b->exit_status, ==, 1);
	g_assert_true(b->vm->accel == &accel_soft);
	g_assert_nonnull(strstr(b->events->str, "the accelerator is soft, not kvm"));
	g_assert_cmphex(bench_log(b, 0), ==, 0x89abcdef); /* R12 */
	g_assert_cmphex(bench_log(b, 1), ==, 0xa5a5a5a5); /* XMM7 */
	g_assert_cmpuint(bench_log(b, 2), ==, 1);         /* the timer that was under way */
	bench_free(b);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		struct compute compute;
	} computes[] = {
		{"/accel/moves/16", {guest_compute16, guest_compute16_end, BENCH_REAL}},
		{"/accel/moves/32", {guest_compute32, guest_compute32_end, BENCH_PROTECTED}},
		{"/accel/moves/64", {guest_compute64, guest_compute64_end, BENCH_LONG}},
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(computes); i++)
		g_test_add_data_func(computes[i].path, &computes[i].compute, test_compute);
	g_test_add_func("/accel/moves/ticking", test_ticking);
	g_test_add_func("/accel/moves/chips", test_chips);
	g_test_add_func("/accel/handover", test_handover);
	return g_test_run();
}
