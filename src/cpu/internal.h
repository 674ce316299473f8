/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "cpu/cpu.h"
#include "cpu/op.h"

/*
 * Inside the processor. Who owns what:
 *   decode.c select.c block.c exec.c alu/string files  decoding, integer semantics, dispatch
 *   mem.h mem.c tlb.c system.c smc.c                   memory access, TLB, code tracking, RAM map
 *   walk.c seg.c except.c task.c far.c ctl.c debug.c msr.c cpuid.c io.c state.c   the system side
 *   x87.c mmx/sse files, fpstate.c                     floating point and vectors
 */

enum cpu_request { /* bits of cpu->request, polled at each block end */
		   REQ_KICK = 0x01,
		   REQ_INTR = 0x02,
		   REQ_NMI = 0x04,
		   REQ_NMI_BEHIND = 0x200, /* another NMI waits behind the first */
		   REQ_INIT = 0x08,
		   REQ_SIPI = 0x10,
		   REQ_SYNC =
			   0x20, /* another thread wants TLB entries or blocks dropped, or a stop */
		   REQ_DEBUG = 0x40,   /* a debug trap waits to be raised after this instruction */
		   REQ_UNHALT = 0x100, /* end HLT, or skip the next one, whatever IF says */
		   REQ_COUNT = 0x80,   /* cpu_run has a budget: come back after each block */
};

/* Vectors (SDM 3A, table 6-1). */
enum {
	EXC_DE,
	EXC_DB,
	EXC_NMI,
	EXC_BP,
	EXC_OF,
	EXC_BR,
	EXC_UD,
	EXC_NM,
	EXC_DF,
	EXC_TS = 10,
	EXC_NP,
	EXC_SS,
	EXC_GP,
	EXC_PF,
	EXC_MF = 16,
	EXC_AC,
	EXC_MC,
	EXC_XM,
};

enum {
	FL_CF = 0x1,
	FL_PF = 0x4,
	FL_AF = 0x10,
	FL_ZF = 0x40,
	FL_SF = 0x80,
	FL_TF = 0x100,
	FL_IF = 0x200,
	FL_DF = 0x400,
	FL_OF = 0x800,
	FL_IOPL = 0x3000,
	FL_NT = 0x4000,
	FL_RF = 0x10000,
	FL_VM = 0x20000,
	FL_AC = 0x40000,
	FL_VIF = 0x80000,
	FL_VIP = 0x100000,
	FL_ID = 0x200000,
	FL_ARITH = 0x8d5,
};

enum {
	CR0_PE = 0x1,
	CR0_MP = 0x2,
	CR0_EM = 0x4,
	CR0_TS = 0x8,
	CR0_ET = 0x10,
	CR0_NE = 0x20,
	CR0_WP = 0x10000,
	CR0_AM = 0x40000,
	CR0_NW = 0x20000000,
	CR0_CD = 0x40000000,
};
#define CR0_PG UINT64_C(0x80000000)

enum {
	CR4_VME = 0x1,
	CR4_PVI = 0x2,
	CR4_TSD = 0x4,
	CR4_DE = 0x8,
	CR4_PSE = 0x10,
	CR4_PAE = 0x20,
	CR4_MCE = 0x40,
	CR4_PGE = 0x80,
	CR4_PCE = 0x100,
	CR4_OSFXSR = 0x200,
	CR4_OSXMMEXCPT = 0x400,
	CR4_UMIP = 0x800,
	CR4_FSGSBASE = 0x10000,
	CR4_PCIDE = 0x20000,
	CR4_OSXSAVE = 0x40000,
	CR4_SMEP = 0x100000,
	CR4_SMAP = 0x200000,
};

enum { EFER_SCE = 0x1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };

/* Bits of cpu->mode above the code size (0, 1, 2). */
enum {
	MODE_STACK32 = 0x04, /* SS.B */
	MODE_FLAT = 0x08,    /* no segment checks but for FS and GS */
	MODE_USER = 0x10,
	MODE_STEP = 0x20,  /* debugging: one instruction at a time */
	MODE_WIDE = 0x40,  /* near branches cannot leave CS */
	MODE_ALONE = 0x80, /* of blocks only: cut after one instruction */
};

/* Page-fault error code bits. */
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

enum mem_access { MEM_READ, MEM_WRITE, MEM_FETCH };

/* The page walker's answer for the 4 KiB page that holds the address. */
struct walk_result {
	uint64_t gpa; /* of the page's first byte */
	bool user, writable,
		executable; /* by the entries alone (all levels, NX, not yet CR0.WP, SMAP..) */
	bool global, dirty; /* dirty: the leaf's D bit is set, so writes need no more walks */
	uint64_t page_size; /* 4 KiB, 2 MiB, 4 MiB or 1 GiB */
};

struct cpu_tlb;   /* mem.h */
struct tlb_set;   /* mem.h */
struct cpu_sync;  /* system.h */
struct cpu_cache; /* block.c: decoded blocks */
struct block;

struct cpu {
	/* Hot: the general registers, then one that is always zero (OP_NO_REG). 32-bit writes zero
	 * the upper half, as the architecture has it. */
	uint64_t regs[CPU_REG_COUNT + 1];
	uint64_t rip;    /* valid between blocks and while an OP_END handler runs */
	uint64_t rflags; /* everything but the six arithmetic flags, which are in `arith` */
	uint32_t arith;  /* LAHF form: bit 0 OF, bit 8 CF, 10 PF, 12 AF, 14 ZF, 15 SF */
	_Atomic uint32_t request; /* enum cpu_request */
	struct cpu_tlb *tlb;      /* the entries for the present privilege and SMAP state */
	const struct op *current; /* the op that runs: set before anything that can fault */
	struct block *block;      /* the block that runs */
	uint64_t block_rip;       /* RIP at the start of that block */
	uint64_t retired;

	struct cpu_segment seg[SEG_COUNT];
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
	uint32_t mode; /* key for decoded blocks, see cpu_mode_changed */
	uint8_t cpl;
	uint8_t code_size; /* 2, 4, 8 */
	bool paging;
	bool shadow_sti, shadow_movss;
	uint64_t after_sti; /* RIP behind the last STI that set no shadow: holds NMIs off there */
	bool nmi_blocked;
	bool unhalted;    /* a REQ_UNHALT came: the next HLT does not wait */
	uint8_t activity; /* enum cpu_activity */

	struct cpu_table gdtr, idtr;
	uint64_t dr[4], dr6, dr7;
	uint64_t pending_debug; /* DR6 bits of traps to be raised after this instruction */
	bool break_held;        /* the instruction before was a MOV SS: no instruction breakpoint */
	bool pdpte_loaded; /* pdpte[] holds what CR3 points to (PAE paging without long mode) */
	uint64_t pdpte[4];
	struct cpu_msrs msr;
	struct cpu_event event; /* recognised, delivery not finished */
	int64_t tsc_offset;
	uint8_t sipi_vector;            /* of the last SIPI taken: its own thread's */
	_Atomic uint8_t sipi_requested; /* of the last one sent: with REQ_SIPI */

	/* x87 and SSE: the FXSAVE64 image. While fpu_live is set the x87 part (bytes 0-23 and
	 * ST/MM) is in the host's registers instead; x87_park() brings it back. XMM registers are
	 * always here. While cpu_run is in the loop the host's MXCSR holds the guest's. */
	_Alignas(64) uint8_t fxsave[512];
	bool fpu_live;
	bool fpu_fast;   /* fpu_live, and all x87 exceptions are masked */
	bool mmx_live;   /* MMX state: TOP is 0, all tags valid; the host's x87 unit is scratch */
	bool fpu_inside; /* between fpu_enter and fpu_leave */

	sigjmp_buf unwind; /* cpu_raise lands here, in cpu_run */
	uint8_t raised_vector;
	bool raised_has_error;
	uint32_t raised_error;

	/* The loop (run.c): whether TF was set when the instruction that runs began (what
	 * debug_after_insn must go by), a store hit the block that runs, an event is being
	 * delivered, how many instructions may still be retired. */
	bool step_tf, block_hit, delivering, stopping, is_bsp;
	uint64_t retire_limit;
	_Atomic bool intr_line;
	_Atomic bool in_loop;       /* may touch guest memory: others must wait for its answer */
	_Atomic uint64_t sync_seen; /* the last broadcast (smc.c) it has answered */
	uint64_t code_base;         /* of CS; 0 in 64-bit code */
	uint64_t generation[2];     /* of translations: [0] ordinary, [1] global pages */
	struct cpu_tlb *tlb_class;  /* the real entries where `tlb` is the one that never hits */
	unsigned index;             /* in the system's list */

	struct cpu_system *system;
	struct cpu_cache *cache;
	struct tlb_set *tlb_sets, *tlb_set; /* all, and the present one */
	struct cpu_sync *sync;
	struct cpu_model model;
	const struct cpu_bus *bus;
	void *opaque;
};

/* --- Raising: never return; cpu_run delivers with RIP at the instruction that runs --- */
G_NORETURN void cpu_raise(struct cpu *cpu, uint8_t vector); /* no error code */
G_NORETURN void cpu_raise_error(struct cpu *cpu, uint8_t vector, uint32_t error);
G_NORETURN void cpu_raise_page_fault(struct cpu *cpu, uint64_t linear, uint32_t error);

/* --- The op that runs --- */
static inline uint64_t op_rip(const struct cpu *cpu, const struct op *op)
{
	return cpu->block_rip + op->offset;
}
static inline uint64_t op_next_rip(const struct cpu *cpu, const struct op *op)
{
	uint64_t next = cpu->block_rip + op->offset + op->length;
	return op->code_size == 8 ? next : op->code_size == 4 ? (uint32_t)next : (uint16_t)next;
}
/* Offset of a memory operand within its segment, truncated to the address size. */
static inline uint64_t op_offset(const struct cpu *cpu, const struct op *op)
{
	uint64_t offset =
		cpu->regs[op->base] + (cpu->regs[op->index] << op->shift) + (uint64_t)op->disp;
	return op->address_size == 8   ? offset
	       : op->address_size == 4 ? (uint32_t)offset
				       : (uint16_t)offset;
}

/* --- Calls out of the processor: use these and never cpu->bus->... directly. They park the FPU,
 * and while they are outside other threads need not wait for this processor. --- */
uint64_t bus_mmio_read(struct cpu *cpu, uint64_t gpa, unsigned size);
void bus_mmio_write(struct cpu *cpu, uint64_t gpa, uint64_t value, unsigned size);
uint32_t bus_port_read(struct cpu *cpu, uint16_t port, unsigned size);
void bus_port_write(struct cpu *cpu, uint16_t port, uint32_t value, unsigned size);
/* Around any other bus call (MSRs, TPR, hypercall, interrupt_ack). */
void bus_begin(struct cpu *cpu);
void bus_end(struct cpu *cpu);

/* --- REP ---
 * After an iteration that has been committed and is not the last: counts it as retired; true when
 * the handler must leave now, with cpu->rip set to op_rip(cpu, op), so that interrupts, debug traps
 * and the budget are looked at. The handlers are OP_END. */
bool rep_pause(struct cpu *cpu);

/* --- Registers and flags (regs.c) --- */
uint64_t reg_get(const struct cpu *cpu, unsigned reg, unsigned size); /* size 1 wants reg8_get */
void reg_set(struct cpu *cpu, unsigned reg, unsigned size, uint64_t value);
uint8_t reg8_get(const struct cpu *cpu, const struct op *op,
		 unsigned reg); /* AH.. or SPL.. by REX */
void reg8_set(struct cpu *cpu, const struct op *op, unsigned reg, uint8_t value);
uint64_t cpu_rflags(const struct cpu *cpu); /* the whole register, bit 1 set */
void cpu_set_rflags(struct cpu *cpu, uint64_t value,
		    uint64_t mask); /* only the bits in @mask; tells
				     * the debug and SMAP state */

/* --- Memory through a segment register, with all of its checks, paging and privilege of CPL ---
 * All raise #GP/#SS/#PF/#AC and then have written nothing. Sizes up to 8 in one value; blocks up to
 * 4096 bytes: a write block checks every page before it stores the first byte. */
uint64_t mem_read(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size);
void mem_write(struct cpu *cpu, unsigned segment, uint64_t offset, uint64_t value, unsigned size);
void mem_read_block(struct cpu *cpu, unsigned segment, uint64_t offset, void *to, unsigned size);
void mem_write_block(struct cpu *cpu, unsigned segment, uint64_t offset, const void *from,
		     unsigned size);
/* Raises what a write of @size bytes would raise, and writes nothing: for read-modify-write and for
 * instructions that store more than once. */
void mem_probe_write(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size);
/* By linear address with supervisor rights whatever CPL is (descriptor tables, TSS, IDT). */
uint64_t mem_read_system(struct cpu *cpu, uint64_t linear, unsigned size);
void mem_write_system(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size);
/* By linear address with the rights of privilege @cpl (stack pushes during a change of privilege).
 */
uint64_t mem_read_as(struct cpu *cpu, uint64_t linear, unsigned size, unsigned cpl);
void mem_write_as(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size, unsigned cpl);
/* Physical memory, for the walker: 4 or 8 bytes, aligned. Outside RAM goes to the bus. */
uint64_t phys_read(struct cpu *cpu, uint64_t gpa, unsigned size);
/* Atomically replaces @expected by @desired; false when it was changed meanwhile. */
bool phys_cmpxchg(struct cpu *cpu, uint64_t gpa, uint64_t expected, uint64_t desired,
		  unsigned size);

/* The segment's checks alone: linear address of @size bytes at @offset, or raises. */
uint64_t seg_linear(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
		    enum mem_access access);

/* --- TLB --- */
void tlb_flush_all(struct cpu *cpu);
void tlb_flush_nonglobal(struct cpu *cpu);             /* of every PCID */
void tlb_flush_page(struct cpu *cpu, uint64_t linear); /* INVLPG: global ones and large pages too */
/* After CR3 was loaded: what must go, goes. @keep: bit 63 of the source was set with PCIDs on. */
void tlb_cr3_loaded(struct cpu *cpu, uint64_t old, bool keep);
void tlb_flush_pcid(struct cpu *cpu, unsigned pcid, uint64_t linear, bool single); /* INVPCID */

/* --- The walker (walk.c) ---
 * Walks the tables for @linear, sets accessed bits, and the leaf's dirty bit when @access is a
 * write; raises #PF with the right error code where the access is not allowed with the rights of
 * @cpl (SMEP, SMAP with AC, WP, NX, reserved bits). With paging off: the identity. */
void page_walk(struct cpu *cpu, uint64_t linear, enum mem_access access, unsigned cpl,
	       bool implicit_supervisor, struct walk_result *result);
/* Same without side effects: false where not mapped. */
bool page_probe(struct cpu *cpu, uint64_t linear, struct walk_result *result);

/* --- Mode ---
 * Recomputes cpl-dependent TLB choice, code_size, paging and the mode key after CS, SS, CR0, CR3,
 * CR4, EFER, RFLAGS.VM/AC/TF or DR7 have changed (mode.c; cpu_set_rflags calls it by itself).
 * Callers run in OP_END handlers. */
void cpu_mode_changed(struct cpu *cpu);

/* --- Events (except.c) ---
 * Delivers through the IDT, TSS and stacks; may raise again (double and triple faults are handled
 * by cpu_run through exception_combine). */
void event_deliver(struct cpu *cpu, const struct cpu_event *event);
/* What becomes of a second exception while @first was being delivered: fills @out with the second,
 * with #DF, or returns false for a triple fault (SDM 3A table 6-5). */
bool exception_combine(const struct cpu_event *first, const struct cpu_event *second,
		       struct cpu_event *out);
/* Debug: called by the loop when stepping or when breakpoints are armed (debug.c). */
void debug_before_insn(struct cpu *cpu); /* instruction breakpoints: raises #DB as a fault */
void debug_after_insn(struct cpu *cpu);  /* TF and data breakpoints: delivers the #DB trap */
void debug_check_data(struct cpu *cpu, uint64_t linear, unsigned size,
		      bool write);       /* notes a hit */
bool debug_armed(const struct cpu *cpu); /* TF set or any DR7 enable bit that needs stepping */

/* --- x87 and SSE (fpstate.c) --- */
void fpu_enter(struct cpu *cpu); /* cpu_run begins: load MXCSR */
void fpu_leave(struct cpu *cpu); /* before every bus call and at the end of cpu_run: x87 parked, the
				  * host's own MXCSR back; cheap where neither is in use */
void fpu_reset(struct cpu *cpu); /* power-on values */
