// Package erasure makes of four chunks two more, of the same length as the longest, such that any four
// of the six give the others: a Reed-Solomon code. The six, each on a node of its own, outlive the loss of
// any two nodes in half as much room again as the chunks; three copies outlive the same in three times
// the room.
//
// The first of the two is the sum of the chunks, the second their sum with weights, over the field of 256
// elements: the code of RAID-6 (Anvin, The mathematics of RAID-6).
package erasure

import (
	"errors"
	"fmt"

	"github.com/klauspost/reedsolomon"
)

// What a group is made of.
const (
	Data   = 4 // chunks of objects
	Parity = 2 // shards that are computed of them
	Shards = Data + Parity
	// MinBytes is what a chunk has at least that goes into a group: for a small one the rows of a group
	// cost more than copies.
	MinBytes = 64<<10 + 1
)

// weights are those of the chunks in each parity shard. They are on disks, so they are said here, and not
// left to what the library would choose. Those of the second are all different, so any four shards do.
var weights = [][]byte{{1, 1, 1, 1}, {1, 2, 4, 8}}

// code works with one goroutine: many groups are worked on side by side.
var code = newCode()

func newCode() reedsolomon.Encoder {
	c, err := reedsolomon.New(Data, Parity, reedsolomon.WithCustomMatrix(weights), reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		panic(fmt.Sprintf("the code of groups: %v", err)) // it is made of constants
	}
	return c
}

// Encode gives the parity shards of chunks, which count as if zeros made all as long as the longest.
func Encode(chunks [Data][]byte) (parity [Parity][]byte) {
	var shards [Shards][]byte
	copy(shards[:], chunks[:])
	size := level(shards[:Data])
	for i := range parity {
		parity[i] = make([]byte, size)
		shards[Data+i] = parity[i]
	}
	if err := code.Encode(shards[:]); err != nil && size > 0 {
		panic(fmt.Sprintf("encoding %d bytes: %v", size, err)) // all shards are there, and as long
	}
	return parity
}

// ErrTooFew is the error of Rebuild when fewer than Data shards are there.
var ErrTooFew = errors.New("too few chunks of a group are there")

// Rebuild gives the missing shard at an index, which has so many bytes. At least Data of the others are
// there; those that are not are nil. Whether they are the right ones only the digest of what comes out
// can tell.
func Rebuild(shards [Shards][]byte, missing, bytes int) ([]byte, error) {
	shards[missing] = nil
	size := level(shards[:])
	var wanted [Shards]bool
	wanted[missing] = true
	switch err := code.ReconstructSome(shards[:], wanted[:]); {
	case errors.Is(err, reedsolomon.ErrTooFewShards):
		return nil, ErrTooFew
	case err != nil:
		return nil, fmt.Errorf("rebuilding a chunk of its group: %w", err)
	case size < bytes:
		return nil, fmt.Errorf("rebuilding a chunk of %d bytes of a group whose longest has %d", bytes, size)
	}
	return shards[missing][:bytes], nil
}

// level replaces the shards that are there by ones that are as long as the longest, and says how long
// that is. What the caller gave is not written to.
func level(shards [][]byte) (size int) {
	for _, s := range shards {
		size = max(size, len(s))
	}
	for i, s := range shards {
		if len(s) > 0 && len(s) < size {
			shards[i] = append(make([]byte, 0, size), s...)[:size]
		}
	}
	return size
}
