/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm/accel-ops.h"

/*
 * One virtual processor: a thread that asks the accelerator to run, and sleeps while the machine is
 * paused or the processor is halted.
 */

struct timer_queue;

/* What a local APIC gives to a processor that has none of its own. Called on the vCPU's thread. */
struct vcpu_intc_ops {
	int (*ack)(void *intc); /* vector of the interrupt to take now, or -1 */
	bool (*msr_read)(void *intc, uint32_t index, uint64_t *value);
	bool (*msr_write)(void *intc, uint32_t index, uint64_t value);
	uint64_t (*tpr_read)(void *intc);
	void (*tpr_write)(void *intc, uint64_t value);
	/* The window at the APIC base, which only this processor sees: offset 0-0xfff. */
	uint64_t (*mmio_read)(void *intc, uint64_t offset, unsigned size);
	void (*mmio_write)(void *intc, uint64_t offset, uint64_t value, unsigned size);
	/* Guest-physical address of that window, or UINT64_MAX while it is off (x2APIC, disabled).
	 */
	uint64_t (*mmio_base)(void *intc);
	/* KVM_HC_KICK_CPU, KVM_HC_SEND_IPI: result for RAX (-1000 for an unknown number). */
	int64_t (*hypercall)(void *intc, uint64_t number, const uint64_t args[4]);
};

struct vcpu_stats {
	uint64_t halts, port_reads, port_writes, mmio_reads, mmio_writes, kicks;
};

struct vcpu {
	struct vm *vm;
	unsigned index; /* also the APIC id */
	const struct accel_ops *accel;
	void *accel_data;                 /* of the accelerator */
	const struct vcpu_intc_ops *intc; /* NULL with an in-kernel one */
	void *intc_data;
	struct timer_queue *timers; /* served by this thread */
	GThread *thread;
	_Atomic int tid;
	_Atomic uint32_t wake;       /* futex word: counts wake-ups */
	_Atomic bool stop_requested; /* leave run and pause */
	_Atomic bool timer_fired;
	_Atomic uint32_t sleeping;
	bool running;            /* inside its loop's running part; under vm->run_mutex */
	bool exiting, open;      /* open: the accelerator has its half */
	struct vcpu_stats stats; /* written by its thread alone */
};

/* Wakes the vCPU from HLT and makes it look at its state. Any thread, async-signal-safe. */
void vcpu_kick(struct vcpu *vcpu);
/* Only wakes it from HLT: for whoever has just raised a line that its loop polls anyway. */
void vcpu_wake(struct vcpu *vcpu);
/* The vCPU whose thread this is, or NULL. */
struct vcpu *vcpu_current(void);

/* An access by this vCPU's guest code, with statistics. The APIC page is looked up first. */
uint64_t vcpu_port_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void vcpu_port_write(struct vcpu *vcpu, uint16_t port, uint32_t value, unsigned size);
uint64_t vcpu_mmio_read(struct vcpu *vcpu, uint64_t gpa, unsigned size);
void vcpu_mmio_write(struct vcpu *vcpu, uint64_t gpa, uint64_t value, unsigned size);

/* --- For vm.c --- */
struct vcpu *vcpu_new(struct vm *vm, unsigned index);
bool vcpu_launch(struct vcpu *vcpu, GError **error); /* makes the thread; it waits for vm_start */
void vcpu_stop_thread(struct vcpu *vcpu);            /* ends the thread */
void vcpu_free(struct vcpu *vcpu);
