// SPDX-License-Identifier: GPL-2.0-or-later
/* The instruction decoder: prefixes, opcode maps, ModRM, SIB, displacement and immediates (Intel
 * SDM 2A chapter 2 and 2D appendix A). One character per opcode says what follows it. */
#include "cpu/decode.h"

#include <string.h>

#include <glib.h>

#include "cpu/state.h"

/*
 * What follows an opcode:
 *   .  nothing                M  ModRM                    X  no such opcode
 *   s  imm8, sign-extended    u  imm8                     z  imm16/32, sign-extended
 *   S  ModRM and s            U  ModRM and u              Z  ModRM and z
 *   j  rel16/32               v  imm16/32/64              w  imm16
 *   e  imm16 and imm8         p  far pointer              o  offset of the address size
 *   R  ModRM, registers only whatever mod says (MOV to and from control registers)
 *   3  ModRM group 3: S or Z for TEST, else M             !  prefix or escape
 */
static const char one_byte[256 + 1] = "MMMMsz..MMMMsz.!MMMMsz..MMMMsz.."  /* 00 */
				      "MMMMsz!.MMMMsz!.MMMMsz!.MMMMsz!."  /* 20 */
				      "................................"  /* 40 */
				      "..MM!!!!zZsS....ssssssssssssssss"  /* 60 */
				      "SZSSMMMMMMMMMMMM..........p....."  /* 80 */
				      "oooo....sz......uuuuuuuuvvvvvvvv"  /* a0 */
				      "UUw.MMSZe.w..u..MMMMuu..MMMMMMMM"  /* c0 */
				      "ssssuuuujjps....!.!!..33......MM"; /* e0 */

static const char two_byte[256 + 1] = "MMMMX.....X.XM.UMMMMMMMMMMMMMMMM"  /* 00 */
				      "RRRRXXXXMMMMMMMM......X.!X!XXXXX"  /* 20 */
				      "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"  /* 40 */
				      "MMMMMMMMMMMMMMMMUUUUMMM.MMXXMMMM"  /* 60 */
				      "jjjjjjjjjjjjjjjjMMMMMMMMMMMMMMMM"  /* 80 */
				      "...MUMXX...MUMMMMMMMMMMMMMUMMMMM"  /* a0 */
				      "MMUMUUUM........MMMMMMMMMMMMMMMM"  /* c0 */
				      "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"; /* e0 */

struct reader {
	const uint8_t *bytes;
	unsigned at, available;
	bool short_of; /* wanted more than there is */
};

static uint64_t take(struct reader *reader, unsigned size)
{
	uint64_t value = 0;

	if (reader->at + size > reader->available) {
		reader->short_of = true;
		reader->at += size;
		return 0;
	}
	memcpy(&value, reader->bytes + reader->at, size);
	reader->at += size;
	return value;
}

static uint64_t take_signed(struct reader *reader, unsigned size)
{
	uint64_t value = take(reader, size);

	return size == 1   ? (uint64_t)(int8_t)value
	       : size == 2 ? (uint64_t)(int16_t)value
	       : size == 4 ? (uint64_t)(int32_t)value
			   : value;
}

/* Prefixes in any order; only a REX that stands last counts. Returns the first other byte. */
static uint8_t take_prefixes(struct reader *reader, struct insn *insn)
{
	bool address_override = false;

	for (;;) {
		uint8_t byte = (uint8_t)take(reader, 1);

		if (reader->short_of)
			return 0;
		if (insn->code_size == 8 && (byte & 0xf0) == 0x40) {
			insn->rex = byte & 0xf;
			insn->flags |= OP_REX;
			continue;
		}
		switch (byte) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			if (insn->code_size != 8) {
				insn->segment = (byte >> 3) & 3;
				insn->seg_override = true;
			}
			break;
		case 0x64:
		case 0x65:
			insn->segment = SEG_FS + (byte & 1);
			insn->seg_override = true;
			break;
		case 0x66:
			insn->flags |= OP_OPSIZE;
			break;
		case 0x67:
			address_override = true;
			break;
		case 0xf0:
			insn->flags |= OP_LOCK;
			break;
		case 0xf2:
			insn->flags = (insn->flags & ~OP_REP) | OP_REPNE;
			break;
		case 0xf3:
			insn->flags = (insn->flags & ~OP_REPNE) | OP_REP;
			break;
		default:
			insn->address_size = insn->code_size;
			if (address_override)
				insn->address_size = insn->code_size == 4 ? 2 : 4;
			return byte;
		}
		insn->rex = 0;
		insn->flags &= ~OP_REX;
	}
}

static void take_sib(struct reader *reader, struct insn *insn, unsigned mod, unsigned *disp_size)
{
	uint8_t sib = (uint8_t)take(reader, 1);
	unsigned index = ((sib >> 3) & 7) | (insn->rex & 2) << 2;
	unsigned base = (sib & 7) | (insn->rex & 1) << 3;

	if (index != CPU_RSP) {
		insn->index = (uint8_t)index;
		insn->shift = sib >> 6;
	}
	if ((sib & 7) == 5 && mod == 0)
		*disp_size = 4;
	else
		insn->base = (uint8_t)base;
}

/* 32- and 64-bit addressing (SDM 2A tables 2-2 and 2-3). */
static void take_address(struct reader *reader, struct insn *insn)
{
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
	unsigned disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;

	if (rm == 4) {
		take_sib(reader, insn, mod, &disp_size);
	} else if (rm == 5 && mod == 0) {
		disp_size = 4;
		insn->rip_relative = insn->code_size == 8;
	} else {
		insn->base = (uint8_t)(rm | (insn->rex & 1) << 3);
	}
	if (!insn->seg_override && (insn->base == CPU_RSP || insn->base == CPU_RBP))
		insn->segment = SEG_SS;
	if (disp_size)
		insn->disp = (int32_t)take_signed(reader, disp_size);
}

/* 16-bit addressing (SDM 2A table 2-1). */
static void take_address16(struct reader *reader, struct insn *insn)
{
	static const uint8_t bases[8] = {CPU_RBX, CPU_RBX, CPU_RBP, CPU_RBP,
					 CPU_RSI, CPU_RDI, CPU_RBP, CPU_RBX};
	static const uint8_t indexes[8] = {CPU_RSI,   CPU_RDI,   CPU_RSI,   CPU_RDI,
					   OP_NO_REG, OP_NO_REG, OP_NO_REG, OP_NO_REG};
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;

	if (mod == 0 && rm == 6) {
		insn->disp = (int32_t)take_signed(reader, 2);
		return;
	}
	insn->base = bases[rm];
	insn->index = indexes[rm];
	if (!insn->seg_override && insn->base == CPU_RBP)
		insn->segment = SEG_SS;
	if (mod)
		insn->disp = (int32_t)take_signed(reader, mod);
}

static void take_modrm(struct reader *reader, struct insn *insn, bool registers_only)
{
	insn->modrm = (uint8_t)take(reader, 1);
	insn->has_modrm = true;
	insn->reg = (uint8_t)(((insn->modrm >> 3) & 7) | (insn->rex & 4) << 1);
	insn->rm = (uint8_t)((insn->modrm & 7) | (insn->rex & 1) << 3);
	if (registers_only || insn->modrm >= 0xc0)
		return;
	insn->flags |= OP_MEM;
	if (insn->address_size == 2)
		take_address16(reader, insn);
	else
		take_address(reader, insn);
}

static void take_immediate(struct reader *reader, struct insn *insn, char kind)
{
	unsigned z = insn->operand_size == 2 ? 2 : 4;

	switch (kind) {
	case 's':
		insn->imm = take_signed(reader, 1);
		break;
	case 'u':
		insn->imm = take(reader, 1);
		break;
	case 'z':
		insn->imm = take_signed(reader, z);
		break;
	case 'j': /* 64-bit mode ignores the operand size here, as Intel's processors do */
		insn->imm = take_signed(reader, insn->code_size == 8 ? 4 : z);
		break;
	case 'v':
		insn->imm = take(reader, insn->operand_size);
		break;
	case 'w':
		insn->imm = take(reader, 2);
		break;
	case 'e':
		insn->imm = take(reader, 2);
		insn->imm2 = take(reader, 1);
		break;
	case 'p':
		insn->imm = take(reader, z);
		insn->imm |= take(reader, 2) << 32;
		break;
	case 'o':
		insn->imm = take(reader, insn->address_size);
		insn->flags |= OP_MEM;
		break;
	}
}

/* Opcodes that 64-bit mode took away. */
static bool gone_in_64bit(uint8_t opcode)
{
	return ((opcode & 0xc6) == 0x06 && opcode != 0x0f && opcode != 0x26 && opcode != 0x2e &&
		opcode != 0x36 && opcode != 0x3e) ||
	       (opcode >= 0x60 && opcode <= 0x62) || opcode == 0x82 || opcode == 0x9a ||
	       opcode == 0xc4 || opcode == 0xc5 || opcode == 0xce ||
	       (opcode >= 0xd4 && opcode <= 0xd6) || opcode == 0xea;
}

static char take_opcode(struct reader *reader, struct insn *insn)
{
	insn->opcode = take_prefixes(reader, insn);
	if (reader->short_of)
		return '.';
	if (insn->opcode != 0x0f) {
		if (insn->code_size == 8 && gone_in_64bit(insn->opcode))
			return 'X';
		return one_byte[insn->opcode];
	}
	insn->map = MAP_0F;
	insn->opcode = (uint8_t)take(reader, 1);
	if (insn->opcode == 0x38 || insn->opcode == 0x3a) {
		insn->map = insn->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
		insn->opcode = (uint8_t)take(reader, 1);
		return insn->map == MAP_0F38 ? 'M' : 'U';
	}
	return two_byte[insn->opcode];
}

static void take_operands(struct reader *reader, struct insn *insn, char kind)
{
	switch (kind) {
	case 'M':
	case 'R':
		take_modrm(reader, insn, kind == 'R');
		break;
	case 'S':
	case 'U':
	case 'Z':
		take_modrm(reader, insn, false);
		take_immediate(reader, insn, (char)(kind | 0x20));
		break;
	case '3':
		take_modrm(reader, insn, false);
		if ((insn->modrm & 0x30) == 0)
			take_immediate(reader, insn, insn->opcode & 1 ? 'z' : 's');
		break;
	default:
		take_immediate(reader, insn, kind);
	}
}

enum decode_result decode(const uint8_t *bytes, unsigned available, unsigned code_size,
			  struct insn *insn)
{
	struct reader reader = {.bytes = bytes, .available = MIN(available, INSN_MAX)};
	char kind;

	*insn = (struct insn){.code_size = (uint8_t)code_size,
			      .segment = SEG_DS,
			      .base = OP_NO_REG,
			      .index = OP_NO_REG};
	kind = take_opcode(&reader, insn);
	if (insn->rex & 8)
		insn->flags |= OP_REXW;
	insn->operand_size = code_size == 2 ? 2 : 4;
	if (insn->flags & OP_OPSIZE)
		insn->operand_size ^= 6;
	if (insn->flags & OP_REXW)
		insn->operand_size = 8;
	if (!reader.short_of && kind != 'X')
		take_operands(&reader, insn, kind);
	if (reader.short_of)
		return available >= INSN_MAX ? DECODE_TOO_LONG : DECODE_MORE;
	insn->length = (uint8_t)reader.at;
	/* In 16- and 32-bit code C4, C5 and 62 with mod 3 are VEX and EVEX. */
	if (kind == 'X' || (insn->map == MAP_1BYTE && insn->has_modrm && insn->modrm >= 0xc0 &&
			    (insn->opcode == 0xc4 || insn->opcode == 0xc5 || insn->opcode == 0x62)))
		return DECODE_INVALID;
	return DECODE_OK;
}
