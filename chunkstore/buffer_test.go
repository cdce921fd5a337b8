package chunkstore

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// A buffer has the length asked for and at most a quarter more room, or that of the smallest; whole MiB
// fit exactly; what is given back is given out for lengths that fit it alone.
func TestBuffers(t *testing.T) {
	for n := range 70 {
		for _, size := range []int{n * 100, n * 123_457} {
			b := GetBuffer(size)
			if len(*b) != size || cap(*b) > max(size+size/4+1, minBuffer) {
				t.Errorf("%d bytes: length %d, room %d", size, len(*b), cap(*b))
			}
			capacity, pool := capacityFor(size)
			if again, same := capacityFor(capacity); again != capacity || same != pool || cap(*b) != capacity {
				t.Errorf("%d bytes: a buffer of %d comes back as one of %d", size, capacity, again)
			}
			PutBuffer(b)
		}
	}
	for _, size := range []int{1 << 20, 2 << 20, 3 << 20, MaxChunkBytes} {
		if b := GetBuffer(size); cap(*b) != size {
			t.Errorf("%d bytes have room for %d", size, cap(*b))
		}
	}
	PutBuffer(nil)
	odd := make([]byte, 5000)
	PutBuffer(&odd) // of no pool: it is left alone
}

// Drop removes what nobody pins and leaves the rest.
func TestDropLeavesWhatIsPinned(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	kept, free := noise(1, 100_000), noise(2, 100_000)
	putChunks(t, c, "o", kept)
	putChunks(t, c, "", free)
	if left, err := c.Drop(DigestOf(kept), DigestOf(free), DigestOf([]byte("never here"))); err != nil || !slices.Equal(left, []string{DigestOf(kept)}) {
		t.Fatalf("kept are %v: %v", left, err)
	}
	mustGet(t, c, kept)
	if has, err := c.Has(DigestOf(free)); has || err != nil {
		t.Errorf("it is still here: %v", err)
	}
	_, err := c.Drop("x")
	mustBe(t, err, api.CodeInvalid, nil)
}

func TestStat(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	data := text(1, 100_000)
	putChunks(t, c, "o", data)
	info, err := c.Stat(DigestOf(data))
	if err != nil || info.Digest != DigestOf(data) || info.Bytes != 100_000 || info.Codec != S2 || info.StoredBytes >= 100_000 {
		t.Errorf("%+v: %v", info, err)
	}
	_, err = c.Stat(DigestOf([]byte("never here")))
	mustBe(t, err, api.CodeNotFound, nil)
}

// A chunk that NewChunk made is believed, but not under another digest.
func TestOnlyItsOwnDigestIsBelieved(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	data := noise(1, 1000)
	made := NewChunk(data)
	if made.Digest != DigestOf(data) {
		t.Fatalf("its digest is %s", made.Digest)
	}
	if err := c.Put(t.Context(), PutOptions{}, made); err != nil {
		t.Fatal(err)
	}
	mustGet(t, c, data)
	sum, err := ParseDigest(made.Digest)
	if err != nil || Digest(sum) != made.Digest {
		t.Errorf("%x: %v", sum, err)
	}
	made.Digest = DigestOf([]byte("x"))
	mustBe(t, c.Put(t.Context(), PutOptions{}, made), api.CodeUnsupMedia, nil)
}
