// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's half of cpu-mips: integer work that needs nothing but its own code and one buffer.
 * Everything lies in the section `guest`, which the host copies into guest memory. */
#include "cpu-mips.h"

#define GUEST __attribute__((section("guest"), noinline))

GUEST static uint32_t crc16(const uint8_t *bytes, unsigned count)
{
	uint32_t crc = 0xffff;

	for (unsigned i = 0; i < count; i++) {
		crc ^= bytes[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1;
	}
	return crc;
}

GUEST static uint64_t fibonacci(unsigned n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

struct node {
	struct node *next;
	uint64_t value;
};

GUEST static uint64_t list(struct node *nodes, unsigned count)
{
	struct node *reversed = NULL;
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		nodes[i].next = i + 1 < count ? &nodes[i + 1] : NULL;
		nodes[i].value = i * 2654435761u;
	}
	for (struct node *node = nodes; node;) {
		struct node *next = node->next;

		node->next = reversed;
		reversed = node;
		node = next;
	}
	for (struct node *node = reversed; node; node = node->next)
		sum += node->value;
	return sum;
}

GUEST static void sort(uint32_t *numbers, unsigned count)
{
	for (unsigned gap = count / 2; gap; gap /= 2) {
		for (unsigned i = gap; i < count; i++) {
			uint32_t number = numbers[i];
			unsigned j = i;

			for (; j >= gap && numbers[j - gap] > number; j -= gap)
				numbers[j] = numbers[j - gap];
			numbers[j] = number;
		}
	}
}

GUEST static uint32_t hash_rounds(uint32_t *words, unsigned count)
{
	uint32_t a = 0x67452301, b = 0xefcdab89, c = 0x98badcfe;

	for (unsigned i = 0; i < count; i++) {
		uint32_t t = (a << 5 | a >> 27) + (b & c) + words[i & 255];

		c = b << 30 | b >> 2;
		b = a;
		a = t ^ (t >> 7);
	}
	return a ^ b ^ c;
}

GUEST uint64_t guest_main(uint8_t *memory, uint64_t rounds)
{
	uint64_t result = 0;

	for (uint64_t i = 0; i < rounds; i++) {
		uint32_t *numbers = (uint32_t *)(void *)memory;

		for (unsigned k = 0; k < 1024; k++)
			numbers[k] = (k ^ (uint32_t)i) * 2654435761u;
		result += crc16(memory, 2048);
		sort(numbers, 1024);
		result += hash_rounds(numbers, 20000);
		result += fibonacci(16);
		result += list((struct node *)(void *)(memory + 8192), 4096);
	}
	return result;
}
