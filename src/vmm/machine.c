// SPDX-License-Identifier: GPL-2.0-or-later
/* The machine description: JSON into checked structs. */
#include "vmm/machine.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { NOBODY = 65534, CPUS_MAX = 255, DISKS_MAX = 26, NICS_MAX = 16, CHAIN_MAX = 256 };
#define MEMORY_MIN (INT64_C(1) << 20)
#define MEMORY_MAX (INT64_C(1) << 39)

static bool parse_file(const struct json *parent, const char *key, struct machine_file *file,
		       GError **error)
{
	static const char *const known[] = {"fd", "name", NULL};
	const struct json *object = NULL;
	const char *name = key;
	int64_t fd = -1;
	file->fd = -1;
	if (!json_get_object(parent, key, false, &object, error))
		return false;
	if (!object)
		return true;
	if (!json_check_keys(object, known, error) ||
	    !json_get_int(object, "fd", true, 0, INT_MAX, &fd, error) ||
	    !json_get_string(object, "name", false, &name, error))
		return false;
	file->fd = (int)fd;
	file->name = g_strdup(name);
	return true;
}

static bool dup_string(const struct json *object, const char *key, char **out, GError **error)
{
	const char *text = NULL;
	if (!json_get_string(object, key, false, &text, error))
		return false;
	if (text) {
		g_free(*out);
		*out = g_strdup(text);
	}
	return true;
}

static void image_free(gpointer data)
{
	struct machine_image *image = data;
	g_free(image->file.name);
	g_free(image->format);
	g_free(image);
}

static void disk_free(gpointer data)
{
	struct machine_disk *disk = data;
	g_ptr_array_free(disk->images, TRUE);
	g_free(disk->cache);
	g_free(disk->serial);
	g_free(disk);
}

static void port_free(gpointer data)
{
	struct machine_port *port = data;
	g_free(port->name);
	g_free(port->backend);
	g_free(port);
}

static bool parse_image(const struct json *object, struct machine_disk *disk, GError **error)
{
	static const char *const known[] = {"file", "format", "readonly", NULL};
	struct machine_image *image = g_new0(struct machine_image, 1);
	g_ptr_array_add(disk->images, image);
	if (!json_check_keys(object, known, error) ||
	    !parse_file(object, "file", &image->file, error) ||
	    !dup_string(object, "format", &image->format, error) ||
	    !json_get_bool(object, "readonly", false, &image->read_only, error))
		return false;
	if (image->file.fd < 0)
		return error_set(error, LODGE_ERROR_INVALID, "an image has no 'file'");
	return true;
}

static bool parse_disk(const struct json *object, struct machine_config *config, GError **error)
{
	static const char *const known[] = {"images",  "cache",  "serial", "readonly",
					    "discard", "queues", NULL};
	static const char *const caches[] = {"none",       "writethrough", "writeback",
					     "directsync", "unsafe",       NULL};
	struct machine_disk *disk = g_new0(struct machine_disk, 1);
	const struct json *images = NULL;
	int64_t queues = 1;
	disk->images = g_ptr_array_new_with_free_func(image_free);
	disk->cache = g_strdup("writeback");
	g_ptr_array_add(config->disks, disk);
	if (!json_check_keys(object, known, error) ||
	    !json_get_array(object, "images", true, &images, error) ||
	    !dup_string(object, "cache", &disk->cache, error) ||
	    !dup_string(object, "serial", &disk->serial, error) ||
	    !json_get_bool(object, "readonly", false, &disk->read_only, error) ||
	    !json_get_bool(object, "discard", false, &disk->discard, error) ||
	    !json_get_int(object, "queues", false, 1, 16, &queues, error))
		return false;
	disk->queues = (unsigned)queues;
	if (!g_strv_contains(caches, disk->cache))
		return error_set(error, LODGE_ERROR_INVALID, "there is no cache mode '%s'",
				 disk->cache);
	if (disk->serial && strlen(disk->serial) > 20)
		return error_set(error, LODGE_ERROR_INVALID,
				 "the disk serial '%s' is longer than 20 characters", disk->serial);
	if (images->items->len == 0 || images->items->len > CHAIN_MAX)
		return error_set(error, LODGE_ERROR_INVALID, "a disk needs 1 to %d images",
				 CHAIN_MAX);
	for (guint i = 0; i < images->items->len; i++) {
		if (!parse_image(images->items->pdata[i], disk, error))
			return false;
	}
	return true;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
	for (unsigned i = 0; i < 6; i++) {
		int high = g_ascii_xdigit_value(text[3 * i]);
		int low = high < 0 ? -1 : g_ascii_xdigit_value(text[3 * i + 1]);
		if (low < 0 || text[3 * i + 2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return !(mac[0] & 1);
}

static bool parse_nic(const struct json *object, struct machine_config *config, GError **error)
{
	static const char *const known[] = {"backend", "fd", "mac", NULL};
	const char *backend = NULL, *mac = NULL;
	int64_t fd = -1;
	struct machine_nic *nic = g_new0(struct machine_nic, 1);
	g_ptr_array_add(config->nics, nic);
	if (!json_check_keys(object, known, error) ||
	    !json_get_string(object, "backend", true, &backend, error) ||
	    !json_get_string(object, "mac", true, &mac, error) ||
	    !json_get_int(object, "fd", true, 0, INT_MAX, &fd, error))
		return false;
	nic->fd = (int)fd;
	nic->is_tap = strcmp(backend, "tap") == 0;
	if (!nic->is_tap && strcmp(backend, "stream") != 0)
		return error_set(error, LODGE_ERROR_INVALID, "there is no network back end '%s'",
				 backend);
	if (!parse_mac(mac, nic->mac))
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%s' is no unicast MAC address like 52:54:00:12:34:56", mac);
	return true;
}

static bool parse_port(const struct json *object, struct machine_config *config, GError **error)
{
	static const char *const known[] = {"name", "backend", NULL};
	struct machine_port *port = g_new0(struct machine_port, 1);
	g_ptr_array_add(config->ports, port);
	if (!json_check_keys(object, known, error) ||
	    !dup_string(object, "name", &port->name, error) ||
	    !dup_string(object, "backend", &port->backend, error))
		return false;
	return (port->name && port->backend) ||
	       error_set(error, LODGE_ERROR_INVALID, "a port needs 'name' and 'backend'");
}

static bool parse_list(const struct json *json, const char *key, unsigned max,
		       bool (*parse)(const struct json *, struct machine_config *, GError **),
		       struct machine_config *config, GError **error)
{
	const struct json *array = NULL;
	if (!json_get_array(json, key, false, &array, error))
		return false;
	if (array && array->items->len > max)
		return error_set(error, LODGE_ERROR_INVALID, "more than %u of '%s'", max, key);
	for (guint i = 0; array && i < array->items->len; i++) {
		if (!parse(array->items->pdata[i], config, error)) {
			g_prefix_error(error, "%s[%u]: ", key, i);
			return false;
		}
	}
	return true;
}

static bool parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned n = 0;
	if (!g_uuid_string_is_valid(text))
		return false;
	for (const char *p = text; *p; p++) {
		if (*p == '-')
			continue;
		int digit = g_ascii_xdigit_value(*p);
		uuid[n / 2] = (uint8_t)(uuid[n / 2] << 4 | digit);
		n++;
	}
	return true;
}

static bool parse_scalars(const struct json *json, struct machine_config *config, GError **error)
{
	int64_t memory = 0, cpus = 1, uid = NOBODY, gid = NOBODY;
	const char *uuid = NULL;
	if (!dup_string(json, "name", &config->name, error) ||
	    !json_get_string(json, "uuid", false, &uuid, error) ||
	    !json_get_int(json, "memory_bytes", true, MEMORY_MIN, MEMORY_MAX, &memory, error) ||
	    !json_get_int(json, "cpus", false, 1, CPUS_MAX, &cpus, error) ||
	    !dup_string(json, "accel", &config->accel, error) ||
	    !dup_string(json, "append", &config->append, error) ||
	    !dup_string(json, "serial", &config->serial, error) ||
	    !dup_string(json, "console", &config->console, error) ||
	    !json_get_bool(json, "huge_pages", false, &config->huge_pages, error) ||
	    !json_get_bool(json, "shared_memory", false, &config->shared_memory, error) ||
	    !json_get_bool(json, "mergeable", false, &config->mergeable, error) ||
	    !json_get_bool(json, "no_reboot", false, &config->no_reboot, error) ||
	    !json_get_bool(json, "paused", false, &config->paused, error) ||
	    !json_get_int(json, "uid", false, 1, UINT32_MAX - 1, &uid, error) ||
	    !json_get_int(json, "gid", false, 1, UINT32_MAX - 1, &gid, error) ||
	    !json_get_bool(json, "no_sandbox", false, &config->no_sandbox, error) ||
	    !json_get_bool(json, "end_with_parent", false, &config->end_with_parent, error) ||
	    !json_get_bool(json, "test_device", false, &config->test_device, error) ||
	    !json_get_bool(json, "rng", false, &config->rng, error) ||
	    !json_get_bool(json, "packed", false, &config->packed, error))
		return false;
	if (memory % 4096)
		return error_set(error, LODGE_ERROR_INVALID,
				 "'memory_bytes' is no multiple of 4096");
	if (uuid && !parse_uuid(uuid, config->uuid))
		return error_set(error, LODGE_ERROR_INVALID, "'%s' is no UUID", uuid);
	config->memory_bytes = (uint64_t)memory;
	config->cpus = (unsigned)cpus;
	config->uid = (unsigned)uid;
	config->gid = (unsigned)gid;
	return true;
}

struct machine_config *machine_config_parse(const struct json *json, GError **error)
{
	static const char *const known[] = {
		"name",      "uuid",       "memory_bytes",    "cpus",
		"accel",     "append",     "serial",          "console",
		"ports",     "huge_pages", "shared_memory",   "mergeable",
		"no_reboot", "paused",     "test_device",     "no_sandbox",
		"uid",       "gid",        "end_with_parent", "rng",
		"packed",    "kernel",     "initrd",          "firmware",
		"disks",     "nics",       "control",         "debug_log",
		"status",    NULL};
	struct machine_config *config = g_new0(struct machine_config, 1);
	config->name = g_strdup("guest");
	config->accel = g_strdup("auto");
	config->disks = g_ptr_array_new_with_free_func(disk_free);
	config->nics = g_ptr_array_new_with_free_func(g_free);
	config->ports = g_ptr_array_new_with_free_func(port_free);
	config->kernel.fd = config->initrd.fd = config->firmware.fd = -1;
	config->control.fd = config->debug_log.fd = config->status.fd = -1;
	bool ok = json->type == JSON_OBJECT ||
		  error_set(error, LODGE_ERROR_INVALID, "the description is no JSON object");
	ok = ok && json_check_keys(json, known, error) && parse_scalars(json, config, error) &&
	     parse_file(json, "kernel", &config->kernel, error) &&
	     parse_file(json, "initrd", &config->initrd, error) &&
	     parse_file(json, "firmware", &config->firmware, error) &&
	     parse_file(json, "control", &config->control, error) &&
	     parse_file(json, "debug_log", &config->debug_log, error) &&
	     parse_file(json, "status", &config->status, error) &&
	     parse_list(json, "disks", DISKS_MAX, parse_disk, config, error) &&
	     parse_list(json, "nics", NICS_MAX, parse_nic, config, error) &&
	     parse_list(json, "ports", 30, parse_port, config, error);
	if (ok && config->kernel.fd < 0 && config->firmware.fd < 0)
		ok = error_set(error, LODGE_ERROR_INVALID,
			       "the machine has neither kernel nor firmware");
	if (ok)
		return config;
	machine_config_free(config);
	return NULL;
}

void machine_config_free(struct machine_config *config)
{
	struct machine_file *files[] = {&config->kernel,  &config->initrd,    &config->firmware,
					&config->control, &config->debug_log, &config->status};
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
		g_free(files[i]->name);
	g_ptr_array_free(config->disks, TRUE);
	g_ptr_array_free(config->nics, TRUE);
	g_ptr_array_free(config->ports, TRUE);
	g_free(config->name);
	g_free(config->accel);
	g_free(config->append);
	g_free(config->serial);
	g_free(config->console);
	g_free(config);
}
