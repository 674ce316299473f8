// SPDX-License-Identifier: GPL-2.0-or-later
/* The dispatch loop: threaded code over a block's ops by computed goto. The handlers stand in
 * exec.inc; exec_run is one function beyond all size rules because that is what computed goto
 * needs. */
#include "cpu/exec.h"

#include "cpu/cache.h"
#include "cpu/flags.h"
#include "cpu/fp.h"
#include "cpu/mem.h"

#define unlikely(x) __builtin_expect(!!(x), 0)
#define likely(x)   __builtin_expect(!!(x), 1)

/* Registers; R8 takes a byte's index into the register file. */
#define R(n)   (cpu->regs[n])
#define R16(n) (*(uint16_t *)(void *)&cpu->regs[n])
#define R8(n)  (((uint8_t *)(void *)cpu->regs)[n])
#define ARITH  (&cpu->arith)

#define EA_d (cpu->regs[op->base] + (uint64_t)op->disp)
#define EA_x (cpu->regs[op->base] + (cpu->regs[op->index] << op->shift) + (uint64_t)op->disp)
#define EA_s ea_any(cpu, op)

/* Segments with a base are FS and GS in 64-bit code only (fast_select sees to that). */
static inline uint64_t ea_any(const struct cpu *cpu, const struct op *op)
{
	uint64_t offset = EA_x;

	if (op->address_size == 4)
		offset = (uint32_t)offset;
	else if (op->address_size == 2)
		offset = (uint16_t)offset;
	return op->segment >= SEG_FS ? offset + cpu->seg[op->segment].base : offset;
}

#define ENTRY(linear)      (&cpu->tlb->entry[tlb_index(linear)])
#define UNALIGNED_uint8_t  unaligned8
#define UNALIGNED_uint16_t unaligned16
#define UNALIGNED_uint32_t unaligned32
#define UNALIGNED_uint64_t unaligned64
#define HOST(T, linear)    (*(volatile UNALIGNED_##T *)(uintptr_t)((linear) + entry->addend))

#define LOAD(T, address)                                                                           \
	({                                                                                         \
		uint64_t linear = (address);                                                       \
		const struct tlb_entry *entry = ENTRY(linear);                                     \
		if (unlikely((linear ^ entry->read) > 0x1000 - sizeof(T)))                         \
			goto slow_or_end;                                                          \
		HOST(T, linear);                                                                   \
	})
#define STORE(T, address, value)                                                                   \
	do {                                                                                       \
		uint64_t linear = (address);                                                       \
		const struct tlb_entry *entry = ENTRY(linear);                                     \
		if (unlikely((linear ^ entry->write) > 0x1000 - sizeof(T)))                        \
			goto slow_or_end;                                                          \
		HOST(T, linear) = (T)(value);                                                      \
	} while (0)
#define MODIFY(T, address, expression)                                                             \
	do {                                                                                       \
		uint64_t linear = (address);                                                       \
		const struct tlb_entry *entry = ENTRY(linear);                                     \
		if (unlikely((linear ^ entry->write) > 0x1000 - sizeof(T)))                        \
			goto slow_or_end;                                                          \
		T old = HOST(T, linear);                                                           \
		HOST(T, linear) = (expression);                                                    \
	} while (0)

#define PUSH(value)                                                                                \
	do {                                                                                       \
		STORE(uint64_t, R(CPU_RSP) - 8, value);                                            \
		R(CPU_RSP) -= 8;                                                                   \
	} while (0)
#define PUSH_END PUSH
#define PUSH32(value)                                                                              \
	do {                                                                                       \
		STORE(uint32_t, (uint32_t)(R(CPU_RSP) - 4), value);                                \
		R(CPU_RSP) = (uint32_t)(R(CPU_RSP) - 4);                                           \
	} while (0)

#define CANONICAL(a) ((uint64_t)((int64_t)((a) << 16) >> 16) == (a))
#define NEXT_RIP     op_next_rip(cpu, op)

#define ENTER(next)                                                                                \
	do {                                                                                       \
		block = (next);                                                                    \
		cpu->block = block;                                                                \
		cpu->block_rip = block->rip;                                                       \
		op = block->ops;                                                                   \
		goto * op->handler;                                                                \
	} while (0)
#define LEAVE(target, missing)                                                                     \
	do {                                                                                       \
		cpu->rip = (target);                                                               \
		return (missing);                                                                  \
	} while (0)
#define REQUESTED unlikely(atomic_load_explicit(&cpu->request, memory_order_relaxed))

/* Follows a link of the block; @target is where it leads to. */
#define FOLLOW(n, target)                                                                          \
	do {                                                                                       \
		cpu->retired += block->count;                                                      \
		via = &block->link[n];                                                             \
		if (unlikely(*via->current != via->generation) || REQUESTED)                       \
			LEAVE(target, via);                                                        \
		ENTER(via->to);                                                                    \
	} while (0)
#define TAKE         FOLLOW(1, (uint64_t)op->disp)
#define FALL_THROUGH FOLLOW(0, (uint64_t)op->disp)
#define JUMP_IF(condition)                                                                         \
	do {                                                                                       \
		if (condition)                                                                     \
			TAKE;                                                                      \
		FOLLOW(0, NEXT_RIP);                                                               \
	} while (0)
/* To an address that was computed. */
#define JUMP(target)                                                                               \
	do {                                                                                       \
		uint64_t to = (target);                                                            \
		uint64_t key = jump_key(cpu, cpu->code_base + to);                                 \
		const struct jump *jump = &cache->jump[jump_slot(key)];                            \
		if (unlikely(!CANONICAL(to)))                                                      \
			goto end;                                                                  \
		cpu->retired += block->count;                                                      \
		if (unlikely(jump->key != key ||                                                   \
			     jump->generation != cpu->generation[jump->global] || REQUESTED ||     \
			     jump->block->rip != to))                                              \
			LEAVE(to, NULL);                                                           \
		via = NULL;                                                                        \
		ENTER(jump->block);                                                                \
	} while (0)

/* The labels, which only exec_run can name; filled once. */
static const void *handlers[EXEC_COUNT];

void exec_init(void)
{
	static gsize done;

	if (g_once_init_enter(&done)) {
		exec_run(NULL, NULL);
		g_once_init_leave(&done, 1);
	}
}

const void *exec_handler(unsigned index)
{
	return handlers[index];
}

struct link *exec_run(struct cpu *cpu, struct block *block)
{
#define H(name, ...) &&label_##name,
	static const void *const labels[EXEC_COUNT] = {
#include "cpu/exec.inc"
	};
#undef H
	struct cpu_cache *cache;
	struct link *via = NULL;
	const struct op *op;

	if (!cpu) {
		memcpy(handlers, labels, sizeof(labels));
		return NULL;
	}
	cache = cpu->cache;
	ENTER(block);

#define H(name, ...)                                                                               \
	label_##name : {__VA_ARGS__} op++;                                                         \
	goto * op->handler;
#include "cpu/exec.inc"
#undef H

slow_or_end:
	if (op->flags & OP_END)
		goto end;
slow:
	cpu->current = op;
	op->fn(cpu, op);
	if (unlikely(cpu->block_hit)) {
		cpu->block_hit = false;
		cpu->retired += (uint64_t)(op - block->ops) + 1;
		LEAVE(NEXT_RIP, NULL);
	}
	op++;
	goto * op->handler;

end:
	cpu->current = op;
	cpu->rip = NEXT_RIP;
	op->fn(cpu, op);
	cpu->block_hit = false;
	cpu->retired += block->count;
	if (REQUESTED || unlikely(cpu->shadow_sti | cpu->shadow_movss) ||
	    unlikely((cpu->rflags & FL_IF) &&
		     atomic_load_explicit(&cpu->intr_line, memory_order_relaxed)) ||
	    unlikely(cpu->activity != CPU_ACTIVE))
		return NULL;
	{
		uint64_t key = jump_key(cpu, cpu->code_base + cpu->rip);
		const struct jump *jump = &cache->jump[jump_slot(key)];

		if (unlikely(jump->key != key ||
			     jump->generation != cpu->generation[jump->global] ||
			     jump->block->rip != cpu->rip))
			return NULL;
		via = NULL;
		ENTER(jump->block);
	}
}
