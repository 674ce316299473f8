// SPDX-License-Identifier: GPL-2.0-or-later
/* 8254 programmable interval timer (Intel 231164). A channel keeps the virtual time at which its
 * count was loaded; counts and outputs are computed from that when somebody looks. */
#include "dev/i8254.h"

#include "base/error.h"
#include "vm/chips.h"

enum { PIT_HZ = 1193182 };
enum { ACCESS_LATCH = 0, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

struct channel {
	uint32_t count; /* 1 to 0x10000 (10000 in BCD) */
	uint16_t latch;
	uint8_t mode, access, status;
	uint8_t write_low; /* first byte of a two-byte write */
	bool bcd, gate, loaded;
	bool latched, latch_high_next; /* a latched count is being read */
	bool status_latched, write_high_next, read_high_next;
	int64_t load_ns;     /* when counting began or went on */
	uint64_t elapsed;    /* clocks counted before that */
	uint32_t next_count; /* modes 2 and 3: for the next period, or 0 */
	bool triggered;      /* modes 1 and 5: the gate has risen since the mode was set */
};

struct i8254 {
	struct device device;
	struct channel channels[3];
	bool speaker;
	struct irq_line *irq0;
	struct vm_timer timer;
	struct window ports, gate;
	bool in_kernel;
	bool irq_level; /* saved: what the wire stands at */
};

static int64_t clocks_to_ns(uint64_t n)
{
	return (int64_t)(((unsigned __int128)n * 1000000000 + PIT_HZ - 1) / PIT_HZ);
}

static bool is_periodic(const struct channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

static bool is_triggered_mode(const struct channel *c)
{
	return c->mode == 1 || c->mode == 5;
}

static bool is_counting(const struct channel *c)
{
	return c->loaded && (is_triggered_mode(c) ? c->triggered : c->gate);
}

/* Input clocks counted since the count was loaded. */
static uint64_t clocks(const struct i8254 *pit, const struct channel *c)
{
	int64_t passed = vm_clock_ns(pit->device.vm) - c->load_ns;
	if (!is_counting(c) || passed < 0)
		return c->elapsed;
	return c->elapsed + (uint64_t)((unsigned __int128)passed * PIT_HZ / 1000000000);
}

static void restart(struct i8254 *pit, struct channel *c)
{
	c->elapsed = 0;
	c->load_ns = vm_clock_ns(pit->device.vm);
}

/* A count written while a period ran takes effect when that is over. */
static void settle(const struct i8254 *pit, struct channel *c)
{
	uint64_t d = c->next_count ? clocks(pit, c) : 0;
	if (!c->next_count || d < c->count)
		return;
	c->load_ns += clocks_to_ns(c->count - MIN(c->elapsed, (uint64_t)c->count));
	c->elapsed = 0;
	c->count = c->next_count;
	c->next_count = 0;
}

static uint16_t to_bcd(uint32_t value)
{
	return (uint16_t)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 |
			  value / 1000 % 10 << 12);
}

static uint16_t current_count(const struct i8254 *pit, struct channel *c)
{
	uint32_t modulus = c->bcd ? 10000 : 0x10000;
	settle(pit, c);
	uint64_t d = c->loaded ? clocks(pit, c) : 0;
	uint32_t value;
	if (c->mode == 2)
		value = c->count - (uint32_t)(d % c->count);
	else if (c->mode == 3)
		value = c->count - (uint32_t)(2 * d % c->count);
	else
		value = (uint32_t)((c->count + modulus - d % modulus) % modulus);
	return c->bcd ? to_bcd(value % modulus) : (uint16_t)value;
}

static bool output(const struct i8254 *pit, const struct channel *c)
{
	if (!c->loaded)
		return c->mode != 0;
	uint64_t d = clocks(pit, c);
	if (is_triggered_mode(c) && !c->triggered)
		return true;
	switch (c->mode) {
	case 0:
	case 1:
		return d >= c->count;
	case 2:
		return !c->gate || d % c->count != c->count - 1;
	case 3:
		return !c->gate || d % c->count < (c->count + 1) / 2;
	default:
		return d != c->count;
	}
}

static void schedule(struct i8254 *pit)
{
	struct channel *c = &pit->channels[0];
	vm_timer_cancel(&pit->timer);
	if (pit->in_kernel || !is_counting(c))
		return;
	settle(pit, c);
	uint64_t d = clocks(pit, c);
	if (is_periodic(c))
		vm_timer_arm(&pit->timer, c->load_ns + clocks_to_ns((d / c->count + 1) * c->count));
	else if (d < c->count)
		vm_timer_arm(&pit->timer, c->load_ns + clocks_to_ns(c->count));
}

static void channel0_due(void *opaque)
{
	struct i8254 *pit = opaque;
	irq_set(pit->irq0, false);
	irq_set(pit->irq0, true);
	if (is_periodic(&pit->channels[0]))
		schedule(pit);
}

static void load_count(struct i8254 *pit, struct channel *c, uint32_t value)
{
	if (c->bcd)
		value = (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 +
			(value >> 12) * 1000;
	value = value ? value : c->bcd ? 10000 : 0x10000;
	if (is_periodic(c) && c->loaded && is_counting(c)) {
		settle(pit, c);
		c->next_count = value;
		return;
	}
	c->count = value;
	if (!is_triggered_mode(c) || !c->triggered)
		restart(pit, c);
	c->loaded = true;
	if (c == &pit->channels[0]) {
		if (c->mode == 0)
			irq_set(pit->irq0, false);
		schedule(pit);
	}
}

static void latch_count(struct i8254 *pit, struct channel *c)
{
	if (c->latched)
		return;
	c->latch = current_count(pit, c);
	c->latched = true;
	c->latch_high_next = c->access == ACCESS_HIGH;
}

static uint8_t status_of(const struct i8254 *pit, const struct channel *c)
{
	return (uint8_t)((output(pit, c) ? 0x80 : 0) | (c->loaded ? 0 : 0x40) | c->access << 4 |
			 c->mode << 1 | c->bcd);
}

static void write_control(struct i8254 *pit, uint8_t value)
{
	if (value >> 6 == 3) { /* read-back */
		for (unsigned i = 0; i < 3; i++) {
			struct channel *c = &pit->channels[i];
			if (!(value & 2u << i))
				continue;
			if (!(value & 0x20))
				latch_count(pit, c);
			if (!(value & 0x10) && !c->status_latched) {
				c->status = status_of(pit, c);
				c->status_latched = true;
			}
		}
		return;
	}
	struct channel *c = &pit->channels[value >> 6];
	if ((value >> 4 & 3) == ACCESS_LATCH) {
		latch_count(pit, c);
		return;
	}
	c->access = value >> 4 & 3;
	c->mode = value >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3;
	c->bcd = value & 1;
	c->loaded = c->latched = c->status_latched = c->triggered = false;
	c->elapsed = 0;
	c->next_count = 0;
	c->write_high_next = c->read_high_next = false;
	if (c == &pit->channels[0]) {
		vm_timer_cancel(&pit->timer);
		irq_set(pit->irq0, c->mode != 0);
	}
}

static void ports_write(void *device, uint64_t offset, uint64_t value64, unsigned size)
{
	struct i8254 *pit = device;
	uint8_t value = (uint8_t)value64;
	if (offset == 3) {
		write_control(pit, value);
		return;
	}
	struct channel *c = &pit->channels[offset];
	if (c->access == ACCESS_LOW) {
		load_count(pit, c, value);
	} else if (c->access == ACCESS_HIGH) {
		load_count(pit, c, (uint32_t)value << 8);
	} else if (!c->write_high_next) {
		c->write_low = value;
		c->write_high_next = true;
		if (c->mode == 0) { /* half a count stops the old one */
			c->loaded = false;
			if (offset == 0)
				irq_set(pit->irq0, false);
		}
	} else {
		c->write_high_next = false;
		load_count(pit, c, c->write_low | (uint32_t)value << 8);
	}
}

static uint64_t ports_read(void *device, uint64_t offset, unsigned size)
{
	struct i8254 *pit = device;
	if (offset == 3)
		return 0xff;
	struct channel *c = &pit->channels[offset];
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	if (c->latched) {
		bool high = c->latch_high_next;
		c->latched = c->access == ACCESS_BOTH && !high;
		c->latch_high_next = true;
		return high ? c->latch >> 8 : c->latch & 0xff;
	}
	uint16_t count = current_count(pit, c);
	bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high_next);
	c->read_high_next = c->access == ACCESS_BOTH && !high;
	return high ? count >> 8 : count & 0xff;
}

/* Port 0x61: speaker and channel 2's gate; bit 4 toggles with the memory refresh of a PC/AT. */
static uint64_t gate_read(void *device, uint64_t offset, unsigned size)
{
	const struct i8254 *pit = device;
	const struct channel *c = &pit->channels[2];
	unsigned refresh = (unsigned)(vm_clock_ns(pit->device.vm) / 15085) & 1;
	return (unsigned)(c->gate | pit->speaker << 1) | refresh << 4 |
	       (unsigned)output(pit, c) << 5;
}

static void gate_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8254 *pit = device;
	struct channel *c = &pit->channels[2];
	bool gate = value & 1;
	settle(pit, c);
	if (gate && !c->gate) {
		if (c->mode == 0 || c->mode == 4)
			c->load_ns = vm_clock_ns(pit->device.vm); /* goes on */
		else
			restart(pit, c);
		c->triggered = true;
	} else if (!gate && c->gate && !is_triggered_mode(c)) {
		c->elapsed = clocks(pit, c) & INT32_MAX;
	}
	c->gate = gate;
	pit->speaker = value & 2;
}

static const struct window_ops ports_ops = {
	.read = ports_read, .write = ports_write, .max_size = 1};
static const struct window_ops gate_ops = {.read = gate_read, .write = gate_write, .max_size = 1};

/* The kernel's names for where a two-byte read or write stands. */
enum { KERNEL_LOW = 1, KERNEL_HIGH, KERNEL_WORD_LOW, KERNEL_WORD_HIGH, KERNEL_UNSET_MODE = 0xff };

static uint8_t kernel_byte(const struct channel *c, bool high_next)
{
	if (c->access != ACCESS_BOTH)
		return c->access == ACCESS_HIGH ? KERNEL_HIGH : KERNEL_LOW;
	return high_next ? KERNEL_WORD_HIGH : KERNEL_WORD_LOW;
}

static void channel_to_kernel(const struct channel *c, struct pit_channel_regs *r)
{
	/* A channel that nobody has programmed must not start to tick there. */
	bool untouched = !c->loaded && c->mode == 3 && !c->write_high_next;
	*r = (struct pit_channel_regs){
		.count = c->loaded ? c->count : 0,
		.mode = untouched ? KERNEL_UNSET_MODE : c->mode,
		.rw_mode = c->access,
		.bcd = c->bcd,
		.gate = c->gate,
		.status_latched = c->status_latched,
		.status = c->status,
		.latched_count = c->latch,
		.write_latch = c->write_low,
		.write_state = kernel_byte(c, c->write_high_next),
		.read_state = kernel_byte(c, c->read_high_next),
		.load_ns = c->load_ns - clocks_to_ns(c->elapsed),
	};
	if (c->latched)
		r->count_latched = c->latch_high_next         ? KERNEL_HIGH
				   : c->access == ACCESS_BOTH ? KERNEL_WORD_LOW
							      : KERNEL_LOW;
}

static void channel_from_kernel(const struct pit_channel_regs *r, struct channel *c)
{
	*c = (struct channel){
		.count = r->count ? r->count : 0x10000,
		.mode = r->mode <= 5 ? r->mode : 3, /* unset: 0xff */
		.access = r->rw_mode ? r->rw_mode : ACCESS_BOTH,
		.bcd = r->bcd,
		.gate = r->gate,
		.loaded = r->count != 0 && r->mode <= 5,
		.latched = r->count_latched != 0,
		.latch = r->latched_count,
		.latch_high_next = r->count_latched == KERNEL_HIGH,
		.status_latched = r->status_latched,
		.status = r->status,
		.write_low = r->write_latch,
		.triggered = true,
		.write_high_next = r->write_state == KERNEL_WORD_HIGH,
		.read_high_next = r->read_state == KERNEL_WORD_HIGH,
		.load_ns = r->load_ns,
	};
}

static bool push_to_kernel(struct i8254 *pit, GError **error)
{
	struct pit_regs regs = {.speaker_data = pit->speaker};
	for (unsigned i = 0; i < 3; i++)
		channel_to_kernel(&pit->channels[i], &regs.channel[i]);
	return pit->device.vm->accel->irq->set_chip(pit->device.vm, CHIP_PIT, 0, &regs, error);
}

static void reset(struct device *device)
{
	struct i8254 *pit = (struct i8254 *)device;
	for (unsigned i = 0; i < 3; i++)
		pit->channels[i] = (struct channel){
			.count = 0x10000, .mode = 3, .access = ACCESS_BOTH, .gate = i != 2};
	pit->speaker = false;
	vm_timer_cancel(&pit->timer);
	if (pit->in_kernel)
		push_to_kernel(pit, NULL);
	else
		irq_set(pit->irq0, false);
}

static void map_windows(struct i8254 *pit)
{
	struct vm *vm = pit->device.vm;
	pit->in_kernel = vm->accel_caps & ACCEL_IRQCHIP;
	if (pit->in_kernel) {
		window_unmap(vm, &pit->ports);
		window_unmap(vm, &pit->gate);
	} else {
		window_map(vm, &pit->ports, 0x40);
		window_map(vm, &pit->gate, 0x61);
	}
}

static void pre_save(void *object)
{
	struct i8254 *pit = object;
	struct vm *vm = pit->device.vm;
	struct pit_regs regs;
	pit->irq_level = pit->irq0->level;
	if (!pit->in_kernel || !vm->accel->irq->get_chip(vm, CHIP_PIT, 0, &regs, NULL))
		return;
	pit->speaker = regs.speaker_data;
	for (unsigned i = 0; i < 3; i++)
		channel_from_kernel(&regs.channel[i], &pit->channels[i]);
}

static bool post_load(void *object, GError **error)
{
	struct i8254 *pit = object;
	for (unsigned i = 0; i < 3; i++) {
		struct channel *c = &pit->channels[i];
		if (c->count == 0 || c->count > 0x10000 || c->mode > 5 || c->access > ACCESS_BOTH ||
		    c->next_count > 0x10000 || c->elapsed > INT32_MAX)
			return error_set(error, LODGE_ERROR_CORRUPT, "impossible 8254 channel");
		c->load_ns = CLAMP(c->load_ns, 0, vm_clock_ns(pit->device.vm));
	}
	map_windows(pit);
	if (pit->in_kernel) {
		vm_timer_cancel(&pit->timer);
		pit->irq0->level = false;
		return push_to_kernel(pit, error);
	}
	pit->irq0->level = pit->irq_level;
	schedule(pit);
	return true;
}

static const struct state_field channel_fields[] = {
	STATE_SCALAR(struct channel, count),
	STATE_SCALAR(struct channel, latch),
	STATE_SCALAR(struct channel, mode),
	STATE_SCALAR(struct channel, access),
	STATE_SCALAR(struct channel, status),
	STATE_SCALAR(struct channel, write_low),
	STATE_SCALAR(struct channel, bcd),
	STATE_SCALAR(struct channel, gate),
	STATE_SCALAR(struct channel, loaded),
	STATE_SCALAR(struct channel, latched),
	STATE_SCALAR(struct channel, latch_high_next),
	STATE_SCALAR(struct channel, status_latched),
	STATE_SCALAR(struct channel, write_high_next),
	STATE_SCALAR(struct channel, read_high_next),
	STATE_SCALAR(struct channel, load_ns),
	STATE_SCALAR(struct channel, elapsed),
	STATE_SCALAR(struct channel, next_count),
	STATE_SCALAR(struct channel, triggered),
};
static const struct state_table channel_state = {.version = 1,
						 .min_version = 1,
						 .fields = channel_fields,
						 .field_count = G_N_ELEMENTS(channel_fields)};
static const struct state_field fields[] = {
	STATE_SUBS(struct i8254, channels, &channel_state),
	STATE_SCALAR(struct i8254, speaker),
	STATE_SCALAR(struct i8254, irq_level),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .pre_save = pre_save,
					 .post_load = post_load};

static void pit_free(struct device *device)
{
	struct i8254 *pit = (struct i8254 *)device;
	vm_timer_cancel(&pit->timer);
	g_free(pit);
}

static const struct device_class class = {
	.name = "i8254", .reset = reset, .free = pit_free, .state = &state};

struct i8254 *i8254_new(struct vm *vm, struct irq_line *irq0)
{
	struct i8254 *pit = g_new0(struct i8254, 1);
	device_add(vm, &pit->device, &class, NULL);
	pit->irq0 = irq0;
	vm_timer_init(&pit->timer, vm, channel0_due, pit);
	window_init(&pit->ports, WINDOW_PORT, &ports_ops, pit, 4);
	window_init(&pit->gate, WINDOW_PORT, &gate_ops, pit, 1);
	map_windows(pit);
	reset(&pit->device);
	return pit;
}
