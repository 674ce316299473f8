// SPDX-License-Identifier: GPL-2.0-or-later
/* The accelerator without a processor: a test reads and writes windows and guest memory itself, and
 * keeps one state per vCPU as it was set. */
#include <string.h>

#include "accel/accel.h"
#include "vm/vm.h"

static bool test_open(struct vm *vm, GError **error)
{
	return true;
}

static void test_close(struct vm *vm)
{
}

static bool test_map(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	return true;
}

static void test_unmap(struct vm *vm, struct ram_mapping *mapping)
{
}

static bool test_vcpu_open(struct vcpu *vcpu, GError **error)
{
	struct cpu_state *state = g_aligned_alloc0(1, sizeof(struct cpu_state), 64);
	cpu_state_reset(state, vcpu->index == 0);
	vcpu->accel_data = state;
	return true;
}

static void test_vcpu_close(struct vcpu *vcpu)
{
	g_aligned_free(vcpu->accel_data);
}

static enum vcpu_exit test_run(struct vcpu *vcpu)
{
	return VCPU_EXIT_HALT;
}

static void test_kick(struct vcpu *vcpu)
{
}

static bool test_get_state(struct vcpu *vcpu, struct cpu_state *state, GError **error)
{
	memcpy(state, vcpu->accel_data, sizeof(*state));
	return true;
}

static bool test_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
	memcpy(vcpu->accel_data, state, sizeof(*state));
	return true;
}

static bool test_log_start(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	return true;
}

static void test_log_stop(struct vm *vm, struct ram_mapping *mapping)
{
}

static const struct accel_memory_ops test_memory = {
	.log_start = test_log_start,
	.log_stop = test_log_stop,
	.log_sync = test_log_start,
	.log_rearm = test_log_stop,
};

static void test_wire(struct vcpu *vcpu, bool level)
{
}

static void test_signal(struct vcpu *vcpu)
{
}

static void test_sipi(struct vcpu *vcpu, uint8_t vector)
{
}

static bool test_has_work(struct vcpu *vcpu)
{
	return false;
}

static const struct accel_local_ops test_local = {
	.set_intr = test_wire,
	.nmi = test_signal,
	.init = test_signal,
	.sipi = test_sipi,
	.has_work = test_has_work,
};

const struct accel_ops accel_test = {
	.name = "test",
	.caps = ACCEL_NO_CPU,
	.open = test_open,
	.close = test_close,
	.map = test_map,
	.unmap = test_unmap,
	.vcpu_open = test_vcpu_open,
	.vcpu_close = test_vcpu_close,
	.run = test_run,
	.kick = test_kick,
	.get_state = test_get_state,
	.set_state = test_set_state,
	.memory = &test_memory,
	.local = &test_local,
};
