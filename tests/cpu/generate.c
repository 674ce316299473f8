// SPDX-License-Identifier: GPL-2.0-or-later
// Makes test cases: every opcode of the four maps, with each prefix and each ModRM form, in an
// order that covers them all evenly; everything else (registers, operands, state) is random with a
// bias to interesting values. Zydis says what is an instruction and where its operands are.
#include "diff.h"

#include <Zydis/Zydis.h>
#include <string.h>

#define ATTRIBUTE_REP (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)

struct rng {
	uint64_t state;
};

static ZydisDecoder decoders[DIFF_MODES];
enum { POOL_SIZE = 1 << 17 };
static uint8_t pool[POOL_SIZE]; /* where the contents of the data pages come from */

static uint64_t next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static unsigned below(struct rng *rng, unsigned bound)
{
	return (unsigned)((next(rng) >> 32) * bound >> 32);
}

static bool one_in(struct rng *rng, unsigned n)
{
	return below(rng, n) == 0;
}

/* --- Values --- */

static uint64_t interesting(struct rng *rng)
{
	static const uint64_t values[] = {
		0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 0x7fff,
		0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
		0x8000000000000000, 0xffffffffffffffff, 0xfffffffffffffffe,
		/* doubles: 1, -1, max, min normal, denormal, inf, -inf, QNaN, SNaN, -0, 2^31, 2^63
		 */
		0x3ff0000000000000, 0xbff0000000000000, 0x7fefffffffffffff, 0x0010000000000000,
		0x000fffffffffffff, 0x0000000000000001, 0x7ff0000000000000, 0xfff0000000000000,
		0x7ff8000000000001, 0x7ff0000000000001, 0x41e0000000000000, 0x43e0000000000000,
		0x41dfffffffc00000, 0xc1e0000000000000,
		/* pairs of floats: the same */
		0x3f800000bf800000, 0x7f7fffff00800000, 0x007fffff00000001, 0x7f800000ff800000,
		0x7fc000017f800001, 0x800000004f000000, 0x5f000000cf000000, 0x3fc000003f000000};

	switch (below(rng, 8)) {
	case 0:
	case 1:
	case 2:
		return next(rng);
	case 3:
		return next(rng) >> below(rng, 64);
	case 4:
		return -(next(rng) >> below(rng, 64));
	case 5:
		return UINT64_C(1) << below(rng, 64);
	default:
		return values[below(rng, G_N_ELEMENTS(values))];
	}
}

/* An 80-bit value of each kind. */
static void extended(struct rng *rng, uint8_t *to)
{
	static const uint16_t exponents[] = {0,      1,      0x3ffe, 0x3fff, 0x4000, 0x3c01,
					     0x43fe, 0x3f81, 0x407e, 0x7ffe, 0x7fff, 0x403e};
	uint64_t mantissa = interesting(rng) | (one_in(rng, 8) ? 0 : UINT64_C(1) << 63);
	uint16_t exponent = exponents[below(rng, G_N_ELEMENTS(exponents))];

	if (one_in(rng, 2))
		exponent = (uint16_t)(0x3fff + below(rng, 128) - 64);
	if (one_in(rng, 8))
		mantissa = one_in(rng, 2) ? 0 : UINT64_C(1) << 63;
	if (one_in(rng, 2))
		exponent |= 0x8000;
	memcpy(to, &mantissa, 8);
	memcpy(to + 8, &exponent, 2);
}

static void fill_fx(struct rng *rng, uint8_t *fx)
{
	uint16_t fcw = (uint16_t)(0x7f | below(rng, 4) << 10 | below(rng, 4) << 8);
	uint16_t fsw = (uint16_t)(below(rng, 8) << 11 | below(rng, 16) << 8 % 16);
	uint32_t mxcsr = 0x1f80 | below(rng, 4) << 13;

	memset(fx, 0, 512);
	fsw &= 0x7f00;
	if (one_in(rng, 4))
		fcw = (uint16_t)((fcw & ~0x3f) | below(rng, 64));
	if (one_in(rng, 4))
		fsw |= (uint16_t)below(rng, 128);
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	if (one_in(rng, 2))
		mxcsr |= below(rng, 64);
	if (one_in(rng, 3))
		mxcsr |= (below(rng, 2) << 15) | (below(rng, 2) << 6);
	if (one_in(rng, 4))
		mxcsr = (mxcsr & ~0x1f80u) | below(rng, 64) << 7;
	memcpy(fx, &fcw, 2);
	memcpy(fx + 2, &fsw, 2);
	fx[4] = one_in(rng, 3) ? (uint8_t)next(rng) : 0xff;
	memcpy(fx + 24, &mxcsr, 4);
	for (unsigned i = 0; i < 8; i++)
		extended(rng, fx + 32 + 16 * i);
	for (unsigned i = 0; i < 32; i++) {
		uint64_t value = interesting(rng);
		memcpy(fx + 160 + 8 * i, &value, 8);
	}
}

void generate_init(void)
{
	struct rng rng = {1};

	ZydisDecoderInit(&decoders[DIFF_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&decoders[DIFF_32], ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
			 ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoders[DIFF_16], ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
			 ZYDIS_STACK_WIDTH_16);
	for (unsigned i = 0; i + 16 <= POOL_SIZE; i += 8) {
		uint64_t value = interesting(&rng);
		memcpy(pool + i, &value, 8);
		if (one_in(&rng, 8)) {
			extended(&rng, pool + i);
			i += 2;
		}
	}
}

/* --- Bytes --- */

/* How the systematic part numbers its forms. */
enum {
	MAPS = 4,
	OPCODES = 256,
	PREFIXES = 5,
	MODRM_FORMS = 16,
	FORMS = MAPS * OPCODES * PREFIXES * MODRM_FORMS
};

/* Writes one instruction's bytes (up to 15, random after what matters). */
static void make_bytes(struct rng *rng, enum diff_mode mode, uint64_t index, uint8_t *bytes,
		       bool sequence)
{
	static const uint8_t extra[] = {0x67, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0xf0, 0x66, 0x67};
	unsigned form = (unsigned)(index * 48271 % FORMS), n = 0;
	unsigned opcode = form % OPCODES, map = form / OPCODES % MAPS;
	unsigned prefix = form / OPCODES / MAPS % PREFIXES;
	unsigned modrm = form / OPCODES / MAPS / PREFIXES;

	for (unsigned i = 0; i < 15; i++)
		bytes[i] = (uint8_t)next(rng);
	if (one_in(rng, 8))
		bytes[n++] = extra[below(rng, G_N_ELEMENTS(extra))];
	if (prefix == 1 || prefix == 4)
		bytes[n++] = 0x66;
	if (prefix == 2 || (prefix == 4 && one_in(rng, 2)))
		bytes[n++] = 0xf3;
	if (prefix == 3)
		bytes[n++] = 0xf2;
	if (mode == DIFF_64 && one_in(rng, 2))
		bytes[n++] = (uint8_t)(0x40 | below(rng, 16));
	if (map > 0)
		bytes[n++] = 0x0f;
	if (map > 1)
		bytes[n++] = map == 2 ? 0x38 : 0x3a;
	bytes[n++] = (uint8_t)opcode;
	bytes[n] = (uint8_t)((modrm & 7) << 3 | below(rng, 8) |
			     (modrm & 8 ? 0xc0 : below(rng, 3) << 6));
	if (sequence && !(modrm & 8))
		bytes[n] = (uint8_t)((modrm & 7) << 3 | 5);
}

/* --- What is left out, and why --- */

static bool is_excluded(const ZydisDecodedInstruction *insn)
{
	switch (insn->mnemonic) {
	/* Results are not a function of the state, or differ between processors. */
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_RDPRU:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_RDPID:
	/* The host's kernel answers them, or they would change the host's thread for good. */
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_VMMCALL:
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_WRPKRU:
	case ZYDIS_MNEMONIC_RDPKRU:
	/* Depend on the descriptor tables of the host's kernel: see the guests in tests/cpu. */
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	/* State components: the host has others enabled than we have. */
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
	case ZYDIS_MNEMONIC_XGETBV:
	/* Without the extension these encodings are BSF and BSR. */
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_LZCNT:
	/* Its length differs between vendors. */
	case ZYDIS_MNEMONIC_UD0:
	/* The hypervisor below the host reports it with another RIP than the processor does. */
	case ZYDIS_MNEMONIC_INT1:
		return true;
	default:
		return false;
	}
}

/* Writes to segment registers: descriptor tables again. */
static bool writes_segment(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < insn->operand_count; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return true;
	return false;
}

/* Far transfers: descriptor tables once more. */
static bool is_far(const ZydisDecodedInstruction *insn)
{
	return insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
	       (insn->meta.category == ZYDIS_CATEGORY_RET && (insn->opcode & 0xfe) == 0xca);
}

/* Encodings that Intel and AMD take differently. */
static bool is_vendors_own(const ZydisDecodedInstruction *insn, uint64_t rflags)
{
	/* 0F 0D with a register: NOP for Intel, #UD for AMD. */
	if (insn->opcode_map == ZYDIS_OPCODE_MAP_0F && insn->opcode == 0x0d &&
	    insn->raw.modrm.mod == 3)
		return true;
	/* AMD lets F2 and F3 change the condition of LOOPE and LOOPNE. */
	if ((insn->mnemonic == ZYDIS_MNEMONIC_LOOPE || insn->mnemonic == ZYDIS_MNEMONIC_LOOPNE) &&
	    insn->raw.prefix_count > 0)
		return true;
	/* 66 MOVSXD: reads a word, or a doubleword. */
	if (insn->mnemonic == ZYDIS_MNEMONIC_MOVSXD && insn->operand_width == 16)
		return true;
	/* Alignment of bytes that are not written, since their mask is clear. */
	if ((insn->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
	     insn->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ) &&
	    (rflags & 0x40000))
		return true;
	/* Pushes of selectors: a word, or a word with zeros, which alignment checks tell apart. */
	return insn->meta.category == ZYDIS_CATEGORY_PUSH && (rflags & 0x40000);
}

static bool is_extension(const ZydisDecodedInstruction *insn)
{
	switch (insn->meta.isa_ext) {
	case ZYDIS_ISA_EXT_AES:
	case ZYDIS_ISA_EXT_PCLMULQDQ:
	case ZYDIS_ISA_EXT_SHA:
	case ZYDIS_ISA_EXT_SSE4A:
	case ZYDIS_ISA_EXT_MOVBE:
	case ZYDIS_ISA_EXT_ADOX_ADCX:
	case ZYDIS_ISA_EXT_CLWB:
	case ZYDIS_ISA_EXT_CLZERO:
	case ZYDIS_ISA_EXT_GFNI:
	case ZYDIS_ISA_EXT_MONITORX:
	case ZYDIS_ISA_EXT_MCOMMIT:
	case ZYDIS_ISA_EXT_SVM:
	case ZYDIS_ISA_EXT_SNP:
		return true;
	default:
		return insn->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	}
}

/* --- Operands --- */

struct target {
	struct diff_case *test;
	const ZydisDecodedInstruction *insn;
	struct rng *rng;
	uint8_t *bytes;
	uint32_t fixed;  /* registers whose value has been chosen for an address */
	uint64_t offset; /* of the instruction from the first */
	bool sequence;   /* more will follow: no operand at an edge */
};

static uint64_t segment_base(const struct target *t, ZydisRegister segment)
{
	if (segment == ZYDIS_REGISTER_FS)
		return native_fs_base();
	if (segment == ZYDIS_REGISTER_GS)
		return native_gs_base();
	if (t->test->mode == DIFF_16)
		return segment == ZYDIS_REGISTER_CS ? DIFF_CODE : DIFF_DATA - DIFF_PAGE;
	return 0;
}

static int register_number(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return -1;
	return ZydisRegisterGetId(reg);
}

static uint64_t truncate_address(uint64_t value, unsigned width)
{
	return width == 64 ? value : width == 32 ? (uint32_t)value : (uint16_t)value;
}

/* Where the operand is to be: mostly inside, often at an edge, now and then nowhere. */
static uint64_t choose_address(struct rng *rng, unsigned size, enum diff_mode mode, bool sequence)
{
	unsigned where = sequence ? 32 : below(rng, 64);
	uint64_t middle = DIFF_DATA + DIFF_PAGE, address;

	size = CLAMP(size, 1, 1024);
	if (where < 4) /* straddles the end, or just misses it */
		return DIFF_DATA + DIFF_DATA_SIZE - below(rng, 2 * size + 1);
	if (where < 6)
		return DIFF_DATA - below(rng, size + 1);
	if (where < 12)
		return middle - below(rng, size + 1);
	if (where == 12 && mode == DIFF_64)
		return UINT64_C(0x0000800000000000) + next(rng) % UINT64_C(0x7000000000000000);
	if (where == 13 && mode == DIFF_64)
		return UINT64_C(0x0000800000000000) - below(rng, size + 1);
	address = DIFF_DATA + size + below(rng, DIFF_DATA_SIZE - 2 * size);
	return where < 44 ? address & ~UINT64_C(63) : address;
}

static uint64_t operand_address(const struct target *t, const ZydisDecodedOperand *operand)
{
	const uint64_t *regs = t->test->start.regs;
	int base = register_number(operand->mem.base), index = register_number(operand->mem.index);
	uint64_t address =
		operand->mem.disp.has_displacement ? (uint64_t)operand->mem.disp.value : 0;

	if (operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP)
		address += t->test->start.rip + t->offset + t->insn->length;
	else if (base >= 0)
		address += truncate_address(regs[base], t->insn->address_width);
	if (index >= 0)
		address +=
			truncate_address(regs[index], t->insn->address_width) * operand->mem.scale;
	return segment_base(t, operand->mem.segment) +
	       truncate_address(address, t->insn->address_width);
}

static void patch_displacement(struct target *t, uint64_t value)
{
	unsigned size = t->insn->raw.disp.size;

	if (size == 32 || size == 64)
		memcpy(t->bytes + t->insn->raw.disp.offset, &value, size / 8);
}

static void aim_operand(struct target *t, const ZydisDecodedOperand *operand)
{
	uint64_t *regs = t->test->start.regs;
	int base = register_number(operand->mem.base), index = register_number(operand->mem.index);
	unsigned size = operand->size / 8;
	uint64_t wanted = choose_address(t->rng, size, t->test->mode, t->sequence);
	uint64_t offset = wanted - segment_base(t, operand->mem.segment);

	if (operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP) {
		patch_displacement(t, wanted - (t->test->start.rip + t->offset + t->insn->length));
		return;
	}
	if (operand->mem.disp.has_displacement)
		offset -= (uint64_t)operand->mem.disp.value;
	if (base < 0 && index < 0) {
		patch_displacement(t, wanted - segment_base(t, operand->mem.segment));
		return;
	}
	if (base >= 0 && index >= 0 && base != index && !(t->fixed >> base & 1)) {
		if (!(t->fixed >> index & 1) && one_in(t->rng, 2))
			regs[index] = below(t->rng, 256);
		offset -=
			truncate_address(regs[index], t->insn->address_width) * operand->mem.scale;
		regs[base] = offset;
		t->fixed |= 1u << base | 1u << index;
	} else if (base >= 0 && base != index && !(t->fixed >> base & 1)) {
		regs[base] = offset;
		t->fixed |= 1u << base;
	} else if (base >= 0 && base == index && !(t->fixed >> base & 1)) {
		regs[base] = offset / (1u + operand->mem.scale);
		t->fixed |= 1u << base;
	} else if (index >= 0 && base < 0 && !(t->fixed >> index & 1)) {
		regs[index] = offset / MAX(operand->mem.scale, 1);
		t->fixed |= 1u << index;
	}
}

/* Whether both sides see the same at @address: the test's pages, or nothing. */
static bool is_known(uint64_t address, unsigned size)
{
	uint64_t low = DIFF_DATA - DIFF_PAGE, high = DIFF_DATA + DIFF_DATA_SIZE + DIFF_PAGE;

	if (address >= low && address + size <= high && address + size >= address)
		return true;
	if (address + size <= 0x10000 && address + size >= address)
		return true;
	return address >= UINT64_C(0x0000800000000000) - 1024 &&
	       address < UINT64_C(0xfff0000000000000) && address + size >= address &&
	       !(address >= UINT64_C(0xffff800000000000) - 1024);
}

static void mask_register(uint64_t *reg, unsigned bits)
{
	*reg &= (UINT64_C(1) << bits) - 1;
}

/* Gives the registers values with which all memory operands are where we want them. */
static bool aim(struct target *t, const ZydisDecodedOperand *operands)
{
	uint64_t *regs = t->test->start.regs;
	bool bit_string =
		t->insn->mnemonic == ZYDIS_MNEMONIC_BT || t->insn->mnemonic == ZYDIS_MNEMONIC_BTS ||
		t->insn->mnemonic == ZYDIS_MNEMONIC_BTR || t->insn->mnemonic == ZYDIS_MNEMONIC_BTC;

	if (t->insn->attributes & ATTRIBUTE_REP) {
		mask_register(&regs[1], one_in(t->rng, 4) ? 2 : 6);
		t->fixed |= 2;
	}
	for (unsigned i = 0; i < t->insn->operand_count; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    operands[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			aim_operand(t, &operands[i]);
	if (bit_string && operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		int bit = register_number(operands[1].reg.value);
		if (t->fixed >> bit & 1)
			return false;
		/* Signed, and within some bytes of the operand. */
		regs[bit] = (uint64_t)((int64_t)below(t->rng, 1024) - 512);
	}
	return true;
}

static bool all_known(const struct target *t, const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < t->insn->operand_count; i++) {
		unsigned size = MAX(operands[i].size / 8, 1);
		if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    operands[i].mem.type == ZYDIS_MEMOP_TYPE_AGEN)
			continue;
		uint64_t address = operand_address(t, &operands[i]);
		if (!is_known(address, size) || !is_known(address - 512, size) ||
		    !is_known(address + 512, size))
			return false;
	}
	return true;
}

/* --- State --- */

static void fill_state(struct rng *rng, struct diff_case *test)
{
	struct diff_state *s = &test->start;
	unsigned count = test->mode == DIFF_64 ? 16 : 8;

	for (unsigned i = 0; i < 16; i++) {
		s->regs[i] = i < count ? interesting(rng) : 0;
		if (test->mode != DIFF_64)
			s->regs[i] = (uint32_t)s->regs[i];
	}
	/* The registers that instructions use as pointers without saying so (ENTER, PUSHA). */
	s->regs[4] = DIFF_DATA + 1024 + (below(rng, DIFF_DATA_SIZE - 2048) & ~7u);
	s->regs[5] = DIFF_DATA + 1024 + (below(rng, DIFF_DATA_SIZE - 2048) & ~7u);
	if (test->mode == DIFF_16) {
		s->regs[4] -= DIFF_DATA - DIFF_PAGE;
		s->regs[5] -= DIFF_DATA - DIFF_PAGE;
	}
	test->warm = one_in(rng, 2);
	test->fs_base = native_fs_base();
	test->gs_base = native_gs_base();
	s->rip = test->mode == DIFF_16 ? 0x100 : DIFF_CODE + 0x100;
	s->rflags = 0x202 | (next(rng) & 0x8d5);
	if (one_in(rng, 16))
		s->rflags |= 0x400; /* DF */
	if (one_in(rng, 16))
		s->rflags |= 0x40000; /* AC */
	if (one_in(rng, 16))
		s->rflags |= 0x204000 & next(rng); /* NT, ID */
	fill_fx(rng, s->fx);
	test->data = pool + (below(rng, POOL_SIZE - DIFF_DATA_SIZE) & ~7u);
}

static uint32_t undefined_flags(const ZydisDecodedInstruction *insn)
{
	return insn->cpu_flags ? insn->cpu_flags->undefined & 0x8d5 : 0;
}

static void note_image(const struct target *t, const ZydisDecodedOperand *operands,
		       struct diff_traits *traits)
{
	switch (t->insn->mnemonic) {
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		traits->image_size = 512;
		break;
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FNSTENV:
		traits->image_size = t->insn->operand_width == 16 ? 14 : 28;
		break;
	default:
		return;
	}
	for (unsigned i = 0; i < t->insn->operand_count && !traits->image; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			traits->image = operand_address(t, &operands[i]);
}

static bool is_branch(const ZydisDecodedInstruction *insn)
{
	return insn->meta.category == ZYDIS_CATEGORY_COND_BR ||
	       insn->meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
	       insn->meta.category == ZYDIS_CATEGORY_CALL ||
	       insn->meta.category == ZYDIS_CATEGORY_RET;
}

/* Lets a branch go to an INT3 behind the instruction and the way back: a relative one by its
 * displacement, others by the register or the bytes in memory that hold the target. */
static bool arrange_branch(struct target *t, const ZydisDecodedOperand *operands)
{
	static uint8_t data[DIFF_DATA_SIZE];
	unsigned size = t->insn->raw.imm[0].size / 8;
	int32_t distance = 16 + (int32_t)below(t->rng, size == 1 ? 100 : 3000);
	uint64_t to = t->test->start.rip + (uint64_t)distance, at;

	/* The stack is not addressed by that prefix's size, as operand_address would have it. */
	if (t->insn->meta.category == ZYDIS_CATEGORY_RET &&
	    (t->insn->attributes & ZYDIS_ATTRIB_HAS_ADDRESSSIZE))
		return false;

	if (t->insn->raw.imm[0].is_relative) {
		memcpy(t->bytes + t->insn->raw.imm[0].offset, &distance, size);
		return true;
	}
	if (operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    operands[0].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
		t->test->start.regs[register_number(operands[0].reg.value)] = to;
		return register_number(operands[0].reg.value) != 4;
	}
	for (unsigned i = 0; i < t->insn->operand_count; i++) {
		if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_READ))
			continue;
		at = operand_address(t, &operands[i]) - DIFF_DATA;
		if (at > DIFF_DATA_SIZE - 8)
			return at >= DIFF_DATA_SIZE; /* faults, or is not all ours */
		memcpy(data, t->test->data, DIFF_DATA_SIZE);
		memcpy(data + at, &to, 8);
		t->test->data = data;
		return true;
	}
	return false;
}

/* #UD, which a processor may find before it has fetched the whole instruction. */
static bool is_refused(const ZydisDecodedInstruction *insn, const struct diff_traits *traits)
{
	return traits->extension || insn->mnemonic == ZYDIS_MNEMONIC_UD1 ||
	       insn->meta.isa_ext == ZYDIS_ISA_EXT_VTX ||
	       (insn->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED);
}

/* Now and then the instruction lies across two pages of code, or its end is missing. */
static void choose_place(struct rng *rng, struct diff_case *test, unsigned length)
{
	uint64_t end = (test->mode == DIFF_16 ? 0 : DIFF_CODE) + DIFF_PAGE;

	if (!one_in(rng, 32))
		return;
	if (one_in(rng, 2))
		end += DIFF_PAGE;
	test->start.rip = end - 1 - below(rng, length);
}

/* In a sequence, registers change before they are used: operands are found by displacement alone.
 * Flags must be defined, since a later instruction may use them. */
static bool fits_sequence(const struct target *t, const ZydisDecodedOperand *operands,
			  const struct diff_traits *traits)
{
	if (undefined_flags(t->insn) || traits->extension || traits->image_size ||
	    is_branch(t->insn) || t->insn->meta.category == ZYDIS_CATEGORY_INTERRUPT ||
	    t->insn->mnemonic == ZYDIS_MNEMONIC_POPF ||
	    (t->insn->attributes &
	     (ATTRIBUTE_REP | ZYDIS_ATTRIB_IS_PRIVILEGED | ZYDIS_ATTRIB_HAS_LOCK)) ||
	    t->insn->meta.category == ZYDIS_CATEGORY_IO)
		return false;
	for (unsigned i = 0; i < t->insn->operand_count; i++) {
		if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    operands[i].reg.value == ZYDIS_REGISTER_RSP)
			return false;
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    operands[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
		    (operands[i].mem.index != ZYDIS_REGISTER_NONE ||
		     (operands[i].mem.base != ZYDIS_REGISTER_NONE &&
		      operands[i].mem.base != ZYDIS_REGISTER_RIP)))
			return false;
	}
	return true;
}

static void note_freedom(const ZydisDecodedInstruction *insn, struct diff_traits *traits)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_FLD: /* of 80 bits */
	case ZYDIS_MNEMONIC_FSTP:
	case ZYDIS_MNEMONIC_FBLD:
	case ZYDIS_MNEMONIC_FBSTP:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		traits->free_order = true;
		break;
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		traits->free_registers = true;
		break;
	case ZYDIS_MNEMONIC_MASKMOVQ:
		traits->free_mmx_state = true;
		break;
	case ZYDIS_MNEMONIC_DPPS:
	case ZYDIS_MNEMONIC_DPPD:
		traits->free_flags = true;
		break;
	default:
		break;
	}
}

/* Chooses one instruction at the end of @test; false if it does not suit. */
static bool add_instruction(struct rng *rng, uint64_t index, struct diff_case *test,
			    struct diff_traits *traits, uint32_t *fixed, bool sequence)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct target t = {.test = test,
			   .insn = &insn,
			   .rng = rng,
			   .fixed = *fixed,
			   .bytes = test->bytes + test->length,
			   .offset = test->length,
			   .sequence = sequence};

	make_bytes(rng, test->mode, index, t.bytes, sequence);
	if (!ZYAN_SUCCESS(
		    ZydisDecoderDecodeFull(&decoders[test->mode], t.bytes, 15, &insn, operands)))
		return false;
	if (is_excluded(&insn) || is_vendors_own(&insn, test->start.rflags) ||
	    writes_segment(&insn, operands) || is_far(&insn))
		return false;
	traits->name = ZydisMnemonicGetString(insn.mnemonic);
	traits->undefined_flags |= undefined_flags(&insn);
	traits->extension = is_extension(&insn);
	if (!sequence && !is_branch(&insn) && !is_refused(&insn, traits))
		choose_place(rng, test, insn.length);
	if (sequence && !fits_sequence(&t, operands, traits))
		return false;
	if (!aim(&t, operands) || !all_known(&t, operands))
		return false;
	if (is_branch(&insn)) {
		if (test->mode == DIFF_64 && (insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE))
			return false; /* 16-bit displacement for AMD, 32-bit for Intel */
		if (!arrange_branch(&t, operands))
			return false;
	}
	for (unsigned i = 0; i < 16 && test->mode != DIFF_64; i++)
		test->start.regs[i] = (uint32_t)test->start.regs[i];
	note_freedom(&insn, traits);
	note_image(&t, operands, traits);
	test->repeats = insn.attributes & ATTRIBUTE_REP;
	test->length += insn.length;
	test->count++;
	*fixed = t.fixed;
	return true;
}

bool generate_case(uint64_t seed, uint64_t index, unsigned sequence, struct diff_case *test,
		   struct diff_traits *traits)
{
	struct rng seeder = {seed}, rng = {next(&seeder) ^ index * UINT64_C(0xd1342543de82ef95)};
	uint32_t fixed = 0;

	test->length = test->count = 0;
	*traits = (struct diff_traits){0};
	fill_state(&rng, test);
	if (!sequence)
		return add_instruction(&rng, index / DIFF_MODES, test, traits, &fixed, false);
	/* Unmasked exceptions would end most sequences early. */
	memcpy(test->start.fx, &(uint16_t){0x37f}, 2);
	memcpy(test->start.fx + 24, &(uint32_t){0x1f80}, 4);
	test->start.fx[2] = test->start.fx[3] = 0;
	test->start.rflags &= ~UINT64_C(0x40000);
	for (unsigned tries = 0; tries < 16 * sequence && test->count < sequence; tries++)
		add_instruction(&rng, next(&rng) >> 8, test, traits, &fixed, true);
	traits->name = "sequence";
	traits->undefined_flags = 0;
	traits->extension = false;
	test->repeats = false;
	return test->count > 0;
}
