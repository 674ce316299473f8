// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's half of cpu-fp: packed and scalar doubles, x87 and packed integers. Everything lies
 * in the section `floating`, which the host copies into guest memory. */
#include "cpu-fp.h"

#define GUEST __attribute__((section("floating"), noinline))

typedef double packed __attribute__((vector_size(16), may_alias));
typedef uint16_t words __attribute__((vector_size(16), may_alias));

enum { SIZE = 32 };

/* C += A * B, two columns at a time. */
GUEST static uint64_t matmul(double *numbers, uint64_t rounds)
{
	packed *a = (packed *)(numbers + 128), *b = a + SIZE * SIZE / 2, *c = b + SIZE * SIZE / 2;

	for (unsigned i = 0; i < SIZE * SIZE / 2; i++) {
		a[i] = (packed){numbers[i & 7], numbers[(i + 3) & 7]};
		b[i] = (packed){numbers[(i + 1) & 7], numbers[(i + 5) & 7]};
		c[i] = a[i] - a[i];
	}
	for (; rounds; rounds--)
		for (unsigned i = 0; i < SIZE; i++)
			for (unsigned j = 0; j < SIZE / 2; j++) {
				packed sum = c[i * SIZE / 2 + j];
				for (unsigned k = 0; k < SIZE; k++) {
					double factor = ((double *)a)[i * SIZE + k];
					sum += (packed){factor, factor} * b[k * SIZE / 2 + j];
				}
				c[i * SIZE / 2 + j] = sum;
			}
	return (uint64_t)(int64_t)((double *)c)[77];
}

/* Three bodies that attract each other. */
GUEST static uint64_t nbody(double *numbers, uint64_t rounds)
{
	double *x = numbers + 128, *v = x + 9, step = numbers[7];

	for (unsigned i = 0; i < 9; i++) {
		x[i] = numbers[i & 7] * numbers[i / 3];
		v[i] = numbers[(i + 2) & 7] * step;
	}
	for (; rounds; rounds--) {
		for (unsigned i = 0; i < 3; i++)
			for (unsigned j = 0; j < 3; j++) {
				double d0 = x[3 * i] - x[3 * j], d1 = x[3 * i + 1] - x[3 * j + 1],
				       d2 = x[3 * i + 2] - x[3 * j + 2];
				double square = d0 * d0 + d1 * d1 + d2 * d2 + numbers[0];
				double factor = step / (square * __builtin_sqrt(square));
				v[3 * i] -= d0 * factor;
				v[3 * i + 1] -= d1 * factor;
				v[3 * i + 2] -= d2 * factor;
			}
		for (unsigned i = 0; i < 9; i++)
			x[i] += v[i] * step;
	}
	return (uint64_t)(int64_t)(x[4] * numbers[6]);
}

GUEST static uint64_t x87(double *numbers, uint64_t rounds)
{
	long double value = numbers[0], factor = numbers[1], divisor = numbers[2];

	for (; rounds; rounds--) {
		value = value * factor + numbers[3];
		value = value / divisor + __builtin_sqrtl(value);
	}
	return (uint64_t)(int64_t)(value * numbers[6]);
}

GUEST static uint64_t simdint(double *numbers, uint64_t rounds)
{
	words *data = (words *)(numbers + 128), sum = data[0] ^ data[0];

	for (unsigned i = 0; i < 64; i++)
		data[i] = sum + (uint16_t)(i * 257 + 3);
	for (; rounds; rounds--)
		for (unsigned i = 0; i < 64; i++) {
			words value = data[i];
			sum += value * (value >> 3) ^ (value & sum);
			data[i] = sum - value;
		}
	return (uint64_t)sum[3] | (uint64_t)sum[6] << 16;
}

GUEST uint64_t guest_fp(uint8_t *memory, enum cpu_fp_kernel kernel, uint64_t rounds)
{
	double *numbers = (double *)(void *)memory;

	if (kernel == CPU_FP_MATMUL)
		return matmul(numbers, rounds);
	if (kernel == CPU_FP_NBODY)
		return nbody(numbers, rounds);
	if (kernel == CPU_FP_X87)
		return x87(numbers, rounds);
	return simdint(numbers, rounds);
}
