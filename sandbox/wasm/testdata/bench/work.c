/* Work for the benchmark of metering: the same in C, Rust and Go. It sorts, hashes and multiplies. */
#include <stdint.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static uint32_t numbers[4096];

__attribute__((export_name("work"))) uint32_t work(uint32_t rounds) {
	uint32_t seed = 1, sum = 0;
	for (uint32_t r = 0; r < rounds; r++) {
		for (int i = 0; i < 4096; i++) numbers[i] = seed = seed * 1664525 + 1013904223;
		qsort(numbers, 4096, sizeof *numbers, by_value);
		uint32_t hash = 2166136261;
		for (int i = 0; i < 4096; i++)
			for (int b = 0; b < 32; b += 8) hash = (hash ^ (numbers[i] >> b & 255)) * 16777619;
		double product = 1;
		for (int i = 0; i < 4096; i++) product = product * 0.5 + numbers[i] / 4294967296.0;
		sum += hash + (uint32_t)(product * 1000);
	}
	return sum;
}
