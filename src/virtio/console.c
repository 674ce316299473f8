// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio console (VIRTIO 1.2, 5.3) with several ports. Queues 0 and 1 are port 0's, 2 and 3 carry
 * control messages, then two for each further port. What the device has to tell about a port is
 * kept as bits, so a driver that gives no buffers cannot make it pile up. */
#include "virtio/console.h"

#include <string.h>

#include "base/error.h"
#include "vm/vm.h"

enum { CONSOLE_F_MULTIPORT = 1 };
enum { CONFIG_MAX_PORTS = 4, CONFIG_SIZE = 12 };
enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3, QUEUE_SIZE = 64, BUDGET = 64 };

enum control_event {
	CONTROL_DEVICE_READY,
	CONTROL_PORT_ADD,
	CONTROL_PORT_REMOVE,
	CONTROL_PORT_READY,
	CONTROL_CONSOLE_PORT,
	CONTROL_RESIZE,
	CONTROL_PORT_OPEN,
	CONTROL_PORT_NAME,
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct port {
	struct virtio_console *console;
	struct chardev *chardev;
	char *name;
	uint8_t owed;               /* bits of enum control_event: messages to send */
	bool guest_open;            /* a program in the guest has the port open */
	bool host_open;             /* as last told */
	struct queue_element *room; /* where input goes next; popped ahead to know its size */
};

struct virtio_console {
	struct virtio virtio;
	unsigned port_count;
	struct port ports[VIRTIO_CONSOLE_PORTS_MAX];
};

static unsigned queue_in(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

static unsigned port_index(const struct port *port)
{
	return (unsigned)(port - port->console->ports);
}

static bool is_multiport(const struct virtio_console *c)
{
	return virtio_has(&c->virtio, CONSOLE_F_MULTIPORT);
}

/* --- Control messages to the driver --- */

static bool send_control(struct virtio_console *c, const struct control *message, const char *name)
{
	struct queue *q = &c->virtio.queues[QUEUE_CONTROL_IN];
	struct queue_element *e = queue_pop(q, sizeof(*e));
	if (!e) {
		if (queue_notify_on(q))
			virtio_kick_later(&c->virtio, QUEUE_CONTROL_IN);
		return false;
	}
	size_t n = queue_element_write(e, 0, message, sizeof(*message));
	if (name)
		n += queue_element_write(e, n, name, strlen(name));
	queue_push(q, e, n);
	return true;
}

static void send_owed(struct virtio_console *c)
{
	/* In this order: a port is there before anything else is said of it. */
	static const uint8_t order[] = {CONTROL_PORT_ADD, CONTROL_CONSOLE_PORT, CONTROL_PORT_NAME,
					CONTROL_PORT_OPEN};
	if (!is_multiport(c))
		return;
	for (unsigned i = 0; i < c->port_count; i++) {
		struct port *port = &c->ports[i];
		for (unsigned k = 0; port->owed && k < G_N_ELEMENTS(order); k++) {
			if (!(port->owed & 1u << order[k]))
				continue;
			struct control m = {i, order[k],
					    order[k] == CONTROL_PORT_OPEN ? port->host_open : 1};
			if (!send_control(c, &m, order[k] == CONTROL_PORT_NAME ? port->name : NULL))
				goto out;
			port->owed &= (uint8_t) ~(1u << order[k]);
		}
	}
out:
	virtio_interrupt(&c->virtio, QUEUE_CONTROL_IN);
}

static void port_ready(struct virtio_console *c, struct port *port)
{
	port->owed |= (uint8_t)((port_index(port) == 0 ? 1u << CONTROL_CONSOLE_PORT : 0) |
				(port->name ? 1u << CONTROL_PORT_NAME : 0) |
				(port->host_open ? 1u << CONTROL_PORT_OPEN : 0));
}

static void handle_control(struct virtio_console *c, const struct control *m)
{
	struct port *port = m->id < c->port_count ? &c->ports[m->id] : NULL;
	if (m->event == CONTROL_DEVICE_READY) {
		for (unsigned i = 0; m->value && i < c->port_count; i++)
			c->ports[i].owed |= 1u << CONTROL_PORT_ADD;
	} else if (m->event == CONTROL_PORT_READY && port && m->value) {
		port_ready(c, port);
	} else if (m->event == CONTROL_PORT_OPEN && port) {
		port->guest_open = m->value;
		if (port->chardev && port->guest_open)
			char_accept_input(port->chardev);
	}
}

/* --- Data --- */

/* Hands what the guest wrote to the back end. */
static void kick_out(struct virtio_console *c, unsigned queue, struct port *port)
{
	struct virtio *v = &c->virtio;
	struct queue *q = &v->queues[queue];
	unsigned budget = BUDGET;
	do {
		struct queue_element *e;
		queue_notify_off(q);
		while (budget && (e = queue_pop(q, sizeof(*e)))) {
			struct control m;
			budget--;
			if (!port && queue_element_read(e, 0, &m, sizeof(m)) == sizeof(m))
				handle_control(c, &m);
			for (unsigned i = 0; port && port->chardev && i < e->out_count; i++)
				char_write(port->chardev, e->out[i].iov_base, e->out[i].iov_len);
			queue_push(q, e, 0);
		}
		virtio_interrupt(v, queue);
		if (!budget) {
			virtio_kick_later(v, queue);
			return;
		}
	} while (queue_notify_on(q));
}

static void kick(struct virtio *v, unsigned queue)
{
	struct virtio_console *c = (struct virtio_console *)v;
	unsigned port = queue < 2 ? 0 : queue / 2 - 1;
	if (queue == QUEUE_CONTROL_OUT)
		kick_out(c, queue, NULL);
	if (queue == QUEUE_CONTROL_OUT || queue == QUEUE_CONTROL_IN)
		send_owed(c);
	else if (queue & 1)
		kick_out(c, queue, &c->ports[port]);
	else if (c->ports[port].chardev)
		char_accept_input(c->ports[port].chardev);
}

/* The element that takes the next input, or NULL. */
static struct queue_element *port_room(struct port *port)
{
	struct virtio *v = &port->console->virtio;
	struct queue *q = &v->queues[queue_in(port_index(port))];
	if (!virtio_is_live(v) || (is_multiport(port->console) && !port->guest_open))
		return NULL;
	for (unsigned i = 0; i < QUEUE_SIZE && !port->room; i++) {
		port->room = queue_pop(q, sizeof(*port->room));
		if (!port->room || port->room->in_bytes)
			break;
		queue_push(q, g_steal_pointer(&port->room), 0);
	}
	if (!port->room && queue_notify_on(q))
		virtio_kick_later(v, queue_in(port_index(port)));
	return port->room;
}

static size_t can_receive(void *opaque)
{
	struct port *port = opaque;
	struct virtio *v = &port->console->virtio;
	virtio_lock(v);
	const struct queue_element *e = port_room(port);
	size_t room = e ? e->in_bytes : 0;
	virtio_unlock(v);
	return room;
}

static void receive(void *opaque, const uint8_t *data, size_t size)
{
	struct port *port = opaque;
	struct virtio *v = &port->console->virtio;
	unsigned queue = queue_in(port_index(port));
	virtio_lock(v);
	struct queue_element *e = port_room(port);
	if (e) {
		port->room = NULL;
		queue_push(&v->queues[queue], e, queue_element_write(e, 0, data, size));
		virtio_interrupt(v, queue);
	}
	virtio_unlock(v);
}

static void opened(void *opaque, bool open)
{
	struct port *port = opaque;
	struct virtio *v = &port->console->virtio;
	virtio_lock(v);
	if (port->host_open != open) {
		port->host_open = open;
		port->owed |= 1u << CONTROL_PORT_OPEN;
		if (virtio_is_live(v))
			send_owed(port->console);
	}
	virtio_unlock(v);
}

static const struct char_front front = {
	.can_receive = can_receive, .receive = receive, .opened = opened};

/* --- Device --- */

/* Input buffers that are held ahead go back to the ring. */
static void give_back(struct virtio_console *c)
{
	for (unsigned i = 0; i < c->port_count; i++) {
		struct queue_element *e = g_steal_pointer(&c->ports[i].room);
		if (e)
			queue_unpop(&c->virtio.queues[queue_in(i)], e);
	}
}

static bool quiesce(struct virtio *v)
{
	give_back((struct virtio_console *)v);
	return true;
}

static void config_render(struct virtio *v)
{
	memset(v->config, 0, CONFIG_SIZE);
	pci_set32(v->config + CONFIG_MAX_PORTS, ((struct virtio_console *)v)->port_count);
}

static void config_written(struct virtio *v, unsigned offset, unsigned size)
{
	config_render(v);
}

static void reset_ports(struct virtio *v)
{
	struct virtio_console *c = (struct virtio_console *)v;
	for (unsigned i = 0; i < c->port_count; i++) {
		g_clear_pointer(&c->ports[i].room, g_free);
		c->ports[i].owed = 0;
		c->ports[i].guest_open = false;
	}
	config_render(v);
}

static const struct virtio_ops ops = {
	.kick = kick, .config_written = config_written, .quiesce = quiesce, .reset = reset_ports};

static void console_reset(struct device *device)
{
	virtio_reset((struct virtio *)device);
}

static void console_drain(struct device *device)
{
	struct virtio_console *c = (struct virtio_console *)device;
	virtio_lock(&c->virtio);
	give_back(c);
	virtio_unlock(&c->virtio);
}

static void console_free(struct device *device)
{
	struct virtio_console *c = (struct virtio_console *)device;
	for (unsigned i = 0; i < c->port_count; i++) {
		if (c->ports[i].chardev)
			char_attach(c->ports[i].chardev, NULL, NULL);
		g_free(c->ports[i].room);
		g_free(c->ports[i].name);
	}
	virtio_fini(&c->virtio);
	g_free(c);
}

/* The back ends of the new host may be open where the old ones were not. */
static bool post_load(void *object, GError **error)
{
	struct virtio_console *c = object;
	config_render(&c->virtio);
	for (unsigned i = 0; i < c->port_count; i++) {
		struct port *port = &c->ports[i];
		bool open = port->chardev && char_is_open(port->chardev);
		if (open != port->host_open)
			port->owed |= 1u << CONTROL_PORT_OPEN;
		port->host_open = open;
	}
	return true;
}

static const struct state_field port_fields[] = {
	STATE_SCALAR(struct port, owed),
	STATE_SCALAR(struct port, guest_open),
	STATE_SCALAR(struct port, host_open),
};

static const struct state_table port_state = {.version = 1,
					      .min_version = 1,
					      .fields = port_fields,
					      .field_count = G_N_ELEMENTS(port_fields)};

static const struct state_field console_fields[] = {
	STATE_SUB(struct virtio_console, virtio, &virtio_state),
	STATE_SUBS(struct virtio_console, ports, &port_state),
};

static const struct state_table console_state = {.version = 1,
						 .min_version = 1,
						 .fields = console_fields,
						 .field_count = G_N_ELEMENTS(console_fields),
						 .post_load = post_load};

static const struct device_class console_class = {.name = "virtio-console",
						  .reset = console_reset,
						  .free = console_free,
						  .drain = console_drain,
						  .state = &console_state};

struct device *virtio_console_new(struct vm *vm, struct pci_bus *bus,
				  const struct virtio_console_port *ports, unsigned port_count,
				  bool packed, GError **error)
{
	struct virtio_console *c = g_new0(struct virtio_console, 1);
	g_assert(port_count >= 1 && port_count <= VIRTIO_CONSOLE_PORTS_MAX);
	c->port_count = port_count;
	device_add(vm, &c->virtio.pci.device, &console_class, NULL);
	const struct virtio_config config = {.type = VIRTIO_CONSOLE,
					     .class_code = 0x078000,
					     .features = 1u << CONSOLE_F_MULTIPORT,
					     .config_size = CONFIG_SIZE,
					     .queue_count = 2 * port_count + 2,
					     .queue_size = QUEUE_SIZE,
					     .packed = packed};
	if (!virtio_init(&c->virtio, bus, &config, &ops, error))
		return NULL;
	config_render(&c->virtio);
	for (unsigned i = 0; i < port_count; i++) {
		struct port *port = &c->ports[i];
		port->console = c;
		port->name = g_strdup(ports[i].name);
		port->chardev = ports[i].chardev;
		if (port->chardev)
			char_attach(port->chardev, &front, port);
	}
	return &c->virtio.pci.device;
}
