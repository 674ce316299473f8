// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The probe guest: 64-bit supervisor code in 64 KiB of memory. It counts down a loop, whose time
 * tells whether the host's processor or KVM's instruction emulator runs ring 0, and then tries
 * instructions that every operating system uses. After each step it writes to a port of its own.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "accel/kvm-internal.h"

enum {
	PROBE_BYTES = 0x10000,
	LOOPS = 1000,
	LONG_LOOPS = 100000,
	AT_GDT = 0x1000,
	AT_CODE = 0x3000,
	AT_LONG_COUNT = AT_CODE + 14, /* the operand in the second step */
	AT_IRETQ = 0x3800,
	AT_HLT = 0x3900,
	AT_IDT = 0x4000,
	AT_DATA = 0x5000,
	AT_STACK = 0x7000,
	AT_TABLES = 0x8000
};
enum { PORT_LOOP_BEGIN = 0x7f, PORT_LOOP_END = 0x80, PORT_LONG_END = 0x88, PORT_DONE = 0xf4 };

/* Faster than any instruction emulator: the exits outweigh the short loop. */
#define FAST_MIPS 20.0

struct step {
	const char *name;
	uint8_t port; /* written when the step has been done */
	uint8_t length, code[10];
};

static const struct step steps[] = {
	{"a loop",
	 PORT_LOOP_END,
	 9,
	 {0xb9, LOOPS & 0xff, LOOPS >> 8, 0, 0, 0xff, 0xc9, 0x75, 0xfc}},
	/* Of one turn, or of many where the first loop was too quick for the clock. */
	{"a longer loop", PORT_LONG_END, 9, {0xb9, 1, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc}},
	{"INT3", 0x81, 1, {0xcc}},
	{"POPCNT", 0x82, 5, {0xf3, 0x48, 0x0f, 0xb8, 0xc0}},
	{"CMPXCHG16B", 0x83, 4, {0x48, 0x0f, 0xc7, 0x0e}},
	{"SWAPGS", 0x84, 3, {0x0f, 0x01, 0xf8}},
	{"FXSAVE", 0x85, 3, {0x0f, 0xae, 0x06}},
	{"PXOR", 0x86, 4, {0x66, 0x0f, 0xef, 0xc0}},
	{"the end", PORT_DONE, 1, {0x90}},
};

struct probe_vm {
	int kvm, vm, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_size;
};

static void put64(uint8_t *memory, unsigned at, uint64_t value)
{
	memcpy(memory + at, &value, sizeof(value));
}

static void write_program(uint8_t *memory)
{
	static const uint8_t iretq[] = {0x48, 0xcf};
	unsigned at = AT_CODE;
	memory[at++] = 0xe6;
	memory[at++] = PORT_LOOP_BEGIN;
	for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
		memcpy(memory + at, steps[i].code, steps[i].length);
		at += steps[i].length;
		memory[at++] = 0xe6; /* OUT port, AL */
		memory[at++] = steps[i].port;
	}
	memory[at] = 0xf4;
	memcpy(memory + AT_IRETQ, iretq, sizeof(iretq));
	memory[AT_HLT] = 0xf4;
	put64(memory, AT_GDT + 0x10, 0x00af9b000000ffff);
	put64(memory, AT_GDT + 0x18, 0x00cf93000000ffff);
	for (unsigned vector = 0; vector < 32; vector++) {
		uint64_t target = vector == 3 ? AT_IRETQ : AT_HLT;
		put64(memory, AT_IDT + 16 * vector, target | 0x10ull << 16 | 0x8e00ull << 32);
	}
	put64(memory, AT_TABLES, (AT_TABLES + 0x1000) | 3);
	put64(memory, AT_TABLES + 0x1000, (AT_TABLES + 0x2000) | 3);
	put64(memory, AT_TABLES + 0x2000, 0x83);
}

static bool set_registers(const struct probe_vm *p)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = AT_CODE, .rsp = AT_STACK, .rsi = AT_DATA, .rflags = 2};
	if (ioctl(p->vcpu, KVM_GET_SREGS, &s) < 0)
		return false;
	struct kvm_segment data = {.limit = UINT32_MAX,
				   .selector = 0x18,
				   .type = 3,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs = data;
	s.cs.selector = 0x10;
	s.cs.type = 11;
	s.cs.db = 0;
	s.cs.l = 1;
	s.gdt = (struct kvm_dtable){.base = AT_GDT, .limit = 0x1f};
	s.idt = (struct kvm_dtable){.base = AT_IDT, .limit = 0x1ff};
	s.cr0 = 0x80000013;
	s.cr3 = AT_TABLES;
	s.cr4 = 0x620;
	s.efer = 0x500;
	return ioctl(p->vcpu, KVM_SET_SREGS, &s) == 0 && ioctl(p->vcpu, KVM_SET_REGS, &r) == 0;
}

static bool give_cpuid(const struct probe_vm *p)
{
	enum { ENTRIES = 256 };
	g_autofree struct kvm_cpuid2 *list =
		g_malloc0(sizeof(*list) + ENTRIES * sizeof(struct kvm_cpuid_entry2));
	list->nent = ENTRIES;
	return ioctl(p->kvm, KVM_GET_SUPPORTED_CPUID, list) == 0 &&
	       ioctl(p->vcpu, KVM_SET_CPUID2, list) == 0;
}

static bool build(struct probe_vm *p)
{
	p->vm = ioctl(p->kvm, KVM_CREATE_VM, 0);
	if (p->vm < 0)
		return false;
	p->memory =
		mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->memory == MAP_FAILED) {
		p->memory = NULL;
		return false;
	}
	write_program(p->memory);
	struct kvm_userspace_memory_region region = {.memory_size = PROBE_BYTES,
						     .userspace_addr = (uintptr_t)p->memory};
	uint64_t identity = 0xfffbc000;
	ioctl(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	ioctl(p->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return false;
	p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
	p->run_size = (size_t)ioctl(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (p->vcpu < 0)
		return false;
	void *run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (run == MAP_FAILED)
		return false;
	p->run = run;
	return give_cpuid(p) && set_registers(p);
}

static double seconds_since(const struct timespec *start)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

/* Runs the guest; the number of steps that it did. */
static unsigned run_steps(const struct probe_vm *p, double *mips)
{
	static const uint32_t long_loops = LONG_LOOPS;
	struct timespec start = {0};
	unsigned done = 0;
	while (done < G_N_ELEMENTS(steps)) {
		if (ioctl(p->vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (p->run->exit_reason != KVM_EXIT_IO)
			break;
		if (p->run->io.port == PORT_LOOP_BEGIN) {
			clock_gettime(CLOCK_MONOTONIC, &start);
			continue;
		}
		if (p->run->io.port == PORT_LOOP_END) {
			*mips = 2.0 * LOOPS / seconds_since(&start) / 1e6;
			if (*mips > FAST_MIPS)
				memcpy(p->memory + AT_LONG_COUNT, &long_loops, sizeof(long_loops));
			clock_gettime(CLOCK_MONOTONIC, &start);
		} else if (p->run->io.port == PORT_LONG_END && *mips > FAST_MIPS) {
			*mips = 2.0 * LONG_LOOPS / seconds_since(&start) / 1e6;
		}
		done++;
	}
	return done;
}

void accel_probe_kvm(struct accel_probe *probe)
{
	g_autoptr(GError) error = NULL;
	struct probe_vm p = {.vm = -1, .vcpu = -1};
	*probe = (struct accel_probe){0};
	p.kvm = kvm_device_open(&error);
	if (p.kvm < 0) {
		probe->obstacle = g_strdup(error->message);
		return;
	}
	if (!build(&p)) {
		probe->obstacle =
			g_strdup_printf("KVM cannot make a machine: %s", g_strerror(errno));
	} else {
		unsigned done = run_steps(&p, &probe->ring0_mips);
		probe->usable = done == G_N_ELEMENTS(steps);
		if (!probe->usable)
			probe->obstacle = g_strdup_printf("KVM here does not run supervisor code "
							  "natively: %s failed (and it runs at "
							  "%.1f million instructions a second)",
							  steps[done].name, probe->ring0_mips);
	}
	if (p.run)
		munmap(p.run, p.run_size);
	if (p.vcpu >= 0)
		close(p.vcpu);
	if (p.vm >= 0)
		close(p.vm);
	if (p.memory)
		munmap(p.memory, PROBE_BYTES);
	close(p.kvm);
}
