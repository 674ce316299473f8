/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "dev/gsi.h"
#include "vm/pci.h"

/*
 * The host bridge of a Q35 (Intel 82Q35 MCH, datasheet 316966): configuration ports 0xcf8/0xcfc,
 * the memory-mapped configuration space (ECAM), and INTx wires to GSIs 16-23.
 */

#define PCI_ECAM_BASE UINT64_C(0xb0000000)
#define PCI_ECAM_SIZE UINT64_C(0x10000000)

struct pci_host;

/* @ecam: enabled from reset on, as a firmware would have left it (for a kernel started directly).
 */
struct pci_host *pci_host_new(struct vm *vm, struct gsi *gsi, bool ecam);
struct pci_bus *pci_host_bus(struct pci_host *host);
/* The GSI at which INTx @pin (0-3) of @devfn arrives: what the ACPI _PRT says. */
unsigned pci_host_gsi(uint8_t devfn, unsigned pin);
