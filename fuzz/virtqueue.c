// SPDX-License-Identifier: GPL-2.0-or-later
/* A guest that means harm: the bytes say what it writes to registers and to its memory, where the
 * rings of a disk, a network card, a console and a random number generator lie. Whatever comes, the
 * devices neither crash nor go on for ever. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accel/accel.h"
#include "block/block.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "vm/vm.h"

enum { RAM_BYTES = 1 << 20, DEVICES = 4, STEPS_MAX = 400, DISK_BYTES = 256 << 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

struct machine {
	GMainContext *context;
	struct vm *vm;
	struct pci_bus *bus;
	struct ram *ram;
	struct block *block;
	struct chardev *chardev;
	int net_peer, char_peer;
	struct pci_function *devices[DEVICES];
};

struct input {
	const uint8_t *at, *end;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		value |= (uint32_t)*in->at++ << (8 * i);
	return value;
}

static void silence(const char *domain, GLogLevelFlags level, const char *message, void *opaque)
{
}

static void on_intx(void *opaque, uint8_t devfn, unsigned pin, bool level)
{
}

static int open_disk(void *opaque, const char *path, int flags, GError **error)
{
	int fd = memfd_create(path, MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, DISK_BYTES) < 0)
		g_error("no memory file: %s", g_strerror(errno));
	return fd;
}

static void make_devices(struct machine *m, bool packed)
{
	int net[2], port[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, net) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, port) < 0)
		g_error("no sockets: %s", g_strerror(errno));
	const struct block_options options = {.file = "disk",
					      .format = "raw",
					      .cache = BLOCK_CACHE_UNSAFE,
					      .unlocked = true,
					      .no_io_uring = true,
					      .discard = true,
					      .context = m->context,
					      .open = open_disk};
	m->block = block_open(&options, NULL);
	g_assert(m->block);
	g_autofree char *spec = g_strdup_printf("fd:%d", port[0]);
	m->chardev = char_open(spec, m->context, NULL);
	m->net_peer = net[1];
	m->char_peer = port[1];
	const struct virtio_blk_config blk = {.queues = 2, .packed = packed};
	const struct virtio_net_config nic = {.fd = net[0], .packed = packed};
	const struct virtio_console_port ports[2] = {{NULL, m->chardev}, {"p", NULL}};
	m->devices[0] = (struct pci_function *)virtio_blk_new(m->vm, m->bus, m->block, &blk, NULL);
	m->devices[1] = (struct pci_function *)virtio_net_new(m->vm, m->bus, &nic, NULL);
	m->devices[2] =
		(struct pci_function *)virtio_console_new(m->vm, m->bus, ports, 2, packed, NULL);
	m->devices[3] = (struct pci_function *)virtio_rng_new(m->vm, m->bus, packed, NULL);
}

static void machine_init(struct machine *m, bool packed)
{
	m->context = g_main_context_new();
	m->vm = vm_new(&accel_test, m->context, NULL);
	m->ram = ram_new(m->vm, "ram", RAM_BYTES, 0, NULL);
	ram_map(m->vm, m->ram, 0, 0, RAM_BYTES / 2, false, NULL);
	ram_map(m->vm, m->ram, RAM_BYTES / 2, RAM_BYTES / 2, RAM_BYTES / 2, false, NULL);
	m->bus = pci_bus_new(m->vm, on_intx, m);
	make_devices(m, packed);
	if (!vm_reset(m->vm, NULL) ||
	    !pci_bus_assign(m->bus, 0xc0000000, 0xd0000000, 0xc000, NULL) || !vm_start(m->vm, NULL))
		g_error("the machine does not start");
}

static void machine_fini(struct machine *m)
{
	vm_free(m->vm);
	pci_bus_free(m->bus);
	block_close(m->block);
	char_free(m->chardev);
	close(m->net_peer);
	close(m->char_peer);
	g_main_context_unref(m->context);
}

static uint64_t registers(const struct machine *m, unsigned device)
{
	return pci_bar_address(m->devices[device], 4);
}

static void write_common(struct machine *m, unsigned device, unsigned offset, uint32_t value,
			 unsigned size)
{
	uint64_t bar = registers(m, device);
	if (bar != UINT64_MAX)
		vm_window_write(m->vm, WINDOW_MMIO, bar + offset, value, size);
}

/* A driver that does right so far: rings at 0x1000 * (8 * device + queue). */
static void bring_up(struct machine *m, unsigned device, struct input *in)
{
	uint32_t features = take(in, 4);
	write_common(m, device, 0x14, 0, 1);
	write_common(m, device, 0x14, 3, 1);
	for (unsigned i = 0; i < 2; i++) {
		write_common(m, device, 0x00, i, 4);
		uint32_t offered =
			(uint32_t)vm_window_read(m->vm, WINDOW_MMIO, registers(m, device) + 4, 4);
		write_common(m, device, 0x08, i, 4);
		write_common(m, device, 0x0c, i ? offered : offered & features, 4);
	}
	write_common(m, device, 0x14, 0xb, 1);
	for (unsigned queue = 0; queue < 6; queue++) {
		uint32_t base = 0x1000 * (8 * device + queue);
		write_common(m, device, 0x16, queue, 2);
		write_common(m, device, 0x18, 16, 2);
		write_common(m, device, 0x20, base, 4);
		write_common(m, device, 0x28, base + 0x400, 4);
		write_common(m, device, 0x30, base + 0x800, 4);
		write_common(m, device, 0x1c, 1, 2);
	}
	write_common(m, device, 0x14, 0xf, 1);
}

static void fill_memory(struct machine *m, struct input *in)
{
	uint32_t at = take(in, 3) % RAM_BYTES;
	uint32_t count = 1 + take(in, 1) % 64;
	for (uint32_t i = 0; i < count && at + i < RAM_BYTES && in->at < in->end; i++)
		m->ram->host[at + i] = *in->at++;
}

static void step(struct machine *m, struct input *in)
{
	unsigned what = take(in, 1), device = (what >> 4) % DEVICES;
	uint64_t bar = registers(m, device);
	char byte = (char)what;
	switch (what & 15) {
	case 0:
		bring_up(m, device, in);
		break;
	case 1:
	case 2:
	case 3:
	case 4:
		fill_memory(m, in);
		break;
	case 5:
	case 6:
	case 7:
		if (bar != UINT64_MAX)
			vm_window_write(m->vm, WINDOW_MMIO, bar + 0x3000 + 4 * take(in, 1), 0, 2);
		break;
	case 8:
		write_common(m, device, take(in, 2) & 0x3fff, take(in, 4), 1u << (what >> 6));
		break;
	case 9:
		pci_bus_config_write(m->bus, m->devices[device]->devfn, take(in, 1) & 0xfc,
				     take(in, 4), 4);
		break;
	case 10:
		if (bar != UINT64_MAX)
			vm_window_read(m->vm, WINDOW_MMIO, bar + (take(in, 2) & 0x3fff), 4);
		break;
	case 11: /* frames from the network, bytes for the console */
		(void)!send(m->net_peer, in->at, MIN(64, in->end - in->at), MSG_NOSIGNAL);
		(void)!send(m->char_peer, &byte, 1, MSG_NOSIGNAL);
		break;
	case 12:
		vm_clock_advance(m->vm, 100000000);
		break;
	default:
		for (unsigned i = 0; i < 20 && g_main_context_iteration(m->context, FALSE); i++)
			;
		break;
	}
}

/* What was saved can be loaded again, whatever the guest has done. */
static void check_state(struct machine *m)
{
	g_autoptr(GByteArray) state = g_byte_array_new();
	g_autoptr(GError) error = NULL;
	for (guint i = 0; i < m->vm->devices->len; i++) {
		struct device *device = m->vm->devices->pdata[i];
		if (device->class->drain)
			device->class->drain(device);
	}
	vm_devices_save(m->vm, state);
	if (!vm_devices_load(m->vm, state->data, state->len, &error))
		g_error("what was saved cannot be loaded: %s", error->message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct input in = {data, data + length};
	struct machine m;
	g_log_set_handler(NULL, G_LOG_LEVEL_WARNING, silence, NULL);
	machine_init(&m, take(&in, 1) & 1);
	for (unsigned i = 0; i < STEPS_MAX && in.at < in.end; i++)
		step(&m, &in);
	check_state(&m);
	machine_fini(&m);
	return 0;
}
