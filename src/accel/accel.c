// SPDX-License-Identifier: GPL-2.0-or-later
/* The choice between accelerators, and the move of a running machine from one to another. */
#include "accel/accel.h"

#include <string.h>

#include "accel/kvm-internal.h"
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

bool accel_set_model(struct vm *vm, const struct cpu_model *model, GError **error)
{
	struct cpu_model *copy = g_memdup2(model, sizeof(*model));
	copy->movable |= vm->fallback != NULL;
	if (copy->movable && (vm->accel == &accel_kvm || vm->fallback == &accel_kvm) &&
	    !accel_kvm_lacks(&copy->hidden, error)) {
		g_free(copy);
		return false;
	}
	g_free(vm->cpu_model);
	vm->cpu_model = copy;
	return true;
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

static void close_present(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		vm->accel->vcpu_close(vm->vcpus[i]);
		vm->vcpus[i]->open = false;
	}
	for (guint i = 0; i < vm->mappings->len; i++)
		vm->accel->unmap(vm, vm->mappings->pdata[i]);
	vm->accel->close(vm);
}

static bool fill_new(struct vm *vm, const struct cpu_state *states, GError **error)
{
	for (guint i = 0; i < vm->mappings->len; i++) {
		struct ram_mapping *mapping = vm->mappings->pdata[i];
		if (!vm->accel->map(vm, mapping, error) ||
		    (vm->log_users > 0 && !vm->accel->memory->log_start(vm, mapping, error)))
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

/* What the accelerator's dirty log knows must be in our bitmap before it goes. */
static bool sync_logs(struct vm *vm, GError **error)
{
	for (guint i = 0; i < vm->mappings->len && vm->log_users > 0; i++) {
		if (!vm->accel->memory->log_sync(vm, vm->mappings->pdata[i], error))
			return false;
	}
	return true;
}

static bool move(struct vm *vm, const struct accel_ops *to, const struct cpu_state *states,
		 GError **error)
{
	g_autoptr(GByteArray) devices = g_byte_array_new();
	/* Chips inside the old accelerator give their registers in their saved state, and become
	 * the machine's own when that is loaded under the new one. */
	vm_devices_save(vm, devices);
	void *present = vm->accel_data;
	if (!to->open(vm, error)) {
		vm->accel_data = present;
		return false;
	}
	void *opened = vm->accel_data;
	vm->accel_data = present;
	close_present(vm);
	vm->accel_data = opened;
	vm->accel = to;
	vm->accel_caps = to->caps;
	vm->fallback = NULL;
	return fill_new(vm, states, error) &&
	       vm_devices_load(vm, devices->data, devices->len, error);
}

bool accel_switch(struct vm *vm, GError **error)
{
	if (!vm->fallback)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "there is no accelerator to go on with");
	struct cpu_state *states = g_aligned_alloc0(vm->vcpu_count, sizeof(*states), 64);
	bool ok = take_states(vm, states, error) && sync_logs(vm, error) &&
		  move(vm, vm->fallback, states, error);
	g_aligned_free(states);
	return ok;
}
