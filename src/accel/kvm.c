// SPDX-License-Identifier: GPL-2.0-or-later
/* The accelerator on /dev/kvm (Linux Documentation/virt/kvm/api.rst), with interrupt controllers
 * and PIT in the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "accel/kvm-internal.h"
#include "base/error.h"

#define KVM_PATH             "/dev/kvm"
#define KVM_TSS_ADDRESS      0xfffbd000ul
#define KVM_IDENTITY_ADDRESS 0xfffbc000ull

/* --- The device --- */

static bool explain_refusal(int err, GError **error)
{
	struct stat st;
	if (err == ENOENT)
		return error_set(error, LODGE_ERROR_SYSTEM,
				 "this host has no " KVM_PATH " (no VT-x or AMD-V, or its kernel "
				 "module is not loaded): use --accel soft");
	if (err != EACCES || stat(KVM_PATH, &st) < 0)
		return error_set_errno(error, err, "cannot open " KVM_PATH);
	struct group *group = getgrgid(st.st_gid);
	struct passwd *self = getpwuid(geteuid());
	if (st.st_gid == 0 || (st.st_mode & 060) != 060)
		return error_set(error, LODGE_ERROR_SYSTEM,
				 "no permission to open " KVM_PATH
				 ", and no group has it: as root run `chgrp kvm " KVM_PATH
				 " && chmod 660 " KVM_PATH "`, or use --accel soft");
	return error_set(error, LODGE_ERROR_SYSTEM,
			 "no permission to open " KVM_PATH ", which group %s has: run `adduser %s "
			 "%s` and log in again, or use --accel soft",
			 group ? group->gr_name : "?", self ? self->pw_name : "USER",
			 group ? group->gr_name : "kvm");
}

int kvm_device_open(GError **error)
{
	int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		explain_refusal(errno, error);
		return -1;
	}
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version == KVM_API_VERSION)
		return fd;
	error_set(error, LODGE_ERROR_UNSUPPORTED,
		  KVM_PATH " speaks version %d of its interface, not %d", version, KVM_API_VERSION);
	close(fd);
	return -1;
}

struct kvm_cpuid2 *kvm_supported_cpuid(int kvm_fd)
{
	for (unsigned n = 64; n <= 4096; n *= 2) {
		struct kvm_cpuid2 *list =
			g_malloc0(sizeof(*list) + n * sizeof(struct kvm_cpuid_entry2));
		list->nent = n;
		if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, list) == 0)
			return list;
		g_free(list);
		if (errno != E2BIG)
			break;
	}
	return NULL;
}

/* --- What it must have --- */

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
	{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
	{KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
	{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
	{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
	{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
	{KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

static bool check_needed(int kvm_fd, GError **error)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)needed[i].cap) <= 0)
			return error_set(error, LODGE_ERROR_UNSUPPORTED,
					 "this host's KVM lacks %s: Linux 4.12 or later on x86 is "
					 "needed, or use --accel soft",
					 needed[i].name);
	}
	return true;
}

/* APIC ids as the guest sees them, in saved registers and in messages, and more than 8 bits of
 * them. Older kernels without it do for up to 255 processors. */
static void enable_wide_ids(const struct kvm_vm *kvm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X2APIC_API,
		.args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
	ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap);
}

static void kvm_close(struct vm *vm)
{
	struct kvm_vm *kvm = kvm_of(vm);
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->kvm_fd >= 0)
		close(kvm->kvm_fd);
	g_free(kvm->supported);
	g_free(kvm->routing);
	g_mutex_clear(&kvm->resume_lock);
	g_free(kvm);
	vm->accel_data = NULL;
}

static bool create_machine(struct vm *vm, struct kvm_vm *kvm, GError **error)
{
	uint64_t identity = KVM_IDENTITY_ADDRESS;
	do {
		kvm->vm_fd = ioctl(kvm->kvm_fd, KVM_CREATE_VM, 0);
	} while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return error_set_errno(error, errno, "KVM cannot create a machine");
	kvm->run_size = (size_t)ioctl(kvm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	kvm->supported = kvm_supported_cpuid(kvm->kvm_fd);
	if (!kvm->supported)
		return error_set_errno(error, errno, "KVM does not tell its CPUID");
	if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
	    ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_ADDRESS) < 0)
		return error_set_errno(error, errno, "KVM refuses the place of its own pages");
	enable_wide_ids(kvm);
	return kvm_chips_create(vm, error);
}

static bool kvm_open(struct vm *vm, GError **error)
{
	struct kvm_vm *kvm = g_new0(struct kvm_vm, 1);
	kvm->vm_fd = kvm->kvm_fd = -1;
	vm->accel_data = kvm;
	kvm->kvm_fd = kvm_device_open(error);
	g_mutex_init(&kvm->resume_lock);
	if (kvm->kvm_fd >= 0 && check_needed(kvm->kvm_fd, error) && create_machine(vm, kvm, error))
		return true;
	kvm_close(vm);
	return false;
}

/* --- Memory --- */

static bool set_region(struct vm *vm, const struct ram_mapping *m, uint64_t size, bool log,
		       GError **error)
{
	struct kvm_userspace_memory_region region = {
		.slot = (uint32_t)m->slot,
		.flags = (m->readonly ? KVM_MEM_READONLY : 0u) |
			 (log ? KVM_MEM_LOG_DIRTY_PAGES : 0u),
		.guest_phys_addr = m->gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)(m->ram->host + m->offset),
	};
	if (ioctl(kvm_of(vm)->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0)
		return true;
	return error_set_errno(error, errno, "KVM refuses guest memory at 0x%" PRIx64, m->gpa);
}

static bool kvm_map(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	return set_region(vm, mapping, mapping->size, false, error);
}

static void kvm_unmap(struct vm *vm, struct ram_mapping *mapping)
{
	set_region(vm, mapping, 0, false, NULL);
}

static bool kvm_log_start(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	return set_region(vm, mapping, mapping->size, true, error);
}

static void kvm_log_stop(struct vm *vm, struct ram_mapping *mapping)
{
	set_region(vm, mapping, mapping->size, false, NULL);
}

static bool kvm_log_sync(struct vm *vm, struct ram_mapping *mapping, GError **error)
{
	uint64_t pages = mapping->size / 4096;
	g_autofree uint64_t *bitmap = g_new0(uint64_t, (pages + 63) / 64);
	struct kvm_dirty_log log = {.slot = (uint32_t)mapping->slot, .dirty_bitmap = bitmap};
	if (ioctl(kvm_of(vm)->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0)
		return error_set_errno(error, errno, "KVM does not give its dirty log");
	uint64_t first = mapping->offset / 4096;
	for (uint64_t i = 0; i < pages; i++) {
		if (bitmap[i / 64] >> (i % 64) & 1)
			__atomic_fetch_or(&mapping->ram->dirty[(first + i) / 64],
					  UINT64_C(1) << ((first + i) % 64), __ATOMIC_RELAXED);
	}
	return true;
}

/* Fetching the log has already write-protected the pages again. */
static void kvm_log_rearm(struct vm *vm, struct ram_mapping *mapping)
{
}

static const struct accel_memory_ops kvm_memory_ops = {
	.log_start = kvm_log_start,
	.log_stop = kvm_log_stop,
	.log_sync = kvm_log_sync,
	.log_rearm = kvm_log_rearm,
};

/* --- Processors --- */

static void kvm_vcpu_close(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	if (k->run)
		munmap(k->run, kvm_of(vcpu->vm)->run_size);
	if (k->fd >= 0)
		close(k->fd);
	g_free(k);
	vcpu->accel_data = NULL;
}

static bool kvm_vcpu_open(struct vcpu *vcpu, GError **error)
{
	struct kvm_vm *kvm = kvm_of(vcpu->vm);
	struct kvm_vcpu *k = g_new0(struct kvm_vcpu, 1);
	vcpu->accel_data = k;
	int max = ioctl(kvm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	k->fd = -1;
	if (max > 0 && vcpu->index >= (unsigned)max) {
		kvm_vcpu_close(vcpu);
		return error_set(error, LODGE_ERROR_UNSUPPORTED,
				 "KVM on this host gives a guest at the most %d processors", max);
	}
	k->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->index);
	bool ok = k->fd >= 0 ||
		  error_set_errno(error, errno, "KVM cannot create processor %u", vcpu->index);
	if (ok) {
		void *run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
		ok = run != MAP_FAILED ||
		     error_set_errno(error, errno, "cannot map KVM's processor page");
		k->run = ok ? run : NULL;
	}
	if (ok && kvm_set_cpuid(vcpu, error))
		return true;
	kvm_vcpu_close(vcpu);
	return false;
}

static void kvm_kick(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	int tid = atomic_load(&vcpu->tid);
	__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (tid && vcpu_current() != vcpu)
		syscall(SYS_tgkill, getpid(), tid, SIGRTMIN + 1);
}

static void handle_io(struct vcpu *vcpu, const struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)(uintptr_t)run + run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			uint32_t value = 0;
			memcpy(&value, data, run->io.size);
			vcpu_port_write(vcpu, run->io.port, value, run->io.size);
		} else {
			uint64_t value = vcpu_port_read(vcpu, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		}
	}
}

static void handle_mmio(struct vcpu *vcpu, struct kvm_run *run)
{
	uint64_t value = 0;
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, MIN(run->mmio.len, 8));
		vcpu_mmio_write(vcpu, run->mmio.phys_addr, value, run->mmio.len);
	} else {
		value = vcpu_mmio_read(vcpu, run->mmio.phys_addr, run->mmio.len);
		memcpy(run->mmio.data, &value, MIN(run->mmio.len, 8));
	}
}

/* KVM cannot go on: another accelerator may, or the machine ends with a dump. */
static enum vcpu_exit give_up(struct vcpu *vcpu, const char *what)
{
	const struct accel_ops *fallback = vcpu->vm->fallback;
	g_autofree char *where = kvm_describe_instruction(vcpu);
	if (fallback) {
		g_autofree char *text = g_strdup_printf(
			"from here on the accelerator is %s, not kvm: KVM cannot go on (%s) at %s",
			fallback->name, what, where);
		vm_request_handover(vcpu->vm, text);
		return VCPU_EXIT_HANDOVER;
	}
	g_autofree char *text = g_strdup_printf("KVM cannot go on (%s) at %s", what, where);
	vm_report_internal_error(vcpu->vm, text);
	return VCPU_EXIT_ERROR;
}

static void set_tsc(struct vcpu *vcpu)
{
	uint64_t offset = (uint64_t)vcpu->vm->tsc_offset;
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uintptr_t)&offset};
	if (ioctl(k->fd, KVM_SET_DEVICE_ATTR, &attr) < 0) /* before Linux 5.16 */
		kvm_msr_set(k->fd, 0x10, vm_tsc(vcpu->vm));
}

/* The machine starts, or starts again: the guest's TSC goes on from where it stood, and so do the
 * timers that hang on it. Each vCPU does its own; the first one what they share. */
static void resume_time(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct kvm_vm *kvm = kvm_of(vcpu->vm);
	k->tsc_set = true;
	k->tsc_offset = vcpu->vm->tsc_offset;
	set_tsc(vcpu);
	g_mutex_lock(&kvm->resume_lock);
	if (!kvm->resumed || kvm->resume_offset != k->tsc_offset)
		kvm_chips_resume(vcpu->vm);
	kvm->resumed = true;
	kvm->resume_offset = k->tsc_offset;
	g_mutex_unlock(&kvm->resume_lock);
	kvm_lapic_resume(vcpu);
}

/* What KVM_EXIT_INTERNAL_ERROR says. */
static const char *internal_error_name(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "emulation failure";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "exceptions that met";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an exit while an event was delivered";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "an exit that it does not know";
	default:
		return "an internal error";
	}
}

static enum vcpu_exit handle_failure(struct vcpu *vcpu, const struct kvm_run *run)
{
	g_autofree char *text = NULL;
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		return give_up(vcpu, internal_error_name(run->internal.suberror));
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		text = g_strdup_printf(
			"the processor refused to enter the guest, reason 0x%" PRIx64,
			(uint64_t)run->fail_entry.hardware_entry_failure_reason);
	else
		text = g_strdup_printf("exit reason %u", run->exit_reason);
	return give_up(vcpu, text);
}

static enum vcpu_exit handle_system_event(struct vcpu *vcpu, const struct kvm_run *run)
{
	switch (run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_request_shutdown(vcpu->vm, "guest-shutdown");
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_request_reset(vcpu->vm, "guest-reset");
		break;
	case KVM_SYSTEM_EVENT_CRASH:
		vm_request_panic(vcpu->vm, "guest-panic");
		break;
	default:
		return handle_failure(vcpu, run);
	}
	return VCPU_EXIT_KICK;
}

static enum vcpu_exit kvm_run_vcpu(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct kvm_run *run = k->run;
	if (!k->tsc_set || k->tsc_offset != vcpu->vm->tsc_offset)
		resume_time(vcpu);
	for (;;) {
		int ret = ioctl(k->fd, KVM_RUN, 0);
		if (ret < 0 && errno == EINTR) {
			__atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			return VCPU_EXIT_KICK;
		}
		if (ret < 0 && errno == EAGAIN) /* an application processor got its SIPI */
			continue;
		if (ret < 0) {
			g_autofree char *text = g_strdup(g_strerror(errno));
			return give_up(vcpu, text);
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			handle_io(vcpu, run);
			break;
		case KVM_EXIT_MMIO:
			handle_mmio(vcpu, run);
			break;
		case KVM_EXIT_INTR:
			break;
		case KVM_EXIT_HLT:
			return VCPU_EXIT_HALT;
		case KVM_EXIT_SHUTDOWN:
			return VCPU_EXIT_SHUTDOWN;
		case KVM_EXIT_SYSTEM_EVENT:
			return handle_system_event(vcpu, run);
		default:
			return handle_failure(vcpu, run);
		}
	}
}

const struct accel_ops accel_kvm = {
	.name = "kvm",
	.caps = ACCEL_IRQCHIP | ACCEL_EVENTFDS,
	.open = kvm_open,
	.close = kvm_close,
	.map = kvm_map,
	.unmap = kvm_unmap,
	.vcpu_open = kvm_vcpu_open,
	.vcpu_close = kvm_vcpu_close,
	.run = kvm_run_vcpu,
	.kick = kvm_kick,
	.get_state = kvm_get_state,
	.set_state = kvm_set_state,
	.memory = &kvm_memory_ops,
	.irq = &kvm_irq_ops,
};
