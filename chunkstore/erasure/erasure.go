// Package erasure makes of four chunks two more, of the same length as the longest, such that any four
// of the six give the others: a Reed-Solomon code. The six, each on a node of its own, outlive the loss of
// any two nodes in half as much room again as the chunks; three copies outlive the same in three times
// the room.
//
// The first of the two is the sum of the chunks, the second their sum with weights (Anvin, The
// mathematics of RAID-6). Bytes are elements of a field of 256: sums are exclusive ors (field.go).
package erasure

import "errors"

// What a group is made of.
const (
	Data   = 4 // chunks of objects
	Parity = 2 // shards that are computed of them
	Shards = Data + Parity
	// MinBytes is what a chunk has at least that goes into a group: for a small one the rows of a group
	// cost more than copies.
	MinBytes = 64<<10 + 1
)

// row is how a shard is made of the chunks: the weight of each.
type row [Data]byte

// rows are those of all shards. They are on disks, so they never change. Any four are independent: the
// weights of the last are all different.
var rows = [Shards]row{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}, {1, 1, 1, 1}, {1, 2, 4, 8}}

// Encode gives the parity shards of chunks, which count as if zeros made all as long as the longest.
func Encode(chunks [Data][]byte) (parity [Parity][]byte) {
	size := longest(chunks[:])
	for i := range parity {
		parity[i] = combine(chunks, rows[Data+i], size)
	}
	return parity
}

// ErrTooFew is the error of Rebuild when fewer than Data shards are there.
var ErrTooFew = errors.New("too few chunks of a group are there")

// Rebuild gives the missing shard at an index, which has so many bytes. At least Data of the others are
// there; those that are not are nil. Whether they are the right ones only the digest of what comes out
// can tell.
func Rebuild(shards [Shards][]byte, missing, bytes int) ([]byte, error) {
	var have [Data][]byte
	var made [Data]row
	n := 0
	for i, s := range shards {
		if s != nil && i != missing && n < Data {
			have[n], made[n] = s, rows[i]
			n++
		}
	}
	if n < Data {
		return nil, ErrTooFew
	}
	return combine(have, times(rows[missing], invert(made)), max(bytes, longest(have[:])))[:bytes], nil
}

// combine adds up shards with their weights.
func combine(shards [Data][]byte, weights row, size int) []byte {
	out := make([]byte, size)
	for i, s := range shards {
		addTimes(out, s, weights[i])
	}
	return out
}

func longest(shards [][]byte) (size int) {
	for _, s := range shards {
		size = max(size, len(s))
	}
	return size
}
