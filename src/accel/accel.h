/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "cpu/cpu.h"
#include "vm/accel-ops.h"

/*
 * The accelerators, and the choice between them.
 *   soft  the software processor of cpu/; chips are those of dev/
 *   kvm   /dev/kvm with interrupt controllers and PIT in the kernel
 *   test  no processor at all: a test plays the guest through vm_window_read and _write
 */
extern const struct accel_ops accel_soft, accel_kvm, accel_test;

/* What `--accel` can say. */
struct accel_choice {
	const struct accel_ops *accel;
	const struct accel_ops *fallback; /* for "kvm,soft": taken where KVM cannot go on */
	char *reason;                     /* "auto": a sentence that says why; caller frees */
};

/* Understands "auto", "kvm", "soft", "kvm,soft". "auto" runs the probe guest. */
bool accel_choose(const char *spec, struct accel_choice *choice, GError **error);

/* The processor model that the guests of @vm see. Must be set before vm_add_vcpus and after
 * vm->fallback; @model is copied. A machine that may move between KVM and the software processor
 * (a fallback is set, or model->movable) shows the features that both have. */
bool accel_set_model(struct vm *vm, const struct cpu_model *model, GError **error);
const struct cpu_model *accel_model(struct vm *vm);

/* For vm->switch_accel: takes the state of every vCPU and of the chips inside the present
 * accelerator to vm->fallback, which becomes the accelerator (and fallback NULL). The machine is
 * paused and drained. When the new one does not open, the machine is as before. */
bool accel_switch(struct vm *vm, GError **error);

/* Instructions that the software processor has retired on this vCPU, 0 under others. */
uint64_t accel_insns_retired(struct vcpu *vcpu);

/* What the probe guest found out about KVM on this host. */
struct accel_probe {
	bool usable;       /* the guest ran to its end */
	double ring0_mips; /* speed of supervisor code, millions of instructions a second */
	char *obstacle;    /* the first thing that failed, or NULL; caller frees */
};

/* Runs a small freestanding ring-0 guest under KVM: speed of a counted loop, then instructions that
 * operating systems need (INT3 through the IDT, XGETBV, CMPXCHG16B, POPCNT, SWAPGS, IRETQ...).
 * Takes a few ms. */
void accel_probe_kvm(struct accel_probe *probe);
