/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "accel/accel.h"
#include "dev/gsi.h"
#include "dev/i8042.h"
#include "dev/lapic.h"
#include "dev/pci-host.h"
#include "host/char.h"
#include "vm/vm.h"

/* A machine with every chip and no processor: tests read and write ports and memory, move the
 * clock, and take interrupts from the local APICs as processors would. */

struct bench {
	struct vm *vm;
	struct i8259 *pic;
	struct ioapic *ioapic;
	struct gsi *gsi;
	struct lapic_bus *lapics;
	struct pci_host *pci;
	struct pci_function *card; /* a PCI function with MSI-X, see bench.c */
	struct i8042 *keyboard;
	struct chardev *chardev;
	int serial; /* the other end of the serial port's line */
	int exit_status;
};

struct bench *bench_new(unsigned cpus);
void bench_free(struct bench *bench);

/* Ports and memory, by size in bytes. */
uint32_t in(struct bench *bench, uint16_t port, unsigned size);
void out(struct bench *bench, uint16_t port, uint32_t value, unsigned size);
uint64_t mmio_in(struct bench *bench, uint64_t gpa, unsigned size);
void mmio_out(struct bench *bench, uint64_t gpa, uint64_t value, unsigned size);
static inline uint8_t in8(struct bench *bench, uint16_t port)
{
	return (uint8_t)in(bench, port, 1);
}
static inline void out8(struct bench *bench, uint16_t port, uint8_t value)
{
	out(bench, port, value, 1);
}

/* The vector that processor @cpu takes now, or -1. */
int take(struct bench *bench, unsigned cpu);
uint64_t apic_in(struct bench *bench, unsigned cpu, unsigned reg);
void apic_out(struct bench *bench, unsigned cpu, unsigned reg, uint64_t value);
bool msr_in(struct bench *bench, unsigned cpu, uint32_t index, uint64_t *value);
bool msr_out(struct bench *bench, unsigned cpu, uint32_t index, uint64_t value);
/* Sets a GSI as the machine lock's owner. */
void gsi_set(struct bench *bench, unsigned gsi, bool level);
void advance(struct bench *bench, int64_t ns);
/* Both 8259 at vectors 0x20 and 0x28, nothing masked; LINT0 of the first APIC takes them. */
void pic_start(struct bench *bench);

/* All devices' state. */
GByteArray *bench_save(struct bench *bench);
/* Into a machine that was just made, at the same time of the virtual clock. */
bool bench_load(struct bench *bench, int64_t clock_ns, const uint8_t *data, size_t length,
		GError **error);
/* A random access to one of the machine's chips. */
void bench_poke(struct bench *bench, GRand *rand);
