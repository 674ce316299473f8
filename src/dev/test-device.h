/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "dev/gsi.h"

/* What test guests (kvm-unit-tests) expect of a machine: a latch of 12 bytes at ports 0xe0-0xeb,
 * 64 KiB at 0xff000000 that keep what is written but are reached as a device's registers are,
 * and 24 ports from 0x2000 that set the GSI of their number to bit 0 of what is written. Only on
 * machines whose description asks for it. */
void test_device_new(struct vm *vm, struct gsi *gsi);
