// SPDX-License-Identifier: GPL-2.0-or-later
/* The console and its ports: the handshake, data both ways, a guest that is not ready. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "virtio/console.h"

enum { CONTROL_IN = 2, CONTROL_OUT = 3, PORT1_IN = 4, PORT1_OUT = 5 };
enum { READY = 0, ADD = 1, PORT_READY = 3, CONSOLE = 4, OPEN = 6, NAME = 7 };

struct fixture {
	struct rig rig;
	struct driver driver;
	struct chardev *chardevs[2];
	int hosts[2];
};

static void setup(struct fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	struct virtio_console_port ports[2] = {{.name = NULL}, {.name = "org.lodge.test"}};
	rig_init(&f->rig);
	for (unsigned i = 0; i < 2; i++) {
		int pair[2];
		g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
		g_autofree char *spec = g_strdup_printf("fd:%d", pair[0]);
		f->hosts[i] = pair[1];
		ports[i].chardev = f->chardevs[i] = char_open(spec, f->rig.context, &error);
		g_assert_no_error(error);
	}
	struct device *device = virtio_console_new(f->rig.vm, f->rig.bus, ports, 2, true, &error);
	g_assert_no_error(error);
	rig_start(&f->rig);
	driver_init(&f->driver, &f->rig, (struct pci_function *)device,
		    FEATURE_BASE | 2 | (GPOINTER_TO_INT(data) ? FEATURE_PACKED : 0), 16);
}

static void teardown(struct fixture *f, gconstpointer data)
{
	rig_fini(&f->rig);
	for (unsigned i = 0; i < 2; i++) {
		char_free(f->chardevs[i]);
		close(f->hosts[i]);
	}
}

struct control {
	uint32_t id;
	uint16_t event, value;
};

static void tell(struct fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
	struct control m = {id, event, value};
	struct piece piece = {0x2000, 8, false};
	memcpy(rig_host(&f->rig, 0x2000), &m, 8);
	driver_do(&f->driver, CONTROL_OUT, &piece, 1);
}

/* Gives a buffer and expects this message in it; returns what follows it. */
static const char *expect(struct fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
	struct control m;
	struct piece piece = {0x3000, 64, true};
	memset(rig_host(&f->rig, 0x3000), 0, 65);
	g_assert_cmpuint(driver_do(&f->driver, CONTROL_IN, &piece, 1), >=, 8);
	memcpy(&m, rig_host(&f->rig, 0x3000), 8);
	g_assert_cmpuint(m.id, ==, id);
	g_assert_cmpuint(m.event, ==, event);
	g_assert_cmpuint(m.value, ==, value);
	return (const char *)rig_host(&f->rig, 0x3008);
}

static void test_handshake(struct fixture *f, gconstpointer data)
{
	uint16_t id;
	uint32_t length;
	g_assert_cmpuint(driver_read(&f->driver, 2, 4, 4), ==, 2);
	for (unsigned i = 0; i < 1000; i++) /* no buffer for the answers */
		tell(f, 0, READY, 1);
	rig_check_state(&f->rig);
	expect(f, 0, ADD, 1);
	expect(f, 1, ADD, 1);
	struct piece piece = {0x3000, 64, true};
	driver_add(&f->driver, CONTROL_IN, &piece, 1);
	driver_notify(&f->driver, CONTROL_IN);
	g_assert_false(driver_used(&f->driver, CONTROL_IN, &id, &length)); /* that was all */
	tell(f, 1, PORT_READY, 1);
	g_assert_true(driver_used(&f->driver, CONTROL_IN, &id, &length));
	g_assert_cmpstr((char *)rig_host(&f->rig, 0x3008), ==, "org.lodge.test");
	expect(f, 1, OPEN, 1);
	tell(f, 0, PORT_READY, 1);
	expect(f, 0, CONSOLE, 1);
	expect(f, 0, OPEN, 1);
	tell(f, 77, PORT_READY, 1); /* no such port, no such event */
	tell(f, 0, 99, 1);
	g_assert_cmphex(driver_status(&f->driver), ==, 0xf);
}

struct used {
	struct fixture *f;
	uint16_t id;
	uint32_t length;
};

static bool is_used(void *opaque)
{
	struct used *u = opaque;
	return driver_used(&u->f->driver, PORT1_IN, &u->id, &u->length);
}

static void test_data(struct fixture *f, gconstpointer data)
{
	char buffer[32] = "";
	struct used used = {.f = f};
	memcpy(rig_host(&f->rig, 0x4000), "to the host", 11);
	struct piece out = {0x4000, 11, false}, in = {0x5000, 5, true};
	driver_do(&f->driver, PORT1_OUT, &out, 1);
	g_assert_cmpint(recv(f->hosts[1], buffer, sizeof(buffer), 0), ==, 11);
	g_assert_cmpstr(buffer, ==, "to the host");
	/* Nothing is taken from the host before a program has opened the port. */
	g_assert_cmpint(send(f->hosts[1], "to the guest", 12, 0), ==, 12);
	driver_add(&f->driver, PORT1_IN, &in, 1);
	driver_notify(&f->driver, PORT1_IN);
	for (unsigned i = 0; i < 50; i++)
		g_main_context_iteration(f->rig.context, FALSE);
	g_assert_false(is_used(&used));
	tell(f, 1, OPEN, 1);
	rig_wait(&f->rig, is_used, &used);
	g_assert_cmpuint(used.length, ==, 5);
	g_assert_cmpmem(rig_host(&f->rig, 0x5000), 5, "to th", 5);
	for (unsigned i = 0; i < 50; i++)
		g_main_context_iteration(f->rig.context, FALSE);
	rig_check_state(&f->rig);
	in.length = 100;
	driver_add(&f->driver, PORT1_IN, &in, 1);
	driver_notify(&f->driver, PORT1_IN);
	rig_wait(&f->rig, is_used, &used);
	g_assert_cmpuint(used.length, ==, 7);
	g_assert_cmpmem(rig_host(&f->rig, 0x5000), 7, "e guest", 7);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (int packed = 0; packed < 2; packed++) {
		const char *kind = packed ? "packed" : "split";
		g_autofree char *handshake = g_strdup_printf("/virtio/console/%s/handshake", kind);
		g_autofree char *data = g_strdup_printf("/virtio/console/%s/data", kind);
		g_test_add(handshake, struct fixture, GINT_TO_POINTER(packed), setup,
			   test_handshake, teardown);
		g_test_add(data, struct fixture, GINT_TO_POINTER(packed), setup, test_data,
			   teardown);
	}
	return g_test_run();
}
