package chunkstore

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func FuzzRecordHead(f *testing.F) {
	r := &record{key: key{1}, data: text(1, 1000), codec: S2}
	f.Add(append(r.encode().append(nil), r.body...))
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHead(b)
		if err != nil {
			return
		}
		if !bytes.Equal(h.append(nil), b[:headBytes]) {
			t.Error("a head that was read is not written as it was")
		}
		stored := b[headBytes:]
		if h.check(stored) != nil {
			return
		}
		if data, err := h.open(nil, stored); err == nil && len(data) != int(h.raw) {
			t.Errorf("%d bytes in place of %d", len(data), h.raw)
		}
	})
}

// Whatever the stored bytes are, what comes out has the length of the head.
func FuzzDecompress(f *testing.F) {
	for _, c := range []Codec{S2, Zstd, Raw} {
		used, body, _ := compress(c, text(1, 2000))
		f.Add(byte(used), body, 2000)
	}
	f.Fuzz(func(t *testing.T, codec byte, stored []byte, raw int) {
		if !Codec(codec).known() || raw <= 0 || raw > 1<<16 {
			return
		}
		out, err := decompress(Codec(codec), []byte("x"), stored, raw)
		if err == nil && len(out) != raw+1 {
			t.Errorf("%d bytes in place of %d", len(out)-1, raw)
		}
	})
}

func FuzzIndexValues(f *testing.F) {
	f.Add(entry{codec: Zstd, raw: 70_000, stored: 60_000, segment: 7, offset: 1 << 30}.encode())
	f.Add(segment{size: 5, live: 3}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEntry(b); err == nil {
			if again, err := decodeEntry(e.encode()); err != nil || again != e {
				t.Errorf("%+v became %+v: %v", e, again, err)
			}
		}
		_, _ = decodeSegment(b)
		_, _ = decodeTotals(b)
	})
}

// scan finds each record between any rubbish.
func FuzzScan(f *testing.F) {
	f.Add([]byte("rubbish"), []byte(recordMagic+"more"))
	f.Fuzz(func(t *testing.T, before, between []byte) {
		if bytes.Contains(before, []byte(recordMagic)) && len(before) >= headBytes || len(between) >= headBytes {
			return // it might be a record
		}
		fs := vfs.NewMem()
		w, err := openWriter(fs, "", 1, int64(len(before)))
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		var want, got []int64
		for i := range 2 {
			r := &record{key: key{byte(i)}, data: []byte("chunk"), codec: Raw}
			at, err := w.append(r.encode(), r.body)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, at)
			w.end += int64(len(between))
			if i == 0 {
				_, err = w.file.WriteAt(between, w.end-int64(len(between)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.file.WriteAt(before, 0); err != nil {
			t.Fatal(err)
		}
		if err := scan(w.file, 0, w.end, func(at int64, _ head) (bool, error) { got = append(got, at); return true, nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("found %v, want %v", got, want)
		}
	})
}
