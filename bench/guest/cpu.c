// SPDX-License-Identifier: GPL-2.0-or-later
/* Runs inside a guest (bench/cpu): a few kernels of computing, each timed by the guest's clock,
 * with a checksum so that two machines can be seen to have done the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t integer_mix(void)
{
	static uint32_t table[4096];
	uint64_t sum = 1;
	for (unsigned i = 0; i < 4096; i++)
		table[i] = i * 2654435761u;
	for (unsigned round = 0; round < 20000000; round++) {
		uint32_t x = table[sum & 4095];
		sum = (sum << 7 | sum >> 57) + x;
		if (x & 8)
			sum ^= round * 3;
		else
			sum -= x >> 5;
		table[round & 4095] += (uint32_t)sum;
	}
	return sum;
}

static uint64_t rep_movsb(void)
{
	enum { SIZE = 16 << 20, TIMES = 20 };
	uint8_t *from = malloc(SIZE), *to = malloc(SIZE);
	memset(from, 7, SIZE);
	memset(to, 1, SIZE);
	for (unsigned i = 0; i < TIMES; i++) {
		void *d = to, *s = from;
		size_t n = SIZE;
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		from[i]++;
	}
	return to[5] + (uint64_t)to[SIZE - 1];
}

static uint64_t sse_doubles(void)
{
	enum { N = 160 };
	static double a[N][N], b[N][N], c[N][N];
	double total = 0;
	for (unsigned i = 0; i < N * N; i++) {
		a[i / N][i % N] = (double)(i % 7) + 0.5;
		b[i / N][i % N] = (double)(i % 11) - 3.25;
	}
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < N; i++)
			for (unsigned k = 0; k < N; k++)
				for (unsigned j = 0; j < N; j++)
					c[i][j] += a[i][k] * b[k][j];
		total += c[round][round * 3];
	}
	return (uint64_t)(int64_t)total;
}

static uint64_t x87_loop(void)
{
	volatile long double start = 1.0L;
	long double x = start;
	for (unsigned i = 1; i < 3000000; i++)
		x = __builtin_sqrtl(x * 1.0000001L + 1.0L / i) * 1.5L / 1.49L;
	return (uint64_t)(x * 1e9L);
}

int main(void)
{
	static const struct {
		const char *name;
		uint64_t (*run)(void);
	} kernels[] = {{"integer mix", integer_mix},
		       {"REP MOVSB", rep_movsb},
		       {"SSE doubles", sse_doubles},
		       {"x87", x87_loop}};
	for (unsigned i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		double start = now();
		uint64_t sum = kernels[i].run();
		printf("KERNEL %s: %.4f s sum %llu\n", kernels[i].name, now() - start,
		       (unsigned long long)sum);
	}
	return 0;
}
