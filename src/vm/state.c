// SPDX-License-Identifier: GPL-2.0-or-later
/* The saved-state engine: walks tables of fields. The format is described in state.h. */
#include "vm/state.h"

#include <string.h>

#include "base/error.h"
#include "vm/timer.h"
#include "vm/vm.h"

static void put(GByteArray *to, uint64_t value, unsigned size)
{
	uint8_t bytes[8];
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	g_byte_array_append(to, bytes, size);
}

static bool get(const uint8_t **from, const uint8_t *end, unsigned size, uint64_t *value)
{
	if ((size_t)(end - *from) < size)
		return false;
	*value = 0;
	for (unsigned i = 0; i < size; i++)
		*value |= (uint64_t)(*from)[i] << (8 * i);
	*from += size;
	return true;
}

static unsigned wire_size(enum state_type type)
{
	switch (type) {
	case STATE_U8:
	case STATE_BOOL:
		return 1;
	case STATE_U16:
		return 2;
	case STATE_U32:
		return 4;
	case STATE_U64:
	case STATE_I64:
		return 8;
	default:
		g_assert_not_reached();
	}
}

static uint64_t load_host(const void *p, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, p, size);
	return value;
}

static void save_fields(const struct state_table *table, void *object, GByteArray *to);

static void save_element(const struct state_field *field, uint8_t *p, GByteArray *to)
{
	if (field->type == STATE_STRUCT) {
		save_fields(field->sub, p, to);
	} else if (field->type == STATE_TIMER) {
		const struct vm_timer *timer = (const struct vm_timer *)(const void *)p;
		put(to, timer->armed, 1);
		put(to, timer->armed ? (uint64_t)timer->deadline_ns : 0, 8);
	} else if (field->type == STATE_BUFFER) {
		const GByteArray *buffer = *(GByteArray **)(void *)p;
		put(to, buffer->len, 4);
		g_byte_array_append(to, buffer->data, buffer->len);
	} else {
		put(to, load_host(p, wire_size(field->type)), wire_size(field->type));
	}
}

static void save_fields(const struct state_table *table, void *object, GByteArray *to)
{
	if (table->pre_save)
		table->pre_save(object);
	for (uint32_t i = 0; i < table->field_count; i++) {
		const struct state_field *field = &table->fields[i];
		uint8_t *p = (uint8_t *)object + field->offset;
		if (field->type == STATE_BYTES) {
			g_byte_array_append(to, p, field->count);
			continue;
		}
		for (uint32_t n = 0; n < field->count; n++)
			save_element(field, p + (size_t)n * field->size, to);
	}
}

void state_save(const struct state_table *table, const char *name, void *object, GByteArray *to)
{
	size_t length = strlen(name);
	put(to, length, 2);
	g_byte_array_append(to, (const uint8_t *)name, (guint)length);
	put(to, table->version, 2);
	guint at = to->len;
	put(to, 0, 4);
	save_fields(table, object, to);
	uint32_t payload = to->len - at - 4;
	for (unsigned i = 0; i < 4; i++)
		to->data[at + i] = (uint8_t)(payload >> (8 * i));
}

static bool load_fields(const struct state_table *table, unsigned version, void *object,
			const uint8_t **from, const uint8_t *end, GError **error);

static bool load_timer(struct vm_timer *timer, const uint8_t **from, const uint8_t *end)
{
	uint64_t armed, deadline;
	if (!get(from, end, 1, &armed) || !get(from, end, 8, &deadline))
		return false;
	if (armed)
		vm_timer_arm(timer, (int64_t)deadline);
	else
		vm_timer_cancel(timer);
	return true;
}

static bool load_buffer(GByteArray *buffer, const uint8_t **from, const uint8_t *end)
{
	uint64_t length;
	if (!get(from, end, 4, &length) || (size_t)(end - *from) < length)
		return false;
	g_byte_array_set_size(buffer, 0);
	g_byte_array_append(buffer, *from, (guint)length);
	*from += length;
	return true;
}

static bool load_element(const struct state_field *field, unsigned version, uint8_t *p,
			 const uint8_t **from, const uint8_t *end, GError **error)
{
	uint64_t value;
	if (field->type == STATE_STRUCT)
		return load_fields(field->sub, version, p, from, end, error);
	if (field->type == STATE_TIMER) {
		if (load_timer((struct vm_timer *)(void *)p, from, end))
			return true;
	} else if (field->type == STATE_BUFFER) {
		if (load_buffer(*(GByteArray **)(void *)p, from, end))
			return true;
	} else if (get(from, end, wire_size(field->type), &value)) {
		if (field->type == STATE_BOOL && value > 1)
			return error_set(error, LODGE_ERROR_CORRUPT, "field '%s' is no boolean",
					 field->name);
		memcpy(p, &value, wire_size(field->type));
		return true;
	}
	return error_set(error, LODGE_ERROR_CORRUPT, "the section ends before field '%s'",
			 field->name);
}

static bool load_fields(const struct state_table *table, unsigned version, void *object,
			const uint8_t **from, const uint8_t *end, GError **error)
{
	for (uint32_t i = 0; i < table->field_count; i++) {
		const struct state_field *field = &table->fields[i];
		uint8_t *p = (uint8_t *)object + field->offset;
		if (field->since > version)
			continue;
		if (field->type == STATE_BYTES) {
			if ((size_t)(end - *from) < field->count)
				return error_set(error, LODGE_ERROR_CORRUPT,
						 "the section ends before field '%s'", field->name);
			memcpy(p, *from, field->count);
			*from += field->count;
			continue;
		}
		for (uint32_t n = 0; n < field->count; n++) {
			if (!load_element(field, version, p + (size_t)n * field->size, from, end,
					  error))
				return false;
		}
	}
	return !table->post_load || table->post_load(object, error);
}

bool state_load(const struct state_table *table, const char *name, void *object,
		const uint8_t **from, const uint8_t *end, GError **error)
{
	uint64_t name_length, version, length;
	const uint8_t *p = *from;
	if (!get(&p, end, 2, &name_length) || (size_t)(end - p) < name_length)
		return error_set(error, LODGE_ERROR_CORRUPT, "the saved state ends before '%s'",
				 name);
	if (name_length != strlen(name) || memcmp(p, name, name_length) != 0)
		return error_set(error, LODGE_ERROR_INVALID,
				 "the saved state has '%.*s' where this machine has '%s'",
				 (int)MIN(name_length, 64), (const char *)p, name);
	p += name_length;
	if (!get(&p, end, 2, &version) || !get(&p, end, 4, &length) || (size_t)(end - p) < length)
		return error_set(error, LODGE_ERROR_CORRUPT, "the saved state of '%s' is cut off",
				 name);
	if (version < table->min_version || version > table->version)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "'%s' was saved in version %u; this Lodge reads %u to %u", name,
				 (unsigned)version, table->min_version, table->version);
	const uint8_t *payload_end = p + length;
	if (!load_fields(table, (unsigned)version, object, &p, payload_end, error)) {
		g_prefix_error(error, "saved state of '%s': ", name);
		return false;
	}
	if (p != payload_end)
		return error_set(error, LODGE_ERROR_CORRUPT,
				 "the saved state of '%s' is longer than its fields", name);
	*from = p;
	return true;
}

void vm_devices_save(struct vm *vm, GByteArray *to)
{
	for (guint i = 0; i < vm->devices->len; i++) {
		struct device *device = vm->devices->pdata[i];
		if (device->class->state)
			state_save(device->class->state, device->id, device, to);
	}
}

bool vm_devices_load(struct vm *vm, const uint8_t *from, size_t length, GError **error)
{
	const uint8_t *end = from + length;
	for (guint i = 0; i < vm->devices->len; i++) {
		struct device *device = vm->devices->pdata[i];
		if (device->class->state &&
		    !state_load(device->class->state, device->id, device, &from, end, error))
			return false;
	}
	if (from != end)
		return error_set(error, LODGE_ERROR_INVALID,
				 "the saved state has devices that this machine has not");
	return true;
}
