// SPDX-License-Identifier: GPL-2.0-or-later
/* High precision event timer (IA-PC HPET specification 1.0a). The counter is the machine's clock in
 * units of 10 ns plus an offset; comparators are timers on that clock. */
#include "dev/hpet.h"

#include "base/error.h"

enum { TICK_NS = 10, TIMERS = 3, WINDOW_BYTES = 0x400 };
enum {
	REG_CAPABILITY = 0x00,
	REG_CONFIG = 0x10,
	REG_STATUS = 0x20,
	REG_COUNTER = 0xf0,
	REG_TIMERS = 0x100,
	TIMER_BYTES = 0x20,
	TIMER_CONFIG = 0x00,
	TIMER_COMPARATOR = 0x08,
	TIMER_MESSAGE = 0x10,
};
enum { CONFIG_ENABLE = 1, CONFIG_LEGACY = 2 };
enum {
	T_LEVEL = 1 << 1,
	T_ENABLE = 1 << 2,
	T_PERIODIC = 1 << 3,
	T_CAN_PERIODIC = 1 << 4,
	T_64BIT = 1 << 5,
	T_SET_VALUE = 1 << 6,
	T_32MODE = 1 << 8,
	T_ROUTE_SHIFT = 9,
	T_ROUTE = 0x1f << T_ROUTE_SHIFT,
	T_MESSAGES = 1 << 14,
	T_CAN_MESSAGES = 1 << 15,
	T_WRITABLE =
		T_LEVEL | T_ENABLE | T_PERIODIC | T_SET_VALUE | T_32MODE | T_ROUTE | T_MESSAGES,
};
/* GSIs that neither PCI nor another chip uses: 5, 10 and 11. */
#define ROUTES UINT64_C(0x00000c20)
/* Period of 10^7 fs, vendor, legacy replacement, 64-bit counter, three timers, revision 1. */
#define CAPABILITY (UINT64_C(10000000) << 32 | 0x8086a201)
/* Guests ask for shorter periods than anybody can serve; the rest is merged. */
#define MIN_PERIOD_NS INT64_C(20000)

struct comparator {
	uint64_t config, comparator, period, message;
	struct vm_timer timer;
	struct hpet *hpet;
	bool armed; /* saved: the timer waits */
};

struct hpet {
	struct device device;
	uint64_t config, status;
	uint64_t counter; /* while stopped: the value; while counting: to add to the clock */
	struct comparator timers[TIMERS];
	bool pit_level, rtc_level; /* what the two chips drive */
	struct irq_line pit, rtc;
	struct irq_line *irq0, *irq8;
	bool irq0_level, irq8_level; /* saved: what the wires stand at */
	struct irq_line *routed[24];
	struct window window;
};

static bool is_legacy(const struct hpet *hpet)
{
	return hpet->config & CONFIG_LEGACY;
}

static uint64_t counter(const struct hpet *hpet)
{
	uint64_t now = (uint64_t)vm_clock_ns(hpet->device.vm) / TICK_NS;
	return hpet->config & CONFIG_ENABLE ? hpet->counter + now : hpet->counter;
}

static uint64_t mask_of(const struct comparator *t)
{
	return t->config & T_32MODE ? UINT32_MAX : UINT64_MAX;
}

/* --- Interrupts --- */

static struct irq_line *line_of(const struct hpet *hpet, unsigned index)
{
	if (is_legacy(hpet) && index < 2)
		return index == 0 ? hpet->irq0 : hpet->irq8;
	return hpet->routed[(hpet->timers[index].config & T_ROUTE) >> T_ROUTE_SHIFT & 15];
}

static void raise_interrupt(struct hpet *hpet, unsigned index)
{
	struct comparator *t = &hpet->timers[index];
	if (t->config & T_LEVEL)
		hpet->status |= UINT64_C(1) << index;
	if (!(t->config & T_ENABLE))
		return;
	if (t->config & T_MESSAGES)
		vm_send_msi(hpet->device.vm, t->message >> 32, (uint32_t)t->message);
	else if (t->config & T_LEVEL)
		irq_set(line_of(hpet, index), true);
	else
		irq_pulse(line_of(hpet, index));
}

/* The levels that the wires should have now: level-triggered comparators and, without legacy
 * replacement, the two chips. */
static void update_lines(struct hpet *hpet)
{
	static const uint8_t routes[] = {5, 10, 11};
	bool levels[16] = {0}, legacy[2] = {0};
	for (unsigned i = 0; i < TIMERS; i++) {
		const struct comparator *t = &hpet->timers[i];
		if (!(hpet->status >> i & 1) || !(t->config & T_ENABLE) || !(t->config & T_LEVEL) ||
		    (t->config & T_MESSAGES))
			continue;
		if (is_legacy(hpet) && i < 2)
			legacy[i] = true;
		else
			levels[(t->config & T_ROUTE) >> T_ROUTE_SHIFT & 15] = true;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(routes); i++)
		irq_set(hpet->routed[routes[i]], levels[routes[i]]);
	irq_set(hpet->irq0, is_legacy(hpet) ? legacy[0] : hpet->pit_level);
	irq_set(hpet->irq8, is_legacy(hpet) ? legacy[1] : hpet->rtc_level);
}

static void pit_set(void *opaque, unsigned number, bool level)
{
	struct hpet *hpet = opaque;
	hpet->pit_level = level;
	if (!is_legacy(hpet))
		irq_set(hpet->irq0, level);
}

static void rtc_set(void *opaque, unsigned number, bool level)
{
	struct hpet *hpet = opaque;
	hpet->rtc_level = level;
	if (!is_legacy(hpet))
		irq_set(hpet->irq8, level);
}

/* --- Comparators --- */

static void arm_in(struct comparator *t, uint64_t ticks)
{
	int64_t now = vm_clock_ns(t->hpet->device.vm);
	ticks = MIN(ticks, (uint64_t)(INT64_MAX / 4) / TICK_NS);
	vm_timer_arm(&t->timer, now - now % TICK_NS + (int64_t)ticks * TICK_NS);
}

/* Arms for the next match: one-shot comparators match again when the counter comes round. */
static void schedule(struct hpet *hpet, unsigned index)
{
	struct comparator *t = &hpet->timers[index];
	uint64_t ahead = (t->comparator - counter(hpet)) & mask_of(t);
	vm_timer_cancel(&t->timer);
	if (hpet->config & CONFIG_ENABLE)
		arm_in(t, ahead ? ahead : mask_of(t));
}

static void schedule_all(struct hpet *hpet)
{
	for (unsigned i = 0; i < TIMERS; i++)
		schedule(hpet, i);
}

static void timer_due(void *opaque)
{
	struct comparator *t = opaque;
	struct hpet *hpet = t->hpet;
	uint64_t mask = mask_of(t), period = t->period & mask;
	if ((t->config & T_PERIODIC) && period) {
		/* Past matches that a busy host made us miss are merged into this one. */
		uint64_t late = (counter(hpet) - t->comparator) & mask;
		t->comparator = (t->comparator + (late / period + 1) * period) & mask;
		uint64_t ahead = (t->comparator - counter(hpet)) & mask;
		arm_in(t, MAX(ahead, MIN(period, (uint64_t)(MIN_PERIOD_NS / TICK_NS))));
	} else {
		arm_in(t, mask);
	}
	raise_interrupt(hpet, (unsigned)(t - hpet->timers));
}

static void write_comparator(struct hpet *hpet, unsigned index, uint64_t value, uint64_t keep)
{
	struct comparator *t = &hpet->timers[index];
	bool periodic = t->config & T_PERIODIC;
	if (t->config & T_32MODE)
		value &= UINT32_MAX;
	/* Periodic: the accumulator only after T_SET_VALUE, the period always. */
	if (!periodic || (t->config & T_SET_VALUE))
		t->comparator = (t->comparator & keep) | (value & ~keep);
	if (periodic)
		t->period = (t->period & keep) | (value & ~keep);
	t->config &= ~(uint64_t)T_SET_VALUE;
	schedule(hpet, index);
}

static void write_timer(struct hpet *hpet, unsigned index, unsigned reg, uint64_t value,
			uint64_t keep)
{
	struct comparator *t = &hpet->timers[index];
	if (reg == TIMER_CONFIG) {
		t->config =
			(t->config & (keep | ~(uint64_t)T_WRITABLE)) | (value & ~keep & T_WRITABLE);
		if (t->config & T_32MODE) {
			t->comparator &= UINT32_MAX;
			t->period &= UINT32_MAX;
		}
		if (!(t->config & T_LEVEL))
			hpet->status &= ~(UINT64_C(1) << index);
		schedule(hpet, index);
		update_lines(hpet);
	} else if (reg == TIMER_COMPARATOR) {
		write_comparator(hpet, index, value, keep);
	} else if (reg == TIMER_MESSAGE) {
		t->message = (t->message & keep) | (value & ~keep);
	}
}

/* --- Registers --- */

static uint64_t read_timer(const struct hpet *hpet, unsigned index, unsigned reg)
{
	const struct comparator *t = &hpet->timers[index];
	switch (reg) {
	case TIMER_CONFIG:
		return t->config | ROUTES << 32 | T_CAN_PERIODIC | T_64BIT | T_CAN_MESSAGES;
	case TIMER_COMPARATOR:
		return t->comparator;
	case TIMER_MESSAGE:
		return t->message;
	default:
		return 0;
	}
}

static uint64_t read_register(const struct hpet *hpet, unsigned reg)
{
	if (reg >= REG_TIMERS) {
		unsigned index = (reg - REG_TIMERS) / TIMER_BYTES;
		return index < TIMERS ? read_timer(hpet, index, reg % TIMER_BYTES) : 0;
	}
	switch (reg) {
	case REG_CAPABILITY:
		return CAPABILITY;
	case REG_CONFIG:
		return hpet->config;
	case REG_STATUS:
		return hpet->status;
	case REG_COUNTER:
		return counter(hpet);
	default:
		return 0;
	}
}

static void write_config(struct hpet *hpet, uint64_t value)
{
	uint64_t now = counter(hpet);
	hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
	hpet->counter = now;
	if (hpet->config & CONFIG_ENABLE)
		hpet->counter = now - (uint64_t)vm_clock_ns(hpet->device.vm) / TICK_NS;
	schedule_all(hpet);
	update_lines(hpet);
}

static void write_counter(struct hpet *hpet, uint64_t value)
{
	if (hpet->config & CONFIG_ENABLE)
		value -= (uint64_t)vm_clock_ns(hpet->device.vm) / TICK_NS;
	hpet->counter = value;
	schedule_all(hpet);
}

static uint64_t window_read(void *device, uint64_t offset, unsigned size)
{
	const struct hpet *hpet = device;
	return read_register(hpet, (unsigned)offset & ~7u) >> (8 * (offset & 7));
}

static void window_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct hpet *hpet = device;
	unsigned shift = 8 * (offset & 7), reg = (unsigned)offset & ~7u;
	uint64_t bits = (size == 8 ? UINT64_MAX : UINT32_MAX) << shift;
	value = value << shift & bits;
	if (reg >= REG_TIMERS) {
		unsigned index = (reg - REG_TIMERS) / TIMER_BYTES;
		if (index < TIMERS)
			write_timer(hpet, index, reg % TIMER_BYTES, value, ~bits);
	} else if (reg == REG_CONFIG) {
		write_config(hpet, (hpet->config & ~bits) | value);
	} else if (reg == REG_STATUS) {
		hpet->status &= ~value;
		update_lines(hpet);
	} else if (reg == REG_COUNTER) {
		write_counter(hpet, (counter(hpet) & ~bits) | value);
	}
}

static const struct window_ops window_ops = {
	.read = window_read, .write = window_write, .min_size = 4, .max_size = 8};

/* --- The device --- */

static void reset(struct device *device)
{
	struct hpet *hpet = (struct hpet *)device;
	hpet->config = hpet->status = hpet->counter = 0;
	for (unsigned i = 0; i < TIMERS; i++) {
		struct comparator *t = &hpet->timers[i];
		vm_timer_cancel(&t->timer);
		t->config = t->period = t->message = 0;
		t->comparator = UINT64_MAX;
	}
	update_lines(hpet);
}

static void pre_save(void *object)
{
	struct hpet *hpet = object;
	hpet->irq0_level = hpet->irq0->level;
	hpet->irq8_level = hpet->irq8->level;
}

static void comparator_pre_save(void *object)
{
	struct comparator *t = object;
	t->armed = t->timer.armed;
}

static bool post_load(void *object, GError **error)
{
	struct hpet *hpet = object;
	static const uint64_t config_bits = CONFIG_ENABLE | CONFIG_LEGACY;
	if ((hpet->config & ~config_bits) || hpet->status >> TIMERS)
		return error_set(error, LODGE_ERROR_CORRUPT, "impossible HPET state");
	for (unsigned i = 0; i < TIMERS; i++) {
		struct comparator *t = &hpet->timers[i];
		if (t->config & ~(uint64_t)T_WRITABLE)
			return error_set(error, LODGE_ERROR_CORRUPT, "impossible HPET timer");
		vm_timer_cancel(&t->timer);
		uint64_t late = (counter(hpet) - t->comparator) & mask_of(t);
		/* One that was due but had not been served yet is served now. */
		if (t->armed && (hpet->config & CONFIG_ENABLE))
			arm_in(t, late < mask_of(t) / 2 && (t->config & T_PERIODIC)
					  ? 0
					  : (t->comparator - counter(hpet)) & mask_of(t));
	}
	hpet->irq0->level = hpet->irq0_level;
	hpet->irq8->level = hpet->irq8_level;
	hpet->pit.level = hpet->pit_level;
	hpet->rtc.level = hpet->rtc_level;
	update_lines(hpet);
	return true;
}

static const struct state_field timer_fields[] = {
	STATE_SCALAR(struct comparator, config), STATE_SCALAR(struct comparator, comparator),
	STATE_SCALAR(struct comparator, period), STATE_SCALAR(struct comparator, message),
	STATE_SCALAR(struct comparator, armed),
};
static const struct state_table timer_state = {.version = 1,
					       .min_version = 1,
					       .fields = timer_fields,
					       .field_count = G_N_ELEMENTS(timer_fields),
					       .pre_save = comparator_pre_save};
static const struct state_field fields[] = {
	STATE_SCALAR(struct hpet, config),     STATE_SCALAR(struct hpet, status),
	STATE_SCALAR(struct hpet, counter),    STATE_SUBS(struct hpet, timers, &timer_state),
	STATE_SCALAR(struct hpet, pit_level),  STATE_SCALAR(struct hpet, rtc_level),
	STATE_SCALAR(struct hpet, irq0_level), STATE_SCALAR(struct hpet, irq8_level),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .pre_save = pre_save,
					 .post_load = post_load};

static void hpet_free(struct device *device)
{
	struct hpet *hpet = (struct hpet *)device;
	for (unsigned i = 0; i < TIMERS; i++)
		vm_timer_cancel(&hpet->timers[i].timer);
	window_unmap(device->vm, &hpet->window);
	g_free(hpet);
}

static const struct device_class class = {
	.name = "hpet", .reset = reset, .free = hpet_free, .state = &state};

struct irq_line *hpet_pit_input(struct hpet *hpet)
{
	return &hpet->pit;
}

struct irq_line *hpet_rtc_input(struct hpet *hpet)
{
	return &hpet->rtc;
}

struct hpet *hpet_new(struct vm *vm, struct gsi *gsi)
{
	struct hpet *hpet = g_new0(struct hpet, 1);
	device_add(vm, &hpet->device, &class, NULL);
	hpet->irq0 = gsi_line(gsi, 0);
	hpet->irq8 = gsi_line(gsi, 8);
	hpet->pit = (struct irq_line){.set = pit_set, .opaque = hpet};
	hpet->rtc = (struct irq_line){.set = rtc_set, .opaque = hpet};
	for (unsigned i = 0; i < G_N_ELEMENTS(hpet->routed); i++) {
		if (ROUTES >> i & 1)
			hpet->routed[i] = gsi_line(gsi, i);
	}
	for (unsigned i = 0; i < TIMERS; i++) {
		hpet->timers[i].hpet = hpet;
		vm_timer_init(&hpet->timers[i].timer, vm, timer_due, &hpet->timers[i]);
	}
	window_init(&hpet->window, WINDOW_MMIO, &window_ops, hpet, WINDOW_BYTES);
	window_map(vm, &hpet->window, HPET_BASE);
	reset(&hpet->device);
	return hpet;
}
