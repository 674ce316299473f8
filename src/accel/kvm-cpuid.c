// SPDX-License-Identifier: GPL-2.0-or-later
/* CPUID under KVM. A guest that stays there sees the host's features as far as their state can be
 * carried; one that may move sees the software processor's model without what KVM lacks. */
#include <errno.h>
#include <string.h>

#include "accel/kvm-internal.h"
#include "base/error.h"

enum { EAX, EBX, ECX, EDX };

/* What KVM gives though its list of supported features does not say so: they come with its
 * interrupt controllers, and are always there with them. */
enum { L1_X2APIC = 1u << 21, L1_DEADLINE = 1u << 24, L1_HYPERVISOR = 1u << 31, L1_HTT = 1u << 28 };

static const struct kvm_cpuid_entry2 *find_supported(const struct kvm_cpuid2 *list, uint32_t leaf,
						     uint32_t subleaf)
{
	static const struct kvm_cpuid_entry2 none;
	for (uint32_t i = 0; i < list->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &list->entries[i];
		bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		if (e->function == leaf && (!indexed || e->index == subleaf))
			return e;
	}
	return &none;
}

/* Bits that no implementation can be asked for: they follow from the machine. */
static void find_lacking(const struct kvm_cpuid2 *list, struct cpu_hidden_features *hidden)
{
	const struct kvm_cpuid_entry2 *l1 = find_supported(list, 1, 0);
	const struct kvm_cpuid_entry2 *l7 = find_supported(list, 7, 0);
	const struct kvm_cpuid_entry2 *d1 = find_supported(list, 0xd, 1);
	const struct kvm_cpuid_entry2 *x = find_supported(list, 0x80000001, 0);
	hidden->leaf1_ecx = ~(l1->ecx | L1_X2APIC | L1_DEADLINE | L1_HYPERVISOR);
	hidden->leaf1_edx = ~(l1->edx | L1_HTT);
	hidden->leaf7_ebx = ~l7->ebx;
	hidden->leaf7_ecx = ~l7->ecx;
	hidden->leaf7_edx = ~l7->edx;
	hidden->d1_eax = ~d1->eax;
	hidden->x_ecx = ~x->ecx;
	hidden->x_edx = ~x->edx;
}

bool accel_kvm_lacks(struct cpu_hidden_features *hidden, GError **error)
{
	int fd = kvm_device_open(error);
	if (fd < 0)
		return false;
	g_autofree struct kvm_cpuid2 *list = kvm_supported_cpuid(fd);
	if (list)
		find_lacking(list, hidden);
	else
		error_set_errno(error, errno, "KVM does not tell its CPUID");
	close(fd);
	return list != NULL;
}

static void set_entry(struct kvm_cpuid_entry2 *e, const uint32_t regs[4])
{
	e->eax = regs[EAX];
	e->ebx = regs[EBX];
	e->ecx = regs[ECX];
	e->edx = regs[EDX];
}

static struct kvm_cpuid2 *model_cpuid(const struct cpu_model *model)
{
	enum { ENTRIES_MAX = 128 };
	struct kvm_cpuid2 *list =
		g_malloc0(sizeof(*list) + ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
	uint32_t leaf, subleaf, regs[4];
	for (unsigned i = 0; i < ENTRIES_MAX && cpu_model_leaf(model, i, &leaf, &subleaf); i++) {
		struct kvm_cpuid_entry2 *e = &list->entries[list->nent++];
		cpu_model_cpuid(model, leaf, subleaf, regs);
		*e = (struct kvm_cpuid_entry2){.function = leaf, .index = subleaf};
		set_entry(e, regs);
	}
	/* Leaves with several subleaves are told apart by their index. */
	for (uint32_t i = 0; i < list->nent; i++) {
		for (uint32_t j = 0; j < list->nent; j++) {
			if (i != j && list->entries[i].function == list->entries[j].function)
				list->entries[i].flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		}
	}
	return list;
}

/*
 * Features whose state struct cpu_state does not carry, so that a guest which is saved and restored
 * (or moved to another host) would lose it: nested virtualization, SGX, performance counters, MPX's
 * and CET's registers, WAITPKG's and TSX's control MSRs, AMX's tiles (beyond 4 KiB of XSAVE).
 */
static void hide_uncarried(struct kvm_cpuid_entry2 *e)
{
	enum { L1_VMX = 1u << 5, L1_PDCM = 1u << 15, X_SVM = 1u << 2, X_PERFCTR = 3u << 23 };
	enum { L7B_SGX = 1u << 2, L7B_TSX = 1u << 4 | 1u << 11, L7B_MPX = 1u << 14 };
	enum { L7B_PT = 1u << 25, L7C_WAITPKG = 1u << 5, L7C_CET_SS = 1u << 7 };
	enum { L7C_SGX_LC = 1u << 30, L7D_CET_IBT = 1u << 20, L7D_AMX = 7u << 22 };
	/* Clock (both pairs and its stability), I/O delay, unhalt, IPIs: no memory of their own. */
	enum { PV_CARRIED = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 7 | 1u << 11 | 1u << 24 };
	switch (e->function) {
	case 1:
		e->ecx &= ~(uint32_t)(L1_VMX | L1_PDCM);
		break;
	case 7:
		if (e->index == 0) {
			e->ebx &= ~(uint32_t)(L7B_SGX | L7B_TSX | L7B_MPX | L7B_PT);
			e->ecx &= ~(uint32_t)(L7C_WAITPKG | L7C_CET_SS | L7C_SGX_LC);
			e->edx &= ~(uint32_t)(L7D_CET_IBT | L7D_AMX);
		}
		break;
	case 0xa:
	case 0x12:
	case 0x14:
	case 0x1d:
	case 0x1e:
	case 0x8000000a:
	case 0x80000022:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0xd:
		if (e->index == 0)
			e->eax &= 0x2e7; /* x87 SSE AVX AVX-512 PKRU */
		else if (e->index == 1)
			e->ecx = e->edx = 0; /* no supervisor components */
		break;
	case 0x80000001:
		e->ecx &= ~(uint32_t)(X_SVM | X_PERFCTR);
		break;
	case 0x40000001:
		e->eax &= PV_CARRIED;
		break;
	default:
		break;
	}
}

/* What the host has, with the numbers that are this machine's. */
static struct kvm_cpuid2 *host_cpuid(const struct cpu_model *model,
				     const struct kvm_cpuid2 *supported)
{
	size_t size = sizeof(*supported) + supported->nent * sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid2 *list = g_memdup2(supported, size);
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 *e = &list->entries[i];
		uint32_t regs[4];
		hide_uncarried(e);
		if (e->function == 1) {
			e->ebx = (e->ebx & 0x0000ffff) | MIN(model->cpu_count, 255) << 16 |
				 model->apic_id << 24;
			e->ecx |= L1_HYPERVISOR | L1_X2APIC | L1_DEADLINE;
			e->edx |= model->cpu_count > 1 ? L1_HTT : 0;
		} else if (e->function == 4 && (e->eax & 31)) {
			e->eax = (e->eax & 0x3fff) | MIN(model->cpu_count - 1, 63) << 26;
		} else if (e->function == 0xb || e->function == 0x1f || e->function == 0x15 ||
			   e->function == 0x16) {
			cpu_model_cpuid(model, e->function == 0x1f ? 0xb : e->function, e->index,
					regs);
			set_entry(e, regs);
		}
	}
	return list;
}

bool kvm_set_cpuid(struct vcpu *vcpu, GError **error)
{
	struct kvm_vm *kvm = kvm_of(vcpu->vm);
	const struct cpu_model *shared = accel_model(vcpu->vm);
	struct cpu_model model = *shared;
	model.apic_id = vcpu->index;
	g_autofree struct kvm_cpuid2 *list =
		shared->movable ? model_cpuid(&model) : host_cpuid(&model, kvm->supported);
	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, list) < 0)
		return error_set_errno(error, errno, "KVM refuses the processor model");
	return true;
}
