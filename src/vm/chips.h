/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The registers of the four interrupt and timer chips that an accelerator may have inside: the form
 * in which they pass between it and the chips in dev/, which own the saved state either way.
 */

enum vm_chip { CHIP_PIC_MASTER, CHIP_PIC_SLAVE, CHIP_IOAPIC, CHIP_PIT, CHIP_LAPIC };

struct pic_regs { /* 8259A */
	uint8_t irr, imr, isr, last_irr, priority_add, irq_base, read_isr, poll, special_mask;
	uint8_t init_state, auto_eoi, rotate_on_auto_eoi, special_fully_nested, init4, elcr,
		elcr_mask;
};

struct ioapic_regs { /* 82093AA */
	uint32_t select, id, irr;
	uint64_t redirection[24];
};

struct pit_channel_regs { /* 8254 */
	uint32_t count;   /* 1 to 0x10000 */
	uint16_t latched_count;
	uint8_t count_latched, status_latched, status, read_state, write_state, write_latch;
	uint8_t rw_mode, mode, bcd, gate;
	int64_t load_ns; /* virtual time at which the count was loaded */
};

struct pit_regs {
	struct pit_channel_regs channel[3];
	bool speaker_data;
};

struct lapic_regs { /* the 4 KiB register page as SDM 3A table 10-1 lays it out */
	uint8_t page[1024];
	uint64_t base_msr, tsc_deadline;
	uint64_t kvm_wall_clock, kvm_system_time; /* the paravirtual clock's MSRs */
};
