// SPDX-License-Identifier: GPL-2.0-or-later
/* 16550A UART with FIFOs (National PC16550D). Bytes are sent at once: the line rate is stored, not
 * kept. */
#include "dev/ns16550.h"

#include <string.h>

#include "base/error.h"

enum { REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH };
enum { IER_RECEIVE = 1, IER_TRANSMIT = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { LSR_DATA = 1, LSR_OVERRUN = 2, LSR_BREAK = 0x10, LSR_EMPTY = 0x60 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };
enum { FIFO_SIZE = 16 };
/* Character time-out: four characters at 115200 baud. */
#define TIMEOUT_NS INT64_C(350000)

struct ns16550 {
	struct device device;
	uint8_t ier, lcr, mcr, lsr_errors, msr, scratch, fcr;
	uint16_t divisor;
	uint8_t fifo[FIFO_SIZE];
	uint8_t fifo_count;
	bool transmit_interrupt; /* holding register empty, not yet acknowledged */
	bool timed_out;          /* bytes below the trigger level have waited long enough */
	struct irq_line *irq;
	struct chardev *chardev;
	struct vm_timer timer;
	struct window window;
};

static unsigned trigger_level(const struct ns16550 *uart)
{
	static const uint8_t levels[] = {1, 4, 8, 14};
	return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

static unsigned fifo_room(const struct ns16550 *uart)
{
	unsigned size = uart->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
	return size > uart->fifo_count ? size - uart->fifo_count : 0;
}

/* The interrupt identification, 1 when there is none. */
static uint8_t identify(const struct ns16550 *uart)
{
	if ((uart->ier & IER_LINE) && uart->lsr_errors)
		return 6;
	if ((uart->ier & IER_RECEIVE) && uart->fifo_count >= trigger_level(uart))
		return 4;
	if ((uart->ier & IER_RECEIVE) && uart->fifo_count && uart->timed_out)
		return 12;
	if ((uart->ier & IER_TRANSMIT) && uart->transmit_interrupt)
		return 2;
	if ((uart->ier & IER_MODEM) && (uart->msr & 15))
		return 0;
	return 1;
}

static void update(struct ns16550 *uart)
{
	irq_set(uart->irq, identify(uart) != 1 && (uart->mcr & MCR_OUT2));
}

static void timeout_due(void *opaque)
{
	struct ns16550 *uart = opaque;
	uart->timed_out = uart->fifo_count > 0;
	update(uart);
}

static void push(struct ns16550 *uart, uint8_t byte)
{
	if (fifo_room(uart) == 0) {
		uart->lsr_errors |= LSR_OVERRUN;
		return;
	}
	uart->fifo[uart->fifo_count++] = byte;
	uart->timed_out = false;
	if (uart->fifo_count < trigger_level(uart))
		vm_timer_arm(&uart->timer, vm_clock_ns(uart->device.vm) + TIMEOUT_NS);
}

static uint8_t pop(struct ns16550 *uart)
{
	if (!uart->fifo_count)
		return 0;
	uint8_t byte = uart->fifo[0];
	memmove(uart->fifo, uart->fifo + 1, --uart->fifo_count);
	if (!uart->fifo_count)
		uart->timed_out = false;
	if (fifo_room(uart) == 1 || !uart->fifo_count) {
		if (uart->chardev)
			char_accept_input(uart->chardev);
	}
	return byte;
}

static uint8_t modem_status(struct ns16550 *uart)
{
	uint8_t m = uart->mcr;
	if (m & MCR_LOOP)
		return (uint8_t)((m & MCR_RTS ? MSR_CTS : 0) | (m & MCR_DTR ? MSR_DSR : 0) |
				 (m & MCR_OUT1 ? MSR_RI : 0) | (m & MCR_OUT2 ? MSR_DCD : 0));
	uint8_t value = MSR_CTS | MSR_DSR | MSR_DCD | (uart->msr & 15);
	uart->msr &= 0xf0;
	return value;
}

static uint64_t uart_read(void *device, uint64_t offset, unsigned size)
{
	struct ns16550 *uart = device;
	uint8_t value = 0;
	switch (offset) {
	case REG_DATA:
		value = uart->lcr & LCR_DLAB ? (uint8_t)uart->divisor : pop(uart);
		break;
	case REG_IER:
		value = uart->lcr & LCR_DLAB ? uart->divisor >> 8 : uart->ier;
		break;
	case REG_IIR:
		value = identify(uart);
		if (value == 2)
			uart->transmit_interrupt = false;
		value |= uart->fcr & FCR_ENABLE ? 0xc0 : 0;
		break;
	case REG_LCR:
		value = uart->lcr;
		break;
	case REG_MCR:
		value = uart->mcr;
		break;
	case REG_LSR:
		value = LSR_EMPTY | (uart->fifo_count ? LSR_DATA : 0) | uart->lsr_errors;
		uart->lsr_errors = 0;
		break;
	case REG_MSR:
		value = modem_status(uart);
		break;
	case REG_SCRATCH:
		value = uart->scratch;
		break;
	default:
		break;
	}
	update(uart);
	return value;
}

static void transmit(struct ns16550 *uart, uint8_t byte)
{
	if (uart->mcr & MCR_LOOP)
		push(uart, byte);
	else if (uart->chardev)
		char_write(uart->chardev, &byte, 1);
	uart->transmit_interrupt = true;
}

static void write_fcr(struct ns16550 *uart, uint8_t value)
{
	if ((value ^ uart->fcr) & FCR_ENABLE || value & FCR_CLEAR_RX) {
		uart->fifo_count = 0;
		uart->timed_out = false;
		if (uart->chardev)
			char_accept_input(uart->chardev);
	}
	uart->fcr = value & (FCR_ENABLE | 0xc0);
}

static void uart_write(void *device, uint64_t offset, uint64_t value64, unsigned size)
{
	struct ns16550 *uart = device;
	uint8_t value = (uint8_t)value64;
	bool dlab = uart->lcr & LCR_DLAB;
	switch (offset) {
	case REG_DATA:
		if (dlab)
			uart->divisor = (uart->divisor & 0xff00) | value;
		else
			transmit(uart, value);
		break;
	case REG_IER:
		if (dlab) {
			uart->divisor = (uint16_t)((uart->divisor & 0xff) | value << 8);
			break;
		}
		/* Enabling it while the register is empty raises the interrupt anew. */
		if ((value & ~uart->ier) & IER_TRANSMIT)
			uart->transmit_interrupt = true;
		uart->ier = value & 15;
		break;
	case REG_IIR:
		write_fcr(uart, value);
		break;
	case REG_LCR:
		uart->lcr = value;
		break;
	case REG_MCR:
		uart->mcr = value & 0x1f;
		break;
	case REG_SCRATCH:
		uart->scratch = value;
		break;
	default:
		break;
	}
	update(uart);
}

static const struct window_ops window_ops = {.read = uart_read, .write = uart_write, .max_size = 1};

/* --- The host's side: main thread --- */

static size_t can_receive(void *opaque)
{
	struct ns16550 *uart = opaque;
	g_mutex_lock(&uart->device.vm->lock);
	size_t room = uart->mcr & MCR_LOOP ? 0 : fifo_room(uart);
	g_mutex_unlock(&uart->device.vm->lock);
	return room;
}

static void receive(void *opaque, const uint8_t *data, size_t size)
{
	struct ns16550 *uart = opaque;
	g_mutex_lock(&uart->device.vm->lock);
	for (size_t i = 0; i < size; i++)
		push(uart, data[i]);
	update(uart);
	g_mutex_unlock(&uart->device.vm->lock);
}

static const struct char_front front = {.can_receive = can_receive, .receive = receive};

static void reset(struct device *device)
{
	struct ns16550 *uart = (struct ns16550 *)device;
	uart->ier = uart->lcr = uart->lsr_errors = uart->msr = uart->scratch = uart->fcr = 0;
	uart->mcr = MCR_OUT2;
	uart->divisor = 12;
	uart->fifo_count = 0;
	uart->transmit_interrupt = uart->timed_out = false;
	vm_timer_cancel(&uart->timer);
	update(uart);
}

static bool post_load(void *object, GError **error)
{
	struct ns16550 *uart = object;
	if (uart->fifo_count > FIFO_SIZE)
		return error_set(error, LODGE_ERROR_CORRUPT, "impossible UART state");
	uart->irq->level = false;
	update(uart);
	return true;
}

static const struct state_field fields[] = {
	STATE_SCALAR(struct ns16550, ier),
	STATE_SCALAR(struct ns16550, lcr),
	STATE_SCALAR(struct ns16550, mcr),
	STATE_SCALAR(struct ns16550, lsr_errors),
	STATE_SCALAR(struct ns16550, msr),
	STATE_SCALAR(struct ns16550, scratch),
	STATE_SCALAR(struct ns16550, fcr),
	STATE_SCALAR(struct ns16550, divisor),
	STATE_BLOB(struct ns16550, fifo),
	STATE_SCALAR(struct ns16550, fifo_count),
	STATE_SCALAR(struct ns16550, transmit_interrupt),
	STATE_SCALAR(struct ns16550, timed_out),
	STATE_TIMER_FIELD(struct ns16550, timer),
};
static const struct state_table state = {.version = 1,
					 .min_version = 1,
					 .fields = fields,
					 .field_count = G_N_ELEMENTS(fields),
					 .post_load = post_load};

static void uart_free(struct device *device)
{
	struct ns16550 *uart = (struct ns16550 *)device;
	if (uart->chardev)
		char_attach(uart->chardev, NULL, NULL);
	vm_timer_cancel(&uart->timer);
	window_unmap(device->vm, &uart->window);
	g_free(uart);
}

static const struct device_class class = {
	.name = "ns16550", .reset = reset, .free = uart_free, .state = &state};

struct ns16550 *ns16550_new(struct vm *vm, uint16_t port, struct irq_line *irq,
			    struct chardev *chardev)
{
	struct ns16550 *uart = g_new0(struct ns16550, 1);
	device_add(vm, &uart->device, &class, NULL);
	uart->irq = irq;
	uart->chardev = chardev;
	vm_timer_init(&uart->timer, vm, timeout_due, uart);
	window_init(&uart->window, WINDOW_PORT, &window_ops, uart, 8);
	window_map(vm, &uart->window, port);
	reset(&uart->device);
	if (chardev)
		char_attach(chardev, &front, uart);
	return uart;
}
