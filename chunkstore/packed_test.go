package chunkstore

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// packOf packs a chunk of a store of its own.
func packOf(t testing.TB, data []byte, codec Codec) (packed []byte, info ChunkInfo) {
	t.Helper()
	c := openChunks(t, vfs.NewMem(), small)
	if err := c.Put(t.Context(), PutOptions{Codec: codec}, chunkOf(data)); err != nil {
		t.Fatal(err)
	}
	packed, err := c.Pack(DigestOf(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err = c.Stat(DigestOf(data))
	if err != nil {
		t.Fatal(err)
	}
	return packed, info
}

// A chunk that goes to another store packed is stored there as it was, whatever that one would do.
func TestAPackedChunkIsStoredAsItWas(t *testing.T) {
	for name, c := range map[string]struct {
		data  []byte
		codec Codec
	}{
		"noise":                     {noise(1, 100_000), S2},
		"text":                      {text(2, 1<<20), S2},
		"text in zstd":              {text(3, 1<<20), Zstd},
		"text that is to be raw":    {text(4, 100_000), Raw},
		"noise in the index":        {noise(5, inlineBytes), S2},
		"text in the index":         {text(6, 1000), Zstd},
		"text just out of it":       {text(7, inlineBytes+1), Zstd},
		"the largest text there is": {text(8, MaxChunkBytes), Zstd},
	} {
		t.Run(name, func(t *testing.T) {
			packed, want := packOf(t, c.data, c.codec)
			chunk, err := Unpack(packed)
			if err != nil || chunk.Digest != want.Digest {
				t.Fatalf("unpacked is %s: %v, want %s", chunk.Digest, err, want.Digest)
			}
			to := openChunks(t, vfs.NewMem(), small)
			for range 2 { // the second time it is there
				if err := to.Put(t.Context(), PutOptions{Owner: "o"}, chunk, chunkOf([]byte("another"))); err != nil {
					t.Fatal(err)
				}
			}
			to = reopen(t, to)
			if got, err := to.Stat(want.Digest); err != nil || got != want {
				t.Errorf("stored is %+v: %v, want %+v", got, err, want)
			}
			mustGet(t, to, c.data)
			again, err := to.Pack(want.Digest, []byte("before"))
			if err != nil || !bytes.Equal(again, append([]byte("before"), packed...)) {
				t.Errorf("packed again it is another one: %v", err)
			}
			if err := consistent(to); err != nil {
				t.Error(err)
			}
		})
	}
}

// A packed chunk of which any byte was changed is refused, and so is one that is whole but another than
// it says.
func TestAPackedChunkIsNotBelieved(t *testing.T) {
	for _, data := range [][]byte{noise(1, 3000), text(2, 3000)} {
		packed, _ := packOf(t, data, S2)
		for at := range packed {
			changed := bytes.Clone(packed)
			changed[at] ^= 0x20
			_, err := Unpack(changed)
			mustBe(t, err, api.CodeUnsupMedia, nil)
		}
		for n := range packed {
			_, err := Unpack(packed[:n])
			mustBe(t, err, api.CodeUnsupMedia, nil)
		}
		lie := &record{key: must(parseDigest(DigestOf([]byte("other")))), data: data, codec: S2}
		_, err := Unpack(append(lie.encode().append(nil), lie.body...))
		mustBe(t, err, api.CodeUnsupMedia, nil)
	}
}

// What rotted on the disk is not packed, but found and moved aside.
func TestARottenChunkIsNotPacked(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	data := noise(1, 100_000)
	putChunks(t, c, "o", data)
	flip(t, fs, "chunks/segments/"+segmentName(1), headBytes+5, 1)
	for range 2 {
		_, err := c.Pack(DigestOf(data), nil)
		mustBe(t, err, api.CodeInternal, ErrCorrupt)
	}
	if s := c.Stats(); s.Quarantined != 1 {
		t.Errorf("%d are moved aside", s.Quarantined)
	}
	_, err := c.Pack(DigestOf([]byte("nowhere")), nil)
	mustBe(t, err, api.CodeNotFound, nil)
}

// Whatever comes, what is unpacked can be stored and is then the chunk that it says.
func FuzzUnpack(f *testing.F) {
	for _, codec := range []Codec{S2, Zstd, Raw} {
		packed, _ := packOf(f, text(1, 2000), codec)
		f.Add(packed)
	}
	store := openChunks(f, vfs.NewMem(), small)
	f.Fuzz(func(t *testing.T, b []byte) {
		chunk, err := Unpack(b)
		if err != nil {
			return
		}
		if err := store.Put(t.Context(), PutOptions{}, chunk); err != nil {
			t.Fatal(err)
		}
		if err := store.Verify(chunk.Digest); err != nil {
			t.Error(err)
		}
	})
}
