// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Timers on the virtual clock. A queue holds its armed timers sorted by deadline (there are a few
 * dozen at the most) and keeps one host timer armed for the first: a timerfd for the main loop, or
 * a POSIX timer that signals the vCPU's thread (timer_create(2), SIGEV_THREAD_ID).
 */
#include "vm/timer.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vm/vm.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct timer_queue {
	struct vm *vm;
	struct vcpu *vcpu; /* NULL: the main queue */
	GMutex lock;
	GPtrArray *armed; /* struct vm_timer by deadline */
	int fd;           /* timerfd of the main queue */
	timer_t posix;
	bool has_posix;
	int64_t host_deadline; /* what the host timer is armed for, INT64_MAX: it is not */
};

int64_t vm_clock_ns(struct vm *vm)
{
	if (!atomic_load_explicit(&vm->clock_running, memory_order_acquire))
		return atomic_load_explicit(&vm->clock_frozen, memory_order_relaxed);
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec -
	       atomic_load_explicit(&vm->clock_offset, memory_order_relaxed);
}

int64_t vm_rtc_ns(struct vm *vm)
{
	struct timespec now;
	/* Without processors time is what a test makes it: 2000-01-01 at the start. */
	if (vm->accel_caps & ACCEL_NO_CPU)
		return INT64_C(946684800000000000) + vm_clock_ns(vm) + vm->rtc_offset_ns;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + vm->rtc_offset_ns;
}

static void host_arm(struct timer_queue *queue, int64_t deadline)
{
	struct itimerspec spec = {0};
	if (deadline == queue->host_deadline)
		return;
	queue->host_deadline = deadline;
	if (deadline != INT64_MAX) {
		int64_t host = deadline +
			       atomic_load_explicit(&queue->vm->clock_offset, memory_order_relaxed);
		host = MAX(host, 1);
		spec.it_value.tv_sec = host / 1000000000;
		spec.it_value.tv_nsec = host % 1000000000;
	}
	if (queue->fd >= 0)
		timerfd_settime(queue->fd, TFD_TIMER_ABSTIME, &spec, NULL);
	else if (queue->has_posix)
		timer_settime(queue->posix, TIMER_ABSTIME, &spec, NULL);
}

static void rearm_locked(struct timer_queue *queue)
{
	bool running = atomic_load_explicit(&queue->vm->clock_running, memory_order_acquire);
	const struct vm_timer *first = queue->armed->len ? queue->armed->pdata[0] : NULL;
	host_arm(queue, running && first ? first->deadline_ns : INT64_MAX);
}

struct timer_queue *timer_queue_new(struct vm *vm, struct vcpu *vcpu)
{
	struct timer_queue *queue = g_new0(struct timer_queue, 1);
	queue->vm = vm;
	queue->vcpu = vcpu;
	queue->armed = g_ptr_array_new();
	queue->host_deadline = INT64_MAX;
	queue->fd = -1;
	g_mutex_init(&queue->lock);
	if (!vcpu)
		queue->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return queue;
}

void timer_queue_free(struct timer_queue *queue)
{
	if (queue->fd >= 0)
		close(queue->fd);
	if (queue->has_posix)
		timer_delete(queue->posix);
	g_ptr_array_free(queue->armed, TRUE);
	g_mutex_clear(&queue->lock);
	g_free(queue);
}

int timer_queue_fd(struct timer_queue *queue)
{
	return queue->fd;
}

void timer_queue_attach(struct timer_queue *queue, int signal, int tid)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal};
	event.sigev_notify_thread_id = tid;
	g_mutex_lock(&queue->lock);
	queue->has_posix = timer_create(CLOCK_MONOTONIC, &event, &queue->posix) == 0;
	g_assert(queue->has_posix);
	queue->host_deadline = INT64_MAX;
	rearm_locked(queue);
	g_mutex_unlock(&queue->lock);
}

void timer_queue_rearm(struct timer_queue *queue)
{
	g_mutex_lock(&queue->lock);
	queue->host_deadline = -1; /* whatever was armed was relative to another offset */
	rearm_locked(queue);
	g_mutex_unlock(&queue->lock);
}

int64_t timer_queue_deadline(struct timer_queue *queue)
{
	g_mutex_lock(&queue->lock);
	const struct vm_timer *first = queue->armed->len ? queue->armed->pdata[0] : NULL;
	int64_t deadline = first ? first->deadline_ns : INT64_MAX;
	g_mutex_unlock(&queue->lock);
	return deadline;
}

static void timer_init(struct vm_timer *timer, struct timer_queue *queue, vm_timer_fn *fn,
		       void *opaque)
{
	*timer = (struct vm_timer){.queue = queue, .fn = fn, .opaque = opaque};
}

void vm_timer_init(struct vm_timer *timer, struct vm *vm, vm_timer_fn *fn, void *opaque)
{
	timer_init(timer, vm->timers, fn, opaque);
}

void vcpu_timer_init(struct vm_timer *timer, struct vcpu *vcpu, vm_timer_fn *fn, void *opaque)
{
	timer_init(timer, vcpu->timers, fn, opaque);
}

static void remove_locked(struct timer_queue *queue, struct vm_timer *timer)
{
	if (timer->armed)
		g_ptr_array_remove(queue->armed, timer);
	timer->armed = false;
}

void vm_timer_arm(struct vm_timer *timer, int64_t deadline_ns)
{
	struct timer_queue *queue = timer->queue;
	g_mutex_lock(&queue->lock);
	remove_locked(queue, timer);
	timer->deadline_ns = deadline_ns;
	timer->armed = true;
	guint i = queue->armed->len;
	while (i > 0 && ((struct vm_timer *)queue->armed->pdata[i - 1])->deadline_ns > deadline_ns)
		i--;
	g_ptr_array_insert(queue->armed, (gint)i, timer);
	rearm_locked(queue);
	g_mutex_unlock(&queue->lock);
}

void vm_timer_cancel(struct vm_timer *timer)
{
	struct timer_queue *queue = timer->queue;
	g_mutex_lock(&queue->lock);
	/* The host timer stays as it is: firing early costs less than two system calls per timer
	 * that a guest arms and disarms all the time. */
	remove_locked(queue, timer);
	g_mutex_unlock(&queue->lock);
}

void timer_queue_run(struct timer_queue *queue)
{
	uint64_t expirations;
	if (queue->fd >= 0 && read(queue->fd, &expirations, sizeof(expirations)) < 0)
		g_assert(errno == EAGAIN || errno == EINTR);
	if (!atomic_load_explicit(&queue->vm->clock_running, memory_order_acquire) &&
	    !(queue->vm->accel_caps & ACCEL_NO_CPU))
		return;
	int64_t now = vm_clock_ns(queue->vm);
	g_mutex_lock(&queue->lock);
	queue->host_deadline = -1;
	while (queue->armed->len > 0) {
		struct vm_timer *timer = queue->armed->pdata[0];
		if (timer->deadline_ns > now)
			break;
		remove_locked(queue, timer);
		g_mutex_unlock(&queue->lock);
		timer->fn(timer->opaque);
		g_mutex_lock(&queue->lock);
	}
	rearm_locked(queue);
	g_mutex_unlock(&queue->lock);
}
