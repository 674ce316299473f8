/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/state.h"

/*
 * The software x86-64 processor. A `struct cpu_system` is what the processors of one machine share:
 * the map of RAM and the knowledge of which pages hold decoded code. A `struct cpu` is one logical
 * processor; one host thread at a time may run it. Everything that is not RAM (ports, MMIO,
 * interrupt controller) is reached through `struct cpu_bus`.
 *
 * Memory ordering is the host's (x86 on x86); LOCK operations are host LOCK operations on the real
 * memory. Source: Intel SDM volumes 2 and 3A.
 */

struct cpu;
struct cpu_system;

/* How a processor sees the world. All are called on the thread that runs the processor, with no
 * lock of the cpu room held. Values are zero-extended; @size is 1, 2, 4 or 8 bytes (ports: 1, 2,
 * 4). The callbacks may call cpu_kick, cpu_raise_line, cpu_request_* and cpu_system_* functions. */
struct cpu_bus {
	uint64_t (*mmio_read)(void *opaque, uint64_t gpa, unsigned size);
	void (*mmio_write)(void *opaque, uint64_t gpa, uint64_t value, unsigned size);
	uint32_t (*port_read)(void *opaque, uint16_t port, unsigned size);
	void (*port_write)(void *opaque, uint16_t port, uint32_t value, unsigned size);
	/* Acknowledges the highest-priority deliverable interrupt: its vector, or -1 when there is
	 * none any more (the processor then goes on). */
	int (*interrupt_ack)(void *opaque);
	/* MSRs that are not the processor's own: APIC base, x2APIC, TSC deadline, KVM clock.
	 * False means #GP(0). */
	bool (*msr_read)(void *opaque, uint32_t index, uint64_t *value);
	bool (*msr_write)(void *opaque, uint32_t index, uint64_t value);
	/* CR8: the task priority class, 0-15. */
	uint64_t (*tpr_read)(void *opaque);
	void (*tpr_write)(void *opaque, uint64_t value);
	/* VMCALL/VMMCALL in CPL 0: number in RAX, arguments RBX, RCX, RDX, RSI; the result goes to
	 * RAX. May be NULL: the instruction then raises #UD. */
	int64_t (*hypercall)(void *opaque, uint64_t number, const uint64_t args[4]);
};

/* Feature bits that CPUID must not show though this processor has them: what another accelerator
 * lacks that the guest also runs on. By leaf and register; X is 0x80000001, D1 leaf 0xd, 1. */
struct cpu_hidden_features {
	uint32_t leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx, leaf7_edx, d1_eax, x_ecx, x_edx;
};

/* What CPUID shows. Zeroed fields mean the default. */
struct cpu_model {
	uint32_t apic_id;
	uint32_t cpu_count;     /* logical processors of the machine, one core each */
	uint64_t tsc_hz;        /* rate of the host's TSC, which the guest sees unscaled */
	uint64_t apic_timer_hz; /* what leaf 0x15 names as crystal; the local APIC must count at it
				 */
	bool hide_kvm;          /* no KVM paravirtual leaves at 0x40000000 */
	bool hide_mitigations;  /* no ARCH_CAPABILITIES: the guest will use PTI, retpolines, ... */
	uint8_t phys_bits;      /* guest-physical address width, default 40 */
	struct cpu_hidden_features hidden;
	bool movable; /* the guest may go on under another accelerator: this model everywhere */
};

enum cpu_exit {
	CPU_EXIT_KICK,      /* cpu_kick was called */
	CPU_EXIT_HALT,      /* HLT and nothing pending: wait, then run again */
	CPU_EXIT_WAIT_SIPI, /* an application processor waits for its SIPI */
	CPU_EXIT_SHUTDOWN,  /* triple fault */
	CPU_EXIT_BUDGET,    /* the instruction budget is used up */
	CPU_EXIT_DEBUG,     /* reserved for a debugger's breakpoint */
};

/* --- The machine's side: RAM --- */

struct cpu_system *cpu_system_new(void);
/* All its processors must be freed before. */
void cpu_system_free(struct cpu_system *system);

/* Maps @size bytes at @host as guest-physical memory at @gpa (both page-aligned); a read-only slot
 * (@readonly) sends writes to mmio_write. @dirty, when not NULL, is a bitmap of one bit per 4 KiB
 * page of the slot, set atomically (bit n of 64-bit word n/64) by guest writes while dirty logging
 * is on for the slot. Returns a slot number. No processor may be running (callers pause them). */
int cpu_system_map(struct cpu_system *system, uint64_t gpa, uint64_t size, void *host,
		   bool readonly, uint64_t *dirty);
void cpu_system_unmap(struct cpu_system *system, int slot);
/* Switches dirty logging; from the return on every page written by a processor is in the bitmap
 * once that processor has left its current block. Any thread. */
void cpu_system_log_dirty(struct cpu_system *system, int slot, bool on);
/* After the caller has cleared bits of the bitmap: makes processors report those pages anew. Any
 * thread; returns when no processor can still write unseen. */
void cpu_system_rearm_dirty(struct cpu_system *system, int slot);
/* Must be called for every write to RAM that no processor made (DMA, loaders), after the write.
 * Cheap where the range holds no decoded code. Any thread. */
void cpu_system_ram_written(struct cpu_system *system, uint64_t gpa, uint64_t size);

/* --- A processor --- */

struct cpu *cpu_new(struct cpu_system *system, const struct cpu_model *model,
		    const struct cpu_bus *bus, void *opaque);
void cpu_free(struct cpu *cpu);

/* Power-on reset. Only while it does not run (as are get and set). */
void cpu_reset(struct cpu *cpu, bool is_bsp);
void cpu_get_state(struct cpu *cpu, struct cpu_state *state);
/* Takes any state that a real processor could be in; returns false with @error for an impossible
 * one (reserved CR bits, inconsistent mode), which is then not taken. */
bool cpu_set_state(struct cpu *cpu, const struct cpu_state *state, GError **error);

/* Runs until something happens, at the most @max_insns instructions (0: no bound; with a bound it
 * stops exactly there). Interrupt lines are sampled at least once per executed block. */
enum cpu_exit cpu_run(struct cpu *cpu, uint64_t max_insns);

/* Any thread: makes cpu_run return CPU_EXIT_KICK soon (at the next block end). Sticky: if the
 * processor is not running, the next cpu_run returns at once. Async-signal-safe. */
void cpu_kick(struct cpu *cpu);
/* Any thread, async-signal-safe: sets or clears the interrupt request line (the local APIC's
 * output, wired-or with the 8259's where it is in virtual wire mode). Level: stays until cleared;
 * interrupt_ack decides. */
void cpu_set_intr(struct cpu *cpu, bool level);
/* Any thread: latches an NMI, an INIT, or a start-up IPI. */
void cpu_request_nmi(struct cpu *cpu);
void cpu_request_init(struct cpu *cpu);
void cpu_request_sipi(struct cpu *cpu, uint8_t vector);
/* Any thread: ends HLT even with interrupts disabled, or makes the next HLT not wait (what a
 * paravirtual spin lock's kick does). */
void cpu_request_unhalt(struct cpu *cpu);
/* Whether cpu_run would do something other than return CPU_EXIT_HALT or CPU_EXIT_WAIT_SIPI. */
bool cpu_has_work(struct cpu *cpu);

/* Instructions retired since creation (REP counts iterations). Any thread, approximate while
 * running. */
uint64_t cpu_insns_retired(const struct cpu *cpu);
/* Guest TSC = host TSC + offset. Only while it does not run. */
void cpu_set_tsc_offset(struct cpu *cpu, int64_t offset);
int64_t cpu_tsc_offset(const struct cpu *cpu);

/* Fills @regs (EAX, EBX, ECX, EDX) as the CPUID instruction would for @model: what KVM must be
 * given so that both accelerators show one machine. Static bits only (OSXSAVE and such are clear).
 */
void cpu_model_cpuid(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
		     uint32_t regs[4]);
/* Walks the list of leaves: writes the leaf and subleaf number of entry @index, false at the end.
 */
bool cpu_model_leaf(const struct cpu_model *model, unsigned index, uint32_t *leaf,
		    uint32_t *subleaf);

/* Translates a linear address with the current page tables without side effects (no accessed bits,
 * no fault). False when not mapped. For dumps and debuggers. */
bool cpu_translate(struct cpu *cpu, uint64_t linear, uint64_t *gpa);
