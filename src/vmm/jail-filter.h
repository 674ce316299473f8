/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Stands in the compiled filter where the process's own id belongs. No process has it: ids stay
 * below 2^22. */
#define JAIL_OWN_PID 0x7ffffff1u
