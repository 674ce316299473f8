// SPDX-License-Identifier: GPL-2.0-or-later
// Executes one test case on the host's processor: a context switch in assembly, with everything it
// needs at fixed addresses below 2 GiB, and signal handlers for what the instruction raises.
#include "diff.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* At DIFF_CONTEXT; the assembly below knows the offsets. */
struct context {
	struct diff_state in, out;   /* 0, OUT */
	uint64_t host_rsp;           /* HOST_RSP */
	uint64_t target;             /* TARGET: offset, then the selector for far jumps */
	uint16_t target_cs, pad1[3]; /* */
	uint64_t exit;               /* EXIT: address of native_exit */
	uint32_t host_mxcsr;         /* MXCSR */
	uint32_t stack16[2];         /* STACK16: ESP, SS for 16-bit code */
};
#define AT_FX       "0xc0"
#define AT_OUT      "0x2c0"
#define AT_OUT_FX   "0x380"
#define AT_HOST_RSP "0x580"
#define AT_TARGET   "0x588"
#define AT_EXIT     "0x598"
#define AT_MXCSR    "0x5a0"
#define AT_STACK16  "0x5a4"
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, in.fx) == 0xc0);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, out) == 0x2c0);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, out.fx) == 0x380);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, host_rsp) == 0x580);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, target) == 0x588);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, exit) == 0x598);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, host_mxcsr) == 0x5a0);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct context, stack16) == 0x5a4);

void native_enter64(void);
void native_enter32(void);
void native_enter16(void);
extern const char native_exit[], native_abort[];

#define CTX(offset)  "0x10000000 + " offset
#define LOAD(n, reg) "	mov " CTX("8 * " #n) ", %" reg "\n"
#define SAVE(n, reg) "	mov %" reg ", " CTX(AT_OUT " + 8 * " #n) "\n"
#define ENTER                                                                                      \
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n"                             \
	"	push %r15\n	mov %rsp, " CTX(                                                   \
		AT_HOST_RSP) "\n"                                                                  \
			     "	fxrstor64 " CTX(                                                   \
				     AT_FX) "\n"                                                   \
					    "	pushq " CTX("0x88") "\n	popfq\n" LOAD(             \
						    0, "rax") LOAD(1, "rcx") LOAD(2, "rdx")        \
						    LOAD(3, "rbx") LOAD(5, "rbp") LOAD(            \
							    6, "rsi") LOAD(7, "rdi") LOAD(8, "r8") \
							    LOAD(9, "r9") LOAD(10, "r10") LOAD(    \
								    11, "r11") LOAD(12, "r12")     \
								    LOAD(13, "r13") LOAD(14,       \
											 "r14")    \
									    LOAD(15, "r15")

asm(".pushsection .text\n"
    "native_enter64:\n" ENTER LOAD(4, "rsp") "	jmp *" CTX(AT_TARGET) "\n"
								      "native_enter32:\n" ENTER LOAD(4, "rsp") "	ljmpl *" CTX(AT_TARGET) "\n"
																		"native_enter16:\n" ENTER "	lss " CTX(AT_STACK16) ", %esp\n"
																								      "	ljmpl *" CTX(AT_TARGET) "\n"
																												"native_exit:\n" SAVE(
																													0,
																													"rax") SAVE(1, "rcx") SAVE(2,
																																   "rdx") SAVE(3,
																																	       "rbx") SAVE(4,
																																			   "rsp") SAVE(5,
																																				       "rbp") SAVE(6,
																																						   "rsi")
																													SAVE(7, "rdi") SAVE(
																														8,
																														"r8") SAVE(9, "r9") SAVE(10, "r10") SAVE(11, "r11") SAVE(12, "r12") SAVE(13, "r13") SAVE(14,
																																									 "r14")
																														SAVE(15, "r15") "	mov $0x2b, %eax\n"
																																"	mov %eax, %ss\n"
																																"	mov " CTX(AT_HOST_RSP) ", %rsp\n"
																																			       "	pushfq\n"
																																			       "	popq " CTX(
																																				       AT_OUT
																																				       " + 0x88") "\n"
																																						  "	fxsave64 " CTX(
																																							  AT_OUT_FX) "\n"
																																								     "native_abort:\n"
																																								     "	mov " CTX(
																																									     AT_HOST_RSP) ", %rsp\n"
																																											  "	pushq $2\n	popfq\n"
																																											  "	fninit\n"
																																											  "	ldmxcsr " CTX(
																																												  AT_MXCSR) "\n"
																																													    "	mov $0x2b, %eax\n"
																																													    "	mov %eax, %ds\n"
																																													    "	mov %eax, %es\n"
																																													    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
																																													    "	ret\n"
																																													    ".popsection\n");

enum { TRAMPOLINE = DIFF_CONTEXT + DIFF_PAGE };

static struct context *const context = (void *)(uintptr_t)DIFF_CONTEXT;
static uint8_t *const code = (void *)(uintptr_t)DIFF_CODE;
static uint8_t *const data = (void *)(uintptr_t)DIFF_DATA;

static struct {
	volatile sig_atomic_t running;
	bool has_mode16;
	enum diff_mode mode;
	uint64_t fs_base, gs_base;
	uint64_t end; /* of the instructions */
	struct diff_outcome *outcome;
} native;

/* A trap by the TF that the instruction set, or what happens at the place that a jump went to (an
 * INT3, or nothing mapped where a 16-bit jump goes), means that it completed. */
static bool is_completion(struct diff_outcome *outcome, const greg_t *regs)
{
	uint64_t rip = (uint64_t)regs[REG_RIP];
	uint64_t linear = rip + (native.mode == DIFF_16 ? DIFF_CODE : 0);

	if (outcome->vector == 1 && (rip == (uintptr_t)native_exit || rip == TRAMPOLINE)) {
		outcome->state.rip = native.end;
		return true;
	}
	if (outcome->vector == 3 && rip != native.end && linear - 1 >= DIFF_CODE &&
	    linear - 1 < DIFF_CODE + DIFF_CODE_SIZE) {
		outcome->state.rip = rip - 1;
		return true;
	}
	if (outcome->vector != 14 || !(outcome->error & 0x10) || outcome->cr2 != linear)
		return false;
	outcome->state.rflags &= ~UINT64_C(0x10000); /* RF, of the fault */
	return true;
}

static void on_signal(int number, siginfo_t *info, void *opaque)
{
	static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				      REG_R12, REG_R13, REG_R14, REG_R15};
	ucontext_t *user = opaque;
	greg_t *regs = user->uc_mcontext.gregs;
	struct diff_outcome *outcome = native.outcome;

	if (!native.running) {
		signal(number, SIG_DFL);
		return;
	}
	for (unsigned i = 0; i < 16; i++)
		outcome->state.regs[i] = (uint64_t)regs[order[i]];
	outcome->state.rip = (uint64_t)regs[REG_RIP];
	outcome->state.rflags = (uint64_t)regs[REG_EFL];
	memcpy(outcome->state.fx, user->uc_mcontext.fpregs, 512);
	outcome->vector = (int)regs[REG_TRAPNO];
	outcome->error = (uint32_t)regs[REG_ERR];
	outcome->cr2 = (uint64_t)regs[REG_CR2];
	if (is_completion(outcome, regs))
		outcome->vector = -1;
	regs[REG_RIP] = (greg_t)(uintptr_t)native_abort;
	regs[REG_EFL] = 2;
	regs[REG_CSGSFS] = (greg_t)((uint64_t)0x2b << 48 | 0x33);
	native.running = 2;
}

static bool map_at(uintptr_t address, size_t size, int protection)
{
	void *wanted = (void *)address;

	return mmap(wanted, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		    0) == wanted;
}

static void install_handlers(void)
{
	static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t stack = {.ss_size = 256 * 1024};

	stack.ss_sp = g_malloc(stack.ss_size);
	sigaltstack(&stack, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
		sigaction(signals[i], &action, NULL);
}

static bool make_segments16(void)
{
	struct user_desc segment = {.entry_number = 0,
				    .base_addr = DIFF_CODE,
				    .limit = 0xffff,
				    .contents = MODIFY_LDT_CONTENTS_CODE,
				    .useable = 1};

	if (syscall(SYS_modify_ldt, 0x11, &segment, sizeof(segment)) != 0)
		return false;
	segment.entry_number = 1;
	segment.base_addr = DIFF_DATA - DIFF_PAGE;
	segment.contents = MODIFY_LDT_CONTENTS_DATA;
	return syscall(SYS_modify_ldt, 0x11, &segment, sizeof(segment)) == 0;
}

bool native_init(const char **why)
{
	static const uint8_t jump[] = {0xff, 0x24, 0x25}; /* JMP [absolute] */
	uint32_t exit_at = DIFF_CONTEXT + G_STRUCT_OFFSET(struct context, exit);
	uint8_t *trampoline = (void *)(uintptr_t)TRAMPOLINE;

	if (!map_at(DIFF_CONTEXT, 2 * DIFF_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    !map_at(DIFF_CODE, DIFF_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    !map_at(DIFF_DATA, DIFF_DATA_SIZE, PROT_READ | PROT_WRITE)) {
		*why = "the fixed addresses below 2 GiB cannot be mapped";
		return false;
	}
	memcpy(trampoline, jump, 3);
	memcpy(trampoline + 3, &exit_at, 4);
	context->exit = (uintptr_t)native_exit;
	context->host_mxcsr = 0x1f80;
	syscall(SYS_arch_prctl, ARCH_GET_FS, &native.fs_base);
	native.gs_base = DIFF_DATA + 0x123;
	syscall(SYS_arch_prctl, ARCH_SET_GS, native.gs_base);
	asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(0x2b));
	native.has_mode16 = make_segments16();
	install_handlers();
	return true;
}

bool native_has_mode(enum diff_mode mode)
{
	return mode != DIFF_16 || native.has_mode16;
}

uint64_t native_fs_base(void)
{
	return native.fs_base;
}

uint64_t native_gs_base(void)
{
	return native.gs_base;
}

const uint8_t *native_data(void)
{
	return data;
}

/* The way back to native_exit, behind the instructions; as much of it as fits. */
static void put_return(enum diff_mode mode, uint8_t *at)
{
	uint8_t bytes[8];
	uint32_t address = TRAMPOLINE;
	size_t room = (size_t)(code + DIFF_CODE_SIZE - at), size = 7;

	switch (mode) {
	case DIFF_64:
		memcpy(bytes, (void *)(uintptr_t)TRAMPOLINE, 7);
		break;
	case DIFF_32: /* JMP 33:trampoline */
		bytes[0] = 0xea;
		memcpy(bytes + 1, &address, 4);
		memcpy(bytes + 5, (uint16_t[]){0x33}, 2);
		break;
	default:
		size = 8;
		bytes[0] = 0x66;
		bytes[1] = 0xea;
		memcpy(bytes + 2, &address, 4);
		memcpy(bytes + 6, (uint16_t[]){0x33}, 2);
		break;
	}
	memcpy(at, bytes, MIN(size, room));
}

void native_run(const struct diff_case *test, struct diff_outcome *outcome)
{
	uint64_t base = test->mode == DIFF_16 ? DIFF_CODE : 0;

	memset(code, 0xcc, DIFF_CODE_SIZE);
	memcpy(code + (base + test->start.rip - DIFF_CODE), test->bytes,
	       MIN(test->length, DIFF_CODE + DIFF_CODE_SIZE - (base + test->start.rip)));
	native.end = test->start.rip + test->length;
	if (base + native.end < DIFF_CODE + DIFF_CODE_SIZE)
		put_return(test->mode, code + (base + native.end - DIFF_CODE));
	memcpy(data, test->data, DIFF_DATA_SIZE);
	context->in = test->start;
	context->target = test->start.rip;
	native.mode = test->mode;
	native.outcome = outcome;
	outcome->vector = -1;
	outcome->error = 0;
	outcome->cr2 = 0;
	native.running = 1;
	if (test->mode == DIFF_64) {
		native_enter64();
	} else if (test->mode == DIFF_32) {
		context->target |= (uint64_t)0x23 << 32;
		native_enter32();
	} else {
		context->target |= (uint64_t)DIFF_CODE16 << 32;
		context->stack16[0] = (uint32_t)test->start.regs[4];
		context->stack16[1] = DIFF_DATA16;
		asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(DIFF_DATA16));
		native_enter16();
	}
	if (native.running == 1) {
		outcome->state = context->out;
		outcome->state.rip = native.end;
	}
	/* Returning to 16-bit code, the kernel leaves bits 32-63 of RSP with a value of its own. */
	if (test->mode == DIFF_16)
		outcome->state.regs[4] = (uint32_t)outcome->state.regs[4];
	native.running = 0;
}
