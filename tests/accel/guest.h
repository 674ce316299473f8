/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Numbers that the guests (guests.S) and the tests agree on. */

#define GUEST_AT      0x1000 /* where a guest is loaded and entered, real mode: 0000:1000 */
#define GUEST_STACK   0x8000
#define GUEST_GDT     0x500
#define GUEST_IDT     0x4000
#define GUEST_IDT_PTR 0x4800
#define GUEST_TABLES  0x10000 /* page tables of the 64-bit guests: 4 GiB, identity */
#define GUEST_DATA    0x20000
#define GUEST_RING    0x30000
#define PCI_START     0xd1000000
#define GUEST_AP      0x3000 /* where a second processor starts */

#define PORT_EXIT     0xf4
#define PORT_LOG      0x402 /* a 32-bit value for the test to see */
#define PORT_LEVEL    0x500 /* bit 0: GSI 10, level-triggered */
#define PORT_MSI      0x504 /* the test sends this vector to processor 0 */
#define PORT_DOORBELL 0x508 /* an ioeventfd where there are such */
#define PORT_STRING   0x510 /* reads 1, 2, 3... */
#define MMIO_BASE     0xd0000000
#define MMIO_DOORBELL 0x100
#define VECTOR_TIMER  0x30
#define VECTOR_LEVEL  0x31
#define VECTOR_MSI    0x42
#define VECTOR_LOCAL  0x50
#define DOORBELLS     20
