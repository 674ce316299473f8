/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/queue.h"
#include "vm/pci.h"

/*
 * The transport of all virtio devices: a modern virtio 1.x PCI function (VIRTIO 1.2, 4.1). A
 * `struct virtio` is embedded first in each device.
 *
 * One mutex per device protects the transport, its queues and the device. The machine lock may be
 * held when it is taken, never the other way round: an INTx change that a device asks for is made
 * after the device's lock has been dropped, in virtio_unlock. Queues are worked on by the vCPU that
 * notifies, or by the main loop (ioeventfd, back ends, work put off); never while the machine is
 * paused.
 */

enum {
	VIRTIO_QUEUES_MAX = 64,
	VIRTIO_CONFIG_MAX = 64,
};

enum virtio_type { VIRTIO_NET = 1, VIRTIO_BLK = 2, VIRTIO_CONSOLE = 3, VIRTIO_RNG = 4 };

#define VIRTIO_F_INDIRECT  (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)
#define VIRTIO_F_PACKED    (UINT64_C(1) << 34)

struct virtio;

/* Called with the device's lock held. All but kick may be NULL. */
struct virtio_ops {
	/* Something is available in the queue, or may be. */
	void (*kick)(struct virtio *virtio, unsigned queue);
	/* The driver wrote [offset, offset + size) of `config`, already stored there. The device
	 * puts back what may not be written. */
	void (*config_written)(struct virtio *virtio, unsigned offset, unsigned size);
	/* The driver is ready: the features are final. */
	void (*driver_ok)(struct virtio *virtio);
	/* No further element may be touched: returns true when none is in flight, else
	 * virtio_quiesced is called when the last one has come back (they are dropped). */
	bool (*quiesce)(struct virtio *virtio);
	/* Power-on values of what the device keeps for its driver. Nothing is in flight. */
	void (*reset)(struct virtio *virtio);
	/* The machine goes on after a pause or a restore; the driver is ready. Main thread. */
	void (*resumed)(struct virtio *virtio);
};

struct virtio {
	struct pci_function pci; /* embeds the device */
	const struct virtio_ops *ops;
	GMutex lock;
	uint64_t offered, features; /* features: what the driver took */
	uint32_t offered_select, features_select;
	uint16_t queue_select, config_vector;
	uint8_t status, generation, isr;
	uint8_t config[VIRTIO_CONFIG_MAX]; /* the device's part, as the driver sees it */
	unsigned config_size, queue_count;
	struct queue queues[VIRTIO_QUEUES_MAX];
	bool resetting;  /* the driver asked for a reset; elements are still in flight */
	bool intx_stale; /* the line does not say yet what isr says */
	bool running;   /* not paused: guest memory may be touched; atomic reads outside the lock */
	uint64_t again; /* queues to kick from the main loop */
	GSource *source;                   /* of the main loop */
	struct virtio_notifier *notifiers; /* one per queue while ioeventfds are in use */
	uint64_t doorbells;                /* the address they stand at */
	gint64 complained_us;
	unsigned complaints;
};

struct virtio_config {
	enum virtio_type type;
	uint32_t class_code;
	uint64_t features; /* beyond those of the transport */
	unsigned config_size, queue_count;
	uint16_t queue_size;
	bool packed; /* offer packed rings */
};

/* Puts the device on @bus. device_add has been done; the caller frees @virtio's struct on failure
 * too, through its class. */
bool virtio_init(struct virtio *virtio, struct pci_bus *bus, const struct virtio_config *config,
		 const struct virtio_ops *ops, GError **error);
void virtio_fini(struct virtio *virtio);
/* For the device's class. Machine lock held, nothing in flight. */
void virtio_reset(struct virtio *virtio);

void virtio_lock(struct virtio *virtio);
/* The machine lock is not held: it may be taken for INTx. */
void virtio_unlock(struct virtio *virtio);
/* The same for callers that hold the machine lock (timers, reset). */
void virtio_unlock_in_machine(struct virtio *virtio);

/* --- With the lock held --- */
static inline bool virtio_has(const struct virtio *v, unsigned bit)
{
	return v->features >> bit & 1;
}
/* The driver is ready and neither a reset, a fault nor a pause forbids touching queues. */
bool virtio_is_live(const struct virtio *virtio);
/* Interrupts for what was pushed, if the driver wants it. */
void virtio_interrupt(struct virtio *virtio, unsigned queue);
/* The device changed `config`. */
void virtio_config_changed(struct virtio *virtio);
/* A request that no driver may make: DEVICE_NEEDS_RESET and one line in the log. @reason is a
 * constant. */
void virtio_set_fault(struct virtio *virtio, const char *reason);
/* Kicks the queue again from the main loop: bounds the time on a vCPU's thread. Any thread. */
void virtio_kick_later(struct virtio *virtio, unsigned queue);
/* After quiesce returned false: nothing is in flight any more. */
void virtio_quiesced(struct virtio *virtio);

extern const struct state_table virtio_state;
