/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "dev/lapic.h"
#include "vm/chips.h"

/* Between lapic.c (registers of one APIC), lapic-bus.c (messages between them) and kvmclock.c. */

enum { APIC_BASE_BSP = 1 << 8, APIC_BASE_X2APIC = 1 << 10, APIC_BASE_ENABLE = 1 << 11 };
enum { APIC_SVR_ENABLE = 0x100 };

enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

enum delivery {
	DELIVER_FIXED,
	DELIVER_LOWEST,
	DELIVER_SMI,
	DELIVER_NMI = 4,
	DELIVER_INIT,
	DELIVER_SIPI,
	DELIVER_EXTINT,
};

struct lapic {
	struct device device;
	struct lapic_bus *bus;
	struct vcpu *vcpu;
	uint64_t base_msr, tsc_deadline;
	uint32_t id; /* the xAPIC id register's value, not shifted */
	uint32_t ldr, dfr, svr, tpr, esr, esr_pending;
	uint32_t lvt[LVT_COUNT];
	uint64_t icr;
	uint32_t timer_initial, timer_divide;
	int64_t timer_start_ns;
	uint32_t isr[8];
	uint32_t irr[8], tmr[8]; /* any thread sets bits: __atomic */
	bool lint0_level;        /* saved: of the wire at the first one */
	bool init_pending;       /* INIT arrived: __atomic, done by the vCPU's thread */
	uint64_t kvm_wall_clock, kvm_system_time;
	struct vm_timer timer;
};

struct lapic_bus {
	struct vm *vm;
	struct lapic **lapics;
	unsigned count;
	uint64_t timer_hz;
	struct i8259 *pic;
	struct ioapic *ioapic;
	struct irq_line lint0;
};

static inline bool lapic_is_x2apic(const struct lapic *apic)
{
	return (apic->base_msr & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) ==
	       (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
}
static inline bool lapic_is_on(const struct lapic *apic)
{
	return (apic->base_msr & APIC_BASE_ENABLE) && (apic->svr & APIC_SVR_ENABLE);
}

/* Any thread: a message arrives. */
void lapic_receive(struct lapic *apic, enum delivery delivery, uint8_t vector, bool level);
/* Sends @icr on behalf of @from. */
void lapic_send_ipi(struct lapic *from, uint64_t icr);
/* Sends to every APIC that @destination names; @sender skipped when not NULL. The number reached.
 */
unsigned lapic_bus_deliver(struct lapic_bus *bus, uint32_t destination, bool logical, bool wide,
			   enum delivery delivery, uint8_t vector, bool level);
struct lapic *lapic_new(struct lapic_bus *bus, struct vcpu *vcpu);
bool lapic_takes_extint(const struct lapic *apic);

/* KVM's paravirtual clock MSRs (0x4b564d00, 0x4b564d01). False: not one of them. */
bool kvmclock_msr_read(struct lapic *apic, uint32_t index, uint64_t *value);
bool kvmclock_msr_write(struct lapic *apic, uint32_t index, uint64_t value);
/* Writes the page that the guest has chosen anew: another accelerator or host has left it. */
void kvmclock_restore(struct lapic *apic);
