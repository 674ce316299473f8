/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* How lodge-vmm ends, and `lodge run` with it. A guest that uses the exit port gives its own odd
 * number. */
enum {
	EXIT_GUEST_SHUTDOWN = 0,
	EXIT_NOT_STARTED = 1, /* the machine could not be made: the message says why */
	EXIT_GUEST_PANICKED = 2,
	EXIT_MACHINE_FAILED = 4, /* the accelerator could not go on */
	EXIT_LEFT = 6,           /* ended from outside: quit, ^], a signal */
};
