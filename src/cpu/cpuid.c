// SPDX-License-Identifier: GPL-2.0-or-later
/* The processor model that CPUID shows: x86-64-v2 with the system features of a recent Intel server
 * part, and KVM's paravirtual leaves (Intel SDM 2, CPUID; Linux Documentation/virt/kvm/x86/cpuid).
 * One function per group of leaves; the same answers serve the CPUID instruction and KVM. */
#include <string.h>

#include "cpu/sys.h"

enum { EAX, EBX, ECX, EDX };

static const char brand[48] = "Lodge x86-64-v2 software processor";

/* --- Feature bits --- */

#define BIT(n) (UINT32_C(1) << (n))

enum {
	L1_OSXSAVE = 27, /* leaf 1 ECX, follows CR4.OSXSAVE */
};

/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2. */
static const uint32_t leaf1_edx = BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) |
				  BIT(8) | BIT(9) | BIT(11) | BIT(12) | BIT(13) | BIT(14) |
				  BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) |
				  BIT(25) | BIT(26);
/* SSE3 SSSE3 CX16 PCID SSE4.1 SSE4.2 x2APIC POPCNT TSC-deadline XSAVE RDRAND hypervisor. */
static const uint32_t leaf1_ecx = BIT(0) | BIT(9) | BIT(13) | BIT(17) | BIT(19) | BIT(20) |
				  BIT(21) | BIT(23) | BIT(24) | BIT(26) | BIT(30) | BIT(31);
/* FSGSBASE TSC_ADJUST SMEP ERMS INVPCID RDSEED SMAP. */
static const uint32_t leaf7_ebx = BIT(0) | BIT(1) | BIT(7) | BIT(9) | BIT(10) | BIT(18) | BIT(20);
/* UMIP RDPID. */
static const uint32_t leaf7_ecx = BIT(2) | BIT(22);
/* FSRM; with mitigations to report: IBRS/IBPB STIBP L1D_FLUSH ARCH_CAPABILITIES SSBD. */
static const uint32_t leaf7_edx = BIT(4);
static const uint32_t leaf7_edx_mitigations = BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(31);
/* LAHF; SYSCALL NX PDPE1GB RDTSCP LM. */
static const uint32_t ext1_ecx = BIT(0);
static const uint32_t ext1_edx = BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29);
/* CLOCKSOURCE NOP_IO_DELAY CLOCKSOURCE2 PV_UNHALT PV_SEND_IPI CLOCKSOURCE_STABLE. */
static const uint32_t kvm_features = BIT(0) | BIT(1) | BIT(3) | BIT(7) | BIT(11) | BIT(24);

/* --- Topology: one core, one thread, all in one package --- */

static uint32_t cpu_count(const struct cpu_model *model)
{
	return model->cpu_count ? model->cpu_count : 1;
}

/* Bits of the APIC id that tell the cores apart. */
static uint32_t core_bits(const struct cpu_model *model)
{
	uint32_t bits = 0;

	while (UINT32_C(1) << bits < cpu_count(model))
		bits++;
	return bits;
}

/* --- Leaves --- */

static void leaf_vendor(uint32_t max, uint32_t regs[4])
{
	regs[EAX] = max;
	memcpy(&regs[EBX], "Genu", 4);
	memcpy(&regs[EDX], "ineI", 4);
	memcpy(&regs[ECX], "ntel", 4);
}

static void leaf_features(const struct cpu_model *model, uint32_t regs[4])
{
	uint32_t count = cpu_count(model);

	regs[EAX] = CPU_SIGNATURE;
	regs[EBX] = 8 << 8 | MIN(count, 255) << 16 | (model->apic_id & 0xff) << 24;
	regs[ECX] = leaf1_ecx;
	regs[EDX] = leaf1_edx | (count > 1 ? BIT(28) : 0);
}

struct cache {
	uint8_t level, type; /* 1 data, 2 instruction, 3 unified */
	uint16_t ways;
	uint32_t sets;
	bool shared;
};

static const struct cache caches[] = {
	{1, 1, 12, 64, false},
	{1, 2, 8, 64, false},
	{2, 3, 16, 2048, false},
	{3, 3, 16, 16384, true},
};

static void leaf_cache(const struct cpu_model *model, uint32_t subleaf, uint32_t regs[4])
{
	const struct cache *cache;
	uint32_t cores = (UINT32_C(1) << core_bits(model)) - 1;

	if (subleaf >= G_N_ELEMENTS(caches))
		return;
	cache = &caches[subleaf];
	regs[EAX] = cache->type | (uint32_t)cache->level << 5 | BIT(8) |
		    (cache->shared ? MIN(cores, 0xfff) << 14 : 0) | MIN(cores, 0x3f) << 26;
	regs[EBX] = 63 | (uint32_t)(cache->ways - 1) << 22;
	regs[ECX] = cache->sets - 1;
	regs[EDX] = 0;
}

static void leaf_extended_features(const struct cpu_model *model, uint32_t regs[4])
{
	regs[EBX] = leaf7_ebx;
	regs[ECX] = leaf7_ecx;
	regs[EDX] = leaf7_edx | (model->hide_mitigations ? 0 : leaf7_edx_mitigations);
}

static void leaf_topology(const struct cpu_model *model, uint32_t subleaf, uint32_t regs[4])
{
	regs[ECX] = subleaf & 0xff;
	regs[EDX] = model->apic_id;
	if (subleaf == 0) { /* threads of a core */
		regs[EBX] = 1;
		regs[ECX] |= 1 << 8;
	} else if (subleaf == 1) { /* cores of the package */
		regs[EAX] = core_bits(model);
		regs[EBX] = cpu_count(model);
		regs[ECX] |= 2 << 8;
	}
}

static void leaf_xsave(uint32_t subleaf, uint32_t regs[4])
{
	if (subleaf == 0) { /* x87 and SSE: the legacy area and the header */
		regs[EAX] = 3;
		regs[EBX] = 576;
		regs[ECX] = 576;
	} else if (subleaf == 1) {
		regs[EAX] = BIT(0) | BIT(1) | BIT(2); /* XSAVEOPT XSAVEC XGETBV(1) */
		regs[EBX] = 576;
	}
}

/* TSC = crystal * EBX / EAX. The crystal is what the APIC timer counts at. */
static void leaf_tsc(const struct cpu_model *model, uint32_t regs[4])
{
	uint64_t crystal = model->apic_timer_hz, tsc = model->tsc_hz, a, b;

	if (!crystal || !tsc || crystal > UINT32_MAX)
		return;
	for (a = crystal, b = tsc; b;) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	if (tsc / a > UINT32_MAX)
		return;
	regs[EAX] = crystal / a;
	regs[EBX] = tsc / a;
	regs[ECX] = crystal;
}

static void leaf_frequency(const struct cpu_model *model, uint32_t regs[4])
{
	uint32_t mhz = (model->tsc_hz + 500000) / 1000000;

	regs[EAX] = mhz;
	regs[EBX] = mhz;
	regs[ECX] = 100;
}

static void leaf_basic(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
		       uint32_t regs[4])
{
	switch (leaf) {
	case 0:
		leaf_vendor(0x16, regs);
		break;
	case 1:
		leaf_features(model, regs);
		break;
	case 2: /* "see leaf 4" for caches, and for TLBs leaf 0x18, which is absent */
		regs[EAX] = 0x00feff01;
		break;
	case 4:
		leaf_cache(model, subleaf, regs);
		break;
	case 6:
		regs[EAX] = BIT(2); /* the APIC timer never stops */
		break;
	case 7:
		if (subleaf == 0)
			leaf_extended_features(model, regs);
		break;
	case 0xb:
		leaf_topology(model, subleaf, regs);
		break;
	case 0xd:
		leaf_xsave(subleaf, regs);
		break;
	case 0x15:
		leaf_tsc(model, regs);
		break;
	case 0x16:
		leaf_frequency(model, regs);
		break;
	default: /* 5, 9, 0xa, 0xf, 0x12...: absent features */
		break;
	}
}

static void leaf_extended(const struct cpu_model *model, uint32_t leaf, uint32_t regs[4])
{
	switch (leaf & 0xffff) {
	case 0:
		regs[EAX] = 0x80000008;
		break;
	case 1:
		regs[ECX] = ext1_ecx;
		regs[EDX] = ext1_edx;
		break;
	case 2:
	case 3:
	case 4:
		memcpy(regs, brand + ((leaf & 7) - 2) * 16, 16);
		break;
	case 6: /* L2: 2 MiB, 16 ways, 64-byte lines */
		regs[ECX] = 2048u << 16 | 8u << 12 | 64;
		break;
	case 7:
		regs[EDX] = BIT(8); /* invariant TSC */
		break;
	case 8:
		regs[EAX] = (model->phys_bits ? model->phys_bits : 40) | 48 << 8;
		break;
	default:
		break;
	}
}

static void leaf_kvm(uint32_t leaf, uint32_t regs[4])
{
	if (leaf == 0x40000000) {
		regs[EAX] = 0x40000001;
		memcpy(&regs[EBX], "KVMK", 4);
		memcpy(&regs[ECX], "VMKV", 4);
		memcpy(&regs[EDX], "M\0\0", 4);
	} else {
		regs[EAX] = kvm_features;
	}
}

static void hide_features(const struct cpu_hidden_features *hidden, uint32_t leaf, uint32_t subleaf,
			  uint32_t regs[4])
{
	if (leaf == 1) {
		regs[ECX] &= ~hidden->leaf1_ecx;
		regs[EDX] &= ~hidden->leaf1_edx;
	} else if (leaf == 7 && subleaf == 0) {
		regs[EBX] &= ~hidden->leaf7_ebx;
		regs[ECX] &= ~hidden->leaf7_ecx;
		regs[EDX] &= ~hidden->leaf7_edx;
	} else if (leaf == 0xd && subleaf == 1) {
		regs[EAX] &= ~hidden->d1_eax;
	} else if (leaf == 0x80000001) {
		regs[ECX] &= ~hidden->x_ecx;
		regs[EDX] &= ~hidden->x_edx;
	}
}

void cpu_model_cpuid(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
		     uint32_t regs[4])
{
	memset(regs, 0, 4 * sizeof(regs[0]));
	if (leaf >= 0x40000000 && leaf <= 0x400000ff) {
		if (leaf <= 0x40000001 && !model->hide_kvm)
			leaf_kvm(leaf, regs);
	} else if (leaf >= 0x80000000 && leaf <= 0x80000008) {
		leaf_extended(model, leaf, regs);
	} else {
		/* Beyond the last leaf Intel answers as for the last. */
		leaf_basic(model, MIN(leaf, 0x16), subleaf, regs);
	}
	hide_features(&model->hidden, leaf, subleaf, regs);
}

bool cpu_model_leaf(const struct cpu_model *model, unsigned index, uint32_t *leaf,
		    uint32_t *subleaf)
{
	static const struct {
		uint32_t leaf, subleaves;
	} list[] = {
		{0, 1},          {1, 1},          {2, 1},          {4, 5},          {5, 1},
		{6, 1},          {7, 1},          {0xa, 1},        {0xb, 3},        {0xd, 2},
		{0x15, 1},       {0x16, 1},       {0x80000000, 1}, {0x80000001, 1}, {0x80000002, 1},
		{0x80000003, 1}, {0x80000004, 1}, {0x80000005, 1}, {0x80000006, 1}, {0x80000007, 1},
		{0x80000008, 1}, {0x40000000, 1}, {0x40000001, 1},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(list); i++) {
		if (model->hide_kvm && (list[i].leaf >> 28) == 4)
			break; /* they come last */
		if (index < list[i].subleaves) {
			*leaf = list[i].leaf;
			*subleaf = index;
			return true;
		}
		index -= list[i].subleaves;
	}
	return false;
}

/* Whether the local APIC is switched on in its base MSR; without one there is none to hide. */
static bool apic_is_on(struct cpu *cpu)
{
	uint64_t base = 0;
	bool known;

	bus_begin(cpu);
	known = cpu->bus->msr_read && cpu->bus->msr_read(cpu->opaque, 0x1b, &base);
	bus_end(cpu);
	return !known || (base & 0x800);
}

void cpuid_dynamic(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	cpu_model_cpuid(&cpu->model, leaf, subleaf, regs);
	if (leaf == 1 && !apic_is_on(cpu))
		regs[EDX] &= ~(uint32_t)BIT(9);
	if (leaf == 1 && (cpu->cr4 & CR4_OSXSAVE))
		regs[ECX] |= BIT(L1_OSXSAVE);
}
