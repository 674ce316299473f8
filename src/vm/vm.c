// SPDX-License-Identifier: GPL-2.0-or-later
/* The machine's life: made, started, stopped, reset, ended; and the requests that devices and vCPUs
 * make of the main thread. */
#include "vm/vm.h"

#include <cpuid.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "base/error.h"

enum vm_request {
	REQUEST_RESET,
	REQUEST_SHUTDOWN,
	REQUEST_PANIC,
	REQUEST_INTERNAL_ERROR,
	REQUEST_IO_STOP,
	REQUEST_HANDOVER,
};

static const char *const run_state_names[] = {
	[RUN_PRELAUNCH] = "prelaunch",
	[RUN_RUNNING] = "running",
	[RUN_PAUSED] = "paused",
	[RUN_SHUTDOWN] = "shutdown",
	[RUN_GUEST_PANICKED] = "guest-panicked",
	[RUN_INTERNAL_ERROR] = "internal-error",
	[RUN_IO_ERROR] = "io-error",
	[RUN_SUSPENDED] = "suspended",
};

const char *run_state_name(enum run_state state)
{
	return run_state_names[state];
}

/* --- The host's TSC rate --- */

static uint64_t tsc_hz_from_cpuid(void)
{
	unsigned a, b, c, d;
	if (__get_cpuid_count(0x15, 0, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a;
	__cpuid(1, a, b, c, d);
	if (!(c >> 31))
		return 0;
	__cpuid(0x40000000, a, b, c, d);
	if (a < 0x40000010 || a > 0x400000ff)
		return 0;
	__cpuid(0x40000010, a, b, c, d);
	return (uint64_t)a * 1000;
}

static int64_t monotonic_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The TSC and the clock at one moment: of several readings the one that took least time, so that a
 * preemption between the two does not count. */
static uint64_t read_both(int64_t *ns)
{
	uint64_t best = UINT64_MAX, tsc = 0;
	for (unsigned i = 0; i < 8; i++) {
		uint64_t before = __rdtsc();
		int64_t now = monotonic_ns();
		uint64_t after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			tsc = before + best / 2;
			*ns = now;
		}
	}
	return tsc;
}

/* Asleep meanwhile: a start is to cost little CPU time. Some 10 ns off in 1 ms is 10 ppm. */
static uint64_t tsc_hz_measured(void)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int64_t start = 0, end = 0;
	uint64_t first = read_both(&start);
	nanosleep(&pause, NULL);
	uint64_t last = read_both(&end);
	return (uint64_t)((unsigned __int128)(last - first) * 1000000000 / (uint64_t)(end - start));
}

/* --- Clock --- */

static void clock_start(struct vm *vm)
{
	int64_t frozen = atomic_load(&vm->clock_frozen);
	atomic_store(&vm->clock_offset, monotonic_ns() - frozen);
	/* From where it stood, not from the clock: the two drift apart by what tsc_hz is off, and
	 * a TSC that jumps back is one that the guest stops using. */
	vm->tsc_offset = (int64_t)(vm->tsc_frozen - __rdtsc());
	atomic_store_explicit(&vm->clock_running, true, memory_order_release);
}

static void clock_stop(struct vm *vm)
{
	int64_t now = vm_clock_ns(vm);
	vm->tsc_frozen = vm_tsc(vm);
	atomic_store(&vm->clock_frozen, now);
	atomic_store_explicit(&vm->clock_running, false, memory_order_release);
}

static void rearm_all(struct vm *vm)
{
	timer_queue_rearm(vm->timers);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		timer_queue_rearm(vm->vcpus[i]->timers);
}

uint64_t vm_tsc(struct vm *vm)
{
	if (atomic_load_explicit(&vm->clock_running, memory_order_acquire))
		return __rdtsc() + (uint64_t)vm->tsc_offset;
	return vm->tsc_frozen;
}

int64_t vm_tsc_to_clock(struct vm *vm, uint64_t tsc)
{
	int64_t ahead = (int64_t)(tsc - vm_tsc(vm));
	__int128 ns = (__int128)ahead * 1000000000 / (int64_t)vm->tsc_hz;
	ns += vm_clock_ns(vm);
	return ns > INT64_MAX ? INT64_MAX : ns < 0 ? 0 : (int64_t)ns;
}

void vm_clock_advance(struct vm *vm, int64_t ns)
{
	g_assert(vm->accel_caps & ACCEL_NO_CPU);
	int64_t target = atomic_load(&vm->clock_frozen) + ns;
	for (;;) {
		int64_t next = timer_queue_deadline(vm->timers);
		for (unsigned i = 0; i < vm->vcpu_count; i++)
			next = MIN(next, timer_queue_deadline(vm->vcpus[i]->timers));
		bool last = next > target;
		int64_t now = last ? target : MAX(next, atomic_load(&vm->clock_frozen));
		atomic_store(&vm->clock_frozen, now);
		vm->tsc_frozen = (uint64_t)((unsigned __int128)now * vm->tsc_hz / 1000000000);
		g_mutex_lock(&vm->lock);
		timer_queue_run(vm->timers);
		g_mutex_unlock(&vm->lock);
		for (unsigned i = 0; i < vm->vcpu_count; i++)
			timer_queue_run(vm->vcpus[i]->timers);
		if (last)
			return;
	}
}

/* --- Events and requests --- */

struct listener {
	vm_listener_fn *fn;
	void *opaque;
};

void vm_add_listener(struct vm *vm, vm_listener_fn *fn, void *opaque)
{
	struct listener listener = {fn, opaque};
	g_array_append_val(vm->listeners, listener);
}

void vm_emit(struct vm *vm, enum vm_event_kind kind, const char *detail)
{
	for (guint i = 0; i < vm->listeners->len; i++) {
		const struct listener *l = &g_array_index(vm->listeners, struct listener, i);
		l->fn(l->opaque, kind, detail);
	}
}

static void request(struct vm *vm, enum vm_request kind, const char *detail)
{
	g_mutex_lock(&vm->run_mutex);
	if (!(atomic_load(&vm->requests) & (1u << kind)))
		vm->request_detail[kind] = detail ? g_intern_string(detail) : NULL;
	atomic_fetch_or(&vm->requests, 1u << kind);
	g_mutex_unlock(&vm->run_mutex);
	g_source_set_ready_time(vm->request_source, 0);
	struct vcpu *vcpu = vcpu_current();
	if (vcpu && vcpu->vm == vm)
		vcpu_kick(vcpu);
}

void vm_request_reset(struct vm *vm, const char *detail)
{
	request(vm, REQUEST_RESET, detail);
}

void vm_request_shutdown(struct vm *vm, const char *detail)
{
	request(vm, REQUEST_SHUTDOWN, detail);
}

void vm_request_panic(struct vm *vm, const char *detail)
{
	request(vm, REQUEST_PANIC, detail);
}

void vm_report_internal_error(struct vm *vm, const char *detail)
{
	request(vm, REQUEST_INTERNAL_ERROR, detail);
}

void vm_request_io_stop(struct vm *vm, const char *detail)
{
	request(vm, REQUEST_IO_STOP, detail);
}

void vm_request_handover(struct vm *vm, const char *detail)
{
	request(vm, REQUEST_HANDOVER, detail);
}

struct main_call {
	struct vm *vm;
	void (*fn)(void *opaque);
	void *opaque;
};

static gboolean run_main_call(gpointer data)
{
	struct main_call *call = data;
	g_mutex_lock(&call->vm->lock);
	call->fn(call->opaque);
	g_mutex_unlock(&call->vm->lock);
	return G_SOURCE_REMOVE;
}

void vm_call_main(struct vm *vm, void (*fn)(void *opaque), void *opaque)
{
	struct main_call call = {vm, fn, opaque};
	GSource *source = g_idle_source_new();
	g_source_set_priority(source, G_PRIORITY_DEFAULT);
	g_source_set_callback(source, run_main_call, g_memdup2(&call, sizeof(call)), g_free);
	g_source_attach(source, vm->context);
	g_source_unref(source);
}

/* --- Start, stop, reset --- */

bool vm_start(struct vm *vm, GError **error)
{
	if (vm->state == RUN_RUNNING)
		return true;
	if (vm->state == RUN_INTERNAL_ERROR || vm->state == RUN_SHUTDOWN ||
	    vm->state == RUN_GUEST_PANICKED)
		return error_set(error, LODGE_ERROR_FAILED,
				 "the guest is in state '%s': reset it before it can run",
				 run_state_name(vm->state));
	clock_start(vm);
	rearm_all(vm);
	g_mutex_lock(&vm->run_mutex);
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		atomic_store(&vm->vcpus[i]->stop_requested, false);
		/* A timer may have become due in the restore: look once. */
		atomic_store(&vm->vcpus[i]->timer_fired, true);
	}
	vm->vcpus_may_run = true;
	vm->state = RUN_RUNNING;
	g_cond_broadcast(&vm->run_cond);
	g_mutex_unlock(&vm->run_mutex);
	vm_emit(vm, VM_EVENT_RESUME, NULL);
	return true;
}

/* Brings all vCPUs to a stop without changing the run state. */
static void pause_vcpus(struct vm *vm)
{
	g_mutex_lock(&vm->run_mutex);
	vm->vcpus_may_run = false;
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		atomic_store(&vm->vcpus[i]->stop_requested, true);
		vcpu_kick(vm->vcpus[i]);
	}
	while (vm->vcpus_running > 0)
		g_cond_wait(&vm->run_cond, &vm->run_mutex);
	g_mutex_unlock(&vm->run_mutex);
}

void vm_stop(struct vm *vm, enum run_state state)
{
	bool ran = vm->state == RUN_RUNNING;
	if (ran) {
		pause_vcpus(vm);
		clock_stop(vm);
		rearm_all(vm);
	}
	vm->state = state;
	if (ran)
		vm_emit(vm, VM_EVENT_STOP, run_state_name(state));
}

static void drain(struct vm *vm)
{
	for (guint i = 0; i < vm->devices->len; i++) {
		struct device *device = vm->devices->pdata[i];
		if (device->class->drain)
			device->class->drain(device);
	}
}

bool vm_reset(struct vm *vm, GError **error)
{
	bool ran = vm->state == RUN_RUNNING;
	if (ran) {
		pause_vcpus(vm);
		clock_stop(vm);
	}
	drain(vm);
	g_mutex_lock(&vm->lock);
	for (guint i = 0; i < vm->devices->len; i++) {
		struct device *device = vm->devices->pdata[i];
		if (device->class->reset)
			device->class->reset(device);
	}
	g_mutex_unlock(&vm->lock);
	if (vm->load && !vm->load(vm->load_opaque, error)) {
		vm->state = RUN_INTERNAL_ERROR;
		return false;
	}
	if (vm->state != RUN_PRELAUNCH)
		vm->state = RUN_PAUSED;
	return !ran || vm_start(vm, error);
}

void vm_powerdown(struct vm *vm)
{
	g_mutex_lock(&vm->lock);
	irq_pulse(vm->power_button);
	g_mutex_unlock(&vm->lock);
	vm_emit(vm, VM_EVENT_POWERDOWN, NULL);
}

void vm_send_msi(struct vm *vm, uint64_t address, uint32_t data)
{
	if (vm->accel_caps & ACCEL_IRQCHIP)
		vm->accel->irq->send_msi(vm, address, data);
	else if (vm->msi)
		vm->msi(vm->msi_opaque, address, data);
}

static void handle_error(struct vm *vm, enum run_state state, const char *detail)
{
	vm_stop(vm, state);
	vm_emit(vm, VM_EVENT_ERROR, detail);
}

static void handle_reset(struct vm *vm, const char *detail)
{
	g_autoptr(GError) error = NULL;
	vm_emit(vm, VM_EVENT_RESET, detail);
	if (vm->state == RUN_RUNNING && vm->no_reboot) {
		vm_stop(vm, RUN_SHUTDOWN);
		vm_emit(vm, VM_EVENT_SHUTDOWN, detail);
	} else if (!vm_reset(vm, &error)) {
		handle_error(vm, RUN_INTERNAL_ERROR, error->message);
	}
}

static void handle_handover(struct vm *vm, const char *detail)
{
	g_autoptr(GError) error = NULL;
	pause_vcpus(vm);
	clock_stop(vm);
	drain(vm);
	vm->state = RUN_PAUSED;
	if (!vm->switch_accel || !vm->switch_accel(vm, &error) || !vm_start(vm, &error)) {
		vm->state = RUN_INTERNAL_ERROR;
		vm_emit(vm, VM_EVENT_ERROR, error ? error->message : detail);
		return;
	}
	vm_emit(vm, VM_EVENT_HANDOVER, detail);
}

static void handle_request(struct vm *vm, enum vm_request kind, const char *detail)
{
	switch (kind) {
	case REQUEST_RESET:
		handle_reset(vm, detail);
		break;
	case REQUEST_SHUTDOWN:
		vm_stop(vm, RUN_SHUTDOWN);
		vm_emit(vm, VM_EVENT_SHUTDOWN, detail);
		break;
	case REQUEST_PANIC:
		vm_stop(vm, RUN_GUEST_PANICKED);
		vm_emit(vm, VM_EVENT_GUEST_PANICKED, detail);
		break;
	case REQUEST_INTERNAL_ERROR:
		handle_error(vm, RUN_INTERNAL_ERROR, detail);
		break;
	case REQUEST_IO_STOP:
		handle_error(vm, RUN_IO_ERROR, detail);
		break;
	case REQUEST_HANDOVER:
		handle_handover(vm, detail);
		break;
	}
}

static gboolean dispatch_requests(gpointer data)
{
	struct vm *vm = data;
	g_source_set_ready_time(vm->request_source, -1);
	unsigned requests = atomic_exchange(&vm->requests, 0);
	while (requests) {
		unsigned kind = (unsigned)__builtin_ctz(requests);
		requests &= requests - 1;
		/* A guest that has ended, or an error, makes what else was asked void. */
		if (vm->state == RUN_RUNNING || kind == REQUEST_RESET || kind == REQUEST_SHUTDOWN)
			handle_request(vm, kind, vm->request_detail[kind]);
	}
	return G_SOURCE_CONTINUE;
}

static gboolean dispatch_source(GSource *source, GSourceFunc callback, gpointer data)
{
	return callback(data);
}

static gboolean timers_due(gpointer data)
{
	struct vm *vm = data;
	g_mutex_lock(&vm->lock);
	timer_queue_run(vm->timers);
	g_mutex_unlock(&vm->lock);
	return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = dispatch_source};

static GSource *add_source(struct vm *vm, GSourceFunc fn)
{
	GSource *source = g_source_new(&source_funcs, sizeof(GSource));
	g_source_set_callback(source, fn, vm, NULL);
	g_source_set_priority(source, G_PRIORITY_HIGH);
	g_source_attach(source, vm->context);
	return source;
}

/* --- Made and freed --- */

static struct vm *vm_alloc(const struct accel_ops *accel, GMainContext *context)
{
	struct vm *vm = g_new0(struct vm, 1);
	g_mutex_init(&vm->lock);
	g_mutex_init(&vm->run_mutex);
	g_cond_init(&vm->run_cond);
	g_rw_lock_init(&vm->map_lock);
	vm->accel = accel;
	vm->accel_caps = accel->caps;
	vm->context = context;
	vm->devices = g_ptr_array_new();
	for (unsigned i = 0; i < WINDOW_KINDS; i++)
		vm->windows[i] = g_ptr_array_new();
	vm->rams = g_ptr_array_new();
	vm->mappings = g_ptr_array_new();
	vm->listeners = g_array_new(FALSE, FALSE, sizeof(struct listener));
	vm->tsc_hz = tsc_hz_from_cpuid();
	if (!vm->tsc_hz)
		vm->tsc_hz = tsc_hz_measured();
	vm->timers = timer_queue_new(vm, NULL);
	vm->timer_source = add_source(vm, timers_due);
	g_source_add_unix_fd(vm->timer_source, timer_queue_fd(vm->timers), G_IO_IN);
	vm->request_source = add_source(vm, dispatch_requests);
	return vm;
}

struct vm *vm_new(const struct accel_ops *accel, GMainContext *context, GError **error)
{
	struct vm *vm = vm_alloc(accel, context);
	if (accel->open(vm, error))
		return vm;
	vm->accel = NULL;
	vm_free(vm);
	return NULL;
}

bool vm_add_vcpus(struct vm *vm, unsigned count, GError **error)
{
	g_assert(!vm->vcpus);
	vm->vcpus = g_new0(struct vcpu *, count);
	for (unsigned i = 0; i < count; i++) {
		vm->vcpus[i] = vcpu_new(vm, i);
		vm->vcpu_count++;
	}
	for (unsigned i = 0; i < count; i++) {
		if (!vm->accel->vcpu_open(vm->vcpus[i], error))
			return false;
		vm->vcpus[i]->open = true;
		if (!vcpu_launch(vm->vcpus[i], error))
			return false;
	}
	return true;
}

static void free_memory(struct vm *vm)
{
	while (vm->mappings->len > 0) {
		struct ram_mapping *mapping = vm->mappings->pdata[vm->mappings->len - 1];
		if (vm->accel)
			vm->accel->unmap(vm, mapping);
		g_ptr_array_remove_index(vm->mappings, vm->mappings->len - 1);
		g_free(mapping);
	}
}

void vm_free(struct vm *vm)
{
	vm_stop(vm, RUN_SHUTDOWN);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_stop_thread(vm->vcpus[i]);
	for (guint i = vm->devices->len; i-- > 0;) {
		struct device *device = vm->devices->pdata[i];
		char *id = device->id;
		device->class->free(device);
		g_free(id);
	}
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		if (vm->vcpus[i]->open)
			vm->accel->vcpu_close(vm->vcpus[i]);
		vcpu_free(vm->vcpus[i]);
	}
	free_memory(vm);
	if (vm->accel)
		vm->accel->close(vm);
	for (guint i = 0; i < vm->rams->len; i++)
		ram_free(vm->rams->pdata[i]);
	g_source_destroy(vm->timer_source);
	g_source_unref(vm->timer_source);
	g_source_destroy(vm->request_source);
	g_source_unref(vm->request_source);
	timer_queue_free(vm->timers);
	for (unsigned i = 0; i < WINDOW_KINDS; i++)
		g_ptr_array_free(vm->windows[i], TRUE);
	g_ptr_array_free(vm->devices, TRUE);
	g_ptr_array_free(vm->rams, TRUE);
	g_ptr_array_free(vm->mappings, TRUE);
	g_array_free(vm->listeners, TRUE);
	g_rw_lock_clear(&vm->map_lock);
	g_cond_clear(&vm->run_cond);
	g_mutex_clear(&vm->run_mutex);
	g_mutex_clear(&vm->lock);
	g_free(vm->cpu_model);
	g_free(vm->vcpus);
	g_free(vm);
}
