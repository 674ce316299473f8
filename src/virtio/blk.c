// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio block device (VIRTIO 1.2, 5.2) over the block room.
 *
 * A write, flush, discard or zeroing that the host refuses (no space, a failing disk) is kept, the
 * machine pauses, and the request is made again when the machine goes on: the guest never sees the
 * error. A failed read is reported to the guest, which can deal with a bad sector. */
#include "virtio/blk.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "vm/vm.h"

enum {
	BLK_F_SEG_MAX = 2,
	BLK_F_RO = 5,
	BLK_F_BLK_SIZE = 6,
	BLK_F_FLUSH = 9,
	BLK_F_TOPOLOGY = 10,
	BLK_F_CONFIG_WCE = 11,
	BLK_F_MQ = 12,
	BLK_F_DISCARD = 13,
	BLK_F_WRITE_ZEROES = 14,
};

enum {
	CONFIG_CAPACITY = 0,
	CONFIG_SEG_MAX = 12,
	CONFIG_BLK_SIZE = 20,
	CONFIG_TOPOLOGY = 24,
	CONFIG_WCE = 32,
	CONFIG_QUEUES = 34,
	CONFIG_DISCARD = 36,
	CONFIG_ZEROES = 48,
	CONFIG_SIZE = 60,
};

enum {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_GET_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
};

enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP };

enum {
	SECTOR = 512,
	SECTOR_SHIFT = 9,
	QUEUE_SIZE = 256,
	SEG_MAX = QUEUE_SIZE - 2,
	ID_BYTES = 20,
	HEADER_BYTES = 16,
	RANGE_BYTES = 16,
	RANGES_MAX = 16, /* of one discard or write-zeroes request */
	RANGE_SECTORS_MAX = 1 << 22,
	BUDGET = 256, /* requests taken on a vCPU's thread at a stretch */
};

struct range {
	uint64_t sector;
	uint32_t count, flags;
};

struct virtio_blk {
	struct virtio virtio;
	struct block *block;
	char serial[ID_BYTES];
	uint64_t sectors;
	bool writethrough; /* at power-on */
	unsigned in_flight;
	struct request *kept;   /* refused by the host, oldest first */
	GByteArray *kept_state; /* the same in the saved state: see pre_save */
};

struct request {
	struct queue_element e;
	struct virtio_blk *blk;
	struct request *next;
	uint16_t queue;
	uint32_t type;
	uint64_t sector;
	unsigned parts; /* block requests still out */
	int result;
	bool flushing; /* the write is done, the flush after it is out */
};

static void blk_config_render(struct virtio_blk *blk, bool wce)
{
	uint8_t *c = blk->virtio.config;
	struct block_info info;
	block_get_info(blk->block, &info);
	unsigned granule = MAX(info.discard_granularity_bytes, (uint32_t)SECTOR) / SECTOR;
	memset(c, 0, CONFIG_SIZE);
	memcpy(c + CONFIG_CAPACITY, &blk->sectors, 8);
	pci_set32(c + CONFIG_SEG_MAX, SEG_MAX);
	pci_set32(c + CONFIG_BLK_SIZE, SECTOR);
	c[CONFIG_TOPOLOGY] = 3;                  /* 8 sectors of 512 in a physical one */
	pci_set16(c + CONFIG_TOPOLOGY + 2, 8);   /* smallest good request: 4 KiB */
	pci_set32(c + CONFIG_TOPOLOGY + 4, 128); /* best request: 64 KiB */
	c[CONFIG_WCE] = wce;
	pci_set16(c + CONFIG_QUEUES, (uint16_t)blk->virtio.queue_count);
	pci_set32(c + CONFIG_DISCARD, RANGE_SECTORS_MAX);
	pci_set32(c + CONFIG_DISCARD + 4, RANGES_MAX);
	pci_set32(c + CONFIG_DISCARD + 8, granule);
	pci_set32(c + CONFIG_ZEROES, RANGE_SECTORS_MAX);
	pci_set32(c + CONFIG_ZEROES + 4, RANGES_MAX);
	c[CONFIG_ZEROES + 8] = 1; /* may unmap */
}

/* Without a flush command, or with the cache switched off, a write is done when it is durable. */
static bool is_writethrough(const struct virtio_blk *blk)
{
	const struct virtio *v = &blk->virtio;
	if (!virtio_has(v, BLK_F_FLUSH))
		return true;
	return virtio_has(v, BLK_F_CONFIG_WCE) && !v->config[CONFIG_WCE];
}

/* --- Completion --- */

/* Frees the request. */
static void request_finish(struct request *r, uint8_t status)
{
	struct virtio *v = &r->blk->virtio;
	unsigned queue = r->queue;
	uint64_t last = r->e.in_bytes - 1;
	queue_element_write(&r->e, last, &status, 1);
	queue_push(&v->queues[queue], &r->e, last + 1);
	virtio_interrupt(v, queue);
}

static void keep(struct request *r)
{
	struct request **end = &r->blk->kept;
	while (*end)
		end = &(*end)->next;
	r->next = NULL;
	*end = r;
}

static void drop_kept(struct virtio_blk *blk)
{
	while (blk->kept) {
		struct request *r = blk->kept;
		blk->kept = r->next;
		g_free(r);
	}
}

static bool is_host_fault(const struct request *r)
{
	return r->type != TYPE_IN && r->result != -EINVAL && r->result != -EROFS &&
	       r->result != -EOPNOTSUPP;
}

static void on_done(void *opaque, int result);

static void request_complete(struct request *r)
{
	struct virtio_blk *blk = r->blk;
	struct virtio *v = &blk->virtio;
	if (v->resetting) {
		g_free(r);
	} else if (r->result == 0 && r->type == TYPE_OUT && !r->flushing && is_writethrough(blk)) {
		r->flushing = true;
		r->parts = 1;
		block_flush(blk->block, on_done, r);
		return;
	} else if (r->result < 0 && is_host_fault(r)) {
		g_autofree char *text =
			g_strdup_printf("disk '%s': %s; the guest is paused and goes on where it "
					"was when the host can write again",
					v->pci.device.id, g_strerror(-r->result));
		keep(r);
		vm_request_io_stop(v->pci.device.vm, text);
	} else {
		request_finish(r, r->result < 0 ? STATUS_IOERR : STATUS_OK);
	}
	if (--blk->in_flight == 0)
		virtio_quiesced(v);
}

static void on_done(void *opaque, int result)
{
	struct request *r = opaque;
	struct virtio *v = &r->blk->virtio;
	virtio_lock(v);
	if (result < 0 && r->result == 0)
		r->result = result;
	if (--r->parts == 0)
		request_complete(r);
	virtio_unlock(v);
}

/* --- Submission --- */

static bool range_fits(const struct virtio_blk *blk, uint64_t sector, uint64_t bytes)
{
	return bytes % SECTOR == 0 && sector <= blk->sectors &&
	       bytes / SECTOR <= blk->sectors - sector;
}

static void submit_read(struct request *r)
{
	struct iovec *last = &r->e.in[r->e.in_count - 1];
	unsigned count = r->e.in_count;
	last->iov_len--; /* the status byte; the block room copies the vector */
	if (last->iov_len == 0)
		count--;
	block_preadv(r->blk->block, r->sector << SECTOR_SHIFT, r->e.in, (int)count, on_done, r);
	last->iov_len++;
}

static void submit_write(struct request *r)
{
	g_autofree struct iovec *iov = g_new(struct iovec, r->e.out_count);
	size_t skip = HEADER_BYTES;
	int count = 0;
	for (unsigned i = 0; i < r->e.out_count; i++) {
		size_t part = MIN(skip, r->e.out[i].iov_len);
		skip -= part;
		if (part < r->e.out[i].iov_len)
			iov[count++] = (struct iovec){(uint8_t *)r->e.out[i].iov_base + part,
						      r->e.out[i].iov_len - part};
	}
	block_pwritev(r->blk->block, r->sector << SECTOR_SHIFT, iov, count, on_done, r);
}

static bool ranges_fit(const struct request *r, const struct range *ranges, unsigned count)
{
	/* Flag bit 0 is unmap, of write-zeroes alone; the others are reserved. */
	uint32_t known = r->type == TYPE_WRITE_ZEROES ? 1 : 0;
	for (unsigned i = 0; i < count; i++) {
		if (ranges[i].count > RANGE_SECTORS_MAX || (ranges[i].flags & ~known) ||
		    !range_fits(r->blk, ranges[i].sector, (uint64_t)ranges[i].count * SECTOR))
			return false;
	}
	return true;
}

static unsigned read_ranges(const struct request *r, struct range ranges[RANGES_MAX])
{
	uint64_t bytes = r->e.out_bytes - HEADER_BYTES;
	if (bytes == 0 || bytes % RANGE_BYTES || bytes / RANGE_BYTES > RANGES_MAX)
		return 0;
	queue_element_read(&r->e, HEADER_BYTES, ranges, bytes);
	return (unsigned)(bytes / RANGE_BYTES);
}

static bool submit_ranges(struct request *r)
{
	struct range ranges[RANGES_MAX];
	unsigned count = read_ranges(r, ranges);
	if (!count || !ranges_fit(r, ranges, count))
		return false;
	r->parts = count;
	for (unsigned i = 0; i < count; i++) {
		uint64_t offset = ranges[i].sector << SECTOR_SHIFT;
		uint64_t length = (uint64_t)ranges[i].count << SECTOR_SHIFT;
		if (r->type == TYPE_DISCARD)
			block_discard(r->blk->block, offset, length, on_done, r);
		else
			block_write_zeroes(r->blk->block, offset, length, ranges[i].flags & 1,
					   on_done, r);
	}
	return true;
}

/* Starts the request, or returns the status to give at once. Also for one that was kept. */
static int request_start(struct request *r)
{
	struct virtio_blk *blk = r->blk;
	bool writable = !(blk->virtio.offered >> BLK_F_RO & 1);
	r->parts = 1;
	r->result = 0;
	switch (r->type) {
	case TYPE_IN:
		if (!range_fits(blk, r->sector, r->e.in_bytes - 1))
			return STATUS_IOERR;
		submit_read(r);
		break;
	case TYPE_OUT:
		if (!writable || !range_fits(blk, r->sector, r->e.out_bytes - HEADER_BYTES))
			return STATUS_IOERR;
		if (r->flushing)
			block_flush(blk->block, on_done, r);
		else
			submit_write(r);
		break;
	case TYPE_FLUSH:
		block_flush(blk->block, on_done, r);
		break;
	case TYPE_DISCARD:
	case TYPE_WRITE_ZEROES:
		if (!writable)
			return STATUS_IOERR;
		if (!virtio_has(&blk->virtio,
				r->type == TYPE_DISCARD ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES))
			return STATUS_UNSUPP;
		if (!submit_ranges(r))
			return STATUS_IOERR;
		break;
	case TYPE_GET_ID:
		queue_element_write(&r->e, 0, blk->serial, MIN(r->e.in_bytes - 1, ID_BYTES));
		return STATUS_OK;
	default:
		return STATUS_UNSUPP;
	}
	return -1;
}

static bool request_parse(struct request *r)
{
	uint8_t header[HEADER_BYTES];
	if (r->e.in_bytes < 1 || queue_element_read(&r->e, 0, header, HEADER_BYTES) < HEADER_BYTES)
		return false;
	r->type = pci_get32(header);
	memcpy(&r->sector, header + 8, 8);
	return true;
}

static void submit(struct request *r)
{
	r->blk->in_flight++;
	int status = request_start(r);
	if (status < 0)
		return;
	r->blk->in_flight--;
	request_finish(r, (uint8_t)status);
}

static void kick(struct virtio *v, unsigned queue)
{
	struct virtio_blk *blk = (struct virtio_blk *)v;
	struct queue *q = &v->queues[queue];
	unsigned budget = BUDGET;
	do {
		struct request *r;
		queue_notify_off(q);
		while (budget && (r = (struct request *)queue_pop(q, sizeof(*r)))) {
			budget--;
			r->blk = blk;
			r->queue = (uint16_t)queue;
			if (!request_parse(r)) {
				g_free(r);
				queue_set_fault(q,
						"a disk request has no room for header or status");
				return;
			}
			submit(r);
		}
		if (!budget) {
			virtio_kick_later(v, queue);
			return;
		}
	} while (queue_notify_on(q));
}

static void resumed(struct virtio *v)
{
	struct virtio_blk *blk = (struct virtio_blk *)v;
	struct request *r = blk->kept;
	blk->kept = NULL;
	while (r) {
		struct request *next = r->next;
		r->next = NULL;
		submit(r);
		r = next;
	}
}

/* What was written elsewhere goes; the cache bit is the one writable field. */
static void config_written(struct virtio *v, unsigned offset, unsigned size)
{
	blk_config_render((struct virtio_blk *)v, v->config[CONFIG_WCE] != 0);
}

static bool quiesce(struct virtio *v)
{
	return ((struct virtio_blk *)v)->in_flight == 0;
}

static void reset_queues(struct virtio *v)
{
	struct virtio_blk *blk = (struct virtio_blk *)v;
	drop_kept(blk);
	blk_config_render(blk, !blk->writethrough);
}

static const struct virtio_ops ops = {
	.kick = kick,
	.config_written = config_written,
	.quiesce = quiesce,
	.reset = reset_queues,
	.resumed = resumed,
};

/* --- Device --- */

static void blk_reset(struct device *device)
{
	virtio_reset((struct virtio *)device);
}

static void blk_drain(struct device *device)
{
	block_drain(((struct virtio_blk *)device)->block);
}

static void blk_free(struct device *device)
{
	struct virtio_blk *blk = (struct virtio_blk *)device;
	block_drain(blk->block);
	virtio_fini(&blk->virtio);
	drop_kept(blk);
	g_byte_array_free(blk->kept_state, TRUE);
	g_free(blk);
}

/* --- Saved state: only kept requests outlive the drain --- */

static void pre_save(void *object)
{
	struct virtio_blk *blk = object;
	g_byte_array_set_size(blk->kept_state, 0);
	for (struct request *r = blk->kept; r; r = r->next) {
		uint8_t head[3] = {(uint8_t)r->queue, (uint8_t)(r->queue >> 8), r->flushing};
		g_byte_array_append(blk->kept_state, head, sizeof(head));
		queue_element_save(&r->e, blk->kept_state);
	}
}

static bool load_kept(struct virtio_blk *blk, const uint8_t **from, const uint8_t *end)
{
	struct virtio *v = &blk->virtio;
	if (end - *from < 3)
		return false;
	unsigned queue = pci_get16(*from);
	bool flushing = (*from)[2];
	*from += 3;
	if (queue >= v->queue_count || !queue_is_ready(&v->queues[queue]))
		return false;
	struct request *r =
		(struct request *)queue_element_load(&v->queues[queue], sizeof(*r), from, end);
	if (!r)
		return false;
	r->blk = blk;
	r->queue = (uint16_t)queue;
	r->flushing = flushing;
	keep(r);
	return request_parse(r);
}

static bool post_load(void *object, GError **error)
{
	struct virtio_blk *blk = object;
	const uint8_t *from = blk->kept_state->data, *end = from + blk->kept_state->len;
	drop_kept(blk);
	blk_config_render(blk, blk->virtio.config[CONFIG_WCE] != 0);
	while (from != end) {
		if (!load_kept(blk, &from, end))
			return error_set(error, LODGE_ERROR_CORRUPT,
					 "the disk requests to repeat make no sense");
	}
	return true;
}

static const struct state_field blk_fields[] = {
	STATE_SUB(struct virtio_blk, virtio, &virtio_state),
	STATE_BUFFER_FIELD(struct virtio_blk, kept_state),
};

static const struct state_table blk_state = {.version = 1,
					     .min_version = 1,
					     .fields = blk_fields,
					     .field_count = G_N_ELEMENTS(blk_fields),
					     .pre_save = pre_save,
					     .post_load = post_load};

static const struct device_class blk_class = {.name = "virtio-blk",
					      .reset = blk_reset,
					      .free = blk_free,
					      .drain = blk_drain,
					      .state = &blk_state};

static uint64_t features_of(struct block *block, unsigned queues)
{
	struct block_info info;
	block_get_info(block, &info);
	uint64_t f = 1u << BLK_F_SEG_MAX | 1u << BLK_F_BLK_SIZE | 1u << BLK_F_FLUSH |
		     1u << BLK_F_TOPOLOGY | 1u << BLK_F_CONFIG_WCE;
	if (queues > 1)
		f |= 1u << BLK_F_MQ;
	if (info.read_only)
		return f | 1u << BLK_F_RO;
	return f | 1u << BLK_F_WRITE_ZEROES | (info.discard ? 1u << BLK_F_DISCARD : 0);
}

struct device *virtio_blk_new(struct vm *vm, struct pci_bus *bus, struct block *block,
			      const struct virtio_blk_config *config, GError **error)
{
	struct virtio_blk *blk = g_new0(struct virtio_blk, 1);
	blk->block = block;
	blk->sectors = block_size_bytes(block) / SECTOR;
	blk->writethrough = config->writethrough;
	blk->kept_state = g_byte_array_new();
	if (config->serial)
		memcpy(blk->serial, config->serial, MIN(strlen(config->serial), ID_BYTES));
	device_add(vm, &blk->virtio.pci.device, &blk_class, config->id);
	const struct virtio_config virtio = {.type = VIRTIO_BLK,
					     .class_code = 0x018000,
					     .features = features_of(block, config->queues),
					     .config_size = CONFIG_SIZE,
					     .queue_count = config->queues,
					     .queue_size = QUEUE_SIZE,
					     .packed = config->packed};
	if (!virtio_init(&blk->virtio, bus, &virtio, &ops, error))
		return NULL;
	blk_config_render(blk, !blk->writethrough);
	return &blk->virtio.pci.device;
}
