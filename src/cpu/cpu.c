// SPDX-License-Identifier: GPL-2.0-or-later
/* A processor's life: creation, the run loop with its events, requests from other threads, and the
 * calls out to the bus. */
#include "cpu/cpu.h"

#include "cpu/cache.h"
#include "cpu/mem.h"
#include "cpu/system.h"

static const struct op idle_op = {.code_size = 8};

struct cpu *cpu_new(struct cpu_system *system, const struct cpu_model *model,
		    const struct cpu_bus *bus, void *opaque)
{
	struct cpu *cpu = aligned_alloc(64, (sizeof(struct cpu) + 63) & ~(size_t)63);

	g_assert(cpu);
	memset(cpu, 0, sizeof(*cpu));
	cpu->system = system;
	cpu->model = *model;
	cpu->bus = bus;
	cpu->opaque = opaque;
	cpu->current = &idle_op;
	cpu->retire_limit = UINT64_MAX;
	cpu->sync = g_new0(struct cpu_sync, 1);
	tlb_new(cpu);
	cache_new(cpu);
	cpu_reset(cpu, true);
	system_add_cpu(system, cpu);
	return cpu;
}

void cpu_free(struct cpu *cpu)
{
	if (!cpu)
		return;
	system_remove_cpu(cpu->system, cpu);
	cache_free(cpu);
	tlb_free(cpu);
	g_free(cpu->sync);
	free(cpu);
}

void cpu_reset(struct cpu *cpu, bool is_bsp)
{
	GError *error = NULL;
	struct cpu_state state;

	cpu_state_reset(&state, is_bsp);
	cpu->is_bsp = is_bsp;
	cpu->delivering = cpu->block_hit = false;
	atomic_fetch_and(&cpu->request,
			 ~(uint32_t)(REQ_INIT | REQ_SIPI | REQ_NMI | REQ_DEBUG | REQ_INTR));
	if (!cpu_set_state(cpu, &state, &error))
		g_error("reset state: %s", error->message);
}

/* --- Requests --- */

void cpu_kick(struct cpu *cpu)
{
	atomic_fetch_or(&cpu->request, REQ_KICK);
}

void cpu_set_intr(struct cpu *cpu, bool level)
{
	atomic_store(&cpu->intr_line, level);
	if (level)
		atomic_fetch_or(&cpu->request, REQ_INTR);
}

void cpu_request_nmi(struct cpu *cpu)
{
	uint32_t old = atomic_load(&cpu->request), wanted;

	/* One can wait behind another that is about to be taken; while NMIs are blocked only one
	 * waits (SDM 3A 6.7.1). */
	do {
		bool behind =
			(old & REQ_NMI) && !__atomic_load_n(&cpu->nmi_blocked, __ATOMIC_RELAXED);

		wanted = old | REQ_NMI | (behind ? REQ_NMI_BEHIND : 0);
	} while (!atomic_compare_exchange_weak(&cpu->request, &old, wanted));
}

void cpu_request_init(struct cpu *cpu)
{
	atomic_fetch_or(&cpu->request, REQ_INIT);
}

void cpu_request_sipi(struct cpu *cpu, uint8_t vector)
{
	atomic_store(&cpu->sipi_requested, vector);
	atomic_fetch_or(&cpu->request, REQ_SIPI);
}

void cpu_request_unhalt(struct cpu *cpu)
{
	atomic_fetch_or(&cpu->request, REQ_UNHALT);
}

bool cpu_has_work(struct cpu *cpu)
{
	uint32_t request = atomic_load(&cpu->request);

	if (request & (REQ_KICK | REQ_INIT))
		return true;
	switch (cpu->activity) {
	case CPU_ACTIVE:
	case CPU_SHUTDOWN:
		return true;
	case CPU_WAIT_SIPI:
		return request & REQ_SIPI;
	default:
		return (request & REQ_UNHALT) || cpu->unhalted ||
		       ((request & REQ_NMI) && !cpu->nmi_blocked) ||
		       (atomic_load(&cpu->intr_line) && (cpu->rflags & FL_IF));
	}
}

uint64_t cpu_insns_retired(const struct cpu *cpu)
{
	return *(const volatile uint64_t *)&cpu->retired;
}

void cpu_set_tsc_offset(struct cpu *cpu, int64_t offset)
{
	cpu->tsc_offset = offset;
}

int64_t cpu_tsc_offset(const struct cpu *cpu)
{
	return cpu->tsc_offset;
}

bool cpu_translate(struct cpu *cpu, uint64_t linear, uint64_t *gpa)
{
	struct walk_result walk;

	if (!page_probe(cpu, linear, &walk))
		return false;
	*gpa = walk.gpa | (linear & 0xfff);
	return true;
}

/* --- Calls out --- */

void bus_begin(struct cpu *cpu)
{
	fpu_leave(cpu);
	system_leave(cpu);
}

void bus_end(struct cpu *cpu)
{
	system_enter(cpu);
	fpu_enter(cpu);
}

uint64_t bus_mmio_read(struct cpu *cpu, uint64_t gpa, unsigned size)
{
	uint64_t value;

	bus_begin(cpu);
	value = cpu->bus->mmio_read(cpu->opaque, gpa, size);
	bus_end(cpu);
	return value;
}

void bus_mmio_write(struct cpu *cpu, uint64_t gpa, uint64_t value, unsigned size)
{
	bus_begin(cpu);
	cpu->bus->mmio_write(cpu->opaque, gpa, value, size);
	bus_end(cpu);
}

uint32_t bus_port_read(struct cpu *cpu, uint16_t port, unsigned size)
{
	uint32_t value;

	bus_begin(cpu);
	value = cpu->bus->port_read(cpu->opaque, port, size);
	bus_end(cpu);
	return value;
}

void bus_port_write(struct cpu *cpu, uint16_t port, uint32_t value, unsigned size)
{
	bus_begin(cpu);
	cpu->bus->port_write(cpu->opaque, port, value, size);
	bus_end(cpu);
}

/* --- Events --- */

static void deliver(struct cpu *cpu, uint8_t vector, enum cpu_event_kind kind)
{
	struct cpu_event event = {.pending = true, .vector = vector, .kind = kind};

	cpu->delivering = true;
	event_deliver(cpu, &event);
	cpu->delivering = false;
}

/* After cpu_raise: what has been raised is delivered; a second exception on the way there comes
 * here again. */
static void take_raised(struct cpu *cpu)
{
	struct cpu_event raised = {.pending = true,
				   .vector = cpu->raised_vector,
				   .kind = CPU_EVENT_EXCEPTION,
				   .has_error = cpu->raised_has_error,
				   .error = cpu->raised_error};
	struct cpu_event out = raised;

	if (cpu->stopping) {
		cpu->stopping = false;
		system_resume_others(cpu);
	}
	if (!atomic_load(&cpu->in_loop)) /* raised between bus_begin and bus_end */
		bus_end(cpu);
	cpu->block_hit = false;
	if (cpu->retire_limit == UINT64_MAX)
		atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_COUNT);
	if (!cpu->delivering) {
		/* A fault of the instruction that runs: nothing of it has happened. */
		cpu->rip = op_rip(cpu, cpu->current);
		cpu->retired += (uint64_t)(cpu->current - cpu->block->ops);
	} else if (cpu->event.pending && !exception_combine(&cpu->event, &raised, &out)) {
		cpu->event.pending = false;
		cpu->delivering = false;
		cpu->activity = CPU_SHUTDOWN;
		return;
	}
	cpu->delivering = true;
	event_deliver(cpu, &out);
	cpu->delivering = false;
}

static void take_init(struct cpu *cpu)
{
	struct cpu_state state;

	bus_begin(cpu); /* the state includes CR8, which is the bus's */
	cpu_get_state(cpu, &state);
	cpu_state_init(&state, cpu->is_bsp);
	atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_INIT);
	cpu_set_state(cpu, &state, NULL);
	bus_end(cpu);
}

static void take_sipi(struct cpu *cpu)
{
	uint8_t vector;

	atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_SIPI);
	vector = atomic_load(&cpu->sipi_requested);
	if (cpu->activity != CPU_WAIT_SIPI)
		return;
	cpu->sipi_vector = vector;
	cpu->seg[SEG_CS].selector = (uint16_t)(vector << 8);
	cpu->seg[SEG_CS].base = (uint64_t)vector << 12;
	cpu->rip = 0;
	cpu->activity = CPU_ACTIVE;
	cpu_mode_changed(cpu);
}

static void take_interrupt(struct cpu *cpu)
{
	int vector;

	bus_begin(cpu);
	vector = cpu->bus->interrupt_ack(cpu->opaque);
	bus_end(cpu);
	if (vector >= 0)
		deliver(cpu, (uint8_t)vector, CPU_EVENT_INTERRUPT);
}

/* Interrupts, unless the last instruction holds them off. */
static void take_interrupts(struct cpu *cpu)
{
	if (cpu->shadow_movss || cpu->shadow_sti)
		return;
	if ((atomic_load(&cpu->request) & REQ_NMI) && !cpu->nmi_blocked) {
		/* It came between STI's look at what waits and the end of its block. */
		if (cpu->rip == cpu->after_sti) {
			cpu->after_sti = UINT64_MAX;
			cpu->shadow_sti = true;
			return;
		}
		uint32_t old = atomic_load(&cpu->request), left;

		do /* the one that waits behind takes its place */
			left = old & ~(uint32_t)(old & REQ_NMI_BEHIND ? REQ_NMI_BEHIND : REQ_NMI);
		while (!atomic_compare_exchange_weak(&cpu->request, &old, left));
		deliver(cpu, EXC_NMI, CPU_EVENT_NMI);
	} else if (cpu->rflags & FL_IF) {
		if (atomic_load(&cpu->intr_line))
			take_interrupt(cpu);
	}
}

/* What has been requested, most urgent first. True: cpu_run returns @exit. */
static bool serve(struct cpu *cpu, enum cpu_exit *exit)
{
	uint32_t request = atomic_load(&cpu->request);

	if (request & REQ_SYNC)
		system_answer(cpu, true);
	if (request & REQ_KICK) {
		atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_KICK);
		*exit = CPU_EXIT_KICK;
		return true;
	}
	if (request & REQ_INIT)
		take_init(cpu);
	if (request & REQ_SIPI)
		take_sipi(cpu);
	if (request & REQ_INTR) /* from here on the line itself is looked at when IF allows */
		atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_INTR);
	if (request & REQ_DEBUG) {
		atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_DEBUG);
		if (cpu->pending_debug) {
			cpu->delivering = true;
			debug_after_insn(cpu);
			cpu->delivering = false;
		}
	}
	if (request & REQ_UNHALT) {
		atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_UNHALT);
		cpu->unhalted = true;
	}
	if (cpu->activity == CPU_ACTIVE || cpu->activity == CPU_HALTED)
		take_interrupts(cpu);
	if (cpu->activity == CPU_HALTED && cpu->unhalted) {
		cpu->unhalted = false;
		cpu->activity = CPU_ACTIVE;
	}
	switch (cpu->activity) {
	case CPU_ACTIVE:
		return false;
	case CPU_WAIT_SIPI:
		*exit = CPU_EXIT_WAIT_SIPI;
		return true;
	case CPU_SHUTDOWN:
		*exit = CPU_EXIT_SHUTDOWN;
		return true;
	default:
		*exit = CPU_EXIT_HALT;
		return true;
	}
}

/* --- The loop --- */

static struct block *find_block(struct cpu *cpu, uint64_t left)
{
	bool alone = (cpu->mode & MODE_STEP) || cpu->shadow_sti || cpu->shadow_movss;
	struct block *block;

	if (!alone) {
		block = cache_find(cpu);
		if (block->count <= left)
			return block;
	}
	return cache_find_alone(cpu);
}

/* One instruction between the debug checks. */
static void step(struct cpu *cpu, struct block *block)
{
	cpu->step_tf = cpu->rflags & FL_TF;
	cpu->delivering = true;
	debug_before_insn(cpu);
	cpu->delivering = false;
	exec_run(cpu, block);
	cpu->delivering = true;
	debug_after_insn(cpu);
	cpu->delivering = false;
}

static enum cpu_exit run(struct cpu *cpu)
{
	enum cpu_exit exit = CPU_EXIT_KICK;
	struct link *link = NULL;
	uint64_t epoch = 0;

	if (cpu->event.pending) { /* it came with the state */
		struct cpu_event event = cpu->event;

		cpu->delivering = true;
		event_deliver(cpu, &event);
		cpu->delivering = false;
	}
	for (;;) {
		struct block *block;
		uint64_t leads_to;
		bool single;

		leads_to = cpu->rip;
		if (serve(cpu, &exit))
			return exit;
		if (cpu->rip != leads_to) /* an event came between: the link leads elsewhere */
			link = NULL;
		if (cpu->retired >= cpu->retire_limit)
			return CPU_EXIT_BUDGET;
		/* A fault of the fetch finds RIP where it is. */
		cpu->delivering = true;
		block = find_block(cpu, cpu->retire_limit - cpu->retired);
		cpu->delivering = false;
		if (link && epoch == cpu->cache->epoch)
			cache_link(cpu, link, block);
		single = cpu->shadow_sti || cpu->shadow_movss;
		cpu->shadow_sti = cpu->shadow_movss = false;
		epoch = cpu->cache->epoch;
		if (cpu->mode & MODE_STEP) {
			link = NULL;
			atomic_fetch_or(&cpu->request, REQ_COUNT);
			step(cpu, block);
			if (cpu->retire_limit == UINT64_MAX)
				atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_COUNT);
		} else if (single && cpu->retire_limit == UINT64_MAX) {
			atomic_fetch_or(&cpu->request, REQ_COUNT);
			exec_run(cpu, block);
			atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_COUNT);
			link = NULL;
		} else {
			link = exec_run(cpu, block);
		}
	}
}

enum cpu_exit cpu_run(struct cpu *cpu, uint64_t max_insns)
{
	enum cpu_exit exit;

	cpu->retire_limit = UINT64_MAX;
	atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_COUNT);
	if (max_insns) {
		cpu->retire_limit = cpu->retired + max_insns;
		atomic_fetch_or(&cpu->request, REQ_COUNT);
	}
	fpu_enter(cpu);
	system_enter(cpu);
	if (sigsetjmp(cpu->unwind, 0))
		take_raised(cpu);
	exit = run(cpu);
	fpu_leave(cpu);
	system_leave(cpu);
	return exit;
}
