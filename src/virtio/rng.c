// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio entropy device (VIRTIO 1.2, 5.4). A budget per period of virtual time keeps a guest that
 * reads without end from using up a host processor. */
#include "virtio/rng.h"

#include <sys/random.h>

#include "vm/vm.h"

enum { QUEUE_SIZE = 64, PIECE = 256, BUDGET_BYTES = 64 << 10 };
#define PERIOD_NS INT64_C(62500000)

struct virtio_rng {
	struct virtio virtio;
	uint32_t budget;
	struct vm_timer refill;
};

/* Fills as much of the element as the budget allows; at least one byte, or 0 bytes of none. */
static uint64_t fill(struct virtio_rng *rng, const struct queue_element *e)
{
	uint64_t want = MIN(e->in_bytes, rng->budget), done = 0;
	uint8_t bytes[PIECE];
	while (done < want) {
		ssize_t n = getrandom(bytes, MIN(want - done, PIECE), 0);
		if (n <= 0)
			break;
		queue_element_write(e, done, bytes, (size_t)n);
		done += (uint64_t)n;
	}
	rng->budget -= (uint32_t)done;
	return done;
}

static void kick(struct virtio *v, unsigned queue)
{
	struct virtio_rng *rng = (struct virtio_rng *)v;
	struct queue *q = &v->queues[queue];
	struct queue_element *e;
	/* Empty elements cost nothing of the budget: bounded by the size of the ring. */
	for (unsigned i = 0; i < QUEUE_SIZE && rng->budget; i++) {
		e = queue_pop(q, sizeof(*e));
		if (!e) {
			if (queue_notify_on(q))
				virtio_kick_later(v, queue);
			return;
		}
		queue_push(q, e, fill(rng, e));
		virtio_interrupt(v, queue);
		if (!rng->refill.armed)
			vm_timer_arm(&rng->refill, vm_clock_ns(v->pci.device.vm) + PERIOD_NS);
	}
	if (rng->budget && !queue_is_empty(q))
		virtio_kick_later(v, queue);
}

static void refill_due(void *opaque)
{
	struct virtio_rng *rng = opaque;
	struct virtio *v = &rng->virtio;
	virtio_lock(v);
	rng->budget = BUDGET_BYTES;
	virtio_kick_later(v, 0);
	virtio_unlock_in_machine(v);
}

static void reset_budget(struct virtio *v)
{
	((struct virtio_rng *)v)->budget = BUDGET_BYTES;
}

static const struct virtio_ops ops = {.kick = kick, .reset = reset_budget};

static void rng_reset(struct device *device)
{
	vm_timer_cancel(&((struct virtio_rng *)device)->refill);
	virtio_reset((struct virtio *)device);
}

static void rng_free(struct device *device)
{
	struct virtio_rng *rng = (struct virtio_rng *)device;
	vm_timer_cancel(&rng->refill);
	virtio_fini(&rng->virtio);
	g_free(rng);
}

static bool post_load(void *object, GError **error)
{
	struct virtio_rng *rng = object;
	rng->budget = MIN(rng->budget, BUDGET_BYTES);
	return true;
}

static const struct state_field rng_fields[] = {
	STATE_SUB(struct virtio_rng, virtio, &virtio_state),
	STATE_SCALAR(struct virtio_rng, budget),
	STATE_TIMER_FIELD(struct virtio_rng, refill),
};

static const struct state_table rng_state = {.version = 1,
					     .min_version = 1,
					     .fields = rng_fields,
					     .field_count = G_N_ELEMENTS(rng_fields),
					     .post_load = post_load};

static const struct device_class rng_class = {
	.name = "virtio-rng", .reset = rng_reset, .free = rng_free, .state = &rng_state};

struct device *virtio_rng_new(struct vm *vm, struct pci_bus *bus, bool packed, GError **error)
{
	struct virtio_rng *rng = g_new0(struct virtio_rng, 1);
	rng->budget = BUDGET_BYTES;
	device_add(vm, &rng->virtio.pci.device, &rng_class, NULL);
	vm_timer_init(&rng->refill, vm, refill_due, rng);
	const struct virtio_config config = {.type = VIRTIO_RNG,
					     .class_code = 0x00ff00,
					     .queue_count = 1,
					     .queue_size = QUEUE_SIZE,
					     .packed = packed};
	if (!virtio_init(&rng->virtio, bus, &config, &ops, error))
		return NULL;
	return &rng->virtio.pci.device;
}
