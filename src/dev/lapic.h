/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "dev/i8259.h"
#include "dev/ioapic.h"

/*
 * The local APICs of all vCPUs and the bus between them: xAPIC and x2APIC, timer with one-shot,
 * periodic and TSC-deadline modes, IPIs, MSIs, and the KVM paravirtual calls that go with them
 * (KVM_HC_KICK_CPU, KVM_HC_SEND_IPI, the clock MSRs). With an in-kernel irqchip they only carry its
 * saved state. Source: SDM 3A chapter 11; Linux Documentation/virt/kvm/x86 (MSRs, hypercalls).
 *
 * Locks: a vCPU's own registers belong to its thread. What others do to it (set a request bit,
 * INIT, SIPI, NMI) goes through atomics, so deliveries take no lock. End-of-interrupt of a
 * level-triggered vector takes the machine lock to tell the IOAPIC.
 */
struct lapic_bus;

/* One for the machine, after vm_add_vcpus. @timer_hz: what the APIC timer counts at with divider 1.
 */
struct lapic_bus *lapic_bus_new(struct vm *vm, uint64_t timer_hz);
void lapic_bus_connect(struct lapic_bus *bus, struct i8259 *pic, struct ioapic *ioapic);
/* LINT0 of the first local APIC: the 8259's INT. */
struct irq_line *lapic_bus_lint0(struct lapic_bus *bus);
