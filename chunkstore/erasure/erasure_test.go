package erasure

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// draw gives a group whose chunks are of different lengths.
func draw(t *rapid.T) (shards [Shards][]byte) {
	var data [Data][]byte
	for i := range data {
		data[i] = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "chunk")
	}
	before := data
	for i := range before {
		before[i] = bytes.Clone(data[i])
	}
	parity := Encode(data)
	for i := range data {
		if !bytes.Equal(data[i], before[i]) {
			t.Fatal("encoding changed a chunk")
		}
	}
	copy(shards[:], data[:])
	copy(shards[Data:], parity[:])
	return shards
}

// Whichever two of the six are lost, each comes back as it was.
func TestAnyTwoMayBeLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := draw(t)
		lost := rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(t, "lost")[:2]
		left := shards
		left[lost[0]], left[lost[1]] = nil, nil
		for _, i := range lost {
			got, err := Rebuild(left, i, len(shards[i]))
			if err != nil || !bytes.Equal(got, shards[i]) {
				t.Fatalf("shard %d of %v: %d bytes, want %d: %v", i, lost, len(got), len(shards[i]), err)
			}
		}
	})
}

// Of three that are lost none is made up.
func TestThreeMayNotBeLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := draw(t)
		lost := rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(t, "lost")[:3]
		bytes := len(shards[lost[0]])
		for _, i := range lost {
			shards[i] = nil
		}
		if _, err := Rebuild(shards, lost[0], bytes); err != ErrTooFew {
			t.Fatalf("three of six: %v", err)
		}
	})
}

// The longest chunk sets how long the parity is, wherever it is.
func TestParityIsAsLongAsTheLongest(t *testing.T) {
	for i := range Data {
		data := [Data][]byte{{1}, {2}, {3}, {4}}
		data[i] = make([]byte, 100)
		parity := Encode(data)
		if len(parity[0]) != 100 || len(parity[1]) != 100 {
			t.Errorf("%d and %d bytes, want 100", len(parity[0]), len(parity[1]))
		}
	}
}

// What parity is never changes: it is on disks.
func TestParityHasItsGoldenBytes(t *testing.T) {
	parity := Encode([Data][]byte{{1, 0x80}, {2, 0x80}, {4, 0x80}, {8}})
	if want := [Parity][]byte{{0x0f, 0x80}, {0x55, 0xa7}}; !bytes.Equal(parity[0], want[0]) || !bytes.Equal(parity[1], want[1]) {
		t.Errorf("%x, want %x", parity, want)
	}
}

// The field is one: every element but 0 has an inverse, and products can be taken apart.
func TestTheFieldIsOne(t *testing.T) {
	for a := 1; a < 256; a++ {
		if i := inverse(byte(a)); product(byte(a), i) != 1 {
			t.Errorf("%d has no inverse", a)
		}
		for b := range 256 {
			if product(byte(a), byte(b)) != product(byte(b), byte(a)) || product(byte(a), byte(b)^7) != product(byte(a), byte(b))^product(byte(a), 7) {
				t.Fatalf("%d times %d", a, b)
			}
		}
	}
}
