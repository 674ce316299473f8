// SPDX-License-Identifier: GPL-2.0-or-later
/* The machine around the processors: the map of RAM, dirty logging, and the exchange between
 * processor threads (see system.h). */
#include "cpu/system.h"

#include "cpu/cache.h"
#include "cpu/mem.h"

struct cpu_system *cpu_system_new(void)
{
	struct cpu_system *system = g_new0(struct cpu_system, 1);

	g_mutex_init(&system->lock);
	g_cond_init(&system->answered);
	system->cpus = g_ptr_array_new();
	return system;
}

static void slot_free(struct ram_slot *slot)
{
	/* Zeroed on demand: memory of untouched guest pages is never touched here. */
	free((void *)(uintptr_t)slot->granules);
	free((void *)(uintptr_t)slot->guard);
	g_free(slot);
}

void cpu_system_free(struct cpu_system *system)
{
	g_assert(system->cpus->len == 0);
	for (unsigned i = 0; i < system->slot_count; i++)
		slot_free(system->slot[i]);
	g_ptr_array_free(system->cpus, TRUE);
	g_cond_clear(&system->answered);
	g_mutex_clear(&system->lock);
	g_free(system);
}

struct ram_slot *system_slot(struct cpu_system *system, uint64_t gpa)
{
	for (unsigned i = 0; i < system->slot_count; i++) {
		struct ram_slot *slot = system->slot[i];

		if (gpa - slot->gpa < slot->size)
			return slot;
	}
	return NULL;
}

/* Asks every processor but @self; system->lock is held. Returns the number of the broadcast. */
static uint64_t broadcast_locked(struct cpu_system *system, struct cpu *self)
{
	uint64_t number = atomic_fetch_add(&system->broadcasts, 1) + 1;

	for (unsigned i = 0; i < system->cpus->len; i++) {
		struct cpu *cpu = system->cpus->pdata[i];

		if (cpu != self)
			atomic_fetch_or(&cpu->request, REQ_SYNC);
	}
	return number;
}

static void forget_all_locked(struct cpu_system *system)
{
	for (unsigned i = 0; i < system->cpus->len; i++) {
		struct cpu *cpu = system->cpus->pdata[i];

		cpu->sync->drop_translation = cpu->sync->drop_code = true;
	}
	broadcast_locked(system, NULL);
}

int cpu_system_map(struct cpu_system *system, uint64_t gpa, uint64_t size, void *host,
		   bool readonly, uint64_t *dirty)
{
	struct ram_slot *slot = g_new0(struct ram_slot, 1);
	unsigned at = 0;

	g_assert(system->slot_count < RAM_SLOTS && size && !((gpa | size) & 0xfff));
	*slot = (struct ram_slot){.gpa = gpa,
				  .size = size,
				  .host = host,
				  .readonly = readonly,
				  .dirty = (_Atomic uint64_t *)dirty,
				  .granules = calloc(size >> 12, sizeof(uint64_t)),
				  .guard = calloc(size >> 12, 1)};
	if (!slot->granules || !slot->guard)
		g_error("out of memory for a RAM slot of %" G_GUINT64_FORMAT " bytes", size);
	g_mutex_lock(&system->lock);
	while (at < system->slot_count && system->slot[at]->gpa < gpa)
		at++;
	memmove(&system->slot[at + 1], &system->slot[at],
		(system->slot_count - at) * sizeof(system->slot[0]));
	system->slot[at] = slot;
	system->slot_count++;
	slot->id = system->next_id++;
	forget_all_locked(system);
	g_mutex_unlock(&system->lock);
	return slot->id;
}

static unsigned slot_position(struct cpu_system *system, int id)
{
	for (unsigned i = 0; i < system->slot_count; i++) {
		if (system->slot[i]->id == id)
			return i;
	}
	g_assert_not_reached();
}

void cpu_system_unmap(struct cpu_system *system, int id)
{
	unsigned at;

	g_mutex_lock(&system->lock);
	at = slot_position(system, id);
	slot_free(system->slot[at]);
	system->slot_count--;
	memmove(&system->slot[at], &system->slot[at + 1],
		(system->slot_count - at) * sizeof(system->slot[0]));
	forget_all_locked(system);
	g_mutex_unlock(&system->lock);
}

void system_add_cpu(struct cpu_system *system, struct cpu *cpu)
{
	g_mutex_lock(&system->lock);
	g_ptr_array_add(system->cpus, cpu);
	g_mutex_unlock(&system->lock);
}

void system_remove_cpu(struct cpu_system *system, struct cpu *cpu)
{
	g_mutex_lock(&system->lock);
	g_ptr_array_remove(system->cpus, cpu);
	g_mutex_unlock(&system->lock);
}

/* --- The exchange --- */

static void tell_waiters(struct cpu_system *system)
{
	g_mutex_lock(&system->lock);
	if (system->waiters)
		g_cond_broadcast(&system->answered);
	g_mutex_unlock(&system->lock);
}

void system_leave(struct cpu *cpu)
{
	atomic_store(&cpu->in_loop, false);
	if (atomic_load(&cpu->request) & REQ_SYNC)
		tell_waiters(cpu->system);
}

void system_enter(struct cpu *cpu)
{
	atomic_store(&cpu->in_loop, true);
	if (atomic_load(&cpu->request) & REQ_SYNC)
		system_answer(cpu, false);
}

/* TLB work can be done anywhere, and is what others wait for; blocks must wait until none runs. */
static void answer_locked(struct cpu *cpu, bool blocks_too)
{
	struct cpu_sync *sync = cpu->sync;

	atomic_store(&cpu->sync_seen, atomic_load(&cpu->system->broadcasts));
	if (cpu->system->waiters)
		g_cond_broadcast(&cpu->system->answered);

	if (sync->drop_translation)
		tlb_flush_all(cpu);
	else if (sync->drop_writes)
		tlb_drop_writes(cpu, TLB_EVERY_PAGE);
	for (unsigned i = 0; i < sync->guarded_count; i++)
		tlb_drop_writes(cpu, sync->guarded[i]);
	sync->drop_translation = sync->drop_writes = false;
	sync->guarded_count = 0;
	if (!blocks_too && (sync->drop_code || sync->modified_count))
		return;
	if (sync->drop_code)
		cache_flush(cpu);
	for (unsigned i = 0; i < sync->modified_count; i++)
		cache_drop(cpu, sync->modified[i].gpa, sync->modified[i].granules);
	sync->drop_code = false;
	sync->modified_count = 0;
	atomic_fetch_and(&cpu->request, ~(uint32_t)REQ_SYNC);
}

void system_answer(struct cpu *cpu, bool blocks_too)
{
	struct cpu_system *system = cpu->system;

	g_mutex_lock(&system->lock);
	while (system->stopper && system->stopper != cpu) {
		atomic_store(&cpu->in_loop, false);
		g_cond_broadcast(&system->answered);
		g_cond_wait(&system->answered, &system->lock);
		atomic_store(&cpu->in_loop, true);
	}
	answer_locked(cpu, blocks_too);
	g_mutex_unlock(&system->lock);
}

static bool all_answered(struct cpu_system *system, const struct cpu *self, uint64_t number)
{
	for (unsigned i = 0; i < system->cpus->len; i++) {
		struct cpu *cpu = system->cpus->pdata[i];

		if (cpu != self && atomic_load(&cpu->in_loop) &&
		    atomic_load(&cpu->sync_seen) < number)
			return false;
	}
	return true;
}

/* Waits until everybody has answered broadcast @number. Meanwhile the waiter, if it is a processor,
 * counts as outside: it holds no pointer into guest memory here. */
static void wait_answers_locked(struct cpu_system *system, struct cpu *self, uint64_t number)
{
	system->waiters++;
	if (self)
		atomic_store(&self->in_loop, false);
	g_cond_broadcast(&system->answered);
	while (!all_answered(system, self, number))
		g_cond_wait(&system->answered, &system->lock);
	while (self && system->stopper && system->stopper != self)
		g_cond_wait(&system->answered, &system->lock);
	if (self) {
		atomic_store(&self->in_loop, true);
		answer_locked(self, false);
	}
	system->waiters--;
}

void system_stop_others(struct cpu *cpu)
{
	struct cpu_system *system = cpu->system;

	g_mutex_lock(&system->lock);
	system->waiters++;
	atomic_store(&cpu->in_loop, false);
	g_cond_broadcast(&system->answered);
	while (system->stopper)
		g_cond_wait(&system->answered, &system->lock);
	system->stopper = cpu;
	broadcast_locked(system, cpu);
	for (;;) {
		bool outside = true;

		for (unsigned i = 0; i < system->cpus->len; i++) {
			struct cpu *other = system->cpus->pdata[i];

			outside &= other == cpu || !atomic_load(&other->in_loop);
		}
		if (outside)
			break;
		g_cond_wait(&system->answered, &system->lock);
	}
	system->waiters--;
	atomic_store(&cpu->in_loop, true);
	answer_locked(cpu, false);
	g_mutex_unlock(&system->lock);
}

void system_resume_others(struct cpu *cpu)
{
	struct cpu_system *system = cpu->system;

	g_mutex_lock(&system->lock);
	system->stopper = NULL;
	g_cond_broadcast(&system->answered);
	g_mutex_unlock(&system->lock);
}

/* --- Code tracking --- */

void smc_guard(struct cpu *cpu, struct ram_slot *slot, uint64_t page)
{
	struct cpu_system *system = cpu->system;
	uint64_t gpa = slot->gpa + (page << 12);
	uint64_t number;

	if (atomic_load(&slot->guard[page]) == GUARD_STORES)
		return;
	g_mutex_lock(&system->lock);
	if (atomic_exchange(&slot->guard[page], GUARD_STORES) == 0) {
		tlb_drop_writes(cpu, gpa);
		for (unsigned i = 0; i < system->cpus->len; i++) {
			struct cpu *other = system->cpus->pdata[i];
			struct cpu_sync *sync = other->sync;

			if (other == cpu)
				continue;
			if (sync->guarded_count < SYNC_PAGES)
				sync->guarded[sync->guarded_count++] = gpa;
			else
				sync->drop_writes = true;
		}
		if (system->cpus->len > 1) {
			number = broadcast_locked(system, cpu);
			wait_answers_locked(system, cpu, number);
		}
	}
	g_mutex_unlock(&system->lock);
}

static uint64_t granule_mask(uint64_t gpa, uint64_t size)
{
	unsigned first = (gpa & 0xfff) >> 6, last = ((gpa & 0xfff) + (unsigned)size - 1) >> 6;

	return (UINT64_MAX >> (63 - (last - first))) << first;
}

void smc_mark(struct cpu *cpu, struct ram_slot *slot, uint64_t gpa, unsigned size)
{
	uint64_t page = slot_page(slot, gpa), mask = granule_mask(gpa, size);

	if ((atomic_load(&slot->granules[page]) & mask) == mask)
		return;
	g_mutex_lock(&cpu->system->lock);
	atomic_fetch_or(&slot->granules[page], mask);
	g_mutex_unlock(&cpu->system->lock);
}

/* Clears the granules and tells every processor but @self to drop its blocks in them. */
static void modified(struct cpu_system *system, struct cpu *self, struct ram_slot *slot,
		     uint64_t page, uint64_t mask)
{
	g_mutex_lock(&system->lock);
	atomic_fetch_and(&slot->granules[page], ~mask);
	for (unsigned i = 0; i < system->cpus->len; i++) {
		struct cpu *cpu = system->cpus->pdata[i];
		struct cpu_sync *sync = cpu->sync;

		if (cpu == self)
			continue;
		if (sync->modified_count < SYNC_PAGES) {
			sync->modified[sync->modified_count].gpa = slot->gpa + (page << 12);
			sync->modified[sync->modified_count++].granules = mask;
		} else {
			sync->drop_code = true;
		}
		atomic_fetch_or(&cpu->request, REQ_SYNC);
	}
	g_mutex_unlock(&system->lock);
}

void smc_written(struct cpu *cpu, struct ram_slot *slot, uint64_t gpa, unsigned size)
{
	uint64_t page = slot_page(slot, gpa), mask = granule_mask(gpa, size), bits;

	/* The store comes before the look at the bits. */
	atomic_thread_fence(memory_order_seq_cst);
	bits = atomic_load(&slot->granules[page]);
	if (bits & mask) {
		cache_drop(cpu, gpa & ~UINT64_C(0xfff), mask);
		modified(cpu->system, cpu, slot, page, mask);
	} else if (!bits) {
		uint8_t guard = atomic_load(&slot->guard[page]);

		g_mutex_lock(&cpu->system->lock);
		if (guard && !atomic_load(&slot->granules[page]))
			atomic_compare_exchange_strong(&slot->guard[page], &guard, guard - 1);
		g_mutex_unlock(&cpu->system->lock);
	}
}

void cpu_system_ram_written(struct cpu_system *system, uint64_t gpa, uint64_t size)
{
	atomic_thread_fence(memory_order_seq_cst);
	while (size) {
		uint64_t part = MIN(size, 0x1000 - (gpa & 0xfff));
		struct ram_slot *slot = system_slot(system, gpa);

		if (slot) {
			uint64_t page = slot_page(slot, gpa), mask = granule_mask(gpa, part);

			if (atomic_load(&slot->granules[page]) & mask)
				modified(system, NULL, slot, page, mask);
		}
		gpa += part;
		size -= part;
	}
}

/* --- Dirty logging --- */

void cpu_system_log_dirty(struct cpu_system *system, int id, bool on)
{
	g_mutex_lock(&system->lock);
	atomic_store(&system->slot[slot_position(system, id)]->logging, on);
	for (unsigned i = 0; i < system->cpus->len; i++)
		((struct cpu *)system->cpus->pdata[i])->sync->drop_writes = true;
	broadcast_locked(system, NULL);
	g_mutex_unlock(&system->lock);
}

void cpu_system_rearm_dirty(struct cpu_system *system, int id)
{
	uint64_t number;

	g_mutex_lock(&system->lock);
	for (unsigned i = 0; i < system->cpus->len; i++)
		((struct cpu *)system->cpus->pdata[i])->sync->drop_writes = true;
	number = broadcast_locked(system, NULL);
	wait_answers_locked(system, NULL, number);
	g_mutex_unlock(&system->lock);
}
