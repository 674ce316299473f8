/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Saved state. What a device saves is a const table of fields beside its struct; save, restore,
 * snapshot and migration all read the same table. Restoring is init + reset + table. On the wire
 * all numbers are little-endian; a section is
 *     u16 name length, name, u16 version, u32 payload length, payload
 * and fields follow each other in table order. Names and meanings are promises.
 */

enum state_type {
	STATE_U8,
	STATE_U16,
	STATE_U32,
	STATE_U64,
	STATE_I64,
	STATE_BOOL,
	STATE_BYTES,  /* count bytes */
	STATE_STRUCT, /* count structs of size `size` with table `sub` */
	STATE_TIMER,  /* struct vm_timer: deadline, or armed = false */
	STATE_BUFFER, /* GByteArray *: u32 length, bytes; post_load judges the length */
};

struct state_table;

struct state_field {
	const char *name;
	enum state_type type;
	uint32_t offset; /* in the struct */
	uint32_t size;   /* of one element in memory */
	uint32_t count;  /* elements; 1 for scalars */
	uint16_t since;  /* version of the table that brought the field; older streams leave it as
			    reset */
	const struct state_table *sub;
};

struct state_table {
	uint16_t version;     /* what is written; 1 at first */
	uint16_t min_version; /* the oldest that can be read */
	const struct state_field *fields;
	uint32_t field_count;
	/* Brings the struct up to date before saving (pending timers, back ends); may be NULL. */
	void (*pre_save)(void *object);
	/* Checks what was read (sizes, indexes: the stream is not trusted) and derives the rest
	 * (lines, timers, windows). Returns false with @error to refuse. May be NULL. */
	bool (*post_load)(void *object, GError **error);
};

#define STATE_FIELD_(type_, s, f, n, ...)                                                          \
	{                                                                                          \
		.name = #f, .type = (type_), .offset = offsetof(s, f),                             \
		.size = sizeof(((s *)0)->f) / (n), .count = (n), ##__VA_ARGS__                     \
	}
#define STATE_SCALAR(s, f, ...)                                                                    \
	STATE_FIELD_(_Generic(((s *)0)->f, uint8_t                                                 \
			      : STATE_U8, uint16_t                                                 \
			      : STATE_U16, uint32_t                                                \
			      : STATE_U32, uint64_t                                                \
			      : STATE_U64, int64_t                                                 \
			      : STATE_I64, bool                                                    \
			      : STATE_BOOL),                                                       \
		     s, f, 1, ##__VA_ARGS__)
#define STATE_ARRAY(s, f, ...)                                                                     \
	STATE_FIELD_(_Generic(((s *)0)->f[0], uint8_t                                              \
			      : STATE_U8, uint16_t                                                 \
			      : STATE_U16, uint32_t                                                \
			      : STATE_U32, uint64_t                                                \
			      : STATE_U64, int64_t                                                 \
			      : STATE_I64, bool                                                    \
			      : STATE_BOOL),                                                       \
		     s, f, G_N_ELEMENTS(((s *)0)->f), ##__VA_ARGS__)
#define STATE_BLOB(s, f, ...)                                                                      \
	{                                                                                          \
		.name = #f, .type = STATE_BYTES, .offset = offsetof(s, f), .size = 1,              \
		.count = sizeof(((s *)0)->f), ##__VA_ARGS__                                        \
	}
#define STATE_SUB(s, f, table, ...)                                                                \
	{                                                                                          \
		.name = #f, .type = STATE_STRUCT, .offset = offsetof(s, f),                        \
		.size = sizeof(((s *)0)->f), .count = 1, .sub = (table), ##__VA_ARGS__             \
	}
#define STATE_SUBS(s, f, table, ...)                                                               \
	{                                                                                          \
		.name = #f, .type = STATE_STRUCT, .offset = offsetof(s, f),                        \
		.size = sizeof(((s *)0)->f[0]), .count = G_N_ELEMENTS(((s *)0)->f),                \
		.sub = (table), ##__VA_ARGS__                                                      \
	}
#define STATE_BUFFER_FIELD(s, f, ...)                                                              \
	{                                                                                          \
		.name = #f, .type = STATE_BUFFER, .offset = offsetof(s, f),                        \
		.size = sizeof(GByteArray *), .count = 1, ##__VA_ARGS__                            \
	}
#define STATE_TIMER_FIELD(s, f, ...)                                                               \
	{                                                                                          \
		.name = #f, .type = STATE_TIMER, .offset = offsetof(s, f),                         \
		.size = sizeof(struct vm_timer), .count = 1, ##__VA_ARGS__                         \
	}

/* Appends the section of @object to @to. */
void state_save(const struct state_table *table, const char *name, void *object, GByteArray *to);

/* Reads the section at *@from (which is moved behind it, @end limits it) into @object, which is
 * freshly reset. Refuses another name, an unknown version, and lengths that do not fit. */
bool state_load(const struct state_table *table, const char *name, void *object,
		const uint8_t **from, const uint8_t *end, GError **error);

struct vm;
/* All devices of the machine, in order. The machine is paused and drained. */
void vm_devices_save(struct vm *vm, GByteArray *to);
bool vm_devices_load(struct vm *vm, const uint8_t *from, size_t length, GError **error);
