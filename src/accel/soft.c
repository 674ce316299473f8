// SPDX-License-Identifier: GPL-2.0-or-later
/* The accelerator on the software processor: glue between cpu/'s bus and the machine. */
#include "accel/accel.h"
#include "base/error.h"
#include "vm/vm.h"

static struct cpu *cpu_of(struct vcpu *vcpu)
{
	return vcpu->accel_data;
}

/* --- The bus --- */

static uint64_t bus_mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
	return vcpu_mmio_read(opaque, gpa, size);
}

static void bus_mmio_write(void *opaque, uint64_t gpa, uint64_t value, unsigned size)
{
	vcpu_mmio_write(opaque, gpa, value, size);
}

static uint32_t bus_port_read(void *opaque, uint16_t port, unsigned size)
{
	return (uint32_t)vcpu_port_read(opaque, port, size);
}

static void bus_port_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	vcpu_port_write(opaque, port, value, size);
}

static int bus_interrupt_ack(void *opaque)
{
	struct vcpu *vcpu = opaque;
	return vcpu->intc ? vcpu->intc->ack(vcpu->intc_data) : -1;
}

static bool bus_msr_read(void *opaque, uint32_t index, uint64_t *value)
{
	struct vcpu *vcpu = opaque;
	return vcpu->intc && vcpu->intc->msr_read(vcpu->intc_data, index, value);
}

static bool bus_msr_write(void *opaque, uint32_t index, uint64_t value)
{
	struct vcpu *vcpu = opaque;
	return vcpu->intc && vcpu->intc->msr_write(vcpu->intc_data, index, value);
}

static uint64_t bus_tpr_read(void *opaque)
{
	struct vcpu *vcpu = opaque;
	return vcpu->intc ? vcpu->intc->tpr_read(vcpu->intc_data) : 0;
}

static void bus_tpr_write(void *opaque, uint64_t value)
{
	struct vcpu *vcpu = opaque;
	if (vcpu->intc)
		vcpu->intc->tpr_write(vcpu->intc_data, value);
}

static int64_t bus_hypercall(void *opaque, uint64_t number, const uint64_t args[4])
{
	struct vcpu *vcpu = opaque;
	return vcpu->intc ? vcpu->intc->hypercall(vcpu->intc_data, number, args) : -1000;
}

static const struct cpu_bus bus = {
	.mmio_read = bus_mmio_read,
	.mmio_write = bus_mmio_write,
	.port_read = bus_port_read,
	.port_write = bus_port_write,
	.interrupt_ack = bus_interrupt_ack,
	.msr_read = bus_msr_read,
	.msr_write = bus_msr_write,
	.tpr_read = bus_tpr_read,
	.tpr_write = bus_tpr_write,
	.hypercall = bus_hypercall,
};

/* --- The machine --- */

static bool soft_open(struct vm *vm, GError **error)
{
	vm->accel_data = cpu_system_new();
	return true;
}

static void soft_close(struct vm *vm)
{
	cpu_system_free(vm->accel_data);
	vm->accel_data = NULL;
}

/* The processor numbers its slots itself: kept beside the mapping's own number. */
static bool soft_map(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	struct ram *ram = mapping->ram;
	g_assert(mapping->offset / 4096 % 64 == 0 || mapping->offset == 0);
	mapping->slot = cpu_system_map(vm->accel_data, mapping->gpa, mapping->size,
				       ram->host + mapping->offset, mapping->readonly,
				       ram->dirty + mapping->offset / 4096 / 64);
	return true;
}

static void soft_unmap(struct vm *vm, struct ram_mapping *mapping)
{
	cpu_system_unmap(vm->accel_data, mapping->slot);
}

static bool soft_vcpu_open(struct vcpu *vcpu, GError **error)
{
	struct cpu_model model = *accel_model(vcpu->vm);
	model.apic_id = vcpu->index;
	vcpu->accel_data = cpu_new(vcpu->vm->accel_data, &model, &bus, vcpu);
	cpu_reset(cpu_of(vcpu), vcpu->index == 0);
	return true;
}

static void soft_vcpu_close(struct vcpu *vcpu)
{
	cpu_free(cpu_of(vcpu));
	vcpu->accel_data = NULL;
}

static enum vcpu_exit soft_run(struct vcpu *vcpu)
{
	struct cpu *cpu = cpu_of(vcpu);
	if (cpu_tsc_offset(cpu) != vcpu->vm->tsc_offset)
		cpu_set_tsc_offset(cpu, vcpu->vm->tsc_offset);
	switch (cpu_run(cpu, 0)) {
	case CPU_EXIT_HALT:
	case CPU_EXIT_WAIT_SIPI:
		return VCPU_EXIT_HALT;
	case CPU_EXIT_SHUTDOWN:
		return VCPU_EXIT_SHUTDOWN;
	default:
		return VCPU_EXIT_KICK;
	}
}

static void soft_kick(struct vcpu *vcpu)
{
	cpu_kick(cpu_of(vcpu));
}

static bool soft_get_state(struct vcpu *vcpu, struct cpu_state *state, GError **error)
{
	cpu_get_state(cpu_of(vcpu), state);
	return true;
}

static bool soft_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
	return cpu_set_state(cpu_of(vcpu), state, error);
}

/* --- Dirty log and device writes --- */

static bool soft_log_start(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	cpu_system_log_dirty(vm->accel_data, mapping->slot, true);
	return true;
}

static void soft_log_stop(struct vm *vm, struct ram_mapping *mapping)
{
	cpu_system_log_dirty(vm->accel_data, mapping->slot, false);
}

/* The processor sets the bits in place. */
static bool soft_log_sync(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	return true;
}

static void soft_log_rearm(struct vm *vm, struct ram_mapping *mapping)
{
	cpu_system_rearm_dirty(vm->accel_data, mapping->slot);
}

static void soft_ram_written(struct vm *vm, uint64_t gpa, uint64_t size)
{
	cpu_system_ram_written(vm->accel_data, gpa, size);
}

static const struct accel_memory_ops soft_memory = {
	.log_start = soft_log_start,
	.log_stop = soft_log_stop,
	.log_sync = soft_log_sync,
	.log_rearm = soft_log_rearm,
	.ram_written = soft_ram_written,
};

/* --- Wires from the local APIC --- */

static void soft_set_intr(struct vcpu *vcpu, bool level)
{
	cpu_set_intr(cpu_of(vcpu), level);
	if (level)
		vcpu_wake(vcpu);
}

static void soft_nmi(struct vcpu *vcpu)
{
	cpu_request_nmi(cpu_of(vcpu));
	vcpu_wake(vcpu);
}

static void soft_init(struct vcpu *vcpu)
{
	cpu_request_init(cpu_of(vcpu));
	vcpu_wake(vcpu);
}

static void soft_sipi(struct vcpu *vcpu, uint8_t vector)
{
	cpu_request_sipi(cpu_of(vcpu), vector);
	vcpu_wake(vcpu);
}

static void soft_unhalt(struct vcpu *vcpu)
{
	cpu_request_unhalt(cpu_of(vcpu));
	vcpu_wake(vcpu);
}

static bool soft_has_work(struct vcpu *vcpu)
{
	return cpu_has_work(cpu_of(vcpu));
}

static const struct accel_local_ops soft_local = {
	.set_intr = soft_set_intr,
	.nmi = soft_nmi,
	.init = soft_init,
	.sipi = soft_sipi,
	.unhalt = soft_unhalt,
	.has_work = soft_has_work,
};

uint64_t accel_insns_retired(struct vcpu *vcpu)
{
	return vcpu->accel == &accel_soft && vcpu->accel_data ? cpu_insns_retired(cpu_of(vcpu)) : 0;
}

const struct accel_ops accel_soft = {
	.name = "soft",
	.open = soft_open,
	.close = soft_close,
	.map = soft_map,
	.unmap = soft_unmap,
	.vcpu_open = soft_vcpu_open,
	.vcpu_close = soft_vcpu_close,
	.run = soft_run,
	.kick = soft_kick,
	.get_state = soft_get_state,
	.set_state = soft_set_state,
	.memory = &soft_memory,
	.local = &soft_local,
};
