// SPDX-License-Identifier: GPL-2.0-or-later
/* The in-kernel interrupt controllers and PIT: lines, messages, event descriptors, registers. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "accel/kvm-internal.h"
#include "base/error.h"
#include "vm/chips.h"

enum { IOAPIC_PINS = 24, PIC_PINS = 16, FIRST_MSI_GSI = 24, ROUTES_MAX = 1024 };
enum { MSR_TSC_DEADLINE = 0x6e0, MSR_APIC_BASE = 0x1b };
enum { MSR_KVM_WALL_CLOCK = 0x4b564d00, MSR_KVM_SYSTEM_TIME = 0x4b564d01 };

/* GSIs 0-15 arrive at the 8259s, 0-23 at the IOAPIC; GSI 0 at its pin 2, as the MADT says. */
static bool set_default_routes(struct kvm_vm *kvm, GError **error)
{
	kvm->routing = g_malloc0(sizeof(*kvm->routing) +
				 ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
	struct kvm_irq_routing_entry *e = kvm->routing->entries;
	for (unsigned gsi = 0; gsi < PIC_PINS; gsi++) {
		if (gsi == 2)
			continue;
		*e++ = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				      gsi % 8}};
	}
	for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi == 2)
			continue;
		*e++ = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi}};
	}
	kvm->routing->nr = (uint32_t)(e - kvm->routing->entries);
	if (ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, kvm->routing) < 0)
		return error_set_errno(error, errno, "KVM refuses the interrupt routing");
	return true;
}

bool kvm_chips_create(struct vm *vm, GError **error)
{
	struct kvm_vm *kvm = kvm_of(vm);
	struct kvm_pit_config pit = {0};
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return error_set_errno(error, errno, "KVM cannot create its interrupt controllers");
	if (ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return error_set_errno(error, errno, "KVM cannot create its interval timer");
	return set_default_routes(kvm, error);
}

static void set_line(struct vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};
	ioctl(kvm_of(vm)->vm_fd, KVM_IRQ_LINE, &irq);
}

static void send_msi(struct vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {.address_lo = (uint32_t)address,
			      .address_hi = (uint32_t)(address >> 32),
			      .data = data};
	ioctl(kvm_of(vm)->vm_fd, KVM_SIGNAL_MSI, &msi);
}

static bool set_ioeventfd(struct vm *vm, uint64_t address, unsigned size, bool is_port, int fd,
			  bool add, GError **error)
{
	struct kvm_ioeventfd io = {.addr = address, .len = size, .fd = fd};
	io.flags =
		(is_port ? KVM_IOEVENTFD_FLAG_PIO : 0u) | (add ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN);
	if (ioctl(kvm_of(vm)->vm_fd, KVM_IOEVENTFD, &io) < 0)
		return error_set_errno(error, errno,
				       "KVM refuses an event descriptor at 0x%" PRIx64, address);
	return true;
}

static struct kvm_irq_routing_entry *find_route(struct kvm_irq_routing *routing, unsigned gsi)
{
	for (uint32_t i = 0; i < routing->nr; i++) {
		if (routing->entries[i].gsi == gsi)
			return &routing->entries[i];
	}
	return NULL;
}

static bool route_msi(struct kvm_vm *kvm, unsigned gsi, uint64_t address, uint32_t data,
		      GError **error)
{
	struct kvm_irq_routing_entry *e = find_route(kvm->routing, gsi);
	if (!e && kvm->routing->nr == ROUTES_MAX)
		return error_set(error, LODGE_ERROR_FAILED, "all %d interrupt routes are in use",
				 ROUTES_MAX);
	if (!e)
		e = &kvm->routing->entries[kvm->routing->nr++];
	*e = (struct kvm_irq_routing_entry){.gsi = gsi,
					    .type = KVM_IRQ_ROUTING_MSI,
					    .u.msi = {.address_lo = (uint32_t)address,
						      .address_hi = (uint32_t)(address >> 32),
						      .data = data}};
	if (ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, kvm->routing) < 0)
		return error_set_errno(error, errno, "KVM refuses an interrupt route");
	return true;
}

static bool set_irqfd(struct vm *vm, unsigned route, uint64_t address, uint32_t data, int fd,
		      bool add, GError **error)
{
	struct kvm_vm *kvm = kvm_of(vm);
	struct kvm_irqfd irqfd = {.fd = (uint32_t)fd,
				  .gsi = FIRST_MSI_GSI + route,
				  .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
	if (add && !route_msi(kvm, irqfd.gsi, address, data, error))
		return false;
	if (ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0)
		return error_set_errno(error, errno, "KVM refuses an interrupt descriptor");
	return true;
}

/* --- Registers --- */

static void pic_from_kvm(const struct kvm_pic_state *k, struct pic_regs *r)
{
	*r = (struct pic_regs){
		.irr = k->irr,
		.imr = k->imr,
		.isr = k->isr,
		.last_irr = k->last_irr,
		.priority_add = k->priority_add,
		.irq_base = k->irq_base,
		.read_isr = k->read_reg_select,
		.poll = k->poll,
		.special_mask = k->special_mask,
		.init_state = k->init_state,
		.auto_eoi = k->auto_eoi,
		.rotate_on_auto_eoi = k->rotate_on_auto_eoi,
		.special_fully_nested = k->special_fully_nested_mode,
		.init4 = k->init4,
		.elcr = k->elcr,
		.elcr_mask = k->elcr_mask,
	};
}

static void pic_to_kvm(const struct pic_regs *r, struct kvm_pic_state *k, bool master)
{
	*k = (struct kvm_pic_state){
		.irr = r->irr,
		.imr = r->imr,
		.isr = r->isr,
		.last_irr = r->last_irr,
		.priority_add = r->priority_add,
		.irq_base = r->irq_base,
		.read_reg_select = r->read_isr,
		.poll = r->poll,
		.special_mask = r->special_mask,
		.init_state = r->init_state,
		.auto_eoi = r->auto_eoi,
		.rotate_on_auto_eoi = r->rotate_on_auto_eoi,
		.special_fully_nested_mode = r->special_fully_nested,
		.init4 = r->init4,
		.elcr = r->elcr,
		.elcr_mask = master ? 0xf8 : 0xde,
	};
}

static bool get_irqchip(struct vm *vm, unsigned chip, void *regs, GError **error)
{
	struct kvm_irqchip k = {.chip_id = chip == CHIP_PIC_MASTER  ? KVM_IRQCHIP_PIC_MASTER
					   : chip == CHIP_PIC_SLAVE ? KVM_IRQCHIP_PIC_SLAVE
								    : KVM_IRQCHIP_IOAPIC};
	if (ioctl(kvm_of(vm)->vm_fd, KVM_GET_IRQCHIP, &k) < 0)
		return error_set_errno(error, errno, "KVM does not give an interrupt controller");
	if (chip != CHIP_IOAPIC) {
		pic_from_kvm(&k.chip.pic, regs);
		return true;
	}
	struct ioapic_regs *r = regs;
	r->select = k.chip.ioapic.ioregsel;
	r->id = k.chip.ioapic.id;
	r->irr = k.chip.ioapic.irr;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		r->redirection[i] = k.chip.ioapic.redirtbl[i].bits;
	return true;
}

static bool set_irqchip(struct vm *vm, unsigned chip, const void *regs, GError **error)
{
	struct kvm_irqchip k = {.chip_id = chip == CHIP_PIC_MASTER  ? KVM_IRQCHIP_PIC_MASTER
					   : chip == CHIP_PIC_SLAVE ? KVM_IRQCHIP_PIC_SLAVE
								    : KVM_IRQCHIP_IOAPIC};
	if (chip != CHIP_IOAPIC) {
		pic_to_kvm(regs, &k.chip.pic, chip == CHIP_PIC_MASTER);
	} else {
		const struct ioapic_regs *r = regs;
		k.chip.ioapic.base_address = 0xfec00000;
		k.chip.ioapic.ioregsel = r->select;
		k.chip.ioapic.id = r->id;
		k.chip.ioapic.irr = r->irr;
		for (unsigned i = 0; i < IOAPIC_PINS; i++)
			k.chip.ioapic.redirtbl[i].bits = r->redirection[i];
	}
	if (ioctl(kvm_of(vm)->vm_fd, KVM_SET_IRQCHIP, &k) < 0)
		return error_set_errno(error, errno, "KVM refuses an interrupt controller's state");
	return true;
}

/* KVM counts from the host's monotonic clock; ours stands still while the machine does. */
static int64_t monotonic_minus_clock(struct vm *vm)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - vm_clock_ns(vm);
}

static bool get_pit(struct vm *vm, struct pit_regs *regs, GError **error)
{
	struct kvm_pit_state2 k;
	if (ioctl(kvm_of(vm)->vm_fd, KVM_GET_PIT2, &k) < 0)
		return error_set_errno(error, errno, "KVM does not give its interval timer");
	int64_t shift = monotonic_minus_clock(vm);
	for (unsigned i = 0; i < 3; i++) {
		const struct kvm_pit_channel_state *c = &k.channels[i];
		regs->channel[i] = (struct pit_channel_regs){.count = c->count,
							     .latched_count = c->latched_count,
							     .count_latched = c->count_latched,
							     .status_latched = c->status_latched,
							     .status = c->status,
							     .read_state = c->read_state,
							     .write_state = c->write_state,
							     .write_latch = c->write_latch,
							     .rw_mode = c->rw_mode,
							     .mode = c->mode,
							     .bcd = c->bcd,
							     .gate = c->gate,
							     .load_ns = c->count_load_time - shift};
	}
	/* Of the channel whose output is an interrupt the kernel has a timer instead, and does not
	 * tell where it stands: the next one comes a whole period from now. */
	regs->channel[0].load_ns = vm_clock_ns(vm);
	regs->speaker_data = k.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	return true;
}

static bool set_pit(struct vm *vm, const struct pit_regs *regs, GError **error)
{
	struct kvm_pit_state2 k = {.flags = regs->speaker_data ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0};
	int64_t shift = monotonic_minus_clock(vm);
	for (unsigned i = 0; i < 3; i++) {
		const struct pit_channel_regs *c = &regs->channel[i];
		k.channels[i] =
			(struct kvm_pit_channel_state){.count = c->count,
						       .latched_count = c->latched_count,
						       .count_latched = c->count_latched,
						       .status_latched = c->status_latched,
						       .status = c->status,
						       .read_state = c->read_state,
						       .write_state = c->write_state,
						       .write_latch = c->write_latch,
						       .rw_mode = c->rw_mode,
						       .mode = c->mode,
						       .bcd = c->bcd,
						       .gate = c->gate,
						       .count_load_time = c->load_ns + shift};
	}
	if (ioctl(kvm_of(vm)->vm_fd, KVM_SET_PIT2, &k) < 0)
		return error_set_errno(error, errno, "KVM refuses its interval timer's state");
	return true;
}

/* 0 where KVM lacks it. */
static uint64_t msr_value(int fd, uint32_t index)
{
	uint64_t value = 0;
	kvm_msr_get(fd, index, &value);
	return value;
}

static bool get_lapic(struct vm *vm, unsigned index, struct lapic_regs *regs, GError **error)
{
	int fd = kvm_vcpu_of(vm->vcpus[index])->fd;
	struct kvm_lapic_state k;
	if (ioctl(fd, KVM_GET_LAPIC, &k) < 0)
		return error_set_errno(error, errno, "KVM does not give a local APIC");
	memcpy(regs->page, k.regs, sizeof(regs->page));
	regs->base_msr = msr_value(fd, MSR_APIC_BASE);
	regs->tsc_deadline = msr_value(fd, MSR_TSC_DEADLINE);
	regs->kvm_wall_clock = msr_value(fd, MSR_KVM_WALL_CLOCK);
	regs->kvm_system_time = msr_value(fd, MSR_KVM_SYSTEM_TIME);
	return true;
}

static bool set_lapic(struct vm *vm, unsigned index, const struct lapic_regs *regs, GError **error)
{
	int fd = kvm_vcpu_of(vm->vcpus[index])->fd;
	struct kvm_lapic_state k;
	memcpy(k.regs, regs->page, sizeof(regs->page));
	if (!kvm_msr_set(fd, MSR_APIC_BASE, regs->base_msr) || ioctl(fd, KVM_SET_LAPIC, &k) < 0)
		return error_set_errno(error, errno, "KVM refuses a local APIC's state");
	if (regs->tsc_deadline)
		kvm_msr_set(fd, MSR_TSC_DEADLINE, regs->tsc_deadline);
	if (regs->kvm_system_time != msr_value(fd, MSR_KVM_SYSTEM_TIME))
		kvm_msr_set(fd, MSR_KVM_SYSTEM_TIME, regs->kvm_system_time);
	return true;
}

/* --- The guest's time goes on --- */

void kvm_chips_resume(struct vm *vm)
{
	struct kvm_vm *kvm = kvm_of(vm);
	struct kvm_pit_state2 pit;
	/* The paravirtual clock counts as the one of dev/kvmclock.c does: from the TSC. */
	struct kvm_clock_data clock = {
		.clock = (uint64_t)((unsigned __int128)vm_tsc(vm) * 1000000000 / vm->tsc_hz)};
	ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock);
	/* Its timer ran on in the pause: ticks of that time are none of the guest's. */
	if (kvm->resumed && ioctl(kvm->vm_fd, KVM_GET_PIT2, &pit) == 0 &&
	    (pit.channels[0].mode == 2 || pit.channels[0].mode == 3))
		ioctl(kvm->vm_fd, KVM_SET_PIT2, &pit);
}

void kvm_lapic_resume(struct vcpu *vcpu)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	uint64_t deadline = msr_value(fd, MSR_TSC_DEADLINE);
	/* It was computed from a TSC that counted on: once more. */
	if (deadline)
		kvm_msr_set(fd, MSR_TSC_DEADLINE, deadline);
	/* Tells the guest's watchdogs that it stood still; refused while it uses no such clock. */
	ioctl(fd, KVM_KVMCLOCK_CTRL, 0);
}

static bool get_chip(struct vm *vm, unsigned chip, unsigned index, void *regs, GError **error)
{
	if (chip == CHIP_PIT)
		return get_pit(vm, regs, error);
	return chip == CHIP_LAPIC ? get_lapic(vm, index, regs, error)
				  : get_irqchip(vm, chip, regs, error);
}

static bool set_chip(struct vm *vm, unsigned chip, unsigned index, const void *regs, GError **error)
{
	if (chip == CHIP_PIT)
		return set_pit(vm, regs, error);
	return chip == CHIP_LAPIC ? set_lapic(vm, index, regs, error)
				  : set_irqchip(vm, chip, regs, error);
}

const struct accel_irq_ops kvm_irq_ops = {
	.set_line = set_line,
	.send_msi = send_msi,
	.ioeventfd = set_ioeventfd,
	.irqfd = set_irqfd,
	.get_chip = get_chip,
	.set_chip = set_chip,
};
