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

func BenchmarkEncode(b *testing.B) {
	var data [Data][]byte
	for i := range data {
		data[i] = bytes.Repeat([]byte{byte(i + 1)}, 1<<20)
	}
	b.SetBytes(Data << 20)
	for b.Loop() {
		Encode(data)
	}
}

func BenchmarkRebuild(b *testing.B) {
	var shards [Shards][]byte
	for i := range shards {
		shards[i] = bytes.Repeat([]byte{byte(i + 1)}, 1<<20)
	}
	shards[0], shards[1] = nil, nil
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := Rebuild(shards, 0, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
