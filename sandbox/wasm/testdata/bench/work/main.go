//go:build wasip1

// Command work is work for the benchmark of metering: see work.c.
package main

import "sort"

//go:wasmexport work
func work(rounds uint32) uint32 {
	numbers := make([]uint32, 4096)
	seed, sum := uint32(1), uint32(0)
	for range rounds {
		for i := range numbers {
			seed = seed*1664525 + 1013904223
			numbers[i] = seed
		}
		sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
		hash, product := uint32(2166136261), 1.0
		for _, n := range numbers {
			for b := 0; b < 32; b += 8 {
				hash = (hash ^ n>>b&255) * 16777619
			}
			product = product*0.5 + float64(n)/4294967296
		}
		sum += hash + uint32(product*1000)
	}
	return sum
}

func main() {}
