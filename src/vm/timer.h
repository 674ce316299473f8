/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Timers on the machine's virtual clock, which counts nanoseconds and stands still while the
 * machine is paused. A queue is served either by the main loop (a timerfd) or by a vCPU's own
 * thread (a POSIX timer that signals that thread), so that a local APIC's timer needs no other
 * thread.
 */

struct vm;
struct vcpu;
struct timer_queue;

typedef void vm_timer_fn(void *opaque);

struct vm_timer {
	struct timer_queue *queue;
	vm_timer_fn
		*fn; /* called with the machine lock held (main queue) or with none (a vCPU's) */
	void *opaque;
	int64_t deadline_ns;
	bool armed;
};

/* Virtual time in ns since the machine was made. Any thread. */
int64_t vm_clock_ns(struct vm *vm);
/* Host time of day in ns since 1970 plus the machine's RTC offset. */
int64_t vm_rtc_ns(struct vm *vm);

void vm_timer_init(struct vm_timer *timer, struct vm *vm, vm_timer_fn *fn, void *opaque);
void vcpu_timer_init(struct vm_timer *timer, struct vcpu *vcpu, vm_timer_fn *fn, void *opaque);
/* (Re)arms for an absolute virtual time; in the past fires at once. Any thread. */
void vm_timer_arm(struct vm_timer *timer, int64_t deadline_ns);
void vm_timer_cancel(struct vm_timer *timer);

/* --- For vm.c and vcpu.c --- */
struct timer_queue *timer_queue_new(struct vm *vm, struct vcpu *vcpu);
void timer_queue_free(struct timer_queue *queue);
/* Runs what is due. The main queue's caller holds the machine lock. */
void timer_queue_run(struct timer_queue *queue);
/* The clock went on or stopped: arms or disarms the host timer. */
void timer_queue_rearm(struct timer_queue *queue);
/* The deadline of the first timer, or INT64_MAX. */
int64_t timer_queue_deadline(struct timer_queue *queue);
/* The main queue's timerfd, for the main loop to poll. */
int timer_queue_fd(struct timer_queue *queue);
/* Ties a vCPU's queue to its thread: @signal is sent to @tid when the first timer is due. */
void timer_queue_attach(struct timer_queue *queue, int signal, int tid);
