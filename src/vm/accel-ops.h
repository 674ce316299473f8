/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * What the machine asks of whatever runs its processors. vm/ knows only these tables; accel/ fills
 * them (kvm, soft, test). Everything is called with the machine's vCPUs as the comments say.
 */

struct vm;
struct vcpu;
struct ram_mapping;
struct cpu_state; /* cpu/state.h: the one architectural state */

enum vcpu_exit {
	VCPU_EXIT_KICK,     /* vcpu_kick, or a signal: look at the requests, run again */
	VCPU_EXIT_HALT,     /* halted with nothing pending */
	VCPU_EXIT_SHUTDOWN, /* triple fault */
	VCPU_EXIT_ERROR,    /* the accelerator cannot go on; vm_report_internal_error was called */
	VCPU_EXIT_HANDOVER, /* KVM cannot execute the next instruction, another accelerator may */
};

enum accel_caps {
	ACCEL_IRQCHIP = 1 << 0,  /* PIC, IOAPIC, local APICs and PIT are inside the accelerator */
	ACCEL_EVENTFDS = 1 << 1, /* ioeventfd and irqfd work */
	ACCEL_NO_CPU = 1 << 2,   /* the test accelerator: vCPUs have no threads */
};

struct accel_ops {
	const char *name;
	unsigned caps; /* what it can at the most; vm->accel_caps has what it does here */
	bool (*open)(struct vm *vm, GError **error);
	void (*close)(struct vm *vm);
	/* Guest-physical mappings came or go; vCPUs are paused or do not exist yet. */
	bool (*map)(struct vm *vm, struct ram_mapping *mapping, GError **error);
	void (*unmap)(struct vm *vm, struct ram_mapping *mapping);
	bool (*vcpu_open)(struct vcpu *vcpu, GError **error);
	void (*vcpu_close)(struct vcpu *vcpu);
	enum vcpu_exit (*run)(struct vcpu *vcpu); /* on the vCPU's thread */
	void (*kick)(struct vcpu *vcpu);          /* any thread, async-signal-safe */
	/* The vCPU does not run. */
	bool (*get_state)(struct vcpu *vcpu, struct cpu_state *state, GError **error);
	bool (*set_state)(struct vcpu *vcpu, const struct cpu_state *state, GError **error);
	const struct accel_memory_ops *memory;
	const struct accel_irq_ops *irq;     /* with ACCEL_IRQCHIP */
	const struct accel_local_ops *local; /* without */
};

/* Dirty logging and writes by devices. */
struct accel_memory_ops {
	bool (*log_start)(struct vm *vm, struct ram_mapping *mapping, GError **error);
	void (*log_stop)(struct vm *vm, struct ram_mapping *mapping);
	/* Merges what the accelerator has logged into the RAM's dirty bitmap. */
	bool (*log_sync)(struct vm *vm, struct ram_mapping *mapping, GError **error);
	/* Bits of the bitmap were cleared: report writes to those pages again. */
	void (*log_rearm)(struct vm *vm, struct ram_mapping *mapping);
	/* A device wrote guest memory (decoded code may be there). May be NULL. */
	void (*ram_written)(struct vm *vm, uint64_t gpa, uint64_t size);
};

/* An interrupt controller inside the accelerator. */
struct accel_irq_ops {
	void (*set_line)(struct vm *vm, unsigned gsi, bool level);
	void (*send_msi)(struct vm *vm, uint64_t address, uint32_t data);
	/* Writes to @address of @size bytes (0: any size) with no vmexit to user space signal @fd.
	 */
	bool (*ioeventfd)(struct vm *vm, uint64_t address, unsigned size, bool is_port, int fd,
			  bool add, GError **error);
	/* Signals on @fd send the MSI; add with a new address replaces the route. */
	bool (*irqfd)(struct vm *vm, unsigned route, uint64_t address, uint32_t data, int fd,
		      bool add, GError **error);
	/* Registers of a chip of chips.h (@index: the vCPU for local APICs). The machine is paused.
	 */
	bool (*get_chip)(struct vm *vm, unsigned chip, unsigned index, void *regs, GError **error);
	bool (*set_chip)(struct vm *vm, unsigned chip, unsigned index, const void *regs,
			 GError **error);
};

/* Wires from a local APIC of ours into a processor without one. Any thread. */
struct accel_local_ops {
	void (*set_intr)(struct vcpu *vcpu, bool level);
	void (*nmi)(struct vcpu *vcpu);
	void (*init)(struct vcpu *vcpu);
	void (*sipi)(struct vcpu *vcpu, uint8_t vector);
	void (*unhalt)(struct vcpu *vcpu);   /* ends HLT even with interrupts off; NULL: cannot */
	bool (*has_work)(struct vcpu *vcpu); /* would run() do anything but report HALT */
};
