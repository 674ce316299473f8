// SPDX-License-Identifier: GPL-2.0-or-later
/* The decoder against Zydis on random bytes: lengths, memory operands and immediates must agree
 * wherever both see an instruction. */
#include <Zydis/Zydis.h>
#include <glib.h>

#include "cpu/decode.h"
#include "cpu/state.h"

static const struct {
	unsigned code_size;
	ZydisMachineMode mode;
	ZydisStackWidth stack;
} modes[] = {{2, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
	     {4, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
	     {8, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};

static void fill(GRand *rand, uint8_t *bytes, unsigned count)
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0x48, 0x41,
					   0x0f, 0x0f, 0x0f, 0x0f, 0xf0, 0x36, 0x3e, 0x4f, 0x26};
	unsigned i = 0;

	while (i < 4 && g_rand_int_range(rand, 0, 3) == 0)
		bytes[i++] = prefixes[g_rand_int_range(rand, 0, G_N_ELEMENTS(prefixes))];
	while (i < count)
		bytes[i++] = (uint8_t)g_rand_int(rand);
}

static char *hex(const uint8_t *bytes, unsigned count)
{
	GString *text = g_string_new(NULL);

	for (unsigned i = 0; i < count; i++)
		g_string_append_printf(text, "%02x ", bytes[i]);
	return g_string_free(text, FALSE);
}

/*
 * Where the two may differ, with the reason:
 *  - 0F 78 and 79, which are AMD's SSE4A; 0F A6 and A7, which are VIA's; 0F 1A and 1B, MPX to Zydis
 * and NOP to the model;
 *  - VEX, EVEX, XOP, 3DNow: invalid on the model, whatever the bytes after say;
 *  - encodings that we take as an instruction of known length and refuse in the selector: Zydis
 *    refuses some at once, so only what both accept is compared.
 */
static bool comparable(const ZydisDecodedInstruction *zydis)
{
	if (zydis->opcode_map == ZYDIS_OPCODE_MAP_0F &&
	    ((zydis->opcode & 0xfe) == 0x78 || (zydis->opcode & 0xfe) == 0xa6 ||
	     (zydis->opcode & 0xfe) == 0x1a))
		return false;
	return zydis->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

static bool same(const ZydisDecodedInstruction *zydis, const struct insn *insn)
{
	if (zydis->length != insn->length)
		return false;
	if (!insn->has_modrm != !(zydis->attributes & ZYDIS_ATTRIB_HAS_MODRM))
		return false;
	if (insn->has_modrm && (insn->flags & OP_MEM) &&
	    (int32_t)zydis->raw.disp.value != insn->disp)
		return false;
	/* Some instructions without a memory operand have an address width of their own there. */
	return !(insn->flags & OP_MEM) || zydis->address_width == insn->address_size * 8;
}

static void test_lengths(void)
{
	bool is_long = g_getenv("LODGE_LONG") != NULL;
	unsigned cases = is_long ? 20000000 : 400000, compared = 0;
	g_autoptr(GRand) rand = g_rand_new_with_seed(20240 + is_long);

	for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++) {
		ZydisDecoder decoder;

		ZydisDecoderInit(&decoder, modes[m].mode, modes[m].stack);
		for (unsigned i = 0; i < cases; i++) {
			ZydisDecodedInstruction zydis;
			uint8_t bytes[INSN_MAX];
			struct insn insn;
			enum decode_result result;

			fill(rand, bytes, sizeof(bytes));
			result = decode(bytes, sizeof(bytes), modes[m].code_size, &insn);
			if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes,
									sizeof(bytes), &zydis)) ||
			    !comparable(&zydis))
				continue;
			compared++;
			if (result != DECODE_OK || !same(&zydis, &insn)) {
				g_autofree char *text = hex(bytes, sizeof(bytes));

				g_error("%u-bit %s: Zydis %u bytes (%s), we %u (result %d)",
					modes[m].code_size * 8, text, (unsigned)zydis.length,
					ZydisMnemonicGetString(zydis.mnemonic), insn.length,
					result);
			}
		}
	}
	g_assert_cmpuint(compared, >, cases);
}

/* A decoder that is given fewer bytes asks for more, and never reads them. */
static void test_short(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	for (unsigned i = 0; i < 100000; i++) {
		unsigned code_size = modes[i % 3].code_size;
		uint8_t bytes[INSN_MAX];
		struct insn insn, again;

		fill(rand, bytes, sizeof(bytes));
		if (decode(bytes, sizeof(bytes), code_size, &insn) != DECODE_OK)
			continue;
		for (unsigned n = 0; n < insn.length; n++) {
			g_autofree uint8_t *part = g_memdup2(bytes, n);

			g_assert_cmpint(decode(part, n, code_size, &again), ==, DECODE_MORE);
		}
		g_assert_cmpint(decode(bytes, insn.length, code_size, &again), ==, DECODE_OK);
		g_assert_cmpmem(&insn, sizeof(insn), &again, sizeof(again));
	}
}

static void test_too_long(void)
{
	static const uint8_t bytes[16] = {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
					  0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90};
	struct insn insn;

	g_assert_cmpint(decode(bytes, 16, 8, &insn), ==, DECODE_TOO_LONG);
	g_assert_cmpint(decode(bytes + 1, 15, 8, &insn), ==, DECODE_OK);
	g_assert_cmpuint(insn.length, ==, 15);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpu/decode/lengths", test_lengths);
	g_test_add_func("/cpu/decode/short", test_short);
	g_test_add_func("/cpu/decode/too-long", test_too_long);
	return g_test_run();
}
