// SPDX-License-Identifier: GPL-2.0-or-later
/* The architectural state into and out of KVM, and the description of the instruction at which it
 * stands. */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "accel/kvm-internal.h"
#include "base/error.h"

/* --- Segments and tables --- */

static void segment_from_kvm(const struct kvm_segment *k, struct cpu_segment *s)
{
	s->base = k->base;
	s->limit = k->limit;
	s->selector = k->selector;
	s->attr = (uint16_t)(k->type | k->s << 4 | k->dpl << 5 | k->present << 7 | k->avl << 12 |
			     k->l << 13 | k->db << 14 | k->g << 15 |
			     (k->unusable ? SEG_UNUSABLE : 0));
}

static void segment_to_kvm(const struct cpu_segment *s, struct kvm_segment *k)
{
	*k = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & SEG_TYPE,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15 & 1,
		.unusable = (s->attr & SEG_UNUSABLE) != 0,
	};
}

/* Where struct kvm_sregs keeps each segment, by enum cpu_seg. */
static const size_t segment_offsets[SEG_COUNT] = {
	[SEG_ES] = offsetof(struct kvm_sregs, es),    [SEG_CS] = offsetof(struct kvm_sregs, cs),
	[SEG_SS] = offsetof(struct kvm_sregs, ss),    [SEG_DS] = offsetof(struct kvm_sregs, ds),
	[SEG_FS] = offsetof(struct kvm_sregs, fs),    [SEG_GS] = offsetof(struct kvm_sregs, gs),
	[SEG_LDTR] = offsetof(struct kvm_sregs, ldt), [SEG_TR] = offsetof(struct kvm_sregs, tr),
};

/* Where struct kvm_regs keeps each register, by enum cpu_reg. */
static const size_t register_offsets[CPU_REG_COUNT] = {
	[CPU_RAX] = offsetof(struct kvm_regs, rax), [CPU_RCX] = offsetof(struct kvm_regs, rcx),
	[CPU_RDX] = offsetof(struct kvm_regs, rdx), [CPU_RBX] = offsetof(struct kvm_regs, rbx),
	[CPU_RSP] = offsetof(struct kvm_regs, rsp), [CPU_RBP] = offsetof(struct kvm_regs, rbp),
	[CPU_RSI] = offsetof(struct kvm_regs, rsi), [CPU_RDI] = offsetof(struct kvm_regs, rdi),
	[CPU_R8] = offsetof(struct kvm_regs, r8),   [CPU_R9] = offsetof(struct kvm_regs, r9),
	[CPU_R10] = offsetof(struct kvm_regs, r10), [CPU_R11] = offsetof(struct kvm_regs, r11),
	[CPU_R12] = offsetof(struct kvm_regs, r12), [CPU_R13] = offsetof(struct kvm_regs, r13),
	[CPU_R14] = offsetof(struct kvm_regs, r14), [CPU_R15] = offsetof(struct kvm_regs, r15),
};

/* --- MSRs --- */

static const struct {
	uint32_t index;
	uint32_t offset; /* in struct cpu_state */
} msr_fields[] = {
	{0xc0000081, offsetof(struct cpu_state, msr.star)},
	{0xc0000082, offsetof(struct cpu_state, msr.lstar)},
	{0xc0000083, offsetof(struct cpu_state, msr.cstar)},
	{0xc0000084, offsetof(struct cpu_state, msr.sfmask)},
	{0xc0000102, offsetof(struct cpu_state, msr.kernel_gs_base)},
	{0xc0000103, offsetof(struct cpu_state, msr.tsc_aux)},
	{0x174, offsetof(struct cpu_state, msr.sysenter_cs)},
	{0x175, offsetof(struct cpu_state, msr.sysenter_esp)},
	{0x176, offsetof(struct cpu_state, msr.sysenter_eip)},
	{0x277, offsetof(struct cpu_state, msr.pat)},
	{0x1a0, offsetof(struct cpu_state, msr.misc_enable)},
	{0x3b, offsetof(struct cpu_state, msr.tsc_adjust)},
	{0x48, offsetof(struct cpu_state, msr.spec_ctrl)},
	{0x2ff, offsetof(struct cpu_state, msr.mtrr_def_type)},
};

static const uint16_t mtrr_fixed_index[CPU_MTRR_FIXED] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
							  0x26b, 0x26c, 0x26d, 0x26e, 0x26f};

/* Room for one entry behind the head, which C does not let a struct have. */
struct msr_call {
	_Alignas(struct kvm_msrs)
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

static struct kvm_msrs *msr_call_init(struct msr_call *call, uint32_t index, uint64_t value)
{
	struct kvm_msrs *msrs = (struct kvm_msrs *)(void *)call->bytes;
	memset(call, 0, sizeof(*call));
	msrs->nmsrs = 1;
	msrs->entries[0].index = index;
	msrs->entries[0].data = value;
	return msrs;
}

bool kvm_msr_get(int fd, uint32_t index, uint64_t *value)
{
	struct msr_call call;
	struct kvm_msrs *msrs = msr_call_init(&call, index, 0);
	if (ioctl(fd, KVM_GET_MSRS, msrs) != 1)
		return false;
	*value = msrs->entries[0].data;
	return true;
}

bool kvm_msr_set(int fd, uint32_t index, uint64_t value)
{
	struct msr_call call;
	return ioctl(fd, KVM_SET_MSRS, msr_call_init(&call, index, value)) == 1;
}

static void get_msrs(int fd, struct cpu_state *state)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(msr_fields); i++)
		kvm_msr_get(fd, msr_fields[i].index,
			    (uint64_t *)(void *)((uint8_t *)state + msr_fields[i].offset));
	for (unsigned i = 0; i < 2 * CPU_MTRR_VARIABLE; i++)
		kvm_msr_get(fd, 0x200 + i, &state->msr.mtrr_variable[i]);
	for (unsigned i = 0; i < CPU_MTRR_FIXED; i++)
		kvm_msr_get(fd, mtrr_fixed_index[i], &state->msr.mtrr_fixed[i]);
	kvm_msr_get(fd, 0x10, &state->tsc);
}

static void set_msrs(int fd, const struct cpu_state *state)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(msr_fields); i++) {
		uint64_t value;
		memcpy(&value, (const uint8_t *)state + msr_fields[i].offset, sizeof(value));
		kvm_msr_set(fd, msr_fields[i].index, value);
	}
	for (unsigned i = 0; i < 2 * CPU_MTRR_VARIABLE; i++)
		kvm_msr_set(fd, 0x200 + i, state->msr.mtrr_variable[i]);
	for (unsigned i = 0; i < CPU_MTRR_FIXED; i++)
		kvm_msr_set(fd, mtrr_fixed_index[i], state->msr.mtrr_fixed[i]);
}

/* --- FPU: KVM's XSAVE image begins with the FXSAVE one --- */

enum { XSAVE_HEADER = 512, XSTATE_FP_SSE = 3 };
G_STATIC_ASSERT(XSAVE_HEADER + CPU_XSAVE_EXT_BYTES == sizeof(struct kvm_xsave));

static bool get_fpu(int fd, struct cpu_state *state)
{
	static const uint32_t mxcsr_mask = 0xffff;
	struct kvm_xsave xsave;
	if (ioctl(fd, KVM_GET_XSAVE, &xsave) < 0)
		return false;
	memcpy(state->fxsave, xsave.region, 464);
	/* MXCSR_MASK tells of the host, not of the guest. */
	memcpy(state->fxsave + 28, &mxcsr_mask, sizeof(mxcsr_mask));
	memset(state->fxsave + 464, 0, 48);
	uint64_t components;
	memcpy(&components, (uint8_t *)xsave.region + XSAVE_HEADER, sizeof(components));
	components &= ~(uint64_t)XSTATE_FP_SSE;
	if (components) {
		memcpy(state->xsave_ext, (uint8_t *)xsave.region + XSAVE_HEADER,
		       sizeof(state->xsave_ext));
		memcpy(state->xsave_ext, &components, sizeof(components));
	}
	return true;
}

static bool set_fpu(int fd, const struct cpu_state *state)
{
	struct kvm_xsave xsave;
	uint64_t components;
	memcpy(&components, state->xsave_ext, sizeof(components));
	components |= XSTATE_FP_SSE;
	memcpy(xsave.region, state->fxsave, sizeof(state->fxsave));
	memcpy((uint8_t *)xsave.region + XSAVE_HEADER, state->xsave_ext, sizeof(state->xsave_ext));
	memcpy((uint8_t *)xsave.region + XSAVE_HEADER, &components, sizeof(components));
	return ioctl(fd, KVM_SET_XSAVE, &xsave) == 0;
}

/* --- Events and activity --- */

static void events_from_kvm(const struct kvm_vcpu_events *e, struct cpu_state *state)
{
	if (e->exception.injected) {
		state->event = (struct cpu_event){.pending = true,
						  .vector = e->exception.nr,
						  .kind = CPU_EVENT_EXCEPTION,
						  .has_error = e->exception.has_error_code,
						  .error = e->exception.error_code};
	} else if (e->interrupt.injected) {
		state->event = (struct cpu_event){.pending = true,
						  .vector = e->interrupt.nr,
						  .kind = e->interrupt.soft ? CPU_EVENT_SOFT_INT
									    : CPU_EVENT_INTERRUPT};
	} else if (e->nmi.injected) {
		state->event =
			(struct cpu_event){.pending = true, .vector = 2, .kind = CPU_EVENT_NMI};
	}
	state->nmi_pending = e->nmi.pending;
	state->nmi_blocked = e->nmi.masked;
	state->sti_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_STI;
	state->movss_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
	state->sipi_vector = (uint8_t)e->sipi_vector;
}

static void events_to_kvm(const struct cpu_state *state, struct kvm_vcpu_events *e)
{
	const struct cpu_event *event = &state->event;
	*e = (struct kvm_vcpu_events){.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
					       KVM_VCPUEVENT_VALID_SIPI_VECTOR |
					       KVM_VCPUEVENT_VALID_SHADOW};
	if (event->pending &&
	    (event->kind == CPU_EVENT_EXCEPTION || event->kind == CPU_EVENT_SOFT_EXC)) {
		e->exception.injected = 1;
		e->exception.nr = event->vector;
		e->exception.has_error_code = event->has_error;
		e->exception.error_code = event->error;
	} else if (event->pending && event->kind == CPU_EVENT_NMI) {
		e->nmi.injected = 1;
	} else if (event->pending) {
		e->interrupt.injected = 1;
		e->interrupt.nr = event->vector;
		e->interrupt.soft = event->kind == CPU_EVENT_SOFT_INT;
	}
	e->nmi.pending = state->nmi_pending;
	e->nmi.masked = state->nmi_blocked;
	e->interrupt.shadow = (state->sti_shadow ? KVM_X86_SHADOW_INT_STI : 0) |
			      (state->movss_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0);
	e->sipi_vector = state->sipi_vector;
}

static uint8_t activity_from_kvm(uint32_t mp_state)
{
	switch (mp_state) {
	case KVM_MP_STATE_HALTED:
		return CPU_HALTED;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
		return CPU_WAIT_SIPI;
	default:
		return CPU_ACTIVE;
	}
}

static uint32_t activity_to_kvm(const struct cpu_state *state)
{
	switch (state->activity) {
	case CPU_HALTED:
		return KVM_MP_STATE_HALTED;
	case CPU_WAIT_SIPI:
		return KVM_MP_STATE_UNINITIALIZED;
	default:
		return KVM_MP_STATE_RUNNABLE;
	}
}

/* --- The whole state --- */

static void sregs_from_kvm(const struct kvm_sregs *s, struct cpu_state *state)
{
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		const void *from = (const uint8_t *)s + segment_offsets[i];
		segment_from_kvm(from, &state->seg[i]);
	}
	state->gdtr = (struct cpu_table){.base = s->gdt.base, .limit = s->gdt.limit};
	state->idtr = (struct cpu_table){.base = s->idt.base, .limit = s->idt.limit};
	state->cr0 = s->cr0;
	state->cr2 = s->cr2;
	state->cr3 = s->cr3;
	state->cr4 = s->cr4;
	state->cr8 = s->cr8;
	state->efer = s->efer;
}

bool kvm_get_state(struct vcpu *vcpu, struct cpu_state *state, GError **error)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_xcrs xcrs = {0};
	memset(state, 0, sizeof(*state));
	if (ioctl(fd, KVM_GET_REGS, &regs) < 0 || ioctl(fd, KVM_GET_SREGS, &sregs) < 0 ||
	    ioctl(fd, KVM_GET_DEBUGREGS, &debug) < 0 ||
	    ioctl(fd, KVM_GET_VCPU_EVENTS, &events) < 0 || ioctl(fd, KVM_GET_MP_STATE, &mp) < 0 ||
	    !get_fpu(fd, state))
		return error_set_errno(error, errno, "KVM does not give the state of processor %u",
				       vcpu->index);
	for (unsigned i = 0; i < CPU_REG_COUNT; i++)
		memcpy(&state->regs[i], (uint8_t *)&regs + register_offsets[i], 8);
	state->rip = regs.rip;
	state->rflags = regs.rflags;
	sregs_from_kvm(&sregs, state);
	memcpy(state->dr, debug.db, sizeof(state->dr));
	state->dr6 = debug.dr6;
	state->dr7 = debug.dr7;
	events_from_kvm(&events, state);
	state->activity = activity_from_kvm(mp.mp_state);
	state->xcr0 = 1;
	if (ioctl(fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs > 0)
		state->xcr0 = xcrs.xcrs[0].value;
	get_msrs(fd, state);
	return true;
}

static void sregs_to_kvm(const struct cpu_state *state, struct kvm_sregs *s)
{
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		void *to = (uint8_t *)s + segment_offsets[i];
		segment_to_kvm(&state->seg[i], to);
	}
	s->gdt = (struct kvm_dtable){.base = state->gdtr.base, .limit = state->gdtr.limit};
	s->idt = (struct kvm_dtable){.base = state->idtr.base, .limit = state->idtr.limit};
	s->cr0 = state->cr0;
	s->cr2 = state->cr2;
	s->cr3 = state->cr3;
	s->cr4 = state->cr4;
	s->cr8 = state->cr8;
	s->efer = state->efer;
	memset(s->interrupt_bitmap, 0, sizeof(s->interrupt_bitmap));
}

bool kvm_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_regs regs = {.rip = state->rip, .rflags = state->rflags};
	struct kvm_sregs sregs;
	struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp = {.mp_state = activity_to_kvm(state)};
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.value = state->xcr0 | 1}};
	for (unsigned i = 0; i < CPU_REG_COUNT; i++)
		memcpy((uint8_t *)&regs + register_offsets[i], &state->regs[i], 8);
	memcpy(debug.db, state->dr, sizeof(debug.db));
	events_to_kvm(state, &events);
	bool ok = ioctl(fd, KVM_GET_SREGS, &sregs) == 0;
	sregs_to_kvm(state, &sregs);
	ok = ok && ioctl(fd, KVM_SET_SREGS, &sregs) == 0 && ioctl(fd, KVM_SET_REGS, &regs) == 0 &&
	     set_fpu(fd, state) && ioctl(fd, KVM_SET_DEBUGREGS, &debug) == 0;
	if (!ok)
		return error_set_errno(error, errno, "KVM refuses the state of processor %u",
				       vcpu->index);
	ioctl(fd, KVM_SET_XCRS, &xcrs);
	set_msrs(fd, state);
	if (ioctl(fd, KVM_SET_MP_STATE, &mp) < 0 || ioctl(fd, KVM_SET_VCPU_EVENTS, &events) < 0)
		return error_set_errno(error, errno, "KVM refuses the events of processor %u",
				       vcpu->index);
	kvm_vcpu_of(vcpu)->tsc_set = false;
	return true;
}

/* --- Where it stands --- */

static char *disassemble(const uint8_t *bytes, size_t size, uint64_t rip, ZydisMachineMode mode)
{
	void *library = dlopen("libZydis.so.4.0", RTLD_NOW | RTLD_LOCAL);
	ZydisDisassembledInstruction out;
	if (!library)
		return NULL;
	ZyanStatus (*run)(ZydisMachineMode, ZyanU64, const void *, ZyanUSize,
			  ZydisDisassembledInstruction *) = dlsym(library, "ZydisDisassembleIntel");
	char *text =
		run && ZYAN_SUCCESS(run(mode, rip, bytes, size, &out)) ? g_strdup(out.text) : NULL;
	dlclose(library);
	return text;
}

char *kvm_describe_instruction(struct vcpu *vcpu)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs = {0};
	uint8_t bytes[15];
	unsigned got = 0;
	ioctl(fd, KVM_GET_REGS, &regs);
	ioctl(fd, KVM_GET_SREGS, &sregs);
	for (; got < sizeof(bytes); got++) {
		struct kvm_translation t = {.linear_address = sregs.cs.base + regs.rip + got};
		if (ioctl(fd, KVM_TRANSLATE, &t) < 0 || !t.valid ||
		    !dma_read(vcpu->vm, t.physical_address, &bytes[got], 1))
			break;
	}
	ZydisMachineMode mode = sregs.cs.l      ? ZYDIS_MACHINE_MODE_LONG_64
				: sregs.cs.db   ? ZYDIS_MACHINE_MODE_LEGACY_32
				: sregs.cr0 & 1 ? ZYDIS_MACHINE_MODE_LEGACY_16
						: ZYDIS_MACHINE_MODE_REAL_16;
	g_autofree char *text = disassemble(bytes, got, regs.rip, mode);
	GString *out = g_string_new(NULL);
	g_string_append_printf(out, "%04x:%" PRIx64, sregs.cs.selector, (uint64_t)regs.rip);
	if (text)
		g_string_append_printf(out, " `%s`", text);
	g_string_append(out, " [");
	for (unsigned i = 0; i < got; i++)
		g_string_append_printf(out, i ? " %02x" : "%02x", bytes[i]);
	g_string_append_printf(out, "] cpl=%u cr0=%" PRIx64 " cr3=%" PRIx64 " cr4=%" PRIx64,
			       sregs.cs.dpl, (uint64_t)sregs.cr0, (uint64_t)sregs.cr3,
			       (uint64_t)sregs.cr4);
	return g_string_free(out, FALSE);
}
