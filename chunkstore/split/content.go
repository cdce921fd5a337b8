package split

import (
	"crypto/sha256"
	"encoding/binary"
)

// Cutting by content follows FastCDC: W. Xia and others, "The Design of Fast Content-Defined Chunking
// for Data Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020. A rolling "gear" hash of the
// last 64 bytes ends a chunk where certain bits of it are zero. Below the average size more bits must
// be, above it fewer, which draws the sizes towards the average; below the minimum nothing is hashed.
//
// Where chunks end must never change, or nothing that is stored would be found again. So the table is
// made from a rule, and a golden test holds both.
const (
	minShare = 4 // the smallest chunk is the average divided by this
	maxShare = 4 // the largest is the average times this
	// normalization is by how many bits the two masks differ from the average's.
	normalization = 2
)

// gear gives each byte a random number: the first 8 bytes of the SHA-256 of "cloudless gear" and it.
var gear = func() (table [256]uint64) {
	for i := range table {
		sum := sha256.Sum256(append([]byte("cloudless gear"), byte(i)))
		table[i] = binary.LittleEndian.Uint64(sum[:])
	}
	return table
}()

// mask has the highest n bits: those depend on the last 64 bytes, the lower ones on fewer.
func mask(n int) uint64 { return ^uint64(0) << (64 - n) }

// nextByContent is where the chunk at the start of data ends.
func nextByContent(data []byte, average int) int {
	bits := 0
	for 1<<bits < average {
		bits++
	}
	end := min(len(data), average*maxShare)
	at := average / minShare
	if end <= at {
		return end
	}
	var hash uint64
	if at, hash = cut(data[:min(end, average)], at, hash, mask(bits+normalization)); at < min(end, average) {
		return at + 1
	}
	if at, _ = cut(data[:end], at, hash, mask(bits-normalization)); at < end {
		return at + 1
	}
	return end
}

// cut goes on with hash from data[at] until the bits of m are zero, and returns where that was.
func cut(data []byte, at int, hash, m uint64) (int, uint64) {
	table := &gear
	for i, b := range data[at:] {
		if hash = hash<<1 + table[b]; hash&m == 0 {
			return at + i, hash
		}
	}
	return len(data), hash
}
