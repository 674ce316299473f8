// SPDX-License-Identifier: GPL-2.0-or-later
/* Messages between local APICs, from the IOAPIC and from MSIs (SDM 3A sections 11.6 and 11.11). */
#include "dev/lapic-internal.h"

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static bool matches_logical(const struct lapic *apic, uint32_t destination, bool wide)
{
	if (lapic_is_x2apic(apic)) {
		uint32_t id = apic->vcpu->index;
		uint32_t cluster = wide ? destination >> 16 : 0;
		return cluster == id >> 4 && (destination & 0xffff & (1u << (id & 15)));
	}
	uint32_t mine = apic->ldr >> 24;
	if (apic->dfr >> 28 == 0xf)
		return mine & destination;
	return mine >> 4 == (destination >> 4 & 15) && (mine & destination & 15);
}

static bool matches(const struct lapic *apic, uint32_t destination, bool logical, bool wide)
{
	if (destination == (wide ? UINT32_MAX : 0xff))
		return true;
	if (logical)
		return matches_logical(apic, destination, wide);
	return lapic_is_x2apic(apic) ? apic->vcpu->index == destination : apic->id == destination;
}

unsigned lapic_bus_deliver(struct lapic_bus *bus, uint32_t destination, bool logical, bool wide,
			   enum delivery delivery, uint8_t vector, bool level)
{
	unsigned reached = 0;
	for (unsigned i = 0; i < bus->count; i++) {
		struct lapic *apic = bus->lapics[i];
		if (!matches(apic, destination, logical, wide))
			continue;
		if (delivery == DELIVER_LOWEST && !lapic_is_on(apic))
			continue;
		lapic_receive(apic, delivery, vector, level);
		reached++;
		if (delivery == DELIVER_LOWEST)
			break;
	}
	return reached;
}

void lapic_send_ipi(struct lapic *from, uint64_t icr)
{
	struct lapic_bus *bus = from->bus;
	enum delivery delivery = icr >> 8 & 7;
	uint8_t vector = (uint8_t)icr;
	bool level = icr & 0x8000;
	bool wide = lapic_is_x2apic(from);
	uint32_t destination = (uint32_t)(wide ? icr >> 32 : icr >> 56);
	/* INIT level de-assert only synchronised arbitration ids of processors long gone. */
	if (delivery == DELIVER_INIT && level && !(icr & 0x4000))
		return;
	switch (icr >> 18 & 3) {
	case SHORTHAND_NONE:
		lapic_bus_deliver(bus, destination, icr & 0x800, wide, delivery, vector, false);
		break;
	case SHORTHAND_SELF:
		lapic_receive(from, delivery, vector, false);
		break;
	default:
		for (unsigned i = 0; i < bus->count; i++) {
			if (bus->lapics[i] != from || (icr >> 18 & 3) == SHORTHAND_ALL)
				lapic_receive(bus->lapics[i], delivery, vector, false);
		}
	}
}

static void receive_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct lapic_bus *bus = opaque;
	if (address >> 20 != 0xfee)
		return; /* a write to nowhere */
	lapic_bus_deliver(bus, address >> 12 & 0xff, address & 4, false, data >> 8 & 7,
			  (uint8_t)data, data & 0x8000);
}

static void set_lint0(void *opaque, unsigned number, bool level)
{
	struct lapic_bus *bus = opaque;
	struct lapic *apic = bus->lapics[0];
	uint32_t lvt = apic->lvt[LVT_LINT0];
	if (!level)
		return;
	if (lapic_takes_extint(apic))
		lapic_receive(apic, DELIVER_EXTINT, 0, false);
	else if (!(lvt & 0x10000))
		lapic_receive(apic, lvt >> 8 & 7, (uint8_t)lvt, lvt & 0x8000);
}

struct lapic_bus *lapic_bus_new(struct vm *vm, uint64_t timer_hz)
{
	struct lapic_bus *bus = g_new0(struct lapic_bus, 1);
	bus->vm = vm;
	bus->timer_hz = timer_hz;
	bus->lint0 = (struct irq_line){.set = set_lint0, .opaque = bus};
	bus->lapics = g_new0(struct lapic *, vm->vcpu_count);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		bus->lapics[i] = lapic_new(bus, vm->vcpus[i]);
	bus->count = vm->vcpu_count;
	vm->msi = receive_msi;
	vm->msi_opaque = bus;
	return bus;
}

void lapic_bus_connect(struct lapic_bus *bus, struct i8259 *pic, struct ioapic *ioapic)
{
	bus->pic = pic;
	bus->ioapic = ioapic;
}

struct irq_line *lapic_bus_lint0(struct lapic_bus *bus)
{
	return &bus->lint0;
}
