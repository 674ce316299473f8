// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio network device (VIRTIO 1.2, 5.1) over a tap, or over a stream socket whose frames each
 * have their length (32 bits, big-endian) in front (passt).
 *
 * A tap takes and gives checksum and segmentation offloads as they are. A stream takes finished
 * frames only: checksums and segmentation are done here, which is cheaper than in the guest.
 *
 * Nothing is read from the host while the guest has no buffer for it, and nothing is taken from the
 * guest while the host takes none: each side waits for the other's notification. */
#include "virtio/net.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "virtio/net-offload.h"
#include "vm/vm.h"

enum {
	NET_F_CSUM = 0,
	NET_F_GUEST_CSUM = 1,
	NET_F_CTRL_GUEST_OFFLOADS = 2,
	NET_F_MAC = 5,
	NET_F_GUEST_TSO4 = 7,
	NET_F_GUEST_TSO6 = 8,
	NET_F_GUEST_ECN = 9,
	NET_F_HOST_TSO4 = 11,
	NET_F_HOST_TSO6 = 12,
	NET_F_HOST_ECN = 13,
	NET_F_MRG_RXBUF = 15,
	NET_F_STATUS = 16,
	NET_F_CTRL_VQ = 17,
	NET_F_CTRL_RX = 18,
	NET_F_CTRL_VLAN = 19,
	NET_F_GUEST_ANNOUNCE = 21,
	NET_F_CTRL_MAC_ADDR = 23,
};

enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_SIZE = 12 };
enum { LINK_UP = 1, LINK_ANNOUNCE = 2 };
enum { QUEUE_RX, QUEUE_TX, QUEUE_CONTROL, QUEUES };
enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_OFFLOADS = 5 };
enum { MAC_TABLE_SET, MAC_ADDR_SET };

enum {
	QUEUE_SIZE = 256,
	LENGTH_BYTES = 4,
	PACKET_MAX = NET_HEADER_BYTES + NET_FRAME_MAX + 2048, /* room for what a peer may add */
	STREAM_BUFFER = 256 << 10,
	SEGMENT_MAX = 32 << 10,  /* TCP payload of one frame on a stream: it has no MTU */
	BACKLOG_MAX = 256 << 10, /* of frames the stream has not taken */
	BUDGET = 256,            /* packets handled at a stretch */
};

struct virtio_net {
	struct virtio virtio;
	int fd;                  /* -1: the peer is gone */
	bool is_tap, has_header; /* has_header: the tap takes struct net_header */
	GSource *readable, *writable;
	uint8_t home_mac[6]; /* at power-on */
	bool announce;       /* when the machine goes on: it was restored, perhaps elsewhere */

	/* From the host: one packet of a tap, or a run of frames of a stream. */
	uint8_t *input;
	size_t input_start, input_end;
	GByteArray *output; /* of a stream: frames it has not taken yet */
	uint8_t *scratch;   /* a frame that is changed on its way out */
	uint64_t offloads;  /* of the guest, as feature bits */
};

static struct virtio_net *net_of(struct virtio *v)
{
	return (struct virtio_net *)v;
}

static void drop_source(GSource **source)
{
	if (*source) {
		g_source_destroy(*source);
		g_source_unref(*source);
		*source = NULL;
	}
}

static GSource *watch(struct virtio_net *net, GIOCondition condition, GUnixFDSourceFunc fn)
{
	GSource *source = g_unix_fd_source_new(net->fd, condition);
	g_source_set_callback(source, G_SOURCE_FUNC(fn), net, NULL);
	g_source_attach(source, net->virtio.pci.device.vm->context);
	return source;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data);
static gboolean on_writable(gint fd, GIOCondition condition, gpointer data);

static void watch_input(struct virtio_net *net)
{
	if (net->fd >= 0 && !net->readable)
		net->readable = watch(net, G_IO_IN, on_readable);
}

static void watch_output(struct virtio_net *net)
{
	if (net->fd >= 0 && !net->writable)
		net->writable = watch(net, G_IO_OUT, on_writable);
}

static void config_render(struct virtio_net *net, uint16_t status)
{
	uint8_t *c = net->virtio.config;
	pci_set16(c + CONFIG_STATUS, status);
	memset(c + CONFIG_STATUS + 2, 0, CONFIG_SIZE - CONFIG_STATUS - 2);
	pci_set16(c + CONFIG_STATUS + 2, 1); /* queue pairs */
}

static void link_lost(struct virtio_net *net)
{
	drop_source(&net->readable);
	drop_source(&net->writable);
	close(net->fd);
	net->fd = -1;
	net->input_start = net->input_end = 0;
	g_byte_array_set_size(net->output, 0);
	config_render(net, 0);
	virtio_config_changed(&net->virtio);
	g_warning("%s: the network back end is gone; the link is down", net->virtio.pci.device.id);
}

/* --- To the guest --- */

enum delivery {
	DELIVERED, /* or lost, where it can never fit */
	AGAIN,     /* buffers came while it was found that there were too few */
	NO_ROOM,   /* the guest notifies when it gives more */
};

/* Writes @size bytes of a packet, header first, into as many buffers as it takes. */
static enum delivery deliver_merged(struct virtio_net *net, uint8_t *packet, size_t size)
{
	struct queue *q = &net->virtio.queues[QUEUE_RX];
	struct queue_element *elements[QUEUE_SIZE];
	uint64_t room = 0;
	unsigned count = 0;
	while (room < size && count < QUEUE_SIZE) {
		struct queue_element *e = queue_pop(q, sizeof(*e));
		if (!e)
			break;
		elements[count++] = e;
		room += e->in_bytes;
	}
	if (room < size) {
		/* Asked before they go back: the notification is for buffers behind these. */
		bool hopeless = count == q->size, more = queue_notify_on(q);
		while (count)
			queue_unpop(q, elements[--count]);
		return hopeless ? DELIVERED : more ? AGAIN : NO_ROOM;
	}
	pci_set16(packet + offsetof(struct net_header, buffer_count), (uint16_t)count);
	for (unsigned i = 0; i < count; i++) {
		size_t part = queue_element_write(elements[i], 0, packet, size);
		packet += part;
		size -= part;
		queue_fill(q, elements[i], part);
		g_free(elements[i]);
	}
	queue_flush(q);
	return DELIVERED;
}

/* @packet begins with struct net_header, which is completed here. */
static enum delivery deliver(struct virtio_net *net, uint8_t *packet, size_t size)
{
	struct virtio *v = &net->virtio;
	struct queue *q = &v->queues[QUEUE_RX];
	if (virtio_has(v, NET_F_MRG_RXBUF))
		return deliver_merged(net, packet, size);
	struct queue_element *e = queue_pop(q, sizeof(*e));
	if (!e)
		return queue_notify_on(q) ? AGAIN : NO_ROOM;
	pci_set16(packet + offsetof(struct net_header, buffer_count), 1);
	/* A packet that does not fit is lost: its buffer goes back empty-handed. */
	uint64_t written = e->in_bytes >= size ? queue_element_write(e, 0, packet, size) : 0;
	if (written)
		queue_push(q, e, written);
	else
		queue_unpop(q, e);
	return DELIVERED;
}

static enum delivery deliver_tap_input(struct virtio_net *net)
{
	enum delivery result = DELIVERED;
	if (net->input_end)
		result = deliver(net, net->input, net->input_end);
	if (result == DELIVERED)
		net->input_end = 0;
	return result;
}

static enum delivery deliver_stream_input(struct virtio_net *net)
{
	while (net->input_end - net->input_start >= LENGTH_BYTES) {
		uint8_t saved[NET_HEADER_BYTES];
		uint8_t *p = net->input + net->input_start;
		size_t size = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
		if (size < 14 || size > NET_FRAME_MAX) {
			link_lost(net);
			break;
		}
		if (net->input_end - net->input_start < LENGTH_BYTES + size)
			break;
		/* The header goes where the length, and what is in front of it, was. */
		uint8_t *start = p + LENGTH_BYTES - NET_HEADER_BYTES;
		memcpy(saved, start, NET_HEADER_BYTES);
		memset(start, 0, NET_HEADER_BYTES);
		if (net->offloads & 1u << NET_F_GUEST_CSUM)
			start[0] = NET_DATA_VALID; /* it never was on a wire */
		enum delivery result = deliver(net, start, NET_HEADER_BYTES + size);
		if (result != DELIVERED) {
			memcpy(start, saved, NET_HEADER_BYTES);
			return result;
		}
		net->input_start += LENGTH_BYTES + size;
	}
	return DELIVERED;
}

/* Hands over what lies in `input`. Where the guest has no room it will notify, and reading stops
 * until then: false. */
static bool flush_input(struct virtio_net *net)
{
	enum delivery result;
	do {
		result = net->is_tap ? deliver_tap_input(net) : deliver_stream_input(net);
	} while (result == AGAIN);
	virtio_interrupt(&net->virtio, QUEUE_RX);
	if (result == NO_ROOM)
		drop_source(&net->readable);
	return result == DELIVERED;
}

/* Reads one packet of a tap; whether there was one. */
static bool read_tap(struct virtio_net *net)
{
	size_t skip = net->has_header ? 0 : NET_HEADER_BYTES;
	ssize_t n = read(net->fd, net->input + skip, PACKET_MAX - skip);
	if (n <= 0) {
		/* EIO: the interface is down, which passes. */
		if (n == 0 || (errno != EAGAIN && errno != EINTR && errno != EIO))
			link_lost(net);
		return false;
	}
	if (skip)
		memset(net->input, 0, skip);
	net->input_end = (size_t)n + skip > NET_HEADER_BYTES ? (size_t)n + skip : 0;
	return true;
}

static bool read_stream(struct virtio_net *net)
{
	/* In front there is always room for a header. */
	if (net->input_start == net->input_end) {
		net->input_start = net->input_end = NET_HEADER_BYTES;
	} else if (STREAM_BUFFER - net->input_end < LENGTH_BYTES + NET_FRAME_MAX) {
		memmove(net->input + NET_HEADER_BYTES, net->input + net->input_start,
			net->input_end - net->input_start);
		net->input_end -= net->input_start - NET_HEADER_BYTES;
		net->input_start = NET_HEADER_BYTES;
	}
	ssize_t n = recv(net->fd, net->input + net->input_end, STREAM_BUFFER - net->input_end,
			 MSG_DONTWAIT);
	if (n > 0) {
		net->input_end += (size_t)n;
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		link_lost(net);
	return false;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
	struct virtio_net *net = data;
	struct virtio *v = &net->virtio;
	virtio_lock(v);
	if (!virtio_is_live(v)) {
		drop_source(&net->readable); /* driver_ok and resumed watch again */
		virtio_unlock(v);
		return G_SOURCE_CONTINUE;
	}
	/* Ends with nothing in `input` but what the guest has no room for. */
	for (unsigned i = 0;; i++) {
		if (!flush_input(net) || i == BUDGET || net->fd < 0)
			break;
		if (!(net->is_tap ? read_tap(net) : read_stream(net)))
			break;
	}
	virtio_unlock(v);
	return G_SOURCE_CONTINUE;
}

/* --- From the guest --- */

static void send_frame(void *opaque, const uint8_t *frame, size_t size)
{
	struct virtio_net *net = opaque;
	uint8_t length[LENGTH_BYTES] = {(uint8_t)(size >> 24), (uint8_t)(size >> 16),
					(uint8_t)(size >> 8), (uint8_t)size};
	struct iovec iov[2] = {{length, LENGTH_BYTES}, {(void *)(uintptr_t)frame, size}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n = 0;
	if (net->fd < 0)
		return;
	if (net->output->len == 0)
		n = sendmsg(net->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		net->output->len = 0;
		return; /* on_readable sees the end of the stream */
	}
	size_t done = n > 0 ? (size_t)n : 0;
	if (done < LENGTH_BYTES)
		g_byte_array_append(net->output, length + done, (guint)(LENGTH_BYTES - done));
	done = done > LENGTH_BYTES ? done - LENGTH_BYTES : 0;
	if (done < size)
		g_byte_array_append(net->output, frame + done, (guint)(size - done));
	if (net->output->len)
		watch_output(net);
}

/* A packet for a peer without offloads. One that asks for the impossible is dropped. */
static void send_finished(struct virtio_net *net, const struct queue_element *e)
{
	struct net_header h;
	size_t size = (size_t)e->out_bytes - NET_HEADER_BYTES;
	queue_element_read(e, 0, &h, sizeof(h));
	queue_element_read(e, NET_HEADER_BYTES, net->scratch, size);
	if ((h.gso_type & ~NET_GSO_ECN) != NET_GSO_NONE) {
		net_segment(&h, net->scratch, size, SEGMENT_MAX, send_frame, net);
		return;
	}
	if ((h.flags & NET_NEEDS_CSUM) && !net_fill_checksum(&h, net->scratch, size))
		return;
	if (net->is_tap)
		(void)!write(net->fd, net->scratch, size);
	else
		send_frame(net, net->scratch, size);
}

/* False when the host takes nothing now. */
static bool send_packet(struct virtio_net *net, const struct queue_element *e)
{
	if (net->fd < 0 || e->out_bytes <= NET_HEADER_BYTES ||
	    e->out_bytes > NET_HEADER_BYTES + NET_FRAME_MAX || e->out_count > IOV_MAX)
		return true;
	if (!net->has_header) {
		send_finished(net, e);
		return true;
	}
	ssize_t n;
	do {
		n = writev(net->fd, e->out, (int)e->out_count);
	} while (n < 0 && errno == EINTR);
	return n >= 0 || errno != EAGAIN;
}

static void kick_tx(struct virtio_net *net)
{
	struct virtio *v = &net->virtio;
	struct queue *q = &v->queues[QUEUE_TX];
	unsigned budget = BUDGET;
	do {
		struct queue_element *e;
		queue_notify_off(q);
		while (budget && net->output->len < BACKLOG_MAX && (e = queue_pop(q, sizeof(*e)))) {
			budget--;
			if (!send_packet(net, e)) {
				queue_unpop(q, e);
				watch_output(net);
				virtio_interrupt(v, QUEUE_TX);
				return;
			}
			queue_push(q, e, 0);
		}
		virtio_interrupt(v, QUEUE_TX);
		if (net->output->len >= BACKLOG_MAX)
			return; /* on_writable goes on */
		if (!budget) {
			virtio_kick_later(v, QUEUE_TX);
			return;
		}
	} while (queue_notify_on(q));
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer data)
{
	struct virtio_net *net = data;
	struct virtio *v = &net->virtio;
	virtio_lock(v);
	if (net->output->len) {
		ssize_t n = send(net->fd, net->output->data, net->output->len,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			g_byte_array_remove_range(net->output, 0, (guint)n);
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			g_byte_array_set_size(net->output, 0);
	}
	if (!net->output->len)
		drop_source(&net->writable);
	if (virtio_is_live(v) && net->output->len < BACKLOG_MAX)
		kick_tx(net);
	virtio_unlock(v);
	return G_SOURCE_CONTINUE;
}

/* --- Control queue --- */

static void apply_offloads(struct virtio_net *net)
{
	uint64_t f = net->offloads;
	unsigned flags = 0;
	if (!net->has_header || net->fd < 0)
		return;
	if (f & 1u << NET_F_GUEST_CSUM) {
		flags = TUN_F_CSUM | (f & 1u << NET_F_GUEST_TSO4 ? TUN_F_TSO4 : 0) |
			(f & 1u << NET_F_GUEST_TSO6 ? TUN_F_TSO6 : 0);
		if ((flags & ~TUN_F_CSUM) && (f & 1u << NET_F_GUEST_ECN))
			flags |= TUN_F_TSO_ECN;
	}
	if (ioctl(net->fd, TUNSETOFFLOAD, flags) < 0)
		ioctl(net->fd, TUNSETOFFLOAD, 0);
}

static const uint64_t guest_offloads = 1u << NET_F_GUEST_CSUM | 1u << NET_F_GUEST_TSO4 |
				       1u << NET_F_GUEST_TSO6 | 1u << NET_F_GUEST_ECN;

/* All filters are wide open: the driver filters for itself, and what it asks for is a hint. */
static bool control(struct virtio_net *net, const struct queue_element *e)
{
	struct virtio *v = &net->virtio;
	uint8_t head[2], mac[6];
	uint64_t offloads;
	if (queue_element_read(e, 0, head, 2) < 2)
		return false;
	switch (head[0]) {
	case CLASS_RX:
	case CLASS_VLAN:
		return e->out_bytes >= 3;
	case CLASS_MAC:
		if (head[1] == MAC_TABLE_SET)
			return true;
		if (head[1] != MAC_ADDR_SET || queue_element_read(e, 2, mac, 6) < 6)
			return false;
		memcpy(v->config + CONFIG_MAC, mac, 6);
		return true;
	case CLASS_ANNOUNCE:
		v->config[CONFIG_STATUS] &= (uint8_t)~LINK_ANNOUNCE;
		return true;
	case CLASS_OFFLOADS:
		if (queue_element_read(e, 2, &offloads, 8) < 8 ||
		    (offloads & ~(v->features & guest_offloads)))
			return false;
		net->offloads = offloads;
		apply_offloads(net);
		return true;
	default:
		return false;
	}
}

static void kick_control(struct virtio_net *net)
{
	struct virtio *v = &net->virtio;
	struct queue *q = &v->queues[QUEUE_CONTROL];
	for (unsigned i = 0; i < QUEUE_SIZE; i++) {
		struct queue_element *e = queue_pop(q, sizeof(*e));
		if (!e)
			break;
		if (e->in_bytes < 1) {
			g_free(e);
			queue_set_fault(q, "a network command has no room for its answer");
			return;
		}
		uint8_t answer = control(net, e) ? 0 : 1;
		queue_push(q, e, queue_element_write(e, 0, &answer, 1));
	}
	virtio_interrupt(v, QUEUE_CONTROL);
	if (queue_notify_on(q))
		virtio_kick_later(v, QUEUE_CONTROL);
}

/* --- Device --- */

static void kick(struct virtio *v, unsigned queue)
{
	struct virtio_net *net = net_of(v);
	if (queue == QUEUE_TX) {
		kick_tx(net);
	} else if (queue == QUEUE_CONTROL) {
		kick_control(net);
	} else {
		queue_notify_off(&v->queues[QUEUE_RX]);
		if (flush_input(net))
			watch_input(net);
	}
}

static void driver_ok(struct virtio *v)
{
	struct virtio_net *net = net_of(v);
	net->offloads = v->features & guest_offloads;
	apply_offloads(net);
	watch_input(net);
}

static void resumed(struct virtio *v)
{
	struct virtio_net *net = net_of(v);
	apply_offloads(net);
	watch_input(net);
	if (net->announce && virtio_has(v, NET_F_GUEST_ANNOUNCE)) {
		v->config[CONFIG_STATUS] |= LINK_ANNOUNCE;
		virtio_config_changed(v);
	}
	net->announce = false;
}

/* Only the MAC address of old drivers was writable, and theirs was another transport. */
static void config_written(struct virtio *v, unsigned offset, unsigned size)
{
	struct virtio_net *net = net_of(v);
	memcpy(v->config + CONFIG_MAC, net->home_mac, 6);
	config_render(net, net->fd >= 0 ? LINK_UP : 0);
}

/* What lies in `input` came for the driver of before. */
static void reset_link(struct virtio *v)
{
	struct virtio_net *net = net_of(v);
	drop_source(&net->readable);
	if (net->is_tap)
		net->input_end = 0;
	net->offloads = 0;
	apply_offloads(net);
	memcpy(v->config + CONFIG_MAC, net->home_mac, 6);
	config_render(net, net->fd >= 0 ? LINK_UP : 0);
}

static const struct virtio_ops ops = {.kick = kick,
				      .config_written = config_written,
				      .driver_ok = driver_ok,
				      .reset = reset_link,
				      .resumed = resumed};

static void net_reset(struct device *device)
{
	virtio_reset((struct virtio *)device);
}

static void net_free(struct device *device)
{
	struct virtio_net *net = (struct virtio_net *)device;
	drop_source(&net->readable);
	drop_source(&net->writable);
	if (net->fd >= 0)
		close(net->fd);
	virtio_fini(&net->virtio);
	g_byte_array_free(net->output, TRUE);
	g_free(net->input);
	g_free(net->scratch);
	g_free(net);
}

static bool post_load(void *object, GError **error)
{
	struct virtio_net *net = object;
	struct virtio *v = &net->virtio;
	net->offloads &= v->features & guest_offloads;
	net->announce = true;
	config_render(net, (uint16_t)((net->fd >= 0 ? LINK_UP : 0) |
				      (v->config[CONFIG_STATUS] & LINK_ANNOUNCE)));
	return true;
}

static const struct state_field net_fields[] = {
	STATE_SUB(struct virtio_net, virtio, &virtio_state),
	STATE_SCALAR(struct virtio_net, offloads),
};

static const struct state_table net_state = {.version = 1,
					     .min_version = 1,
					     .fields = net_fields,
					     .field_count = G_N_ELEMENTS(net_fields),
					     .post_load = post_load};

static const struct device_class net_class = {
	.name = "virtio-net", .reset = net_reset, .free = net_free, .state = &net_state};

/* A tap made without IFF_VNET_HDR works too, without offloads. */
static bool prepare_tap(struct virtio_net *net, GError **error)
{
	struct ifreq request = {0};
	int size = NET_HEADER_BYTES;
	if (ioctl(net->fd, TUNGETIFF, &request) < 0)
		return error_set_errno(error, errno, "descriptor %d is no tap device", net->fd);
	net->has_header = request.ifr_flags & IFF_VNET_HDR;
	if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_NO_PI))
		return error_set(error, LODGE_ERROR_INVALID,
				 "'%.*s' is no tap for Ethernet frames (IFF_TAP and IFF_NO_PI)",
				 IFNAMSIZ, request.ifr_name);
	if (net->has_header && ioctl(net->fd, TUNSETVNETHDRSZ, &size) < 0)
		return error_set_errno(error, errno, "cannot set up tap '%.*s'", IFNAMSIZ,
				       request.ifr_name);
	return true;
}

static uint64_t features_of(const struct virtio_net *net)
{
	uint64_t f = 1u << NET_F_MAC | 1u << NET_F_MRG_RXBUF | 1u << NET_F_STATUS |
		     1u << NET_F_CTRL_VQ | 1u << NET_F_CTRL_RX | 1u << NET_F_CTRL_VLAN |
		     1u << NET_F_GUEST_ANNOUNCE | 1u << NET_F_CTRL_MAC_ADDR | 1u << NET_F_CSUM |
		     1u << NET_F_GUEST_CSUM | 1u << NET_F_CTRL_GUEST_OFFLOADS;
	if (net->has_header || !net->is_tap)
		f |= 1u << NET_F_HOST_TSO4 | 1u << NET_F_HOST_TSO6 | 1u << NET_F_HOST_ECN;
	if (net->has_header)
		f |= 1u << NET_F_GUEST_TSO4 | 1u << NET_F_GUEST_TSO6 | 1u << NET_F_GUEST_ECN;
	return f;
}

struct device *virtio_net_new(struct vm *vm, struct pci_bus *bus,
			      const struct virtio_net_config *config, GError **error)
{
	struct virtio_net *net = g_new0(struct virtio_net, 1);
	net->fd = config->fd;
	net->is_tap = config->is_tap;
	net->output = g_byte_array_new();
	net->input = g_malloc(net->is_tap ? PACKET_MAX : STREAM_BUFFER);
	memcpy(net->home_mac, config->mac, 6);
	device_add(vm, &net->virtio.pci.device, &net_class, NULL);
	if (net->is_tap && !prepare_tap(net, error))
		return NULL;
	if (!net->has_header)
		net->scratch = g_malloc(NET_FRAME_MAX);
	fcntl(net->fd, F_SETFL, fcntl(net->fd, F_GETFL) | O_NONBLOCK);
	const struct virtio_config virtio = {.type = VIRTIO_NET,
					     .class_code = 0x020000,
					     .features = features_of(net),
					     .config_size = CONFIG_SIZE,
					     .queue_count = QUEUES,
					     .queue_size = QUEUE_SIZE,
					     .packed = config->packed};
	if (!virtio_init(&net->virtio, bus, &virtio, &ops, error))
		return NULL;
	reset_link(&net->virtio);
	return &net->virtio.pci.device;
}
