/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "dev/gsi.h"

/*
 * The high precision event timer at 0xfed00000: a 64-bit counter of 100 MHz and three comparators,
 * each one-shot or periodic, on GSI 5, 10 or 11, as a message, or (legacy replacement) in the place
 * of the 8254 and the RTC. Those two therefore drive inputs of the HPET, which passes them on while
 * legacy replacement is off. Machine lock held. Source: IA-PC HPET specification 1.0a.
 */

#define HPET_BASE UINT64_C(0xfed00000)

struct hpet;

struct hpet *hpet_new(struct vm *vm, struct gsi *gsi);
struct irq_line *hpet_pit_input(struct hpet *hpet); /* where the 8254's channel 0 goes */
struct irq_line *hpet_rtc_input(struct hpet *hpet); /* where the RTC's interrupt goes */
