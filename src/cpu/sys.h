/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "cpu/internal.h"

/*
 * What the files of the system side share.
 *
 * How a fault finds its instruction: cpu_raise lands in cpu_run, which takes the RIP of
 * cpu->current unless cpu->event is pending (then an event was being delivered and cpu->rip is
 * already right). event_deliver marks cpu->event pending on entry and clears it when done, but for
 * software interrupts, whose faults belong to the INT instruction. After the point of no return of
 * a task switch restart_at moves that RIP to the new task.
 *
 * The shadows (shadow_sti, shadow_movss) are cleared by the loop when the instruction after the one
 * that set them begins.
 */

static inline bool cpu_is_long(const struct cpu *cpu)
{
	return cpu->efer & EFER_LMA;
}
static inline bool cpu_is_v86(const struct cpu *cpu)
{
	return cpu->rflags & FL_VM;
}
/* Protected mode with selectors: neither real nor virtual-8086. */
static inline bool cpu_is_protected(const struct cpu *cpu)
{
	return (cpu->cr0 & CR0_PE) && !cpu_is_v86(cpu);
}
static inline unsigned cpu_iopl(const struct cpu *cpu)
{
	return (cpu->rflags & FL_IOPL) >> 12;
}
static inline bool is_canonical(uint64_t address)
{
	return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}
static inline uint64_t size_mask(unsigned size)
{
	return size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}
static inline uint64_t phys_reserved(const struct cpu *cpu)
{
	unsigned bits = cpu->model.phys_bits ? cpu->model.phys_bits : 40;

	return ~((UINT64_C(1) << bits) - 1);
}
/* #GP(0) unless CPL is 0. */
static inline void need_cpl0(struct cpu *cpu)
{
	if (cpu->cpl)
		cpu_raise_error(cpu, EXC_GP, 0);
}
/* The faults that are raised from here on are those of the instruction at @rip. */
static inline void restart_at(struct cpu *cpu, uint64_t rip)
{
	cpu->rip = rip;
	if (!cpu->delivering) /* else RIP itself is what counts */
		cpu->block_rip = rip - cpu->current->offset;
}

/* --- Descriptors (seg.c) --- */

struct desc {
	uint64_t raw;
	uint64_t at; /* its linear address */
	uint16_t selector;
};

enum { /* system descriptor types */
       DESC_TSS16 = 1,
       DESC_LDT = 2,
       DESC_TSS16_BUSY = 3,
       DESC_CALL16 = 4,
       DESC_TASK_GATE = 5,
       DESC_INT16 = 6,
       DESC_TRAP16 = 7,
       DESC_TSS32 = 9,
       DESC_TSS32_BUSY = 11,
       DESC_CALL32 = 12,
       DESC_INT32 = 14,
       DESC_TRAP32 = 15,
};

static inline uint16_t desc_attr(uint64_t raw)
{
	return (raw >> 40) & 0xf0ff;
}
static inline unsigned desc_type(uint64_t raw) /* with the S bit: system types are below 16 */
{
	return (raw >> 40) & 0x1f;
}
static inline unsigned desc_dpl(uint64_t raw)
{
	return (raw >> 45) & 3;
}
static inline bool desc_present(uint64_t raw)
{
	return (raw >> 47) & 1;
}
static inline bool desc_is_code(uint64_t raw)
{
	return (desc_type(raw) & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool desc_is_conforming(uint64_t raw)
{
	return desc_type(raw) & SEG_DC;
}
static inline bool selector_is_null(uint16_t selector)
{
	return !(selector & 0xfffc);
}
/* The error code that names @selector; @ext is 0 or 1. */
static inline uint32_t selector_error(uint16_t selector, uint32_t ext)
{
	return (selector & 0xfffc) | ext;
}

/* Reads the descriptor; false when it is outside its table. */
bool desc_read(struct cpu *cpu, uint16_t selector, struct desc *desc);
/* The second eight bytes of a 16-byte system descriptor; false when outside the table. */
bool desc_read_high(struct cpu *cpu, const struct desc *desc, uint64_t *high);
/* What a segment register holds after it was loaded with this descriptor. */
struct cpu_segment desc_segment(const struct desc *desc);
/* Sets the accessed bit in memory (code and data segments) where it is clear. */
void desc_mark_accessed(struct cpu *cpu, struct desc *desc);
/* Sets or clears the busy bit of a TSS descriptor in memory. */
void desc_set_busy(struct cpu *cpu, uint16_t selector, bool busy);

/* Loads a data or stack segment register with all checks of the present mode. */
void seg_load(struct cpu *cpu, unsigned segment, uint16_t selector);
/* The same checks for a stack segment of privilege @cpl: fills @out without loading it. @vector is
 * EXC_GP or EXC_TS. */
void seg_check_stack(struct cpu *cpu, uint16_t selector, unsigned cpl, uint8_t vector, uint32_t ext,
		     struct cpu_segment *out);
void seg_check_data(struct cpu *cpu, uint16_t selector, unsigned cpl, uint8_t vector, uint32_t ext,
		    struct cpu_segment *out);
/* Real and virtual-8086 mode. */
void seg_set_real(struct cpu *cpu, unsigned segment, uint16_t selector);
void seg_set_v86(struct cpu *cpu, unsigned segment, uint16_t selector);
void seg_set_null(struct cpu *cpu, unsigned segment, uint16_t selector);
void seg_set_flat(struct cpu *cpu, unsigned segment, uint16_t selector, uint16_t attr);
/* After a return to an outer privilege: segments that may no longer be used become null. */
void seg_drop_privileged(struct cpu *cpu);

/* --- A stack that is pushed to or popped from before the registers change --- */

struct stack {
	struct cpu *cpu;
	struct cpu_segment ss;
	uint64_t sp, mask; /* mask: the bits of RSP that count */
	unsigned cpl;
	uint32_t error; /* of the #SS that a limit violation raises */
	bool flat64;
};

void stack_init(struct stack *stack, struct cpu *cpu, uint32_t error); /* the present one */
void stack_push(struct stack *stack, uint64_t value, unsigned size);
uint64_t stack_pop(struct stack *stack, unsigned size);
/* Pushes the words of a 64-bit stack, the last of the array first. */
void stack_push_words(struct stack *stack, const uint64_t *words, unsigned count);
/* Raises what pushing @bytes would raise for the segment's limit. */
void stack_need(struct stack *stack, unsigned bytes);
/* RSP as it is after the pushes and pops. */
uint64_t stack_rsp(const struct stack *stack, uint64_t old_rsp);

/* Reads SS:SP of privilege @cpl from the TSS, checks it and makes @stack of it (16- and 32-bit
 * TSS).
 */
void stack_from_tss(struct cpu *cpu, unsigned cpl, uint32_t ext, struct stack *stack);
/* RSP of slot @slot (0-2: privilege, 3 + n: IST n) of a 64-bit TSS. */
uint64_t tss_rsp(struct cpu *cpu, unsigned slot, uint32_t ext);

/* --- Control transfers (far.c) --- */

/* Checks and commits a code segment: RIP must be within it. */
struct code_target {
	struct desc desc;
	uint64_t rip;
	unsigned cpl;
};
void code_commit(struct cpu *cpu, struct code_target *target);
/* #GP(@error) unless target->rip is inside the segment, or canonical in 64-bit code. */
void code_check_rip(struct cpu *cpu, const struct code_target *target, uint32_t error);

void do_far_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size);
void do_far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size);

/* --- Task switch (task.c) --- */

enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };

/* Switches to the task whose TSS @selector names. @error: what to push on its stack, for an event
 * with an error code. */
void task_switch(struct cpu *cpu, uint16_t selector, enum task_reason reason, uint32_t ext,
		 const uint32_t *error);
/* Through a task gate: takes the selector out of it. */
void task_switch_gate(struct cpu *cpu, uint64_t gate, enum task_reason reason, uint32_t ext,
		      const uint32_t *error);

/* --- Control registers and flags (ctl.c, state.c) --- */

void cpu_write_cr0(struct cpu *cpu, uint64_t value);
void cpu_write_cr3(struct cpu *cpu, uint64_t value);
void cpu_write_cr4(struct cpu *cpu, uint64_t value);
bool cpu_write_efer(struct cpu *cpu, uint64_t value);
/* Loads the PAE page-directory pointers from @cr3; false when a reserved bit is set. */
bool pdpte_load(struct cpu *cpu, uint64_t cr3);
/* The bits of CR4 that this processor has. */
uint64_t cr4_valid(const struct cpu *cpu);
uint64_t cpu_read_tsc(const struct cpu *cpu);

bool msr_read(struct cpu *cpu, uint32_t index, uint64_t *value);
bool msr_write(struct cpu *cpu, uint32_t index, uint64_t value);

/* --- Debug (debug.c) --- */
enum { DR6_BD = 0x2000, DR6_BS = 0x4000, DR6_BT = 0x8000, DR7_GD = 0x2000 };
#define DR6_FIXED UINT64_C(0xffff0ff0)
#define DR7_FIXED UINT64_C(0x400)

void debug_check_port(struct cpu *cpu, uint16_t port, unsigned size);
/* A #DB fault with these DR6 bits. */
G_NORETURN void debug_raise(struct cpu *cpu, uint64_t bits);

/* --- CPUID (cpuid.c) --- */
enum { CPU_SIGNATURE = 0x000806f8 }; /* leaf 1 EAX, and EDX after a reset */
void cpuid_dynamic(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t regs[4]);

/* --- The handlers, by file --- */
op_fn sys_far_jump_imm, sys_far_jump_mem, sys_far_call_imm, sys_far_call_mem, sys_far_ret, sys_iret;
op_fn sys_int3, sys_int, sys_into, sys_int1, sys_bound;
op_fn sys_push_seg, sys_pop_seg, sys_mov_from_seg, sys_mov_to_seg, sys_load_far_pointer;
op_fn sys_arpl, sys_lar, sys_lsl, sys_verr, sys_verw, sys_sldt, sys_str, sys_lldt, sys_ltr;
op_fn sys_sgdt, sys_sidt, sys_lgdt, sys_lidt, sys_smsw, sys_lmsw, sys_clts;
op_fn sys_mov_from_cr, sys_mov_to_cr, sys_mov_from_dr, sys_mov_to_dr;
op_fn sys_invlpg, sys_invpcid, sys_wbinvd, sys_xgetbv, sys_xsetbv;
op_fn sys_syscall, sys_sysret, sys_sysenter, sys_sysexit, sys_swapgs, sys_hypercall;
op_fn sys_rdfsbase, sys_rdgsbase, sys_wrfsbase, sys_wrgsbase;
op_fn sys_rdmsr, sys_wrmsr, sys_rdtsc, sys_rdtscp, sys_rdpmc, sys_rdpid, sys_cpuid;
op_fn sys_rdrand, sys_rdseed;
op_fn sys_cli, sys_sti, sys_clac, sys_stac, sys_hlt, sys_pushf, sys_popf;
op_fn sys_in_imm, sys_in_dx, sys_out_imm, sys_out_dx, sys_ins, sys_outs;
