// SPDX-License-Identifier: GPL-2.0-or-later
/* The thread of one virtual processor: run, sleep in HLT on a futex, stop when the machine stops.
 */
#include "vm/vcpu.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "vm/timer.h"
#include "vm/vm.h"

static _Thread_local struct vcpu *current_vcpu;

/* The signal of a vCPU's own timer, and the one that gets it out of a system call. */
static int vcpu_signal(void)
{
	return SIGRTMIN + 1;
}

struct vcpu *vcpu_current(void)
{
	return current_vcpu;
}

void vcpu_wake(struct vcpu *vcpu)
{
	atomic_fetch_add_explicit(&vcpu->wake, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&vcpu->sleeping, memory_order_seq_cst))
		syscall(SYS_futex, &vcpu->wake, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void vcpu_kick(struct vcpu *vcpu)
{
	vcpu->accel->kick(vcpu);
	vcpu_wake(vcpu);
}

static void on_signal(int signal)
{
	struct vcpu *vcpu = current_vcpu;
	int saved = errno;
	if (vcpu) {
		atomic_store_explicit(&vcpu->timer_fired, true, memory_order_release);
		/* Only this thread changes `running`. While it is off the accelerator may be in the
		 * middle of being exchanged. */
		if (vcpu->running)
			vcpu_kick(vcpu);
	}
	errno = saved;
}

static void sleep_halted(struct vcpu *vcpu)
{
	uint32_t seen = atomic_load_explicit(&vcpu->wake, memory_order_seq_cst);
	vcpu->stats.halts++;
	atomic_store_explicit(&vcpu->sleeping, 1, memory_order_seq_cst);
	const struct accel_local_ops *local = vcpu->accel->local;
	while (!atomic_load(&vcpu->stop_requested) && !atomic_load(&vcpu->timer_fired) &&
	       !(local && local->has_work(vcpu)) && atomic_load(&vcpu->wake) == seen)
		syscall(SYS_futex, &vcpu->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	atomic_store_explicit(&vcpu->sleeping, 0, memory_order_relaxed);
}

/* After an exit that this thread cannot go on from: wait until the machine is stopped. */
static void sleep_until_stopped(struct vcpu *vcpu)
{
	while (!atomic_load(&vcpu->stop_requested)) {
		uint32_t seen = atomic_load(&vcpu->wake);
		atomic_store(&vcpu->sleeping, 1);
		if (!atomic_load(&vcpu->stop_requested))
			syscall(SYS_futex, &vcpu->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
		atomic_store(&vcpu->sleeping, 0);
	}
}

static void run_until_stopped(struct vcpu *vcpu)
{
	while (!atomic_load_explicit(&vcpu->stop_requested, memory_order_acquire)) {
		if (atomic_exchange_explicit(&vcpu->timer_fired, false, memory_order_acq_rel))
			timer_queue_run(vcpu->timers);
		switch (vcpu->accel->run(vcpu)) {
		case VCPU_EXIT_KICK:
			vcpu->stats.kicks++;
			break;
		case VCPU_EXIT_HALT:
			sleep_halted(vcpu);
			break;
		case VCPU_EXIT_SHUTDOWN:
			if (vcpu->vm->no_reboot)
				vm_request_panic(vcpu->vm, "triple fault");
			else
				vm_request_reset(vcpu->vm, "guest-reset");
			sleep_until_stopped(vcpu);
			break;
		case VCPU_EXIT_HANDOVER:
		case VCPU_EXIT_ERROR:
			sleep_until_stopped(vcpu);
			break;
		}
	}
}

static void prepare_thread(struct vcpu *vcpu)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t set;
	current_vcpu = vcpu;
	atomic_store(&vcpu->tid, (int)syscall(SYS_gettid));
	sigaction(vcpu_signal(), &action, NULL);
	sigfillset(&set);
	sigdelset(&set, vcpu_signal());
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGILL);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	timer_queue_attach(vcpu->timers, vcpu_signal(), atomic_load(&vcpu->tid));
}

static gpointer vcpu_main(gpointer data)
{
	struct vcpu *vcpu = data;
	struct vm *vm = vcpu->vm;
	prepare_thread(vcpu);
	g_mutex_lock(&vm->run_mutex);
	while (!vcpu->exiting) {
		if (!vm->vcpus_may_run) {
			g_cond_wait(&vm->run_cond, &vm->run_mutex);
			continue;
		}
		vcpu->running = true;
		vm->vcpus_running++;
		g_mutex_unlock(&vm->run_mutex);
		run_until_stopped(vcpu);
		g_mutex_lock(&vm->run_mutex);
		vcpu->running = false;
		vm->vcpus_running--;
		g_cond_broadcast(&vm->run_cond);
		while (vm->vcpus_may_run && atomic_load(&vcpu->stop_requested) && !vcpu->exiting)
			g_cond_wait(&vm->run_cond, &vm->run_mutex);
	}
	g_mutex_unlock(&vm->run_mutex);
	return NULL;
}

struct vcpu *vcpu_new(struct vm *vm, unsigned index)
{
	struct vcpu *vcpu = g_new0(struct vcpu, 1);
	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->accel = vm->accel;
	vcpu->timers = timer_queue_new(vm, vcpu);
	return vcpu;
}

bool vcpu_launch(struct vcpu *vcpu, GError **error)
{
	g_autofree char *name = g_strdup_printf("vcpu%u", vcpu->index);
	if (vcpu->accel->caps & ACCEL_NO_CPU)
		return true;
	vcpu->thread = g_thread_try_new(name, vcpu_main, vcpu, error);
	return vcpu->thread != NULL;
}

void vcpu_stop_thread(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	if (!vcpu->thread)
		return;
	g_mutex_lock(&vm->run_mutex);
	vcpu->exiting = true;
	atomic_store(&vcpu->stop_requested, true);
	g_cond_broadcast(&vm->run_cond);
	g_mutex_unlock(&vm->run_mutex);
	vcpu_kick(vcpu);
	g_thread_join(vcpu->thread);
	vcpu->thread = NULL;
}

void vcpu_free(struct vcpu *vcpu)
{
	timer_queue_free(vcpu->timers);
	g_free(vcpu);
}

uint64_t vcpu_port_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	vcpu->stats.port_reads++;
	return vm_window_read(vcpu->vm, WINDOW_PORT, port, size);
}

void vcpu_port_write(struct vcpu *vcpu, uint16_t port, uint32_t value, unsigned size)
{
	vcpu->stats.port_writes++;
	vm_window_write(vcpu->vm, WINDOW_PORT, port, value, size);
}

uint64_t vcpu_mmio_read(struct vcpu *vcpu, uint64_t gpa, unsigned size)
{
	vcpu->stats.mmio_reads++;
	if (vcpu->intc) {
		uint64_t offset = gpa - vcpu->intc->mmio_base(vcpu->intc_data);
		if (offset < 0x1000)
			return vcpu->intc->mmio_read(vcpu->intc_data, offset, size);
	}
	return vm_window_read(vcpu->vm, WINDOW_MMIO, gpa, size);
}

void vcpu_mmio_write(struct vcpu *vcpu, uint64_t gpa, uint64_t value, unsigned size)
{
	vcpu->stats.mmio_writes++;
	if (vcpu->intc) {
		uint64_t offset = gpa - vcpu->intc->mmio_base(vcpu->intc_data);
		if (offset < 0x1000) {
			vcpu->intc->mmio_write(vcpu->intc_data, offset, value, size);
			return;
		}
	}
	vm_window_write(vcpu->vm, WINDOW_MMIO, gpa, value, size);
}
