// SPDX-License-Identifier: GPL-2.0-or-later
/* The registers of a local APIC, xAPIC and x2APIC (SDM 3A chapter 11). */
#include <string.h>

#include "base/error.h"
#include "dev/lapic-internal.h"

#define APIC_BASE_ADDRESS UINT64_C(0xfffffff000)

enum {
	REG_ID = 0x20,
	REG_VERSION = 0x30,
	REG_TPR = 0x80,
	REG_APR = 0x90,
	REG_PPR = 0xa0,
	REG_EOI = 0xb0,
	REG_LDR = 0xd0,
	REG_DFR = 0xe0,
	REG_SVR = 0xf0,
	REG_ISR = 0x100,
	REG_TMR = 0x180,
	REG_IRR = 0x200,
	REG_ESR = 0x280,
	REG_ICR = 0x300,
	REG_ICR2 = 0x310,
	REG_LVT = 0x320,
	REG_LVT_END = 0x370,
	REG_INITIAL = 0x380,
	REG_CURRENT = 0x390,
	REG_DIVIDE = 0x3e0,
	REG_SELF_IPI = 0x3f0,
};
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800, MSR_X2APIC_END = 0x83f };
enum { LVT_MASKED = 0x10000, LVT_TIMER_MODE = 0x60000, LVT_PENDING = 0x1000 };
enum { TIMER_ONE_SHOT = 0, TIMER_PERIODIC = 0x20000, TIMER_DEADLINE = 0x40000 };
/* As timer_start_ns: a one-shot count that has ended and told so. */
#define TIMER_OVER INT64_MIN
enum { ESR_SEND_ILLEGAL = 0x20, ESR_RECEIVE_ILLEGAL = 0x40, ESR_ILLEGAL_REGISTER = 0x80 };

/* Bits of each LVT entry that software can write. */
static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERFORMANCE] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

/* --- Bits of the three 256-bit registers --- */

static int highest(const uint32_t *bits)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t word = __atomic_load_n(&bits[i], __ATOMIC_SEQ_CST);
		if (word)
			return i * 32 + 31 - __builtin_clz(word);
	}
	return -1;
}

static void bit_set(uint32_t *bits, unsigned vector)
{
	__atomic_fetch_or(&bits[vector / 32], 1u << (vector % 32), __ATOMIC_SEQ_CST);
}

static void bit_clear(uint32_t *bits, unsigned vector)
{
	__atomic_fetch_and(&bits[vector / 32], ~(1u << (vector % 32)), __ATOMIC_SEQ_CST);
}

static bool bit_test(const uint32_t *bits, unsigned vector)
{
	return __atomic_load_n(&bits[vector / 32], __ATOMIC_SEQ_CST) >> (vector % 32) & 1;
}

/* --- Priorities and the wire to the processor --- */

static uint8_t processor_priority(const struct lapic *apic)
{
	int in_service = highest(apic->isr);
	uint8_t class = in_service < 0 ? 0 : in_service & 0xf0;
	return (apic->tpr & 0xf0) >= class ? (uint8_t)apic->tpr : class;
}

/* The vector to deliver now, or -1. */
static int deliverable(const struct lapic *apic)
{
	if (!lapic_is_on(apic))
		return -1;
	int requested = highest(apic->irr);
	if (requested < 0 || (requested & 0xf0) <= (processor_priority(apic) & 0xf0))
		return -1;
	return requested;
}

bool lapic_takes_extint(const struct lapic *apic)
{
	if (apic->vcpu->index != 0)
		return false;
	if (!(apic->base_msr & APIC_BASE_ENABLE))
		return true;
	uint32_t lint0 = apic->lvt[LVT_LINT0];
	return !(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == DELIVER_EXTINT;
}

static bool extint_waits(const struct lapic *apic)
{
	return __atomic_load_n(&apic->bus->lint0.level, __ATOMIC_SEQ_CST) &&
	       lapic_takes_extint(apic);
}

static void set_intr(struct lapic *apic, bool level)
{
	const struct accel_local_ops *local = apic->vcpu->accel->local;
	if (local)
		local->set_intr(apic->vcpu, level);
}

/* Own thread: makes the wire say what the registers say. A sender that sets a request bit between
 * the test and the clearing raises the wire itself after its bit; so clear first, then look again.
 */
static void refresh(struct lapic *apic)
{
	if (deliverable(apic) < 0 && !extint_waits(apic))
		set_intr(apic, false);
	if (deliverable(apic) >= 0 || extint_waits(apic))
		set_intr(apic, true);
}

/* --- Timer --- */

static unsigned timer_divider(const struct lapic *apic)
{
	unsigned code = (apic->timer_divide & 3) | (apic->timer_divide >> 1 & 4);
	return code == 7 ? 1 : 2u << code;
}

static int64_t ticks_to_ns(const struct lapic *apic, uint64_t ticks)
{
	return (int64_t)((unsigned __int128)ticks * timer_divider(apic) * 1000000000 /
			 apic->bus->timer_hz);
}

static uint32_t timer_current(const struct lapic *apic)
{
	if (!apic->timer_initial || apic->timer_start_ns == TIMER_OVER ||
	    (apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) == TIMER_DEADLINE)
		return 0;
	int64_t passed = vm_clock_ns(apic->device.vm) - apic->timer_start_ns;
	uint64_t ticks = (uint64_t)((unsigned __int128)passed * apic->bus->timer_hz / 1000000000 /
				    timer_divider(apic));
	if ((apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) == TIMER_PERIODIC)
		return apic->timer_initial - (uint32_t)(ticks % apic->timer_initial);
	return ticks >= apic->timer_initial ? 0 : apic->timer_initial - (uint32_t)ticks;
}

static void timer_start(struct lapic *apic)
{
	vm_timer_cancel(&apic->timer);
	if ((apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) == TIMER_DEADLINE || !apic->timer_initial ||
	    apic->timer_start_ns == TIMER_OVER)
		return;
	vm_timer_arm(&apic->timer, apic->timer_start_ns + ticks_to_ns(apic, apic->timer_initial));
}

/* A new divider applies to the rest of the count. */
static void timer_divide_write(struct lapic *apic, uint32_t value)
{
	uint32_t rest = timer_current(apic);
	apic->timer_divide = value & 0xb;
	if (!rest)
		return;
	apic->timer_start_ns = vm_clock_ns(apic->device.vm) -
			       ticks_to_ns(apic, (uint64_t)apic->timer_initial - rest);
	timer_start(apic);
}

static void deadline_write(struct lapic *apic, uint64_t value)
{
	if ((apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) != TIMER_DEADLINE)
		return;
	apic->tsc_deadline = value;
	if (value)
		vm_timer_arm(&apic->timer, vm_tsc_to_clock(apic->device.vm, value) + 1);
	else
		vm_timer_cancel(&apic->timer);
}

static void timer_due(void *opaque)
{
	struct lapic *apic = opaque;
	uint32_t lvt = apic->lvt[LVT_TIMER];
	apic->tsc_deadline = 0;
	if ((lvt & LVT_TIMER_MODE) == TIMER_PERIODIC && apic->timer_initial) {
		int64_t period = MAX(ticks_to_ns(apic, apic->timer_initial), 1000);
		int64_t now = vm_clock_ns(apic->device.vm);
		int64_t next = apic->timer.deadline_ns + period;
		/* Ticks that a busy host has made us miss are dropped, not made up for. */
		if (next < now)
			next = now + period - (now - next) % period;
		apic->timer_start_ns = next - period;
		vm_timer_arm(&apic->timer, next);
	} else if ((lvt & LVT_TIMER_MODE) == TIMER_ONE_SHOT) {
		apic->timer_start_ns = TIMER_OVER; /* so that a restored one does not fire again */
	}
	if (!(lvt & LVT_MASKED))
		lapic_receive(apic, DELIVER_FIXED, (uint8_t)lvt, false);
}

static void lvt_write(struct lapic *apic, unsigned index, uint32_t value)
{
	uint32_t old = apic->lvt[index];
	value &= lvt_writable[index];
	if (!(apic->svr & APIC_SVR_ENABLE))
		value |= LVT_MASKED;
	apic->lvt[index] = value;
	/* To and from TSC-deadline mode the timer is disarmed; else it counts on (10.5.4.1). */
	if (index == LVT_TIMER && ((old ^ value) & TIMER_DEADLINE)) {
		apic->tsc_deadline = 0;
		apic->timer_initial = 0;
		vm_timer_cancel(&apic->timer);
	}
	if (index == LVT_LINT0)
		refresh(apic);
}

/* --- Registers --- */

static void report_error(struct lapic *apic, uint32_t bit)
{
	apic->esr_pending |= bit;
	if (!(apic->lvt[LVT_ERROR] & LVT_MASKED))
		lapic_receive(apic, DELIVER_FIXED, (uint8_t)apic->lvt[LVT_ERROR], false);
}

static void end_of_interrupt(struct lapic *apic)
{
	int vector = highest(apic->isr);
	if (vector < 0)
		return;
	bit_clear(apic->isr, (unsigned)vector);
	if (bit_test(apic->tmr, (unsigned)vector) && apic->bus->ioapic) {
		g_mutex_lock(&apic->device.vm->lock);
		ioapic_eoi(apic->bus->ioapic, (uint8_t)vector);
		g_mutex_unlock(&apic->device.vm->lock);
	}
	refresh(apic);
}

static uint32_t ldr_read(const struct lapic *apic)
{
	uint32_t id = apic->vcpu->index;
	return lapic_is_x2apic(apic) ? (id >> 4) << 16 | 1u << (id & 15) : apic->ldr;
}

static bool register_read(struct lapic *apic, uint32_t reg, uint64_t *value)
{
	bool x2apic = lapic_is_x2apic(apic);
	unsigned word = reg >> 4 & 7;
	*value = 0;
	if (reg >= REG_ISR && reg < REG_TMR)
		*value = apic->isr[word];
	else if (reg >= REG_TMR && reg < REG_IRR)
		*value = __atomic_load_n(&apic->tmr[word], __ATOMIC_SEQ_CST);
	else if (reg >= REG_IRR && reg < REG_ESR)
		*value = __atomic_load_n(&apic->irr[word], __ATOMIC_SEQ_CST);
	else if (reg >= REG_LVT && reg <= REG_LVT_END)
		*value = apic->lvt[(reg - REG_LVT) >> 4];
	else if (reg == REG_ID)
		*value = x2apic ? apic->vcpu->index : apic->id << 24;
	else if (reg == REG_VERSION)
		*value = (LVT_COUNT - 1) << 16 | 0x14;
	else if (reg == REG_TPR)
		*value = apic->tpr;
	else if (reg == REG_PPR)
		*value = processor_priority(apic);
	else if (reg == REG_LDR)
		*value = ldr_read(apic);
	else if (reg == REG_DFR && !x2apic)
		*value = apic->dfr;
	else if (reg == REG_SVR)
		*value = apic->svr;
	else if (reg == REG_ESR)
		*value = apic->esr;
	else if (reg == REG_ICR)
		*value = x2apic ? apic->icr : (uint32_t)apic->icr;
	else if (reg == REG_ICR2 && !x2apic)
		*value = apic->icr >> 32;
	else if (reg == REG_INITIAL)
		*value = apic->timer_initial;
	else if (reg == REG_CURRENT)
		*value = timer_current(apic);
	else if (reg == REG_DIVIDE)
		*value = apic->timer_divide;
	else
		return !x2apic && (reg == REG_APR || reg == REG_EOI);
	return true;
}

static void svr_write(struct lapic *apic, uint32_t value)
{
	apic->svr = value & 0x3ff;
	if (!(value & APIC_SVR_ENABLE)) {
		for (unsigned i = 0; i < LVT_COUNT; i++)
			apic->lvt[i] |= LVT_MASKED;
	}
	refresh(apic);
}

/* Bits that x2APIC refuses with #GP when set; 0 where any are taken. */
static uint64_t x2apic_reserved(uint32_t reg)
{
	switch (reg) {
	case REG_TPR:
		return ~UINT64_C(0xff);
	case REG_EOI:
	case REG_ESR:
		return UINT64_MAX;
	case REG_SVR:
		return ~UINT64_C(0x3ff);
	case REG_ICR:
		return UINT64_C(0xfff32000);
	case REG_INITIAL:
		return ~UINT64_C(0xffffffff);
	case REG_DIVIDE:
		return ~UINT64_C(0xb);
	case REG_SELF_IPI:
		return ~UINT64_C(0xff);
	default:
		if (reg >= REG_LVT && reg <= REG_LVT_END)
			return ~(uint64_t)(lvt_writable[(reg - REG_LVT) >> 4] | LVT_PENDING |
					   0x4000);
		return 0;
	}
}

static bool register_write(struct lapic *apic, uint32_t reg, uint64_t value)
{
	bool x2apic = lapic_is_x2apic(apic);
	uint32_t low = (uint32_t)value;
	if (x2apic && (value & x2apic_reserved(reg)))
		return false;
	if (reg >= REG_LVT && reg <= REG_LVT_END) {
		lvt_write(apic, (reg - REG_LVT) >> 4, low);
	} else if (reg == REG_EOI) {
		end_of_interrupt(apic);
	} else if (reg == REG_TPR) {
		apic->tpr = low & 0xff;
		refresh(apic);
	} else if (reg == REG_ICR) {
		apic->icr = x2apic ? value : (apic->icr & ~UINT64_C(0xffffffff)) | low;
		lapic_send_ipi(apic, apic->icr & ~(uint64_t)LVT_PENDING);
	} else if (reg == REG_ICR2 && !x2apic) {
		apic->icr = (apic->icr & 0xffffffff) | (value & 0xff000000) << 32;
	} else if (reg == REG_SVR) {
		svr_write(apic, low);
	} else if (reg == REG_ESR) {
		apic->esr = apic->esr_pending;
		apic->esr_pending = 0;
	} else if (reg == REG_INITIAL) {
		if ((apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) == TIMER_DEADLINE)
			return true;
		apic->timer_initial = low;
		apic->timer_start_ns = vm_clock_ns(apic->device.vm);
		timer_start(apic);
	} else if (reg == REG_DIVIDE) {
		timer_divide_write(apic, low);
		timer_start(apic);
	} else if (reg == REG_SELF_IPI && x2apic) {
		lapic_receive(apic, DELIVER_FIXED, (uint8_t)low, false);
	} else if (x2apic) {
		return false;
	} else if (reg == REG_ID) {
		apic->id = low >> 24;
	} else if (reg == REG_LDR) {
		apic->ldr = low & 0xff000000;
	} else if (reg == REG_DFR) {
		apic->dfr = low | 0x0fffffff;
	} else {
		report_error(apic, ESR_ILLEGAL_REGISTER);
	}
	return true;
}

/* --- Reset --- */

static void reset_registers(struct lapic *apic)
{
	apic->ldr = apic->tpr = apic->esr = apic->esr_pending = 0;
	apic->dfr = UINT32_MAX;
	apic->svr = 0xff;
	apic->icr = 0;
	apic->tsc_deadline = 0;
	apic->timer_initial = apic->timer_divide = 0;
	apic->timer_start_ns = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		apic->lvt[i] = LVT_MASKED;
	/* A PC's firmware leaves the 8259 in virtual wire mode; without firmware so do we. */
	if (apic->vcpu->index == 0)
		apic->lvt[LVT_LINT0] = DELIVER_EXTINT << 8;
	memset(apic->isr, 0, sizeof(apic->isr));
	memset(apic->irr, 0, sizeof(apic->irr));
	memset(apic->tmr, 0, sizeof(apic->tmr));
	vm_timer_cancel(&apic->timer);
}

/* --- Registers inside the accelerator --- */

static uint32_t page_get(const struct lapic_regs *regs, unsigned reg)
{
	uint32_t value;
	memcpy(&value, regs->page + reg, 4);
	return value;
}

static void page_set(struct lapic_regs *regs, unsigned reg, uint32_t value)
{
	memcpy(regs->page + reg, &value, 4);
}

static bool push_to_kernel(struct lapic *apic, GError **error)
{
	struct vm *vm = apic->device.vm;
	struct lapic_regs regs = {.base_msr = apic->base_msr,
				  .tsc_deadline = apic->tsc_deadline,
				  .kvm_wall_clock = apic->kvm_wall_clock,
				  .kvm_system_time = apic->kvm_system_time};
	static const uint16_t plain[] = {REG_ID,      REG_VERSION, REG_TPR,   REG_LDR,
					 REG_DFR,     REG_SVR,     REG_ESR,   REG_ICR,
					 REG_INITIAL, REG_CURRENT, REG_DIVIDE};
	for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++) {
		uint64_t value;
		register_read(apic, plain[i], &value);
		page_set(&regs, plain[i], (uint32_t)value);
	}
	/* The kernel takes a count of 0 for one that ends now. */
	if (apic->timer_start_ns == TIMER_OVER &&
	    (apic->lvt[LVT_TIMER] & LVT_TIMER_MODE) == TIMER_ONE_SHOT)
		page_set(&regs, REG_INITIAL, 0);
	page_set(&regs, REG_ICR2, (uint32_t)(apic->icr >> 32));
	for (unsigned i = 0; i < LVT_COUNT; i++)
		page_set(&regs, REG_LVT + 16 * i, apic->lvt[i]);
	for (unsigned i = 0; i < 8; i++) {
		page_set(&regs, REG_ISR + 16 * i, apic->isr[i]);
		page_set(&regs, REG_TMR + 16 * i, apic->tmr[i]);
		page_set(&regs, REG_IRR + 16 * i, apic->irr[i]);
	}
	return vm->accel->irq->set_chip(vm, CHIP_LAPIC, apic->vcpu->index, &regs, error);
}

/* --- INIT and reset --- */

static void take_init(struct lapic *apic)
{
	if (__atomic_exchange_n(&apic->init_pending, false, __ATOMIC_SEQ_CST)) {
		reset_registers(apic);
		refresh(apic);
	}
}

static void reset(struct device *device)
{
	struct lapic *apic = (struct lapic *)device;
	apic->base_msr = UINT64_C(0xfee00000) | APIC_BASE_ENABLE |
			 (apic->vcpu->index == 0 ? APIC_BASE_BSP : 0);
	apic->id = apic->vcpu->index & 0xff;
	apic->init_pending = false;
	apic->kvm_wall_clock = apic->kvm_system_time = 0;
	reset_registers(apic);
	if (apic->vcpu->intc)
		set_intr(apic, false);
	else
		push_to_kernel(apic, NULL);
}

/* --- The processor's side: struct vcpu_intc_ops --- */

static int intc_ack(void *intc)
{
	struct lapic *apic = intc;
	take_init(apic);
	int vector = deliverable(apic);
	if (vector >= 0) {
		bit_clear(apic->irr, (unsigned)vector);
		bit_set(apic->isr, (unsigned)vector);
	} else if (extint_waits(apic)) {
		g_mutex_lock(&apic->device.vm->lock);
		if (i8259_pending(apic->bus->pic))
			vector = i8259_acknowledge(apic->bus->pic);
		g_mutex_unlock(&apic->device.vm->lock);
	}
	refresh(apic);
	return vector;
}

static bool base_write(struct lapic *apic, uint64_t value)
{
	bool on = value & APIC_BASE_ENABLE, x2apic = value & APIC_BASE_X2APIC;
	bool was_on = apic->base_msr & APIC_BASE_ENABLE;
	if ((value & ~(APIC_BASE_ADDRESS | 0xd00)) || (x2apic && !on) ||
	    (lapic_is_x2apic(apic) && on && !x2apic) || (!was_on && on && x2apic))
		return false;
	apic->base_msr = (value & ~(uint64_t)APIC_BASE_BSP) | (apic->base_msr & APIC_BASE_BSP);
	if (was_on && !on) {
		reset_registers(apic);
		apic->id = apic->vcpu->index & 0xff;
	}
	refresh(apic);
	return true;
}

static bool intc_msr_read(void *intc, uint32_t index, uint64_t *value)
{
	struct lapic *apic = intc;
	take_init(apic);
	if (index >= MSR_X2APIC && index <= MSR_X2APIC_END)
		return lapic_is_x2apic(apic) &&
		       register_read(apic, (index - MSR_X2APIC) << 4, value);
	if (index == MSR_APIC_BASE) {
		*value = apic->base_msr;
		return true;
	}
	if (index == MSR_TSC_DEADLINE) {
		*value = apic->tsc_deadline;
		return true;
	}
	return kvmclock_msr_read(apic, index, value);
}

static bool intc_msr_write(void *intc, uint32_t index, uint64_t value)
{
	struct lapic *apic = intc;
	take_init(apic);
	if (index >= MSR_X2APIC && index <= MSR_X2APIC_END)
		return lapic_is_x2apic(apic) &&
		       register_write(apic, (index - MSR_X2APIC) << 4, value);
	if (index == MSR_APIC_BASE)
		return base_write(apic, value);
	if (index == MSR_TSC_DEADLINE) {
		deadline_write(apic, value);
		return true;
	}
	return kvmclock_msr_write(apic, index, value);
}

static uint64_t intc_tpr_read(void *intc)
{
	const struct lapic *apic = intc;
	return apic->tpr >> 4;
}

static void intc_tpr_write(void *intc, uint64_t value)
{
	struct lapic *apic = intc;
	apic->tpr = (uint32_t)(value & 15) << 4;
	refresh(apic);
}

static uint64_t intc_mmio_read(void *intc, uint64_t offset, unsigned size)
{
	struct lapic *apic = intc;
	uint64_t value = 0;
	take_init(apic);
	if ((offset & 15) + size > 4)
		return 0;
	register_read(apic, (uint32_t)offset & ~15u, &value);
	return value >> (8 * (offset & 15));
}

static void intc_mmio_write(void *intc, uint64_t offset, uint64_t value, unsigned size)
{
	struct lapic *apic = intc;
	take_init(apic);
	if (!(offset & 15) && size == 4)
		register_write(apic, (uint32_t)offset, value);
}

static uint64_t intc_mmio_base(void *intc)
{
	const struct lapic *apic = intc;
	if ((apic->base_msr & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) != APIC_BASE_ENABLE)
		return UINT64_MAX;
	return apic->base_msr & APIC_BASE_ADDRESS;
}

enum { HC_KICK_CPU = 5, HC_SEND_IPI = 10, HC_UNKNOWN = -1000 };

static int64_t intc_hypercall(void *intc, uint64_t number, const uint64_t args[4])
{
	struct lapic *apic = intc;
	struct lapic_bus *bus = apic->bus;
	if (number == HC_KICK_CPU && args[1] < bus->count) {
		struct vcpu *target = bus->lapics[args[1]]->vcpu;
		if (target->accel->local && target->accel->local->unhalt)
			target->accel->local->unhalt(target);
		return 0;
	}
	if (number != HC_SEND_IPI)
		return HC_UNKNOWN;
	int64_t reached = 0;
	for (unsigned bit = 0; bit < 128; bit++) {
		uint64_t id = args[2] + bit;
		if (!(args[bit / 64] >> (bit % 64) & 1) || id >= bus->count)
			continue;
		lapic_receive(bus->lapics[id], args[3] >> 8 & 7, (uint8_t)args[3], false);
		reached++;
	}
	return reached;
}

static const struct vcpu_intc_ops intc_ops = {
	.ack = intc_ack,
	.msr_read = intc_msr_read,
	.msr_write = intc_msr_write,
	.tpr_read = intc_tpr_read,
	.tpr_write = intc_tpr_write,
	.mmio_read = intc_mmio_read,
	.mmio_write = intc_mmio_write,
	.mmio_base = intc_mmio_base,
	.hypercall = intc_hypercall,
};

/* --- Messages to this APIC: any thread --- */

void lapic_receive(struct lapic *apic, enum delivery delivery, uint8_t vector, bool level)
{
	const struct accel_local_ops *local = apic->vcpu->accel->local;
	switch (delivery) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST:
		if (!lapic_is_on(apic))
			return;
		if (vector < 16) {
			apic->esr_pending |= ESR_RECEIVE_ILLEGAL;
			return;
		}
		if (level)
			bit_set(apic->tmr, vector);
		else
			bit_clear(apic->tmr, vector);
		bit_set(apic->irr, vector);
		set_intr(apic, true);
		break;
	case DELIVER_EXTINT:
		set_intr(apic, true);
		break;
	case DELIVER_NMI:
		local->nmi(apic->vcpu);
		break;
	case DELIVER_INIT:
		__atomic_store_n(&apic->init_pending, true, __ATOMIC_SEQ_CST);
		local->init(apic->vcpu);
		break;
	case DELIVER_SIPI:
		local->sipi(apic->vcpu, vector);
		break;
	case DELIVER_SMI: /* no SMM: the line leads nowhere */
		break;
	}
}

/* --- Saved state --- */

static void pre_save(void *object)
{
	struct lapic *apic = object;
	struct vm *vm = apic->device.vm;
	struct lapic_regs regs;
	apic->lint0_level = apic->vcpu->index == 0 && apic->bus->lint0.level;
	if (!(vm->accel_caps & ACCEL_IRQCHIP) ||
	    !vm->accel->irq->get_chip(vm, CHIP_LAPIC, apic->vcpu->index, &regs, NULL))
		return;
	apic->base_msr = regs.base_msr;
	apic->tsc_deadline = regs.tsc_deadline;
	apic->tpr = page_get(&regs, REG_TPR);
	apic->ldr = page_get(&regs, REG_LDR);
	apic->dfr = page_get(&regs, REG_DFR);
	apic->svr = page_get(&regs, REG_SVR);
	apic->esr = page_get(&regs, REG_ESR);
	apic->icr = page_get(&regs, REG_ICR) | (uint64_t)page_get(&regs, REG_ICR2) << 32;
	apic->timer_initial = page_get(&regs, REG_INITIAL);
	apic->timer_divide = page_get(&regs, REG_DIVIDE);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		apic->lvt[i] = page_get(&regs, REG_LVT + 16 * i);
	for (unsigned i = 0; i < 8; i++) {
		apic->isr[i] = page_get(&regs, REG_ISR + 16 * i);
		apic->tmr[i] = page_get(&regs, REG_TMR + 16 * i);
		apic->irr[i] = page_get(&regs, REG_IRR + 16 * i);
	}
	apic->kvm_wall_clock = regs.kvm_wall_clock;
	apic->kvm_system_time = regs.kvm_system_time;
	/* The kernel gives what is left of the count: as if it had been started so long ago. */
	uint64_t passed = apic->timer_initial - page_get(&regs, REG_CURRENT);
	apic->timer_start_ns = vm_clock_ns(vm) - ticks_to_ns(apic, passed);
}

static void attach_intc(struct lapic *apic)
{
	bool in_kernel = apic->device.vm->accel_caps & ACCEL_IRQCHIP;
	apic->vcpu->intc = in_kernel ? NULL : &intc_ops;
	apic->vcpu->intc_data = apic;
}

static bool post_load(void *object, GError **error)
{
	struct lapic *apic = object;
	bool on = apic->base_msr & APIC_BASE_ENABLE, x2apic = apic->base_msr & APIC_BASE_X2APIC;
	if ((apic->base_msr & ~(APIC_BASE_ADDRESS | 0xd00)) || (x2apic && !on) || apic->id > 0xff ||
	    apic->tpr > 0xff || apic->svr > 0x3ff || (apic->timer_divide & ~0xbu))
		return error_set(error, LODGE_ERROR_CORRUPT, "impossible local APIC state");
	for (unsigned i = 0; i < LVT_COUNT; i++)
		apic->lvt[i] &= lvt_writable[i] | LVT_MASKED;
	attach_intc(apic);
	if (!apic->vcpu->intc) {
		vm_timer_cancel(&apic->timer);
		return push_to_kernel(apic, error);
	}
	kvmclock_restore(apic);
	if (apic->timer_start_ns != TIMER_OVER)
		apic->timer_start_ns = CLAMP(apic->timer_start_ns, -(INT64_C(1) << 40),
					     vm_clock_ns(apic->device.vm));
	vm_timer_cancel(&apic->timer);
	if (apic->vcpu->index == 0)
		apic->bus->lint0.level = apic->lint0_level;
	if (apic->tsc_deadline)
		deadline_write(apic, apic->tsc_deadline);
	else
		timer_start(apic);
	refresh(apic);
	return true;
}

static const struct state_field fields[] = {
	STATE_SCALAR(struct lapic, base_msr),
	STATE_SCALAR(struct lapic, tsc_deadline),
	STATE_SCALAR(struct lapic, id),
	STATE_SCALAR(struct lapic, ldr),
	STATE_SCALAR(struct lapic, dfr),
	STATE_SCALAR(struct lapic, svr),
	STATE_SCALAR(struct lapic, tpr),
	STATE_SCALAR(struct lapic, esr),
	STATE_SCALAR(struct lapic, esr_pending),
	STATE_ARRAY(struct lapic, lvt),
	STATE_SCALAR(struct lapic, icr),
	STATE_SCALAR(struct lapic, timer_initial),
	STATE_SCALAR(struct lapic, timer_divide),
	STATE_SCALAR(struct lapic, timer_start_ns),
	STATE_ARRAY(struct lapic, isr),
	STATE_ARRAY(struct lapic, irr),
	STATE_ARRAY(struct lapic, tmr),
	STATE_SCALAR(struct lapic, lint0_level),
	STATE_SCALAR(struct lapic, init_pending),
	STATE_SCALAR(struct lapic, kvm_wall_clock),
	STATE_SCALAR(struct lapic, kvm_system_time),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .pre_save = pre_save,
					 .post_load = post_load};

/* --- Made and freed --- */

static void lapic_free(struct device *device)
{
	struct lapic *apic = (struct lapic *)device;
	struct lapic_bus *bus = apic->bus;
	vm_timer_cancel(&apic->timer);
	apic->vcpu->intc = NULL;
	if (--bus->count == 0) {
		device->vm->msi = NULL;
		g_free(bus->lapics);
		g_free(bus);
	}
	g_free(apic);
}

static const struct device_class class = {
	.name = "local-apic", .reset = reset, .free = lapic_free, .state = &state};

struct lapic *lapic_new(struct lapic_bus *bus, struct vcpu *vcpu)
{
	struct lapic *apic = g_new0(struct lapic, 1);
	apic->bus = bus;
	apic->vcpu = vcpu;
	device_add(bus->vm, &apic->device, &class, NULL);
	vcpu_timer_init(&apic->timer, vcpu, timer_due, apic);
	attach_intc(apic);
	reset(&apic->device);
	return apic;
}
