// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's paravirtual clock for guests on the software processor (Linux
 * Documentation/virt/kvm/x86/msr.rst): the guest computes nanoseconds from its TSC with a factor
 * read from shared memory, with no exit. The machine's TSC and clock stand still together while it
 * is paused, so their relation never changes and the page is written once.
 */
#include <string.h>

#include "dev/lapic-internal.h"

enum { MSR_WALL_CLOCK = 0x4b564d00, MSR_SYSTEM_TIME = 0x4b564d01 };
enum { CLOCK_TSC_STABLE = 1 };

struct wall_clock {
	uint32_t version, seconds, nanoseconds;
};

struct time_info {
	uint32_t version, padding;
	uint64_t tsc_timestamp, system_time_ns;
	uint32_t tsc_to_ns_mul;
	int8_t tsc_shift;
	uint8_t flags, more_padding[2];
};

/* ns = ((tsc << shift) * mul) >> 32, with the largest mul that fits for precision. */
static void scale_of(uint64_t hz, uint32_t *mul, int8_t *shift)
{
	unsigned __int128 ratio =
		((unsigned __int128)1000000000 << 64) / hz; /* 64.64 fixed point */
	int8_t up = 0;
	while (ratio >> 64) {
		ratio >>= 1;
		up++;
	}
	while (!(ratio >> 63)) {
		ratio <<= 1;
		up--;
	}
	*mul = (uint32_t)(ratio >> 32);
	*shift = up;
}

static void write_wall_clock(struct lapic *apic)
{
	struct vm *vm = apic->device.vm;
	int64_t boot = vm_rtc_ns(vm) - vm_clock_ns(vm);
	struct wall_clock clock = {.version = 2,
				   .seconds = (uint32_t)(boot / 1000000000),
				   .nanoseconds = (uint32_t)(boot % 1000000000)};
	dma_write(vm, apic->kvm_wall_clock, &clock, sizeof(clock));
}

static void write_time_info(struct lapic *apic)
{
	struct vm *vm = apic->device.vm;
	struct time_info info = {.version = 2, .flags = CLOCK_TSC_STABLE};
	info.tsc_timestamp = vm_tsc(vm);
	info.system_time_ns =
		(uint64_t)((unsigned __int128)info.tsc_timestamp * 1000000000 / vm->tsc_hz);
	scale_of(vm->tsc_hz, &info.tsc_to_ns_mul, &info.tsc_shift);
	dma_write(vm, apic->kvm_system_time & ~UINT64_C(1), &info, sizeof(info));
}

void kvmclock_restore(struct lapic *apic)
{
	if (apic->kvm_system_time & 1)
		write_time_info(apic);
}

bool kvmclock_msr_read(struct lapic *apic, uint32_t index, uint64_t *value)
{
	if (index != MSR_WALL_CLOCK && index != MSR_SYSTEM_TIME)
		return false;
	*value = index == MSR_WALL_CLOCK ? apic->kvm_wall_clock : apic->kvm_system_time;
	return true;
}

bool kvmclock_msr_write(struct lapic *apic, uint32_t index, uint64_t value)
{
	if (index == MSR_WALL_CLOCK) {
		apic->kvm_wall_clock = value;
		write_wall_clock(apic);
	} else if (index == MSR_SYSTEM_TIME) {
		apic->kvm_system_time = value;
		if (value & 1)
			write_time_info(apic);
	} else {
		return false;
	}
	return true;
}
