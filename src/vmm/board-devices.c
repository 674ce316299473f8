// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices that a machine's description asks for. They get PCI slots in this order: disks, network
 * cards, console, random numbers. */
#include "vmm/board-devices.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"

/* --- Disks --- */

static const struct {
	const char *name;
	enum block_cache cache;
} cache_modes[] = {
	{"none", BLOCK_CACHE_NONE},           {"writethrough", BLOCK_CACHE_WRITETHROUGH},
	{"writeback", BLOCK_CACHE_WRITEBACK}, {"directsync", BLOCK_CACHE_DIRECTSYNC},
	{"unsafe", BLOCK_CACHE_UNSAFE},
};

static enum block_cache cache_of(const struct machine_disk *disk)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(cache_modes); i++) {
		if (strcmp(cache_modes[i].name, disk->cache) == 0)
			return cache_modes[i].cache;
	}
	g_assert_not_reached(); /* the parser knows the same names */
}

/* Hands out the descriptor that the launcher opened for @path. The image owns a copy: the
 * description keeps its own, so a lock lives as long as both. */
static int give_file(void *opaque, const char *path, int flags, GError **error)
{
	const struct machine_disk *disk = opaque;
	for (guint i = 0; i < disk->images->len; i++) {
		const struct machine_image *image = disk->images->pdata[i];
		if (strcmp(image->file.name, path) != 0)
			continue;
		int fd = fcntl(image->file.fd, F_DUPFD_CLOEXEC, 3);
		int mode = fd < 0 ? -1 : fcntl(fd, F_GETFL);
		if (mode < 0) {
			error_set_errno(error, errno, "cannot use the descriptor %d of '%s'",
					image->file.fd, path);
		} else if ((flags & O_ACCMODE) == O_RDWR && (mode & O_ACCMODE) != O_RDWR) {
			error_set(error, LODGE_ERROR_INVALID,
				  "'%s' was opened for reading only: the disk must be 'readonly'",
				  path);
		} else if ((flags & O_DIRECT) && fcntl(fd, F_SETFL, mode | O_DIRECT) < 0) {
			error_set_errno(error, errno,
					"'%s': the file system has no direct I/O: use cache mode "
					"writeback",
					path);
		} else {
			return fd;
		}
		if (fd >= 0)
			close(fd);
		return -1;
	}
	error_set(error, LODGE_ERROR_INVALID,
		  "'%s' is part of a disk's chain, but the launcher did not open it", path);
	return -1;
}

static bool add_disk(struct board *board, const struct machine_disk *disk, GError **error)
{
	const struct machine_image *top = disk->images->pdata[0];
	const struct block_options options = {.file = top->file.name,
					      .format = top->format,
					      .cache = cache_of(disk),
					      .read_only = disk->read_only || top->read_only,
					      .discard = disk->discard,
					      .context = board->vm->context,
					      .open = give_file,
					      .open_opaque = (void *)(uintptr_t)disk};
	struct block *block = block_open(&options, error);
	if (!block)
		return false;
	g_ptr_array_add(board->blocks, block);
	const struct virtio_blk_config config = {
		.serial = disk->serial,
		.queues = disk->queues,
		.packed = board->config->packed,
		.writethrough = options.cache == BLOCK_CACHE_WRITETHROUGH ||
				options.cache == BLOCK_CACHE_DIRECTSYNC,
	};
	return virtio_blk_new(board->vm, pci_host_bus(board->pci), block, &config, error) != NULL;
}

/* --- The others --- */

static bool add_nic(struct board *board, const struct machine_nic *nic, GError **error)
{
	struct virtio_net_config config = {.fd = fcntl(nic->fd, F_DUPFD_CLOEXEC, 3),
					   .is_tap = nic->is_tap,
					   .packed = board->config->packed};
	if (config.fd < 0)
		return error_set_errno(error, errno, "cannot use the network descriptor %d",
				       nic->fd);
	close(nic->fd); /* the end of the peer must be seen: no copy may stay */
	memcpy(config.mac, nic->mac, sizeof(config.mac));
	return virtio_net_new(board->vm, pci_host_bus(board->pci), &config, error) != NULL;
}

static bool open_port(struct board *board, const char *spec, struct chardev **chardev,
		      GError **error)
{
	if (!spec)
		return true;
	*chardev = char_open(spec, board->vm->context, error);
	if (!*chardev)
		return false;
	g_ptr_array_add(board->chardevs, *chardev);
	return true;
}

static bool add_console(struct board *board, GError **error)
{
	const struct machine_config *config = board->config;
	struct virtio_console_port ports[VIRTIO_CONSOLE_PORTS_MAX] = {0};
	unsigned count = 1;
	if (!config->console && config->ports->len == 0)
		return true;
	if (config->ports->len >= VIRTIO_CONSOLE_PORTS_MAX)
		return error_set(error, LODGE_ERROR_INVALID, "more than %d console ports",
				 VIRTIO_CONSOLE_PORTS_MAX - 1);
	if (!open_port(board, config->console, &ports[0].chardev, error))
		return false;
	for (guint i = 0; i < config->ports->len; i++) {
		const struct machine_port *port = config->ports->pdata[i];
		ports[count].name = port->name;
		if (!open_port(board, port->backend, &ports[count].chardev, error))
			return false;
		count++;
	}
	return virtio_console_new(board->vm, pci_host_bus(board->pci), ports, count, config->packed,
				  error) != NULL;
}

bool board_add_devices(struct board *board, GError **error)
{
	const struct machine_config *config = board->config;
	for (guint i = 0; i < config->disks->len; i++) {
		if (!add_disk(board, config->disks->pdata[i], error))
			return false;
	}
	for (guint i = 0; i < config->nics->len; i++) {
		if (!add_nic(board, config->nics->pdata[i], error))
			return false;
	}
	if (!add_console(board, error))
		return false;
	return !config->rng ||
	       virtio_rng_new(board->vm, pci_host_bus(board->pci), config->packed, error) != NULL;
}

void board_describe_devices(const struct board *board, struct acpi_config *acpi)
{
}

/* The devices are gone: what the images still hold in memory goes to their files. */
void board_free_devices(struct board *board)
{
	for (guint i = 0; i < board->blocks->len; i++) {
		int result = block_close(board->blocks->pdata[i]);
		if (result < 0)
			g_warning("a disk could not be written out on closing: %s",
				  g_strerror(-result));
	}
	g_ptr_array_set_size(board->blocks, 0);
}
