// SPDX-License-Identifier: GPL-2.0-or-later
/* The disk: all request types, requests that cannot be, and a host that refuses for a while. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"
#include "virtio/blk.h"

enum { DISK_BYTES = 1 << 20, HEADER = 0x2000, DATA = 0x3000, STATUS = 0x8000 };
enum { IN, OUT, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK, IOERR, UNSUPP };

struct fixture {
	struct rig rig;
	struct driver driver;
	struct block *block;
	char *path;
};

/* What a test asks of its disk. */
enum { READ_ONLY = 1, PACKED = 2 };

static void setup(struct fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	unsigned flags = GPOINTER_TO_UINT(data);
	rig_init(&f->rig);
	int fd = g_file_open_tmp("lodge-blk-XXXXXX", &f->path, &error);
	g_assert_no_error(error);
	g_assert_cmpint(ftruncate(fd, DISK_BYTES), ==, 0);
	close(fd);
	const struct block_options options = {.file = f->path,
					      .format = "raw",
					      .read_only = flags & READ_ONLY,
					      .discard = true,
					      .no_io_uring = true,
					      .context = f->rig.context};
	f->block = block_open(&options, &error);
	g_assert_no_error(error);
	const struct virtio_blk_config config = {.serial = "SERIAL-1", .queues = 2, .packed = true};
	struct device *device = virtio_blk_new(f->rig.vm, f->rig.bus, f->block, &config, &error);
	g_assert_no_error(error);
	rig_start(&f->rig);
	uint64_t bits = 1u << 5 | 1u << 9 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14;
	driver_init(&f->driver, &f->rig, (struct pci_function *)device,
		    FEATURE_BASE | bits | (flags & PACKED ? FEATURE_PACKED : 0), 32);
}

static void teardown(struct fixture *f, gconstpointer data)
{
	rig_fini(&f->rig);
	g_assert_cmpint(block_close(f->block), ==, 0);
	unlink(f->path);
	g_free(f->path);
}

static void put_header(struct fixture *f, uint32_t type, uint64_t sector)
{
	uint8_t *h = rig_host(&f->rig, HEADER);
	memset(h, 0, 16);
	memcpy(h, &type, 4);
	memcpy(h + 8, &sector, 8);
	*(uint8_t *)rig_host(&f->rig, STATUS) = 0xee;
}

/* One request with @size bytes at DATA; returns its status. */
static uint8_t request(struct fixture *f, unsigned queue, uint32_t type, uint64_t sector,
		       uint32_t size)
{
	struct piece pieces[3] = {{HEADER, 16, false}};
	unsigned count = 1;
	put_header(f, type, sector);
	if (size)
		pieces[count++] = (struct piece){DATA, size, type == IN || type == GET_ID};
	pieces[count++] = (struct piece){STATUS, 1, true};
	driver_do(&f->driver, queue, pieces, count);
	return *(uint8_t *)rig_host(&f->rig, STATUS);
}

static void test_transfer(struct fixture *f, gconstpointer data)
{
	uint8_t *buffer = rig_host(&f->rig, DATA);
	for (unsigned i = 0; i < 40; i++) { /* also once round the ring */
		memset(buffer, (int)i + 1, 4096);
		g_assert_cmpuint(request(f, i & 1, OUT, 8 * i, 4096), ==, OK);
	}
	g_assert_cmpuint(request(f, 0, FLUSH, 0, 0), ==, OK);
	for (unsigned i = 0; i < 40; i++) {
		memset(buffer, 0, 4096);
		g_assert_cmpuint(request(f, 1, IN, 8 * i, 4096), ==, OK);
		g_assert_cmpuint(buffer[0], ==, i + 1);
		g_assert_cmpuint(buffer[4095], ==, i + 1);
	}
	uint8_t byte;
	g_assert_cmpint(block_pread_sync(f->block, 39 * 4096 + 17, &byte, 1), ==, 0);
	g_assert_cmpuint(byte, ==, 40);
	memset(buffer, 0, 20);
	g_assert_cmpuint(request(f, 0, GET_ID, 0, 20), ==, OK);
	g_assert_cmpstr((char *)buffer, ==, "SERIAL-1");
	rig_check_state(&f->rig);
}

/* Header and status cut into pieces that no driver would make. */
static void test_odd_pieces(struct fixture *f, gconstpointer data)
{
	memset(rig_host(&f->rig, DATA), 0x5a, 1024);
	put_header(f, OUT, 3);
	struct piece out[] = {{HEADER, 5, false},
			      {HEADER + 5, 11, false},
			      {DATA, 1, false},
			      {DATA + 1, 511, false},
			      {STATUS, 1, true}};
	driver_do(&f->driver, 0, out, G_N_ELEMENTS(out));
	g_assert_cmpuint(*(uint8_t *)rig_host(&f->rig, STATUS), ==, OK);
	put_header(f, IN, 3);
	/* The status lies behind the data in one piece. */
	struct piece in[] = {
		{HEADER, 16, false}, {DATA + 1024, 100, true}, {DATA + 1124, 413, true}};
	g_assert_cmpuint(driver_do(&f->driver, 0, in, 3), ==, 513);
	uint8_t *buffer = rig_host(&f->rig, DATA + 1024);
	g_assert_cmpuint(buffer[0], ==, 0x5a);
	g_assert_cmpuint(buffer[511], ==, 0x5a);
	g_assert_cmpuint(buffer[512], ==, OK);
}

static void put_range(struct fixture *f, unsigned index, uint64_t sector, uint32_t count,
		      uint32_t flags)
{
	uint8_t *p = rig_host(&f->rig, DATA + 16 * index);
	memcpy(p, &sector, 8);
	memcpy(p + 8, &count, 4);
	memcpy(p + 12, &flags, 4);
}

static void test_ranges(struct fixture *f, gconstpointer data)
{
	uint8_t *buffer = rig_host(&f->rig, DATA);
	memset(buffer, 0xaa, 16384);
	g_assert_cmpuint(request(f, 0, OUT, 0, 16384), ==, OK);
	put_range(f, 0, 0, 8, 0);
	put_range(f, 1, 16, 8, 1);
	g_assert_cmpuint(request(f, 0, WRITE_ZEROES, 0, 32), ==, OK);
	g_assert_cmpuint(request(f, 0, IN, 0, 16384), ==, OK);
	g_assert_cmpuint(buffer[0], ==, 0);
	g_assert_cmpuint(buffer[4096], ==, 0xaa);
	g_assert_cmpuint(buffer[8192], ==, 0);
	put_range(f, 0, 24, 8, 0);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 16), ==, OK);
	/* Beyond the end, wrapping, too many sectors, unknown flags, half a range, none. */
	put_range(f, 0, DISK_BYTES / 512 - 1, 2, 0);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 16), ==, IOERR);
	put_range(f, 0, UINT64_MAX, 2, 0);
	g_assert_cmpuint(request(f, 0, WRITE_ZEROES, 0, 16), ==, IOERR);
	put_range(f, 0, 0, UINT32_MAX, 0);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 16), ==, IOERR);
	put_range(f, 0, 0, 8, 1);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 16), ==, IOERR);
	put_range(f, 0, 0, 8, 0);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 24), ==, IOERR);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 0), ==, IOERR);
	g_assert_cmpuint(request(f, 0, DISCARD, 0, 17 * 16), ==, IOERR);
}

static void test_impossible(struct fixture *f, gconstpointer data)
{
	g_assert_cmpuint(request(f, 0, IN, DISK_BYTES / 512, 512), ==, IOERR);
	g_assert_cmpuint(request(f, 0, OUT, UINT64_MAX, 512), ==, IOERR);
	g_assert_cmpuint(request(f, 0, IN, UINT64_MAX / 512, 1024), ==, IOERR);
	g_assert_cmpuint(request(f, 0, OUT, 0, 100), ==, IOERR);
	g_assert_cmpuint(request(f, 0, 99, 0, 0), ==, UNSUPP);
	g_assert_cmphex(driver_status(&f->driver), ==, 0xf);
	/* No room for a status: the driver is at fault. */
	g_log_set_always_fatal(G_LOG_FATAL_MASK);
	g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*disk request*");
	struct piece piece = {HEADER, 16, false};
	driver_add(&f->driver, 0, &piece, 1);
	driver_notify(&f->driver, 0);
	g_test_assert_expected_messages();
	g_assert_cmphex(driver_status(&f->driver), ==, 0x4f);
}

static void test_read_only(struct fixture *f, gconstpointer data)
{
	g_assert_true(f->driver.features & 1u << 5);
	g_assert_cmpuint(request(f, 0, IN, 0, 512), ==, OK);
	g_assert_cmpuint(request(f, 0, OUT, 0, 512), ==, IOERR);
	put_range(f, 0, 0, 8, 0);
	g_assert_cmpuint(request(f, 0, WRITE_ZEROES, 0, 16), ==, IOERR);
}

static bool is_stopped(void *opaque)
{
	return ((struct rig *)opaque)->vm->state == RUN_IO_ERROR;
}

struct completion {
	struct fixture *f;
	uint16_t id;
};

static bool is_complete(void *opaque)
{
	struct completion *c = opaque;
	uint32_t length;
	return driver_used(&c->f->driver, 0, &c->id, &length);
}

/* The host takes no more: the machine pauses, the request waits, also in saved state, and is done
 * when the machine goes on. */
static void test_host_full(struct fixture *f, gconstpointer data)
{
	struct rlimit limit, low = {4096, 4096};
	struct piece pieces[] = {{HEADER, 16, false}, {DATA, 4096, false}, {STATUS, 1, true}};
	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	low.rlim_max = limit.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	memset(rig_host(&f->rig, DATA), 0x77, 4096);
	put_header(f, OUT, 80);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &low), ==, 0);
	uint16_t id = driver_add(&f->driver, 0, pieces, 3);
	driver_notify(&f->driver, 0);
	rig_wait(&f->rig, is_stopped, &f->rig);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	struct completion completion = {.f = f};
	g_assert_false(is_complete(&completion));
	g_assert_cmphex(*(uint8_t *)rig_host(&f->rig, STATUS), ==, 0xee);
	rig_check_state(&f->rig);
	g_assert_true(vm_start(f->rig.vm, NULL));
	rig_wait(&f->rig, is_complete, &completion);
	g_assert_cmpuint(completion.id, ==, id);
	g_assert_cmphex(*(uint8_t *)rig_host(&f->rig, STATUS), ==, OK);
	uint8_t byte = 0;
	g_assert_cmpint(block_pread_sync(f->block, 80 * 512 + 4095, &byte, 1), ==, 0);
	g_assert_cmphex(byte, ==, 0x77);
	g_assert_cmpuint(request(f, 0, FLUSH, 0, 0), ==, OK);
}

/* A reset with requests on their way waits for them and then forgets them. */
static void test_reset_in_flight(struct fixture *f, gconstpointer data)
{
	struct piece pieces[] = {{HEADER, 16, false}, {DATA, 4096, true}, {STATUS, 1, true}};
	for (unsigned round = 0; round < 20; round++) {
		put_header(f, IN, 0);
		for (unsigned i = 0; i < 8; i++)
			driver_add(&f->driver, 0, pieces, 3);
		driver_notify(&f->driver, 0);
		driver_negotiate(&f->driver, f->driver.features);
		f->rig.next_free = 0x10000;
		driver_setup_queue(&f->driver, 0, 32);
		driver_write(&f->driver, 0, 0x14, 0xf, 1);
	}
	g_assert_cmpuint(request(f, 0, IN, 0, 512), ==, OK);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(struct fixture *f, gconstpointer data);
		unsigned flags;
	} tests[] = {
		{"transfer", test_transfer, 0},
		{"transfer-packed", test_transfer, PACKED},
		{"odd-pieces", test_odd_pieces, 0},
		{"ranges", test_ranges, 0},
		{"impossible", test_impossible, 0},
		{"read-only", test_read_only, READ_ONLY},
		{"host-full", test_host_full, 0},
		{"host-full-packed", test_host_full, PACKED},
		{"reset-in-flight", test_reset_in_flight, 0},
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strdup_printf("/virtio/blk/%s", tests[i].name);
		g_test_add(path, struct fixture, GUINT_TO_POINTER(tests[i].flags), setup,
			   tests[i].fn, teardown);
	}
	return g_test_run();
}
