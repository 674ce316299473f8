// SPDX-License-Identifier: GPL-2.0-or-later
/* The virtio PCI transport (VIRTIO 1.2, 4.1): registers in BAR 4, status machine, interrupts,
 * doorbells. BAR 4 holds four pages: common configuration, ISR, device configuration, doorbells. */
#include "virtio/pci.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "vm/vm.h"

enum {
	REGISTERS_BAR = 4,
	MSIX_BAR = 1,
	REGISTERS_SIZE = 0x4000,
	PAGE_COMMON = 0,
	PAGE_ISR = 1,
	PAGE_DEVICE = 2,
	PAGE_NOTIFY = 3,
	NOTIFY_MULTIPLIER = 4,
	COMMON_SIZE = 0x38,
	COMPLAINT_PERIOD_US = 1000000,
};

enum { CAP_VENDOR = 0x09, CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI };

enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 0x40,
	STATUS_FAILED = 0x80,
};

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

enum {
	REG_OFFERED_SELECT = 0x00,
	REG_OFFERED = 0x04,
	REG_FEATURES_SELECT = 0x08,
	REG_FEATURES = 0x0c,
	REG_CONFIG_VECTOR = 0x10,
	REG_QUEUE_COUNT = 0x12,
	REG_STATUS = 0x14,
	REG_GENERATION = 0x15,
	REG_QUEUE_SELECT = 0x16,
	REG_QUEUE_SIZE = 0x18,
	REG_QUEUE_VECTOR = 0x1a,
	REG_QUEUE_ENABLE = 0x1c,
	REG_QUEUE_NOTIFY = 0x1e,
	REG_QUEUE_DESC = 0x20,
	REG_QUEUE_DRIVER = 0x28,
	REG_QUEUE_DEVICE = 0x30,
};

/* An ioeventfd and what listens to it. */
struct virtio_notifier {
	struct virtio *virtio;
	unsigned queue;
	int fd;
	GSource *source;
};

static struct vm *vm_of(const struct virtio *v)
{
	return v->pci.device.vm;
}

/* --- Locks and INTx --- */

void virtio_lock(struct virtio *v)
{
	g_mutex_lock(&v->lock);
}

static void check_queues(struct virtio *v);

/* Both locks are held. */
static void drive_intx(struct virtio *v)
{
	v->intx_stale = false;
	pci_intx_set(&v->pci, v->isr && !pci_msix_enabled(&v->pci));
}

void virtio_unlock_in_machine(struct virtio *v)
{
	check_queues(v);
	if (v->intx_stale)
		drive_intx(v);
	g_mutex_unlock(&v->lock);
}

void virtio_unlock(struct virtio *v)
{
	struct vm *vm = vm_of(v);
	check_queues(v);
	bool stale = v->intx_stale;
	g_mutex_unlock(&v->lock);
	if (!stale)
		return;
	g_mutex_lock(&vm->lock);
	g_mutex_lock(&v->lock);
	drive_intx(v);
	g_mutex_unlock(&v->lock);
	g_mutex_unlock(&vm->lock);
}

static void finish(struct virtio *v, bool in_machine)
{
	if (in_machine)
		virtio_unlock_in_machine(v);
	else
		virtio_unlock(v);
}

static void raise_isr(struct virtio *v, uint8_t isr, uint16_t vector)
{
	if (pci_msix_enabled(&v->pci)) {
		if (vector != QUEUE_NO_VECTOR)
			pci_msix_send(&v->pci, vector);
		return;
	}
	v->isr |= isr;
	v->intx_stale = true;
}

void virtio_interrupt(struct virtio *v, unsigned queue)
{
	if (queue_should_interrupt(&v->queues[queue]))
		raise_isr(v, ISR_QUEUE, v->queues[queue].vector);
}

void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (v->status & STATUS_DRIVER_OK)
		raise_isr(v, ISR_CONFIG, v->config_vector);
}

/* --- Faults --- */

void virtio_set_fault(struct virtio *v, const char *reason)
{
	gint64 now = g_get_monotonic_time();
	if (v->status & STATUS_NEEDS_RESET)
		return;
	v->status |= STATUS_NEEDS_RESET;
	virtio_config_changed(v);
	v->complaints++;
	if (v->complained_us && now - v->complained_us < COMPLAINT_PERIOD_US)
		return;
	g_warning("%s: the guest's driver is at fault (%u): %s; the device waits for a reset",
		  v->pci.device.id, v->complaints, reason);
	v->complained_us = now;
}

static void check_queues(struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		if (v->queues[i].fault)
			virtio_set_fault(v, v->queues[i].fault);
	}
}

bool virtio_is_live(const struct virtio *v)
{
	return (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK &&
	       !v->resetting && v->running;
}

/* --- Work on the main loop --- */

static void kick(struct virtio *v, unsigned queue)
{
	if (virtio_is_live(v) && queue_is_ready(&v->queues[queue]))
		v->ops->kick(v, queue);
}

void virtio_kick_later(struct virtio *v, unsigned queue)
{
	v->again |= UINT64_C(1) << queue;
	g_source_set_ready_time(v->source, 0);
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
	return callback(data);
}

static GSourceFuncs source_funcs = {.dispatch = source_dispatch};

static gboolean work(gpointer data)
{
	struct virtio *v = data;
	virtio_lock(v);
	g_source_set_ready_time(v->source, -1);
	uint64_t queues = v->again;
	v->again = 0;
	for (; queues; queues &= queues - 1)
		kick(v, (unsigned)__builtin_ctzll(queues));
	virtio_unlock(v);
	return G_SOURCE_CONTINUE;
}

static void on_vm_event(void *opaque, enum vm_event_kind kind, const char *detail)
{
	struct virtio *v = opaque;
	if (kind != VM_EVENT_RESUME && kind != VM_EVENT_STOP)
		return;
	virtio_lock(v);
	v->running = kind == VM_EVENT_RESUME;
	if (v->running && (v->status & STATUS_DRIVER_OK)) {
		for (unsigned i = 0; i < v->queue_count; i++)
			virtio_kick_later(v, i);
		if (v->ops->resumed && virtio_is_live(v))
			v->ops->resumed(v);
	}
	virtio_unlock(v);
}

/* --- Doorbells through eventfds --- */

static gboolean on_doorbell(gint fd, GIOCondition condition, gpointer data)
{
	struct virtio_notifier *n = data;
	eventfd_t count;
	(void)eventfd_read(fd, &count);
	virtio_lock(n->virtio);
	kick(n->virtio, n->queue);
	virtio_unlock(n->virtio);
	return G_SOURCE_CONTINUE;
}

static bool set_doorbell(struct virtio *v, const struct virtio_notifier *n, bool add)
{
	struct vm *vm = vm_of(v);
	uint64_t address = v->doorbells + n->queue * NOTIFY_MULTIPLIER;
	/* After a handover to another accelerator there is nothing to take away. */
	return (vm->accel_caps & ACCEL_EVENTFDS) &&
	       vm->accel->irq->ioeventfd(vm, address, 2, false, n->fd, add, NULL);
}

static void drop_notifier(struct virtio_notifier *n)
{
	if (n->source) {
		g_source_destroy(n->source);
		g_source_unref(n->source);
	}
	if (n->fd >= 0)
		close(n->fd);
}

static void drop_doorbells(struct virtio *v)
{
	if (!v->notifiers)
		return;
	for (unsigned i = 0; i < v->queue_count; i++) {
		if (v->notifiers[i].source)
			set_doorbell(v, &v->notifiers[i], false);
		drop_notifier(&v->notifiers[i]);
	}
	g_free(v->notifiers);
	v->notifiers = NULL;
}

/* What cannot be had is no loss: the vCPU then exits to the window. */
static void add_doorbells(struct virtio *v)
{
	uint64_t bar = pci_bar_address(&v->pci, REGISTERS_BAR);
	if (!(vm_of(v)->accel_caps & ACCEL_EVENTFDS) || bar == UINT64_MAX || v->notifiers)
		return;
	v->doorbells = bar + PAGE_NOTIFY * 0x1000;
	v->notifiers = g_new0(struct virtio_notifier, v->queue_count);
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtio_notifier *n = &v->notifiers[i];
		*n = (struct virtio_notifier){.virtio = v, .queue = i, .fd = -1};
		if (!v->queues[i].enabled)
			continue;
		n->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (n->fd < 0 || !set_doorbell(v, n, true))
			continue;
		n->source = g_unix_fd_source_new(n->fd, G_IO_IN);
		g_source_set_callback(n->source, G_SOURCE_FUNC(on_doorbell), n, NULL);
		g_source_attach(n->source, vm_of(v)->context);
	}
}

/* --- Status --- */

static void reset_transport(struct virtio *v)
{
	drop_doorbells(v);
	v->features = 0;
	v->offered_select = v->features_select = 0;
	v->queue_select = 0;
	v->config_vector = QUEUE_NO_VECTOR;
	v->status = v->isr = 0;
	v->again = 0;
	v->resetting = false;
	v->intx_stale = true;
	for (unsigned i = 0; i < v->queue_count; i++)
		queue_reset(&v->queues[i]);
	if (v->ops->reset)
		v->ops->reset(v);
}

void virtio_quiesced(struct virtio *v)
{
	if (v->resetting)
		reset_transport(v);
}

static void write_status(struct virtio *v, uint8_t value)
{
	uint8_t raised = value & ~v->status;
	if (v->resetting)
		return;
	if (value == 0) {
		/* The driver waits until it reads 0: elements in flight come back first. */
		v->resetting = true;
		if (!v->ops->quiesce || v->ops->quiesce(v))
			reset_transport(v);
		return;
	}
	if ((raised & STATUS_FEATURES_OK) &&
	    ((v->features & ~v->offered) || !(v->features & VIRTIO_F_VERSION_1)))
		value &= (uint8_t)~STATUS_FEATURES_OK;
	if (!(value & STATUS_FEATURES_OK))
		value &= (uint8_t)~STATUS_DRIVER_OK;
	v->status |= value & ~STATUS_NEEDS_RESET;
	if ((raised & STATUS_DRIVER_OK) && (v->status & STATUS_DRIVER_OK)) {
		add_doorbells(v);
		if (v->ops->driver_ok && virtio_is_live(v))
			v->ops->driver_ok(v);
		for (unsigned i = 0; i < v->queue_count; i++)
			kick(v, i);
	}
}

/* --- Common configuration --- */

static void enable_queue(struct virtio *v, struct queue *q)
{
	if (q->enabled || v->resetting || !(v->status & STATUS_FEATURES_OK))
		return;
	q->packed = v->features & VIRTIO_F_PACKED;
	q->event_idx = v->features & VIRTIO_F_EVENT_IDX;
	q->indirect = v->features & VIRTIO_F_INDIRECT;
	queue_enable(q);
}

static struct queue *selected(struct virtio *v)
{
	return v->queue_select < v->queue_count ? &v->queues[v->queue_select] : NULL;
}

static uint32_t half(uint64_t value, uint32_t select)
{
	return select < 2 ? (uint32_t)(value >> (32 * select)) : 0;
}

static void put64(uint8_t *p, uint64_t value)
{
	pci_set32(p, (uint32_t)value);
	pci_set32(p + 4, (uint32_t)(value >> 32));
}

static void render_common(struct virtio *v, uint8_t r[COMMON_SIZE])
{
	const struct queue *q = selected(v);
	memset(r, 0, COMMON_SIZE);
	pci_set32(r + REG_OFFERED_SELECT, v->offered_select);
	pci_set32(r + REG_OFFERED, half(v->offered, v->offered_select));
	pci_set32(r + REG_FEATURES_SELECT, v->features_select);
	pci_set32(r + REG_FEATURES, half(v->features, v->features_select));
	pci_set16(r + REG_CONFIG_VECTOR, v->config_vector);
	pci_set16(r + REG_QUEUE_COUNT, (uint16_t)v->queue_count);
	r[REG_STATUS] = v->status;
	r[REG_GENERATION] = v->generation;
	pci_set16(r + REG_QUEUE_SELECT, v->queue_select);
	if (!q)
		return;
	pci_set16(r + REG_QUEUE_SIZE, q->size);
	pci_set16(r + REG_QUEUE_VECTOR, q->vector);
	pci_set16(r + REG_QUEUE_ENABLE, q->enabled);
	pci_set16(r + REG_QUEUE_NOTIFY, v->queue_select);
	put64(r + REG_QUEUE_DESC, q->desc_gpa);
	put64(r + REG_QUEUE_DRIVER, q->driver_gpa);
	put64(r + REG_QUEUE_DEVICE, q->device_gpa);
}

static void set_half(uint64_t *to, uint32_t select, uint32_t value)
{
	if (select == 0)
		*to = (*to & ~UINT64_C(0xffffffff)) | value;
	else if (select == 1)
		*to = (*to & UINT64_C(0xffffffff)) | (uint64_t)value << 32;
}

static void write_queue(struct virtio *v, unsigned offset, uint32_t value)
{
	struct queue *q = selected(v);
	if (!q)
		return;
	if (offset == REG_QUEUE_VECTOR) {
		q->vector = value < v->pci.msix.count ? (uint16_t)value : QUEUE_NO_VECTOR;
		return;
	}
	if (q->enabled) /* the rest is fixed until a reset */
		return;
	switch (offset) {
	case REG_QUEUE_SIZE:
		if (value && value <= q->size_max)
			q->size = (uint16_t)value;
		break;
	case REG_QUEUE_ENABLE:
		if (value == 1)
			enable_queue(v, q);
		break;
	case REG_QUEUE_DESC:
	case REG_QUEUE_DESC + 4:
		set_half(&q->desc_gpa, (offset - REG_QUEUE_DESC) / 4, value);
		break;
	case REG_QUEUE_DRIVER:
	case REG_QUEUE_DRIVER + 4:
		set_half(&q->driver_gpa, (offset - REG_QUEUE_DRIVER) / 4, value);
		break;
	case REG_QUEUE_DEVICE:
	case REG_QUEUE_DEVICE + 4:
		set_half(&q->device_gpa, (offset - REG_QUEUE_DEVICE) / 4, value);
		break;
	}
}

/* Registers are written in their own width (VIRTIO 1.2, 4.1.3.1); other widths do nothing. */
static void write_common(struct virtio *v, unsigned offset, uint32_t value, unsigned size)
{
	unsigned width = offset < REG_CONFIG_VECTOR || offset >= REG_QUEUE_DESC ? 4
			 : offset == REG_STATUS                                 ? 1
										: 2;
	if (size != width)
		return;
	switch (offset) {
	case REG_OFFERED_SELECT:
		v->offered_select = value;
		break;
	case REG_FEATURES_SELECT:
		v->features_select = value;
		break;
	case REG_FEATURES:
		if (!(v->status & STATUS_FEATURES_OK))
			set_half(&v->features, v->features_select, value);
		break;
	case REG_CONFIG_VECTOR:
		v->config_vector = value < v->pci.msix.count ? (uint16_t)value : QUEUE_NO_VECTOR;
		break;
	case REG_STATUS:
		write_status(v, (uint8_t)value);
		break;
	case REG_QUEUE_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	default:
		write_queue(v, offset, value);
		break;
	}
}

/* --- BAR 4 --- */

static uint32_t registers_read_locked(struct virtio *v, unsigned page, unsigned at, unsigned size)
{
	uint8_t common[COMMON_SIZE];
	uint32_t value = 0;
	switch (page) {
	case PAGE_COMMON:
		render_common(v, common);
		if (at + size <= COMMON_SIZE)
			memcpy(&value, common + at, size);
		break;
	case PAGE_ISR:
		if (at == 0) {
			value = v->isr;
			v->isr = 0;
			v->intx_stale = true;
		}
		break;
	case PAGE_DEVICE:
		if (at + size <= v->config_size)
			memcpy(&value, v->config + at, size);
		break;
	default:
		break;
	}
	return value;
}

static void registers_write_locked(struct virtio *v, unsigned page, unsigned at, uint32_t value,
				   unsigned size)
{
	switch (page) {
	case PAGE_COMMON:
		write_common(v, at, value, size);
		break;
	case PAGE_DEVICE:
		if (at + size <= v->config_size && v->ops->config_written) {
			memcpy(v->config + at, &value, size);
			v->ops->config_written(v, at, size);
		}
		break;
	case PAGE_NOTIFY:
		if (at % NOTIFY_MULTIPLIER == 0 && at / NOTIFY_MULTIPLIER < v->queue_count)
			kick(v, at / NOTIFY_MULTIPLIER);
		break;
	default:
		break;
	}
}

static uint64_t registers_read(void *device, uint64_t offset, unsigned size)
{
	struct virtio *v = device;
	virtio_lock(v);
	uint32_t value =
		registers_read_locked(v, (unsigned)offset >> 12, (unsigned)offset & 0xfff, size);
	virtio_unlock(v);
	return value;
}

static void registers_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct virtio *v = device;
	virtio_lock(v);
	registers_write_locked(v, (unsigned)offset >> 12, (unsigned)offset & 0xfff, (uint32_t)value,
			       size);
	virtio_unlock(v);
}

static const struct window_ops registers_ops = {
	.read = registers_read, .write = registers_write, .unlocked = true};

/* --- Configuration space --- */

/* The access window of the PCI capability, when it names a whole register of BAR 4. */
static bool cfg_window(const struct virtio *v, unsigned *offset, unsigned *size)
{
	const uint8_t *cap = &v->pci.config[v->pci.last_cap];
	*offset = pci_get32(cap + 8);
	*size = pci_get32(cap + 12);
	return cap[4] == REGISTERS_BAR && (*size == 1 || *size == 2 || *size == 4) &&
	       *offset % *size == 0 && *offset < REGISTERS_SIZE;
}

static bool touches_cfg_data(const struct virtio *v, unsigned offset, unsigned size)
{
	unsigned data = v->pci.last_cap + 16u;
	return offset < data + 4 && data < offset + size;
}

static void config_reading(struct pci_function *f, unsigned offset, unsigned size)
{
	struct virtio *v = (struct virtio *)f;
	unsigned at, width;
	if (!touches_cfg_data(v, offset, size) || !cfg_window(v, &at, &width))
		return;
	virtio_lock(v);
	uint32_t value = registers_read_locked(v, at >> 12, at & 0xfff, width);
	finish(v, true);
	pci_set32(&f->config[f->last_cap + 16], value);
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct virtio *v = (struct virtio *)f;
	unsigned at, width;
	virtio_lock(v);
	if (touches_cfg_data(v, offset, size) && cfg_window(v, &at, &width))
		registers_write_locked(v, at >> 12, at & 0xfff,
				       pci_get32(&f->config[f->last_cap + 16]) &
					       (UINT32_MAX >> (32 - 8 * width)),
				       width);
	uint64_t bar = pci_bar_address(f, REGISTERS_BAR);
	if (v->notifiers && bar + PAGE_NOTIFY * 0x1000 != v->doorbells) {
		drop_doorbells(v);
		add_doorbells(v);
	}
	v->intx_stale = true; /* MSI-X may have been switched */
	finish(v, true);
}

static const struct pci_ops pci_ops = {.config_reading = config_reading,
				       .config_written = config_written};

static void add_capability(struct virtio *v, uint8_t kind, unsigned page, uint32_t length)
{
	unsigned size = kind == CAP_NOTIFY || kind == CAP_PCI ? 20 : 16;
	unsigned cap = pci_capability_add(&v->pci, CAP_VENDOR, size);
	uint8_t *c = &v->pci.config[cap];
	c[2] = (uint8_t)size;
	c[3] = kind;
	if (kind == CAP_PCI) {
		memset(&v->pci.writable[cap + 4], 0xff, 1);
		memset(&v->pci.writable[cap + 8], 0xff, 12);
		return;
	}
	c[4] = REGISTERS_BAR;
	pci_set32(c + 8, page * 0x1000);
	pci_set32(c + 12, length);
	if (kind == CAP_NOTIFY)
		pci_set32(c + 16, NOTIFY_MULTIPLIER);
}

/* --- Life --- */

static void init_pci(struct virtio *v, const struct virtio_config *config)
{
	v->pci.config[0x3d] = 1; /* INTA */
	pci_bar_add(&v->pci, REGISTERS_BAR, WINDOW_MMIO, REGISTERS_SIZE, true, true, &registers_ops,
		    v);
	pci_msix_add(&v->pci, MSIX_BAR, (uint16_t)MIN(config->queue_count + 1, (unsigned)MSIX_MAX));
	add_capability(v, CAP_COMMON, PAGE_COMMON, COMMON_SIZE);
	add_capability(v, CAP_ISR, PAGE_ISR, 1);
	if (config->config_size)
		add_capability(v, CAP_DEVICE, PAGE_DEVICE, config->config_size);
	add_capability(v, CAP_NOTIFY, PAGE_NOTIFY, config->queue_count * NOTIFY_MULTIPLIER);
	add_capability(v, CAP_PCI, 0, 0);
}

bool virtio_init(struct virtio *v, struct pci_bus *bus, const struct virtio_config *config,
		 const struct virtio_ops *ops, GError **error)
{
	const struct pci_id id = {.vendor = 0x1af4,
				  .device = (uint16_t)(0x1040 + config->type),
				  .subsystem_vendor = 0x1af4,
				  .subsystem = 0x1100,
				  .class_code = config->class_code,
				  .revision = 1};
	g_assert(config->queue_count <= VIRTIO_QUEUES_MAX);
	g_assert(config->config_size <= VIRTIO_CONFIG_MAX);
	g_mutex_init(&v->lock);
	v->ops = ops;
	v->offered = config->features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT |
		     VIRTIO_F_EVENT_IDX | (config->packed ? VIRTIO_F_PACKED : 0);
	v->config_size = config->config_size;
	v->queue_count = config->queue_count;
	for (unsigned i = 0; i < v->queue_count; i++)
		queue_init(&v->queues[i], vm_of(v), config->queue_size);
	v->config_vector = QUEUE_NO_VECTOR;
	v->running = vm_of(v)->state == RUN_RUNNING;
	v->source = g_source_new(&source_funcs, sizeof(GSource));
	g_source_set_callback(v->source, work, v, NULL);
	g_source_attach(v->source, vm_of(v)->context);
	vm_add_listener(vm_of(v), on_vm_event, v);
	if (!pci_function_add(bus, &v->pci, &id, &pci_ops, -1, error))
		return false;
	init_pci(v, config);
	return true;
}

void virtio_fini(struct virtio *v)
{
	drop_doorbells(v);
	if (v->source) {
		g_source_destroy(v->source);
		g_source_unref(v->source);
		g_mutex_clear(&v->lock);
	}
	pci_function_remove(&v->pci);
}

void virtio_reset(struct virtio *v)
{
	pci_function_reset(&v->pci);
	virtio_lock(v);
	reset_transport(v);
	v->generation = 0;
	finish(v, true);
}

/* --- Saved state --- */

static bool post_load(void *object, GError **error)
{
	struct virtio *v = object;
	if (v->features & ~v->offered)
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "the guest uses virtio features that this device does not offer");
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		struct queue *q = &v->queues[i];
		q->packed = v->features & VIRTIO_F_PACKED;
		q->event_idx = v->features & VIRTIO_F_EVENT_IDX;
		q->indirect = v->features & VIRTIO_F_INDIRECT;
		if (i < v->queue_count ? !queue_restore(q) : q->enabled)
			return error_set(error, LODGE_ERROR_CORRUPT,
					 "the state of virtqueue %u contradicts itself", i);
		if (q->vector != QUEUE_NO_VECTOR && q->vector >= v->pci.msix.count)
			q->vector = QUEUE_NO_VECTOR;
	}
	if (v->config_vector >= v->pci.msix.count)
		v->config_vector = QUEUE_NO_VECTOR;
	if (v->status & STATUS_DRIVER_OK)
		add_doorbells(v);
	return true;
}

static const struct state_field virtio_fields[] = {
	STATE_SUB(struct virtio, pci, &pci_state),
	STATE_SCALAR(struct virtio, features),
	STATE_SCALAR(struct virtio, offered_select),
	STATE_SCALAR(struct virtio, features_select),
	STATE_SCALAR(struct virtio, queue_select),
	STATE_SCALAR(struct virtio, config_vector),
	STATE_SCALAR(struct virtio, status),
	STATE_SCALAR(struct virtio, generation),
	STATE_SCALAR(struct virtio, isr),
	STATE_BLOB(struct virtio, config),
	STATE_SUBS(struct virtio, queues, &queue_state),
};

const struct state_table virtio_state = {.version = 1,
					 .min_version = 1,
					 .fields = virtio_fields,
					 .field_count = G_N_ELEMENTS(virtio_fields),
					 .post_load = post_load};
