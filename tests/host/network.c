// SPDX-License-Identifier: GPL-2.0-or-later
/* passt is started, answers a DHCP discover on the descriptor, says why it cannot start, and taps
 * are made and refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/passt.h"
#include "host/tap.h"

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A broadcast DHCPDISCOVER from 52:54:00:00:00:01, behind its length. */
static size_t make_discover(uint8_t frame[4 + 14 + 28 + 300])
{
	static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
	uint8_t *eth = frame + 4, *ip = eth + 14, *udp = ip + 20, *dhcp = udp + 8;
	memset(frame, 0, 4 + 14 + 28 + 300);
	put16(frame + 2, 14 + 28 + 300);
	memset(eth, 0xff, 6);
	memcpy(eth + 6, mac, 6);
	put16(eth + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, 28 + 300);
	ip[8] = 64;
	ip[9] = 17;
	memset(ip + 16, 0xff, 4);
	uint32_t sum = 0;
	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	put16(ip + 10, ~((sum & 0xffff) + (sum >> 16)) & 0xffff);
	put16(udp, 68);
	put16(udp + 2, 67);
	put16(udp + 4, 8 + 300);
	dhcp[0] = 1;
	dhcp[1] = 1;
	dhcp[2] = 6;
	memcpy(dhcp + 28, mac, 6);
	memcpy(dhcp + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
	return 4 + 14 + 28 + 300;
}

static void test_dhcp(void)
{
	g_autoptr(GError) error = NULL;
	uint8_t frame[4 + 14 + 28 + 300], answer[2048];
	g_autofree char *program = g_find_program_in_path("passt");
	if (!program) {
		g_test_skip("passt is not installed");
		return;
	}
	int fd = passt_start(NULL, 0, &error);
	g_assert_no_error(error);
	g_assert_cmpint(fd, >=, 0);
	size_t size = make_discover(frame);
	g_assert_cmpint(send(fd, frame, size, 0), ==, (ssize_t)size);
	bool offered = false;
	for (unsigned i = 0; i < 20 && !offered; i++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
		ssize_t n = recv(fd, answer, sizeof(answer), 0);
		g_assert_cmpint(n, >, 0);
		/* "Your address" of an offer: 16 bytes into DHCP, behind 46 of headers. */
		static const uint8_t expected[4] = {10, 0, 2, 15};
		for (ssize_t at = 0; at + 66 <= n && !offered; at++)
			offered = memcmp(answer + at + 62, expected, 4) == 0;
	}
	g_assert_true(offered);
	close(fd);
}

/* A forward of a port that is taken is refused in words. */
static void test_port_taken(void)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *program = g_find_program_in_path("passt");
	if (!program) {
		g_test_skip("passt is not installed");
		return;
	}
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
	socklen_t length = sizeof(address);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0) {
		g_test_skip("no IPv6 here");
		close(listener);
		return;
	}
	g_assert_cmpint(listen(listener, 1), ==, 0);
	g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &length), ==, 0);
	const struct passt_forward forward = {.host_port = ntohs(address.sin6_port),
					      .guest_port = 22};
	int fd = passt_start(&forward, 1, &error);
	g_assert_cmpint(fd, ==, -1);
	g_assert_nonnull(error);
	g_assert_nonnull(strstr(error->message, "passt"));
	close(listener);
}

static void test_missing(void)
{
	if (g_test_subprocess()) {
		g_autoptr(GError) error = NULL;
		g_setenv("PATH", "/nowhere", TRUE);
		g_assert_cmpint(passt_start(NULL, 0, &error), ==, -1);
		g_assert_nonnull(strstr(error->message, "install the package 'passt'"));
		return;
	}
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_passed();
}

/* In a network namespace of our own. */
static void test_tap(void)
{
	if (!g_test_subprocess()) {
		if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
			g_test_skip("taps take root and /dev/net/tun");
			return;
		}
		g_test_trap_subprocess(NULL, 0, 0);
		g_test_trap_assert_passed();
		return;
	}
	g_autoptr(GError) error = NULL;
	g_autofree char *name = NULL, *second = NULL;
	g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
	int fd = tap_open(NULL, NULL, &name, &error);
	g_assert_no_error(error);
	g_assert_true(g_str_has_prefix(name, "lodge"));
	g_assert_cmpuint(if_nametoindex(name), !=, 0);
	g_assert_cmpint(tap_open(name, NULL, &second, &error), ==, -1); /* it is in use */
	g_assert_nonnull(strstr(error->message, name));
	g_clear_error(&error);
	g_assert_cmpint(tap_open(NULL, "nobridge0", &second, &error), ==, -1);
	g_assert_nonnull(strstr(error->message, "nobridge0"));
	g_clear_error(&error);
	g_assert_cmpint(tap_open("a name too long for it", NULL, &second, &error), ==, -1);
	g_assert_nonnull(error);
	close(fd);
	g_assert_cmpuint(if_nametoindex(name), ==, 0); /* gone with its descriptor */
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/host/passt/dhcp", test_dhcp);
	g_test_add_func("/host/passt/port-taken", test_port_taken);
	g_test_add_func("/host/passt/missing", test_missing);
	g_test_add_func("/host/tap/open", test_tap);
	return g_test_run();
}
