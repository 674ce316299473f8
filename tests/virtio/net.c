// SPDX-License-Identifier: GPL-2.0-or-later
/* The network card over a stream socket: framing, offloads done in software, a guest without
 * buffers, the control queue; and segmentation by itself. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "virtio/net-offload.h"
#include "virtio/net.h"

enum { RX, TX, CONTROL, TX_AT = 0x20000, RX_AT = 0x40000 };
enum { MERGEABLE = 1, PACKED = 2 };
#define NET_BITS                                                                                   \
	(1u << 0 | 1u << 1 | 1u << 5 | 1u << 11 | 1u << 12 | 1u << 16 | 1u << 17 | 1u << 23)

struct fixture {
	struct rig rig;
	struct driver driver;
	int peer;
};

static void setup(struct fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	unsigned flags = GPOINTER_TO_UINT(data);
	int pair[2];
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	f->peer = pair[1];
	rig_init(&f->rig);
	const struct virtio_net_config config = {
		.fd = pair[0], .mac = {0x52, 0x54, 0, 1, 2, 3}, .packed = true};
	struct device *device = virtio_net_new(f->rig.vm, f->rig.bus, &config, &error);
	g_assert_no_error(error);
	rig_start(&f->rig);
	driver_init(&f->driver, &f->rig, (struct pci_function *)device,
		    FEATURE_BASE | NET_BITS | (flags & MERGEABLE ? 1u << 15 : 0) |
			    (flags & PACKED ? FEATURE_PACKED : 0),
		    16);
}

static void teardown(struct fixture *f, gconstpointer data)
{
	rig_fini(&f->rig);
	if (f->peer >= 0)
		close(f->peer);
}

static void peer_send(struct fixture *f, const uint8_t *frame, size_t size)
{
	uint8_t length[4] = {0, 0, (uint8_t)(size >> 8), (uint8_t)size};
	g_assert_cmpint(send(f->peer, length, 4, 0), ==, 4);
	g_assert_cmpint(send(f->peer, frame, size, 0), ==, (ssize_t)size);
}

static size_t peer_receive(struct fixture *f, uint8_t *frame, size_t room)
{
	uint8_t length[4];
	g_assert_cmpint(recv(f->peer, length, 4, MSG_WAITALL), ==, 4);
	size_t size = (size_t)length[2] << 8 | length[3];
	g_assert_cmpuint(size, <=, room);
	g_assert_cmpint(recv(f->peer, frame, size, MSG_WAITALL), ==, (ssize_t)size);
	return size;
}

struct used {
	struct fixture *f;
	unsigned queue;
	uint16_t id;
	uint32_t length;
};

static bool is_used(void *opaque)
{
	struct used *u = opaque;
	return driver_used(&u->f->driver, u->queue, &u->id, &u->length);
}

static void test_receive(struct fixture *f, gconstpointer data)
{
	bool mergeable = GPOINTER_TO_UINT(data) & MERGEABLE;
	struct used used = {.f = f, .queue = RX};
	uint8_t frame[3000];
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7);
	/* Two frames come before the guest has any buffer. */
	peer_send(f, frame, 100);
	peer_send(f, frame, sizeof(frame));
	for (unsigned i = 0; i < 50; i++)
		g_main_context_iteration(f->rig.context, FALSE);
	g_assert_false(is_used(&used));
	uint32_t size = mergeable ? 1500 : 4096;
	for (unsigned i = 0; i < 8; i++) {
		struct piece piece = {RX_AT + 0x1000 * i, size, true};
		driver_add(&f->driver, RX, &piece, 1);
	}
	driver_notify(&f->driver, RX);
	rig_wait(&f->rig, is_used, &used);
	g_assert_cmpuint(used.length, ==, 112);
	const uint8_t *p = rig_host(&f->rig, RX_AT);
	g_assert_cmpuint(p[0], ==, NET_DATA_VALID);
	g_assert_cmpuint(p[10], ==, 1);
	g_assert_cmpmem(p + 12, 100, frame, 100);
	rig_wait(&f->rig, is_used, &used);
	p = rig_host(&f->rig, RX_AT + 0x1000);
	if (!mergeable) {
		g_assert_cmpuint(used.length, ==, 3012);
		g_assert_cmpmem(p + 12, 3000, frame, 3000);
	} else {
		g_assert_cmpuint(p[10], ==, 3); /* 12 + 3000 in buffers of 1500 */
		g_assert_cmpuint(used.length, ==, 1500);
		g_assert_cmpmem(p + 12, 1488, frame, 1488);
		rig_wait(&f->rig, is_used, &used);
		rig_wait(&f->rig, is_used, &used);
		g_assert_cmpuint(used.length, ==, 12);
		g_assert_cmpmem(rig_host(&f->rig, RX_AT + 0x3000), 12, frame + 2988, 12);
	}
	rig_check_state(&f->rig);
}

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* The plain way, to compare with. */
static uint16_t checksum(const uint8_t *p, size_t size, uint32_t sum)
{
	for (size_t i = 0; i + 1 < size; i += 2)
		sum += be16(p + i);
	if (size & 1)
		sum += (uint32_t)p[size - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* An IPv4 TCP frame with @payload bytes; its checksum field holds the pseudo header's sum. */
static size_t make_tcp(uint8_t *frame, size_t payload)
{
	static const uint8_t ip[20] = {0x45, 0, 0,  0, 0, 7,  0x40, 0, 64, 6,
				       0,    0, 10, 0, 2, 15, 10,   0, 2,  2};
	memset(frame, 0, 54);
	frame[12] = 8;
	memcpy(frame + 14, ip, 20);
	size_t total = 40 + payload;
	frame[16] = (uint8_t)(total >> 8);
	frame[17] = (uint8_t)total;
	frame[37] = 80;
	frame[41] = 100; /* sequence number, bytes 38 to 41 */
	frame[46] = 5 << 4;
	frame[47] = 0x19; /* ACK, PSH, FIN */
	for (size_t i = 0; i < payload; i++)
		frame[54 + i] = (uint8_t)(i * 13 + i / 256);
	uint16_t sum = (uint16_t)~checksum(frame + 26, 8, 6 + (uint32_t)(20 + payload));
	frame[50] = (uint8_t)(sum >> 8);
	frame[51] = (uint8_t)sum;
	return 54 + payload;
}

static void check_tcp(const uint8_t *frame, size_t size)
{
	g_assert_cmpuint(be16(frame + 16), ==, size - 14);
	g_assert_cmphex(checksum(frame + 14, 20, 0), ==, 0);
	g_assert_cmphex(checksum(frame + 34, size - 34,
				 (uint32_t)(uint16_t)~checksum(frame + 26, 8, 0) + 6 +
					 (uint32_t)(size - 34)),
			==, 0);
}

static void send_packet(struct fixture *f, const struct net_header *h, const uint8_t *frame,
			size_t size)
{
	memcpy(rig_host(&f->rig, TX_AT), h, 12);
	memcpy(rig_host(&f->rig, TX_AT + 12), frame, size);
	const struct piece pieces[] = {{TX_AT, 12, false}, {TX_AT + 12, (uint32_t)size, false}};
	g_assert_cmpuint(driver_do(&f->driver, TX, pieces, 2), ==, 0);
}

static void test_send(struct fixture *f, gconstpointer data)
{
	uint8_t frame[2000], received[2000];
	struct net_header plain = {0},
			  csum = {.flags = NET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
	size_t size = make_tcp(frame, 101);
	send_packet(f, &plain, frame, size);
	g_assert_cmpuint(peer_receive(f, received, sizeof(received)), ==, size);
	g_assert_cmpmem(received, size, frame, size);
	send_packet(f, &csum, frame, size);
	g_assert_cmpuint(peer_receive(f, received, sizeof(received)), ==, size);
	memcpy(frame + 14 + 10, received + 14 + 10, 2);
	g_assert_cmpmem(received + 54, 101, frame + 54, 101);
	g_assert_cmphex(checksum(received + 34, size - 34,
				 (uint32_t)(uint16_t)~checksum(received + 26, 8, 0) + 6 + 121),
			==, 0);
	/* A checksum outside the frame: dropped, and the next one goes through. */
	csum.csum_start = 65000;
	send_packet(f, &csum, frame, size);
	send_packet(f, &plain, frame, 60);
	g_assert_cmpuint(peer_receive(f, received, sizeof(received)), ==, 60);
}

struct segments {
	const uint8_t *payload;
	size_t done, count;
	uint32_t max;
};

static void on_segment(void *opaque, const uint8_t *frame, size_t size)
{
	struct segments *s = opaque;
	check_tcp(frame, size);
	size_t payload = size - 54;
	g_assert_cmpuint(payload, <=, s->max);
	g_assert_cmpuint(be16(frame + 40), ==, 100 + s->done); /* low half of the sequence number */
	g_assert_cmpuint(be16(frame + 18), ==, 7 + s->count);
	g_assert_cmpmem(frame + 54, payload, s->payload + s->done, payload);
	s->done += payload;
	s->count++;
	g_assert_cmpuint(frame[47] & 9, ==, s->done == 20000 ? 9 : 0);
}

static void test_segment(void)
{
	g_autofree uint8_t *frame = g_malloc(70000), *copy = NULL;
	size_t size = make_tcp(frame, 20000);
	copy = g_memdup2(frame + 54, 20000);
	const struct net_header h = {.flags = NET_NEEDS_CSUM,
				     .gso_type = NET_GSO_TCP4,
				     .gso_size = 1400,
				     .csum_start = 34,
				     .csum_offset = 16};
	struct segments segments = {.payload = copy, .max = 1400};
	g_assert_true(net_segment(&h, frame, size, 0, on_segment, &segments));
	g_assert_cmpuint(segments.done, ==, 20000);
	g_assert_cmpuint(segments.count, ==, 15);
	/* Lies about the headers. */
	struct net_header bad = h;
	bad.csum_start = 60000;
	g_assert_false(net_segment(&bad, frame, size, 0, on_segment, &segments));
	bad = h;
	bad.gso_size = 0;
	g_assert_false(net_segment(&bad, frame, size, 0, on_segment, &segments));
	g_assert_false(net_segment(&h, frame, 50, 0, on_segment, &segments));
}

static uint8_t command(struct fixture *f, const uint8_t *bytes, uint32_t size)
{
	memcpy(rig_host(&f->rig, TX_AT), bytes, size);
	*(uint8_t *)rig_host(&f->rig, TX_AT + 0x1000) = 0xee;
	const struct piece pieces[] = {{TX_AT, size, false}, {TX_AT + 0x1000, 1, true}};
	driver_do(&f->driver, CONTROL, pieces, 2);
	return *(uint8_t *)rig_host(&f->rig, TX_AT + 0x1000);
}

static void test_control(struct fixture *f, gconstpointer data)
{
	g_assert_cmpuint(command(f, (const uint8_t *)"\0\0\1", 3), ==, 0); /* promiscuous */
	g_assert_cmpuint(command(f, (const uint8_t *)"\1\1\x52\x54\0\4\5\6", 8), ==, 0);
	g_assert_cmphex(driver_read(&f->driver, 2, 4, 1), ==, 5);
	g_assert_cmpuint(command(f, (const uint8_t *)"\1\1\x52", 3), ==, 1); /* half a MAC */
	g_assert_cmpuint(command(f, (const uint8_t *)"\x63\0\0", 3), ==, 1);
	g_assert_cmpuint(command(f, (const uint8_t *)"\0", 1), ==, 1);
	rig_check_state(&f->rig);
	g_assert_cmphex(driver_read(&f->driver, 2, 4, 1), ==, 5);
}

static bool link_is_down(void *opaque)
{
	return !(driver_read(opaque, 2, 6, 2) & 1);
}

static void test_peer_gone(struct fixture *f, gconstpointer data)
{
	uint8_t frame[60] = {0};
	struct net_header plain = {0};
	g_assert_false(link_is_down(&f->driver));
	close(f->peer);
	f->peer = -1;
	g_log_set_always_fatal(G_LOG_FATAL_MASK);
	g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*link is down*");
	rig_wait(&f->rig, link_is_down, &f->driver);
	g_test_assert_expected_messages();
	send_packet(f, &plain, frame, sizeof(frame)); /* nowhere, but taken */
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(struct fixture *f, gconstpointer data);
		unsigned flags;
	} tests[] = {
		{"receive", test_receive, 0},
		{"receive-mergeable", test_receive, MERGEABLE},
		{"receive-packed", test_receive, MERGEABLE | PACKED},
		{"send", test_send, 0},
		{"control", test_control, 0},
		{"peer-gone", test_peer_gone, 0},
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strdup_printf("/virtio/net/%s", tests[i].name);
		g_test_add(path, struct fixture, GUINT_TO_POINTER(tests[i].flags), setup,
			   tests[i].fn, teardown);
	}
	g_test_add_func("/virtio/net/segment", test_segment);
	return g_test_run();
}
