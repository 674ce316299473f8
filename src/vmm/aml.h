/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdint.h>

/*
 * A small writer of AML, the byte code of ACPI tables (ACPI 6.3 chapter 20). Each aml_* appends to
 * @to. Scopes, devices, methods and packages are opened, filled and closed: the opener returns a
 * mark, aml_close fixes the length up.
 */
typedef GByteArray aml;

guint aml_scope(aml *to, const char *path);
guint aml_device(aml *to, const char *name);
guint aml_method(aml *to, const char *name, unsigned arguments);
guint aml_package(aml *to, unsigned elements);
void aml_close(aml *to, guint mark);

void aml_name(aml *to, const char *name); /* Name (xxxx, <the next object>) */
void aml_integer(aml *to, uint64_t value);
void aml_string(aml *to, const char *text);
void aml_eisaid(aml *to, const char *id); /* "PNP0A08" as an integer */
void aml_byte(aml *to, uint8_t byte);     /* a raw opcode */
void aml_name_string(aml *to, const char *path);

/* Resource templates: descriptors between aml_resources and aml_close_resources. */
struct aml_resources {
	guint mark, size_at, start;
};
struct aml_resources aml_resources(aml *to);
void aml_close_resources(aml *to, struct aml_resources resources);
void aml_io(aml *to, uint16_t port, uint8_t length);
void aml_irq(aml *to, unsigned irq); /* edge, active high */
void aml_memory32(aml *to, uint32_t base, uint32_t length);
enum aml_space { AML_MEMORY, AML_IO, AML_BUS };
/* An address window of a bridge: word for buses and ports, dword or qword for memory. */
void aml_window(aml *to, enum aml_space space, uint64_t first, uint64_t last);
