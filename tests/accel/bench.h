/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "accel/accel.h"
#include "dev/gsi.h"
#include "dev/lapic.h"
#include "dev/pci-host.h"
#include "guest.h"
#include "host/char.h"
#include "vm/vm.h"

/* A small machine for the guests of guests.S, with the chips of the board, under any accelerator.
 */

enum bench_mode { BENCH_REAL, BENCH_PROTECTED, BENCH_LONG };

#define GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[]

struct bench {
	struct vm *vm;
	GMainContext *context;
	struct ram *ram;
	struct gsi *gsi;
	struct pci_host *pci; /* an empty bus; devices are the tests' */
	int exit_status;      /* -1 while the guest runs */
	GArray *log;          /* uint32_t written to PORT_LOG */
	GString *events;      /* a line for each */
	char *failure;        /* what an error event said */
	struct chardev *chardev;
	int serial_fd; /* what the guest writes to the serial port comes out here */
	uint32_t string_next, doorbells;
	uint8_t mmio[64];
	bool done;
	const uint8_t *code;
	size_t code_size;
	enum bench_mode mode;
	struct window log_window, level_window, msi_window, bell_window, string_window, mmio_window;
	struct irq_line *level;
	int bell_fd[2], irq_fd;
	GSource *bell_source[2];
};

/* NULL with the test skipped when this host cannot have @accel. @chips: as a board has them. */
struct bench *bench_new(const struct accel_ops *accel, const struct accel_ops *fallback,
			unsigned cpus, bool chips);
void bench_free(struct bench *bench);
/* The guest that the next reset starts (and starts now). */
void bench_load(struct bench *bench, const uint8_t *code, const uint8_t *end, enum bench_mode mode);
#define BENCH_LOAD(bench, name, mode) bench_load(bench, guest_##name, guest_##name##_end, mode)
/* Starts and serves the machine until the guest ends; asserts that it does within the limit. False
 * when KVM could not go on: the test is skipped with the reason. */
bool bench_run(struct bench *bench, unsigned seconds);
/* Serves the machine for a while or until @until is true. */
void bench_serve(struct bench *bench, unsigned ms, bool (*until)(struct bench *bench));
uint32_t bench_log(const struct bench *bench, unsigned index);
uint32_t bench_read32(const struct bench *bench, uint64_t gpa);

struct bench_case {
	void (*test)(const struct accel_ops *accel);
	const struct accel_ops *accel;
};

/* Registers one test per accelerator: PATH/soft and PATH/kvm. */
void bench_add(const char *path, void (*test)(const struct accel_ops *accel));
