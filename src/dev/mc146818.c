// SPDX-License-Identifier: GPL-2.0-or-later
/* MC146818A real-time clock. Time is the host's plus an offset that the guest's writes change; the
 * registers are computed when read. */
#include "dev/mc146818.h"

#include <time.h>

#include "base/error.h"

enum {
	RTC_SECOND = 0,
	RTC_MINUTE = 2,
	RTC_HOUR = 4,
	RTC_WEEKDAY = 6,
	RTC_DAY,
	RTC_MONTH,
	RTC_YEAR
};
enum { RTC_A = 10, RTC_B, RTC_C, RTC_D, CMOS_SHUTDOWN = 0x0f, CMOS_CENTURY = 0x32 };
enum {
	B_24H = 2,
	B_BINARY = 4,
	B_UPDATE_IRQ = 0x10,
	B_ALARM_IRQ = 0x20,
	B_PERIODIC_IRQ = 0x40,
	B_SET = 0x80
};
enum { C_UPDATE = 0x10, C_ALARM = 0x20, C_PERIODIC = 0x40, C_IRQ = 0x80 };
#define SECOND_NS INT64_C(1000000000)

struct mc146818 {
	struct device device;
	uint8_t index;
	uint8_t cmos[128]; /* registers of the clock only where they are not computed */
	int64_t offset_ns; /* guest's clock = host's + this */
	int64_t frozen_s;  /* while SET stops the clock: what it stands at */
	struct vm_timer second, periodic;
	struct irq_line *irq8;
	struct window window;
};

static int64_t now_ns(const struct mc146818 *rtc)
{
	return vm_rtc_ns(rtc->device.vm) + rtc->offset_ns;
}

static int64_t now_s(const struct mc146818 *rtc)
{
	if (rtc->cmos[RTC_B] & B_SET)
		return rtc->frozen_s;
	int64_t ns = now_ns(rtc);
	return ns / SECOND_NS - (ns % SECOND_NS < 0);
}

static uint8_t encode(const struct mc146818 *rtc, int value)
{
	return (uint8_t)(rtc->cmos[RTC_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int decode(const struct mc146818 *rtc, uint8_t value)
{
	return rtc->cmos[RTC_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct mc146818 *rtc, int hour)
{
	if (rtc->cmos[RTC_B] & B_24H)
		return encode(rtc, hour);
	return (uint8_t)(encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0));
}

static int decode_hour(const struct mc146818 *rtc, uint8_t value)
{
	if (rtc->cmos[RTC_B] & B_24H)
		return decode(rtc, value);
	return decode(rtc, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

static bool is_time_register(uint8_t index)
{
	return index <= RTC_YEAR && index != 1 && index != 3 && index != 5;
}

static void read_time(const struct mc146818 *rtc, struct tm *tm)
{
	time_t t = (time_t)now_s(rtc);
	gmtime_r(&t, tm);
}

static uint8_t time_register(const struct mc146818 *rtc, uint8_t index)
{
	struct tm tm;
	read_time(rtc, &tm);
	switch (index) {
	case RTC_SECOND:
		return encode(rtc, tm.tm_sec);
	case RTC_MINUTE:
		return encode(rtc, tm.tm_min);
	case RTC_HOUR:
		return encode_hour(rtc, tm.tm_hour);
	case RTC_WEEKDAY:
		return encode(rtc, tm.tm_wday + 1);
	case RTC_DAY:
		return encode(rtc, tm.tm_mday);
	case RTC_MONTH:
		return encode(rtc, tm.tm_mon + 1);
	case RTC_YEAR:
		return encode(rtc, tm.tm_year % 100);
	default:
		return encode(rtc, (tm.tm_year + 1900) / 100);
	}
}

static void set_time(struct mc146818 *rtc, uint8_t index, uint8_t value)
{
	struct tm tm;
	read_time(rtc, &tm);
	int n = decode(rtc, value);
	switch (index) {
	case RTC_SECOND:
		tm.tm_sec = n;
		break;
	case RTC_MINUTE:
		tm.tm_min = n;
		break;
	case RTC_HOUR:
		tm.tm_hour = decode_hour(rtc, value);
		break;
	case RTC_DAY:
		tm.tm_mday = n;
		break;
	case RTC_MONTH:
		tm.tm_mon = n - 1;
		break;
	case RTC_YEAR:
		tm.tm_year = tm.tm_year / 100 * 100 + n;
		break;
	case CMOS_CENTURY:
		tm.tm_year = n * 100 - 1900 + tm.tm_year % 100;
		break;
	default: /* the weekday follows from the date */
		break;
	}
	int64_t wanted = (int64_t)timegm(&tm);
	if (rtc->cmos[RTC_B] & B_SET)
		rtc->frozen_s = wanted;
	else
		rtc->offset_ns += (wanted - now_s(rtc)) * SECOND_NS;
}

/* --- Interrupts --- */

static void raise_flag(struct mc146818 *rtc, uint8_t flag)
{
	rtc->cmos[RTC_C] |= flag;
	if (rtc->cmos[RTC_B] & flag) {
		rtc->cmos[RTC_C] |= C_IRQ;
		irq_set(rtc->irq8, true);
	}
}

/* The rate selected in register A, in ns; 0 for none. */
static int64_t periodic_ns(const struct mc146818 *rtc)
{
	unsigned rate = rtc->cmos[RTC_A] & 15;
	if (!rate)
		return 0;
	if (rate <= 2)
		rate += 7;
	return (SECOND_NS << (rate - 1)) / 32768;
}

static void schedule_periodic(struct mc146818 *rtc)
{
	int64_t period = periodic_ns(rtc);
	vm_timer_cancel(&rtc->periodic);
	if (period && (rtc->cmos[RTC_B] & B_PERIODIC_IRQ)) {
		int64_t now = vm_clock_ns(rtc->device.vm);
		vm_timer_arm(&rtc->periodic, now - now % period + period);
	}
}

/* Once a second, at its turn, while somebody waits for it. */
static void schedule_second(struct mc146818 *rtc)
{
	vm_timer_cancel(&rtc->second);
	if (!(rtc->cmos[RTC_B] & (B_UPDATE_IRQ | B_ALARM_IRQ)) || (rtc->cmos[RTC_B] & B_SET))
		return;
	int64_t into = now_ns(rtc) % SECOND_NS;
	vm_timer_arm(&rtc->second, vm_clock_ns(rtc->device.vm) + SECOND_NS - into);
}

static void periodic_due(void *opaque)
{
	struct mc146818 *rtc = opaque;
	raise_flag(rtc, C_PERIODIC);
	schedule_periodic(rtc);
}

static bool alarm_matches(const struct mc146818 *rtc)
{
	static const uint8_t pairs[3][2] = {{1, RTC_SECOND}, {3, RTC_MINUTE}, {5, RTC_HOUR}};
	for (unsigned i = 0; i < 3; i++) {
		uint8_t alarm = rtc->cmos[pairs[i][0]];
		if (alarm < 0xc0 && alarm != time_register(rtc, pairs[i][1]))
			return false;
	}
	return true;
}

static void second_due(void *opaque)
{
	struct mc146818 *rtc = opaque;
	raise_flag(rtc, C_UPDATE);
	if (alarm_matches(rtc))
		raise_flag(rtc, C_ALARM);
	schedule_second(rtc);
}

/* --- Ports --- */

static uint8_t register_a(const struct mc146818 *rtc)
{
	/* Update in progress: the last 244 us before a second turns. */
	bool updating =
		!(rtc->cmos[RTC_B] & B_SET) && now_ns(rtc) % SECOND_NS >= SECOND_NS - 244000;
	return (uint8_t)((rtc->cmos[RTC_A] & 0x7f) | (updating ? 0x80 : 0));
}

static uint64_t rtc_read(void *device, uint64_t offset, unsigned size)
{
	struct mc146818 *rtc = device;
	uint8_t index = rtc->index;
	if (offset == 0)
		return 0xff;
	if (is_time_register(index) || index == CMOS_CENTURY)
		return time_register(rtc, index);
	if (index == RTC_A)
		return register_a(rtc);
	uint8_t value = rtc->cmos[index];
	if (index == RTC_C) {
		rtc->cmos[RTC_C] = 0;
		irq_set(rtc->irq8, false);
	}
	return value;
}

static void write_b(struct mc146818 *rtc, uint8_t value)
{
	uint8_t old = rtc->cmos[RTC_B];
	if ((value & B_SET) && !(old & B_SET))
		rtc->frozen_s = now_s(rtc);
	rtc->cmos[RTC_B] = value;
	if (!(value & B_SET) && (old & B_SET))
		rtc->offset_ns = rtc->frozen_s * SECOND_NS - vm_rtc_ns(rtc->device.vm);
	schedule_second(rtc);
	schedule_periodic(rtc);
}

static void rtc_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct mc146818 *rtc = device;
	uint8_t index = rtc->index;
	if (offset == 0) {
		rtc->index = value & 0x7f; /* bit 7 masks NMI, of which there is no source */
	} else if (is_time_register(index) || index == CMOS_CENTURY) {
		set_time(rtc, index, (uint8_t)value);
	} else if (index == RTC_B) {
		write_b(rtc, (uint8_t)value);
	} else if (index != RTC_C && index != RTC_D) {
		rtc->cmos[index] = (uint8_t)value;
		if (index == RTC_A)
			schedule_periodic(rtc);
	}
}

static const struct window_ops window_ops = {.read = rtc_read, .write = rtc_write, .max_size = 1};

void mc146818_set_cmos(struct mc146818 *rtc, uint8_t index, uint8_t value)
{
	g_assert(index > RTC_D && index < sizeof(rtc->cmos));
	rtc->cmos[index] = value;
}

/* The clock runs on a battery: time and memory outlive a reset. */
static void reset(struct device *device)
{
	struct mc146818 *rtc = (struct mc146818 *)device;
	rtc->index = 0;
	rtc->cmos[RTC_A] = 0x26;
	rtc->cmos[RTC_B] = B_24H;
	rtc->cmos[RTC_C] = 0;
	rtc->cmos[RTC_D] = 0x80;
	rtc->cmos[CMOS_SHUTDOWN] = 0;
	vm_timer_cancel(&rtc->second);
	vm_timer_cancel(&rtc->periodic);
	irq_set(rtc->irq8, false);
}

static bool post_load(void *object, GError **error)
{
	struct mc146818 *rtc = object;
	/* The clock can stand at any second of the years that it can show. */
	static const int64_t last_s = INT64_C(253402300799);
	if (rtc->index > 0x7f || ABS(rtc->offset_ns / SECOND_NS) > last_s / 1000 * 36 ||
	    rtc->frozen_s < -last_s || rtc->frozen_s > last_s)
		return error_set(error, LODGE_ERROR_CORRUPT, "impossible clock state");
	rtc->irq8->level = false;
	irq_set(rtc->irq8, rtc->cmos[RTC_C] & C_IRQ);
	schedule_second(rtc);
	schedule_periodic(rtc);
	return true;
}

static const struct state_field fields[] = {
	STATE_SCALAR(struct mc146818, index),
	STATE_BLOB(struct mc146818, cmos),
	STATE_SCALAR(struct mc146818, offset_ns),
	STATE_SCALAR(struct mc146818, frozen_s),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .post_load = post_load};

static void rtc_free(struct device *device)
{
	struct mc146818 *rtc = (struct mc146818 *)device;
	vm_timer_cancel(&rtc->second);
	vm_timer_cancel(&rtc->periodic);
	window_unmap(device->vm, &rtc->window);
	g_free(rtc);
}

static const struct device_class class = {
	.name = "mc146818", .reset = reset, .free = rtc_free, .state = &state};

struct mc146818 *mc146818_new(struct vm *vm, struct irq_line *irq8)
{
	struct mc146818 *rtc = g_new0(struct mc146818, 1);
	device_add(vm, &rtc->device, &class, NULL);
	rtc->irq8 = irq8;
	vm_timer_init(&rtc->second, vm, second_due, rtc);
	vm_timer_init(&rtc->periodic, vm, periodic_due, rtc);
	window_init(&rtc->window, WINDOW_PORT, &window_ops, rtc, 2);
	window_map(vm, &rtc->window, 0x70);
	reset(&rtc->device);
	return rtc;
}
