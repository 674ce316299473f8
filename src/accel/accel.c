// SPDX-License-Identifier: GPL-2.0-or-later
/* The choice between accelerators, and the move of a running machine from one to another. */
#include "accel/accel.h"

#include <string.h>

#include "base/error.h"
#include "vm/vm.h"

/* Below this, KVM's supervisor code runs in its instruction emulator, and the software processor is
 * faster by far. */
#define PROBE_MIPS_WANTED 200.0

static bool choose_auto(struct accel_choice *choice)
{
	struct accel_probe probe = {0};
	accel_probe_kvm(&probe);
	if (probe.usable && probe.ring0_mips >= PROBE_MIPS_WANTED) {
		choice->accel = &accel_kvm;
		choice->reason = g_strdup_printf(
			"KVM runs supervisor code at %.0f million instructions a second",
			probe.ring0_mips);
	} else if (probe.usable) {
		choice->accel = &accel_soft;
		choice->reason = g_strdup_printf(
			"KVM here runs supervisor code at only %.1f million instructions a second",
			probe.ring0_mips);
	} else {
		choice->accel = &accel_soft;
		choice->reason = g_strdup(probe.obstacle);
	}
	g_free(probe.obstacle);
	return true;
}

bool accel_choose(const char *spec, struct accel_choice *choice, GError **error)
{
	*choice = (struct accel_choice){0};
	if (strcmp(spec, "auto") == 0)
		return choose_auto(choice);
	if (strcmp(spec, "soft") == 0) {
		choice->accel = &accel_soft;
	} else if (strcmp(spec, "kvm") == 0) {
		choice->accel = &accel_kvm;
	} else if (strcmp(spec, "kvm,soft") == 0) {
		choice->accel = &accel_kvm;
		choice->fallback = &accel_soft;
	} else {
		return error_set(error, LODGE_ERROR_INVALID,
				 "there is no accelerator '%s': say auto, kvm, soft or kvm,soft",
				 spec);
	}
	return true;
}

void accel_set_model(struct vm *vm, const struct cpu_model *model)
{
	g_free(vm->cpu_model);
	vm->cpu_model = g_memdup2(model, sizeof(*model));
}

const struct cpu_model *accel_model(struct vm *vm)
{
	g_assert(vm->cpu_model);
	return vm->cpu_model;
}

static bool take_states(struct vm *vm, struct cpu_state *states, GError **error)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		if (!vm->accel->get_state(vm->vcpus[i], &states[i], error))
			return false;
	}
	return true;
}

static bool open_new(struct vm *vm, const struct cpu_state *states, GError **error)
{
	if (!vm->accel->open(vm, error))
		return false;
	for (guint i = 0; i < vm->mappings->len; i++) {
		if (!vm->accel->map(vm, vm->mappings->pdata[i], error))
			return false;
	}
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = vm->vcpus[i];
		vcpu->accel = vm->accel;
		if (!vm->accel->vcpu_open(vcpu, error))
			return false;
		vcpu->open = true;
		if (!vm->accel->set_state(vcpu, &states[i], error))
			return false;
	}
	return true;
}

bool accel_switch(struct vm *vm, GError **error)
{
	const struct accel_ops *to = vm->fallback;
	if (!to)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "there is no accelerator to go on with");
	struct cpu_state *states = g_aligned_alloc0(vm->vcpu_count, sizeof(*states), 64);
	g_autoptr(GByteArray) devices = g_byte_array_new();
	if (!take_states(vm, states, error)) {
		g_aligned_free(states);
		return false;
	}
	/* Chips inside the old accelerator give their registers in their saved state, and become
	 * the machine's own when that is loaded under the new one. */
	vm_devices_save(vm, devices);
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		vm->accel->vcpu_close(vm->vcpus[i]);
		vm->vcpus[i]->open = false;
	}
	for (guint i = 0; i < vm->mappings->len; i++)
		vm->accel->unmap(vm, vm->mappings->pdata[i]);
	vm->accel->close(vm);
	vm->accel = to;
	vm->accel_caps = to->caps;
	vm->fallback = NULL;
	bool ok = open_new(vm, states, error) &&
		  vm_devices_load(vm, devices->data, devices->len, error);
	g_aligned_free(states);
	return ok;
}
