// SPDX-License-Identifier: GPL-2.0-or-later
/* The machine of the accelerators' tests. */
#include "bench.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <glib-unix.h>

#include "dev/debug-exit.h"
#include "dev/i8254.h"
#include "dev/ns16550.h"

enum { RAM_BYTES = 4 << 20, APIC_HZ = 1000000000 };

/* --- Windows --- */

static void log_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct bench *b = device;
	uint32_t low = (uint32_t)value;
	g_array_append_val(b->log, low);
}

static void level_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct bench *b = device;
	irq_set(b->level, value & 1);
}

static void msi_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct bench *b = device;
	vm_send_msi(b->vm, 0xfee00000, (uint32_t)value);
}

/* A batch of rings is answered by one interrupt: by descriptor where the accelerator has that. */
static void ring(struct bench *b, uint64_t count)
{
	b->doorbells += (uint32_t)count;
	if (b->doorbells % DOORBELLS)
		return;
	if (b->irq_fd >= 0)
		g_assert_cmpint(eventfd_write(b->irq_fd, 1), ==, 0);
	else
		vm_send_msi(b->vm, 0xfee00000, VECTOR_MSI);
}

static void bell_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct bench *b = device;
	/* With an ioeventfd the accelerator must not come here. */
	g_assert_false(b->vm->accel_caps & ACCEL_EVENTFDS);
	ring(b, 1);
}

static uint64_t string_read(void *device, uint64_t offset, unsigned size)
{
	struct bench *b = device;
	return ++b->string_next;
}

static uint64_t mmio_read(void *device, uint64_t offset, unsigned size)
{
	struct bench *b = device;
	uint64_t value = 0;
	if (offset + size <= sizeof(b->mmio))
		memcpy(&value, b->mmio + offset, size);
	return value;
}

static void mmio_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct bench *b = device;
	if (offset == MMIO_DOORBELL)
		bell_write(b, offset, value, size);
	else if (offset + size <= sizeof(b->mmio))
		memcpy(b->mmio + offset, &value, size);
}

static const struct window_ops log_ops = {.write = log_write};
static const struct window_ops level_ops = {.write = level_write};
static const struct window_ops msi_ops = {.write = msi_write};
static const struct window_ops bell_ops = {.write = bell_write};
static const struct window_ops string_ops = {.read = string_read};
static const struct window_ops mmio_ops = {
	.read = mmio_read, .write = mmio_write, .min_size = 1, .max_size = 8};

static void add_window(struct bench *b, struct window *w, enum window_kind kind,
		       const struct window_ops *ops, uint64_t start, uint64_t size)
{
	window_init(w, kind, ops, b, size);
	window_map(b->vm, w, start);
}

static void add_windows(struct bench *b)
{
	add_window(b, &b->log_window, WINDOW_PORT, &log_ops, PORT_LOG, 4);
	add_window(b, &b->level_window, WINDOW_PORT, &level_ops, PORT_LEVEL, 4);
	add_window(b, &b->msi_window, WINDOW_PORT, &msi_ops, PORT_MSI, 4);
	add_window(b, &b->bell_window, WINDOW_PORT, &bell_ops, PORT_DOORBELL, 2);
	add_window(b, &b->string_window, WINDOW_PORT, &string_ops, PORT_STRING, 2);
	add_window(b, &b->mmio_window, WINDOW_MMIO, &mmio_ops, MMIO_BASE, 0x1000);
}

/* --- Event descriptors --- */

static gboolean on_bell(gint fd, GIOCondition condition, gpointer data)
{
	eventfd_t count = 0;
	g_assert_cmpint(eventfd_read(fd, &count), ==, 0);
	ring(data, count);
	return G_SOURCE_CONTINUE;
}

static void add_descriptors(struct bench *b)
{
	g_autoptr(GError) error = NULL;
	const struct accel_irq_ops *irq = b->vm->accel->irq;
	b->irq_fd = b->bell_fd[0] = b->bell_fd[1] = -1;
	if (!(b->vm->accel_caps & ACCEL_EVENTFDS))
		return;
	for (unsigned i = 0; i < 2; i++) {
		b->bell_fd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		b->bell_source[i] = g_unix_fd_source_new(b->bell_fd[i], G_IO_IN);
		g_source_set_callback(b->bell_source[i], G_SOURCE_FUNC(on_bell), b, NULL);
		g_source_attach(b->bell_source[i], b->context);
	}
	irq->ioeventfd(b->vm, PORT_DOORBELL, 2, true, b->bell_fd[0], true, &error);
	g_assert_no_error(error);
	irq->ioeventfd(b->vm, MMIO_BASE + MMIO_DOORBELL, 4, false, b->bell_fd[1], true, &error);
	g_assert_no_error(error);
	b->irq_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	irq->irqfd(b->vm, 0, 0xfee00000, VECTOR_MSI, b->irq_fd, true, &error);
	g_assert_no_error(error);
}

/* --- Start state --- */

static struct cpu_segment segment(uint16_t selector, uint16_t attr)
{
	return (struct cpu_segment){.limit = UINT32_MAX, .selector = selector, .attr = attr};
}

static void write_tables(struct bench *b)
{
	static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
				       0x00af9b000000ffff};
	uint64_t table[6][512] = {0};
	table[0][0] = (GUEST_TABLES + 0x1000) | 0x23;
	for (unsigned i = 0; i < 4; i++) {
		table[1][i] = (GUEST_TABLES + (2 + i) * 0x1000) | 0x23;
		for (unsigned j = 0; j < 512; j++)
			table[2 + i][j] = (uint64_t)i << 30 | (uint64_t)j << 21 | 0xe3;
	}
	g_assert_true(dma_write(b->vm, GUEST_TABLES, table, sizeof(table)));
	g_assert_true(dma_write(b->vm, GUEST_GDT, gdt, sizeof(gdt)));
}

static void set_mode(struct cpu_state *s, enum bench_mode mode)
{
	uint16_t data = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED;
	uint16_t code = SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED;
	s->rip = GUEST_AT;
	s->seg[SEG_CS].base = s->seg[SEG_CS].selector = 0;
	if (mode == BENCH_REAL)
		return;
	s->gdtr = (struct cpu_table){.base = GUEST_GDT, .limit = 0x1f};
	for (unsigned i = SEG_ES; i <= SEG_GS; i++)
		s->seg[i] = segment(0x10, data);
	s->seg[SEG_CS] =
		mode == BENCH_LONG ? segment(0x18, code | SEG_L) : segment(0x08, code | SEG_DB);
	s->regs[CPU_RSP] = GUEST_STACK;
	s->cr0 = 0x11;
	if (mode == BENCH_LONG) {
		s->cr0 = 0x80000011;
		s->cr3 = GUEST_TABLES;
		s->cr4 = 0x620;
		s->efer = 0x500;
	}
}

static bool load_start(void *opaque, GError **error)
{
	struct bench *b = opaque;
	struct cpu_state *state = g_aligned_alloc0(1, sizeof(*state), 64);
	bool ok = true;
	memset(b->ram->host, 0, RAM_BYTES);
	write_tables(b);
	if (b->code)
		g_assert_true(dma_write(b->vm, GUEST_AT, b->code, b->code_size));
	for (unsigned i = 0; ok && i < b->vm->vcpu_count; i++) {
		cpu_state_reset(state, i == 0);
		if (i == 0)
			set_mode(state, b->mode);
		ok = b->vm->accel->set_state(b->vm->vcpus[i], state, error);
	}
	g_aligned_free(state);
	return ok;
}

/* --- The machine --- */

static void on_event(void *opaque, enum vm_event_kind kind, const char *detail)
{
	struct bench *b = opaque;
	g_string_append_printf(b->events, "%u:%s\n", kind, detail ? detail : "");
	if (kind == VM_EVENT_ERROR && !b->failure)
		b->failure = g_strdup(detail);
	if (kind == VM_EVENT_ERROR || kind == VM_EVENT_SHUTDOWN || kind == VM_EVENT_GUEST_PANICKED)
		b->done = true;
}

static void add_serial(struct bench *b)
{
	g_autoptr(GError) error = NULL;
	int fds[2];
	g_assert_true(g_unix_open_pipe(fds, FD_CLOEXEC, &error));
	g_assert_true(g_unix_set_fd_nonblocking(fds[0], true, &error));
	g_autofree char *spec = g_strdup_printf("fd:%d", fds[1]);
	b->serial_fd = fds[0];
	b->chardev = char_open(spec, b->context, &error);
	g_assert_no_error(error);
	ns16550_new(b->vm, 0x3f8, gsi_line(b->gsi, 4), b->chardev);
}

static void add_chips(struct bench *b)
{
	struct lapic_bus *lapics = lapic_bus_new(b->vm, APIC_HZ);
	struct i8259 *pic = i8259_new(b->vm, lapic_bus_lint0(lapics));
	struct ioapic *ioapic = ioapic_new(b->vm);
	lapic_bus_connect(lapics, pic, ioapic);
	b->gsi = gsi_new(b->vm, pic, ioapic);
	i8254_new(b->vm, gsi_line(b->gsi, 0));
	debug_exit_new(b->vm, PORT_EXIT, &b->exit_status);
	b->pci = pci_host_new(b->vm, b->gsi, false);
	b->level = gsi_shared_line(b->gsi, 10);
	add_serial(b);
	add_windows(b);
	add_descriptors(b);
}

struct bench *bench_new(const struct accel_ops *accel, const struct accel_ops *fallback,
			unsigned cpus, bool chips)
{
	g_autoptr(GError) error = NULL;
	struct bench *b = g_new0(struct bench, 1);
	struct cpu_model model = {
		.cpu_count = cpus, .apic_timer_hz = APIC_HZ, .movable = fallback != NULL};
	b->context = g_main_context_new();
	b->log = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	b->events = g_string_new(NULL);
	b->serial_fd = b->irq_fd = b->bell_fd[0] = b->bell_fd[1] = -1;
	b->exit_status = -1;
	b->vm = vm_new(accel, b->context, &error);
	if (b->vm) {
		b->vm->fallback = fallback;
		b->vm->switch_accel = accel_switch;
		b->vm->load = load_start;
		b->vm->load_opaque = b;
		b->vm->no_reboot = true;
		model.tsc_hz = b->vm->tsc_hz;
		b->ram = ram_new(b->vm, "ram", RAM_BYTES, 0, &error);
		g_assert_no_error(error);
		if (ram_map(b->vm, b->ram, 0, 0, RAM_BYTES, false, &error) &&
		    accel_set_model(b->vm, &model, &error) && vm_add_vcpus(b->vm, cpus, &error)) {
			if (chips)
				add_chips(b);
			vm_add_listener(b->vm, on_event, b);
			return b;
		}
	}
	g_test_skip(error->message);
	bench_free(b);
	return NULL;
}

void bench_free(struct bench *b)
{
	for (unsigned i = 0; i < 2; i++) {
		if (b->bell_source[i]) {
			g_source_destroy(b->bell_source[i]);
			g_source_unref(b->bell_source[i]);
		}
	}
	if (b->vm)
		vm_free(b->vm);
	for (unsigned i = 0; i < 2; i++) {
		if (b->bell_fd[i] >= 0)
			close(b->bell_fd[i]);
	}
	if (b->irq_fd >= 0)
		close(b->irq_fd);
	if (b->chardev)
		char_free(b->chardev);
	if (b->serial_fd >= 0)
		close(b->serial_fd);
	g_main_context_unref(b->context);
	g_array_free(b->log, TRUE);
	g_string_free(b->events, TRUE);
	g_free(b->failure);
	g_free(b);
}

void bench_load(struct bench *b, const uint8_t *code, const uint8_t *end, enum bench_mode mode)
{
	g_autoptr(GError) error = NULL;
	b->code = code;
	b->code_size = (size_t)(end - code);
	b->mode = mode;
	b->exit_status = -1;
	b->done = false;
	g_array_set_size(b->log, 0);
	vm_reset(b->vm, &error);
	g_assert_no_error(error);
}

static gboolean time_is_up(gpointer data)
{
	*(bool *)data = true;
	return G_SOURCE_REMOVE;
}

static gboolean look_again(gpointer data)
{
	return G_SOURCE_CONTINUE;
}

/* Guest memory is looked at every ms: no event tells of it. */
void bench_serve(struct bench *b, unsigned ms, bool (*until)(struct bench *bench))
{
	bool over = false;
	GSource *look = g_timeout_source_new(1);
	if (until) {
		g_source_set_callback(look, look_again, NULL, NULL);
		g_source_attach(look, b->context);
	}
	GSource *limit = g_timeout_source_new(ms);
	g_source_set_callback(limit, time_is_up, &over, NULL);
	g_source_attach(limit, b->context);
	while (!over && !b->done && !(until && until(b)))
		g_main_context_iteration(b->context, TRUE);
	g_source_destroy(limit);
	g_source_unref(limit);
	g_source_destroy(look);
	g_source_unref(look);
}

bool bench_run(struct bench *b, unsigned seconds)
{
	g_autoptr(GError) error = NULL;
	vm_start(b->vm, &error);
	g_assert_no_error(error);
	bench_serve(b, seconds * 1000, NULL);
	if (b->failure && b->vm->accel == &accel_kvm) {
		g_test_skip(b->failure);
		return false;
	}
	g_assert_cmpstr(b->failure, ==, NULL);
	g_assert_true(b->done);
	if (b->exit_status != 1)
		g_test_message("%s", b->events->str);
	g_assert_cmpint(b->exit_status, ==, 1);
	return true;
}

uint32_t bench_log(const struct bench *b, unsigned index)
{
	g_assert_cmpuint(b->log->len, >, index);
	return g_array_index(b->log, uint32_t, index);
}

uint32_t bench_read32(const struct bench *b, uint64_t gpa)
{
	uint32_t value;
	memcpy(&value, b->ram->host + gpa, sizeof(value));
	return value;
}

static void call(gconstpointer data)
{
	const struct bench_case *c = data;
	c->test(c->accel);
}

void bench_add(const char *path, void (*test)(const struct accel_ops *accel))
{
	static const struct accel_ops *const accels[] = {&accel_soft, &accel_kvm};
	for (unsigned i = 0; i < G_N_ELEMENTS(accels); i++) {
		struct bench_case *c = g_new(struct bench_case, 1);
		g_autofree char *name = g_strdup_printf("%s/%s", path, accels[i]->name);
		*c = (struct bench_case){test, accels[i]};
		g_test_add_data_func_full(name, c, call, g_free);
	}
}
