/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm/accel-ops.h"
#include "vm/device.h"
#include "vm/irq.h"
#include "vm/memory.h"
#include "vm/timer.h"
#include "vm/vcpu.h"
#include "vm/window.h"

/*
 * The machine: memory, windows, devices, processors, clock and run state. The main thread runs its
 * GMainLoop and all vm_* functions below but those marked "any thread".
 *
 * Locks: `lock` (the machine lock) protects chips, windows and interrupt wiring; vCPU threads take
 * it for each access to a chip. It may be held while taking a virtqueue device's lock, never the
 * other way round. `map_lock` protects the table of RAM mappings and is a leaf.
 */

enum run_state {
	RUN_PRELAUNCH, /* made, never started */
	RUN_RUNNING,
	RUN_PAUSED,         /* by request */
	RUN_SHUTDOWN,       /* the guest powered off (and the machine was told to stay) */
	RUN_GUEST_PANICKED, /* pvpanic, or a triple fault with no reboot wanted */
	RUN_INTERNAL_ERROR, /* the accelerator gave up */
	RUN_IO_ERROR,       /* a disk error paused it; resumable */
	RUN_SUSPENDED,      /* ACPI S3 */
};

/* Name as QMP's query-status gives it: "running", "paused", "internal-error"... */
const char *run_state_name(enum run_state state);

enum vm_event_kind {
	VM_EVENT_RESUME,
	VM_EVENT_STOP,
	VM_EVENT_RESET,     /* detail: "guest-reset" or "host-qmp-system-reset" */
	VM_EVENT_SHUTDOWN,  /* detail: "guest-shutdown", "guest-panic", "host-qmp-quit"... */
	VM_EVENT_POWERDOWN, /* the power button was pressed */
	VM_EVENT_GUEST_PANICKED,
	VM_EVENT_ERROR,    /* detail: what happened */
	VM_EVENT_HANDOVER, /* detail: a sentence: from which accelerator to which, and why */
};

typedef void vm_listener_fn(void *opaque, enum vm_event_kind kind, const char *detail);

struct vm {
	GMutex lock;
	const struct accel_ops *accel;
	unsigned accel_caps; /* enum accel_caps that hold for this machine */
	void *accel_data;
	const struct accel_ops *fallback; /* taken at VCPU_EXIT_HANDOVER; NULL: none */
	GMainContext *context;

	GPtrArray *devices;                /* struct device, in the order added */
	GPtrArray *windows[WINDOW_KINDS];  /* struct window, sorted by start */
	int window_priority[WINDOW_KINDS]; /* the highest there ever was */
	GRWLock map_lock;
	GPtrArray *rams, *mappings; /* struct ram; struct ram_mapping sorted by gpa */
	int log_users;
	struct vcpu **vcpus;
	unsigned vcpu_count;
	struct timer_queue *timers; /* served by the main loop */
	GSource *timer_source;

	/* Run state; run_mutex and run_cond order vCPU threads against start and stop. */
	GMutex run_mutex;
	GCond run_cond;
	enum run_state state;
	bool vcpus_may_run; /* under run_mutex */
	unsigned vcpus_running;
	_Atomic unsigned
		requests; /* enum of vm.c: reset, shutdown, ... handled on the main thread */
	const char *request_detail[8]; /* by request bit; interned strings, under run_mutex */
	GSource *request_source;

	/* Clock: virtual time = CLOCK_MONOTONIC - clock_offset while running, clock_frozen else. */
	_Atomic int64_t clock_offset, clock_frozen;
	_Atomic bool clock_running;
	int64_t rtc_offset_ns;
	uint64_t tsc_hz;     /* of the host; guests see the same rate */
	int64_t tsc_offset;  /* guest TSC = host TSC + this, set at each start */
	uint64_t tsc_frozen; /* guest TSC while the clock does not run */

	struct irq_line *power_button; /* set by the ACPI chip: pulsed by vm_powerdown */
	/* Where MSIs go without an in-kernel irqchip (set by the local APICs). Any thread, no lock.
	 */
	void (*msi)(void *opaque, uint64_t address, uint32_t data);
	void *msi_opaque;
	/* Called at reset after the devices: sets the processors' start state and reloads what is
	 * loaded at start (kernel, firmware copies). */
	bool (*load)(void *opaque, GError **error);
	void *load_opaque;

	/* Moves every vCPU and the chips inside the accelerator to `fallback` (accel/'s). The vCPUs
	 * are paused. */
	bool (*switch_accel)(struct vm *vm, GError **error);
	bool no_reboot;  /* a guest's reset ends the machine instead */
	void *cpu_model; /* the accelerators': accel_set_model */
	GArray *listeners;
};

/* A machine without processors or devices. @accel is opened; on failure NULL. */
struct vm *vm_new(const struct accel_ops *accel, GMainContext *context, GError **error);
/* Stops and frees everything. */
void vm_free(struct vm *vm);
/* Makes @count processors (not yet running). */
bool vm_add_vcpus(struct vm *vm, unsigned count, GError **error);
void vm_add_listener(struct vm *vm, vm_listener_fn *fn, void *opaque);

/* Runs the machine from whatever state it is in (after the first reset). Main thread. */
bool vm_start(struct vm *vm, GError **error);
/* Pauses all vCPUs, waits until each stands at an instruction boundary, stops the clock, and enters
 * @state. Main thread. */
void vm_stop(struct vm *vm, enum run_state state);
/* Power-on reset of devices and processors. Keeps running if it ran. Main thread. */
bool vm_reset(struct vm *vm, GError **error);
/* Presses the power button. */
void vm_powerdown(struct vm *vm);

/* Any thread: asks the main thread to reset, to end, or to stop with an error. @detail as in the
 * event. They return at once; the calling vCPU stops at its next exit. */
void vm_request_reset(struct vm *vm, const char *detail);
void vm_request_shutdown(struct vm *vm, const char *detail);
void vm_request_panic(struct vm *vm, const char *detail);
void vm_report_internal_error(struct vm *vm, const char *detail);
/* A vCPU's accelerator returned VCPU_EXIT_HANDOVER: moves the whole machine to vm->fallback. */
void vm_request_handover(struct vm *vm, const char *detail);
void vm_request_io_stop(struct vm *vm, const char *detail); /* disk error policy: pause */

/* Sends a message-signalled interrupt. Any thread. */
void vm_send_msi(struct vm *vm, uint64_t address, uint32_t data);

/* The guest's TSC now, and the virtual time at which it will be @tsc. Any thread. */
uint64_t vm_tsc(struct vm *vm);
int64_t vm_tsc_to_clock(struct vm *vm, uint64_t tsc);

/* For a machine on the test accelerator: moves the clock and fires what became due. */
void vm_clock_advance(struct vm *vm, int64_t ns);

/* Any thread but a vCPU's: runs @fn on the main thread soon, with the machine lock held. */
void vm_call_main(struct vm *vm, void (*fn)(void *opaque), void *opaque);

void vm_emit(struct vm *vm, enum vm_event_kind kind, const char *detail);
