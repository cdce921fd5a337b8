package chunkstore

import (
	"math/bits"
	"sync"
)

// Buffers are for chunks, as they are or as they are stored. How many are in use at once is for their
// users to bound: the store does by its budget, the gateway and the transfer by theirs.
//
// Each pool holds those of one capacity. There are four for each power of two, so that a buffer is at
// most a quarter larger than it needs to be, and chunks of whole MiB fit exactly.
var buffers [4 * 32]sync.Pool

// minBuffer is the smallest capacity: smaller ones are not worth keeping apart.
const minBuffer = 4 << 10

// capacityFor is the capacity that a buffer of n bytes gets, and its pool.
func capacityFor(n int) (capacity, pool int) {
	n = max(n, minBuffer)
	shift := bits.Len(uint(n-1)) - 3        // of a quarter of the power of two below
	quarters := (n + 1<<shift - 1) >> shift // 5 to 8
	return quarters << shift, shift*4 + quarters - 5
}

// GetBuffer gives n bytes of whatever content, for PutBuffer when nobody uses them any more.
func GetBuffer(n int) *[]byte {
	capacity, pool := capacityFor(n)
	if b, ok := buffers[pool].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, capacity)
	return &b
}

// PutBuffer takes back what GetBuffer gave; nil is nothing. One whose slice has grown out of its
// capacity is left to the garbage collector.
func PutBuffer(b *[]byte) {
	if b == nil || cap(*b) < minBuffer {
		return
	}
	if capacity, pool := capacityFor(cap(*b)); capacity == cap(*b) {
		buffers[pool].Put(b)
	}
}
