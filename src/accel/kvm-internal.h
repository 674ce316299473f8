/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "accel/accel.h"
#include "vm/vm.h"

/* Between kvm.c (machine and run loop), kvm-state.c (registers), kvm-chips.c (in-kernel chips) and
 * kvm-probe.c. */

struct kvm_vm {
	int kvm_fd, vm_fd;
	size_t run_size;
	struct kvm_cpuid2 *supported;
	struct kvm_irq_routing *routing;
	/* The guest's time goes on at each start: done by the first vCPU that runs. */
	GMutex resume_lock;
	bool resumed;
	int64_t resume_offset;
};

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;
	int64_t tsc_offset;
	bool tsc_set;
};

static inline struct kvm_vm *kvm_of(struct vm *vm)
{
	return vm->accel_data;
}
static inline struct kvm_vcpu *kvm_vcpu_of(struct vcpu *vcpu)
{
	return vcpu->accel_data;
}

/* One MSR at a time: one that this KVM lacks must not hide those behind it. False: it lacks it. */
bool kvm_msr_get(int fd, uint32_t index, uint64_t *value);
bool kvm_msr_set(int fd, uint32_t index, uint64_t value);

/* Opens /dev/kvm and checks its version; the message says what to do about a refusal. */
int kvm_device_open(GError **error);
/* What this KVM can show a guest; NULL with errno. The caller frees. */
struct kvm_cpuid2 *kvm_supported_cpuid(int kvm_fd);
/* The feature bits that KVM on this host does not give. */
bool accel_kvm_lacks(struct cpu_hidden_features *hidden, GError **error);

bool kvm_get_state(struct vcpu *vcpu, struct cpu_state *state, GError **error);
bool kvm_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error);
/* CPUID for this vCPU. */
bool kvm_set_cpuid(struct vcpu *vcpu, GError **error);

/* One line: where the processor stands, the bytes there and, where Zydis is installed, their text.
 */
char *kvm_describe_instruction(struct vcpu *vcpu);

bool kvm_chips_create(struct vm *vm, GError **error);
/* The clock goes on after a pause or a move. Once per start, before any guest code. */
void kvm_chips_resume(struct vm *vm);
/* The vCPU's own timer, after its TSC was set. */
void kvm_lapic_resume(struct vcpu *vcpu);
extern const struct accel_irq_ops kvm_irq_ops;
